"""The SSH listener: who a client is, which target it asks for, and the hand-over to a session.

Two ways in. `ssh -J gateway target`: the client asks its first hop for a TCP connection to the target, and an inner SSH server answers on
that channel with a host certificate for the asked name, so everything inside is seen. `ssh user%target@gateway`: one connection.
In both, a certificate or a token says who the subject is; a login name never does.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncssh
from asyncssh.connection import SSHServerConnectionOptions

from gateway.action import Subject
from gateway.errors import EvidenceUnavailableError, IdentityError
from gateway.identity import check_live
from gateway.pipeline import Pipeline
from gateway.protocols.ssh import enforce
from gateway.serve.cell_masking import CellMasking
from gateway.serve.ssh_channel import AgentChannel
from gateway.serve.ssh_conversation import SshConnection
from gateway.serve.ssh_keys import HostKeys, UserAuthority
from gateway.serve.ssh_session import TargetSession
from gateway.serve.ssh_upstream import TargetPool
from gateway.serve.ssh_wire import AgentConnection, OpenError, make_options

logger = logging.getLogger(__name__)

SEPARATOR: Final = "%"
"""Between user and target in a login name; neither may hold it."""

SSH_PORT: Final = 22
"""The port `ssh -J` asks for unless told otherwise."""

MAX_SHOWN_NAME: Final = 64

RENEW_S: Final = 1_200.0
"""How often the gateway's own host certificate is made again; it lasts an hour."""

Verify = Callable[[str], Awaitable[Subject]]


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Bounds of the listener.

    Attributes:
        login_timeout_s: from connecting to a proven identity.
        max_pending: connections without a proven identity at once.
    """

    login_timeout_s: float
    max_sessions: int
    max_sessions_per_subject: int
    max_session_s: float
    max_auth_tries: int
    max_channels: int
    rekey_bytes: int
    keepalive_s: float
    max_pending: int = 256


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

    def accept(self) -> asyncio.Protocol:
        """The protocol of a new TCP connection."""
        if self._outer_options is None:
            raise RuntimeError("the host is not prepared")
        if self._is_stopping or len(self._unproven) >= self.limits.max_pending:
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
        asyncio.get_running_loop().call_later(limits.max_session_s, self._end_overdue, session)
        return session

    def end_session(self, session: TargetSession, reason: str) -> None:
        """The client's connection of a session is gone."""
        if self._sessions.pop(session, None) is None:
            return
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
            await asyncio.gather(*self._tasks, return_exceptions=True)


