"""Recovery: nothing acknowledged is lost, whatever is missing is said, and what contradicts a signature is refused."""

import errno
import hashlib
import shutil
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.chain import Chain
from evidence.disk import Disk
from evidence.errors import EvidenceWriteError, RecoveryError
from evidence.merkle import hash_leaf, root_of
from evidence.note import verify_checkpoint
from evidence.segment import HEADER_BYTES, SegmentHeader, SegmentWriter, list_segments
from evidence.store import LogReader
from evidence.wal_scan import scan_segment

ORIGIN = "gw-a/2026h2/w0"


@pytest.fixture
def crash(open_log, tmp_path):
    """Copies the log's directory as a crash right now would leave it; returns the copy's evidence directory."""
    copies = []

    def copy_(directory=tmp_path):
        target = tmp_path / f"crash-{len(copies)}"
        shutil.copytree(directory / "gw-a", target / "gw-a")
        copies.append(target)
        return target

    return copy_


def read(directory):
    reader = LogReader(directory / "gw-a/2026h2/w0")
    point = reader.read_checkpoint()
    leaves = list(reader.iterate_leaves(point.size))
    assert root_of([hash_leaf(leaf) for leaf in leaves]) == point.root
    return [orjson.loads(leaf) for leaf in leaves]


def kinds(directory):
    return [record["type"] for record in read(directory)]


def newest_segment(directory):
    return list_segments(directory / "gw-a/2026h2/w0/wal")[-1]


def change(path, old, new):
    data = path.read_bytes()
    assert data.count(old) >= 1
    path.write_bytes(data.replace(old, new, 1))


def test_reopening_after_a_clean_close(open_log, tmp_path):
    for _ in range(3):
        log = open_log()
        log.open_session({}).submit_close().result()
        log.close()
    assert kinds(tmp_path) == ["log.open", "session.open", "session.close"] * 3
    assert [record["recovered"]["sessions"] for record in read(tmp_path) if record["type"] == "log.open"] == [0, 0, 0]
    chain = [record["sseq"] for record in read(tmp_path) if record["sid"] == "log"]
    assert chain == [0, 1, 2]


def test_what_a_crash_left_open_is_closed_and_said(open_log, crash, decision):
    log = open_log()
    session = log.open_session({}, "head", sid="s1")
    session.submit("decision", decision("d1"))
    session.submit("decision", decision("d2"))
    session.submit("decision", decision("d3", decision={"effect": "block"}))
    session.submit("outcome", {"decision_id": "d1", "status": "completed"})
    session.submit("outcome", {"decision_id": "d2", "status": "sent"})
    log.open_session({}, "none", sid="s2").wait_for_opening()
    directory = crash()
    recovered = open_log(directory)
    found = read(directory)
    opening = [record for record in found if record["type"] == "log.open"][-1]
    assert opening["recovered"] == {"sessions": 2, "outcomes": 1, "cut_bytes": 0, "records": 8}
    added = [
        (record["type"], record["sid"], record.get("decision_id"), record.get("status") or record.get("reason"))
        for record in found[8:]
    ]
    assert added == [
        ("log.open", "log", None, None),
        ("outcome", "s1", "d2", "unknown"),
        ("gap", "s1", None, "transcript-tail"),
        ("session.close", "s1", None, "recovered"),
        ("session.close", "s2", None, "recovered"),
    ]
    gap = found[10]
    assert (gap["max_bytes"], gap["max_ms"]) == (65536, 1000)
    assert found[11]["records"] == 9
    assert recovered.metrics()["open_sessions"] == 0
    recovered.close()
    open_log(directory).close()
    assert kinds(directory)[13:] == ["log.open"]


def test_unpublished_records_chunks_and_keys_survive(open_log, crash, reader_identity):
    log = open_log()
    session = log.open_session({}, sid="s1")
    references = [session.put_blob("input", b"input %d" % number) for number in range(5)]
    session.submit("lookup", {"kind": "x", "chunks": references}).result()
    directory = crash()
    assert not (directory / "gw-a/2026h2/w0/keys").exists()
    open_log(directory).close()
    reader = LogReader(directory / "gw-a/2026h2/w0")
    key = reader.unwrap_data_key("s1", [str(reader_identity)])
    for number, reference in enumerate(references):
        assert hashlib.sha256(reader.read_chunk("s1", number)).hexdigest() == reference["sha256"]
        assert reader.open_chunk(log.origin, "s1", number, key) == b"input %d" % number


