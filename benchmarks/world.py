"""What the PostgreSQL rows run on: a server, pgbouncer beside it, and the gateway as a process of its own with everything on.

The gateway has the whole shipped policy library, a durable log on this disk, the transcript in mode head, and its log attested by a
development Sigstore that runs in the benchmark's process. TLS is on every way or on none, so that they differ in nothing else.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import orjson
import yaml
from pyrage import x25519

from evidence.keys import generate_log_key
from gateway.errors import TargetError
from gateway.testing.certificates import Authority, make_authority
from gateway.testing.pgbouncer import start_pgbouncer
from gateway.testing.policy import copy_library
from gateway.testing.postgres import PostgresServer, start_postgres
from gateway.testing.sigstore import DEFAULT_ISSUER, DevelopmentSigstore

ROOT: Final = Path(__file__).resolve().parent.parent
DATABASE: Final = "bank"
CONNECTION: Final = "core"
ROLE: Final = "sealgate_app"
GATEWAY_IDENTITY: Final = "https://bench-gateway.development.sealgate.invalid"
TOKEN_LIFETIME: Final = timedelta(hours=8)
PGBENCH_SCALE: Final = 10
"""A million accounts: larger than a toy, small enough to stay in the server's memory, so that the relays are what is measured."""

USUAL_SESSIONS: Final = 90
SPARE_CONNECTIONS: Final = 20
"""Connections of the server beside the gateway's sessions: direct clients, the pooler, look-ups."""

BULK_ROWS: Final = 1_000_000
BULK_SEED: Final = f"""
CREATE TABLE clients (id int NOT NULL, name text NOT NULL, city text NOT NULL, ssn text NOT NULL, opened date NOT NULL, cents bigint NOT NULL);
INSERT INTO clients
  SELECT n, (ARRAY['Ada', 'Grace', 'Katherine', 'Edsger', 'Barbara'])[1 + n % 5] || ' '
           || (ARRAY['Lovelace', 'Hopper', 'Johnson', 'Dijkstra', 'Liskov', 'Hamilton', 'Lamport'])[1 + n % 7],
         (ARRAY['Oslo', 'Lagos', 'Lima', 'Pune'])[1 + n % 4],
         lpad((100 + n % 500)::text, 3, '0') || '-' || lpad((1 + n % 99)::text, 2, '0') || '-' || lpad((1 + n % 9999)::text, 4, '0'),
         date '2020-01-01' + n % 2000, n::bigint * 17
  FROM generate_series(1, {BULK_ROWS}) AS n;
CREATE TABLE keyed AS SELECT id, md5(id::text) AS key, city, ssn, opened, cents FROM clients;
VACUUM ANALYZE clients, keyed;
"""
"""Six columns of ordinary bank data, one of them sensitive. In `keyed` one column is hexadecimal text: digests."""

