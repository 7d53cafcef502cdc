"""`sealgate evidence` and `sealgate sessions` are thin: they pass options on and print what comes back."""

import json
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from evidence.note import VerifierKey, encode_verifier_key
from evidence.record import make_origin
from gateway.cli import main
from gateway.testing.evidence import GATEWAY, EvidenceBuilder
from gateway.testing.sigstore import DEFAULT_ISSUER, DevelopmentSigstore

ROOT = Path(__file__).parents[2]
ORIGIN = "gw/2025h1/w0"
MINIMAL = (ROOT / "tests/vectors/config/minimal.txt").read_text().partition("-----\n")[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("made")
    with DevelopmentSigstore(directory / "sigstore") as service:
        builder = EvidenceBuilder(directory / "evidence", service, origin=ORIGIN).open()
        sid = builder.write_session()
        builder.close()
        (directory / "trust.json").write_text(service.trust_config)
    (directory / "log.vkey").write_text(encode_verifier_key(builder.origin, builder.log_key.public_key()) + "\n")
    pem = builder.log_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "log-key.pem").write_bytes(pem)
    (directory / "age.key").write_text(f"{builder.age}\n")
    return directory, sid


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def verify(directory, *more):
    pins = ("--trust-config", directory / "trust.json", "--log-vkey", directory / "log.vkey", "--identity", GATEWAY)
    return run("evidence", "verify", directory / "evidence", *pins, "--issuer", DEFAULT_ISSUER, *more)


def test_verify_gives_the_verifiers_exit_codes(made):
    directory, _ = made
    assert verify(directory, "--development-ok").exit_code == 0
    assert verify(directory).exit_code == 3
    assert run("evidence", "verify", directory / "evidence").exit_code == 4
    assert verify(directory, "--development-ok", "--engine", "opa").exit_code == 4
    assert verify(directory, "--development-ok", "--engine", "native").exit_code == 4  # inputs are sealed


@pytest.fixture
def config(made, tmp_path):
    """The configuration of the gateway that wrote the evidence, with its key beside it."""
    directory, _ = made
    path = tmp_path / "sealgate.yaml"
    text = MINIMAL.replace("name: gw-a.example.com", f"name: {ORIGIN.partition('/')[0]}")
    path.write_text(text.replace("store: evidence", f"store: {directory / 'evidence'}"))
    (tmp_path / "log-key.pem").touch(mode=0o600)
    (tmp_path / "log-key.pem").write_bytes((directory / "log-key.pem").read_bytes())
    return path


def test_what_vkey_prints_is_what_verify_wants(made, config, tmp_path):
    directory, _ = made
    printed = run("evidence", "vkey", "-c", config)
    assert printed.exit_code == 0, printed.stderr
    assert printed.stdout == (directory / "log.vkey").read_text()
    assert json.loads(run("evidence", "vkey", "-c", config, "--json").stdout) == {"log_vkeys": printed.stdout.splitlines()}
    (tmp_path / "printed.vkey").write_text(printed.stdout)
    pins = ("--trust-config", directory / "trust.json", "--log-vkey", tmp_path / "printed.vkey", "--identity", GATEWAY)
    assert run("evidence", "verify", directory / "evidence", *pins, "--issuer", DEFAULT_ISSUER, "--development-ok").exit_code == 0


def test_vkey_before_there_is_evidence_and_without_a_key(config, tmp_path):
    config.write_text(re.sub(r"(?m)^  store: .*", "  store: none-yet", config.read_text()))
    done = run("evidence", "vkey", "-c", config)
    assert VerifierKey.parse(done.stdout).name == make_origin("gw", time.time_ns(), 0), done.stderr
    (tmp_path / "log-key.pem").write_text("no key")
    assert run("evidence", "vkey", "-c", config).exit_code == 2
    (tmp_path / "log-key.pem").unlink()
    assert run("evidence", "vkey", "-c", config).exit_code == 2


def test_the_help_of_verify_names_what_only_it_can_do():
    result = run("evidence", "verify", "--help")
    assert result.exit_code == 0
    assert "--engine" in result.output


def test_verdicts_of_a_bundle_that_is_none_are_not_called_checked(made):
    directory, _ = made
    result = verify(directory, "--development-ok", "--engine", "native", "--json", "--age-identity", directory / "age.key")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["checks"]["verdicts_recomputed"] == "not checked"


def test_query_and_export_give_records(made, tmp_path):
    directory, sid = made
    result = run("evidence", "query", directory / "evidence", "--effect", "block", "--json")
    assert [json.loads(line)["record"]["decision"]["effect"] for line in result.output.splitlines()] == ["block"]
    assert "corp/agent-1" in run("evidence", "query", directory / "evidence", "--session", sid).output
    assert "stopped after 1" in run("evidence", "query", directory / "evidence", "--limit", 1).output
    result = run("evidence", "export", directory / "evidence", "-o", tmp_path / "out.jsonl", "--type", "decision")
    assert result.exit_code == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 4
    assert run("evidence", "export", directory / "evidence", "-o", tmp_path / "out.jsonl").exit_code == 2


def test_tail_shows_the_newest_records(made):
    directory, _ = made
    lines = run("evidence", "tail", directory / "evidence", "-n", 2, "--json").output.splitlines()
    assert [json.loads(line)["record"]["type"] for line in lines][-1] == "session.close"
    assert len(lines) == 2
    assert run("evidence", "tail", directory / "evidence", "-n", 0).output == ""


def test_sessions_are_listed_shown_and_replayed(made):
    directory, sid = made
    assert sid in run("sessions", "list", directory / "evidence").output
    assert json.loads(run("sessions", "list", directory / "evidence", "--json").output)[0]["effects"] == {"allow": 3, "block": 1}
    assert "session.open" in run("sessions", "show", directory / "evidence", sid).output
    assert "| row 0" not in run("sessions", "replay", directory / "evidence", sid).output
    replayed = run("sessions", "replay", directory / "evidence", sid, "--age-identity", directory / "age.key")
    assert "| row 0" in replayed.output
    assert run("sessions", "show", directory / "evidence", "absent").exit_code == 6


def test_a_time_that_is_none_is_refused(made):
    directory = made[0] / "evidence"
    for command in (["evidence", "query", str(directory)], ["sessions", "list", str(directory)]):
        result = CliRunner().invoke(main, [*command, "--since", "yesterday"])
        assert result.exit_code == 2
        assert "is no time in UTC" in result.output
        assert CliRunner().invoke(main, [*command, "--since", "2026-11-28T09"]).exit_code == 0
