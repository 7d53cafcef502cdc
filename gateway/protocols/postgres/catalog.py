"""The catalogue snapshot: what names and result columns of one database mean for one role. Pure; `serve` runs the queries.

The gateway asks `catalog_queries.QUERIES` with its own credential, `catalog_answers.build_snapshot` turns the rows into a
`CatalogSnapshot`, and the snapshot answers: which relation a name is (through the search path), which stored columns a result column comes from (`origins`, through views,
materialized views, partitions and inheritance), and what a function outside `pg_catalog` is.

RowDescription (https://www.postgresql.org/docs/current/protocol-message-formats.html) names a view's own OID for a view's column,
so view columns are traced here: by the output list of the view's definition where the text decides, else by everything the view
depends on (`pg_depend`). Temporary relations belong to another session than the one that asks, so they are never in a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

from sealgate_native.sql import analyze

from gateway.protocols.postgres.catalog_objects import BaseColumn, Condition, Function, Index, KeyAction, Relation, View
from gateway.protocols.postgres.functions import HARMLESS, TELLING
from gateway.protocols.postgres.hooks import Cast, Hook
from gateway.protocols.postgres.shapes import UserTypes

FIRST_NORMAL_OID: Final = 16384
"""Objects below were made by initdb (FirstNormalObjectId): PostgreSQL's own."""

ANYARRAY: Final = 2277
"""The type of columns that hold arrays of whatever type, as those of the planner's statistics do."""

EXACT_TYPES: Final = frozenset({20, 21, 23, 25, 1042, 1043, 1700, 2950})
"""int8, int2, int4, text, bpchar, varchar, numeric, uuid: only a value of another type, such as a float, equals two different ones."""

MAX_VIEW_DEPTH: Final = 64
"""Views over views deeper than this are taken as opaque; hand-written schemas stay below ten."""

MAX_VIEW_BYTES: Final = 512 << 10
"""Longest view definition that is read; a longer one is taken as opaque. Views with hundreds of columns stay below 100 KiB."""

MAX_REMEMBERED: Final = 1_024
"""Statements and configurations remembered per snapshot: an application has hundreds of statements, at about 4 KiB each."""

_LEAST_NAME_BYTES: Final = 24
"""What is left at least of a table's name in that of a sequence: half of 63 bytes without `_` and `_seq1000`, less part of a character of four."""

SYSTEM_SCHEMAS: Final = frozenset({"pg_catalog", "information_schema"})


@dataclass(frozen=True, slots=True)
class Origins:
    """Where the values of a column come from.

    Attributes:
        columns: the stored columns it is made of.
        through: every (relation oid, attnum) on the way, views and partitions included.
        is_same: exactly one stored column, delivered as it is.
        is_opaque: more than `columns` may be in it: a function, or a definition that could not be read.
    """

    columns: frozenset[BaseColumn]
    through: frozenset[tuple[int, int]]
    is_same: bool = False
    is_opaque: bool = False


@dataclass(frozen=True, slots=True)
class ViewOutputs:
    """What a view's definition says it delivers.

    Attributes:
        columns: per output the source columns, and whether it is one of them as it is; None where the text does not tell.
        relations: OIDs of the relations it names.
        is_opaque: it names relations that are not here, or calls functions that are not known to be harmless.
        functions: names of the functions it calls.
    """

    columns: tuple[tuple[frozenset[tuple[int, int]], bool], ...] | None
    relations: frozenset[int]
    is_opaque: bool
    functions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Behind:
    """What reading a relation involves.

    Attributes:
        relations: itself and every relation below it.
        functions: functions its definitions call that are not PostgreSQL's own.
        names: names of every function its definitions call.
        types: OIDs of the types its definitions name.
    """

    relations: tuple[Relation, ...]
    functions: tuple[Function, ...]
    names: frozenset[str]
    types: frozenset[int]


_UNREADABLE: Final = ViewOutputs(None, frozenset(), is_opaque=True)


