"""How long an evaluation may take, measured so that only a slow policy meets its deadline.

The deadline is in processor time of the evaluator: a process that did not get to run is not slow. A wall bound, several times as long,
ends what neither runs nor answers.

    used ≥ deadline                  the evaluation is slow: it is ended, and its subject is counted
    wall ≥ bound, used < deadline    the host was busy, or the process hangs in the kernel: it is ended, and nobody is counted
"""

from __future__ import annotations

import time
from typing import Final

WALL_FACTOR: Final = 4.0
"""The wall bound in deadlines: a host so busy that a process gets less than a quarter of a processor."""

WALL_LEAST_S: Final = 5.0
"""The least wall bound. A short deadline says how slow a policy may be, not how busy the host: load lasts seconds."""

LEAST_LOOK_S: Final = 0.005
"""Least time between two looks at the processor time: what an evaluation may be over its deadline when it is ended."""


def bound_wall(deadline_s: float) -> float:
    """The wall bound that goes with a deadline, in seconds."""
    return max(WALL_FACTOR * deadline_s, WALL_LEAST_S)


class Allowance:
    """What one evaluation has left; begins when it is made.

    Args:
        pid: the evaluator, which must not have been collected.
        deadline_s: processor time the evaluation may use.
        wall_s: the longest it may take in all; None for the bound that goes with the deadline.
    """

    def __init__(self, pid: int, deadline_s: float, wall_s: float | None = None) -> None:
        self._clock = ~pid << 3 | 2  # the kernel's number for the processor clock of another process
        self._deadline_s = deadline_s
        self._wall_s = bound_wall(deadline_s) if wall_s is None else wall_s
        self._began_at = time.monotonic()
        self._used_before_s = self._read_s()

    def left_s(self) -> float:
        """Seconds until the next look, before which the evaluation cannot be overdue by much; 0 when it is overdue."""
        wall_left_s = self._wall_s - self._elapsed_s()
        used_left_s = self._deadline_s - self._used_s()
        if wall_left_s <= 0 or used_left_s <= 0:
            return 0.0
        return min(max(used_left_s, LEAST_LOOK_S), wall_left_s)

    def is_used_up(self) -> bool:
        """Whether the evaluation itself took too long, and not the wait for a processor."""
        return self._used_s() >= self._deadline_s

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_at

    def _used_s(self) -> float:
        now_s = self._read_s()
        if now_s is None or self._used_before_s is None:
            return self._elapsed_s()
        return now_s - self._used_before_s

    def _read_s(self) -> float | None:
        """Processor time of the process; None where the kernel has no such clock, so that wall time counts as used."""
        try:
            return time.clock_gettime(self._clock)
        except OSError:
            return None
