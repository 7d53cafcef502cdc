"""Giving memory back to the system once sessions have fallen silent.

What sessions learn lies scattered between what lives on, and glibc keeps the pages of what they gave up. With thousands of silent
sessions that is more than the sessions themselves hold. One call walks the heap for some milliseconds, without the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import Callable
from typing import Final

PAUSE_S: Final = 30.0
"""Least time between two calls: sessions that fall silent together are served by one."""

DELAY_S: Final = 1.0
"""After the first session that asks: others of the same moment come along."""


class MemoryReturn:
    """Asks the allocator for unused pages, seldom and in a thread of its own.

    Args:
        trim: does it; None where the C library has no such call.
    """

    def __init__(self, trim: Callable[[int], int] | None) -> None:
        self._trim = trim
        self._next_at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def ask(self) -> None:
        """A session gave up what it kept; call it on the event loop."""
        if self._trim is None or self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        wait_s = max(self._next_at_s - time.monotonic(), DELAY_S)
        self._timer = loop.call_later(wait_s, self._begin, loop, self._trim)

    def _begin(self, loop: asyncio.AbstractEventLoop, trim: Callable[[int], int]) -> None:
        self._timer = None
        self._next_at_s = time.monotonic() + PAUSE_S
        loop.run_in_executor(None, trim, 0)


def find_trim() -> Callable[[int], int] | None:
    """Glibc's malloc_trim; None elsewhere."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    found: Callable[[int], int] = trim
    return found
