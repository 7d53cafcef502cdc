"""How an action that policy wants reviewed finds its verdict: asked, previewed or run and held, waited for, decided again, used once.

Two ways lead to a reviewer. The ordinary one waits before anything happens. The other, which policy asks for with the obligation
`hold_commit`, lets a door run the action with its effect undone until somebody has seen it: what it did is part of the request,
and it is kept only with a grant for exactly that. A request is shown one effect in its life. Where an action does something else
the next time, its request is closed, so that nobody approves what they were not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gateway.action import Action, Resource, Subject, compute_action_digest, cover
from gateway.decision import Decision, fail_closed
from gateway.messages import Refusal, Signal
from gateway.parts import ApprovalDesk, DecisionPoint, Door, Grant, Held, HoldingDoor, PreviewingDoor
from gateway.refusal import Ticket, name_action, refuse_abandoned, refuse_decision, refuse_ticket


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found out about an action, before it is recorded."""

    decision: Decision
    document: Mapping[str, Any] | None
    refusal: Refusal | None = None
    ticket: str | None = None
    approval: Mapping[str, Any] | None = None
    held: tuple[Any, ...] = ()
    """The rulings on what this action's transaction held, recorded before it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """How an action waits for a reviewer: what ends the wait early, and who is told that it began."""

    abandoned: Signal | None = None
    on_hold: Callable[[Ticket], None] | None = None

    @property
    def is_abandoned(self) -> bool:
        """Whether whoever asked has left."""
        return self.abandoned is not None and self.abandoned.is_set()


class ReviewedSession(Protocol):
    """What a review needs of the session whose action it is about; `gateway.pipeline.PipelineSession` is one."""

    @property
    def id(self) -> str:
        """The session's id."""

    @property
    def subject(self) -> Subject:
        """Who asks."""

    @property
    def resource(self) -> Resource:
        """What the session is connected to."""

    @property
    def desk(self) -> ApprovalDesk:
        """Where requests are kept."""

    @property
    def decision_point(self) -> DecisionPoint:
        """Where policy is asked."""

    def check_identity(self) -> None:
        """Raise IdentityError once the proof of identity has ended."""

    def limit_wait(self) -> float:
        """Seconds an action may wait now: the connection's bound, and no longer than the proof of identity lasts."""

    def build_document(self, action: Action, grant: Grant | None = None) -> dict[str, Any]:
        """The input document of an action."""

    def keep_answer(self, payload: Mapping[str, object], protocol: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """A text as it may be shown, masked, and the reference to its copy in evidence."""

    async def record_lookup(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Record what the gateway itself asked of the target."""

    async def release_replies(self) -> None:
        """Wait until everything recorded so far is durable."""


@dataclass(frozen=True, slots=True)
class Review:
    """The reviews of one session's actions."""

    session: ReviewedSession

    async def seek(self, action: Action, door: Door, decision: Decision, decision_id: str, wait: Wait) -> Judged:
        """Find or make the request for exactly this action, wait where waiting is safe, and decide again with the grant."""
        session, covered = self.session, cover(action)
        ticket = await session.desk.request(
            subject=session.subject,
            resource=session.resource,
            action=covered,
            digest=compute_action_digest(covered, session.subject, session.resource),
            decision=decision,
            session_id=session.id,
        )
        way = door.choose_hold(action, decision) if isinstance(door, HoldingDoor) and _can_hold(ticket) else None
        if isinstance(door, HoldingDoor) and way == "until_commit":
            return await self._let_run(action, door, decision, decision_id, ticket)
        if isinstance(door, HoldingDoor) and way == "at_once":
            return await self._run_held(action, door, decision, decision_id, ticket, wait)
        if ticket.state == "pending" and not ticket.has_preview and isinstance(door, PreviewingDoor):
            await self._preview(door, action, decision, ticket.id)
        if ticket.state == "pending" and door.may_hold():
            ticket = await self._wait(ticket, wait)
        return await self._conclude(action, door, decision, decision_id, ticket, wait, could_wait=door.may_hold())

    async def settle(self, held: Sequence[Held], door: HoldingDoor, decision_id: str, wait: Wait) -> list[tuple[Held, Judged]]:
        """The verdicts on what a transaction did, asked when it is to be kept; the first refusal is the last of the list."""
        for item in held:
            ticket = await self.session.desk.read(item.ticket)
            is_shown = item.effect is not None and item.effect == ticket.effect
            if is_shown and ticket.state == "pending":
                await door.prolong()
                ticket = await self._wait(ticket, wait)
            if not is_shown or item.effect != ticket.effect:
                return [(item, self._refuse_changed(item.action, item.decision, decision_id, ticket))]
            if ticket.state != "approved" or wait.is_abandoned:
                return [(item, await self._conclude(item.action, door, item.decision, decision_id, ticket, wait))]
        settled: list[tuple[Held, Judged]] = []
        for item in held:  # nothing is used up before everything is granted
            ticket = await self.session.desk.read(item.ticket)
            settled.append((item, await self._conclude(item.action, door, item.decision, decision_id, ticket, wait)))
            if settled[-1][1].refusal is not None:
                break
        return settled

    async def show_effect(self, ticket: str, effect: Mapping[str, object], protocol: str) -> bool:
        """Keep with a request, and in evidence, what its action did; False where its reviewers were shown something else."""
        _, answer = self.session.keep_answer(effect, protocol)
        await self.session.record_lookup(f"{protocol}.hold", {"ticket": ticket, "answer": answer})
        return await self.session.desk.show_effect(ticket, effect)

    # --- the steps

    async def _wait(self, ticket: Ticket, wait: Wait) -> Ticket:
        if wait.on_hold is not None:
            wait.on_hold(ticket)
        return await self.session.desk.wait(ticket.id, self.session.limit_wait(), wait.abandoned)

    async def _conclude(
        self,
        action: Action,
        door: Door,
        decision: Decision,
        decision_id: str,
        ticket: Ticket,
        wait: Wait,
        *,
        could_wait: bool = True,
    ) -> Judged:
        """What follows from where the request stands: a refusal, or the decision with its grant, which is used up."""
        session = self.session
        held = session.build_document(action)
        approval = _name(ticket)
        if wait.is_abandoned:
            return Judged(decision, held, refuse_abandoned(action, decision_id, ticket.id), ticket.id, approval)
        grant = await session.desk.read_grant(ticket.id) if ticket.state == "approved" else None
        if grant is None:
            refusal = refuse_ticket(decision, action, decision_id, ticket, could_wait)
            return Judged(decision, held, refusal, ticket.id, approval)
        session.check_identity()
        granted = session.build_document(action, grant)
        final = await session.decision_point.decide(granted, door.enforceable)
        if final.is_blocked or final.effect == "require_approval":
            return Judged(final, granted, refuse_decision(final, action, decision_id, ticket.id), ticket.id, approval)
        if await session.desk.consume(ticket.id) is None:
            used = fail_closed("error", "the approval was used or withdrawn in the meantime", rule="approval.used")
            return Judged(used, granted, refuse_decision(used, action, decision_id, ticket.id), ticket.id, approval)
        return Judged(final, granted, None, ticket.id, {**approval, "used": True})

    async def _preview(self, door: PreviewingDoor, action: Action, decision: Decision, ticket: str) -> None:
        """Learn what the action would do and keep it, masked, with the request and in evidence. The question is durable first."""
        await self._announce(f"{action.protocol}.preview", ticket)
        preview = await door.preview(action, decision)
        if preview is None:
            return
        shown, answer = self.session.keep_answer(preview, action.protocol)
        await self.session.record_lookup(f"{action.protocol}.preview", {"ticket": ticket, "answer": answer})
        await self.session.desk.add_preview(ticket, shown)

    async def _announce(self, kind: str, ticket: str) -> None:
        await self.session.record_lookup(kind, {"ticket": ticket})
        await self.session.release_replies()

    async def _run_held(
        self, action: Action, door: HoldingDoor, decision: Decision, decision_id: str, ticket: Ticket, wait: Wait
    ) -> Judged:
        """Run the action with its effect undone, show that, and wait; the host keeps the effect or takes it back."""
        await self._announce(f"{action.protocol}.hold", ticket.id)
        effect = await door.run_held(action, decision, ticket.id)
        if isinstance(effect, Refusal):
            return self._refuse_run(action, decision, decision_id, ticket, effect)
        if not await self.show_effect(ticket.id, effect, action.protocol):
            return self._refuse_changed(action, decision, decision_id, ticket)
        if ticket.state == "pending":
            ticket = await self._wait(ticket, wait)
        else:
            ticket = await self.session.desk.read(ticket.id)
        if ticket.effect != effect:
            return self._refuse_changed(action, decision, decision_id, ticket)
        return await self._conclude(action, door, decision, decision_id, ticket, wait)

    async def _let_run(self, action: Action, door: HoldingDoor, decision: Decision, decision_id: str, ticket: Ticket) -> Judged:
        """Let the action run inside the client's transaction: what waits for the verdict is the COMMIT."""
        await self._announce(f"{action.protocol}.hold", ticket.id)
        outcome = await door.run_held(action, decision, ticket.id)
        if isinstance(outcome, Refusal):
            return self._refuse_run(action, decision, decision_id, ticket, outcome)
        return Judged(decision, self.session.build_document(action), None, ticket.id, {**_name(ticket), "held": "commit"})

    def _refuse_run(self, action: Action, decision: Decision, decision_id: str, ticket: Ticket, refusal: Refusal) -> Judged:
        named = replace(refusal, decision_id=decision_id, ticket=ticket.id)
        return Judged(decision, self.session.build_document(action), named, ticket.id, _name(ticket))

    def _refuse_changed(self, action: Action, decision: Decision, decision_id: str, ticket: Ticket) -> Judged:
        what, why = f"{name_action(action)} undone", "what it did this time is not what its reviewers were shown"
        fix = "run it again: a new request shows what it does now"
        refusal = Refusal("approval", "approval.effect_changed", what, why, fix, decision_id, ticket.id)
        return Judged(decision, self.session.build_document(action), refusal, ticket.id, _name(ticket))


def refuse_held(action: Action, held: Held, inner: Refusal, decision_id: str) -> Refusal:
    """The refusal of the COMMIT of a transaction that did something without a grant."""
    what = f"{name_action(action)} refused, the transaction is rolled back: {name_action(held.action)} has no approval"
    fix = inner.fix.replace("the same action", "the same transaction")
    return replace(inner, what=what, fix=fix, decision_id=decision_id, ticket=held.ticket)


def _can_hold(ticket: Ticket) -> bool:
    """Whether running first makes sense: somebody is still to see the effect, or approved the one they saw."""
    return ticket.state == "pending" or (ticket.state == "approved" and ticket.effect is not None)


def _name(ticket: Ticket) -> dict[str, Any]:
    return {"ticket": ticket.id, "digest": ticket.digest}
