"""What the fault tests share: real servers around the gateway, and the gateway as a process of its own that can be killed.

Nothing here is in the gateway's process, so a test sees of it what an operator sees: its exit code, its standard error, its admin
listener, its size, and the evidence on disk.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from evidence.keys import load_log_key
from evidence.note import VerifierKey, encode_verifier_key
from evidence.store import EvidenceStore
from evidence.trust import IdentityRule, SigstoreTrust
from evidence.verify import verify_directory
from evidence.verify_trust import TrustPolicy
from gateway.policy.bundle import write_manifest
from gateway.testing.gateway import write_config
from gateway.testing.oidc import DevelopmentIssuer
from gateway.testing.policy import add_topic
from gateway.testing.postgres import start_postgres
from gateway.testing.sigstore import DEFAULT_ISSUER, DevelopmentSigstore
from gateway.testing.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
IDENTITY = "https://gw-test.development.sealgate.invalid"
PASSWORD = "0wner-s3cret-of-the-target"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60

SCHEMA = f"create role sealgate_owner login password '{PASSWORD}'; create database shop owner sealgate_owner;"

TABLES = """
set role sealgate_owner;
create table customers (id int primary key, name text, ssn text);
insert into customers select n, 'Customer ' || n, lpad(n::text, 3, '0') || '-12-' || lpad(n::text, 4, '0') from generate_series(1, 20) n;
create table marks (n int primary key);
create table steps (n int primary key);
create table spent (n int primary key);
create table big as select n as id, repeat('x', 1000) as note from generate_series(1, 30000) n;
"""

HEADER = """# METADATA
# title: {title}
# description: {title}.
# custom:
#   id: {id}
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not allowed.
#   solution: Join the group.
"""


def rule(identifier, text):
    """A rule with the METADATA that the loader asks for."""
    return HEADER.format(title=identifier, id=identifier) + text


TOPICS = {
    "postgres/reads": rule(
        "test.reads",
        'allow contains {"rule": "test.reads", "effects": ["read", "session", "lock"]} if "agents" in input.subject.groups',
    ),
    "postgres/writes": rule(
        "test.writes",
        'allow contains {"rule": "test.writes", "effects": ["write", "define"]} if "writers" in input.subject.groups',
    ),
    "postgres/drops": rule(
        "test.drops",
        """deny contains {"rule": "test.drops", "message": "nobody drops tables", "severity": "high", "controls": []} if {
	some statement in input.postgres.facts.statements
	statement.verb == "drop"
}""",
    ),
    "postgres/pii": rule(
        "test.pii",
        """masks contains {"rule": "test.pii", "selector": {"index": column.index}, "strategy": "redact", "apply": "both"} if {
	some column in input.postgres.response.columns
	column.sensitive
}""",
    ),
}


class Gateway:
    """`sealgate serve --json` as a process. Start it with the fixture `serve`."""

    def __init__(self, config):
        self.config = config
        self.folder = config.parent
        self.evidence = self.folder / "evidence"
        self.errors = self.folder / "stderr.log"
        self.descriptors = None
        """(soft, hard) limit of open files, None for that of the tests."""
        self.process = None
        self.port = self.admin_port = 0

    def launch(self):
        """Start the process without waiting for it."""
        with self.errors.open("ab") as errors:
            limit = [] if self.descriptors is None else ["prlimit", "--nofile={}:{}".format(*self.descriptors)]
            self.process = subprocess.Popen(
                [*limit, sys.executable, "-m", "gateway.cli", "serve", "--json", "-c", str(self.config)],
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
            )
        return self

    def start(self):
        """Start it and wait until it says where it listens."""
        self.launch()
        readable, _, _ = select.select([self.process.stdout], [], [], START_TIMEOUT_S)
        line = self.process.stdout.readline() if readable else b""
        assert line, f"the gateway did not start: {self.read_errors()[-2000:]}"
        addresses = json.loads(line)["ready"]
        self.port, self.admin_port = (int(addresses[name].rsplit(":", 1)[1]) for name in ("postgres", "admin"))
        return self

    def fail_to_start(self):
        """Run it to the end it is expected to come to at once; returns (exit code, standard error)."""
        self.launch()
        self.process.communicate(timeout=START_TIMEOUT_S)
        return self.process.returncode, self.read_errors()

    def make_twin(self):
        """A second process of the same configuration, not started, with a standard error of its own."""
        twin = Gateway(self.config)
        twin.errors = self.folder / "twin.log"
        return twin

    def kill(self):
        """SIGKILL, as the kernel does when memory is short. What it started must go with it."""
        children = self.children()
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        self.process.stdout.close()
        wait_until(lambda: not any(is_running(pid) for pid in children))

    def stop(self):
        """SIGTERM; returns the exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(STOP_TIMEOUT_S)
        self.process.stdout.close()
        return self.process.returncode

    @property
    def is_alive(self):
        return self.process.poll() is None

    def read_errors(self):
        return self.errors.read_text(errors="replace") if self.errors.exists() else ""

    def children(self):
        return [int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()] + [
            int(pid)
            for task in Path(f"/proc/{self.process.pid}/task").iterdir()
            if task.name != str(self.process.pid)
            for pid in (task / "children").read_text().split()
        ]

    def count_descriptors(self, kind=""):
        """Its open descriptors, or those whose target begins with `kind`, such as "socket:"."""
        targets = []
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                targets.append(str(link.readlink()))
        return sum(target.startswith(kind) for target in targets)

    def read_rss_mb(self):
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def ask_health(self):
        """(status, problems) of /healthz."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/healthz", timeout=20) as answer:
                return answer.status, json.load(answer)["problems"]
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["problems"]

    def count_sessions(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("sealgate_postgres_sessions "))

    def connect(self, token, **options):
        parameters = {"host": "127.0.0.1", "port": self.port, "dbname": "shop", "user": "agent", "password": token}
        return psycopg.connect(**(parameters | {"sslmode": "disable", "autocommit": True} | options))

    # --- the evidence, as it lies on disk

    def read_log(self):
        """The reader of its only log, and the log's name."""
        store = EvidenceStore(self.evidence)
        (origin,) = store.list_origins()
        return store.open_log(origin), origin

    def read_records(self):
        """Every record that is published; complete once the gateway has stopped."""
        reader, _ = self.read_log()
        return [record for _, record in reader.iterate_records(reader.read_checkpoint().size)]

    def read_statements(self):
        """The recorded text of every decision of the request phase, by decision id: opened as an auditor opens it."""
        reader, origin = self.read_log()
        identity = (self.folder / "auditor.age").read_text().strip()
        keys, texts = {}, {}
        for record in self.read_records():
            if record["type"] != "decision" or record["phase"] != "request":
                continue
            sid = record["sid"]
            if sid not in keys:
                keys[sid] = reader.unwrap_data_key(sid, [identity])
            named = record["input"]
            document = json.loads(reader.open_chunk(origin, sid, named["n"], keys[sid], named.get("base")))
            texts[record["decision_id"]] = document["postgres"]["payload"]["text"]
        return texts

    def wait_for_record(self, condition):
        """Wait until a record for which `condition` holds is published; returns it."""
        found = []

        def look():
            with contextlib.suppress(FileNotFoundError, ValueError):
                found[:] = [record for record in self.read_records() if condition(record)]
            return found

        wait_until(look)
        return found[-1]


