"""Faults of the disk and of the process: the log fails closed, and nothing acknowledged is ever lost."""

import asyncio
import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.disk import Disk
from evidence.entries import LEAF
from evidence.errors import EvidenceBusyError, EvidenceWriteError
from evidence.log import LAST_WORDS_BYTES, Log
from evidence.merkle import hash_leaf, root_of
from evidence.segment import list_segments
from evidence.store import LogReader
from evidence.wal_scan import scan_segment

ORIGIN = "gw-a/2026h2/w0"


def read(directory):
    reader = LogReader(directory / ORIGIN)
    point = reader.read_checkpoint()
    leaves = list(reader.iterate_leaves(point.size))
    assert root_of([hash_leaf(leaf) for leaf in leaves]) == point.root
    found = [orjson.loads(leaf) for leaf in leaves]
    assert [record["seq"] for record in found] == list(range(len(found)))
    return found


class FaultyDisk(Disk):
    """Fails one kind of call with one errno from the moment it is armed, on files whose path contains `match`."""

    def __init__(self, call, number, match=""):
        self.call, self.number, self.match = call, number, match
        self.armed = False
        self.failures = 0

    def _check(self, call, path=""):
        if self.armed and call == self.call and self.match in str(path):
            self.failures += 1
            raise OSError(self.number, os.strerror(self.number))

    def pwrite(self, descriptor, data, offset):
        self._check("pwrite", Path(f"/proc/self/fd/{descriptor}").readlink())
        return super().pwrite(descriptor, data, offset)

    def sync_data(self, descriptor):
        self._check("sync_data", Path(f"/proc/self/fd/{descriptor}").readlink())
        super().sync_data(descriptor)

    def sync(self, descriptor):
        self._check("sync", Path(f"/proc/self/fd/{descriptor}").readlink())
        super().sync(descriptor)

    def allocate(self, descriptor, size):
        self._check("allocate", Path(f"/proc/self/fd/{descriptor}").readlink())
        super().allocate(descriptor, size)

    def replace(self, source, target):
        self._check("replace", target)
        super().replace(source, target)


def fail_until_refused(submit):
    """Submit until the log refuses; returns the receipts that were given."""
    receipts = []
    try:
        for _ in range(100_000):
            receipts.append(submit().result(timeout=60))  # noqa: PERF401 - what came before the error is wanted
    except EvidenceWriteError:
        return receipts
    raise AssertionError("the log never refused")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", ["pwrite", "sync_data"])
def test_error_of_the_write_ahead_log_stops_everything_for_good(open_log, tmp_path, call, number):
    disk = FaultyDisk(call, number, "0000000000.wal")
    log = open_log(disk=disk)
    told = threading.Event()
    log.on_failure(lambda error: told.set())
    session = log.open_session({})
    good = session.submit("lookup", {"kind": "good"}).result()
    disk.armed = True
    with pytest.raises(EvidenceWriteError):
        session.submit("lookup", {"kind": "lost"}).result(timeout=60)
    disk.armed = False  # the disk works again; the log must not
    assert told.wait(60)
    for attempt in (
        lambda: session.submit("lookup", {"kind": "x"}),
        lambda: log.open_session({}),
        lambda: session.put_blob("input", b"x"),
    ):
        with pytest.raises(EvidenceWriteError) as caught:
            attempt()
        assert not isinstance(caught.value, EvidenceBusyError)
    assert disk.failures == 1, "a failed sync must never be tried again"
    assert log.failure is not None
    assert log.metrics()["failed"] == 1
    log.close()
    found = read(tmp_path)
    assert [record["type"] for record in found][-2:] == ["evidence.degraded", "gap"]
    assert found[good.index]["kind"] == "good"
    assert found[-1]["reason"] == "unwritten"
    assert found[-1]["records"] == 1
    open_log().close()
    found = read(tmp_path)
    assert [record["type"] for record in found] == [
        "log.open", "session.open", "lookup", "evidence.degraded", "gap", "log.open", "gap", "session.close",
    ]  # fmt: skip
    assert [record["sseq"] for record in found if record["sid"] == "log"] == [0, 1, 2, 3]


