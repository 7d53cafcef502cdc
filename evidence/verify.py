"""Verify an evidence directory: offline, from pins the auditor brings, saying what was checked and what was not.

The passes, in order:

    1. trust        the pinned root is usable, and fit for the purpose (development trust is not, unless accepted)
    2. attestation  every bundle and note; the chain of statements            evidence.verify_attest
    3. log          leaves, tiles, attested roots, write-ahead log            evidence.verify_log
    4. records      sessions, decisions, chunks, time, gaps                   evidence.verify_records
    5. approvals    every action released under a ticket                      evidence.verify_approvals
    6. coverage     unattested tail, logs that should be there, witnesses

Nothing is trusted because the directory says so, and no check that could not be made counts as passed. `docs/evidence-format.md`,
section 10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from evidence.errors import EvidenceError, NoteError
from evidence.note import Checkpoint, VerifierKey, parse_checkpoint, parse_note
from evidence.publish import CHECKPOINT_NAME, LAST_SIGNED_NAME
from evidence.report import NOT_CHECKED, Assurance, Report, Severity
from evidence.store import LogReader
from evidence.verify_approvals import ApprovalLedger
from evidence.verify_attest import Attestations, read_note, verify_attestations
from evidence.verify_log import ExpectedRoot, LogPass, find_logs, read_wal
from evidence.verify_records import Recompute, RecordPass
from evidence.verify_trust import TrustPolicy
from evidence.witness import WitnessPolicy

Progress = Callable[[str, int, int], None]
"""(origin, records done, records in all), called now and then."""

PASSED: Final = "passed"
FAILED: Final = "failed"


class UsageError(EvidenceError):
    """The verification could not begin: no directory, no log in it, no usable pin."""

    code = "evidence.usage"


def verify_directory(
    path: Path,
    trust: TrustPolicy,
    *,
    age_identities: Sequence[str] = (),
    recompute: Recompute | None = None,
    strict: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Verify the logs at or below `path` against the pins in `trust`.

    Args:
        path: an evidence directory, or one log's directory.
        trust: everything that is trusted.
        age_identities: private age keys; with them session keys are unwrapped, commitments checked and chunks opened.
        recompute: decides an input document again; needs `age_identities`, because inputs lie in sealed chunks.
        strict: also demand that every record is in canonical form, so that no two readers can understand it differently.
        progress: called while the logs are read.

    Raises:
        UsageError: there is nothing to verify, or nothing to verify it with.
    """
    if not trust.log_keys or not trust.gateway:
        raise UsageError("nothing to verify with", why="no log key or no gateway identity is pinned", fix="pin both")
    report = Report(directory=str(path))
    logs = _find(path, trust, report)
    if trust.sigstore.development and not trust.accept_development:
        message = "the pinned trust is for development only and proves nothing to anybody else"
        report.add("untrusted", "trust.development", ", ".join(trust.sigstore.operators), message)
    found = verify_attestations(logs, trust, report)
    ledger = ApprovalLedger(trust, report)
    for origin, log_path in logs.items():
        key = trust.key_of(origin)
        if key is None:
            report.add("untrusted", "log.unpinned", origin, "no key is pinned for this log")
            continue
        job = _LogJob(origin, log_path, key, trust, report, found, progress)
        try:
            job.run(ledger, strict=strict, age_identities=age_identities, recompute=recompute)
        except OSError as error:
            report.add("incomplete", "log.unreadable", origin, f"a file cannot be read: {error}")
    ledger.finish()
    _check_witnesses(trust, found, report)
    _conclude(trust, found, report, recompute=recompute, age_identities=age_identities, strict=strict)
    return report


