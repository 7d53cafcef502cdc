"""Builds the PostgreSQL host of a worker from its configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final, cast

from sealgate_native.record import Writer

from gateway.action import Resource, Subject
from gateway.config import LimitsSection, ListenerConfig, PostgresConnectionConfig
from gateway.errors import ConfigError, SecretError, TargetError
from gateway.pipeline import SessionSettings
from gateway.protocols.postgres.actions import SqlSettings
from gateway.protocols.postgres.login import PINNED_SETTINGS
from gateway.secrets import SecretResolver, run_password_command
from gateway.serve.hosts import Parts
from gateway.serve.listeners import Listener
from gateway.serve.postgres.fixed_settings import FixedSettings
from gateway.serve.postgres.limits import SessionLimits
from gateway.serve.postgres.listener import HostLimits, PostgresConnection, PostgresHost
from gateway.serve.postgres.loans import Loans
from gateway.serve.postgres.lookups import CatalogCache
from gateway.serve.postgres.outcomes import MAX_TRANSCRIPT_BYTES
from gateway.serve.postgres.paths import Questions, SearchPaths
from gateway.serve.postgres.preview import PreviewQuestions
from gateway.serve.postgres.upstream import PostgresTarget, open_upstream
from gateway.serve.tls import POSTGRES_ALPN, ServerTls

LOOKUP_NAME: Final = "sealgate catalogue"
"""How the gateway's own questions appear in the server's activity view and log."""

LOGIN_METHODS: Final = {
    "scram-sha-256": frozenset({"scram-sha-256", "trust"}),
    "password": frozenset({"password", "scram-sha-256"}),
    "certificate": frozenset({"trust"}),
}
"""What the server may ask of the gateway, by `credential.login`; "trust" also stands for what a certificate or socket proved."""

MAX_FULL_TRANSCRIPT_BYTES: Final = MAX_TRANSCRIPT_BYTES
"""Transcript mode full keeps this much of one result in memory before it is written; longer ones are cut, and say so."""

MAX_PENDING_LOGINS: Final = 256
"""Connections that have not logged in yet, beside the sessions; each ends after limits.login_timeout_s."""


class RunningPostgres:
    """The PostgreSQL host with its listener: a `gateway.serve.hosts.Host`."""

    def __init__(
        self,
        host: PostgresHost,
        listener: Listener,
        connections: Mapping[str, PostgresConnection],
        loans: Loans | None,
        *,
        has_tls: bool,
    ) -> None:
        self._loans = loans
        self._host = host
        self._listener = listener
        self._connections = connections
        self._has_tls = has_tls

    @property
    def address(self) -> tuple[str, int]:
        """Where it accepts."""
        return self._listener.address

    @property
    def session_count(self) -> int:
        """Sessions open now."""
        return self._host.session_count

    def count(self) -> Mapping[str, float]:
        """Sessions now and the totals since the start."""
        return self._host.count()

    def for_clients(self, subject: Subject) -> Mapping[str, Any]:
        """The port, whether it speaks TLS, and the database names."""
        databases = sorted(asked for asked, connection in self._connections.items() if connection.admits(subject.groups))
        return {"port": self.address[1], "tls": self._has_tls, "databases": databases}

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more, let statements under way finish, end the sessions, close the connections for look-ups."""
        await self._listener.stop()
        self._host.stop()
        await self._listener.join(grace_s)
        if self._loans is not None:
            await self._loans.stop()
        for connection in self._connections.values():
            connection.paths.close()


async def start_postgres_host(parts: Parts, listener: ListenerConfig) -> RunningPostgres:
    """The host, accepting. Raises ConfigError when the certificate cannot be used or the address is taken."""
    limits = parts.config.limits
    tls = None if listener.tls is None else ServerTls(listener.tls.cert_file, listener.tls.key_file, alpn=POSTGRES_ALPN)
    loans = _start_loans(parts)
    connections = {
        asked: _make_connection(parts, item, asked, loans)
        for item in parts.config.connections
        if isinstance(item, PostgresConnectionConfig)
        for asked in item.databases
    }
    _join_catalogs(connections.values())
    host = PostgresHost(
        pipeline=parts.pipeline,
        verify=parts.verifier.verify,
        connections=connections,
        tls=tls,
        masking=parts.masking,
        limits=HostLimits(limits.login_timeout_s, limits.max_sessions, limits.max_sessions_per_subject),
        session_limits=_limit_sessions(limits),
        loans=loans,
    )
    accepting = Listener(
        host.serve,
        tls=None if tls is None else tls.context,
        first_byte_timeout_s=limits.login_timeout_s,
        max_connections=limits.max_sessions + MAX_PENDING_LOGINS,
    )
    running = RunningPostgres(host, accepting, connections, loans, has_tls=tls is not None)
    try:
        await accepting.start(listener.bind, listener.port)
    except OSError as error:
        await running.stop(0)
        why, fix = f"{listener.bind}:{listener.port}: {error}", "choose a free port, and an address of this machine"
        raise ConfigError("the postgres listener cannot start", why=why, fix=fix) from error
    return running


