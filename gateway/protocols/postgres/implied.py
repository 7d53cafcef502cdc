"""What happens with a statement although its text does not name it: code of tables and types, and what foreign keys do. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from gateway.protocols.postgres.catalog import FIRST_NORMAL_OID, CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import KeyAction, Relation
from gateway.protocols.postgres.governed import find_governed
from gateway.protocols.postgres.hooks import COMPILED, Cast, Hook, read_body
from gateway.protocols.postgres.sensitivity import Sensitivity

_LOCKING: Final = re.compile(r"\bfor\s+((no\s+key\s+)?update|(key\s+)?share)\b", re.IGNORECASE)


def find_hooks(
    snapshot: CatalogSnapshot, relation: Relation, access: str, actions: Iterable[KeyAction], *, adds_only: bool = False
) -> list[Hook]:
    """Code that runs with an access: the relation's own, and that of what lies behind it or is changed by foreign keys (`actions`)."""
    is_stored = relation.kind == "m" and access == "read"  # what it was filled from is not touched then
    own = {relation.oid} if is_stored else {each.oid for each in find_hooked(snapshot, relation, (), adds_only=adds_only)}
    followed = {each.oid for action in actions for each in snapshot.behind(action.relation).relations} - own
    hooks = [hook for oid in sorted(own) for hook in _list_hooks(snapshot, oid)]
    # What a foreign key runs, it runs as the owner of the table.
    hooks += [_run_by_key(hook) for oid in sorted(followed) for hook in _list_hooks(snapshot, oid)]
    hooks += [
        hook
        for each in find_governed(snapshot, relation)[1:]
        for hook in snapshot.hooks.get(each.oid, ())
        if hook.kind == "policy"
    ]
    return list(dict.fromkeys(hook for hook in hooks if access == "write" or hook.kind == "policy" or is_planned(hook)))


def locks_rows(snapshot: CatalogSnapshot, relation: Relation) -> bool:
    """Whether a view locks the rows it shows, and so tells which of them somebody else has locked."""
    view = snapshot.views.get(relation.oid)
    return view is not None and view.definition is not None and _LOCKING.search(view.definition) is not None


def is_planned(hook: Hook) -> bool:
    """Whether the planner runs it for whatever reads the table: in predicates of indexes, CHECKs, keys of partitions and statistics."""
    return hook.is_planned and hook.kind in {"index", "constraint", "partition"}


def _list_hooks(snapshot: CatalogSnapshot, oid: int) -> Iterator[Hook]:
    """The code of a relation. A row of a partition is held against the keys of all it belongs to, also where it is written to by name."""
    governs = (relation := snapshot.relations.get(oid)) is not None and relation.has_row_security
    yield from (hook for hook in snapshot.hooks.get(oid, ()) if governs or hook.kind != "policy")
    above = (hook for each in snapshot.above(oid) for hook in snapshot.hooks.get(each.oid, ()))
    yield from (hook for hook in above if hook.kind == "partition")


def _run_by_key(hook: Hook) -> Hook:
    return hook if hook.follows_path else replace(hook, source=None)


def find_missing(snapshot: CatalogSnapshot) -> frozenset[str]:
    """The names of relations that code of tables uses and that nothing has: what gets one is what that code uses from then on."""

    def derive() -> frozenset[str]:
        hooks = dict.fromkeys(hook for each in snapshot.hooks.values() for hook in each)
        tables = (table for hook in hooks for analyzed in read_body(hook).statements for table in analyzed["tables"])
        return frozenset(table["name"] for table in tables if snapshot.resolve(table.get("schema"), table["name"]) is None)

    found: frozenset[str] = snapshot.remember(("missing",), derive)
    return found


def find_hooked(
    snapshot: CatalogSnapshot, relation: Relation, actions: Iterable[KeyAction], *, adds_only: bool = False
) -> list[Relation]:
    """The relations whose code runs with an access: those behind it, and those behind what foreign keys change.

    With `adds_only` rows are added, which go into a parent itself and not into its children (5.10).
    """
    if adds_only and relation.kind == "r":
        return [relation]
    return [each for oid in (relation.oid, *(action.relation for action in actions)) for each in snapshot.behind(oid).relations]


def find_written_through(
    snapshot: CatalogSnapshot, relation: Relation, actions: Iterable[KeyAction], *, adds_only: bool = False
) -> Iterator[Relation]:
    """The tables whose rows a write to a view, a partition or a parent changes as well, and those that foreign keys change.

    A partitioned table stands for its partitions: no policy wants hundreds of them. What a materialized view is made of stays as it is.
    With `adds_only` rows are added, which go into a parent itself and not into its children.
    """
    kinds = {"v"} if adds_only else {"v", "r", "f"}
    through = snapshot.behind(relation.oid).relations if relation.kind in kinds else ()
    if relation.kind != "v":
        through = (*snapshot.above(relation.oid), *through)
    by_keys = (snapshot.relations.get(action.relation) for action in actions)
    seen = {relation.oid}
    for each in (*through, *by_keys):
        if each is not None and each.oid not in seen and each.kind != "v":
            seen.add(each.oid)
            yield each


