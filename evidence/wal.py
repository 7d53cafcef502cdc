"""The write-ahead log: what makes a record durable, with one disk sync for everything that arrived during the one before.

A segment (`wal/<number>.wal`) is a pre-allocated file: a header, then batches, then zeros. A batch is what one sync covers, under
one checksum, so that it exists wholly or not at all. Records, the session chunks they name, and key files travel in the same batch,
in order: a chunk is durable no later than the record that names it, and an action costs one sync however much it carries.

Batch N + 1 is written only after batch N was synced. So a damaged batch with a good one behind it was acknowledged once, and its
damage is not a torn write. `docs/evidence-format.md`, section 7.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final
from weakref import WeakSet

from evidence.disk import Disk
from evidence.drafts import Written
from evidence.entries import Entry, count_records, make_written_entry
from evidence.errors import EvidenceBusyError
from evidence.segment import (
    BATCH_OVERHEAD,
    HEADER_BYTES,
    Ledger,
    NativeWriter,
    SegmentHeader,
    SegmentWriter,
    SpareSegment,
    Writer,
)

MAX_BATCH_ENTRIES: Final = 256
"""Entries under one sync: enough to hide the sync's cost, few enough that a batch stays far below a millisecond of copying."""

MAX_BATCH_BYTES: Final = 1 << 20
"""Bytes under one sync; one entry alone may be larger."""

MAX_QUEUE_BYTES: Final = 64 << 20
"""What may wait for a slow disk before records are refused: bounds memory, and makes a stuck disk visible."""

SEGMENT_BYTES: Final = 64 << 20
"""Size of a segment. Small enough to scan within a second at start, large enough that starting one is rare."""

FIRST_SEGMENT_BYTES: Final = 8 << 20
"""Size of the first segment after a start: its blocks are written on the spot, which nobody should wait for long."""

SPARE_SHARE: Final = 16
"""The next segment is made ahead once this part of one is used: a log that hardly writes needs none."""

NO_MARK: Final = (1 << 64) - 1


@dataclass(slots=True)
class Counters:
    """What the writer did so far; read without a lock, for metrics. `sync_ns` is time spent writing and syncing."""

    records: int = 0
    bytes: int = 0
    syncs: int = 0
    segments: int = 0
    sync_ns: int = 0
    queue: int = 0
    refused: int = 0


class PlainLedger:
    """The `Ledger` of a queue that plain code writes."""

    def __init__(self, next_index: int, segment_bytes: int) -> None:
        self.next_index = next_index
        self.queued_bytes = 0
        self._segment_bytes = segment_bytes
        self._limit = min(FIRST_SEGMENT_BYTES, segment_bytes)
        """Bytes of the segment being planned."""
        self._planned = self._limit
        """What it would hold; full at the start, so that the first entry starts one."""
        self._has_begun = False
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_error: object) -> None:
        self._lock.release()

    def has_room(self, size: int, /) -> bool:
        """Whether an entry of so many bytes may wait too."""
        return not self.queued_bytes or self.queued_bytes + size + BATCH_OVERHEAD <= MAX_QUEUE_BYTES

    def needs_segment(self, size: int, /) -> bool:
        """Whether an entry of so many bytes has to start a segment."""
        return self._planned + size + BATCH_OVERHEAD > self._limit

    def plan_segment(self) -> None:
        """Have the next entry start a segment."""
        self._planned = self._limit

    def enter(self, entry: Entry) -> None:
        """Count an entry that is queued."""
        if entry.starts_segment:
            self._planned = HEADER_BYTES
            self._limit = self._segment_bytes if self._has_begun else self._limit
            self._has_begun = True
        size = entry.size + BATCH_OVERHEAD
        self._planned += size
        self.queued_bytes += size
        self.next_index += entry.records


