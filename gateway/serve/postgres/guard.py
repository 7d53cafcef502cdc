"""When a session ends by itself: its agent was silent for too long, or it has lasted as long as any may."""

from __future__ import annotations

import time
from collections.abc import Callable

from sealgate_native.postgres import Session

from gateway.policy.cache import MAX_AGE_S
from gateway.serve.listeners import Wire
from gateway.serve.postgres.endings import EndSession, end_idle, end_overlong
from gateway.serve.postgres.limits import MIN_GUARD_PAUSE_S, OVERDUE_S, SessionLimits
from gateway.serve.postgres.traffic import Traffic


class Guard:
    """Watches one session.

    Args:
        limits: how long it may be silent, and last.
        wires: the agent's connection, and the one to the target.
        kernel: tells whether anything happens unless the agent sends something.
        traffic: tells when something arrived last.
        is_judging: whether a message is being decided, which may take until a reviewer has answered.
        forget: called in silence, when what was learned has become too old.
    """

    __slots__ = ("_began_at", "_client", "_forget", "_is_judging", "_kernel", "_limits", "_server", "_traffic")

    def __init__(
        self,
        limits: SessionLimits,
        wires: tuple[Wire, Wire],
        kernel: Session,
        traffic: Traffic,
        is_judging: Callable[[], bool],
        forget: Callable[[], None],
    ) -> None:
        self._limits = limits
        self._client, self._server = wires
        self._kernel = kernel
        self._traffic = traffic
        self._is_judging = is_judging
        self._forget = forget
        self._began_at = time.monotonic()

    async def watch(self) -> None:
        """Return once the agent has left. Raises EndSession."""
        limits = self._limits
        while not self._client.gone.is_set():
            now, active_at = time.monotonic(), self._traffic.active_at
            self._check(now, now - active_at)
            due_at = min(active_at + limits.idle_timeout_s, self._began_at + limits.max_session_s)
            if now - active_at >= MAX_AGE_S:
                self._traffic.recall()
                self._forget()
            else:
                due_at = min(due_at, active_at + MAX_AGE_S)
            await self._client.gone.wait(max(due_at - now, MIN_GUARD_PAUSE_S))

    def _check(self, now: float, silent_s: float) -> None:
        limits, is_free = self._limits, not self._is_judging()
        # An agent that sends half a pipeline, or does not read what it is sent, keeps the server from going on.
        awaits_agent = is_free and (self._kernel.awaits_client or self._client.is_write_paused)
        awaits_agent &= not self._server.is_write_paused  # data of a COPY that the server does not take yet
        # What was sent of an open pipeline may still run; its agent has to end it all the same.
        is_half = is_free and self._kernel.is_pipeline_open
        if (awaits_agent and silent_s >= limits.idle_timeout_s) or (is_half and silent_s >= limits.idle_timeout_s + OVERDUE_S):
            raise EndSession(end_idle(limits.idle_timeout_s))
        overdue_s = now - self._began_at - limits.max_session_s
        if overdue_s >= (0 if awaits_agent or is_half else OVERDUE_S):
            raise EndSession(end_overlong(limits.max_session_s))
