"""Which names of relations may stand for another relation in one session than the snapshot says, and for how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.named import ANY_CODE, ANY_NAME, NO_NAMES, find_moved, find_shifted
from gateway.serve.postgres.lookups import MAX_MOVED, Moved


class MovedNames:
    """Follows the names one session moves, and those its snapshots show to have been moved.

    Attributes:
        moved: names that are uncertain until the transaction is over (`actions.MOVED`).
        moving: the same with their schemas, for the other sessions of the database; temporary relations are not theirs.
        shifted: names that stood for another relation before, which a statement prepared then may still read (`actions.SHIFTED`).
        shadowing: names of known relations that a temporary one may stand before.
        judged_by: the snapshot the last statement was judged by.
    """

    __slots__ = ("_renamed", "judged_by", "moved", "moving", "shadowing", "shifted")

    def __init__(self) -> None:
        self.moved: frozenset[str] = NO_NAMES
        self.moving: frozenset[Moved] = NO_NAMES
        self.shifted: frozenset[str] = NO_NAMES
        self.shadowing: frozenset[str] = NO_NAMES
        self.judged_by: CatalogSnapshot | None = None
        self._renamed: frozenset[str] = NO_NAMES

    @property
    def is_uncertain(self) -> bool:
        """Whether any name may stand for another relation than the snapshot says, or to what was prepared before."""
        return bool(self.moved or self.shifted or self.shadowing)

    def judge_by(self, snapshot: CatalogSnapshot, temporary: frozenset[str]) -> None:
        """A statement is judged by this snapshot; `temporary` are names that may stand for a temporary relation."""
        if self.judged_by is not None:
            self.shifted = _bound(self.shifted | find_shifted(self.judged_by, snapshot))
        self.judged_by = snapshot
        self.shadowing = temporary if ANY_NAME in temporary else (temporary & snapshot.name_schemas().keys()) or NO_NAMES

    def find_uncertain(self, *, is_prepared: bool) -> frozenset[str]:
        """Names a statement cannot be judged by; one that was prepared before may go on reading what a name stood for then."""
        uncertain = self.moved | self.shadowing
        return uncertain | self.shifted if is_prepared else uncertain

    def send(self, statement: Mapping[str, Any], *, is_temporary: bool) -> None:
        """A statement is about to be sent; `is_temporary` says that what gets a name in it is, or may be, a temporary relation."""
        moved = self._find_moved(statement)
        self.moved = _bound(self.moved | moved)
        if statement["verb"] in {"rename", "alter_schema"}:
            # Only under a name that is taken away can something have been prepared that goes on reading what it was.
            taken = {table["name"] for table in statement["tables"] if table["access"] == "define"} | {ANY_NAME}
            self._renamed = _bound(self._renamed | (moved & taken))
        if is_temporary:
            self.shadowing = _bound(self.shadowing | moved)
        else:
            moving = self.moving | _qualify(statement, moved)
            self.moving = (moving or NO_NAMES) if len(moving) <= MAX_MOVED else frozenset({(None, ANY_NAME), (None, ANY_CODE)})

    def settle(self) -> None:
        """The server is outside a transaction, and nothing that defines is under way."""
        # What was planned in the transaction may go on reading what its names stood for there.
        self.shifted = _bound(self.shifted | self._renamed)
        self._renamed = NO_NAMES
        self.moved, self.moving = NO_NAMES, NO_NAMES

    def _find_moved(self, statement: Mapping[str, Any]) -> frozenset[str]:
        if statement["verb"] == "commit_prepared":
            return frozenset({ANY_NAME, ANY_CODE})  # what a transaction did that was prepared in two steps is not known here
        return find_moved(statement, self.judged_by, self.moved)


def may_stand_for(moved: Moved, table: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Whether a table in a statement may be the relation of a moved name, by its schema or by the search path."""
    schema, name = moved
    return name == ANY_NAME or (name == table["name"] and (schema is None or schema == table.get("schema") or schema in path))


def _bound(names: frozenset[str]) -> frozenset[str]:
    return (names or NO_NAMES) if len(names) <= MAX_MOVED else frozenset({ANY_NAME, ANY_CODE})


def _qualify(statement: Mapping[str, Any], moved: frozenset[str]) -> frozenset[Moved]:
    """The names a statement moves, with the schema each had; of one that is new, none is known."""
    had: set[Moved] = {(table.get("schema"), table["name"]) for table in statement["tables"] if table["name"] in moved}
    return frozenset(had | {(None, name) for name in moved - {name for _, name in had}})
