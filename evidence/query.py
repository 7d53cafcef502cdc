"""Search recorded evidence: stream the records that match, oldest first, over all logs of a directory.

Reads what is published and, behind it, what the write-ahead log still holds. Nothing is verified here: whoever needs proof verifies
the directory first (`evidence.verify`).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from evidence.entries import LEAF
from evidence.errors import NoteError, RecoveryError, StoreError
from evidence.segment import list_segments
from evidence.store import LogReader
from evidence.verify_log import find_logs
from evidence.wal_scan import scan_segment

FOLLOWERS: Final = frozenset({"outcome"})
"""Types that say no more than a decision's id: they match with the decision they belong to."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A record and where it lies."""

    origin: str
    index: int
    record: Mapping[str, Any]

    def as_record(self) -> dict[str, Any]:
        """The hit as JSON."""
        return {"origin": self.origin, "index": self.index, "record": dict(self.record)}


@dataclass(slots=True)
class Query:
    """What to look for; empty means anything. All given conditions must hold.

    Attributes:
        since, until: RFC 3339 in UTC, inclusive and exclusive; a prefix such as `2026-11-21T04` works too.
        subject: who acted or on whose behalf, the whole id.
        connection: name of the connection.
        effect: effect of the decision (allow, mask, block, require_approval).
        rule: code of a rule among the decision's reasons, or the code of an attempt refused without a decision.
        kinds: record types.
        session: session id.
        decision: decision id.
    """

    since: str = ""
    until: str = ""
    subject: str = ""
    connection: str = ""
    effect: str = ""
    rule: str = ""
    kinds: frozenset[str] = frozenset()
    session: str = ""
    decision: str = ""
    _sessions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _decisions: set[str] = field(default_factory=set)

    def matches(self, record: Mapping[str, Any]) -> bool:
        """Whether a record matches; must see the records of a log in order, because outcomes match with their decisions."""
        kind, ts = record.get("type"), str(record.get("ts", ""))
        if kind == "session.open":
            self._sessions[str(record.get("sid"))] = record
        if self.until and ts >= self.until:
            return False
        if kind in FOLLOWERS and (self.subject or self.connection or self.effect or self.rule):
            found = record.get("decision_id") in self._decisions
        else:
            found = self._matches_content(record)
            if found and kind == "decision":
                self._decisions.add(str(record.get("decision_id")))
        return found and ts >= self.since and (not self.kinds or kind in self.kinds) and self._matches_ids(record)

    def _matches_ids(self, record: Mapping[str, Any]) -> bool:
        return (not self.session or record.get("sid") == self.session) and (
            not self.decision or record.get("decision_id") == self.decision
        )

    def _matches_content(self, record: Mapping[str, Any]) -> bool:
        opened = self._sessions.get(str(record.get("sid")), {})
        if self.subject and self.subject not in {*_names(record), *_names(opened)}:
            return False
        if self.connection and self.connection not in {record.get("connection"), opened.get("connection")}:
            return False
        if not (self.effect or self.rule):
            return True
        decision = record.get("decision")
        if not isinstance(decision, Mapping):  # attempts that were refused before policy could speak carry their one code
            return not self.effect and self.rule in {record.get("code"), _verdict(record)}
        if self.effect and decision.get("effect") != self.effect:
            return False
        return not self.rule or any(self.rule == reason.get("rule") for reason in decision.get("reasons", ()))


def search(directory: Path, query: Query) -> Iterator[Hit]:
    """Matching records of every log at or below `directory`, in order of their times.

    Raises:
        StoreError: the directory holds no evidence, or a file that is needed is missing or damaged.
    """
    paths = find_logs(directory) if directory.is_dir() else []
    if not paths:
        raise StoreError(f"{directory} holds no evidence", fix="give an evidence directory")
    streams = [_search_log(path, query if len(paths) == 1 else _copy(query)) for path in paths]
    return heapq.merge(*streams, key=lambda hit: str(hit.record.get("ts", "")))


def _copy(query: Query) -> Query:
    names = ("since", "until", "subject", "connection", "effect", "rule", "kinds", "session", "decision")
    return Query(**{name: getattr(query, name) for name in names})


def _search_log(path: Path, query: Query) -> Iterator[Hit]:
    origin = read_origin(path)
    for index, leaf in iterate_leaves(path):
        try:
            record = orjson.loads(leaf)
        except orjson.JSONDecodeError as error:
            raise StoreError(f"record {index} of {origin} is not JSON", fix="verify the directory: it was damaged") from error
        if isinstance(record, dict) and query.matches(record):
            yield Hit(origin, index, record)


def read_origin(path: Path) -> str:
    """The origin that a log's checkpoint claims, or else the name of its directory."""
    try:
        return LogReader(path).read_checkpoint().origin
    except (StoreError, NoteError):
        return path.name


def iterate_leaves(path: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """All records of a log from `start` on: those published, then those only in the write-ahead log."""
    reader = LogReader(path)
    try:
        checkpoint = reader.read_checkpoint()
    except StoreError:
        return
    yield from enumerate(reader.iterate_leaves(checkpoint.size, start), start)
    index = None
    for segment in list_segments(path / "wal"):
        try:
            scanned = scan_segment(segment, checkpoint.origin)
        except RecoveryError as error:
            raise StoreError("the write-ahead log is damaged", why=str(error), fix="verify the directory") from error
        index = scanned.header.first_index if index is None else index
        for batch in scanned.batches:
            for kind, body in batch.items:
                if kind == LEAF:
                    if index >= max(checkpoint.size, start):
                        yield index, body
                    index += 1


def _verdict(record: Mapping[str, Any]) -> object:
    """What the requester was told as rule when a reviewer denied or time ran out: the type of the record itself."""
    kind = record.get("type")
    return kind if isinstance(kind, str) and kind.startswith("approval.") else None


def _names(record: Mapping[str, Any]) -> set[str]:
    subject = record.get("subject")
    values = [subject, record.get("on_behalf_of")]
    if isinstance(subject, Mapping):
        values += [subject.get(name) for name in ("id", "person", "on_behalf_of")]
    return {value for value in values if isinstance(value, str)}
