"""The two server objects of asyncssh: the outer one proves who a client is and where it wants to go, the inner one is the target of a jump."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

import asyncssh

from gateway.action import Subject
from gateway.errors import EvidenceUnavailableError, IdentityError
from gateway.identity import check_live
from gateway.pipeline import Pipeline
from gateway.protocols.ssh import enforce
from gateway.serve.ssh.channel import AgentChannel
from gateway.serve.ssh.conversation import SshConnection
from gateway.serve.ssh.session import TargetSession
from gateway.serve.ssh.wire import AgentConnection, OpenError

SEPARATOR: Final = "%"
"""Between user and target in a login name; neither may hold it."""

SSH_PORT: Final = 22
"""The port `ssh -J` asks for unless told otherwise."""

MAX_SHOWN_NAME: Final = 64


Verify = Callable[[str], Awaitable[Subject]]


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Bounds of the listener.

    Attributes:
        login_timeout_s: from connecting to a proven identity.
        max_pending: connections without a proven identity at once.
        idle_timeout_s: how long a connection may stay without anything running in it.
    """

    login_timeout_s: float
    max_sessions: int
    max_sessions_per_subject: int
    max_session_s: float
    max_auth_tries: int
    max_channels: int
    rekey_bytes: int
    keepalive_s: float
    idle_timeout_s: float
    max_pending: int = 256


class Host(Protocol):
    """What the servers ask of the host they belong to; `gateway.serve.ssh.listener.SshHost` is it."""

    pipeline: Pipeline
    verify: Verify
    limits: HostLimits

    def find(self, asked: str, subject: Subject) -> SshConnection:
        """The connection a host name leads to. Raises OpenError."""

    async def open_session(self, connection: SshConnection, subject: Subject, asked: str, wire: AgentConnection) -> TargetSession:
        """A session with its record begun. Raises OpenError, EvidenceUnavailableError."""

    def end_session(self, session: TargetSession, reason: str) -> None:
        """The client's connection of a session is gone."""

    async def make_inner(self, session: TargetSession, asked: str) -> AgentConnection:
        """The server that answers on the channel of a jump."""

    async def record_refused(
        self, wire: AgentConnection, code: str, why: str, *, connection: str | None = None, subject: Subject | None = None
    ) -> str:
        """Record an attempt that never became a session; the decision id to show."""

    def note_proven(self, wire: AgentConnection) -> None:
        """A client proved who it is."""

    def forget(self, wire: AgentConnection) -> None:
        """A client's connection is gone."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something to its end beside the connections."""


class OuterServer(asyncssh.SSHServer):
    """The first hop: proves the subject, then opens jumps, or is the session itself for `user%target`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._tries = 0
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

    def __init__(self, host: Host, session: TargetSession) -> None:
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
