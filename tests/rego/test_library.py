"""The shipped policy library: the same unit tests as on OPA, run on the embedded engine, and the documents it is written for."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from sealgate_native.policy import CompiledPolicy

from gateway.action import Context, Resource, Subject, build_input
from gateway.policy.bundle import Module, load_bundle, read_tree
from gateway.policy.catalogue import render_catalogue
from gateway.policy.checks import check_bundle
from gateway.policy.heads import bind_heads
from gateway.protocols.postgres.actions import SqlSettings, Statement, describe
from gateway.protocols.postgres.results import describe_rows

ROOT = Path(__file__).parents[2]
REGO = ROOT / "rego"
MODULES = [(str(path.relative_to(ROOT)), path.read_text()) for path in sorted(REGO.rglob("*.rego"))]
COMPILED = [(path, bind_heads(Module(path, text))) for path, text in MODULES]
"""As the gateway's own evaluators compile them."""
DATA = json.dumps({"site": load_bundle(REGO).data["site"]})
SETTINGS = SqlSettings(connection="core", database="bank", role="app", sensitive=("public.customers.ssn",))


def find_tests():
    """Every unit test but the aggregator's: those mock whole packages, which the embedded engine cannot; test_aggregator.py has their cases."""
    for path, text in MODULES:
        if path == "rego/sealgate/main/main_test.rego":
            continue
        package = re.search(r"^package (\S+)", text, re.MULTILINE).group(1)
        for name in re.findall(r"^(test_\w+)", text, re.MULTILINE):
            if path.endswith("_test.rego"):
                yield f"data.{package}.{name}"


@pytest.mark.parametrize("entrypoint", sorted(set(find_tests())))
def test_on_the_embedded_engine(entrypoint):
    assert CompiledPolicy(COMPILED, DATA, entrypoint, time_limit_ms=10_000).eval({}) is True


def test_the_library_passes_its_own_checks():
    assert check_bundle(REGO) == []


def test_the_manifest_lists_the_library_as_it_is():
    assert load_bundle(REGO).digest == read_tree(REGO).digest, "run `make fmt` or `sealgate policy bundle rego`"


def test_every_rule_that_speaks_is_in_the_catalogue():
    spoken = {
        rule for path, text in MODULES if not path.endswith("_test.rego") for rule in re.findall(r'"rule": "([^"]+)"', text)
    }
    documented = {rule for _, text in MODULES for rule in re.findall(r"^#   id: (\S+)$", text, re.MULTILINE)}
    assert spoken - documented == set()


def test_the_documentation_of_the_rules_is_up_to_date():
    assert (ROOT / "docs/policies.md").read_text() == render_catalogue(read_tree(REGO))


def build(action):
    subject = Subject("corp/agent", "agent", "https://idp", "agent", ("agents",), claims={"team": "x"}, on_behalf_of="corp/alice")
    resource = Resource("core", "postgres", "production", "high", {"pci": "yes"})
    return build_input(
        action,
        subject,
        resource,
        Context(1_795_233_600_000_000_000, "s1", "2026-11-21T04:00:00.000000Z", "127.0.0.1", "run-1", {"rows": 1}),
    )


def vectors():
    for path in sorted((ROOT / "tests/vectors/sql").glob("*.txt")):
        yield pytest.param(path.read_text().split("\n---\n", 1)[-1], id=path.stem)


@pytest.mark.parametrize("sql", list(vectors()))
def test_inputs_follow_the_schema_the_rules_are_checked_against(sql):
    action = describe(Statement(sql), {}, SETTINGS)
    jsonschema.validate(build(action), json.loads((ROOT / "schemas/postgres/request.json").read_text()))


def test_responses_follow_their_schema():
    request = describe(Statement("SELECT ssn, upper(name) FROM customers"), {}, SETTINGS)
    fields = [
        {"name": "ssn", "table_oid": 0, "attnum": 0, "type_oid": 25, "type_size": -1, "type_modifier": -1},
        {"name": "upper", "table_oid": 0, "attnum": 0, "type_oid": 25, "type_size": -1, "type_modifier": -1},
    ]
    document = build(describe_rows(request, fields, {}, SETTINGS))
    jsonschema.validate(document, json.loads((ROOT / "schemas/postgres/response.json").read_text()))


def test_the_shipped_bundle_loads():
    bundle = read_tree(REGO)
    assert bundle.topics["postgres"]
