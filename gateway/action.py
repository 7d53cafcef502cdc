"""The action: one attempted operation, and the input document that policy reads about it (`sealgate.input/1`).

A protocol's `describe` makes an `Action`; the pipeline adds who asks (`Subject`), what for (`Resource`) and when (`Context`),
and `build_input` puts the four together. Unknown or not applicable means absent: never null, never empty.
`facts` hold structure only (names, counts, flags) and are never masked; text, parameters and bodies belong in `payload`.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import orjson

INPUT_SCHEMA: Final = "sealgate.input/1"

EFFECTS: Final = frozenset(
    {"read", "write", "define", "execute", "file", "program", "export", "session", "lock", "privilege", "network", "unknown"}
)
"""The closed set of effects. Every protocol maps every operation to a non-empty subset."""

PROTOCOLS: Final = ("postgres", "ssh", "git", "kubernetes", "registry", "aws", "http")

Phase = Literal["session", "request", "response"]
ParseStatus = Literal["ok", "partial", "failed"]


BEYOND_LIMIT: Final = "too "
"""What a `parse_reason` begins with where a bound of the reader is what stopped it: the text itself may be right."""


@dataclass(frozen=True, slots=True)
class Carrier:
    """The action of the protocol that carries this one, such as the ssh exec that carries a git push."""

    protocol: str
    action_id: str


@dataclass(frozen=True, slots=True)
class Subject:
    """Who the action is decided for, built from a verified token.

    Attributes:
        id: "<issuer alias>/<sub>".
        kind: "agent", "service" or "human".
        groups: sorted, without repeats.
        claims: only claims the configuration allow-lists.
        expires_ns: when the proof of identity ends, nanoseconds since the epoch; never part of the input document.
        run_id: the run this token belongs to: a configured claim, else the token's `jti`; absent when neither is there.
        token_id: a salted reference to the token for the record, never the token.
    """

    id: str
    kind: Literal["agent", "service", "human"]
    issuer: str
    sub: str
    groups: tuple[str, ...] = ()
    person: str | None = None
    on_behalf_of: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    expires_ns: int = 0
    run_id: str | None = None
    email: str | None = None

    def as_input(self) -> dict[str, Any]:
        """The `subject` member of the input document."""
        return _present(
            id=self.id,
            kind=self.kind,
            person=self.person,
            on_behalf_of=self.on_behalf_of,
            groups=list(self.groups) or None,
            claims=dict(self.claims) or None,
        )


@dataclass(frozen=True, slots=True)
class Resource:
    """The registered connection an action goes to."""

    connection: str
    type: str
    environment: str
    risk: Literal["low", "medium", "high", "critical"]
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_input(self) -> dict[str, Any]:
        """The `resource` member of the input document."""
        return _present(
            connection=self.connection,
            type=self.type,
            environment=self.environment,
            risk=self.risk,
            labels=dict(self.labels) or None,
        )


@dataclass(frozen=True, slots=True)
class Action:
    """One attempted operation, protocol-neutral.

    Attributes:
        name: the verb of the operation, such as "postgres.query".
        effects: non-empty subset of `EFFECTS`.
        facts: structure only, never literals or text.
        payload: text, parameters, bodies.
        canonical: what the approval digest covers of this action (design section 3), JSON-able, no session, time or ids.
        response: facts of the answer, in the response phase only.
        harmless_read: effects are exactly {"read"} and every function is known harmless, so release point (b) applies.
        parse_reason: why it could not be read, where it could not; begins with `BEYOND_LIMIT` where it is only too much.
        terms: what an approval covers beside `canonical`, and the digest of other records does not: what the session makes of the action.
        title: what a person would call the action, structure only; None where facts name its statements.
        unclear: why its effect is unknown although it was read, and what to write instead; None where nobody can say.
    """

    protocol: str
    phase: Phase
    name: str
    effects: frozenset[str]
    facts: Mapping[str, Any]
    payload: Mapping[str, Any] = field(default_factory=dict)
    canonical: Mapping[str, Any] = field(default_factory=dict)
    terms: Mapping[str, Any] = field(default_factory=dict)
    response: Mapping[str, Any] | None = None
    parse_status: ParseStatus = "ok"
    parse_reason: str | None = None
    carrier: Carrier | None = None
    harmless_read: bool = False
    title: str | None = None
    unclear: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """When and in which session the action is attempted."""

    now_ns: int
    session_id: str
    session_started_at: str
    client_ip: str
    run_id: str | None = None
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lookup:
    """One question for the target that `describe` needs answered; `serve` executes it with the gateway's own credential.

    Attributes:
        kind: names the executor, such as "postgres.catalog".
        key: what the answer is cached under, JSON-able.
    """

    kind: str
    key: Mapping[str, Any]


def build_input(action: Action, subject: Subject, resource: Resource, context: Context) -> dict[str, Any]:
    """The `sealgate.input/1` document for one action, as policy evaluates it."""
    unknown = set(action.effects) - EFFECTS
    effects = sorted((set(action.effects) & EFFECTS) | ({"unknown"} if unknown or not action.effects else set()))
    session = _present(id=context.session_id, started_at=context.session_started_at, counters=dict(context.counters) or None)
    protocol = _present(facts=dict(action.facts), payload=dict(action.payload) or None, response=action.response)
    return _present(
        schema=INPUT_SCHEMA,
        phase=action.phase,
        protocol=action.protocol,
        carrier=None if action.carrier is None else {"protocol": action.carrier.protocol, "action_id": action.carrier.action_id},
        subject=subject.as_input(),
        resource=resource.as_input(),
        action={"name": action.name, "effects": effects},
        context=_present(
            now=format_time(context.now_ns),
            now_ns=context.now_ns,
            run=None if context.run_id is None else {"id": context.run_id},
            session=session,
            client={"ip": context.client_ip},
            parse=_present(status=action.parse_status, reason=action.parse_reason),
        ),
        **{action.protocol: protocol},
    )


def cover(action: Action) -> Action:
    """The action as its reviewers are shown it and as their approval covers it: with its terms."""
    return replace(action, canonical={**action.canonical, **action.terms}) if action.terms else action


def compute_action_digest(action: Action, subject: Subject, resource: Resource) -> bytes:
    """SHA-256 over who acts, for whom, on what connection, and the canonical action (design section 3).

    Never covers session, time, ids or transport, so that a retry of the same action has the same digest.
    """
    material = digest_material(action, subject, resource)
    return hashlib.sha256(orjson.dumps(material, option=orjson.OPT_SORT_KEYS)).digest()


def digest_material(action: Action, subject: Subject, resource: Resource) -> dict[str, Any]:
    """What the action digest covers."""
    return _present(
        schema="sealgate.action-digest/1",
        subject=subject.id,
        on_behalf_of=subject.on_behalf_of,
        connection=resource.connection,
        protocol=action.protocol,
        action=action.name,
        canonical=dict(action.canonical),
    )


def commit_digest(digest: bytes, salt: bytes) -> str:
    """What the record holds of a digest: its HMAC-SHA256 under a session's or ticket's salt, as lower-case hex.

    A bare digest of a short payload could be guessed.
    """
    return hmac.new(salt, digest, hashlib.sha256).hexdigest()


def format_time(now_ns: int) -> str:
    """RFC 3339 in UTC with microseconds, for example 2026-11-21T04:00:00.000000Z."""
    seconds, rest_ns = divmod(now_ns, 1_000_000_000)
    return f"{_format_second(seconds)}.{rest_ns // 1000:06d}Z"


@functools.lru_cache(maxsize=4)  # a busy gateway asks for the same second thousands of times
def _format_second(seconds: int) -> str:
    return f"{dt.datetime.fromtimestamp(seconds, tz=dt.UTC):%Y-%m-%dT%H:%M:%S}"


def _present(**members: Any) -> dict[str, Any]:
    """The members that have a value: absent means unknown or not applicable."""
    return {name: value for name, value in members.items() if value is not None}


def sort_unique(values: Sequence[str]) -> tuple[str, ...]:
    """Names in a fixed order without repeats, as groups and effects appear in documents."""
    return tuple(sorted(set(values)))
