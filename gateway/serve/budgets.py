"""What sessions and runs have used up: rows delivered, statements sent, and statements that could tell of sensitive values.

Policy sets the bounds as obligations of a decision; the host counts and refuses what would go beyond. A run is everything one subject
does under one run id of its token, over any number of sessions of this worker, so that connecting anew does not start from nothing.

    volume_limit      {rows, per: session|run}          rows delivered, over all statements that carry it
    inference_budget  {statements, per: session|run}    statements that carry it, and the rows they write to sensitive columns of an index
    rate_limit        {statements, per_s}               statements that carry it, within any span of that length
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final, Literal
from weakref import WeakSet, ref

from sealgate_native.postgres import RowCount

from gateway.action import Subject
from gateway.decision import Obligation
from gateway.messages import Outcome
from gateway.pipeline import Ruling

COUNTED: Final = frozenset({"volume_limit", "inference_budget", "rate_limit"})
"""Obligations that are carried out here."""

MAX_RUNS: Final = 10_000
"""Runs with a run id remembered; the one longest without a session is forgotten first. An entry has about half a KiB."""

MAX_RATE: Final = 10_000
"""Most statements a rate can be set over: their times are kept."""


class UncountableError(ValueError):
    """An obligation that does not say what to count; the host refuses the statement."""


@dataclass(frozen=True, slots=True)
class Excess:
    """A bound that is reached: the rule that set it, and why and what to do as the client is told."""

    rule: str
    why: str
    fix: str


@dataclass(slots=True)
class _Usage:
    rows: RowCount = field(default_factory=RowCount)
    inferences: int = 0
    sessions: WeakSet[SessionBudget] | None = None  # of a run; a session's own usage has none
    sent_at: deque[float] | None = None  # made with the first statement under a rate_limit: an empty one has 0.8 KiB

    def note_sent(self, at_s: float, statements: int) -> None:
        if self.sent_at is None:
            self.sent_at = deque(maxlen=MAX_RATE)
        self.sent_at.extend(repeat(at_s, min(statements, MAX_RATE)))


class Budgets:
    """The usage of every run of a worker.

    Args:
        clock_s: monotonic seconds.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._runs: OrderedDict[tuple[str, str], _Usage] = OrderedDict()

    def __len__(self) -> int:
        """Runs remembered."""
        return len(self._runs)

    def open(self, subject: Subject) -> SessionBudget:
        """The budget of a new session of a subject; without a run id the session is a run of its own, and ends with it."""
        if not subject.run_id:
            return SessionBudget(_Usage(), self._clock_s)
        key = (subject.id, subject.run_id)
        usage = self._runs.pop(key, None) or _Usage()
        self._runs[key] = usage
        while len(self._runs) > MAX_RUNS:
            self._runs.popitem(last=False)
        return SessionBudget(usage, self._clock_s)


def _nothing() -> None:
    return None


