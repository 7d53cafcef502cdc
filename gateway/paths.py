"""Paths into JSON documents, arrays and composites, as policy and configuration write them: $.customers[*].ssn, $['a b'][0]."""

from __future__ import annotations

import re
from typing import Final

type Step = str | int | None
"""A member's name, an element's index from 0, or None for every member or element."""

_STEP: Final = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\[(\*)\]|\[([0-9]{1,9})\]|\['([^'\]]*)'\]")


def parse_path(path: str) -> tuple[Step, ...]:
    """The steps of a path. Raises ValueError for what has more than children, indexes and wildcards."""
    if not path.startswith("$"):
        raise ValueError("a JSON path begins with $")
    steps: list[Step] = []
    at = 1
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise ValueError("its JSON path has more than children, indexes and wildcards")
        name, star, index, quoted = match.groups()
        steps.append(None if star else int(index) if index else name if name is not None else quoted)
        at = match.end()
    return tuple(steps)
