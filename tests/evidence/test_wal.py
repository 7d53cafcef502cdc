"""The write-ahead log's format: what is read back is what was synced, and damage is told apart from a torn write."""

import errno
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sealgate_native.record import SegmentFile

from evidence import wal as wal_module
from evidence.disk import Disk
from evidence.entries import CHUNK, LEAF, Entry, decode_named, encode_item, encode_named
from evidence.errors import EvidenceBusyError, RecoveryError
from evidence.segment import HEADER_BYTES, SegmentHeader, SegmentWriter, encode_batch, list_segments
from evidence.wal import MAX_BATCH_ENTRIES, Wal
from evidence.wal_scan import scan_segment

ORIGIN = "gw-a/2026h2/w0"
SIZE = 64 << 10


def make_segment(directory, bodies, number=3, first_index=10, first_batch=7, open_file=None):
    segment = SegmentWriter(directory, Disk(), ORIGIN, SegmentHeader(number, first_index, first_batch), SIZE, open_file)
    index = first_index
    for leaves in bodies:
        segment.append([part for leaf in leaves for part in encode_item(LEAF, leaf)], index, len(leaves))
        index += len(leaves)
    segment.close()
    return segment.path


def read_leaves(scanned):
    return [[body for kind, body in batch.items if kind == LEAF] for batch in scanned.batches]


@settings(max_examples=30)
@given(st.lists(st.lists(st.binary(min_size=1, max_size=50), max_size=5), max_size=6))
def test_what_was_synced_is_read_back(tmp_path_factory, bodies):
    path = make_segment(tmp_path_factory.mktemp("wal"), bodies)
    scanned = scan_segment(path, ORIGIN)
    assert read_leaves(scanned) == bodies
    assert scanned.end_index == 10 + sum(map(len, bodies))
    assert scanned.end_batch == 7 + len(bodies)
    assert scanned.torn == b""


@settings(max_examples=30)
@given(st.lists(st.lists(st.binary(min_size=1, max_size=50), max_size=5), max_size=6))
def test_the_native_writer_leaves_the_same_bytes(tmp_path_factory, bodies):
    plain = make_segment(tmp_path_factory.mktemp("wal"), bodies)
    native = make_segment(tmp_path_factory.mktemp("wal"), bodies, open_file=SegmentFile)
    assert native.read_bytes() == plain.read_bytes()


def test_the_native_writer_says_what_the_disk_says():
    segment = SegmentFile(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left") as caught:
        segment.append([b"x"], 0, 0, 1, 0)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="No such file") as caught:
        SegmentFile(Path("/nowhere/0.wal"))
    assert caught.value.errno == errno.ENOENT


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.integers(0, 2**64 - 1), st.binary(max_size=100))
def test_named_items_round_trip(name, number, data):
    encoded = b"".join(encode_named(CHUNK, name, number, data))
    assert encoded[0] == CHUNK
    assert decode_named(encoded[5:]) == (name, number, data)


def test_torn_write_at_every_byte_of_the_last_batch(tmp_path):
    path = make_segment(tmp_path, [[b"first"], [b"second", b"third"]])
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0"))
    start = whole.index(b"\xffSGB", HEADER_BYTES + 1)
    for cut in range(start, end):
        for rest in (b"", b"\0" * (SIZE - cut)):  # the file ends there, or pre-allocated zeros follow
            path.write_bytes(whole[:cut] + rest)
            scanned = scan_segment(path, ORIGIN)
            assert read_leaves(scanned) == [[b"first"]]
            assert scanned.torn == whole[start:cut].rstrip(b"\0")
    path.write_bytes(whole[:end])
    assert read_leaves(scan_segment(path, ORIGIN)) == [[b"first"], [b"second", b"third"]]


def test_sectors_of_the_last_batch_in_any_order_are_a_torn_write(tmp_path):
    # A disk may write the parts of one unsynced batch in any order, so a hole in the last batch was never acknowledged.
    path = make_segment(tmp_path, [[b"first"], [b"x" * 2000, b"y" * 2000]])
    whole = bytearray(path.read_bytes())
    hole = whole.index(b"x" * 2000)
    whole[hole : hole + 512] = bytes(512)
    path.write_bytes(whole)
    scanned = scan_segment(path, ORIGIN)
    assert read_leaves(scanned) == [[b"first"]]
    assert scanned.torn.endswith(b"y")


def test_any_changed_byte_in_an_acknowledged_batch_is_refused(tmp_path):
    path = make_segment(tmp_path, [[b"first"], [b"second"], [b"third"]])
    whole = path.read_bytes()
    last = whole.rindex(b"\xffSGB")
    for position in range(HEADER_BYTES, last):
        changed = bytearray(whole)
        changed[position] ^= 0x55
        path.write_bytes(changed)
        with pytest.raises(RecoveryError, match="acknowledged"):
            scan_segment(path, ORIGIN)


def test_any_changed_byte_in_the_header_is_refused(tmp_path):
    path = make_segment(tmp_path, [[b"first"]])
    whole = path.read_bytes()
    for position in range(48):
        changed = bytearray(whole)
        changed[position] ^= 0x55
        path.write_bytes(changed)
        with pytest.raises(RecoveryError):
            scan_segment(path, ORIGIN)
    path.write_bytes(whole[: HEADER_BYTES - 1])
    with pytest.raises(RecoveryError, match="shorter"):
        scan_segment(path, ORIGIN)


