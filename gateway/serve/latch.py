"""Something that happens, and that coroutines wait for: what `asyncio.Event` is, for thousands of sessions that are idle.

An Event makes its queue of waiters, most of a kilobyte, before anybody waits.
"""

from __future__ import annotations

import asyncio


class Latch:
    """Set once it has happened. Like `asyncio.Event`, of one event loop and no thread but its own."""

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: list[asyncio.Future[bool]] | None = None

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._is_set

    def set(self) -> None:
        """It has happened: whoever waits goes on."""
        self._is_set = True
        for waiter in self._waiters or ():
            _finish(waiter, has_happened=True)

    def clear(self) -> None:
        """It may happen once more."""
        self._is_set = False

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it has happened, for so long at most; whether it has."""
        if self._is_set:
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, _finish, waiter)
        if self._waiters is None:
            self._waiters = [waiter]
        else:
            self._waiters.append(waiter)
        try:
            return await waiter
        finally:
            if timer is not None:
                timer.cancel()
            self._waiters.remove(waiter)
            if not self._waiters:
                self._waiters = None


def _finish(waiter: asyncio.Future[bool], *, has_happened: bool = False) -> None:
    if not waiter.done():
        waiter.set_result(has_happened)