MASKED_COLUMNS: Final = ("public.clients.ssn", "public.keyed.ssn")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the server, as libpq needs to know it.

    Attributes:
        ca_file: the authority of its certificate; None where nothing is encrypted.
    """

    name: str
    host: str
    port: int
    user: str
    password: str
    database: str
    ca_file: Path | None = None

    def environment(self) -> dict[str, str]:
        """The environment of a client program that goes this way."""
        return {
            "PATH": os.environ["PATH"],
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database,
            "PGGSSENCMODE": "disable",
            **(
                {"PGSSLMODE": "disable"}
                if self.ca_file is None
                else {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(self.ca_file)}
            ),
        }


@dataclass(frozen=True, slots=True)
class World:
    """Everything that runs.

    Attributes:
        gateway_pid: the gateway's process; its evaluators are children of it.
        pgbouncer_pid: the peer's.
        bundle: the policy bundle the gateway decides with.
        evidence: where its log is.
    """

    directory: Path
    postgres: PostgresServer
    direct: Way
    pgbouncer: Way
    gateway: Way
    gateway_pid: int
    pgbouncer_pid: int
    bundle: Path

    @property
    def evidence(self) -> Path:
        return self.directory / "evidence"

    @property
    def ways(self) -> tuple[Way, Way, Way]:
        return self.direct, self.pgbouncer, self.gateway


@contextlib.contextmanager
def open_world(
    directory: Path,
    *,
    gateway_command: list[str] | None = None,
    with_bulk: bool = True,
    sessions: int = USUAL_SESSIONS,
    switched_off: Sequence[str] = (),
    is_encrypted: bool = False,
) -> Iterator[World]:
    """Start everything below `directory`, stop it at the end.

    Args:
        directory: an empty folder on the disk whose syncs are to be measured.
        gateway_command: a program to run the gateway under, such as a profiler; the gateway's own command line is appended.
        with_bulk: whether the table of a million rows is wanted.
        sessions: how many the gateway and the server are to carry at once.
        switched_off: rules of the policy that an exception keeps silent.
        is_encrypted: whether every connection of every way is TLS, with the server's certificate and name checked.
    """
    with contextlib.ExitStack() as stack:
        authority = make_authority(directory / "authority") if is_encrypted else None
        ca_file = None if authority is None else authority.ca_file
        # Durable like production: without syncs of its own, a server would be ahead of any relay that keeps a durable record.
        postgres = stack.enter_context(
            start_postgres(
                settings=[
                    *("fsync = on", "full_page_writes = on", "shared_buffers = 512MB", "max_wal_size = 2GB"),
                    f"max_connections = {sessions + SPARE_CONNECTIONS}",
                ],
                tls=None if authority is None else authority.issue("server"),
            )
        )
        password = secrets.token_urlsafe(18)
        _seed(postgres, password, with_bulk=with_bulk)
        direct = Way("direct", postgres.host, postgres.port, ROLE, password, DATABASE, ca_file)
        # Session pooling is the mode that, like the gateway, gives each client a server connection of its own.
        pgbouncer_pid, pgbouncer_port = stack.enter_context(
            start_pgbouncer(postgres, database=DATABASE, role=ROLE, password=password, authority=authority)
        )
        pgbouncer = Way("pgbouncer", "127.0.0.1", pgbouncer_port, ROLE, password, DATABASE, ca_file)
        sigstore = stack.enter_context(DevelopmentSigstore(directory / "development-sigstore"))
        bundle = make_bundle(directory / "policy", switched_off)
        config = _write_config(directory, postgres, sigstore, password, MASKED_COLUMNS if with_bulk else (), sessions, authority)
        token = sigstore.mint_token(
            "agent-7@bank.example", audience="sealgate", lifetime=TOKEN_LIFETIME, claims={"groups": ["agents"], "kind": "agent"}
        )
        pid, port = stack.enter_context(_run_gateway(config, gateway_command or []))
        gateway = Way("gateway", "127.0.0.1", port, "agent", token, CONNECTION, ca_file)
        yield World(directory, postgres, direct, pgbouncer, gateway, pid, pgbouncer_pid, bundle)


def make_bundle(target: Path, switched_off: Sequence[str] = ()) -> Path:
    """The whole shipped policy library, with site facts under which a million rows may be read and pgbench's tables changed."""
    until_ns = time.time_ns() + int(TOKEN_LIFETIME.total_seconds() * 1e9)
    named = {"connection": CONNECTION, "owner": "benchmarks", "reason": "measured", "ticket": "none", "expires_ns": until_ns}

    def change(site: dict[str, Any]) -> None:
        site["postgres"]["export_rows"] = 2 * BULK_ROWS
        site["postgres"]["run_rows"] = 1_000_000_000  # every pass of the benchmark is one run
        site["exceptions"] = [{"rule": rule, **named} for rule in switched_off]

    return copy_library(ROOT / "rego", target, change)


