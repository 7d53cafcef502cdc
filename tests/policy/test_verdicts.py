"""Recorded decisions decided again: equal, different, and everything that must not be called checked."""

import io
import shutil
import tarfile
from pathlib import Path

import orjson
import pytest

from gateway.decision import Enforceable, check
from gateway.policy.bundle import load_bundle, write_manifest
from gateway.policy.recompute import evaluate_bundle
from gateway.policy.verdicts import DIFFERENT, SAME, VerdictRecomputer
from gateway.recording import MAX_RECORDED_DECISION_BYTES, fit_decision
from gateway.serve.evidence import keep_bundle
from gateway.testing.policy import make_document

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
EVERYTHING = Enforceable(frozenset({"index", "column", "detector"}), frozenset({"redact", "null", "hash"}), frozenset({"record"}))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A bundle, its archive beside a log, an input, and the decision record the gateway would have written."""
    folder = tmp_path_factory.mktemp("bundle")
    shutil.copytree(HERE / "bundles/small", folder, dirs_exist_ok=True)
    shutil.copytree(ROOT / "rego/sealgate/main", folder / "sealgate/main", ignore=shutil.ignore_patterns("*_test.rego"))
    write_manifest(folder)
    bundle = load_bundle(folder)
    log = tmp_path_factory.mktemp("log")
    keep_bundle(log, folder, bundle.digest)
    document = make_document()
    decision = check(evaluate_bundle(bundle, document), EVERYTHING)
    record = {"phase": "request", "bundle": bundle.digest, "decision": decision.as_record()}
    return next((log / "policy").iterdir()), record, orjson.dumps(document)


def test_the_same_bundle_gives_the_same_verdict(kept):
    archive, record, document = kept
    with VerdictRecomputer([archive]) as recompute:
        assert recompute(record, document) == SAME
        assert recompute(record, document) == SAME


@pytest.mark.parametrize("change", [{"effect": "require_approval"}, {"reasons": []}, {"masks": [{"rule": "x"}]}])
def test_a_changed_decision_differs(kept, change):
    archive, record, document = kept
    with VerdictRecomputer([archive]) as recompute:
        assert recompute(record | {"decision": record["decision"] | change}, document) == DIFFERENT


def test_a_decision_in_outline_is_recomputed_whole(kept):
    archive, record, document = kept
    large = {**record, "facts": {"filling": "x" * MAX_RECORDED_DECISION_BYTES}}
    outlined = fit_decision(large)["decision"]
    assert outlined["omitted"]["bytes"] > 0
    with VerdictRecomputer([archive]) as recompute:
        assert recompute(record | {"decision": outlined}, document) == SAME
        for change in ({"effect": "require_approval"}, {"omitted": outlined["omitted"] | {"sha256": "0" * 64}}, {"omitted": 1}):
            assert recompute(record | {"decision": outlined | change}, document) == DIFFERENT


def test_input_that_policy_cannot_judge_differs(kept):
    archive, record, _ = kept
    with VerdictRecomputer([archive]) as recompute:
        assert recompute(record, b"not json") == DIFFERENT


@pytest.mark.parametrize("change", [{"bundle": "sha256:" + "0" * 64}, {"bundle": ""}])
def test_what_a_bundle_decided_that_is_not_kept_is_not_checked(kept, change):
    archive, record, document = kept
    with VerdictRecomputer([archive]) as recompute:
        assert recompute(record | change, document) == "not checked"


def make_archive(path, members):
    with tarfile.open(path, "w:gz") as packed:
        for name, content, kind in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(content), "/etc/passwd"
            packed.addfile(entry, io.BytesIO(content))


HOSTILE = {
    "climbs out": [("../outside", b"x", tarfile.REGTYPE)],
    "link": [("sealgate.manifest", b"", tarfile.SYMTYPE)],
    "no bundle": [("readme", b"x", tarfile.REGTYPE)],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_not_checked_and_writes_nothing(kept, tmp_path, kind):
    _, record, document = kept
    archive = tmp_path / f"{record['bundle'].removeprefix('sha256:')}.tar.gz"
    make_archive(archive, HOSTILE[kind])
    with VerdictRecomputer([archive]) as recompute:
        assert recompute(record, document) == "not checked"
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]


def test_an_archive_of_another_bundle_is_not_checked(kept, tmp_path):
    archive, record, document = kept
    renamed = tmp_path / f"{'0' * 64}.tar.gz"
    shutil.copy(archive, renamed)
    with VerdictRecomputer([renamed]) as recompute:
        assert recompute(record | {"bundle": "sha256:" + "0" * 64}, document) == "not checked"
