"""What the catalogue knows of a definition that its text does not tell: whose names it takes, what it cuts off. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.implied import is_stored

if TYPE_CHECKING:
    # A type of the stub only: at run time an analysis is a plain dict.
    from sealgate_native.sql import Statement as Analyzed

PLAIN: Final = "plain_definition"
"""The flag of a definition as migrations make them every day: it leaves what names stand for and what statements of others do."""


def describe_flags(analyzed: Analyzed, snapshot: CatalogSnapshot | None, tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """The flags of a statement, sorted, with what the catalogue adds to them and takes from them."""
    flags = set(analyzed["flags"])
    if PLAIN in flags and (snapshot is None or _takes_name(analyzed, snapshot) or _is_of_view(analyzed, tables)):
        flags.remove(PLAIN)
    if analyzed["verb"] == "create_view" and snapshot is not None and is_stored(snapshot, tables):
        flags.add("reshapes")  # what was stored of it keeps its values, and looks as if they came from what it is now
    return sorted(flags)


def _takes_name(analyzed: Analyzed, snapshot: CatalogSnapshot) -> bool:
    """Whether a relation is made before another one of its name, in the session's temporary schema or earlier in the search path."""
    is_temporary = "temporary" in analyzed["flags"]
    for table in analyzed["tables"]:
        if table["access"] != "define" or table["name"] not in analyzed["new_names"]:
            continue
        if is_temporary or table.get("schema") in {None, snapshot.first_schema}:
            found = snapshot.resolve(None, table["name"])
            if found is not None and (is_temporary or found.schema != snapshot.first_schema):
                return True
    return False


def _is_of_view(analyzed: Analyzed, tables: Sequence[Mapping[str, Any]]) -> bool:
    """Whether ALTER TABLE is about a view, which takes the same words: what is inserted through it gets other values."""
    return analyzed["verb"] == "alter_table" and any(table.get("kind") == "v" for table in tables)
