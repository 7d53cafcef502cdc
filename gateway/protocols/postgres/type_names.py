"""Names of the server's own types: all of them, and what the usual ones are called for those who read what they are to approve."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

UNTYPED: Final = "as the statement implies"
"""What a parameter is called whose type the server infers."""

_NAMES: Final = {
    0: UNTYPED,
    16: "boolean",
    17: "bytea",
    20: "bigint",
    21: "smallint",
    23: "integer",
    25: "text",
    26: "oid",
    114: "json",
    700: "real",
    701: "double precision",
    790: "money",
    1042: "character",
    1043: "character varying",
    1082: "date",
    1083: "time",
    1114: "timestamp",
    1184: "timestamptz",
    1186: "interval",
    1266: "timetz",
    1700: "numeric",
    2950: "uuid",
    3802: "jsonb",
}


SERVER_TYPES: Final = frozenset(
    """
    aclitem any anyarray anycompatible anycompatiblearray anycompatiblemultirange anycompatiblenonarray anycompatiblerange
    anyelement anyenum anymultirange anynonarray anyrange bit bool box bpchar bytea char cid cidr circle cstring date
    datemultirange daterange event_trigger fdw_handler float4 float8 gtsvector index_am_handler inet int2 int2vector int4
    int4multirange int4range int8 int8multirange int8range internal interval json jsonb jsonpath language_handler line
    lseg macaddr macaddr8 money name numeric nummultirange numrange oid oidvector path point polygon record refcursor
    regclass regcollation regconfig regdictionary regnamespace regoper regoperator regproc regprocedure regrole regtype
    table_am_handler text tid time timestamp timestamptz timetz trigger tsm_handler tsmultirange tsquery tsrange
    tstzmultirange tstzrange tsvector txid_snapshot unknown uuid varbit varchar void xid xid8 xml
    """.split()  # noqa: SIM905 - a text is easier to compare with what the server lists
)
"""Types of pg_catalog in PostgreSQL 14 to 18, but for those that begin with `pg_` or with the underscore of arrays."""


def name_types(oids: Iterable[int]) -> list[str]:
    """What some types are called, each in one way: others by their number."""
    return [_NAMES.get(oid, f"type {oid}") for oid in oids]
