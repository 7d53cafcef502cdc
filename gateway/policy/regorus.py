"""The embedded engine: regorus in evaluator processes that may be lost (design section 4).

    ask ──▶ wait in line ──▶ idle evaluator ──▶ answer        value, or a failure kind
                 │  none came free     │  over its processor time, over the wall bound, or dead
                 ▼                     ▼
               busy               killed, respawned      the action is blocked; the subject is counted: two kills suspend it,
                                                         three kills in a minute by several subjects quarantine the bundle;
                                                         nobody is counted when the evaluator did not get to run

Nothing is retried: the input that ended one evaluator would end the next.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.errors import PolicyError
from gateway.policy.bundle import Bundle
from gateway.policy.engine import WAIT_S, PolicyFailure
from gateway.policy.process import Evaluator, load_frame, open_evaluator

REGORUS_VERSION: Final = "0.14.1"
"""The pinned crate; a test holds it equal to native/kernel/policy/Cargo.toml."""

DEADLINE_S: Final = 1.0
"""Processor time of one evaluation; waiting in line is not part of it. The engine's own timer ends runaway loops at four fifths of it,
so that only what the timer cannot stop costs a process."""

SUBJECT_KILLS: Final = 2
"""Evaluators a subject may end before it is suspended."""

SUSPENSION_S: Final = 900.0
"""How long a suspension lasts: the length of an agent's idle session, after which a person had time to look."""

QUARANTINE_KILLS: Final = 3
"""Evaluators ended within `QUARANTINE_WINDOW_S` that quarantine the bundle. Above `SUBJECT_KILLS`, so that one subject cannot."""

QUARANTINE_WINDOW_S: Final = 60.0

RESPAWN_DELAYS_S: Final = (0.0, 0.1, 0.5, 2.0, 5.0)
"""Waits between tries to bring an evaluator back; the last repeats."""


