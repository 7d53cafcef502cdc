"""The one path every action takes. Read this file first.

    parse ▶ look up ▶ describe ▶ decide ▶ record ▶ enforce

A host in `gateway.serve` owns the sockets. It parses bytes into an event, calls `PipelineSession.handle`, and enforces the `Ruling`
it gets back. Everything between is here: facts are looked up, the protocol describes the action, policy decides (and a reviewer,
where policy asks for one), and the decision is recorded.

The invariant: no effect and no data without a durable record. It holds by construction at two points.

* `handle` returns a ruling that lets an action through only after its record is durable, unless the action is a harmless read;
* `release_replies` is the one gate before any byte goes to the agent, and it waits for everything decided so far to be durable.

Whatever goes wrong on the way is a refusal, made in one place (`gateway.refusal`): an unhandled case never lets anything through.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import orjson
from sealgate_native.record import Counters, Drafts

from evidence.errors import RecordTooLargeError
from gateway.action import (
    Action,
    Context,
    Resource,
    Subject,
    build_input,
    compute_action_digest,
    digest_material,
    format_time,
)
from gateway.decision import Decision, Enforceable, Obligation
from gateway.errors import EvidenceUnavailableError, IdentityError, LimitExceededError
from gateway.lessons import Recorded
from gateway.messages import Outcome, Refusal, Signal
from gateway.parts import (
    ApprovalDesk,
    DecisionPoint,
    Door,
    Grant,
    Held,
    HoldingDoor,
    Receipt,
    SessionRecorder,
    TranscriptWriter,
)
from gateway.recording import (
    describe_outcome,
    fit_decision,
    fit_facts,
    is_durable,
    name_effects,
    wait_until_durable,
    write_input,
)
from gateway.refusal import Ticket, new_decision_id, refuse_decision, refuse_fault, refuse_unrecorded
from gateway.review import Judged, Review, Wait, refuse_held

__all__ = ["DEFAULT_HOLD_S", "Door", "Pipeline", "PipelineSession", "Receipt", "Ruling", "SessionSettings"]

logger = logging.getLogger(__name__)

DEFAULT_HOLD_S: Final = 25.0
"""How long an action waits for a reviewer: below the 60 s after which clients and load balancers commonly give up."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """The recorded answer to one action, for the host to enforce.

    Attributes:
        number: a small number that labels the replies of this action inside the protocol's own session state.
        release: "a" when the record had to be durable before the target may see anything, "b" for harmless reads.
        refusal: set when the action must not happen.
        held: the rulings on what this action's transaction did before its approval and now keeps; they end as it does.
        recorded: what was recorded, where the same action may be decided the same way again without being asked.
    """

    decision_id: str
    number: int
    action: Action | None
    decision: Decision
    release: Literal["a", "b"]
    refusal: Refusal | None = None
    ticket: str | None = None
    recorded: Recorded | None = None
    held: tuple[Ruling, ...] = ()

    def find_obligation(self, kind: str) -> Obligation | None:
        """The obligation of this kind, where policy set one."""
        return next((item for item in self.decision.obligations if item.kind == kind), None)


def _faulted(error: Exception, action: Action | None, decision_id: str) -> tuple[Decision, None, Refusal]:
    decision, refusal = refuse_fault(error, action, decision_id)
    return decision, None, refusal


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What the pipeline needs to know of a registered connection."""

    resource: Resource
    transcript: Literal["none", "summary", "head", "full"] = "head"
    hold_s: float = DEFAULT_HOLD_S


