"""COPY as policy and masking see it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # A type of the stub only: at run time an analysis is a plain dict.
    from sealgate_native.sql import Copy


def describe_copy(copy: Copy) -> dict[str, Any]:
    """The entry `copy` of a statement's facts, with the characters rows are split by (one byte each); free text stays in the payload."""
    members = ("direction", "source", "query", "format", "header", "columns", "relation")
    facts = {name: copy[name] for name in members if name in copy}  # type: ignore[literal-required]
    for name in ("delimiter", "quote", "escape"):
        text = str(copy.get(name, ""))
        if len(text) == 1:
            facts[name] = text
    return facts
