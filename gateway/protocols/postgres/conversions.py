"""Types whose values the server looks up, and whether a value may come to be of one without a word of the text. Pure.

Where several values get one type (10.5), as in a UNION, an array or a CASE, the server casts those of another. A number becomes a
regclass that way, and text in an array does: its input looks a name up, its output a number, and what was found can be seen elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.protocols.postgres.catalog import FIRST_NORMAL_OID, CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import Relation

LOOKED_UP: Final = frozenset(
    f"reg{what}"
    for what in (
        *("class", "collation", "config", "dictionary", "namespace", "oper", "operator", "proc", "procedure", "role", "type"),
        "database",
    )
)
"""Types that stand for an object by its number, and are read and written by its name (8.19)."""

LOOKED_UP_OIDS: Final = frozenset(
    {
        *(24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191, 8326),
        *(1008, 2207, 2208, 2209, 2210, 2211, 3735, 3770, 4090, 4097, 4192, 8327),
    }
)
"""The same by number, arrays of them included."""

ROW_TYPE_OIDS: Final = frozenset({71, 75, 81, 83}) | frozenset(range(10_000, FIRST_NORMAL_OID))
"""Rows of the server's own tables as types, whose fields are of such types, and domains of the information schema."""

_OID: Final = 26
"""Not looked up, but a bigint that is made one has to be small enough."""

LOOKING_UP: Final = frozenset(
    {
        *("get_current_ts_config", "pg_filenode_relation", "pg_get_catalog_foreign_keys", "pg_get_replica_identity_index"),
        *("pg_partition_ancestors", "pg_partition_root", "pg_partition_tree", "pg_prepared_statement", "pg_typeof", "ts_debug"),
        *(f"to_{name}" for name in LOOKED_UP),
        *LOOKED_UP,
    }
)
"""Functions of the server whose results are of such types."""

_WITH_DOMAINS: Final = "information_schema"

_DOMAINS: Final = frozenset({"cardinal_number", "character_data", "sql_identifier", "time_stamp", "yes_or_no"})
"""The domains in there (37.2), whose checks run on what an array of them is given."""

_NUMBERS: Final = frozenset({20, 21, 23})
"""int8, int2, int4."""

_PLAIN: Final = frozenset(
    {16, 18, 19, 25, 114, 700, 701, 790, 829, 869, 1042, 1043, 1082, 1083, 1114, 1184, 1186, 1266, 1700, 2950, 3802}
)
"""Types that are not made one of these by themselves: only their arrays are."""


class Conversions:
    """Whether values of one statement may be made something that is looked up.

    Args:
        analyzed: the statement.
        snapshot: what its names mean; None where that is not known.
        relations: those it reads.
        is_certain: every relation it names is among these.
    """

    def __init__(
        self, analyzed: Mapping[str, Any], snapshot: CatalogSnapshot | None, relations: Iterable[Relation], *, is_certain: bool
    ) -> None:
        self._snapshot = snapshot
        names = {each["name"] for member in ("types", "functions") for each in analyzed[member]} | {*analyzed["attributes"]}
        rows = () if snapshot is None else (snapshot.resolve(each.get("schema"), each["name"]) for each in analyzed["types"])
        known = [*relations, *(relation for relation in rows if relation is not None)]  # a table is a type, with fields
        oids = {column.type_oid for relation in known for column in relation.columns.values()}
        oids |= {_OID for column in analyzed["columns"] if column["name"] == "tableoid"}
        own = snapshot is None or any(snapshot.find_types(each.get("schema"), each["name"]) for each in analyzed["types"])
        own |= any(each.get("schema") == _WITH_DOMAINS or each["name"] in _DOMAINS for each in analyzed["types"])
        reached = oids if snapshot is None else snapshot.shapes.within(frozenset(oids))
        own |= snapshot is not None and any(snapshot.shapes.is_domain(oid) for oid in reached)
        called = {name.removeprefix("_") for name in names} & LOOKING_UP or not names.isdisjoint({"oid", "_oid"})
        found = bool(called) or not reached.isdisjoint(LOOKED_UP_OIDS | {_OID})
        self._may = not is_certain or own or found
        self._calls = bool(analyzed["functions"] or analyzed["attributes"])
        text = analyzed["text"].lower()
        self._has_arrays = "[" in text or "array" in text or any(name.startswith("_") for name in names) or own or not is_certain

    def may_look_up(self, type_oid: int | None) -> bool:
        """Whether a value of this type may come to be looked up; None is an unknown one."""
        if not self._may:
            return False
        if type_oid in _PLAIN:
            return self._has_arrays
        # A call may take a number out of it, as `lower` does of a range.
        is_open = type_oid is None or type_oid in _NUMBERS or type_oid >= FIRST_NORMAL_OID or self._calls
        return is_open or self._has_arrays
