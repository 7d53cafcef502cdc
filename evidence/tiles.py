"""Tiles: the log as static files that stock tools read (c2sp.org/tlog-tiles).

`tile/<L>/<N>` holds up to 256 hashes of level L, `tile/entries/<N>` the 256 leaves themselves, each behind a 16-bit length; a tile
that is not full yet carries its width in its name (`.p/<W>`). A full tile is written once and never again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from evidence.disk import Disk
from evidence.errors import RecoveryError, StoreError
from evidence.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, RightEdge, hash_perfect

ENTRIES: Final = "entries"
"""The level name of entry bundles."""

MAX_UNWRITTEN: Final = 64
"""Tiles written at once: as many descriptors, and eight megabytes where every other one is a bundle of large records."""


def tile_path(level: int | str, index: int, width: int = TILE_WIDTH) -> str:
    """The path of a tile below the log's directory: thousands of the index become folders, `x001/x234/067`."""
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:  # noqa: PLR2004 - three decimal digits per folder
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    suffix = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(reversed(groups))}{suffix}"


def encode_entries(leaves: Iterable[bytes]) -> bytes:
    """An entry bundle: each leaf behind its length, two bytes, big-endian."""
    return b"".join([part for leaf in leaves for part in (len(leaf).to_bytes(2), leaf)])


def decode_entries(data: bytes) -> Iterator[bytes]:
    """The leaves of an entry bundle.

    Raises:
        StoreError: the bundle ends inside an entry.
    """
    offset = 0
    while offset < len(data):
        end = offset + 2 + int.from_bytes(data[offset : offset + 2])
        if end > len(data) or offset + 2 > len(data):
            raise StoreError("an entry bundle ends inside an entry", fix="restore the file from a copy; the log has others")
        yield data[offset + 2 : end]
        offset = end


class TileReader:
    """Reads hashes and leaves of one log's directory."""

    def __init__(self, log_path: Path) -> None:
        self._path = log_path

    def read(self, level: int | str, index: int, width: int) -> bytes:
        """The bytes of a tile that has at least `width` items: the full tile, else that partial one.

        Raises:
            StoreError: neither is there.
        """
        for candidate in dict.fromkeys((TILE_WIDTH, width)):
            try:
                return (self._path / tile_path(level, index, candidate)).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
        raise StoreError(
            f"tile {tile_path(level, index, width)} is missing", fix="restore it from a copy of the log, or treat the log as cut"
        )

    def hashes(self, level: int, index: int, width: int) -> list[bytes]:
        """The first `width` hashes of a tile."""
        data = self.read(level, index, width)
        if len(data) < width * HASH_BYTES or len(data) % HASH_BYTES:
            raise StoreError(
                f"tile {tile_path(level, index, width)} has the wrong length", fix="restore it from a copy of the log"
            )
        return [data[start : start + HASH_BYTES] for start in range(0, width * HASH_BYTES, HASH_BYTES)]

    def leaves(self, index: int, width: int = TILE_WIDTH) -> list[bytes]:
        """The first `width` leaves of an entry bundle."""
        leaves = list(decode_entries(self.read(ENTRIES, index, width)))
        if len(leaves) < width:
            raise StoreError(f"entry bundle {index} has {len(leaves)} of {width} leaves", fix="restore it from a copy of the log")
        return leaves[:width]

    def edge(self, size: int, published: int) -> RightEdge:
        """The right edge of the tree of `size` leaves, read from the tiles of a published tree that is not smaller."""
        levels: list[list[bytes]] = []
        count, available = size, published
        while count or not levels:
            index, width = divmod(count, TILE_WIDTH)
            if width:
                stored = min(TILE_WIDTH, available - index * TILE_WIDTH)
                levels.append(self.hashes(len(levels), index, stored)[:width])
            else:
                levels.append([])
            count, available = index, available >> TILE_HEIGHT
        return RightEdge(size, levels)

    def subtree(self, size: int, level: int, index: int) -> bytes:
        """The hash of the perfect subtree over leaves [index << level, (index + 1) << level) of a tree of `size` leaves."""
        tile_level, height = divmod(level, TILE_HEIGHT)
        first = index << height
        tile_index, start = divmod(first, TILE_WIDTH)
        available = min(TILE_WIDTH, (size >> (TILE_HEIGHT * tile_level)) - tile_index * TILE_WIDTH)
        return hash_perfect(self.hashes(tile_level, tile_index, available)[start : start + (1 << height)])