class _LogJob:
    """The log and record passes over one log."""

    def __init__(
        self,
        origin: str,
        path: Path,
        key: VerifierKey,
        trust: TrustPolicy,
        report: Report,
        found: Attestations,
        progress: Progress | None,
    ) -> None:
        self._origin = origin
        self._path = path
        self._key = key
        self._trust = trust
        self._report = report
        self._attested = found.roots.get(origin, [])
        self._progress = progress

    def run(self, ledger: ApprovalLedger, *, strict: bool, age_identities: Sequence[str], recompute: Recompute | None) -> None:
        """Verify the log and put its figures into the report."""
        checkpoint = self._read_checkpoint()
        attested_size = max((each.size for each in self._attested), default=0)
        size = max(checkpoint.size if checkpoint else 0, attested_size)
        expected = self._expected_roots(checkpoint)
        if checkpoint is not None and checkpoint.size < attested_size:
            message = f"the checkpoint covers {checkpoint.size} records, {attested_size} were attested"
            self._report.add("tampered", "checkpoint.rollback", f"{self._origin}/{CHECKPOINT_NAME}", message)
        for each in expected:
            if each.size > size:
                message = f"{each.size} records were seen before, the log has {size}"
                self._report.add("tampered", "checkpoint.rollback", each.where, message)
        wal = read_wal(self._origin, self._path, size, self._report)
        if checkpoint is not None:
            expected += self._announced(size, wal.end)
        records = RecordPass(
            self._origin,
            LogReader(self._path),
            self._trust,
            self._report,
            ledger,
            attested=self._attested,
            strict=strict,
            age_identities=age_identities,
            recompute=recompute,
        )

        def feed(first: int, leaves: Sequence[bytes], hashes: Sequence[bytes]) -> None:
            records.feed(first, leaves, hashes)
            if self._progress is not None:
                self._progress(self._origin, first + len(leaves), size)

        LogPass(self._origin, self._path, size, expected, self._report).run(wal, feed)
        records.finish()
        self._check_tail(size, attested_size, wal.end)
        self._report.logs[self._origin] = {
            "size": size,
            "attested_size": attested_size,
            "attestations": len(self._attested),
            "attested_at": max(each.signed_at for each in self._attested).isoformat() if self._attested else None,
        }

    def _read_checkpoint(self) -> Checkpoint | None:
        where = f"{self._origin}/{CHECKPOINT_NAME}"
        try:
            note = (self._path / CHECKPOINT_NAME).read_bytes()
        except FileNotFoundError:
            self._report.add("incomplete", "checkpoint.missing", where, "the log has no checkpoint")
            return None
        return read_note(note, self._key, where, self._report)

    def _expected_roots(self, checkpoint: Checkpoint | None) -> list[ExpectedRoot]:
        expected = [ExpectedRoot(each.size, each.root, "root.attested", each.where) for each in self._attested]
        if checkpoint is not None:
            where = f"{self._origin}/{CHECKPOINT_NAME}"
            expected.append(ExpectedRoot(checkpoint.size, checkpoint.root, "root.checkpoint", where))
        for note in self._trust.last_seen:
            if _origin_of(note) == self._origin:
                seen = read_note(note, self._key, f"known checkpoint of {self._origin}", self._report)
                if seen is not None:
                    expected.append(ExpectedRoot(seen.size, seen.root, "root.known", f"known checkpoint of {self._origin}"))
        return expected

    def _announced(self, size: int, wal_end: int) -> list[ExpectedRoot]:
        """What the log announced before it signed: unsigned, so it can raise objections but vouch for nothing.

        After a crash it may run ahead of the checkpoint, never of the write-ahead log.
        """
        where = f"{self._origin}/wal/{LAST_SIGNED_NAME}"
        try:
            announced = parse_checkpoint((self._path / "wal" / LAST_SIGNED_NAME).read_text())
        except FileNotFoundError:
            return []
        except (NoteError, UnicodeDecodeError) as error:
            self._report.add("tampered", "wal.announcement", where, str(error))
            return []
        if announced.origin != self._origin:
            self._report.add("tampered", "wal.announcement", where, f"it is of the log {announced.origin!r}")
            return []
        if announced.size > max(size, wal_end):
            message = f"{announced.size} records were about to be signed, {max(size, wal_end)} are there"
            self._report.add("tampered", "checkpoint.rollback", where, message)
        expected = ExpectedRoot(announced.size, announced.root, "root.announced", where)
        return [expected] if announced.size <= size else []

    def _check_tail(self, size: int, attested_size: int, wal_end: int) -> None:
        severity: Severity = "note" if self._trust.live and attested_size else "incomplete"
        tail = max(size, wal_end) - attested_size
        if not self._attested:
            self._report.add("incomplete", "log.unattested", self._origin, "no verified attestation covers any of this log")
        elif tail > 0:
            message = f"the last {tail} records are not attested; who holds the machine could still drop them"
            self._report.add(severity, "log.tail", self._origin, message)


