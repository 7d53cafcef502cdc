"""The operating-system calls of the write path, in one object, so that a test can make any of them fail as a disk would."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_FILE_MODE: Final = 0o640
"""Readable for the group of auditors, writable for the gateway alone."""

_ZEROS_BYTES: Final = 1 << 20
"""Zeros written at a time."""


class Disk:
    """Durable file operations. A subclass may inject faults; errors are always the kernel's `OSError`."""

    def open(self, path: Path, flags: int) -> int:
        """Open a file; returns its descriptor."""
        return os.open(path, flags | os.O_CLOEXEC, _FILE_MODE)

    def pwrite(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        """Write at an offset; may write less than asked."""
        return os.pwrite(descriptor, data, offset)

    def allocate(self, descriptor: int, size: int) -> None:
        """Reserve space so that later writes inside it cannot run out of disk."""
        os.posix_fallocate(descriptor, 0, size)

    def zero(self, descriptor: int, size: int, offset: int = 0) -> None:
        """Write zeros, so that the file's blocks are more than reserved."""
        piece = memoryview(bytes(min(size, _ZEROS_BYTES)))
        done = 0
        while done < size:
            done += os.pwrite(descriptor, piece[: size - done], offset + done)

    def sync_data(self, descriptor: int) -> None:
        """Make a file's bytes durable. After an error the state of the file is unknown: never call it again to be told it is fine."""
        os.fdatasync(descriptor)

    def sync(self, descriptor: int) -> None:
        """Make a file or directory durable, metadata included."""
        os.fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Give a file another name, replacing what had it."""
        source.replace(target)

    def write_all(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write everything at an offset. A disk that fills up first writes short, so the rest is written until an error says why."""
        written = self.pwrite(descriptor, data, offset)
        if written == len(data):
            return
        rest = memoryview(data)
        while written < len(data):
            step = self.pwrite(descriptor, rest[written:], offset + written)
            if step == 0:
                raise OSError(5, "write made no progress")
            written += step

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sync(descriptor)
        finally:
            os.close(descriptor)

    def make_directory(self, path: Path) -> None:
        """Create a directory with its parents, durably; a no-op when it is there."""
        if path.is_dir():
            return
        self.make_directory(path.parent)
        path.mkdir(exist_ok=True)
        self.sync_directory(path.parent)

    def write_file(self, path: Path, data: bytes) -> None:
        """Put a whole file in place: temporary name, sync, rename. The caller syncs the directory, once for many files."""
        self.write_files([(path, data)])

    def write_files(self, files: Sequence[tuple[Path, bytes]]) -> None:
        """The same for several: a file system makes what it has to change for all of them durable with the first that is synced."""
        opened: list[tuple[int, Path, Path]] = []
        try:
            for path, data in files:
                temporary = path.with_name(f".{path.name}.tmp")
                descriptor = self.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                opened.append((descriptor, temporary, path))
                self.write_all(descriptor, data, 0)
            for descriptor, _, _ in opened:
                self.sync_data(descriptor)
        finally:
            for descriptor, _, _ in opened:
                os.close(descriptor)
        for _, temporary, path in opened:
            self.replace(temporary, path)

    def write_file_durably(self, path: Path, data: bytes) -> None:
        """Put a whole file in place and make its name durable."""
        self.write_file(path, data)
        self.sync_directory(path.parent)
