"""Bodies with one meaning: media types, strict JSON and forms, the shape of an answer. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from gateway.errors import LimitExceededError, ProtocolError
from gateway.protocols.http.events import Body, BodyKind

MAX_DEPTH: Final = 64
"""Deepest JSON; written documents stay below twenty, and parsers give up at very different depths."""

MAX_SHAPE: Final = 200
"""Most names in the shape of an answer; policy reads kinds of answers, not catalogues of them."""

MAX_TEXT_CHARS: Final = 65_536
"""Longest text body that policy may read; a longer one is described by its size only."""

_MAX_INTEGER: Final = 2**63
_MEDIA_TYPE: Final = re.compile(r"\s*([A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+)\s*(;.*)?", re.DOTALL)
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([A-Za-z0-9_:.+-]+)", re.IGNORECASE)
_BRACKETS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)

_BINARY: Final = ("image/", "audio/", "video/", "font/")
_BINARY_TYPES: Final = frozenset(
    {"application/zip", "application/gzip", "application/x-gzip", "application/zstd", "application/pdf", "application/wasm",
     "application/x-tar", "application/x-bzip2", "application/x-xz", "application/x-7z-compressed", "application/java-archive"}
)  # fmt: skip
"""What holds no text a detector could read, and breaks when a byte of it is replaced."""

_NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-seq",
                            "application/stream+json", "application/x-jsonlines"})  # fmt: skip


def read_media_type(value: str | None) -> tuple[str, str]:
    """Media type and charset of a Content-Type field, both lower case; empty where absent. Raises ProtocolError."""
    if value is None or not value.strip():
        return "", ""
    match = _MEDIA_TYPE.fullmatch(value)
    if match is None:
        raise ProtocolError("the Content-Type cannot be read", why="a type and its parameters (RFC 9110 8.3)")
    charset = _CHARSET.search(match[2] or "")
    return match[1].lower(), charset[1].lower() if charset else ""


def find_kind(media_type: str) -> BodyKind:  # noqa: PLR0911 - one answer per family of types
    """What a body of this type is read as. What is not known is text: detectors read it."""
    if media_type in _NDJSON:
        return "ndjson"
    if media_type == "application/json" or media_type.endswith("+json") or media_type == "text/json":
        return "json"
    if media_type == "application/x-www-form-urlencoded":
        return "form"
    if media_type.startswith("multipart/"):
        return "multipart"
    if media_type == "text/event-stream":
        return "events"
    if media_type.startswith("application/grpc") or media_type in {"application/protobuf", "application/x-protobuf"}:
        return "grpc"
    if media_type.startswith(_BINARY) and not media_type.endswith("+xml"):
        return "binary"
    return "binary" if media_type in _BINARY_TYPES else "text"


def read_body(data: bytes, content_type: str | None, *, max_parsed_bytes: int) -> Body:
    """A request's body, its content coding undone. Raises ProtocolError where it is not what it says."""
    if not data:
        return Body("none")
    media_type, charset = read_media_type(content_type)
    kind = find_kind(media_type)
    if not media_type and data.lstrip(b" \t\r\n")[:1] in {b"{", b"["}:
        kind = "json"  # many services read it so, whatever it calls itself
    digest = hashlib.sha256(data).hexdigest()
    if kind not in {"json", "form", "text", "ndjson"}:
        return Body(kind, len(data), digest)
    if kind == "text":
        return Body(kind, len(data), digest, _read_text(data, charset))
    if len(data) > max_parsed_bytes:
        why = f"{len(data)} bytes; policy reads at most {max_parsed_bytes}"
        raise LimitExceededError("the body is too large to be judged", why=why, fix="send it in smaller parts")
    if charset not in {"", "utf-8", "utf8", "us-ascii"}:
        raise ProtocolError("the body is not UTF-8", why=f"JSON and forms are judged in UTF-8, not in {charset}")
    if kind == "json":
        return Body(kind, len(data), digest, read_json(data))
    if kind == "ndjson":
        return Body(kind, len(data), digest, [read_json(line) for line in data.splitlines() if line.strip()])
    return Body(kind, len(data), digest, read_form(data))


def _read_text(data: bytes, charset: str) -> str | None:
    if len(data) > MAX_TEXT_CHARS:
        return None
    try:
        return data.decode(charset if charset in {"iso-8859-1", "latin-1", "us-ascii"} else "utf-8")
    except UnicodeDecodeError:
        return None


