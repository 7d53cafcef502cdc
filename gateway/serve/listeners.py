"""Accepting connections, and one byte stream over TCP, TLS or a Unix socket with backpressure both ways.

`Wire` is what every host reads from and writes to. It pauses the peer when nobody reads, makes writers wait when the peer does not
read, and says through `gone` that the peer left, also while nobody is reading (a client that leaves during a wait for a reviewer).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final, cast

from sealgate_native.tls import Channel, ServerContext, TlsError

from gateway.serve.latch import Latch

logger = logging.getLogger(__name__)

READ_HIGH_BYTES: Final = 256 * 1024
"""Unread bytes at which the peer is paused: two full socket buffers, so that reading never waits for the wire."""

WRITE_HIGH_BYTES: Final = 256 * 1024
"""Unsent bytes at which writers wait: bounds memory per session when an agent reads slowly."""

TLS_HANDSHAKE_TIMEOUT_S: Final = 10.0
"""A TLS handshake is two round trips; anything slower holds a session slot for nothing."""

CLOSE_TIMEOUT_S: Final = 30.0
"""How long a peer has to take what was sent before it was closed: one that does not read would keep its descriptor for ever."""

TLS_RECORD_HANDSHAKE: Final = 0x16
"""First byte of a TLS ClientHello record (RFC 8446 5.1)."""

MAX_CONNECTIONS: Final = 1_024
"""Connections of one listener at once unless the host says otherwise; beyond it a new one is closed before it is read."""

BACKLOG: Final = 256
"""Connections the kernel keeps until accepted; bursts of agents starting together stay well below."""

Line = tuple[int, Channel | None]
"""A connection that can be lent: the socket's descriptor, to be duplicated, and the TLS channel of what passes through it."""


