"""One PostgreSQL session: two directions, judged event by event, with the native kernel as the only reader of the wire.

Two tasks share the kernel. `_judge` reads the agent: every event that needs a decision goes through the pipeline and is then forwarded
or refused in its place. `_answer` reads the server: every described result is decided before a row of it is delivered. What
either side gets leaves through `Traffic` alone, behind the record of everything it depends on; what needs no decision passes there
without a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from sealgate_native.postgres import ProtocolViolation, encode_error

from gateway.action import Action
from gateway.errors import EvidenceUnavailableError
from gateway.masking import UnenforceableMaskError, compile_plan
from gateway.messages import Outcome, Refusal
from gateway.pipeline import PipelineSession, Ruling
from gateway.protocols.postgres import enforce
from gateway.protocols.postgres.actions import find_shapes
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.events import (
    ActionEnd,
    CommandComplete,
    CopyInEnd,
    CopyOut,
    JudgedEvent,
    ParameterStatus,
    Parse,
    Ready,
    ResultEnd,
    RowDescription,
    ServerError,
    ServerEvent,
    Terminate,
    Undecodable,
)
from gateway.protocols.postgres.parse import parse_client_event, parse_server_event
from gateway.serve.budgets import SessionBudget
from gateway.serve.cell_masking import CellMasking
from gateway.serve.latch import Latch
from gateway.serve.listeners import Wire
from gateway.serve.memory import MemoryReturn
from gateway.serve.postgres.changes import Changes
from gateway.serve.postgres.cursors import CursorRows
from gateway.serve.postgres.door import CATALOG, PostgresDoor
from gateway.serve.postgres.endings import (
    AGENT_LEFT,
    EVIDENCE_LOST,
    GATEWAY_STOPPED,
    GOOD_BYE,
    HELD_TOO_LONG,
    OUTDATED,
    SHUTDOWN,
    TARGET_LOST,
    TARGET_SAID_WHY,
    Ending,
    EndSession,
    end_faulted,
)
from gateway.serve.postgres.guard import Guard
from gateway.serve.postgres.hold import Beside, HeldWork
from gateway.serve.postgres.known import CLOSED, FIRST_LABEL, KnownActions
from gateway.serve.postgres.late import LateChecks
from gateway.serve.postgres.limits import DRAIN_TIMEOUT_S, SessionLimits, open_kernel
from gateway.serve.postgres.loans import Loans
from gateway.serve.postgres.lookups import CatalogCache
from gateway.serve.postgres.outcomes import OpenAction, OpenActions, copy_options, unknown_result
from gateway.serve.postgres.traffic import Traffic
from gateway.serve.postgres.upstream import Upstream

logger = logging.getLogger(__name__)


class PostgresSession:
    """Carries one logged-in agent's session until it ends. Make it, then `await run()`."""

    __slots__ = (
        "_abandoned",
        "_actions",
        "_beside",
        "_budget",
        "_catalog",
        "_catalog_digest",
        "_changes",
        "_client",
        "_cursors",
        "_door",
        "_ending",
        "_has_heard_fatal",
        "_hold",
        "_is_cancelled",
        "_is_judging",
        "_is_stopping",
        "_kernel",
        "_known",
        "_late",
        "_limits",
        "_masking",
        "_session",
        "_traffic",
        "_upstream",
    )

    def __init__(
        self,
        *,
        client: Wire,
        upstream: Upstream,
        session: PipelineSession,
        make_door: Callable[[Callable[[], bool]], PostgresDoor],
        catalog: CatalogCache,
        masking: CellMasking,
        limits: SessionLimits,
        budget: SessionBudget,
        memory: MemoryReturn,
        loans: Loans | None,
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._session = session
        self._door = make_door(self._may_hold)
        self._catalog = catalog
        self._masking = masking
        self._limits = limits
        self._budget = budget
        self._kernel = open_kernel(limits, masking.find_detectors(masking.always))
        self._kernel.report_ready(is_wanted=False)
        self._kernel.note_server_encoding(upstream.parameters.get("server_encoding", ""))
        self._late = LateChecks(self._kernel, session, self._door, budget)
        self._beside = Beside(upstream, limits.max_message_bytes)
        self._hold = self._door.hold = HeldWork(
            self._kernel, self._beside, self._is_idle, upstream, self._lose_target, self._end_hold
        )
        self._known = KnownActions(self._kernel, session, self._door, catalog, budget, masking.record_detectors, memory.ask)
        self._traffic = Traffic(
            client, upstream.wire, self._kernel, session,
            open_gate=self._open_gate, may_pass=self._may_pass, lose=self._lose, loans=loans, find_loan=self._find_loan,
        )  # fmt: skip
        self._door.begin(
            session, self._kernel.may_be_portal, self._traffic.is_answered, self._kernel.begin_epoch, self._count_errors
        )
        self._actions = OpenActions(limits.max_statements, self._known.adopt)
        budget.follow(self._actions)
        self._changes = Changes(catalog)
        self._cursors = CursorRows()
        self._abandoned = Latch()
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._is_judging = self._is_cancelled = self._is_stopping = self._has_heard_fatal = False
        self._catalog_digest: str | None = None

    # --- for the host

    async def run(self) -> str:
        """Carry the session to its end and record it; returns the reason."""
        tasks = [asyncio.create_task(self._watch(part)) for part in (self._judge(), self._answer(), self._guard())]
        self._traffic.open()
        try:
            ending = await self._ending
            await self._traffic.close()
            tasks[0].cancel()
            await self._say_goodbye(ending)
            if ending.cancels:
                await self._drain(tasks[1])
        except asyncio.CancelledError:
            ending = GATEWAY_STOPPED
            raise
        finally:
            self._traffic.cut()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._changes.close(self._upstream, is_busy=self._kernel.pending > 0)
            self._client.close()
            await self._close_record(ending)
            self._traffic.free()
        return ending.reason

    @property
    def counters(self) -> Mapping[str, int]:
        """What the session amounted to so far."""
        return self._session.counters

    async def cancel(self) -> None:
        """The agent asked to cancel (53.2.8): end a wait for a reviewer, or pass it on to what the server runs."""
        if self._is_judging and not self._traffic.is_in_flight:
            self._is_cancelled = True
            self._abandoned.set()
            await self._hold.cancel()
        else:
            await self._upstream.cancel()

    def show_process(self, shown: int) -> None:
        """The process number the agent was told in place of the server's."""
        if self._upstream.key is not None:
            self._kernel.show_process(self._upstream.key[0], shown)

    def stop(self) -> None:
        """End as soon as no statement is under way: the gateway shuts down."""
        self._is_stopping = True
        self._kernel.report_ready(is_wanted=True)
        self._end_if_stopping()

    # --- agent to server

    async def _judge(self) -> None:
        while True:
            report = self._kernel.next_client_event()
            if report is not None:
                event = parse_client_event(report)
                if isinstance(event, Terminate):
                    raise EndSession(GOOD_BYE)
                if isinstance(event, CopyInEnd):
                    self._actions.note_copied(event, self._session.recorder.commit)
                else:
                    await self._rule(event)
                await self._traffic.end_turn()
                continue
            await self._traffic.push()
            await self._upstream.wire.drain()
            await self._traffic.deliver()
            if self._kernel.is_holding:
                await self._traffic.wait_for_server()
                data = b""
            else:
                await self._client.wait()
                data = await self._traffic.take_client()
            if data:
                self._traffic.receive_client(data)
            elif self._client.gone.is_set() and not self._kernel.has_client_events:  # it may have said good-bye first
                raise EndSession(AGENT_LEFT)

    async def _rule(self, event: JudgedEvent) -> None:
        """One event through the pipeline, then on to the server or back as a refusal."""
        self._is_judging, self._is_cancelled = True, False
        self._hold.begin()
        if not self._client.gone.is_set():
            self._abandoned.clear()
        ruling = await self._session.handle(
            event, self._door, abandoned=self._abandoned, on_hold=self._traffic.announce, prepares_only=isinstance(event, Parse)
        )
        self._is_judging = False
        self._follow_catalog()
        refusal = ruling.refusal or self._late.refuse(
            event, ruling, is_cancelled=self._is_cancelled or self._client.gone.is_set()
        )
        if refusal is not None:
            await self._hold.undo(has_expired=refusal.kind == "identity")
            self._kernel.refuse(event.id, enforce.refuse(refusal, ruling.action))
            if self._door.is_outdated:
                self._end(OUTDATED)
            return
        self._door.note_allowed(ruling.number, ruling.action)
        opened = OpenAction(ruling, event, self._door.facts)
        self._actions.add(opened)
        self._door.follow_names(ruling)
        self._cursors.begin(ruling.number, self._door.changes)
        if self._door.needs_settling:
            self._kernel.report_ready(is_wanted=True)
        if self._changes.send(ruling, self._door.moving):
            self._known.forget()  # a COMMIT must not pass unseen
            self._kernel.report_ready(is_wanted=True)
        else:
            self._known.learn(event, opened)
        if self._hold.note_sent(ruling) or ruling.action is None or enforce.can_quote_sensitive(ruling.action):
            # What only reads is over with its answer; a deferred constraint or a cursor speaks later.
            self._kernel.hide_texts(lasts=ruling.action is None or not ruling.action.harmless_read)
        if not self._traffic.forward(event.id, ruling.number):
            # The server failed the pipeline meanwhile and would have skipped the message; so did the kernel.
            self._session.finish(self._actions.take(ruling.number).ruling, Outcome("cancelled"))
            self._changes.end(ruling.number)
            self._door.end(ruling.number, is_completed=False)
        if self._hold.has_run:
            self._traffic.send(await self._hold.keep())

    def _follow_catalog(self) -> None:
        """A changed catalogue can give the same columns another origin, so every kept plan is decided again."""
        snapshot = self._door.facts.get(CATALOG)
        digest = snapshot.digest if isinstance(snapshot, CatalogSnapshot) else None
        if digest != self._catalog_digest:
            self._catalog_digest = digest
            self._kernel.forget_plans()

    def _count_errors(self) -> int:
        return self._kernel.error_count

    def _is_idle(self) -> bool:
        return not self._traffic.is_in_flight

    def _may_hold(self) -> bool:
        return self._kernel.transaction_status == "I" and self._kernel.is_caught_up and not self._traffic.is_in_flight

    def _open_gate(self) -> tuple[int, int, bool]:
        return CLOSED if self._client.gone.is_set() or self._hold.is_open else self._known.open_gate()

    def _find_loan(self) -> tuple[object, int]:
        return self._catalog, 0 if self._ending.done() or not self._beside.is_idle else self._known.until_ns

    def _may_pass(self) -> bool:
        return self._beside.is_idle and not self._ending.done()

    # --- server to agent

    async def _answer(self) -> None:
        data: bytes | None = self._upstream.rest
        while True:
            if data:
                self._traffic.receive_server(data)
            while (report := self._kernel.next_server_event()) is not None:
                await self._take(parse_server_event(report))
            self._traffic.note_settled()
            if not self._is_judging:  # what is judged may be held, and taken back, by itself
                await self._traffic.push()
            await self._traffic.deliver()
            self._traffic.wake_judge()
            data = await self._beside.read()
            if data is None:
                raise EndSession(self._lose_target())

    async def _take(self, event: ServerEvent) -> None:
        match event:
            case RowDescription() | CopyOut():
                await self._describe_result(event)
            case ResultEnd():
                self._count(event)
            case CommandComplete():
                self._actions.tag(event)
                self._hold.note_tag(event.action, event.tag)
            case ServerError():
                self._has_heard_fatal |= event.is_fatal
                self._actions.note_error(event)
            case ActionEnd():
                self._changes.end(event.action)
                for part in (self._door, self._cursors):
                    part.end(event.action, is_completed=event.status in {"completed", "suspended"})
                await self._hold.note_end(event.action, self._session, is_completed=event.status == "completed")
                if (ended := self._actions.end(event)) is not None:
                    self._late.finish(*ended)
            case ParameterStatus():
                self._door.values.note_reported(event.name, event.value)
            case Ready():
                self._settle(event)

    def _count(self, event: ResultEnd) -> None:
        ruling = self._actions.find_ruling(event.action)
        if event.action is None or event.action < FIRST_LABEL:  # the kernel counts the rows of what it lets through
            self._budget.count_rows(ruling, event.rows)
        self._cursors.count(ruling, event.rows)
        self._actions.count(event)

    async def _describe_result(self, event: RowDescription | CopyOut) -> None:
        """Decide how a described result may be delivered, and tell the kernel."""
        opened = self._actions.find(event.action)
        if opened is None or opened.ruling.action is None:
            self._kernel.withhold(event.id, enforce.refuse(unknown_result()))
            return
        request, opened.facts = self._door.renew(opened.event, opened.ruling.action, opened.facts)
        if isinstance(event, RowDescription):
            action = self._door.describe_rows(request, event, opened.facts)
        else:
            action = self._door.describe_copy(request, event, opened.facts)
        ruling = await self._session.handle_response(opened.ruling, action, self._door)
        refusal = ruling.refusal
        if refusal is None:
            try:
                self._resolve(event, opened, ruling, action)
            except (enforce.UnenforceableError, UnenforceableMaskError, ValueError) as error:
                fix = "tell the authors of the policy the decision id"
                refusal = Refusal("denied", "policy.mask", "result withheld", str(error), fix, ruling.decision_id)
        if refusal is not None:
            opened.is_withheld = True
            self._kernel.withhold(event.id, enforce.refuse(refusal))

    def _resolve(self, event: RowDescription | CopyOut, opened: OpenAction, response: Ruling, action: Action) -> None:
        """Give the kernel the plan of one result. Raises when it cannot be carried out; nothing is resolved then."""
        decisions = [opened.ruling.decision, response.decision]
        masks = [mask for decision in decisions for mask in decision.masks]
        columns = (action.response or {}).get("columns", [])
        masking = self._masking
        shapes = find_shapes(opened.facts)
        plan = compile_plan(masks, columns, known_detectors=masking.known, always=masking.always, find_shape=shapes)
        detectors = masking.find_detectors(plan.detectors)
        obligations = [item for decision in decisions for item in decision.obligations]
        limit, once = self._cursors.tighten(enforce.read_row_limit(obligations), action, event.index)
        limit, is_near = self._late.bound_rows(limit, obligations)
        if isinstance(event, RowDescription):
            lesson = self._known.cut_rows(opened, response)
            rows, cut, why = enforce.carry_limit(limit, action, event.index)
            self._kernel.resolve_rows(event.id, list(plan.masks), detectors, masking.key, rows, lesson, cut, once or is_near, why)
        elif limit is not None:
            raise enforce.UnenforceableError("a row limit cannot be carried out on COPY")
        else:
            self._kernel.resolve_copy(event.id, list(plan.masks), detectors, masking.key, copy_options(action, event))

    def _settle(self, event: Ready) -> None:
        self._changes.settle(event.status)
        if event.status == "I":
            self._door.settle(is_under_way=self._changes.is_under_way)
            self._hold.settle()
        wants = self._changes.is_open, self._is_stopping, self._ending.done(), self._door.needs_settling, self._hold.is_open
        self._kernel.report_ready(is_wanted=any(wants))
        self._end_if_stopping()
        if self._ending.done() and self._kernel.pending == 0:
            raise EndSession(self._ending.result())  # draining: nothing more to learn

    # --- beginning and end

    async def _guard(self) -> None:
        """End the session when it is due, and notice that the agent left while nobody reads it."""
        wires = self._client, self._upstream.wire
        await Guard(self._limits, wires, self._kernel, self._traffic, lambda: self._is_judging, self._known.forget).watch()
        self._abandoned.set()
        await self._hold.cancel()

    async def _watch(self, part: Coroutine[Any, Any, None]) -> None:
        """Run one task; whatever ends it ends the session, except the guard noticing that the agent left."""
        try:
            await part
        except EndSession as end:
            self._end(end.ending)
        except ProtocolViolation as error:
            self._end(await self._record_violation(error))
        except Exception as error:  # noqa: BLE001 - fail closed: whatever it is ends the session
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        """Something went wrong that the session cannot outlive."""
        if isinstance(error, EvidenceUnavailableError):
            logger.error("session %s ends: %s", self._session.id, error)
            self._end(EVIDENCE_LOST)
        else:
            logger.error("session %s ends with a fault of the gateway", self._session.id, exc_info=error)
            self._end(end_faulted(self._session.id))

    def _end(self, ending: Ending) -> None:
        if not self._ending.done():
            self._ending.set_result(ending)
            self._kernel.report_ready(is_wanted=True)

    def _end_hold(self) -> bool:
        if not self._is_judging:
            self._end(HELD_TOO_LONG)
        return not self._is_judging

    def _end_if_stopping(self) -> None:
        if self._is_stopping and self._kernel.is_caught_up and not self._is_judging and self._kernel.transaction_status == "I":
            self._end(SHUTDOWN)

    async def _record_violation(self, error: ProtocolViolation) -> Ending:
        """Bytes that do not follow the protocol, from either side: refused with a record, and the session is over."""
        ruling = await self._session.handle(Undecodable(0, str(error)), self._door)
        # What the kernel had ready for either side is lost with it: nothing after a violation can be trusted.
        fields = enforce.refuse(ruling.refusal, fatal=True) if ruling.refusal else None
        return Ending("protocol violation", fields)

    def _lose_target(self) -> Ending:
        if self._ending.done():
            return self._ending.result()
        return TARGET_SAID_WHY if self._has_heard_fatal else TARGET_LOST

    async def _say_goodbye(self, ending: Ending) -> None:
        if ending.fields is None:
            return
        with contextlib.suppress(EvidenceUnavailableError, ProtocolViolation, TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):  # it may be one that does not read
                await self._traffic.deliver()
        # The last words carry nothing of the target's, so they need no gate: where evidence failed they are all that is left to say.
        self._client.write(encode_error(dict(ending.fields)))

    async def _drain(self, answer: asyncio.Task[None]) -> None:
        """Learn how what is still under way ends: cancel it, and read on for a while."""
        if self._kernel.is_failed or self._kernel.is_caught_up or self._upstream.wire.gone.is_set():
            return
        with contextlib.suppress(EvidenceUnavailableError):
            await self._traffic.push()
        await self._upstream.cancel()
        await asyncio.wait([answer], timeout=DRAIN_TIMEOUT_S)

    async def _close_record(self, ending: Ending) -> None:
        """Every action that was let through gets an outcome, then the session its end."""
        try:
            for event in map(parse_server_event, self._kernel.break_off()):
                if isinstance(event, ResultEnd):
                    self._count(event)
            for label in self._kernel.open_labels():
                self._actions.find(label)
            for action in self._actions.drain():
                self._late.finish(action.ruling, action.break_off(enforce.TARGET_LOST))
            await self._session.close(ending.reason)
        except EvidenceUnavailableError as error:
            logger.error("the end of session %s cannot be recorded: %s", self._session.id, error)  # noqa: TRY400
