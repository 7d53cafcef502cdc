"""Decisions in the client's own words: text for standard error and exit status, sftp status, scp error lines. Pure.

Nothing here carries a value of a command, a script or a file. Every text is printable: control characters could repaint a terminal.
"""

from __future__ import annotations

from typing import Final

from gateway.decision import Enforceable
from gateway.messages import Refusal, RefusalKind

ENFORCEABLE: Final = Enforceable(
    selectors=frozenset({"detector"}),
    strategies=frozenset({"redact"}),
    obligations=frozenset({"record", "tag", "file_limit", "withhold_findings"}),
)
"""What this protocol can carry out; a decision that asks for more blocks."""

EXIT_REFUSED: Final = 126
"""The shell's own status for "found, but not to be executed" (POSIX.1-2024, XCU 2.8.2)."""

EXIT_NO_TARGET: Final = 255
"""What ssh itself ends with when a connection fails."""

MAX_LINE_CHARS: Final = 1_000
"""Longest line of a refusal; reasons come from policy and may be long, a terminal is not."""

STATUS_NO_SUCH_FILE, STATUS_PERMISSION_DENIED, STATUS_FAILURE, STATUS_UNSUPPORTED = 2, 3, 4, 8
"""Status codes of sftp version 3 (draft-ietf-secsh-filexfer-02, 7)."""

_STATUSES: Final[dict[RefusalKind, int]] = {"protocol": STATUS_UNSUPPORTED, "limit": STATUS_FAILURE, "target": STATUS_FAILURE}


def refuse(refusal: Refusal) -> bytes:
    """The text for standard error of a refused action, in short lines."""
    lines = [
        f"sealgate: {refusal.what}",
        f"sealgate:   rule {refusal.rule}: {refusal.why}" if refusal.why else f"sealgate:   rule {refusal.rule}",
    ]
    if refusal.fix:
        lines.append(f"sealgate:   what to do: {refusal.fix}")
    if refusal.retry_after_s is not None:
        lines.append(f"sealgate:   asking again is worth it after {refusal.retry_after_s} s")
    ticket = f", ticket {refusal.ticket}" if refusal.ticket else ""
    lines.append(f"sealgate:   decision {refusal.decision_id}{ticket}")
    return "".join(f"{clean(line)}\n" for line in lines).encode()


def announce_hold(what: str, ticket: str, hold_s: float) -> bytes:
    """The line that says why nothing happens yet."""
    return f"{clean(f'sealgate: {what} needs approval; waiting up to {hold_s:g} s for ticket {ticket}')}\n".encode()


def announce_refused_way(channel: str) -> bytes:
    """The line that says that the agent's keys are not forwarded; b"" for ways whose refusal clients show themselves."""
    # A client asks for this without wanting an answer (OpenSSH PROTOCOL, auth-agent-req@openssh.com), so it can show none.
    return b"sealgate: agent forwarding is refused; keys stay on your machine\n" if channel == "agent" else b""


def refuse_status(refusal: Refusal) -> tuple[int, str]:
    """Status code and message of a refused sftp operation; clients show one of them."""
    ticket = f", ticket {refusal.ticket}" if refusal.ticket else ""
    text = f"{refusal.what}: rule {refusal.rule}: {refusal.why} (decision {refusal.decision_id}{ticket})"
    return _STATUSES.get(refusal.kind, STATUS_PERMISSION_DENIED), clean(text)


def refuse_scp(refusal: Refusal) -> bytes:
    """The fatal error line of the scp protocol, which the other side prints before it ends."""
    _, text = refuse_status(refusal)
    return b"\2" + f"sealgate: {text}\n".encode()


def clean(text: str) -> str:
    """One printable line."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= MAX_LINE_CHARS else f"{line[: MAX_LINE_CHARS - 1]}…"
