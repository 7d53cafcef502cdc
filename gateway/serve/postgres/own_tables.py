"""Which relations a session has made, as far as the server has confirmed it.

What was rolled back is nobody's, and may come to be another's. What may be a temporary relation comes before all others of its name, and
stands in no snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.protocols.postgres.named import ANY_NAME
from gateway.protocols.postgres.own import OwnTables

MAX_TEMPORARY: Final = 1_000
"""Names of temporary relations that are remembered; beyond it every name may be one."""


class OwnTablesBook:
    """Follows one session's relations through its transactions.

    Attributes:
        tables: its tables, as they count for whatever is sent next.
        temporary: bare names that may stand for a temporary relation, views included.
    """

    __slots__ = ("_at_savepoint", "_before", "_dropping", "_ended", "_has_failed", "_sent", "tables", "temporary")

    def __init__(self) -> None:
        self.tables = OwnTables()
        self.temporary: frozenset[str] = frozenset()
        self._before = OwnTables()
        self._at_savepoint: OwnTables | None = None
        self._sent: dict[int, OwnTables] = {}
        self._ended = OwnTables()
        self._has_failed = False
        self._dropping: tuple[int, frozenset[str]] | None = None

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
        named = {table["name"] for table in statement["tables"]}
        return statement["verb"] in {"rename", "create_view"} and (
            ANY_NAME in self.temporary or not named.isdisjoint(self.temporary)
        )

    def send(self, number: int, statement: Mapping[str, Any]) -> None:
        """A statement of an action is about to be sent."""
        match statement["verb"]:
            case "savepoint":
                self._at_savepoint = self._at_savepoint or self.tables
            case "rollback_to":
                # Which savepoint does not matter: what was made before the first is there in any case.
                self.tables = self.tables.undone_to(self._at_savepoint or self._before)
                self._has_failed, self._dropping = False, None
            case "rollback" | "prepare_transaction":
                self.tables, self._dropping = self.tables.undone_to(self._before), None
            case _:
                if "drops_temporary" in statement["flags"]:
                    self._dropping = number, self.temporary
                elif self.makes_temporary(statement):
                    names = self.temporary | frozenset(statement.get("new_names", ()))
                    self.temporary = names if len(names) <= MAX_TEMPORARY else frozenset({ANY_NAME})
                    self._dropping = None
                self.tables = self.tables.after(statement)
        self._sent[number] = self.tables

    def end(self, number: int, *, is_completed: bool) -> None:
        """No reply of an action can come any more."""
        self._ended = self._sent.pop(number, self._ended)
        if not is_completed and self.is_open:
            self._has_failed, self._dropping = True, None

    def settle(self) -> None:
        """The server is outside a transaction. What was sent and is not answered may make more."""
        if self._has_failed:
            self.tables = self.tables.undone_to(self._before)
        self.tables = self.tables.settled()
        self._before = self._ended.settled().undone_to(self.tables)
        self._at_savepoint, self._has_failed = None, False
        if self._dropping is not None and self._dropping[0] not in self._sent:
            self.temporary -= self._dropping[1]
            self._dropping = None
