"""The aggregator names every protocol. What it decides: test_algebra.py on both engines, main_test.rego in OPA."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.action import PROTOCOLS
from gateway.policy.checks import run_opa_tests
from gateway.policy.lint import CONTRIBUTIONS

FOLDER = Path(__file__).resolve().parents[2] / "rego/sealgate/main"


def test_every_protocol_and_kind_is_collected() -> None:
    text = (FOLDER / "topics.rego").read_text()
    own = re.findall(r'input\.protocol == "(\w+)"\n\ttopics := data\.sealgate\.policies\.(\w+)$', text, re.MULTILINE)
    assert own == [(name, name) for name, _ in own]
    assert {name for name, _ in own} == set(PROTOCOLS)
    kinds = re.findall(r"kind in \[(.*)\]$", text, re.MULTILINE)
    assert [set(re.findall(r'"(\w+)"', each)) for each in kinds] == [CONTRIBUTIONS] * 2
    assert len(re.findall(r"some topic in (_own|data\.sealgate\.policies\.any)$", text, re.MULTILINE)) == len(kinds)
    judged = (FOLDER / "contributions.rego").read_text()
    assert set(re.findall(r'some \["(\w+)", items\] in _collected', judged)) == CONTRIBUTIONS


def test_its_own_tests_pass_and_reach_all_but_the_last_resort() -> None:
    summary = run_opa_tests(FOLDER, coverage=True)
    assert summary["failed"] == []
    # The default decision stands for what no input has produced yet.
    assert summary["coverage"] >= 96.5, summary["not_covered"]
