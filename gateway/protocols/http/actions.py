"""Requests, messages and heads of responses, made into actions. Pure.

    describe(event, settings)                  the action a request or a WebSocket message attempts
    describe_response(request, head)           the action of delivering one response, for the response phase

Facts name structure: method, host, segments, the operation, kinds and names. A path segment in which a detector finds something
stands in facts as the detector's name; its text is in the payload, which evidence masks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.action import Action
from gateway.errors import LimitExceededError, ProtocolError
from gateway.protocols.http.bodies import find_sensitive
from gateway.protocols.http.events import Event, Message, Request, ResponseHead, Unreadable
from gateway.protocols.http.paths import Operation, find_operation

REQUEST: Final = "http.request"
WEBSOCKET: Final = "http.websocket"
MESSAGE: Final = "http.message"

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "PROPFIND", "QUERY", "SEARCH", "REPORT"})
"""Methods that change nothing (RFC 9110 9.2.1, RFC 4918 9.1, RFC 5323, RFC 3253 3.6)."""

HARMLESS_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Safe methods without a body, for which release point (b) applies."""

_OMITTED: Final = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key", "api-key", "x-auth-token"})
"""Fields whose values are secrets of the client; policy sees that they are there."""

_GRPC_PATH: Final = re.compile(r"/([A-Za-z_][A-Za-z0-9_.]*)/([A-Za-z_][A-Za-z0-9_]*)")
_JSON_RPC_NAME: Final = re.compile(r"[A-Za-z0-9_./:$-]{1,128}")