def is_stored(snapshot: CatalogSnapshot, tables: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a materialized view keeps values it has from a view that is defined, so that the new definition tells nothing of them."""
    named = (snapshot.resolve(table.get("schema"), table["name"]) for table in tables if table["access"] == "define")
    views = [relation for relation in named if relation is not None]
    stored = [relation for relation in snapshot.relations.values() if relation.kind == "m"] if views else []
    return any(view in snapshot.behind(relation.oid).relations for relation in stored for view in views)


def find_of_domain(
    snapshot: CatalogSnapshot, sensitivity: Sensitivity, names: Iterable[tuple[str | None, str]]
) -> Iterator[tuple[Relation, str]]:
    """The sensitive columns whose values a change of these domains looks at: an error, or that there is none, tells of them."""
    domains = {oid for schema, name in names for oid in snapshot.find_type_oids(schema, name)}
    for relation in snapshot.relations.values() if domains and sensitivity.is_configured else ():
        for column in relation.columns.values():
            if sensitivity.holds(relation.oid, column.number) and not domains.isdisjoint(
                snapshot.shapes.within(frozenset({column.type_oid}))
            ):
                yield relation, column.name


def find_cast_code(
    snapshot: CatalogSnapshot, named: Iterable[tuple[str | None, str]], assigned: Iterable[int], relations: Iterable[Relation]
) -> list[Cast]:
    """Functions of somebody's own that run where values of types are made.

    Args:
        snapshot: the database.
        named: schema and name of the types a text names; a value may be cast to them, and to whatever they are made of.
        assigned: OIDs of the types of columns that are written to.
        relations: what the statement touches. A literal beside a column or row takes its type without any name (COALESCE, UNION,
            comparisons), so every domain in them counts as one that a value is made of; and so does every cast from a type in them
            that runs unnamed. One from a type of the server itself can run for any constant.
    """
    if not snapshot.casts:
        return []
    names = list(named)
    types = frozenset(oid for schema, name in names for oid in snapshot.find_type_oids(schema, name))
    casts = [cast for schema, name in names for cast in snapshot.find_casts(schema, name)]
    casts += (*snapshot.find_casts_within(types), *snapshot.find_casts_from(types))
    casts += (
        cast for each in snapshot.casts.values() for cast in each if cast.is_unnamed and 0 < cast.source_oid < FIRST_NORMAL_OID
    )
    casts += [cast for cast in snapshot.find_casts_within(assigned) if not cast.is_explicit]
    for relation in relations:
        casts += snapshot.remember(("cast code", relation.oid), partial(_find_unnamed, snapshot, relation))
    return [cast for cast in dict.fromkeys(casts) if cast.language not in COMPILED]


def describe_cast(cast: Cast) -> dict[str, str]:
    """The entry of `casts` among the facts."""
    return {"schema": cast.schema, "name": cast.name, "function": cast.function, "language": cast.language}


def _find_unnamed(snapshot: CatalogSnapshot, relation: Relation) -> list[Cast]:
    types = _list_types(snapshot, relation)
    return [*(cast for cast in snapshot.find_casts_within(types) if cast.is_of_domain), *snapshot.find_casts_from(types)]


def _list_types(snapshot: CatalogSnapshot, relation: Relation) -> frozenset[int]:
    behind = snapshot.behind(relation.oid)
    return behind.types | {column.type_oid for each in behind.relations for column in each.columns.values()}


def find_parameter_code(snapshot: CatalogSnapshot, types: Iterable[int]) -> list[Cast]:
    """The checks that run on values of parameters, by the OIDs of their types, before any statement does, and casts that run unnamed."""
    given = frozenset(types)
    checks = (cast for cast in snapshot.find_casts_within(given) if cast.is_of_domain)
    return [cast for cast in (*checks, *snapshot.find_casts_from(given)) if cast.language not in COMPILED]


def find_argument_code(snapshot: CatalogSnapshot, relations: Iterable[Relation]) -> list[Cast]:
    """Casts an argument of EXECUTE may run: it is assigned to a parameter whose type the server infers from what it stands beside.

    Args:
        snapshot: the database.
        relations: what the prepared statement touches.
    """
    types = {oid for relation in relations for oid in _list_types(snapshot, relation)}
    casts = (cast for each in snapshot.casts.values() for cast in each if not cast.is_explicit and not cast.is_of_domain)
    return [
        cast for cast in casts if cast.language not in COMPILED and (cast.type_oid in types or cast.type_oid < FIRST_NORMAL_OID)
    ]
