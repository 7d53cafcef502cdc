"""`sealgate-verify` as a program: exit codes, no network, output that is safe to print, errors that never look like a verdict."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from evidence.cli import main
from evidence.note import encode_verifier_key
from gateway.testing.evidence import GATEWAY, EvidenceBuilder
from gateway.testing.sigstore import DEFAULT_ISSUER, DevelopmentSigstore


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("made")
    with DevelopmentSigstore(directory / "sigstore") as service:
        builder = EvidenceBuilder(directory / "evidence", service).open()
        builder.write_session()
        builder.write_approved_session()
        builder.close()
        (directory / "trust.json").write_text(service.trust_config)
    (directory / "log.vkey").write_text(encode_verifier_key(builder.origin, builder.log_key.public_key()) + "\n")
    (directory / "age.key").write_text(f"# an auditor's key\n{builder.age}\n")
    return directory


def arguments(made, *more, directory=None, leave_out=()):
    pins = {
        "--trust-config": str(made / "trust.json"),
        "--log-vkey": str(made / "log.vkey"),
        "--identity": GATEWAY,
        "--issuer": DEFAULT_ISSUER,
        "--reviewer": f"*@example.com {DEFAULT_ISSUER}",
    }
    chosen = [part for name, value in pins.items() if name not in leave_out for part in (name, value)]
    return [str(directory or made / "evidence"), *chosen, *more]


def run(made, *more, directory=None, prefix=()):
    command = [*prefix, sys.executable, "-m", "evidence.cli", *arguments(made, *more, directory=directory)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_verifies_without_any_network(made):
    done = run(made, "--development-ok", prefix=("unshare", "-n"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("VERIFIED")
    assert "DEVELOPMENT" in done.stdout


def test_it_loads_nothing_of_the_gateway(made):
    program = "import sys, evidence.cli; sys.exit(any(m.split('.')[0] in ('gateway', 'addons', 'sealgate_native') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_development_trust_needs_a_word(made):
    assert run(made).returncode == 3


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_reader_that_left_changes_nothing(made, form):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "evidence.cli", *arguments(made, "--development-ok", *form)]
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_tampering_ends_with_one(made, tmp_path):
    shutil.copytree(made / "evidence", tmp_path / "copy")
    target = next((tmp_path / "copy").rglob("tile/0/000.p/*"))
    target.write_bytes(bytes(len(target.read_bytes())))
    done = run(made, "--development-ok", "--json", directory=tmp_path / "copy")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["verdict"], report["exit_code"]) == ("tampered", 1)


def test_missing_parts_end_with_two(made, tmp_path):
    shutil.copytree(made / "evidence", tmp_path / "copy")
    next((tmp_path / "copy").rglob("chunk-*")).unlink()
    assert run(made, "--development-ok", directory=tmp_path / "copy").returncode == 2


def test_the_report_is_complete_json(made, capsys):
    assert main(arguments(made, "--development-ok", "--json", "--age-identity", str(made / "age.key"))) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["assurance"] == {
        "identity": f"{GATEWAY} by {DEFAULT_ISSUER}",
        "time": "rfc3161",
        "fork": "sigstore-log",
        "development": True,
    }
    assert report["checks"]["sealed_content"] == "passed"
    assert report["checks"]["verdicts_recomputed"] == "not checked"


@pytest.mark.parametrize("missing", ["--trust-config", "--identity", "--issuer"])
def test_a_missing_pin_is_wrong_usage(made, missing, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments(made, leave_out=(missing,)))
    assert caught.value.code == 4
    assert missing in capsys.readouterr().err


UNUSABLE = {
    "no log key": (("--log-vkey",), ()),
    "garbled log key": (("--log-vkey",), ("--log-vkey", "gw+00000000+AAAA")),
    "absent key file": (("--log-vkey",), ("--log-vkey", "/nowhere/log.vkey")),
    "absent trust": (("--trust-config",), ("--trust-config", "/nowhere/trust.json")),
    "trust that is none": (("--trust-config",), ("--trust-config", "LOG_VKEY")),
    "impossible quorum": ((), ("--witness-quorum", "2")),
    "reviewer without issuer": ((), ("--reviewer", "ann@example.com")),
    "absent age identity": ((), ("--age-identity", "/nowhere/age.key")),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_what_cannot_be_checked_ends_with_four(made, kind, capsys):
    leave_out, more = UNUSABLE[kind]
    more = [str(made / "log.vkey") if part == "LOG_VKEY" else part for part in more]
    assert main(arguments(made, *more, leave_out=leave_out)) == 4
    assert "could not verify" in capsys.readouterr().err


def test_an_absent_directory_ends_with_four(made, tmp_path):
    assert main(arguments(made, directory=tmp_path / "absent")) == 4


def test_unreadable_files_are_incomplete(made, tmp_path):
    shutil.copytree(made / "evidence", tmp_path / "copy")
    entries = next((tmp_path / "copy").rglob("tile/entries/*/*"))
    entries.unlink()
    entries.mkdir()  # unreadable for everybody, root included
    assert run(made, "--development-ok", directory=tmp_path / "copy").returncode == 2


def test_hostile_names_in_the_directory_do_not_reach_the_terminal(made, tmp_path, capsys):
    shutil.copytree(made / "evidence", tmp_path / "copy")
    (tmp_path / "copy" / "\x1b[2Jw9" / "attest").mkdir(parents=True)
    assert main(arguments(made, "--development-ok", directory=tmp_path / "copy")) == 3
    captured = capsys.readouterr().out
    assert "\x1b" not in captured
    assert "\\x1b[2Jw9" in captured


def test_progress_goes_to_standard_error(made, capsys):
    assert main(arguments(made, "--development-ok", "--progress", "--json")) == 0
    captured = capsys.readouterr()
    json.loads(captured.out)
    assert "records" in captured.err
