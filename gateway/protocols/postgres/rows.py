"""Rows that stars give columns to: whether one of several stars has the column a text names is the catalogue's to say. Pure.

The analysis (`native/kernel/sql`, `walk/outs.rs`) cannot decide what `q.name` is where q is a row of `t.*` and other columns: a column of
t, or a call of the function `name` with the whole row, where t has no such column. It says both, in names that begin with a NUL, which
no name of a column can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.protocols.postgres.catalog_objects import Relation

if TYPE_CHECKING:
    # A type of the stub only: at run time an analysis is a plain dict.
    from sealgate_native.sql import Statement as Analyzed

STAR_OF_ROW: Final = "\0\1"
"""Begins the name of a column that one of several stars of a row may have; the number of the row and the name follow, set off alike."""

REST_OF_ROW: Final = "\0\2"
"""Begins the name of a column of such a row that counts where no star has the one looked for; its own name comes last."""

IF_THERE: Final = "\0\3"
"""Begins the name of a column that counts where the relation has it."""

PRIMARY_KEY: Final = "\0\4"
"""The name of all columns of a relation's primary key, which a foreign key need not name."""

MARKS: Final = (STAR_OF_ROW, REST_OF_ROW, IF_THERE)


class StarRows:
    """The rows of one statement.

    Args:
        analyzed: the statement.
        resolve: (schema, table) -> the relation, where it is known.
    """

    def __init__(self, analyzed: Analyzed, resolve: Callable[[str | None, str], Relation | None]) -> None:
        self._resolve = resolve
        self._stars: dict[tuple[str, str], list[tuple[str | None, str]]] = {}
        outputs = (column for output in analyzed["outputs"] for column in output["columns"])
        for column in (*analyzed["columns"], *outputs):
            # The own name of what stands beside a star can be one of these in turn.
            for name in column["name"].split(REST_OF_ROW):
                if name.startswith(STAR_OF_ROW) and "table" in column:
                    _, row, sought = name.split(STAR_OF_ROW)
                    self._stars.setdefault((row, sought), []).append((column.get("schema"), column["table"]))

    def has(self, row: str, name: str) -> bool:
        """Whether a relation behind a star of a row is known to have a column of that name."""
        relations = [self._resolve(schema, table) for schema, table in self._stars.get((row, name), ())]
        return any(relation is not None and relation.find(name) is not None for relation in relations)

    def expand(self, column: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The columns that one with a mark stands for; with a member `call` where its name calls a function with the row."""
        mark = next(mark for mark in MARKS if column["name"].startswith(mark))
        text = column["name"].removeprefix(mark)
        relation = self._resolve(column.get("schema"), column["table"]) if "table" in column else None
        if mark == IF_THERE:
            if relation is None or relation.find(text) is not None:
                yield {**column, "name": text}
            return
        row, name, *own = text.split(mark, 2)
        if mark == STAR_OF_ROW and (relation is None or relation.find(name) is not None):
            yield {**column, "name": name}
        elif not self.has(row, name):
            yield {**column, "name": own[0]} if own else {**column, "name": "*", "call": name}