def _join_catalogs(connections: Iterable[PostgresConnection]) -> None:
    """Connections to one database see what is defined through any of them at once."""
    first: dict[tuple[object, ...], CatalogCache] = {}
    for connection in connections:
        target, catalog = connection.target, connection.paths.own.catalog
        place = (target.host, target.port, target.socket_dir, target.database)
        if place in first:
            catalog.join(first[place])
        else:
            first[place] = catalog


def _start_loans(parts: Parts) -> Loans | None:
    """The relay of this worker; None where the log is not written by native code, which is what it stands on."""
    log = parts.evidence.log
    if log.writer is None:
        return None
    loans = Loans(cast("Writer", log.writer), log.started_ns, lambda: parts.evidence.lag_left_s, lambda: log.is_crowded)
    loans.start()
    parts.pipeline.decision_point.watch(loans.recall_all)
    return loans


def _limit_sessions(limits: LimitsSection) -> SessionLimits:
    return SessionLimits(
        max_message_bytes=limits.max_message_bytes,
        max_statements=limits.max_statements,
        max_portals=limits.max_portals,
        max_pending=limits.max_pending,
        idle_timeout_s=limits.idle_timeout_s,
        max_session_s=limits.max_session_s,
    )


def make_target(limits: LimitsSection, item: PostgresConnectionConfig, asked: str) -> PostgresTarget:
    """Where sessions of clients that ask for this database name go, and how."""
    return PostgresTarget(
        host=item.target.host or "",
        port=item.target.port,
        database=item.target_database(asked),
        socket_dir=item.target.socket_dir,
        tls_mode=item.target.tls.mode,
        ca_file=item.target.tls.ca_file,
        own_certificate=item.target.tls.own_files,
        login_methods=LOGIN_METHODS[item.credential.login],
        connect_timeout_s=limits.connect_timeout_s,
    )


def _make_connection(parts: Parts, item: PostgresConnectionConfig, asked: str, loans: Loans | None) -> PostgresConnection:
    limits = parts.config.limits
    target = make_target(limits, item, asked)
    credential = partial(read_credential, parts.secrets, item)

    def make_questions(path: str | None) -> Questions:
        settings = {**PINNED_SETTINGS, "application_name": LOOKUP_NAME, **({} if path is None else {"search_path": path})}
        connect = partial(open_upstream, target, credential, settings)
        on_forget = None if loans is None else loans.recall_group
        catalog = CatalogCache(
            connect,
            max_age_s=limits.catalog_age_s,
            timeout_s=limits.lookup_timeout_s,
            sensitive=tuple(item.sensitive),
            on_forget=on_forget,
        )
        return Questions(catalog, PreviewQuestions(connect, limits.lookup_timeout_s))

    transcript = item.transcript or "head"
    kept = {"none": 0, "summary": 0, "head": limits.transcript_head_bytes, "full": MAX_FULL_TRANSCRIPT_BYTES}
    return PostgresConnection(
        name=item.name,
        target=target,
        credential=credential,
        admits=item.admits,
        session=SessionSettings(
            Resource(item.name, item.type, item.environment, item.risk, dict(item.labels)),
            transcript,
            parts.config.approval.hold_s if item.hold_s is None else item.hold_s,
        ),
        sql=SqlSettings(
            connection=item.name,
            database=target.database,
            role=item.credential.user,
            sensitive=tuple(item.sensitive),
            clean_functions=frozenset(item.clean_functions),
            read_only=item.read_only,
            max_sql_bytes=limits.max_sql_bytes,
            max_depth=limits.max_sql_depth,
        ),
        paths=SearchPaths(make_questions),
        fixed=FixedSettings(item.name, tuple(item.sensitive), read_only=item.read_only),
        record_limit_bytes=kept[transcript],
    )


async def read_credential(resolver: SecretResolver, item: PostgresConnectionConfig) -> tuple[str, str]:
    """The role and its password, as they are now. Raises TargetError."""
    stored = item.credential
    try:
        if stored.password_command:
            password = await run_password_command(stored.password_command)
        else:
            password = b"" if stored.password is None else await resolver.resolve_async(stored.password)
        return stored.user, password.decode()
    except (SecretError, UnicodeDecodeError) as error:
        why = str(error) if isinstance(error, SecretError) else "it is not text"
        raise TargetError("the credential of this connection cannot be read", why=why) from error
