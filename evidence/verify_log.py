"""The log pass: hash every leaf, rebuild every tile, reach every attested root, and agree with the write-ahead log. One pass.

What is compared with what: leaves with level-0 tiles, each full tile with the level above, the tree with every root that the notes,
the statements and the auditor's own checkpoints claim, and the write-ahead log's records with the published ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evidence.entries import LEAF
from evidence.errors import RecoveryError, StoreError
from evidence.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, RightEdge
from evidence.report import Report
from evidence.segment import list_segments
from evidence.tiles import ENTRIES, decode_entries, encode_entries, tile_path
from evidence.wal_scan import ScannedSegment, scan_segment

Feed = Callable[[int, Sequence[bytes], Sequence[bytes]], None]
"""(index of the first, leaves, leaf hashes) of one entry bundle, in order."""


@dataclass(frozen=True, slots=True)
class ExpectedRoot:
    """A root that somebody signed for this log: `code` names the finding when the log has another one."""

    size: int
    root: bytes
    code: str
    where: str


@dataclass(frozen=True, slots=True)
class WalRecords:
    """The records the write-ahead log still holds: leaf hashes from index `first` on."""

    first: int
    hashes: list[bytes]

    @property
    def end(self) -> int:
        """Index after the last of them."""
        return self.first + len(self.hashes)


class LogPass:
    """Verifies one log's tree; `run` reads everything once."""

    def __init__(self, origin: str, path: Path, size: int, expected: Sequence[ExpectedRoot], report: Report) -> None:
        self._origin = origin
        self._path = path
        self._size = size
        self._expected: dict[int, list[ExpectedRoot]] = {}
        for each in expected:
            self._expected.setdefault(each.size, []).append(each)
        self._report = report
        self._edge = RightEdge()
        self._broken_roots = 0

    def run(self, wal: WalRecords, feed: Feed) -> None:
        """Read all entry bundles of the first `size` records, feeding them on."""
        self._check_roots([])
        for index in range(-(-self._size // TILE_WIDTH)):
            first = index * TILE_WIDTH
            leaves = self._read_bundle(index, min(TILE_WIDTH, self._size - first))
            if leaves is None:
                return
            sha256 = hashlib.sha256
            hashes = [sha256(b"\x00" + leaf).digest() for leaf in leaves]
            feed(first, leaves, hashes)
            self._compare_wal(wal, first, hashes)
            self._compare_leaf_tile(index, hashes)
            self._check_roots(hashes)
            if len(hashes) == TILE_WIDTH:
                self._carry(hashes)
            else:
                self._edge = RightEdge(self._size, [hashes, *self._edge.levels[1:]])
                self._compare_partial_entries(index, leaves)
        self._compare_partial_tiles()

    def _read_bundle(self, index: int, width: int) -> list[bytes] | None:
        """The leaves of a bundle; every stored form of it that covers them must agree, and one must be there."""
        forms = [self._path / tile_path(ENTRIES, index)]
        if width < TILE_WIDTH:
            forms.append(self._path / tile_path(ENTRIES, index, width))
        for path in forms:
            where = f"{self._origin}/{path.relative_to(self._path)}"
            try:
                leaves = list(decode_entries(path.read_bytes()))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except StoreError as error:
                self._report.add("tampered", "entries.malformed", where, str(error))
                return None
            if len(leaves) >= width:
                return leaves[:width]
            self._report.add("tampered", "entries.short", where, f"{len(leaves)} of {width} records")
            return None
        first = index * TILE_WIDTH
        where = f"{self._origin}/{tile_path(ENTRIES, index, width)}"
        self._report.add("incomplete", "entries.missing", where, f"records {first} to {first + width - 1} are missing")
        return None

    def _compare_wal(self, wal: WalRecords, first: int, hashes: Sequence[bytes]) -> None:
        low, high = max(first, wal.first), min(first + len(hashes), wal.end)
        if low < high and wal.hashes[low - wal.first : high - wal.first] != hashes[low - first : high - first]:
            where = f"{self._origin}/wal"
            self._report.add("tampered", "wal.contradicts", where, f"records {low} to {high - 1} differ from the published ones")

    def _compare_leaf_tile(self, index: int, hashes: Sequence[bytes]) -> None:
        if len(hashes) == TILE_WIDTH and not self._compare_tile(0, index, hashes):
            self._pinpoint(index, hashes)

    def _pinpoint(self, index: int, hashes: Sequence[bytes], width: int = TILE_WIDTH) -> None:
        """Name the records whose hash is not the one the tile has."""
        stored = self._read_tile(0, index, width)[1] or b""
        for place, leaf_hash in enumerate(hashes):
            if stored[place * HASH_BYTES : (place + 1) * HASH_BYTES] not in (leaf_hash, b""):
                where = f"{self._origin}#{index * TILE_WIDTH + place}"
                self._report.add("tampered", "record.changed", where, "the record is not the one its tile commits to")

    def _check_roots(self, hashes: Sequence[bytes]) -> None:
        base = self._edge.size
        for size in sorted(self._expected):
            if not (base < size <= base + len(hashes) or size == base == 0):
                continue
            root = RightEdge(size, [hashes[: size - base], *self._edge.levels[1:]]).root() if size else self._edge.root()
            for each in self._expected[size]:
                if each.root != root:
                    self._report_root(each)

    def _report_root(self, expected: ExpectedRoot) -> None:
        self._broken_roots += 1
        if self._broken_roots == 1:
            message = f"the first {expected.size} records are not the ones that were signed"
            self._report.add("tampered", expected.code, expected.where, message)
        else:
            self._report.counts["further_roots_not_reached"] += 1

    def _carry(self, hashes: list[bytes]) -> None:
        """Take a full bundle into the tree, and compare the tiles above it that it completes."""
        before = RightEdge(self._edge.size + TILE_WIDTH - 1, [hashes[:-1], *self._edge.levels[1:]])
        for level, index, filled in before.append(hashes[-1])[1:]:
            self._compare_tile(level, index, filled)
        self._edge = before

    def _compare_tile(self, level: int, index: int, hashes: Sequence[bytes], width: int = TILE_WIDTH) -> bool:
        path, stored = self._read_tile(level, index, width)
        where = f"{self._origin}/{path.relative_to(self._path)}"
        if stored is None:
            self._report.add("incomplete", "tile.missing", where, "the tile is missing")
            return True
        if stored != b"".join(hashes[:width]):
            self._report.add("tampered", "tile.changed", where, "the tile is not what the records give")
            return False
        return True

    def _read_tile(self, level: int, index: int, width: int) -> tuple[Path, bytes | None]:
        """A tile's file and bytes, None where it is missing. A full tile replaces its partial forms before the next checkpoint."""
        path = self._path / tile_path(level, index, width)
        for form in dict.fromkeys((width, TILE_WIDTH)):
            candidate = self._path / tile_path(level, index, form)
            try:
                stored = candidate.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
            return candidate, stored if form == width else stored[: width * HASH_BYTES]
        return path, None

    def _compare_partial_entries(self, index: int, leaves: Sequence[bytes]) -> None:
        """Every stored width of the last entry bundle, left from earlier checkpoints, must be a prefix of it."""
        for width in self._stored_widths(ENTRIES, index, len(leaves) - 1):
            path = self._path / tile_path(ENTRIES, index, width)
            if path.read_bytes() != encode_entries(leaves[:width]):
                where = f"{self._origin}/{path.relative_to(self._path)}"
                self._report.add("tampered", "entries.changed", where, "an earlier form of the bundle differs from its records")

    def _stored_widths(self, level: int | str, index: int, most: int) -> list[int]:
        folder = (self._path / tile_path(level, index, 1)).parent
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal() and name.isascii() and int(name) <= most)

    def _compare_partial_tiles(self) -> None:
        """Every stored width of the last tile of each level must be a prefix of what the records give."""
        for level, hashes in enumerate(self._edge.levels):
            if not hashes:
                continue
            index = (self._size >> (TILE_HEIGHT * level)) // TILE_WIDTH
            for width in sorted({*self._stored_widths(level, index, len(hashes)), len(hashes)}):
                if not self._compare_tile(level, index, hashes, width) and level == 0:
                    self._pinpoint(index, hashes, width)


def read_wal(origin: str, path: Path, size: int, report: Report) -> WalRecords:
    """Scan the write-ahead log of a log whose checkpoint covers `size` records; damage and holes become findings."""
    empty = WalRecords(size, [])
    segments: list[ScannedSegment] = []
    for segment_path in list_segments(path / "wal"):
        try:
            segments.append(scan_segment(segment_path, origin))
        except RecoveryError as error:
            report.add("tampered", "wal.damaged", f"{origin}/wal/{segment_path.name}", str(error))
            return empty
    if not segments:
        return empty
    leaves = _join_segments(origin, segments, report)
    records = WalRecords(segments[0].header.first_index, leaves)
    if records.end < size:
        # A segment is removed only behind the newest, so the newest always reaches at least to the checkpoint.
        where = f"{origin}/wal/{segments[-1].path.name}"
        report.add("tampered", "wal.cut", where, f"it ends at record {records.end}, the checkpoint covers {size}")
    elif segments[-1].torn:
        where = f"{origin}/wal/{segments[-1].path.name}"
        report.add("incomplete", "wal.torn", where, f"{len(segments[-1].torn)} bytes of an unfinished write end it")
    return records


def _join_segments(origin: str, segments: Sequence[ScannedSegment], report: Report) -> list[bytes]:
    """Leaf hashes of all segments in order; a segment ends where the next begins."""
    hashes: list[bytes] = []
    for position, segment in enumerate(segments):
        following = segments[position + 1].header if position + 1 < len(segments) else None
        batches = [batch for batch in segment.batches if following is None or batch.number < following.first_batch]
        for batch in batches:
            hashes += [hashlib.sha256(b"\x00" + body).digest() for kind, body in batch.items if kind == LEAF]
        end = segments[0].header.first_index + len(hashes)
        if following is not None and (following.number, following.first_index) != (segment.header.number + 1, end):
            where = f"{origin}/wal/{segments[position + 1].path.name}"
            report.add("tampered", "wal.order", where, f"it does not follow {segment.path.name}, which ends at record {end}")
            break
    return hashes


MARKERS: Final = ("checkpoint", "attest", "tile", "wal")
"""Names by which a log's directory is recognised; any one of them may have been taken away."""


def find_logs(directory: Path) -> list[Path]:
    """The directories of logs at or below `directory`; nothing below a log is searched."""
    if any((directory / marker).exists() for marker in MARKERS):
        return [directory]
    return [log for child in sorted(directory.iterdir()) if child.is_dir() for log in find_logs(child)]
