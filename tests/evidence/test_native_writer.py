"""The log with its native writer: who waits is told, wherever it waits, and a failure stops it as it stops the plain one."""

import asyncio
import threading
from pathlib import Path

import pyrage
import pytest
from sealgate_native.record import Sealer, SegmentFile, Writer

from evidence.errors import EvidenceWriteError
from evidence.keys import generate_log_key, load_log_key
from evidence.log import Log, LogSettings
from evidence.segment import NativeWriter, list_segments
from evidence.store import EvidenceStore

ORIGIN = "gw/2026h2/w0"
NATIVE = NativeWriter(SegmentFile, Writer)


@pytest.fixture
def open_log(tmp_path):
    generate_log_key(tmp_path / "key.pem")
    opened = []

    def make(native=NATIVE, **settings):
        log = Log.open(
            tmp_path / "evidence",
            origin=ORIGIN,
            log_key=load_log_key(tmp_path / "key.pem"),
            recipients=[str(pyrage.x25519.Identity.generate().to_public())],
            settings=LogSettings(**settings),
            make_sealer=Sealer,
            native=native,
        )
        opened.append(log)
        return log

    yield make
    for log in opened:
        log.close()


def read_kinds(tmp_path):
    reader = EvidenceStore(tmp_path / "evidence").open_log(ORIGIN)
    return [record["type"] for _, record in reader.iterate_records(reader.read_checkpoint().size)]


async def write(log, count):
    session = log.open_session({"subject": {"id": "a"}})
    waiting = [session.append("outcome", {"decision_id": f"d{number}", "status": "completed"}) for number in range(count)]
    receipts = await asyncio.wait_for(asyncio.gather(*waiting), 20)
    assert [receipt.session_seq for receipt in receipts] == list(range(1, count + 1))
    assert sorted(receipts, key=lambda receipt: receipt.index) == receipts
    await asyncio.wait_for(session.close(), 20)


def test_loops_and_threads_side_by_side_and_one_after_the_other(open_log, tmp_path):
    log = open_log()
    faults = []

    def run(times):
        try:
            for _ in range(times):
                asyncio.run(write(log, 20))
                log.submit("heartbeat", {"sessions": 0}).result(20)
        except BaseException as error:
            faults.append(error)
            raise

    threads = [threading.Thread(target=run, args=(3,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not faults
    asyncio.run(write(log, 300))  # more than one batch
    log.close()
    kinds = read_kinds(tmp_path)
    assert kinds.count("outcome") == 4 * 3 * 20 + 300
    assert kinds.count("heartbeat") == 12
    assert kinds.count("session.open") == kinds.count("session.close") == 13
    assert log.metrics()["records"] == log.size == len(kinds)
    assert log.metrics()["syncs"] > 0


def test_segments_follow_one_another_and_recovery_reads_them(open_log, tmp_path):
    log = open_log(segment_bytes=64 << 10)
    for _ in range(6):
        asyncio.run(write(log, 200))
    assert log.metrics()["segments"] > 2
    log.close()
    before = read_kinds(tmp_path)
    again = open_log(segment_bytes=64 << 10)
    again.close()
    assert read_kinds(tmp_path)[: len(before)] == before


def test_a_disk_that_fails_at_the_start_is_told(open_log):
    with pytest.raises(EvidenceWriteError):
        open_log(NativeWriter(lambda _: SegmentFile(Path("/dev/full")), Writer))


def test_a_disk_that_fails_later_stops_the_log_for_good(open_log, tmp_path):
    opened = []

    def open_file(path):
        opened.append(path)
        return SegmentFile(path if len(opened) == 1 else Path("/dev/full"))

    log = open_log(NativeWriter(open_file, Writer), segment_bytes=64 << 10)
    told = threading.Event()
    log.on_failure(lambda _: told.set())

    async def fill():
        session = log.open_session({"subject": {"id": "a"}})
        for number in range(5_000):
            try:
                await asyncio.wait_for(session.append("outcome", {"decision_id": f"d{number}", "status": "completed"}), 20)
            except EvidenceWriteError:
                return number
        raise AssertionError("the log went on without a disk")

    durable = asyncio.run(fill())
    assert told.wait(20)
    assert not log.is_writable
    assert "No space left" in str(log.failure)
    with pytest.raises(EvidenceWriteError):
        log.submit("heartbeat", {"sessions": 0})
    log.close()
    assert len(list_segments(tmp_path / "evidence" / ORIGIN / "wal")) >= 1
    recovered = open_log()
    recovered.close()
    assert read_kinds(tmp_path).count("outcome") >= durable > 0


def test_a_log_without_records_to_write_closes(open_log):
    log = open_log()
    log.close()
    log.close()
    with pytest.raises(EvidenceWriteError):
        log.submit("heartbeat", {"sessions": 0})