class Wire(asyncio.Protocol):
    """One byte stream to a peer. Read by one task at a time, written by any.

    Args:
        tls: where the stream is encrypted from its first byte; see `shake_hands`.
    """

    __slots__ = (
        "_chunks",
        "_ended",
        "_handshake",
        "_is_paused",
        "_is_reading",
        "_is_woken",
        "_reader",
        "_size",
        "_transport",
        "_writers",
        "gone",
        "is_admitted",
        "is_crowded_out",
        "is_write_paused",
        "receiver",
        "tls",
    )

    def __init__(self, tls: Channel | None = None) -> None:
        self._transport: asyncio.Transport | None = None
        self.tls = tls
        """The TLS channel of an encrypted stream; everything read and written passes through it."""
        self._handshake: asyncio.Future[None] | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._is_paused = False
        self._is_reading = False
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []
        self.is_write_paused = False
        """The peer reads more slowly than we write."""
        self.receiver: Callable[[bytes], bool] | None = None
        """Offered each arrival while a reader waits for nothing else; False where it does not take it, and then the reader gets it."""
        self._ended = False
        self._is_woken = False
        self.is_admitted = False
        """Set by the host once it knows whose connection this is: it keeps its place from then on."""
        self.is_crowded_out = False
        """The connection is ended to make room for one that came later."""
        self.gone = Latch()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop once, before anything else."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop for each arrival."""
        if self.tls is not None and not (data := self._decrypt(data)):
            return
        if self.receiver is not None and self._is_reading and not self._is_woken and not self._chunks and self.receiver(data):
            return
        self._chunks.append(data)
        self._size += len(data)
        if self._size > READ_HIGH_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> bool:
        """The peer stopped sending. No client of these protocols half-closes, so it counts as having left."""
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop once, last."""
        del exc  # reset or closed: gone either way
        self._end()

    def pause_writing(self) -> None:
        """The peer reads more slowly than we write."""
        self.is_write_paused = True

    def resume_writing(self) -> None:
        """The peer caught up."""
        self.is_write_paused = False
        self._wake_writers()

    # --- for hosts

    async def read(self) -> bytes:
        """Everything that arrived since the last call, at least one byte; b"" once the peer has left."""
        while not self._chunks and not self._ended:
            await self.wait()
        return self.take()

    async def wait(self) -> None:
        """Wait until bytes have arrived, the peer has left, or someone calls `wake`."""
        self._is_reading = True
        try:
            while not self._chunks and not self._ended and not self._is_woken:
                await self._sleep()
        finally:
            self._is_reading = False
        self._is_woken = False

    async def wait_for_wake(self) -> None:
        """Wait until someone calls `wake` or the peer has left; bytes that arrive stay where they are."""
        while not self._is_woken and not self._ended:
            await self._sleep()
        self._is_woken = False

    async def _sleep(self) -> None:
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def wake(self) -> None:
        """End the current or the next wait."""
        self._is_woken = True
        self._wake_reader()

    def take(self, max_bytes: int | None = None) -> bytes:
        """What arrived since the last call, possibly nothing; of more than `max_bytes` the rest stays for the next one."""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if max_bytes is not None and len(data) > max_bytes:
            self._chunks.append(data[max_bytes:])
            data = data[:max_bytes]
        self._size = sum(map(len, self._chunks))
        if self._is_paused and self._size <= READ_HIGH_BYTES and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    def write(self, data: bytes) -> None:
        """Queue bytes; pair with `drain`. Does nothing once the peer has left or `close` was called."""
        if self._transport is None or self._ended or self._transport.is_closing():
            return
        if self.tls is None:
            self._transport.write(data)
            return
        try:
            self._transport.write(self.tls.send(data))
        except TlsError as error:
            logger.debug("a TLS connection failed: %s", error)
            self.abort()
            self._end()

    async def drain(self) -> None:
        """Wait until the peer has caught up, or has left."""
        while self.is_write_paused and not self._ended:
            writer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._writers.append(writer)
            await writer

    async def start_tls(self, channel: Channel) -> None:
        """Encrypt from here on. Raises TlsError, another OSError or TimeoutError when the handshake fails."""
        if self._chunks:
            raise ConnectionResetError("bytes before the TLS handshake")  # they could be an intruder's
        if self._ended:
            raise ConnectionResetError("the peer left before the TLS handshake")
        self.tls = channel
        self._transmit(channel.begin())
        await self.shake_hands()

    async def shake_hands(self) -> None:
        """Wait until the peer has done its part of the TLS handshake. Raises as `start_tls`."""
        if self.tls is None or self.tls.is_open:
            return
        if self._ended:
            raise ConnectionResetError("the peer left before the TLS handshake")
        self._handshake = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(TLS_HANDSHAKE_TIMEOUT_S):
                await self._handshake
        finally:
            self._handshake = None

    def _decrypt(self, data: bytes) -> bytes:
        """Plain bytes of an arrival, none of them once TLS has failed."""
        channel = cast("Channel", self.tls)
        plain = b""
        try:
            plain = channel.receive(data)
        except TlsError as error:
            self._settle_handshake(error)
            logger.debug("a TLS connection failed: %s", error)
        self._transmit(channel.take_outgoing())
        if channel.is_open:
            self._settle_handshake(None)
        if channel.is_over:
            if plain:
                self._chunks.append(plain)
            self._end()
            self.close()
            return b""
        return plain

    def _settle_handshake(self, error: OSError | None) -> None:
        if self._handshake is None or self._handshake.done():
            return
        if error is None:
            self._handshake.set_result(None)
        else:
            self._handshake.set_exception(error)

    def _transmit(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def lend(self) -> Line | None:
        """Leave reading and writing to somebody else for a while.

        None where that cannot be, because bytes were not read or not sent.
        """
        transport = self._transport
        if transport is None or self._ended or self._chunks or transport.is_closing() or transport.get_write_buffer_size():
            return None
        if self.tls is not None and self.tls.is_holding:
            return None
        transport.pause_reading()
        lent: socket.socket = transport.get_extra_info("socket")
        return lent.fileno(), self.tls

    def take_back(self, unsent: bytes = b"") -> None:
        """Read and write here again, beginning with what whoever had it could not send any more (encrypted, where the stream is)."""
        if self._transport is not None:
            self._transport.resume_reading()
        self._transmit(unsent)
        if self.tls is not None and self.tls.is_over:
            self._end()  # nothing may ever arrive that would tell
            self.close()

    @property
    def peer_ip(self) -> str:
        """The peer's address, "local" on a Unix socket."""
        name = None if self._transport is None else self._transport.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) and name else "local"

    def close(self) -> None:
        """Send what is queued, then close; whoever does not take it in `CLOSE_TIMEOUT_S` does not get it."""
        if self._transport is None or self._transport.is_closing():
            return
        if self.tls is not None:
            self._transmit(self.tls.end())
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)
        self._transport.close()

    def abort(self) -> None:
        """Close at once, dropping what is queued."""
        if self._transport is not None:
            self._transport.abort()

    def _end(self) -> None:
        self._ended = True
        self.gone.set()
        self._settle_handshake(ConnectionResetError("the peer left during the TLS handshake"))
        self._wake_reader()
        self._wake_writers()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake_writers(self) -> None:
        writers, self._writers = self._writers, []
        for writer in writers:
            if not writer.done():
                writer.set_result(None)


