"""What the HTTP client tests share: one real service with TLS and a credential, one gateway in front of it, tokens, and curl.

The authority and the issuer of tokens are those of the folder above.
"""

import base64
import contextlib
import json
import re
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from gateway.policy.bundle import write_manifest
from gateway.testing.gateway import start_gateway, write_config
from gateway.testing.http_service import HttpService

ROOT = Path(__file__).resolve().parents[3]
SECRET = "s3rvice-T0ken/with+odd=chars&more"
HOST = "ledger.bank.test"

OPERATIONS = [
    {"id": "accounts.list", "methods": ["GET"], "path": "/accounts"},
    {"id": "accounts.show", "methods": ["GET"], "path": "/accounts/{id}"},
    {"id": "accounts.delete", "methods": ["DELETE"], "path": "/accounts/{id}", "labels": ["destructive"]},
    {"id": "transfers.make", "methods": ["POST"], "path": "/transfers", "labels": ["regulated"]},
    {"id": "echo", "methods": ["GET", "POST", "PUT"], "path": "/echo"},
    {"id": "export", "methods": ["GET"], "path": "/export", "labels": ["bulk"]},
    {"id": "socket", "methods": ["GET"], "path": "/socket"},
    {"id": "other", "methods": ["GET"], "path": "/{name}"},
    {"id": "deep", "methods": ["GET"], "path": "/deep/{*}"},
]


@pytest.fixture(scope="session")
def service(authority):
    with HttpService(*authority.issue("service", [HOST, "127.0.0.1"]), token=SECRET) as running:
        yield running


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """The default policies, with a reviewers' group of the tests' own."""
    folder = tmp_path_factory.mktemp("bundle")
    shutil.copytree(ROOT / "rego", folder, ignore=shutil.ignore_patterns("*_test.rego"), dirs_exist_ok=True)
    data = json.loads((folder / "site/data.json").read_text())
    data["http"]["plain_allowed"] = True
    data["http"]["session_bytes"] = 1 << 40
    (folder / "site/data.json").write_text(json.dumps(data))
    write_manifest(folder)
    return folder


@pytest.fixture(scope="session")
def secret_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("secret") / "token"
    path.touch(mode=0o600)
    path.write_text(SECRET)
    return path


@pytest.fixture(scope="session")
def make_connection(service, authority, secret_file):
    """A connection to the service; keyword arguments replace its members."""

    def make(**changes):
        return {
            "name": "ledger",
            "type": "http",
            "match": {"hosts": [HOST], "ports": [443, 80, 8443]},
            "target": {"host": "127.0.0.1", "port": service.port, "tls": {"ca_file": str(authority.ca_file)}},
            "credential": {"kind": "bearer", "token": f"file:{secret_file}"},
            "environment": "staging",
            "allow_groups": ["agents"],
            "operations": OPERATIONS,
            "sensitive": ["ssn", "$.accounts[*].card"],
            "hold_s": 0,
        } | changes

    return make


@pytest.fixture(scope="session")
def make_gateway(issuer, bundle, make_connection):
    """A context manager that runs a gateway from a folder; keyword arguments are sections of the configuration."""

    def make(folder, *, connections=None, **sections):
        config = write_config(folder, issuer=issuer, bundle=bundle, connections=connections or [make_connection()], **sections)
        return start_gateway(config)

    return make


# Its own, though it reads like the one above: a session's fixture is kept per definition, whatever `make_gateway` it was built from.
@pytest.fixture(scope="session")
def gateway(make_gateway, tmp_path_factory):
    with make_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="session")
def ca_file(gateway):
    return gateway.config.listeners.http.ca.cert_file


@pytest.fixture(scope="session")
def mint(issuer):
    """A token for an agent."""

    def make(sub="agent-7", groups=("agents",), **options):
        return issuer.mint(sub, groups=groups, **options)

    return make


@pytest.fixture(scope="session")
def proxy_url(gateway, mint):
    return f"http://agent:{mint()}@127.0.0.1:{gateway.http_port}"


class Answer:
    """What curl got."""

    def __init__(self, done):
        self.code = done.returncode
        self.error = done.stderr.decode()
        self.all = done.stdout.decode()
        self.head, _, self.body = self.all.partition("\r\n\r\n")

    @property
    def status(self):
        return int(self.head.split(" ", 2)[1]) if self.head else 0

    @property
    def json(self):
        return json.loads(self.body)


@pytest.fixture(scope="session")
def curl(gateway, ca_file, proxy_url):
    """Stock curl through the gateway."""

    def run(path="/accounts", *options, proxy=None, running=None, scheme="https", token=None, timeout=20):
        if running is not None:
            proxy = f"http://agent:{token}@127.0.0.1:{running.http_port}"
            trusted = running.config.listeners.http.ca.cert_file
        else:
            trusted = ca_file
        command = ["curl", "-sS", "-i", "--suppress-connect-headers", "--proxy", proxy or proxy_url, "--cacert", str(trusted)]
        done = subprocess.run([*command, *options, f"{scheme}://{HOST}{path}"], capture_output=True, check=False, timeout=timeout)
        return Answer(done)

    return run


class Tunnel:
    """A client's own bytes inside a CONNECT tunnel, encrypted or not."""

    def __init__(self, port, token, ca_file, *, place=f"{HOST}:443", tls=True, name=HOST, context=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=15)
        credential = base64.b64encode(f"agent:{token}".encode()).decode()
        self.socket.sendall(
            f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nProxy-Authorization: Basic {credential}\r\n\r\n".encode()
        )
        self.connected = self.read_until(b"\r\n\r\n")
        if tls and b" 200 " in self.connected:
            if context is None:
                context = ssl.create_default_context(cafile=str(ca_file))
                context.check_hostname = name == HOST
            self.socket = context.wrap_socket(self.socket, server_hostname=name)

    def read_until(self, mark):
        data = b""
        while mark not in data:
            piece = self.socket.recv(65536)
            if not piece:
                break
            data += piece
        return data

    def send(self, data):
        self.socket.sendall(data)

    def read_all(self):
        """Everything until the gateway closes."""
        data = b""
        with contextlib.suppress(OSError):
            while piece := self.socket.recv(65536):
                data += piece
        return data

    def read_response(self):
        """One response with a Content-Length: status, headers as text, body."""
        head, _, body = self.read_until(b"\r\n\r\n").partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        while length and len(body) < int(length[1]):
            piece = self.socket.recv(65536)
            if not piece:
                break
            body += piece
        return int(head.split(b" ", 2)[1]) if head else 0, head.decode("latin-1"), body

    def close(self):
        self.socket.close()


@pytest.fixture
def make_tunnel():
    """Opens tunnels to any port, closed at the end of the test."""
    opened = []

    def make(*arguments, **options):
        opened.append(Tunnel(*arguments, **options))
        return opened[-1]

    yield make
    for tunnel in opened:
        tunnel.close()


@pytest.fixture
def open_tunnel(gateway, mint, make_tunnel):
    """Opens tunnels to the shared gateway, or to another one."""

    def make(**options):
        running = options.pop("running", gateway)
        trusted = running.config.listeners.http.ca.cert_file
        return make_tunnel(running.http_port, options.pop("token", None) or mint(), trusted, **options)

    return make
