"""What one PostgreSQL session runs before its approval, and how it is kept or taken back.

A statement outside a transaction is run here, beside the kernel: BEGIN with its bounds, what the client sent, and then nothing until
there is a verdict. The replies are kept; the kernel gets them as the server's once COMMIT has succeeded, so that what the client
sees, and how it is masked and recorded, is the same as ever. A statement inside the client's own transaction goes the ordinary way,
and what waits is the COMMIT. Where nobody takes it back in words (the client gone, the gateway gone), the end of the connection or
the server's idle_in_transaction_session_timeout does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from sealgate_native.postgres import FrameReader, Session, decode_error, encode_message

from gateway.action import Action
from gateway.decision import Decision
from gateway.errors import ProtocolError, TargetError
from gateway.messages import Refusal
from gateway.parts import Held
from gateway.pipeline import PipelineSession, Ruling
from gateway.protocols.postgres import hold
from gateway.protocols.postgres.events import Execute, JudgedEvent, Query
from gateway.refusal import name_action
from gateway.serve.postgres.endings import TARGET_LOST, Ending, EndSession
from gateway.serve.postgres.upstream import Upstream

logger = logging.getLogger(__name__)

MAX_KEPT_BYTES: Final = 1 << 20
"""Most replies of a held statement that are kept: rows of RETURNING; a statement with more is not held."""

RECHECK_S: Final = 1.0
"""How soon a transaction is looked at again that has held a change for too long while its COMMIT is judged."""

MAX_HELD: Final = 100
"""Statements one transaction may hold."""

Frame = tuple[str, bytes]


class Beside:
    """Reads the server for a session, and lets the gateway ask the server things of its own while nothing else is awaited.

    Args:
        upstream: the session's connection.
        max_message_bytes: longest message of the server.
    """

    __slots__ = ("_answer", "_frames", "_max_message_bytes", "_reader", "_released", "_size", "_wire")

    def __init__(self, upstream: Upstream, max_message_bytes: int) -> None:
        self._wire = upstream.wire
        self._max_message_bytes = max_message_bytes
        self._reader: FrameReader | None = None
        self._answer: asyncio.Future[list[Frame]] | None = None
        self._frames: list[Frame] = []
        self._size = 0
        self._released = b""

    @property
    def is_idle(self) -> bool:
        """Whether what the server says is the session's, and nothing is kept back."""
        return self._answer is None and not self._released

    async def read(self) -> bytes | None:
        """What the server said to the session, b"" where it was only woken, None once the server has left. Raises ProtocolViolation."""
        while True:
            if self._released and self._answer is None:  # what the session says next must not fall into an answer
                data, self._released = self._released, b""
                return data
            await self._wire.wait()
            data = self._wire.take()
            if not data and self._wire.gone.is_set():
                if self._answer is not None and not self._answer.done():
                    self._answer.set_exception(TargetError("the target broke off", why="a statement was held for its approval"))
                return None
            if self._answer is None and not self._released:
                return data
            if data and self._answer is not None:
                self._collect(data)
            elif data:
                self._released += data

    async def ask(self, messages: bytes) -> list[Frame]:
        """The server's answer up to its ReadyForQuery. Raises TargetError when it leaves."""
        if self._wire.gone.is_set():
            raise TargetError("the target broke off")
        self._reader, self._frames, self._size = FrameReader(self._max_message_bytes), [], 0
        self._answer = asyncio.get_running_loop().create_future()
        self._wire.write(messages)
        try:
            return await self._answer
        finally:
            self._answer = None
            self._wire.wake()

    @property
    def is_overfull(self) -> bool:
        """Whether the last answer was longer than may be kept; its rows are lost."""
        return self._size > MAX_KEPT_BYTES

    def release(self, frames: Sequence[Frame]) -> None:
        """Have the session read these as the server's."""
        self._released += b"".join(encode_message(kind, body) for kind, body in frames)
        self._wire.wake()

    def _collect(self, data: bytes) -> None:
        if self._reader is None or self._answer is None:
            return
        self._reader.receive(data)
        while (frame := self._reader.next()) is not None:
            kind, body = frame
            if kind in "NSA":  # of the session, not of the answer: notices, settings, notifications
                self._released += encode_message(kind, body)
                continue
            self._size += len(body)
            if kind != "D" or not self.is_overfull:
                self._frames.append(frame)
            if kind == "Z" and not self._answer.done():
                self._answer.set_result(self._frames)


@dataclass(slots=True)
class _Run:
    """A statement that ran in a transaction of its own and waits for its verdict.

    Attributes:
        before: replies to what the client sent ahead of it.
        own: its own replies.
        is_open: whether the server's transaction is open.
    """

    event: Query | Execute
    before: list[Frame]
    own: list[Frame]
    is_open: bool = True


