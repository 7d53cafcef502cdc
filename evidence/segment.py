"""Segments of the write-ahead log: files of a fixed size that batches are appended to.

Every block of a segment is written before it is used, where there was time for that: a sync into blocks that were only reserved also has
to record in the file system that they hold data now, which takes about a third longer. So the next segment is made ahead, on a thread of
its own, while the one before fills up. `docs/evidence-format.md`, section 7.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from evidence.disk import Disk
from evidence.drafts import Prepared, Written

_LOGGER: Final = logging.getLogger("sealgate.evidence")

SEGMENT_MAGIC: Final = b"\xffSGWAL1\n"
SEGMENT_HEADER: Final = struct.Struct(">8sQQQ16sI")
BATCH_MAGIC: Final = b"\xffSGB"  # 0xff never occurs in UTF-8, so no record text can look like a batch
BATCH_HEADER: Final = struct.Struct(">4sQQIII")

HEADER_BYTES: Final = 64
"""Room for the segment header."""

BATCH_OVERHEAD: Final = BATCH_HEADER.size

SPARE_NAME: Final = "spare.tmp"

PIECE_BYTES: Final = 256 << 10
"""How much of a spare segment is written at a time: records that are synced meanwhile wait for as long as that takes."""

REST: Final = 4
"""How many times as long as a piece took the disk is left to the records."""


Part = bytes | Prepared
"""Items of an entry, or records that make them."""


class SegmentFile(Protocol):
    """Appends batches to one segment in a faster way than the plain one."""

    def append(self, parts: Sequence[Any], number: int, first_index: int, records: int, offset: int, /) -> int:
        """Write one batch and make it durable; the bytes it takes. Raises OSError, and ValueError where a record cannot be made."""


class Ledger(Protocol):
    """Where records get their numbers: the lock for that, the next number, and what the queue has room for.

    A context manager: whoever numbers records has it entered meanwhile.
    """

    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...

    @property
    def next_index(self) -> int:
        """Index of the next record."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait for the disk."""

    def has_room(self, size: int, /) -> bool:
        """Whether an entry of so many bytes may wait too."""

    def needs_segment(self, size: int, /) -> bool:
        """Whether an entry of so many bytes has to start a segment."""

    def plan_segment(self) -> None:
        """Have the next entry start a segment."""


class Writer(Ledger, Protocol):
    """The queue in front of the writer thread, and that thread's loop, both without the interpreter.

    Whoever waits in an event loop is told through a descriptor, so that the loop and the writer never wait for each other. Records of a
    session that was lent (`evidence.session.SessionLog.lend`) are numbered and queued in native code, between the host's own.
    """

    def fileno(self) -> int:
        """Readable once something is durable that `notice` was not asked about."""

    @property
    def durable(self) -> int:
        """Durable records, those included that nobody was told of."""

    def notice(self) -> Sequence[int | Written]:
        """What has become durable since the last time, in order: so many entries of the host, or records it did not queue."""

    def push(self, parts: Sequence[Any], records: int, size: int, starts_segment: bool, has_thread: bool, rings: bool, /) -> None:
        """Queue an entry; it is written with the next one that rings. Nothing once closed."""

    def ring(self) -> None:
        """Have what is queued written."""

    def stop(self) -> None:
        """Have `run` come back once everything is written."""

    def close(self) -> None:
        """Drop what is queued, and whatever comes after it."""

    def count_foreign(self) -> tuple[int, int]:
        """Records and bytes of sessions that were lent which are not durable."""

    def totals(self) -> tuple[int, int, int]:
        """Syncs, nanoseconds spent writing and syncing, bytes."""

    def run(
        self, file: Any, number: int, first_index: int, offset: int, mark: int, /
    ) -> tuple[Literal["segment", "acknowledge", "mark", "stopped", "failed"], int, int, Exception | None]:
        """Write batches until something is the host's to do: why, the next batch's number and offset, what went wrong."""


@dataclass(frozen=True, slots=True)
class NativeWriter:
    """What writes in place of the plain code.

    Attributes:
        open_file: a segment that exists -> what appends to it.
        make_writer: (most entries of a batch, its most bytes, most bytes that wait, bytes of the first segment and of every other, index
            of the first record) -> the queue.
    """

    open_file: Callable[[Path], SegmentFile]
    make_writer: Callable[[int, int, int, int, int, int], Writer]


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """Where a segment stands in the log."""

    number: int
    first_index: int
    first_batch: int


