"""Heads of requests with one meaning: framing and header fields. Pure.

`find_head_end` and `check_head` look at the bytes of an HTTP/1 head before any lenient parser does (RFC 9112); `check_fields` looks at
parsed fields of either version; `select_sent` is what of them goes to the service.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.errors import LimitExceededError, ProtocolError

MAX_HEAD_BYTES: Final = 65_536
"""Longest head of a request; servers commonly stop at 8 to 32 KiB, and a token can have 16."""

MAX_FIELDS: Final = 200
"""Most header fields; the usual limit of servers is 100."""

_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [\x21-\x7e]+ HTTP/1\.[01]")
_FIELD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*[^\x00-\x08\x0a-\x1f\x7f]*")
_LENGTH: Final = re.compile(rb"0|[1-9][0-9]{0,17}")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?")

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_SINGLE: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-type", b"content-encoding", b"authorization",
                            b"proxy-authorization", b"upgrade", b"expect"})  # fmt: skip
"""Fields that name one thing; twice, two readers could each take another."""

OVERRIDES: Final = frozenset(
    {"x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url", "x-original-method"}
)
"""Fields that make a service act on another method or path than the request line says."""

HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
     "transfer-encoding", "upgrade", "http2-settings"}
)  # fmt: skip
"""Fields for the next hop only (RFC 9110 7.6.1)."""

FORWARDING: Final = frozenset({"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "x-cluster-client-ip"})
"""Fields proxies vouch for with; an agent has nothing to vouch for."""

_TAKEN: Final = frozenset({"expect", "range", "if-range", "accept-encoding", "content-encoding", "content-length", "alt-used",
                           "sec-websocket-extensions", "max-forwards"})  # fmt: skip
"""Fields the gateway answers for itself: it holds whole bodies, undoes codings, and must see values whole, not parts of them."""

_CONNECTION_OPTIONS: Final = frozenset({"close", "keep-alive", "upgrade", "te", "http2-settings", "proxy-connection", ""})


def find_head_end(data: bytes) -> int:
    """Where the head of a request ends: the offset behind its empty line, -1 while it is not complete. Raises ProtocolError."""
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[: end + 4]
    if len(head) > MAX_HEAD_BYTES:
        raise LimitExceededError("the head of the request is too long", why=f"more than {MAX_HEAD_BYTES} bytes")
    without_pairs = head.replace(b"\r\n", b"")
    # A lone CR may be the first half of a pair that is still on its way.
    if end < 0:
        without_pairs = without_pairs.removesuffix(b"\r")
    if b"\n" in without_pairs or b"\r" in without_pairs:
        raise ProtocolError("a line does not end with CR LF", why="readers differ about a lone CR or LF (RFC 9112 2.2)")
    return -1 if end < 0 else end + 4


def check_head(head: bytes, *, is_tunnel: bool = False) -> None:
    """Refuse an HTTP/1 head that two readers could frame differently. Raises ProtocolError.

    Args:
        head: up to and with its empty line.
        is_tunnel: whether the service is known from a CONNECT, so that a target may only be a path.
    """
    line, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if not _REQUEST_LINE.fullmatch(line):
        raise ProtocolError("the request line is malformed", why="method, target and version with one blank between (RFC 9112 3)")
    if is_tunnel and line.split(b" ")[1][:1] not in {b"/", b"*"}:
        raise ProtocolError("the request names a host inside a tunnel", why="the tunnel has one already; send the path only")
    if len(fields) > MAX_FIELDS:
        raise LimitExceededError("the request has too many header fields", why=f"more than {MAX_FIELDS}")
    seen: Counter[bytes] = Counter()
    values: dict[bytes, bytes] = {}
    for field in fields:
        if field[:1] in {b" ", b"\t"}:
            raise ProtocolError("a header field is folded over lines", why="readers differ about folding (RFC 9112 5.2)")
        if not _FIELD.fullmatch(field):
            raise ProtocolError("a header field is malformed", why="a name, a colon at once, and printable text (RFC 9112 5)")
        name, _, value = field.partition(b":")
        seen[name.lower()] += 1
        values[name.lower()] = value.strip(b" \t")
    _check_framing(line, seen, values)


def _check_framing(line: bytes, seen: Counter[bytes], values: dict[bytes, bytes]) -> None:
    repeated = sorted(name.decode() for name in _SINGLE if seen[name] > 1)
    if repeated:
        raise ProtocolError("a header field stands twice", why=f"{', '.join(repeated)} may have one value only")
    if line.endswith(b"HTTP/1.1") and seen[b"host"] != 1:
        raise ProtocolError("the Host field is missing", why="RFC 9112 3.2")
    length, coding = values.get(b"content-length"), values.get(b"transfer-encoding")
    if length is not None and coding is not None:
        raise ProtocolError("both Content-Length and Transfer-Encoding are given", why="readers differ about the length")
    if length is not None and not _LENGTH.fullmatch(length):
        raise ProtocolError("Content-Length is not a number", why="RFC 9112 6.2")
    if coding is not None and (coding.lower() != b"chunked" or line.endswith(b"HTTP/1.0")):
        raise ProtocolError("this Transfer-Encoding is not accepted", why="only chunked, and only in HTTP/1.1 (RFC 9112 6.1)")
    if b"trailer" in values:
        raise ProtocolError("trailers are not accepted", why="fields behind the body would reach nobody who judges them")


def check_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Refuse parsed fields with two meanings, of any version. Raises ProtocolError."""
    if len(fields) > MAX_FIELDS:
        raise LimitExceededError("the request has too many header fields", why=f"more than {MAX_FIELDS}")
    seen = Counter(name for name, _ in fields)
    repeated = sorted(name for name in seen if seen[name] > 1 and name.encode() in _SINGLE)
    if repeated:
        raise ProtocolError("a header field stands twice", why=f"{', '.join(repeated)} may have one value only")
    if found := sorted(set(seen) & OVERRIDES):
        why = f"{', '.join(found)} makes a service act on something else than was judged"
        raise ProtocolError("the request overrides its own method or path", why=why, fix="send the method and path you mean")
    for name, value in fields:
        if name == "connection":
            options = {option.strip().lower() for option in value.split(",")}
            if options - _CONNECTION_OPTIONS:
                raise ProtocolError("the Connection field names other fields", why="a next hop would take them away unseen")
        if _CONTROL.search(value):
            raise ProtocolError("a header field holds a control character", why="RFC 9110 5.5")


def check_host(value: str, host: str, port: int, default_port: int) -> None:
    """Refuse a Host field or :authority that names another place than the request goes to. Raises ProtocolError."""
    match = _HOST.fullmatch(value)
    asked = None if match is None else match[1].lower().strip("[]").rstrip(".")
    asked_port = default_port if match is None or match[2] is None else int(match[2][1:])
    if asked != host or asked_port != port:
        why = "the request names one host and goes to another"
        raise ProtocolError(
            "host and address of the request differ", why=why, fix="send the Host field of the address you ask for"
        )


def select_sent(fields: Iterable[tuple[str, str]], *, keeps_upgrade: bool) -> tuple[tuple[str, str], ...]:
    """The fields the service may see, before the gateway adds its own."""
    kept = []
    for name, value in fields:
        is_hop = name in HOP_BY_HOP and not (keeps_upgrade and name in {"connection", "upgrade"})
        is_grpc = name == "te" and value.strip().lower() == "trailers"
        if (is_hop and not is_grpc) or name in FORWARDING or name in _TAKEN or name.startswith(("x-forwarded-", ":")):
            continue
        kept.append((name, value))
    return tuple(kept)