class HeldWork:
    """The held statements of one session.

    Args:
        kernel: the session's kernel.
        beside: how the server is asked.
        is_idle: whether nothing sent to the server awaits an answer.
        upstream: the connection to the server.
        lose: how the session ends when the server has left.
        expire: ends the session because it has held a change for too long; False where that cannot be at the moment.
    """

    __slots__ = (
        "_beside",
        "_coming",
        "_expire",
        "_held",
        "_hold_s",
        "_is_idle",
        "_is_keeping",
        "_is_running",
        "_kernel",
        "_lose",
        "_run",
        "_timer",
        "_upstream",
    )

    def __init__(
        self,
        kernel: Session,
        beside: Beside,
        is_idle: Callable[[], bool],
        upstream: Upstream,
        lose: Callable[[], Ending],
        expire: Callable[[], bool],
    ) -> None:
        self._kernel = kernel
        self._beside = beside
        self._is_idle = is_idle
        self._upstream = upstream
        self._lose = lose
        self._run: _Run | None = None
        self._coming: Held | None = None
        self._held: dict[int, Held] = {}
        self._is_keeping = False
        self._is_running = False
        self._hold_s = 0.0
        self._expire = expire
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether the client's transaction holds something."""
        return bool(self._held)

    @property
    def has_run(self) -> bool:
        """Whether a statement ran in a transaction of the gateway's and waits to be kept."""
        return self._run is not None

    # --- for the door

    def choose(self, event: JudgedEvent | None, action: Action, decision: Decision) -> Literal["at_once", "until_commit"] | None:
        """How the effect of a statement can wait; None where it cannot."""
        if hold.read_terms(decision.obligations) is None or not isinstance(event, Query | Execute):
            return None
        if not self.is_alone or (isinstance(event, Execute) and event.max_rows):
            return None
        in_transaction = self._kernel.transaction_status == "T"
        if not in_transaction and self._kernel.transaction_status != "I":
            return None
        if not hold.is_undone_by_rollback(action, shows_rows=in_transaction) or len(self._held) >= MAX_HELD:
            return None
        return "until_commit" if in_transaction else "at_once"

    async def run(
        self, event: JudgedEvent | None, action: Action, decision: Decision, ticket: str, hold_s: float
    ) -> Mapping[str, object] | Refusal:
        """Carry out what `choose` said. Raises TargetError."""
        terms = hold.read_terms(decision.obligations)
        if terms is None or not isinstance(event, Query | Execute):
            raise ProtocolError("the statement cannot be held")
        begins, self._hold_s = self._kernel.transaction_status == "I", hold_s
        self._kernel.hide_texts(lasts=True)  # what the server says of it must not tell more than its reviewers granted
        answer = await self._beside.ask(hold.encode_settings(terms, hold_s, begins=begins))
        if begins:
            self._run = _Run(event, [], [])
        if (failed := _find_error(answer)) is not None:
            return hold.refuse_failed(name_action(action), failed)
        if not begins:
            self._coming = Held(ticket, action, decision)
            return {}
        return await self._run_alone(event, action)

    async def _run_alone(self, event: Query | Execute, action: Action) -> Mapping[str, object] | Refusal:
        before = self._kernel.pending if isinstance(event, Execute) else 0
        sync = b"" if isinstance(event, Query) else encode_message("S", b"")
        self._is_running = True
        try:
            frames = await self._beside.ask(self._kernel.take_to_server() + hold.encode_run(event) + sync)
        finally:
            self._is_running = False
        is_described = isinstance(event, Execute) and event.needs_describe
        head, own = ([], frames[:-1]) if isinstance(event, Query) else hold.split_replies(frames[:-1], is_described=is_described)
        if (
            len([kind for kind, _ in head if kind != "t"]) < before
        ):  # what came ahead of the statement failed; its error is told as ever
            head = [*head, *own[:1]]
        self._run = _Run(event, head, own)
        if (failed := _find_error(own)) is not None:
            return hold.refuse_failed(name_action(action), failed)
        tag = own[-1][1].rstrip(b"\0").decode("utf-8", "replace") if own and own[-1][0] == "C" else None
        if tag is None or self._beside.is_overfull:
            why = f"its rows have more than {MAX_KEPT_BYTES} bytes, which is more than is kept" if tag else "it did not end"
            return Refusal("limit", "approval.not_held", f"{name_action(action)} undone", why, "return fewer rows", "none")
        return hold.describe_effect(tag)

    def find_held(self, action: Action) -> Sequence[Held]:
        """What the transaction holds, where the action would keep it. Raises ProtocolError where it would do so unseen."""
        keeping = hold.find_keeping(action)
        self._is_keeping = False
        if keeping is None or not self._held:
            return ()
        if keeping == "among others" or not self.is_alone:
            raise ProtocolError(
                "the transaction cannot be committed in this way",
                why="something it did waits for approval, and COMMIT waits with it",
                fix="send COMMIT by itself, once everything before it has been answered",
            )
        if self._kernel.transaction_status == "E":
            return ()  # the server rolls it back
        self._is_keeping = True
        return tuple(self._held.values())

    async def prolong(self, hold_s: float) -> None:
        """Have the server keep the client's transaction open for a wait that begins now. Raises TargetError."""
        await self._beside.ask(hold.encode_idle(hold_s))

    @property
    def is_alone(self) -> bool:
        """Whether the event being judged is all that its pipeline runs, with nothing before it to be answered."""
        return self._kernel.runs_alone and self._is_idle()

    # --- for the session

    def close(self) -> None:
        """The session is over: let go of it, so that it goes as soon as nobody else has it."""
        self.settle()
        self._is_idle = self._expire = _is_over
        self._lose = _end_closed

    def begin(self) -> None:
        """Another event is about to be judged."""
        self._coming, self._is_keeping = None, False

    def note_sent(self, ruling: Ruling) -> bool:
        """An allowed action is about to be sent; whether it is one whose COMMIT waits."""
        held, self._coming = self._coming, None
        if held is None or ruling.action is not held.action:
            return False
        self._held[ruling.number] = held
        # The server bounds how long it is idle; a client could go on with other statements instead.
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._hold_s + hold.IDLE_MARGIN_S, self._check_end)
        self._kernel.report_ready(is_wanted=True)
        return True

    def note_tag(self, number: int | None, tag: str) -> None:
        """The server said what a statement did."""
        if number in self._held:
            self._held[number] = replace(self._held[number], effect=hold.describe_effect(tag))

    async def note_end(self, number: int, session: PipelineSession, *, is_completed: bool) -> None:
        """A statement has ended: what it did is shown to its reviewers; one that failed did nothing."""
        held = self._held.get(number)
        if held is None:
            return
        if not is_completed:
            del self._held[number]
            if not self._held:
                self.settle()
        elif held.effect is None or not await session.show_effect(held.ticket, held.effect, held.action.protocol):
            self._held[number] = replace(held, effect=None)  # no COMMIT will be granted for it

    def settle(self) -> None:
        """The transaction is over, however it ended."""
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_end(self) -> None:
        """Others have waited behind the transaction's locks for long enough."""
        self._timer = None if self._expire() else asyncio.get_running_loop().call_later(RECHECK_S, self._check_end)

    async def cancel(self) -> None:
        """Stop a statement that runs before its approval, if one does: nobody waits for it any more."""
        if self._is_running:
            await self._upstream.cancel()

    async def undo(self, *, has_expired: bool) -> None:
        """Roll back what was run for an action that is refused, and what waited for a COMMIT that is. Raises EndSession.

        Where the proof of identity has expired, whatever the client's transaction holds goes as well: no COMMIT can come any more.
        """
        run, self._run = self._run, None
        is_lost = has_expired and self.is_open and self.is_alone
        if run is None and not self._is_keeping and not is_lost:
            return
        self.settle()
        await self._finish("rollback")
        if run is not None:
            self._beside.release(run.before)

    async def keep(self) -> bytes:
        """Commit what was run, after its action was forwarded to the kernel: the kernel's own copy of the messages is not sent.

        Returns what else the kernel has for the server.

        Raises:
            EndSession: the server left; whether it committed is not known.
            ProtocolError: the messages are not those that were run; nothing was committed.
        """
        run, self._run = self._run, None
        if run is None:
            return b""
        data, expected = self._kernel.take_to_server(), hold.encode_run(run.event)
        if not data.startswith(expected):
            raise ProtocolError("what was run is not what was approved")
        answer = await self._finish("commit")
        error = next((frame for frame in answer if frame[0] == "E"), None)
        frames = [*run.before, *run.own] if error is None else [*run.before, error]
        self._beside.release([*frames, answer[-1]] if isinstance(run.event, Query) else frames)
        return data[len(expected) :]

    async def _finish(self, how: Literal["commit", "rollback"]) -> list[Frame]:
        try:
            return await self._beside.ask(hold.encode_own([how]))
        except TargetError as error:
            raise EndSession(self._lose()) from error


def _is_over() -> bool:
    return False


def _end_closed() -> Ending:
    return TARGET_LOST


def _find_error(frames: Sequence[Frame]) -> str | None:
    """The SQLSTATE of the first error of an answer."""
    return next((decode_error(body).get("C", "XX000") for kind, body in frames if kind == "E"), None)
