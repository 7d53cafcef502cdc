"""What a reviewer is shown of a statement before it runs: its plan, and how many rows it would change. Pure.

The plan comes from EXPLAIN without ANALYZE, which runs nothing. The count comes from running the statement in a transaction that is
rolled back, and only where policy asks for it, because that takes locks and fires triggers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sealgate_native.sql import analyze

from gateway.action import Action
from gateway.decision import Obligation
from gateway.protocols.postgres.guesses import tells_by_running

PREVIEW: Final = "preview"
"""The obligation that asks for a count: {"kind": "preview", "rows": true}."""

EXPLAIN: Final = "explain (costs on, format text) "
"""Its options are always there, so that a statement which begins with a parenthesis cannot be taken for them."""

PLANNED_VERBS: Final = frozenset({"select", "insert", "update", "delete", "merge", "values"})
COUNTED_VERBS: Final = frozenset({"update", "delete"})
"""INSERT and MERGE draw numbers from sequences, which no rollback gives back; their plan tells how many rows there are."""

COUNTED_EFFECTS: Final = frozenset({"read", "write"})
"""Only changes of rows can be undone whole by a rollback."""

MAX_PLAN_CHARS: Final = 8_000
"""Longest plan a reviewer is shown; plans of hand-written statements have some 20 lines."""


@dataclass(frozen=True, slots=True)
class PreviewRequest:
    """What to ask the server.

    Attributes:
        explain: the EXPLAIN statement; None where there is no plan.
        counted: the statement to run and roll back; None where it is not counted.
        notes: why something is not shown, as sentences.
    """

    explain: str | None
    counted: str | None
    notes: tuple[str, ...] = ()


def choose_preview(action: Action, obligations: Iterable[Obligation]) -> PreviewRequest:
    """What can be shown of an action that waits for a reviewer."""
    statements: Sequence[dict[str, Any]] = action.facts.get("statements", ())
    text = str(action.payload.get("text", ""))
    if len(statements) != 1 or "named" in action.payload:
        return PreviewRequest(None, None, ("no plan: only one statement that shows its own text has one",))
    (statement,) = statements
    notes: list[str] = []
    explain: str | None = EXPLAIN + text
    if statement["verb"] not in PLANNED_VERBS or not _is_plain_explain(explain or ""):
        explain = None
        notes.append(f"no plan: {str(statement['verb']).upper().replace('_', ' ')} has none")
    counted = None
    if any(item.kind == PREVIEW and item.params.get("rows") is True for item in obligations):
        if explain is not None and _is_countable(statement, action):
            counted = text
        else:
            notes.append("rows not counted: a rollback could not undo everything the statement does, or tells")
    return PreviewRequest(explain, counted, tuple(notes))


def _is_plain_explain(text: str) -> bool:
    """Whether the composed text is exactly one EXPLAIN that runs nothing."""
    analysis = analyze(text)
    if analysis["status"] != "ok" or len(analysis["statements"]) != 1:
        return False
    (only,) = analysis["statements"]
    return only["verb"] == "explain" and not only["is_explain_analyze"]


def _is_countable(statement: dict[str, Any], action: Action) -> bool:
    return (
        statement["verb"] in COUNTED_VERBS
        and action.effects <= COUNTED_EFFECTS
        and not tells_by_running(action)
        and all(call.get("harmless") is True for call in statement["functions"])
    )
