"""`sealgate demo --keep --json`, once: what it tells is true, and what it leaves running can be used as it says."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys

import pg8000.native
import pytest

TIMEOUT_S = 180
"""For the whole story on a loaded machine; it takes well under a minute on an idle one."""

SEALGATE = [sys.executable, "-m", "gateway.cli"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The printed lines, as soon as everything is left running; interrupted at the end, its exit code checked."""
    folder = tmp_path_factory.mktemp("demo") / "world"
    process = subprocess.Popen(
        [*SEALGATE, "demo", "--json", "--keep", "--dir", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = []
    try:
        for line in process.stdout:
            lines.append(json.loads(line))
            if lines[-1]["step"] == "summary":
                break
        yield lines
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def summary(demo):
    return demo[-1]


@pytest.fixture(scope="module")
def kept(demo):
    return next(line for line in demo if line["step"] == "keep")


def run(command, **environment):
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=os.environ | environment, check=False)


def test_every_step_went_as_expected(demo):
    steps = [line for line in demo if "expected" in line]
    assert len(steps) > 20
    assert [line for line in steps if not line["ok"]] == []
    assert all(set(line) == {"step", "client", "expected", "observed", "ok", "decision_id"} for line in steps)
    assert {"psql", "sealgate", "sealgate-verify", "sigstore"} <= {line["client"] for line in steps}


def test_the_evidence_verifies_with_the_printed_command(summary):
    done = run(summary["verify"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("VERIFIED")


def test_the_printed_commands_read_the_evidence(summary):
    listed = run([*SEALGATE, "sessions", "list", summary["evidence"], "--json"])
    assert listed.returncode == 0, listed.stderr
    masked = [item["sid"] for item in json.loads(listed.stdout) if item["effects"].get("mask")]
    key = summary["evidence"] + "/../auditor.age-key"
    replays = [
        run([*SEALGATE, "sessions", "replay", summary["evidence"], sid, "--age-identity", key]).stdout for sid in masked[:3]
    ]
    assert any("[redacted]" in replay for replay in replays)
    assert not any("457-55-5462" in replay for replay in replays)
    for_alice = run([*SEALGATE, "evidence", "query", summary["evidence"], "--agent", "bank/alice@bank.example", "--json"])
    records = [json.loads(line)["record"] for line in for_alice.stdout.splitlines()]
    assert {record["subject"] for record in records if record["type"] == "decision"} == {"bank/agent-7@bank.example"}
    blocked = run([*SEALGATE, "evidence", "query", summary["evidence"], "--effect", "block", "--json"])
    assert {json.loads(line)["record"]["decision"]["effect"] for line in blocked.stdout.splitlines()} == {"block"}


def test_the_verifier_recomputes_the_verdicts(summary):
    pins = summary["verify"][summary["verify"].index(summary["evidence"]) :]
    key = summary["evidence"] + "/../auditor.age-key"
    done = run([*SEALGATE, "evidence", "verify", "--engine", "native", *pins, "--age-identity", key, "--json"])
    report = json.loads(done.stdout)
    assert (done.returncode, report["checks"]["verdicts_recomputed"]) == (0, "passed"), report["findings"]


def test_the_agent_can_go_on(kept):
    done = run(["psql", "-XAtc", "SELECT name, ssn FROM customers WHERE id = 1"], **kept["environment"])
    assert done.stdout == "Ada Lovelace|[redacted]\n", done.stderr


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no stock ssh")
def test_the_agent_can_go_on_over_ssh(kept):
    done = run(kept["ssh"])
    assert "load average" in done.stdout, done.stderr
    blocked = run([*kept["ssh"][:-1], "rm", "-rf", "/tmp/nothing-of-the-kind"])
    assert (blocked.returncode, "ssh.destructive.program" in blocked.stderr) == (126, True)


def test_drivers_accept_the_certificate(kept):
    environment = kept["environment"]
    with pg8000.native.Connection(
        environment["PGUSER"],
        password=environment["PGPASSWORD"],
        host=environment["PGHOST"],
        port=int(environment["PGPORT"]),
        database=environment["PGDATABASE"],
        ssl_context=ssl.create_default_context(cafile=environment["PGSSLROOTCERT"]),
    ) as connection:
        assert connection.run("SELECT ssn FROM customers WHERE id = :id", id=1) == [["[redacted]"]]


def test_the_reviewer_can_answer(kept):
    psql = subprocess.Popen(
        ["psql", "-Xc", "COPY customers TO STDOUT"],
        env=os.environ | kept["environment"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    found = []
    while not found and psql.poll() is None:
        found = json.loads(run([*SEALGATE, "approvals", "list", "--json"], **kept["reviewer"]).stdout)
    assert found, psql.communicate()
    shown = run([*SEALGATE, "approvals", "list"], **kept["reviewer"]).stdout  # without a terminal, nothing is cut off
    assert all(found[0][name] in shown for name in ("ticket", "subject", "rule", "expires_at"))
    denied = run([*SEALGATE, "approvals", "deny", found[0]["ticket"], "--note", "not today"], **kept["reviewer"])
    assert denied.returncode == 0, denied.stderr
    text, _ = psql.communicate(timeout=TIMEOUT_S)
    assert "COPY denied" in text
    assert "not today" in text
