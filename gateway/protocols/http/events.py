"""What the host saw of one exchange: requests, WebSocket messages, the head of a response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

BodyKind = Literal["none", "json", "form", "multipart", "text", "grpc", "binary", "events", "ndjson"]


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body, decoded.

    Attributes:
        kind: what it was read as.
        size: bytes after its content coding was undone.
        sha256: of those bytes, in hex.
        value: what JSON or a form says; text as it is, where it is short; absent otherwise.
    """

    kind: BodyKind
    size: int = 0
    sha256: str = ""
    value: Any = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request that can be understood in one way only.

    Attributes:
        host: as the client asked for it, lower case.
        path: canonical, percent-encoded; `segments` are its parts, decoded.
        query: canonical, percent-encoded, without the question mark.
        pairs: the query's names and values, decoded, in order.
        headers: lower-case names, in order, without what the gateway takes away.
        upgrade: "websocket" where the client asks for it.
    """

    method: str
    scheme: str
    host: str
    port: int
    path: str
    segments: tuple[str, ...]
    query: str
    pairs: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    body: Body
    upgrade: str | None = None
    http_version: str = "HTTP/1.1"


@dataclass(frozen=True, slots=True)
class Message:
    """One WebSocket message from the client, inside an exchange that was allowed."""

    request: Request
    kind: Literal["text", "binary"]
    size: int
    sha256: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What a client sent and nobody may act on.

    Attributes:
        code: a stable name such as "http.path" or "http.framing".
        reason: what is wrong with it, never a value of it.
        kind: "protocol", or "limit" where it is only too large.
    """

    code: str
    reason: str
    fix: str = "correct the request; what the gateway cannot read never reaches the service"
    kind: Literal["protocol", "limit"] = "protocol"


Event = Request | Message | Unreadable


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """What a response says about itself before its body.

    Attributes:
        kind: what its body is read as.
        media_type: such as application/json, lower case, without parameters.
        length: declared bytes of the body, None where it is not known.
        shape: names of the members of a JSON body that was read whole, with [] for lists; empty otherwise.
        sensitive: configured sensitive fields it holds, or all of them where that is not known.
        is_streamed: whether the body is delivered while it arrives.
    """

    status: int
    kind: BodyKind
    media_type: str = ""
    length: int | None = None
    shape: Sequence[str] = ()
    sensitive: Sequence[str] = ()
    is_streamed: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
