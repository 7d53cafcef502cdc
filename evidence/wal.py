"""The write-ahead log: what makes a record durable, with one disk sync for everything that arrived during the one before.

A segment (`wal/<number>.wal`) is a pre-allocated file: a header, then batches, then zeros. A batch is what one sync covers, under
one checksum, so that it exists wholly or not at all. Records, the session chunks they name, and key files travel in the same batch,
in order: a chunk is durable no later than the record that names it, and an action costs one sync however much it carries.

Batch N + 1 is written only after batch N was synced. So a damaged batch with a good one behind it was acknowledged once, and its
damage is not a torn write. `docs/evidence-format.md`, section 7.
"""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final
from weakref import WeakSet

from evidence.disk import Disk
from evidence.drafts import Prepared
from evidence.errors import EvidenceBusyError
from evidence.segment import (
    BATCH_OVERHEAD,
    HEADER_BYTES,
    NativeWriter,
    Part,
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

LEAF: Final = 1
CHUNK: Final = 2
FILE: Final = 3
STATE: Final = 4

ITEM_HEADER: Final = struct.Struct(">BI")


def encode_item(kind: int, data: bytes) -> tuple[bytes, bytes]:
    """One item of a batch, as the parts to write: kind and length, then the bytes themselves, uncopied."""
    return ITEM_HEADER.pack(kind, len(data)), data


def encode_named(kind: int, name: str, number: int, data: bytes) -> tuple[bytes, bytes]:
    """A CHUNK (session id, chunk number, ciphertext) or FILE (path, 0, content) item, as the parts to write."""
    encoded = name.encode()
    head = len(encoded).to_bytes(2) + encoded + number.to_bytes(8)
    return ITEM_HEADER.pack(kind, len(head) + len(data)) + head, data


def decode_named(body: bytes) -> tuple[str, int, bytes]:
    """The name, number and bytes of a CHUNK or FILE item."""
    end = 2 + int.from_bytes(body[:2])
    return body[2:end].decode(), int.from_bytes(body[end : end + 8]), body[end + 8 :]


Attachment = tuple[int, str, int, bytes]
"""A CHUNK or FILE item for whoever publishes it: kind, name, number, data."""


class Entry:
    """One request to the log on its way to disk: items, and who waits for them.

    Attributes:
        parts: items as they go to disk, or what makes them. Parts share their bytes with `leaf` and `attachments`: an entry
            is held until it is published, and at full speed copies would cost more than encoding.
        size: bytes of all parts, at most.
        leaf: the record's bytes, or None for an entry that only carries chunks, files or state, or whose records are `prepared`.
        prepared: records of the session `name` whose bytes are made when they are written; `receipt` is the last one's.
        records: how many there are.
        waiter: a future to complete with `receipt`; `loop` is its event loop, or None for a `concurrent.futures.Future`.
        attachments: what travels with the record.
        starts_segment: this entry must be the first of a new segment.
        may_wait: nobody waits for it yet, so it need not wake the writer; see `Wal.ring`.
    """

    __slots__ = (
        "attachments",
        "leaf",
        "leaf_hash",
        "loop",
        "may_wait",
        "name",
        "parts",
        "prepared",
        "receipt",
        "records",
        "size",
        "starts_segment",
        "waiter",
    )

    def __init__(
        self,
        parts: tuple[Part, ...],
        size: int,
        leaf: bytes | None = None,
        leaf_hash: bytes = b"",
        receipt: Any = None,
        waiter: Any = None,
        loop: Any = None,
        attachments: tuple[Attachment, ...] = (),
        *,
        starts_segment: bool = False,
    ) -> None:
        self.parts = parts
        self.size = size
        self.leaf = leaf
        self.leaf_hash = leaf_hash
        self.receipt = receipt
        self.waiter = waiter
        self.loop = loop
        self.attachments = attachments
        self.prepared: Prepared | None = None
        self.name = ""
        self.records = 0 if leaf is None else 1
        self.may_wait = False
        self.starts_segment = starts_segment

    def publish(self) -> tuple[Iterable[tuple[bytes, bytes]], Iterable[Attachment]]:
        """The records as (bytes, leaf hash) and the attachments, for whoever publishes them; once. Raises ValueError."""
        if self.prepared is None:
            return () if self.leaf is None else ((self.leaf, self.leaf_hash),), self.attachments
        leaves, hashes, chunks = self.prepared.take()
        return zip(leaves, hashes, strict=True), [(CHUNK, self.name, number, data) for number, data in chunks]


def make_chunk_entry(kind: int, name: str, number: int, data: bytes) -> Entry:
    """One entry that only carries a chunk or a file."""
    parts = encode_named(kind, name, number, data)
    return Entry(parts, len(parts[0]) + len(data), attachments=((kind, name, number, data),))


def make_record_entry(
    leaf: bytes, leaf_hash: bytes, receipt: Any, waiter: Any, loop: Any, attachments: tuple[Attachment, ...] = ()
) -> Entry:
    """One entry for a record and what travels with it."""
    parts: tuple[bytes, ...] = encode_item(LEAF, leaf)
    size = len(parts[0]) + len(leaf)
    for attachment in attachments:
        parts = encode_named(*attachment) + parts
        size += len(parts[0]) + len(parts[1])
    return Entry(parts, size, leaf, leaf_hash, receipt, waiter, loop, attachments)


def make_prepared_entry(sid: str, prepared: Prepared, receipt: Any, waiter: Any, loop: Any) -> Entry:
    """One entry for prepared records of a session; `receipt` is the last record's."""
    entry = Entry((prepared,), prepared.size, receipt=receipt, waiter=waiter, loop=loop)
    entry.prepared, entry.name, entry.records = prepared, sid, prepared.records
    return entry


def count_records(entries: Iterable[Entry]) -> int:
    """How many records some entries hold."""
    return sum([entry.records for entry in entries])


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
        self.lock = threading.Lock()
        self.counters = Counters()
        self.durable_size = start.first_index
        """Records on disk; written by the writer thread only."""
        self._directory = directory
        self._origin = origin
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._first_bytes = min(FIRST_SEGMENT_BYTES, segment_bytes)
        self._open_file = None if native is None else native.open_file
        self._writer = None if native is None else native.make_writer(MAX_BATCH_ENTRIES, MAX_BATCH_BYTES)
        self._written = 0
        """Entries that were acknowledged."""
        self._loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
        self._collecting = threading.RLock()
        self._spare = SpareSegment(directory, disk, segment_bytes)
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._queue: list[Entry] = []
        self._queue_bytes = 0
        self._cuts = 0
        """Entries in the queue that start a segment."""
        self._limit = self._first_bytes
        """Bytes of the segment being planned."""
        self._planned = self._limit
        """What it would hold; full at the start, so that the first entry starts one."""
        self._has_begun = False
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

    def needs_segment(self, size: int) -> bool:
        """Whether an entry of `size` bytes must start a new segment. The caller holds `lock`, and then says so in the entry."""
        return self._planned + size + BATCH_OVERHEAD > self._limit

    def plan_segment(self) -> None:
        """Have the next entry start a new segment. The caller holds `lock`."""
        self._planned = self._limit

    def enqueue(self, entry: Entry) -> None:
        """Queue an entry; only an entry with a record wakes the writer, chunks travel with it. The caller holds `lock`.

        Raises:
            EvidenceBusyError: too much is waiting for the disk.
        """
        size = entry.size + BATCH_OVERHEAD
        if self._queue_bytes + size > MAX_QUEUE_BYTES and self._queue:
            self.counters.refused += 1
            raise EvidenceBusyError(
                "the evidence disk is behind",
                why=f"{self._queue_bytes:,} bytes wait for it",
                fix="refuse this action; look at the disk's sync time",
            )
        if entry.starts_segment:
            self._cuts += 1
            self._planned = HEADER_BYTES
            self._limit = self._segment_bytes if self._has_begun else self._first_bytes
            self._has_begun = True
        self._planned += size
        self._queue.append(entry)
        self._queue_bytes += size
        rings = bool(entry.records) and not entry.may_wait
        if self._writer is not None:
            has_thread = entry.waiter is not None and entry.loop is None
            self._writer.push(entry.parts, entry.records, size, entry.starts_segment, has_thread, rings)
            if entry.loop is not None and entry.loop not in self._loops:
                self._loops.add(entry.loop)
                entry.loop.add_reader(self._writer.fileno(), self.collect)
        elif rings:
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
        queue, self._queue, self._queue_bytes, self._cuts = self._queue, [], 0, 0
        return queue

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
        """Acknowledge what a native writer has made durable since the last call. For any thread, and for event loops."""
        if self._writer is None:
            return
        with self._collecting:
            with self.lock:
                done = self._writer.notice()
                count, self._written = done - self._written, done
                batch, self._queue = self._queue[:count], self._queue[count:]
                self._queue_bytes -= sum([entry.size + BATCH_OVERHEAD for entry in batch])
                self._cuts -= sum([entry.starts_segment for entry in batch])
                records = count_records(batch)
                self.durable_size += records
            if batch:
                counters = self.counters
                counters.records += records
                counters.queue = len(self._queue)
                counters.syncs, counters.sync_ns, written = self._writer.totals()
                counters.bytes = written - BATCH_OVERHEAD * counters.syncs
                self._on_durable(batch)

    def _take(self) -> list[Entry]:
        """The next batch: everything queued, up to the caps and to an entry that starts a segment. Holds `lock`."""
        queue = self._queue
        if not queue:
            self._rung = False
            return []
        if len(queue) <= MAX_BATCH_ENTRIES and self._queue_bytes <= MAX_BATCH_BYTES and not self._cuts:
            self._queue, self._queue_bytes = [], 0
            return queue
        count, size = 1, queue[0].size + BATCH_OVERHEAD
        while count < min(len(queue), MAX_BATCH_ENTRIES) and not queue[count].starts_segment:
            step = queue[count].size + BATCH_OVERHEAD
            if size + step > MAX_BATCH_BYTES:
                break
            count, size = count + 1, size + step
        self._cuts -= queue[0].starts_segment
        self._queue_bytes -= size
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