def is_running(pid):
    """Whether a process exists and is more than an entry for its parent to collect."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="session")
def server():
    with start_postgres() as running:
        running.run(SCHEMA)
        running.run(TABLES, database="shop")
        yield running


@pytest.fixture(scope="session")
def issuer():
    with DevelopmentIssuer() as running:
        yield running


@pytest.fixture(scope="session")
def sigstore(tmp_path_factory):
    with DevelopmentSigstore(tmp_path_factory.mktemp("sigstore")) as running:
        yield running


@pytest.fixture(scope="session")
def mint(issuer):
    """A token for an agent that reads and writes."""

    def make(sub="agent-7", groups=("agents", "writers"), **options):
        return issuer.mint(sub, groups=groups, **options)

    return make


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory):
    """A policy bundle: the shared topics and more of the test's own, {"postgres/name": rules}."""

    def make(topics=None):
        folder = tmp_path_factory.mktemp("bundle")
        main = folder / "sealgate/main"
        shutil.copytree(ROOT / "rego/sealgate/main", main, ignore=shutil.ignore_patterns("*_test.rego"))
        for name, rules in {**TOPICS, **(topics or {})}.items():
            add_topic(folder, name, rules)
        write_manifest(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def bundle(make_bundle):
    return make_bundle()


@pytest.fixture(scope="session")
def make_connection(server, tmp_path_factory):
    """A connection to the shop database; keyword arguments replace its members."""
    secret = tmp_path_factory.mktemp("secret") / "password"
    secret.touch(mode=0o600)
    secret.write_text(PASSWORD)

    def make(**changes):
        return {
            "name": "shop",
            "type": "postgres",
            "target": {"host": "127.0.0.1", "port": server.port, "database": "shop", "tls": {"mode": "disable"}},
            "credential": {"user": "sealgate_owner", "password": f"file:{secret}"},
            "environment": "staging",
            "allow_groups": ["agents"],
            "sensitive": ["public.customers.ssn"],
            "hold_s": 0,
        } | changes

    return make


@pytest.fixture(scope="session")
def configure(issuer, bundle, sigstore, make_connection):
    """Write a configuration and return the gateway for it, not started; keyword arguments are members of sections."""

    def make(folder, *, connections=None, policy=None, evidence=None, **sections):
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / "sigstore.token"
        token.touch(mode=0o600)
        token.write_text(sigstore.mint_token(IDENTITY, lifetime=timedelta(hours=1)))
        trust = folder / "trust.json"
        trust.write_text(sigstore.trust_config)
        signing = {"mode": "development", "trust_config": str(trust), "identity_token": f"file:{token}"}
        config = write_config(
            folder,
            issuer=issuer,
            bundle=bundle,
            connections=connections or [make_connection()],
            # Five seconds, because these tests are not about how fast a machine that is busy otherwise decides.
            policy={"deadline_ms": 5_000, **(policy or {})},
            evidence={"sigstore": signing, "attest_every_s": 1, **(evidence or {})},
            **sections,
        )
        return Gateway(config)

    return make


@pytest.fixture
def serve(configure):
    """Start a gateway; whatever became of it, it has ended when the test ends."""
    started = []

    def make(folder, **sections):
        gateway = configure(folder, **sections)
        started.append(gateway)
        return gateway.start()

    yield make
    for gateway in started:
        end(gateway)


def end(gateway):
    """End a gateway's process for good."""
    if gateway.process is not None and gateway.process.poll() is None:
        gateway.process.kill()
        gateway.process.wait(STOP_TIMEOUT_S)


@pytest.fixture(scope="session")
def verify(sigstore):
    """Verify a gateway's evidence with an auditor's pins; returns the report."""

    def run(gateway, *, last_seen=()):
        _, origin = gateway.read_log()
        key = load_log_key(gateway.folder / "log-key.pem").public_key()
        trust = TrustPolicy(
            sigstore=SigstoreTrust(sigstore.trust_config),
            log_keys=(VerifierKey.parse(encode_verifier_key(origin, key)),),
            gateway=(IdentityRule(IDENTITY, DEFAULT_ISSUER),),
            accept_development=True,
            last_seen=tuple(last_seen),
        )
        identity = (gateway.folder / "auditor.age").read_text().strip()
        return verify_directory(gateway.evidence, trust, age_identities=[identity])

    return run


@pytest.fixture(scope="session")
def verify_program(sigstore):
    """`sealgate-verify` as a program; returns (exit code, report)."""

    def run(gateway):
        _, origin = gateway.read_log()
        key = load_log_key(gateway.folder / "log-key.pem").public_key()
        command = [sys.executable, "-m", "evidence.cli", str(gateway.evidence), "--json", "--development-ok"]
        command += ["--trust-config", str(gateway.folder / "trust.json"), "--identity", IDENTITY, "--issuer", DEFAULT_ISSUER]
        command += ["--log-vkey", encode_verifier_key(origin, key)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    return run
