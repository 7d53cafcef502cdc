"""What happens with a statement although its text does not name it: code of tables and types, and what foreign keys do. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from gateway.protocols.postgres.catalog import CatalogSnapshot, KeyAction, Relation
from gateway.protocols.postgres.hooks import Cast, Hook

COMPILED: Final = frozenset({"internal", "c"})
"""Languages of the server itself and of installed extensions; code in any other can be written by whoever may create functions."""

FILLS_ROWS: Final = frozenset(
    {
        *("json_populate_record", "json_populate_recordset", "jsonb_populate_record", "jsonb_populate_recordset"),
        *("jsonb_populate_record_valid", "populate_record"),
    }
)
"""Functions that make values of the fields of a row they are given, whatever type it is of."""


def find_hooks(snapshot: CatalogSnapshot, relation: Relation, access: str, actions: Iterable[KeyAction]) -> list[Hook]:
    """Code that runs with an access: the relation's own, and that of what lies behind it or is changed by a foreign key."""
    reached = {each.oid for each in snapshot.behind(relation.oid).relations}
    if access == "write":
        for action in actions:
            reached |= {each.oid for each in snapshot.behind(action.relation).relations}
    hooks = (hook for oid in sorted(reached) for hook in snapshot.hooks.get(oid, ()))
    return list(dict.fromkeys(hook for hook in hooks if access == "write" or hook.kind == "policy"))


def find_written_through(snapshot: CatalogSnapshot, relation: Relation, actions: Iterable[KeyAction]) -> Iterator[Relation]:
    """The tables whose rows a write to a view or a partition changes as well, and those that foreign keys change."""
    through = snapshot.behind(relation.oid).relations if relation.kind == "v" else snapshot.above(relation.oid)
    by_keys = (snapshot.relations.get(action.relation) for action in actions)
    seen = {relation.oid}
    for each in (*through, *by_keys):
        if each is not None and each.oid not in seen and each.kind != "v":
            seen.add(each.oid)
            yield each


def find_cast_code(
    snapshot: CatalogSnapshot, named: Iterable[tuple[str | None, str]], assigned: Iterable[int], rows: Iterable[Relation]
) -> list[Cast]:
    """Functions of somebody's own that run where values of types are made.

    Args:
        snapshot: the database.
        named: schema and name of the types a text names; a value may be cast to them, and to whatever they are made of.
        assigned: OIDs of the types of columns that are written to.
        rows: relations of which rows are made; every domain in them is checked, and may give a default.
    """
    names = list(named)
    casts = [cast for schema, name in names for cast in snapshot.find_casts(schema, name)]
    casts += snapshot.find_casts_within(oid for schema, name in names for oid in snapshot.find_type_oids(schema, name))
    casts += [cast for cast in snapshot.find_casts_within(assigned) if not cast.is_explicit]
    columns = (column.type_oid for relation in rows for column in relation.columns.values())
    casts += [cast for cast in snapshot.find_casts_within(columns) if cast.is_of_domain]
    return [cast for cast in dict.fromkeys(casts) if cast.language not in COMPILED]


def find_parameter_code(snapshot: CatalogSnapshot, types: Iterable[int]) -> list[Cast]:
    """The checks that run on values of parameters, by the OIDs of their types, before any statement does."""
    return [cast for cast in snapshot.find_casts_within(types) if cast.is_of_domain and cast.language not in COMPILED]
