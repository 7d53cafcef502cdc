"""Names of the usual types, for those who read what they are to approve."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_NAMES: Final = {
    0: "as the statement implies",
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


def name_types(oids: Iterable[int]) -> list[str]:
    """What some types are called, each in one way: others by their number."""
    return [_NAMES.get(oid, f"type {oid}") for oid in oids]
