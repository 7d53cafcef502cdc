"""What the bodies of hooks do: code that runs with a statement which does not name it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from sealgate_native import sql

from gateway.protocols.postgres.assigned import Assigned
from gateway.protocols.postgres.catalog import MAX_VIEW_BYTES, CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import Column, Relation
from gateway.protocols.postgres.functions import TELLING
from gateway.protocols.postgres.governed import find_governed
from gateway.protocols.postgres.hooks import Hook, find_row_columns, read_body, uses_whole_row
from gateway.protocols.postgres.implied import find_cast_code, find_hooks, find_written_through, locks_rows
from gateway.protocols.postgres.rewritten import rewrites
from gateway.protocols.postgres.sensitivity import Sensitivity

if TYPE_CHECKING:
    # A type of the stub only: at run time an analysis is a plain dict.
    from sealgate_native.sql import Statement as Analyzed

ERROR_TEXTS: Final = ("sqlerrm", "message_text", "pg_exception", 'u&"')
"""Words by which a handler of PL/pgSQL gets the text of an error (43.6.8.1), and what any of them can be spelled with."""


SMALL_EFFECTS: Final = frozenset(
    {"nextval", "txid_current", "pg_current_xact_id", "pg_notify", "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared"}
)
"""Functions of the server with an effect that bodies may have: they number rows and transactions, tell listeners, and take turns."""

_CHANGES: Final = re.compile(r"\b(?:update|merge)\b")
"""What a body says that changes rows which are there; one without these words only adds some, or takes them away."""


_EMPTIES: Final = re.compile(r"\btruncate\b.*\bcascade\b", re.IGNORECASE | re.DOTALL)
"""What empties tables that it does not name, whatever their foreign keys do otherwise."""


class BodyReader(Protocol):
    """Reads one statement of a body."""

    has_unresolved: bool
    assigned: Assigned
    operators: list[dict[str, Any]]
    casts: list[dict[str, Any]]

    def read_tables_only(self) -> None:
        """The relations it names."""

    def read_functions(self) -> list[dict[str, Any]]:
        """The functions it calls."""

    def reads_sensitive(self) -> bool:
        """Whether it uses a sensitive column."""

    def uses_sensitive(self, uses: AbstractSet[str]) -> bool:
        """Whether it uses a sensitive column in one of these ways."""


MakeReader = Callable[["Analyzed", CatalogSnapshot, Sensitivity], BodyReader]


@dataclass(frozen=True, slots=True)
class Judged:
    """What a hook does, and what runs with its statements in turn.

    Attributes:
        is_opaque: part of it cannot be read, or calls what is not harmless.
        reads_sensitive: it uses a sensitive column of a table, or what runs with its statements does, also one of the rows they change.
        changes: it changes anything itself.
        touches: it meets sensitive values, which an error or notice of it can quote.
        names: bare names of relations it uses, which mean others where the session has temporary ones.
        guesses: it gives values to columns that the server compares with sensitive ones.
        filled: columns of the row it runs for that it gives a value; `*` for every one.
        used: columns of that row whose values it uses; `*` where it may use any.
    """

    is_opaque: bool
    reads_sensitive: bool
    changes: bool
    touches: bool
    names: frozenset[str]
    guesses: bool
    filled: frozenset[str]
    used: frozenset[str]


def judge_hook(hook: Hook, snapshot: CatalogSnapshot, sensitivity: Sensitivity, make_reader: MakeReader) -> Judged:
    """Judge a hook by its body, and by those of the hooks that its statements fire."""
    pending, seen, names, effects = [hook], {hook}, set[str](), set[str]()
    is_opaque = reads_sensitive = touches = handles_texts = guesses = False
    while pending:
        current = pending.pop()
        body = read_body(current)
        is_opaque |= body.is_opaque or _EMPTIES.search(current.source or "") is not None
        for analyzed in body.statements:
            reader = make_reader(analyzed, snapshot, sensitivity)
            reader.read_tables_only()
            # First: a field of a row can be a function, which is among those read then.
            reads_sensitive |= reader.reads_sensitive()
            is_opaque |= not all(map(_is_harmless, reader.read_functions()))
            # A procedure's OUT arguments are written like others (since PostgreSQL 14), so it can look like a function of the server.
            is_opaque |= "calls_procedure" in analyzed["flags"]
            is_opaque |= analyzed["is_explain_analyze"]  # it counts how much the server worked
            is_opaque |= bool(analyzed["new_names"])  # a temporary relation of it would take the names of others
            is_opaque |= reader.has_unresolved or bool(reader.operators or reader.casts or analyzed["set_vars"])
            effects |= set(analyzed["effects"]) if current is hook else set()
            names |= (named := {table["name"] for table in analyzed["tables"]})
            is_opaque |= not named.isdisjoint(current.transitions)  # rows that changed, under the name of whatever else there is
            # ANALYZE, REINDEX and the like run the code of indexes; definitions do anything.
            is_opaque |= current.kind != "rule" and any(table["access"] == "define" for table in analyzed["tables"])
            for table in analyzed["tables"]:
                relation = snapshot.resolve(table.get("schema"), table["name"])
                if relation is None:
                    continue
                actions = snapshot.changed_by_keys(relation.oid) if table["access"] == "write" else ()
                assigned = reader.assigned.describe(actions, is_adding=not _CHANGES.search((current.source or "").lower()))
                guesses |= any(fact.get("compared", False) for fact in assigned)
                is_opaque |= relation.kind == "m" and table["access"] == "write"  # REFRESH runs its whole query
                governed = find_governed(snapshot, relation)
                is_opaque |= any(snapshot.behind(each.oid).functions for each in governed)
                reached = (*snapshot.behind(relation.oid).relations, *find_written_through(snapshot, relation, actions))
                touches |= any(sensitivity.touches(each) for each in reached)
                guesses |= table["access"] == "write" and any(sensitivity.asks_when_rows_go(each.oid) for each in reached)
                locks = "lock" in analyzed["effects"] or any(locks_rows(snapshot, each) for each in reached)
                reads_sensitive |= rewrites(snapshot, sensitivity, analyzed, relation, actions)
                if locks or (table["access"] == "write" and analyzed["verb"] != "insert"):
                    reads_sensitive |= any(True for each in reached for _ in sensitivity.find_referring(each))
                found = set(find_hooks(snapshot, relation, table["access"], actions))
                pending += found - seen
                seen |= found
                # One function may run for several tables, which differ in what is sensitive.
                guesses |= any(fills_compared(sensitivity, reached, each, read_filled(each)) for each in found)
                is_opaque |= current.kind != "rule" and converts_unnamed(snapshot, relation.columns.values())
                is_opaque |= any(fills_converted(snapshot, reached, each, read_filled(each)) for each in found)
                reads_sensitive |= any(
                    uses_sensitive(snapshot, sensitivity, reached, each, read_used(each), is_adding=False) for each in found
                )
                reads_sensitive |= any(map(sensitivity.governs_by_sensitive, governed))
                reads_sensitive |= any(searches_sensitive(snapshot, sensitivity, each, make_reader) for each in governed)
        handles_texts |= any(word in (current.source or "").lower() for word in ERROR_TEXTS)
    # A handler has the text of the error it caught, wherever below it that came from.
    reads_sensitive |= touches and handles_texts
    touches = sensitivity.is_configured and (touches or is_opaque)
    is_changing = bool(effects - {"read", "execute", "define"})
    filled, used = read_filled(hook), read_used(hook)
    return Judged(is_opaque, reads_sensitive, is_changing, touches, frozenset(names), guesses, filled, used)


def _is_harmless(called: Mapping[str, Any]) -> bool:
    """Whether the fact of a call is that of a function which does nothing to tell of, and does not tell how much the server worked."""
    return (called["harmless"] and called["name"] not in TELLING) or _has_small_effect(called)


def _has_small_effect(called: Mapping[str, Any]) -> bool:
    """Whether the fact of a call is that of one of these functions, and not of one of the owner's, which has a language."""
    return called["name"] in SMALL_EFFECTS and called.get("schema") == "pg_catalog" and "language" not in called


