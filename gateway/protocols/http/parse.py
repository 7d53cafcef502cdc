"""A request as the carrier parsed it, made into an event: one meaning, or a refusal that says what is wrong. Pure."""

from __future__ import annotations

import hashlib
from typing import Final

from gateway.errors import LimitExceededError, ProtocolError
from gateway.messages import HttpRequest
from gateway.protocols.http import bodies, heads, paths
from gateway.protocols.http.events import Message, Request, Unreadable

METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "QUERY", "PROPFIND", "REPORT", "SEARCH"})
"""Methods that are passed at all. CONNECT is answered by the host; TRACE would show the gateway's credential (RFC 9110 9.3.8)."""

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def parse_request(message: HttpRequest, *, max_parsed_bytes: int) -> Request | Unreadable:
    """The event for one request whose body was read whole and decoded."""
    try:
        return _parse(message, max_parsed_bytes)
    except ProtocolError as error:
        return make_unreadable(error)


def make_unreadable(error: ProtocolError, code: str = "http.malformed") -> Unreadable:
    """The event for bytes that a parser refused."""
    kind = "limit" if isinstance(error, LimitExceededError) else "protocol"
    reason = f"{error.what}{': ' + error.why if error.why else ''}"
    return Unreadable(code, reason, **({"fix": error.fix} if error.fix else {}), kind=kind)  # type: ignore[arg-type]


def check_request_head(message: HttpRequest) -> None:
    """Refuse, before any of the body is read, what its head already forbids. Raises ProtocolError."""
    if message.method not in METHODS:
        raise ProtocolError(
            "this method is not passed", why="it is none that can be judged", fix=f"use one of {', '.join(sorted(METHODS))}"
        )
    heads.check_fields(message.headers)
    named = message.find_header("host")
    if named is not None:
        heads.check_host(named, message.host, message.port, DEFAULT_PORTS.get(message.scheme, 0))
    paths.read_target(message.target)
    upgrade = (message.find_header("upgrade") or "").lower()
    if upgrade not in {"", "websocket", "h2c"}:
        raise ProtocolError("this upgrade is not passed", why="only WebSocket messages can be judged after an upgrade")
    if upgrade == "websocket" and message.method != "GET":
        raise ProtocolError("a WebSocket begins with GET", why="RFC 6455 4.1")


def _parse(message: HttpRequest, max_parsed_bytes: int) -> Request:
    check_request_head(message)
    target = paths.read_target(message.target)
    body = bodies.read_body(message.body, message.find_header("content-type"), max_parsed_bytes=max_parsed_bytes)
    upgrade = "websocket" if (message.find_header("upgrade") or "").lower() == "websocket" else None
    return Request(
        method=message.method,
        scheme=message.scheme,
        host=message.host,
        port=message.port,
        path=target.path,
        segments=target.segments,
        query=target.query,
        pairs=target.pairs,
        headers=heads.select_sent(message.headers, keeps_upgrade=upgrade is not None),
        body=body,
        upgrade=upgrade,
        http_version=message.http_version,
    )


def parse_message(request: Request, content: bytes, *, is_text: bool, max_parsed_bytes: int) -> Message | Unreadable:
    """The event for one WebSocket message of the client."""
    digest = hashlib.sha256(content).hexdigest()
    if not is_text:
        return Message(request, "binary", len(content), digest)
    if len(content) > max_parsed_bytes:
        reason = f"a message has {len(content)} bytes; policy reads at most {max_parsed_bytes}"
        return Unreadable("http.message", reason, "send it in smaller messages", kind="limit")
    try:
        text = content.decode()
        value = bodies.read_json(content) if text.lstrip()[:1] in {"{", "["} else text
    except UnicodeDecodeError:
        return Unreadable("http.message", "a text message is not UTF-8 (RFC 6455 8.1)")
    except ProtocolError as error:
        return make_unreadable(error, "http.message")
    return Message(request, "text", len(content), digest, value)