class TileWriter:
    """Turns leaves, in order, into tiles. Owned by one thread.

    `add` collects; `flush` makes everything collected durable; `publish_partial` adds the tiles that are not full, as a checkpoint
    of the current size needs them.
    """

    def __init__(self, log_path: Path, disk: Disk, edge: RightEdge, bundle: list[bytes]) -> None:
        self._path = log_path
        self._disk = disk
        self.edge = edge
        self._bundle = bundle
        """Leaves of the entry bundle that is not full yet."""
        self._unwritten: list[tuple[Path, bytes]] = []
        """Tiles that are written together."""
        self._directories: set[Path] = set()
        """Where names changed since the last flush."""
        self._completed: list[Path] = []
        """Folders of partial tiles whose full tile was written since the last flush."""

    @property
    def size(self) -> int:
        """Leaves taken so far."""
        return self.edge.size

    def add(self, leaves: Sequence[bytes], leaf_hashes: Sequence[bytes]) -> None:
        """Take the next leaves, and write the tiles they fill."""
        start = 0
        while start < len(leaves):
            stop = start + TILE_WIDTH - len(self._bundle)
            self._bundle += leaves[start:stop]
            for level, index, hashes in self.edge.extend(leaf_hashes[start:stop]):
                if level == 0:
                    self._write(tile_path(ENTRIES, index), encode_entries(self._bundle))
                    self._bundle = []
                self._write(tile_path(level, index), b"".join(hashes))
            start = stop

    def publish_partial(self) -> None:
        """Write the partial tiles of the current size, and make all tiles durable."""
        if self._bundle:
            self._write(tile_path(ENTRIES, self.size // TILE_WIDTH, len(self._bundle)), encode_entries(self._bundle))
        for level, hashes in enumerate(self.edge.levels):
            if hashes:
                index = (self.size >> (TILE_HEIGHT * level)) // TILE_WIDTH
                self._write(tile_path(level, index, len(hashes)), b"".join(hashes))
        self.flush()

    def flush(self) -> None:
        """Make the names of all written tiles durable, then drop the partial tiles that full ones replace."""
        self._write_out()
        for directory in self._directories:
            self._disk.sync_directory(directory)
        self._directories.clear()
        for folder in self._completed:
            shutil.rmtree(folder, ignore_errors=True)
        self._completed.clear()

    def _write(self, name: str, data: bytes) -> None:
        path = self._path / name
        if path.exists():
            # After a crash the same leaves are published again. Other bytes under the same name would be a second history.
            if path.read_bytes() != data:
                raise RecoveryError(
                    f"{name} holds other bytes than the write-ahead log",
                    why="a published tile was changed, or the write-ahead log was",
                    fix="keep the directory as it is for an investigation, and start a new origin",
                )
            return
        self._disk.make_directory(path.parent)
        self._unwritten.append((path, data))
        self._directories.add(path.parent)
        if ".p/" not in name:
            self._completed.append(path.with_name(f"{path.name}.p"))
        if len(self._unwritten) >= MAX_UNWRITTEN:
            self._write_out()

    def _write_out(self) -> None:
        self._disk.write_files(self._unwritten)
        self._unwritten.clear()


class TileChecker(TileWriter):
    """Computes the tiles of leaves like a `TileWriter`, but only compares them with those on disk and changes nothing."""

    def flush(self) -> None:
        """Nothing was written."""

    def _write(self, name: str, data: bytes) -> None:
        if (self._path / name).exists():
            super()._write(name, data)
