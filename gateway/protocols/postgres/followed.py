"""The facts of tables whose rows refer to plain ones by a sensitive column: which a statement changes, and whether it has any looked up. Pure.

One command changes no row twice, but keys that follow from it may: those that meet in a table, that change it along a chain, or that give
a row what is the key of another one that changes with it. And a row is looked up at its first change where the key has another, plain
column that changes, or where it moves to another partition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.protocols.postgres.assigned import is_alone
from gateway.protocols.postgres.bodies import find_filled
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import KeyAction, Relation
from gateway.protocols.postgres.rewritten import Name, changes_rows, find_followed, find_heads
from gateway.protocols.postgres.sensitivity import Sensitivity

if TYPE_CHECKING:
    # A type of the stub only: at run time an analysis is a plain dict.
    from sealgate_native.sql import Statement as Analyzed

_NARROW: Final = frozenset({21, 23, 2950})
"""int2, int4 and uuid: what no two values of are equal to one of another type."""

_MAX_FOLLOWED: Final = 64
"""Changes by keys that are followed; more are taken for a circle."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a statement writes.

    Attributes:
        relations: those it writes to, or alters.
        is_one: it changes one row at most.
        changed: tables and names of columns that rows which are there get other values in: `*` for any.
        actions: what foreign keys do with it.
    """

    relations: Sequence[Relation]
    is_one: bool
    changed: Iterable[tuple[Relation, str]]
    actions: Sequence[KeyAction]


def list_written(
    snapshot: CatalogSnapshot,
    analyzed: Analyzed,
    relations: Sequence[Relation],
    assigned: Iterable[tuple[Relation | None, str]],
    actions: Sequence[KeyAction],
) -> Written:
    """What a statement writes that writes to, or alters, these `relations`; `assigned` are tables and columns of `Assigned.describe`."""
    named = list(assigned)
    if analyzed["verb"] == "insert" and is_alone(analyzed):
        # Of a row that is there an upsert sets these alone; below a view they have other names.
        named = [(each, name) for each, name in named if each not in relations or name in analyzed["reassigned"]]
    stored = {each.oid: each for relation in relations for each in (relation, *snapshot.behind(relation.oid).relations)}
    filled = ((each, name) for each in stored.values() if each.kind != "v" for name in find_filled(snapshot, each))
    changed = [(each, name) for each, name in (*named, *filled) if each is not None and each.kind != "v"]
    is_one = len(relations) == 1 and analyzed["verb"] == "update" and _names_one(snapshot, analyzed, relations[0])
    return Written(relations, is_one, changed, actions)


def _names_one(snapshot: CatalogSnapshot, analyzed: Analyzed, relation: Relation) -> bool:
    """Whether an UPDATE names one row by its key: by constants, or by parameters of which only one value can be meant.

    Two of int8 or numeric are one as float8, which the server may take a parameter for.
    """
    if "open_ended" in analyzed["flags"] or len(analyzed["keyed_rows"]) != 1 or not is_alone(analyzed):
        return False
    said = analyzed["keyed_rows"][0]["said"].items()
    columns = [(relation.find(name), value) for name, value in said]
    sure = [each.name for each, value in columns if each is not None and (isinstance(value, str) or each.type_oid in _NARROW)]
    return snapshot.has_key(relation, sure)


def describe_referring(
    snapshot: CatalogSnapshot, sensitivity: Sensitivity, analyzed: Analyzed, written: Written
) -> list[dict[str, Any]]:
    """The facts of all these tables, in the order of their names."""
    if not sensitivity.looks_up or {"write", "define"}.isdisjoint(analyzed["effects"]):
        return []
    changes = changes_rows(analyzed)
    named = {head for each in written.relations if changes for head in find_heads(snapshot, sensitivity, each)}
    followed = {head for heads in find_followed(snapshot, sensitivity, written.actions) for head in heads}
    looked_up = set(followed & named)
    looked_up |= {head for head in followed if not _changes_once(snapshot, sensitivity, analyzed, written, head)}
    if changes and analyzed["verb"] != "alter_table":
        looking = [each for each, name in written.changed if _looks_up(sensitivity, each, name)]
        looked_up |= {head for each in looking for head in find_heads(snapshot, sensitivity, each)}
    return [
        {"schema": schema, "name": name, **({"looked_up": True} if (schema, name) in looked_up else {})}
        for schema, name in sorted(named | followed)
    ]


def _looks_up(sensitivity: Sensitivity, relation: Relation, name: str) -> bool:
    columns = relation.columns.values() if name == "*" else (relation.find(name),)
    return any(column is None or sensitivity.looks_up_with(relation.oid, column.number) for column in columns)


def _changes_once(snapshot: CatalogSnapshot, sensitivity: Sensitivity, analyzed: Analyzed, written: Written, head: Name) -> bool:
    """Whether keys change each row of a table once at most: one of them does, straight from what the statement writes to.

    Where rows change it runs for one key only: what it writes may be what the next one looks for, as both can be rounded, trimmed,
    filled by a trigger or compared without regard to case. Where rows go it has to leave nulls.
    """
    if len(written.relations) != 1 or not is_alone(analyzed):
        return False
    (relation,), goes = written.relations, analyzed["verb"] == "delete"
    stored = snapshot.behind(relation.oid).relations
    direct = [action for each in stored for action in snapshot.key_actions.get(each.oid, ()) if action in written.actions]
    applied = _follow(snapshot, direct, goes=goes or any(each.oid in snapshot.partition_keys for each in stored))
    changing = [each for each in applied or () if each.columns and head in _find_heads_of(snapshot, sensitivity, each)]
    # Partitions and children have keys of their own, each for its rows.
    most = max(Counter(each.relation for each in changing).values(), default=0)
    if applied is None or most > 1 or not all(each in direct for each in changing):
        return False
    return all(_leaves_nulls(snapshot, each) for each in changing) if goes else written.is_one


def _find_heads_of(snapshot: CatalogSnapshot, sensitivity: Sensitivity, action: KeyAction) -> set[Name]:
    return find_heads(snapshot, sensitivity, snapshot.relations[action.relation])


def _follow(snapshot: CatalogSnapshot, direct: Iterable[KeyAction], *, goes: bool) -> list[KeyAction] | None:
    """What keys do once these have done theirs, each as often as it may come to a row; None where that goes on and on.

    Args:
        snapshot: of the catalogue.
        direct: what keys to the written table do.
        goes: whether rows of that go; others change.
    """
    applied: list[KeyAction] = []
    pending = [(action, goes) for action in direct]
    while pending:
        action, is_gone = pending.pop()
        applied.append(action)
        if len(applied) > _MAX_FOLLOWED:
            return None
        changed = _list_changed(snapshot, action)
        removes = (is_gone and action.removes) or (bool(action.columns) and snapshot.may_move(action.relation, changed))
        family = {action.relation} | {each.oid for each in snapshot.behind(action.relation).relations}
        family |= {each.oid for each in snapshot.above(action.relation)}
        for following in (each for oid in sorted(family) for each in snapshot.key_actions.get(oid, ())):
            is_changed = bool(following.on_update) and (changed is None or not changed.isdisjoint(following.on_update))
            if (removes and following.on_delete) or is_changed:
                pending.append((following, removes))
    return applied


def _list_changed(snapshot: CatalogSnapshot, action: KeyAction) -> set[int] | None:
    """The columns that have other values once a key has done what it does, by triggers too; None for any."""
    relation = snapshot.relations.get(action.relation)
    filled = find_filled(snapshot, relation) if relation is not None and action.columns else frozenset[str]()
    if relation is None or "*" in filled:
        return None
    changed = {*action.columns, *(column.number for column in relation.columns.values() if column.name in filled)}
    return changed | {made for number in changed for made in snapshot.find_generated(relation.oid, number)}


def _leaves_nulls(snapshot: CatalogSnapshot, action: KeyAction) -> bool:
    """Whether the columns of a key are null once the other row is gone: they have no default, and no trigger fills them."""
    relation = snapshot.relations[action.relation]
    filled = find_filled(snapshot, relation)
    columns = [relation.columns.get(number) for number in action.columns]
    return "*" not in filled and all(each is not None and not each.has_default and each.name not in filled for each in columns)
