"""The SSH listener: who a client is, which target it asks for, and the hand-over to a session.

Two ways in. `ssh -J gateway target`: the client asks its first hop for a TCP connection to the target, and an inner SSH server answers on
that channel with a host certificate for the asked name, so everything inside is seen. `ssh user%target@gateway`: one connection.
In both, a certificate or a token says who the subject is; a login name never does.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import asyncssh
from asyncssh.connection import SSHServerConnectionOptions

from gateway.action import Subject
from gateway.errors import EvidenceUnavailableError
from gateway.pipeline import Pipeline
from gateway.protocols.ssh import enforce
from gateway.serve.cell_masking import CellMasking
from gateway.serve.ssh.conversation import SshConnection
from gateway.serve.ssh.keys import HostKeys, UserAuthority
from gateway.serve.ssh.servers import HostLimits, InnerServer, OuterServer, Verify
from gateway.serve.ssh.session import TargetSession
from gateway.serve.ssh.upstream import TargetPool
from gateway.serve.ssh.wire import AgentConnection, OpenError, make_options

logger = logging.getLogger(__name__)

MAX_SHOWN_NAME: Final = 64

MAX_IDLE_CHECK_S: Final = 30.0
"""How often idle connections are looked for, at least."""

RENEW_S: Final = 1_200.0
"""How often the gateway's own host certificate is made again; it lasts an hour."""


