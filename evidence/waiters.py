"""Telling whoever waits for a record that it is durable, or that it never will be.

A batch may hold records of several event loops and threads. Each loop is woken once per batch, however many of its futures complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from evidence.drafts import Prepared
from evidence.entries import Entry


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof to the caller that a record is durable: its index in the log, its leaf hash, its number in its session."""

    index: int
    record: bytes | Prepared
    """The leaf hash, or prepared records of which it is the last."""
    session_seq: int

    @property
    def leaf_hash(self) -> bytes:
        """The record's leaf hash."""
        return self.record if isinstance(self.record, bytes) else bytes.fromhex(self.record.last_hash())


def complete(entries: Iterable[Entry]) -> None:
    """Complete the future of every entry with its receipt; for the writer thread."""
    loops: dict[asyncio.AbstractEventLoop, list[Entry]] = {}
    for entry in entries:
        if entry.loop is not None:
            loops.setdefault(entry.loop, []).append(entry)
        elif entry.waiter is not None:
            entry.waiter.set_result(entry.receipt)
    here = asyncio._get_running_loop()  # noqa: SLF001 - unlike the public name, it does not raise where there is none
    for loop, own in loops.items():
        if loop is here:
            _complete_all(own)
        else:
            _call(loop, _complete_all, own)


def refuse(entries: Iterable[Entry], error: Exception) -> None:
    """Fail the future of every entry; for the writer thread."""
    for entry in entries:
        if entry.loop is not None:
            _call(entry.loop, _refuse_one, entry, error)
        elif entry.waiter is not None:
            entry.waiter.set_exception(error)


def _complete_all(entries: list[Entry]) -> None:
    for entry in entries:
        if not entry.waiter.done():
            entry.waiter.set_result(entry.receipt)


def _refuse_one(entry: Entry, error: Exception) -> None:
    if not entry.waiter.done():
        entry.waiter.set_exception(error)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        return  # The loop was closed: nobody waits there any more, and the record is on disk.
