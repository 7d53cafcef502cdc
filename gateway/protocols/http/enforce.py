"""Decisions in the client's own words: problem documents (RFC 9457), statuses, and what obligations mean for a response. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

import orjson

from gateway.decision import Enforceable, Obligation
from gateway.messages import HttpResponse, Refusal, RefusalKind

ENFORCEABLE: Final = Enforceable(
    selectors=frozenset({"json_path", "field", "header", "detector"}),
    strategies=frozenset({"drop", "null", "redact", "tokenize", "hash", "partial"}),
    obligations=frozenset({"stream", "byte_limit", "session_bytes", "record", "tag"}),
)
"""What this protocol can carry out; a decision that asks for more blocks."""

STATUSES: Final[Mapping[RefusalKind, int]] = {
    "denied": 403,
    "approval": 403,  #  202 reads as success, 425, 429 and 503 make clients try again on their own
    "evidence": 503,
    "identity": 403,
    "target": 502,
    "protocol": 400,
    "limit": 413,
    "cancelled": 499,  # the client that would read it is gone
}

GRPC_STATUSES: Final[Mapping[RefusalKind, int]] = {
    "denied": 7,  # PERMISSION_DENIED
    "approval": 7,
    "evidence": 14,  # UNAVAILABLE
    "identity": 16,  # UNAUTHENTICATED
    "target": 14,
    "protocol": 3,  # INVALID_ARGUMENT
    "limit": 8,  # RESOURCE_EXHAUSTED
    "cancelled": 1,  # CANCELLED
}
"""The status codes of gRPC; its clients know none of HTTP's, and show no body."""

UNIMPLEMENTED: Final = 12
"""gRPC's status for what is not carried at all."""

_GRPC_PLAIN: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
"""What stands for itself in grpc-message (gRPC over HTTP/2, "Responses")."""

PROBLEM: Final = "application/problem+json"
TYPES: Final = "urn:sealgate:problem:"

CHALLENGE: Final = 'Basic realm="sealgate", charset="UTF-8"'
"""What a client without a token is asked for; the token is the password, and any user name will do (RFC 7617)."""

MAX_FIELD_CHARS: Final = 1_000


def speaks_grpc(http_version: str, content_type: str | None) -> bool:
    """Whether whoever asks reads gRPC's status instead of HTTP's (gRPC over HTTP/2, "Requests")."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    return http_version == "HTTP/2.0" and (kind == "application/grpc" or kind.startswith("application/grpc+"))


def refuse(refusal: Refusal, *, status: int | None = None) -> HttpResponse:
    """The response that tells a refusal."""
    members: dict[str, object] = {
        "type": f"{TYPES}{'approval-required' if refusal.kind == 'approval' else refusal.kind}",
        "title": refusal.what,
        "status": status or STATUSES[refusal.kind],
        "detail": refusal.why,
        "rule": refusal.rule,
        "fix": refusal.fix,
        "decision_id": refusal.decision_id,
    }
    if refusal.kind == "approval":
        members["error"] = "approval_required"
    if refusal.ticket is not None:
        members["ticket"] = refusal.ticket
    headers: list[tuple[str, str]] = []
    if refusal.retry_after_s is not None:
        members["retry_after"] = refusal.retry_after_s
        headers.append(("retry-after", str(refusal.retry_after_s)))
    return _problem(int(str(members["status"])), members, headers)


def refuse_grpc(refusal: Refusal, *, status: int | None = None) -> HttpResponse:
    """The same for a client of gRPC, in the form its specification calls Trailers-Only; `status` is one of gRPC's."""
    told = [f"{refusal.what}: {refusal.why}" if refusal.why else refusal.what, f"rule {refusal.rule}"]
    told += [f"ticket {refusal.ticket}"] if refusal.ticket is not None else []
    told += [f"decision {refusal.decision_id}", f"what to do: {refusal.fix}"]
    message = quote("; ".join(_clean(part) for part in told), safe=_GRPC_PLAIN)
    fields = (
        ("content-type", "application/grpc"),
        ("grpc-status", str(status or GRPC_STATUSES[refusal.kind])),
        ("grpc-message", message),
    )
    return HttpResponse(200, fields)


def challenge(what: str, why: str, fix: str, decision_id: str, *, is_proxy: bool) -> HttpResponse:
    """The 407 of a proxy or 401 of a reverse listener, which asks for a token (RFC 9110 11.7.1, 11.6.1)."""
    members: dict[str, object] = {
        "type": f"{TYPES}identity",
        "title": what,
        "status": 407 if is_proxy else 401,
        "detail": why,
        "rule": "identity.refused",
        "fix": fix,
        "decision_id": decision_id,
    }
    field = ("proxy-authenticate", CHALLENGE) if is_proxy else ("www-authenticate", 'Bearer realm="sealgate"')
    return _problem(407 if is_proxy else 401, members, [field])


def _problem(status: int, members: Mapping[str, object], headers: Iterable[tuple[str, str]]) -> HttpResponse:
    body = orjson.dumps({name: _clean(value) if isinstance(value, str) else value for name, value in members.items()}) + b"\n"
    fields = [("content-type", PROBLEM), ("content-length", str(len(body))), ("cache-control", "no-store"), *headers]
    return HttpResponse(status, tuple(fields), body)


def _clean(text: str) -> str:
    """One printable line: control characters could repaint a terminal."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= MAX_FIELD_CHARS else f"{line[: MAX_FIELD_CHARS - 1]}…"


class UnenforceableError(ValueError):
    """An obligation that cannot be carried out; the host refuses or withholds."""


def may_stream(obligations: Iterable[Obligation]) -> bool:
    """Whether a response larger than the connection's limit may be delivered while it arrives."""
    return any(item.kind == "stream" for item in obligations)


def read_byte_limit(obligations: Iterable[Obligation], kind: str = "byte_limit") -> int | None:
    """The least limit of this kind in bytes, None for no limit. Raises UnenforceableError."""
    limits = []
    for item in obligations:
        if item.kind != kind:
            continue
        size = item.params.get("bytes")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise UnenforceableError(f"rule {item.rule} sets a {kind} the gateway cannot carry out")
        limits.append(size)
    return min(limits, default=None)
