"""The attestation pass: every bundle and note, the chain of statements, and the roots the log pass must reach."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from evidence import checkpoint_statement as statements
from evidence.errors import EvidenceError, NoteError
from evidence.note import Checkpoint, VerifierKey, parse_note, verify_checkpoint
from evidence.report import Report, Severity
from evidence.trust import SignedStatement, TrustError
from evidence.verify_trust import TrustPolicy


@dataclass(frozen=True, slots=True)
class AttestedRoot:
    """A root the log must have had: at `size`, stamped by the authority at `signed_at`, said by the gateway to be of `made_at`."""

    size: int
    root: bytes
    signed_at: datetime
    made_at: str
    where: str


@dataclass(slots=True)
class Attestations:
    """What the pass established: attested roots by origin, verified notes, and who signed."""

    roots: dict[str, list[AttestedRoot]] = field(default_factory=dict)
    notes: list[bytes] = field(default_factory=list)
    log_checkpoints: list[bytes] = field(default_factory=list)
    signers: set[tuple[str, str]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Verified:
    signed: SignedStatement
    statement: statements.CheckpointStatement
    where: str
    bundle_sha256: str


def verify_attestations(logs: Mapping[str, Path], trust: TrustPolicy, report: Report) -> Attestations:
    """Verify the bundles of all logs against the pinned trust; `logs` maps origins to their directories."""
    found = Attestations()
    seen: dict[str, _Verified | None] = {}
    for origin, path in logs.items():
        key = trust.key_of(origin)
        for size, bundle_path in statements.list_bundles(path):
            where = f"{origin}/{statements.FOLDER}/{bundle_path.name}"
            data = bundle_path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            if digest not in seen:
                seen[digest] = _verify_bundle(data, where, trust, report)
            verified = seen[digest]
            if verified is not None and key is not None:
                _match_note(origin, size, path, key, verified, found, where, report)
        _report_strays(origin, path, report)
    verified_all = [each for each in seen.values() if each is not None]
    found.signers = {(each.signed.identity, each.signed.issuer) for each in verified_all}
    found.log_checkpoints = [each.signed.log_checkpoint.encode() for each in verified_all]
    _check_chain(verified_all, logs, trust, report)
    report.counts["statements"] = len(verified_all)
    return found


def _verify_bundle(data: bytes, where: str, trust: TrustPolicy, report: Report) -> _Verified | None:
    try:
        signed = trust.sigstore.verify(data, trust.gateway)
        return _Verified(signed, statements.read(signed), where, hashlib.sha256(data).hexdigest())
    except TrustError as error:
        severity: Severity = "untrusted" if error.fault in ("untrusted", "identity") else "tampered"
        report.add(severity, f"bundle.{error.fault}", where, str(error))
    except statements.StatementError as error:
        report.add("tampered", "bundle.statement", where, str(error))
    return None


def _match_note(
    origin: str,
    size: int,
    path: Path,
    key: VerifierKey,
    verified: _Verified,
    found: Attestations,
    where: str,
    report: Report,
) -> None:
    """The note beside a bundle must be the one the statement is about, signed by the log's key."""
    about = next((each for each in verified.statement.logs if each.checkpoint.origin == origin), None)
    if about is None or about.checkpoint.size != size:
        report.add("tampered", "bundle.swapped", where, "the bundle attests another checkpoint than its name says")
        return
    try:
        note = statements.note_path(path, size).read_bytes()
    except FileNotFoundError:
        report.add("incomplete", "note.missing", where, "the attested note is missing")
        note = b""
    if note:
        if hashlib.sha256(note).hexdigest() != about.note_sha256:
            report.add("tampered", "note.changed", where, "the note is not the one that was attested")
            return
        checkpoint = read_note(note, key, where, report)
        if checkpoint is None:
            return
        if checkpoint != about.checkpoint:
            report.add("tampered", "note.contradicts", where, "the note states another tree than the statement")
            return
        found.notes.append(note)
    made_at = str(verified.signed.predicate.get("at", ""))
    root = AttestedRoot(size, about.checkpoint.root, verified.signed.signed_at, made_at, where)
    found.roots.setdefault(origin, []).append(root)


