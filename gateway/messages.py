"""Host-neutral values that protocols, the pipeline and the hosts hand to one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


class Signal(Protocol):
    """What happens once and can be waited for: an `asyncio.Event`, or a `gateway.serve.latch.Latch`."""

    def is_set(self) -> bool:
        """Whether it has happened."""

    async def wait(self) -> bool:
        """Wait until it has; true."""


RefusalKind = Literal["denied", "approval", "evidence", "identity", "target", "protocol", "limit", "cancelled"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an action does not happen, in words a person can act on; each protocol's `enforce` says it in its own form.

    Attributes:
        kind: which family the refusal belongs to; picks the client's error code.
        rule: the policy rule or the built-in cause that refused.
        what: what was blocked, structure only, never a value of the payload.
        why: the rule's message or the cause.
        fix: what to do next.
        decision_id: names the record in evidence.
        ticket: the approval request a reviewer can act on, where there is one.
        retry_after_s: when asking again may be worth it.
    """

    kind: RefusalKind
    rule: str
    what: str
    why: str
    fix: str
    decision_id: str
    ticket: str | None = None
    retry_after_s: int | None = None


OutcomeStatus = Literal["completed", "failed", "withheld", "refused", "cancelled", "unknown"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an action that was let through ended, as the host saw it.

    Attributes:
        tag: the target's own summary, such as "SELECT 3".
        rows: rows delivered to the agent.
        bytes_out: bytes of rows delivered to the agent.
        masked: masked cells by rule id.
        detected: findings by detector name.
        error_code: the target's error code, such as a SQLSTATE; never its text.
        rows_cut: rows the target sent that were left out because a rule has results end after a number of rows.
        cut_by: that rule.
        transcript: masked rows as recorded, JSON lines in UTF-8.
        transcript_truncated: whether the transcript stops before the rows did.
        stream: what a streamed transcript and the streams of the action amounted to: counts, keyed digests.
    """

    status: OutcomeStatus
    tag: str | None = None
    rows: int = 0
    bytes_out: int = 0
    masked: Mapping[str, int] = field(default_factory=dict)
    detected: Mapping[str, int] = field(default_factory=dict)
    error_code: str | None = None
    transcript: bytes = b""
    transcript_truncated: bool = False
    stream: Mapping[str, Any] = field(default_factory=dict)
    rows_cut: int = 0
    cut_by: str | None = None


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as a carrier parsed it; what the protocols over HTTP read.

    Attributes:
        target: path and query as the client sent them.
        headers: lower-case names, in order; pseudo-headers of HTTP/2 are not among them.
        body: whole, its content coding undone; empty before it was read.
    """

    method: str
    scheme: str
    host: str
    port: int
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    http_version: str = "HTTP/1.1"

    def find_header(self, name: str) -> str | None:
        """The first value of a field, by its lower-case name."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response, to a client or from a service; `headers` as in `HttpRequest`."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def find_header(self, name: str) -> str | None:
        """The first value of a field, by its lower-case name."""
        return next((value for key, value in self.headers if key == name), None)
