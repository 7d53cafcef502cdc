"""The tables whose rows a statement may change, where the server looks up what a sensitive column refers to once a row is changed again. Pure.

A foreign key is checked for a new row, for one whose key is another one, and for one that its own transaction has written before
(PostgreSQL's `RI_FKey_fk_upd_check_required`): the row with the code of a customer is looked for and locked at the second UPDATE of
that customer, which shows in more places than anybody could close. So there is no second UPDATE (decision 27).

A table stands here for the whole family of partitions or children it is the head of, since a row can be changed through any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.protocols.postgres.assigned import adds_only, is_alone
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import KeyAction, Relation
from gateway.protocols.postgres.sensitivity import Sensitivity

if TYPE_CHECKING:
    # A type of the stub only: at run time an analysis is a plain dict.
    from sealgate_native.sql import Statement as Analyzed

REFERRING: Final = "referring"
"""The member of a statement's facts."""

Name = tuple[str, str]
"""Schema and name of a table."""


def changes_rows(analyzed: Analyzed) -> bool:
    """Whether rows may be changed that are there already: neither do some only come, nor others only go.

    A definition may write all of them anew (ALTER TABLE with a new column whose default is no constant).
    """
    if analyzed["verb"] == "alter_table":
        return True
    only_goes = analyzed["verb"] == "delete" and is_alone(analyzed)
    return "write" in analyzed["effects"] and not adds_only(analyzed) and not only_goes


def find_heads(snapshot: CatalogSnapshot, sensitivity: Sensitivity, relation: Relation) -> set[Name]:
    """The heads of the families that rows of a relation may be stored in, of those with a sensitive column that refers to plain rows."""
    if not sensitivity.looks_up:
        return set()
    stored = (each for each in (relation, *snapshot.behind(relation.oid).relations) if each.kind != "v")
    heads = {head.oid: head for each in stored for head in _climb(snapshot, each)}
    return {(head.schema, head.name) for head in heads.values() if _refers(snapshot, sensitivity, head)}


def _climb(snapshot: CatalogSnapshot, relation: Relation) -> Iterator[Relation]:
    """What is above a relation and has nothing above itself; the relation, where nothing is."""
    above = snapshot.above(relation.oid)
    yield from (each for each in above if not snapshot.above(each.oid)) if above else (relation,)


def _refers(snapshot: CatalogSnapshot, sensitivity: Sensitivity, head: Relation) -> bool:
    return any(sensitivity.refers(each.oid) for each in (head, *snapshot.behind(head.oid).relations))


def find_followed(snapshot: CatalogSnapshot, sensitivity: Sensitivity, actions: Iterable[KeyAction]) -> Iterator[set[Name]]:
    """The same for each change that a foreign key makes by itself."""
    for action in actions:
        relation = snapshot.relations.get(action.relation) if action.columns else None
        if relation is not None:
            yield find_heads(snapshot, sensitivity, relation)


def rewrites(
    snapshot: CatalogSnapshot, sensitivity: Sensitivity, analyzed: Analyzed, relation: Relation, actions: Iterable[KeyAction]
) -> bool:
    """Whether a statement of a body changes such rows, which may be the same ones each time it runs."""
    if not sensitivity.looks_up or "write" not in analyzed["effects"]:
        return False
    named = find_heads(snapshot, sensitivity, relation) if changes_rows(analyzed) else set()
    return bool(named) or any(find_followed(snapshot, sensitivity, actions))


def mark_again(statement: Mapping[str, Any], changed: Callable[[Name], bool]) -> dict[str, Any]:
    """The facts of a statement that runs in a transaction which may have changed its rows of some tables before."""
    if statement["verb"] == "prepare":
        return dict(statement)
    marked = [{**each, "again": True} if changed((each["schema"], each["name"])) else each for each in statement[REFERRING]]
    return {**statement, REFERRING: marked}


def list_changed(statement: Mapping[str, Any]) -> frozenset[Name]:
    """The tables of a described statement whose rows have been changed once it has run; PREPARE runs nothing."""
    if statement["verb"] == "prepare":
        return frozenset()
    return frozenset((each["schema"], each["name"]) for each in statement.get(REFERRING, ()))
