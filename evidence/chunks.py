"""Chunk files: the sealed chunks of a session, many small ones in one file.

`sessions/<sid>/chunk-<n>.zst.enc` holds chunk n and those after it, each as: number (8 bytes), length (4 bytes), ciphertext. A new
file starts once one has reached `FILE_BYTES`. What counts is the chunk's ciphertext, whose digest a record names; the file is only
where it lies. Chunks reach these files from the write-ahead log, which holds them durably until then.
"""

from __future__ import annotations

import os
import re
import struct
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from evidence.disk import Disk
from evidence.errors import StoreError

FILE_BYTES: Final = 1 << 20
"""A chunk file this large is complete. Small enough to fetch for one chunk, large enough that a session has few."""

MAX_OPEN_FILES: Final = 256
"""Chunk files kept open for appending; a process may be allowed only 1,024 descriptors in all."""

_FRAME: Final = struct.Struct(">QI")
_NAME: Final = re.compile(r"chunk-([0-9]+)\.zst\.enc")


def list_chunk_files(folder: Path) -> list[tuple[int, Path]]:
    """The chunk files of a session as (first chunk number, path), in order."""
    if not folder.is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)


def iterate_frames(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """The whole frames of a chunk file as (number, offset of the frame, ciphertext); stops at the first that is not whole."""
    offset = 0
    while offset + _FRAME.size <= len(data):
        number, length = _FRAME.unpack_from(data, offset)
        end = offset + _FRAME.size + length
        if end > len(data) or length == 0:
            return
        yield number, offset, data[offset + _FRAME.size : end]
        offset = end


def read_chunk(folder: Path, number: int) -> bytes:
    """The ciphertext of one chunk.

    Raises:
        StoreError: the session has no such chunk.
    """
    candidates = [path for first, path in list_chunk_files(folder) if first <= number]
    for path in reversed(candidates):
        for found, _, sealed in iterate_frames(path.read_bytes()):
            if found == number:
                return sealed
    raise StoreError(f"chunk {number} of session {folder.name} is missing", fix="restore the session's folder from a copy")


@dataclass(slots=True)
class _Open:
    descriptor: int
    path: Path
    size: int
    unwritten: list[bytes] = field(default_factory=list)
    """Frames at the end of `size` that are written together: chunks of one session come many at once."""
    known: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Chunks found in the file when it was opened, as number -> (frame offset, frame end); empty for a file made here."""


class ChunkWriter:
    """Appends chunks to their sessions' files. Owned by one thread; what is appended is durable after `flush`."""

    def __init__(self, log_path: Path, disk: Disk) -> None:
        self._root = log_path / "sessions"
        self._disk = disk
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._unsynced: set[str] = set()
        self._directories: set[Path] = set()

    def append(self, sid: str, number: int, sealed: bytes) -> None:
        """Add one chunk; a chunk that is there already with the same bytes is left alone, as happens after a crash."""
        current = self._open.get(sid) or self._open_last(sid, number)
        if number in current.known and not self._must_replace(current, number, sealed):
            return
        self._add(current, sid, number, _FRAME.pack(number, len(sealed)), sealed)

    def append_frames(self, sid: str, number: int, frames: bytes) -> None:
        """Add new chunks that follow one another from `number` on, as the file holds them."""
        self._add(self._open.get(sid) or self._open_last(sid, number), sid, number, frames)

    def _add(self, current: _Open, sid: str, number: int, *parts: bytes) -> None:
        if current.size >= FILE_BYTES:
            self.release(sid)
            current = self._create(sid, number)
        current.unwritten += parts
        current.size += sum(map(len, parts))
        self._unsynced.add(sid)
        self._open.move_to_end(sid)

    def flush(self) -> None:
        """Make everything appended durable."""
        for sid in self._unsynced:
            self._write(self._open[sid])
            self._disk.sync_data(self._open[sid].descriptor)
        self._unsynced.clear()
        for directory in self._directories:
            self._disk.sync_directory(directory)
        self._directories.clear()

    def release(self, sid: str) -> None:
        """Close a session's file, once nothing more will be added to it."""
        current = self._open.pop(sid, None)
        if current is None:
            return
        self._write(current)
        if sid in self._unsynced:
            self._disk.sync_data(current.descriptor)
            self._unsynced.discard(sid)
        os.close(current.descriptor)

    def _write(self, current: _Open) -> None:
        data = b"".join(current.unwritten)
        current.unwritten.clear()
        if data:
            self._disk.write_all(current.descriptor, data, current.size - len(data))

    def close(self) -> None:
        """Close all files; what was not flushed is in the write-ahead log."""
        for current in self._open.values():
            os.close(current.descriptor)
        self._open.clear()

    def _open_last(self, sid: str, number: int) -> _Open:
        """Open the file that holds `number`, or else the session's last file, cut back to its whole frames."""
        files = list_chunk_files(self._root / sid)
        if not files:
            return self._create(sid, number)
        path = [path for first, path in files if first <= number or first == files[0][0]][-1]
        frames = list(iterate_frames(path.read_bytes()))
        known = {found: (offset, offset + _FRAME.size + len(sealed)) for found, offset, sealed in frames}
        end = max((stop for _, stop in known.values()), default=0)
        current = _Open(self._disk.open(path, os.O_RDWR), path, end, known=known)
        os.ftruncate(current.descriptor, end)
        return self._remember(sid, current)

    def _must_replace(self, current: _Open, number: int, sealed: bytes) -> bool:
        """Whether the chunk on disk differs from the one in the write-ahead log; the file is then cut back to before it."""
        self._write(current)
        start, end = current.known[number]
        if os.pread(current.descriptor, end - start, start)[_FRAME.size :] == sealed:
            return False
        os.ftruncate(current.descriptor, start)
        current.size = start
        current.known = {found: span for found, span in current.known.items() if span[0] < start}
        for first, path in list_chunk_files(current.path.parent):
            if first > number:  # written after the damaged one, so in the write-ahead log as well
                path.unlink()
        return True

    def _create(self, sid: str, number: int) -> _Open:
        folder = self._root / sid
        if not folder.is_dir():
            folder.mkdir(parents=True)
            self._directories |= {folder.parent, folder.parent.parent}
        path = folder / f"chunk-{number}.zst.enc"
        self._directories.add(folder)
        return self._remember(sid, _Open(self._disk.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), path, 0))

    def _remember(self, sid: str, current: _Open) -> _Open:
        self._open[sid] = current
        if len(self._open) > MAX_OPEN_FILES:
            self.release(next(iter(self._open)))
        return current
