"""One analyzed statement and a catalogue snapshot, made into the facts policy reads. Pure.

The text alone leaves questions: which relation a name is, whether `t.x` is a column or a call of the function `x`, what a function
does. The snapshot answers them; what it cannot answer is decided for the worse: an unresolved relation may hold any sensitive
column, and an unknown function has the effect `execute`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gateway.protocols.postgres.assigned import Assigned
from gateway.protocols.postgres.calls import find_calls
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import KeyAction, Relation
from gateway.protocols.postgres.changed_rows import Pin, find_pins
from gateway.protocols.postgres.conversions import Conversions
from gateway.protocols.postgres.copying import describe_copy
from gateway.protocols.postgres.followed import describe_referring, list_written
from gateway.protocols.postgres.functions import EFFECTS, HARMLESS, UNJUDGED, YIELDS_ANY
from gateway.protocols.postgres.hooked import HookReader
from gateway.protocols.postgres.hooks import COMPILED, ROW_VARIABLES
from gateway.protocols.postgres.implied import describe_cast, find_cast_code
from gateway.protocols.postgres.own import NONE_OWN, OwnTables
from gateway.protocols.postgres.plain import describe_flags
from gateway.protocols.postgres.reached import find_reached, find_used_unnamed
from gateway.protocols.postgres.rewritten import REFERRING
from gateway.protocols.postgres.rows import MARKS, PRIMARY_KEY, StarRows
from gateway.protocols.postgres.sensitivity import Sensitivity
from gateway.protocols.postgres.unclear import SPLIT_NUMBER

if TYPE_CHECKING:
    # A type of the stub only: at run time an analysis is a plain dict.
    from sealgate_native.sql import Statement as Analyzed

SYSTEM_COLUMNS: Final = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid"})
"""Columns every table has without listing them; none holds a user's value."""

RESULT_OF_ANOTHER: Final = frozenset({"fetch", "execute", "call", "do"})
"""Verbs whose rows come from a statement whose text is not at hand."""

FACT_MEMBERS: Final = ("has_where", "has_limit", "is_explain_analyze", "fingerprint", "set_vars")
"""Members taken as the analysis has them. Lists are always there: an empty one is the fact that there is none."""

POSITION: Final = "\0"
"""Begins the name of a column that is known by its place only, counted from one: `t(a, b)` renames the first two columns of t."""

QUIET_OPERATORS: Final = frozenset({"||", "->", "->>", "#>", "#>>"})
"""Operators whose work tells nothing of the values as PostgreSQL has them (`native/kernel/sql/src/walk/quiet.rs`)."""

MAX_OUTPUTS: Final = 400
"""Result columns whose lineage is told one by one; wider results are judged as a whole, as their facts would not fit a record."""

OPTIONAL_MEMBERS: Final = ("object", "prepared_name", "nested")


VALUELESS_VERBS: Final = frozenset(
    {"lock", "comment", "begin", "commit", "rollback", "savepoint", "release", "rollback_to", "set", "reset", "show", "discard"}
)
"""What has no expressions, so that no cast runs."""


@dataclass(frozen=True, slots=True)
class Described:
    """What one statement is.

    Attributes:
        facts: the entry of `postgres.statements`.
        effects: never empty.
        is_harmless: nothing it does can change anything or take long-lived locks, as far as known.
        is_keyed: how many rows it writes is known by the keys it names.
        pins: what tells its rows from those of other statements, where it may not change a row that is changed already.
    """

    facts: dict[str, Any]
    effects: frozenset[str]
    is_harmless: bool
    pins: Mapping[str, Pin] = field(default_factory=dict)
    is_keyed: bool = False