class _Refused(asyncio.Protocol):
    """A connection beyond the bound: closed before it is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class OuterServer(asyncssh.SSHServer):
    """The first hop: proves the subject, then opens jumps, or is the session itself for `user%target`."""

    def __init__(self, host: SshHost) -> None:
        self._host = host
        self._tries = 0
        self._channels = 0
        self._username = ""
        self._session: TargetSession | None = None
        self._opening: asyncio.Lock = asyncio.Lock()
        self._refused_proofs: set[str] = set()
        self.subject: Subject | None = None
        self.wire: AgentConnection | None = None

    def connection_made(self, conn: Any) -> None:
        """The client connected."""
        self.wire = conn

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        wire, host = self._wire(), self._host
        host.forget(wire)
        if self._session is not None:
            host.end_session(self._session, "the client left")
        if self.subject is None:
            why = f"the client proved no identity ({type(exc).__name__})" if exc else "the client left before it proved who it is"
            host.spawn(host.record_refused(wire, "login.refused", why))

    # --- who

    def begin_auth(self, username: str) -> bool:
        """Always: nobody is let in for a name."""
        self._username = username
        if not self._wire().has_strict_kex:
            raise asyncssh.ProtocolError("strict key exchange is required: update the SSH client (CVE-2023-48795)")
        return True

    def password_auth_supported(self) -> bool:
        """The token, as password or in answer to a prompt."""
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        """Whether the token proves a subject."""
        del username  # free text
        try:
            self.accept(await self._host.verify(password))
        except IdentityError as error:
            self.note_refused_proof(error)
            return False
        return True

    def accept(self, subject: Subject) -> None:
        """A proof of identity was good."""
        self.subject = subject
        self._host.note_proven(self._wire())

    def note_refused_proof(self, error: IdentityError) -> None:
        """A proof of identity was not good: say why, once for each reason, and hang up after too many."""
        self._tries += 1
        wire = self._wire()
        if error.what not in self._refused_proofs:
            self._refused_proofs.add(error.what)
            text = f"sealgate: {error.what}{': ' + error.why if error.why else ''}{'; ' + error.fix if error.fix else ''}"
            wire.send_auth_banner(f"{enforce.clean(text)}\r\n")
        if self._tries >= self._host.limits.max_auth_tries:
            raise asyncssh.PermissionDenied("too many failed proofs of identity")

    # --- where to

    def session_requested(self) -> Any:
        """A session on the gateway itself: the target is in the login name, or there is none."""
        self._count_channel()
        return self._wire().create_server_channel(), self._open_login_channel()

    async def _open_login_channel(self) -> AgentChannel:
        subject = await self._require_live()
        user, separator, asked = self._username.rpartition(SEPARATOR)
        if not separator:
            text = "this is a jump host: use `ssh -J GATEWAY TARGET`, or `ssh USER%TARGET@GATEWAY`"
            raise await self._refuse("ssh.no_target", text, subject=subject)
        async with self._opening:
            if self._session is None:
                self._session = await self._open(asked, subject, user)
        return self._session.make_channel()

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:
        """`ssh -J` and `ssh -W` ask for this; only a registered SSH host is answered, and never with a blind tunnel."""
        del orig_host, orig_port  # whatever the client says of itself
        self._count_channel()
        return self._jump(dest_host, dest_port)

    async def _jump(self, asked: str, port: int) -> Any:
        subject = await self._require_live()
        connection = await self._find(asked, subject)
        if port not in {SSH_PORT, connection.endpoint.port}:
            text = (
                f"port {port} of {asked} is not SSH; other protocols have listeners of their own, and nothing is forwarded unseen"
            )
            raise await self._refuse("ssh.forward", text, connection=connection.name, subject=subject)
        session = await self._start(connection, asked, subject)
        return await self._host.make_inner(session, asked)

    async def _open(self, asked: str, subject: Subject, user: str) -> TargetSession:
        connection = await self._find(asked, subject)
        problem = check_user(connection, user)
        if problem is not None:
            raise await self._refuse("ssh.user", problem, connection=connection.name, subject=subject)
        return await self._start(connection, asked, subject)

    async def _find(self, asked: str, subject: Subject) -> SshConnection:
        try:
            return self._host.find(asked, subject)
        except OpenError as error:
            raise await self._refuse("ssh.unknown_host", error.reason, connection=asked, subject=subject) from error

    async def _start(self, connection: SshConnection, asked: str, subject: Subject) -> TargetSession:
        try:
            return await self._host.open_session(connection, subject, asked, self._wire())
        except EvidenceUnavailableError as error:
            raise OpenError("nothing happens without a record, and none can be made; tell the gateway's operators") from error
        except OpenError as error:
            raise await self._refuse("ssh.no_session", error.reason, connection=connection.name, subject=subject) from error

    # --- what is never carried

    def unix_connection_requested(self, dest_path: str) -> Any:
        """A socket of the gateway itself."""
        return self._refuse_way(f"a socket cannot be reached: {dest_path}")

    async def server_requested(self, listen_host: str, listen_port: int) -> bool:
        """A port that would listen on the gateway (`ssh -R`)."""
        await self._record_way(f"a port cannot be opened: {listen_host}:{listen_port}")
        return False

    async def unix_server_requested(self, listen_path: str) -> bool:
        """A socket that would listen on the gateway."""
        await self._record_way(f"a socket cannot be opened: {listen_path}")
        return False

    def tun_requested(self, unit: int | None) -> Any:
        """A network device."""
        return self._refuse_way(f"a network tunnel cannot be opened ({unit})")

    def tap_requested(self, unit: int | None) -> Any:
        """A network device."""
        return self.tun_requested(unit)

    async def _refuse_way(self, what: str) -> Any:
        raise await self._refuse("ssh.forward", f"{what}; forwarding is not available", subject=self.subject)

    async def _record_way(self, what: str) -> None:
        await self._host.record_refused(self._wire(), "ssh.forward", enforce.clean(what), subject=self.subject)

    # --- inside

    def _wire(self) -> AgentConnection:
        if self.wire is None:
            raise RuntimeError("not connected")
        return self.wire

    def _count_channel(self) -> None:
        if self._wire().open_channels >= self._host.limits.max_channels:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "too many channels in this connection")

    async def _require_live(self) -> Subject:
        """The subject, if its proof still holds: asked for every new channel."""
        subject = self.subject
        if subject is None:
            raise OpenError("no identity was proven")
        try:
            check_live(subject, self._host.pipeline.clock_ns())
        except IdentityError as error:
            raise await self._refuse(error.code, f"{error.what}; {error.fix}", subject=subject) from error
        return subject

    async def _refuse(self, code: str, text: str, *, connection: str | None = None, subject: Subject | None = None) -> OpenError:
        decision_id = await self._host.record_refused(
            self._wire(), code, enforce.clean(text), connection=connection, subject=subject
        )
        return OpenError(enforce.clean(f"sealgate: {text} (decision {decision_id})"))


class InnerServer(asyncssh.SSHServer):
    """The second hop of `ssh -J`: the subject is proven already, every channel belongs to one target session."""

    def __init__(self, host: SshHost, session: TargetSession) -> None:
        self._host = host
        self._session = session
        self._problem: str | None = None
        self._wire: AgentConnection | None = None

    def connection_made(self, conn: Any) -> None:
        """The client began to speak on the channel."""
        self._wire = conn

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone."""
        del exc
        self._host.end_session(self._session, "the client left")

    def begin_auth(self, username: str) -> bool:
        """Nothing to prove again; the login name must only be one that leads to the account."""
        if self._wire is not None and not self._wire.has_strict_kex:
            raise asyncssh.ProtocolError("strict key exchange is required: update the SSH client (CVE-2023-48795)")
        self._problem = check_user(self._session.connection, username)
        return False

    def session_requested(self) -> Any:
        """A channel at the target."""
        if self._wire is None or self._wire.open_channels >= self._host.limits.max_channels:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "too many channels in this connection")
        return self._wire.create_server_channel(), self._open_channel(self._wire)

    async def _open_channel(self, wire: AgentConnection) -> AgentChannel:
        session, problem, code = self._session, self._problem, "ssh.user"
        try:
            check_live(session.subject, self._host.pipeline.clock_ns())
        except IdentityError as error:
            problem, code = f"{error.what}; {error.fix}", error.code
        if problem is not None:
            decision_id = await self._host.record_refused(
                wire, code, problem, connection=session.connection.name, subject=session.subject
            )
            raise OpenError(enforce.clean(f"sealgate: {problem} (decision {decision_id})"))
        return session.make_channel()

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:
        """`ssh -L`, `-D` and `-W` through the target."""
        del orig_host, orig_port
        return self._refuse_way("direct-tcpip", dest_host, dest_port)

    def unix_connection_requested(self, dest_path: str) -> Any:
        """A socket of the target."""
        return self._refuse_way("direct-streamlocal", path=dest_path)

    async def server_requested(self, listen_host: str, listen_port: int) -> bool:
        """`ssh -R`."""
        return await self._session.judge_forward("tcpip-forward", listen_host, listen_port)

    async def unix_server_requested(self, listen_path: str) -> bool:
        """`ssh -R` with a socket."""
        return await self._session.judge_forward("streamlocal-forward", path=listen_path)

    def tun_requested(self, unit: int | None) -> Any:
        """A network device."""
        del unit
        return self._refuse_way("tun")

    def tap_requested(self, unit: int | None) -> Any:
        """A network device."""
        return self.tun_requested(unit)

    async def _refuse_way(self, channel: str, host: str | None = None, port: int | None = None, path: str | None = None) -> Any:
        await self._session.judge_forward(channel, host, port, path)
        raise OpenError("sealgate: forwarding is not available; nothing passes that is not seen")


def check_user(connection: SshConnection, user: str) -> str | None:
    """What is wrong with the login name a client gave; None where it leads to the account."""
    if user in connection.users:
        return None
    users = " or ".join(connection.users)
    return f'log in to {connection.name} as {users}, not as "{user[:MAX_SHOWN_NAME]}"'
