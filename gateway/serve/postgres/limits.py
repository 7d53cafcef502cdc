"""What one PostgreSQL session may hold and how long it may last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sealgate_native.mask import Detectors
from sealgate_native.postgres import Session

DRAIN_TIMEOUT_S: Final = 5.0
"""After the agent left: how long the server may take to report how the cancelled statement ended, for its outcome record."""

MIN_GUARD_PAUSE_S: Final = 0.05
"""How often an overdue session is looked at until its statement is done."""

OVERDUE_S: Final = 60.0
"""How long a statement under way may go on once its session has lasted as long as any may."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds of one session.

    Attributes:
        max_message_bytes: longest message. One of the server may be up to twice as long, by a number drawn by lot for each, or a column filled
            up to the bound would tell, by whether the session ends, how long a masked value beside it is.
        idle_timeout_s: silence after which the session ends, where the agent is the one who has to send or read something.
        max_session_s: longest session; a proof of identity must not be stretched for ever. A statement under way has `OVERDUE_S` more.
        max_statements: prepared statements kept at once.
        record_limit_bytes: masked rows kept per action for the transcript.
    """

    max_message_bytes: int = 16 << 20
    max_statements: int = 1_000
    max_portals: int = 1_000
    max_pending: int = 4_096
    record_limit_bytes: int = 1 << 20
    idle_timeout_s: float = 900.0
    max_session_s: float = 28_800.0


def open_kernel(limits: SessionLimits, error_detectors: Detectors | None) -> Session:
    """The native half of a session: it reads the wire, and masks what it does not give back to be judged."""
    kernel = Session(
        max_message_bytes=limits.max_message_bytes,
        max_statements=limits.max_statements,
        max_portals=limits.max_portals,
        max_pending=limits.max_pending,
        error_detectors=error_detectors,
        record_limit_bytes=limits.record_limit_bytes,
    )
    kernel.blur_server_limit()
    return kernel
