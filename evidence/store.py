"""Reading an evidence directory: checkpoints, records, chunks and keys, without any trust in what is read.

`EvidenceStore` finds the logs in a directory; `LogReader` reads one. Nothing here verifies signatures or roots: that is the
verifier's work, which uses these functions to get at the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from evidence.chunks import list_chunk_files, read_chunk
from evidence.errors import StoreError
from evidence.keys import ChunkSealer, unwrap
from evidence.merkle import TILE_WIDTH, prove_consistency, prove_inclusion
from evidence.note import Checkpoint, parse_checkpoint, parse_note
from evidence.publish import CHECKPOINT_NAME
from evidence.tiles import TileReader


class LogReader:
    """One log's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tiles = TileReader(path)

    def read_note(self) -> bytes:
        """The bytes of the latest checkpoint.

        Raises:
            StoreError: there is none.
        """
        try:
            return (self.path / CHECKPOINT_NAME).read_bytes()
        except FileNotFoundError as error:
            raise StoreError(f"{self.path} has no checkpoint", fix="check that this is a log's directory") from error

    def read_checkpoint(self) -> Checkpoint:
        """What the latest checkpoint says, its signature unchecked."""
        return parse_checkpoint(parse_note(self.read_note()).text)

    def iterate_leaves(self, size: int, start: int = 0) -> Iterator[bytes]:
        """The record bytes [start, size), from the entry bundles.

        Args:
            size: tree size the records are read under; a checkpoint's size, so that its partial bundle exists.
            start: index of the first record wanted.
        """
        for bundle in range(start // TILE_WIDTH, -(-size // TILE_WIDTH)):
            first = bundle * TILE_WIDTH
            leaves = self.tiles.leaves(bundle, min(TILE_WIDTH, size - first))
            yield from leaves[max(0, start - first) :]

    def iterate_records(self, size: int, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """The records [start, size) as (index, fields)."""
        for index, leaf in enumerate(self.iterate_leaves(size, start), start):
            yield index, orjson.loads(leaf)

    def read_leaf(self, index: int, size: int) -> bytes:
        """The bytes of one record."""
        if not 0 <= index < size:
            raise StoreError(f"record {index} is not in a log of {size}", fix="ask for an index below the checkpoint's size")
        bundle, place = divmod(index, TILE_WIDTH)
        return self.tiles.leaves(bundle, min(TILE_WIDTH, size - bundle * TILE_WIDTH))[place]

    def prove_inclusion(self, index: int, size: int) -> list[bytes]:
        """The audit path of a record in the tree of `size` leaves."""
        return prove_inclusion(index, size, lambda level, at: self.tiles.subtree(size, level, at))

    def prove_consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """The proof that the tree of `new_size` leaves continues that of `old_size`."""
        return prove_consistency(old_size, new_size, lambda level, at: self.tiles.subtree(new_size, level, at))

    def list_sessions(self) -> list[str]:
        """Ids of sessions that left a key or chunks."""
        keys = (path.stem for path in (self.path / "keys").glob("*.dek"))
        folders = (path.name for path in (self.path / "sessions").glob("*") if path.is_dir())
        return sorted({*keys, *folders})

    def read_chunk(self, sid: str, number: int) -> bytes:
        """The ciphertext of one chunk; its SHA-256 is what the record names."""
        return read_chunk(self.path / "sessions" / sid, number)

    def list_chunk_files(self, sid: str) -> list[Path]:
        """The chunk files of a session, in order."""
        return [path for _, path in list_chunk_files(self.path / "sessions" / sid)]

    def unwrap_data_key(self, sid: str, identities: Sequence[str]) -> bytes:
        """A session's data key, opened with an age identity.

        Raises:
            StoreError: the key file is not there: the session was shredded, or the file was lost.
            DataKeyError: no identity opens it.
        """
        try:
            wrapped = (self.path / "keys" / f"{sid}.dek").read_bytes()
        except FileNotFoundError as error:
            raise StoreError(
                f"session {sid} has no data key", why="it was destroyed or lost", fix="its chunks stay sealed"
            ) from error
        return unwrap(wrapped, identities)

    def open_chunk(self, origin: str, sid: str, number: int, data_key: bytes, base: int | None = None) -> bytes:
        """The plain text of one chunk; `base` is what the record that names it says."""
        sealer = ChunkSealer(data_key, origin, sid)
        words = None if base is None else sealer.open(base, self.read_chunk(sid, base))
        return sealer.open(number, self.read_chunk(sid, number), words)

    def unwrap_salt(self, sid: str, identities: Sequence[str]) -> bytes:
        """A session's salt, which opens its commitments, opened with an auditor's age identity."""
        try:
            wrapped = (self.path / "sessions" / sid / "openings.enc").read_bytes()
        except FileNotFoundError as error:
            raise StoreError(f"session {sid} has no openings", fix="commitments of this session cannot be opened") from error
        return bytes.fromhex(orjson.loads(unwrap(wrapped, identities))["salt"])


class EvidenceStore:
    """An evidence directory with the logs of all workers and half-years."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def list_origins(self) -> list[str]:
        """Names of the logs, by the place of their checkpoint files."""
        found = self.directory.rglob(CHECKPOINT_NAME)
        return sorted(str(path.parent.relative_to(self.directory)) for path in found if path.is_file())

    def open_log(self, origin: str) -> LogReader:
        """The reader of one log."""
        return LogReader(self.directory / origin)
