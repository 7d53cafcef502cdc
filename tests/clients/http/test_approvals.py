"""Requests that wait for a reviewer: held, approved, sent once; abandoned, nothing is sent."""

import json
import os
import subprocess
import sys
import threading

import pytest

from gateway.testing.sigstore import DEFAULT_ISSUER, DevelopmentSigstore
from gateway.testing.waiting import wait_until

REVIEWER = "rita@bank.test"
BODY = json.dumps({"amount": 7, "to": "savings"})
POST = ("-X", "POST", "-H", "content-type: application/json", "-d", BODY)


class Desk:
    """A gateway whose reviewers sign with the development Sigstore, and a reviewer at their own command line."""

    def __init__(self, running, sigstore, folder):
        self.running = running
        self.sigstore = sigstore
        self.folder = folder

    def token(self, name, groups=(), audience="sealgate"):
        kind = "human" if name == REVIEWER else "agent"
        return self.sigstore.mint_token(name, audience=audience, claims={"groups": list(groups), "kind": kind})

    def run(self, *arguments):
        signing = self.folder / "signing-token"
        signing.write_text(self.token(REVIEWER, audience="sigstore"))
        environment = os.environ | {
            "SEALGATE_ADMIN_URL": f"http://127.0.0.1:{self.running.admin_port}",
            "SEALGATE_TOKEN": self.token(REVIEWER),
            "SEALGATE_TRUST_CONFIG": str(self.sigstore.trust_config_path),
            "SEALGATE_SIGSTORE_TOKEN_FILE": str(signing),
        }
        command = [sys.executable, "-m", "gateway.cli", "approvals", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    def find_ticket(self):
        found = json.loads(self.run("list", "--json").stdout or "[]")
        return found[0]["ticket"] if found else None


@pytest.fixture
def open_desk(make_gateway, make_connection, tmp_path):
    """Runs a gateway with a reviewer; `hold_s` is how long requests wait."""
    with DevelopmentSigstore(tmp_path / "sigstore") as sigstore:
        token = tmp_path / "gateway-token"
        token.touch(mode=0o600)
        token.write_text(sigstore.mint_token("https://gw-test.development.sealgate.invalid"))

        def make(hold_s):
            issuer = {
                "alias": "corp",
                "issuer": DEFAULT_ISSUER,
                "audience": ["sealgate"],
                "jwks_url": sigstore.jwks_url,
                "kind_claim": "kind",
            }
            return make_gateway(
                tmp_path / "gateway",
                connections=[make_connection(hold_s=hold_s)],
                identity={"issuers": [issuer]},
                approval={"reviewers": {"payments-approvers": {"people": [f"corp/{REVIEWER}"]}}},
                evidence={
                    "sigstore": {
                        "mode": "development",
                        "trust_config": str(sigstore.trust_config_path),
                        "identity_token": f"file:{token}",
                    }
                },
            )

        yield lambda hold_s: (make(hold_s), sigstore)


def count_transfers(service):
    return len(service.find("/transfers"))


def test_a_held_request_is_sent_once_when_it_is_approved(open_desk, curl, service, tmp_path):
    manager, sigstore = open_desk(60)
    with manager as running:
        desk = Desk(running, sigstore, tmp_path)
        before = count_transfers(service)
        answers = []
        agent = desk.token("agent-7", groups=["agents"])
        waiting = threading.Thread(
            target=lambda: answers.append(curl("/transfers", *POST, running=running, token=agent, timeout=90))
        )
        waiting.start()
        wait_until(desk.find_ticket)
        assert count_transfers(service) == before
        done = desk.run("approve", desk.find_ticket())
        assert done.returncode == 0, done.stderr
        waiting.join(60)
        assert answers[0].status == 201, answers[0].all + answers[0].error
        assert count_transfers(service) == before + 1
        assert service.find("/transfers")[-1].body == BODY.encode()
        assert desk.find_ticket() is None


def test_a_refused_request_goes_once_after_its_approval(open_desk, curl, service, tmp_path):
    manager, sigstore = open_desk(0)
    with manager as running:
        desk = Desk(running, sigstore, tmp_path)
        before = count_transfers(service)
        agent = desk.token("agent-7", groups=["agents"])
        refused = curl("/transfers", *POST, running=running, token=agent)
        assert refused.json["error"] == "approval_required"
        assert desk.run("approve", refused.json["ticket"]).returncode == 0
        other = curl("/transfers", *POST[:-1], json.dumps({"amount": 8000}), running=running, token=agent)
        assert other.json["error"] == "approval_required", "an approval is for exactly one action"
        first = curl("/transfers", *POST, running=running, token=agent)
        assert first.status == 201, first.all
        second = curl("/transfers", *POST, running=running, token=agent)
        assert second.json["error"] == "approval_required"
        assert second.json["ticket"] != refused.json["ticket"]
        assert count_transfers(service) == before + 1


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_client_that_leaves_during_the_hold_sends_nothing(open_desk, curl, service, tmp_path, version):
    manager, sigstore = open_desk(60)
    with manager as running:
        desk = Desk(running, sigstore, tmp_path)
        before = count_transfers(service)
        agent = desk.token("agent-7", groups=["agents"])
        left = curl("/transfers", *POST, version, "--max-time", "2", running=running, token=agent)
        assert left.code == 28, "curl gave up"
        wait_until(lambda: _find_cancelled(running))
        assert desk.run("approve", desk.find_ticket()).returncode == 0
        assert count_transfers(service) == before
        assert curl("/transfers", *POST, running=running, token=agent).status == 201
        assert count_transfers(service) == before + 1


def _find_cancelled(running):
    decisions = [record for record in running.read_records() if record["type"] == "decision" and record["refused"]]
    return any(record.get("ticket") for record in decisions)
