"""The record types of the log: which fields each must have, and the envelope the log adds to them.

A record is one JSON object. The log adds the envelope (`ENVELOPE`): `v`, `type`, `seq` (index in the log), `sid`, `sseq` and `sprev`
(place in its session, and the leaf hash of the record before it there), `ts` and `mono_us`. Producers give the rest; fields beyond
the required ones are allowed and readers ignore those they do not know. `docs/evidence-format.md`, section 4.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NotRequired, TypedDict

from evidence.errors import RecordError

VERSION: Final = 1
"""Version of the record format; the `v` of every record."""

LOG_SID: Final = "log"
"""The chain of records that belong to no session (log.open, heartbeat, policy.loaded, ...)."""

ENVELOPE: Final = frozenset({"v", "type", "seq", "sid", "sseq", "sprev", "ts", "mono_us"})
"""Names the log writes itself; producers may not use them."""

Phase = Literal["session", "request", "response"]
Status = Literal["sent", "completed", "failed", "withheld", "refused", "cancelled", "unknown"]
TranscriptMode = Literal["none", "summary", "head", "full"]

FINAL_STATUSES: Final = frozenset({"completed", "failed", "withheld", "refused", "cancelled", "unknown"})
"""Outcomes after which nothing more is expected; `sent` is followed by one of these."""


class BlobRef(TypedDict):
    """How a record names a session chunk: its number, the SHA-256 of its ciphertext (hex), its length as plain text.

    `base` is the number of the earlier chunk it is packed against, if any.
    """

    n: int
    sha256: str
    bytes: int
    base: NotRequired[int]


class DecisionFields(TypedDict):
    """A `decision` record. `facts` hold structure, never literals; `digest` is the action digest's HMAC under the session salt."""

    decision_id: str
    phase: Phase
    action: dict[str, Any]
    subject: Any
    connection: str
    digest: str
    facts: dict[str, Any]
    input: BlobRef
    decision: dict[str, Any]
    bundle: str
    engine: str
    duration_ns: int
    cached: bool
    release: Literal["a", "b"]
    replay: Literal["exact", "same-on-masked", "needs-openings"]
    on_behalf_of: NotRequired[str]
    cause: NotRequired[str]
    ticket: NotRequired[str]


class OutcomeFields(TypedDict):
    """An `outcome` record: what became of a decision; counts are rows, bytes, masked cells per rule, findings per detector."""

    decision_id: str
    status: Status
    tag: NotRequired[str]
    rows: NotRequired[int]
    bytes: NotRequired[int]
    masked: NotRequired[dict[str, int]]
    detected: NotRequired[dict[str, int]]
    error_code: NotRequired[str]


class ApprovalFields(TypedDict):
    """An `approval.*` record. `signed_on` says whose hands made the signature; only `device` is out of the gateway's reach."""

    ticket: str
    decision_id: NotRequired[str]
    action_digest: NotRequired[str]
    reviewer: NotRequired[str]
    statement: NotRequired[str]
    signed_on: NotRequired[Literal["device", "console"]]
    expires_at: NotRequired[str]


class ChunkFields(TypedDict):
    """A `transcript.chunk` record: one chunk of transcript and the span of the stream it holds."""

    chunk: BlobRef
    offset: int
    first_ts: str
    last_ts: str
    decision_id: NotRequired[str]


class GapFields(TypedDict):
    """A `gap` record: the log admits that something is missing, and how much at most."""

    reason: Literal["torn-tail", "transcript-tail", "unwritten"]
    session: NotRequired[str]
    bytes: NotRequired[int]
    sha256: NotRequired[str]
    records: NotRequired[int]
    after_chunk: NotRequired[int]
    max_bytes: NotRequired[int]
    max_ms: NotRequired[int]


_Kinds = type | tuple[type, ...]