def test_unwritten_records_of_the_logs_own_chain_leave_no_hole(open_log, tmp_path):
    disk = FaultyDisk("sync_data", errno.EIO, "0000000000.wal")
    log = open_log(disk=disk)
    disk.armed = True
    with pytest.raises(EvidenceWriteError):
        log.submit("policy.loaded", {"bundle": "b"}).result(timeout=60)
    log.close()
    disk.armed = False
    open_log().close()
    found = read(tmp_path)
    assert [(record["type"], record["sseq"]) for record in found] == [
        ("log.open", 0), ("evidence.degraded", 1), ("gap", 2), ("log.open", 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "match"),
    [
        ("pwrite", "tile"),
        ("sync_data", "tile"),
        ("sync", "tile"),
        ("replace", "checkpoint"),
        ("pwrite", "last-signed"),
        ("pwrite", "chunk-"),
        ("pwrite", ".dek"),
    ],
)
def test_error_while_publishing_stops_the_log_and_recovery_publishes(open_log, tmp_path, call, match, reader_identity):
    disk = FaultyDisk(call, errno.EIO, match)
    log = open_log(disk=disk)
    signed = LogReader(tmp_path / ORIGIN).read_note()
    session = log.open_session({}, sid="s1")
    reference = session.put_blob("input", b"kept")
    session.submit("lookup", {"kind": "kept", "chunk": reference}).result()
    disk.armed = True
    with pytest.raises(EvidenceWriteError):
        log.checkpoint()
    fail_until_refused(lambda: session.submit("lookup", {"kind": "after"}))
    log.close()
    assert LogReader(tmp_path / ORIGIN).read_note() == signed
    disk.armed = False
    open_log().close()
    kinds = [record["type"] for record in read(tmp_path)]
    assert kinds[:3] == ["log.open", "session.open", "lookup"]
    assert "evidence.degraded" in kinds
    reader = LogReader(tmp_path / ORIGIN)
    assert reader.open_chunk(ORIGIN, "s1", 0, reader.unwrap_data_key("s1", [str(reader_identity)])) == b"kept"


async def test_waiting_coroutines_learn_of_the_failure(open_log):
    disk = FaultyDisk("sync_data", errno.EIO, ".wal")
    log = open_log(disk=disk)
    session = log.open_session({})
    await session.append("lookup", {"kind": "good"})
    disk.armed = True
    waiting = []
    # The writer may meet the fault while records are still being appended: from then on append itself refuses.
    with suppress(EvidenceWriteError):
        for n in range(50):
            waiting.append(session.append("lookup", {"kind": str(n)}))  # noqa: PERF401 - what was accepted has to outlive the refusal
    assert waiting
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, EvidenceWriteError) for result in results)
    with pytest.raises(EvidenceWriteError):
        session.append("lookup", {"kind": "x"})


def test_error_while_opening_is_reported_and_releases_the_log(open_log):
    disk = FaultyDisk("allocate", errno.ENOSPC, ".tmp")
    disk.armed = True
    with pytest.raises(EvidenceWriteError, match="No space"):
        open_log(disk=disk)
    open_log().close()


@contextmanager
def small_file_system(path):
    """A real file system of two megabytes, or None where mounting is not allowed."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextmanager
def limited_file_size(size):
    """The kernel refuses to let any file of this process grow beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("cause", ["full file system", "file size limit"])
def test_no_space_left(open_log, settings, tmp_path, cause):
    with small_file_system(tmp_path / "small") as small:
        mounted = small is not None and cause == "full file system"
        directory = small if mounted else tmp_path / "limited"
        log = open_log(directory, settings=replace(settings, segment_bytes=128 << 10, ballast_bytes=128 << 10))
        session = log.open_session({})
        count = iter(range(1_000_000))
        with nullcontext() if mounted else limited_file_size(LAST_WORDS_BYTES):
            receipts = fail_until_refused(lambda: session.submit("lookup", {"kind": "x" * 1000, "number": next(count)}))
            log.close()
        assert not (directory / ORIGIN / "ballast").exists()
        segments = [scan_segment(path, ORIGIN) for path in list_segments(directory / ORIGIN / "wal")]
        last = [body for segment in segments for batch in segment.batches for kind, body in batch.items if kind == LEAF][-2:]
        assert [orjson.loads(leaf)["type"] for leaf in last] == ["evidence.degraded", "gap"]
        assert len(receipts) > 10
        # What was acknowledged is there after the disk has been replaced by a larger one.
        subprocess.run(["cp", "-a", str(directory / "gw-a"), str(tmp_path / "gw-a")], check=True)
    open_log().close()
    found = read(tmp_path)
    kept = {record["seq"]: record.get("number") for record in found if record["type"] == "lookup"}
    assert [kept[receipt.index] for receipt in receipts] == list(range(len(receipts)))
    assert "evidence.degraded" in [record["type"] for record in found]