class Wal:
    """The writer thread, and the queue in front of it.

    `lock` guards the queue. Whoever numbers records holds it while numbering and calling `enqueue`, so that the order in the queue
    is the order of the numbers. The writer thread alone touches segments.
    """

    def __init__(
        self,
        directory: Path,
        origin: str,
        disk: Disk,
        *,
        start: SegmentHeader,
        segment_bytes: int = SEGMENT_BYTES,
        on_durable: Callable[[list[Entry]], None],
        on_failure: Callable[[BaseException, list[Entry]], None],
        native: NativeWriter | None = None,
    ) -> None:
        self.counters = Counters()
        self.durable_size = start.first_index
        """Records on disk; written by the writer thread only."""
        self._directory = directory
        self._origin = origin
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._first_bytes = min(FIRST_SEGMENT_BYTES, segment_bytes)
        self._open_file = None if native is None else native.open_file
        self._writer: Writer | None = None
        self._ledger: Ledger
        self._plain: PlainLedger | None = None
        if native is None:
            self._ledger = self._plain = PlainLedger(start.first_index, segment_bytes)
        else:
            sizes = (MAX_BATCH_ENTRIES, MAX_BATCH_BYTES, MAX_QUEUE_BYTES, self._first_bytes, segment_bytes)
            self._ledger = self._writer = native.make_writer(*sizes, start.first_index)
        self._loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
        self._collecting = threading.RLock()
        self._spare = SpareSegment(directory, disk, segment_bytes)
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._queue: list[Entry] = []
        self._cuts = 0
        """Entries in the queue that start a segment."""
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._rung = False
        self._stop: BaseException | bool = False
        self._next_number = start.number
        self._next_batch = start.first_batch
        self._segment: SegmentWriter | None = None
        self._thread = threading.Thread(target=self._run, name="evidence-wal", daemon=True)

    def start(self) -> None:
        """Start the writer thread."""
        self._thread.start()

    @property
    def lock(self) -> Ledger:
        """The lock: `with wal.lock:`."""
        return self._ledger

    @property
    def writer(self) -> Writer | None:
        """The native writer, where there is one."""
        return self._writer

    @property
    def next_index(self) -> int:
        """Index of the next record. The caller holds `lock`."""
        return self._ledger.next_index

    def needs_segment(self, size: int) -> bool:
        """Whether an entry of `size` bytes must start a new segment. The caller holds `lock`, and then says so in the entry."""
        return self._ledger.needs_segment(size)

    def plan_segment(self) -> None:
        """Have the next entry start a new segment. The caller holds `lock`."""
        self._ledger.plan_segment()

    def enqueue(self, entry: Entry) -> None:
        """Queue an entry; only an entry with a record wakes the writer, chunks travel with it. The caller holds `lock`.

        Raises:
            EvidenceBusyError: too much is waiting for the disk.
        """
        if not self._ledger.has_room(entry.size):
            self.counters.refused += 1
            raise EvidenceBusyError(
                "the evidence disk is behind",
                why=f"{self._ledger.queued_bytes:,} bytes wait for it",
                fix="refuse this action; look at the disk's sync time",
            )
        self._queue.append(entry)
        rings = bool(entry.records) and not entry.may_wait
        if self._writer is not None:
            has_thread, size = entry.waiter is not None and entry.loop is None, entry.size + BATCH_OVERHEAD
            self._writer.push(entry.parts, entry.records, size, entry.starts_segment, has_thread, rings)
            if entry.loop is not None and entry.loop not in self._loops:
                self._loops.add(entry.loop)
                entry.loop.add_reader(self._writer.fileno(), self.collect)
        elif self._plain is not None:
            self._cuts += entry.starts_segment
            self._plain.enter(entry)
            if rings:
                self.ring()

    def ring(self) -> None:
        """Wake the writer, if it is not awake: somebody waits for what is queued, or it has waited long enough."""
        if self._writer is not None:
            self._writer.ring()
        elif not self._rung:
            self._rung = True
            self._bell.put(None)

    def drain(self) -> list[Entry]:
        """Take everything that was not written yet, without writing it. The caller holds `lock`."""
        queue, self._queue, self._cuts = self._queue, [], 0
        return queue

    def count_foreign(self) -> tuple[int, int]:
        """Records and bytes of sessions that were lent which are not durable."""
        return (0, 0) if self._writer is None else self._writer.count_foreign()

    def stop(self, reason: BaseException | None = None) -> None:
        """Ask the writer to finish: after writing what is queued, or at once when there is a reason to give up."""
        if not isinstance(self._stop, BaseException):  # a reason to give up stands, whoever asks later
            self._stop = reason or True
        if self._writer is not None:
            if reason is not None:
                self._writer.close()
            self._writer.stop()
        self._bell.put(None)

    def join(self) -> None:
        """Wait for the writer thread."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        batch: list[Entry] = []
        try:
            if self._writer is not None:
                self._serve(self._writer)
                return
            while True:
                if isinstance(self._stop, BaseException):
                    raise self._stop
                with self.lock:
                    batch = self._take()
                if batch:
                    self._commit(batch)
                    batch = []
                elif self._stop:
                    break
                else:
                    self._bell.get()
        except BaseException as error:  # noqa: BLE001 - whatever stops this thread must stop the log, not leave it waiting
            if self._writer is not None:
                self._writer.close()
                self.collect()
            self._on_failure(error, batch)
        finally:
            if self._segment is not None:
                self._segment.close()
            self._spare.close()

    def _serve(self, writer: Writer) -> None:
        """The same loop where a native writer runs it: what comes back here is rare."""
        why: str = writer.run(None, 0, 0, 0, 0)[0]
        while why != "stopped":
            self.collect()
            if isinstance(self._stop, BaseException):
                raise self._stop
            if why == "segment":
                with self.lock:
                    size = self._queue[0].size
                self._begin_segment(size)
            if self._segment is None:
                raise AssertionError("the first entry of all starts a segment")
            if self._segment.used > self._segment.size // SPARE_SHARE:
                self._spare.prepare()
                mark = NO_MARK
            else:
                mark = self._segment.size // SPARE_SHARE
            why = self._segment.run(writer, self.durable_size, mark)
        self.collect()
        if isinstance(self._stop, BaseException):
            raise self._stop

    def collect(self) -> None:
        """Acknowledge what a native writer has made durable since the last call. For any thread, and for event loops.

        Records of sessions that were lent do not ring for it: nobody here waits for them, and they are published soon enough.
        """
        if self._writer is None:
            return
        with self._collecting:
            # Without `lock`: whoever numbers records must not wait for this, and entries are in the queue before the writer has them.
            batch = self._match(self._writer.notice())
            records = count_records(batch)
            self.durable_size += records
            if batch:
                counters = self.counters
                counters.records += records
                counters.queue = len(self._queue)
                counters.syncs, counters.sync_ns, written = self._writer.totals()
                counters.bytes = written - BATCH_OVERHEAD * counters.syncs
                self._on_durable(batch)

    def _match(self, noticed: Sequence[int | Written]) -> list[Entry]:
        """The entries that became durable, in the order of the log."""
        batch: list[Entry] = []
        taken = 0
        for item in noticed:
            if isinstance(item, int):
                batch += self._queue[taken : taken + item]
                taken += item
            else:
                batch.append(make_written_entry(item))
        del self._queue[:taken]
        return batch

    def _take(self) -> list[Entry]:
        """The next batch: everything queued, up to the caps and to an entry that starts a segment. Holds `lock`."""
        queue = self._queue
        if not queue:
            self._rung = False
            return []
        ledger = self._plain
        if ledger is None:
            raise AssertionError("a native writer takes its batches itself")
        if len(queue) <= MAX_BATCH_ENTRIES and ledger.queued_bytes <= MAX_BATCH_BYTES and not self._cuts:
            self._queue, ledger.queued_bytes = [], 0
            return queue
        count, size = 1, queue[0].size + BATCH_OVERHEAD
        while count < min(len(queue), MAX_BATCH_ENTRIES) and not queue[count].starts_segment:
            step = queue[count].size + BATCH_OVERHEAD
            if size + step > MAX_BATCH_BYTES:
                break
            count, size = count + 1, size + step
        self._cuts -= queue[0].starts_segment
        ledger.queued_bytes -= size
        self._queue = queue[count:]
        return queue[:count]

    def _commit(self, batch: list[Entry]) -> None:
        parts = [part for entry in batch for part in entry.parts]
        records = count_records(batch)
        if batch[0].starts_segment:
            self._begin_segment(sum([entry.size for entry in batch]))
        assert self._segment is not None  # noqa: S101 - the first entry of all starts a segment
        counters = self.counters
        started_ns = time.monotonic_ns()
        length = self._segment.append(parts, self.durable_size, records)
        counters.sync_ns += time.monotonic_ns() - started_ns
        if self._segment.used > self._segment.size // SPARE_SHARE:
            self._spare.prepare()
        self.durable_size += records
        counters.records += records
        counters.bytes += length - BATCH_OVERHEAD
        counters.syncs += 1
        counters.queue = len(self._queue)
        self._on_durable(batch)

    def metrics(self) -> dict[str, int]:
        """Counters for monitoring."""
        return {**asdict(self.counters), "size": self.durable_size}

    def write_last_words(self, entries: list[Entry], size: int) -> None:
        """Write records into a segment of their own after a failure. Writer thread only. Raises OSError."""
        first = self.durable_size
        parts = [part for entry in entries for part in entry.parts]
        self.open_segment(first, size).append(parts, first, len(entries))
        self.durable_size += len(entries)

    def _begin_segment(self, size: int) -> None:
        """Start the next segment, with room for a first batch of `size` bytes whatever the usual size is."""
        planned = self._first_bytes if self._segment is None else self._segment_bytes
        self.open_segment(self.durable_size, max(planned, HEADER_BYTES + BATCH_OVERHEAD + size))

    def open_segment(self, first_index: int, size: int) -> SegmentWriter:
        """Start the next segment; the one before ends here, whatever bytes may follow in it. Writer thread only."""
        is_first = self._segment is None
        if self._segment is not None:
            self._next_batch = self._segment.next_batch
            self._segment.close()
            self._segment = None
        self._segment = SegmentWriter(
            self._directory,
            self._disk,
            self._origin,
            SegmentHeader(self._next_number, first_index, self._next_batch),
            size,
            self._open_file,
            is_zeroed=is_first,
            spare=self._spare.take(size),
        )
        self._next_number += 1
        self.counters.segments += 1
        return self._segment
