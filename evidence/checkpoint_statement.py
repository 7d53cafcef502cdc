"""The statement that attests log checkpoints: what the attestor signs and the verifier reads.

One in-toto statement covers the newest checkpoint of every worker's log; its subjects are the checkpoint notes, byte for byte.

    predicate = {"gateway", "seq", "prev"?, "prev_bundle"?, "at", "reason", "logs": [{"origin", "size", "root", "note"}]}

`seq` counts a gateway's statements from 0, `prev` is the SHA-256 of the statement before, so that a dropped one leaves a hole.
`prev_bundle` is the SHA-256 of that statement's bundle file: a bundle has parts that no signature covers, and they stay as they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evidence import canonical
from evidence.errors import EvidenceError
from evidence.note import Checkpoint, parse_checkpoint, parse_note
from evidence.trust import STATEMENT_TYPE, SignedStatement

PREDICATE_TYPE: Final = "https://sealgate.dev/attestation/checkpoint/v1"
FOLDER: Final = "attest"
"""Below each log's directory: `<size>.note` and, beside it, the bundle `<size>.sigstore.json`."""

NOTE_SUFFIX: Final = ".note"
BUNDLE_SUFFIX: Final = ".sigstore.json"


class StatementError(EvidenceError):
    """A signed statement that does not have the form of a checkpoint attestation."""

    code = "evidence.statement"


@dataclass(frozen=True, slots=True)
class AttestedLog:
    """One log in a statement: its checkpoint and the SHA-256 (hex) of the note."""

    checkpoint: Checkpoint
    note_sha256: str


@dataclass(frozen=True, slots=True)
class CheckpointStatement:
    """What a checkpoint statement says. `digest` identifies it: the SHA-256 (hex) of its payload."""

    gateway: str
    seq: int
    prev: str
    prev_bundle: str
    reason: str
    logs: tuple[AttestedLog, ...]
    digest: str


def build(
    gateway: str, seq: int, at: str, reason: str, notes: Sequence[bytes], *, prev: str = "", prev_bundle: str = ""
) -> bytes:
    """The canonical statement bytes over signed notes; the first statement has no `prev` and no `prev_bundle`."""
    logs = [(parse_checkpoint(parse_note(note).text), hashlib.sha256(note).hexdigest()) for note in notes]
    predicate: dict[str, Any] = {
        "gateway": gateway,
        "seq": seq,
        "at": at,
        "reason": reason,
        "logs": [{"origin": each.origin, "size": each.size, "root": each.root.hex(), "note": digest} for each, digest in logs],
    }
    if prev:
        predicate |= {"prev": prev, "prev_bundle": prev_bundle}
    subject = [{"name": subject_name(each), "digest": {"sha256": digest}} for each, digest in logs]
    return canonical.encode(
        {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": PREDICATE_TYPE, "predicate": predicate}
    )


def read(signed: SignedStatement) -> CheckpointStatement:
    """The content of a verified statement; every log it names must be one of its subjects.

    Raises:
        StatementError: another predicate type, or a field missing or of the wrong form.
    """
    if signed.predicate_type != PREDICATE_TYPE:
        raise StatementError(f"a statement of type {signed.predicate_type!r} attests no checkpoint", fix=_FIX)
    predicate = signed.predicate
    try:
        logs = tuple(
            AttestedLog(Checkpoint(str(each["origin"]), _count(each["size"]), bytes.fromhex(each["root"])), str(each["note"]))
            for each in predicate["logs"]
        )
        statement = CheckpointStatement(
            gateway=str(predicate["gateway"]),
            seq=_count(predicate["seq"]),
            prev=str(predicate.get("prev", "")),
            prev_bundle=str(predicate.get("prev_bundle", "")),
            reason=str(predicate["reason"]),
            logs=logs,
            digest=hashlib.sha256(signed.payload).hexdigest(),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StatementError(
            "a checkpoint statement is malformed", why=f"{type(error).__name__}: {error}"[:200], fix=_FIX
        ) from error
    if set(signed.subjects) != {(subject_name(each.checkpoint), each.note_sha256) for each in logs}:
        raise StatementError("a checkpoint statement's subjects are not the logs it describes", fix=_FIX)
    return statement


def subject_name(checkpoint: Checkpoint) -> str:
    """How a statement names a note: the path it has below the evidence directory."""
    return f"{checkpoint.origin}/{FOLDER}/{checkpoint.size}{NOTE_SUFFIX}"


def note_path(log_path: Path, size: int) -> Path:
    """Where the attested note of this size lies in a log's directory."""
    return log_path / FOLDER / f"{size}{NOTE_SUFFIX}"


def bundle_path(log_path: Path, size: int) -> Path:
    """Where the bundle over that note lies."""
    return log_path / FOLDER / f"{size}{BUNDLE_SUFFIX}"


def list_bundles(log_path: Path) -> list[tuple[int, Path]]:
    """The bundles of a log by attested size, smallest first; names that are not a plain size are left out."""
    found = []
    for path in (log_path / FOLDER).glob(f"*{BUNDLE_SUFFIX}"):
        stem = path.name.removesuffix(BUNDLE_SUFFIX)
        if stem.isascii() and stem.isdecimal() and (stem == "0" or not stem.startswith("0")):
            found.append((int(stem), path))
    return sorted(found)


def list_bare_notes(log_path: Path) -> list[Path]:
    """The notes of a log without a bundle beside them."""
    notes = sorted((log_path / FOLDER).glob(f"*{NOTE_SUFFIX}"))
    return [note for note in notes if not note.with_name(note.name.removesuffix(NOTE_SUFFIX) + BUNDLE_SUFFIX).exists()]


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value


_FIX: Final = "treat it as damaged or forged, and compare with another copy of the evidence"
