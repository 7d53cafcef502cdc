"""Types whose values the server looks up, and whether a value may come to be of one without a word of the text. Pure.

Where several values get one type (10.5), as in a UNION, an array or a CASE, the server casts those of another. A number becomes a
regclass that way, and text in an array does: its input looks a name up, its output a number, and what was found can be seen elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.protocols.postgres.catalog import FIRST_NORMAL_OID, CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import Relation
from gateway.protocols.postgres.type_names import SERVER_TYPES

LOOKED_UP: Final = frozenset(
    f"reg{what}"
    for what in (
        *("class", "collation", "config", "dictionary", "namespace", "oper", "operator", "proc", "procedure", "role", "type"),
        "database",
    )
)
"""Types that stand for an object by its number, and are read and written by its name (8.19)."""

_LOOKED_UP_ARRAYS: Final = frozenset({1008, 2207, 2208, 2209, 2210, 2211, 3735, 3770, 4090, 4097, 4192, 8327})

LOOKED_UP_OIDS: Final = frozenset({24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191, 8326}) | _LOOKED_UP_ARRAYS
"""The same by number, arrays of them included."""

ROW_TYPE_OIDS: Final = frozenset({71, 75, 81, 83, 210, 270, 272, 273}) | frozenset(range(10_000, FIRST_NORMAL_OID))
"""Rows of the server's own tables as types, and arrays of them, whose fields are of such types, and domains of the information schema."""

_OID: Final = 26
"""Not looked up, but a bigint that is made one has to be small enough."""

LOOKING_UP: Final = frozenset(
    {
        *("get_current_ts_config", "pg_filenode_relation", "pg_get_catalog_foreign_keys", "pg_get_replica_identity_index"),
        *("pg_partition_ancestors", "pg_partition_root", "pg_partition_tree", "pg_prepared_statement", "pg_typeof", "ts_debug"),
        *(f"to_{name}" for name in LOOKED_UP),
        *LOOKED_UP,
        *(f"{name}{way}" for name in LOOKED_UP for way in ("in", "recv")),
    }
)
"""Functions of the server whose results are of such types."""

TAKING: Final = frozenset(
    [
        "brin_desummarize_range",
        "brin_summarize_new_values",
        "brin_summarize_range",
        "currval",
        "gin_clean_pending_list",
        "json_to_tsvector",
        "jsonb_to_tsvector",
        "nextval",
        "pg_basetype",
        "pg_column_is_updatable",
        "pg_extension_config_dump",
        "pg_get_sequence_data",
        "pg_import_system_collations",
        "pg_index_column_has_property",
        "pg_index_has_property",
        "pg_indexes_size",
        "pg_nextoid",
        "pg_relation_filenode",
        "pg_relation_filepath",
        "pg_relation_is_publishable",
        "pg_relation_is_updatable",
        "pg_relation_size",
        "pg_sequence_last_value",
        "pg_table_size",
        "pg_total_relation_size",
        "phraseto_tsquery",
        "plainto_tsquery",
        "setval",
        "table_to_xml",
        "table_to_xml_and_xmlschema",
        "table_to_xmlschema",
        "to_tsquery",
        "to_tsvector",
        "ts_headline",
        "ts_lexize",
        "websearch_to_tsquery",
    ]
)
"""Functions of the server that take values of such types: a parameter they are given has the type wherever else it stands."""

_PLAIN: Final = frozenset(
    {16, 18, 19, 25, 114, 700, 701, 790, 829, 869, 1042, 1043, 1082, 1083, 1114, 1184, 1186, 1266, 1700, 2950, 3802}
)
"""Types that are not made one of these by themselves: only their arrays are."""


def makes_looked_up(snapshot: CatalogSnapshot, types: Iterable[int]) -> bool:
    """Whether values of these types, or what they are made of, are looked up, or are rows of the server's own tables."""
    reached = snapshot.shapes.within(frozenset(types))
    rows = [snapshot.relations.get(snapshot.shapes.types[oid].relation) for oid in reached & snapshot.shapes.types.keys()]
    fields = {column.type_oid for relation in rows if relation is not None for column in relation.columns.values()}
    return not (reached | fields).isdisjoint(LOOKED_UP_OIDS | ROW_TYPE_OIDS)


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
        self._may = is_open or bool(plain & (LOOKING_UP | TAKING | {"oid"})) or not reached.isdisjoint(LOOKED_UP_OIDS | {_OID})
        has_arrays = "[" in text or "array" in text or plain != names or not reached.isdisjoint(_LOOKED_UP_ARRAYS)
        self._has_arrays = is_open or has_arrays

    def may_look_up(self, type_oid: int | None) -> bool:
        """Whether a value of this type may come to be looked up; None is an unknown one."""
        return self._may and (self._has_arrays or type_oid not in _PLAIN)


def _reach(analyzed: Mapping[str, Any], snapshot: CatalogSnapshot, relations: Iterable[Relation]) -> frozenset[int]:
    """The types of values a statement can have without calling anything: of columns, and of fields of the types it names."""
    named = _name_types(analyzed)
    rows = (snapshot.resolve(schema, name) for schema, name in named)  # a table is a type, with fields
    known = [*relations, *(relation for relation in rows if relation is not None)]
    oids = {column.type_oid for relation in known for column in relation.columns.values()}
    oids |= {oid for schema, name in named for oid in snapshot.find_type_oids(schema, name)}
    oids |= {_OID for column in analyzed["columns"] if column["name"] == "tableoid"}
    return snapshot.shapes.within(frozenset(oids))


def _name_types(analyzed: Mapping[str, Any]) -> list[tuple[str | None, str]]:
    """Schema and name of the types a statement names, those of the elements for arrays."""
    return [(each.get("schema"), each["name"].removeprefix("_")) for each in analyzed["types"]]


def _may_check(analyzed: Mapping[str, Any], snapshot: CatalogSnapshot, reached: Iterable[int]) -> bool:
    """Whether a type that is not the server's own is named, or a domain reached: its checks look at what becomes one."""
    others = [
        (schema, name) for schema, name in _name_types(analyzed) if name not in SERVER_TYPES or schema not in {None, "pg_catalog"}
    ]
    # A row type that is known was looked into; what is not known may be a table's that was made a moment ago.
    is_named = any(snapshot.resolve(schema, name) is None or snapshot.find_types(schema, name) for schema, name in others)
    return is_named or any(snapshot.shapes.is_domain(oid) for oid in reached)