def describe_statement(
    analyzed: Analyzed, snapshot: CatalogSnapshot | None, sensitivity: Sensitivity, own: OwnTables = NONE_OWN
) -> Described:
    """The facts of one statement; `own` are tables the session made, which the snapshot may not hold."""
    reader = _Reader(analyzed, snapshot, sensitivity, own)
    tables = reader.read_tables()
    columns = reader.read_columns()
    functions = reader.read_functions()
    effects = frozenset(analyzed["effects"]) | reader.effects
    is_split = analyzed["has_new_numbers"] and (snapshot is None or snapshot.splits_numbers)
    effects |= {"unknown"} if is_split else set()
    actions = reader.changed_by_keys()
    assigned = reader.assigned.describe(actions)
    if reader.hooks.has_touched and analyzed["verb"] != "alter_table":
        tables[0]["sensitive"] = True  # what runs unseen meets sensitive values, and its errors come with this statement
    facts: dict[str, Any] = {
        "verb": analyzed["verb"],
        "effects": sorted(effects),
        "tables": tables,
        "columns": columns,
        "assigned": assigned,
        **reader.assigned.bound(assigned, actions),
        **reader.read_referring(assigned, actions),
        "functions": functions,
        **{name: analyzed[name] for name in FACT_MEMBERS},
        **{name: analyzed[name] for name in OPTIONAL_MEMBERS if name in analyzed},
    }
    facts |= {name: analyzed[name] for name in ("new_names", "added_columns") if analyzed[name]}
    if "copy" in analyzed:
        facts["copy"] = describe_copy(analyzed["copy"])
    facts["may_yield_sensitive"] = reader.may_yield(columns)
    if reader.hooks.has_touched:
        facts["meets_sensitive"] = True
    if reader.hooks.tables:
        facts["hook_tables"] = sorted(reader.hooks.tables)
    outputs = reader.read_outputs()
    if outputs is not None:
        facts["outputs"] = outputs
    flags = describe_flags(analyzed, snapshot, tables)
    facts["flags"] = sorted([*flags, SPLIT_NUMBER]) if is_split else flags
    facts |= {name: found for name, found in (("operators", reader.operators), ("casts", reader.casts)) if found}
    is_harmless, is_keyed = effects == {"read"} and reader.is_harmless, bool(analyzed["keyed_rows"])
    return Described(facts, effects, is_harmless, reader.find_pins(facts, actions), is_keyed)


