"""What stops a statement that policy allowed: cancelled meanwhile, changing what the gateway relies on, or beyond a bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sealgate_native.postgres import Session

from gateway.decision import Obligation
from gateway.messages import Outcome, Refusal
from gateway.pipeline import PipelineSession, Ruling
from gateway.protocols.postgres import actions, enforce, guesses
from gateway.protocols.postgres.events import FunctionCall, JudgedEvent, Parse
from gateway.protocols.postgres.hold import find_loosened
from gateway.protocols.postgres.large_objects import may_deliver
from gateway.protocols.postgres.pins import explain_pins, find_changed_pins
from gateway.refusal import name_action
from gateway.serve.budgets import SessionBudget, UncountableError
from gateway.serve.postgres.door import PostgresDoor

FAILED_RESULT_ROWS: Final = 2_000
"""Rows that a result with sensitive columns counts for where it fails: how long a masked value is decides whether one fits a message."""


class LateChecks:
    """Asked once for each allowed event, before it is sent; a refusal leaves its own outcome record.

    Args:
        kernel: of the session; what it keeps of results is dropped where a bound is near.
        session: takes the outcomes.
        door: of the session.
        budget: what the session and its run may still do.
    """

    __slots__ = ("_budget", "_door", "_kernel", "_session")

    def __init__(self, kernel: Session, session: PipelineSession, door: PostgresDoor, budget: SessionBudget) -> None:
        self._kernel = kernel
        self._session = session
        self._door = door
        self._budget = budget

    def refuse(self, event: JudgedEvent, ruling: Ruling, *, is_cancelled: bool) -> Refusal | None:
        """Why the event must not be sent, None where it may. Raises EvidenceUnavailableError."""
        if is_cancelled:
            self._session.finish(ruling, Outcome("cancelled", error_code="57014"))
            what, why = "statement cancelled", "the client stopped waiting for it"
            return Refusal("cancelled", "agent.cancelled", what, why, "run it again", ruling.decision_id)
        if ruling.action is not None and self._door.is_overtaken(ruling.action):
            self._session.finish(ruling, Outcome("refused", error_code=enforce.SQLSTATES["protocol"]))
            what, why = (
                "definitions change meanwhile",
                "a relation the statement names is being renamed, moved, dropped or defined anew",
            )
            return Refusal("protocol", "postgres.overtaken", what, why, "run it again", ruling.decision_id)
        if (refusal := self._refuse_fixed(event, ruling)) is not None:
            self._session.finish(ruling, Outcome("refused", error_code=enforce.SQLSTATES["protocol"]))
            return refusal
        if isinstance(event, FunctionCall) and not may_deliver(ruling.action, ruling.decision.obligations):
            self._session.finish(ruling, Outcome("refused", error_code=enforce.SQLSTATES["denied"]))
            what, why = "large object not read", "what it holds could be sensitive, and no mask reaches into it"
            fix = "ask for data.site.postgres.opaque_large_objects, if its content may leave as it is"
            return Refusal("denied", "postgres.opaque", what, why, fix, ruling.decision_id)
        return None if isinstance(event, Parse) else self._charge(ruling)

    def finish(self, ruling: Ruling, outcome: Outcome) -> None:
        """An action that was sent ended: what its end tells counts from now on, and its outcome is recorded. Raises EvidenceUnavailableError."""
        self._budget.count_outcome(ruling, outcome)
        if guesses.tells_by_failing(ruling.action, outcome.error_code):
            self._budget.count_rows(ruling, FAILED_RESULT_ROWS)
        self._session.finish(ruling, outcome)

    def bound_rows(
        self, limit: enforce.RowLimit | None, obligations: Sequence[Obligation], *, is_coming: bool = False
    ) -> tuple[enforce.RowLimit | None, bool]:
        """The limit of a result with the bounds on all rows of a session and its run, and whether it is good for this result only.

        `is_coming` where the result is not among those under way yet.

        Raises:
            UncountableError: a bound cannot be counted.
        """
        bound, why = self._budget.find_row_limit(obligations)
        if bound is None:
            return limit, False
        results = self._budget.count_under_way() + is_coming
        return enforce.join_bound(limit, bound, why), enforce.is_near(limit, bound, results)

    def _refuse_fixed(self, event: JudgedEvent, ruling: Ruling) -> Refusal | None:
        """Why an event would undo what was fixed when the session, or a wait for a reviewer, began."""
        if pins := self._find_pins(event, ruling):
            what, why, fix = explain_pins(pins, ruling.action)
            return Refusal("protocol", "postgres.pinned", what, why, fix, ruling.decision_id)
        if self._door.weighs_costs and ruling.action is not None and actions.is_vast(ruling.action):
            what, why = (
                "statement too vast",
                "with so many relations and functions its rows could come in the order of a sensitive column",
            )
            return Refusal("protocol", "postgres.vast", what, why, "join less at once", ruling.decision_id)
        if bounds := self._find_bounds(ruling):
            what = f"{'settings' if bounds == ['all'] else ' and '.join(bounds)} cannot be changed now"
            why = "something this transaction did waits for approval, and the setting bounds how long others wait behind it"
            return Refusal("protocol", "postgres.pinned", what, why, "set it before the transaction begins", ruling.decision_id)
        return None

    def _find_pins(self, event: JudgedEvent, ruling: Ruling) -> list[str]:
        door = self._door
        return find_changed_pins(
            event,
            ruling.action,
            fixed=door.fixed,
            path=door.present_path,
            encodings=door.values.encodings,
            looks_up=door.looks_up,
        )

    def _find_bounds(self, ruling: Ruling) -> list[str]:
        hold = self._door.hold
        return [] if hold is None or not hold.is_open or ruling.action is None else find_loosened(ruling.action)

    def _charge(self, ruling: Ruling) -> Refusal | None:
        """Count a statement against what its session and run may do."""
        obligations = ruling.decision.obligations
        try:
            excess = self._budget.charge(
                obligations, guesses.count_inferences(ruling.action), actions.count_statements(ruling.action)
            )
            if self.bound_rows(enforce.read_row_limit(obligations), obligations, is_coming=True)[1]:
                # What is left by the time of its result is another number: a decision made for an earlier one must not be used.
                self._kernel.forget_plans()
        except (UncountableError, enforce.UnenforceableError) as error:
            fix = "tell the authors of the policy the decision id"
            refusal = Refusal("denied", "policy.obligation", "statement refused", str(error), fix, ruling.decision_id)
        else:
            if excess is None:
                return None
            refusal = Refusal(
                "limit",
                excess.rule,
                f"{name_action(ruling.action)} refused: limit reached",
                excess.why,
                excess.fix,
                ruling.decision_id,
            )
        self._session.finish(ruling, Outcome("refused", error_code=enforce.SQLSTATES[refusal.kind]))
        return refusal
