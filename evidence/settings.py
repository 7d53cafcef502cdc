"""How a log behaves: its sizes and intervals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evidence.wal import SEGMENT_BYTES


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How a log behaves; the defaults suit production.

    Attributes:
        segment_bytes: size of a write-ahead segment.
        checkpoint_interval_s: a checkpoint is signed this often while there are new records.
        heartbeat_s: an idle log writes a heartbeat this often, so that silence is a finding.
        ballast_bytes: disk space held back, so that after the disk filled up its failure can still be recorded.
        guard: a second place for `last-signed`, best on another volume, so that a restored old directory is noticed.
    """

    segment_bytes: int = SEGMENT_BYTES
    checkpoint_interval_s: float = 1.0
    heartbeat_s: float = 60.0
    ballast_bytes: int = 8 << 20
    guard: Path | None = None
