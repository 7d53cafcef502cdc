"""The PostgreSQL listener: start-up, token, connection, the gateway's own login to the target, and hand-over to a session.

What the agent sees, step by step: 'S' and TLS, or direct TLS as PostgreSQL 17 clients offer it; a request for a password, which is
the token; then Ok, or one FATAL error that says what is wrong, what to do and under which decision id it was recorded.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from sealgate_native.postgres import (
    FrameReader,
    ProtocolViolation,
    encode_backend_key,
    encode_error,
    encode_message,
    encode_negotiate,
    encode_parameter_status,
    encode_ready,
    parse_startup,
)

from evidence.sessions import neutralise
from gateway.action import Subject
from gateway.errors import EvidenceUnavailableError, IdentityError, LimitExceededError, ProtocolError, TargetError
from gateway.pipeline import Pipeline, PipelineSession, SessionSettings
from gateway.protocols.postgres import enforce
from gateway.protocols.postgres.actions import SqlSettings
from gateway.protocols.postgres.login import (
    AUTHENTICATION_OK,
    MAX_TOKEN_BYTES,
    PASSWORD_REQUEST,
    PINNED_SETTINGS,
    LoginRefusedError,
    Startup,
    check_startup,
    read_token,
)
from gateway.serve.budgets import Budgets
from gateway.serve.cell_masking import CellMasking
from gateway.serve.listeners import Wire
from gateway.serve.memory import MemoryReturn, find_trim
from gateway.serve.postgres.door import CATALOG, PostgresDoor
from gateway.serve.postgres.fixed_settings import FixedSettings
from gateway.serve.postgres.limits import SessionLimits
from gateway.serve.postgres.loans import Loans
from gateway.serve.postgres.lookups import CatalogCache
from gateway.serve.postgres.paths import Questions, SearchPaths
from gateway.serve.postgres.session import PostgresSession
from gateway.serve.postgres.upstream import Credential, PostgresTarget, Upstream, open_upstream
from gateway.serve.tls import POSTGRES_ALPN, ServerTls

logger = logging.getLogger(__name__)

TARGET_UNAVAILABLE: Final = "target.unavailable"
"""The code of a login that fails at the target: the operators' to mend, so it is told to them too."""

MAX_STARTUP_BYTES: Final = 10_000
"""Longest StartupMessage, the server's own limit."""

MAX_PREAMBLES: Final = 4
"""SSLRequest and GSSENCRequest may come before the StartupMessage, each at most once and in either order."""

APPLICATION_NAME: Final = "sealgate"
"""How the gateway appears in the server's own activity view and log, followed by the session id."""

Verify = Callable[[str], Awaitable[Subject]]


@dataclass(frozen=True, slots=True)
class PostgresConnection:
    """One registered connection, ready to use.

    Attributes:
        target: where the server is; its database name may differ from what agents ask for.
        credential: gives the stored user and password, at every login.
        admits: whether a subject with these groups may use it at all.
        fixed: the start-up settings the gateway fixes beside `PINNED_SETTINGS`, such as read-only transactions.
        paths: what the server is asked about statements, by search path.
        record_limit_bytes: masked rows kept per action for the transcript.
    """

    name: str
    target: PostgresTarget
    credential: Credential
    admits: Callable[[tuple[str, ...]], bool]
    session: SessionSettings
    sql: SqlSettings
    paths: SearchPaths
    fixed: FixedSettings
    record_limit_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Bounds of the listener.

    Attributes:
        login_timeout_s: from the first byte to a verified token.
        max_sessions: sessions at once; each holds one connection to a target.
        max_sessions_per_subject: so that one agent cannot take all of them.
    """

    login_timeout_s: float = 10.0
    max_sessions: int = 500
    max_sessions_per_subject: int = 100


class CancelKeys:
    """The cancel keys this gateway gave out. A CancelRequest carries no identity, so the keys are long and random."""

    def __init__(self) -> None:
        self._keys: dict[int, tuple[bytes, PostgresSession]] = {}

    def add(self, session: PostgresSession, minor: int) -> tuple[int, bytes]:
        """A fresh pair of process id and secret for a session: 4 bytes before protocol 3.2, 32 from then on."""
        while (process_id := secrets.randbelow(2**31 - 1) + 1) in self._keys:
            pass
        secret = secrets.token_bytes(32 if minor >= 2 else 4)  # noqa: PLR2004 - protocol 3.2
        self._keys[process_id] = (secret, session)
        return process_id, secret

    def remove(self, process_id: int) -> None:
        """Forget a session's pair."""
        self._keys.pop(process_id, None)

    def find(self, process_id: int, secret: bytes) -> PostgresSession | None:
        """The session of exactly this pair."""
        known = self._keys.get(process_id)
        return known[1] if known is not None and hmac.compare_digest(known[0], secret) else None


