"""Masks JSON while it passes: members by name, values by path, and every value by detectors. Everything else stays byte for byte.

A tokenizer that keeps its place between chunks, so that the output does not depend on how the input is cut, and memory does not grow
with it: at most one value and the path to it are held. It is lenient, because whatever is not JSON must be masked all the same.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.decision import Mask
from gateway.errors import LimitExceededError
from gateway.masking.values import CellMasker, ValueMasker
from gateway.paths import Step

MAX_VALUE_BYTES: Final = 1 << 20
"""Longest single value; it is held whole before any of it leaves."""

MAX_LEVELS: Final = 512
"""Deepest nesting that is followed."""

_TOKEN: Final = re.compile(rb'[ \t\r\n]+|"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^"{}\[\],: \t\r\n]+', re.DOTALL)
_OPENERS: Final = frozenset({b"{", b"["})
_CLOSERS: Final = frozenset({b"}", b"]"})


@dataclass(slots=True)
class _Level:
    """One open object or array: the name or index of the value that comes, and which paths still fit."""

    is_object: bool
    paths: tuple[tuple[tuple[Step, ...], Mask], ...]
    depth: int
    covered: Mask | None
    index: int = 0
    name: str = ""
    at_name: bool = False


@dataclass(frozen=True, slots=True)
class JsonMasks:
    """What to mask: folded member names, and paths as steps (a name, an index, or None for any)."""

    names: Mapping[str, Mask] = field(default_factory=dict)
    paths: Sequence[tuple[tuple[Step, ...], Mask]] = ()


class JsonMasker:
    """Masks one JSON text. `feed` takes bytes and gives what is settled; `finish` gives the rest.

    Raises LimitExceededError for a value or nesting beyond the limits; nothing may be delivered after that.
    """

    def __init__(self, masks: JsonMasks, values: ValueMasker, cells: CellMasker, masked: Counter[str]) -> None:
        self._masks = masks
        self._values = values
        self._cells = cells
        self._masked = masked
        self._held = b""
        self._levels: list[_Level] = []

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes; gives what is settled."""
        return self._run(data, is_last=False)

    def finish(self) -> bytes:
        """Ends the text. A value that breaks off is not given: no detector saw it whole."""
        rest = self._run(b"", is_last=True)
        self._held = b""
        return rest

    def _run(self, data: bytes, *, is_last: bool) -> bytes:
        buffer = self._held + data
        out: list[bytes] = []
        at = 0
        while at < len(buffer):
            match = _TOKEN.match(buffer, at)
            if match is None or (match.end() == len(buffer) and not is_last and buffer[at] not in b'{}[],: \t\r\n"'):
                break  # a string without its end, or a number that may go on
            out.append(self._take(match[0]))
            at = match.end()
        self._held = buffer[at:]
        if len(self._held) > MAX_VALUE_BYTES:
            raise LimitExceededError("a value in the body is too long to be masked", why=f"more than {MAX_VALUE_BYTES} bytes")
        return b"".join(out)

    def _take(self, token: bytes) -> bytes:
        first = token[:1]
        if first in _OPENERS:
            self._open(is_object=first == b"{")
        elif first in _CLOSERS:
            if self._levels:
                self._levels.pop()
        elif first in {b",", b":"}:
            self._separate(is_comma=first == b",")
        elif not token.isspace():
            top = self._levels[-1] if self._levels else None
            return self._take_name(top, token) if top is not None and top.at_name else self._take_value(token)
        return token

    def _separate(self, *, is_comma: bool) -> None:
        if self._levels:
            top = self._levels[-1]
            top.index += is_comma
            top.at_name = is_comma and top.is_object

    def _open(self, *, is_object: bool) -> None:
        if len(self._levels) >= MAX_LEVELS:
            raise LimitExceededError("the body is nested too deep to be masked", why=f"more than {MAX_LEVELS} levels")
        paths, covered = self._find_masks()
        depth = self._levels[-1].depth + 1 if self._levels else 0
        self._levels.append(_Level(is_object, paths, depth, covered, at_name=is_object))

    def _find_masks(self) -> tuple[tuple[tuple[tuple[Step, ...], Mask], ...], Mask | None]:
        """Which paths fit the value that comes, and the mask that covers it whole."""
        if not self._levels:
            whole = next((mask for steps, mask in self._masks.paths if not steps), None)
            return tuple(self._masks.paths), whole
        top = self._levels[-1]
        step: Step = top.name if top.is_object else top.index
        fitting = tuple((steps, mask) for steps, mask in top.paths if len(steps) > top.depth and _fits(steps[top.depth], step))
        covered = top.covered or (self._masks.names.get(fold(top.name)) if top.is_object and self._masks.names else None)
        if covered is None:
            covered = next((mask for steps, mask in fitting if len(steps) == top.depth + 1), None)
        return fitting, covered

    def _take_name(self, level: _Level, token: bytes) -> bytes:
        name, is_string = _read(token)
        level.name = name if is_string else name.strip("'")
        shown = self._values.mask_text("", name)
        return token if shown == name else _write(shown)

    def _take_value(self, token: bytes) -> bytes:
        _, covered = self._find_masks()
        text, is_string = _read(token)
        name = self._levels[-1].name if self._levels and self._levels[-1].is_object else self._nearest_name()
        if covered is not None:
            if not is_string and text == "null":
                return token
            self._masked[covered.rule] += 1
            replaced = self._cells.mask(covered, text)
            return b"null" if replaced is None else _write(replaced)
        if not is_string and text in {"true", "false", "null"}:
            return token
        shown = self._values.mask_text(name, text)
        return token if shown == text else _write(shown)

    def _nearest_name(self) -> str:
        """Elements of a list are named by the list: {"passwords": ["…", "…"]}."""
        return next((level.name for level in reversed(self._levels) if level.is_object), "")


def fold(name: str) -> str:
    """A member's name as masks compare it: letter case, hyphens and underscores do not count."""
    return name.casefold().replace("_", "").replace("-", "")


def _fits(wanted: Step, step: Step) -> bool:
    return wanted is None or wanted == step


def _read(token: bytes) -> tuple[str, bool]:
    """What a token says, and whether it is a string."""
    if token[:1] != b'"':
        return token.decode("utf-8", "replace"), False
    text = token.decode("utf-8", "replace")
    if "\\" not in text:
        return text[1:-1], True
    try:
        return str(json.loads(text, strict=False)), True
    except ValueError:
        return text[1:-1], True


def _write(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")
