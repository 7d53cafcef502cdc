"""`sealgate policy`: answers and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.policy.bundle import MANIFEST_NAME, load_bundle
from gateway.testing.policy import add_topic, copy_library, make_document

ROOT = Path(__file__).resolve().parents[2]

ALLOW = """# METADATA
# title: T
# description: D
# custom:
#   id: t.a
#   severity: low
#   controls: [X]
#   failure_msg: F
#   solution: S
allow contains {"rule": "t.a", "effects": ["read"]} if "analysts" in input.subject.groups
"""


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["policy", *arguments], input=stdin)


@pytest.fixture
def folder(bundle_folder: Path) -> Path:
    add_topic(bundle_folder, "postgres/t", ALLOW)
    return bundle_folder


def test_check_of_a_sound_bundle(folder: Path) -> None:
    result = run("check", str(folder), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == {"ok": True, "problems": [], "notes": []}


@pytest.mark.parametrize(
    ("rules", "word"),
    [
        ("deny := set()", "deny contains"),
        ('allow contains {"rule": "t.unknown", "effects": ["read"]} if input.phase', "has no METADATA"),
        (ALLOW.replace("#   solution: S\n", ""), "lacks solution"),
        (ALLOW + '\nobligations contains {"rule": "t.a", "kind": "dance"} if input.phase', "cannot carry out obligation dance"),
        ("_x := y", "var y is unsafe"),
        ("_x := [", "brackets do not match"),
    ],
)
def test_check_names_problems(bundle_folder: Path, rules: str, word: str) -> None:
    add_topic(bundle_folder, "postgres/t", rules)
    result = run("check", str(bundle_folder))
    assert result.exit_code == 1
    assert word in result.output


def test_bundle_then_load(folder: Path) -> None:
    result = run("bundle", str(folder), "--json")
    assert result.exit_code == 0
    assert json.loads(result.output)["digest"] == load_bundle(folder).digest
    (folder / "sealgate/policies/postgres/t/t.rego").write_text("package sealgate.policies.postgres.t\n")
    assert "not what its manifest lists" in run("check", str(folder)).output


def test_a_bundle_that_would_not_load_gets_no_manifest(folder: Path) -> None:
    add_topic(folder, "postgres/t", "deny := set()")
    assert run("bundle", str(folder)).exit_code == 3
    assert not (folder / MANIFEST_NAME).exists()


def test_eval_prints_the_decision(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text(json.dumps(make_document()))
    result = run("eval", str(tmp_path / "input.json"), "--bundle", str(folder), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["effect"] == "allow"
    text = run("eval", "-", "--bundle", str(folder), stdin=json.dumps(make_document(subject={"id": "x", "groups": []}))).output
    assert text.startswith("block")
    assert "default.deny.read" in text


def test_eval_of_no_document(folder: Path) -> None:
    assert run("eval", "-", "--bundle", str(folder), stdin="no json").exit_code == 3
    assert run("eval", "-", "--bundle", str(folder), stdin="[]").output.startswith("block")


def test_test_and_coverage(folder: Path) -> None:
    test = folder / "sealgate/policies/postgres/t/t_test.rego"
    test.write_text(
        "package sealgate.policies.postgres.t_test\n\nimport data.sealgate.policies.postgres.t\n\n"
        'test_allow if count(t.allow) == 1 with input.subject.groups as ["analysts"]\n'
    )
    result = run("test", str(folder), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == {"passed": 1, "failed": []}
    covered = run("coverage", str(folder), "--threshold", "100", "--json")
    assert covered.exit_code == 1
    assert json.loads(covered.output)["coverage"] < 100
    test.write_text(test.read_text().replace("== 1", "== 2"))
    failing = run("test", str(folder))
    assert failing.exit_code == 1
    assert "FAIL data.sealgate.policies.postgres.t_test.test_allow" in failing.output


def test_check_knows_the_detectors_of_a_configuration(tmp_path: Path) -> None:
    listed = {"detectors": ["ssn", "member_number"]}
    folder = copy_library(ROOT / "rego", tmp_path / "bundle", lambda site: site["ssh"].update(listed))
    result = run("check", str(folder))
    assert result.exit_code == 1
    assert 'data.site.ssh.detectors has "member_number"' in result.output
    config = yaml.safe_load((ROOT / "deploy/examples/sealgate.yaml").read_text())
    config.setdefault("masking", {})["patterns"] = [{"name": "member_number", "pattern": "M[0-9]{8}"}]
    (tmp_path / "sealgate.yaml").write_text(yaml.safe_dump(config))
    result = run("check", str(folder), "-c", str(tmp_path / "sealgate.yaml"))
    assert result.exit_code == 0, result.output
