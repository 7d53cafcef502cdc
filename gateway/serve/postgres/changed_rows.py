"""The tables of sensitive references whose rows the open transaction of a session may have changed, so that it changes none of them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.protocols.postgres.rewritten import Name, list_changed


class ChangedRows:
    """What has been sent since the server was last outside a transaction.

    What was rolled back to a savepoint counts on, and so does what failed: neither happens where it matters to anybody.
    """

    __slots__ = ("_ended", "_sent")

    def __init__(self) -> None:
        self._sent: dict[int, frozenset[Name]] = {}
        self._ended: set[int] = set()

    @property
    def is_open(self) -> bool:
        """Whether anything is remembered, which the end of its transaction makes void."""
        return bool(self._sent)

    @property
    def tables(self) -> frozenset[Name]:
        """The tables."""
        return frozenset[Name]().union(*self._sent.values())

    def send(self, number: int, statements: Iterable[Mapping[str, Any]]) -> None:
        """The statements of an action are on their way."""
        if changed := frozenset[Name]().union(*map(list_changed, statements)):
            self._sent[number] = changed

    def end(self, number: int) -> None:
        """No reply of an action can come any more."""
        if number in self._sent:
            self._ended.add(number)

    def settle(self) -> None:
        """The server is outside a transaction: those of what was answered are over. What is sent and not answered may be in another one."""
        for number in self._ended:
            del self._sent[number]
        self._ended.clear()