class SshHost:
    """Serves agents on one listener.

    Args:
        verify: the subject of a token; raises IdentityError.
        connections: by the host name agents ask for.
        names: host names of the gateway itself.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        verify: Verify,
        connections: Mapping[str, SshConnection],
        pool: TargetPool,
        keys: HostKeys,
        users: UserAuthority,
        names: tuple[str, ...],
        masking: CellMasking,
        limits: HostLimits,
    ) -> None:
        self.pipeline = pipeline
        self.verify = verify
        self.limits = limits
        self._connections = connections
        self._pool = pool
        self._keys = keys
        self._users = users
        self._names = names
        self._masking = masking
        self._outer_options: SSHServerConnectionOptions | None = None
        self._outer: set[AgentConnection] = set()
        self._unproven: set[AgentConnection] = set()
        self._sessions: dict[TargetSession, AgentConnection] = {}
        self._deadlines: dict[TargetSession, asyncio.TimerHandle] = {}
        self._subjects: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_stopping = False

    async def prepare(self) -> None:
        """Make what every connection shares; to be called again before the host certificate in it ends."""
        self._outer_options = await make_options(lambda: OuterServer(self), self._keys.certify(self._names), **self._settings())

    async def keep_prepared(self) -> None:
        """Make it again in time, for ever."""
        while True:
            await asyncio.sleep(RENEW_S)
            await self.prepare()

    async def end_idle(self) -> None:
        """Hang up on connections in which nothing has run for too long, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(self.limits.idle_timeout_s / 4, MAX_IDLE_CHECK_S))
            active = {wire for session, wire in self._sessions.items() if session.running_tasks()}
            for wire in list(self._outer - self._unproven):
                if wire in active:
                    wire.active_at = loop.time()
                elif loop.time() - wire.active_at >= self.limits.idle_timeout_s:
                    wire.disconnect(
                        asyncssh.DISC_BY_APPLICATION, "nothing ran for too long (limits.idle_timeout_s); connect again"
                    )

    def accept(self) -> asyncio.Protocol:
        """The protocol of a new TCP connection."""
        if self._outer_options is None:
            raise RuntimeError("the host is not prepared")
        most = self.limits.max_pending
        if self._is_stopping or len(self._unproven) >= most or len(self._outer) >= most + self.limits.max_sessions:
            return _Refused()
        wire = AgentConnection(asyncio.get_running_loop(), self._outer_options, prove=self._users.prove)
        self._outer.add(wire)
        self._unproven.add(wire)
        return wire

    def note_proven(self, wire: AgentConnection) -> None:
        """A client proved who it is."""
        self._unproven.discard(wire)

    def _settings(self) -> dict[str, Any]:
        limits = self.limits
        return {
            "login_timeout": limits.login_timeout_s,
            "rekey_bytes": limits.rekey_bytes,
            "keepalive_interval": limits.keepalive_s,
            "keepalive_count_max": 3,
        }

    # --- sessions

    def find(self, asked: str, subject: Subject) -> SshConnection:
        """The connection a host name leads to. Raises OpenError with the same words for one that is unknown and one that is closed to the subject."""
        connection = self._connections.get(asked.lower().rstrip("."))
        if connection is not None and connection.admits(subject.groups):
            return connection
        usable = sorted({host for host, item in self._connections.items() if item.admits(subject.groups)})
        hint = f"use one of: {', '.join(usable)}" if usable else "ask the gateway's operators for access"
        raise OpenError(enforce.clean(f'no host "{asked[:MAX_SHOWN_NAME]}" is open to you; {hint}'))

    async def open_session(self, connection: SshConnection, subject: Subject, asked: str, wire: AgentConnection) -> TargetSession:
        """A session with its record begun. Raises OpenError, EvidenceUnavailableError."""
        limits = self.limits
        if self._is_stopping:
            raise OpenError("the gateway is shutting down; connect again")
        if len(self._sessions) >= limits.max_sessions or self._subjects[subject.id] >= limits.max_sessions_per_subject:
            raise OpenError("too many sessions; close some and try again")
        session = TargetSession(
            pipeline=self.pipeline,
            pool=self._pool,
            masking=self._masking,
            connection=connection,
            subject=subject,
            asked=asked,
            client_ip=wire.peer_ip,
        )
        await session.open()
        self._sessions[session] = wire
        self._subjects[subject.id] += 1
        self._totals["sessions_total"] += 1
        self._deadlines[session] = asyncio.get_running_loop().call_later(limits.max_session_s, self._end_overdue, session)
        return session

    def end_session(self, session: TargetSession, reason: str) -> None:
        """The client's connection of a session is gone."""
        if self._sessions.pop(session, None) is None:
            return
        self._deadlines.pop(session).cancel()
        self._subjects[session.subject.id] -= 1
        if self._subjects[session.subject.id] <= 0:
            del self._subjects[session.subject.id]
        self.spawn(session.close(reason))

    def _end_overdue(self, session: TargetSession) -> None:
        wire = self._sessions.get(session)
        if wire is not None:
            wire.disconnect(asyncssh.DISC_BY_APPLICATION, "the session lasted too long (limits.max_session_s); connect again")

    async def make_inner(self, session: TargetSession, asked: str) -> AgentConnection:
        """The server that answers on the channel of a jump."""
        options = await make_options(lambda: InnerServer(self, session), self._keys.certify((asked,)), **self._settings())
        return AgentConnection(asyncio.get_running_loop(), options)

    async def record_refused(
        self, wire: AgentConnection, code: str, why: str, *, connection: str | None = None, subject: Subject | None = None
    ) -> str:
        """Record an attempt that never became a session; the decision id to show, or a word that says there is none."""
        self._totals["logins_refused_total"] += 1
        try:
            return await self.pipeline.record_refused_login(
                protocol="ssh", client_ip=wire.peer_ip, code=code, why=why, connection=connection, subject=subject
            )
        except EvidenceUnavailableError as error:
            logger.error("a refused login cannot be recorded: %s", error)  # noqa: TRY400 - the cause is in the message
            return "not recorded"

    def spawn(self, work: Any) -> None:
        """Run something to its end beside the connections."""
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, wire: AgentConnection) -> None:
        """A client's connection is gone."""
        self._outer.discard(wire)
        self._unproven.discard(wire)

    # --- for the gateway

    @property
    def session_count(self) -> int:
        """Sessions open now."""
        return len(self._sessions)

    def count(self) -> Mapping[str, float]:
        """Sessions and connections now, and totals since the start."""
        now = {"sessions": len(self._sessions), "connections": len(self._outer), "target_logins": self._pool.login_count}
        return {**now, "logins_refused_total": 0, "sessions_total": 0, **self._totals}

    async def stop(self, grace_s: float) -> None:
        """Let running commands finish for a while, then end every connection and record every end."""
        self._is_stopping = True
        running = [task for session in self._sessions for task in session.running_tasks()]
        if running and grace_s > 0:
            await asyncio.wait(running, timeout=grace_s)
        for session in list(self._sessions):
            self.end_session(session, "the gateway stopped")
        for wire in list(self._outer):
            wire.disconnect(asyncssh.DISC_BY_APPLICATION, "the gateway is shutting down")
        self._pool.close()
        while self._tasks:
            # Not gather: for tasks that have ended already it returns without giving the loop a turn, and they would stay in the set.
            await asyncio.wait(self._tasks)


class _Refused(asyncio.Protocol):
    """A connection beyond the bound: closed before it is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
