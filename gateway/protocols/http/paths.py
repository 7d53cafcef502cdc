"""Request targets with one meaning: a canonical path and query, or a refusal. Pure.

Servers disagree about dots, double slashes, backslashes, encoded slashes and path parameters, and each disagreement lets a request
pass a rule under one name and reach the service under another. What several readers could read differently is refused; what all
read alike but may be written in several ways is rewritten to one (RFC 3986 6.2.2), and that is what policy sees and what is sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.errors import LimitExceededError, ProtocolError

MAX_TARGET_CHARS: Final = 16_384
"""Longest request target; servers commonly stop at 8 KiB."""

MAX_PAIRS: Final = 1_000
"""Most query parameters; beyond it readers begin to drop some."""

_PERCENT: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PATH: Final = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,=:@%/\[\]|^`{}\"<>]*")
_QUERY: Final = re.compile(r"[\x21-\x7e]*")
_ENCODED_TRICKS: Final = re.compile(r"%(2f|5c|3b|00|25(2e|2f|5c|25|00|3b)|0[0-9a-f]|1[0-9a-f]|7f)", re.IGNORECASE)
_QUERY_UNSAFE: Final = re.compile(r"[\"<>\\^`{|};]")


@dataclass(frozen=True, slots=True)
class Target:
    """A request target with one meaning."""

    path: str
    segments: tuple[str, ...]
    query: str
    pairs: tuple[tuple[str, str], ...]


def read_target(raw: str) -> Target:
    """The canonical form of an origin-form target (RFC 9112 3.2.1). Raises ProtocolError."""
    if len(raw) > MAX_TARGET_CHARS:
        raise LimitExceededError("the address is too long", why=f"more than {MAX_TARGET_CHARS} characters")
    if not raw.startswith("/"):
        raise ProtocolError("the path does not begin with a slash", why="only paths can be judged")
    if "#" in raw:
        raise ProtocolError("the address has a fragment", why="a fragment is never sent (RFC 9110 4.2.5)")
    path, mark, query = raw.partition("?")
    canonical = _read_path(path)
    pairs, sent = _read_query(query) if mark else ((), "")
    return Target(canonical, _split(canonical), sent, pairs)


def _read_path(path: str) -> str:
    if "\\" in path or ";" in path:
        raise ProtocolError("the path holds a backslash or semicolon", why="servers read them in different ways")
    if not _PATH.fullmatch(path):
        raise ProtocolError("the path holds a character that must be percent-encoded", why="RFC 3986 3.3")
    _check_percent(path, "path")
    _check_tricks(path)
    kept: list[str] = []
    parts = [_normalize(part) for part in path.split("/")[1:]]
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if part == "..":
            if kept:
                kept.pop()
            if is_last:
                kept.append("")
        elif part == "." or (part == "" and not is_last):
            if is_last:
                kept.append("")
        else:
            kept.append(part)
    canonical = "/" + "/".join(kept)
    _check_tricks(canonical)  # undoing an encoding may have made one
    _split(canonical)  # that every segment is text
    return canonical


def _check_tricks(path: str) -> None:
    if _ENCODED_TRICKS.search(path):
        why = "servers read an encoded slash, backslash, semicolon, control character or percent sign in different ways"
        raise ProtocolError("the path holds an encoded separator", why=why)


def _normalize(part: str) -> str:
    """Percent-encodings of unreserved characters undone, the others in capitals, and what needs one encoded."""

    def decode(match: re.Match[str]) -> str:
        char = chr(int(match[1], 16))
        return char if char in _UNRESERVED else match[0].upper()

    normal = _PERCENT.sub(decode, part)
    return re.sub(r"[\"<>\[\]^`{|}]", lambda match: f"%{ord(match[0]):02X}", normal)


def _check_percent(text: str, name: str) -> None:
    if _BAD_PERCENT.search(text):
        raise ProtocolError(f"the {name} holds a percent sign that encodes nothing", why="RFC 3986 2.1")


def _split(path: str) -> tuple[str, ...]:
    return tuple(_decode(part, "path") for part in path.split("/")[1:] if part)


def _decode(text: str, name: str) -> str:
    if "%" not in text:
        return text
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ProtocolError(f"the {name} is not UTF-8", why="its percent-encoded bytes are no text") from None


def _read_query(query: str) -> tuple[tuple[tuple[str, str], ...], str]:
    if not _QUERY.fullmatch(query):
        raise ProtocolError("the query holds a character that must be percent-encoded", why="RFC 3986 3.4")
    _check_percent(query, "query")
    # A semicolon separates parameters for some readers and not for others: encoded, it separates for nobody.
    sent = "&".join(
        _QUERY_UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", _normalize(part)) for part in query.split("&") if part
    )
    parts = sent.split("&") if sent else []
    if len(parts) > MAX_PAIRS:
        raise LimitExceededError("the query has too many parameters", why=f"more than {MAX_PAIRS}")
    pairs = []
    for part in parts:
        name, _, value = part.partition("=")
        pairs.append((_decode(name.replace("+", "%20"), "query"), _decode(value.replace("+", "%20"), "query")))
    return tuple(pairs), sent


@dataclass(frozen=True, slots=True)
class Operation:
    """A declared operation, its template cut into parts: literal text, or a name in braces, or {*} at the end."""

    id: str
    methods: frozenset[str]
    template: str
    parts: tuple[str, ...]
    effects: frozenset[str] = frozenset()
    labels: tuple[str, ...] = ()


def make_operation(
    name: str, methods: Sequence[str], template: str, effects: Sequence[str] = (), labels: Sequence[str] = ()
) -> Operation:
    """An operation as the configuration declares it."""
    parts = tuple(part for part in template.split("/") if part)
    return Operation(name, frozenset(methods), template, parts, frozenset(effects), tuple(sorted(labels)))


def find_operation(
    operations: Sequence[Operation], method: str, segments: Sequence[str]
) -> tuple[Operation, dict[str, str]] | None:
    """The operation a request is, and its path parameters. Literal segments beat parameters, parameters beat `{*}`, then order counts."""
    best: tuple[tuple[int, ...], Operation, dict[str, str]] | None = None
    for operation in operations:
        if method not in operation.methods and not (method == "HEAD" and "GET" in operation.methods):
            continue
        matched = _match(operation.parts, segments)
        if matched is not None and (best is None or matched[0] < best[0]):
            best = (matched[0], operation, matched[1])
    return None if best is None else best[1:]


def _match(parts: Sequence[str], segments: Sequence[str]) -> tuple[tuple[int, ...], dict[str, str]] | None:
    rest = bool(parts) and parts[-1] == "{*}"
    fixed = parts[:-1] if rest else parts
    if len(segments) < len(fixed) or (not rest and len(segments) != len(fixed)):
        return None
    rank, found = [], {}
    for part, segment in zip(fixed, segments, strict=False):
        if part.startswith("{"):
            found[part[1:-1]] = segment
            rank.append(1)
        elif part == segment:
            rank.append(0)
        else:
            return None
    return (*rank, 2 if rest else 0), found