@dataclass(slots=True)
class Pipeline:
    """Opens sessions; holds what all of them share.

    Attributes:
        open_log: makes the evidence of one session: (fields of session.open, transcript mode) -> SessionRecorder.
        mask_document: the masked form of an input document and the counts by detector, as evidence may hold it.
        clock_ns: wall clock, nanoseconds since the epoch.
    """

    decision_point: DecisionPoint
    desk: ApprovalDesk
    open_log: Callable[[Mapping[str, Any], str], SessionRecorder]
    mask_document: Callable[[Mapping[str, Any]], tuple[dict[str, Any], Mapping[str, int]]]
    clock_ns: Callable[[], int]
    append_log_record: Callable[[str, Mapping[str, Any]], asyncio.Future[Receipt]]

    async def open_session(
        self, *, subject: Subject, settings: SessionSettings, protocol: str, client_ip: str
    ) -> PipelineSession:
        """A session whose opening record is durable. Raises EvidenceUnavailableError."""
        now_ns = self.clock_ns()
        fields = {
            "subject": subject.as_input(),
            "issuer": subject.issuer,
            "resource": settings.resource.as_input(),
            "protocol": protocol,
            "client_ip": client_ip,
            "transcript": settings.transcript,
            **({"run": subject.run_id} if subject.run_id else {}),
        }
        recorder = self.open_log(fields, settings.transcript)
        return PipelineSession(self, recorder, subject, settings, client_ip, format_time(now_ns))

    async def record_refused_login(
        self, *, protocol: str, client_ip: str, code: str, why: str, connection: str | None = None, subject: Subject | None = None
    ) -> str:
        """Record an attempt that never became a session; returns the decision id to show. Raises EvidenceUnavailableError."""
        decision_id = new_decision_id()
        fields: dict[str, Any] = {
            "decision_id": decision_id,
            "protocol": protocol,
            "client_ip": client_ip,
            "code": code,
            "why": why[:500],
        }
        if connection is not None:
            fields["connection"] = connection[:128]
        if subject is not None:
            fields["subject"] = subject.id
        await self.append_log_record("login.refused", fields)
        return decision_id


