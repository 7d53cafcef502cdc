"""How many rows each cursor of a session has given: a row limit is one for all FETCHes of a cursor, as for all Executes of a portal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.action import Action
from gateway.pipeline import Ruling
from gateway.protocols.postgres.enforce import RowLimit
from gateway.protocols.postgres.named import MAX_NAMES, Change, Definition

PREFIX: Final = "cursor "
"""What the payload of an action begins the names of cursors with (`named.list_texts`)."""


@dataclass(slots=True)
class CursorRows:
    """Rows delivered, by the name of the cursor they came from; a new DECLARE of the name begins at none, unless it fails.

    A FETCH of a name that may stand for several cursors is not counted; the default policy refuses it.
    """

    _rows: dict[str, int] = field(default_factory=dict)
    _sent: dict[int, dict[str, int]] = field(default_factory=dict)

    def begin(self, number: int, changes: Iterable[Change]) -> None:
        """Names that an action about to be sent makes."""
        made = [change.name for change in changes if isinstance(change, Definition) and change.kind == "cursor"]
        if made:
            self._sent[number] = {name: self._rows.pop(name, 0) for name in made}

    def end(self, number: int, *, is_completed: bool) -> None:
        """No reply of the action can come any more; one that failed has left the cursor that had the name."""
        for name, rows in self._sent.pop(number, {}).items():
            if rows and not is_completed:
                self._rows[name] = self._rows.pop(name, 0) + rows

    def count(self, ruling: Ruling | None, rows: int) -> None:
        """Rows that were delivered; of a text that fetches from several cursors, of each of them."""
        if ruling is None or ruling.action is None or not rows:
            return
        for name in _find_cursors(ruling.action):
            self._rows[name] = self._rows.pop(name, 0) + rows
        while len(self._rows) > MAX_NAMES:
            del self._rows[next(iter(self._rows))]

    def tighten(self, limit: RowLimit | None, request: Action, index: int) -> tuple[RowLimit | None, bool]:
        """What is left of a limit, and whether it is that of a cursor, so that it holds for one result only.

        Args:
            limit: of the result.
            request: the action the result answers.
            index: which statement of a simple query.
        """
        statements = request.facts.get("statements", ())
        is_fetch = 0 <= index < len(statements) and statements[index].get("verb") == "fetch"
        names = _find_cursors(request) if is_fetch else ()
        if limit is None or not names:
            return limit, False
        taken = max(self._rows.get(name, 0) for name in names)
        return replace(limit, rows=max(0, limit.rows - taken)), True


def _find_cursors(action: Action) -> tuple[str, ...]:
    return tuple(name.removeprefix(PREFIX) for name in action.payload.get("named", {}) if name.startswith(PREFIX))
