"""Decisions in the client's own words: error fields for refusals, and what obligations mean for a result. Pure.

Error fields follow 53.8 (S V C M D H, and P where a text stops being SQL) and the SQLSTATE codes of appendix A: the message says what
was blocked, DETAIL the rule and why, HINT what to do next and the decision id. No field ever carries a value of a statement, a
parameter or a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.action import BEYOND_LIMIT, Action
from gateway.decision import Enforceable, Obligation
from gateway.messages import Refusal, RefusalKind

ENFORCEABLE: Final = Enforceable(
    selectors=frozenset({"index", "column", "detector"}),
    strategies=frozenset({"drop", "null", "redact", "tokenize", "hash", "partial"}),
    obligations=frozenset(
        {
            "row_limit",
            "volume_limit",
            "inference_budget",
            "rate_limit",
            "record",
            "tag",
            "preview",
            "hold_commit",
            "opaque_result",
        }
    ),
)
"""What this protocol can carry out; a decision that asks for more blocks."""

READ_ONLY_ENFORCEABLE: Final = Enforceable(ENFORCEABLE.selectors, ENFORCEABLE.strategies, ENFORCEABLE.obligations | {"read_only"})
"""The same on a connection whose server refuses every write: only there the obligation read_only can be kept."""

SQLSTATES: Final[Mapping[RefusalKind, str]] = {
    "denied": "42501",  #     insufficient_privilege
    "approval": "42501",  #   the hint names the ticket
    "evidence": "58030",  #   io_error
    "identity": "28000",  #   invalid_authorization_specification
    "target": "08006",  #     connection_failure
    "protocol": "08P01",  #   protocol_violation
    "limit": "54000",  #      program_limit_exceeded
    "cancelled": "57014",  #  query_canceled
}

SYNTAX_ERROR: Final = "42601"
"""What the server would have said of a text its grammar does not know; drivers tell it from a missing right by this code."""

_PLACE: Final = re.compile(r" at character (\d+)$")
"""Where a text stops being SQL; clients show the place by field P, as they do where the server says it."""

TARGET_DOWN, TARGET_LOST, SHUTDOWN, IDLE, TOO_MANY, UNKNOWN_DATABASE, WRONG_TOKEN, NO_TLS = (
    "08001", "08006", "57P01", "57P05", "53300", "3D000", "28P01", "28000",
)  # fmt: skip
"""SQLSTATEs of what ends a session or a login."""

ON_EXCESS: Final = frozenset({"block", "truncate"})
"""What policy may say of a result with more rows than it may have: an error after these rows, or an end."""

MAX_FIELD_CHARS: Final = 1000
"""Longest error field; reasons come from policy and may be long, a terminal is not."""


def refuse(refusal: Refusal, action: Action | None = None, *, fatal: bool = False) -> dict[str, str]:
    """The ErrorResponse fields for a refusal of an action; `fatal` where the session ends with it."""
    parts = [_sentence(refusal.fix)]
    if refusal.retry_after_s is not None:
        parts.append(f"Asking again is worth it after {refusal.retry_after_s} s.")
    code = _choose_code(refusal, action)
    fields = _fields(
        code,
        refusal.what,
        detail=f"Rule {refusal.rule}: {_sentence(refusal.why)}" if refusal.why else f"Rule {refusal.rule}.",
        hint=" ".join([*filter(None, parts), f"Decision {refusal.decision_id}."]),
        fatal=fatal,
    )
    place = _PLACE.search(refusal.what) if code == SYNTAX_ERROR else None
    return fields if place is None else {**fields, "P": place[1]}


def _choose_code(refusal: Refusal, action: Action | None) -> str:
    """What the server would have said of a text that cannot be read, where its own code tells more than that policy allows no such text."""
    if action is not None and action.parse_status == "failed" and refusal.kind == "denied":
        reason = action.parse_reason or ""
        if reason.startswith(("syntax", "unterminated")):
            return SYNTAX_ERROR
        if reason.startswith(BEYOND_LIMIT):
            return SQLSTATES["limit"]
    return SQLSTATES[refusal.kind]


def announce_hold(ticket: str, hold_s: float) -> dict[str, str]:
    """The NoticeResponse fields that say why nothing happens yet."""
    what = f"this statement needs approval; waiting up to {hold_s:g} s for ticket {ticket}"
    hint = f"A reviewer runs `sealgate approvals approve {ticket}`."
    return {"S": "NOTICE", "V": "NOTICE", "C": "00000", "M": _clean(what), "H": hint}


def refuse_login(sqlstate: str, what: str, *, why: str = "", fix: str = "", decision_id: str | None = None) -> dict[str, str]:
    """The FATAL fields for a login that is not let in, or a session that ends for a reason outside any action."""
    hint = " ".join(filter(None, [_sentence(fix), f"Decision {decision_id}." if decision_id else ""]))
    return _fields(sqlstate, what, detail=_sentence(why), hint=hint, fatal=True)


def _fields(sqlstate: str, message: str, *, detail: str, hint: str, fatal: bool) -> dict[str, str]:
    severity = "FATAL" if fatal else "ERROR"
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": message, "D": detail, "H": hint}
    return {name: _clean(text) for name, text in fields.items() if text}


def _sentence(text: str) -> str:
    stripped = text.strip().rstrip(".")
    return f"{stripped[0].upper()}{stripped[1:]}." if stripped else ""


def _clean(text: str) -> str:
    """One printable line: a NUL would end the field early, and control characters could repaint a terminal."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= MAX_FIELD_CHARS else f"{line[: MAX_FIELD_CHARS - 1]}…"


