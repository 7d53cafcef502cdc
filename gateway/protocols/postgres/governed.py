"""Whose policies run with a statement (row security, 5.8): those of what it names, and of what these policies read in turn. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import Relation
from gateway.protocols.postgres.hooks import Hook, read_body


def find_governed(snapshot: CatalogSnapshot, relation: Relation) -> tuple[Relation, ...]:
    """The relations whose policies run where one is read or written by its name: itself or what its view names, and what policies read.

    Those of children and partitions do not (5.8).
    """

    def derive() -> tuple[Relation, ...]:
        found: dict[int, Relation] = {}
        pending = [relation.oid]
        while pending:
            current = snapshot.relations.get(pending.pop())
            if current is None or current.oid in found:
                continue
            found[current.oid] = current
            if current.oid in snapshot.views:
                pending += [oid for oid, _ in snapshot.views[current.oid].columns]
            elif current.has_row_security:
                pending += [oid for oid, _ in snapshot.policies.get(current.oid, ())]
                pending += [each.oid for hook in snapshot.hooks.get(current.oid, ()) for each in _find_read(snapshot, hook)]
        return tuple(found.values())

    governed: tuple[Relation, ...] = snapshot.remember(("governed", relation.oid), derive)
    return governed


def _find_read(snapshot: CatalogSnapshot, hook: Hook) -> Iterator[Relation]:
    """The tables in the body of what a policy calls."""
    for analyzed in read_body(hook).statements if hook.kind == "policy" else ():
        found = (snapshot.resolve(table.get("schema"), table["name"]) for table in analyzed["tables"])
        yield from (relation for relation in found if relation is not None)
