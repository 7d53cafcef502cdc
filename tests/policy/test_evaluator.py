"""Which modules an evaluator asks: those that can take part in a decision about the protocol, or all where that cannot be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.policy.bundle import read_tree
from gateway.policy.engine import ENTRYPOINT
from gateway.policy.evaluator import Policies, select_modules, topics_of
from gateway.policy.heads import engine_modules
from gateway.testing.policy import make_document

ROOT = Path(__file__).resolve().parents[2]
MAIN = (
    "sealgate/main/main.rego",
    "package sealgate.main\n\ndecision := [p, s, l] if {\n\tp := data.sealgate.policies.postgres.a.x\n}\n",
)
LIB = ("sealgate/lib/l.rego", "package sealgate.lib.l\n\nx := 1\n")
POSTGRES = ("sealgate/policies/postgres/a/a.rego", "package sealgate.policies.postgres.a\n\nx := 2\n")
SSH = ("sealgate/policies/ssh/b/b.rego", "package sealgate.policies.ssh.b\n\nx := 3\n")
ANY = ("sealgate/policies/any/c/c.rego", "package sealgate.policies.any.c\n\nx := 4\n")
MODULES = [MAIN, LIB, POSTGRES, SSH, ANY]


def test_topics_of_other_protocols_are_left_out() -> None:
    assert select_modules(MODULES, "postgres") == [MAIN, LIB, POSTGRES, ANY]
    assert select_modules(MODULES, "ssh") == [MAIN, LIB, SSH, ANY]
    assert [topics_of(text) for _, text in MODULES] == [None, None, "postgres", "ssh", "any"]


@pytest.mark.parametrize(
    "reference",
    [
        "y := data.sealgate.policies.ssh.b.x",
        "import data.sealgate.policies.ssh",
        'y := data["sealgate"]',
        'y := data.sealgate["policies"]',
        "y := data.sealgate",
        "y := data [name]",
        "y := data",
        "y := [x |\n\twalk(data, [_, x])\n]",
    ],
)
@pytest.mark.parametrize("place", [LIB, POSTGRES, ANY])
def test_a_reference_that_could_lead_there_keeps_all(place: tuple[str, str], reference: str) -> None:
    modules = [(path, f"{text}\n{reference}\n" if (path, text) == place else text) for path, text in MODULES]
    assert select_modules(modules, "postgres") is None


@pytest.mark.parametrize(
    "aside",
    ["# policies of data.sealgate", 'y := "data.sealgate.policies.ssh"', "y := `data[0] policies`", "y := data.site.policies_"],
)
def test_words_are_no_references(aside: str) -> None:
    modules = [(path, f"{text}\n{aside}\n" if (path, text) == POSTGRES else text) for path, text in MODULES]
    assert select_modules(modules, "postgres") is not None


def test_the_shipped_topics_stand_alone() -> None:
    modules = engine_modules(read_tree(ROOT / "rego"))
    for protocol in ("postgres", "ssh", "git", "http"):
        kept = select_modules(modules, protocol)
        assert kept is not None
        assert {topics_of(text) for _, text in kept} - {None} == {protocol}


@pytest.mark.parametrize("protocol", ["postgres", "kubernetes", "any", "", None, 7, {"ssh": 1}])
def test_every_protocol_gets_an_answer(protocol: object) -> None:
    bundle = read_tree(ROOT / "rego")
    policies = Policies(engine_modules(bundle), bundle.data, ENTRYPOINT, 250)
    document = make_document() | {"protocol": protocol}
    assert policies.eval(document) == policies._whole.eval(document)
    assert policies.eval([]) == policies._whole.eval([])
