"""What the SSH client tests share: one real sshd, one gateway in front of it, and the files `sealgate ssh-cert` writes."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.client.ssh_files import make_key as make_client_key
from gateway.client.ssh_files import request_certificate, write_ssh_files
from gateway.policy.bundle import write_manifest
from gateway.testing.gateway import start_gateway, write_config
from gateway.testing.policy import add_topic
from gateway.testing.ssh import has_sshd, make_key, start_sshd

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 60

STRICT = """
# METADATA
# title: Strict hosts
# description: Hosts labelled strict let no file with findings out, and none of more than 50,000 bytes.
# custom:
#   id: test.strict
#   severity: high
#   controls: [GLBA]
#   failure_msg: The file is withheld.
#   solution: Ask the owner of the data.
obligations contains {"rule": "test.strict", "kind": "withhold_findings"} if input.resource.labels.files == "strict"

# METADATA
# title: Small files
# description: As above.
# custom:
#   id: test.small
#   severity: low
#   controls: [GLBA]
#   failure_msg: The file is too large.
#   solution: Send less.
obligations contains {"rule": "test.small", "kind": "file_limit", "bytes": 50000} if input.resource.labels.files == "strict"
"""

OPEN = """
# METADATA
# title: Everything
# description: What a site may write that trusts a group with everything.
# custom:
#   id: test.everything
#   severity: high
#   controls: [GLBA]
#   failure_msg: Not a denial.
#   solution: None.
allow contains {"rule": "test.everything", "effects": ["execute", "unknown", "read", "write"]} if input.phase == "request"
"""


@pytest.fixture(scope="session")
def sshd(tmp_path_factory):
    if not has_sshd() and "SEALGATE_NO_SKIPS" not in os.environ:
        pytest.skip("openssh-server is not installed")
    with start_sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="session")
def ssh_keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return {name: f"file:{make_key(folder / name)}" for name in ("host_key", "host_ca", "user_ca")}


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder the policy of these tests opens for reading and writing."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="session")
def ssh_bundle(tmp_path_factory, place):
    """The library as it is, with this machine's folder in the site data."""
    folder = tmp_path_factory.mktemp("bundle")
    ignore = shutil.ignore_patterns("*_test.rego")
    for name in ("main", "lib/ssh", "lib/git", "policies/ssh", "policies/git"):
        shutil.copytree(ROOT / "rego/sealgate" / name, folder / "sealgate" / name, ignore=ignore)
    site = json.loads((ROOT / "rego/site/data.json").read_text())
    site["ssh"]["folders"] = {"read": [str(place)], "write": [str(place)]}
    (folder / "site").mkdir()
    (folder / "site/data.json").write_text(json.dumps({name: site[name] for name in ("exceptions", "ssh", "git")}))
    add_topic(folder, "ssh/strict", STRICT)
    write_manifest(folder)
    return folder


@pytest.fixture(scope="session")
def open_bundle(ssh_bundle, tmp_path_factory):
    """The library and a topic that allows everything."""
    folder = tmp_path_factory.mktemp("open") / "bundle"
    shutil.copytree(ssh_bundle, folder)
    for protocol in ("ssh", "git"):
        add_topic(folder, f"{protocol}/everything", OPEN.replace("test", f"test.{protocol}"))
    write_manifest(folder)
    return folder


@pytest.fixture(scope="session")
def make_ssh_connection(sshd):
    """A connection to the server; keyword arguments replace its members."""

    def make(**changes):
        return {
            "name": "web-1",
            "type": "ssh",
            "match": {"users": ["deploy"]},
            "target": {"host": "127.0.0.1", "port": sshd.port, "known_hosts": str(sshd.known_hosts)},
            "credential": {"user": sshd.user, "user_ca": f"file:{sshd.user_ca}"},
            "environment": "production",
            "allow_groups": ["agents", "operators", "break-glass"],
            "shell": True,
            "hold_s": 0,
        } | changes

    return make


@pytest.fixture(scope="session")
def make_ssh_gateway(issuer, ssh_bundle, ssh_keys, make_ssh_connection):
    """A context manager that runs a gateway from a folder; keyword arguments are sections of the configuration."""

    def make(folder, *, connections=None, listener=None, **sections):
        config = write_config(
            folder,
            issuer=issuer,
            bundle=ssh_bundle,
            connections=connections or [make_ssh_connection()],
            listeners={"postgres": None, "ssh": {"port": 0, "names": ["gw.test"], **ssh_keys, **(listener or {})}},
            **sections,
        )
        return start_gateway(config)

    return make


@pytest.fixture(scope="session")
def ssh_gateway(make_ssh_gateway, tmp_path_factory):
    with make_ssh_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="session")
def make_client(issuer, tmp_path_factory):
    """A client's machine: a folder with key, certificate and ssh_config, made as `sealgate ssh-cert` makes them."""

    def make(running, *, groups=("agents",), sub="agent-7", ttl_s=3_600):
        folder = tmp_path_factory.mktemp("client")
        token = issuer.mint(sub, groups=groups, ttl_s=ttl_s)
        public_key = make_client_key(folder / "id_ed25519")
        access = request_certificate(f"http://127.0.0.1:{running.admin_port}", token, public_key)
        return Client(write_ssh_files(folder, access, address="127.0.0.1"), access, token)

    return make


class Client:
    """Runs stock programs with one ssh_config."""

    def __init__(self, config, access, token):
        self.config = config
        self.access = access
        self.token = token

    def run(self, program, *arguments, data=b"", timeout=TIMEOUT_S, **options):
        command = [program, "-F", str(self.config), "-o", "BatchMode=yes", *map(str, arguments)]
        return subprocess.run(command, input=data, capture_output=True, timeout=timeout, check=False, **options)

    def ssh(self, *arguments, **options):
        return self.run("ssh", *arguments, **options)

    def start(self, *arguments):
        command = ["ssh", "-F", str(self.config), "-o", "BatchMode=yes", *map(str, arguments)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    @property
    def ssh_command(self):
        return f"ssh -F {self.config} -o BatchMode=yes"


@pytest.fixture(scope="session")
def agent(ssh_gateway, make_client):
    return make_client(ssh_gateway)


@pytest.fixture(scope="session")
def operator(ssh_gateway, make_client):
    return make_client(ssh_gateway, groups=("agents", "operators"), sub="operator-1")


@pytest.fixture(scope="session")
def insider(ssh_gateway, make_client):
    """Someone whom policy allows a shell."""
    return make_client(ssh_gateway, groups=("agents", "break-glass"), sub="person-1")


@pytest.fixture(params=["jump", "login"])
def target(request):
    """How the target is asked for: through a jump, or in the login name."""
    return ["web-1"] if request.param == "jump" else ["-l", "deploy%web-1", "sealgate"]
