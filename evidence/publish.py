"""Publishing: turns what is durable in the write-ahead log into tiles, chunk files, key files and signed checkpoints.

Runs on its own thread, behind the hot path: records are acknowledged before anything here happens, and a crash here loses nothing,
because a write-ahead segment is removed only after a checkpoint covers everything in it. The order of durable writes in one round:

    chunks and keys → full and partial tiles → last-signed → checkpoint → old segments removed

`last-signed` says, before a signature exists, what will be signed. After a crash at any point the next start knows every size this
key may have signed, and refuses to go on with a tree that does not contain it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from evidence.chunks import ChunkWriter
from evidence.disk import Disk
from evidence.entries import CHUNK, FILE, FRAMES, Entry, count_records
from evidence.errors import EvidenceBusyError, EvidenceWriteError, RecoveryError
from evidence.note import Checkpoint, NoteSigner
from evidence.segment import list_segments
from evidence.tiles import TileWriter

_LOGGER: Final = logging.getLogger("sealgate.evidence")

PUBLISH_LEAVES: Final = 4_096
"""Publish without waiting for the next checkpoint once this many records wait: 16 tiles, a few megabytes of memory."""

CROWDED_BYTES: Final = 64 << 20
"""Durable bytes not yet published at which whoever writes many records should wait: well before records are refused."""

MAX_BACKLOG_BYTES: Final = 256 << 20
"""Durable but unpublished bytes held in memory; beyond this, records are refused until publishing has caught up."""

CHECKPOINT_NAME: Final = "checkpoint"
LAST_SIGNED_NAME: Final = "last-signed"

Subscriber = Callable[[Sequence[tuple[int, bytes]]], None]
"""Called with (index, record bytes) of newly published records, in order, on the publishing thread."""


class Publisher:
    """The publishing thread. Everything but `put`, `request` and the counters belongs to that thread."""

    def __init__(
        self,
        log_path: Path,
        disk: Disk,
        signer: NoteSigner,
        tiles: TileWriter,
        *,
        oldest_segment: int,
        next_segment: int,
        last_signed: Checkpoint | None,
        guard: Path | None,
        interval_s: float,
        on_tick: Callable[[], float],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.backlog_bytes = 0
        """Durable bytes not yet published."""
        self.checkpoint_size = 0
        self.checkpoints = 0
        self._path = log_path
        self._disk = disk
        self._signer = signer
        self._tiles = tiles
        self._chunks = ChunkWriter(log_path, disk)
        self._needed_segment = oldest_segment
        """The newest segment of which a record was published; those below it can go after the next checkpoint.

        At first it is the oldest of all: recovery needs the state that a segment begins with, and a start that was killed may have
        left newer ones without any."""
        self._next_segment = next_segment
        self._last_signed = last_signed
        self._last_signed_paths = [log_path / "wal" / LAST_SIGNED_NAME, *([guard] if guard else [])]
        self._note = b""
        self._interval_s = interval_s
        self._on_tick = on_tick
        self._on_failure = on_failure
        self._wake = threading.Condition()
        self._inbox: list[list[Entry]] = []
        self._inbox_leaves = 0
        self._requests: list[Future[bytes]] = []
        self._stopping = False
        self._failed = False
        self._subscribers: list[Subscriber] = []
        self._thread = threading.Thread(target=self._run, name="evidence-publish", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, batch: list[Entry]) -> None:
        """Take a durable batch; called by the writer thread, in order."""
        with self._wake:
            self._inbox.append(batch)
            self._inbox_leaves += count_records(batch)
            self.backlog_bytes += sum([entry.size for entry in batch])
            if self._inbox_leaves >= PUBLISH_LEAVES:
                self._wake.notify()

    def check_room(self) -> None:
        """Raise EvidenceBusyError where no more records may wait."""
        if self.backlog_bytes > MAX_BACKLOG_BYTES:
            raise EvidenceBusyError("publishing is behind", why="the disk takes tiles too slowly", fix="refuse this action")

    @property
    def is_crowded(self) -> bool:
        """Whether so many wait that whoever can wait with more should."""
        return self.backlog_bytes > CROWDED_BYTES

    def request(self) -> Future[bytes]:
        """Ask for a checkpoint over everything durable now; the future gives the signed note."""
        future: Future[bytes] = Future()
        with self._wake:
            if self._failed or (self._stopping and not self._thread.is_alive()):
                future.set_exception(_stopped())
            else:
                self._requests.append(future)
                self._wake.notify()
        return future

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with every record published from now on; returns what ends the subscription."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def metrics(self) -> dict[str, int]:
        """Counters for monitoring."""
        sizes = {"checkpoint_size": self.checkpoint_size, "checkpoints": self.checkpoints}
        return {**sizes, "backlog_bytes": self.backlog_bytes}

    def stop(self) -> None:
        """Publish and sign what is left, and end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            next_checkpoint = time.monotonic() + self._interval_s
            while True:
                wait_s = min(max(0.0, next_checkpoint - time.monotonic()), self._on_tick())
                with self._wake:
                    if not (self._stopping or self._requests or self._inbox_leaves >= PUBLISH_LEAVES):
                        self._wake.wait(wait_s)
                    stopping, wanted = self._stopping, len(self._requests)
                    inbox, self._inbox, self._inbox_leaves = self._inbox, [], 0
                self._publish(inbox)
                if wanted or stopping or time.monotonic() >= next_checkpoint:
                    self._sign(wanted)
                    next_checkpoint = time.monotonic() + self._interval_s
                if stopping:
                    break
        except BaseException as error:  # noqa: BLE001 - whatever stops this thread must stop the log, not leave it unsigned
            self._on_failure(error)
        finally:
            with self._wake:
                self._failed = True
                left, self._requests = self._requests, []
            for future in left:
                future.set_exception(_stopped())
            self._chunks.close()

    def _publish(self, inbox: list[list[Entry]]) -> None:
        if not inbox:
            return
        first = self._tiles.size
        leaves: list[bytes] = []
        leaf_hashes: list[bytes] = []
        size = 0
        for batch in inbox:
            for entry in batch:
                if entry.starts_segment:
                    self._needed_segment, self._next_segment = self._next_segment, self._next_segment + 1
                size += entry.size
                records, hashes, attachments = entry.publish()
                for attachment in attachments:
                    self._attach(*attachment)
                leaves += records
                leaf_hashes += hashes
        self._chunks.flush()
        self._tiles.add(leaves, leaf_hashes)
        self._tiles.flush()
        with self._wake:
            self.backlog_bytes -= size
        if self._subscribers and leaves:
            numbered = list(enumerate(leaves, first))
            for subscriber in list(self._subscribers):
                try:
                    subscriber(numbered)
                except Exception:
                    # Somebody who only listens must not be able to stop the log; nothing is lost, the records are on disk.
                    _LOGGER.exception("a subscriber of the log failed and gets no more records")
                    self._subscribers.remove(subscriber)

    def _attach(self, kind: int, name: str, number: int, data: bytes) -> None:
        if kind == CHUNK:
            self._chunks.append(name, number, data)
        elif kind == FRAMES:
            self._chunks.append_frames(name, number, data)
        elif kind == FILE:
            path = self._path / name
            self._disk.make_directory(path.parent)
            self._disk.write_file_durably(path, data)

    def _sign(self, wanted: int) -> None:
        """Sign what is published, and answer the first `wanted` requests: those made before it was taken."""
        if self._tiles.size > self.checkpoint_size:
            self._note = self._make_checkpoint()
        with self._wake:
            answered, self._requests = self._requests[:wanted], self._requests[wanted:]
        for future in answered:
            future.set_result(self._note)

    def _make_checkpoint(self) -> bytes:
        self._tiles.publish_partial()
        checkpoint = Checkpoint(self._signer.name, self._tiles.size, self._tiles.edge.root())
        last = self._last_signed
        if last is not None and (checkpoint.size < last.size or (checkpoint.size == last.size and checkpoint.root != last.root)):
            raise RecoveryError(
                f"refused to sign {checkpoint.size} records after {last.size}",
                why="a log never signs a smaller or different tree",
                fix="keep the directory for an investigation and start a new origin",
            )
        for path in self._last_signed_paths:
            self._disk.write_file_durably(path, checkpoint.text().encode())
        self._last_signed = checkpoint
        note = self._signer.sign(checkpoint.text())
        self._disk.write_file_durably(self._path / CHECKPOINT_NAME, note)
        self.checkpoint_size = checkpoint.size
        self.checkpoints += 1
        self._retire_segments()
        return note

    def _retire_segments(self) -> None:
        """Remove segments in which everything is published and covered by the checkpoint just made durable, if one follows them."""
        for path in list_segments(self._path / "wal"):
            if int(path.stem) < self._needed_segment:
                path.unlink()


def _stopped() -> EvidenceWriteError:
    return EvidenceWriteError("the evidence log has stopped", fix="look at the log's failure and restart the gateway")