REQUIRED: Final[Mapping[str, Mapping[str, _Kinds]]] = {
    "log.open": {"origin": str, "recovered": dict},
    "session.open": {"dek_commit": str, "recipients": list, "transcript": str},
    "decision": {
        "decision_id": str,
        "phase": str,
        "action": dict,
        "subject": (str, dict),
        "connection": str,
        "digest": str,
        "facts": dict,
        "input": dict,
        "decision": dict,
        "bundle": str,
        "engine": str,
        "duration_ns": int,
        "cached": bool,
        "release": str,
        "replay": str,
    },
    "refusal": {"decision_id": str, "connection": str, "code": str, "why": str},
    "login.refused": {"decision_id": str, "protocol": str, "client_ip": str, "code": str, "why": str},
    "lookup": {"kind": str},
    "certificate.issued": {"subject": str, "expires_at": str},
    "approval.requested": {"ticket": str},
    "approval.granted": {"ticket": str},
    "approval.denied": {"ticket": str},
    "approval.expired": {"ticket": str},
    "outcome": {"decision_id": str, "status": str},
    "transcript.chunk": {"chunk": dict, "offset": int, "first_ts": str, "last_ts": str},
    "session.close": {"reason": str},
    "policy.loaded": {"bundle": str},
    "trust.rotated": {},
    "heartbeat": {},
    "gap": {"reason": str},
    "config.changed": {},
    "evidence.degraded": {"reason": str},
    "retention.shred": {"session": str, "rule": str},
}
"""Record types and the fields each must have, with their kinds."""

_CLOSED: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("decision", "phase"): frozenset({"session", "request", "response"}),
    ("decision", "release"): frozenset({"a", "b"}),
    ("decision", "replay"): frozenset({"exact", "same-on-masked", "needs-openings"}),
    ("outcome", "status"): frozenset({"sent"}) | FINAL_STATUSES,
    ("session.open", "transcript"): frozenset({"none", "summary", "head", "full"}),
}

# The same tables as tuples: `check` runs for every record.
_FIELDS: Final = {kind: tuple(fields.items()) for kind, fields in REQUIRED.items()}
_CHOICES: Final = {kind: tuple((field, allowed) for (of, field), allowed in _CLOSED.items() if of == kind) for kind in REQUIRED}


def check(kind: str, fields: Mapping[str, Any]) -> None:
    """Refuse a record of unknown type, without a required field, or with one of the wrong kind.

    Raises:
        RecordError: names the type and the field.
    """
    required = _FIELDS.get(kind)
    if required is None:
        raise RecordError(f"{kind!r} is not a record type", fix=f"use one of {', '.join(sorted(REQUIRED))}")
    for name, expected in required:
        value = fields.get(name)
        if type(value) is not expected and (not isinstance(value, expected) or isinstance(value, bool)):
            raise RecordError(
                f"a {kind} record needs {name!r}",
                why="it is missing" if value is None else f"it is a {type(value).__name__}",
                fix="give every required field of docs/evidence-format.md, section 4",
            )
    for name, allowed in _CHOICES[kind]:
        if fields[name] not in allowed:
            raise RecordError(f"{fields[name]!r} is no {name} of a {kind} record", fix=f"use one of {', '.join(sorted(allowed))}")
    if not ENVELOPE.isdisjoint(fields):
        raise RecordError(
            f"a {kind} record may not set {', '.join(sorted(ENVELOPE & fields.keys()))}", fix="the log writes these fields itself"
        )


def expects_outcome(fields: Mapping[str, Any]) -> bool:
    """Whether a decision record releases an action, so that an outcome must follow: a request that was not blocked, held or refused."""
    is_released = fields["decision"].get("effect") in ("allow", "mask") and fields.get("refused") is not True
    return fields["phase"] == "request" and is_released


def format_time(now_ns: int) -> str:
    """RFC 3339 in UTC with microseconds, for example 2026-11-21T04:00:00.000000Z."""
    seconds, rest_ns = divmod(now_ns, 1_000_000_000)
    return f"{_format_second(seconds)}.{rest_ns // 1000:06d}Z"


def half_year(now_ns: int) -> str:
    """The half-year a log belongs to, for example 2026h2: the middle part of an origin."""
    moment = dt.datetime.fromtimestamp(now_ns // 1_000_000_000, tz=dt.UTC)
    return f"{moment.year}h{1 if moment.month <= 6 else 2}"  # noqa: PLR2004 - June ends the first half


def is_origin_of(origin: str, gateway: str) -> bool:
    """Whether a name is one that `make_origin` gives a log of this gateway."""
    return re.fullmatch(re.escape(gateway) + r"/[0-9]{4}h[12]/w[0-9]+", origin) is not None


def make_origin(gateway: str, now_ns: int, worker: int) -> str:
    """The origin of one worker's log: `<gateway>/<half-year>/w<k>`."""
    return f"{gateway}/{half_year(now_ns)}/w{worker}"


@functools.lru_cache(maxsize=4)
def _format_second(seconds: int) -> str:
    """The text of a whole second; records come many to a second."""
    return f"{dt.datetime.fromtimestamp(seconds, tz=dt.UTC):%Y-%m-%dT%H:%M:%S}"