class _Reader:
    """Resolves the names of one statement, and gathers what they add to its effects."""

    def __init__(
        self,
        analyzed: Analyzed,
        snapshot: CatalogSnapshot | None,
        sensitivity: Sensitivity,
        own: OwnTables = NONE_OWN,
    ) -> None:
        self.analyzed = analyzed
        self.own = own
        self.snapshot = snapshot
        self.sensitivity = sensitivity
        self.effects: set[str] = set()
        self.is_harmless = snapshot is not None and not analyzed["is_explain_analyze"]
        self.relations: list[Relation] = []
        self.hooks = HookReader(analyzed, snapshot, sensitivity, _Reader)
        self.has_unresolved = snapshot is None and bool(analyzed["tables"])
        self.has_own = False
        self.calls: list[tuple[str | None, str, int]] = [
            (call.get("schema"), call["name"], call["args"]) for call in analyzed["functions"]
        ]
        self.yields_any = False
        self.rows = StarRows(analyzed, self._resolve)
        self.assigned = Assigned(analyzed, snapshot, sensitivity)
        self.operators: list[dict[str, Any]] = []
        self.casts: list[dict[str, Any]] = []
        self.attributes: set[str] = set()

    def read_tables(self) -> list[dict[str, Any]]:
        """Every relation with its schema and whether it holds sensitive columns."""
        facts = []
        for table in self.analyzed["tables"]:
            relation = self._resolve(table.get("schema"), table["name"])
            fact: dict[str, Any] = {"name": table["name"], "access": table["access"]}
            if relation is not None:
                self.relations.append(relation)
                fact |= {"schema": relation.schema, "sensitive": self.sensitivity.touches(relation), "kind": relation.kind}
                if table["access"] in {"read", "write"}:
                    self._read_relation(relation)
                fact |= {"made": True} if table["access"] == "define" and self.own.made(self.snapshot, relation) else {}
                if hooks := self.hooks.read(relation, table["access"]):
                    fact["hooks"] = hooks
                if relation.has_row_security:
                    fact["row_security"] = True
            else:
                is_own = self._is_own(table.get("schema"), table["name"])
                # A new name of a definition need not exist yet.
                self.has_unresolved |= table["access"] != "define" and not is_own
                self.has_own |= is_own
                self.is_harmless = False
                # A view of anything, or another session's.
                if (table["access"] == "write" and not is_own) or table.get("schema", "").startswith("pg_temp_"):
                    self.effects.add("unknown")
                fact |= {name: table[name] for name in ("schema",) if name in table}
                is_new = table["access"] == "define" and table["name"] in self.analyzed["new_names"]
                fact |= {"unresolved": True, **({"own": True} if is_own else {})}
                if is_own or is_new or not self.sensitivity.is_configured:
                    fact["sensitive"] = False  # it holds nothing that an error could quote
                if is_own and self.own.holds_temporary(table.get("schema"), table["name"]):
                    fact["temporary"] = True
                fact |= {"follows": True} if is_own and table["name"] in self.own.following else {}
            facts.append(fact)
            if relation is not None:
                facts += self._read_reached(relation, table["access"])
        return facts

    def _is_own(self, schema: str | None, name: str) -> bool:
        """Whether the session made the table itself, through the gateway, where nothing sensitive goes in."""
        if self.snapshot is None or (schema == "public" and self.snapshot.first_schema != "public"):
            return False  # what it made without a schema is elsewhere
        return self.own.holds(schema, name)

    def _read_reached(self, relation: Relation, access: str) -> Iterator[dict[str, Any]]:
        """The tables whose rows a write to a relation changes as well, or that a definition of it defines."""
        if self.snapshot is None:
            return
        actions = self.hooks.find_key_actions(relation) if access == "write" else ()
        shown = "read" if relation.kind == "v" and access == "define" else access
        for each in find_reached(self.snapshot, self.analyzed, relation, access, actions):
            yield {"name": each.name, "access": shown, "schema": each.schema, "sensitive": self.sensitivity.holds_any(each)}

    def changed_by_keys(self) -> list[KeyAction]:
        """What foreign keys do with everything the statement writes to."""
        return [action for each in self._list_written() for action in self.hooks.find_key_actions(each)]

    def read_referring(self, assigned: Iterable[Mapping[str, Any]], actions: Sequence[KeyAction]) -> dict[str, Any]:
        """The tables whose rows it may change and may not change again, by what it assigns and what foreign keys do with it."""
        if self.snapshot is None or not self.sensitivity.looks_up:
            return {}
        written = self._list_written("define" if self.analyzed["verb"] == "alter_table" else "write")
        named = [(self._resolve(each.get("schema"), each.get("table", "")), each["name"]) for each in assigned]
        what = list_written(self.snapshot, self.analyzed, written, named, actions)
        found = describe_referring(self.snapshot, self.sensitivity, self.analyzed, what)
        return {REFERRING: found} if found else {}

    def find_pins(self, facts: Mapping[str, Any], actions: Sequence[KeyAction]) -> Mapping[str, Pin]:
        """What tells its rows from others of the table that it may not change again; nothing where keys change more."""
        is_needed = self.snapshot is not None and len(facts.get(REFERRING, ())) == 1 and not actions
        return find_pins(self.snapshot, self.analyzed, self._list_written()) if self.snapshot and is_needed else {}

    def _list_written(self, access: str = "write") -> list[Relation]:
        written = {table["name"] for table in self.analyzed["tables"] if table["access"] == access}
        return [each for each in self.relations if each.name in written]

    def reads_sensitive(self) -> bool:
        """Whether a relation's sensitive column is used; a name that is no relation's is a variable, filled by a query that counts."""
        known = [column for column in self.analyzed["columns"] if "table" not in column or self._is_known(column)]
        compares = "compares_assigned" in self.analyzed["flags"] and any(fact["sensitive"] for fact in self.assigned.describe(()))
        return compares or any(is_sensitive for column in known for *_, is_sensitive in self._find_column(column))

    def uses_sensitive(self, uses: AbstractSet[str]) -> bool:
        """Whether a sensitive column is used in one of these ways."""
        used = (column for column in self.analyzed["columns"] if column["use"] in uses)
        return any(is_sensitive for column in used for *_, is_sensitive in self._find_column(column))

    def _is_known(self, column: Mapping[str, Any]) -> bool:
        relation = self._resolve(column.get("schema"), column["table"])  # `new.name` in a trigger looks like a field of a column
        return relation is not None and (column["name"] not in ROW_VARIABLES or relation.find(column["name"]) is not None)

    def read_tables_only(self) -> None:
        """The relations a hook's body names, without what runs with them in turn."""
        for table in self.analyzed["tables"]:
            relation = self._resolve(table.get("schema"), table["name"])
            if relation is not None:
                self.relations.append(relation)
            else:
                # A variable, a transition table, or whatever the session has under the name.
                self.has_unresolved |= table["access"] in {"read", "write"}

    def _resolve(self, schema: str | None, name: str) -> Relation | None:
        return None if self.snapshot is None else self.snapshot.resolve(schema, name)

    def _read_relation(self, relation: Relation) -> None:
        """What reading it adds: row security, views and foreign tables run or reach more than its rows."""
        if self.snapshot is None:
            return
        behind = self.snapshot.behind(relation.oid)
        is_remote = any(each.kind == "f" for each in behind.relations)
        guarded = any(each.has_row_security for each in behind.relations)
        if is_remote or guarded or behind.functions or not self.snapshot.knows_harmless(behind.names):
            self.is_harmless = False
        if is_remote:
            self.effects.add("network")
        # Reading a view runs its functions: one that may change something makes the statement more than a read.
        if any(function.volatility == "volatile" for function in behind.functions):
            self.effects.add("execute")
        for name in behind.names:
            self.effects |= EFFECTS.get(name, frozenset())
            self.yields_any |= name in YIELDS_ANY

    def read_columns(self) -> list[dict[str, Any]]:
        """Every column use, resolved to a relation where that is sure, with whether it is sensitive."""
        facts: dict[tuple[str | None, str | None, str, str], bool] = {}
        for column in self.analyzed["columns"]:
            for schema, table, name, is_sensitive in self._find_column(column):
                key = (schema, table, name, column["use"])
                facts[key] = facts.get(key, False) or is_sensitive
                if is_sensitive and self._has_loud_operator():
                    facts[(schema, table, name, "computed")] = True
                if name == "*" and self.analyzed["verb"] == "create_view":
                    facts |= {(*each[:3], column["use"]): each[3] for each in self._list_columns(schema, table)}
        facts |= dict.fromkeys(self._find_converted(), True)
        if self.snapshot is not None and self.snapshot.returns_rows(
            {*self.analyzed["attributes"], *(call[1] for call in self.calls)}
        ):
            # How many rows come is decided by what the function is given.
            facts |= {(*key[:3], "predicate"): True for key, found in facts.items() if found and key[3] in {"other", "computed"}}
        if self.snapshot is not None:
            unnamed = find_used_unnamed(self.snapshot, self.sensitivity, self.analyzed, self.relations)
            facts |= {(schema, table, name, "predicate"): True for schema, table, name in unnamed}
        if self.analyzed["verb"] == "set_constraints":  # what was deferred is compared now, as often as it is said
            facts |= {(*each, "other"): True for each in self.sensitivity.find_constrained()}
            facts |= {(*each, "predicate"): True for each in self.sensitivity.find_told()}
        if "compares_assigned" in self.analyzed["flags"]:
            for fact in self.assigned.describe(()):
                facts[(fact.get("schema"), fact.get("table"), fact["name"], "predicate")] = fact["sensitive"]
        return [
            {
                **({"schema": schema} if schema else {}),
                **({"table": table} if table else {}),
                "name": name,
                "use": use,
                "sensitive": found,
            }
            for (schema, table, name, use), found in facts.items()
        ]

    def _list_columns(self, schema: str | None, table: str | None) -> Iterator[tuple[str, str, str, bool]]:
        """Each column of a relation: any could be written to under the name a view gives it."""
        if (relation := self._resolve(schema, table or "")) is not None:
            for column in relation.columns.values():
                yield from self._column_of(relation, column.name)

    def _find_converted(self) -> Iterator[tuple[str | None, str | None, str, str]]:
        """The sensitive columns whose values may be looked up by the server, for the type of what stands beside them."""
        found = [each for column in self.analyzed["blended"] for each in self._find_column(column) if each[-1]]
        if not found:
            return
        calls_others = self.snapshot is None or any(self.snapshot.calls(*call) for call in self.calls)
        is_certain = not (self.has_unresolved or self.has_own or calls_others)
        conversions = Conversions(self.analyzed, self.snapshot, self.relations, is_certain=is_certain)
        for schema, table, name, _ in found:
            relation = None if table is None else self._resolve(schema, table)
            column = None if relation is None else relation.find(name)
            if conversions.may_look_up(None if column is None else column.type_oid):
                yield schema, table, name, "computed"

    def _find_marked(self, column: Mapping[str, Any]) -> Iterator[tuple[str | None, str | None, str, bool]]:
        for each in self.rows.expand(column):
            if "call" in each:
                self._add_attribute(each["call"])
            yield from self._find_column(each)

    def _find_column(self, column: Mapping[str, Any]) -> Iterator[tuple[str | None, str | None, str, bool]]:
        schema, table, name = column.get("schema"), column.get("table"), column["name"]
        if name.startswith(MARKS):
            yield from self._find_marked(column)
            return
        if table is not None:
            relation = self._resolve(schema, table)
            if relation is None:
                # What is not known may be a copy or a view of anything.
                shown = "*" if name.startswith(POSITION) else name
                if name not in HARMLESS:
                    self._add_attribute(name)
                is_hidden = self.sensitivity.is_configured and not self._is_own(schema, table)
                yield schema, table, shown, is_hidden or self.sensitivity.shows_locks(name)
            else:
                yield from self._column_of(relation, name)
            return
        candidates = [relation for relation in self.relations if name == "*" or relation.find(name) is not None]
        for relation in candidates:
            yield from self._column_of(relation, name)
        if self.has_unresolved:
            yield None, None, name, self.sensitivity.is_configured
        elif not candidates:
            yield None, None, name, self.sensitivity.shows_locks(name)

    def _column_of(self, relation: Relation, name: str) -> Iterator[tuple[str, str, str, bool]]:
        if name == "*":
            yield relation.schema, relation.name, "*", self.sensitivity.holds_any(relation)
            return
        if name == PRIMARY_KEY:
            numbers = () if self.snapshot is None else self.snapshot.primary_keys.get(relation.oid, ())
            for key in (relation.columns[number].name for number in numbers if number in relation.columns):
                yield from self._column_of(relation, key)
            return
        found = relation.find(name)
        if name.startswith(POSITION):
            found = dict(enumerate(relation.columns.values(), 1)).get(int(name[1:]))
        if found is not None and self.analyzed["verb"] == "create_view" and relation.kind == "v" and self.snapshot is not None:
            yield from self.sensitivity.find_below(relation, found)  # writes go through to it
        if found is not None:
            yield relation.schema, relation.name, found.name, self.sensitivity.holds(relation.oid, found.number)
        elif name in SYSTEM_COLUMNS:
            yield relation.schema, relation.name, name, self.sensitivity.shows_locks(name)
        else:
            # `t.f` without such a column calls f with the whole row.
            self._add_attribute(name)
            yield relation.schema, relation.name, "*", self.sensitivity.holds_any(relation)

    def _has_loud_operator(self) -> bool:
        """Whether an operator that tells nothing of its values may be an extension's of the same name, which reads them (`||` of ltree)."""
        if self.snapshot is None:
            return False
        used = {each["name"] for each in self.analyzed["operators"]} & QUIET_OPERATORS
        return any((schema, name) in self.snapshot.reading_operators for name in used for schema in self.snapshot.search_path)

    def _add_attribute(self, name: str) -> None:
        """A name that calls a function with one argument, or casts to a type, where it is no column or field."""
        self.attributes.add(name)
        own = name.startswith("pg_") or any(name in known for known in (EFFECTS, YIELDS_ANY, UNJUDGED, HARMLESS))
        if self.snapshot is not None and (own or self.snapshot.calls(None, name, 1)):
            self.calls.append((None, name, 1))

    def read_outputs(self) -> list[dict[str, Any]] | None:
        """Per result column the base columns it is made of and whether one is sensitive; None where that is not known of every one."""
        is_hidden = self.yields_any or self.has_unresolved or self.hooks.has_rules or self.snapshot is None
        if is_hidden or self._delivers_another() or self.analyzed["verb"] == "explain":
            return None
        found: list[dict[str, Any]] = []
        for output in self.analyzed["outputs"]:
            if output["kind"] == "unknown" or len(found) > MAX_OUTPUTS:
                return None
            if output["kind"] != "star":
                found.append(self._output_facts(output["columns"]))
                continue
            (star,) = output["columns"]
            relation = self._resolve(star.get("schema"), star["table"])
            if relation is None:
                return None
            found += [self._output_facts([{**star, "name": column.name}]) for column in relation.columns.values()]
        return found

    def _output_facts(self, columns: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        reached = [each for column in columns for each in self._find_column(column)]
        names = {(schema, table, name) for schema, table, name, _ in reached if schema and table and name != "*"}
        named = [{"schema": schema, "table": table, "column": name} for schema, table, name in sorted(names)]
        return {"columns": named, "sensitive": any(is_sensitive for *_, is_sensitive in reached)}

    def read_functions(self) -> list[dict[str, Any]]:
        """Every function called, in each schema it may come from; also judges operators and types."""
        for name in self.analyzed["attributes"]:
            self._add_attribute(name)
        facts = []
        for schema, name, args in dict.fromkeys(self.calls):
            for call in find_calls(self.snapshot, self.sensitivity, schema, name, args):
                facts.append(call.fact)
                self.effects |= call.effects
                self.is_harmless &= call.is_harmless
                self.yields_any |= call.yields_any
        self._read_operators()
        return facts

    def _read_operators(self) -> None:
        if self.snapshot is None:
            return
        for operator in self.analyzed["operators"]:
            languages = self.snapshot.find_operators(operator.get("schema"), operator["name"])
            self.is_harmless &= not languages
            for language in sorted(set(languages) - COMPILED):
                self.effects.add("execute")
                self.yields_any = True
                self.operators.append({**operator, "language": language})
        self._read_casts()
        for cast in self.analyzed["types"]:
            if self.own.may_type(cast["name"]):
                self.effects.add("unknown")  # what is of the type goes with the table
            # Enums hold nothing that runs; a domain has checks, a base type input functions.
            if set(self.snapshot.find_types(cast.get("schema"), cast["name"])) - {"e"}:
                self.is_harmless = False

    def _read_casts(self) -> None:
        """Casts, checks and defaults of types that call functions of somebody's own."""
        if self.snapshot is None or self.analyzed["verb"] in VALUELESS_VERBS:
            return
        named = [(name.get("schema"), name["name"]) for name in self.analyzed["types"]]
        named += [(None, name) for name in sorted(self.attributes)]
        columns = (relation.find(name) for *_, name, relation in self.assigned.find_columns() if relation is not None)
        assigned = [column.type_oid for column in columns if column is not None]
        for cast in find_cast_code(self.snapshot, named, assigned, self.relations):
            self.effects.add("execute")
            self.is_harmless = False
            self.yields_any = True
            self.casts.append(describe_cast(cast))

    def _delivers_another(self) -> bool:
        return not RESULT_OF_ANOTHER.isdisjoint({self.analyzed["verb"], self.analyzed.get("nested")})

    def may_yield(self, columns: Iterable[Mapping[str, Any]]) -> bool:
        """Whether a result column of unknown origin may hold a sensitive value."""
        if not self.sensitivity.is_configured:
            return False
        if self.yields_any or self.has_unresolved or self._delivers_another():
            return True
        if self.analyzed["verb"] == "explain" and not self.analyzed["is_explain_analyze"]:
            # A plan tells of values by its estimates only, and those come from predicates.
            return any(column["sensitive"] and column["use"] == "predicate" for column in columns)
        return any(column["sensitive"] for column in columns)
