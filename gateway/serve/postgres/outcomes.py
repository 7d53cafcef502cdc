"""Which actions of a session are under way, and how each ended: the book behind the outcome records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.action import Action
from gateway.messages import Outcome, OutcomeStatus, Refusal
from gateway.pipeline import Ruling
from gateway.protocols.postgres.events import (
    ActionEnd,
    CommandComplete,
    CopyInEnd,
    CopyOut,
    JudgedEvent,
    Parse,
    ResultEnd,
    ServerError,
)

MAX_TAG_CHARS: Final = 256
"""Longest summary in an outcome; one string may hold a thousand statements."""

MAX_TRANSCRIPT_BYTES: Final = 16 << 20
"""Most transcript of one action, whatever its results together have: what one sealed chunk of evidence holds."""

_STATUSES: Final[dict[str, OutcomeStatus]] = {
    "completed": "completed",
    "suspended": "completed",
    "failed": "failed",
    "skipped": "cancelled",
}


@dataclass(slots=True)
class OpenAction:
    """One action that was let through and whose end has not been recorded.

    Attributes:
        facts: what it was described with; its results are described with the same.
        is_withheld: the agent was told an error in place of a result.
        lesson: number under which the kernel has learned the decision.
        stream: what the data of a COPY FROM STDIN amounted to: bytes, and a keyed digest.
    """

    ruling: Ruling
    event: JudgedEvent
    facts: Mapping[str, object]
    tags: list[str] = field(default_factory=list)
    rows: int = 0
    bytes_out: int = 0
    masked: Counter[str] = field(default_factory=Counter)
    detected: Counter[str] = field(default_factory=Counter)
    record: list[bytes] = field(default_factory=list)
    is_truncated: bool = False
    is_withheld: bool = False
    error_code: str | None = None
    rows_cut: int = 0
    cut_by: str | None = None
    lesson: int | None = None
    stream: dict[str, Any] = field(default_factory=dict)

    @property
    def effects(self) -> frozenset[str]:
        """What the action may have done."""
        return frozenset() if self.ruling.action is None else self.ruling.action.effects

    def keep(self, record: bytes) -> None:
        """Add the masked rows of one result to the transcript, whole lines only, as far as there is room."""
        room = MAX_TRANSCRIPT_BYTES - sum(map(len, self.record))
        if len(record) > room:
            record = record[: record.rfind(b"\n", 0, room) + 1]
            self.is_truncated = True
        self.record.append(record)

    def end(self, status: OutcomeStatus) -> Outcome:
        """The outcome once no reply can come any more."""
        return Outcome(
            status="withheld" if self.is_withheld else status,
            tag="; ".join(self.tags)[:MAX_TAG_CHARS] or None,
            rows=self.rows,
            bytes_out=self.bytes_out,
            masked=self.masked,
            detected=self.detected,
            error_code=self.error_code,
            transcript=b"".join(self.record),
            transcript_truncated=self.is_truncated,
            rows_cut=self.rows_cut,
            cut_by=self.cut_by,
            stream=self.stream,
        )

    def break_off(self, error_code: str) -> Outcome:
        """The outcome when the connection to the server ended first: only for pure reads is it certain that nothing happened."""
        self.error_code = self.error_code or error_code
        return self.end("failed" if self.effects == {"read"} or isinstance(self.event, Parse) else "unknown")


Adopt = Callable[[int], tuple[OpenAction, bool] | None]


class OpenActions:
    """The actions of one session, in the order they were sent, and the prepared statements that can still be described.

    Args:
        max_statements: prepared statements remembered; beyond it the oldest is forgotten and its results are withheld.
        adopt: gives an action that the kernel let through by itself, once something about it is the host's to see, and whether its
            end is still to be recorded.
    """

    __slots__ = ("__weakref__", "_adopt", "_max_statements", "_open", "_prepared", "_statements")

    def __init__(self, max_statements: int, adopt: Adopt = lambda _: None) -> None:
        self._max_statements = max_statements
        self._adopt = adopt
        self._open: dict[int, OpenAction] = {}
        self._prepared: dict[int, OpenAction] = {}
        self._statements: dict[str, int] = {}

    def __len__(self) -> int:
        """How many actions have replies to come."""
        return len(self._open)

    def add(self, action: OpenAction) -> None:
        """An action that is about to be sent."""
        self._open[action.ruling.number] = action

    def take(self, number: int) -> OpenAction:
        """Remove an action that was not sent after all."""
        return self._open.pop(number)

    def find(self, number: int | None) -> OpenAction | None:
        """The action a reply belongs to: one under way, or the statement it describes."""
        if number is None:
            return None
        found = self._open.get(number) or self._prepared.get(number)
        if found is None and (adopted := self._adopt(number)) is not None:
            found, is_open = adopted
            if is_open:
                self._open[number] = found
            else:
                self._remember(f"\0{number}", number, found)  # a name no statement has: the kernel knows the real one
        return found

    def find_ruling(self, number: int | None) -> Ruling | None:
        """The ruling a reply belongs to, where it is known."""
        found = self.find(number)
        return None if found is None else found.ruling

    def count(self, event: ResultEnd) -> None:
        """What one result amounted to."""
        if (action := self.find(event.action)) is not None:
            action.rows += event.rows
            action.bytes_out += event.bytes_out
            action.masked.update(event.masked)
            action.detected.update(event.detected)
            action.keep(event.record)
            action.is_truncated |= event.record_truncated
            action.is_withheld |= event.withheld not in {None, "cut"}
            if event.withheld == "cut":
                action.rows_cut += event.rows_withheld
                action.cut_by = event.cut_by

    def note_copied(self, event: CopyInEnd, commit: Callable[[bytes], str]) -> None:
        """The agent has sent the last data of a COPY; `commit` keys a digest. A text of several COPYs has one digest after the other."""
        if event.is_done and (action := self.find(event.action)) is not None:
            action.stream["bytes_in"] = action.stream.get("bytes_in", 0) + event.bytes_in
            action.stream["copied"] = [*action.stream.get("copied", ()), commit(event.sha256)]

    def tag(self, event: CommandComplete) -> None:
        """A statement of an action ended well."""
        if (action := self.find(event.action)) is not None:
            action.is_withheld |= event.is_withheld
            if event.tag:
                action.tags.append(event.tag)

    def note_error(self, event: ServerError) -> None:
        """The server failed an action."""
        if (action := self.find(event.action)) is not None:
            action.error_code = event.code

    def end(self, event: ActionEnd) -> tuple[Ruling, Outcome] | None:
        """An action is over: its ruling and outcome, None when it is not known."""
        self.find(event.action)
        action = self._open.pop(event.action, None)
        if action is None:
            return None
        if isinstance(action.event, Parse) and event.status == "completed":
            self._keep_prepared(event.action, action, action.event.statement)
        return action.ruling, action.end(_STATUSES[event.status])

    def drain(self) -> Iterator[OpenAction]:
        """Everything still under way, when the session ends."""
        while self._open:
            yield self._open.pop(next(iter(self._open)))

    def _keep_prepared(self, number: int, action: OpenAction, name: str) -> None:
        # What was prepared under this name before can have no description outstanding: replies come in order.
        previous = self._statements.pop(name, None)
        if previous is not None:
            self._prepared.pop(previous, None)
        self._remember(name, number, action)

    def _remember(self, name: str, number: int, action: OpenAction) -> None:
        self._statements[name] = number
        self._prepared[number] = action
        if len(self._statements) > self._max_statements:
            oldest = next(iter(self._statements))
            self._prepared.pop(self._statements.pop(oldest), None)


def unknown_result() -> Refusal:
    """Why a result that belongs to no known statement is withheld."""
    why = "the gateway does not know which statement it belongs to"
    return Refusal("protocol", "protocol.unknown_result", "result withheld", why, "prepare the statement again", "none")


def copy_options(action: Action, event: CopyOut) -> dict[str, Any]:
    """How the COPY writes its rows, as the statement asked."""
    statements = action.facts.get("statements", [])
    copy = statements[event.index].get("copy") if event.index < len(statements) else None
    return dict(copy or {})
