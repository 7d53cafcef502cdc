"""What the site says to its policies: a bundle whose data does not follow the schemas decides nothing."""

import copy
import json
import tomllib
from pathlib import Path

import pytest

from gateway.config import DETECTORS
from gateway.errors import PolicyError
from gateway.policy.bundle import load_bundle, read_tree
from gateway.policy.checks import check_bundle
from gateway.policy.site_data import SECTIONS, find_exception_problems, find_site_problems, read_schema
from gateway.testing.policy import add_topic, copy_library

ROOT = Path(__file__).parents[2]
SHIPPED = json.loads((ROOT / "rego/site/data.json").read_text())
COLUMN = "public.orders.payload"
EXCEPTION = {
    "rule": "postgres.export.rows",
    "connection": "ledger",
    "owner": "dba",
    "reason": "migration",
    "ticket": "CHG-1",
    "expires_ns": 2_000_000_000_000_000_000,
}

GOOD = [
    {},
    {"strategies": {COLUMN: {"strategy": "partial", "params": {"keep_last": 4}}}, "export_excess": "truncate"},
    {"strategies": {COLUMN: {"strategy": "hash"}}, "export_excess": "block"},
    {
        "paths": {
            COLUMN: {"$": {}, "$.a['b c'][*][0]": {"strategy": "null"}, "$.e": {"strategy": "partial", "params": {"email": True}}}
        }
    },
    {
        "held_tables": ["public.ledger"],
        "statements_per_minute": 10_000,
        "export_rows": 0,
        "detectors": [],
        "production_environments": [],
    },
]

BAD = [
    ("postgres", {"ledgr_tables": []}, "postgres.ledgr_tables is no key of the policies, so nothing reads it; is ledger_tables meant?"),
    ("postgres", {"zebra": []}, "postgres.zebra is no key of the policies, so nothing reads it; keys of your own go below data.site.own"),
    ("postgres", {"export_rows": "many"}, 'postgres.export_rows is "many", where a whole number is wanted'),
    ("postgres", {"export_rows": 10.0}, "postgres.export_rows is 10.0, where a whole number is wanted"),
    ("postgres", {"export_rows": True}, "postgres.export_rows is true, where a whole number is wanted"),
    ("postgres", {"export_rows": -1}, "postgres.export_rows is -1, where at least 0 is wanted"),
    ("postgres", {"statements_per_minute": 10_001}, "statements_per_minute is 10001, where at most 10000 is wanted"),
    ("postgres", {"opaque_large_objects": "no"}, 'opaque_large_objects is "no", where true or false is wanted'),
    ("postgres", {"held_tables": "public.ledger"}, 'postgres.held_tables is "public.ledger", where a list is wanted'),
    ("postgres", {"held_tables": ["public.orders"]}, "is none of ledger_tables, so nothing is held"),
    ("postgres", {"ledger_tables": ["ledger"]}, 'postgres.ledger_tables[0] has "ledger", which is not schema.table'),
    ("postgres", {"ledger_tables": ["bank.public.ledger"]}, "which is not schema.table"),
    ("postgres", {"credential_columns": ["PassWord"]}, "which is not a name in lower case"),
    ("postgres", {"function_groups": ["texts"]}, 'function_groups[0] is "texts", which is none of "aggregates"'),
    ("postgres", {"production_environments": [7]}, "production_environments[0] is 7, where text is wanted"),
    ("postgres", {"detectors": ["ssnx"]}, 'postgres.detectors has "ssnx", which is neither a built-in detector nor a pattern'),
    ("postgres", {"derived": "loud"}, 'postgres.derived is "loud", which is none of "quiet", "mask", "refuse"'),
    ("postgres", {"export_excess": "cut"}, 'postgres.export_excess is "cut", which is none of "block", "truncate"'),
    ("postgres", {"secret_columns": {"pg_subscription": []}}, "secret_columns.pg_subscription is empty"),
    ("postgres", {"strategies": {"orders.payload": {"strategy": "hash"}}}, 'has "orders.payload", which is not schema.table.column'),
    ("postgres", {"strategies": {COLUMN: {}}}, f'strategies["{COLUMN}"].strategy is missing'),
    ("postgres", {"strategies": {COLUMN: {"strategy": "blur"}}}, 'strategy is "blur", which is none of "drop"'),
    ("postgres", {"strategies": {COLUMN: "hash"}}, 'is "hash", where an object is wanted'),
    ("postgres", {"strategies": {COLUMN: {"strategy": "partial"}}}, "params is missing"),
    ("postgres", {"strategies": {COLUMN: {"strategy": "partial", "params": {}}}}, "params is empty"),
    ("postgres", {"strategies": {COLUMN: {"strategy": "hash", "params": {"keep_last": 4}}}}, "params has 1 members, where at most 0"),
    ("postgres", {"strategies": {COLUMN: {"strategy": "partial", "params": {"keep": 4}}}}, "params.keep is no key"),
    ("postgres", {"paths": {"public..payload": {"$.a": {}}}}, "which is not schema.table.column"),
    ("postgres", {"paths": {COLUMN: {"card": {}}}}, 'has "card": a JSON path begins with $'),
    ("postgres", {"paths": {COLUMN: {"$..card": {}}}}, "more than children"),
    ("postgres", {"paths": {COLUMN: {}}}, f'paths["{COLUMN}"] is empty'),
    ("postgres", {"paths": {COLUMN: "$.card"}}, "where an object is wanted"),
    ("postgres", {"paths": {COLUMN: {"$.a": "redact"}}}, "where an object is wanted"),
    ("postgres", {"paths": {COLUMN: {"$.a": {"params": {"keep_last": 4}}}}}, '["$.a"].strategy is missing'),
    ("http", {"plain_allow": True}, "is plain_allowed meant?"),
    ("http", {"strategies": {"ssn": "partial"}}, 'http.strategies.ssn is "partial", which is none of'),
    ("http", {"detectors": "ssn"}, "where a list is wanted"),
    ("ssh", {"folders": {"read": ["var/log"], "write": []}}, "which is not a folder that begins with /"),
    ("ssh", {"folders": {"read": []}}, "ssh.folders.write is missing: Written to."),
    ("ssh", {"read_only": {"git": {"subcomands": ["log"]}}}, "read_only.git.subcomands is no key of the policies"),
    ("ssh", {"destructive_options": {"tar": ["checkpoint-action"]}}, "which is not an option, which begins with -"),
    ("ssh", {"credential_paths": {"names": [".SSH"], "suffixes": []}}, "which is not text in lower case"),
    ("git", {"protected_refs": ["main"]}, "which is not a ref such as refs/heads/main"),
]  # fmt: skip


