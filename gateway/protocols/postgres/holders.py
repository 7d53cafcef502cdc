"""The columns that have sensitive values: those that are named, and those that hold the same by what the catalogue says of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from gateway.errors import ConfigError
from gateway.protocols.postgres.catalog import FIRST_NORMAL_OID, CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import BaseColumn
from gateway.protocols.postgres.counters import find_counters

type _Step = Callable[[int], Iterable[int]]


def follow_renames(
    snapshot: CatalogSnapshot, sensitive: tuple[str, ...], before: AbstractSet[tuple[int, int]]
) -> tuple[CatalogSnapshot, frozenset[tuple[int, int]]]:
    """A snapshot in which what a sensitive name meant before is sensitive as long as it is there, and what such names have meant by now.

    A table that gives its name to another one, as those that are moved online or closed at the end of a year, keeps its values.

    Args:
        snapshot: what was read now.
        sensitive: the configured columns.
        before: what the second part of the answer was, the last time; relation and attnum of each.
    """
    named = _find_named(snapshot, map(read_name, sensitive))
    former = {
        (oid, number) for oid, number in before - named if oid in snapshot.relations and number in snapshot.relations[oid].columns
    }
    return (replace(snapshot, former=frozenset(former)) if former else snapshot), frozenset(named | former)


def find_keys(snapshot: CatalogSnapshot, names: Iterable[BaseColumn]) -> frozenset[tuple[int, int]]:
    """Relation and attnum of the columns of these names, and of those that hold what is in them."""
    keys = _find_named(snapshot, names) | snapshot.former
    keys |= _through_partitions(snapshot, keys)
    while having := _find_having(snapshot, keys) - keys:
        keys |= having
        keys |= _through_partitions(snapshot, keys)
    return frozenset(keys | find_counters(snapshot))


def _find_named(snapshot: CatalogSnapshot, names: Iterable[BaseColumn]) -> set[tuple[int, int]]:
    keys: set[tuple[int, int]] = set()
    for name in names:
        relation = snapshot.resolve(name.schema, name.table)
        column = None if relation is None else relation.find(name.column)
        if relation is not None and column is not None:
            keys.add((relation.oid, column.number))
    return keys


def _find_having(snapshot: CatalogSnapshot, keys: AbstractSet[tuple[int, int]]) -> set[tuple[int, int]]:
    """The columns that have what is in these: those of foreign keys that refer to one, those generated from one, and whole rows of its table."""
    referring = {each for key in keys for each in snapshot.references.get(key, ())}
    made = {(oid, made) for oid, number in keys for made in snapshot.find_generated(oid, number)}
    rows = {
        each for each, tables in _find_row_columns(snapshot).items() if any(_shows_any(snapshot, oid, keys) for oid in tables)
    }
    return referring | made | rows


def _find_row_columns(snapshot: CatalogSnapshot) -> Mapping[tuple[int, int], frozenset[int]]:
    """The stored columns that keep rows of relations, or arrays of these and the like, with the relations."""

    def derive() -> dict[tuple[int, int], frozenset[int]]:
        shapes = snapshot.shapes
        own = {
            (relation.oid, column.number): column.type_oid
            for relation in snapshot.relations.values()
            if relation.oid not in snapshot.views
            for column in relation.columns.values()
            if column.type_oid >= FIRST_NORMAL_OID
        }
        within = {type_oid: shapes.within(frozenset({type_oid})) & shapes.types.keys() for type_oid in set(own.values())}
        rows = {type_oid: frozenset(shapes.types[each].relation for each in types) for type_oid, types in within.items()}
        return {place: rows[type_oid] & snapshot.relations.keys() for place, type_oid in own.items()}

    found: Mapping[tuple[int, int], frozenset[int]] = snapshot.remember("columns of rows", derive)
    return found


def _shows_any(snapshot: CatalogSnapshot, oid: int, keys: AbstractSet[tuple[int, int]]) -> bool:
    """Whether a relation, which may be a view, has any of these columns."""
    return any(not snapshot.origins(oid, number).through.isdisjoint(keys) for number in snapshot.relations[oid].columns)


def read_name(text: str) -> BaseColumn:
    """A column configured as "schema.table.column". Raises ConfigError for a name of another shape."""
    parts = text.split(".")
    if len(parts) != 3 or not all(parts):  # noqa: PLR2004 - schema, table, column
        raise ConfigError(
            "a sensitive column cannot be read", why=f"{text!r} is not schema.table.column", fix="write it with both dots"
        )
    return BaseColumn(*parts)


def _through_partitions(snapshot: CatalogSnapshot, keys: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Columns of the same name below a sensitive one, and above: a parent delivers its children's rows."""
    children: dict[int, list[int]] = {}
    for child, parents in snapshot.parents.items():
        for parent in parents:
            children.setdefault(parent, []).append(child)
    below = _spread(snapshot, keys, lambda oid: children.get(oid, ()))
    above = _spread(snapshot, keys, lambda oid: snapshot.parents.get(oid, ()))
    return below | above


def _spread(snapshot: CatalogSnapshot, keys: Iterable[tuple[int, int]], step: _Step) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    pending = list(keys)
    while pending:
        oid, attnum = pending.pop()
        name = snapshot.relations[oid].columns[attnum].name
        for near in step(oid):
            relation = snapshot.relations.get(near)
            column = None if relation is None else relation.find(name)
            if column is not None and (near, column.number) not in found:
                found.add((near, column.number))
                pending.append((near, column.number))
    return found
