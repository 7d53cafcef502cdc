"""The objects a catalogue snapshot holds, as the server's catalogue describes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class BaseColumn:
    """A column that stores values, by name."""

    schema: str
    table: str
    column: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a relation.

    Attributes:
        number: its attnum.
        is_generated: it is made of other columns, and left out of a plain COPY.
        is_computed: the server chooses its value where a new row has none: by a default that is no constant, or as an identity.
        has_default: a new row that has no value of its own gets one.
    """

    number: int
    name: str
    type_oid: int
    is_generated: bool = False
    is_computed: bool = False
    has_default: bool = False


@dataclass(frozen=True, slots=True)
class Relation:
    """A table (r), partitioned table (p), view (v), materialized view (m), foreign table (f) or sequence (S).

    Attributes:
        is_owned: by the role that sees it.
    """

    oid: int
    schema: str
    name: str
    kind: str
    has_row_security: bool
    columns: Mapping[int, Column]
    is_owned: bool

    def find(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.columns.values() if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Function:
    """A function that is not PostgreSQL's own.

    Attributes:
        volatility: "immutable", "stable" or "volatile", as its author declared.
        is_definer: it runs with its owner's rights.
        returns_rows: it may return several rows for one call.
        extension: the one it belongs to; empty where it does to none.
    """

    oid: int
    schema: str
    name: str
    language: str
    volatility: Literal["immutable", "stable", "volatile"]
    is_definer: bool
    min_args: int
    max_args: int
    returns_rows: bool
    extension: str

    def takes(self, args: int) -> bool:
        """Whether a call with that many arguments can mean it."""
        return self.min_args <= args <= self.max_args


@dataclass(frozen=True, slots=True)
class KeyAction:
    """What a foreign key does to rows of its own table (`relation`, an OID) when rows of the other one change or go.

    Attributes:
        columns: attnums of the columns it writes to; none where rows only go.
        on_delete: it does something when rows of the other one go.
        removes: its own rows go then, too.
        on_update: attnums of the columns of the other one that it follows; none where it does nothing then.
    """

    relation: int
    columns: tuple[int, ...]
    on_delete: bool
    on_update: tuple[int, ...]
    removes: bool


@dataclass(frozen=True, slots=True)
class Index:
    """An index.

    Attributes:
        columns: attnums of the columns it is in the order of, those of its expressions included; 0 stands for the whole row.
        is_ranging: it may be read in its order though no condition names its first column: it has several columns, or is partial.
        key: attnums of the columns of which no two rows have the same values at any time; empty where it does not say so.
        carried: attnums of the columns that are only included (INCLUDE).
        mixed: attnums of the columns that stand in its expressions.
        is_plural: it may have many entries for one row, as GIN has for an array or a document.
        condition: where it refuses rows, attnums of the columns by which its predicate tells which of them it has.
        compares_nulls: a null is as any other value to it (NULLS NOT DISTINCT).
        is_deferrable: rows may be compared later than they are written, and whenever SET CONSTRAINTS says so.
    """

    name: str
    relation: int
    columns: frozenset[int]
    is_ranging: bool
    key: frozenset[int]
    carried: frozenset[int]
    mixed: frozenset[int]
    is_plural: bool
    condition: frozenset[int]
    compares_nulls: bool = False
    is_deferrable: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """What the server looks at when a row changes: a CHECK, a policy, the predicate of an index, or the WHEN of a trigger.

    Attributes:
        columns: attnums of the columns it is made of; 0 stands for the whole row.
        is_of_change: it has the row as it was before, too.
        is_open: it has a setting that an agent may give any value, beside the row, or there may be rows that do not fulfil it (NOT VALID).
    """

    relation: int
    columns: frozenset[int]
    is_of_change: bool
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """A view's definition, the relation columns (attnum 0: the whole relation), functions and types it depends on."""

    definition: str | None
    columns: frozenset[tuple[int, int]] = frozenset()
    functions: frozenset[int] = frozenset()
    types: frozenset[int] = frozenset()
