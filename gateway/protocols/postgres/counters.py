"""Columns by which PostgreSQL tells of values that nobody reads: statistics, counters of its work, texts of statements. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.protocols.postgres.catalog import CatalogSnapshot

_PLANNED: Final = frozenset(
    {
        "n_distinct",
        "correlation",
        "histogram_bounds",
        "range_bounds_histogram",
        "range_length_histogram",
        "range_empty_frac",
        "elem_count_histogram",
        *(f"most_common_{what}" for what in ("vals", "freqs", "elems", "elem_freqs")),
    }
)
"""What the planner is told of a column's values, their order and how many are equal."""

_ROOM: Final = frozenset({"n_tup_hot_upd", "n_tup_newpage_upd"})
"""Whether a new row had room beside the old one."""

_ROWS: Final = frozenset(
    {"n_tup_ins", "n_tup_upd", "n_tup_del", "n_live_tup", "n_dead_tup", "n_mod_since_analyze", "n_ins_since_vacuum"}
)
"""Rows of the server's own tables: those that hold what is too long for a row tell how long it is."""

_LOOK_UPS: Final = frozenset(
    {"seq_scan", "seq_tup_read", "idx_scan", "idx_tup_read", "idx_tup_fetch", "last_seq_scan", "last_idx_scan"}
)
"""What was looked up: of the server's own tables, which names and numbers it had to look for; of a transaction, what it did for a value."""

STATISTICS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "pg_attribute": frozenset({"attmissingval"}),
        "pg_class": frozenset({"relminmxid"}),
        "pg_database": frozenset({"datminmxid"}),
        "pg_statistic": frozenset(
            {"stadistinct", *(f"sta{which}{slot}" for which in ("numbers", "values") for slot in range(1, 6))}
        ),
        "pg_stats": _PLANNED,
        "pg_statistic_ext_data": frozenset({"stxdndistinct", "stxddependencies", "stxdmcv", "stxdexpr"}),
        "pg_stats_ext": frozenset(
            {
                "n_distinct",
                "dependencies",
                "most_common_vals",
                "most_common_val_nulls",
                "most_common_freqs",
                "most_common_base_freqs",
            }
        ),
        "pg_stats_ext_exprs": _PLANNED,
        "pg_largeobject": frozenset({"data"}),
        "pg_stat_activity": frozenset({"query"}),
        "pg_stat_statements": frozenset(
            {
                "query",
                *(f"wal_{what}" for what in ("records", "fpi", "bytes", "buffers_full")),
                *(
                    f"{which}_blks_{how}"
                    for which in ("shared", "local", "temp")
                    for how in ("hit", "read", "dirtied", "written")
                ),
            }
        ),
        "pg_stat_database": frozenset({"temp_files", "temp_bytes", "tup_returned", "tup_fetched", "blks_read", "blks_hit"}),
        "pg_stat_wal": frozenset({"wal_records", "wal_fpi", "wal_bytes", "wal_buffers_full", "wal_write", "wal_sync"}),
        "pg_stat_io": frozenset(
            {
                "reads",
                "read_bytes",
                "writes",
                "write_bytes",
                "writebacks",
                "extends",
                "extend_bytes",
                "hits",
                "evictions",
                "reuses",
            }
        ),
        "pg_stat_replication_slots": frozenset({"spill_bytes", "stream_bytes", "total_bytes"}),
        "pg_replication_slots": frozenset({"safe_wal_size"}),
        "pg_stat_slru": frozenset({f"blks_{what}" for what in ("zeroed", "hit", "read", "written", "exists")}),
        "pg_stat_user_tables": _ROOM,
        **{
            f"pg_stat_{which}_tables": _ROOM | _LOOK_UPS | (frozenset() if which.endswith("user") else _ROWS)
            for which in ("all", "sys", *(f"xact_{which}" for which in ("all", "sys", "user")))
        },
        **{f"pg_stat_{which}_indexes": _LOOK_UPS for which in ("all", "sys")},
        **{
            f"pg_statio_{which}_{kind}": frozenset(
                {f"{part}_blks_{how}" for part in ("idx", "toast", "tidx") for how in ("read", "hit")}
                | ({"heap_blks_read", "heap_blks_hit"} if which != "user" else set())
            )
            for which in ("all", "sys", "user")
            for kind in ("tables", "indexes")
        },
        "pg_locks": frozenset({"page", "tuple", "classid", "objid"}),
        "pg_prepared_statements": frozenset({"statement", "parameter_values"}),
        "pg_cursors": frozenset({"name", "statement"}),
        "pg_backend_memory_contexts": frozenset(
            {"ident", "total_bytes", "total_nblocks", "free_bytes", "free_chunks", "used_bytes"}
        ),
    }
)
"""Columns of PostgreSQL's own relations that hold values of user tables, texts of statements with such values in them, or their sizes;
what the planner knows of their order and equality; and counters of bytes and pages, from which sizes and equality of values follow.
The key of an advisory lock (`classid`, `objid`) is what an application made it of."""

_PLACES: Final = frozenset({3220, 3221})
"""pg_lsn, and arrays of it: how far the log has come, which by its growth tells how long a row is that was written; tables of an owner keep it, too."""


def find_counters(snapshot: CatalogSnapshot) -> set[tuple[int, int]]:
    """These columns, and all that keep a place in the log, by relation oid and attnum."""
    places = _PLACES | {oid for oid in snapshot.shapes.types if not snapshot.shapes.within(frozenset({oid})).isdisjoint(_PLACES)}
    return {
        (relation.oid, column.number)
        for relation in snapshot.relations.values()
        if relation.name in STATISTICS
        for column in relation.columns.values()
        if column.name in STATISTICS[relation.name]
    } | {
        (relation.oid, column.number)
        for relation in snapshot.relations.values()
        for column in relation.columns.values()
        if column.type_oid in places
    }
