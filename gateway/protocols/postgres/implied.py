"""What happens with a statement although its text does not name it: code of tables and types, and what foreign keys do. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from gateway.protocols.postgres.catalog import CatalogSnapshot, KeyAction, Relation
from gateway.protocols.postgres.hooks import COMPILED, Cast, Hook


def find_hooks(snapshot: CatalogSnapshot, relation: Relation, access: str, actions: Iterable[KeyAction]) -> list[Hook]:
    """Code that runs with an access: the relation's own, and that of what lies behind it or is changed by foreign keys (`actions`)."""
    reached = {
        each.oid for oid in (relation.oid, *(action.relation for action in actions)) for each in snapshot.behind(oid).relations
    }
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
    snapshot: CatalogSnapshot, named: Iterable[tuple[str | None, str]], assigned: Iterable[int], relations: Iterable[Relation]
) -> list[Cast]:
    """Functions of somebody's own that run where values of types are made.

    Args:
        snapshot: the database.
        named: schema and name of the types a text names; a value may be cast to them, and to whatever they are made of.
        assigned: OIDs of the types of columns that are written to.
        relations: what the statement touches. A literal beside a column or row takes its type without any name (COALESCE, UNION,
            comparisons), so every domain in them counts as one that a value is made of.
    """
    if not snapshot.casts:
        return []
    names = list(named)
    casts = [cast for schema, name in names for cast in snapshot.find_casts(schema, name)]
    casts += snapshot.find_casts_within(oid for schema, name in names for oid in snapshot.find_type_oids(schema, name))
    casts += [cast for cast in snapshot.find_casts_within(assigned) if not cast.is_explicit]
    for relation in relations:
        casts += snapshot.remember(("domain code", relation.oid), partial(_find_domain_code, snapshot, relation))
    return [cast for cast in dict.fromkeys(casts) if cast.language not in COMPILED]


def _find_domain_code(snapshot: CatalogSnapshot, relation: Relation) -> list[Cast]:
    behind = snapshot.behind(relation.oid)
    columns = {column.type_oid for each in behind.relations for column in each.columns.values()}
    return [cast for cast in snapshot.find_casts_within(columns | behind.types) if cast.is_of_domain]


def find_parameter_code(snapshot: CatalogSnapshot, types: Iterable[int]) -> list[Cast]:
    """The checks that run on values of parameters, by the OIDs of their types, before any statement does."""
    return [cast for cast in snapshot.find_casts_within(types) if cast.is_of_domain and cast.language not in COMPILED]
