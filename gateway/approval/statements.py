"""Checking what a reviewer signed, against the gateway's pinned Sigstore trust."""

from __future__ import annotations

from datetime import UTC, datetime

from evidence.approval_statement import verify_statement
from evidence.trust import IdentityRule, SigstoreTrust, TrustError
from gateway.action import Subject
from gateway.approval.desk import SignedVerdict, VerifyStatement
from gateway.errors import ApprovalError


def make_statement_check(trust: SigstoreTrust) -> VerifyStatement:
    """A check that a bundle is a live answer signed by the reviewer's own identity, vouched for by the reviewer's own issuer."""

    def check(bundle_json: str, reviewer: Subject) -> SignedVerdict:
        names = [name for name in (reviewer.email, reviewer.sub) if name]
        rules = [IdentityRule(name, reviewer.issuer) for name in names]
        try:
            answer = verify_statement(bundle_json, trust, rules, now=datetime.now(UTC))
        except TrustError as error:
            raise ApprovalError(
                "the signed statement cannot be accepted", why=str(error), fix="sign with the identity of your own token"
            ) from error
        terms = answer.terms
        return SignedVerdict(
            terms.action_digest, terms.ticket, terms.decision, terms.nonce, terms.policy_digest, answer.reviewer, answer.issuer
        )

    return check
