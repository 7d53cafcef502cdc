"""schemathesis, unchanged, against a real OpenAPI service: through the gateway it finds what it finds directly, and nothing of the gateway's own."""

import base64
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(300)  # tens of seconds on a quiet machine
PROGRAM = Path(sys.executable).parent / "schemathesis"
HOST = "api.bank.test"
SEED = "7"
OPERATIONS = [
    {"id": "document", "methods": ["GET"], "path": "/openapi.json"},
    {"id": "accounts.list", "methods": ["GET"], "path": "/accounts"},
    {"id": "accounts.show", "methods": ["GET"], "path": "/accounts/{id}"},
    {"id": "transfers.make", "methods": ["POST"], "path": "/transfers"},
]
OWN_FAULTS = {
    ("not_a_server_error", "GET /accounts/{id}"),
    ("status_code_conformance", "GET /accounts/{id}"),
    ("response_schema_conformance", "POST /transfers"),
}
"""What is wrong with the service itself."""

EXCLUDED = "unsupported_method,negative_data_rejection,positive_data_acceptance"
"""Methods that the operation does not declare are the gateway's to refuse (403, not 405); what is valid or not is compared below, case by case."""


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """The service, as a process of uvicorn."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [sys.executable, "-m", "uvicorn", "--factory", "gateway.testing.openapi_service:make_app", "--no-access-log"]
        process = subprocess.Popen(
            [*command, "--fd", str(listening.fileno())], pass_fds=[listening.fileno()], cwd=Path(__file__).resolve().parents[3]
        )
        port = listening.getsockname()[1]
        try:
            wait_until(lambda: answers(port), timeout_s=60)
            yield port
        finally:
            process.terminate()
            process.wait(20)


def answers(port):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b" 200 " in client.recv(65536)


@pytest.fixture(scope="module")
def running(port, make_gateway, tmp_path_factory):
    connection = {
        "name": "api",
        "type": "http",
        "match": {"hosts": [HOST]},
        "target": {"scheme": "http", "host": "127.0.0.1", "port": port},
        "environment": "staging",
        "allow_groups": ["agents"],
        "operations": OPERATIONS,
        # Paths, not the name: a name at any depth is also a member of the OpenAPI document, and its schema would be masked.
        "sensitive": ["$[*].ssn", "$.ssn"],
    }
    with make_gateway(tmp_path_factory.mktemp("gateway"), connections=[connection]) as gateway:
        yield gateway


class Run:
    """One run of the stock command: what it found as (check, operation), and every response it got."""

    def __init__(self, folder, address, *options, **environment):
        command = [
            PROGRAM,
            "run",
            f"{address}/openapi.json",
            "--seed",
            SEED,
            "--max-examples",
            "5",
            "--phases",
            "coverage,fuzzing",
        ]
        command += ["--exclude-checks", EXCLUDED, "--continue-on-failure", "--no-shrink", "--generation-deterministic"]
        command += ["--report", "ndjson", "--report-ndjson-path", "events.ndjson", *options]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=140, cwd=folder, env=os.environ | environment
        )
        assert done.returncode in {0, 1}, done.stdout[-3000:] + done.stderr[-2000:]
        self.findings, self.responses = set(), []
        for line in (folder / "events.ndjson").read_text().splitlines():
            recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
            checks = [check for checks in recorder.get("checks", {}).values() for check in checks]
            self.findings |= {(check["name"], recorder["label"]) for check in checks if check["status"] != "success"}
            self.responses += [item["response"] for item in recorder.get("interactions", {}).values()]


@pytest.fixture(scope="module")
def direct(port, tmp_path_factory):
    return Run(tmp_path_factory.mktemp("direct"), f"http://127.0.0.1:{port}")


@pytest.fixture(scope="module")
def through(running, mint, tmp_path_factory):
    proxy = f"http://agent:{mint()}@127.0.0.1:{running.http_port}"
    trusted = running.config.listeners.http.ca.cert_file
    return Run(
        tmp_path_factory.mktemp("through"), f"https://{HOST}", "--proxy", proxy, "--tls-verify", str(trusted), HTTPS_PROXY=proxy
    )


def read_refusals(run):
    """Responses the gateway made itself, parsed."""
    bodies = [(item, base64.b64decode(item["content"]["$base64"])) for item in run.responses if item and item.get("content")]
    return [(item, json.loads(body)) for item, body in bodies if b"decision_id" in body]


def test_it_finds_the_same_through_the_gateway(direct, through):
    assert direct.findings == OWN_FAULTS
    assert through.findings == OWN_FAULTS


def test_every_request_is_answered_and_none_by_a_fault_of_the_gateway(direct, through):
    assert len(through.responses) > 50
    assert None not in through.responses
    refused = [status for status, _ in ((item["status_code"], body) for item, body in read_refusals(through))]
    assert set(refused) <= {400, 403}
    faults = [sum(item["status_code"] >= 500 for item in run.responses) for run in (direct, through)]
    assert faults[1] <= faults[0], "a 5xx is the service's own"


def test_refusals_have_the_documented_form(through):
    refusals = read_refusals(through)
    assert refusals, "malformed requests are among what it sends"
    for item, problem in refusals:
        assert item["headers"]["content-type"] == ["application/problem+json"]
        assert problem.keys() >= {"type", "title", "status", "detail", "rule", "fix", "decision_id"}
        assert problem["status"] == item["status_code"]
        assert problem["type"].startswith("urn:sealgate:problem:")


def test_sensitive_members_are_masked_in_what_it_reads(direct, through):
    direct_text, through_text = (
        str([base64.b64decode(item["content"]["$base64"]) for item in run.responses if item and item.get("content")])
        for run in (direct, through)
    )
    assert "123-45-6789" in direct_text
    assert "123-45-6789" not in through_text