class PostgresHost:
    """Serves agents on one listener.

    Args:
        verify: the subject of a token; raises IdentityError.
        connections: by the database name agents ask for.
        tls: the listener's certificate; None only on a loopback address.
        loans: where sessions are lent that need nobody; None to keep them all here.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        verify: Verify,
        connections: Mapping[str, PostgresConnection],
        tls: ServerTls | None,
        masking: CellMasking,
        limits: HostLimits,
        session_limits: SessionLimits,
        loans: Loans | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._loans = loans
        self._verify = verify
        self._connections = connections
        self._tls = tls
        self._masking = masking
        self._budgets = Budgets()
        self._memory = MemoryReturn(find_trim())
        self._limits = limits
        self._session_limits = {
            asked: replace(session_limits, record_limit_bytes=connection.record_limit_bytes)
            for asked, connection in connections.items()
        }
        self._keys = CancelKeys()
        self._sessions: set[PostgresSession] = set()
        self._subjects: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._is_stopping = False

    @property
    def session_count(self) -> int:
        """Sessions open now."""
        return len(self._sessions)

    def count(self) -> Mapping[str, int]:
        """Sessions now, and what all sessions since the start amounted to: actions, refused, rows, bytes, logins refused, loans."""
        totals = self._totals.copy()
        for session in self._sessions:
            totals.update({f"{name}_total": value for name, value in session.counters.items()})
        return {"sessions": len(self._sessions), **totals, **({} if self._loans is None else self._loans.count())}

    async def serve(self, wire: Wire, is_tls: bool) -> None:
        """One accepted connection, from its first byte to its end."""
        try:
            try:
                await self._serve(wire, is_tls)
            except _RefusedLogin as refused:
                await self._refuse(wire, refused)
        except EvidenceUnavailableError as error:
            logger.error("a login is refused: %s", error)  # noqa: TRY400 - the cause is in the message
            what = "nobody is let in, because no record can be made durable"
            _say(wire, enforce.refuse_login("58030", what, fix="tell the gateway's operators to check the evidence store"))

    def stop(self) -> None:
        """Let in nobody more, and end each session as soon as its statement is done."""
        self._is_stopping = True
        for session in list(self._sessions):
            session.stop()

    # --- start-up

    async def _serve(self, wire: Wire, is_tls: bool) -> None:
        try:
            async with asyncio.timeout(self._limits.login_timeout_s):
                startup = await self._start(wire, is_tls)
                if startup is None:
                    return
                self._check_room()
                subject = await self._authenticate(wire, startup)
                wire.is_admitted = True
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or not wire.is_crowded_out:
                raise
            task.uncancel()
            raise _RefusedLogin(
                enforce.TOO_MANY, "others wait to log in", why="this login took the longest", fix="try again"
            ) from error
        except TimeoutError as error:
            what, fix = "the login took too long", "send the token at once, as the password (PGPASSWORD)"
            raise _RefusedLogin(enforce.WRONG_TOKEN, what, fix=fix) from error
        except (ConnectionResetError, OSError):
            return  # the client left, or broke off the TLS handshake
        connection = self._find_connection(startup, subject)
        self._check_room()  # others may have logged in meanwhile
        self._subjects[subject.id] += 1
        try:
            await self._open_session(wire, startup, subject, connection)
        finally:
            self._subjects[subject.id] -= 1
            if not self._subjects[subject.id]:
                del self._subjects[subject.id]

    async def _start(self, wire: Wire, is_tls: bool) -> Startup | None:
        """Up to the StartupMessage; None when the connection was for a cancellation, or the client left."""
        if is_tls and (wire.tls is None or wire.tls.alpn != POSTGRES_ALPN):
            return None  # TLS without the protocol's name could be a browser tricked into sending a request
        data = b""
        for _ in range(MAX_PREAMBLES):
            event, data = await _read_startup(wire, data)
            match event.get("kind"):
                case None:
                    return None
                case "ssl" if self._tls is not None and wire.tls is None:
                    if data:
                        raise _RefusedLogin("08P01", "bytes before the TLS handshake", why="they could be an intruder's")
                    wire.write(b"S")
                    await wire.start_tls(self._tls.context().accept())
                case "ssl" | "gssenc":
                    wire.write(b"N")
                case "cancel":
                    await self._cancel(int(event["pid"]), bytes(event["secret"]))
                    return None
                case _:
                    return self._check_startup(wire, event)
        raise _RefusedLogin("08P01", "too many requests before the start-up message")

    def _check_startup(self, wire: Wire, event: Mapping[str, Any]) -> Startup:
        if self._tls is not None and wire.tls is None:
            what, fix = "this listener speaks TLS only", "set sslmode=verify-full (PGSSLMODE) and try again"
            raise _RefusedLogin(enforce.NO_TLS, what, why="the token would cross the network in clear", fix=fix)
        try:
            startup = check_startup(int(event["major"]), int(event["minor"]), event["params"])
        except LoginRefusedError as error:
            raise _RefusedLogin(error.sqlstate, error.what, why=error.why, fix=error.fix) from error
        if startup.must_negotiate:
            wire.write(encode_negotiate(startup.minor, list(startup.unknown)))
        return startup

    async def _cancel(self, process_id: int, secret: bytes) -> None:
        session = self._keys.find(process_id, secret)
        if session is not None:
            await session.cancel()

    def _check_room(self) -> None:
        if self._is_stopping:
            raise _RefusedLogin(enforce.SHUTDOWN, "the gateway is shutting down", fix="connect again")
        if self._subjects.total() >= self._limits.max_sessions:
            why = f"limits.max_sessions is {self._limits.max_sessions}"
            raise _RefusedLogin(enforce.TOO_MANY, "too many sessions", why=why, fix="try again when others have ended")

    # --- who, and where to

    async def _authenticate(self, wire: Wire, startup: Startup) -> Subject:
        wire.write(encode_message("R", PASSWORD_REQUEST))
        reader = FrameReader(MAX_TOKEN_BYTES)
        frame = None
        while frame is None:
            data = await wire.read()
            if not data:
                raise ConnectionResetError("the client left before it sent a token")
            try:
                reader.receive(data)
                frame = reader.next()
            except ProtocolViolation as error:
                raise _RefusedLogin("08P01", "the password message cannot be read", why=str(error)) from error
        try:
            if frame[0] != "p" or reader.take_rest():
                raise _RefusedLogin("08P01", "a password message was expected", connection=startup.database)
            return await self._verify(read_token(frame[1]))
        except LoginRefusedError as error:
            raise _RefusedLogin(error.sqlstate, error.what, error.why, error.fix, connection=startup.database) from error
        except IdentityError as error:
            what = f"not logged in: {error.what}"
            fix = error.fix or "get a new access token from the identity provider"
            raise _RefusedLogin(enforce.WRONG_TOKEN, what, error.why, fix, connection=startup.database) from error

    def _find_connection(self, startup: Startup, subject: Subject) -> PostgresConnection:
        connection = self._connections.get(startup.database)
        if connection is not None and connection.admits(subject.groups):
            if self._subjects[subject.id] >= self._limits.max_sessions_per_subject:
                why = f"limits.max_sessions_per_subject is {self._limits.max_sessions_per_subject}"
                raise _RefusedLogin(
                    enforce.TOO_MANY, "too many sessions of this subject", why, "close some", connection.name, subject
                )
            return connection
        # The same words whether it does not exist or is not open to this subject: names of systems are not for everyone.
        usable = sorted({item.name for item in self._connections.values() if item.admits(subject.groups)})
        fix = f"use one of: {', '.join(usable)}" if usable else "ask the gateway's operators for access to a connection"
        what = f'no connection "{startup.database[:64]}" is open to you'
        raise _RefusedLogin(
            enforce.UNKNOWN_DATABASE, what, "the database name picks the connection", fix, startup.database, subject
        )

    # --- hand-over

    async def _open_session(self, wire: Wire, startup: Startup, subject: Subject, connection: PostgresConnection) -> None:
        path = startup.settings.get("search_path")
        try:
            questions = connection.paths.acquire(path)
        except LimitExceededError as error:
            raise _RefusedLogin(enforce.TOO_MANY, error.what, error.why, error.fix, connection.name, subject) from error
        try:
            await self._open_with(wire, startup, subject, connection, questions)
        finally:
            connection.paths.release(path)

    async def _open_with(
        self, wire: Wire, startup: Startup, subject: Subject, connection: PostgresConnection, questions: Questions
    ) -> None:
        session = await self._pipeline.open_session(
            subject=subject, settings=connection.session, protocol="postgres", client_ip=wire.peer_ip
        )
        upstream, fixed = await self._log_in(startup, subject, connection, session, questions.catalog)
        doors: list[PostgresDoor] = []

        def make_door(may_hold: Callable[[], bool]) -> PostgresDoor:
            path = startup.settings.get("search_path")
            doors.append(PostgresDoor(connection.sql, questions.catalog, may_hold, questions.previews, path, fixed.keys()))
            doors[0].values.begin(upstream.parameters, startup.settings)
            return doors[0]

        carried = PostgresSession(
            client=wire,
            upstream=upstream,
            session=session,
            make_door=make_door,
            catalog=questions.catalog,
            masking=self._masking,
            budget=self._budgets.open(session.subject),
            memory=self._memory,
            loans=self._loans,
            limits=self._session_limits[startup.database],
        )
        try:
            await self._carry(wire, startup, session, carried, upstream)
        finally:
            doors[0].close()

    async def _log_in(
        self, startup: Startup, subject: Subject, connection: PostgresConnection, session: PipelineSession, catalog: CatalogCache
    ) -> tuple[Upstream, Mapping[str, str]]:
        """The session's own connection to the target, and what is fixed in it."""
        name = f"{APPLICATION_NAME} {session.id}"[:63]
        try:
            fixed = await connection.fixed.choose(
                catalog, partial(session.record_lookup, CATALOG, {"reason": "a session begins"})
            )
            settings = {**startup.settings, **fixed, **PINNED_SETTINGS, "application_name": name}
            upstream = await open_upstream(connection.target, connection.credential, settings)
            await connection.fixed.check(upstream, fixed)
        except (TargetError, ProtocolError) as error:
            await session.close("the target is not available")
            what, fix = "the target of this connection is not available", "tell the operators the decision id, or try again later"
            recorded = f"{error.what}: {error.why}"
            raise _RefusedLogin(
                enforce.TARGET_DOWN, what, error.what, fix, connection.name, subject, code=TARGET_UNAVAILABLE, recorded=recorded
            ) from error
        return upstream, fixed

    async def _carry(
        self, wire: Wire, startup: Startup, session: PipelineSession, carried: PostgresSession, upstream: Upstream
    ) -> None:
        process_id, secret = self._keys.add(carried, startup.minor)
        carried.show_process(process_id)
        self._sessions.add(carried)
        try:
            await session.release_replies()
            wire.write(_greet(startup, upstream.parameters, process_id, secret))
            upstream.parameters = {}  # nobody asks again, and they are a kilobyte or two for as long as the session lives
            reason = await carried.run()
            logger.debug("session %s ended: %s", session.id, reason)
        finally:
            self._keys.remove(process_id)
            self._sessions.discard(carried)
            self._totals.update({f"{name}_total": value for name, value in carried.counters.items()})

    async def _refuse(self, wire: Wire, refused: _RefusedLogin) -> None:
        self._totals["logins_refused_total"] += 1
        decision_id = await self._pipeline.record_refused_login(
            protocol="postgres",
            client_ip=wire.peer_ip,
            code=refused.code,
            why=refused.recorded,
            connection=refused.connection,
            subject=refused.subject,
        )
        if refused.code == TARGET_UNAVAILABLE:
            why = neutralise(refused.recorded).replace("\n", " ")  # some of it came from the target or a program
            logger.warning("connection %s: %s (decision %s)", refused.connection, why, decision_id)
        _say(
            wire, enforce.refuse_login(refused.sqlstate, refused.what, why=refused.why, fix=refused.fix, decision_id=decision_id)
        )


