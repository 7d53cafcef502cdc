"""Masking and recording of what one channel carries: streaming detectors toward the agent, and the asciicast for evidence.

Two maskers read each stream. The one for delivery lets go of what it holds when the target pauses, because a prompt must not lag; the
one for the record never does, so a finding that was cut by a pause is still whole in the record.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from sealgate_native.mask import Detectors, StreamMasker

from gateway.decision import Decision
from gateway.parts import TranscriptWriter
from gateway.protocols.ssh.events import Pty
from gateway.protocols.ssh.recording import CastWriter, EchoWatch
from gateway.serve.cell_masking import CellMasking

TERMINAL_FLUSH_S: Final = 0.015
"""Pause after which a terminal's output is delivered whole: below the 20 ms a person begins to notice."""

PIPE_FLUSH_S: Final = 0.25
"""The same without a terminal: programs that answer one another line by line must not wait for each other."""

DEFAULT_SIZE: Final = Pty("dumb", 80, 24)


def choose_detectors(decision: Decision, masking: CellMasking, apply: str) -> Detectors | None:
    """The detectors that read a stream: those of the configuration and those policy adds for this target of the bytes.

    Raises ConfigError for a detector that does not exist.
    """
    wanted = {
        str(mask.selector["detector"]) for mask in decision.masks if "detector" in mask.selector and mask.apply in {apply, "both"}
    }
    return masking.find_detectors(sorted(wanted | set(masking.always)))


class MaskedStream:
    """One stream on its way to the agent.

    Args:
        deliver: gets what may be delivered.
        flush_s: pause after which everything held is delivered.
    """

    def __init__(self, detectors: Detectors | None, deliver: Callable[[bytes], None], *, flush_s: float) -> None:
        self._masker = None if detectors is None else StreamMasker(detectors)
        self._deliver = deliver
        self._flush_s = flush_s
        self._timer: asyncio.TimerHandle | None = None
        self._counts: Counter[str] = Counter()

    def feed(self, data: bytes) -> None:
        """Take output of the target."""
        if self._masker is None:
            self._deliver(data)
            return
        self._deliver(self._masker.feed(data))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._masker.held_bytes:
            self._timer = asyncio.get_running_loop().call_later(self._flush_s, self.finish)

    def finish(self) -> None:
        """Deliver everything held: the stream ended, or paused."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._masker is not None and self._masker.held_bytes:
            self._deliver(self._masker.finish())

    @property
    def counts(self) -> Mapping[str, int]:
        """Findings by detector."""
        return {} if self._masker is None else self._masker.counts


class Recording:
    """The transcript of one shell or command.

    Args:
        writer: where it goes; None where the connection keeps no transcript.
        detectors: read what is recorded.
    """

    def __init__(
        self,
        writer: TranscriptWriter | None,
        detectors: Detectors | None,
        *,
        pty: Pty | None,
        kind: str,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._writer = writer
        self._detectors = detectors
        self._clock_ns = clock_ns
        size = pty or DEFAULT_SIZE
        details = {"kind": kind, **({"term": pty.term} if pty else {})}
        self._cast = CastWriter(columns=size.columns, rows=size.rows, started_ns=clock_ns(), details=details)
        self._maskers = {code: StreamMasker(detectors) for code in "oe"} if detectors is not None else {}
        self._echo = EchoWatch() if pty is not None else None
        self._stdin = hashlib.sha256()
        self.bytes_in = 0
        self.bytes_out = 0
        if writer is not None:
            writer.write(self._cast.begin())

    def output(self, data: bytes, *, is_error: bool) -> None:
        """Record output as the target sent it. Raises EvidenceUnavailableError."""
        self.bytes_out += len(data)
        for line in self._echo.show(data) if self._echo is not None else ():
            self._typed(line)
        if self._writer is None:
            return
        code = "e" if is_error else "o"
        masker = self._maskers.get(code)
        self._write(code, data if masker is None else masker.feed(data))

    def input(self, data: bytes) -> None:
        """Record input: lines typed into a terminal; of other input a digest and the size. Raises EvidenceUnavailableError."""
        self.bytes_in += len(data)
        self._stdin.update(data)
        if self._echo is not None:
            for line in self._echo.type(data):
                self._typed(line)

    def resize(self, columns: int, rows: int) -> None:
        """Record a new terminal size."""
        if self._writer is not None:
            self._writer.write(self._cast.resize(columns, rows, self._clock_ns()))

    def close(self, status: str, commit: Callable[[bytes], str]) -> dict[str, Any]:
        """End it; what the outcome record says of the streams. Raises EvidenceUnavailableError."""
        summary: dict[str, Any] = {"bytes_in": self.bytes_in, "bytes_out": self.bytes_out}
        if self.bytes_in:
            summary["stdin"] = commit(self._stdin.digest())
        if self._writer is None:
            return summary
        for line in self._echo.flush() if self._echo is not None else ():
            self._typed(line)
        for code, masker in self._maskers.items():
            self._write(code, masker.finish())
        self._writer.write(self._cast.exit(status, self._clock_ns()))
        return summary | {"transcript": dict(self._writer.close())}

    def _typed(self, line: str) -> None:
        data = line.encode("utf-8", "replace")
        self._write("i", data if self._detectors is None else self._detectors.mask(data)[0])

    def _write(self, code: str, data: bytes) -> None:
        if self._writer is not None and data:
            line = self._cast.write(code, data, self._clock_ns())
            if line:
                self._writer.write(line)
