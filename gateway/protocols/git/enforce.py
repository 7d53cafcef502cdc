"""Decisions in Git's own words: a status per ref for a push, an ERR line for a fetch. Pure.

(gitprotocol-pack(5), "Report Status" and "pkt-line error"; side-band-64k in gitprotocol-capabilities(5).)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.decision import Enforceable
from gateway.messages import Refusal
from gateway.protocols.git.events import Push
from gateway.protocols.git.parse import FLUSH, encode_line

ENFORCEABLE: Final = Enforceable(selectors=frozenset(), strategies=frozenset(), obligations=frozenset({"record", "tag"}))
"""What can be carried out on a pack stream; content is never rewritten."""

MAX_REASON_CHARS: Final = 400
_SIDE_BAND_BYTES: Final = 65_515
_PRIMARY, _PROGRESS = b"\1", b"\2"


def refuse_push(refusal: Refusal, push: Push) -> bytes:
    """The report of a push nothing of which happened: `! [remote rejected] main (reason)` for every ref, and the whole story as remote text."""
    ticket = f", ticket {refusal.ticket}" if refusal.ticket else ""
    reason = _clean(f"{refusal.why or refusal.what} [{refusal.rule}, decision {refusal.decision_id}{ticket}]")
    lines = [b"unpack ok\n", *(f"ng {item.ref} {reason}\n".encode() for item in push.updates)]
    report = b"".join(map(encode_line, lines)) + FLUSH
    if not {"report-status", "report-status-v2"} & set(push.capabilities):
        report = b""
    if "side-band-64k" not in push.capabilities:
        return report
    story = "".join(f"{line}\n" for line in _tell(refusal)).encode()
    return b"".join(_band(_PROGRESS, story)) + b"".join(_band(_PRIMARY, report)) + FLUSH


def refuse_fetch(refusal: Refusal) -> bytes:
    """The ERR line that git shows as `fatal: remote error: …`."""
    return encode_line(f"ERR {_clean('; '.join(_tell(refusal)))}".encode())


def _tell(refusal: Refusal) -> Iterable[str]:
    yield _clean(f"sealgate: {refusal.what}")
    yield _clean(f"rule {refusal.rule}: {refusal.why}")
    yield _clean(f"what to do: {refusal.fix}")
    yield _clean(f"decision {refusal.decision_id}{f', ticket {refusal.ticket}' if refusal.ticket else ''}")


def _band(band: bytes, data: bytes) -> Iterable[bytes]:
    return [encode_line(band + data[at : at + _SIDE_BAND_BYTES]) for at in range(0, len(data), _SIDE_BAND_BYTES)]


def _clean(text: str) -> str:
    """One printable line of ref-status length."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= MAX_REASON_CHARS else f"{line[: MAX_REASON_CHARS - 1]}…"
