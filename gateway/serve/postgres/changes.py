"""Definitions that a session has under way: from when they are sent until the server has said what became of them.

A snapshot of the catalogue that is read meanwhile may be too old at any moment, because the server commits before its answer is here;
between the two lies whatever it still has to say, and however long the client takes to read it. So snapshots are not kept meanwhile
(`CatalogCache.begin_change`). ReadyForQuery counts for what was answered before it: one that belongs to an earlier pipeline says
nothing of what is still on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
from enum import IntEnum
from typing import Final

from gateway.action import Action
from gateway.pipeline import Ruling
from gateway.protocols.postgres.named import ANY_CODE, NO_NAMES
from gateway.serve.postgres.limits import DRAIN_TIMEOUT_S
from gateway.serve.postgres.lookups import CatalogCache, Change, Moved
from gateway.serve.postgres.upstream import Upstream

DEFINING_EFFECTS: Final = frozenset({"define", "privilege", "execute", "unknown"})
"""Effects after which the catalogue may mean something else."""

_ADDING_VERBS: Final = frozenset({"create_index", "create_table_as"})
"""Definitions that run for long and, unless they move a name, let none stand for a relation that was there before."""

SEE_OUT_S: Final = 3_600.0
"""How long the end of a server process is waited for that goes on with a definition after its session is over."""

LOST_S: Final = 60.0
"""The same where the connection broke, so that nothing can tell: how long the server may take to notice."""


class Extent(IntEnum):
    """How far an action may change what statements mean.

    CALLING: a function or procedure of the database runs, whatever it does. NAMING: it defines, or ends the transaction of what did.
    """

    NOTHING = 0
    CALLING = 1
    NAMING = 2


def measure(action: Action | None) -> Extent:
    """How far an action by itself may change what statements mean."""
    if action is None or action.effects.isdisjoint(DEFINING_EFFECTS | {"write"}):
        return Extent.NOTHING
    verbs = {statement["verb"] for statement in action.facts.get("statements", ())}
    if "commit_prepared" in verbs or "unknown" in action.effects:
        return Extent.NAMING
    if action.effects.isdisjoint(DEFINING_EFFECTS):
        return Extent.NOTHING
    is_adding = bool(verbs) and verbs <= _ADDING_VERBS
    return Extent.CALLING if is_adding or action.effects.isdisjoint({"define", "privilege"}) else Extent.NAMING


class Changes:
    """What one session has under way of the kind.

    Args:
        catalog: told when snapshots count no more, and from when to when none may be kept.
    """

    __slots__ = ("_answered", "_catalog", "_change", "_committing", "_moved", "_sent", "_uncommitted")

    def __init__(self, catalog: CatalogCache) -> None:
        self._catalog = catalog
        self._change: Change | None = None
        self._sent: dict[int, Extent] = {}
        self._answered = Extent.NOTHING
        self._uncommitted = Extent.NOTHING
        self._moved: frozenset[Moved] = NO_NAMES
        self._committing: tuple[int, frozenset[Moved]] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the session has defined anything whose transaction is not known to be over."""
        return self.is_under_way or self._uncommitted > Extent.NOTHING

    @property
    def is_under_way(self) -> bool:
        """Whether a definition, or the end of its transaction, was sent and not answered up to its ReadyForQuery."""
        return bool(self._sent) or self._answered > Extent.NOTHING

    def send(self, ruling: Ruling, moved: frozenset[Moved]) -> bool:
        """An allowed action is about to be sent; whether it is one of these. `moved` are the names its transaction moves, with it."""
        extent = measure(ruling.action)
        if ruling.action is not None and _commits(ruling.action):
            extent = max(extent, self._uncommitted, self._answered, *self._sent.values())
        if extent is Extent.NOTHING:
            return False
        self._moved |= moved
        if ruling.action is not None and [each["verb"] for each in ruling.action.facts.get("statements", ())] == ["commit"]:
            self._committing = ruling.number, self._moved
        if moved:
            extent = Extent.NAMING  # a table that is only added may come to stand before another one
        self._sent[ruling.number] = extent
        if extent is Extent.NAMING and self._change is None:
            self._change = self._catalog.begin_change()
        else:
            self._catalog.invalidate()
        if self._change is not None:
            self._change.names |= moved
        return True

    def end(self, number: int) -> None:
        """No reply of the action can come any more; whether its effect stays is known at the next ReadyForQuery."""
        self._answered = max(self._answered, self._sent.pop(number, Extent.NOTHING))
        if self._committing is not None and self._committing[0] == number:
            self._moved -= self._committing[1]  # a transaction that goes on, by AND CHAIN, has moved none of them
            self._committing = None

    def settle(self, status: str) -> None:
        """A ReadyForQuery has come: what was answered before it is in effect, or gone, or waits for the end of its transaction."""
        if self._answered > Extent.NOTHING:
            self._catalog.invalidate()
        self._uncommitted = Extent.NOTHING if status == "I" else max(self._uncommitted, self._answered)
        self._answered = Extent.NOTHING
        if self._change is not None and Extent.NAMING not in self._sent.values():
            self._change.end()
            self._change = None
        if status == "I" and not self.is_under_way:
            self._moved = NO_NAMES
        # Code is looked up when a statement is read, and nobody waits for it.
        self._catalog.keep_unsettled(self, frozenset(name for name in self._moved if name[1] != ANY_CODE))

    def close(self, upstream: Upstream, *, is_busy: bool) -> None:
        """The session is over, and its connection to the server with it; where the server may still be at work, as soon as it is not."""
        change, self._change = self._change, None
        self._catalog.keep_unsettled(self, NO_NAMES)
        if change is None and self.is_under_way:
            change = self._catalog.begin_change()  # a function, which may have defined something
        if change is None and (upstream.wire.gone.is_set() or not is_busy):
            upstream.close()
        else:
            self._catalog.watch(_see_out(upstream, change))


def _commits(action: Action) -> bool:
    return any(statement["verb"] == "commit" for statement in action.facts.get("statements", ()))


async def _see_out(upstream: Upstream, change: Change | None) -> None:
    """Have the server give up what it still does for a session that is over, and wait until it has closed.

    It notices a closed connection only once it is done, and commits. So the connection stays open, and what it says is thrown away,
    until the server itself closes: then what it defined is in effect or will never be.
    """
    is_lost = upstream.wire.gone.is_set()
    upstream.say_goodbye()
    loop = asyncio.get_running_loop()
    until = loop.time() + (DRAIN_TIMEOUT_S if change is None else LOST_S if is_lost else SEE_OUT_S)
    try:
        while loop.time() < until and (is_lost or not upstream.wire.gone.is_set()):
            await upstream.cancel()
            pause_s = min(DRAIN_TIMEOUT_S, max(until - loop.time(), 0.0))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await (asyncio.sleep(pause_s) if is_lost else _read_out(upstream))
    finally:
        upstream.wire.close()
        if change is not None:
            change.end()


async def _read_out(upstream: Upstream) -> None:
    while await upstream.wire.read():
        pass