def describe_hook(hook: Hook, judged: Judged, *, is_compared: bool) -> dict[str, Any]:
    """The fact of a hook that runs with a statement; `is_compared` tells that it may write what is compared with sensitive values."""
    return {
        "kind": hook.kind,
        **({"schema": hook.schema} if hook.schema else {}),
        "name": hook.name,
        "language": hook.language,
        "security_definer": hook.is_definer,
        "opaque": judged.is_opaque,
        "reads_sensitive": judged.reads_sensitive,
        "changes": judged.changes,
        **({"compared": True} if is_compared else {}),
    }


def read_filled(hook: Hook) -> frozenset[str]:
    """The columns of the row a hook runs for that its body gives a value."""
    return frozenset(name for analyzed in read_body(hook).statements for name in analyzed["filled"])


def read_used(hook: Hook) -> frozenset[str]:
    """The columns of the row a hook runs for whose values it uses; `*` for any. A function may use those its expression has."""
    if hook.kind == "trigger":
        return hook.columns | _read_used(hook)  # its WHEN may choose by others
    return _read_used(hook) if hook.kind == "rule" else hook.columns


def _read_used(hook: Hook) -> frozenset[str]:
    return frozenset({"*"}) if uses_whole_row(hook) else find_row_columns(hook)


def uses_sensitive(
    snapshot: CatalogSnapshot,
    sensitivity: Sensitivity,
    relations: Iterable[Relation],
    hook: Hook,
    names: frozenset[str],
    *,
    is_adding: bool,
) -> bool:
    """Whether a hook meets a sensitive value in a column of these names of any of these relations; `*` is any name.

    A default is given none, and policies are others'. With `is_adding` rows only come, and what nobody but their sender chose in them
    is no news.
    """
    return hook.kind not in {"default", "policy"} and any(
        sensitivity.holds(relation.oid, column.number) and not (is_adding and _is_given(snapshot, relation, column))
        for relation in relations
        for column in relation.columns.values()
        if column.name in names or "*" in names
    )


