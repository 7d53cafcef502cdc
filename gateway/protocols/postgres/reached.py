"""The relations a statement changes or defines beside those it names: children, what is below views, what foreign keys follow. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final

from gateway.protocols.postgres.assigned import adds_only, is_alone
from gateway.protocols.postgres.bodies import find_filled
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import KeyAction, Relation
from gateway.protocols.postgres.governed import find_governed
from gateway.protocols.postgres.implied import find_of_domain, find_written_through, locks_rows
from gateway.protocols.postgres.sensitivity import Sensitivity

if TYPE_CHECKING:
    # A type of the stub only: at run time an analysis is a plain dict.
    from sealgate_native.sql import Statement as Analyzed

_RECURSING_VERBS: Final = frozenset({"alter_table", "rename", "drop"})
"""Definitions of a parent that define its children as well."""


_UNGOVERNED_VERBS: Final = frozenset({"create_table", "analyze", "vacuum", "lock", "comment"})
"""What no policy runs with, whatever relations it names."""


def find_key_actions(snapshot: CatalogSnapshot, analyzed: Analyzed, relation: Relation) -> tuple[KeyAction, ...]:
    """What foreign keys do with a statement; new rows alone move nothing."""
    if adds_only(analyzed):
        return ()
    verb, is_single = analyzed["verb"], is_alone(analyzed)
    if verb in {"update", "insert"} and is_single and relation.kind != "v":  # an INSERT that adds only is above
        filled = find_filled(snapshot, relation) if snapshot.key_actions else frozenset[str]()
        changed = analyzed["reassigned"] if verb == "insert" else [column["name"] for column in analyzed["assigned"]]
        updates = filled.union(changed)
        names = None if "*" in updates else updates
        numbers = None if names is None else {column.number for column in relation.columns.values() if column.name in names}
        return snapshot.changed_by_keys(relation.oid, deletes=snapshot.may_move(relation.oid, numbers), updates=names)
    return snapshot.changed_by_keys(relation.oid, updates=frozenset() if verb == "delete" and is_single else None)


def find_events(analyzed: Analyzed, relation: Relation, actions: Iterable[KeyAction]) -> str:
    """What a statement does to rows of a relation: i insert, u update, d delete. A row of a partitioned table can move to another part."""
    if analyzed["verb"] in {"alter_table", "create_table"}:
        return ""
    if any(True for _ in actions) or relation.kind not in {"r", "f", "p"} or not is_alone(analyzed):
        return "iud"
    inserts = "iu" if "on_conflict_update" in analyzed["flags"] else "i"
    updates = "iud" if relation.kind == "p" else "u"
    return {"insert": inserts, "copy": "i", "update": updates, "delete": "d"}.get(analyzed["verb"], "iud")


def find_reached(
    snapshot: CatalogSnapshot, analyzed: Analyzed, relation: Relation, access: str, actions: Iterable[KeyAction]
) -> Iterator[Relation]:
    """What an access reaches as well: writes go through to other tables, definitions of a parent to its children.

    What is written to a view of a parent goes to its children, whoever writes it, so defining the view counts as well.
    """
    if access == "write":
        yield from find_written_through(snapshot, relation, actions, adds_only=adds_only(analyzed))
    elif access == "define" and analyzed["verb"] in _RECURSING_VERBS:
        is_view = relation.kind == "v" and analyzed["verb"] == "rename"
        yield from _list_below(snapshot, relation) if is_view or snapshot.is_parent(relation) else ()
    elif access == "read" and analyzed["verb"] == "create_view" and (relation.kind == "v" or snapshot.is_parent(relation)):
        yield from _list_below(snapshot, relation)


def _list_below(snapshot: CatalogSnapshot, relation: Relation) -> Iterator[Relation]:
    return (each for each in snapshot.behind(relation.oid).relations if each.oid != relation.oid and each.kind != "v")


def _find_changed_types(analyzed: Analyzed) -> list[tuple[str | None, str]]:
    """Schema and name of the types a statement changes: what their values are checked by, or what their parts are called."""
    if analyzed["verb"] == "alter_domain":
        return [(each.get("schema"), each["name"]) for each in analyzed["types"]]
    is_composite = analyzed.get("object") == "attribute" or (
        analyzed["verb"] == "alter_table" and analyzed.get("object") == "type"
    )
    return [(each.get("schema"), each["name"]) for each in analyzed["tables"]] if is_composite else []


def _find_merging(
    snapshot: CatalogSnapshot, sensitivity: Sensitivity, relation: Relation, added: Sequence[str]
) -> Iterator[Relation]:
    """The children of a parent with a sensitive column of a name that it is given: both are one from then on."""
    if not snapshot.is_parent(relation) or not sensitivity.is_configured:
        return
    for child in snapshot.behind(relation.oid).relations:
        merged = (column for column in child.columns.values() if column.name in added)
        if any(sensitivity.holds(child.oid, column.number) for column in merged):
            yield child


def _find_referring(snapshot: CatalogSnapshot, sensitivity: Sensitivity, analyzed: Analyzed) -> Iterator[tuple[str, str, str]]:
    """What refers to rows that a statement locks, lets go, or gives another key.

    A row that two have locked takes more of the log, which EXPLAIN counts for all that a statement and the code it sets off do.
    """
    if "explain_wal" in analyzed["flags"]:
        yield from sensitivity.list_links()
    for table in analyzed["tables"]:
        relation = snapshot.resolve(table.get("schema"), table["name"])
        if relation is None:
            continue
        if table["access"] == "read":
            yield from _find_locking(snapshot, sensitivity, analyzed, relation)
        elif table["access"] == "write" and not adds_only(analyzed):
            yield from _find_changing(snapshot, sensitivity, analyzed, relation)


def _list_referring(sensitivity: Sensitivity, relation: Relation) -> list[tuple[str, str, str]]:
    return [(other.schema, other.name, name) for other, name in sensitivity.find_referring(relation)]


def _find_locking(
    snapshot: CatalogSnapshot, sensitivity: Sensitivity, analyzed: Analyzed, relation: Relation
) -> Iterator[tuple[str, str, str]]:
    """What refers to the rows that a statement, or a view it reads, locks.

    A lock that waits for none of the server's own shows too: one that the transaction has already draws no number for its savepoint.
    """
    behind = snapshot.behind(relation.oid).relations
    referring = [found for each in behind for found in _list_referring(sensitivity, each)]
    if referring and ("lock" in analyzed["effects"] or any(locks_rows(snapshot, each) for each in behind)):
        yield from referring


def _find_changing(
    snapshot: CatalogSnapshot, sensitivity: Sensitivity, analyzed: Analyzed, relation: Relation
) -> Iterator[tuple[str, str, str]]:
    """What refers to the rows that a statement lets go, or gives another key."""
    actions = find_key_actions(snapshot, analyzed, relation)
    names: frozenset[str] | None = None
    if analyzed["verb"] == "update" and is_alone(analyzed) and relation.kind != "v" and not actions:
        assigned = frozenset(column["name"] for column in analyzed["assigned"]) | find_filled(snapshot, relation)
        names = None if "*" in assigned else assigned
    reached = (*snapshot.behind(relation.oid).relations, *find_written_through(snapshot, relation, actions))
    for each in {each.oid: each for each in reached}.values():
        referring = _list_referring(sensitivity, each)
        if referring and (names is None or _touches_index(snapshot, each, names)):
            yield from referring


def _touches_index(snapshot: CatalogSnapshot, relation: Relation, names: AbstractSet[str]) -> bool:
    """Whether an UPDATE of these columns may lock its rows against those who only ask for their key, as one of any unique index does (13.3.2)."""
    indexed = {number for index in snapshot.indexes if index.relation == relation.oid for number in index.columns | index.carried}
    changed = {column.number for column in relation.columns.values() if column.name in names}
    made = {number for each in changed for number in snapshot.find_generated(relation.oid, each)}
    return 0 in indexed or not indexed.isdisjoint(changed | made)


def _find_asked(snapshot: CatalogSnapshot, sensitivity: Sensitivity, analyzed: Analyzed) -> Iterator[tuple[str, str, str]]:
    """What the policies ask that run with a statement; those for writing do where it writes to a table, or locks its rows."""
    for table in analyzed["tables"]:
        relation = snapshot.resolve(table.get("schema"), table["name"])
        if relation is None or table["access"] not in {"read", "write"}:
            continue
        locks = "lock" in analyzed["effects"] or any(
            locks_rows(snapshot, each) for each in snapshot.behind(relation.oid).relations
        )
        reads_only = table["access"] == "read" and not locks
        for each in find_governed(snapshot, relation):
            found = sensitivity.find_asked(each, reads_only=reads_only)
            yield from ((asked.schema, asked.name, name) for asked, name in found)


def find_used_unnamed(
    snapshot: CatalogSnapshot, sensitivity: Sensitivity, analyzed: Analyzed, relations: Iterable[Relation]
) -> Iterator[tuple[str, str, str]]:
    """Schema, table and name of sensitive columns that a statement looks at, or makes another's, without naming them.

    Policies do, and definitions of types and of parents; so does what changes or locks a row that others refer to.
    """
    if sensitivity.is_configured and snapshot.references:
        yield from _find_referring(snapshot, sensitivity, analyzed)
    if types := _find_changed_types(analyzed):
        yield from ((each.schema, each.name, name) for each, name in find_of_domain(snapshot, sensitivity, types))
    if snapshot.policies and analyzed["verb"] not in _UNGOVERNED_VERBS:
        yield from _find_asked(snapshot, sensitivity, analyzed)
    if analyzed["verb"] == "alter_table":
        for relation in relations:
            for child in _find_merging(snapshot, sensitivity, relation, analyzed["added_columns"]):
                yield child.schema, child.name, "*"