class _RefusedLogin(Exception):  # noqa: N818 - carries the refusal to the one place that records and sends it
    """A login that is not let in. `recorded` is for the record only; the agent sees `what`, `why` and `fix`."""

    def __init__(
        self,
        sqlstate: str,
        what: str,
        why: str = "",
        fix: str = "",
        connection: str | None = None,
        subject: Subject | None = None,
        *,
        code: str = "login.refused",
        recorded: str = "",
    ) -> None:
        super().__init__(what)
        self.sqlstate = sqlstate
        self.what = what
        self.why = why
        self.fix = fix
        self.connection = connection
        self.subject = subject
        self.code = code
        self.recorded = recorded or what


async def _read_startup(wire: Wire, data: bytes) -> tuple[Mapping[str, Any], bytes]:
    """The next start-up packet and what followed it; an empty event once the client left."""
    while True:
        try:
            parsed = parse_startup(data, MAX_STARTUP_BYTES)
        except ProtocolViolation as error:
            raise _RefusedLogin("08P01", "the start-up message cannot be read", why=str(error)) from error
        if parsed is not None:
            event, consumed = parsed
            return event, data[consumed:]
        more = await wire.read()
        if not more:
            return {}, b""
        data += more


def _greet(startup: Startup, parameters: Mapping[str, str], process_id: int, secret: bytes) -> bytes:
    """What a client is told once it is in."""
    # The role the gateway logged in with is its own business; the agent's own name stands in for it.
    shown = {**parameters, "session_authorization": startup.user}
    statuses = b"".join(encode_parameter_status(name, value) for name, value in shown.items())
    return encode_message("R", AUTHENTICATION_OK) + statuses + encode_backend_key(process_id, secret) + encode_ready("I")


def _say(wire: Wire, fields: Mapping[str, str]) -> None:
    wire.write(encode_error(dict(fields)))