def test_torn_tail_is_cut_and_said_once(open_log, crash):
    log = open_log()
    log.checkpoint()
    for number in range(3):
        log.submit("lookup", {"kind": str(number)}).result()
    directory = crash()
    path = newest_segment(directory)
    data = path.read_bytes().rstrip(b"\0")
    start = data.rindex(b"\xffSGB")
    path.write_bytes(data[:-5])
    open_log(directory).close()
    found = read(directory)
    assert [record["type"] for record in found] == ["log.open", "lookup", "lookup", "log.open", "gap"]
    torn = data[start:-5]
    assert {name: found[-1][name] for name in ("reason", "bytes", "sha256")} == {
        "reason": "torn-tail",
        "bytes": len(torn),
        "sha256": hashlib.sha256(torn).hexdigest(),
    }
    open_log(directory).close()
    assert kinds(directory)[5:] == ["log.open"]


def test_crash_during_recovery_is_recovered(open_log, crash):
    """Recovery stops after any of its durable steps: between the new segment's creation and its first batch, and after it."""
    log = open_log()
    log.open_session({}, sid="s1").wait_for_opening()
    log.submit("lookup", {"kind": "torn"}).result()
    directory = crash()
    path = newest_segment(directory)
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:-3])
    open_log(directory).close()
    after = newest_segment(directory)
    whole = after.read_bytes()
    assert kinds(directory)[2:] == ["log.open", "gap", "gap", "session.close"]
    # The same start, stopped right after it made its segment: the old one is still there, the new one is empty.
    again = crash()
    torn = newest_segment(again)
    torn.write_bytes(torn.read_bytes().rstrip(b"\0")[:-3])
    (again / "gw-a/2026h2/w0/wal" / after.name).write_bytes(whole[:64] + bytes(1000))
    open_log(again).close()
    assert kinds(again)[2:] == ["log.open", "gap", "gap", "session.close"]


class SlowStart(Disk):
    """Lets a start make its segment, or not even that, only once a checkpoint was signed over what the crash before had left."""

    def __init__(self, holds):
        self.holds, self.signed, self.copied = holds, threading.Event(), threading.Event()

    def zero(self, *place):
        if self.holds == "segment":
            self.wait()
        super().zero(*place)

    def pwrite(self, descriptor, data, offset):
        if self.holds == "batch" and offset == HEADER_BYTES and Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".wal":
            self.wait()
        return super().pwrite(descriptor, data, offset)

    def wait(self):
        assert self.signed.wait(60)
        assert self.copied.wait(60)

    def replace(self, source, target):
        super().replace(source, target)
        if target.name == "checkpoint":
            self.signed.set()


def start_slowly(open_log, directory, settings, holds, crash):
    """Starts on `directory`; returns a copy from when old records were signed and no new one was written, and the log."""
    disk = SlowStart(holds)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(open_log, directory, disk=disk, settings=replace(settings, checkpoint_interval_s=0.01))
        assert disk.signed.wait(60)
        copy = crash(directory)
        disk.copied.set()
        return copy, starting.result(60)


@pytest.mark.parametrize("holds", ["segment", "batch"])
@pytest.mark.parametrize("starts", [1, 2, 3])
def test_starts_that_were_killed_before_their_first_record_lose_nothing(open_log, crash, settings, holds, starts):
    """Each leaves at most an empty segment, while old records may be signed already: the state they lean on must outlive that."""
    log = open_log()
    log.open_session({}, sid="s1").submit("lookup", {"kind": "x"}).result()
    directory = crash()
    for _ in range(starts):
        directory, started = start_slowly(open_log, directory, settings, holds, crash)
        started.close()
    open_log(directory).close()
    assert kinds(directory) == ["log.open", "session.open", "lookup", "log.open", "gap", "session.close"]
    assert [record["sseq"] for record in read(directory) if record["sid"] == "s1"] == [0, 1, 2, 3]
    open_log(directory).close()


def test_first_record_refused_by_the_disk_after_a_start_that_was_killed(open_log, crash):
    log = open_log()
    log.open_session({}, sid="s1").wait_for_opening()
    directory = crash()
    last = scan_segment(newest_segment(directory), ORIGIN)
    make_empty_segment(last.path.parent, SegmentHeader(last.header.number + 1, last.end_index, last.end_batch))

    class Failing(Disk):
        def sync_data(self, descriptor):
            if Path(f"/proc/self/fd/{descriptor}").readlink().name == f"{last.header.number + 2:010d}.wal":
                raise OSError(errno.EIO, "failed")
            super().sync_data(descriptor)

    with pytest.raises(EvidenceWriteError):
        open_log(directory, disk=Failing())
    assert kinds(directory)[2:] == ["evidence.degraded", "gap"]
    open_log(directory).close()
    assert kinds(directory)[4:] == ["log.open", "gap", "session.close"]


