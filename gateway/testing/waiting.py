"""Waiting for a condition with a deadline, instead of sleeping for a guessed time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

POLL_S: Final = 0.01
"""Between two looks: short against what is waited for, long against a look."""

DEADLINE_S: Final = 20.0
"""Generous, because it is only ever reached when something is wrong."""


def wait_until(condition: Callable[[], object], *, timeout_s: float = DEADLINE_S) -> None:
    """Return once `condition()` is true; raise TimeoutError when it stays false."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the condition was not met within {timeout_s:g} s")
        time.sleep(POLL_S)


async def wait_until_async(condition: Callable[[], Awaitable[object]], *, timeout_s: float = DEADLINE_S) -> None:
    """Return once `await condition()` is true; raise TimeoutError when it stays false."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the condition was not met within {timeout_s:g} s")
        await asyncio.sleep(POLL_S)
