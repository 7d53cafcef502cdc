"""Transcripts: what was delivered to the agent, kept as the session's mode says.

`none` keeps nothing, `summary` a keyed digest and counts per action, `head` the first `HEAD_BYTES` of each action as well, `full`
everything. Bytes leave as a chunk once there are `FLUSH_BYTES` of them or the oldest has waited `FLUSH_S`: what a crash can lose is
bounded by that, and the `gap` record that recovery writes says so. Digests are HMACs under the session's salt: a bare digest of a
short answer could be guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from evidence.errors import EvidenceWriteError
from evidence.record import TranscriptMode, format_time

if TYPE_CHECKING:
    from evidence.session import SessionLog

FLUSH_BYTES: Final = 64 << 10
"""A chunk leaves once it holds this much plain text."""

FLUSH_S: Final = 1.0
"""A chunk leaves once its oldest byte has waited this long."""

HEAD_BYTES: Final = 1 << 20
"""What mode `head` keeps of one action."""


class Transcript:
    """The transcript of one session. May be written from one thread while the log flushes it from another.

    Usage: `begin(decision_id)`, `write(bytes)` for what is delivered, `end()` for the fields of the outcome record.
    """

    def __init__(
        self,
        session: SessionLog,
        mode: TranscriptMode,
        *,
        head_bytes: int = HEAD_BYTES,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._session = session
        self._mode = mode
        self._head_bytes = head_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._buffer = bytearray()
        self._first_ns = 0
        self._last_ns = 0
        self._oldest_s = 0.0
        self._offset = 0
        """Stream offset of the buffer's first byte; counts bytes kept, over the whole session."""
        self._decision_id = ""
        self._left = 0
        self._bytes = 0
        self._kept = 0
        self._digest = self._start_digest("")
        session.add_transcript(self)

    def begin(self, decision_id: str) -> None:
        """Start the part of the transcript that belongs to one action; what is left of the part before leaves first."""
        with self._lock:
            self._flush()
            self._decision_id = decision_id
            self._left = {"head": self._head_bytes, "full": -1}.get(self._mode, 0)
            self._bytes = self._kept = 0
            self._digest = self._start_digest(decision_id)

    def write(self, data: bytes) -> None:
        """Add bytes as they are delivered, masked already.

        Raises:
            EvidenceWriteError: the log has failed; nothing more may be delivered.
        """
        if self._mode == "none" or not data:
            return
        with self._lock:
            self._bytes += len(data)
            self._digest.update(data)
            keep = data if self._left < 0 else data[: self._left]
            if not keep:
                return
            if self._left > 0:
                self._left -= len(keep)
            now_ns = self._clock()
            if not self._buffer:
                self._first_ns, self._oldest_s = now_ns, time.monotonic()
            self._last_ns = now_ns
            self._kept += len(keep)
            self._buffer += keep
            if len(self._buffer) >= FLUSH_BYTES:
                self._flush()

    def end(self) -> dict[str, Any]:
        """Finish the action's part and return its summary: bytes delivered, bytes kept, keyed digest of all of them."""
        with self._lock:
            self._flush()
            if self._mode == "none":
                return {}
            return {"bytes": self._bytes, "kept": self._kept, "hmac": self._digest.hexdigest()}

    def close(self) -> dict[str, Any]:
        """As `end`, for a transcript that is not begun again."""
        summary = self.end()
        self._session.remove_transcript(self)
        return summary

    def flush(self) -> None:
        """Let go of what is buffered."""
        with self._lock:
            self._flush()

    def flush_due(self) -> None:
        """Let go of what has waited long enough; never raises, a failed log is seen by the next `write`."""
        with self._lock:
            if self._buffer and time.monotonic() - self._oldest_s >= FLUSH_S:
                try:
                    self._flush()
                except EvidenceWriteError:
                    return

    def _flush(self) -> None:
        if not self._buffer:
            return
        while self._buffer:
            part = bytes(self._buffer[:FLUSH_BYTES])
            reference = self._session.put_blob("transcript", part)
            fields = {
                "chunk": reference,
                "offset": self._offset,
                "first_ts": format_time(self._first_ns),
                "last_ts": format_time(self._last_ns),
                **({"decision_id": self._decision_id} if self._decision_id else {}),
            }
            self._session.submit("transcript.chunk", fields)
            self._offset += len(part)
            del self._buffer[: len(part)]

    def _start_digest(self, decision_id: str) -> hmac.HMAC:
        return hmac.new(self._session.salt_for(f"{decision_id}/transcript"), digestmod=hashlib.sha256)