class Scanner(Protocol):
    """What finds sensitive values in bytes; `sealgate_native.mask.Detectors`."""

    def scan(self, data: bytes) -> list[tuple[str, int, int]]:
        """Every finding as (detector, start, end)."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """What describing a request needs to know of its connection.

    Attributes:
        sensitive: selectors of sensitive members, as configured.
        scanner: finds sensitive values in what agents send.
    """

    connection: str
    operations: Sequence[Operation] = ()
    sensitive: tuple[str, ...] = ()
    scanner: Scanner | None = None


def describe(event: Event, settings: HttpSettings) -> Action:
    """The action an event attempts. Raises ProtocolError for what nobody may act on."""
    match event:
        case Request():
            return _describe_request(event, settings)
        case Message():
            return _describe_message(event, settings)
        case Unreadable(code=code, reason=reason, fix=fix, kind=kind):
            error = LimitExceededError if kind == "limit" else ProtocolError
            raise error(f"the request cannot be read ({code})", why=reason, fix=fix)


def _describe_request(request: Request, settings: HttpSettings) -> Action:
    matched = find_operation(settings.operations, request.method, request.segments)
    facts = _request_facts(request, settings, matched)
    effects = _find_effects(request, None if matched is None else matched[0])
    harmless = effects == {"read"} and request.method in HARMLESS_METHODS and request.body.kind == "none"
    return Action(
        protocol="http",
        phase="request",
        name=WEBSOCKET if request.upgrade else REQUEST,
        effects=effects,
        facts=facts,
        payload=_request_payload(request, {} if matched is None else matched[1]),
        canonical=_canonical(request),
        harmless_read=harmless,
    )


def _find_effects(request: Request, operation: Operation | None) -> frozenset[str]:
    if request.upgrade:
        # Whatever follows can go both ways; each message of the client is judged again.
        return frozenset({"read", "write"}) | (operation.effects if operation else frozenset())
    if operation is not None and operation.effects:
        return operation.effects
    return frozenset({"read"}) if request.method in SAFE_METHODS else frozenset({"write"})


def _request_facts(
    request: Request, settings: HttpSettings, matched: tuple[Operation, Mapping[str, str]] | None
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "method": request.method,
        "scheme": request.scheme,
        "host": request.host,
        "port": request.port,
        "segments": [_hide(segment, settings.scanner) for segment in request.segments],
        "declared": bool(settings.operations),
        "body_kind": request.body.kind,
        "body_bytes": request.body.size,
        "query_names": sorted({_hide(name, settings.scanner) for name, _ in request.pairs}),
        "header_names": sorted({name for name, _ in request.headers}),
    }
    if matched is not None:
        facts["operation"] = {"id": matched[0].id, "template": matched[0].template, "labels": list(matched[0].labels)}
    if request.upgrade:
        facts["upgrade"] = request.upgrade
    if request.body.kind == "grpc" and (method := _GRPC_PATH.fullmatch(request.path)):
        facts["grpc"] = {"service": method[1], "method": method[2]}
    facts |= _rpc_facts(request.body.value)
    if sensitive := find_sensitive(request.body.value, settings.sensitive):
        facts["sensitive"] = list(sensitive)
    if found := _find(request, settings.scanner):
        facts["findings"] = found
    return facts


def _hide(text: str, scanner: Scanner | None) -> str:
    found = scanner.scan(text.encode()) if scanner is not None else []
    return f"[{found[0][0]}]" if found else text[:256]


def _find(request: Request, scanner: Scanner | None) -> list[str]:
    """The detectors that find something in what the agent sends: in path, query and bodies that are text."""
    if scanner is None:
        return []
    texts = [*request.segments, *(value for _, value in request.pairs), *_texts(request.body.value)]
    return sorted({name for name, _, _ in scanner.scan("\n".join(texts).encode("utf-8", "surrogatepass"))})


def _texts(value: Any, name: str = "") -> list[str]:
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in _texts(item, str(key))]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item, name)]
    if value is None or isinstance(value, bool):
        return []
    return [f"{name}: {value}" if name else str(value)]


def _rpc_facts(value: Any) -> dict[str, Any]:
    """JSON-RPC methods by name, and the tool of an MCP call."""
    calls = value if isinstance(value, list) else [value]
    methods = [
        call["method"] for call in calls if isinstance(call, dict) and "jsonrpc" in call and isinstance(call.get("method"), str)
    ]
    if not methods:
        return {}
    named = [method if _JSON_RPC_NAME.fullmatch(method) else "[other]" for method in methods]
    facts: dict[str, Any] = {"rpc": {"methods": sorted(set(named))}}
    tools = [
        call.get("params", {}).get("name")
        for call in calls
        if isinstance(call, dict) and call.get("method") == "tools/call" and isinstance(call.get("params"), dict)
    ]
    names = sorted({tool for tool in tools if isinstance(tool, str) and _JSON_RPC_NAME.fullmatch(tool)})
    if tools:
        facts["mcp"] = {"tools": names or ["[other]"]}
    return facts


def _request_payload(request: Request, parameters: Mapping[str, str]) -> dict[str, Any]:
    query: dict[str, list[str]] = {}
    for name, value in request.pairs:
        query.setdefault(name, []).append(value)
    headers: dict[str, list[str]] = {}
    for name, value in request.headers:
        headers.setdefault(name, []).append("[omitted]" if name in _OMITTED else value)
    payload: dict[str, Any] = {"path": request.path, "headers": headers}
    if query:
        payload["query"] = query
    if parameters:
        payload["path_parameters"] = dict(parameters)
    if request.body.value is not None:
        payload["body"] = request.body.value
    if request.body.sha256:
        payload["body_sha256"] = request.body.sha256
    return payload


def _canonical(request: Request) -> dict[str, Any]:
    """What an approval is for (design section 3): method, address and body; never what only the transport or the proof needs."""
    media_type = next((value for name, value in request.headers if name == "content-type"), "")
    return {
        "method": request.method,
        "address": f"{request.scheme}://{request.host}:{request.port}{request.path}",
        "query": [list(pair) for pair in request.pairs],
        "content_type": media_type,
        "body_sha256": request.body.sha256,
    }


def _describe_message(message: Message, settings: HttpSettings) -> Action:
    opened = _describe_request(message.request, settings)
    facts = {
        **{name: value for name, value in opened.facts.items() if name not in {"rpc", "mcp", "sensitive", "findings"}},
        "message": {"kind": message.kind, "bytes": message.size},
        **_rpc_facts(message.value),
    }
    if sensitive := find_sensitive(message.value, settings.sensitive):
        facts["sensitive"] = list(sensitive)
    payload: dict[str, Any] = {"path": message.request.path, "body_sha256": message.sha256}
    if message.value is not None:
        payload["body"] = message.value
    return Action(
        protocol="http",
        phase="request",
        name=MESSAGE,
        effects=opened.effects,
        facts=facts,
        payload=payload,
        canonical={**_canonical(message.request), "message_sha256": message.sha256},
    )


def describe_response(request: Action, head: ResponseHead) -> Action:
    """The action of delivering the response to a request. The request's payload is in the record of its own decision, once."""
    response: dict[str, Any] = {
        "status": head.status,
        "body_kind": head.kind,
        "streamed": head.is_streamed,
        "sensitive": list(head.sensitive),
    }
    optional = {
        "media_type": head.media_type or None,
        "length": head.length,
        "shape": list(head.shape) or None,
        "header_names": sorted(head.headers) or None,
    }
    response |= {name: value for name, value in optional.items() if value is not None}
    return Action(
        protocol=request.protocol,
        phase="response",
        name=request.name,
        effects=request.effects,
        facts=request.facts,
        canonical=request.canonical,
        response=response,
    )
