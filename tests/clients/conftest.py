"""What the client tests share: one real server with TLS and SCRAM, one gateway in front of it, and tokens."""

import shutil
from pathlib import Path

import psycopg
import pytest

from gateway.policy.bundle import write_manifest
from gateway.testing.certificates import make_authority
from gateway.testing.gateway import start_gateway, write_config
from gateway.testing.oidc import DevelopmentIssuer
from gateway.testing.policy import add_topic
from gateway.testing.postgres import start_postgres
from gateway.testing.wire import Client

ROOT = Path(__file__).resolve().parents[2]

OWNER_PASSWORD = "0wner-s3cret-of-the-target"

SCHEMA = """
create role sealgate_owner login password '0wner-s3cret-of-the-target';
create database shop owner sealgate_owner;
"""

TABLES = """
set role sealgate_owner;
create table customers (id int primary key, name text, ssn text, email text);
insert into customers select n, 'Customer ' || n, lpad(n::text, 3, '0') || '-12-' || lpad(n::text, 4, '0'), 'c' || n || '@example.com'
  from generate_series(1, 100) n;
create table orders (id serial primary key, customer int references customers, amount numeric);
insert into orders (customer, amount) select n, n * 10 from generate_series(1, 50) n;
create table accounts (id int primary key, owner text, balance int check (balance >= 0));
insert into accounts values (1, 'ann', 100), (2, 'bob', 50);
create table events (id int, note text);
insert into events select n, repeat('x', 100) from generate_series(1, 100000) n;
create view contacts as select name, ssn as number from customers;
"""

TOPICS = {
    "postgres/reads": """
# METADATA
# title: Reads
# description: Agents read.
# custom:
#   id: test.reads
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Reading is not allowed.
#   solution: Join the agents.
allow contains {"rule": "test.reads", "effects": ["read", "session", "export", "lock"]} if "agents" in input.subject.groups
""",
    "postgres/writes": """
# METADATA
# title: Writes
# description: Writers write.
# custom:
#   id: test.writes
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Writing is not allowed.
#   solution: Join the writers.
allow contains {"rule": "test.writes", "effects": ["write", "define"]} if "writers" in input.subject.groups

# METADATA
# title: Unbounded deletes
# description: A delete needs a condition.
# custom:
#   id: test.unbounded
#   severity: high
#   controls: [NIST-AC-3]
#   failure_msg: It deletes every row.
#   solution: Add a condition.
deny contains {"rule": "test.unbounded", "message": "a DELETE needs a WHERE clause", "severity": "high", "controls": []} if {
	some statement in input.postgres.facts.statements
	statement.verb == "delete"
	not statement.has_where
}

# METADATA
# title: Accounts need a second person
# description: Changes of accounts are reviewed.
# custom:
#   id: test.second
#   severity: high
#   controls: [NIST-AC-5]
#   failure_msg: It needs approval.
#   solution: Ask a reviewer.
approve contains {"rule": "test.second", "groups": ["reviewers"], "count": 1, "ttl_s": 600, "scope": "action"} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some table in statement.tables
	table.name == "accounts"
	table.access == "write"
}

# METADATA
# title: Changes of accounts are counted
# description: Their reviewer sees how many rows they touch.
# custom:
#   id: test.counted
#   severity: low
#   controls: [NIST-AC-5]
#   failure_msg: It is counted.
#   solution: Nothing.
obligations contains {"rule": "test.counted", "kind": "preview", "rows": true} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some table in statement.tables
	table.name == "accounts"
	table.access == "write"
}
""",
    "postgres/pii": """
# METADATA
# title: Sensitive columns
# description: They are masked in results.
# custom:
#   id: test.pii
#   severity: high
#   controls: [GLBA]
#   failure_msg: It is masked.
#   solution: Nothing.
masks contains {"rule": "test.pii", "selector": {"index": column.index}, "strategy": "redact", "apply": "both"} if {
	some column in input.postgres.response.columns
	column.sensitive
}
""",
}


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def server(authority):
    with start_postgres(tls=authority.issue("target", ["127.0.0.1"])) as running:
        running.run(SCHEMA)
        running.run(TABLES, database="shop")
        yield running


@pytest.fixture(scope="session")
def issuer():
    with DevelopmentIssuer() as running:
        yield running


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    shutil.copytree(ROOT / "rego/sealgate/main", folder / "sealgate/main", ignore=shutil.ignore_patterns("*_test.rego"))
    for name, rules in TOPICS.items():
        add_topic(folder, name, rules)
    write_manifest(folder)
    return folder


@pytest.fixture(scope="session")
def password_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("secret") / "password"
    path.touch(mode=0o600)
    path.write_text(OWNER_PASSWORD)
    return path


@pytest.fixture(scope="session")
def make_connection(server, authority, password_file):
    """A connection to the shop database; keyword arguments replace its members."""

    def make(**changes):
        return {
            "name": "shop",
            "type": "postgres",
            "target": {
                "host": "127.0.0.1",
                "port": server.port,
                "database": "shop",
                "tls": {"mode": "verify-full", "ca_file": str(authority.ca_file)},
            },
            "credential": {"user": "sealgate_owner", "password": f"file:{password_file}"},
            "environment": "staging",
            "allow_groups": ["agents"],
            "sensitive": ["public.customers.ssn"],
            "hold_s": 0,
        } | changes

    return make


@pytest.fixture(scope="session")
def make_gateway(authority, issuer, bundle, make_connection):
    """A context manager that runs a gateway from a folder; keyword arguments are sections of the configuration."""

    def make(folder, *, connections=None, tls=True, **sections):
        config = write_config(
            folder,
            issuer=issuer,
            bundle=bundle,
            connections=connections or [make_connection()],
            tls=authority.issue("gateway") if tls else None,
            **sections,
        )
        return start_gateway(config)

    return make


@pytest.fixture(scope="session")
def gateway(make_gateway, tmp_path_factory):
    with make_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="session")
def mint(issuer):
    """A token for an agent; it reads and, unless told otherwise, writes."""

    def make(sub="agent-7", groups=("agents", "writers"), **options):
        return issuer.mint(sub, groups=groups, **options)

    return make


@pytest.fixture
def connect(gateway, authority, mint):
    """A psycopg connection through the gateway, closed at the end of the test."""
    opened = []

    def make(*, token=None, running=None, **options):
        parameters = {
            "host": "localhost",
            "port": (running or gateway).port,
            "dbname": "shop",
            "user": "agent",
            "password": mint() if token is None else token,
            "sslmode": "verify-full",
            "sslrootcert": str(authority.ca_file),
            "autocommit": True,
        } | options
        connection = psycopg.connect(**parameters)
        opened.append(connection)
        return connection

    yield make
    for connection in opened:
        connection.close()


@pytest.fixture
def client(plaintext, mint):
    """A client of the protocol's messages, logged in to the module's gateway without TLS."""
    opened = Client(plaintext.port, mint())
    yield opened
    opened.close()
