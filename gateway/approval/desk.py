"""The desk where actions wait for a reviewer: ask, wait, vote, grant once.

The rules, each with its test:

1. A request is bound to one exact action by its digest; asking again for the same action finds the same request.
2. A reviewer votes with a statement signed by their own identity over that digest. The requester, and the person the requester acts for,
   never review their own request.
3. Every requirement policy made must be met: `count` different reviewers from its groups. One denial ends the request.
4. An approval is used once, before it expires, and policy is asked again with the grant before it is used.
5. Each step leaves a record before anyone acts on it.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from gateway.action import Action, Resource, Subject, commit_digest, format_time
from gateway.approval.store import ApprovalStore, Request, State, Vote
from gateway.decision import Decision, Requirement
from gateway.errors import ApprovalError
from gateway.messages import Signal

logger = logging.getLogger(__name__)

POLL_S: Final = 0.5
"""How often a wait looks at the database for a verdict that reached another worker."""

MAX_WAITERS: Final = 1_000
"""Actions that may wait at once; beyond it an action is refused with its ticket instead of waiting."""

MAX_STATEMENT_CHARS: Final = 32_768
"""A signed statement with its certificate and log proof takes about 6 kB."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What reviewers granted: who they are, until when, for which signed digest."""

    ticket: str
    digest: str
    reviewers: Sequence[Mapping[str, Any]]
    expires_ns: int
    break_glass: bool = False


@dataclass(frozen=True, slots=True)
class SignedVerdict:
    """What a verified reviewer statement says (in-toto, predicate approval/v1), and who signed it.

    Attributes:
        digest: the digest in the statement's subject.
        identity: the certificate's identity; `issuer` is the OIDC issuer that vouched for it.
    """

    digest: str
    ticket: str
    decision: Literal["approve", "deny"]
    nonce: str
    policy_digest: str
    identity: str
    issuer: str


VerifyStatement = Callable[[str, Subject], SignedVerdict]
"""Checks a Sigstore bundle against the gateway's trust, as signed by this reviewer; returns what it says, raises ApprovalError."""

StoreStatement = Callable[[str], str]
"""Keeps a verified bundle beside the records in evidence, durably, and returns its SHA-256 in hex."""