def read_note(note: bytes, key: VerifierKey, where: str, report: Report) -> Checkpoint | None:
    """The checkpoint of a note signed by `key`; a note by other keys only is untrusted, a wrong signature is tampering."""
    try:
        parsed = parse_note(note)
    except NoteError as error:
        report.add("tampered", "note.malformed", where, str(error))
        return None
    if not any((line.name, line.key_id) == (key.name, key.key_id) for line in parsed.signatures):
        report.add("untrusted", "note.untrusted", where, f"the note is not signed by the pinned key of {key.name}")
        return None
    try:
        return verify_checkpoint(note, key)
    except EvidenceError as error:
        report.add("tampered", "note.signature", where, str(error))
        return None


def _report_strays(origin: str, path: Path, report: Report) -> None:
    """A note without a bundle proves nothing, and a bundle may have been taken from beside it."""
    for note in statements.list_bare_notes(path):
        where = f"{origin}/{statements.FOLDER}/{note.name}"
        report.add("incomplete", "bundle.missing", where, "an attested note has no bundle")


def _check_chain(verified: list[_Verified], logs: Mapping[str, Path], trust: TrustPolicy, report: Report) -> None:
    """Statements of one gateway and half-year count up from 0, each naming the one before, with stamped times in order."""
    chains: dict[str, list[_Verified]] = {}
    for each in verified:
        # Statements count anew with each half-year's logs.
        period = "/".join(each.statement.logs[0].checkpoint.origin.split("/")[:-1]) if each.statement.logs else ""
        chains.setdefault(f"{each.statement.gateway} {period}", []).append(each)
    skew = timedelta(seconds=trust.max_skew_s)
    for name, chain in chains.items():
        chain.sort(key=lambda each: each.statement.seq)
        if chain[0].statement.seq > 0:
            _hole(name, 0, chain[0].statement.seq, report)
        for before, after in itertools.pairwise(chain):
            _check_link(name, before, after, skew, report)
        named = {each.checkpoint.origin for link in chain for each in link.statement.logs}
        for origin in sorted(named - logs.keys()):
            report.add("incomplete", "log.missing", origin, "statements attest this log, but it is not in the directory")


def _check_link(name: str, before: _Verified, after: _Verified, skew: timedelta, report: Report) -> None:
    where = after.where
    step = after.statement.seq - before.statement.seq
    if step == 0:
        report.add("tampered", "statement.fork", where, f"two different statements of {name} have number {after.statement.seq}")
    elif step > 1:
        _hole(name, before.statement.seq + 1, after.statement.seq, report)
    elif after.statement.prev != before.statement.digest:
        report.add(
            "tampered", "statement.chain", where, f"statement {after.statement.seq} of {name} does not follow the one before"
        )
    elif after.statement.prev_bundle != before.bundle_sha256:
        report.add("tampered", "bundle.changed", before.where, "the bundle is not the file that the next statement commits to")
    if after.signed.signed_at < before.signed.signed_at - skew:
        report.add("tampered", "statement.time", where, "a later statement was stamped before an earlier one")
    grown = {each.checkpoint.origin: each.checkpoint.size for each in before.statement.logs}
    if any(each.checkpoint.size < grown.get(each.checkpoint.origin, 0) for each in after.statement.logs):
        report.add("tampered", "statement.rollback", where, "a later statement attests a smaller log")


def _hole(name: str, first: int, after: int, report: Report) -> None:
    which = f"statement {first}" if after == first + 1 else f"statements {first} to {after - 1}"
    report.add("incomplete", "statement.missing", name, f"{which} of {name} missing")


def parse_moment(text: str) -> datetime | None:
    """An RFC 3339 time in UTC, or None."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else None
