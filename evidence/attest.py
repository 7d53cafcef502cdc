"""The attestor: has Sigstore vouch for the newest checkpoints, on a schedule and on demand, without ever holding up the data path.

Only the newest checkpoint matters, because it covers everything before it: after an outage one signature catches up. A bundle
counts only once it was verified with the same trust an auditor would use, and is on disk. `docs/evidence-format.md`, section 9.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, cast

from evidence import checkpoint_statement as statements
from evidence.approval_statement import StatementSigner
from evidence.disk import Disk
from evidence.errors import EvidenceError, EvidenceWriteError, NoteError, StoreError
from evidence.log import Log
from evidence.merkle import root_at
from evidence.note import Checkpoint, VerifierKey, verify_checkpoint
from evidence.record import format_time
from evidence.tiles import TileReader
from evidence.trust import IdentityRule, SigstoreTrust, TrustError

DEFAULT_EVERY_S: Final = 10.0
"""Between attestations while records arrive: what a thief of the machine could drop unnoticed."""

COALESCE_S: Final = 1.0
"""Session ends within this time share one attestation; a log entry takes about as long anyway."""

FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 60.0
"""Retries during an outage start fast and slow down to this."""


class AttestationError(EvidenceError):
    """The current checkpoints could not be attested. The attestor goes on trying unless it found a fork."""

    code = "evidence.attestation"


class ForkError(AttestationError):
    """A log does not continue what was attested before. Nothing is attested any more until an operator has looked."""

    code = "evidence.fork"


class CheckpointSource(Protocol):
    """A log as the attestor sees it."""

    @property
    def path(self) -> Path:
        """The log's directory."""

    @property
    def verifier_key(self) -> VerifierKey:
        """The key its notes are signed with."""

    @property
    def size(self) -> int:
        """Records that are durable now; read often, must not block."""

    def checkpoint(self) -> bytes:
        """The signed note over everything durable, with its tiles on disk. May block."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """A stored, verified attestation: place in the chain, digest of the statement (hex), covered size per origin, stamped time."""

    seq: int
    digest: str
    sizes: Mapping[str, int]
    signed_at: datetime


@dataclass(frozen=True, slots=True)
class _Attested:
    attestation: Attestation
    checkpoints: Mapping[str, Checkpoint]
    bundle_sha256: str


class Attestor:
    """Attests a gateway's logs from one thread.

    Args:
        gateway: the gateway's name, written into each statement.
        sources: the logs of all workers.
        signer: signs statements; its calls may block up to a deadline of its own.
        trust: verifies each new bundle before it counts.
        rules: the identity the bundles must carry.
        every_s: how often to attest while there is something new.
        clock_ns: wall clock for the statement's `at`.
        disk: durable file operations.
    """

    def __init__(
        self,
        gateway: str,
        sources: Sequence[CheckpointSource],
        *,
        signer: StatementSigner,
        trust: SigstoreTrust,
        rules: Sequence[IdentityRule],
        every_s: float = DEFAULT_EVERY_S,
        clock_ns: Callable[[], int] = time.time_ns,
        disk: Disk | None = None,
    ) -> None:
        self._gateway = gateway
        self._sources = tuple(sources)
        self._signer = signer
        self._trust = trust
        self._rules = tuple(rules)
        self._every_s = every_s
        self._clock_ns = clock_ns
        self._disk = disk or Disk()
        self._wake = threading.Condition()
        self._waiters: list[Future[Attestation]] = []
        self._reason = ""
        self._stopping = False
        self._fork: ForkError | None = None
        self._covered_at = time.monotonic()
        self._state: _Attested | None = None
        self._thread = threading.Thread(target=self._run, name="evidence-attestor", daemon=True)
        self.attempts = 0
        self.failures = 0
        self.last_error: EvidenceError | None = None

    @property
    def last(self) -> Attestation | None:
        """The newest stored attestation, also from before a restart."""
        return self._state.attestation if self._state else None

    @property
    def lag_s(self) -> float:
        """At most how old the oldest unattested record is, in seconds; 0 when every durable record is attested."""
        attested = self._state.checkpoints if self._state else {}
        for source in self._sources:
            known = attested.get(source.verifier_key.name)
            if source.size > (known.size if known else 0):
                return time.monotonic() - self._covered_at
        return 0.0

    def start(self) -> None:
        """Recover the chain of statements from disk and begin; the first attestation comes after `every_s`, or when it is asked for.

        Raises:
            AttestationError: the newest stored bundle does not verify, so the chain cannot be continued from it.
        """
        self._state = self._recover()
        self._thread.start()

    def request(self, reason: str = "session") -> None:
        """Ask for an attestation soon, without waiting; requests close together share one."""
        with self._wake:
            self._reason = self._reason or reason
            self._wake.notify()

    def attest_now(self) -> Future[Attestation]:
        """Attest everything durable at this moment.

        The future fails with AttestationError when the next attempt fails, so that a caller who needs the attestation can
        refuse its action at once instead of waiting out an outage.
        """
        future: Future[Attestation] = Future()
        with self._wake:
            if self._fork is not None or self._stopping:
                future.set_exception(self._fork or AttestationError("the attestor is stopped", fix="refuse the action"))
                return future
            self._waiters.append(future)
            self._wake.notify()
        return future

    def stop(self, timeout_s: float | None = None) -> bool:
        """Make a last attestation and end; returns whether every durable record is attested."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive() and self.lag_s == 0

    def _run(self) -> None:
        pause_s, retry_s, last = self._every_s, FIRST_RETRY_S, time.monotonic()
        while True:
            with self._wake:
                while not (self._stopping or self._waiters) and (remaining_s := self._wait_s(pause_s, last)) > 0:
                    self._wake.wait(remaining_s)
                stopping, waiters, reason = self._stopping, self._waiters, self._reason
                self._waiters, self._reason = [], ""
            reason = "shutdown" if stopping else "demand" if waiters else reason or "interval"
            error = self._attempt(reason, waiters)
            last = time.monotonic()
            pause_s, retry_s = (self._every_s, FIRST_RETRY_S) if error is None else (retry_s, min(2 * retry_s, LAST_RETRY_S))
            if stopping or self._fork is not None:
                self._refuse_waiters()
                return

    def _wait_s(self, pause_s: float, last: float) -> float:
        """How long to wait: the pause, cut short to `COALESCE_S` after the last attempt when something was requested."""
        wanted_s = min(COALESCE_S, pause_s) if self._reason else pause_s
        return max(0.0, last + wanted_s - time.monotonic())

    def _refuse_waiters(self) -> None:
        with self._wake:
            self._stopping = True
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.set_exception(self._fork or AttestationError("the attestor is stopped", fix="refuse the action"))

    def _attempt(self, reason: str, waiters: Sequence[Future[Attestation]]) -> EvidenceError | None:
        """One attempt; completes the waiters and returns what went wrong, if anything."""
        failure: EvidenceError | None
        try:
            attestation = self._attest(reason)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, those who wait must hear of it and the thread must live
            failure = (
                error if isinstance(error, EvidenceError) else AttestationError("an attestation failed", why=repr(error)[:300])
            )
            if isinstance(failure, ForkError):
                self._fork = failure
            self.failures += 1
            self.last_error = failure
        else:
            failure = None if attestation else AttestationError("there is nothing to attest yet", fix="write a record first")
            self.last_error = None
        for waiter in waiters:
            with suppress(InvalidStateError):  # its owner may have given up waiting
                waiter.set_exception(failure) if failure else waiter.set_result(cast("Attestation", attestation))
        return self.last_error

    def _attest(self, reason: str) -> Attestation | None:
        """Sign, verify and store an attestation of the newest checkpoints; the last one when nothing is new."""
        covered_at = time.monotonic()
        durable = {source.verifier_key.name: source.size for source in self._sources}
        notes = [(source, note) for source in self._sources if (note := source.checkpoint())]
        fresh = {source.verifier_key.name: verify_checkpoint(note, source.verifier_key) for source, note in notes}
        if any(checkpoint.size < durable[origin] for origin, checkpoint in fresh.items()):
            raise AttestationError("a checkpoint is behind its log", fix="try again; look at the log if it stays behind")
        known = self._state.checkpoints if self._state else {}
        if not fresh or all(known.get(origin) == checkpoint for origin, checkpoint in fresh.items()):
            self._covered_at = covered_at
            return self.last
        for source, _ in notes:
            self._refuse_fork(source.path, known.get(source.verifier_key.name), fresh[source.verifier_key.name])
        self.attempts += 1
        payload, seq = self._build(reason, [note for _, note in notes])
        bundle = self._signer.sign(payload)
        signed = self._trust.verify(bundle, self._rules)
        if signed.payload != payload:
            raise AttestationError("the signer returned a bundle over something else", fix="check the signing services")
        for source, note in notes:
            self._store(source.path, fresh[source.verifier_key.name].size, note, bundle)
        sizes = {origin: checkpoint.size for origin, checkpoint in fresh.items()}
        attestation = Attestation(seq, hashlib.sha256(payload).hexdigest(), sizes, signed.signed_at)
        self._state = _Attested(attestation, fresh, hashlib.sha256(bundle.encode()).hexdigest())
        self._covered_at = covered_at
        return attestation

    def _build(self, reason: str, notes: Sequence[bytes]) -> tuple[bytes, int]:
        """The next statement of the chain, and its number."""
        at, state = format_time(self._clock_ns()), self._state
        if state is None:
            return statements.build(self._gateway, 0, at, reason, notes), 0
        seq = state.attestation.seq + 1
        links = {"prev": state.attestation.digest, "prev_bundle": state.bundle_sha256}
        return statements.build(self._gateway, seq, at, reason, notes, **links), seq

    def _refuse_fork(self, path: Path, old: Checkpoint | None, new: Checkpoint) -> None:
        """Refuse to sign for a tree that does not contain the tree attested before."""
        if old is None or old == new or old.size == 0:
            return
        if _continues(path, old, new):
            return
        raise ForkError(
            f"the log {new.origin} does not continue what was attested",
            why=f"size {old.size} was attested with another history than the log of size {new.size} has",
            fix="stop the gateway, keep the directory for an investigation, and start a new origin",
        )

    def _store(self, path: Path, size: int, note: bytes, bundle: str) -> None:
        if statements.bundle_path(path, size).exists():
            return
        self._disk.make_directory(path / statements.FOLDER)
        self._disk.write_file_durably(statements.note_path(path, size), note)
        self._disk.write_file_durably(statements.bundle_path(path, size), bundle.encode())

    def _recover(self) -> _Attested | None:
        """The newest statement on disk, found among the newest bundles of all logs."""
        found: list[_Attested] = []
        for source in self._sources:
            _remove_bare_notes(source)
            bundles = statements.list_bundles(source.path)
            if bundles:
                found.append(self._load(bundles[-1][1]))
        return max(found, key=lambda each: each.attestation.seq, default=None)

    def _load(self, path: Path) -> _Attested:
        try:
            data = path.read_bytes()
            signed = self._trust.verify(data, self._rules)
            statement = statements.read(signed)
        except (TrustError, statements.StatementError, OSError) as error:
            raise AttestationError(
                f"the newest attestation {path.name} cannot be continued",
                why=str(error),
                fix="restore it from a copy, or start a new origin; if the trust was rotated, keep the old authorities in it",
            ) from error
        checkpoints = {each.checkpoint.origin: each.checkpoint for each in statement.logs}
        sizes = {origin: checkpoint.size for origin, checkpoint in checkpoints.items()}
        attestation = Attestation(statement.seq, statement.digest, sizes, signed.signed_at)
        return _Attested(attestation, checkpoints, hashlib.sha256(data).hexdigest())


