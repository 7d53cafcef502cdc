"""The exception tree of the evidence package: every error says what happened, why, and what to do next.

EvidenceError
├── CanonicalError          a value the record profile does not allow
│   └── RecordTooLargeError a record over 64 KiB; the large field belongs in a chunk
├── RecordError             a record of unknown type, or with a required field missing or of the wrong kind
├── EvidenceWriteError      the log cannot make records durable; nothing may happen any more
│   └── EvidenceBusyError   the disk is behind; this one record was refused, later ones may pass
├── LogLockedError          another process has this log open
├── RecoveryError           what is on disk contradicts what was signed; the log refuses to start
├── NoteError               a signed note, key or checkpoint that does not parse or verify
├── ProofError              a Merkle proof that does not hold
├── DataKeyError            a session's data key that cannot be wrapped, unwrapped or used
└── StoreError              an evidence directory with a file missing or damaged
"""

from __future__ import annotations


class EvidenceError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        what: what could not be done, in one short sentence without a full stop.
        why: the cause, with the offending value where it is not secret.
        fix: what the reader can do next.
    """

    code = "evidence.error"

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        parts = [self.what, *(f"{label}: {text}" for label, text in (("why", self.why), ("what to do", self.fix)) if text)]
        return "; ".join(parts)


class CanonicalError(EvidenceError):
    """A value outside the record profile: floats, integers of 2^53 and above, keys that are not ASCII text."""

    code = "evidence.canonical"


class RecordTooLargeError(CanonicalError):
    """A record whose canonical bytes do not fit the 65,535 bytes of a log entry."""

    code = "evidence.too_large"


class RecordError(EvidenceError):
    """A record of unknown type, or with a required field missing or of the wrong kind."""

    code = "evidence.record"


class EvidenceWriteError(EvidenceError):
    """The log cannot make records durable. It stays failed until the process is restarted, so every action must be refused."""

    code = "evidence.write"


class EvidenceBusyError(EvidenceWriteError):
    """The disk is too far behind to take this record. The action it belongs to must be refused; the log itself lives on."""

    code = "evidence.busy"


class LogLockedError(EvidenceError):
    """Another process holds the log open; two writers would fork it."""

    code = "evidence.locked"


class RecoveryError(EvidenceError):
    """What is on disk contradicts what was signed or acknowledged; starting would hide tampering or loss."""

    code = "evidence.recovery"


class NoteError(EvidenceError):
    """A signed note, verifier key or checkpoint that does not parse or does not verify."""

    code = "evidence.note"


class ProofError(EvidenceError):
    """A Merkle inclusion or consistency proof that does not hold."""

    code = "evidence.proof"


class DataKeyError(EvidenceError):
    """A session's data key that cannot be wrapped, unwrapped or used. Never carries key bytes."""

    code = "evidence.data_key"


class StoreError(EvidenceError):
    """An evidence directory in which a file is missing or damaged."""

    code = "evidence.store"
