"""Recorded sessions: list them, show one, and replay one step by step as it happened.

What is replayed came from systems and agents nobody vouches for. It reaches a terminal only through `neutralise`, which shows every
control and direction character as an escape: a recorded escape sequence must not act on the reviewer's screen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from evidence.cast import CastPlayer
from evidence.errors import EvidenceError, StoreError
from evidence.keys import ChunkSealer
from evidence.query import Hit, Query, search
from evidence.record import LOG_SID
from evidence.store import LogReader
from evidence.verify_log import find_logs
from evidence.wording import describe_record, excerpt_input

MAX_SHOWN_CHARS: Final = 4_000
"""Of one step's content; the rest is counted. A replay is for reading, the chunk itself can be exported."""

_SID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # session ids become part of file names

_DANGEROUS: Final = re.compile(
    # C0 but newline and tab, DEL, C1, zero-width and direction marks, line and paragraph separators, direction overrides and
    # isolates, byte order mark, tags: what a terminal or a reader's eye would act on.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


@dataclass(slots=True)
class SessionSummary:
    """One session in a list. Times as recorded; `closed` is empty while it is open or was never closed."""

    sid: str
    origin: str
    opened: str
    closed: str = ""
    subject: str = ""
    connection: str = ""
    reason: str = ""
    records: int = 0
    effects: Counter[str] = field(default_factory=Counter)

    def as_record(self) -> dict[str, Any]:
        """The summary as JSON."""
        return {
            "sid": self.sid,
            "origin": self.origin,
            "opened": self.opened,
            "closed": self.closed,
            "subject": self.subject,
            "connection": self.connection,
            "reason": self.reason,
            "records": self.records,
            "effects": dict(self.effects),
        }


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a replay: seconds since the session began, record type, a line about it, its content if it can be read."""

    at_s: float
    kind: str
    title: str
    content: str = ""

    def as_record(self) -> dict[str, Any]:
        """The step as JSON."""
        return {"at_s": self.at_s, "kind": self.kind, "title": self.title, "content": self.content}


def list_sessions(directory: Path, query: Query | None = None) -> list[SessionSummary]:
    """Sessions with a record that matches, in the order they were opened."""
    found: dict[tuple[str, str], SessionSummary] = {}
    matching: set[tuple[str, str]] = set()
    condition = query or Query()
    for hit in search(directory, Query()):
        sid = str(hit.record.get("sid"))
        if sid == LOG_SID:
            continue
        key = hit.origin, sid
        _summarise(found.setdefault(key, SessionSummary(sid, hit.origin, str(hit.record.get("ts", "")))), hit.record)
        if condition.matches(hit.record):
            matching.add(key)
    return [summary for key, summary in found.items() if key in matching]


def read_session(directory: Path, sid: str) -> list[Hit]:
    """All records of one session.

    Raises:
        StoreError: there is no such session.
    """
    hits = list(search(directory, Query(session=sid))) if _SID.fullmatch(sid) else []
    if not hits:
        raise StoreError(f"there is no session {sid!r}", fix="list the sessions")
    return hits


def replay(directory: Path, sid: str, identities: Sequence[str] = (), *, whole: bool = False) -> Iterator[Step]:
    """The steps of one session; with an age identity that opens its key, inputs and transcripts too.

    Args:
        directory: the evidence.
        sid: which session.
        identities: private age keys.
        whole: show input documents whole rather than what they ask for.
    """
    latest_s = 0.0
    for step in _list_steps(directory, sid, identities, whole=whole):
        # A record is dated by another reading of the clock than the recording beside it, microseconds away: the chain has the order.
        latest_s = max(latest_s, step.at_s)
        yield replace(step, at_s=latest_s)


def _list_steps(directory: Path, sid: str, identities: Sequence[str], *, whole: bool) -> Iterator[Step]:
    hits = read_session(directory, sid)
    chunks = _Chunks(directory, hits[0].origin, sid, identities)
    begin = _moment(hits[0].record)
    casts: dict[str, CastPlayer] = {}
    for hit in hits:
        record = hit.record
        reference = _reference(record)
        moment = _moment(record)
        at_s = (moment - begin).total_seconds() if moment and begin else 0.0
        plain = chunks.open(reference) if reference and record.get("type") == "transcript.chunk" else None
        # A recording began with the first byte of its first chunk, which is written later.
        first = _moment(record, "first_ts") if plain is not None else None
        began_s = (first - begin).total_seconds() if first and begin else at_s
        player = casts.setdefault(str(record.get("decision_id")), CastPlayer(began_s)) if plain is not None else None
        if plain is not None and player is not None and player.accepts(plain):
            for event in player.play(plain):
                yield Step(event.at_s, event.kind, "", _shorten(neutralise(event.text)))
            yield Step(at_s, "transcript.chunk", neutralise(describe_record(record)))
            continue
        content = chunks.read(reference, whole=whole) if reference else ""
        yield Step(at_s, str(record.get("type", "")), neutralise(describe_record(record)), content)


def neutralise(text: str | bytes) -> str:
    r"""Text in which nothing acts: control, direction and invisible characters as escapes, bytes that are not UTF-8 as \xNN."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    return _DANGEROUS.sub(lambda match: _escape(match[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - widths


class _Chunks:
    """Opens the chunks of one session, or says why they stay closed."""

    def __init__(self, directory: Path, origin: str, sid: str, identities: Sequence[str]) -> None:
        self._sid = sid
        self._cipher: ChunkSealer | None = None
        self._why = "sealed; give an age identity to read it"
        self._base = (-1, b"")
        paths = [
            path for path in find_logs(directory) if (path / "keys" / f"{sid}.dek").exists() or (path / "sessions" / sid).exists()
        ]
        self._reader = LogReader(paths[0]) if paths else None
        if self._reader is None or not identities:
            return
        try:
            self._cipher = ChunkSealer(self._reader.unwrap_data_key(sid, identities), origin, sid)
        except EvidenceError as error:
            self._why = error.what

    def read(self, reference: Mapping[str, Any], *, whole: bool) -> str:
        """The neutralised content of a chunk; of an input document what it asks for, unless `whole`."""
        size = reference.get("bytes", "?")
        if self._cipher is None or self._reader is None:
            return f"[{size} bytes: {neutralise(self._why)}]"
        try:
            plain = self._open(reference)
        except (EvidenceError, KeyError, ValueError, TypeError) as error:
            return f"[{size} bytes: {neutralise(str(error))}]"
        return _shorten(neutralise(plain if whole else _excerpt(plain)))

    def open(self, reference: Mapping[str, Any]) -> bytes | None:
        """The content of a chunk; None where it stays closed, for reasons `read` tells."""
        try:
            return self._open(reference)
        except (EvidenceError, KeyError, ValueError, TypeError):
            return None

    def _open(self, reference: Mapping[str, Any]) -> bytes:
        if self._cipher is None or self._reader is None:
            raise EvidenceError(self._why)
        number, base = int(reference["n"]), reference.get("base")
        if base is not None and self._base[0] != base:
            self._base = (int(base), self._cipher.open(int(base), self._reader.read_chunk(self._sid, int(base))))
        words = None if base is None else self._base[1]
        return self._cipher.open(number, self._reader.read_chunk(self._sid, number), words)


def _shorten(shown: str) -> str:
    rest = len(shown) - MAX_SHOWN_CHARS
    return shown if rest <= 0 else f"{shown[:MAX_SHOWN_CHARS]}\n[{rest} more characters]"


def _excerpt(plain: bytes) -> str | bytes:
    try:
        found = excerpt_input(orjson.loads(plain))
    except orjson.JSONDecodeError:
        return plain
    return plain if found is None else found


def _summarise(summary: SessionSummary, record: Mapping[str, Any]) -> None:
    summary.records += 1
    kind = record.get("type")
    subject = record.get("subject")
    name = subject.get("id") if isinstance(subject, Mapping) else subject
    summary.subject = summary.subject or neutralise(str(name or ""))
    summary.connection = summary.connection or neutralise(str(record.get("connection", "")))
    if kind == "decision" and isinstance(record.get("decision"), Mapping):
        summary.effects[str(record["decision"].get("effect"))] += 1
    elif kind == "session.close":
        summary.closed, summary.reason = str(record.get("ts", "")), neutralise(str(record.get("reason", "")))


def _reference(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The chunk a record names, if any."""
    for name in ("input", "chunk", "transcript"):
        value = record.get(name)
        if isinstance(value, Mapping) and "n" in value:
            return value
    return None


def _moment(record: Mapping[str, Any], name: str = "ts") -> datetime | None:
    try:
        return datetime.fromisoformat(str(record.get(name)))
    except ValueError:
        return None
