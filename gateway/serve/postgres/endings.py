"""How PostgreSQL sessions end, and the last words an agent hears then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.protocols.postgres import enforce


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a session ends.

    Attributes:
        fields: the last words to the agent, where it can still hear them.
        cancels: what the server still does for it is cancelled, and its end waited for.
    """

    reason: str
    fields: Mapping[str, str] | None = None
    cancels: bool = False


class EndSession(Exception):  # noqa: N818 - not an error: how any task of a session ends it
    """Raised to end the session."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


AGENT_LEFT: Final = Ending("the agent left", cancels=True)
GOOD_BYE: Final = Ending("the agent said good-bye", cancels=True)
GATEWAY_STOPPED: Final = Ending("the gateway stopped")
SHUTDOWN: Final = Ending("shutdown", enforce.refuse_login(enforce.SHUTDOWN, "the gateway is shutting down", fix="connect again"))
EVIDENCE_LOST: Final = Ending(
    "evidence unavailable",
    enforce.refuse_login(
        "58030",
        "the session ends, because its record cannot be made durable",
        fix="whether a statement under way took effect is not known; tell the gateway's operators to check the evidence store",
    ),
)
OUTDATED: Final = Ending(
    "outdated",
    enforce.refuse_login(enforce.SHUTDOWN, "the session began under definitions that hold no more", fix="connect again"),
)
TARGET_SAID_WHY: Final = Ending("the target broke off")
"""The agent was told what the target said."""

TARGET_LOST: Final = Ending(
    "the target broke off",
    enforce.refuse_login(
        enforce.TARGET_LOST,
        "the target ended the connection",
        fix="connect again; whether a statement under way took effect is not known",
    ),
)

HELD_TOO_LONG: Final = Ending(
    "held too long",
    enforce.refuse_login(
        enforce.IDLE,
        "the transaction held a change that waits for approval for too long",
        why="others wait behind its locks",
        fix="connect again, and send COMMIT right after the change",
    ),
    cancels=True,
)


def end_idle(timeout_s: float) -> Ending:
    """The agent was silent for too long."""
    why = f"the setting limits.idle_timeout_s is {timeout_s:g}"
    fields = enforce.refuse_login(enforce.IDLE, "the session was idle for too long", why=why, fix="connect again")
    return Ending("idle", fields, cancels=True)


def end_overlong(max_session_s: float) -> Ending:
    """The session lasted as long as any may."""
    why = f"the setting limits.max_session_s is {max_session_s:g}"
    fields = enforce.refuse_login(enforce.SHUTDOWN, "the session lasted too long", why=why, fix="connect again")
    return Ending("too long", fields, cancels=True)


def end_faulted(session_id: str) -> Ending:
    """The gateway met a case it does not handle."""
    what = "the session ends, because the gateway met a case it does not handle"
    return Ending("fault", enforce.refuse_login("XX000", what, fix=f"tell the operators: session {session_id}"))
