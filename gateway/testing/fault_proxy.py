"""A TCP proxy whose connections fail on demand: they stall, are cut after a number of bytes, are reset, or are not accepted.

    with start_fault_proxy("127.0.0.1", server.port) as proxy:
        connect(port=proxy.port)
        proxy.stall("down")        # what the server sends stays in the proxy; "up" for what the client sends
        proxy.cut_after(10_000)    # reset every connection once that many bytes went down
        proxy.reset()              # reset every open connection now
        proxy.is_accepting = False # answer new connections with a reset
        proxy.heal()

A stalled direction is not read either, so it fills the buffers of both ends as a slow peer does.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

CHUNK_BYTES: Final = 16_384
"""Read at once; small, so that a cut lands within a message."""

TICK_S: Final = 0.02
"""How often a stalled connection looks whether it may go on."""

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: closing then sends RST."""

type Direction = Literal["up", "down"]


@dataclass(slots=True)
class FaultProxy:
    """A running proxy; see the module's first paragraphs.

    Attributes:
        port: where it listens on 127.0.0.1.
        is_accepting: whether new connections are carried.
        passed_bytes: what went each way since the start, all connections together.
    """

    host: str
    target_port: int
    port: int
    is_accepting: bool = True
    passed_bytes: dict[Direction, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    _stalled: set[Direction] = field(default_factory=set)
    _cut_at: int | None = None
    _resets: int = 0
    _open: int = 0
    _is_over: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def open_count(self) -> int:
        """Connections carried now."""
        return self._open

    def stall(self, *directions: Direction) -> None:
        """Carry nothing in these directions, and read nothing either, until `heal`."""
        self._stalled.update(directions)

    def cut_after(self, down_bytes: int) -> None:
        """Reset every connection once so many more bytes went down."""
        self._cut_at = self.passed_bytes["down"] + down_bytes

    def reset(self) -> None:
        """Reset every connection that is open now."""
        self._resets += 1

    def heal(self) -> None:
        """Carry everything again; what was reset stays so."""
        self._stalled.clear()
        self._cut_at = None
        self.is_accepting = True

    def carry(self, client: socket.socket) -> None:
        """One connection to its end; the body of a thread."""
        resets = self._resets
        with self._lock:
            self._open += 1
        try:
            with contextlib.suppress(OSError), client, socket.create_connection((self.host, self.target_port)) as server:
                while self._resets == resets and not self._is_over and self._pass(client, server):
                    pass
                for end in (client, server):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        finally:
            with self._lock:
                self._open -= 1

    def end(self) -> None:
        """Reset everything and accept nothing more."""
        self._is_over = True

    def _pass(self, client: socket.socket, server: socket.socket) -> bool:
        """Carry what is there; False when either end has closed, or is to be cut."""
        ends: dict[socket.socket, tuple[socket.socket, Direction]] = {client: (server, "up"), server: (client, "down")}
        wanted = [source for source, (_, direction) in ends.items() if direction not in self._stalled]
        for source in select.select(wanted, [], [], TICK_S)[0]:
            target, direction = ends[source]
            data = source.recv(CHUNK_BYTES)
            if not data:
                return False
            if direction == "down" and self._cut_at is not None and self.passed_bytes["down"] + len(data) >= self._cut_at:
                target.sendall(data[: max(0, self._cut_at - self.passed_bytes["down"])])
                return False
            if not self._send(target, data, direction):
                return False
            self.passed_bytes[direction] += len(data)
        return True

    def _send(self, target: socket.socket, data: bytes, direction: Direction) -> bool:
        """Send all of it, as fast as the other end reads; False when the proxy ends or resets meanwhile."""
        resets, view = self._resets, memoryview(data)
        while view:
            if self._resets != resets or self._is_over:
                return False
            if direction not in self._stalled and select.select([], [target], [], TICK_S)[1]:
                view = view[target.send(view) :]
        return True


@contextlib.contextmanager
def start_fault_proxy(host: str, port: int) -> Iterator[FaultProxy]:
    """A proxy to host:port on a port the kernel chose; every connection has ended when the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TICK_S)
        proxy = FaultProxy(host, port, int(listener.getsockname()[1]))
        threads: list[threading.Thread] = []

        def accept() -> None:
            while not proxy._is_over:  # noqa: SLF001 - the other half of this module
                with contextlib.suppress(TimeoutError):
                    client, _ = listener.accept()
                    if not proxy.is_accepting:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                        client.close()
                        continue
                    client.settimeout(None)
                    threads.append(threading.Thread(target=proxy.carry, args=(client,), daemon=True))
                    threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield proxy
        finally:
            proxy.end()
            accepting.join()
            for thread in threads:
                thread.join()