def _continues(path: Path, old: Checkpoint, new: Checkpoint) -> bool:
    """Whether the larger tree begins with the records of the smaller one."""
    reader = TileReader(path)
    return new.size > old.size and root_at(old.size, lambda level, at: reader.subtree(new.size, level, at)) == old.root


def _remove_bare_notes(source: CheckpointSource) -> None:
    """Remove notes that a crash left without their bundle: nobody attested them, and the next attestation covers their records.

    A note that this log never signed, or of another history, is not what a crash leaves. It stays for the auditor.
    """
    bare = statements.list_bare_notes(source.path)
    current = source.checkpoint() if bare else b""
    if not current:
        return
    newest = verify_checkpoint(current, source.verifier_key)
    for path in bare:
        with suppress(NoteError, StoreError, OSError):
            if _continues(source.path, verify_checkpoint(path.read_bytes(), source.verifier_key), newest):
                path.unlink()


class LogSource:
    """A log of this process. Once the log is closed or failed, its last published checkpoint still gets attested."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._file = CheckpointFile(log.path, log.verifier_key)

    @property
    def path(self) -> Path:
        """The log's directory."""
        return self._log.path

    @property
    def verifier_key(self) -> VerifierKey:
        """The key its notes are signed with."""
        return self._log.verifier_key

    @property
    def size(self) -> int:
        """Records that are durable now."""
        return self._log.size

    def checkpoint(self) -> bytes:
        """The signed note over everything durable now."""
        try:
            return self._log.checkpoint()
        except EvidenceWriteError:
            return self._file.checkpoint()


class CheckpointFile:
    """The log of another process: its newest checkpoint as that process published it."""

    def __init__(self, path: Path, verifier_key: VerifierKey) -> None:
        self._path = path
        self._verifier_key = verifier_key

    @property
    def path(self) -> Path:
        """The log's directory."""
        return self._path

    @property
    def verifier_key(self) -> VerifierKey:
        """The key its notes are signed with."""
        return self._verifier_key

    @property
    def size(self) -> int:
        """Size of the published checkpoint; 0 before the first."""
        try:
            return verify_checkpoint(self.checkpoint(), self._verifier_key).size
        except (NoteError, StoreError):
            return 0

    def checkpoint(self) -> bytes:
        """The published note; empty before the first."""
        try:
            return (self._path / "checkpoint").read_bytes()
        except FileNotFoundError:
            return b""