class Regorus:
    """A pool of evaluators for one bundle; implements `gateway.policy.engine.Engine`.

    Args:
        bundle: what every evaluator compiles.
        evaluators: processes; one per core evaluates in parallel, more only help against a hanging one.
        deadline_s: processor time one evaluation may use.
        wall_s: time after which an evaluator is killed although it used less; None for the bound that goes with the deadline.
        wait_s: the longest wait for a free evaluator.
        on_alarm: called with a sentence when a subject is suspended or the bundle quarantined.
        clock: monotonic seconds.
    """

    name = "regorus"
    version = REGORUS_VERSION

    def __init__(
        self,
        bundle: Bundle,
        *,
        evaluators: int | None = None,
        deadline_s: float = DEADLINE_S,
        wall_s: float | None = None,
        wait_s: float = WAIT_S,
        on_alarm: Callable[[str], None] = lambda _message: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bundle = bundle
        self._size = evaluators or max(2, os.cpu_count() or 1)
        self._deadline_s = deadline_s
        self._wall_s = wall_s
        self._wait_s = wait_s
        self._frame = load_frame(bundle, int(deadline_s * 800))
        self._on_alarm = on_alarm
        self._clock = clock
        self._idle: list[Evaluator] = []
        self._all: set[Evaluator] = set()
        self._waiting: deque[asyncio.Future[Evaluator]] = deque()
        self._respawns: set[asyncio.Task[None]] = set()
        self._kills_by_subject: dict[str, deque[float]] = {}
        self._recent_kills: deque[float] = deque()
        self._asked_by: dict[Evaluator, str] = {}
        self._watchers: list[Callable[[], None]] = []
        self._is_closed = False
        self.is_quarantined = False

    async def start(self) -> None:
        """Start every evaluator; raises PolicyError when the bundle is refused."""
        opened = await asyncio.gather(
            *(asyncio.to_thread(open_evaluator, self._frame) for _ in range(self._size)), return_exceptions=True
        )
        problems = [item for item in opened if isinstance(item, BaseException)]
        for item in opened:
            if not isinstance(item, BaseException):
                self._adopt(Evaluator(*item, on_free=self._on_free))
        if problems:
            await self.aclose()
            raise problems[0]

    async def aclose(self) -> None:
        """End every evaluator."""
        self._is_closed = True
        for task in list(self._respawns):
            task.cancel()
        await asyncio.gather(*self._respawns, return_exceptions=True)
        for evaluator in list(self._all):
            evaluator.close()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(PolicyFailure("died", "the engine is closed"))

    def standing(self, subject_key: str) -> PolicyFailure | None:
        """Why this subject is not evaluated at the moment, or None."""
        if self.is_quarantined:
            return PolicyFailure("quarantined", "the bundle ended several evaluators within a minute; load a corrected one")
        kills = self._kills_by_subject.get(subject_key)
        if kills is None:
            return None
        while kills and kills[0] <= self._clock() - SUSPENSION_S:
            kills.popleft()
        if not kills:
            del self._kills_by_subject[subject_key]
        if len(kills) < SUBJECT_KILLS:
            return None
        return PolicyFailure("suspended", f"inputs of this subject ended {len(kills)} evaluators; it is suspended for a while")

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call back whenever `standing` may have become something else than None for a subject."""
        self._watchers.append(on_change)

    async def evaluate(self, document: Mapping[str, Any], *, subject_key: str) -> object:
        """The raw decision; raises PolicyFailure. See `Engine.evaluate`."""
        if (refusal := self.standing(subject_key)) is not None:
            raise refusal
        evaluator = self._idle.pop() if self._idle else await self._wait_for_evaluator()
        if (refusal := self.standing(subject_key)) is not None:
            self._put_back(evaluator)
            raise refusal
        self._asked_by[evaluator] = subject_key
        try:
            answer = evaluator.ask(document, self.bundle.digest, self._deadline_s, self._wall_s)
        except PolicyFailure:
            self._asked_by.pop(evaluator, None)
            if evaluator.is_alive:
                self._put_back(evaluator)
            raise
        return await answer

    def _adopt(self, evaluator: Evaluator) -> None:
        self._all.add(evaluator)
        self._put_back(evaluator)

    def _put_back(self, evaluator: Evaluator) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(evaluator)
                return
        self._idle.append(evaluator)

    async def _wait_for_evaluator(self) -> Evaluator:
        waiter: asyncio.Future[Evaluator] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._wait_s):
                return await waiter
        except (TimeoutError, asyncio.CancelledError) as interruption:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._put_back(waiter.result())  # it came free in the very moment we stopped waiting
            if isinstance(interruption, TimeoutError):
                raise PolicyFailure("busy", f"no evaluator came free within {self._wait_s:g} s") from None
            raise

    def _on_free(self, evaluator: Evaluator) -> None:
        subject_key = self._asked_by.pop(evaluator, None)
        if evaluator.is_alive:
            self._put_back(evaluator)
            return
        self._all.discard(evaluator)
        if evaluator in self._idle:
            self._idle.remove(evaluator)
        if self._is_closed:
            return
        if subject_key is not None and not evaluator.was_starved:
            self._count_kill(subject_key)
        task = asyncio.get_running_loop().create_task(self._respawn())
        self._respawns.add(task)
        task.add_done_callback(self._respawns.discard)

    async def _respawn(self) -> None:
        for attempt in range(1 << 30):
            await asyncio.sleep(RESPAWN_DELAYS_S[min(attempt, len(RESPAWN_DELAYS_S) - 1)])
            try:
                opened = await asyncio.to_thread(open_evaluator, self._frame)
            except (PolicyError, OSError):
                continue
            self._adopt(Evaluator(*opened, on_free=self._on_free))
            return

    def _count_kill(self, subject_key: str) -> None:
        self._judge_kill(subject_key)
        for watcher in self._watchers:
            watcher()

    def _judge_kill(self, subject_key: str) -> None:
        now = self._clock()
        kills = self._kills_by_subject.setdefault(subject_key, deque())
        kills.append(now)
        if len(kills) == SUBJECT_KILLS:
            self._on_alarm(f"policy: inputs of {subject_key} ended {SUBJECT_KILLS} evaluators; the subject is suspended")
        if len(kills) > SUBJECT_KILLS:
            return
        self._recent_kills.append(now)
        while self._recent_kills[0] <= now - QUARANTINE_WINDOW_S:
            self._recent_kills.popleft()
        if len(self._recent_kills) >= QUARANTINE_KILLS and not self.is_quarantined:
            self.is_quarantined = True
            self._on_alarm(f"policy: bundle {self.bundle.digest} ended {QUARANTINE_KILLS} evaluators in a minute; quarantined")
