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
    is_plain = PLAIN in flags and snapshot is not None and not _takes_name(analyzed, snapshot) and _is_of_tables(analyzed, tables)
    if not is_plain or not _spares_others(analyzed, tables):
        flags.discard(PLAIN)
    if analyzed["verb"] == "create_view" and snapshot is not None and is_stored(snapshot, tables):
        flags.add("reshapes")  # what was stored of it keeps its values, and looks as if they came from what it is now
    return sorted(flags)


def _takes_name(analyzed: Analyzed, snapshot: CatalogSnapshot) -> bool:
    """Whether what is made has a name that something has elsewhere: for whatever search path finds it first, the name means this now."""
    is_temporary = "temporary" in analyzed["flags"]
    for table in analyzed["tables"]:
        if table["access"] == "define" and table["name"] in analyzed["new_names"]:
            place = None if is_temporary else table.get("schema", snapshot.first_schema)
            if snapshot.find_schemas(table["name"]) - {place}:
                return True
    if any(snapshot.find_schemas(name) for name in analyzed["index_names"]):
        return True  # an index is a relation, too
    made = analyzed["types"] if analyzed["verb"] == "create_type" else ()
    return any(snapshot.find_schemas(each["name"]) - {each.get("schema", snapshot.first_schema)} for each in made)


def _is_of_tables(analyzed: Analyzed, tables: Sequence[Mapping[str, Any]]) -> bool:
    """Whether ALTER TABLE is about a table: of a view or a foreign table the same words change other things."""
    return analyzed["verb"] != "alter_table" or all(table.get("kind") in {None, "r", "p"} for table in tables)


def _spares_others(analyzed: Analyzed, tables: Sequence[Mapping[str, Any]]) -> bool:
    """Whether what a key lets follow, or a unique index keeps out, are rows of tables that the session made."""
    own = {table["name"] for table in tables if table.get("own")}
    if "restricts_rows" in analyzed["flags"] and not all(table.get("own") for table in tables if table["access"] == "define"):
        return False
    following = {column.get("table") for column in analyzed["assigned"]}
    return analyzed["verb"] != "alter_table" or "follows_key" not in analyzed["flags"] or (bool(following) and following <= own)