def _is_given(snapshot: CatalogSnapshot, relation: Relation, column: Column) -> bool:
    """Whether a new row has in a column what it was sent with, or a constant."""
    is_made = any(column.number in snapshot.find_generated(relation.oid, number) for number in relation.columns)
    return not (column.is_computed or is_made) and find_filled(snapshot, relation).isdisjoint({column.name, "*"})


def searches_sensitive(snapshot: CatalogSnapshot, sensitivity: Sensitivity, view: Relation, make_reader: MakeReader) -> bool:
    """Whether a view chooses, sorts, joins or groups its rows by sensitive columns, or computes with them, and not only shows them.

    What a materialized view computed, it computed when it was filled; which rows it has may follow from rows that agents added.
    """

    def read() -> bool:
        definition = snapshot.views[view.oid].definition
        analysis = None if definition is None else sql.analyze(definition, max_bytes=MAX_VIEW_BYTES)
        if analysis is None or analysis["status"] != "ok":
            return sensitivity.touches(view)
        readers = [make_reader(analyzed, snapshot, sensitivity) for analyzed in analysis["statements"]]
        for reader in readers:
            reader.read_tables_only()
        uses = {"predicate"} if view.kind == "m" else {"predicate", "computed"}
        return any(reader.uses_sensitive(uses) for reader in readers)

    return view.oid in snapshot.views and snapshot.remember(("searches", view.oid, sensitivity.names), read)


def find_filled(snapshot: CatalogSnapshot, relation: Relation) -> frozenset[str]:
    """The columns that triggers may give a value before a row is stored; `*` for any."""

    def derive() -> frozenset[str]:
        behind = snapshot.behind(relation.oid).relations
        hooks = [hook for each in behind for hook in snapshot.hooks.get(each.oid, ()) if hook.kind == "trigger"]
        filled = (frozenset({"*"}) if read_body(hook).is_opaque else read_filled(hook) for hook in hooks)
        return frozenset[str]().union(*filled)

    found: frozenset[str] = snapshot.remember(("filled", relation.oid), derive)
    return found


def converts_unnamed(snapshot: CatalogSnapshot, columns: Iterable[Column]) -> bool:
    """Whether PL/pgSQL runs code of a cast or domain where it puts a value into a variable of the type of one of these (43.3, 43.5.1)."""
    types = [column.type_oid for column in columns]
    return bool(find_cast_code(snapshot, named=(), assigned=types, relations=()))


def fills_converted(snapshot: CatalogSnapshot, relations: Iterable[Relation], hook: Hook, names: Iterable[str]) -> bool:
    """Whether a trigger may give a column of these names a value that a cast or domain with code makes; `*` is any name."""
    named = frozenset(names) if hook.kind == "trigger" else frozenset[str]()
    columns = (column for relation in relations if named for column in relation.columns.values())
    return converts_unnamed(snapshot, [column for column in columns if column.name in named or "*" in named])


def fills_compared(
    sensitivity: Sensitivity, relations: Iterable[Relation], hook: Hook, names: Iterable[str], *, is_adding: bool = False
) -> bool:
    """Whether any of these relations has a column of these names that is compared with sensitive ones; `*` is any name.

    With `is_adding` rows only come, and have no values of their own yet; others that come may do so from another partition.
    """
    named, changes = frozenset(names) if hook.kind == "trigger" else frozenset[str](), "u" in hook.events
    return bool(named) and any(
        sensitivity.compares(relation.oid, column.number)
        or (not is_adding and (changes or sensitivity.is_part(relation.oid)) and sensitivity.checks(relation.oid, column.number))
        for relation in relations
        for column in relation.columns.values()
        if column.name in named or "*" in named
    )
