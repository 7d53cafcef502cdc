"""Which rows a transaction may have changed, as far as the texts of its statements tell them apart. Pure.

Two UPDATEs that each name their rows by another value of a column (`where id = 1`, `where id = 2`) change none of the other's, as long as
neither gives the column itself a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gateway.protocols.postgres.assigned import is_alone
from gateway.protocols.postgres.bodies import find_filled
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import Relation
from gateway.protocols.postgres.rewritten import Name

if TYPE_CHECKING:
    # A type of the stub only: at run time an analysis is a plain dict.
    from sealgate_native.sql import Statement as Analyzed

MAX_PINNED: Final = 10_000
"""Rows of a transaction that are told apart; after so many a table counts as changed as a whole."""

_WHOLE: Final = frozenset({20, 21, 23})
_UUID: Final = 2950
_PINNING: Final = _WHOLE | {_UUID}
"""int8, int2, int4 and uuid: the types in which equal values are written alike."""

_NUMBERS: Final = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)
_UUIDS: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)

_SIZES: Final = {20: 8, 21: 2, 23: 4, _UUID: 16}
"""Bytes of their values in binary format."""

_EXACT_IN_FLOATS: Final = 1 << 24
"""Beyond it two whole numbers can be one as float4."""


@dataclass(frozen=True, slots=True)
class Pin:
    """That every row a statement changes has one value in a column, which it leaves as it is: the text of a constant, or the number of a parameter."""

    type_oid: int
    said: str | int


def find_pins(snapshot: CatalogSnapshot, analyzed: Analyzed, relations: Sequence[Relation]) -> dict[str, Pin]:
    """The columns of an UPDATE that say which rows it does not change: those with another value.

    A column that is assigned, filled by a trigger or generated says nothing of its rows any more, and neither does one of a type
    in which two values may be equal that are written otherwise.
    """
    if analyzed["verb"] != "update" or not is_alone(analyzed) or len(relations) != 1 or len(analyzed["keyed_rows"]) != 1:
        return {}
    (relation,), (keyed,) = relations, analyzed["keyed_rows"]
    filled = find_filled(snapshot, relation) | {column["name"] for column in analyzed["assigned"]}
    if relation.kind == "v" or "*" in filled:
        return {}
    found = ((relation.find(name), said) for name, said in keyed["said"].items() if name not in filled)
    return {
        column.name: Pin(column.type_oid, said)
        for column, said in found
        if column is not None and column.type_oid in _PINNING and not _is_made(snapshot, relation, column.name)
    }


def _is_made(snapshot: CatalogSnapshot, relation: Relation, name: str) -> bool:
    """Whether a column is generated, in a relation or in one of its children."""
    columns = (each.find(name) for each in (relation, *snapshot.behind(relation.oid).relations))
    return any(column is not None and column.is_generated for column in columns)


def read_pins(pins: Mapping[str, Pin], params: Sequence[object], types: Sequence[int]) -> dict[str, int | str]:
    """The values of pinned columns, of parameters (`Statement.params` and `types`) those that are known for sure."""
    found: dict[str, int | str] = {}
    for name, pin in pins.items():
        if isinstance(pin.said, str):
            value = _read(pin.type_oid, pin.said)
        elif 0 < pin.said <= len(params):
            value = _read_parameter(pin.type_oid, params[pin.said - 1], types[pin.said - 1] if pin.said <= len(types) else 0)
        else:
            value = None
        if value is not None:
            found[name] = value
    return found


def _read_parameter(column_type: int, value: object, type_oid: int) -> int | str | None:
    if isinstance(value, Mapping):
        return _read_bytes(column_type, type_oid, str(value.get("hex")))
    found = _read(column_type, value) if isinstance(value, str) else None
    if type_oid != 0:
        return found if type_oid in _PINNING else None  # no float, in which two numbers are one
    # The server infers the type, which may be one of four bytes: as float4 or oid two numbers are one.
    return found if isinstance(found, str) or (found is not None and 0 <= found <= _EXACT_IN_FLOATS) else None


def _read_bytes(column_type: int, type_oid: int, hexed: str) -> int | str | None:
    """A binary parameter: a number in the order of the network, or a uuid."""
    if len(hexed) != 2 * _SIZES.get(type_oid, -1):
        return None
    if column_type == _UUID:
        return str(UUID(hexed)) if type_oid == _UUID else None
    return int.from_bytes(bytes.fromhex(hexed), signed=True) if type_oid in _WHOLE else None


def _read(type_oid: int, text: str) -> int | str | None:
    """One text for each value."""
    if type_oid == _UUID:
        return text.lower() if _UUIDS.fullmatch(text) else None
    return int(text) if _NUMBERS.fullmatch(text) else None  # as xid, `010` would be 8


class ChangedRows:
    """Rows that a transaction may have changed, by table: how many, and the values they have in columns that pin all of them."""

    __slots__ = ("_pinned",)

    def __init__(self) -> None:
        self._pinned: dict[Name, dict[str, set[int | str]]] = {}

    def note(self, table: Name, pinned: Mapping[str, int | str]) -> None:
        """Some rows of a table with these values may be other ones from now on; any, where there are none."""
        before = self._pinned.get(table)
        if before is None:
            self._pinned[table] = {column: {value} for column, value in pinned.items()}
            return
        for column in set(before):
            if column not in pinned or len(before[column]) >= MAX_PINNED:
                del before[column]
            else:
                before[column].add(pinned[column])

    def may_hold(self, table: Name, pinned: Mapping[str, int | str]) -> bool:
        """Whether any row of a table with these values may be among them."""
        before = self._pinned.get(table)
        if before is None:
            return False
        return not any(column in before and value not in before[column] for column, value in pinned.items())


NONE_CHANGED: Final = ChangedRows()
"""A transaction that has changed none."""