CHILD = """
import sys, threading
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from evidence.log import Log, LogSettings

log = Log.open(Path(sys.argv[1]), origin=sys.argv[2], log_key=Ed25519PrivateKey.from_private_bytes(bytes(32)), recipients=[sys.argv[3]],
               settings=LogSettings(segment_bytes=256 << 10, checkpoint_interval_s=0.01, ballast_bytes=0))
out = sys.stdout.buffer

def work(worker):
    number = 0
    while True:
        session = log.open_session({}, "none")
        for _ in range(20):
            reference = session.put_blob("input", b"%d" % number * 50)
            receipt = session.submit("lookup", {"kind": "k", "chunk": reference, "pad": "x" * 200}).result()
            out.write(b"%d %s %s %d %s\\n" % (receipt.index, receipt.leaf_hash.hex().encode(), session.sid.encode(), reference["n"], reference["sha256"].encode()))
            out.flush()
            number += 1
        session.submit_close()

for worker in range(4):
    threading.Thread(target=work, args=(worker,), daemon=True).start()
threading.Event().wait()
"""


@pytest.mark.timeout(300)
def test_kill_at_random_points_loses_nothing_acknowledged(tmp_path, reader_identity):
    recipient = str(reader_identity.to_public())
    acknowledged = []
    rounds = 20
    for number in range(rounds):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path), ORIGIN, recipient], stdout=subprocess.PIPE)
        wanted = 1 + (number * 7919) % 1500  # how many acknowledgements to see before the kill: spread, and the same every time
        lines = [child.stdout.readline() for _ in range(wanted)]
        os.kill(child.pid, signal.SIGKILL)
        lines += child.stdout.readlines()
        child.wait(timeout=60)
        acknowledged += [line.split() for line in lines if line.endswith(b"\n")]
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    Log.open(tmp_path, origin=ORIGIN, log_key=key, recipients=[recipient]).close()
    reader = LogReader(tmp_path / ORIGIN)
    point = reader.read_checkpoint()
    leaves = list(reader.iterate_leaves(point.size))
    hashes = [hash_leaf(leaf) for leaf in leaves]
    assert root_of(hashes) == point.root
    assert len(acknowledged) > rounds
    for index, leaf_hash, sid, chunk, digest in acknowledged:
        assert hashes[int(index)].hex() == leaf_hash.decode()
        assert hashlib.sha256(reader.read_chunk(sid.decode(), int(chunk))).hexdigest() == digest.decode()
    found = [orjson.loads(leaf) for leaf in leaves]
    assert [record["seq"] for record in found] == list(range(len(found)))
    opened = {record["sid"] for record in found if record["type"] == "session.open"}
    closed = [record["sid"] for record in found if record["type"] == "session.close"]
    assert sorted(closed) == sorted(opened)
    assert sum(record["type"] == "log.open" for record in found) == rounds + 1
    assert all((tmp_path / ORIGIN / "keys" / f"{sid}.dek").exists() for sid in opened)
    assert not list((tmp_path / ORIGIN).rglob("*.tmp"))


def test_temporary_files_of_a_crash_do_not_disturb(open_log, tmp_path):
    open_log().close()
    for name in ("wal/0000000009.tmp", "tile/0/.001.tmp", ".checkpoint.tmp"):
        Path(tmp_path / ORIGIN / name).write_bytes(b"half")
    open_log().close()
    assert [record["type"] for record in read(tmp_path)] == ["log.open", "log.open"]
    assert not list((tmp_path / ORIGIN).rglob("*.tmp"))
