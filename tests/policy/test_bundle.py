"""Loading: by manifest only, and refusing whatever would let a contribution vanish or an engine be lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.errors import PolicyError
from gateway.policy.bundle import MANIFEST_NAME, BundleError, load_bundle, read_tree, write_manifest
from gateway.policy.lint import MAX_NESTING, MAX_RULES
from gateway.testing.policy import add_topic

ALLOW = 'allow contains {"rule": "t.a", "effects": ["read"]} if input.subject.id\n'


def test_what_is_loaded_is_what_the_manifest_lists(bundle_folder: Path) -> None:
    add_topic(bundle_folder, "postgres/reads", ALLOW)
    write_manifest(bundle_folder)
    bundle = load_bundle(bundle_folder)
    assert bundle == read_tree(bundle_folder) or bundle.digest == read_tree(bundle_folder).digest
    assert bundle.topics == {"postgres": ("reads",)}
    assert bundle.digest.startswith("sha256:")


def test_tests_are_no_part_of_a_bundle(bundle_folder: Path) -> None:
    add_topic(bundle_folder, "postgres/reads", ALLOW)
    digest = read_tree(bundle_folder).digest
    (bundle_folder / "sealgate/policies/postgres/reads/reads_test.rego").write_text("package whatever_test\n")
    assert read_tree(bundle_folder).digest == digest


def test_no_manifest_no_bundle(bundle_folder: Path) -> None:
    with pytest.raises(PolicyError, match="sealgate policy bundle"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("change", ["changed", "missing", "unlisted", "data"])
def test_a_file_the_manifest_does_not_vouch_for_is_refused(bundle_folder: Path, change: str) -> None:
    add_topic(bundle_folder, "postgres/reads", ALLOW)
    write_manifest(bundle_folder)
    module = bundle_folder / "sealgate/policies/postgres/reads/reads.rego"
    match change:
        case "changed":
            module.write_text(module.read_text() + "\n")
        case "missing":
            module.unlink()
        case "unlisted":
            add_topic(bundle_folder, "postgres/other", ALLOW)
        case "data":
            (bundle_folder / "site").mkdir()
            (bundle_folder / "site/data.json").write_text("{}")
    with pytest.raises(PolicyError, match="not what its manifest lists"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "sealgate.bundle/1", "files": []}', "not json"])
def test_a_broken_manifest_is_refused(bundle_folder: Path, content: str) -> None:
    (bundle_folder / MANIFEST_NAME).write_text(content)
    with pytest.raises(PolicyError):
        load_bundle(bundle_folder)


def test_no_modules(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no modules"):
        read_tree(tmp_path)
    with pytest.raises(PolicyError, match="no policy bundle"):
        read_tree(tmp_path / "nowhere")


def test_no_aggregator(tmp_path: Path) -> None:
    add_topic(tmp_path, "postgres/reads", ALLOW)
    with pytest.raises(BundleError, match=r"sealgate\.main is missing"):
        read_tree(tmp_path)


def nested(depth: int) -> str:
    return f"_deep := {'[' * depth}1{']' * depth}"


REFUSED = {
    "complete rule for a contribution": ("deny := set()", "write `deny contains"),
    "default for a contribution": ("default allow := set()", "write `allow contains"),
    "object under a contribution": ('deny.x contains "y" if input.phase', "write `deny contains"),
    "function for a contribution": ("masks(x) := x", "write `masks contains"),
    "misspelt contribution": ('denies contains {"rule": "x"} if input.phase', "denies is no contribution"),
    "approval read": ("_x if input.approval.break_glass", "only sealgate.main may"),
    "whole input": ("_x := input", "the whole input is read"),
    "dynamic input": ("_x := input[input.phase]", "the whole input is read"),
    "whole input as argument": ('_x := object.get(input, ["a"], 1)', "the whole input is read"),
    "payload undeclared": ("_x := input.postgres.payload.text", "reads payload; declare"),
    "protocol object undeclared": ("_x := input.postgres", "reads payload; declare"),
    "payload of the own protocol": ("_x := input[input.protocol].payload", "reads payload; declare"),
    "time undeclared": ("_x := input.context.now_ns", "reads time; declare"),
    "counters undeclared": ("_x := input.context.session.counters.rows", "reads counters; declare"),
    "context undeclared": ("_x := input.context", "declare"),
    "other protocol": ("_x := data.sealgate.policies.ssh.t.allow", "is not what this package may read"),
    "main": ("_x := data.sealgate.main.decision", "is not what this package may read"),
    "all data": ("_x := data", "is not what this package may read"),
    "unknown builtin": ("_x := io.jwt.decode(input.phase)", "no builtin of both engines"),
    "misspelt builtin": ("_x := startwith(input.phase, input.phase)", "no builtin of both engines"),
    "network": ('_x := http.send({"method": "get"})', "http.send may not be called"),
    "clock": ("_x := time.now_ns()", "time comes from input"),
    "unbounded range": ("_x := numbers.range(1, 100000000)", "numbers.range may not be called"),
    "unbounded shift": ("_x := bits.lsh(1, 100000000)", "never ends"),
    "cidr": ('_x := net.cidr_expand("10.0.0.0/8")', "net.cidr_expand may not be called"),
    "environment": ("_x := opa.runtime()", "opa.runtime may not be called"),
    "panic": ('_x := strings.count(input.phase, "")', "strings.count may not be called"),
    "print": ("_x if print(input.phase)", "print may not be called"),
    "huge format": ('_x := sprintf("%1000000000d", [1])', "is not %v"),
    "format width from an argument": ('_x := sprintf("%*d", [1, 2])', "is not %v"),
    "dynamic format": ("_x := sprintf(input.phase, [1])", "not a literal"),
    "regex class": (r'_x if regex.match("^\\d+$", input.phase)', "match Unicode"),
    "raw regex class": ("_x if regex.match(`^\\w+$`, input.phase)", "match Unicode"),
    "recursion": ("_f(n) := _f(n - 1)\n\n_x := _f(1)", "functions call themselves"),
    "mutual recursion": ("_f(n) := _g(n)\n\n_g(n) := _f(n)", "functions call themselves"),
    "nested literals": (nested(MAX_NESTING + 1), "brackets nest"),
    "function name as variable": ("_f(n) := n\n\n_x if {\n\t_f := 1\n\t_f == 1\n}", "regorus fails on a variable so named"),
    "template string": ('_x := $"{input.phase}"', "both engines read"),
    "unbalanced": ("_x if {", "brackets do not match"),
    "indented rule": ("  deny := set()", "beginning of its line"),
    "long line": (f'_x := "{"x" * 1100}"', "characters"),
    "too many rules": ("\n".join(f"_x{n} := 1" for n in range(MAX_RULES)), "rules; at most"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_modules(bundle_folder: Path, name: str) -> None:
    rules, message = REFUSED[name]
    add_topic(bundle_folder, "postgres/t", rules)
    with pytest.raises(BundleError) as caught:
        read_tree(bundle_folder)
    assert any(message in str(problem) for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("path", "package"),
    [
        ("sealgate/policies/postgres/x", "sealgate.policies.postgres"),
        ("sealgate/policies/oracle/x", "sealgate.policies.oracle.x"),
        ("sealgate/policies/postgres/x", "sealgate.policies.postgres.x.y"),
        ("sealgate/policies/postgres/x", "sealgate.policies.postgres.y"),
        ("other/x", "other.x"),
        ("sealgate/policies/postgres/x_test", "sealgate.policies.postgres.x_test"),
        ("sealgate", "sealgate"),
        ("sealgate/mainly", "sealgate.mainly"),
    ],
)
def test_packages_outside_their_place_are_refused(bundle_folder: Path, path: str, package: str) -> None:
    (bundle_folder / path).mkdir(parents=True, exist_ok=True)
    (bundle_folder / path / "m.rego").write_text(f"package {package}\n\n_x := 1\n")
    with pytest.raises(BundleError):
        read_tree(bundle_folder)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("sealgate/data.json", "{}"),
        ("sealgate/policies/postgres/t/data.json", '{"deny": []}'),
        ("sealgate_rules/data.json", '{"t.a": {"overridable": true}}'),
        ("other/data.json", "{}"),
        ("data.json", '{"sealgate": {"main": {"decision": {"effect": "allow"}}}}'),
        ("site/values.json", "{}"),
        ("site/data.json", '{"a": 1, "a": 2}'),
        ("site/data.json", "{"),
        ("site/data.json", '{"exceptions": [{"rule": "t.a"}]}'),
        ("site/data.json", '{"exceptions": {}}'),
        (
            "site/data.json",
            '{"exceptions": [{"rule": "a", "connection": "c", "owner": "o", "reason": "r", "ticket": "t", "expires_ns": "9"}]}',
        ),
    ],
)
def test_data_where_no_data_belongs_is_refused(bundle_folder: Path, path: str, content: str) -> None:
    add_topic(bundle_folder, "postgres/t", ALLOW)
    (bundle_folder / path).parent.mkdir(parents=True, exist_ok=True)
    (bundle_folder / path).write_text(content)
    with pytest.raises(PolicyError):
        read_tree(bundle_folder)


def test_declared_reads_load_and_make_the_protocol_uncacheable(bundle_folder: Path) -> None:
    target = bundle_folder / "sealgate/policies/postgres/t/t.rego"
    target.parent.mkdir(parents=True)
    target.write_text(
        "# METADATA\n# title: T\n# custom:\n#   reads: [payload]\n"
        "package sealgate.policies.postgres.t\n\n_x := input.postgres.payload.text\n"
    )
    bundle = read_tree(bundle_folder)
    assert not bundle.cacheable("postgres", "request")
    assert bundle.projection("postgres").uncacheable == ("payload",)
    assert bundle.cacheable("ssh", "request")


def test_libraries_take_what_varies_as_arguments(bundle_folder: Path) -> None:
    folder = bundle_folder / "sealgate/lib/x"
    folder.mkdir(parents=True)
    (folder / "x.rego").write_text("package sealgate.lib.x\n\nnow := input.context.now_ns\n")
    with pytest.raises(BundleError, match="take it as an argument"):
        read_tree(bundle_folder)


def test_the_projection_covers_what_topics_read(small_bundle) -> None:
    paths = small_bundle.projection("postgres").paths
    for path in [("subject",), ("action", "effects"), ("postgres", "facts", "statements"), ("postgres", "response", "columns")]:
        assert path in paths
    assert not any(path[:2] == ("context", "now_ns") for path in paths)
    assert small_bundle.cacheable("postgres", "request")
    assert not small_bundle.cacheable("postgres", "session")


def test_rules_say_whether_an_exception_may_switch_them_off(small_bundle) -> None:
    assert small_bundle.data["sealgate_rules"]["small.unfiltered"] == {"overridable": False}
    assert small_bundle.data["sealgate_rules"]["small.reads"] == {"overridable": True}


def test_the_digest_covers_modules_and_data(bundle_folder: Path) -> None:
    add_topic(bundle_folder, "postgres/t", ALLOW)
    first = read_tree(bundle_folder).digest
    (bundle_folder / "site").mkdir()
    (bundle_folder / "site/data.json").write_text(json.dumps({"own": {"a": 1}}))
    second = read_tree(bundle_folder).digest
    add_topic(bundle_folder, "postgres/t", ALLOW + "\n# comment")
    assert len({first, second, read_tree(bundle_folder).digest}) == 3
