"""Lends sessions to the relay, a thread of native code that carries what they have learned without the interpreter (decision 14).

A session is lent once a number of arrivals in a row needed no decision. It goes back by itself as soon as one does, or when somebody
recalls it; everything that waits for a record has left by then, so that the ordinary way goes on where the relay stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from sealgate_native.postgres import Session
from sealgate_native.record import Chain, Drafts, Writer
from sealgate_native.relay import FAILED, Relay

from gateway.recording import describe_loss
from gateway.serve.listeners import Line

logger = logging.getLogger(__name__)

MAX_LENT: Final = 512
"""Sessions lent at once: each takes two descriptors more. Those beyond it go the ordinary way."""

LAG_EVERY_S: Final = 0.5
"""How often the relay is told until when effects may pass; what it was told last ends by itself."""


@dataclass(frozen=True, slots=True)
class Returned:
    """A session that is back.

    Attributes:
        state: flags of the kernel after the last arrival, as of `Session.pass_client`; 0 where nothing arrived.
        has_failed: the kernel is in error, and tells whoever asks it next.
        staged: records that could not be queued, and the bytes for the server and for the client that follow them.
        unsent: bytes that the client and the server have not taken, encrypted where their connections are.
    """

    state: int
    has_failed: bool
    staged: tuple[Drafts, bytes, bytes] | None
    unsent: tuple[bytes, bytes]


class Borrower(Protocol):
    """A session as the relay sees it."""

    def receive_back(self, returned: Returned) -> None:
        """The session is here again."""

    def lose(self, error: Exception) -> None:
        """It is here again, and cannot go on."""


class Loans:
    """The relay of one worker, and the sessions it has.

    Args:
        writer: takes the records.
        log_started_ns: monotonic time at which the log was opened.
        lag_left_s: seconds for which the newest attestation will do.
        is_crowded: whether sessions should wait with records; they are recalled then, because only here can they.
    """

    def __init__(
        self, writer: Writer, log_started_ns: int, lag_left_s: Callable[[], float], is_crowded: Callable[[], bool] = lambda: False
    ) -> None:
        self._relay = Relay(writer, log_started_ns)
        self._lag_left_s = lag_left_s
        self._is_crowded = is_crowded
        self._lent: dict[int, tuple[Borrower, object]] = {}
        self._thread = threading.Thread(target=self._run, name="postgres-relay", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_ended = False
        self._total = 0

    def start(self) -> None:
        """Start the thread; call it on the event loop of the sessions."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._relay.fileno(), self._collect)
        self._allow_effects()
        self._thread.start()

    async def stop(self) -> None:
        """End the thread, after every session."""
        self._has_ended = True
        self._relay.stop()
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._loop.remove_reader(self._relay.fileno())
            await asyncio.to_thread(self._thread.join)

    def count(self) -> dict[str, int]:
        """Sessions that are lent now, and loans since the start."""
        return {"sessions_lent": len(self._lent), "loans_total": self._total}

    def lend(
        self,
        borrower: Borrower,
        kernel: Session,
        chain: Chain,
        lines: tuple[Line, Line],
        *,
        group: object,
        expires_ns: int,
        until_ns: int,
    ) -> int:
        """Lend a session whose queues are empty; returns the number it is known as.

        Args:
            borrower: told when it is back.
            kernel: its kernel.
            chain: its records.
            lines: the client's connection and the server's.
            group: what `recall_group` calls it by.
            expires_ns: nanoseconds since the epoch at which the proof of identity ends; 0 for never.
            until_ns: monotonic nanoseconds at which what was learned is too old.

        Raises:
            OSError: no descriptor is left.
        """
        number = self._relay.lend(kernel, chain, *lines, expires_ns, until_ns)
        self._lent[number] = borrower, group
        self._total += 1
        return number

    @property
    def has_room(self) -> bool:
        """Whether another session may be lent."""
        return not self._has_ended and len(self._lent) < MAX_LENT and not self._is_crowded()

    def recall(self, number: int) -> None:
        """Have a session go back as soon as nothing of it waits for a record; nothing new passes from now on."""
        self._relay.recall(number)

    def recall_group(self, group: object) -> None:
        """Recall the sessions of a group."""
        for number in [number for number, (_, own) in self._lent.items() if own is group]:
            self._relay.recall(number)

    def recall_all(self) -> None:
        """Recall every session."""
        self._relay.recall_all()

    def discard(self, number: int) -> tuple[bytes, bytes]:
        """Let go of a session that is over, whatever waits for a record; what the client and the server have not taken, as `Returned`."""
        self._lent.pop(number, None)
        return self._relay.discard(number)

    def read_active_s(self, number: int) -> float:
        """Monotonic time of a session's last arrival; 0 where it is back."""
        return self._relay.active_ns(number) / 1e9

    def _collect(self) -> None:
        for number, state, is_lost, staged, to_client, to_server in self._relay.take_left():
            found = self._lent.pop(number, None)
            if found is None:
                continue
            returned = Returned(state & ~FAILED, bool(state & FAILED), staged, (to_client, to_server))
            try:
                found[0].receive_back(returned)
            except Exception as error:  # the others that are back have to be told all the same
                logger.exception("a session cannot go on where the relay stopped")
                found[0].lose(error)
            if is_lost:
                found[0].lose(describe_loss(RuntimeError("the log takes no more records")))

    def _allow_effects(self) -> None:
        if self._is_crowded():
            self.recall_all()
        left_s = self._lag_left_s()
        self._relay.allow_effects(int((time.monotonic() + left_s) * 1e9) if left_s > 0 else 0)
        if self._loop is not None:
            self._timer = self._loop.call_later(LAG_EVERY_S, self._allow_effects)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._relay.run()
        except BaseException as fault:  # noqa: BLE001 - whatever ends this thread ends the sessions it has, not their waiting
            error = fault
        if not self._has_ended and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: its sessions are over
                self._loop.call_soon_threadsafe(self._give_up, error)

    def _give_up(self, error: BaseException | None) -> None:
        logger.error("the relay has ended; sessions go the ordinary way from now on", exc_info=error)
        self._has_ended = True
        lent, self._lent = self._lent, {}
        for number, (borrower, _) in lent.items():
            unsent = self._relay.discard(number)
            borrower.receive_back(Returned(0, has_failed=False, staged=None, unsent=unsent))
            borrower.lose(RuntimeError("the relay ended"))