def make_empty_segment(directory, header):
    """A segment as a start leaves it that was killed before its first batch."""
    SegmentWriter(directory, Disk(), ORIGIN, header, 1 << 20).close()


def test_write_ahead_log_without_a_state_is_refused(open_log, crash):
    """As after a program that removed segments it should have kept: which sessions were open cannot be known."""
    log = open_log()
    log.submit("lookup", {"kind": "x"}).result()
    log.checkpoint()
    directory = crash()
    path = newest_segment(directory)
    path.unlink()
    make_empty_segment(path.parent, SegmentHeader(1, 2, 2))
    with pytest.raises(RecoveryError, match="does not begin with a state"):
        open_log(directory)


def test_signed_records_missing_from_the_write_ahead_log_are_refused(open_log, crash):
    log = open_log()
    log.submit("lookup", {"kind": "signed"}).result()
    log.checkpoint()
    directory = crash()
    path = newest_segment(directory)
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:-3])
    with pytest.raises(RecoveryError, match="1 signed records are missing"):
        open_log(directory)


def test_announced_but_unsigned_tree_must_be_there_too(open_log, crash):
    log = open_log()
    log.submit("lookup", {"kind": "x"}).result()
    log.checkpoint()
    older = crash()
    log.submit("lookup", {"kind": "y"}).result()
    log.checkpoint()
    newer = crash()
    # As after a crash between announcing and signing: the newer announcement with the older checkpoint.
    announced = "gw-a/2026h2/w0/wal/last-signed"
    shutil.copy(newer / announced, older / announced)
    with pytest.raises(RecoveryError, match="1 signed records are missing"):
        open_log(older)
    shutil.copy(older / "gw-a/2026h2/w0/checkpoint", newer / "gw-a/2026h2/w0/checkpoint")
    open_log(newer).close()
    assert kinds(newer)[:3] == ["log.open", "lookup", "lookup"]


def rewrite_record(directory, old, new):
    """Change a record in the write-ahead log and repair the checksum, as someone with access to the disk could."""
    path = newest_segment(directory)
    data = bytearray(path.read_bytes())
    position = data.index(old)
    data[position : position + len(old)] = new
    start = data.rindex(b"\xffSGB", 0, position)
    length = int.from_bytes(data[start + 24 : start + 28])
    body = bytes(data[start + 32 : start + 32 + length])
    data[start + 28 : start + 32] = zlib.crc32(body, zlib.crc32(bytes(data[start : start + 28]))).to_bytes(4)
    path.write_bytes(data)


def test_changed_signed_record_is_refused(open_log, crash):
    log = open_log()
    log.submit("lookup", {"kind": "honest"}).result()
    log.checkpoint()
    directory = crash()
    rewrite_record(directory, b'"kind":"honest"', b'"kind":"forged"')
    with pytest.raises(RecoveryError, match=r"other bytes|not the ones that were signed"):
        open_log(directory)
    # Without the tiles to compare with, the signed root still tells.
    shutil.rmtree(directory / "gw-a/2026h2/w0/tile")
    with pytest.raises(RecoveryError, match="not the ones that were signed"):
        open_log(directory)


def test_changed_record_that_others_follow_is_refused(open_log, crash):
    log = open_log()
    session = log.open_session({})
    session.submit("lookup", {"kind": "honest"}).result()
    session.submit("lookup", {"kind": "next"}).result()
    directory = crash()
    rewrite_record(directory, b'"kind":"honest"', b'"kind":"forged"')
    with pytest.raises(RecoveryError, match="does not continue its chain"):
        open_log(directory)


@pytest.mark.parametrize("size", [10, 300])
def test_changed_tile_at_the_edge_is_refused(open_log, crash, size):
    log = open_log()
    for number in range(size):
        future = log.submit("lookup", {"kind": str(number)})
    future.result()
    log.checkpoint()
    directory = crash()
    tile = max((directory / "gw-a/2026h2/w0/tile/entries").rglob("*"), key=lambda path: (path.is_file(), path.stat().st_mtime_ns))
    change(tile, b'"kind":"', b'"king":"')
    with pytest.raises(RecoveryError, match="other bytes"):
        open_log(directory)