class Listener:
    """One bound address. Hands each accepted connection to `serve` in its own task.

    Where there is no room for one more, the oldest that nobody has admitted makes room (its task is cancelled): peers that connect and
    say nothing keep others out for as long as they like otherwise.

    Args:
        serve: gets the connected stream; `is_tls` tells that the client began with TLS at once.
        tls: gives what clients are accepted with that begin with TLS at once; None where that is not offered.
        first_byte_timeout_s: how long a client may stay silent before its first byte.
        max_connections: at once, those that have not logged in included.
    """

    def __init__(
        self,
        serve: Callable[[Wire, bool], Awaitable[None]],
        *,
        tls: Callable[[], ServerContext] | None = None,
        first_byte_timeout_s: float = 10.0,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._serve = serve
        self._tls = tls
        self._first_byte_timeout_s = first_byte_timeout_s
        self._max_connections = max_connections
        self._sockets: list[socket.socket] = []
        self._acceptors: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers: dict[asyncio.Task[None], Wire | None] = {}
        self.address: tuple[str, int] = ("", 0)

    async def start(self, bind: str, port: int) -> None:
        """Bind and begin to accept; port 0 lets the kernel choose, `address` tells. Raises OSError when it is taken."""
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = infos[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
        name = listening.getsockname()
        self.address = (str(name[0]), int(name[1]))
        self._sockets.append(listening)
        self._acceptors.append(loop.create_task(self._accept(listening)))

    async def stop(self) -> None:
        """Accept nothing more; connections already accepted go on."""
        for acceptor in self._acceptors:
            acceptor.cancel()
        await asyncio.gather(*self._acceptors, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        self._sockets.clear()
        self._acceptors.clear()

    async def join(self, timeout_s: float) -> None:
        """Wait for the accepted connections to end, and end those that do not within the time."""
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError as error:
                # Out of descriptors, usually: the connections at hand must be able to end, so keep the listener.
                logger.warning("cannot accept a connection: %s", error)
                await asyncio.sleep(0.1)
                continue
            if len(self._tasks) >= self._max_connections and not self._make_room():
                accepted.close()
                continue
            task = loop.create_task(self._begin(accepted))
            self._tasks.add(task)
            self._strangers[task] = None
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._strangers.pop(task, None)

    def _make_room(self) -> bool:
        """End the oldest connection that nobody has admitted; False where each of them is somebody's."""
        while self._strangers:
            task = next(iter(self._strangers))
            wire = self._strangers.pop(task)
            if wire is None or not wire.is_admitted:
                if wire is not None:
                    wire.is_crowded_out = True
                task.cancel()
                return True
        return False

    async def _begin(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        loop = asyncio.get_running_loop()
        wire: Wire | None = None
        try:
            async with asyncio.timeout(self._first_byte_timeout_s):
                first = await _peek(accepted)
            is_tls = first == TLS_RECORD_HANDSHAKE and self._tls is not None
            if accepted.family != socket.AF_UNIX:
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            channel = self._tls().accept() if is_tls and self._tls is not None else None
            _, wire = await loop.connect_accepted_socket(lambda: Wire(channel), accepted)
            task = asyncio.current_task()
            if task in self._strangers:
                self._strangers[task] = wire
            await wire.shake_hands()
        except (OSError, TimeoutError) as error:
            logger.debug("a connection ended before its first message: %s", error)
            _let_go(accepted, wire)
            return
        except BaseException:
            _let_go(accepted, wire)
            raise
        try:
            await self._serve(wire, is_tls)
        except Exception:
            logger.exception("a connection ended with a fault of the gateway")
        finally:
            wire.close()


def _let_go(accepted: socket.socket, wire: Wire | None) -> None:
    if wire is None:
        accepted.close()
    else:
        wire.abort()


async def _peek(accepted: socket.socket) -> int | None:
    """The first byte without taking it; None when the client left before sending one."""
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(BlockingIOError, InterruptedError):
            data = accepted.recv(1, socket.MSG_PEEK)
            return data[0] if data else None
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(accepted.fileno(), _mark, readable)
        try:
            await readable
        finally:
            loop.remove_reader(accepted.fileno())


def _mark(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
