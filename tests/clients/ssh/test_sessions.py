"""What a session leaves behind: evidence that verifies, recordings that replay, reviews that hold."""

import json
import os
import pty
import select
import subprocess
import sys
import time

import pytest

from evidence.sessions import list_sessions, replay
from gateway.testing.sigstore import DEFAULT_ISSUER, DevelopmentSigstore
from gateway.testing.waiting import wait_until

REVIEWER = "bob@bank.example"


def play(running):
    """Every step of every session, with its content opened."""
    section = running.config.evidence
    age = [(section.store.parent / "auditor.age").read_text()]
    return [step for session in list_sessions(section.store) for step in replay(section.store, session.sid, age)]


class Terminal:
    """A person's terminal with ssh in it."""

    def __init__(self, client, *arguments):
        self._main, other = pty.openpty()
        command = ["ssh", "-F", str(client.config), *arguments]
        self._process = subprocess.Popen(command, stdin=other, stdout=other, stderr=other, start_new_session=True)
        os.close(other)
        self.shown = b""

    def type(self, text):
        os.write(self._main, text.encode())

    def expect(self, text, *, timeout_s=30):
        deadline = time.monotonic() + timeout_s
        start = len(self.shown) if text not in self.shown.decode(errors="replace") else 0
        while text not in self.shown[start:].decode(errors="replace"):
            ready, _, _ = select.select([self._main], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError(f"{text!r} did not appear in {self.shown!r}")
            self.shown += os.read(self._main, 65_536)
            start = 0
        self.shown = b""

    def wait(self):
        status = self._process.wait(30)
        os.close(self._main)
        return status


def test_a_terminal_is_recorded_and_what_was_typed_in_the_dark_is_not(make_ssh_gateway, make_client, tmp_path):
    with make_ssh_gateway(tmp_path / "gateway") as running:
        client = make_client(running, groups=("agents", "break-glass"))
        terminal = Terminal(client, "web-1")
        terminal.type("PS1='rea''dy> '\r")
        terminal.expect("ready> ")
        terminal.type("echo 4111 1111 1111 1111\r")
        terminal.expect("[masked:payment_card]\r\n")
        terminal.type("read -r -s -p 'pass''word: ' SECRET; printf '\\033[2Jdone-%s\\n' reading\r")
        terminal.expect("password: ")
        terminal.type("tr0ub4dor\r")
        terminal.expect("done-reading")
        terminal.type("exit 7\r")
        assert terminal.wait() == 7
    steps = play(running)
    content = "".join(step.content for step in steps)
    assert "[masked:keys]" in content
    assert "tr0ub4dor" not in content
    assert "4111" not in content
    assert "\\x1b[2J" in content
    assert "\x1b" not in content
    assert [step.content for step in steps if step.kind == "exit"] == ["7"]
    assert any(step.kind == "input" and "exit 7" in step.content for step in steps)


def test_evidence_verifies_and_every_verdict_is_recomputed(make_ssh_gateway, make_client, place, tmp_path):
    (place / "hostile").write_bytes(b"\x1b]0;owned\x07 \x1b[31mred\n")
    (tmp_path / "file").write_text("content")
    with make_ssh_gateway(tmp_path / "gateway") as running:
        client = make_client(running)
        client.ssh("web-1", "cat", place / "hostile")
        client.ssh("web-1", "rm", "-rf", "/tmp/x")
        client.ssh("web-1", "echo $HOME")
        client.ssh("-W", "127.0.0.1:22", "web-1")
        client.run("scp", tmp_path / "file", f"web-1:{place}/file")
        client.run("scp", "-O", tmp_path / "file", f"web-1:{place}/file")
        client.run("scp", "web-1:/etc/hostname", tmp_path / "x")
    store = running.config.evidence.store
    report = running.verify_evidence()
    assert report.exit_code == 0, report.findings
    assert report.counts.get("recomputed_same", 0) >= 8
    assert "recomputed_different" not in report.counts
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "sessions", "replay", str(store), list_sessions(store)[0].sid,
         "--age-identity", str(store.parent / "auditor.age")],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert b"\\x1b]0;owned\\x07 \\x1b[31mred" in done.stdout
    assert b"\x1b" not in done.stdout
    assert b"exit" in done.stdout