def read_json(data: bytes) -> Any:
    """One JSON text that every reader understands alike: no name twice, no NaN, nothing a number cannot hold. Raises ProtocolError."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ProtocolError("the JSON body is not UTF-8", why="RFC 8259 8.1") from None
    if text.startswith("\ufeff"):
        raise ProtocolError("the JSON body begins with a byte order mark", why="RFC 8259 8.1")
    _check_depth(text)
    try:
        return json.loads(
            text,
            object_pairs_hook=_make_object,
            parse_constant=_refuse_constant,
            parse_int=_read_integer,
            parse_float=_read_float,
        )
    except json.JSONDecodeError as error:
        raise ProtocolError("the body is not JSON", why=f"{error.msg} at offset {error.pos}") from None


def _check_depth(text: str) -> None:
    depth = 0
    for match in _BRACKETS.finditer(text):
        char = match[0]
        if char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise LimitExceededError("the JSON body is nested too deep", why=f"more than {MAX_DEPTH} levels")
        elif char in "]}":
            depth -= 1


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ProtocolError("the JSON body names a member twice", why="readers differ about which of them counts")
    for name, value in pairs:
        _check_text(name)
        _check_text(value)
    return made


def _check_text(value: Any) -> None:
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        raise ProtocolError("the JSON body holds half a character", why="readers differ about lone surrogates")


def _refuse_constant(name: str) -> Any:
    raise ProtocolError("the JSON body holds a number that is none", why=f"{name} is not JSON (RFC 8259 6)")


def _read_integer(text: str) -> int:
    if len(text) > 20 or not -_MAX_INTEGER <= int(text) < _MAX_INTEGER:  # noqa: PLR2004 - digits of 2**63 and a sign
        raise ProtocolError("the JSON body holds a number that is too large", why="readers differ beyond 64 bits")
    return int(text)


def _read_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ProtocolError("the JSON body holds a number that is too large", why="readers differ about it")
    return value


def read_form(data: bytes) -> dict[str, Any]:
    """Names to values of application/x-www-form-urlencoded; a list where a name stands more than once. Raises ProtocolError."""
    form: dict[str, Any] = {}
    for part in data.split(b"&"):
        if not part:
            continue
        if b";" in part:
            raise ProtocolError("the form holds a semicolon", why="readers differ about whether it separates; encode it as %3B")
        name, _, value = part.replace(b"+", b" ").partition(b"=")
        try:
            key, text = unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            raise ProtocolError("the form is not UTF-8", why="its percent-encoded bytes are no text") from None
        if key in form:
            form[key] = [*form[key], text] if isinstance(form[key], list) else [form[key], text]
        else:
            form[key] = text
    if "_method" in form:
        raise ProtocolError("the form overrides the method", why="_method makes some services act on another method")
    return form


def find_shape(value: Any) -> tuple[str, ...]:
    """The names of an answer's members as paths, such as customers[].ssn; at most `MAX_SHAPE`, sorted."""
    found: set[str] = set()
    for path in _walk(value, ""):
        found.add(path)
        if len(found) >= MAX_SHAPE:
            break
    return tuple(sorted(found))


def _walk(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            place = f"{path}.{name}" if path else str(name)
            yield place[:200]
            yield from _walk(member, place)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, f"{path}[]")


def fold_name(name: str) -> str:
    """A member's name as field selectors compare it: letter case, hyphens and underscores do not count."""
    return name.casefold().replace("_", "").replace("-", "")


_STEP: Final = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\[(\*)\]|\[([0-9]+)\]|\['([^'\]]*)'\]")


def parse_json_path(path: str) -> tuple[str | int | None, ...]:
    """The steps of a JSON path: a name, an index, or None for any. Raises ValueError."""
    if not path.startswith("$"):
        raise ValueError("a JSON path begins with $")
    steps: list[str | int | None] = []
    at = 1
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise ValueError("a JSON path has children, indexes and wildcards only")
        name, star, index, quoted = match.groups()
        steps.append(None if star else int(index) if index else name if name is not None else quoted)
        at = match.end()
    return tuple(steps)


def find_sensitive(value: Any, selectors: Sequence[str]) -> tuple[str, ...]:
    """Which of the configured selectors a parsed body has."""
    names = {fold_name(item): item for item in selectors if not item.startswith("$")}
    paths = {item: parse_json_path(item) for item in selectors if item.startswith("$")}
    found = {item for item, steps in paths.items() if _has(value, steps)}
    if names:
        found |= {names[folded] for folded in _names(value) if folded in names}
    return tuple(sorted(found))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield fold_name(str(name))
            yield from _names(member)
    elif isinstance(value, list):
        for item in value:
            yield from _names(item)


def _has(value: Any, steps: Sequence[str | int | None]) -> bool:
    if not steps:
        return True
    step, rest = steps[0], steps[1:]
    if isinstance(value, dict):
        members = list(value.values()) if step is None else [value[step]] if step in value else []
        return any(_has(member, rest) for member in members)
    if isinstance(value, list):
        if step is None:
            return any(_has(item, rest) for item in value)
        return isinstance(step, int) and step < len(value) and _has(value[step], rest)
    return False
