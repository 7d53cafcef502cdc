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
        is_certain: every relation it names is among these, and whatever it calls is the server's own.
    """

    def __init__(
        self, analyzed: Mapping[str, Any], snapshot: CatalogSnapshot | None, relations: Iterable[Relation], *, is_certain: bool
    ) -> None:
        names = {each["name"] for member in ("types", "functions") for each in analyzed[member]} | {*analyzed["attributes"]}
        plain = {name.removeprefix("_") for name in names}
        reached = frozenset[int]() if snapshot is None else _reach(analyzed, snapshot, relations)
        is_open = snapshot is None or not is_certain or _may_check(analyzed, snapshot, reached)
        text = analyzed["text"].lower()
        self._may = is_open or bool(plain & (LOOKING_UP | {"oid"})) or not reached.isdisjoint(LOOKED_UP_OIDS | {_OID})
        self._calls = bool(analyzed["functions"] or analyzed["attributes"])
        self._has_arrays = is_open or "[" in text or "array" in text or plain != names

    def may_look_up(self, type_oid: int | None) -> bool:
        """Whether a value of this type may come to be looked up; None is an unknown one."""
        if not self._may or self._has_arrays:
            return self._may
        if type_oid in _PLAIN:
            return False
        # A call may take a number out of it, as `lower` does of a range.
        return type_oid is None or type_oid in _NUMBERS or type_oid >= FIRST_NORMAL_OID or self._calls


def _reach(analyzed: Mapping[str, Any], snapshot: CatalogSnapshot, relations: Iterable[Relation]) -> frozenset[int]:
    """The types of values a statement can have without calling anything: of columns, and of fields of the types it names."""
    named = [(each.get("schema"), each["name"].removeprefix("_")) for each in analyzed["types"]]
    rows = (snapshot.resolve(schema, name) for schema, name in named)  # a table is a type, with fields
    known = [*relations, *(relation for relation in rows if relation is not None)]
    oids = {column.type_oid for relation in known for column in relation.columns.values()}
    oids |= {oid for schema, name in named for oid in snapshot.find_type_oids(schema, name)}
    oids |= {_OID for column in analyzed["columns"] if column["name"] == "tableoid"}
    return snapshot.shapes.within(frozenset(oids))


def _may_check(analyzed: Mapping[str, Any], snapshot: CatalogSnapshot, reached: Iterable[int]) -> bool:
    """Whether a type of somebody's own is named, or a domain reached, whose checks look at what becomes one."""
    is_named = any(
        each.get("schema") == _WITH_DOMAINS or each["name"] in _DOMAINS or snapshot.find_types(each.get("schema"), each["name"])
        for each in analyzed["types"]
    )
    return is_named or any(snapshot.shapes.is_domain(oid) for oid in reached)
