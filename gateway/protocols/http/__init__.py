"""HTTP: requests and responses of HTTP/1.1 and HTTP/2, WebSocket messages, as agents send them through a proxy.

Specification: RFC 9110 (semantics), RFC 9112 (HTTP/1.1), RFC 9113 (HTTP/2), RFC 3986 (addresses), RFC 6455 (WebSocket),
RFC 9457 (problem documents), RFC 8259 (JSON), the HTML standard's server-sent events.

    curl                         gateway                                        service
     │ CONNECT host:443, token     │                                              │
     │ as Proxy-Authorization      │  check the token, find the connection        │
     ├────────────────────────────▶│  by host                                     │
     │◀────────────────────── 200 ─┤                                              │
     │ TLS, certificate of the     │                                              │
     │ gateway's own authority     │                                              │
     │ POST /transfers             │  check the token again, parse, describe,     │
     ├────────────────────────────▶│  decide, record                              │
     │◀── 403 problem document ────┤  blocked: the tunnel lives on                │
     │                             ├── allowed: canonical path, own credential ──▶│
     │                             │◀───────────────────── status, headers, body ─┤
     │                             │  decide how the answer may be delivered      │
     │◀── masked answer ───────────┤                                              │

The parts: `events.py` what was seen, `heads.py`, `paths.py` and `bodies.py` what is refused because two readers could understand it
differently, `parse.py` a request made into an event, `actions.py` events to actions, `enforce.py` decisions to the client's words.

Understood: JSON, forms, JSON-RPC and MCP calls, gRPC methods, server-sent events, NDJSON, WebSocket messages. Passed as bytes: other bodies.
Refused: TRACE, method overrides, ambiguous framing, trailers in HTTP/1, content codings that cannot be undone, upgrades other than
WebSocket. Not seen: what the service makes of a request; its own permissions for the gateway's credential are the boundary there.
"""
