"""Which columns are sensitive: the configured ones, and what derives from them through partitions, views and statistics. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import astuple, dataclass

from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import BaseColumn, Column, Condition, Function, Index, Relation
from gateway.protocols.postgres.governed import find_governed
from gateway.protocols.postgres.holders import find_keys, read_name
from gateway.protocols.postgres.hooks import find_row_columns, uses_whole_row


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """The sensitive columns of one database.

    Attributes:
        names: the configured columns.
        keys: (relation oid, attnum) of the sensitive columns; what derives from one is found through `CatalogSnapshot.origins`.
        clean_functions: "schema.function" of those whose results hold nothing sensitive but what their arguments hold.
    """

    snapshot: CatalogSnapshot | None
    names: frozenset[BaseColumn]
    keys: frozenset[tuple[int, int]]
    clean_functions: frozenset[str] = frozenset()

    def vouches_for(self, functions: Iterable[Function]) -> bool:
        """Whether the results of all that a call may mean are made of its arguments alone."""
        return all(f"{function.schema}.{function.name}" in self.clean_functions for function in functions)

    @property
    def missing(self) -> tuple[str, ...]:
        """Configured columns the snapshot does not hold, sorted: misspelt, dropped, or not visible to the role."""
        if self.snapshot is None:
            return ()
        return tuple(
            sorted(
                f"{name.schema}.{name.table}.{name.column}"
                for name in self.names
                if (relation := self.snapshot.resolve(name.schema, name.table)) is None or relation.find(name.column) is None
            )
        )

    @property
    def is_configured(self) -> bool:
        """Whether any column is sensitive."""
        return bool(self.names)

    def holds(self, oid: int, attnum: int) -> bool:
        """Whether a column's values are, derive from, or may derive from those of a sensitive one."""
        if not self.is_configured or self.snapshot is None:
            return self.is_configured
        origins = self.snapshot.origins(oid, attnum)
        return origins.is_opaque or not origins.through.isdisjoint(self.keys)

    def holds_any(self, relation: Relation) -> bool:
        """Whether any column of a relation is sensitive."""
        return self.is_configured and any(self.holds(relation.oid, attnum) for attnum in relation.columns)

    def find_telling_indexes(self) -> tuple[str, ...]:
        """The indexes that give rows in the order of a sensitive column though no condition names it, sorted."""
        if self.snapshot is None or not self.is_configured:
            return ()
        return tuple(sorted(each.name for each in self.snapshot.indexes if each.is_ranging and self._orders_sensitive(each)))

    def compares(self, oid: int, attnum: int) -> bool:
        """Whether a row with another value in a column is compared with the sensitive values there are: an index has it and one of these."""
        if self.snapshot is None:
            return self.is_configured
        found = self.find_comparing(oid, attnum)
        return found is None or bool(found)

    def find_comparing(self, oid: int, attnum: int) -> tuple[Index, ...] | None:
        """The indexes that compare it, of its table or of a partition or child; None where that is not known."""
        if self.snapshot is None:
            return None
        key = ("compares", self.names, oid, attnum)
        (found,) = self.snapshot.remember(key, lambda: (self._find_comparing(oid, attnum),))
        return found

    def fills(self, oid: int, column: Column, *, is_given: bool = False) -> bool:
        """Whether a new row that is given none gets a sensitive value in a column all the same, which is compared with those there are.

        With `is_given` a view may have a default for it.
        """
        found = (self.find_comparing(oid, column.number) or ()) if self.holds(oid, column.number) else ()
        return any(
            is_given or column.has_default or index.compares_nulls or self._makes_of_null(index, column) for index in found
        )

    def _makes_of_null(self, index: Index, column: Column) -> bool:
        """Whether an index may have a value for a null: in an expression (`coalesce(grade, 'STD')`), or of a column that is generated."""
        relation = None if self.snapshot is None else self.snapshot.relations.get(index.relation)
        own = None if relation is None else relation.find(column.name)
        if self.snapshot is None or own is None:
            return True
        return own.number in index.mixed or not index.columns.isdisjoint(self.snapshot.find_generated(index.relation, own.number))

    def mixes(self, oid: int, attnum: int) -> bool:
        """Whether an index that compares a column has it and a sensitive one in one value, so that either may say all of it."""
        found = self.find_comparing(oid, attnum)
        made = self._places(oid, attnum)
        if found is None or made is None:
            return self.is_configured
        return any(self._mixes(index, made[index.relation]) for index in found)

    def checks(self, oid: int, attnum: int) -> bool:
        """Whether a row that gets another value in a column has it compared with its own sensitive ones, by a CHECK or the like."""
        if self.snapshot is None:
            return self.is_configured
        key = ("checks", self.names, oid, attnum)
        (found,) = self.snapshot.remember(key, lambda: (self._checks(oid, attnum),))
        return bool(found)

    def count_keys(self, indexes: Iterable[Index]) -> int:
        """How many indexes of one table compare a row: so many values it can guess at once. A partition has those of its parent."""
        by_relation = Counter(index.relation for index in indexes)
        return max(by_relation.values(), default=0)

    def _places(self, oid: int, attnum: int) -> dict[int, set[int]] | None:
        """What becomes of a column, by table: of its own, of partitions and children; itself, what is generated of it, and 0 for the row."""
        snapshot = self.snapshot
        column = None if snapshot is None else snapshot.relations[oid].columns.get(attnum)
        if snapshot is None or column is None:
            return None
        places = {oid: attnum}
        for relation in snapshot.behind(oid).relations:
            if (same := relation.find(column.name)) is not None:
                places[relation.oid] = same.number
        return {place: {0, number, *snapshot.find_generated(place, number)} for place, number in places.items()}

    def _moves(self, places: Mapping[int, AbstractSet[int]]) -> bool:
        """Whether a row with another value may belong to another partition, where all of it is compared anew."""
        keys = {} if self.snapshot is None else self.snapshot.partition_keys
        return any(
            0 in keys[place] or not keys[place].isdisjoint(numbers - {0}) for place, numbers in places.items() if place in keys
        )

    def _find_comparing(self, oid: int, attnum: int) -> tuple[Index, ...] | None:
        snapshot, made = self.snapshot, self._places(oid, attnum)
        if snapshot is None or made is None:
            return None
        moves = self._moves(made)
        keys = (index for index, others in snapshot.foreign_keys if not others.isdisjoint(self.keys))
        having = (
            index
            for index in (*snapshot.indexes, *keys)
            if index.relation in made and (moves or (index.columns | index.carried | index.condition) & made[index.relation])
        )
        return tuple(
            index for index in having if self._orders_sensitive(index) or self._any_sensitive(index.relation, index.condition)
        )

    def _mixes(self, index: Index, numbers: set[int]) -> bool:
        # Behind 0 and the column itself stand what is generated of it, and of others.
        is_made = any(number and self.holds(index.relation, number) for number in numbers & index.columns)
        # Whether a row has one of the same key in its way tells of the other's sensitive value.
        is_made |= bool(numbers & index.columns) and self._any_sensitive(index.relation, index.condition)
        return is_made or (bool(numbers & index.mixed) and self._any_sensitive(index.relation, index.mixed))

    def _checks(self, oid: int, attnum: int) -> bool:
        snapshot, made = self.snapshot, self._places(oid, attnum)
        if snapshot is None or made is None:
            return self.is_configured
        moves = self._moves(made)
        for place, numbers in made.items():
            for each in (*snapshot.conditions.get(place, ()), *_find_in_bodies(snapshot, place)):
                others: AbstractSet[int] = each.columns - (numbers - {0})
                if (each.is_open or moves) and self._any_sensitive(place, each.columns):
                    return True  # whatever changes, it is looked at anew
                if each.is_of_change:  # that a row is another one tells of the column that was changed
                    others = numbers - {0} if 0 in each.columns else each.columns
                if each.columns & numbers and (self._any_sensitive(place, others) or self._asks_sensitive(place)):
                    return True
            # The code of a value is looked up where it is another one than before, or in another partition.
            if any(oid == place and (moves or number in numbers) for oid, number in self._links):
                return True
            # What cannot be computed is an error.
            if any(
                sources & numbers and self._any_sensitive(place, sources - numbers) for sources in snapshot.find_sources(place)
            ):
                return True
        return False

    def asks_when_rows_go(self, oid: int) -> bool:
        """Whether a condition of a trigger holds the sensitive columns of a row against a setting, which a row that goes is looked at by."""
        found = () if self.snapshot is None else self.snapshot.conditions.get(oid, ())
        return any(each.is_open and each.is_of_change and self._any_sensitive(oid, each.columns) for each in found)

    @property
    def _links(self) -> Mapping[tuple[int, int], tuple[tuple[int, int], ...]]:
        """The sensitive columns of foreign keys, by relation and attnum, with those they refer to."""
        snapshot = self.snapshot
        if snapshot is None:
            return {}
        found: Mapping[tuple[int, int], tuple[tuple[int, int], ...]] = snapshot.remember(
            ("links", self.names), lambda: _find_links(snapshot, self.keys)
        )
        return found

    def is_part(self, oid: int) -> bool:
        """Whether rows of a relation can come from another partition: it is one, or has some."""
        return self.snapshot is None or _is_part(self.snapshot, oid)

    def governs_by_sensitive(self, relation: Relation) -> bool:
        """Whether policies of a relation use sensitive columns, its own or those of others."""
        asked = () if self.snapshot is None else self.snapshot.policies.get(relation.oid, ())
        return relation.has_row_security and any(self._any_sensitive(other, (number,)) for other, number in asked)

    def find_asked(self, relation: Relation, *, reads_only: bool = False) -> Iterator[tuple[Relation, str]]:
        """The sensitive columns that policies of a relation hold against other rows, its own and those of others.

        Which of its rows there are, and which may be written, tells of them, to whoever may write such other rows. What a function does
        with those that it is given is judged with its body. With `reads_only` the policies for writing do not run.
        """
        if self.snapshot is None or not relation.has_row_security or not self.is_configured:
            return
        policies = self.snapshot.reading_policies if reads_only else self.snapshot.policies
        asked = policies.get(relation.oid, ())
        for other, number in asked if any(other != relation.oid for other, _ in asked) else ():
            if (table := self.snapshot.relations.get(other)) is not None:
                columns = (column for column in table.columns.values() if number in {0, column.number})
                yield from ((table, column.name) for column in columns if self.holds(other, column.number))

    def _asks_sensitive(self, oid: int) -> bool:
        """Whether a policy of a relation looks at sensitive columns of other rows."""
        asked = () if self.snapshot is None else self.snapshot.policies.get(oid, ())
        return any(other != oid for other, _ in asked) and any(self._any_sensitive(other, (number,)) for other, number in asked)

    def _any_sensitive(self, oid: int, numbers: Iterable[int]) -> bool:
        relation = None if self.snapshot is None else self.snapshot.relations.get(oid)
        return relation is not None and any(
            self.holds(oid, number) if number else self.holds_any(relation) for number in numbers if number >= 0
        )

    def _orders_sensitive(self, index: Index) -> bool:
        """Whether an index is in the order of a sensitive column, among others."""
        return self._any_sensitive(index.relation, index.columns)

    def find_referring(self, relation: Relation) -> Iterator[tuple[Relation, str]]:
        """The sensitive columns that refer to plain ones of a relation, as those of customers do to a table of codes.

        Whether such a row can go, or be locked, or what goes with it, tells who has its code.
        """
        for (oid, number), referred in self._links.items():
            if self.snapshot is not None and any(to == relation.oid and not self.holds(to, at) for to, at in referred):
                table = self.snapshot.relations[oid]
                yield table, table.columns[number].name

    def refers(self, oid: int) -> bool:
        """Whether a sensitive column of a table refers to plain ones of another."""
        found = () if self.snapshot is None else self._links.items()
        return any(each == oid and not all(self.holds(to, at) for to, at in referred) for (each, _), referred in found)

    def looks_up_with(self, oid: int, attnum: int) -> bool:
        """Whether a row with another value in a column has plain rows looked up that it refers to by a sensitive value nobody named.

        The key has both, or is generated from both; or the row may belong to another partition, where all its keys are asked anew.
        """
        made = self._places(oid, attnum)
        if self.snapshot is None or made is None:
            return self.is_configured
        referring = {place: numbers - {0} for place, numbers in made.items() if self.refers(place)}
        if referring and self._moves(made):
            return True
        keys = (key for key, _ in self.snapshot.foreign_keys if key.relation in referring)
        return any(
            self._any_sensitive(key.relation, self._find_parts(key) - referring[key.relation])
            for key in keys
            if not key.columns.isdisjoint(referring[key.relation])
        )

    def _find_parts(self, key: Index) -> frozenset[int]:
        """The columns of a key, for a generated one those it is made of."""
        made = () if self.snapshot is None else self.snapshot.find_sources(key.relation)
        columns = {} if self.snapshot is None else self.snapshot.relations[key.relation].columns
        parts = key.columns.union(*(sources for sources in made if not sources.isdisjoint(key.columns)))
        return frozenset(number for number in parts if number in columns and not columns[number].is_generated)

    def list_links(self) -> Iterator[tuple[str, str, str]]:
        """Schema, table and name of every sensitive column that refers to plain ones."""
        if self.snapshot is not None:
            tables = ((self.snapshot.relations[oid], number) for oid, number in self._links)
            yield from ((table.schema, table.name, table.columns[number].name) for table, number in tables)

    def find_told(self) -> Iterator[tuple[str, str, str]]:
        """The columns of `list_links`, where a plain key to what they refer to can be deferred.

        Asked in a savepoint, it shows which code is locked already: it draws no number for the savepoint then.
        """
        if self.snapshot is None:
            return
        codes = {to for referred in self._links.values() for to, _ in referred}
        if any(
            key.is_deferrable
            and any(to in codes for to, _ in others)
            and not any((key.relation, number) in self.keys for number in key.columns)
            for key, others in self.snapshot.foreign_keys
        ):
            yield from self.list_links()

    def find_constrained(self) -> Iterator[tuple[str, str, str]]:
        """Schema, table and name of the sensitive columns of foreign keys, unique and exclusion constraints that can be deferred."""
        snapshot = self.snapshot
        if snapshot is None:
            return
        for index in (*(each for each, _ in snapshot.foreign_keys), *snapshot.indexes):
            relation = snapshot.relations.get(index.relation) if index.is_deferrable else None
            if relation is None:
                continue
            asked = index.columns | index.condition
            for column in relation.columns.values():
                if asked & {0, column.number} and (relation.oid, column.number) in self.keys:
                    yield relation.schema, relation.name, column.name

    @property
    def looks_up(self) -> bool:
        """Whether the server looks other rows up by sensitive values, which a SERIALIZABLE transaction keeps and shows (`pg_locks`, 13.2.3)."""
        return bool(self._links)

    def shows_locks(self, name: str) -> bool:
        """Whether a system column of any table, a session's own too, shows what the server looks up or locks for sensitive columns.

        A look-up is a command of its own, which `cmin` and `cmax` of later rows count. It locks the row that one refers to while it checks
        another. That two have locked a row is a number, which it draws for all tables in turn, and which `xmax` shows wherever it was drawn:
        how many were drawn meanwhile is the difference of two.
        """
        return name in {"xmax", "cmin", "cmax"} and (self.is_configured if self.snapshot is None else self.looks_up)

    def touches(self, relation: Relation) -> bool:
        """Whether the server meets sensitive values where it reads a relation: in it, or in the conditions of a view or policy."""
        if self.snapshot is None or not self.is_configured:
            return self.is_configured
        snapshot = self.snapshot
        found: bool = snapshot.remember(("touches", self.names, relation.oid), lambda: self._touches(snapshot, relation))
        return found

    def find_below(self, view: Relation, column: Column) -> Iterator[tuple[str, str, str, bool]]:
        """The columns below one of a view, which may be called otherwise: schema, table, name, and whether it is sensitive."""
        if self.snapshot is None:
            return
        for base in sorted(self.snapshot.origins(view.oid, column.number).columns, key=astuple):
            relation = self.snapshot.resolve(base.schema, base.table)
            found = None if relation is None else relation.find(base.column)
            yield (
                base.schema,
                base.table,
                base.column,
                relation is None or found is None or self.holds(relation.oid, found.number),
            )

    def _touches(self, snapshot: CatalogSnapshot, relation: Relation) -> bool:
        if self.holds_any(relation):
            return True
        behind = (*snapshot.behind(relation.oid).relations, *find_governed(snapshot, relation))
        used = {source for each in behind if each.oid in snapshot.views for source in snapshot.views[each.oid].columns}
        used |= {source for each in behind for source in snapshot.policies.get(each.oid, ())}
        whole = (snapshot.relations[oid] for oid, number in used if not number and oid in snapshot.relations)
        return any(self.holds(oid, number) for oid, number in used if number) or any(map(self.holds_any, whole))


