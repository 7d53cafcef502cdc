"""h2spec, the conformance suite of HTTP/2, against the gateway and against bare mitmproxy in the same run.

What the gateway fails is listed here; most of it belongs to mitmproxy and hyper-h2, below the gateway. Nothing that bare mitmproxy passes may fail.
"""

import base64
import contextlib
import os
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from gateway.testing.bulk_service import BulkService
from gateway.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(300)  # tens of seconds on a quiet machine
ROOT = Path(__file__).resolve().parents[3]
HOST = "localhost"
KNOWN = {"http2/4.2: Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE"}
"""Fails below the gateway: hyper-h2 answers with the right GOAWAY, FRAME_SIZE_ERROR, and h2spec reads on to the frame behind it."""

LISTENS = re.compile(r"listening at 127\.0\.0\.1:(\d+)")


@pytest.fixture(scope="module")
def program():
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    return subprocess.run([ROOT / "tools/build", "h2spec"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def bulk():
    with BulkService() as running:
        yield running


class Tunneller(socketserver.ThreadingTCPServer):
    """Opens a CONNECT tunnel for each connection: h2spec knows no proxy."""

    daemon_threads = True
    proxy_port = 0
    token = ""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), TunnellerHandler)
        self.port = self.server_address[1]


class TunnellerHandler(socketserver.BaseRequestHandler):
    def handle(self):
        place = f"{HOST}:{self.server.port}"
        credential = base64.b64encode(f"agent:{self.server.token}".encode()).decode()
        with socket.create_connection(("127.0.0.1", self.server.proxy_port)) as proxy:
            proxy.sendall(
                f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nProxy-Authorization: Basic {credential}\r\n\r\n".encode()
            )
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += proxy.recv(1)
            assert b" 200 " in answer.split(b"\r\n")[0]
            back = threading.Thread(target=pipe, args=(proxy, self.request))
            back.start()
            pipe(self.request, proxy)
            back.join()


def pipe(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end, how in ((source, socket.SHUT_RD), (sink, socket.SHUT_WR)):
        with contextlib.suppress(OSError):
            end.shutdown(how)


@pytest.fixture(scope="module")
def gateway_port(bulk, make_gateway, mint, tmp_path_factory):
    """The port h2spec speaks to: a tunnel through the gateway to the service."""
    with Tunneller() as tunneller:
        connection = {
            "name": "h2",
            "type": "http",
            "match": {"hosts": [HOST], "ports": [tunneller.port]},
            "target": {"scheme": "http", "host": "127.0.0.1", "port": bulk.port},
            "environment": "staging",
            "allow_groups": ["agents"],
            "operations": [
                {"id": "get", "methods": ["GET"], "path": "/bulk/{kind}"},
                {"id": "post", "methods": ["POST"], "path": "/bulk/{kind}"},
            ],
        }
        with make_gateway(tmp_path_factory.mktemp("gateway"), connections=[connection]) as running:
            tunneller.proxy_port, tunneller.token = running.http_port, mint()
            serving = threading.Thread(target=tunneller.serve_forever, daemon=True)
            serving.start()
            yield tunneller.port
            tunneller.shutdown()


@pytest.fixture(scope="module")
def bare_port(bulk, tmp_path_factory):
    """mitmproxy as it comes, in front of the same service."""
    command = [
        Path(sys.executable).parent / "mitmdump",
        "--mode",
        f"reverse:http://127.0.0.1:{bulk.port}",
        "--listen-host",
        "127.0.0.1",
    ]
    options = ["--listen-port", "0", "--set", f"confdir={tmp_path_factory.mktemp('mitmproxy')}", "--set", "flow_detail=0"]
    said = tmp_path_factory.mktemp("said") / "stdout"
    with said.open("wb") as output:
        process = subprocess.Popen([*command, *options], stdout=output, stderr=output, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    try:
        wait_until(lambda: LISTENS.search(said.read_text()), timeout_s=60)
        yield int(LISTENS.search(said.read_text())[1])
    finally:
        process.terminate()
        process.wait(20)


def run(program, port, report):
    """Cases that failed, and how many there were."""
    command = [program, "-t", "-k", "-h", HOST, "-p", str(port), "-P", "/bulk/plain?bytes=10000", "-o", "5", "-j", str(report)]
    subprocess.run(command, capture_output=True, check=False, timeout=140)
    cases = {f"{case.get('package')}: {case.get('classname')}": case for case in ET.parse(report).iter("testcase")}
    return {name for name, case in cases.items() if case.find("failure") is not None or case.find("error") is not None}, len(
        cases
    )


def test_the_gateway_fails_nothing_that_bare_mitmproxy_passes(program, gateway_port, bare_port, bulk, tmp_path):
    before = bulk.sent_bytes
    ours, count = run(program, gateway_port, tmp_path / "ours.xml")
    assert bulk.sent_bytes > before, "its requests reach the service"
    theirs, _ = run(program, bare_port, tmp_path / "bare.xml")
    assert count > 90
    assert ours <= theirs
    assert ours <= KNOWN
