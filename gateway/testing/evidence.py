"""Make small, complete evidence directories: sessions with decisions, outcomes, transcripts and approvals, attested.

For tests and demonstrations of the verifier. Everything goes through the public interfaces of the log, the attestor and the
development Sigstore; nothing is written by hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyrage
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.approval_statement import ApprovalTerms, sign_statement, store_bundle
from evidence.attest import Attestor, LogSource
from evidence.keyless import KeylessSigner
from evidence.log import Log, LogSettings
from evidence.session import SessionLog
from evidence.transcript import Transcript
from evidence.trust import IdentityRule, SigstoreTrust
from evidence.verify_trust import TrustPolicy
from gateway.testing.sigstore import DEFAULT_ISSUER, DevelopmentSigstore

GATEWAY = "gateway@example.com"
REVIEWER = "ann@example.com"
BUNDLE_DIGEST = "b1" * 32
WAIT_S = 30.0
SEGMENT_BYTES = 1 << 20  # small, because such directories are copied often
APPROVAL_LIFETIME = timedelta(minutes=10)


@dataclass(slots=True)
class EvidenceBuilder:
    """Writes evidence for one gateway with one worker.

    Attributes:
        directory: the evidence directory.
        sigstore: signs checkpoints and approvals.
        origin: name of the log.
        log_key: its signing key.
        age: the identity to which session keys are wrapped.
        attest_every_s: how often the attestor acts by itself; long by default, so that a test decides.
    """

    directory: Path
    sigstore: DevelopmentSigstore
    origin: str = "gw/2026h2/w0"
    log_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    age: pyrage.x25519.Identity = field(default_factory=pyrage.x25519.Identity.generate)
    attest_every_s: float = 3600.0
    log: Log = field(init=False)
    attestor: Attestor = field(init=False)
    _count: int = 0

    def open(self) -> EvidenceBuilder:
        """Open the log and start the attestor."""
        recipient = str(self.age.to_public())
        self.log = Log.open(
            self.directory,
            origin=self.origin,
            log_key=self.log_key,
            recipients=[recipient],
            openings_recipients=[recipient],
            settings=LogSettings(segment_bytes=SEGMENT_BYTES, ballast_bytes=SEGMENT_BYTES),
        )
        self.attestor = Attestor(
            "gw",
            [LogSource(self.log)],
            signer=KeylessSigner(self.sigstore.trust_config, lambda: self.sigstore.mint_token(GATEWAY)),
            trust=SigstoreTrust(self.sigstore.trust_config),
            rules=[IdentityRule(GATEWAY, DEFAULT_ISSUER)],
            every_s=self.attest_every_s,
        )
        self.attestor.start()
        self.keep_policy()
        return self

    @property
    def path(self) -> Path:
        """The log's directory."""
        return self.directory / self.origin

    def keep_policy(self) -> None:
        """Record and keep the policy bundle that the decisions name."""
        folder = self.path / "policy"
        folder.mkdir(exist_ok=True)
        (folder / f"{BUNDLE_DIGEST}.tar.gz").write_bytes(b"a policy bundle")
        self.log.submit("policy.loaded", {"bundle": BUNDLE_DIGEST}).result(WAIT_S)

    def open_session(self) -> SessionLog:
        """A session of an agent on the ledger."""
        return self.log.open_session({"subject": {"id": "corp/agent-1"}, "connection": "ledger"}, "head")

    def decide(self, session: SessionLog, effect: str = "allow", *, sql: str = "select 1", **fields: Any) -> str:
        """A decision record with its sealed input; returns the decision id."""
        self._count += 1
        decision_id = f"d-{self._count}"
        blob = session.put_blob("input", json.dumps({"sql": sql}).encode())
        record: dict[str, Any] = {
            "decision_id": decision_id,
            "phase": "request",
            "action": {"protocol": "postgres", "name": "query", "effects": ["read"]},
            "subject": {"id": "corp/agent-1"},
            "connection": "ledger",
            "digest": hashlib.sha256(sql.encode()).hexdigest(),
            "facts": {"statement_count": 1},
            "input": blob,
            "decision": {"effect": effect, "reasons": [{"rule": "ledger.read", "effect": "allow"}]},
            "bundle": BUNDLE_DIGEST,
            "engine": "regorus",
            "duration_ns": 1000,
            "cached": False,
            "release": "b",
            "replay": "exact",
        }
        session.submit("decision", record | fields)
        return decision_id

    def run(self, session: SessionLog, decision_id: str, output: bytes = b"1\n") -> None:
        """What a released action leaves: sent, its transcript, completed."""
        session.submit("outcome", {"decision_id": decision_id, "status": "sent"})
        transcript = Transcript(session, "head")
        transcript.begin(decision_id)
        transcript.write(output)
        session.submit("outcome", {"decision_id": decision_id, "status": "completed", "rows": 1, "transcript": transcript.end()})

    def approve(
        self,
        session: SessionLog,
        ticket: str,
        *,
        reviewer: str = REVIEWER,
        action: str = "delete from t",
        terms: Mapping[str, Any] | None = None,
    ) -> str:
        """A request for approval, the reviewer's answer, signed with `terms` replaced, and the grant; returns the bundle's digest."""
        action_digest = hashlib.sha256(f"salt {action}".encode()).hexdigest()
        self.decide(session, "require_approval", sql=action, ticket=ticket)
        session.submit("approval.requested", {"ticket": ticket, "action_digest": action_digest})
        answer: dict[str, Any] = {
            "action_digest": action_digest,
            "ticket": ticket,
            "decision": "approve",
            "policy_digest": BUNDLE_DIGEST,
            "nonce": f"nonce-{ticket}",
            "expires": datetime.now(UTC) + APPROVAL_LIFETIME,
            "connection": "ledger",
        } | dict(terms or {})
        signer = KeylessSigner(self.sigstore.trust_config, lambda: self.sigstore.mint_token(reviewer))
        digest = store_bundle(self.path, sign_statement(signer, ApprovalTerms(**answer)))
        granted = {
            "ticket": ticket,
            "action_digest": action_digest,
            "reviewer": reviewer,
            "statement": digest,
            "signed_on": "device",
        }
        session.submit("approval.granted", granted)
        return digest

    def write_session(self, actions: int = 3) -> str:
        """A whole session with a few allowed actions and a blocked one; returns its id."""
        session = self.open_session()
        for number in range(actions):
            self.run(session, self.decide(session), f"row {number}\n".encode())
        self.decide(session, "block", sql="drop table t", release="a")
        session.submit_close().result(WAIT_S)
        return session.sid

    def write_approved_session(self, ticket: str = "tk-1", **options: Any) -> str:
        """A session with an action that needed an approval and got it; returns its id."""
        session = self.open_session()
        self.approve(session, ticket, **options)
        self.run(session, self.decide(session, "allow", sql="delete from t", ticket=ticket, release="a"))
        session.submit_close().result(WAIT_S)
        return session.sid

    def close(self) -> None:
        """Close the log and attest its end."""
        self.log.close()
        if not self.attestor.stop(WAIT_S):
            raise RuntimeError(f"the end of the log is not attested: {self.attestor.last_error}")

    def trust(self, **changes: Any) -> TrustPolicy:
        """The pins that verify this evidence; `changes` replace some of them."""
        pins: dict[str, Any] = {
            "sigstore": SigstoreTrust(self.sigstore.trust_config),
            "log_keys": (self.log.verifier_key,),
            "gateway": (IdentityRule(GATEWAY, DEFAULT_ISSUER),),
            "reviewers": (IdentityRule("*@example.com", DEFAULT_ISSUER),),
            "accept_development": True,
        }
        return TrustPolicy(**pins | changes)