def test_changed_tile_before_the_write_ahead_log_is_refused(open_log, crash):
    log = open_log()
    log.submit("lookup", {"kind": "first"}).result()
    log.close()
    open_log().close()
    directory = crash()
    for tile in (directory / "gw-a/2026h2/w0/tile/0/000.p").iterdir():
        tile.write_bytes(bytes([tile.read_bytes()[0] ^ 1]) + tile.read_bytes()[1:])
    with pytest.raises(RecoveryError):
        open_log(directory)


def test_missing_write_ahead_log_is_refused(open_log, crash):
    open_log().close()
    directory = crash()
    shutil.rmtree(directory / "gw-a/2026h2/w0/wal")
    with pytest.raises(RecoveryError, match="write-ahead log is missing"):
        open_log(directory)


def test_missing_tiles_before_the_write_ahead_log_are_refused(open_log, crash):
    open_log().close()
    open_log().close()
    directory = crash()
    shutil.rmtree(directory / "gw-a/2026h2/w0/tile")
    with pytest.raises(RecoveryError, match="tiles are missing"):
        open_log(directory)


def test_missing_segment_is_refused(open_log, crash, settings):
    log = open_log(settings=replace(settings, segment_bytes=16 << 10))
    for number in range(200):
        future = log.submit("lookup", {"kind": "x" * 300, "number": number})
    future.result()
    directory = crash()
    segments = list_segments(directory / "gw-a/2026h2/w0/wal")
    assert len(segments) > 4
    segments[2].unlink()
    with pytest.raises(RecoveryError, match="does not follow"):
        open_log(directory)


def test_segments_before_the_first_checkpoint_of_many_are_replayed(open_log, crash, settings):
    log = open_log(settings=replace(settings, segment_bytes=16 << 10))
    session = log.open_session({}, sid="s1")
    for number in range(300):
        future = session.submit("lookup", {"kind": "x" * 100, "number": number})
    future.result()
    log.checkpoint()
    for number in range(300, 700):
        future = session.submit("lookup", {"kind": "x" * 100, "number": number})
    future.result()
    directory = crash()
    open_log(directory).close()
    assert [record["number"] for record in read(directory) if record["type"] == "lookup"] == list(range(700))
    assert kinds(directory)[-2:] == ["gap", "session.close"]


def test_another_key_is_refused(open_log, crash):
    open_log().close()
    directory = crash()
    with pytest.raises(RecoveryError, match="configured log key"):
        open_log(directory, log_key=Ed25519PrivateKey.generate())


def test_changed_checkpoint_is_refused(open_log, crash):
    open_log().close()
    directory = crash()
    change(directory / "gw-a/2026h2/w0/checkpoint", b"\n1\n", b"\n2\n")
    with pytest.raises(RecoveryError):
        open_log(directory)


def test_directory_put_back_to_an_older_state_is_noticed_by_the_guard(open_log, crash, settings, tmp_path):
    guarded = replace(settings, guard=tmp_path / "guard")
    log = open_log(settings=guarded)
    log.submit("lookup", {"kind": "kept"}).result()
    log.checkpoint()
    old = crash()
    log.submit("lookup", {"kind": "to be forgotten"}).result()
    log.checkpoint()
    log.close()
    with pytest.raises(RecoveryError, match="1 signed records are missing"):
        open_log(old, settings=guarded)
    log = open_log(settings=guarded)
    assert verify_checkpoint(log.checkpoint(), log.verifier_key).size == 4


def test_older_guard_is_compared_too(open_log, crash, settings, tmp_path):
    guard = tmp_path / "guard"
    guarded = replace(settings, guard=guard)
    open_log(settings=guarded).close()
    early = guard.read_text()
    for _ in range(2):
        open_log(settings=guarded).close()
    guard.write_text(early)
    open_log(settings=guarded).close()
    lines = early.split("\n")
    guard.write_text("\n".join([lines[0], lines[1], "A" * 43 + "=", ""]))
    with pytest.raises(RecoveryError, match="not the ones that were signed"):
        open_log(settings=guarded)


def test_session_that_was_announced_but_never_recorded_leaves_no_record(open_log, crash, settings):
    log = open_log(settings=replace(settings, segment_bytes=16 << 10))
    log.add_session(Chain("never"))  # as a crash between announcing and recording leaves it
    for number in range(100):
        future = log.submit("lookup", {"kind": "x" * 300, "number": number})
    future.result()
    log.checkpoint()
    directory = crash()
    open_log(directory).close()
    assert "never" not in [record["sid"] for record in read(directory)]
