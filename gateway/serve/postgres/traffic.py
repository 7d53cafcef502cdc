"""What passes between the two wires of a PostgreSQL session: bytes in, records queued, bytes out behind their records.

Most arrivals need no decision: the kernel answers by itself what it has learned (decision 7). Such an arrival is carried from one wire to
the other at once, in the event loop's own call, while both of the session's tasks sleep. As soon as there is an event to judge, the kernel
gives no bytes, the task of that direction is woken, and everything goes on in it. Both ways end in the same two queues, so that nothing
leaves out of its turn, and nothing before its record.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from sealgate_native.postgres import ProtocolViolation, Session
from sealgate_native.record import Drafts

from gateway.errors import EvidenceUnavailableError
from gateway.pipeline import PipelineSession
from gateway.serve.listeners import WRITE_HIGH_BYTES, Wire
from gateway.serve.postgres.known import CLOSED
from gateway.serve.release import ReleaseQueue

CLIENT_EVENTS: Final = 1
SERVER_EVENTS: Final = 2
HOLDING: Final = 4
SETTLED: Final = 8
"""What the kernel says of itself after an arrival (`Session.pass_client`)."""

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

    Attributes:
        is_in_flight: whether something sent to the server has not been answered whole.
        active_at: monotonic time of the last arrival, seconds.
    """

    __slots__ = (
        "_client",
        "_is_held",
        "_kernel",
        "_lose",
        "_may_pass",
        "_open_gate",
        "_server",
        "_session",
        "_to_client",
        "_to_server",
        "_unreleased",
        "active_at",
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
        self.active_at = time.monotonic()

    def open(self) -> None:
        """Carry from now on what arrives while nobody waits for anything else."""
        self._client.receiver = self._carry_client
        self._server.receiver = self._carry_server

    def close(self) -> None:
        """Leave every arrival to whoever reads."""
        self._client.receiver = self._server.receiver = None

    def free(self) -> None:
        """The session is over: let go of it, so that it goes as soon as nobody else has it."""
        self._open_gate, self._may_pass, self._lose = _closed, _never, _ignore
        self._to_client = ReleaseQueue(self._client, _ignore)
        self._to_server = ReleaseQueue(self._server, _ignore)

    # --- for the two tasks

    def receive_client(self, data: bytes) -> None:
        """Bytes of the agent that were read. Raises ProtocolViolation, EvidenceUnavailableError."""
        self.active_at = time.monotonic()
        self._kernel.receive_client(data, *self._open_gate())
        self._record(self._kernel.take_drafts())

    def receive_server(self, data: bytes) -> None:
        """The same for bytes of the server."""
        self.active_at = time.monotonic()
        self._kernel.receive_server(data, *self._open_gate())
        self._record(self._kernel.take_drafts())

    def note_settled(self) -> None:
        """The events of an arrival were taken: whether everything sent is answered shows now."""
        if self.is_in_flight and self._kernel.is_settled:
            self.is_in_flight = False

    async def push(self) -> None:
        """Send what the kernel has for the server, behind its records. Raises EvidenceUnavailableError."""
        self.send(self._kernel.take_to_server())
        await self._to_server.wait()

    def send(self, data: bytes) -> None:
        """Send bytes to the server. Release point a: what has an effect leaves once its record is durable."""
        if data:
            self.is_in_flight = True
            self._to_server.put(data, self._unreleased)

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
        self.active_at = gate[1] / 1e9
        try:
            state, to_server, to_client, drafts = step(data, *gate)
            self._record(drafts)
        except ProtocolViolation:
            wire.wake()  # the kernel stays in error, and tells the task that asks it next
            return True
        except Exception as error:  # noqa: BLE001 - fail closed: whatever it is ends the session, which says so
            self._lose(error)
            return True
        if to_server is not None:
            self.is_in_flight = True
            self._to_server.put(to_server, self._unreleased)
        if to_client is not None:
            self._to_client.put(to_client, self._session.find_unsettled())
        if state & SETTLED and not state & SERVER_EVENTS:
            self.is_in_flight = False
        if state & SERVER_EVENTS:
            self._server.wake()
        if state & CLIENT_EVENTS or bool(state & HOLDING) != self._is_held:
            self._client.wake()
        return True

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


def _ignore(_error: Exception) -> None:
    pass
