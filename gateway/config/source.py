"""Reads YAML text into plain values with the line of each, and refuses what makes YAML surprising.

The scalars are those of YAML 1.2's core schema: only `true` and `false` are booleans, `no` and `on` are text, `22:30` is text. Tags,
merge keys, duplicate keys, more than one document, and anything above the limits are problems. All problems of a file are collected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

MAX_BYTES: Final = 1 << 20
"""A configuration of a thousand connections takes about 300 kB."""

MAX_DEPTH: Final = 24
"""The deepest setting lies on level 6."""

MAX_VALUES: Final = 50_000
"""Values after aliases are followed; bounds files whose aliases multiply."""

Location = tuple[str | int, ...]
"""Path of a value from the root, such as ("connections", 0, "name")."""

_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a file. `line` counts from 1; 0 means the file as a whole."""

    line: int
    path: str
    text: str

    def __str__(self) -> str:
        place = ", ".join(part for part in (f"line {self.line}" if self.line else "", self.path) if part)
        return f"{place}: {self.text}" if place else self.text


@dataclass(slots=True)
class Source:
    """A file as plain values, with the line of every value and every key."""

    value: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    key_lines: dict[Location, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class _StopReadingError(Exception):
    """The rest of the file cannot be read."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read_source(data: bytes) -> Source:
    """The values and lines of a YAML file; what is wrong is in `problems`, and `value` is then not to be used."""
    source = Source()
    try:
        if len(data) > MAX_BYTES:
            raise _StopReadingError(Problem(0, "", f"the file has {len(data)} bytes; at most {MAX_BYTES} are read"))
        _Reader(source).read(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        source.problems.append(Problem(line, "", "the file is not UTF-8 text"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        source.problems.append(Problem(mark.line + 1 if mark else 0, "", f"not YAML: {error.problem or error.context}"))
    except yaml.YAMLError as error:
        source.problems.append(Problem(0, "", f"not YAML: {getattr(error, 'reason', None) or 'unreadable'}"))
    except _StopReadingError as stop:
        source.problems.append(stop.problem)
    return source


class _Reader:
    """Builds values from the parser's events; recursion is bounded by MAX_DEPTH, work by MAX_VALUES."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._events: Iterator[yaml.Event] = iter(())
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0

    def read(self, text: str) -> None:
        self._events = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise _StopReadingError(Problem(0, "", "the file is empty"))
        self._source.value, _ = self._read_value(next(self._events), (), 0)
        next(self._events)  # the end of the document
        rest = next(self._events)
        if not isinstance(rest, yaml.StreamEndEvent):
            raise _StopReadingError(Problem(_line_of(rest), "", "a second document starts here; a configuration is one document"))

    def _read_value(self, event: yaml.Event, location: Location, depth: int) -> tuple[Any, int]:
        """One value and how many values it holds, itself included."""
        line = _line_of(event)
        self._source.lines[location] = line
        self._count_values(1, line, location)
        if depth > MAX_DEPTH:
            raise _StopReadingError(Problem(line, show_path(location), f"nested deeper than {MAX_DEPTH} levels"))
        if isinstance(event, yaml.AliasEvent):
            return self._follow_alias(event, location)
        self._check_tag(event, location)
        if isinstance(event, yaml.ScalarEvent):
            result: tuple[Any, int] = (_resolve_scalar(event), 1)
        elif isinstance(event, yaml.SequenceStartEvent):
            result = self._read_sequence(location, depth)
        else:
            result = self._read_mapping(location, depth)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = result
        return result

    def _read_sequence(self, location: Location, depth: int) -> tuple[list[Any], int]:
        values: list[Any] = []
        size = 1
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            value, inner = self._read_value(event, (*location, len(values)), depth + 1)
            values.append(value)
            size += inner
        return values, size

    def _read_mapping(self, location: Location, depth: int) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        size = 1
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = _line_of(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise _StopReadingError(Problem(line, show_path(location), "a key must be plain text"))
            key = event.value
            here = (*location, key)
            merge = key == "<<" and event.implicit[0]
            if merge:
                self._source.problems.append(
                    Problem(line, show_path(location), "merge keys (<<) are not read; write the settings out")
                )
            elif key in values:
                first = self._source.key_lines[here]
                self._source.problems.append(Problem(line, show_path(here), f"given twice; the first is on line {first}"))
            else:
                self._source.key_lines[here] = line
            value, inner = self._read_value(next(self._events), here, depth + 1)
            if not merge:
                values.setdefault(key, value)
            size += inner
        return values, size

    def _follow_alias(self, event: yaml.AliasEvent, location: Location) -> tuple[Any, int]:
        line = _line_of(event)
        if event.anchor not in self._anchors:
            raise _StopReadingError(Problem(line, show_path(location), f"*{event.anchor} names no value above it"))
        value, size = self._anchors[event.anchor]
        self._count_values(size, line, location)
        return value, size

    def _count_values(self, count: int, line: int, location: Location) -> None:
        self._count += count
        if self._count > MAX_VALUES:
            raise _StopReadingError(Problem(line, show_path(location), f"more than {MAX_VALUES} values, aliases followed"))

    def _check_tag(self, event: yaml.Event, location: Location) -> None:
        tag = getattr(event, "tag", None)
        if tag not in {None, "!"}:
            self._source.problems.append(Problem(_line_of(event), show_path(location), f"tags such as {tag} are not read"))


def _line_of(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0


def _resolve_scalar(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    if event.style is not None:  # quoted or a block: always text
        return text
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def locate(source: Source, location: Location, *, key: bool = False) -> tuple[int, Location]:
    """The line of a location, and the location without parts the file does not have (the names of union members).

    Args:
        source: the file that was read.
        location: a validator's path.
        key: whether the key itself is meant rather than its value.
    """
    known: Location = ()
    missing: Location = ()
    for part in location:
        if (*known, part) in source.lines:
            known = (*known, part)
            missing = ()
        else:
            missing = (*missing, part)
    lines: Mapping[Location, int] = source.key_lines if key else source.lines
    line = lines.get(known) or _line_of_key_or_value(source, known)
    return line, (*known, *missing)


def _line_of_key_or_value(source: Source, location: Location) -> int:
    return source.key_lines.get(location) or source.lines.get(location, 0)


def show_path(location: Location) -> str:
    """A location as people write it: connections[0].target.host."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
