"""A reviewer's answer to one ticket, as an in-toto statement signed with the reviewer's own identity.

The subject's digest is the (salted) digest of the exact action; the predicate names the ticket and what the answer is good for:

    {"ticket", "decision": "approve"|"deny", "policy_digest", "nonce", "expires", "connection", "note"?}

`expires` is RFC 3339 in UTC. The signature's timestamp, not a clock of the gateway, says when the answer was given.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from evidence import canonical
from evidence.disk import Disk
from evidence.trust import STATEMENT_TYPE, IdentityRule, SignedStatement, SigstoreTrust, TrustError

PREDICATE_TYPE: Final = "https://sealgate.dev/attestation/approval/v1"
FOLDER: Final = "approvals"
"""Below a log's directory: reviewers' bundles, named by their digest."""

MAX_NOTE_CHARS: Final = 2000
"""A reviewer's remark, not a document."""

MAX_FIELD_CHARS: Final = 200
"""Tickets, nonces and connection names are short identifiers."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_FIELDS: Final = ("ticket", "policy_digest", "nonce", "connection")


class StatementSigner(Protocol):
    """Anything that turns statement bytes into a Sigstore bundle (`evidence.keyless.KeylessSigner` does)."""

    def sign(self, statement: bytes) -> str:
        """The bundle as JSON."""


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """What is approved or denied, and the bounds of the answer. Digests are 64 lower-case hexadecimal digits."""

    action_digest: str
    ticket: str
    decision: Literal["approve", "deny"]
    policy_digest: str
    nonce: str
    expires: datetime
    connection: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalStatement:
    """Verified terms, and who signed them when. `statement` is the exact signed payload."""

    terms: ApprovalTerms
    reviewer: str
    issuer: str
    signed_at: datetime
    statement: bytes
    log_checkpoint: str


def build_statement(terms: ApprovalTerms) -> bytes:
    """The canonical statement bytes to sign; ValueError names a term that is missing, too long or of the wrong form."""
    predicate: dict[str, Any] = {
        "ticket": terms.ticket,
        "decision": terms.decision,
        "policy_digest": terms.policy_digest,
        "nonce": terms.nonce,
        "expires": terms.expires.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "connection": terms.connection,
    }
    if terms.note:
        predicate["note"] = terms.note
    subject = [{"name": f"ticket/{terms.ticket}", "digest": {"sha256": terms.action_digest}}]
    _read_terms(terms.action_digest, predicate)
    statement = {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": PREDICATE_TYPE, "predicate": predicate}
    return canonical.encode(statement)


def sign_statement(signer: StatementSigner, terms: ApprovalTerms) -> str:
    """The bundle (JSON) with which the signer's identity answers the ticket. Takes a second or two on a real log."""
    return signer.sign(build_statement(terms))


def verify_statement(
    bundle_json: str | bytes, trust: SigstoreTrust, rules: Sequence[IdentityRule], *, now: datetime | None = None
) -> ApprovalStatement:
    """The verified answer in a bundle signed by someone `rules` covers.

    Args:
        bundle_json: the bundle as the reviewer's device or the console made it.
        trust: the pinned Sigstore trust.
        rules: who may review; pass the identity and issuer expected, or the patterns of the reviewers' issuers.
        now: with it, an answer that has expired is refused (a verifier of old evidence leaves it out).

    Raises:
        TrustError: not an approval, changed, expired, or from someone else.
    """
    signed = trust.verify(bundle_json, rules)
    answer = _read(signed)
    if answer.signed_at > answer.terms.expires:
        raise _malformed("it was signed after its own expiry")
    if now is not None and now >= answer.terms.expires:
        raise _malformed(f"it expired at {answer.terms.expires.isoformat()}")
    return answer


def store_bundle(log_path: Path, bundle_json: str, disk: Disk | None = None) -> str:
    """Put a reviewer's bundle durably into a log's `approvals/` and return its digest, which the approval record names."""
    disk = disk or Disk()
    data = bundle_json.encode()
    digest = hashlib.sha256(data).hexdigest()
    disk.make_directory(log_path / FOLDER)
    disk.write_file_durably(bundle_path(log_path, digest), data)
    return digest


def bundle_path(log_path: Path, digest: str) -> Path:
    """Where the bundle with this SHA-256 (hex) lies in a log's directory."""
    return log_path / FOLDER / f"{digest}.sigstore.json"


def _read(signed: SignedStatement) -> ApprovalStatement:
    if signed.predicate_type != PREDICATE_TYPE:
        raise _malformed(f"its predicate type is {signed.predicate_type!r}")
    if len(signed.subjects) != 1:
        raise _malformed(f"it has {len(signed.subjects)} subjects instead of one action")
    try:
        terms = _read_terms(signed.subjects[0][1], signed.predicate)
    except ValueError as error:
        raise _malformed(str(error)) from error
    return ApprovalStatement(terms, signed.identity, signed.issuer, signed.signed_at, signed.payload, signed.log_checkpoint)


def _read_terms(action_digest: str, predicate: dict[str, Any]) -> ApprovalTerms:
    unknown = predicate.keys() - {*_FIELDS, "decision", "expires", "note"}
    if unknown:
        raise ValueError(f"unknown terms: {', '.join(sorted(unknown))}")
    texts = {name: predicate.get(name) for name in _FIELDS}
    for name, value in texts.items():
        if not isinstance(value, str) or not 0 < len(value) <= MAX_FIELD_CHARS:
            raise ValueError(f"{name} is missing, or longer than {MAX_FIELD_CHARS} characters")
    if not _SHA256.fullmatch(action_digest) or not _SHA256.fullmatch(str(texts["policy_digest"]).removeprefix("sha256:")):
        raise ValueError("a digest is not 64 lower-case hexadecimal digits")
    decision, note, expires = predicate.get("decision"), predicate.get("note", ""), predicate.get("expires")
    if decision not in ("approve", "deny"):
        raise ValueError(f"the decision is {decision!r}, not approve or deny")
    if not isinstance(note, str) or len(note) > MAX_NOTE_CHARS:
        raise ValueError(f"the note is longer than {MAX_NOTE_CHARS} characters")
    moment = datetime.fromisoformat(expires) if isinstance(expires, str) and expires.endswith("Z") else None
    if moment is None:
        raise ValueError("the expiry is not a time in UTC")
    return ApprovalTerms(action_digest=action_digest, decision=decision, expires=moment, note=note, **texts)  # type: ignore[arg-type]


def _malformed(why: str) -> TrustError:
    fix = "ask the reviewer to answer the ticket again"
    return TrustError("a bundle is not a usable approval", fault="malformed", why=why, fix=fix)
