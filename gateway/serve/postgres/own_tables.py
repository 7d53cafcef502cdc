"""Which relations a session has made, as far as the server has confirmed it.

What was rolled back is nobody's, and may come to be another's. What may be a temporary relation comes before all others of its name, and
stands in no snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.named import ANY_NAME, NO_NAMES
from gateway.protocols.postgres.own import NONE_OWN, OwnTables

MAX_TEMPORARY: Final = 1_000
"""Names of temporary relations that are remembered; beyond it every name may be one."""


class OwnTablesBook:
    """Follows one session's relations through its transactions.

    Attributes:
        tables: its tables, as they count for whatever is sent next.
        temporary: bare names that may stand for a temporary relation, views included.
    """

    __slots__ = (
        "_at_savepoint",
        "_before",
        "_count_errors",
        "_dropping",
        "_ended",
        "_errors",
        "_has_unnamed",
        "_numbers",
        "_seen",
        "_sent",
        "_strangers",
        "tables",
        "temporary",
    )

    def __init__(self) -> None:
        self._count_errors: Callable[[], int] = lambda: 0
        self._errors = 0
        self.tables = NONE_OWN
        self.temporary: frozenset[str] = NO_NAMES
        # Whether there may be temporary relations under names nobody told: the sequences of columns.
        self._has_unnamed = False
        self._before = NONE_OWN
        self._at_savepoint: OwnTables | None = None
        self._sent: dict[int, OwnTables] = {}
        self._ended = NONE_OWN
        self._dropping: tuple[int, frozenset[str]] | None = None
        self._seen: CatalogSnapshot | None = None
        self._numbers: dict[str, int] = {}
        self._strangers: frozenset[str] = NO_NAMES

    def follow(self, count_errors: Callable[[], int]) -> None:
        """How many errors the server has sent so far: one undoes what its pipeline or transaction did, whatever it belongs to."""
        self._count_errors = count_errors

    def find_known(self, snapshot: object) -> OwnTables:
        """Its tables, but for those whose name another one has by now.

        The first snapshot that holds a table tells its number; a table of the same name and another number is somebody else's.
        """
        if not isinstance(snapshot, CatalogSnapshot):
            return self.tables
        if snapshot is not self._seen:
            self._seen = snapshot
            for name in self.tables.names - self.tables.temporary:
                relation = snapshot.resolve(None, name)
                if relation is not None and self._numbers.setdefault(name, relation.oid) != relation.oid:
                    self._strangers |= {name}
        return replace(self.tables, names=self.tables.names - self._strangers) if self._strangers else self.tables

    @property
    def is_open(self) -> bool:
        """Whether the end of a transaction has yet to confirm something: every statement has to be seen until then."""
        return self.tables != self._before or self._dropping is not None

    def makes_temporary(self, statement: Mapping[str, Any]) -> bool:
        """Whether what gets a name is a temporary relation, or may be.

        A view of a temporary relation is temporary by itself, and a temporary relation stays one under another name.
        """
        if "temporary" in statement["flags"]:
            return True
        if statement["verb"] not in {"rename", "create_view"}:
            return False
        is_view = statement["verb"] == "create_view"
        named = [table for table in statement["tables"] if (table["access"] == "define") != is_view]
        if is_view and self._has_unnamed:
            return True
        return ANY_NAME in self.temporary or any(table["name"] in self.temporary or _may_be_temporary(table) for table in named)

    def send(self, number: int, statement: Mapping[str, Any]) -> None:
        """A statement of an action is about to be sent."""
        if not self.is_open:
            self._errors = self._count_errors()
        match statement["verb"]:
            case "savepoint":
                self._at_savepoint = self._at_savepoint or self.tables
            case "rollback_to":
                # Which savepoint does not matter: what was made before the first is there in any case.
                self.tables = self.tables.undone_to(self._at_savepoint or self._before)
                self._errors, self._dropping = self._count_errors(), None
            case "rollback" | "prepare_transaction":
                self.tables, self._dropping = self.tables.undone_to(self._before), None
            case "commit":
                self.tables = self.tables.settled()  # with AND CHAIN there is no moment outside a transaction
            case _:
                self._has_unnamed |= _makes_unnamed(statement)
                if "drops_temporary" in statement["flags"]:
                    self._dropping = number, self.temporary
                elif self.makes_temporary(statement):
                    names = self.temporary | frozenset(statement.get("new_names", ()))
                    self.temporary = names if len(names) <= MAX_TEMPORARY else frozenset({ANY_NAME})
                    self._dropping = None
                self.tables = self.tables.after(statement)
        self._sent[number] = self.tables

    def end(self, number: int) -> None:
        """No reply of an action can come any more."""
        self._ended = self._sent.pop(number, self._ended)

    def settle(self) -> None:
        """The server is outside a transaction. What was sent and is not answered may make more."""
        if self._count_errors() != self._errors:
            self.tables, self._dropping = self.tables.undone_to(self._before), None
        self.tables = self.tables.settled()
        self._before = self._ended.settled().undone_to(self.tables)
        self._at_savepoint, self._errors = None, self._count_errors()
        if self._dropping is not None and self._dropping[0] not in self._sent:
            self.temporary -= self._dropping[1]
            self._dropping, self._has_unnamed = None, False


def _may_be_temporary(table: Mapping[str, Any]) -> bool:
    """Whether a table no snapshot holds may be temporary: the sequence of a column, or what a trigger made."""
    return bool(table.get("unresolved")) and not (table.get("own") and not table.get("temporary"))


def _makes_unnamed(statement: Mapping[str, Any]) -> bool:
    """Whether a statement makes a sequence for a column of a temporary table, itself or by LIKE."""
    is_temporary = "temporary" in statement["flags"] or any(table.get("temporary") for table in statement["tables"])
    copies = statement["verb"] == "create_table" and any(table["access"] == "read" for table in statement["tables"])
    return is_temporary and ("makes_sequence" in statement["flags"] or copies)
