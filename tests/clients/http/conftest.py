"""What the HTTP client tests share: one real service with TLS and a credential, one gateway in front of it, tokens, and curl."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.policy.bundle import write_manifest
from gateway.testing.certificates import make_authority
from gateway.testing.gateway import start_gateway, write_config
from gateway.testing.http_service import HttpService
from gateway.testing.oidc import DevelopmentIssuer

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
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def service(authority):
    with HttpService(*authority.issue("service", [HOST, "127.0.0.1"]), token=SECRET) as running:
        yield running


@pytest.fixture(scope="session")
def issuer():
    with DevelopmentIssuer() as running:
        yield running


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """The default policies, with a reviewers' group of the tests' own."""
    folder = tmp_path_factory.mktemp("bundle")
    shutil.copytree(ROOT / "rego", folder, ignore=shutil.ignore_patterns("*_test.rego"), dirs_exist_ok=True)
    data = json.loads((folder / "site/data.json").read_text())
    data["http"]["plain_allowed"] = True
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