def _find(path: Path, trust: TrustPolicy, report: Report) -> dict[str, Path]:
    """The logs by origin; a log is known by its place below `path`, or by its checkpoint when `path` is the log itself."""
    if not path.is_dir():
        raise UsageError(f"{path} is not a directory", fix="give an evidence directory")
    directories = find_logs(path)
    if not directories:
        raise UsageError(f"{path} holds no evidence", why="there is no log in it", fix="give an evidence directory")
    if directories == [path]:
        note = path / CHECKPOINT_NAME
        origin = _origin_of(note.read_bytes()) if note.is_file() else ""
        only = trust.log_keys[0].name if len(trust.log_keys) == 1 else path.name
        return {origin or only: path}
    logs = {str(each.relative_to(path)): each for each in directories}
    for key in trust.log_keys:
        if key.name not in logs:
            report.add("incomplete", "log.missing", key.name, "a key is pinned for this log, but it is not in the directory")
    return logs


def _origin_of(note: bytes) -> str:
    """The origin a note claims, unverified; empty when it does not parse."""
    try:
        return parse_checkpoint(parse_note(note).text).origin
    except NoteError:
        return ""


def _check_witnesses(trust: TrustPolicy, found: Attestations, report: Report) -> None:
    pairs: Sequence[tuple[WitnessPolicy | None, Sequence[bytes], str]] = (
        (trust.witnesses, found.notes, "attested checkpoints"),
        (trust.sigstore_witnesses, found.log_checkpoints, "checkpoints of the Sigstore log"),
    )
    for policy, notes, what in pairs:
        if policy is None:
            continue
        try:
            lacking = sum(policy.count(note) < policy.quorum for note in notes)
        except NoteError as error:
            report.add("tampered", "witness.wrong", what, str(error))
            continue
        if lacking or not notes:
            message = f"{lacking} of {len(notes)} {what} lack the quorum of {policy.quorum} witnesses"
            report.add("untrusted", "witness.quorum", what, message)


def _conclude(
    trust: TrustPolicy,
    found: Attestations,
    report: Report,
    *,
    recompute: Recompute | None,
    age_identities: Sequence[str],
    strict: bool,
) -> None:
    """Fill in the table of checks and the assurance."""
    codes = {finding.code.split(".")[0] for finding in report.findings if finding.severity != "note"}

    def state(*prefixes: str) -> str:
        return FAILED if codes.intersection(prefixes) else PASSED

    counts = report.counts
    recomputed = NOT_CHECKED
    if recompute is not None and age_identities and not _note_undone(report):
        recomputed = state("decision")
    report.checks = {
        "attestations": state("bundle", "note", "statement", "trust", "log"),
        "log": state("root", "record", "tile", "entries", "wal", "checkpoint"),
        "sessions": state("session", "chain", "chunk", "outcome", "time"),
        "approvals": state("approval") if trust.reviewers or not counts["approved_actions"] else FAILED,
        "reviewer_groups": NOT_CHECKED,
        "policies_kept": state("policy"),
        "verdicts_recomputed": recomputed,
        "sealed_content": state("chunk", "session") if counts["chunks_opened"] else NOT_CHECKED,
        "canonical_form": state("record") if strict else NOT_CHECKED,
        "witnesses": state("witness") if trust.witnesses else NOT_CHECKED,
        "known_checkpoints": state("root", "checkpoint") if trust.last_seen else NOT_CHECKED,
    }
    proven = bool(found.roots) and "root.attested" not in {finding.code for finding in report.findings}
    report.assurance = Assurance(
        identity=", ".join(f"{who} by {issuer}" for who, issuer in sorted(found.signers)) if proven else "none",
        time="rfc3161" if proven else "none",
        fork=_fork_assurance(trust, report) if proven else "none",
        development=trust.sigstore.development,
    )


def _note_undone(report: Report) -> int:
    """How many verdicts of policy were not recomputed; the report says why."""
    counts = report.counts
    verdicts = counts["decisions"] - counts["decisions_without_verdict"]
    reasons = {
        "hold masked content that decided": counts["recomputed_masked"],
        "name a policy bundle that is not kept or not usable": counts["recomputed_not_checked"],
    }
    undone = verdicts - counts["recomputed_same"] - counts["recomputed_different"]
    reasons["have an input that is not recorded or could not be opened"] = undone - sum(reasons.values())
    if undone:
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
        message = f"{undone:,} of {verdicts:,} verdicts could not be recomputed: {why}"
        report.add("note", "decision.not_recomputed", report.directory, message)
    return undone


def _fork_assurance(trust: TrustPolicy, report: Report) -> str:
    codes = {finding.code for finding in report.findings}
    if trust.witnesses is not None and not codes & {"witness.quorum", "witness.wrong"}:
        return "witnessed"
    if trust.last_seen and not codes & {"root.known", "checkpoint.rollback"}:
        return "known-checkpoint"
    return "sigstore-log"