def find_sensitive(
    snapshot: CatalogSnapshot | None, sensitive: tuple[str, ...], clean_functions: frozenset[str] = frozenset()
) -> Sensitivity:
    """Resolve configured "schema.table.column" names. Raises ConfigError for a name of another shape."""
    names = frozenset(read_name(text) for text in sensitive)
    if snapshot is None or not names:
        return Sensitivity(snapshot, names, frozenset(), clean_functions)
    key = ("sensitive", names, clean_functions)
    return snapshot.remember(key, lambda: Sensitivity(snapshot, names, find_keys(snapshot, names), clean_functions))


def _find_in_bodies(snapshot: CatalogSnapshot, oid: int) -> tuple[Condition, ...]:
    """What the bodies of triggers and rules of a relation bring together of the row they run for.

    That is the columns a body names, and all where it uses the row as a whole: it may take it apart again under another name, and
    where it stores it, as an audit trigger does, the values are compressed as one.
    """

    def derive() -> tuple[Condition, ...]:
        numbers = {column.name: column.number for column in snapshot.relations[oid].columns.values()}
        # A row that comes has no values of its own yet, unless it comes from another partition.
        comes = set() if _is_part(snapshot, oid) else {"i"}
        hooks = [hook for hook in snapshot.hooks.get(oid, ()) if hook.kind in {"trigger", "rule"} and hook.events not in comes]
        used = [frozenset(numbers[name] for name in find_row_columns(hook) & numbers.keys()) for hook in hooks]
        used += [frozenset(numbers.values()) for hook in hooks if uses_whole_row(hook)]
        return tuple(Condition(oid, columns, is_of_change=True) for columns in used if columns)

    found: tuple[Condition, ...] = snapshot.remember(("in bodies", oid), derive)
    return found


def _is_part(snapshot: CatalogSnapshot, oid: int) -> bool:
    above = (snapshot.relations.get(each) for each in (oid, *snapshot.parents.get(oid, ())))
    return any(relation is not None and relation.kind == "p" for relation in above)


def _find_links(
    snapshot: CatalogSnapshot, keys: AbstractSet[tuple[int, int]]
) -> dict[tuple[int, int], tuple[tuple[int, int], ...]]:
    links: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
    for referred, referring in snapshot.references.items():
        for each in keys & set(referring):
            links[each] = (*links.get(each, ()), referred)
    return links