def say(section, **changes):
    """The data of the shipped library, with these keys of a section replaced."""
    return {"site": {**SHIPPED, section: SHIPPED[section] | changes}}


@pytest.mark.parametrize("said", GOOD, ids=str)
def test_what_follows_the_schemas_has_no_problem(said):
    assert find_site_problems(say("postgres", **said), detectors=DETECTORS) == []


@pytest.mark.parametrize(("section", "said", "problem"), BAD, ids=lambda value: str(value)[:50])
def test_what_cannot_be_read_is_named(section, said, problem):
    found = find_site_problems(say(section, **said), detectors=DETECTORS)
    assert any(problem in text for text in found), found
    assert all(text.startswith(f"data.site.{section}.") for text in found)


@pytest.mark.parametrize(
    ("section", "key"), [(section, key) for section in SECTIONS for key in SHIPPED[section]], ids=lambda value: value
)
def test_every_key_is_needed(section, key):
    data = copy.deepcopy(say(section))
    del data["site"][section][key]
    (found,) = find_site_problems(data)
    assert found.startswith(f"data.site.{section}.{key} is missing: ")


@pytest.mark.parametrize("group", ["readers", "writers", "schema_owners"])
def test_groups_are_lists(group):
    (found,) = find_site_problems(say("postgres", groups=SHIPPED["postgres"]["groups"] | {group: "agents"}))
    assert found == f'data.site.postgres.groups.{group} is "agents", where a list is wanted'


def test_nobody_cannot_review():
    (found,) = find_site_problems(say("ssh", reviewers=SHIPPED["ssh"]["reviewers"] | {"scripts": []}))
    assert found == "data.site.ssh.reviewers.scripts is empty"


def test_patterns_of_the_configuration_are_detectors():
    said = say("ssh", detectors=["member_number"])
    assert find_site_problems(said) == []
    assert find_site_problems(said, detectors=[*DETECTORS, "member_number"]) == []
    assert len(find_site_problems(said, detectors=DETECTORS)) == 1


