"""The log: appends records, acknowledges them once they are durable, and fails closed for good when it cannot.

    append ──▶ number, chain, encode ──▶ queue ──▶ writer thread: one sync per batch ──▶ acknowledged
                (caller, under a lock)                                             └──▶ publishing thread: tiles, checkpoint

`Log.open` recovers what a crash left and starts both threads. A `SessionLog` is one session's view: its chain of records, its data
key, its chunks. All methods may be called from any thread; `append` needs a running event loop, `submit` does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.canonical import encode_leaf
from evidence.chain import Chain
from evidence.disk import Disk
from evidence.drafts import Drafts, Sealer, SealerFactory
from evidence.entries import STATE, Attachment, Entry, encode_item, make_chunk_entry, make_prepared_entry, make_record_entry
from evidence.errors import DataKeyError, EvidenceWriteError, RecordError
from evidence.failure import LAST_WORDS_BYTES, chain_before, describe_failure, describe_loss, make_last_word
from evidence.keys import ChunkSealer, destroy_keys, parse_recipients
from evidence.merkle import hash_leaf
from evidence.note import NoteSigner
from evidence.publish import Publisher, Subscriber
from evidence.record import LOG_SID, TranscriptMode, check, format_time
from evidence.recover import Recovered, ensure_ballast, lock_log, recover, settle
from evidence.segment import NativeWriter, SegmentHeader, Writer
from evidence.session import SessionLog, make_session_id
from evidence.settings import LogSettings
from evidence.tiles import TileWriter
from evidence.transcript import FLUSH_S
from evidence.waiters import Receipt, complete, refuse
from evidence.wal import Wal

_ORIGIN: Final = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")

__all__ = ["LAST_WORDS_BYTES", "Log", "LogSettings", "Receipt"]

_LOGGER: Final = logging.getLogger("sealgate.evidence")

MAX_DELAY_S: Final = 0.02
"""How long a record may wait for company while nobody waits for it: of a harmless read, or of an end that delivered nothing."""


class Log:
    """One append-only log: one origin, one writer process. Make it with `Log.open`."""

    def __init__(
        self,
        path: Path,
        signer: NoteSigner,
        found: Recovered,
        *,
        recipients: Sequence[str],
        openings_recipients: Sequence[str],
        settings: LogSettings,
        disk: Disk,
        clock: Callable[[], int],
        lock_descriptor: int,
        make_sealer: SealerFactory,
        native: NativeWriter | None,
    ) -> None:
        self.path = path
        self.make_sealer = make_sealer
        self.origin = signer.name
        self.verifier_key = signer.verifier_key
        self.recipients = tuple(recipients)
        self.openings_recipients = tuple(openings_recipients)
        self.wrapping_recipients = parse_recipients(recipients)
        self.wrapping_openings_recipients = parse_recipients(openings_recipients)
        self._settings = settings
        self._disk = disk
        self._clock = clock
        self._lock_descriptor = lock_descriptor
        self.started_ns = time.monotonic_ns()
        """When the log was opened, on the monotonic clock: records count from there."""
        self._chains = found.chains
        self._log_chain = found.chains[LOG_SID]
        self._sessions: dict[str, SessionLog] = {}
        self._failure: BaseException | None = None
        self._failure_callbacks: list[Callable[[EvidenceWriteError], None]] = []
        self._last_record_s = time.monotonic()
        self._closed = False
        self._delay_ends_s = 0.0
        self._close_lock = threading.Lock()
        tiles = TileWriter(path, disk, found.edge.copy(), list(found.bundle))
        self._publisher = Publisher(
            path,
            disk,
            signer,
            tiles,
            oldest_segment=found.first_segment,
            next_segment=found.next_segment,
            last_signed=found.last_signed,
            guard=settings.guard,
            interval_s=settings.checkpoint_interval_s,
            on_tick=self._tick,
            on_failure=self._fail,
        )
        self._wal = Wal(
            path / "wal",
            self.origin,
            disk,
            start=SegmentHeader(found.next_segment, found.size, found.next_batch),
            segment_bytes=settings.segment_bytes,
            on_durable=self._acknowledge,
            on_failure=self._give_up,
            native=native,
        )

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        origin: str,
        log_key: Ed25519PrivateKey,
        recipients: Sequence[str],
        openings_recipients: Sequence[str] = (),
        settings: LogSettings | None = None,
        clock: Callable[[], int] = time.time_ns,
        disk: Disk | None = None,
        make_sealer: SealerFactory = ChunkSealer,
        native: NativeWriter | None = None,
    ) -> Log:
        """Open the log `directory/origin`, recovering what a crash left; blocks until the opening record is signed.

        Args:
            directory: the evidence directory, which may hold several logs.
            origin: name of the log, `<gateway>/<half-year>/w<k>`: lower-case parts separated by slashes.
            log_key: signs checkpoints under the origin as name.
            recipients: age recipients for the sessions' data keys; at least one.
            openings_recipients: age recipients for the salts that open commitments; without any, nobody can open them.
            settings: how the log behaves.
            clock: nanoseconds since the epoch, for `ts`.
            disk: the file operations; tests give one that fails.
            make_sealer: makes what seals a session's chunks; prepared records (`evidence.drafts`) are sealed with the same.
            native: what writes records to segments in place of the plain code and `disk`.

        Raises:
            LogLockedError: another process has this log open.
            RecoveryError: signed or acknowledged records are missing or changed.
            EvidenceWriteError: the opening records could not be made durable.
        """
        if not _ORIGIN.fullmatch(origin):
            raise RecordError("an origin is lower-case parts separated by slashes", why=repr(origin), fix="e.g. gw-a/2026h2/w0")
        if not recipients:
            raise DataKeyError("a log needs at least one recipient for data keys", fix="set evidence.recipients")
        disk = disk or Disk()
        settings = settings or LogSettings()
        signer = NoteSigner(origin, log_key)
        path = directory / origin
        try:
            disk.make_directory(path / "wal")
            descriptor = lock_log(path)
        except OSError as error:
            raise describe_failure(error) from error
        try:
            found = recover(path, signer.verifier_key, settings.guard)
            ensure_ballast(path, disk, settings.ballast_bytes)
            log = cls(
                path,
                signer,
                found,
                recipients=recipients,
                openings_recipients=openings_recipients,
                settings=settings,
                disk=disk,
                clock=clock,
                lock_descriptor=descriptor,
                make_sealer=make_sealer,
                native=native,
            )
        except OSError as error:
            os.close(descriptor)
            raise describe_failure(error) from error
        except BaseException:
            os.close(descriptor)
            raise
        log._start(found)
        return log

    def append(self, kind: str, fields: Mapping[str, Any]) -> asyncio.Future[Receipt]:
        """Append a record of the log itself (policy.loaded, trust.rotated, ...); the future completes once it is durable."""
        return self.append_to(self._log_chain, kind, fields)

    def submit(self, kind: str, fields: Mapping[str, Any]) -> Future[Receipt]:
        """Like `append`, for threads without an event loop."""
        return self.submit_to(self._log_chain, kind, fields)

    def open_session(
        self, fields: Mapping[str, Any], transcript: TranscriptMode = "head", *, sid: str | None = None
    ) -> SessionLog:
        """Start a session: make its data key, wrap it for the recipients, and append `session.open`.

        The record need not be waited for: every later record of the session is durable no earlier than it.

        Args:
            fields: what session.open says about the session (subject, connection, client, ...).
            transcript: transcript mode of the session.
            sid: the session's id, 1 to 64 of A-Z a-z 0-9 _ -; made up when not given.
        """
        session = SessionLog(self, sid or make_session_id(), fields, transcript)
        self._sessions[session.sid] = session
        return session

    def append_to(
        self, chain: Chain, kind: str, fields: Mapping[str, Any], attachments: tuple[Attachment, ...] = ()
    ) -> asyncio.Future[Receipt]:
        """Append to a chain from a coroutine; used by `SessionLog`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Receipt] = loop.create_future()
        self._append(chain, kind, fields, future, loop, attachments)
        return future

    def submit_to(
        self, chain: Chain, kind: str, fields: Mapping[str, Any], attachments: tuple[Attachment, ...] = ()
    ) -> Future[Receipt]:
        """Append to a chain from a thread; used by `SessionLog`."""
        future: Future[Receipt] = Future()
        future.set_running_or_notify_cancel()
        self._append(chain, kind, fields, future, None, attachments)
        return future

    def append_drafts(self, chain: Chain, drafts: Drafts, sealer: Sealer, chunk: int) -> tuple[asyncio.Future[Receipt], int]:
        """Append prepared records to a chain, sealing chunks from number `chunk` on; returns also how many. Used by `SessionLog`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Receipt] = loop.create_future()
        with self._wal.lock:
            self._check_open(chain, "prepared")
            ts, mono_us = self._read_clocks()
            index = self._wal.next_index
            prepared = drafts.place(sealer, chain.sid, index, chain.sseq, chain.tip, chunk, ts, mono_us)
            last = prepared.records - 1
            receipt = Receipt(index + last, prepared, chain.sseq + last)
            entry = make_prepared_entry(chain.sid, prepared, receipt, future, loop)
            entry.may_wait = not (drafts.has_effects or drafts.has_data)
            try:
                self._enqueue(entry)
            except BaseException:
                prepared.cancel()
                raise
            chain.follow_prepared(prepared)
        now_s = self._last_record_s = time.monotonic()
        if entry.may_wait and now_s >= self._delay_ends_s:
            # The answer's records will most likely come first, and take this one along under their sync.
            self._delay_ends_s = now_s + MAX_DELAY_S
            loop.call_later(MAX_DELAY_S, self.hurry)
        return future, prepared.chunks

    def hurry(self) -> None:
        """Write what is queued now: somebody waits for a record that was in no hurry, or it has waited long enough."""
        self._wal.ring()

    def attach(self, kind: int, name: str, number: int, data: bytes) -> None:
        """Queue a chunk; it is durable no later than the next record of any session."""
        with self._wal.lock:
            self._check_writable()
            self._enqueue(make_chunk_entry(kind, name, number, data))

    def add_session(self, chain: Chain) -> None:
        """Take a new session's chain into the state that recovery starts from.

        Raises:
            RecordError: the session id is in use.
        """
        with self._wal.lock:
            if chain.sid in self._chains:
                raise RecordError(f"session {chain.sid} is open already", fix="give each session an id of its own")
            self._chains[chain.sid] = chain

    def remove_session(self, sid: str) -> None:
        """Forget a closed session."""
        with self._wal.lock:
            self._chains.pop(sid, None)
        self._sessions.pop(sid, None)

    def _append(
        self,
        chain: Chain,
        kind: str,
        fields: Mapping[str, Any],
        waiter: Any,
        loop: Any,
        attachments: tuple[Attachment, ...] = (),
    ) -> Receipt:
        check(kind, fields)
        with self._wal.lock:
            self._check_open(chain, kind)
            index = self._wal.next_index
            leaf = encode_leaf(self._envelop(chain, kind, fields, index))
            receipt = Receipt(index, digest := hash_leaf(leaf), chain.sseq)
            self._enqueue(make_record_entry(leaf, digest, receipt, waiter, loop, attachments))
            chain.follow(kind, fields, digest.hex())
        self._last_record_s = time.monotonic()
        return receipt

    def _envelop(self, chain: Chain, kind: str, fields: Mapping[str, Any], index: int) -> dict[str, Any]:
        return chain.envelop(kind, fields, index, *self._read_clocks())

    def _read_clocks(self) -> tuple[str, int]:
        return format_time(self._clock()), (time.monotonic_ns() - self.started_ns) // 1000

    def _enqueue(self, entry: Entry) -> None:
        self._publisher.check_room()
        if self._wal.needs_segment(entry.size):
            # The state as of the segment's first record, so that recovery never reads further back than this segment.
            chains = [chain.as_state() for chain in self._chains.values() if chain.sseq]
            state = encode_item(STATE, orjson.dumps(chains))
            entry.parts = state + entry.parts
            entry.size += sum(map(len, state))
            entry.starts_segment = True
        self._wal.enqueue(entry)

    def shred_session(self, sid: str, fields: Mapping[str, Any]) -> Receipt:
        """Destroy a closed session's keys, after recording why; blocks. Its chunks stay, unreadable for good.

        Args:
            sid: the session.
            fields: at least `rule`, the retention rule or order that asks for it.

        Raises:
            RecordError: the session is still open.
        """
        if sid in self._chains:
            raise RecordError(f"session {sid} is open", fix="close it before destroying its keys")
        with self._wal.lock:
            self._wal.plan_segment()
        receipt = self.submit("retention.shred", {**fields, "session": sid}).result()
        # The write-ahead log may hold the wrapped keys too. The record began a new segment, so this removes those before it.
        self.checkpoint()
        destroy_keys(self.path, sid, self._disk)
        return receipt

    def checkpoint(self) -> bytes:
        """Sign everything durable now and return the note; blocks for a few disk syncs. Never call it on an event loop."""
        return self.request_checkpoint().result()

    def request_checkpoint(self) -> Future[bytes]:
        """Ask for a checkpoint over everything durable now; the future gives the note."""
        self._wal.collect()
        return self._publisher.request()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Have every newly published record as (index, bytes), on the publishing thread; returns what ends it."""
        return self._publisher.subscribe(subscriber)

    def on_failure(self, callback: Callable[[EvidenceWriteError], None]) -> None:
        """Call back, on an internal thread, when the log fails: open streams must then be cut."""
        self._failure_callbacks.append(callback)

    @property
    def failure(self) -> EvidenceWriteError | None:
        """Why the log has failed, or None while it works."""
        return describe_failure(self._failure) if self._failure else None

    @property
    def is_writable(self) -> bool:
        """Whether records are taken."""
        return self._failure is None and not self._closed

    @property
    def is_crowded(self) -> bool:
        """Whether publishing is so far behind that whoever can wait with records should."""
        return self._publisher.is_crowded

    @property
    def writer(self) -> Writer | None:
        """The native writer, for who appends to sessions that are lent."""
        return self._wal.writer

    @property
    def size(self) -> int:
        """Durable records."""
        return self._wal.durable_size if self.writer is None else self.writer.durable

    def metrics(self) -> dict[str, int]:
        """Counters for monitoring: records, bytes, syncs, segments, queue length, refusals, sizes, backlog, failure."""
        own = {"open_sessions": len(self._sessions), "failed": int(self._failure is not None)}
        return {**self._wal.metrics(), **self._publisher.metrics(), **own}

    def _start(self, found: Recovered) -> None:
        unknown = sum(len(chain.pending) for chain in found.chains.values())
        recovered = [chain for chain in found.chains.values() if chain.sid != LOG_SID]
        counts = {"sessions": len(recovered), "outcomes": unknown, "cut_bytes": len(found.torn or b""), "records": found.size}
        if found.entries:
            self._publisher.put(found.entries)
        last = self.submit("log.open", {"origin": self.origin, "recovered": counts})
        if found.torn:
            gap = {"reason": "torn-tail", "bytes": len(found.torn), "sha256": hashlib.sha256(found.torn).hexdigest()}
            last = self.submit("gap", gap)
        for chain in recovered:
            last = settle(self.submit_to, chain)
            self._chains.pop(chain.sid)
        self._wal.start()
        self._publisher.start()
        try:
            last.result()
            self.checkpoint()
        except EvidenceWriteError as error:
            self.close()
            raise self.failure or error from self._failure

    def _tick(self) -> float:
        """Periodic work on the publishing thread; returns the seconds until it is wanted again."""
        self._wal.ring()  # whatever became of the loop that was to end a delay
        self._wal.collect()
        for session in list(self._sessions.values()):
            session.flush_due()
        idle_s = time.monotonic() - self._last_record_s
        if idle_s < self._settings.heartbeat_s:
            return min(self._settings.heartbeat_s - idle_s, FLUSH_S)
        if self._failure is None and not self._closed:
            with contextlib.suppress(EvidenceWriteError):  # an append refused here is refused to everybody, and reported there
                self.submit("heartbeat", {"sessions": len(self._sessions)})
        return FLUSH_S

    def _check_open(self, chain: Chain, kind: str) -> None:
        self._check_writable()
        if chain.closed:
            raise RecordError(f"session {chain.sid} is closed", why=f"a {kind} record came after session.close")
        if chain.lent is not None:
            raise RecordError(f"session {chain.sid} is lent", why=f"a {kind} record came before it was taken back")

    def _check_writable(self) -> None:
        if self._failure is not None:
            raise describe_failure(self._failure) from self._failure
        if self._closed:
            raise EvidenceWriteError("the evidence log is closed", fix="open it again")

    def _acknowledge(self, batch: list[Entry]) -> None:
        """Tell everybody that a batch is durable, publishing first: whoever awaited a record may ask for a checkpoint over it."""
        self._last_record_s = time.monotonic()
        self._publisher.put(batch)
        complete(batch)

    def _fail(self, error: BaseException) -> None:
        """Stop the log because publishing failed; the writer thread does the rest."""
        self._failure = self._failure or error
        self._wal.stop(error)

    def _give_up(self, error: BaseException, batch: list[Entry]) -> None:
        """The log has failed for good: refuse everything, and leave a last record if the disk takes one. Writer thread."""
        with self._wal.lock:
            self._failure = self._failure or error
            handed_over = [*batch, *self._wal.drain()]
        unwritten = [entry for entry in handed_over if entry.receipt is None or entry.receipt.index >= self._wal.durable_size]
        failure = describe_failure(self._failure)
        refuse(unwritten, failure)
        for callback in self._failure_callbacks:
            try:
                callback(failure)
            except Exception:
                _LOGGER.exception("a callback for the log's failure failed itself")
        try:
            self._write_last_words(unwritten)
        except (OSError, EvidenceWriteError):
            return  # The disk takes nothing more; the missing end of the log is what an auditor will see.

    def _write_last_words(self, unwritten: list[Entry]) -> None:
        """Record the failure in a fresh segment: the old one is in an unknown state, and the ballast makes room."""
        (self.path / "ballast").unlink(missing_ok=True)
        chain = chain_before(self._log_chain, unwritten)
        losses = describe_loss(self._failure, unwritten, self._wal.count_foreign())
        entries = []
        for index, (kind, fields) in enumerate(losses, self._wal.durable_size):
            entries.append(make_last_word(chain, kind, fields, self._envelop(chain, kind, fields, index)))
        self._wal.write_last_words(entries, LAST_WORDS_BYTES)
        self._publisher.put(entries)
        self._publisher.request()

    def close(self) -> None:
        """Close open sessions, sign everything, stop both threads and release the log. Blocks; safe to call twice."""
        with self._close_lock:
            if self._lock_descriptor < 0:
                return
            if self._failure is None:
                for session in list(self._sessions.values()):
                    session.submit_close({"reason": "shutdown"})
            with self._wal.lock:
                self._closed = True
            self._wal.stop()
            self._wal.join()
            self._publisher.stop()
            os.close(self._lock_descriptor)
            self._lock_descriptor = -1
