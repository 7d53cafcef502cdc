"""What the pipeline asks of the parts around it, as the pipeline sees them; each docstring is the contract the part keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from sealgate_native.record import Chain

from evidence.drafts import Drafts
from gateway.action import Action, Lookup, Resource, Subject
from gateway.decision import Decision, Enforceable
from gateway.messages import Refusal, Signal
from gateway.refusal import Ticket


class Door(Protocol):
    """What one protocol's host brings to the pipeline for one session."""

    @property
    def enforceable(self) -> Enforceable:
        """Which masks and obligations this protocol can carry out."""

    def lookups(self, event: Any) -> Sequence[Lookup]:
        """Which facts of the target `describe` needs for this event. Pure."""

    async def look_up(self, lookup: Lookup) -> object:
        """Ask the target with the gateway's own credential and a deadline. Raises TargetError."""

    def describe(self, event: Any, facts: Mapping[str, object]) -> Action:
        """The action this event attempts, given the facts by look-up kind. Pure."""

    def may_hold(self) -> bool:
        """Whether the action can wait for a reviewer: never inside an open transaction."""


@runtime_checkable
class PreviewingDoor(Protocol):
    """A door that can show a reviewer what an action would do, without doing it."""

    async def preview(self, action: Action, decision: Decision) -> Mapping[str, object] | None:
        """What the target says the action would do, asked with the gateway's own credential; None where nothing can be asked."""


@dataclass(frozen=True, slots=True)
class Held:
    """An action that ran inside a transaction before its approval.

    Attributes:
        ticket: its request.
        decision: what policy said of it, which asks for the approval.
        effect: what it did, as its reviewers are shown it; None while the target has not said so.
    """

    ticket: str
    action: Action
    decision: Decision
    effect: Mapping[str, object] | None = None


@runtime_checkable
class HoldingDoor(Door, Protocol):
    """A door that can run an action before its approval, keep its effect undone, and take it back."""

    def choose_hold(self, action: Action, decision: Decision) -> Literal["at_once", "until_commit"] | None:
        """Where the effect of the action just described can wait: in a transaction of its own, or in its client's; None for nowhere."""

    async def run_held(self, action: Action, decision: Decision, ticket: str) -> Mapping[str, object] | Refusal:
        """Run it in a transaction of its own and say what it did; in its client's only get ready for it. Raises TargetError."""

    def find_held(self, action: Action) -> Sequence[Held]:
        """What the client's transaction holds, where the action just described would keep it."""

    async def prolong(self) -> None:
        """Keep the client's transaction open for a wait that begins now. Raises TargetError."""


class Grant(Protocol):
    """A reviewed request that may be used once."""

    @property
    def ticket(self) -> str:
        """The request it comes from."""

    @property
    def digest(self) -> str:
        """What the reviewers signed."""

    @property
    def reviewers(self) -> Sequence[Mapping[str, Any]]:
        """Who granted it: {id, groups} each."""

    @property
    def expires_ns(self) -> int:
        """When it ends, nanoseconds since the epoch."""

    @property
    def break_glass(self) -> bool:
        """Whether it was taken in an emergency, without a review."""


class ApprovalDesk(Protocol):
    """Where requests for review are kept; `gateway.approval` implements it."""

    async def request(
        self, *, subject: Subject, resource: Resource, action: Action, digest: bytes, decision: Decision, session_id: str
    ) -> Ticket:
        """The open request for exactly this action: an earlier one where it still waits or stands approved, else a new one."""

    async def add_preview(self, ticket: str, preview: Mapping[str, object]) -> None:
        """Keep with an open request what its reviewers are to be shown."""

    async def show_effect(self, ticket: str, effect: Mapping[str, object]) -> bool:
        """Keep what an action did that ran before its approval; False, and the request is closed, where another effect was kept."""

    async def read(self, ticket: str) -> Ticket:
        """One request as it stands now."""

    async def wait(self, ticket: str, timeout_s: float, abandoned: Signal | None) -> Ticket:
        """The request after a verdict, the time-out, its expiry, or the client's leaving, whichever comes first."""

    async def read_grant(self, ticket: str) -> Grant | None:
        """What the reviewers of an approved request granted; nothing is used up."""

    async def consume(self, ticket: str) -> Grant | None:
        """Use up an approved, unexpired, unused request; None when it is not one any more. Atomic."""


class DecisionPoint(Protocol):
    """Where policy is asked; `gateway.policy.decide` implements it. Never raises: a failure is a block with its cause."""

    async def decide(self, document: Mapping[str, Any], enforceable: Enforceable) -> Decision:
        """The checked decision for one input document."""

    def may_ask(self, subject_key: str) -> bool:
        """Whether a kept decision may be used for this subject."""

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call back whenever `may_ask` may have become false for somebody."""

    def judges_alike(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Whether two documents agree in everything that any rule reads."""


class Receipt(Protocol):
    """Where a durable record lies in the log."""

    index: int


class TranscriptWriter(Protocol):
    """The transcript of one action while it runs; what is written leaves in chunks, so that a crash loses a second at most."""

    def write(self, data: bytes) -> None:
        """Add bytes, masked already. Raises EvidenceUnavailableError once the log has failed: nothing more may be delivered then."""

    def close(self) -> Mapping[str, Any]:
        """End it: bytes written, bytes kept, a keyed digest of all of them. Raises EvidenceUnavailableError."""


class SessionRecorder(Protocol):
    """The evidence of one session; `evidence.log` implements it. Raises EvidenceUnavailableError once the log has failed."""

    session_id: str

    def append(self, kind: str, fields: Mapping[str, Any]) -> asyncio.Future[Receipt]:
        """Queue one record; the future ends when it is durable."""

    def put_blob(self, kind: str, data: bytes) -> dict[str, Any]:
        """Queue encrypted bytes that the next record refers to; returns the reference that record carries."""

    def open_transcript(self, decision_id: str) -> TranscriptWriter:
        """The transcript of one action that runs for a while; several may be open at once."""

    def commit(self, digest: bytes) -> str:
        """The digest as the record holds it: keyed with the session's salt, in hex."""

    def append_drafts(self, drafts: Drafts) -> asyncio.Future[Receipt]:
        """Queue records that were made ready from templates; the future ends when all of them are durable."""

    def lend(self) -> Chain:
        """Have native code append to the session until `take_back`; nothing else may meanwhile."""

    def take_back(self) -> None:
        """Go on after whatever was appended meanwhile."""

    def hurry(self) -> None:
        """Have what is queued made durable now: somebody waits for it."""

    @property
    def salt(self) -> bytes:
        """What `commit` keys with, for records made from templates."""

    def is_ready(self, *, for_effects: bool) -> bool:
        """Whether records are taken at the moment; those that let an effect through also need a recent attestation."""

    @property
    def is_crowded(self) -> bool:
        """Whether so many records wait to be published that whoever can wait with more should."""

    def close(self, fields: Mapping[str, Any]) -> asyncio.Future[Receipt]:
        """Queue the session's last record."""