RecordEvent = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Makes one log-level record durable: (record type, fields)."""


class ApprovalDesk:
    """Keeps the requests of one gateway.

    Args:
        store: where requests and votes are kept.
        record: makes a record durable before anyone acts on it.
        verify_statement: checks a reviewer's signed statement.
        store_statement: keeps it in evidence before the record that names it.
        clock_ns: wall clock, nanoseconds since the epoch.
    """

    def __init__(
        self,
        store: ApprovalStore,
        *,
        record: RecordEvent,
        verify_statement: VerifyStatement,
        store_statement: StoreStatement,
        clock_ns: Callable[[], int],
    ) -> None:
        self._store = store
        self._record = record
        self._verify_statement = verify_statement
        self._store_statement = store_statement
        self._clock_ns = clock_ns
        self._changed: dict[str, asyncio.Event] = {}
        self._waiters = 0
        self._asking = asyncio.Lock()

    async def request(
        self, *, subject: Subject, resource: Resource, action: Action, digest: bytes, decision: Decision, session_id: str
    ) -> Request:
        """The request for exactly this action that still stands, else a new one, recorded."""
        async with self._asking:  # two identical statements at once must share one ticket
            await self.expire_due()
            found = await asyncio.to_thread(
                self._store.find_open, subject.id, resource.connection, digest.hex(), self._clock_ns()
            )
            if found is not None:
                return found
            request = _make_request(subject, resource, action, digest, decision, session_id, self._clock_ns())
            await self._record("approval.requested", _event_fields(request) | {"requirements": request.document["requirements"]})
            await asyncio.to_thread(self._store.insert, request)
            return request

    async def add_preview(self, ticket: str, preview: Mapping[str, object]) -> None:
        """Keep with an open request what its reviewers are to be shown."""
        request = await self.read(ticket)
        if request.state == "pending" and not request.has_preview:
            document = {**request.document, "preview": dict(preview)}
            await asyncio.to_thread(self._store.move, ticket, ("pending",), "pending", document)

    async def show_effect(self, ticket: str, effect: Mapping[str, object]) -> bool:
        """Keep what an action did that ran before its approval. A request shows one effect in its life.

        Returns False where it shows another one, and closes it then: its reviewers must not grant what they were not shown.
        """
        async with self._asking:
            request = await self.read(ticket)
            if request.effect is not None and dict(request.effect) != dict(effect):
                await self._expire(request)
                return False
            if request.effect is not None:
                return request.state in {"pending", "approved"}
            document = {**request.document, "preview": {**request.document.get("preview", {}), "effect": dict(effect)}}
            return await asyncio.to_thread(self._store.move, ticket, ("pending",), "pending", document)

    async def wait(self, ticket: str, timeout_s: float, abandoned: Signal | None) -> Request:
        """The request after a verdict, the time-out, its expiry, or the client's leaving, whichever comes first."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        if self._waiters >= MAX_WAITERS:
            return await self.read(ticket)
        self._waiters += 1
        try:
            while True:
                request = await self.read(ticket)
                left_s = deadline - asyncio.get_running_loop().time()
                if request.state != "pending" or left_s <= 0 or (abandoned is not None and abandoned.is_set()):
                    return request
                await self._sleep_until_change(ticket, min(left_s, POLL_S), abandoned)
        finally:
            self._waiters -= 1

    async def read(self, ticket: str) -> Request:
        """One request as it stands now. Raises ApprovalError where there is none."""
        request = await asyncio.to_thread(self._store.read, ticket)
        if request is None:
            raise ApprovalError(f"there is no approval request {ticket}", fix="list the open ones with `sealgate approvals list`")
        if request.state in {"pending", "approved"} and request.expires_ns <= self._clock_ns():
            await self._expire(request)
            return replace(request, state="expired")
        return request

    async def list_requests(self, states: Sequence[State], limit: int = 100) -> list[Request]:
        """Requests in any of these states, newest first."""
        await self.expire_due()
        return await asyncio.to_thread(self._store.list_requests, states, limit)

    async def list_votes(self, ticket: str) -> list[Vote]:
        """The votes on one request, oldest first."""
        return await asyncio.to_thread(self._store.list_votes, ticket)

    async def vote(self, ticket: str, reviewer: Subject, statement: str, note: str | None = None) -> Request:
        """Count a reviewer's signed verdict.

        Raises:
            ApprovalError: the request is closed, the reviewer may not review it, or the statement does not cover it.
        """
        request = await self.read(ticket)
        if request.state != "pending":
            raise ApprovalError(f"request {ticket} is {request.state}", fix="nothing is left to review")
        requirements = read_requirements(request)
        check_reviewer(request, reviewer, requirements)
        verdict = await asyncio.to_thread(self._check_statement, request, reviewer, statement)
        vote = Vote(
            ticket,
            reviewer.id,
            self._clock_ns(),
            {
                "decision": verdict.decision,
                "groups": list(reviewer.groups),
                "note": note,
                "statement": statement,
                "signed_on": "device",
            },
        )
        kind = "approval.granted" if verdict.decision == "approve" else "approval.denied"
        fields = _event_fields(request) | {
            "reviewer": reviewer.id,
            "reviewer_groups": list(reviewer.groups),
            "reviewer_identity": verdict.identity,
            "reviewer_issuer": verdict.issuer,
            "signed_on": "device",
        }
        known = await self.list_votes(ticket)
        if any(other.reviewer == reviewer.id for other in known):
            raise ApprovalError(f"{reviewer.id} has voted on {ticket} already", fix="another reviewer must vote")
        fields["statement"] = await asyncio.to_thread(self._store_statement, statement)
        await self._record(kind, fields)
        if not await asyncio.to_thread(self._store.add_vote, vote):
            raise ApprovalError(f"{reviewer.id} has voted on {ticket} already", fix="another reviewer must vote")
        await self._settle(request, requirements, note)
        return await self.read(ticket)

    async def read_grant(self, ticket: str) -> Grant | None:
        """What the reviewers of an approved request granted; nothing is used up."""
        request = await self.read(ticket)
        if request.state != "approved":
            return None
        votes = [vote for vote in await self.list_votes(ticket) if vote.document["decision"] == "approve"]
        reviewers = [{"id": vote.reviewer, "groups": vote.document["groups"]} for vote in votes]
        return Grant(ticket, request.digest, reviewers, request.expires_ns)

    async def consume(self, ticket: str) -> Grant | None:
        """Use up an approved, unexpired, unused request; None when it is not one any more."""
        grant = await self.read_grant(ticket)
        if grant is None or not await asyncio.to_thread(self._store.move, ticket, ("approved",), "used"):
            return None
        self._notify(ticket)
        return grant

    async def expire_due(self) -> None:
        """Close every request past its expiry, each with its record."""
        for request in await asyncio.to_thread(self._store.list_due, self._clock_ns()):
            await self._expire(request)

    async def _expire(self, request: Request) -> None:
        if await asyncio.to_thread(self._store.move, request.id, ("pending", "approved"), "expired"):
            await self._record("approval.expired", _event_fields(request))
            self._notify(request.id)

    async def _settle(self, request: Request, requirements: Sequence[Requirement], note: str | None) -> None:
        votes = await self.list_votes(request.id)
        if any(vote.document["decision"] == "deny" for vote in votes):
            document = dict(request.document) | ({"verdict_note": note} if note else {})
            await asyncio.to_thread(self._store.move, request.id, ("pending",), "denied", document)
        elif are_requirements_met(requirements, votes):
            await asyncio.to_thread(self._store.move, request.id, ("pending",), "approved")
        self._notify(request.id)

    def _check_statement(self, request: Request, reviewer: Subject, statement: str) -> SignedVerdict:
        if len(statement) > MAX_STATEMENT_CHARS:
            raise ApprovalError("the signed statement is too large", why=f"more than {MAX_STATEMENT_CHARS} characters")
        verdict = self._verify_statement(statement, reviewer)
        expected = (request.digest, request.id, request.document["nonce"], request.document["policy_digest"])
        if (verdict.digest, verdict.ticket, verdict.nonce, verdict.policy_digest) != expected:
            raise ApprovalError(
                "the signed statement covers another action",
                why="digest, ticket, nonce or policy differ",
                fix="review the request again",
            )
        if verdict.identity not in {reviewer.email, reviewer.sub} or verdict.issuer != reviewer.issuer:
            raise ApprovalError(
                "the statement was signed by somebody else",
                why=f"signed by {verdict.identity}, presented by {reviewer.id}",
                fix="sign with the identity of your own token",
            )
        return verdict

    async def _sleep_until_change(self, ticket: str, timeout_s: float, abandoned: Signal | None) -> None:
        changed = self._changed.setdefault(ticket, asyncio.Event())
        signals: list[Signal] = [changed] if abandoned is None else [changed, abandoned]
        waits = [asyncio.ensure_future(signal.wait()) for signal in signals]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _notify(self, ticket: str) -> None:
        changed = self._changed.pop(ticket, None)
        if changed is not None:
            changed.set()