class UnenforceableError(ValueError):
    """An obligation that cannot be carried out on this result; the host withholds it."""


@dataclass(frozen=True, slots=True)
class RowLimit:
    """How many rows a result may have.

    Attributes:
        cut_by: the rule that has the result end after them; None where a result with more ends with an error.
        why: the detail of that error: who set the limit.
    """

    rows: int
    cut_by: str | None = None
    why: str = field(default="", compare=False)


def read_row_limit(obligations: Iterable[Obligation]) -> RowLimit | None:
    """The least of all limits; None for no limit. Of equal ones that which ends with an error binds. Raises UnenforceableError.

    Args:
        obligations: row_limit {rows, on_excess: block|truncate}, among others.
    """
    limits = []
    for obligation in obligations:
        if obligation.kind != "row_limit":
            continue
        rows, on_excess = obligation.params.get("rows"), obligation.params.get("on_excess", "block")
        if not isinstance(rows, int) or isinstance(rows, bool) or rows < 0 or on_excess not in ON_EXCESS:
            raise UnenforceableError(f"rule {obligation.rule} sets a row limit the gateway cannot carry out")
        why = f"Rule {obligation.rule} lets a statement return {rows} rows."
        limits.append(RowLimit(rows, obligation.rule if on_excess == "truncate" else None, why))
    return min(limits, key=lambda limit: (limit.rows, limit.cut_by or ""), default=None)


def join_bound(limit: RowLimit | None, bound: int | None, why: str = "") -> RowLimit | None:
    """The limit, or the bound other obligations set (such as one on the rows of a run), which ends with an error."""
    return limit if bound is None or (limit is not None and limit.rows < bound) else RowLimit(bound, why=why)


def is_near(limit: RowLimit | None, bound: int | None, results: int) -> bool:
    """Whether so many results under way, each of as many rows as it may have, could exceed a bound on all of them together."""
    return bound is not None and (bound if limit is None else limit.rows) * results > bound


type Cut = tuple[str, str | None]


def carry_limit(limit: RowLimit | None, request: Action, index: int) -> tuple[int | None, Cut | None, str]:
    """A limit as the kernel takes it: rows, for a result that is cut the rule and the command tag of a suspended portal, and why.

    Args:
        limit: of the result.
        request: the action the result answers.
        index: which statement of a simple query.
    """
    if limit is None:
        return None, None, ""
    if limit.cut_by is None:
        return limit.rows, None, limit.why
    statements = request.facts.get("statements", ())
    verb = statements[index].get("verb") if 0 <= index < len(statements) else None
    return limit.rows, (limit.cut_by, {"select": "SELECT", "values": "SELECT", "fetch": "FETCH"}.get(str(verb))), limit.why


def can_quote_sensitive(action: Action) -> bool:
    """Whether the server's errors and notices about this action could quote a sensitive value.

    A failed cast quotes the value, a violated constraint the row: texts no mask by column can reach.
    """
    statements = action.facts.get("statements", ())
    return any(
        statement.get("may_yield_sensitive", True)
        or statement.get("meets_sensitive", False)
        or any(table.get("sensitive", True) for table in statement["tables"])
        for statement in statements
    )
