"""What the catalogue knows of a definition that its text does not tell: whose names it takes, what it cuts off. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.functions import EFFECTS, HARMLESS, UNJUDGED, YIELDS_ANY
from gateway.protocols.postgres.implied import find_missing, is_stored
from gateway.protocols.postgres.type_names import SERVER_TYPES

if TYPE_CHECKING:
    # A type of the stub only: at run time an analysis is a plain dict.
    from sealgate_native.sql import Name
    from sealgate_native.sql import Statement as Analyzed

PLAIN: Final = "plain_definition"
"""The flag of a definition of something new: it leaves what names stand for and what statements of others do."""

_CALLED: Final = HARMLESS | EFFECTS.keys() | UNJUDGED | YIELDS_ANY
"""Functions of PostgreSQL that one argument is enough for, and others: a call of one is a cast where a type has its name (10.3)."""


def describe_flags(analyzed: Analyzed, snapshot: CatalogSnapshot | None, tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """The flags of a statement, sorted, with what the catalogue adds to them and takes from them."""
    if "define" not in analyzed["effects"]:
        return sorted(analyzed["flags"])  # nearly every statement
    flags = set(analyzed["flags"])
    if snapshot is None or _takes_name(analyzed, snapshot, tables):
        flags = (flags | {"takes_name"}) - {PLAIN}
    elif not (_is_of_tables(analyzed, tables) and _spares_others(analyzed, tables)) or _binds_table(analyzed, snapshot):
        flags.discard(PLAIN)
    if analyzed["verb"] == "create_view" and snapshot is not None and is_stored(snapshot, tables):
        flags.add("reshapes")  # what was stored of it keeps its values, and looks as if they came from what it is now
    return sorted(flags)


def _takes_name(analyzed: Analyzed, snapshot: CatalogSnapshot, tables: Sequence[Mapping[str, Any]]) -> bool:
    """Whether what is made has a name that something has elsewhere: for whatever search path finds it first, the name means this now."""
    is_temporary = "temporary" in analyzed["flags"]
    for table in analyzed["tables"]:
        if table["access"] == "define" and table["name"] in analyzed["new_names"]:
            place = None if is_temporary else table.get("schema", snapshot.first_schema)
            if is_temporary and _is_of_the_server(table["name"]):
                return True  # its row type stands before the server's
            if snapshot.find_schemas(table["name"]) - {place} or snapshot.has_function(f"_{table['name']}"):
                return True
            if table["name"] in find_missing(snapshot):
                return True  # code of others would use it from now on
    if "makes_sequence" in analyzed["flags"] and _takes_sequence_name(analyzed, snapshot, tables):
        return True
    if any(snapshot.find_schemas(name) for name in analyzed["index_names"]):
        return True  # an index is a relation, too
    return any(_takes_type_name(each, snapshot) for each in (analyzed["types"] if analyzed["verb"] == "create_type" else ()))


def _is_of_the_server(name: str) -> bool:
    return name in SERVER_TYPES or name.startswith("pg_")


def _takes_sequence_name(analyzed: Analyzed, snapshot: CatalogSnapshot, tables: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the sequence of a serial column could get the name of one in another schema; in its own, PostgreSQL takes another name."""
    for table in tables:
        if table["access"] == "define" and (table["name"] in analyzed["new_names"] or table["name"] == analyzed["altered"]):
            is_temporary = "temporary" in analyzed["flags"] or table.get("temporary")
            if snapshot.has_sequence_like(table["name"], None if is_temporary else table.get("schema", snapshot.first_schema)):
                return True
    return False


def _takes_type_name(named: Name, snapshot: CatalogSnapshot) -> bool:
    """Whether a new type has a name that another type has, or that a call of a function could mean."""
    name = named["name"]
    is_called = name in _CALLED or snapshot.has_function(name) or snapshot.has_function(f"_{name}")
    return is_called or bool(snapshot.find_schemas(name) - {named.get("schema", snapshot.first_schema)})


def _is_of_tables(analyzed: Analyzed, tables: Sequence[Mapping[str, Any]]) -> bool:
    """Whether ALTER TABLE is about a table: of a view or a foreign table the same words change other things."""
    return analyzed["verb"] != "alter_table" or all(table.get("kind") in {None, "r", "p"} for table in tables)


def _binds_table(analyzed: Analyzed, snapshot: CatalogSnapshot) -> bool:
    """Whether a column is of the row type of another table, which cannot be altered from then on."""
    names = analyzed["types"] if analyzed["verb"] in {"create_table", "alter_table"} else ()
    return any(snapshot.resolve(each.get("schema"), each["name"].removeprefix("_")) is not None for each in names)


def _spares_others(analyzed: Analyzed, tables: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a table that is altered, or gets an index, is one the session made: of another one anything could fail or mean something else."""
    if analyzed["verb"] not in {"alter_table", "create_index"}:
        return True
    altered = [table for table in tables if table["access"] == "define" and table["name"] == analyzed["altered"]]
    return bool(altered) and all(table.get("own") or table.get("made") for table in altered)
