"""Starting a log: what is on disk must contain everything that was ever signed, or the log refuses to start.

The write-ahead log is authoritative for everything behind the last checkpoint, the checkpoint for everything before. Recovery reads
the segments, cuts what a crash left half-written (never anything acknowledged), rebuilds the tree from the published tiles and the
segments, and compares it with the last signed root. It changes nothing on disk; the log then writes what it found as records.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from evidence.chain import Chain
from evidence.disk import Disk
from evidence.entries import CHUNK, FILE, LEAF, STATE, Entry, decode_named
from evidence.errors import LogLockedError, NoteError, RecoveryError, StoreError
from evidence.merkle import TILE_WIDTH, RightEdge, hash_leaf, root_at
from evidence.note import Checkpoint, VerifierKey, parse_checkpoint, verify_checkpoint
from evidence.publish import CHECKPOINT_NAME, LAST_SIGNED_NAME
from evidence.record import LOG_SID
from evidence.segment import list_segments
from evidence.tiles import TileChecker, TileReader
from evidence.transcript import FLUSH_BYTES, FLUSH_S
from evidence.waiters import Receipt
from evidence.wal_scan import Batch, ScannedSegment, scan_segment

_KEEP: Final = "keep the directory for an investigation and start a new origin"


@dataclass(slots=True)
class Recovered:
    """What recovery found.

    Attributes:
        size: records in the log.
        edge: the tree where republishing starts, which is before the records of the oldest kept segment.
        bundle: leaves before that point that belong to the same entry bundle.
        entries: everything in the kept segments, to be published again (publishing is idempotent).
        chains: sessions that were not closed, and the log's own chain.
        torn: bytes cut from the end of the last segment; None when their loss is recorded already or there are none.
        first_segment: number of the oldest kept segment.
        next_segment, next_batch: numbers to go on with.
        last_signed: the largest tree the log may have signed.
    """

    size: int = 0
    edge: RightEdge = field(default_factory=RightEdge)
    bundle: list[bytes] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    chains: dict[str, Chain] = field(default_factory=lambda: {LOG_SID: Chain(LOG_SID)})
    torn: bytes | None = None
    first_segment: int = 0
    next_segment: int = 0
    next_batch: int = 0
    last_signed: Checkpoint | None = None
    is_new: bool = True


def recover(log_path: Path, key: VerifierKey, guard: Path | None = None) -> Recovered:
    """Read a log's directory, check it against everything that was signed, and remove what a crash left half written.

    Args:
        log_path: the log's own directory, `<evidence>/<origin>`.
        key: the log's verifier key; its name is the origin.
        guard: a copy of `last-signed` kept elsewhere, so that a whole directory put back to an older state is noticed.

    Raises:
        RecoveryError: signed or acknowledged records are missing or changed.
    """
    paths = list_segments(log_path / "wal")
    signed = _read_signed(log_path, key, guard)
    if not paths:
        if signed or (log_path / "tile").exists():
            raise RecoveryError(
                "the write-ahead log is missing",
                why=f"{log_path / 'wal'} holds no segment, yet records were published",
                fix=_KEEP,
            )
        return Recovered()
    segments = _trim([scan_segment(path, key.name) for path in paths])
    first, last = segments[0], segments[-1]
    found = Recovered(
        size=last.end_index,
        first_segment=first.header.number,
        next_segment=last.header.number + 1,
        next_batch=last.end_batch,
        last_signed=max(signed, key=lambda checkpoint: checkpoint.size, default=None),
        is_new=False,
        torn=_find_torn(segments),
    )
    published = max((checkpoint.size for checkpoint in signed), default=0)
    _check_sizes(found.size, first.header.first_index, signed)
    _rebuild(found, log_path, segments, first.header.first_index, published)
    _check_roots(found, log_path, signed)
    _remove_half_written(log_path)
    return found


def _remove_half_written(log_path: Path) -> None:
    """Remove temporary files whose rename a crash prevented; what they were to become is written again, or no longer wanted."""
    for pattern in (".*.tmp", "wal/*.tmp", "tile/**/.*.tmp"):
        for path in log_path.glob(pattern):
            path.unlink(missing_ok=True)


def _read_signed(log_path: Path, key: VerifierKey, guard: Path | None) -> list[Checkpoint]:
    """Every tree this log may have signed: the checkpoint, and what `last-signed` and its copy announce."""
    signed: list[Checkpoint] = []
    with contextlib.suppress(FileNotFoundError):
        try:
            signed.append(verify_checkpoint((log_path / CHECKPOINT_NAME).read_bytes(), key))
        except NoteError as error:
            raise RecoveryError(
                "the checkpoint does not verify under the configured log key", why=str(error), fix=_KEEP
            ) from error
    for path in [log_path / "wal" / LAST_SIGNED_NAME, *([guard] if guard else [])]:
        with contextlib.suppress(FileNotFoundError):
            try:
                announced = parse_checkpoint(path.read_text())
            except (NoteError, UnicodeDecodeError) as error:
                raise RecoveryError(f"{path} is damaged", why=str(error), fix=_KEEP) from error
            if announced.origin != key.name:
                raise RecoveryError(f"{path} belongs to another log", why=announced.origin, fix="give each log its own guard")
            signed.append(announced)
    return signed


def _trim(segments: list[ScannedSegment]) -> list[ScannedSegment]:
    """Check that segments follow one another; a segment ends where the next one begins, whatever it still holds behind that."""
    trimmed: list[ScannedSegment] = []
    for position, segment in enumerate(segments):
        if position + 1 == len(segments):
            trimmed.append(segment)
            break
        following = segments[position + 1].header
        batches = tuple(batch for batch in segment.batches if batch.number < following.first_batch)
        kept = ScannedSegment(segment.path, segment.header, batches, segment.torn)
        if following.number != segment.header.number + 1 or following.first_index != kept.end_index:
            raise RecoveryError(
                f"segment {segments[position + 1].path.name} does not follow {segment.path.name}",
                why=f"one ends at record {kept.end_index}, the other begins at {following.first_index}",
                fix=_KEEP,
            )
        trimmed.append(kept)
    return trimmed


def _find_torn(segments: Sequence[ScannedSegment]) -> bytes | None:
    """Bytes a crash left half-written, if no later start has recorded them: its first batch would hold the gap record."""
    for segment in reversed(segments):
        if segment.torn:
            return segment.torn
        if segment.batches:
            return None
    return None


def _rebuild(
    found: Recovered, log_path: Path, segments: Sequence[ScannedSegment], first_index: int, checkpoint_size: int
) -> None:
    """Fill in the tree before the first segment, the entries to publish again, and the chains."""
    reader = TileReader(log_path)
    try:
        # A segment is removed only once a checkpoint covers it, so the tree before the first one kept is published.
        found.edge = reader.edge(first_index, checkpoint_size)
        index, width = divmod(first_index, TILE_WIDTH)
        if width:
            found.bundle = reader.leaves(index, min(TILE_WIDTH, checkpoint_size - index * TILE_WIDTH))[:width]
    except StoreError as error:
        raise RecoveryError("published tiles are missing", why=str(error), fix=_KEEP) from error
    batches = [batch for segment in segments for batch in segment.batches]
    chains = _read_state(batches, first_index)
    for batch in batches:
        found.entries.extend(_replay(batch, chains, publish_files=batch.first_index >= checkpoint_size))
    found.chains = {sid: chain for sid, chain in chains.items() if not chain.closed}


def _read_state(batches: Sequence[Batch], first_index: int) -> dict[str, Chain]:
    """The chains as of the first record kept. A start that was killed may leave a segment without a batch, so it need not be first."""
    if batches:
        for kind, body in batches[0].items:
            if kind == STATE:
                return {LOG_SID: Chain(LOG_SID)} | {state["sid"]: Chain.from_state(state) for state in orjson.loads(body)}
    if first_index:
        why = f"nothing says which sessions were open at record {first_index}, where the write-ahead log begins"
        raise RecoveryError("the write-ahead log does not begin with a state", why=why, fix=_KEEP)
    return {LOG_SID: Chain(LOG_SID)}


def _replay(batch: Batch, chains: dict[str, Chain], *, publish_files: bool) -> list[Entry]:
    """The entries of a batch, following each record in its chain.

    Key files are published again only when no checkpoint covers them yet: otherwise a destroyed key would come back.
    """
    entries: list[Entry] = []
    index = batch.first_index
    for kind, body in batch.items:
        if kind == LEAF:
            leaf_hash = hash_leaf(body)
            _follow(body, leaf_hash, index, chains)
            entries.append(Entry((), len(body), body, leaf_hash))
            index += 1
        elif kind == CHUNK or (kind == FILE and publish_files):
            entries.append(Entry((), len(body), attachments=((kind, *decode_named(body)),)))
    return entries


def _follow(leaf: bytes, leaf_hash: bytes, index: int, chains: dict[str, Chain]) -> None:
    try:
        fields = orjson.loads(leaf)
        sid, place = fields["sid"], (fields["seq"], fields["sseq"], fields.get("sprev", ""))
        chain = chains.setdefault(sid, Chain(sid))
        expected = (index, chain.sseq, chain.sprev)
        if place == expected:
            chain.follow(fields["type"], fields, leaf_hash.hex())
            return
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise RecoveryError(f"record {index} in the write-ahead log is damaged", why=repr(error), fix=_KEEP) from error
    raise RecoveryError(
        f"record {index} in the write-ahead log does not continue its chain",
        why=f"it says {place}, expected {expected}",
        fix=_KEEP,
    )


def _check_sizes(size: int, first_index: int, signed: Sequence[Checkpoint]) -> None:
    """Check that every signed record is on disk, and that everything before the write-ahead log was signed."""
    largest = max((checkpoint.size for checkpoint in signed), default=0)
    if largest > size:
        raise RecoveryError(
            f"{largest - size} signed records are missing", why=f"{largest} records were signed, {size} are on disk", fix=_KEEP
        )
    if largest < first_index:
        raise RecoveryError(
            "records before the write-ahead log were never signed", why=f"it begins at {first_index}, after {largest}", fix=_KEEP
        )


def _check_roots(found: Recovered, log_path: Path, signed: Sequence[Checkpoint]) -> None:
    """Compare the rebuilt tree with every tree that may have been signed, and with the tiles on disk."""
    wanted: dict[int, set[bytes]] = {}
    for checkpoint in signed:
        wanted.setdefault(checkpoint.size, set()).add(checkpoint.root)
    reader, published = TileReader(log_path), max(wanted, default=0)
    for size in [size for size in wanted if size < found.edge.size]:
        _check_root(size, root_at(size, lambda level, index: reader.subtree(published, level, index)), wanted.pop(size))
    tiles = TileChecker(log_path, Disk(), found.edge.copy(), list(found.bundle))
    records = iter([entry for entry in found.entries if entry.leaf is not None])
    while True:
        if tiles.size in wanted:
            tiles.publish_partial()
            _check_root(tiles.size, tiles.edge.root(), wanted.pop(tiles.size))
        entry = next(records, None)
        if entry is None or entry.leaf is None:
            return
        tiles.add((entry.leaf,), (entry.leaf_hash,))


def _check_root(size: int, root: bytes, signed_roots: set[bytes]) -> None:
    if signed_roots != {root}:
        raise RecoveryError(
            f"the first {size} records are not the ones that were signed",
            why="the write-ahead log, the published tiles or the checkpoint were changed",
            fix=_KEEP,
        )


def lock_log(path: Path) -> int:
    """Take the log for this process; returns the descriptor that holds the lock.

    Raises:
        LogLockedError: another process has it.
    """
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise LogLockedError(
            f"the log {path} is open in another process", why=str(error), fix="stop that process, or give this worker its own log"
        ) from error
    return descriptor


def ensure_ballast(path: Path, disk: Disk, size: int) -> None:
    """Hold back disk space; a disk too full even for that is too full to start on."""
    ballast = path / "ballast"
    if ballast.exists() and ballast.stat().st_size == size:
        return
    descriptor = disk.open(ballast, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        if size:
            disk.allocate(descriptor, size)
        disk.sync(descriptor)
    finally:
        os.close(descriptor)


def settle(submit: Callable[[Chain, str, Mapping[str, Any]], Future[Receipt]], chain: Chain) -> Future[Receipt]:
    """Write what a session that a crash ended still owes: unknown outcomes, what may be lost of its transcript, its close."""
    for decision_id in list(chain.pending):
        submit(chain, "outcome", {"decision_id": decision_id, "status": "unknown"})
    if chain.transcript in {"head", "full"}:
        # What was delivered after the last chunk left no trace; chunks leave at these bounds, so no more than that is missing.
        bounds = {"max_bytes": FLUSH_BYTES, "max_ms": int(FLUSH_S * 1000)}
        after = {"after_chunk": chain.last_chunk} if chain.last_chunk >= 0 else {}
        submit(chain, "gap", {"reason": "transcript-tail", **after, **bounds})
    return submit(chain, "session.close", {"reason": "recovered"})
