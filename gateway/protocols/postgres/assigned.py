"""The columns a statement writes to, under whatever name: its own, those below a view, and those that foreign keys follow. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import Index, KeyAction, Relation
from gateway.protocols.postgres.sensitivity import Sensitivity

if TYPE_CHECKING:
    # A type of the stub only: at run time an analysis is a plain dict.
    from sealgate_native.sql import Statement as Analyzed


PLURAL_GUESSES: Final = 10
"""What a row counts for in an index with many entries for one, beside the bytes of its text."""

SHORT_FUNCTIONS: Final = frozenset(
    {"now", "nextval", "gen_random_uuid", "clock_timestamp", "lower", "upper", "btrim", "to_json", "to_jsonb"}
)
"""Functions whose result is no longer than what they are given, or a few bytes."""


SHORT_TYPES: Final = frozenset(
    {"bool", "bpchar", "date", "int2", "int4", "int8", "json", "jsonb", "text", "timestamp", "timestamptz", "uuid", "varchar"}
)
"""Types whose values are written in about as many characters as they were read from; `1e3000` is a numeric of three thousand digits."""

SHORT_TYPE_OIDS: Final = frozenset(
    {0, 16, 20, 21, 23, 25, 114, 1042, 1043, 1082, 1114, 1184, 2950, 3802, 1000, 1005, 1007, 1009, 1015, 1016, 2951, 3807}
)
"""The same, and arrays of some, as types of parameters; 0 where the server infers one."""


def is_alone(analyzed: Analyzed) -> bool:
    """Whether the verb says all that a statement writes."""
    return "nested" not in analyzed and "cte_write" not in analyzed["flags"]


def adds_only(analyzed: Analyzed) -> bool:
    """Whether rows come and none that is there changes."""
    return analyzed["verb"] in {"insert", "copy"} and is_alone(analyzed) and "on_conflict_update" not in analyzed["flags"]


def says_values(analyzed: Mapping[str, Any]) -> bool:
    """Whether the values of a statement are what its text and its parameters say: no other table, and nothing that makes long of short."""
    reads = any(table["access"] == "read" for table in analyzed["tables"])
    calls = {call["name"] for call in analyzed["functions"]}
    types = {name["name"] for name in analyzed["types"]}
    makes = analyzed["makes_values"] or analyzed["attributes"]
    return not reads and not makes and calls <= SHORT_FUNCTIONS and types <= SHORT_TYPES


class Assigned:
    """The columns one statement writes to.

    Args:
        analyzed: the statement.
        snapshot: what its names mean; None where that is not known.
        sensitivity: which columns are sensitive.
    """

    def __init__(self, analyzed: Analyzed, snapshot: CatalogSnapshot | None, sensitivity: Sensitivity) -> None:
        self._analyzed = analyzed
        self._snapshot = snapshot
        self._sensitivity = sensitivity

    def find_columns(self) -> Iterator[tuple[str | None, str | None, str, Relation | None]]:
        """Schema, table and name of each column the text writes to, and the relation; values without column names go into every one."""
        for column in self._analyzed["assigned"]:
            schema, table, name = column.get("schema"), column.get("table"), column["name"]
            relation = None if table is None or self._snapshot is None else self._snapshot.resolve(schema, table)
            if relation is None or name != "*":
                yield schema, table, name, relation
                continue
            for each in relation.columns.values():
                yield schema, table, each.name, relation

    def count_rows(self) -> int | None:
        """The most rows the statement writes; None where neither its text nor the keys of the tables say."""
        analyzed, snapshot = self._analyzed, self._snapshot
        if snapshot is None or "open_ended" in analyzed["flags"]:
            return None
        names = (*(call["name"] for call in analyzed["functions"]), *analyzed["attributes"])
        rows = analyzed["stated_rows"]
        for keyed in analyzed["keyed_rows"]:
            relation = snapshot.resolve(keyed.get("schema"), keyed["name"])
            if relation is None or not snapshot.has_key(relation, keyed["columns"]):
                return None
            rows += keyed["times"]
        return None if snapshot.returns_rows(names) else rows

    def describe(self, actions: Iterable[KeyAction], *, is_adding: bool = False) -> list[dict[str, Any]]:
        """The facts of all of them; `actions` is what foreign keys do with the statement, `is_adding` that it only adds rows, which some tell."""
        facts, is_adding = [], is_adding or adds_only(self._analyzed)
        for schema, table, name, relation in self.find_columns():
            is_compared = name == "*" and self._sensitivity.is_configured
            if relation is None:
                # What no snapshot holds may be sensitive, but has no values of others to compare with.
                is_sensitive, is_compared = self._sensitivity.is_configured, False
            elif name == "*":
                is_sensitive = self._sensitivity.holds_any(relation)
            else:
                found = relation.find(name)
                is_sensitive = found is not None and self._sensitivity.holds(relation.oid, found.number)
                is_compared = found is not None and self._compares(relation.oid, found.number, is_sensitive, is_adding=is_adding)
            place = relation.schema if relation else schema
            facts.append(_describe(place, table, name, is_sensitive, is_compared=is_compared))
            if relation is not None and relation.kind == "v":
                facts += self._describe_below(relation, name, is_adding=is_adding)
        return [*facts, *self._describe_left_out(facts), *self._describe_all_followers(actions)]

    def bound(self, assigned: Iterable[Mapping[str, Any]], actions: Iterable[KeyAction]) -> dict[str, Any]:
        """Of what `describe` said, the facts of how many guesses the statement writes at most; none where none is compared, or where nothing says how many."""
        compared = [fact for fact in assigned if fact.get("compared")]
        if not compared:
            return {}
        follows = any(fact.get("compared") for fact in self._describe_all_followers(actions))
        rows = None if follows else self.count_rows()
        if rows is None:
            return {}
        indexes = {index for fact in compared for index in self._find_comparing(fact)}
        guesses = rows * max(1, self._sensitivity.count_keys(indexes))
        if not any(index.is_plural for index in indexes):
            return {"most_guesses": guesses}
        # How many entries a row has is in its value, so this has to be in the text.
        return {"most_guesses": guesses * PLURAL_GUESSES, "counts_bytes": True} if says_values(self._analyzed) else {}

    def _find_comparing(self, fact: Mapping[str, Any]) -> tuple[Index, ...]:
        """The indexes that compare a column with sensitive ones, as far as they are known."""
        relation = None if self._snapshot is None else self._snapshot.resolve(fact.get("schema"), fact["table"])
        column = None if relation is None else relation.find(fact["name"])
        if relation is None or column is None:
            return ()
        return self._sensitivity.find_comparing(relation.oid, column.number) or ()

    def _describe_left_out(self, named: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """The sensitive columns that a new row has without being given one, by default, and that are compared all the same."""
        analyzed, snapshot = self._analyzed, self._snapshot
        if (
            snapshot is None
            or not self._sensitivity.is_configured
            or (analyzed["verb"] in {"update", "delete"} and is_alone(analyzed))
        ):
            return
        written = (snapshot.resolve(each.get("schema"), each["name"]) for each in analyzed["tables"] if each["access"] == "write")
        given = {(fact.get("schema"), fact["table"], fact["name"]) for fact in named if "table" in fact}
        stored = (each for relation in written if relation is not None for each in self._find_stored(relation))
        for relation, is_given in {(relation.oid, is_given): (relation, is_given) for relation, is_given in stored}.values():
            for column in relation.columns.values():
                is_named = (relation.schema, relation.name, column.name) in given
                if not is_named and self._sensitivity.fills(relation.oid, column, is_given=is_given):
                    fact = _describe(relation.schema, relation.name, column.name, is_sensitive=True, is_compared=True)
                    yield fact | {"unnamed": True}

    def _find_stored(self, relation: Relation) -> Iterator[tuple[Relation, bool]]:
        """The tables that rows of a relation are stored in, those that a view uses, and whether a view gives values of its own."""
        view = None if self._snapshot is None or relation.kind != "v" else self._snapshot.views.get(relation.oid)
        if self._snapshot is None or view is None:
            yield relation, False
            return
        gives = any(column.has_default for column in relation.columns.values())
        for oid in sorted({oid for oid, _ in view.columns} & self._snapshot.relations.keys()):
            yield from ((each, gives or is_given) for each, is_given in self._find_stored(self._snapshot.relations[oid]))

    def _describe_all_followers(self, actions: Iterable[KeyAction]) -> Iterator[dict[str, Any]]:
        for action in dict.fromkeys(actions):
            yield from self._describe_followers(action)

    def _describe_below(self, view: Relation, name: str, *, is_adding: bool) -> Iterator[dict[str, Any]]:
        """The columns of tables that a column of a view writes to, which may be called otherwise."""
        found = view.find(name)
        for schema, table, column, is_sensitive in () if found is None else self._sensitivity.find_below(view, found):
            relation = None if self._snapshot is None else self._snapshot.resolve(schema, table)
            below = None if relation is None else relation.find(column)
            is_compared = (
                relation is None or below is None or self._compares(relation.oid, below.number, is_sensitive, is_adding=is_adding)
            )
            yield _describe(schema, table, column, is_sensitive, is_compared=is_compared)

    def _compares(self, oid: int, number: int, is_sensitive: bool, *, is_adding: bool) -> bool:
        """Whether a value for a column is compared with sensitive ones. A row that comes has none of its own yet."""
        sensitivity = self._sensitivity
        if is_adding:
            return sensitivity.compares(oid, number) and (is_sensitive or sensitivity.mixes(oid, number))
        return sensitivity.compares(oid, number) or sensitivity.checks(oid, number)

    def _describe_followers(self, action: KeyAction) -> Iterator[dict[str, Any]]:
        """The columns a foreign key writes to."""
        relation = None if self._snapshot is None else self._snapshot.relations.get(action.relation)
        if relation is None:
            return
        for number in action.columns:
            is_sensitive = self._sensitivity.holds(relation.oid, number)
            is_compared = self._compares(relation.oid, number, is_sensitive, is_adding=False)
            name = relation.columns[number].name
            yield _describe(relation.schema, relation.name, name, is_sensitive, is_compared=is_compared)


def _describe(schema: str | None, table: str | None, name: str, is_sensitive: bool, *, is_compared: bool) -> dict[str, Any]:
    """The fact of one column; what is not known of it is left out, and so is that nothing compares it."""
    fact = {"schema": schema, "table": table, "name": name, "sensitive": is_sensitive, "compared": is_compared or None}
    return {key: value for key, value in fact.items() if value is not None}