def _seed(postgres: PostgresServer, password: str, *, with_bulk: bool) -> None:
    postgres.run(f"CREATE DATABASE {DATABASE}")
    command = ["pgbench", "-i", "-q", "-s", str(PGBENCH_SCALE), "-h", str(postgres.socket_dir), "-p", str(postgres.port)]
    run([*command, "-U", "postgres", DATABASE], {"PATH": os.environ["PATH"]})
    if with_bulk:
        postgres.run(BULK_SEED, database=DATABASE)
    postgres.run(
        f"CREATE ROLE {ROLE} LOGIN PASSWORD '{password}' NOSUPERUSER;"
        f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {ROLE}",
        database=DATABASE,
    )
    postgres.run("CHECKPOINT")


def _write_config(
    directory: Path,
    postgres: PostgresServer,
    sigstore: DevelopmentSigstore,
    password: str,
    sensitive: Sequence[str],
    sessions: int,
    authority: Authority | None,
) -> Path:
    generate_log_key(directory / "log_key.pem")
    auditor = str(x25519.Identity.generate().to_public())
    write_private(directory / "target.password", password.encode())
    (directory / "trust_config.json").write_text(sigstore.trust_config)
    write_private(directory / "gateway.sigstore-token", sigstore.mint_token(GATEWAY_IDENTITY, lifetime=TOKEN_LIFETIME).encode())
    issuer = {"alias": "bank", "issuer": DEFAULT_ISSUER, "audience": ["sealgate"], "jwks_url": sigstore.jwks_url}
    listener: dict[str, Any] = {"bind": "127.0.0.1", "port": 0}
    target_tls = {"mode": "disable"}
    if authority is not None:
        cert_file, key_file = authority.issue("gateway")
        listener["tls"] = {"cert_file": str(cert_file), "key_file": str(key_file)}
        target_tls = {"mode": "verify-full", "ca_file": str(authority.ca_file)}
    connection = {
        "name": CONNECTION,
        "type": "postgres",
        "target": {"host": postgres.host, "port": postgres.port, "database": DATABASE, "tls": target_tls},
        "credential": {"user": ROLE, "password": "file:target.password"},
        "environment": "production",
        "risk": "critical",
        "allow_groups": ["agents"],
        "sensitive": list(sensitive),
        "transcript": "head",
    }
    document: dict[str, Any] = {
        "gateway": {"name": "bench-gateway", "state": "sqlite:///state.db"},
        "identity": {"issuers": [{**issuer, "groups_claim": "groups", "kind_claim": "kind"}]},
        "listeners": {"postgres": listener},
        "policy": {"engine": "regorus", "bundle": "policy"},
        "evidence": {
            "store": "evidence",
            "sigstore": {
                "mode": "development",
                "trust_config": "trust_config.json",
                "identity_token": "file:gateway.sigstore-token",
            },
            "log_key": "file:log_key.pem",
            "recipients": [auditor],
            "openings_recipients": [auditor],
        },
        "connections": [connection],
        "limits": {"max_sessions": sessions, "max_sessions_per_subject": sessions},
    }
    path = directory / "sealgate.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@contextlib.contextmanager
def _run_gateway(config: Path, under: list[str]) -> Iterator[tuple[int, int]]:
    """The gateway's process id and port."""
    command = [*under, sys.executable, "-m", "gateway.cli", "serve", "--json", "-c", str(config)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
    with (config.parent / "gateway.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
    try:
        line = process.stdout.readline() if process.stdout else b""
        if not line.startswith(b"{"):
            tail = (config.parent / "gateway.log").read_text(errors="replace")[-1500:]
            raise TargetError("the gateway did not start", why=tail.strip())
        yield process.pid, int(orjson.loads(line)["ready"]["postgres"].rsplit(":", 1)[1])
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()


def run(command: list[str], environment: dict[str, str], *, timeout_s: float = 300) -> str:
    """Run a program to its end and return what it printed. Raises TargetError with the end of its standard error."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=timeout_s)
    if done.returncode != 0:
        raise TargetError(f"{command[0]} failed", why=done.stderr.strip()[-800:])
    return done.stdout


def write_private(path: Path, data: bytes) -> None:
    """Write a file only its owner can read."""
    path.touch(mode=0o600)
    path.write_bytes(data)
