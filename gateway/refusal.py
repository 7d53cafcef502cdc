"""Refusals: what a blocked action tells the person at the other end, and the one table of what fails closed how.

Every refusal names what was blocked, the rule, why, what to do next and the decision id. Whatever went wrong on an action's way
through the pipeline becomes a refusal in `refuse_fault`, so no unhandled case can let anything through.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import Final, Literal, Protocol

from evidence.errors import RecordTooLargeError
from gateway.action import BEYOND_LIMIT, Action
from gateway.decision import Decision, Reason
from gateway.errors import EvidenceUnavailableError, IdentityError, LimitExceededError, ProtocolError, SealgateError, TargetError
from gateway.messages import Refusal, RefusalKind

logger = logging.getLogger(__name__)

BUSY: Final = "policy.busy"
BUSY_RETRY_S: Final = 1
"""A burst is over within a second or two; the client has waited for `policy.wait_ms` already."""

UNKNOWN_EFFECT: Final = "default.deny.unknown"
"""The rule that refuses what nobody can tell the effect of."""


class Ticket(Protocol):
    """A request for review of one exact action."""

    @property
    def id(self) -> str:
        """The short id reviewers and agents use."""

    @property
    def digest(self) -> str:
        """The action digest keyed with the ticket's own salt, in hex; what the reviewer signs."""

    @property
    def state(self) -> Literal["pending", "approved", "denied", "expired", "used"]:
        """Where the request stands."""

    @property
    def note(self) -> str | None:
        """What the reviewer said, where they said something."""

    @property
    def has_preview(self) -> bool:
        """Whether reviewers are shown what the action would do."""

    @property
    def effect(self) -> Mapping[str, object] | None:
        """What the action did in a run that waits for its verdict, or waited for it; None where it has not run."""


def new_decision_id() -> str:
    """A unique id that joins the refusal a person sees to its record."""
    return str(uuid.uuid4())


def name_action(action: Action | None) -> str:
    """What a person would call the action: its statements' verbs, or its method and operation, where it has them."""
    if action is None:
        return "request"
    if action.title is not None:
        return action.title
    statements = action.facts.get("statements")
    verbs = [_name_verb(item) for item in statements] if isinstance(statements, list) else []
    if isinstance(method := action.facts.get("method"), str):
        operation = action.facts.get("operation") or {}
        return f"{method} {operation.get('id') or action.facts.get('host', '')}".strip()
    return " and ".join(dict.fromkeys(verb for verb in verbs if verb)) or action.name


def _name_verb(statement: Mapping[str, object]) -> str:
    """The words a statement begins with: CREATE and the kind of object, where the verb alone says no more than that it makes one."""
    verb = str(statement.get("verb", ""))
    if verb == "create_object" and "object" in statement:
        verb = f"create_{statement['object']}"
    return verb.upper().replace("_", " ")


def refuse_decision(decision: Decision, action: Action, decision_id: str, ticket: str | None = None) -> Refusal:
    """The refusal of an action that policy blocked."""
    lead = decision.lead_reason()
    what = f"{name_action(action)} blocked by policy"
    fix = _say_solution(decision.solution)
    retry_after_s = None
    if decision.cause == BUSY and action.phase == "request":
        fix, retry_after_s = "it was not carried out; try again, and tell the gateway's operators if it recurs", BUSY_RETRY_S
    elif decision.cause is not None:
        fix = "the gateway refuses what it cannot judge; tell its operators the decision id"
    elif action.parse_status == "failed":
        # Policy says truly that nothing allows what is unknown, but only the parser knows what is wrong.
        what, fix = _say_unreadable(action.parse_reason or "not understood")
    elif lead.rule == UNKNOWN_EFFECT and action.unclear is not None:
        fix = action.unclear
    return Refusal("denied", lead.rule, what, lead.message, fix, decision_id, ticket, retry_after_s)


_ASKING: Final = (
    "Ask a reviewer to approve the ticket, then run the same statement again",
    "Ask a reviewer to approve the ticket, then send the same request again",
    "Ask a reviewer to approve the ticket",
    "Wait for the reviewer, or ask one with the ticket",
)
"""How rules say what is said here anyway, with the ticket."""


def _say_solution(solution: str | None) -> str:
    """What to do about a rule: what it says itself, and whom to ask."""
    if not solution:
        return "ask for a policy change or an exception, naming the rule and the decision id"
    said = _begin_small(solution.rstrip("."))
    whom = "name" if "ask " in said else "or ask for a policy change, naming"
    return f"{said}; {whom} the rule and the decision id"


def _say_alternative(solution: str | None) -> str:
    """What can be done instead of waiting for a reviewer, as far as the rule says so."""
    said = (solution or "").rstrip(".")
    for asking in _ASKING:
        said = said.removeprefix(asking).removesuffix(f"; or {_begin_small(asking)}")
    said = said.strip(" ,;").removeprefix("or ")
    return f"; or {_begin_small(said)}" if said else ""


