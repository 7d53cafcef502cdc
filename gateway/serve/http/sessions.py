"""Sessions of a protocol that has none: one per subject, connection and client address, until it is idle or old (design section 3)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from gateway.action import Subject
from gateway.errors import EvidenceUnavailableError, LimitExceededError
from gateway.pipeline import Pipeline, PipelineSession, SessionSettings

logger = logging.getLogger(__name__)

SWEEP_EVERY_S: Final = 5.0
"""How often sessions are looked at; their limits are minutes and hours."""


@dataclass(slots=True)
class HttpSession:
    """One open session and what is under way in it."""

    pipeline: PipelineSession
    key: str
    opened_at: float
    used_at: float
    under_way: int = 0
    is_ending: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self) -> None:
        """An exchange begins."""
        self.under_way += 1
        self.used_at = time.monotonic()

    def end(self) -> None:
        """An exchange has its outcome recorded."""
        self.under_way -= 1
        self.used_at = time.monotonic()
        self.settled.set()


class HttpSessions:
    """The open sessions of one worker.

    Args:
        idle_s: end after this long without a request.
        max_s: end after this long whatever happens.
        max_sessions: open at once.
        max_per_subject: of these, one subject's.
    """

    def __init__(self, pipeline: Pipeline, *, idle_s: float, max_s: float, max_sessions: int, max_per_subject: int) -> None:
        self._pipeline = pipeline
        self._idle_s = idle_s
        self._max_s = max_s
        self._max_sessions = max_sessions
        self._max_per_subject = max_per_subject
        self._open: dict[str, HttpSession] = {}
        self._opening: dict[str, asyncio.Task[HttpSession]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._totals: Counter[str] = Counter()
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for idle and old sessions."""
        self._sweeper = asyncio.create_task(self._sweep())

    @property
    def count(self) -> int:
        """Sessions open now."""
        return len(self._open)

    def totals(self) -> Mapping[str, int]:
        """What all sessions since the start amounted to."""
        totals = self._totals.copy()
        for session in self._open.values():
            totals.update({f"{name}_total": value for name, value in session.pipeline.counters.items()})
        return totals

    async def find(self, subject: Subject, settings: SessionSettings, client_ip: str) -> HttpSession:
        """The session for this subject, connection and client. Raises LimitExceededError, EvidenceUnavailableError."""
        key = _name(subject, settings, client_ip)
        session = self._open.get(key)
        if session is not None and not self._is_over(session):
            # A renewed token of the same subject lives longer; an older one must not shorten what it proved.
            if subject.expires_ns > session.pipeline.subject.expires_ns:
                session.pipeline.subject = subject
            return session
        if key not in self._opening:
            self._check_room(subject)
            self._opening[key] = asyncio.create_task(self._open_session(key, subject, settings, client_ip))
        try:
            return await asyncio.shield(self._opening[key])
        finally:
            self._opening.pop(key, None)

    async def stop(self, grace_s: float) -> None:
        """Wait for what is under way, then end every session with its record."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        until = time.monotonic() + grace_s
        for session in list(self._open.values()):
            while session.under_way and (left_s := until - time.monotonic()) > 0:
                session.settled.clear()
                try:
                    async with asyncio.timeout(left_s):
                        await session.settled.wait()
                except TimeoutError:
                    break
            self._end(session, "shutdown")
        await asyncio.gather(*self._ending)

    def _is_over(self, session: HttpSession) -> bool:
        now = time.monotonic()
        is_idle = not session.under_way and now - session.used_at >= self._idle_s
        if not session.is_ending and (is_idle or now - session.opened_at >= self._max_s):
            self._end(session, "idle" if is_idle else "too long")
        return session.is_ending

    def _end(self, session: HttpSession, reason: str) -> None:
        session.is_ending = True
        if self._open.get(session.key) is session:
            del self._open[session.key]
        self._totals.update({f"{name}_total": value for name, value in session.pipeline.counters.items()})
        task = asyncio.create_task(self._close(session, reason))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _close(self, session: HttpSession, reason: str) -> None:
        # What began in it must have its outcome before the session has its end.
        until = time.monotonic() + self._max_s
        while session.under_way and reason != "shutdown" and time.monotonic() < until:
            session.settled.clear()
            await session.settled.wait()
        try:
            await session.pipeline.close(reason)
        except EvidenceUnavailableError as error:
            logger.error("the end of session %s cannot be recorded: %s", session.pipeline.id, error)  # noqa: TRY400

    async def _open_session(self, key: str, subject: Subject, settings: SessionSettings, client_ip: str) -> HttpSession:
        opened = await self._pipeline.open_session(subject=subject, settings=settings, protocol="http", client_ip=client_ip)
        now = time.monotonic()
        session = self._open[key] = HttpSession(opened, key, now, now)
        return session

    def _check_room(self, subject: Subject) -> None:
        taken = len(self._open) + len(self._opening)
        own = sum(session.pipeline.subject.id == subject.id for session in self._open.values())
        if taken >= self._max_sessions or own >= self._max_per_subject:
            why = "limits.max_sessions or limits.max_sessions_per_subject is reached"
            raise LimitExceededError("too many sessions", why=why, fix="try again when others have ended")

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            for session in list(self._open.values()):
                self._is_over(session)


def _name(subject: Subject, settings: SessionSettings, client_ip: str) -> str:
    """Everything a session's records say of its subject; a token that says anything else opens another session."""
    parts = [subject.as_input(), subject.issuer, subject.run_id, settings.resource.connection, client_ip]
    return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS).decode()
