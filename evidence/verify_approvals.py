"""The approval pass: every action released under a ticket must rest on a reviewer's own, verified, unspent approval."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from evidence.approval_statement import ApprovalStatement, bundle_path, verify_statement
from evidence.report import Report, Severity
from evidence.trust import TrustError
from evidence.verify_attest import parse_moment
from evidence.verify_trust import TrustPolicy

_SINGLE_USE: Final = frozenset({"", "action", "once"})
"""Scopes under which a ticket releases one action; others name a window."""


@dataclass(frozen=True, slots=True)
class _Use:
    origin: str
    index: int
    ticket: str
    ts: str
    requester: frozenset[str]
    connection: str
    digest: str


@dataclass(frozen=True, slots=True)
class _Answer:
    origin: str
    path: Path
    index: int
    record: Mapping[str, Any]


class ApprovalLedger:
    """Collects tickets from all logs, then checks the approvals behind every released one."""

    def __init__(self, trust: TrustPolicy, report: Report) -> None:
        self._trust = trust
        self._report = report
        self._uses: dict[str, list[_Use]] = {}
        self._requirements: dict[str, list[Mapping[str, Any]]] = {}
        self._requested: dict[str, Mapping[str, Any]] = {}
        self._granted: dict[str, list[_Answer]] = {}
        self._nonces: dict[str, str] = {}
        self._by_device = 0

    def note_decision(self, origin: str, index: int, record: Mapping[str, Any], *, released: bool) -> None:
        """Take a decision that names a ticket: one that asked for approval, or one released under it."""
        ticket = str(record["ticket"])
        if record["decision"]["effect"] == "require_approval":
            self._requirements.setdefault(ticket, list(record["decision"].get("approval", {}).get("requirements", ())))
        if released and record.get("phase") == "request":
            requester = _names(record["subject"], record.get("on_behalf_of"))
            digest = str(record.get("approval", {}).get("digest", ""))
            use = _Use(origin, index, ticket, record["ts"], requester, record["connection"], digest)
            self._uses.setdefault(ticket, []).append(use)

    def note_approval(self, origin: str, path: Path, index: int, record: Mapping[str, Any]) -> None:
        """Take an approval.requested or approval.granted record; denials release nothing."""
        ticket = str(record["ticket"])
        if record["type"] == "approval.requested":
            self._requested.setdefault(ticket, record)
        elif record["type"] == "approval.granted":
            self._granted.setdefault(ticket, []).append(_Answer(origin, path, index, record))

    def finish(self) -> None:
        """Check every ticket that released something."""
        for ticket, uses in self._uses.items():
            answers = self._granted.get(ticket, [])
            for use in uses:
                self._check_use(use, answers)
            scopes = {str(each.get("scope", "")) for each in self._requirements.get(ticket, [{}])}
            if len(uses) > 1 and scopes <= _SINGLE_USE:
                self._add(
                    "tampered", "approval.reused", uses[1], f"ticket {ticket} released {len(uses)} actions, it was good for one"
                )
        self._report.counts["approved_actions"] = sum(len(uses) for uses in self._uses.values())
        self._report.counts["approvals_signed_on_device"] = self._by_device

    def _check_use(self, use: _Use, answers: list[_Answer]) -> None:
        if not answers:
            self._add("tampered", "approval.absent", use, f"ticket {use.ticket} released it, but nobody granted that ticket")
            return
        if any(answer.record.get("break_glass") is True for answer in answers):
            self._add("note", "approval.break_glass", use, f"ticket {use.ticket} was opened by break-glass, without a reviewer")
            return
        verified = [statement for answer in answers if (statement := self._verify(use, answer)) is not None]
        reviewers = {(each.reviewer, each.issuer) for each in verified}
        counts = [int(each.get("count", 1)) for each in self._requirements.get(use.ticket, [])]
        needed = max(counts, default=1)
        if len(reviewers) < needed:
            message = f"ticket {use.ticket} needs {needed} reviewers, {len(reviewers)} verified approvals are there"
            self._add("incomplete", "approval.too_few", use, message)

    def _verify(self, use: _Use, answer: _Answer) -> ApprovalStatement | None:
        where = f"{answer.origin}#{answer.index}"
        digest = answer.record.get("statement")
        if not isinstance(digest, str) or not digest:
            self._report.add(
                "incomplete", "approval.unsigned", where, f"the grant of ticket {use.ticket} has no signed statement"
            )
            return None
        try:
            data = bundle_path(answer.path, Path(digest).name).read_bytes()
        except FileNotFoundError:
            self._report.add("incomplete", "approval.bundle_missing", where, f"the reviewer's bundle {digest} is missing")
            return None
        if hashlib.sha256(data).hexdigest() != digest:
            self._report.add("tampered", "approval.bundle_changed", where, f"the reviewer's bundle {digest} was changed")
            return None
        try:
            statement = verify_statement(data, self._trust.sigstore, self._trust.reviewers)
        except TrustError as error:
            severity: Severity = "untrusted" if error.fault in ("untrusted", "identity") else "tampered"
            self._report.add(severity, f"approval.{error.fault}", where, str(error))
            return None
        problems = self._compare(use, answer, statement)
        for code, message in problems:
            self._report.add("tampered", code, where, message)
        if problems:
            return None
        self._by_device += answer.record.get("signed_on") == "device"
        return statement

    def _compare(self, use: _Use, answer: _Answer, statement: ApprovalStatement) -> list[tuple[str, str]]:
        """Everything in which the signed terms and the records disagree, as (code, message)."""
        terms, requested = statement.terms, self._requested.get(use.ticket, {})
        skew = timedelta(seconds=self._trust.max_skew_s)
        released = parse_moment(use.ts) or datetime.min.replace(tzinfo=statement.signed_at.tzinfo)
        digests = {each["action_digest"] for each in (answer.record, requested) if each.get("action_digest")}
        digests |= {use.digest} - {""}
        nonces = {each["nonce"] for each in (answer.record, requested) if each.get("nonce")} or {terms.nonce}
        first_ticket = self._nonces.setdefault(terms.nonce, terms.ticket)
        checks = (
            ("approval.other_ticket", terms.ticket != use.ticket, f"the statement answers ticket {terms.ticket}"),
            ("approval.denied", terms.decision != "approve", "the statement denies"),
            ("approval.other_action", digests != {terms.action_digest}, "the statement is about another action"),
            ("approval.other_connection", terms.connection != use.connection, f"the statement is for {terms.connection!r}"),
            ("approval.other_nonce", nonces != {terms.nonce}, "the statement has another nonce than the request"),
            ("approval.replayed", first_ticket != terms.ticket, f"the nonce was used for ticket {first_ticket}"),
            ("approval.too_late", statement.signed_at > released + skew, "it was signed after the action was released"),
            ("approval.expired", terms.expires < released - skew, "it had expired when the action was released"),
            (
                "approval.self",
                statement.reviewer.casefold() in use.requester,
                f"{statement.reviewer} approved an action of their own",
            ),
        )
        return [(code, message) for code, wrong, message in checks if wrong]

    def _add(self, severity: Severity, code: str, use: _Use, message: str) -> None:
        self._report.add(severity, code, f"{use.origin}#{use.index}", message)


def _names(subject: object, on_behalf_of: object) -> frozenset[str]:
    """Every name by which the requester might appear in a reviewer's certificate."""
    found: set[str] = set()
    values = [subject, on_behalf_of]
    if isinstance(subject, Mapping):
        values += [subject.get(name) for name in ("id", "person", "on_behalf_of")]
        claims = subject.get("claims")
        values += [claims.get(name) for name in ("email", "sub")] if isinstance(claims, Mapping) else []
    for value in values:
        if isinstance(value, str):
            found |= {value.casefold(), value.casefold().partition("/")[2]}  # a subject is "<issuer alias>/<sub>"
    return frozenset(found - {""})
