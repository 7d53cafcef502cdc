"""Catalogue snapshots: what a statement's names mean on one server, read with the gateway's own credential and kept for a while.

One snapshot per connection (target, database and role belong to it). It ends by age, and at once after any action that may have
changed definitions. Questions run on a connection of their own, so they never disturb an agent's transaction, with a deadline;
sessions that need the same snapshot at the same time share one question.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sealgate_native.postgres import FrameReader, ProtocolViolation, decode_error, encode_query

from gateway.errors import TargetError
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_answers import build_snapshot
from gateway.protocols.postgres.catalog_queries import PREPARING, QUERIES
from gateway.protocols.postgres.holders import follow_renames
from gateway.protocols.postgres.named import ANY_CODE, ANY_NAME
from gateway.serve.postgres.upstream import Upstream

logger = logging.getLogger(__name__)

MAX_LOOKUP_MESSAGE_BYTES: Final = 1 << 20
"""Longest row of a catalogue answer: a view definition tree is the largest value and stays far below."""

LOCK_TIMEOUT_MS: Final = 500
"""A question that waits for a lock this long is asked anew: it knew of nobody who holds one, and leaves out then what is held."""

LOCK_NOT_AVAILABLE: Final = "55P03"

MAX_MOVED: Final = 1_000
"""Names remembered as moved lately; beyond it every name counts as moved."""

MAX_LOOKUP_BYTES: Final = 256 << 20
"""Largest whole answer: a catalogue of about a million columns."""

Row = tuple[str | None, ...]

Moved = tuple[str | None, str]
"""Schema and name."""


async def run_query(upstream: Upstream, sql: str) -> list[Row]:
    """The rows of one simple query, every value in text format. Raises TargetError."""
    reader = FrameReader(MAX_LOOKUP_MESSAGE_BYTES)
    upstream.wire.write(encode_query(sql))
    rows: list[Row] = []
    failure: TargetError | None = None
    received = 0
    data, upstream.rest = upstream.rest, b""
    while True:
        data = data or await upstream.wire.read()
        received += len(data)
        if not data or received > MAX_LOOKUP_BYTES:
            raise TargetError("the target broke off a catalogue question", why=f"after {received} bytes")
        try:
            reader.receive(data)
            while (frame := reader.next()) is not None:
                kind, body = frame
                if kind == "D":
                    rows.append(_decode_row(body))
                elif kind == "E":
                    failure = TargetError("the target refused a catalogue question", why=decode_error(body).get("C", ""))
                elif kind == "Z":
                    upstream.rest = reader.take_rest()
                    if failure is not None:
                        raise failure
                    return rows
            data = b""
        except (ProtocolViolation, struct.error, UnicodeDecodeError) as error:
            raise TargetError("the target's catalogue answer cannot be read", why=type(error).__name__) from error


def _decode_row(body: bytes) -> Row:
    """A DataRow (53.7): int16 count, then per value int32 length, -1 for NULL, and the bytes."""
    (count,) = struct.unpack_from("!H", body)
    offset = 2
    values: list[str | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, offset)
        offset += 4
        if length < 0:
            values.append(None)
            continue
        if offset + length > len(body):
            raise struct.error("value beyond the end of the row")
        values.append(body[offset : offset + length].decode())
        offset += length
    return tuple(values)


def _build(answers: Mapping[str, Sequence[Row]]) -> CatalogSnapshot:
    try:
        return build_snapshot(answers)
    except (KeyError, ValueError, IndexError) as error:
        raise TargetError("the target's catalogue cannot be understood", why=f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """A snapshot and where it came from: `fetched_ns` is 0 when it was still at hand."""

    snapshot: CatalogSnapshot
    fetched_ns: int = 0


@dataclass(slots=True, eq=False)
class _Database:
    """What the caches of one database have in common.

    Attributes:
        changes: those under way, see `CatalogCache.begin_change`.
        ended: how many have ended.
        moved: how many had ended when one that moved this name did.
        unsettled: the names that transactions have moved which are open, by what tells of each.
        sensitive: relation and attnum of what the names of sensitive columns have meant so far, by these names.
        watches: what sessions left behind to be waited for.
    """

    caches: set[CatalogCache]
    changes: set[Change] = field(default_factory=set)
    ended: int = 0
    moved: dict[Moved, int] = field(default_factory=dict)
    watches: set[asyncio.Task[None]] = field(default_factory=set)
    unsettled: dict[object, frozenset[Moved]] = field(default_factory=dict)
    sensitive: dict[tuple[str, ...], frozenset[tuple[int, int]]] = field(default_factory=dict)

    def forget(self) -> None:
        for cache in self.caches:
            cache._forget()  # noqa: SLF001 - of the same module


class Change:
    """Definitions under way, which can take effect at any moment. Ends once.

    Attributes:
        names: schema and name for which another relation may answer then; None where the schema is not known.
    """

    __slots__ = ("_database", "names")

    def __init__(self, database: _Database) -> None:
        self.names: frozenset[Moved] = frozenset()
        self._database = database
        database.changes.add(self)
        database.forget()

    def end(self) -> None:
        """What they made of the catalogue stays from now on: what was read before counts no more."""
        database = self._database
        if self not in database.changes:
            return
        database.changes.remove(self)
        database.ended += 1
        database.moved.update(dict.fromkeys(self.names, database.ended))
        if len(database.moved) > MAX_MOVED:
            database.moved = {(None, ANY_NAME): database.ended, (None, ANY_CODE): database.ended}
        database.forget()


class CatalogCache:
    """The snapshots of one connection's server.

    Args:
        connect: opens a connection with the connection's own credential and pins.
        max_age_s: how old a snapshot may get; definitions changed past the gateway are noticed after that.
        timeout_s: deadline of one question, all queries together.
        sensitive: the connection's sensitive columns; what one of these names meant before stays sensitive.
        on_forget: told whenever a snapshot counts no more before its time.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Upstream]],
        *,
        max_age_s: float,
        timeout_s: float,
        sensitive: tuple[str, ...] = (),
        on_forget: Callable[[CatalogCache], None] | None = None,
    ) -> None:
        self._connect = connect
        self._on_forget = on_forget
        self._max_age_s = max_age_s
        self._timeout_s = timeout_s
        self._sensitive = sensitive
        self._upstream: Upstream | None = None
        self._snapshot: CatalogSnapshot | None = None
        self._last: CatalogSnapshot | None = None
        self._last_began = 0.0
        self._taken_at = 0.0
        self._generation = 0
        self._database = _Database({self})
        self._lock = asyncio.Lock()

    @property
    def current(self) -> CatalogSnapshot | None:
        """The snapshot at hand while it is young enough, else None."""
        if self._snapshot is not None and time.monotonic() - self._taken_at < self._max_age_s:
            return self._snapshot
        return None

    def invalidate(self) -> None:
        """Forget the snapshot: definitions may have changed. A question under way will not be kept either."""
        self._database.forget()

    def begin_change(self) -> Change:
        """Definitions are about to be sent. Until they have ended every statement is judged by a snapshot read after it came."""
        return Change(self._database)

    @property
    def mark(self) -> int:
        """A point in time for `moved_since`."""
        return self._database.ended

    def moved_since(self, mark: int) -> frozenset[Moved]:
        """Names for which another relation may answer than a snapshot says that was asked for at `mark`, or may do so at any moment."""
        database = self._database
        if not database.changes and not database.unsettled and database.ended == mark:
            return frozenset()
        lately = (name for name, at in database.moved.items() if at > mark)
        return frozenset(lately).union(*(change.names for change in database.changes), *database.unsettled.values())

    def keep_unsettled(self, owner: object, names: frozenset[Moved]) -> None:
        """A transaction that moved these names is open: whoever names one would wait for it, and get what it made of them."""
        if names:
            self._database.unsettled[owner] = names
        else:
            self._database.unsettled.pop(owner, None)

    @property
    def is_unsettled(self) -> bool:
        """Whether any transaction is open that moved names."""
        return bool(self._database.unsettled)

    def watch(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something waited for that a session left behind, until the gateway stops."""
        watches = self._database.watches
        task = asyncio.get_running_loop().create_task(work)
        watches.add(task)
        task.add_done_callback(watches.discard)

    def _forget(self) -> None:
        self._generation += 1
        self._snapshot = None
        if self._on_forget is not None:
            self._on_forget(self)

    @property
    def until_s(self) -> float:
        """Monotonic time at which the snapshot at hand is too old."""
        return self._taken_at + self._max_age_s

    def join(self, other: CatalogCache) -> None:
        """Speak of the same database as `other`, with another search path: definitions that change change for both."""
        other._database.caches.add(self)
        self._database = other._database

    def leave(self) -> None:
        """Undo `join`."""
        self._database.caches.discard(self)
        self._database = _Database({self})

    async def read(self, announce: Callable[[], Awaitable[None]], *, is_fresh: bool = False) -> Answer:
        """The snapshot, asked for where none is at hand; `announce` runs before the first byte of a question.

        With `is_fresh` it is asked for in any case: what is there at this moment matters.

        Raises TargetError when the server cannot answer in time.
        """
        snapshot = None if is_fresh else self.current
        if snapshot is not None:
            return Answer(snapshot)
        asked_at = time.monotonic()
        async with self._lock:
            snapshot = None if is_fresh else self.current
            if snapshot is None and self._last_began >= asked_at:
                snapshot = self._last  # not kept, and yet read for whoever waits
            if snapshot is not None:
                return Answer(snapshot)
            await announce()
            started = time.monotonic_ns()
            snapshot = await self._fetch()
            return Answer(snapshot, time.monotonic_ns() - started)

    async def _fetch(self) -> CatalogSnapshot:
        generation, began = self._generation, time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                snapshot = await asyncio.to_thread(_build, await self._ask())
        except TimeoutError as error:
            self._drop()
            raise TargetError(
                "the target's catalogue did not answer in time",
                why=f"no answer within {self._timeout_s:g} s",
                fix="try again; if it stays so, the operators can raise limits.lookup_timeout_s",
            ) from error
        except BaseException:
            self._drop()
            raise
        snapshot = self._last = self._share(self._follow(snapshot))
        self._last_began = began
        if generation == self._generation and not self._database.changes:
            self._snapshot, self._taken_at = snapshot, began
        return snapshot

    def _follow(self, snapshot: CatalogSnapshot) -> CatalogSnapshot:
        """The snapshot with what the names of sensitive columns meant before; the operators are told once of each column."""
        snapshot, known = follow_renames(snapshot, self._sensitive, self._database.sensitive.get(self._sensitive, frozenset()))
        for oid, number in snapshot.former - (frozenset() if self._last is None else self._last.former):
            relation = snapshot.relations[oid]
            name = f"{relation.schema}.{relation.name}.{relation.columns[number].name}"
            logger.warning(
                "%s had the name of a sensitive column, and counts as one until the gateway starts anew: list it", name
            )
        self._database.sensitive[self._sensitive] = known
        return snapshot

    def _share(self, snapshot: CatalogSnapshot) -> CatalogSnapshot:
        """The snapshot that says the same, where it was the last: silent sessions keep theirs, and would each keep another.

        What was remembered with it goes all the same, so that it does not pile up where no two statements are alike.
        """
        if self._last is None or (self._last.digest, self._last.former) != (snapshot.digest, snapshot.former):
            return snapshot
        self._last.memo.clear()
        return self._last

    async def _ask(self) -> Mapping[str, Sequence[Row]]:
        while True:
            try:
                return await self._ask_once()
            except TargetError as error:
                if error.why != LOCK_NOT_AVAILABLE:
                    raise
                self._drop()

    async def _ask_once(self) -> Mapping[str, Sequence[Row]]:
        if self._upstream is not None and self._upstream.wire.gone.is_set():
            self._drop()
        if self._upstream is None:
            self._upstream = await self._connect()
        upstream = self._upstream
        # One transaction, so that all answers speak of the same moment.
        await run_query(upstream, "begin transaction isolation level repeatable read, read only")
        await run_query(upstream, f"set local lock_timeout = {LOCK_TIMEOUT_MS}")
        for sql in PREPARING:
            await run_query(upstream, sql)
        answers = {name: await run_query(upstream, sql) for name, sql in QUERIES.items()}
        await run_query(upstream, "commit")
        return answers

    def _drop(self) -> None:
        if self._upstream is not None:
            self._upstream.wire.abort()
            self._upstream = None

    def close(self) -> None:
        """Close the connection questions run on, and wait for nothing any more."""
        for task in self._database.watches:
            task.cancel()
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None