def check_reviewer(request: Request, reviewer: Subject, requirements: Sequence[Requirement]) -> None:
    """Refuse a reviewer who asked for the action, on whose behalf it was asked, or whom no requirement names. Raises ApprovalError."""
    own = {request.subject, request.document.get("on_behalf_of"), request.document.get("person")} - {None}
    identities = {reviewer.id, reviewer.person, reviewer.on_behalf_of, reviewer.email} - {None}
    if own & identities:
        raise ApprovalError(
            "a request cannot be reviewed by the one who made it",
            why=f"{reviewer.id} is, or acts for, the requester",
            fix="another reviewer must vote",
        )
    wanted = {group for requirement in requirements for group in requirement.groups}
    if not wanted & set(reviewer.groups):
        raise ApprovalError(
            f"{reviewer.id} may not review {request.id}",
            why=f"it needs a reviewer from {', '.join(sorted(wanted))}",
            fix="ask a member of one of these groups",
        )


def are_requirements_met(requirements: Sequence[Requirement], votes: Sequence[Vote]) -> bool:
    """Whether every requirement has enough different approving reviewers from its groups."""
    approving = [vote for vote in votes if vote.document["decision"] == "approve"]
    return all(
        len({vote.reviewer for vote in approving if set(vote.document["groups"]) & set(requirement.groups)}) >= requirement.count
        for requirement in requirements
    )


def read_requirements(request: Request) -> tuple[Requirement, ...]:
    """The requirements a request was made with."""
    return tuple(
        Requirement(item["rule"], tuple(item["groups"]), item["count"], item["ttl_s"], item["scope"])
        for item in request.document["requirements"]
    )


def _make_request(
    subject: Subject, resource: Resource, action: Action, digest: bytes, decision: Decision, session_id: str, now_ns: int
) -> Request:
    salt = secrets.token_bytes(32)
    ttl_s = min(requirement.ttl_s for requirement in decision.requirements)
    lead = decision.lead_reason()
    document = {
        "on_behalf_of": subject.on_behalf_of,
        "person": subject.person,
        "resource": resource.as_input(),
        "protocol": action.protocol,
        "action": {"name": action.name, "effects": sorted(action.effects)},
        "facts": dict(action.facts),
        "canonical": dict(action.canonical),
        "requirements": decision.as_record()["approval"]["requirements"],
        "rule": lead.rule,
        "message": lead.message,
        "policy_digest": decision.bundle_digest,
        "nonce": secrets.token_hex(16),
        "salt": salt.hex(),
        "session_id": session_id,
        "requested_at": format_time(now_ns),
        "expires_at": format_time(now_ns + ttl_s * 1_000_000_000),
    }
    ticket = "AR-" + base64.b32encode(secrets.token_bytes(5)).decode()
    expires_ns = now_ns + ttl_s * 1_000_000_000
    return Request(
        ticket,
        "pending",
        now_ns,
        expires_ns,
        subject.id,
        resource.connection,
        digest.hex(),
        commit_digest(digest, salt),
        document,
    )


def _event_fields(request: Request) -> dict[str, Any]:
    return {
        "ticket": request.id,
        "action_digest": request.digest,
        "subject": request.subject,
        "connection": request.connection,
        "rule": request.document["rule"],
        "policy_digest": request.document["policy_digest"],
        "nonce": request.document["nonce"],
        "expires_at": request.document["expires_at"],
        "session_id": request.document["session_id"],
    }