@dataclass(frozen=True, eq=False)
class CatalogSnapshot:
    """One database as one role sees it, at one moment. Immutable; compared by `digest`.

    Attributes:
        harmless_functions: of extensions that are known, which do no more than PostgreSQL's own; none of them is among `functions`.
        reading_operators: schema and name of those operators that take a value of a type of the server's own: on their left, or `||` on any side.
        foreign_keys: as indexes, which compare as they do, with relation and attnum of the columns they refer to.
        references: columns of foreign keys, by relation and attnum, under those they refer to.
        partition_keys: attnums of the columns that tell a row's partition, 0 for an expression, by partitioned table.
        policies: relation and attnum of the columns that policies use, by the table they govern; attnum 0 for any, and 0, 0 where they ask more
            than the row: other rows, its own table's too, or a setting.
        reading_policies: the same of those that a plain SELECT meets.
        costs: what the planner weighs plans by, by the names of the settings.
        search_path: schemas in the order names are searched, the implicit `pg_catalog` included.
        path_names: the schemas the setting names, whether or not there are such; None where it is not made of names alone.
        digest: SHA-256 in hex over the canonical JSON of every row it was built from.
        former: relation and attnum of columns that a sensitive name meant before, and that are here under another one.
    """

    database: str
    role: str
    search_path: tuple[str, ...]
    path_names: tuple[str, ...] | None
    server_version: int
    relations: Mapping[int, Relation]
    views: Mapping[int, View]
    parents: Mapping[int, tuple[int, ...]]
    functions: Mapping[str, tuple[Function, ...]]
    harmless_functions: Mapping[str, tuple[Function, ...]]
    operators: Mapping[str, tuple[tuple[str, str], ...]]
    reading_operators: frozenset[tuple[str, str]]
    types: Mapping[str, tuple[tuple[str, str], ...]]
    hooks: Mapping[int, tuple[Hook, ...]]
    casts: Mapping[str, tuple[Cast, ...]]
    key_actions: Mapping[int, tuple[KeyAction, ...]]
    primary_keys: Mapping[int, tuple[int, ...]]
    indexes: tuple[Index, ...]
    foreign_keys: tuple[tuple[Index, frozenset[tuple[int, int]]], ...]
    references: Mapping[tuple[int, int], tuple[tuple[int, int], ...]]
    partition_keys: Mapping[int, frozenset[int]]
    conditions: Mapping[int, tuple[Condition, ...]]
    costs: Mapping[str, float]
    policies: Mapping[int, tuple[tuple[int, int], ...]]
    reading_policies: Mapping[int, tuple[tuple[int, int], ...]]
    shapes: UserTypes
    digest: str
    _by_name: Mapping[tuple[str, str], Relation] = field(repr=False)
    _generated: Mapping[tuple[int, int], tuple[int, ...]] = field(repr=False)
    _children: Mapping[int, tuple[int, ...]] = field(repr=False)
    _functions_by_oid: Mapping[int, Function] = field(repr=False)
    _origins: dict[tuple[int, int], Origins] = field(default_factory=dict, repr=False)
    former: frozenset[tuple[int, int]] = frozenset()
    _outputs: dict[int, ViewOutputs] = field(default_factory=dict, repr=False)
    memo: dict[object, Any] = field(default_factory=dict, repr=False)
    """Results derived from this snapshot alone, kept by `remember`; they end with it."""

    def remember[T](self, key: object, derive: Callable[[], T]) -> T:
        """What `derive` returns, computed once per snapshot and key; at most `MAX_REMEMBERED` at a time."""
        # Large texts are read in another thread, which may clear the memory between two lines of this.
        found: T | None = self.memo.get(key)
        if found is None:
            found = derive()
            if len(self.memo) >= MAX_REMEMBERED:
                self.memo.clear()
            self.memo[key] = found
        return found

    def resolve(self, schema: str | None, name: str) -> Relation | None:
        """The relation a name means: in its schema, else the first of the search path. None when it is not here."""
        schemas = self.search_path if schema is None else (schema,)
        return next((found for place in schemas if (found := self._by_name.get((place, name))) is not None), None)

    @property
    def first_schema(self) -> str | None:
        """Where a relation is made whose schema is not named."""
        return next((schema for schema in self.search_path if schema not in SYSTEM_SCHEMAS), None)

    @property
    def splits_numbers(self) -> bool:
        """Whether the server, before version 15, reads `1_000` as `1 AS _000`."""
        return self.server_version < 150_000  # noqa: PLR2004 - as the server writes its version

    def name_schemas(self) -> Mapping[str, str]:
        """The schema each bare name of the search path leads to."""

        def derive() -> dict[str, str]:
            places = {schema: place for place, schema in enumerate(self.search_path)}
            found: dict[str, str] = {}
            for schema, name in self._by_name:
                if schema in places and (name not in found or places[schema] < places[found[name]]):
                    found[name] = schema
            return found

        named: Mapping[str, str] = self.remember("name_schemas", derive)
        return named

    def find_functions(self, schema: str | None, name: str, args: int) -> tuple[Function, ...]:
        """Every function outside PostgreSQL's own that a call may mean."""
        return self._find_called(self.functions, schema, name, args)

    def find_harmless(self, schema: str | None, name: str, args: int) -> tuple[Function, ...]:
        """Every function of a known extension that a call may mean."""
        return self._find_called(self.harmless_functions, schema, name, args)

    def calls(self, schema: str | None, name: str, args: int) -> bool:
        """Whether a call may mean a function that is not PostgreSQL's own."""
        return bool(self.find_functions(schema, name, args) or self.find_harmless(schema, name, args))

    def knows_harmless(self, names: Iterable[str]) -> bool:
        """Whether functions of these names are PostgreSQL's own harmless ones, or of known extensions."""
        return all(name in HARMLESS or name in self.harmless_functions for name in names)

    def returns_rows(self, names: Iterable[str]) -> bool:
        """Whether a function that is not the server's own, of one of these names, may return several rows."""
        known = (self.functions, self.harmless_functions)
        return any(function.returns_rows for name in names for each in known for function in each.get(name, ()))

    def has_function(self, name: str) -> bool:
        """Whether a function in any schema, but for PostgreSQL's own, has this name."""
        return name in self.functions or name in self.harmless_functions

    def _find_called(
        self, table: Mapping[str, tuple[Function, ...]], schema: str | None, name: str, args: int
    ) -> tuple[Function, ...]:
        reach = self.search_path if schema is None else (schema,)
        return tuple(found for found in table.get(name, ()) if found.schema in reach and found.takes(args))

    def find_generated(self, oid: int, attnum: int) -> tuple[int, ...]:
        """The columns of a relation that are generated from one of its columns."""
        return tuple(number for (relation, number), sources in self._generated.items() if relation == oid and attnum in sources)

    def find_sources(self, oid: int) -> tuple[frozenset[int], ...]:
        """What each generated column of a relation is made of, itself among them."""
        return tuple(frozenset({number, *made}) for (relation, number), made in self._generated.items() if relation == oid)

    def has_key(self, relation: Relation, names: Iterable[str]) -> bool:
        """Whether no two rows of a table have the same values in columns of these names, whatever they are compared with."""
        found = [relation.find(name) for name in names]
        exact = {column.number for column in found if column is not None and column.type_oid in EXACT_TYPES}
        is_whole = relation.kind == "p" or (relation.kind == "r" and not self.is_parent(relation))
        return is_whole and any(index.key and index.key <= exact for index in self.indexes if index.relation == relation.oid)

    def find_operators(self, schema: str | None, name: str) -> tuple[str, ...]:
        """The languages of the functions behind operators of that name that are not PostgreSQL's own."""
        return self._find(self.operators, schema, name)

    def find_types(self, schema: str | None, name: str) -> tuple[str, ...]:
        """The typtype letters (b, d, e, r, m) of types of that name that are not PostgreSQL's own."""
        return self._find(self.types, schema, name)

    def find_casts(self, schema: str | None, name: str) -> tuple[Cast, ...]:
        """Casts to types of that name that call a function which is not PostgreSQL's own."""
        reach = self.search_path if schema is None else (schema,)
        return tuple(cast for cast in self.casts.get(name, ()) if cast.schema in reach)

    def find_casts_within(self, type_oids: Iterable[int]) -> tuple[Cast, ...]:
        """The same for types by OID and whatever they are made of: a value given to a composite is given to its fields."""
        reached = self.shapes.within(frozenset(type_oids))
        return tuple(cast for casts in self.casts.values() for cast in casts if cast.type_oid in reached)

    def find_casts_from(self, type_oids: Iterable[int]) -> tuple[Cast, ...]:
        """Casts that run unnamed on values of these types, or of whatever they are made of."""
        if not self.casts:
            return ()
        reached = self.shapes.within(frozenset(type_oids))
        found = (cast for casts in self.casts.values() for cast in casts if cast.is_unnamed)
        return tuple(cast for cast in found if cast.source_oid in reached or ANYARRAY in reached)

    def find_schemas(self, name: str) -> frozenset[str]:
        """Where a relation or a type of somebody's own has this name, but for information_schema, which no search path has unless it says so."""

        def derive() -> dict[str, frozenset[str]]:
            found: dict[str, set[str]] = {}
            for schema, each in self._by_name:
                found.setdefault(each, set()).add(schema)
            for each, places in self.shapes.names.items():
                found.setdefault(each, set()).update(schema for schema, _ in places)
            return {each: frozenset(schemas - {"information_schema"}) for each, schemas in found.items()}

        schemas: Mapping[str, frozenset[str]] = self.remember("schemas_of_names", derive)
        return schemas.get(name, frozenset())

    def has_sequence_like(self, table: str, place: str | None) -> bool:
        """Whether another schema has a sequence named as that of a serial column of such a table would be (8.1.4).

        PostgreSQL shortens what is longer than 63 bytes, the table's name to no less than 24, and numbers what is taken.
        """
        start = f"{table}_".encode()[:_LEAST_NAME_BYTES]
        sequences = (each.name for each in self.relations.values() if each.kind == "S" and each.schema != place)
        return any(name.encode().startswith(start) and name.rstrip("0123456789").endswith("_seq") for name in sequences)

    def find_type_oids(self, schema: str | None, name: str) -> tuple[int, ...]:
        """The types of that name that are not PostgreSQL's own."""
        reach = self.search_path if schema is None else (schema,)
        return tuple(oid for place, oid in self.shapes.names.get(name, ()) if place in reach)

    def _find(self, table: Mapping[str, tuple[tuple[str, str], ...]], schema: str | None, name: str) -> tuple[str, ...]:
        reach = self.search_path if schema is None else (schema,)
        return tuple(value for place, value in table.get(name, ()) if place in reach)

    def behind(self, oid: int) -> Behind:
        """What reading a relation runs and reads: views below it, partitions and children, and the functions in their definitions."""
        functions, types = set[int](), set[int]()
        names: set[str] = set()
        pending, seen = [oid], {oid}
        while pending:
            current = pending.pop()
            below = set(self._children.get(current, ()))
            if current in self.views:
                functions |= self.views[current].functions
                types |= self.views[current].types
                outputs = self._view_outputs(current)
                names |= outputs.functions
                below |= {relation for relation, _ in self.views[current].columns} | outputs.relations
            pending += below - seen
            seen |= below
        known = [self.relations[each] for each in sorted(seen) if each in self.relations]
        called = [self._functions_by_oid[each] for each in sorted(functions) if each in self._functions_by_oid]
        return Behind(tuple(known), tuple(called), frozenset(names), frozenset(types))

    def above(self, oid: int) -> tuple[Relation, ...]:
        """The relations a partition or child belongs to."""
        pending, seen = [oid], {oid}
        while pending:
            parents = set(self.parents.get(pending.pop(), ())) - seen
            pending += parents
            seen |= parents
        return tuple(self.relations[each] for each in sorted(seen - {oid}) if each in self.relations)

    def is_parent(self, relation: Relation) -> bool:
        """Whether tables of other shapes inherit from it; partitions have the shape of what they belong to."""
        return relation.kind != "p" and relation.oid in self._children

    def changed_by_keys(self, oid: int, *, deletes: bool = True, updates: frozenset[str] | None = None) -> tuple[KeyAction, ...]:
        """What foreign keys do when rows of a relation, or of one behind it, change: to their own tables, and on from there.

        Args:
            oid: of the relation.
            deletes: whether rows may go.
            updates: names of the columns that may change; None for any.
        """
        first = [each.oid for each in self.behind(oid).relations]
        pending, seen, found = list(first), set(first), list[KeyAction]()
        while pending:
            current = pending.pop()
            for action in self.key_actions.get(current, ()):
                if current in first and not self._concerns(action, current, deletes, updates):
                    continue
                found.append(action)
                below = {each.oid for each in self.behind(action.relation).relations} - seen
                pending += below
                seen |= below
        return tuple(found)

    def may_move(self, oid: int, numbers: AbstractSet[int] | None) -> bool:
        """Whether rows of a relation that get other values in these columns may go to another partition: for keys to one they are gone.

        None stands for any column.
        """
        columns = self.relations[oid].columns if oid in self.relations else {}
        changed = {columns[number].name for number in numbers or () if number in columns}
        for each in self.behind(oid).relations:
            key = self.partition_keys.get(each.oid, frozenset())
            if key and (numbers is None or 0 in key or any(each.columns[number].name in changed for number in key)):
                return True
        return False

    def _concerns(self, action: KeyAction, oid: int, deletes: bool, updates: frozenset[str] | None) -> bool:
        numbers = {source for number in action.on_update for source in (number, *self._generated.get((oid, number), ()))}
        followed = {self.relations[oid].columns[number].name for number in numbers}
        return (deletes and action.on_delete) or (bool(followed) and (updates is None or not followed.isdisjoint(updates)))

    def function_by_oid(self, oid: int) -> Function | None:
        """The function, when it is not one of PostgreSQL's own."""
        return self._functions_by_oid.get(oid)

    def origins(self, table_oid: int, attnum: int) -> Origins:
        """Where the values of one column come from; a column that is not here is opaque."""
        return self._trace(table_oid, attnum, 0)

    def _trace(self, oid: int, number: int, depth: int) -> Origins:
        known = self._origins.get((oid, number))
        if known is not None:
            return known
        here = frozenset({(oid, number)})
        relation = self.relations.get(oid)
        if relation is None or number not in relation.columns or depth > MAX_VIEW_DEPTH:
            return Origins(frozenset(), here, is_opaque=True)
        column = relation.columns[number]
        itself = Origins(frozenset({BaseColumn(relation.schema, relation.name, column.name)}), here, is_same=True)
        if oid in self.views:
            found = self._trace_view(oid, number, depth)
        elif parents := self._parent_columns(oid, column.name):
            above = [self._trace(parent, attnum, depth + 1) for parent, attnum in parents]
            found = _merge(above, is_same=len(above) == 1 and above[0].is_same)
        elif sources := self._generated.get((oid, number)):
            # A generated column has a name of its own, and holds what it is computed from.
            below = _merge([self._trace(oid, source, depth + 1) for source in sources], is_same=False)
            found = Origins(itself.columns, below.through, is_same=True, is_opaque=below.is_opaque)
        else:
            # A system view's definition is not read: its columns stand for themselves.
            found = itself
        found = Origins(found.columns, found.through | here, found.is_same, found.is_opaque)
        self._origins[(oid, number)] = found
        return found

    def _parent_columns(self, oid: int, name: str) -> list[tuple[int, int]]:
        above = (self.relations.get(parent) for parent in self.parents.get(oid, ()))
        return [(parent.oid, column.number) for parent in above if parent and (column := parent.find(name)) is not None]

    def _trace_view(self, oid: int, number: int, depth: int) -> Origins:
        view, outputs = self.views[oid], self._view_outputs(oid)
        order = list(self.relations[oid].columns)
        if outputs.columns is None or len(outputs.columns) != len(order):
            sources, is_same = self._everything(view, outputs), False
        else:
            sources, is_same = outputs.columns[order.index(number)]
        traced = [self._trace(table, attnum, depth + 1) for table, attnum in sorted(sources)]
        merged = _merge(traced, is_same=is_same and len(traced) == 1 and traced[0].is_same)
        # What an unknown function returns cannot be told from the columns beside it.
        is_opaque = merged.is_opaque or (not is_same and (outputs.is_opaque or bool(view.functions)))
        return Origins(merged.columns, merged.through, merged.is_same, is_opaque)

    def _everything(self, view: View, outputs: ViewOutputs) -> frozenset[tuple[int, int]]:
        """Every column of every relation a view depends on or names.

        pg_depend alone is not enough: a whole row leaves no trace of its columns there, and PostgreSQL's own relations no trace at all.
        """
        below = {oid for oid, _ in view.columns} | outputs.relations
        return frozenset((oid, number) for oid in below if oid in self.relations for number in self.relations[oid].columns)

    def _view_outputs(self, oid: int) -> ViewOutputs:
        if oid not in self._outputs:
            self._outputs[oid] = self._read_outputs(self.views[oid])
        return self._outputs[oid]

    def _read_outputs(self, view: View) -> ViewOutputs:
        if view.definition is None:
            return _UNREADABLE
        analysis = analyze(view.definition, max_bytes=MAX_VIEW_BYTES)
        if analysis["status"] != "ok" or len(analysis["statements"]) != 1:
            return _UNREADABLE
        (statement,) = analysis["statements"]
        named = [self.resolve(table.get("schema"), table["name"]) for table in statement["tables"]]
        relations = frozenset(relation.oid for relation in named if relation is not None)
        calls = frozenset(call["name"] for call in statement["functions"])
        is_opaque = None in named or not self.knows_harmless(calls) or not calls.isdisjoint(TELLING) or _shows_locks(statement)
        return ViewOutputs(self._read_columns(view, statement["outputs"]), relations, is_opaque, calls)

    def _read_columns(
        self, view: View, outputs: Iterable[Mapping[str, Any]]
    ) -> tuple[tuple[frozenset[tuple[int, int]], bool], ...] | None:
        columns = []
        for output in outputs:
            sources = [self._find_source(column) for column in output["columns"]]
            if output["kind"] not in {"column", "expression"} or None in sources:
                return None
            exact = frozenset(source for source in sources if source is not None)
            # PostgreSQL records every column a view uses; a source it does not know of means the text was read wrongly.
            if any(source not in view.columns and source[0] >= FIRST_NORMAL_OID for source in exact):
                return None
            columns.append((exact, output["kind"] == "column" and len(exact) == 1))
        return tuple(columns)

    def _find_source(self, column: Mapping[str, Any]) -> tuple[int, int] | None:
        table = column.get("table")
        relation = None if table is None else self.resolve(column.get("schema"), table)
        found = None if relation is None else relation.find(column["name"])
        return None if relation is None or found is None else (relation.oid, found.number)


def _shows_locks(statement: Mapping[str, Any]) -> bool:
    """Whether a view shows who locked a row, which is in none of the columns that its relations have."""
    return any(column["name"] == "xmax" for output in statement["outputs"] for column in output["columns"])


def _merge(parts: Iterable[Origins], *, is_same: bool) -> Origins:
    columns: set[BaseColumn] = set()
    through: set[tuple[int, int]] = set()
    is_opaque = False
    for part in parts:
        columns |= part.columns
        through |= part.through
        is_opaque |= part.is_opaque
    return Origins(frozenset(columns), frozenset(through), is_same and len(columns) == 1, is_opaque)