def test_segment_of_another_log_or_place_is_refused(tmp_path):
    path = make_segment(tmp_path, [[b"first"]])
    with pytest.raises(RecoveryError, match="another log"):
        scan_segment(path, "gw-b/2026h2/w0")
    with pytest.raises(RecoveryError, match="another log"):
        scan_segment(path.rename(tmp_path / "0000000009.wal"), ORIGIN)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_after_good_batches_never_become_records(tmp_path_factory, noise):
    path = make_segment(tmp_path_factory.mktemp("wal"), [[b"first"]])
    path.write_bytes(path.read_bytes().rstrip(b"\0") + noise)
    scanned = scan_segment(path, ORIGIN)
    assert read_leaves(scanned) == [[b"first"]]
    assert scanned.torn == noise.rstrip(b"\0")


def test_replayed_batch_is_not_accepted_twice(tmp_path):
    path = make_segment(tmp_path, [[b"first"]])
    again = encode_batch(7, 10, 1, b"".join(encode_item(LEAF, b"first")))
    path.write_bytes(path.read_bytes().rstrip(b"\0") + again)
    assert read_leaves(scan_segment(path, ORIGIN)) == [[b"first"]]


class Collector:
    def __init__(self):
        self.batches = []
        self.failure = None

    def on_durable(self, batch):
        self.batches.append(batch)

    def on_failure(self, error, _batch):
        self.failure = error


def make_wal(directory, collector, disk=None, segment_bytes=SIZE):
    return Wal(
        directory,
        ORIGIN,
        disk or Disk(),
        start=SegmentHeader(0, 0, 0),
        segment_bytes=segment_bytes,
        on_durable=collector.on_durable,
        on_failure=collector.on_failure,
    )


def put(wal, leaf, kind=LEAF):
    entry = Entry(encode_item(kind, leaf), len(leaf) + 5, leaf if kind == LEAF else None)
    with wal.lock:
        entry.starts_segment = wal.needs_segment(entry.size)
        wal.enqueue(entry)


def test_everything_queued_goes_under_one_sync(tmp_path):
    collector = Collector()
    wal = make_wal(tmp_path, collector)
    for number in range(MAX_BATCH_ENTRIES + 10):
        put(wal, b"%d" % number)
    wal.start()
    wal.stop()
    wal.join()
    assert [len(batch) for batch in collector.batches] == [MAX_BATCH_ENTRIES, 10]
    assert wal.counters.syncs == 2
    assert wal.counters.records == wal.durable_size == MAX_BATCH_ENTRIES + 10


def test_large_entries_split_batches_by_bytes_and_segments_by_size(tmp_path):
    collector = Collector()
    wal = make_wal(tmp_path, collector)
    leaves = [bytes([65 + number]) * 30_000 for number in range(7)]
    for leaf in leaves:
        put(wal, leaf)
    put(wal, b"z" * 200_000)  # larger than a whole segment
    put(wal, b"last")
    wal.start()
    wal.stop()
    wal.join()
    paths = list_segments(tmp_path)
    scanned = [scan_segment(path, ORIGIN) for path in paths]
    read = [leaf for segment in scanned for batch in read_leaves(segment) for leaf in batch]
    assert read == [*leaves, b"z" * 200_000, b"last"]
    assert len(paths) == wal.counters.segments == 6
    for before, after in itertools.pairwise(scanned):
        assert (after.header.first_index, after.header.first_batch) == (before.end_index, before.end_batch)
    assert collector.failure is None


def test_chunks_wait_for_a_record_and_precede_it(tmp_path):
    collector = Collector()
    wal = make_wal(tmp_path, collector)
    wal.start()
    put(wal, b"chunk", CHUNK)
    put(wal, b"leaf")
    wal.stop()
    wal.join()
    (batch,) = scan_segment(list_segments(tmp_path)[0], ORIGIN).batches
    assert batch.items == ((CHUNK, b"chunk"), (LEAF, b"leaf"))


def test_queue_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(wal_module, "MAX_QUEUE_BYTES", 1000)
    wal = make_wal(tmp_path, Collector())
    put(wal, b"x" * 900)
    with pytest.raises(EvidenceBusyError):
        put(wal, b"x" * 900)
    assert wal.counters.refused == 1


class ShortDisk(Disk):
    """Writes at most a few bytes at a time, as a disk that is nearly full does."""

    def pwrite(self, descriptor, data, offset):
        return os.pwrite(descriptor, bytes(data[:7]), offset)


def test_short_writes_are_continued(tmp_path):
    collector = Collector()
    wal = make_wal(tmp_path, collector, ShortDisk())
    put(wal, b"a record longer than seven bytes")
    wal.start()
    wal.stop()
    wal.join()
    assert read_leaves(scan_segment(list_segments(tmp_path)[0], ORIGIN)) == [[b"a record longer than seven bytes"]]


class StuckDisk(Disk):
    def pwrite(self, descriptor, data, offset):
        return 0


def test_write_without_progress_fails(tmp_path):
    collector = Collector()
    wal = make_wal(tmp_path, collector, StuckDisk())
    put(wal, b"x")
    wal.start()
    wal.join()
    assert isinstance(collector.failure, OSError)