def test_the_command_line_makes_everything_a_client_needs(ssh_gateway, issuer, tmp_path):
    environment = os.environ | {
        "SEALGATE_ADMIN_URL": f"http://127.0.0.1:{ssh_gateway.admin_port}",
        "SEALGATE_TOKEN": issuer.mint("agent-8", groups=["agents"]),
    }
    command = [sys.executable, "-m", "gateway.cli", "ssh-cert", "--dir", str(tmp_path / "ssh"), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    made = json.loads(done.stdout)
    assert made["hosts"] == {"web-1": "deploy"}
    ran = subprocess.run(
        ["ssh", "-F", made["ssh_config"], "-o", "BatchMode=yes", "web-1", "echo", "x"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout == b"x\n"
    wrong = subprocess.run(
        command, env=environment | {"SEALGATE_TOKEN": "wrong"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert wrong.returncode == 4


def test_a_recording_is_replayed_at_the_times_it_was_made(make_ssh_gateway, make_client, tmp_path):
    with make_ssh_gateway(tmp_path / "gateway") as running:
        make_client(running).ssh("web-1", "printf one | cat | sort")
    steps = [(step.kind, step.at_s) for step in play(running)]
    assert [kind for kind, _ in steps if kind in {"output", "exit", "session.close"}] == ["output", "exit", "session.close"]
    assert [at_s for _, at_s in steps] == sorted(at_s for _, at_s in steps)


def test_one_master_connection_carries_many_commands_in_one_session(make_ssh_gateway, make_client, tmp_path):
    with make_ssh_gateway(tmp_path / "gateway") as running:
        client = make_client(running)
        shared = ["-o", f"ControlPath={tmp_path}/control"]
        subprocess.run(
            ["ssh", "-F", str(client.config), *shared, "-M", "-f", "-N", "web-1"],
            check=True,
            timeout=60,
            stderr=subprocess.DEVNULL,
        )
        for word in ("one", "two"):
            assert client.ssh(*shared, "web-1", "echo", word).stdout == f"{word}\n".encode()
        subprocess.run(
            ["ssh", "-F", str(client.config), *shared, "-O", "exit", "web-1"], check=True, timeout=60, stderr=subprocess.DEVNULL
        )
    decisions = [record for record in running.read_records() if record["type"] == "decision"]
    assert len(decisions) == 2
    assert len({record["sid"] for record in decisions}) == 1


def test_keys_are_exchanged_anew_in_the_middle_of_a_transfer(make_ssh_gateway, make_client, place, tmp_path):
    data = os.urandom(6_000_000)
    (tmp_path / "up").write_bytes(data)
    with make_ssh_gateway(tmp_path / "gateway", listener={"rekey_bytes": 1_048_576}) as running:
        client = make_client(running)
        assert client.run("scp", tmp_path / "up", f"web-1:{place}/rekey").returncode == 0
        assert client.run("scp", f"web-1:{place}/rekey", tmp_path / "down").returncode == 0
    assert (tmp_path / "down").read_bytes() == data


def test_nothing_runs_once_the_record_cannot_be_written(make_ssh_gateway, make_client, place, tmp_path):
    with make_ssh_gateway(tmp_path / "gateway") as running:
        client = make_client(running)
        assert client.ssh("web-1", "echo", "before").returncode == 0
        running.gateway._evidence.log.close()
        done = client.ssh("web-1", "echo", "after")
        assert done.returncode != 0
        assert done.stdout == b""
        (tmp_path / "file").write_text("x")
        assert client.run("scp", tmp_path / "file", f"web-1:{place}/unrecorded").returncode != 0
    assert not (place / "unrecorded").exists()


@pytest.fixture
def reviewed(make_ssh_gateway, ssh_keys, tmp_path):
    """A gateway whose reviewer signs with the development Sigstore; how to run the reviewer's commands."""
    with DevelopmentSigstore(tmp_path / "sigstore") as sigstore:
        folder = tmp_path / "gateway"
        folder.mkdir()
        (folder / "trust.json").write_text(sigstore.trust_config)
        (folder / "token").touch(mode=0o600)
        (folder / "token").write_text(sigstore.mint_token("https://gw-test.invalid"))
        people = {
            "alias": "bank",
            "issuer": DEFAULT_ISSUER,
            "audience": ["sealgate"],
            "jwks_url": sigstore.jwks_url,
            "kind_claim": "kind",
        }
        sections = {
            "evidence": {"sigstore": {"mode": "development", "trust_config": "trust.json", "identity_token": "file:token"}},
            "approval": {"reviewers": {"platform-approvers": {"people": [f"bank/{REVIEWER}"]}}},
        }
        yield sigstore, folder, people, sections


def test_a_held_script_runs_once_it_is_approved(
    reviewed, make_ssh_gateway, make_ssh_connection, make_client, issuer, place, tmp_path
):
    sigstore, folder, people, sections = reviewed
    corp = {"alias": "corp", "issuer": issuer.url, "audience": ["sealgate"], "jwks_url": issuer.jwks_url}
    with make_ssh_gateway(
        folder, connections=[make_ssh_connection(hold_s=20)], identity={"issuers": [corp, people]}, **sections
    ) as running:
        client = make_client(running, groups=("operators",))
        process = client.start("web-1", "bash", "-s")
        process.stdin.write(f"echo ran > {place}/approved; echo said\n".encode())
        process.stdin.close()
        notice = process.stderr.readline().decode()
        assert "needs approval; waiting up to 20 s for ticket AR-" in notice
        assert not (place / "approved").exists()
        ticket = notice.split()[-1]
        (folder / "signing").write_text(sigstore.mint_token(REVIEWER, audience="sigstore", claims={"kind": "human"}))
        environment = os.environ | {
            "SEALGATE_ADMIN_URL": f"http://127.0.0.1:{running.admin_port}",
            "SEALGATE_TOKEN": sigstore.mint_token(REVIEWER, audience="sealgate", claims={"kind": "human", "groups": []}),
            "SEALGATE_TRUST_CONFIG": str(folder / "trust.json"),
            "SEALGATE_SIGSTORE_TOKEN_FILE": str(folder / "signing"),
        }
        approve = [sys.executable, "-m", "gateway.cli", "approvals", "approve", ticket]
        done = subprocess.run(approve, env=environment, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr
        assert "echo said" in done.stdout
        wait_until(lambda: process.poll() is not None, timeout_s=60)
        assert (process.returncode, process.stdout.read()) == (0, b"said\n")
        assert (place / "approved").read_text() == "ran\n"
