"""What passes between the two wires of a PostgreSQL session: bytes in, records queued, bytes out behind their records.

Most arrivals need no decision: the kernel answers by itself what it has learned (decision 7). Such an arrival is carried from one wire to
the other at once, in the event loop's own call, while both of the session's tasks sleep. As soon as there is an event to judge, the kernel
gives no bytes, the task of that direction is woken, and everything goes on in it. Both ways end in the same two queues, so that nothing
leaves out of its turn, and nothing before its record.

After a number of such arrivals in a row the session is lent to the relay, which carries it without the interpreter until something is
out of the ordinary (`gateway.serve.postgres.loans`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from sealgate_native.postgres import CLIENT_EVENTS, HOLDING, SERVER_EVENTS, SETTLED, ProtocolViolation, Session, encode_notice
from sealgate_native.record import Drafts

from gateway.errors import EvidenceUnavailableError
from gateway.pipeline import PipelineSession
from gateway.protocols.postgres import enforce
from gateway.refusal import Ticket
from gateway.serve.listeners import WRITE_HIGH_BYTES, Wire
from gateway.serve.postgres.known import CLOSED
from gateway.serve.postgres.loans import Loans, Returned
from gateway.serve.release import ReleaseQueue

logger = logging.getLogger(__name__)

EVENTS: Final = CLIENT_EVENTS | SERVER_EVENTS

LEND_AFTER: Final = 16
"""Arrivals in a row that needed no decision, after which a session is lent: what comes next most likely needs none either."""

TURN_BYTES: Final = 32 << 10
"""What an agent sends is read in pieces of at most this many bytes: some thousand of the shortest statements."""

TURN_S: Final = 0.005
"""How long a session judges what it has read before it lets others have the event loop, seconds."""

SEND_AT_PENDING: Final = 64
"""Messages awaiting a reply from which on those that were judged leave although more of the same piece are to be judged."""

CROWDED_PAUSE_S: Final = 0.02
"""How often a session asks whether the log has room again, seconds."""

Gate = tuple[int, int, bool]
Passed = tuple[int, bytes | None, bytes | None, Drafts | None]


class Traffic:
    """Carries arrivals, and is the only way out to either side.

    Args:
        client: to the agent.
        server: to the target.
        open_gate: the times the kernel may use what it has learned with, or `CLOSED`.
        may_pass: whether what the server says is the session's at the moment.
        lose: told of what ends the session while no task was there to raise it.
        loans: where the session may be lent; None to keep it here.
        find_loan: what it is lent as: the group it can be recalled by, and the monotonic nanoseconds until which, 0 for not at all.

    Attributes:
        is_in_flight: whether something sent to the server has not been answered whole; as of its last return while it is lent.
    """

    __slots__ = (
        "_active_at",
        "_client",
        "_find_loan",
        "_is_held",
        "_kernel",
        "_loan",
        "_loans",
        "_lose",
        "_may_pass",
        "_open_gate",
        "_returned",
        "_server",
        "_session",
        "_streak",
        "_to_client",
        "_to_server",
        "_turn_ends_at",
        "_unreleased",
        "is_in_flight",
    )

    def __init__(
        self,
        client: Wire,
        server: Wire,
        kernel: Session,
        session: PipelineSession,
        *,
        open_gate: Callable[[], Gate],
        may_pass: Callable[[], bool],
        lose: Callable[[Exception], None],
        loans: Loans | None,
        find_loan: Callable[[], tuple[object, int]],
    ) -> None:
        self._client = client
        self._server = server
        self._kernel = kernel
        self._session = session
        self._open_gate = open_gate
        self._may_pass = may_pass
        self._lose = lose
        self._to_client = ReleaseQueue(client, lose)
        self._to_server = ReleaseQueue(server, lose)
        self._unreleased: asyncio.Future[Any] | None = None
        self._is_held = False
        self.is_in_flight = False
        self._active_at = time.monotonic()
        self._loans = loans
        self._find_loan = find_loan
        self._loan: int | None = None
        self._returned: asyncio.Future[None] | None = None
        self._streak = 0
        self._turn_ends_at = 0.0

    @property
    def active_at(self) -> float:
        """Monotonic time of the last arrival, seconds."""
        if self._loan is None or self._loans is None:
            return self._active_at
        return max(self._active_at, self._loans.read_active_s(self._loan))

    def open(self) -> None:
        """Carry from now on what arrives while nobody waits for anything else."""
        self._client.receiver = self._carry_client
        self._server.receiver = self._carry_server

    async def close(self) -> None:
        """Leave every arrival to whoever reads, from now on and once a session that was lent is back."""
        self._client.receiver = self._server.receiver = None
        self.recall()
        if self._loan is not None:
            self._returned = asyncio.get_running_loop().create_future()
            await self._returned

    def recall(self) -> None:
        """Have the session back soon, where it is lent."""
        if self._loan is not None and self._loans is not None:
            self._loans.recall(self._loan)

    def cut(self) -> None:
        """The session is over, whatever waits."""
        self._client.receiver = self._server.receiver = None
        if self._loan is not None and self._loans is not None:
            self._take_back(*self._loans.discard(self._loan))

    def free(self) -> None:
        """The session is over: let go of it, so that it goes as soon as nobody else has it."""
        self._open_gate, self._may_pass, self._lose, self._find_loan = _closed, _never, _ignore, _nothing
        self._to_client = ReleaseQueue(self._client, _ignore)
        self._to_server = ReleaseQueue(self._server, _ignore)

    # --- for the two tasks

    async def take_client(self) -> bytes:
        """What the agent has sent, at most a turn's worth of it, once the log has room for its records; b"" where nothing waits."""
        # The log's publisher is a thread, which cannot set an event of the loop.
        while self._session.recorder.is_crowded and not self._client.gone.is_set():  # noqa: ASYNC110 - see above
            await asyncio.sleep(CROWDED_PAUSE_S)
        return self._client.take(TURN_BYTES)

    async def end_turn(self) -> None:
        """Let others have the event loop where this session has had it for long: an agent may send thousands of statements at once.

        Of so many the first begin meanwhile. Few are sent together: what is to be held must not have been sent in part.
        """
        if time.monotonic() >= self._turn_ends_at:
            if self._kernel.pending >= SEND_AT_PENDING:
                self.send(self._kernel.take_to_server())
            await asyncio.sleep(0)
            self._turn_ends_at = time.monotonic() + TURN_S

    def receive_client(self, data: bytes) -> None:
        """Bytes of the agent that were read. Raises ProtocolViolation, EvidenceUnavailableError."""
        self._active_at, self._streak = time.monotonic(), 0
        self._kernel.receive_client(data, *self._open_gate())
        self._record(self._kernel.take_drafts())

    def receive_server(self, data: bytes) -> None:
        """The same for bytes of the server."""
        self._active_at, self._streak = time.monotonic(), 0
        self._kernel.receive_server(data, *self._open_gate())
        self._record(self._kernel.take_drafts())

    def forward(self, event: int, action: int) -> bool:
        """Let a judged message through, and what waits behind it as far as it needs no decision. False where the pipeline failed meanwhile.

        Raises ProtocolViolation, EvidenceUnavailableError.
        """
        is_sent = self._kernel.forward(event, action, *self._open_gate())
        self._record(self._kernel.take_drafts())
        return is_sent

    def note_settled(self) -> None:
        """The events of an arrival were taken: whether everything sent is answered shows now."""
        if self.is_in_flight and self._kernel.is_settled:
            self.is_in_flight = False

    def is_answered(self) -> bool:
        """Whether nothing that runs awaits its reply, sent or about to be; the client may have more to send of what it began."""
        return self._kernel.is_caught_up

    async def push(self) -> None:
        """Send what the kernel has for the server, behind its records. Raises EvidenceUnavailableError."""
        self.send(self._kernel.take_to_server())
        await self._to_server.wait()

    def send(self, data: bytes) -> None:
        """Send bytes to the server. Release point a: what has an effect leaves once its record is durable."""
        if data:
            self.is_in_flight = True
            self._to_server.put(data, self._unreleased)

    def announce(self, ticket: Ticket) -> None:
        """Tell the agent that its statement waits for a reviewer, where no answer is under way that this would break into."""
        if self._kernel.is_caught_up and not self.is_in_flight:
            notice = enforce.announce_hold(ticket.id, self._session.limit_wait())
            self._to_client.put(encode_notice(notice), self._session.find_unsettled())

    async def deliver(self) -> None:
        """Give the agent what the kernel has for it. Bytes are taken before the gate, which covers every record they depend on."""
        if data := self._kernel.take_to_client():
            self._to_client.put(data, self._session.find_unsettled())
        await self._to_client.wait()
        await self._client.drain()

    async def wait_for_server(self) -> None:
        """The kernel needs a reply before it can read on; until then the agent is not read either."""
        self._is_held = True
        await self._client.wait_for_wake()
        self._is_held = False

    def wake_judge(self) -> None:
        """Let the agent's direction go on where a reply of the server has made that possible."""
        if self._kernel.has_client_events or (self._is_held and not self._kernel.is_holding):
            self._client.wake()

    # --- for the event loop

    def _carry_client(self, data: bytes) -> bool:
        if len(data) > TURN_BYTES or self._session.recorder.is_crowded:
            return False
        gate = self._open_gate()
        if gate is CLOSED or self._server.is_write_paused or not self._to_server.is_empty:
            return False
        return self._carry(self._client, self._kernel.pass_client, data, gate)

    def _carry_server(self, data: bytes) -> bool:
        if self._client.is_write_paused or self._to_client.size > WRITE_HIGH_BYTES or not self._may_pass():
            return False
        gate = self._open_gate()
        return gate is not CLOSED and self._carry(self._server, self._kernel.pass_server, data, gate)

    def _carry(self, wire: Wire, step: Callable[[bytes, int, int, bool], Passed], data: bytes, gate: Gate) -> bool:
        self._active_at = gate[1] / 1e9
        try:
            state, to_server, to_client, drafts = step(data, *gate)
            self._record(drafts)
        except ProtocolViolation:
            wire.wake()  # the kernel stays in error, and tells the task that asks it next
            return True
        except Exception as error:  # noqa: BLE001 - fail closed: whatever it is ends the session, which says so
            self._lose(error)
            return True
        self._put(to_server or b"", to_client or b"")
        self._follow(state)
        self._streak = 0 if state & EVENTS else self._streak + 1
        if self._streak >= LEND_AFTER and self._loans is not None and self._loans.has_room:
            self._lend(self._loans)
        return True

    def _put(self, to_server: bytes, to_client: bytes) -> None:
        if to_server:
            self.is_in_flight = True
            self._to_server.put(to_server, self._unreleased)
        if to_client:
            self._to_client.put(to_client, self._session.find_unsettled())

    def _follow(self, state: int) -> None:
        """Wake whom the kernel has something for."""
        if state & SETTLED and not state & SERVER_EVENTS:
            self.is_in_flight = False
        if state & SERVER_EVENTS:
            self._server.wake()
        if state & CLIENT_EVENTS or bool(state & HOLDING) != self._is_held:
            self._client.wake()

    # --- lent

    def _lend(self, loans: Loans) -> None:
        """Lend the session, where nothing of it waits here."""
        group, until_ns = self._find_loan()
        if not until_ns or self._is_held or not (self._to_server.is_empty and self._to_client.is_empty):
            return
        self._streak = 0  # whether it is lent now or cannot be: not at every arrival
        client = self._client.lend()
        if client is None:
            return
        server = self._server.lend()
        if server is None:
            self._client.take_back()
            return
        recorder, subject = self._session.recorder, self._session.subject
        chain = recorder.lend()
        try:
            self._loan = loans.lend(
                self, self._kernel, chain, (client, server), group=group, expires_ns=subject.expires_ns or 0, until_ns=until_ns
            )
        except OSError as error:
            logger.warning("a session cannot be lent to the relay: %s", error)
            self._take_back()

    def receive_back(self, returned: Returned) -> None:
        """The session is here again: go on where the relay stopped."""
        self._take_back(*returned.unsent)
        self.is_in_flight = not self._kernel.is_settled
        try:
            if returned.staged is not None:
                drafts, to_server, to_client = returned.staged
                self._record(drafts)
                self._put(to_server, to_client)
        except Exception as error:  # noqa: BLE001 - fail closed, as in _carry
            self._lose(error)
            return
        self._follow(returned.state)
        if returned.has_failed:
            self._client.wake()

    def lose(self, error: Exception) -> None:
        """The session is here again, and records of it were lost."""
        if isinstance(error, EvidenceUnavailableError):
            self._to_client.cut(error)
            self._to_server.cut(error)
        self._lose(error)

    def _take_back(self, to_client: bytes = b"", to_server: bytes = b"") -> None:
        self._loan = None
        self._session.recorder.take_back()
        self._client.take_back(to_client)
        self._server.take_back(to_server)
        if self._returned is not None and not self._returned.done():
            self._returned.set_result(None)

    def _record(self, drafts: Drafts | None) -> None:
        """Queue the records of what the kernel let through by itself: at once, so that no byte of it can leave before."""
        if drafts is None:
            return
        try:
            record = self._session.append_drafts(drafts)
        except EvidenceUnavailableError as error:
            self._to_client.cut(error)  # the kernel holds bytes of it that have no record now
            self._to_server.cut(error)
            raise
        if drafts.has_effects:
            self._unreleased = record


def _closed() -> Gate:
    return CLOSED


def _never() -> bool:
    return False


def _nothing() -> tuple[object, int]:
    return None, 0


def _ignore(_error: Exception) -> None:
    pass
