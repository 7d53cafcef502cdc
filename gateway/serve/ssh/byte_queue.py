"""A byte queue between callbacks and a task, with backpressure: what a channel delivers, read by whoever judges it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.serve.ssh.channel import AgentChannel, TargetChannel

HIGH_BYTES: Final = 1 << 20
"""Unread bytes at which the sender is not read any more."""


BROKEN_OFF: Final = "the connection broke off"
"""What the record says of a transfer that one side left in the middle."""


class BrokenOffError(Exception):
    """A stream ended in the middle of something: whoever sent it is gone, whatever the channel says."""


class ByteQueue:
    """Bytes in from callbacks, out to one task.

    Args:
        pause: stops the sender.
        resume: lets it go on.
    """

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause = pause
        self._resume = resume
        self._chunks: list[bytes] = []
        self._size = 0
        self._is_paused = False
        self._has_ended = False
        self._ready = asyncio.Event()

    @property
    def has_ended(self) -> bool:
        """Whether the sender said that nothing more comes."""
        return self._has_ended

    def put(self, data: bytes) -> None:
        """Take what arrived."""
        self._chunks.append(data)
        self._size += len(data)
        self._ready.set()
        if self._size > HIGH_BYTES and not self._is_paused:
            self._is_paused = True
            self._pause()

    def end(self) -> None:
        """Nothing more will arrive."""
        self._has_ended = True
        self._ready.set()

    async def get(self) -> bytes:
        """Everything that arrived since the last call; b"" at the end."""
        while not self._chunks and not self._has_ended:
            self._ready.clear()
            await self._ready.wait()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if self._is_paused:
            self._is_paused = False
            self._resume()
        return data


class FlowSink:
    """What both halves of a channel call back, for relays that work through two queues. A sender whose bytes are not read waits.

    Subclasses open `_target`, the target's half, and say what an end means.
    """

    def __init__(self, agent: AgentChannel) -> None:
        self._agent = agent
        self._target: TargetChannel | None = None
        self.from_agent = ByteQueue(self._hold_agent, self._release_agent)
        self.from_target = ByteQueue(self._hold_target, self._release_target)
        self.ended = asyncio.Event()
        self.status: int | None = None
        self.signal: str | None = None

    def receive(self, data: bytes) -> None:
        """Input of the agent."""
        self.from_agent.put(data)

    def receive_eof(self) -> None:
        """The end of the agent's input."""
        self.from_agent.end()

    def receive_signal(self, name: str) -> None:
        """Signals mean nothing to a file transfer."""

    def receive_size(self, columns: int, rows: int) -> None:
        """Nor do terminals."""

    def deliver(self, data: bytes, *, is_error: bool) -> None:
        """Output of the target."""
        if is_error:
            self.deliver_error(data)
        else:
            self.from_target.put(data)

    def deliver_error(self, data: bytes) -> None:
        """Standard error of the target."""

    def deliver_eof(self) -> None:
        """The end of the target's output."""
        self.from_target.end()

    def end(self, status: int | None, signal: str | None, message: str) -> None:
        """The program at the target ended."""
        del message  # free text of the target, which nobody masked
        self.status, self.signal = status, signal
        self.from_target.end()
        self.ended.set()

    def pause(self) -> None:
        """The agent does not read; writers wait with `drain` instead."""

    def resume(self) -> None:
        """The agent reads again."""

    def pause_target(self) -> None:
        """The target does not read; writers wait with `drain` instead."""

    def resume_target(self) -> None:
        """The target reads again."""

    def _hold_agent(self) -> None:
        self._agent.pause_reading()

    def _release_agent(self) -> None:
        self._agent.resume_reading()

    def _hold_target(self) -> None:
        if self._target is not None:
            self._target.pause_reading()

    def _release_target(self) -> None:
        if self._target is not None:
            self._target.resume_reading()