class SessionBudget:
    """What one session, and the run it belongs to, may still do."""

    __slots__ = ("__weakref__", "_clock_s", "_results", "_sessions", "_usage")

    def __init__(self, run: _Usage, clock_s: Callable[[], float]) -> None:
        self._usage: dict[str, _Usage] = {"run": run, "session": _Usage()}
        self._clock_s = clock_s
        self._results: Callable[[], Sized | None] = _nothing
        self._sessions = run.sessions = WeakSet() if run.sessions is None else run.sessions
        self._sessions.add(self)

    def follow(self, results: Sized) -> None:
        """What the session awaits, as long as it has it."""
        self._results = ref(results)

    def count_under_way(self) -> int:
        """How many results the sessions of the run await."""
        awaited = (session._results() for session in self._sessions)  # noqa: SLF001 - of its own class
        return sum(len(results) for results in awaited if results is not None)

    def charge(self, obligations: Iterable[Obligation], inferences: int = 1, statements: int = 1) -> Excess | None:
        """Count one message; what it would exceed, in which case it is not counted. Raises UncountableError.

        Args:
            obligations: of its decision.
            inferences: how many of its statements compute with what is sensitive, where there is a budget for them.
            statements: how many it has, for a rate of them.
        """
        counted = [item for item in obligations if item.kind in COUNTED]
        for item in counted:
            if (excess := self._find_excess(item, inferences, statements)) is not None:
                return excess
        kinds = {item.kind for item in counted}
        for usage in self._usage.values():
            usage.inferences += inferences if "inference_budget" in kinds else 0
        if "rate_limit" in kinds:
            self._usage["run"].note_sent(self._clock_s(), statements)
        return None

    def find_row_limit(self, obligations: Iterable[Obligation]) -> tuple[int | None, str]:
        """How many rows may still be delivered, the least of all bounds, and which that is; None without one. Raises UncountableError."""
        bounds = [(_count(item, "rows"), _scope(item), item.rule) for item in obligations if item.kind == "volume_limit"]
        left = [(max(0, rows - self._usage[scope].rows.read()), rows, scope, rule) for rows, scope, rule in bounds]
        if not left:
            return None, ""
        most, rows, scope, rule = min(left)
        return most, f"Rule {rule} lets this {scope} receive {rows} rows in all; {most} of them were left."

    def bind_rows(self, obligations: Iterable[Obligation]) -> list[tuple[RowCount, int | None]]:
        """What rows count on, and how many each count may reach, for who counts them elsewhere. Raises UncountableError."""
        bounds = [item for item in obligations if item.kind == "volume_limit"]
        return [
            (usage.rows, min((_count(item, "rows") for item in bounds if _scope(item) == scope), default=None))
            for scope, usage in self._usage.items()
        ]

    def count_rows(self, ruling: Ruling | None, rows: int) -> None:
        """Rows that were delivered, where the ruling bounds their volume."""
        if ruling is not None and ruling.find_obligation("volume_limit") is not None:
            for usage in self._usage.values():
                usage.rows.add(rows)

    def count_outcome(self, ruling: Ruling, outcome: Outcome) -> None:
        """A statement that could tell of sensitive values ended: where it failed after some rows, the row tells a number, not a bit."""
        if ruling.find_obligation("inference_budget") is None:
            return
        failed_at = outcome.rows.bit_length() if outcome.error_code else 0
        for usage in self._usage.values():
            usage.inferences += failed_at

    def _find_excess(self, item: Obligation, inferences: int, statements: int) -> Excess | None:
        if item.kind == "volume_limit":
            bound, scope = _count(item, "rows"), _scope(item)
            if self._usage[scope].rows.read() < bound:
                return None
            anew = "a run is what one token does" if scope == "run" else "a new session begins anew"
            fix = f"export with COPY ... TO STDOUT, which asks a reviewer, or ask for an exception; {anew}"
            return Excess(item.rule, f"this {scope} has received the {bound} rows it may", fix)
        if item.kind == "inference_budget":
            bound, scope = _count(item, "statements"), _scope(item)
            if self._usage[scope].inferences + inferences <= bound:
                return None
            had = self._usage[scope].inferences
            why = f"this {scope} may have {bound} statements that compute with sensitive columns, and has had {had}, written values included"
            why += "" if inferences == 1 else f"; this would be {inferences} more"
            return Excess(
                item.rule, why, "leave the sensitive columns out; ask the people who administer the database to load many values"
            )
        bound, span_s = _count(item, "statements"), _count(item, "per_s")
        sent_at = self._usage["run"].sent_at or ()
        if bound > MAX_RATE:
            raise UncountableError(f"rule {item.rule} sets a rate over more than {MAX_RATE} statements")
        # The one that has to be over before as many more may come.
        oldest = bound - statements + 1
        if oldest > 0 and (len(sent_at) < oldest or sent_at[-oldest] <= self._clock_s() - span_s):
            return None
        return Excess(item.rule, f"more than {bound} statements within {span_s} s", f"wait {span_s} s, and send less at once")


def _scope(item: Obligation) -> Literal["session", "run"]:
    scope = item.params.get("per")
    if scope == "session":
        return "session"
    if scope == "run":
        return "run"
    raise UncountableError(f"rule {item.rule} bounds neither a session nor a run")


def _count(item: Obligation, name: str) -> int:
    value = item.params.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UncountableError(f"rule {item.rule} sets {item.kind} without a number of {name}")
    return value