@pytest.mark.parametrize("number", [[], "x", 3])
def test_a_section_is_an_object(number):
    assert find_site_problems({"site": number}) == ["data.site is not an object"]
    (found,) = find_site_problems({"site": {"git": number}})
    assert found.startswith("data.site.git is ")


def test_keys_of_a_sites_own_have_a_place():
    assert find_site_problems({"site": {"own": {"anything": [1, {"at": "all"}]}}}) == []
    (found,) = find_site_problems({"site": {"postgress": {}}})
    assert found == "data.site.postgress is no key of the policies, so nothing reads it; is postgres meant?"


def test_what_is_read_has_to_be_there():
    reads = [("site", "postgres", "ledger_tables"), ("site", "own", "x"), ("sealgate", "lib", "postgres")]
    assert find_site_problems({}, reads) == ["data.site.postgres is missing, and policies of the bundle read it"]
    assert find_site_problems({"site": {}}, reads[1:]) == []


@pytest.mark.parametrize(
    ("exceptions", "problem"),
    [
        ({}, "data.site.exceptions is {}, where a list is wanted"),
        ([{**EXCEPTION, "expires_ns": "9"}], 'data.site.exceptions[0].expires_ns is "9", where a whole number is wanted'),
        ([EXCEPTION, {**EXCEPTION, "tickets": "x"}], "data.site.exceptions[1].tickets is no key"),
        ([{name: value for name, value in EXCEPTION.items() if name != "owner"}], "data.site.exceptions[0].owner is missing"),
    ],
)
def test_exceptions_are_whole(exceptions, problem):
    assert find_exception_problems({"site": {"exceptions": [EXCEPTION]}}) == []
    (found,) = find_exception_problems({"site": {"exceptions": exceptions}})
    assert found.startswith(problem)


def test_the_librarys_own_site_follows_the_schemas():
    bundle = read_tree(ROOT / "rego", detectors=DETECTORS)
    assert find_site_problems(bundle.data, [("site", section) for section in SECTIONS], detectors=DETECTORS) == []
    groups = set(bundle.data["site"]["functions"].values())
    assert set(read_schema("postgres")["properties"]["function_groups"]["items"]["enum"]) == groups | {"extensions"}
    for section in SECTIONS:
        schema = read_schema(section)
        assert set(schema["required"]) == set(schema["properties"]) == set(SHIPPED[section])


def test_the_exception_the_documentation_shows_would_be_in_force():
    example = next(
        text for text in (ROOT / "docs/site-data.md").read_text().split("\n\n") if text.startswith('    {"exceptions"')
    )
    said = json.loads(example)
    assert find_exception_problems({"site": said}) == []
    bundle = read_tree(ROOT / "rego")
    assert [bundle.data["sealgate_rules"][each["rule"]] for each in said["exceptions"]] == [{"overridable": True}]


def test_schemas_are_in_the_distribution_and_what_reads_them_is_installed_with_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert any(entry["path"] == "schemas/**/*.json" for entry in project["tool"]["maturin"]["include"])
    assert any(name.startswith("jsonschema") for name in project["project"]["dependencies"])


@pytest.fixture
def misspelt(tmp_path):
    """The shipped library where a site wrote ledgr_tables, listed in its manifest."""

    def misspell(site):
        site["postgres"]["ledgr_tables"] = site["postgres"].pop("ledger_tables")

    return copy_library(ROOT / "rego", tmp_path / "misspelt", misspell)


def test_a_bundle_with_a_misspelt_key_is_refused(misspelt):
    with pytest.raises(PolicyError, match=r"data\.site\.postgres\.ledgr_tables is no key.*is ledger_tables meant\?") as caught:
        load_bundle(misspelt)
    assert caught.value.code == "policy.bundle"
    assert len(check_bundle(misspelt)) == 2


def test_what_a_bundle_decided_is_decided_again_whatever_its_data_says_today(misspelt):
    assert "ledgr_tables" in load_bundle(misspelt, has_decided=True).data["site"]["postgres"]


def test_a_topic_that_reads_a_section_needs_it(bundle_folder):
    add_topic(bundle_folder, "postgres/reads", 'allow contains {"rule": "t.reads", "effects": data.site.postgres.effects}')
    with pytest.raises(PolicyError, match=r"data\.site\.postgres is missing"):
        read_tree(bundle_folder)
