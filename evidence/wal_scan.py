"""Reading the write-ahead log back after a crash: whole batches, and what is left of one that is not whole."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evidence.entries import ITEM_HEADER, LEAF
from evidence.errors import RecoveryError
from evidence.segment import (
    BATCH_HEADER,
    BATCH_MAGIC,
    BATCH_OVERHEAD,
    HEADER_BYTES,
    SEGMENT_HEADER,
    SEGMENT_MAGIC,
    SegmentHeader,
    segment_path,
)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch read back: its number, the index of its first record, and its items as (kind, body)."""

    number: int
    first_index: int
    leaf_count: int
    items: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class ScannedSegment:
    """A segment read back: its batches, and the bytes behind the last good one that are not zero."""

    path: Path
    header: SegmentHeader
    batches: tuple[Batch, ...]
    torn: bytes

    @property
    def end_index(self) -> int:
        """Index after the last record of this segment."""
        return self.batches[-1].first_index + self.batches[-1].leaf_count if self.batches else self.header.first_index

    @property
    def end_batch(self) -> int:
        """Number after the last batch of this segment."""
        return self.header.first_batch + len(self.batches)


def scan_segment(path: Path, origin: str) -> ScannedSegment:
    """Read a segment back up to its first batch that is not whole.

    Raises:
        RecoveryError: not a segment of this log, or damage to a batch that had been acknowledged.
    """
    data = path.read_bytes()
    header = _decode_header(path, data, origin)
    batches: list[Batch] = []
    offset, number, index = HEADER_BYTES, header.first_batch, header.first_index
    while (found := _read_batch(data, offset)) is not None and (found[0].number, found[0].first_index) == (number, index):
        batch, offset = found
        batches.append(batch)
        number, index = number + 1, index + batch.leaf_count
    torn = data[offset:].rstrip(b"\x00")
    later = _find_batch(data, offset + 1, number) if torn else None
    if later is not None:
        raise RecoveryError(
            f"segment {path.name} is damaged before acknowledged records",
            why=f"batch {number} is not readable, yet batch {later} behind it is",
            fix="restore the segment from a copy, or keep it for an investigation and start a new origin",
        )
    return ScannedSegment(path, header, tuple(batches), torn)


def _decode_header(path: Path, data: bytes, origin: str) -> SegmentHeader:
    fix = "restore it from a copy, or keep it for an investigation and start a new origin"
    if len(data) < HEADER_BYTES:
        raise RecoveryError(f"segment {path.name} is shorter than its header", fix=fix)
    magic, number, first_index, first_batch, tag, checksum = SEGMENT_HEADER.unpack_from(data)
    if magic != SEGMENT_MAGIC or zlib.crc32(data[: SEGMENT_HEADER.size - 4]) != checksum:
        raise RecoveryError(f"segment {path.name} has a damaged header", fix=fix)
    if tag != hashlib.sha256(origin.encode()).digest()[:16] or path.name != segment_path(path.parent, number).name:
        raise RecoveryError(f"segment {path.name} belongs to another log or place", fix="put back the segment of this log")
    return SegmentHeader(number, first_index, first_batch)


def _read_batch(data: bytes, offset: int) -> tuple[Batch, int] | None:
    """The batch at an offset and where it ends, or None when there is no whole batch."""
    start = offset + BATCH_OVERHEAD
    if start > len(data):
        return None
    magic, number, first_index, leaf_count, length, checksum = BATCH_HEADER.unpack_from(data, offset)
    if magic != BATCH_MAGIC or start + length > len(data):
        return None
    body = data[start : start + length]
    if zlib.crc32(body, zlib.crc32(data[offset : start - 4])) != checksum:
        return None
    items = tuple(_read_items(body))
    if sum(kind == LEAF for kind, _ in items) != leaf_count:
        return None
    return Batch(number, first_index, leaf_count, items), start + length


def _read_items(body: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(body):
        kind, length = ITEM_HEADER.unpack_from(body, offset)
        offset += ITEM_HEADER.size
        yield kind, body[offset : offset + length]
        offset += length


def _find_batch(data: bytes, offset: int, above: int) -> int | None:
    """The number of a whole batch anywhere behind `offset` that was written after batch `above`."""
    while (offset := data.find(BATCH_MAGIC, offset)) >= 0:
        found = _read_batch(data, offset)
        if found is not None and found[0].number > above:
            return found[0].number
        offset += 1
    return None
