"""The gateway's own connections to a PostgreSQL server: dial, encrypt, log in with the stored credential, cancel.

The credential is asked for at every new connection, so a rotated password works without a restart. What goes wrong is a TargetError
whose `why` is for the record and the operators only; an agent never learns the user, the password or the address.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sealgate_native.postgres import FrameReader, ProtocolViolation, encode_message, encode_startup
from sealgate_native.tls import Channel, TlsError

from gateway.errors import TargetError
from gateway.protocols.postgres.login import UpstreamLogin, hash_certificate
from gateway.serve.listeners import Wire
from gateway.serve.tls import TlsMode, client_context

SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)
CANCEL_REQUEST_CODE: Final = 80877102

MAX_LOGIN_MESSAGE_BYTES: Final = 65_536
"""Longest message of a login: parameters and errors are a few hundred bytes."""

CANCEL_TIMEOUT_S: Final = 5.0
"""How long a cancellation may take: the server answers by closing, at once."""

Credential = Callable[[], Awaitable[tuple[str, str]]]
"""Gives (user, password), asked at every new connection."""


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """Where a server is and how to speak to it.

    Attributes:
        socket_dir: directory of the server's Unix socket; where set, `host` and TLS do not apply.
        database: the server's own database name, which need not be what agents ask for.
        own_certificate: PEM files of the certificate and key the gateway shows, where the server asks for one.
        login_methods: accepted ways to log in, see `UpstreamLogin`.
        connect_timeout_s: for the whole of dialling, TLS and login.
    """

    host: str
    port: int
    database: str
    socket_dir: Path | None = None
    tls_mode: TlsMode = "verify-full"
    ca_file: Path | None = None
    own_certificate: tuple[Path, Path] | None = None
    login_methods: frozenset[str] = frozenset({"scram-sha-256", "trust"})
    connect_timeout_s: float = 10.0


@dataclass(slots=True)
class Upstream:
    """One logged-in connection to a server.

    Attributes:
        parameters: what the server reported at login.
        key: process id and secret for a cancellation.
        rest: bytes that followed the first ReadyForQuery.
        mechanism: how the password proved the login, such as "SCRAM-SHA-256-PLUS"; empty where the server asked for none.
    """

    wire: Wire
    target: PostgresTarget
    parameters: Mapping[str, str] = field(default_factory=dict)
    key: tuple[int, bytes] | None = None
    rest: bytes = b""
    mechanism: str = ""

    async def cancel(self) -> None:
        """Ask the server to cancel what this connection runs (53.2.8): a new connection with the real key. Best effort."""
        if self.key is None:
            return
        process_id, secret = self.key
        with contextlib.suppress(TargetError, OSError, TimeoutError):
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                wire = await dial(self.target)
                try:
                    wire.write(struct.pack("!iii", 12 + len(secret), CANCEL_REQUEST_CODE, process_id) + secret)
                    while await wire.read():
                        pass
                finally:
                    wire.close()

    def say_goodbye(self) -> None:
        """Ask the server to close, once it is done with what it was sent before."""
        self.wire.write(encode_message("X", b""))

    def close(self) -> None:
        """Say good-bye and close."""
        self.say_goodbye()
        self.wire.close()


async def open_upstream(target: PostgresTarget, credential: Credential, settings: Mapping[str, str]) -> Upstream:
    """A logged-in connection with these start-up settings.

    Raises:
        TargetError: the server cannot be reached, is not who it should be, or refuses the login.
    """
    user, password = await credential()
    try:
        async with asyncio.timeout(target.connect_timeout_s):
            wire = await dial(target)
            try:
                return await _log_in(wire, target, user, password, settings)
            except BaseException:
                wire.abort()
                raise
    except TimeoutError as error:
        raise TargetError("the target did not answer in time", why=f"no login within {target.connect_timeout_s:g} s") from error
    except OSError as error:
        raise TargetError("the target cannot be reached", why=str(error)) from error


async def dial(target: PostgresTarget) -> Wire:
    """A connection to the server, encrypted as configured, before any login. Raises TargetError or OSError."""
    loop = asyncio.get_running_loop()
    if target.socket_dir is not None:
        _, wire = await loop.create_unix_connection(Wire, str(target.socket_dir / f".s.PGSQL.{target.port}"))
        return wire
    context = client_context(target.tls_mode, target.ca_file, target.own_certificate)
    _, wire = await loop.create_connection(Wire, target.host, target.port)
    if context is not None:
        try:
            await _encrypt(wire, context.connect(target.host))
        except BaseException:
            wire.abort()
            raise
    return wire


async def _encrypt(wire: Wire, channel: Channel) -> None:
    wire.write(SSL_REQUEST)
    answer = await wire.read()
    # Anything after the one byte was sent before encryption and could be an intruder's: only exactly "S" goes on.
    if answer != b"S":
        raise TargetError("the target does not offer TLS", why=f"it answered the TLS request with {answer[:1]!r}")
    try:
        await wire.start_tls(channel)
    except TlsError as error:
        raise TargetError("the target's certificate is not accepted", why=str(error)) from error


async def _log_in(wire: Wire, target: PostgresTarget, user: str, password: str, settings: Mapping[str, str]) -> Upstream:
    login = UpstreamLogin(
        user=user,
        password=password,
        nonce=secrets.token_urlsafe(18),
        certificate_hash=_bind(wire),
        methods=target.login_methods,
    )
    wire.write(encode_startup({"user": user, "database": target.database, **settings}))
    reader = FrameReader(MAX_LOGIN_MESSAGE_BYTES)
    while not login.is_ready:
        data = await wire.read()
        if not data:
            raise TargetError("the target ended the login", why="it closed the connection")
        try:
            reader.receive(data)
            while not login.is_ready and (frame := reader.next()) is not None:
                answer = login.receive(*frame)
                if answer:
                    wire.write(answer)
        except ProtocolViolation as error:
            raise TargetError("the target does not speak PostgreSQL", why=str(error)) from error
    return Upstream(wire, target, login.parameters, login.key, reader.take_rest(), login.mechanism)


def _bind(wire: Wire) -> bytes | None:
    certificate = None if wire.tls is None else wire.tls.peer_certificate
    return None if certificate is None else hash_certificate(certificate)