class SegmentWriter:
    """Writes batches into one segment. Owned by the writer thread.

    Args:
        directory: where segments lie.
        disk: the file operations.
        origin: name of the log.
        header: where the segment stands in the log.
        size: bytes to reserve.
        open_file: makes what appends in place of `disk`.
        is_zeroed: have every block written before the first batch, so that a sync into it changes nothing but data.
        spare: a file of `size` bytes of which that is true already; it becomes the segment.
    """

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        origin: str,
        header: SegmentHeader,
        size: int,
        open_file: Callable[[Path], SegmentFile] | None = None,
        *,
        is_zeroed: bool = False,
        spare: Path | None = None,
    ) -> None:
        self._disk = disk
        self.size = size
        self.header = header
        self.path = segment_path(directory, header.number)
        temporary = self.path.with_suffix(".tmp")
        if spare is not None:
            disk.replace(spare, temporary)
        self._descriptor = disk.open(temporary, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if spare is None else 0))
        try:
            if spare is None:
                disk.allocate(self._descriptor, size)
            if is_zeroed:
                disk.zero(self._descriptor, size)
            disk.write_all(self._descriptor, _encode_header(header, origin), 0)
            disk.sync(self._descriptor)
            disk.replace(temporary, self.path)
            disk.sync_directory(directory)
            self._file = None if open_file is None else open_file(self.path)
        except OSError:
            os.close(self._descriptor)
            temporary.unlink(missing_ok=True)
            raise
        self._offset = HEADER_BYTES
        self._batch = header.first_batch

    def append(self, parts: Sequence[Part], first_index: int, records: int) -> int:
        """Write one batch and make it durable; the bytes it takes. After an error the segment must not be used again."""
        if self._file is not None:
            length = self._file.append(parts, self._batch, first_index, records, self._offset)
        else:
            body = b"".join([part if isinstance(part, bytes) else part.items() for part in parts])
            data = encode_batch(self._batch, first_index, records, body)
            length = len(data)
            self._disk.write_all(self._descriptor, data, self._offset)
            self._disk.sync_data(self._descriptor)
        self._offset += length
        self._batch += 1
        return length

    def run(self, writer: Writer, first_index: int, mark: int) -> str:
        """Have batches written until something is the caller's to do, and say what. Raises OSError or ValueError, as `append`."""
        why, self._batch, self._offset, error = writer.run(self._file, self._batch, first_index, self._offset, mark)
        if error is not None:
            raise error
        return why

    @property
    def used(self) -> int:
        """Bytes written."""
        return self._offset

    @property
    def next_batch(self) -> int:
        """Number of the next batch."""
        return self._batch

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class SpareSegment:
    """The next segment, made ahead of need. Losing it costs speed alone: a segment can always be made at once.

    Args:
        directory: where segments lie.
        disk: the file operations.
        size: bytes of a segment.
    """

    def __init__(self, directory: Path, disk: Disk, size: int) -> None:
        self._path = directory / SPARE_NAME
        self._disk = disk
        self._size = size
        self._thread: threading.Thread | None = None
        self._is_ready = False
        self._given_up = threading.Event()

    def prepare(self) -> None:
        """Begin to make it, unless that was begun already."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._make, name="evidence-spare", daemon=True)
            self._thread.start()

    def take(self, size: int) -> Path | None:
        """The file, where it is ready and of this size; the next one may be prepared then."""
        if not self._is_ready or size != self._size:
            return None
        self._thread, self._is_ready = None, False
        return self._path

    def close(self) -> None:
        """Remove it; no segment follows."""
        self._given_up.set()
        if self._thread is not None:
            self._thread.join()
        self._path.unlink(missing_ok=True)

    def _make(self) -> None:
        try:
            descriptor = self._disk.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            try:
                self._disk.allocate(descriptor, self._size)
                for offset in range(0, self._size, PIECE_BYTES):
                    started = time.monotonic()
                    self._disk.zero(descriptor, min(PIECE_BYTES, self._size - offset), offset)
                    self._disk.sync_data(descriptor)
                    if self._given_up.wait(REST * (time.monotonic() - started)):
                        return
            finally:
                os.close(descriptor)
            self._is_ready = True
        except OSError as error:
            # A full or failing disk shows where records are written, and stops the log there; here nothing depends on it.
            self._path.unlink(missing_ok=True)
            _LOGGER.warning("the next segment of the write-ahead log cannot be made ahead: %s", error)


def segment_path(directory: Path, number: int) -> Path:
    """Where segment `number` lies."""
    return directory / f"{number:010d}.wal"


def list_segments(directory: Path) -> list[Path]:
    """The segments of a log, oldest first."""
    return sorted(directory.glob("*.wal"))


def encode_batch(number: int, first_index: int, leaf_count: int, body: bytes) -> bytes:
    """A batch as it lies on disk; the checksum covers the header's numbers and the body."""
    head = BATCH_HEADER.pack(BATCH_MAGIC, number, first_index, leaf_count, len(body), 0)[:-4]
    return b"".join((head, zlib.crc32(body, zlib.crc32(head)).to_bytes(4), body))


def _encode_header(header: SegmentHeader, origin: str) -> bytes:
    tag = hashlib.sha256(origin.encode()).digest()[:16]
    head = SEGMENT_HEADER.pack(SEGMENT_MAGIC, header.number, header.first_index, header.first_batch, tag, 0)[:-4]
    return (head + zlib.crc32(head).to_bytes(4)).ljust(HEADER_BYTES, b"\x00")
