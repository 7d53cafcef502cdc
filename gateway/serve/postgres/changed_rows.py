"""The rows that the open transaction of a session may have changed, of tables with sensitive references, so that it changes none again."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.protocols.postgres.changed_rows import ChangedRows
from gateway.protocols.postgres.rewritten import Name


class ChangedRowsBook:
    """What has been sent since the server was last outside a transaction.

    What was rolled back to a savepoint counts on, and so does what failed: neither happens where it matters to anybody.

    Attributes:
        rows: all of it, to be asked and not to be kept.
    """

    __slots__ = ("_ended", "_sent", "rows")

    def __init__(self) -> None:
        self.rows = ChangedRows()
        self._sent: dict[int, Mapping[Name, Mapping[str, int | str]]] = {}
        self._ended: set[int] = set()

    @property
    def is_open(self) -> bool:
        """Whether anything is remembered, which the end of its transaction makes void."""
        return bool(self._sent)

    def send(self, number: int, changed: Mapping[Name, Mapping[str, int | str]]) -> None:
        """An action is on its way that changes rows of these tables, with these values in columns that it leaves as they are."""
        if changed:
            self._sent[number] = changed
            self._note(changed)

    def end(self, number: int) -> None:
        """No reply of an action can come any more."""
        if number in self._sent:
            self._ended.add(number)

    def settle(self) -> None:
        """The server is outside a transaction: those of what was answered are over. What is sent and not answered may be in another one."""
        if not self._ended:
            return
        for number in self._ended:
            del self._sent[number]
        self._ended.clear()
        self.rows = ChangedRows()
        for changed in self._sent.values():
            self._note(changed)

    def _note(self, changed: Mapping[Name, Mapping[str, int | str]]) -> None:
        for table, pinned in changed.items():
            self.rows.note(table, pinned)