def _begin_small(text: str) -> str:
    """As every `fix` begins, but for a word of capitals: "EXPLAIN without ANALYZE"."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def refuse_unreadable(reason: str, decision_id: str) -> Refusal:
    """The refusal of a request that policy allowed although nobody could read it."""
    what, fix = _say_unreadable(reason)
    return Refusal("protocol", ProtocolError.code, what, "no policy can allow what was not read", fix, decision_id)


def _say_unreadable(reason: str) -> tuple[str, str]:
    if reason.startswith(BEYOND_LIMIT):
        fix = "ask for less at once, or ask the gateway's operators whether the limit can be raised; nothing reached the target"
        return f"the request is {reason}", fix
    return f"the request cannot be read: {reason}", "correct the request; what the gateway cannot read never reaches the target"


def refuse_ticket(decision: Decision, action: Action, decision_id: str, ticket: Ticket, could_wait: bool) -> Refusal:
    """The refusal of an action that waits for, or was refused by, a reviewer."""
    lead = decision.lead_reason()
    if ticket.state == "denied":
        why = f"a reviewer denied it{': ' + ticket.note if ticket.note else ''}"
        return Refusal(
            "denied",
            "approval.denied",
            f"{name_action(action)} denied",
            why,
            "change the action, or talk to the reviewer",
            decision_id,
            ticket.id,
        )
    if ticket.state == "expired":
        fix = "run the same statement again to ask anew"
        return Refusal(
            "approval",
            "approval.expired",
            f"{name_action(action)} needs approval",
            "the request expired",
            fix,
            decision_id,
            ticket.id,
        )
    fix = f"ask a reviewer to run `sealgate approvals approve {ticket.id}`, then run the same action again"
    fix += _say_alternative(decision.solution)
    why = "; ".join(filter(None, ((decision.failure_msg or "").rstrip("."), lead.message)))
    why = why if could_wait else f"{why}; it cannot wait inside an open transaction"
    return Refusal(
        "approval", lead.rule, f"{name_action(action)} needs approval", why, fix, decision_id, ticket.id, retry_after_s=30
    )


def refuse_abandoned(action: Action, decision_id: str, ticket: str) -> Refusal:
    """The refusal of an action whose client left during the wait."""
    what, why = f"{name_action(action)} cancelled", "the client stopped waiting for the approval"
    return Refusal(
        "cancelled", "approval.abandoned", what, why, "run the same action again; the request stays open", decision_id, ticket
    )


def refuse_unrecorded(action: Action | None, decision_id: str) -> Refusal:
    """The refusal of an action, or of its result, whose record cannot be made durable."""
    what, why = f"{name_action(action)} not executed", "its record cannot be made durable, and nothing happens without a record"
    if _is_result(action):
        what, why = f"result of {name_action(action)} withheld", f"its record cannot be made durable; {_RAN}"
    return Refusal(
        "evidence", "evidence.unavailable", what, why, "tell the gateway's operators to check the evidence store", decision_id
    )


_RAN: Final = "what was executed has taken effect all the same"


def _is_result(action: Action | None) -> bool:
    return action is not None and action.phase == "response"


FAULTS: Final[tuple[tuple[type[SealgateError], RefusalKind], ...]] = (
    (IdentityError, "identity"),
    (LimitExceededError, "limit"),
    (ProtocolError, "protocol"),
    (TargetError, "target"),
    (EvidenceUnavailableError, "evidence"),
)
"""Which family of refusal each expected error becomes; anything else is a fault of the gateway and reads as denied."""


def refuse_fault(error: Exception, action: Action | None, decision_id: str) -> tuple[Decision, Refusal]:
    """The one place where something that went wrong becomes a refusal."""
    if isinstance(error, RecordTooLargeError):
        error = LimitExceededError("the action is too large to be recorded", why=str(error), fix="ask for less at once")
    if isinstance(error, SealgateError):
        kind: RefusalKind = next((kind for family, kind in FAULTS if isinstance(error, family)), "denied")
        what, why = f"{name_action(action)} refused: {error.what}", error.why
        if _is_result(action):
            what, why = f"result of {name_action(action)} withheld: {error.what}", "; ".join(filter(None, (error.why, _RAN)))
        refusal = Refusal(kind, error.code, what, why, error.fix, decision_id)
    else:
        logger.error("decision %s: fault in the gateway: %s", decision_id, type(error).__name__, exc_info=error)
        why = "the gateway met a case it does not handle, and refuses what it does not understand"
        fix = "tell the gateway's operators the decision id"
        what = f"{name_action(action)} refused"
        if _is_result(action):
            what, why = f"result of {name_action(action)} withheld", f"{why}; {_RAN}"
        refusal = Refusal("denied", "gateway.fault", what, why, fix, decision_id)
    return Decision("block", (Reason(refusal.rule, "deny", refusal.why, "critical"),), cause=refusal.rule), refusal
