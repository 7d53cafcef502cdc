"""Bytes that wait for a record: each leaves in its turn, once the record it depends on is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.errors import EvidenceUnavailableError
from gateway.recording import describe_loss, is_durable
from gateway.serve.listeners import Wire


class ReleaseQueue:
    """The one way to a peer. What is put first leaves first, and nothing leaves before its record is durable.

    Args:
        wire: to the peer.
        lose: told once when a record cannot be made durable; whatever waits is dropped then, and nothing leaves any more.
    """

    __slots__ = ("_failure", "_lose", "_queue", "_waiters", "_wire")

    def __init__(self, wire: Wire, lose: Callable[[Exception], None]) -> None:
        self._wire = wire
        self._lose = lose
        self._queue: list[tuple[bytes, asyncio.Future[Any]]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._failure: EvidenceUnavailableError | None = None

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return sum([len(data) for data, _ in self._queue])

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._queue

    def put(self, data: bytes, record: asyncio.Future[Any] | None) -> None:
        """Send bytes once `record` is durable; None where what they depend on is durable already."""
        if self._failure is not None:
            return
        if not self._queue and (record is None or is_durable(record)):
            self._wire.write(data)
            return
        if record is None or (self._queue and self._queue[-1][1] is record):
            self._queue.append((data, self._queue[-1][1]))
            return
        self._queue.append((data, record))
        record.add_done_callback(self._advance)

    async def wait(self) -> None:
        """Wait until everything put so far has left. Raises EvidenceUnavailableError."""
        while self._queue and self._failure is None:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if self._failure is not None:
            raise self._failure

    def cut(self, failure: EvidenceUnavailableError) -> None:
        """Drop what waits; nothing leaves any more."""
        if self._failure is None:
            self._failure = failure
            self._queue.clear()
            self._wake()

    def _advance(self, _record: asyncio.Future[Any]) -> None:
        ready: list[bytes] = []
        failure: EvidenceUnavailableError | None = None
        while self._queue and (record := self._queue[0][1]).done():
            if not is_durable(record):
                failure = describe_loss(None if record.cancelled() else record.exception())
                break
            ready.append(self._queue.pop(0)[0])
        if ready:
            self._wire.write(ready[0] if len(ready) == 1 else b"".join(ready))
        if failure is not None:
            self.cut(failure)
            self._lose(failure)
        elif not self._queue:
            self._wake()

    def _wake(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
