"""Segments made ahead: used where they are ready, never needed, and gone at the end."""

import errno
import os

import pytest
from sealgate_native.record import SegmentFile, Writer

from evidence.disk import Disk
from evidence.entries import LEAF, Entry, encode_item
from evidence.segment import (
    HEADER_BYTES,
    PIECE_BYTES,
    SPARE_NAME,
    NativeWriter,
    SegmentHeader,
    SegmentWriter,
    SpareSegment,
    list_segments,
)
from evidence.wal import FIRST_SEGMENT_BYTES, SPARE_SHARE, Wal
from evidence.wal_scan import scan_segment

ORIGIN = "gw-a/2026h2/w0"
SIZE = 3 << 20


def count_blocks(path):
    """Bytes of a file that hold data, as the file system tells blocks that were only reserved from those."""
    total, end = 0, 0
    with path.open("rb") as file:
        size = path.stat().st_size
        while end < size:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break
                raise
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            total += end - start
    return total


def test_a_spare_becomes_the_segment(tmp_path):
    spare = SpareSegment(tmp_path, Disk(), SIZE)
    spare.prepare()
    spare.prepare()  # begun once
    spare._thread.join()
    assert count_blocks(tmp_path / SPARE_NAME) == SIZE
    assert spare.take(SIZE + 1) is None
    path = spare.take(SIZE)
    segment = SegmentWriter(tmp_path, Disk(), ORIGIN, SegmentHeader(4, 0, 0), SIZE, spare=path)
    segment.append(list(encode_item(LEAF, b"one")), 0, 1)
    segment.close()
    assert not path.exists()
    assert spare.take(SIZE) is None
    assert segment.path.stat().st_size == SIZE
    (batch,) = scan_segment(segment.path, ORIGIN).batches
    assert batch.items == ((LEAF, b"one"),)
    spare.close()


def test_a_spare_that_fails_is_done_without(tmp_path):
    class Full(Disk):
        def zero(self, descriptor, size, offset=0):
            if offset >= PIECE_BYTES:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().zero(descriptor, size, offset)

    spare = SpareSegment(tmp_path, Full(), SIZE)
    spare.prepare()
    spare._thread.join()
    assert spare.take(SIZE) is None
    assert not (tmp_path / SPARE_NAME).exists()
    spare.close()


def test_what_is_left_of_a_spare_is_never_taken_for_a_segment(tmp_path):
    (tmp_path / SPARE_NAME).write_bytes(b"\xff" * 100)
    assert list_segments(tmp_path) == []
    spare = SpareSegment(tmp_path, Disk(), SIZE)
    spare.prepare()
    spare._thread.join()
    assert (tmp_path / SPARE_NAME).read_bytes() == bytes(SIZE)
    spare.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("native", [None, NativeWriter(SegmentFile, Writer)], ids=["plain", "native"])
def test_a_log_that_writes_uses_its_spares_and_leaves_none(tmp_path, native):
    written = []
    wal = Wal(
        tmp_path,
        ORIGIN,
        Disk(),
        start=SegmentHeader(0, 0, 0),
        segment_bytes=SIZE,
        on_durable=written.extend,
        on_failure=lambda error, _: written.append(error),
        native=native,
    )
    wal.start()
    leaf = bytes(60_000)
    for _ in range(4 * SIZE // len(leaf)):
        entry = Entry(encode_item(LEAF, leaf), len(leaf) + 5, leaf)
        with wal.lock:
            entry.starts_segment = wal.needs_segment(entry.size)
            wal.enqueue(entry)
    wal.stop()
    wal.join()
    segments = list_segments(tmp_path)
    assert not (tmp_path / SPARE_NAME).exists()
    assert len(written) == sum(len(batch.items) for path in segments for batch in scan_segment(path, ORIGIN).batches)
    assert {path.stat().st_size for path in segments} == {min(SIZE, FIRST_SEGMENT_BYTES), SIZE}
    assert count_blocks(segments[0]) == SIZE  # the first is written on the spot
    assert HEADER_BYTES < SIZE // SPARE_SHARE