@dataclass(slots=True)
class PipelineSession:
    """One authenticated conversation of a subject with a target, and the six steps for each of its actions."""

    pipeline: Pipeline
    recorder: SessionRecorder
    subject: Subject
    settings: SessionSettings
    client_ip: str
    started_at: str
    counted: Counters = field(default_factory=Counters)
    _last: asyncio.Future[Receipt] | None = None
    _number: int = 0

    @property
    def id(self) -> str:
        """The session's id, as evidence names it."""
        return self.recorder.session_id

    @property
    def resource(self) -> Resource:
        """What the session is connected to."""
        return self.settings.resource

    @property
    def desk(self) -> ApprovalDesk:
        """Where requests for review are kept."""
        return self.pipeline.desk

    @property
    def decision_point(self) -> DecisionPoint:
        """Where policy is asked."""
        return self.pipeline.decision_point

    @property
    def _review(self) -> Review:
        return Review(self)

    @property
    def counters(self) -> dict[str, int]:
        """What the session amounts to so far: actions, refused, rows, bytes."""
        return self.counted.read()

    async def handle(
        self,
        event: Any,
        door: Door,
        *,
        abandoned: Signal | None = None,
        prepares_only: bool = False,
        on_hold: Callable[[Ticket], None] | None = None,
    ) -> Ruling:
        """Look up, describe, decide and record one event. Never raises: whatever fails is a ruling with a refusal.

        Args:
            event: what the protocol parsed.
            door: the protocol's own functions and the host's look-ups.
            abandoned: set by the host when the client goes away, which ends a wait for a reviewer.
            prepares_only: nothing runs until a later event that is decided on its own, such as the Execute of a prepared
                statement; an approval is then left to that event, while a denial blocks at once.
            on_hold: called when the action begins to wait for a reviewer, for protocols that can say so meanwhile.
        """
        decision_id = new_decision_id()
        action: Action | None = None
        try:
            self.check_identity()
            facts = await self._look_up(event, door)  #           look up
            action = door.describe(event, facts)  #               describe
            judged = await self._decide(action, door, decision_id, Wait(abandoned, on_hold), prepares_only)  # decide
        except Exception as error:  # noqa: BLE001 - fail closed: any fault at all is a refusal with a record
            judged = Judged(*_faulted(error, action, decision_id))
        return await self._record(action, judged, decision_id)  # record; the host enforces

    async def handle_response(self, ruling: Ruling, action: Action, door: Door) -> Ruling:
        """Decide how the result just described may be delivered; asked once per description. Never raises."""
        decision_id = new_decision_id()
        try:
            document = self.build_document(action)
            decision = await self.pipeline.decision_point.decide(document, door.enforceable)
            refusal = refuse_decision(decision, action, decision_id) if decision.is_blocked else None
            judged = Judged(decision, document, refusal)
        except Exception as error:  # noqa: BLE001 - fail closed, as in handle
            judged = Judged(*_faulted(error, action, decision_id))
        return await self._record(action, judged, decision_id, request=ruling)

    async def release_replies(self) -> None:
        """Wait until all that was decided and delivered so far is durable: the one gate before any byte goes to the agent.

        How an action ended that delivered nothing is queued, and durable within `evidence.log.MAX_DELAY_S`; after a crash before
        that its decision stands without an outcome, which recovery says ("unknown").

        Raises:
            EvidenceUnavailableError: a record could not be made durable, so nothing may be delivered any more.
        """
        last = self.find_unsettled()
        if last is not None:
            await wait_until_durable(last)

    def find_unsettled(self) -> asyncio.Future[Receipt] | None:
        """The newest decision, or record of what was delivered, while it is not durable; it is hurried then. Answers wait for it."""
        last = self._last
        if last is None or is_durable(last):
            return None
        self.recorder.hurry()
        return last

    def open_transcript(self, ruling: Ruling) -> TranscriptWriter:
        """The transcript of a let-through action that runs for a while; end it before `finish`."""
        return self.recorder.open_transcript(ruling.decision_id)

    def finish(self, ruling: Ruling, outcome: Outcome) -> None:
        """Queue how a let-through action ended, and its masked transcript. Raises EvidenceUnavailableError."""
        self.counted.add(rows=outcome.rows, bytes=outcome.bytes_out)
        fields = {"decision_id": ruling.decision_id, **describe_outcome(outcome)}
        if outcome.transcript and self.settings.transcript in {"head", "full"}:
            fields["transcript"] = self.recorder.put_blob("transcript", outcome.transcript)
            fields["transcript_truncated"] = outcome.transcript_truncated
        record = self.recorder.append("outcome", fields)
        if outcome.rows or outcome.bytes_out or outcome.transcript:
            self._last = record  # what was delivered is on record before it is; that nothing was need not be waited for
        for held in ruling.held:
            self.finish(held, Outcome(outcome.status, outcome.tag, error_code=outcome.error_code))

    def append_drafts(self, drafts: Drafts) -> asyncio.Future[Receipt]:
        """Queue the records of actions that were let through as learned (`gateway.lessons`). Raises EvidenceUnavailableError."""
        try:
            record = self.recorder.append_drafts(drafts)
        except ValueError as error:
            raise EvidenceUnavailableError("a record cannot be made", why=str(error), fix="connect again") from error
        if drafts.has_decisions or drafts.has_data:
            self._last = record
        return record

    async def record_lookup(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Record a question the gateway itself put to the target. Raises EvidenceUnavailableError."""
        self._last = self.recorder.append("lookup", {"kind": kind, **fields})

    async def close(self, reason: str) -> None:
        """Record the session's end with its totals. Raises EvidenceUnavailableError."""
        await wait_until_durable(self.recorder.close({"reason": reason, "counters": self.counters}))

    # --- for reviews

    def check_identity(self) -> None:
        """Raise IdentityError once the proof of identity has ended."""
        if self.subject.expires_ns and self.pipeline.clock_ns() >= self.subject.expires_ns:
            raise IdentityError(
                "the token of this session has expired",
                why="every action needs a live proof of identity, also inside an open session",
                fix="get a new token and connect again",
            )

    def build_document(self, action: Action, grant: Grant | None = None) -> dict[str, Any]:
        """The input document of an action, with a grant where reviewers gave one."""
        context = Context(
            now_ns=self.pipeline.clock_ns(),
            session_id=self.id,
            session_started_at=self.started_at,
            client_ip=self.client_ip,
            run_id=self.subject.run_id,
            counters=self.counters,
        )
        document = build_input(action, self.subject, self.settings.resource, context)
        if grant is not None:
            document["approval"] = {
                "reviewers": [dict(reviewer) for reviewer in grant.reviewers],
                "expires_ns": grant.expires_ns,
                "break_glass": grant.break_glass,
            }
        return document

    def limit_wait(self) -> float:
        """Seconds an action may wait for a reviewer now: no longer than the proof of identity lasts."""
        if not self.subject.expires_ns:
            return self.settings.hold_s
        return max(0.0, min(self.settings.hold_s, (self.subject.expires_ns - self.pipeline.clock_ns()) / 1e9))

    def keep_answer(self, payload: Mapping[str, object], protocol: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """What the target answered as it may be shown, masked, and the reference to its copy in evidence."""
        masked, _ = self.pipeline.mask_document({protocol: {"payload": dict(payload)}})
        shown: Mapping[str, Any] = masked[protocol]["payload"]
        return shown, self.recorder.put_blob("input", orjson.dumps(shown, option=orjson.OPT_SORT_KEYS))

    async def show_effect(self, ticket: str, effect: Mapping[str, object], protocol: str) -> bool:
        """Show a request's reviewers what its action did; False where they were shown something else."""
        return await self._review.show_effect(ticket, effect, protocol)

    # --- the steps

    async def _look_up(self, event: Any, door: Door) -> dict[str, object]:
        return {lookup.kind: await door.look_up(lookup) for lookup in door.lookups(event)}

    async def _decide(self, action: Action, door: Door, decision_id: str, wait: Wait, prepares_only: bool) -> Judged:
        document = self.build_document(action)
        decision = await self.pipeline.decision_point.decide(document, door.enforceable)
        if decision.effect == "require_approval" and prepares_only:
            return Judged(decision, document, approval={"deferred": True})
        if decision.effect == "require_approval":
            return await self._review.seek(action, door, decision, decision_id, wait)
        refusal = refuse_decision(decision, action, decision_id) if decision.is_blocked else None
        judged = Judged(decision, document, refusal)
        may_keep = refusal is None and "session" in action.effects and not prepares_only
        if may_keep and isinstance(door, HoldingDoor) and (held := door.find_held(action)):
            return await self._settle_held(judged, held, action, door, decision_id, wait)
        return judged

    async def _settle_held(
        self, judged: Judged, held: Sequence[Held], action: Action, door: HoldingDoor, decision_id: str, wait: Wait
    ) -> Judged:
        """Ask for the verdicts on what the transaction did that this action would keep; each is a record of its own."""
        granted: list[Ruling] = []
        for item, verdict in await self._review.settle(held, door, decision_id, wait):
            ruling = await self._record(item.action, verdict, new_decision_id())
            if ruling.refusal is not None:
                for earlier in granted:
                    self.finish(earlier, Outcome("cancelled"))
                return replace(judged, refusal=refuse_held(action, item, ruling.refusal, decision_id), ticket=item.ticket)
            granted.append(ruling)
        return replace(judged, held=tuple(granted))

    async def _record(self, action: Action | None, judged: Judged, decision_id: str, *, request: Ruling | None = None) -> Ruling:
        """Record what was decided; for a response `request` is the ruling it answers, whose number it shares."""
        self._number += request is None
        number = self._number if request is None else request.number
        self.counted.add(actions=request is None)
        ruling = self._rule(action, judged, decision_id, number)
        try:
            try:
                kind, fields = await self._make_record(judged, ruling, request)
                record = self.recorder.append(kind, fields)
            except (
                LimitExceededError,
                RecordTooLargeError,
            ) as error:  # an action too large to be recorded is refused, and that is recorded
                judged = Judged(*_faulted(error, action, decision_id))
                ruling = self._rule(action, judged, decision_id, number)
                kind, fields = "refusal", self._refusal_fields(judged, ruling)
                record = self.recorder.append(kind, fields)
            self.counted.add(refused=judged.refusal is not None)
            self._last = record
            ruling = replace(ruling, recorded=self._keep(judged, ruling, kind, fields))
            if ruling.release == "a" and request is None:
                await wait_until_durable(self._last)
        except Exception as error:  # noqa: BLE001 - an action that cannot be recorded must not happen, whatever the reason
            logger.error("decision %s cannot be recorded: %s", decision_id, error)  # noqa: TRY400 - no payload in a traceback
            return replace(ruling, refusal=refuse_unrecorded(action, decision_id))
        return ruling

    def _rule(self, action: Action | None, judged: Judged, decision_id: str, number: int) -> Ruling:
        harmless = action is not None and action.harmless_read and judged.refusal is None
        release: Literal["a", "b"] = "b" if harmless else "a"
        return Ruling(decision_id, number, action, judged.decision, release, judged.refusal, judged.ticket, held=judged.held)

    async def _make_record(self, judged: Judged, ruling: Ruling, request: Ruling | None) -> tuple[str, dict[str, Any]]:
        """Type and fields of the record of a ruling. Raises LimitExceededError when the input is larger than a record holds."""
        if ruling.action is None or judged.document is None:
            return "refusal", self._refusal_fields(judged, ruling)
        return "decision", await self._record_fields(ruling.action, judged, judged.document, ruling, request)

    def _keep(self, judged: Judged, ruling: Ruling, kind: str, fields: Mapping[str, Any]) -> Recorded | None:
        """What was recorded, if the same action may be decided the same way again: never refusals, approvals or masked inputs."""
        decision, document, action = judged.decision, judged.document, ruling.action
        is_plain = judged.refusal is None and judged.approval is None and judged.ticket is None and decision.cause is None
        if not decision.until_mono_ns or not is_plain or kind != "decision" or document is None or action is None:
            return None
        if fields["replay"] != "exact" or "input_detected" in fields:
            return None
        until_ns = min(decision.until_ns, self.subject.expires_ns or decision.until_ns)
        material = digest_material(action, self.subject, self.settings.resource)
        return Recorded(fields, document, material, decision.until_mono_ns, until_ns)

    def _refusal_fields(self, judged: Judged, ruling: Ruling) -> dict[str, Any]:
        """The record of an attempt that never became an input document: undecodable bytes, an expired token, a failed look-up."""
        refusal = judged.refusal
        fields: dict[str, Any] = {
            "decision_id": ruling.decision_id,
            "subject": self.subject.id,
            "connection": self.settings.resource.connection,
            "code": refusal.rule if refusal else "gateway.fault",
            "why": (refusal.why or refusal.what)[:500] if refusal else "",
        }
        if ruling.action is not None:
            fields["action"] = name_effects(ruling.action)
            fields["digest"] = self.recorder.commit(compute_action_digest(ruling.action, self.subject, self.settings.resource))
        return fields

    async def _record_fields(
        self, action: Action, judged: Judged, document: Mapping[str, Any], ruling: Ruling, request: Ruling | None
    ) -> dict[str, Any]:
        decision = judged.decision
        masked, detected = self.pipeline.mask_document(document)
        recorded = write_input(masked)
        fields: dict[str, Any] = {
            "decision_id": ruling.decision_id,
            "phase": action.phase,
            "action": name_effects(action),
            "subject": self.subject.id,
            "connection": self.settings.resource.connection,
            "digest": self.recorder.commit(compute_action_digest(action, self.subject, self.settings.resource)),
            "facts": fit_facts(action),
            "decision": decision.as_record(),
            "engine": decision.engine,
            "bundle": decision.bundle_digest,
            "duration_ns": decision.duration_ns,
            "cached": decision.cached,
            "release": ruling.release,
            "refused": judged.refusal is not None,
            "replay": await self._mark_replay(judged, masked),
            "input": self.recorder.put_blob("input", recorded),
        }
        optional = {
            "request_decision_id": request.decision_id if request else None,
            "on_behalf_of": self.subject.on_behalf_of,
            "cause": decision.cause,
            "approval": dict(judged.approval) if judged.approval else None,
            "ticket": judged.ticket,
            "response": dict(action.response) if action.response else None,
            "input_detected": dict(detected) or None,
        }
        return fit_decision(fields | {name: value for name, value in optional.items() if value is not None})

    async def _mark_replay(self, judged: Judged, masked: Mapping[str, Any]) -> str:
        """Whether an auditor who evaluates the recorded, masked input gets the same decision."""
        document = judged.document
        if document is None or masked == document:
            return "exact"
        if self.pipeline.decision_point.judges_alike(document, masked):
            return "same-on-masked"
        everything = Enforceable(frozenset({"index", "column", "detector", "json_path", "header"}), frozenset(), frozenset())
        again = await self.pipeline.decision_point.decide(masked, everything)
        return "same-on-masked" if again.raw == judged.decision.raw and again.raw is not None else "needs-openings"
