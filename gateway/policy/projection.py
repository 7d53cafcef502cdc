"""Which members of the input a decision can depend on, and whether it may be cached at all.

The answer is computed from the text of the modules (`gateway.policy.rego_text`) and errs on the wide side: a dynamic reference counts
as everything below its sure prefix. `input.approval` is no part of it: a document that carries a grant is never cached.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from evidence.canonical import trim
from gateway.action import PROTOCOLS
from gateway.policy.lint import READS, reads_of
from gateway.policy.rego_text import OWN_PROTOCOL, ModuleText

Path = tuple[str, ...]

ABSENT: Final = "\x00absent"
"""Stands in a projection for a member that is not there; no text of an input holds a NUL followed by this word by chance, and the
members around it are quoted, so that absent and present never meet in one key."""

NEVER_NS: Final = 2**63 - 1
"""Later than any time."""

_MAIN_TIME: Final = ("context", "now_ns")
"""Main compares the time with the end of exceptions and grants; `Projection.key` covers both without the time itself."""


class Projection:
    """The projection of one protocol: what its topics, those of every protocol, the libraries and main read.

    Attributes:
        paths: the members read, none a prefix of another.
        uncacheable: why decisions of this protocol are not cached, such as "payload"; empty when they may be.
    """

    def __init__(self, paths: Iterable[Path], uncacheable: Sequence[str], exception_ends_ns: Sequence[int]) -> None:
        self.paths = _without_covered(paths)
        self.uncacheable = tuple(uncacheable)
        self._exception_ends_ns = sorted(exception_ends_ns)
        self._readers = [_reader(path) for path in self.paths]

    def until_ns(self, now_ns: int) -> int:
        """When the next exception ends, nanoseconds since the epoch: until then time alone changes no decision."""
        ended = bisect_right(self._exception_ends_ns, now_ns)
        return self._exception_ends_ns[ended] if ended < len(self._exception_ends_ns) else NEVER_NS

    def key(self, document: Mapping[str, Any]) -> bytes:
        """The projected members in a fixed order, and how many exceptions have ended."""
        ended = bisect_right(self._exception_ends_ns, document["context"]["now_ns"])
        return trim(orjson.dumps([ended, *(read(document) for read in self._readers)], option=orjson.OPT_SORT_KEYS))


def project(modules: Sequence[ModuleText], data: Mapping[str, Any]) -> dict[str, Projection]:
    """The projection of every protocol."""
    exceptions = data.get("site", {}).get("exceptions", [])
    ends = [exception["expires_ns"] for exception in exceptions]
    return {protocol: _project_one(protocol, modules, ends) for protocol in PROTOCOLS}


def _project_one(protocol: str, modules: Sequence[ModuleText], ends: Sequence[int]) -> Projection:
    paths: set[Path] = {("schema",), ("protocol",), ("phase",)}
    found: set[str] = set()
    for module in modules:
        is_topic = module.package[:2] == ("sealgate", "policies")
        if is_topic and module.package[2] not in {"any", protocol}:
            continue
        is_main = module.package == ("sealgate", "main")
        for read in module.input_reads:
            path = tuple(protocol if name == OWN_PROTOCOL else name for name in read.path)
            if is_main and (path[:1] == ("approval",) or path == _MAIN_TIME):
                continue
            found |= reads_of(path) & set(READS)
            paths.add(path)
    return Projection(paths, sorted(found), ends)


def _without_covered(paths: Iterable[Path]) -> tuple[Path, ...]:
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if not any(path[: len(other)] == other for other in kept):
            kept.append(path)
    return tuple(kept)


def _reader(path: Path) -> Callable[[Mapping[str, Any]], object]:
    def read(document: Mapping[str, Any]) -> object:
        value: Any = document
        for name in path:
            if not isinstance(value, dict) or name not in value:
                return ABSENT
            value = value[name]
        return value

    return read
