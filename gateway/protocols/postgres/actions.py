"""Statements, made into actions. Pure: everything about the target comes in as facts.

    lookups(statement)            what describing it needs: a catalogue snapshot, and for a large text to be read ahead
    describe(statement, facts)    the action it attempts

What comes back is described in `results.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from sealgate_native.sql import analyze

from gateway.action import Action, Lookup
from gateway.protocols.postgres import guesses
from gateway.protocols.postgres.catalog import FIRST_NORMAL_OID, CatalogSnapshot
from gateway.protocols.postgres.changed_rows import ChangedRows, read_pins
from gateway.protocols.postgres.conversions import makes_looked_up
from gateway.protocols.postgres.implied import find_parameter_code
from gateway.protocols.postgres.named import (
    UNTRACKED,
    Change,
    Definition,
    SessionNames,
    describe_by_name,
    find_moved,
    list_texts,
    list_types,
    read_changes,
    uses_moved,
    uses_name,
)
from gateway.protocols.postgres.own import OwnTables
from gateway.protocols.postgres.rewritten import REFERRING, Name, list_changed, mark_again
from gateway.protocols.postgres.sensitivity import Sensitivity, find_sensitive
from gateway.protocols.postgres.shapes import Shape, UserTypes
from gateway.protocols.postgres.statements import Described, describe_statement
from gateway.protocols.postgres.type_names import name_types
from gateway.protocols.postgres.unclear import find_advice

if TYPE_CHECKING:
    from sealgate_native.sql import Statement as Analyzed

CATALOG: Final = "postgres.catalog"
"""The look-up kind, and the key of its answer in facts."""

OWN_TABLES: Final = "postgres.own_tables"
"""The key in facts of the tables this session made, as far as the host knows (`own.OwnTables`)."""

MOVED: Final = "postgres.moved"
"""Among the facts: bare names under which another relation may answer than the snapshot says (`named.find_moved`)."""

SHIFTED: Final = "postgres.shifted"
"""Among the facts: bare names that stood for another relation before, which a statement prepared then may still read."""

VALUES: Final = "postgres.values"
"""Among the facts: the settings of the session that change what values its texts stand for (`SessionSettings`)."""

CHANGED: Final = "postgres.changed"
"""Among the facts: the rows that the open transaction may have changed (`ChangedRows`), of tables that are not changed twice."""

UNSURE_EPOCH: Final = -1
"""The epoch of what was prepared under settings that are not certain: no later one equals it."""

AHEAD: Final = "postgres.ahead"
"""The look-up kind of reading a large text ahead, and the key of its answer (`Ahead`) in facts."""

LARGE_TEXT_CHARS: Final = 32_768
"""Longer texts are read ahead, in a thread, so that other sessions go on meanwhile: a megabyte can take more than a second."""

_UNCERTAIN: Final = (
    "a relation it names was renamed, moved, dropped or defined anew; end the transaction first, and prepare in a new session"
)

_RUNS_CHECKS: Final = "values of a parameter's type run a function of the database, by a check or a cast; give it as another type"

_LOOKED_UP: Final = (
    "a parameter of a type such as regclass makes the server look up what stands beside it; give it as text, and cast that"
)

_UNKNOWN_TYPE: Final = (
    "the type of a parameter is not in the catalogue as the gateway knows it; give it as another type, or try again later"
)

QUERY: Final = "postgres.query"
"""The action name, the same for simple and extended queries, so that one approval covers a statement however it is sent."""

DEFAULT_MAX_SQL_BYTES: Final = 1 << 20
"""Longest statement text; generated statements stay below 100 KiB, bulk loads use COPY."""

DEFAULT_MAX_DEPTH: Final = 256
"""Deepest nesting of a statement; hand-written ones stay below twenty."""


MAX_REMEMBERED_CHARS: Final = 4_096
"""Longer texts are described anew each time: they are rarely sent twice, and would fill the memory of the snapshot."""

CHOSEN_SETTING: Final = re.compile(
    r"SELECT set_config\(name, '[^'\\]*', false\) FROM pg_settings WHERE name = '([a-z_]+)'", re.ASCII
)
"""How pg_dump changes a setting only where the server has it: the name is computed, and yet can be only one."""

NAME_SETTINGS: Final = frozenset({"search_path", "role", "session_authorization", "all"})
"""Settings that decide what names mean, or that reset those that do."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a client asks to run.

    Attributes:
        params: decoded values of the bound parameters: None, text, or a JSON value that holds the bytes.
        types: OIDs of the parameters' types as far as they are known; 0 where the server infers one.
        mode: "simple" or "extended" query, or "copy" for what follows a COPY.
        prepares: the name a Parse message gives it; None where it is run.
    """

    sql: str
    params: tuple[object, ...] = ()
    mode: Literal["simple", "extended", "copy"] = "simple"
    prepares: str | None = None
    types: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The settings of a session at one moment, as far as an approval must cover them.

    Attributes:
        values: by name, as the statement itself is read with them.
        epoch: their number; another one means that something was changed since. 0: nothing was changed yet.
        is_sure: whether `values` are certain.
        make_unsure: makes what stands for them where something was read under others: no two actions have the same.
    """

    values: Mapping[str, Any]
    epoch: int
    is_sure: bool
    make_unsure: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SqlSettings:
    """What describing a statement needs to know of its connection.

    Attributes:
        connection: the registered connection; with database and role it names the snapshot.
        sensitive: "schema.table.column" each.
        clean_functions: "schema.function" of those whose results hold nothing sensitive but what their arguments hold.
        read_only: the server refuses writes in its sessions, and none may change that.
        max_sql_bytes: longest text that is analyzed; a longer one is of unknown effect.
        max_depth: deepest nesting that is analyzed.
    """

    connection: str
    database: str
    role: str
    sensitive: tuple[str, ...] = ()
    clean_functions: frozenset[str] = frozenset()
    read_only: bool = False
    max_sql_bytes: int = DEFAULT_MAX_SQL_BYTES
    max_depth: int = DEFAULT_MAX_DEPTH


def lookups(statement: Statement, settings: SqlSettings) -> tuple[Lookup, ...]:
    """The snapshot every statement is judged against, and what a large one is read as."""
    # Every text may name relations; parsing it here would only be done again.
    catalog = Lookup(CATALOG, {"connection": settings.connection, "database": settings.database, "role": settings.role})
    return (catalog, Lookup(AHEAD, {"text": statement.sql})) if len(statement.sql) > LARGE_TEXT_CHARS else (catalog,)


def read_ahead(text: str, snapshot: CatalogSnapshot, settings: SqlSettings, own: OwnTables) -> Ahead:
    """What a text is, for `describe_in_session` to find among the facts. Pure, so any thread may call it."""
    return Ahead(text, snapshot, own, _judge(text, snapshot, settings, own))


def describe(statement: Statement, facts: Mapping[str, object], settings: SqlSettings) -> Action:
    """The action a statement attempts, in a session that has given no names yet; see `describe_in_session`."""
    return describe_in_session(statement, facts, settings, SessionNames())[0]


def describe_in_session(
    statement: Statement, facts: Mapping[str, object], settings: SqlSettings, names: SessionNames
) -> tuple[Action, tuple[Change, ...]]:
    """The action a statement attempts, and the names it would make or end.

    Args:
        statement: what the client asks to run.
        facts: the snapshot under "postgres.catalog"; without it nothing counts as harmless and every column as possibly sensitive.
        settings: of the connection.
        names: what cursors and prepared statements of the session stand for.
    """
    snapshot, own = read_snapshot(facts), _own_tables(facts)
    judged = _read_judged(statement, facts, settings)
    used: list[Definition] = []
    if judged.named:
        judged, used = _resolve_names(judged, snapshot, settings, names, own)
    if _uses_uncertain(judged, facts):
        judged = _Judged((), frozenset({"unknown"}), _UNCERTAIN)
    if snapshot is not None and (reason := _find_unsafe_type(snapshot, statement.types, settings)):
        judged = _Judged((), frozenset({"unknown"}), reason)
    judged = _mark_again(_forget_uncertain(judged, statement, used), statement, facts)
    action = Action(
        protocol="postgres",
        phase="request",
        name=QUERY,
        effects=judged.effects,
        facts=_request_facts(statement, settings, snapshot, judged.described),
        payload=_payload(statement, used),
        canonical=_canonical(statement, settings, snapshot, used),
        terms=_terms(statement, facts, used, len(judged.described)),
        parse_status="ok" if judged.failure is None else "failed",
        parse_reason=judged.failure,
        harmless_read=judged.failure is None and all(each.is_harmless for each in judged.described),
        unclear=find_advice(each.facts for each in judged.described) if "unknown" in judged.effects else None,
    )
    values = facts.get(VALUES)
    epoch = (values.epoch if values.is_sure else UNSURE_EPOCH) if isinstance(values, SessionSettings) else 0
    return action, tuple(_date(change, epoch) for change in _read_changes(statement, judged, snapshot))


def _read_judged(statement: Statement, facts: Mapping[str, object], settings: SqlSettings) -> _Judged:
    """What the text of a statement is, by the snapshot among the facts: read ahead, remembered, or read now."""
    snapshot, own, ahead = read_snapshot(facts), _own_tables(facts), facts.get(AHEAD)
    if isinstance(ahead, Ahead) and ahead.is_of(statement.sql, snapshot, own):
        return ahead.judged
    if snapshot is None or len(statement.sql) > MAX_REMEMBERED_CHARS:
        return _judge(statement.sql, snapshot, settings, own)
    key = (statement.sql, settings.sensitive, settings.clean_functions, settings.max_sql_bytes, settings.max_depth, own)
    return snapshot.remember(key, lambda: _judge(statement.sql, snapshot, settings, own))


def _date(change: Change, epoch: int) -> Change:
    return replace(change, epoch=epoch) if isinstance(change, Definition) else change


def _find_unsafe_type(snapshot: CatalogSnapshot, types: Sequence[int], settings: SqlSettings) -> str | None:
    """Why parameters of these types cannot be taken: what runs when a value is made is not named by any text."""
    if settings.sensitive and any(types) and makes_looked_up(snapshot, types):
        return _LOOKED_UP
    own = [oid for oid in types if oid >= FIRST_NORMAL_OID]
    if any(oid not in snapshot.shapes.types for oid in own):
        return _UNKNOWN_TYPE
    return _RUNS_CHECKS if own and find_parameter_code(snapshot, own) else None


def _forget_uncertain(judged: _Judged, statement: Statement, used: Sequence[Definition]) -> _Judged:
    """The same, without the counts of guesses that do not hold for the types of the parameters."""
    named = [name for each in used for name in each.types]
    is_inexact, is_longer = guesses.compares_inexactly(statement.types, named), guesses.may_lengthen(statement.types, named)
    if any(each.is_keyed for each in judged.described):
        texts = [(statement.sql, statement.types), *((each.analyzed["text"], each.types) for each in used)]
        is_inexact |= any(guesses.repeats_untyped(text, types) for text, types in texts)
    if not (is_inexact or is_longer):
        return judged
    described = (_forget_count(each) if is_inexact or guesses.counts_bytes(each.facts) else each for each in judged.described)
    return replace(judged, described=tuple(described))


def list_changed_rows(
    statement: Statement, action: Action, facts: Mapping[str, object], settings: SqlSettings
) -> dict[Name, Mapping[str, int | str]]:
    """The tables of an action that change no row twice in a transaction, with what all the rows have that it changes of each."""
    tables = {table for each in action.facts.get("statements", ()) for table in list_changed(each)}
    pinned = _read_pins(_read_judged(statement, facts, settings), statement) if len(tables) == 1 else {}
    return dict.fromkeys(tables, pinned)


def _forget_count(described: Described) -> Described:
    """The same, where how many guesses it writes is not known after all."""
    return replace(described, facts={name: fact for name, fact in described.facts.items() if name != "most_guesses"})


def _mark_again(judged: _Judged, statement: Statement, facts: Mapping[str, object]) -> _Judged:
    """The same, with what changes rows that its transaction, or a statement before it in the text, may have changed already."""
    if statement.prepares is not None or not any(REFERRING in each.facts for each in judged.described):
        return judged  # what is prepared changes nothing yet, and is judged each time it runs
    found = facts.get(CHANGED)
    before = found if isinstance(found, ChangedRows) else ChangedRows()
    pinned = _read_pins(judged, statement)
    described: list[Described] = []
    in_text: set[Name] = set()

    def is_changed(table: Name) -> bool:
        return table in in_text or before.may_hold(table, pinned)

    for each in judged.described:
        described.append(replace(each, facts=mark_again(each.facts, is_changed)) if REFERRING in each.facts else each)
        in_text |= list_changed(each.facts)
    return replace(judged, described=tuple(described))


def _read_pins(judged: _Judged, statement: Statement) -> Mapping[str, int | str]:
    """What tells the rows that a text of one statement changes from others; nothing of what runs by a name, which has its own parameters."""
    if len(judged.described) != 1 or judged.named:
        return {}
    return read_pins(judged.described[0].pins, statement.params, statement.types)


def _uses_uncertain(judged: _Judged, facts: Mapping[str, object]) -> bool:
    """Whether a relation is named that could be another one by now, or to a statement that was prepared before."""
    moved, shifted = facts.get(MOVED), facts.get(SHIFTED)
    names = moved if isinstance(moved, frozenset) else frozenset()
    older = names | shifted if isinstance(shifted, frozenset) else names
    if not older:
        return False
    runs_older = any(analyzed["verb"] == "execute" or analyzed.get("nested") == "execute" for analyzed in judged.named)
    moved = older if runs_older else names
    return any(uses_moved(each.facts, moved) for each in judged.described)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a text is, whatever its parameters.

    Attributes:
        named: the analyses of all its statements, where one of them makes, ends or uses a name; else empty.
        only: the analysis of its only statement.
    """

    described: tuple[Described, ...]
    effects: frozenset[str]
    failure: str | None = None
    named: tuple[Analyzed, ...] = ()
    only: Analyzed | None = None


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a text was read as before it is described, and by what."""

    text: str
    snapshot: CatalogSnapshot
    own: OwnTables
    judged: _Judged

    def is_of(self, text: str, snapshot: CatalogSnapshot | None, own: OwnTables) -> bool:
        """Whether reading it now would say the same."""
        return self.snapshot is snapshot and self.own == own and self.text == text


def _judge(sql: str, snapshot: CatalogSnapshot | None, settings: SqlSettings, own: OwnTables) -> _Judged:
    analysis = analyze(sql, max_bytes=settings.max_sql_bytes, max_depth=settings.max_depth)
    if analysis["status"] != "ok":
        return _Judged((), frozenset({"unknown"}), analysis.get("reason", "not understood"))
    described: list[Described] = []
    moved: frozenset[str] = frozenset()
    for analyzed in analysis["statements"]:
        if (chosen := CHOSEN_SETTING.fullmatch(sql)) and snapshot is not None and snapshot.search_path[:1] == ("pg_catalog",):
            analyzed["set_vars"] = [chosen[1]]
        described.append(describe_statement(analyzed, snapshot, find_marks(snapshot, settings), own))
        if uses_moved(described[-1].facts, moved):
            return _Judged((), frozenset({"unknown"}), _UNCERTAIN)
        moved |= find_moved(described[-1].facts, snapshot, moved)
        own = own.after(described[-1].facts)
        if not NAME_SETTINGS.isdisjoint(analyzed["set_vars"]):
            # From here on names may mean something else than the snapshot says.
            snapshot = None
    found = tuple(analysis["statements"])
    has_names = any(uses_name(each) or read_changes(each, None) for each in found)
    only = found[0] if len(found) == 1 else None
    return _Judged(tuple(described), _join_effects(described), None, found if has_names else (), only)


def find_marks(snapshot: CatalogSnapshot | None, settings: SqlSettings) -> Sensitivity:
    """What the connection marks as sensitive, and as free of it."""
    return find_sensitive(snapshot, settings.sensitive, settings.clean_functions)


def _join_effects(described: Sequence[Described]) -> frozenset[str]:
    # A text without any statement does nothing; drivers send it to see whether the server is there.
    return frozenset[str]().union(*(each.effects for each in described)) or frozenset({"read"})


def _resolve_names(
    judged: _Judged, snapshot: CatalogSnapshot | None, settings: SqlSettings, names: SessionNames, own: OwnTables
) -> tuple[_Judged, list[Definition]]:
    """The same text with every name it uses replaced by what the name stands for."""
    described, used, pending = list(judged.described), [], list[Change]()
    for index, analyzed in enumerate(judged.named):
        if uses_name(analyzed):
            is_cursor = "cursor_name" in analyzed
            name = analyzed.get("cursor_name") or analyzed.get("prepared_name", "")
            definition = names.find("cursor" if is_cursor else "prepared", name, pending)
            described[index] = describe_by_name(analyzed, described[index], definition, find_marks(snapshot, settings), own)
            used += [] if definition is None else [definition]
        pending += read_changes(analyzed, snapshot)
    return _Judged(tuple(described), _join_effects(described), judged.failure, judged.named, judged.only), used


def _read_changes(statement: Statement, judged: _Judged, snapshot: CatalogSnapshot | None) -> tuple[Change, ...]:
    """What names are made and ended when the statement is sent: a Parse message makes one, whatever runs later."""
    if statement.prepares is None:
        return tuple(change for analyzed in judged.named for change in read_changes(analyzed, snapshot))
    if not statement.prepares or judged.only is None:
        return ()
    # The types are part of what the name stands for, and of what reviewers of its EXECUTE read.
    types = tuple(name_types(statement.types)) if any(statement.types) else ()
    digest = None if snapshot is None else snapshot.digest
    return (Definition("prepared", statement.prepares, judged.only, digest, types=types),)


def _payload(statement: Statement, used: Sequence[Definition]) -> dict[str, Any]:
    payload: dict[str, Any] = {"text": statement.sql}
    if statement.params:
        payload["params"] = list(statement.params)
    if used:
        payload["named"] = dict(list_texts(used))
    return payload


def _own_tables(facts: Mapping[str, object]) -> OwnTables:
    found = facts.get(OWN_TABLES)
    return found if isinstance(found, OwnTables) else OwnTables()


def read_snapshot(facts: Mapping[str, object]) -> CatalogSnapshot | None:
    """The snapshot among the facts, where there is one."""
    found = facts.get(CATALOG)
    return found if isinstance(found, CatalogSnapshot) else None


def _request_facts(
    statement: Statement, settings: SqlSettings, snapshot: CatalogSnapshot | None, described: Sequence[Described]
) -> dict[str, Any]:
    return {
        "database": settings.database,
        "mode": statement.mode,
        "statements": [each.facts for each in described],
        "statement_count": len(described),
        **({} if snapshot is None else {"catalog_digest": snapshot.digest}),
    }


def _canonical(
    statement: Statement, settings: SqlSettings, snapshot: CatalogSnapshot | None, used: Sequence[Definition]
) -> dict[str, Any]:
    """What an approval is for (design section 3): the text, its parameters, and what decides what its names mean."""
    return {
        "text": statement.sql,
        "database": settings.database,
        **({"params": list(statement.params)} if statement.params else {}),
        **({} if snapshot is None else {"search_path": list(snapshot.search_path)}),
        **({"named": dict(list_texts(used))} if used else {}),
    }


def _terms(statement: Statement, facts: Mapping[str, object], used: Sequence[Definition], count: int) -> dict[str, Any]:
    """What an approval covers beside: the same text and parameters are other values in other types, and under other settings.

    A constant is read when its statement is prepared, so the settings of then count for what a name stands for. A text of several
    statements can take back itself, by RESET or the end of a transaction, what was changed before it.
    """
    settings, types = facts.get(VALUES), list_types(used)
    terms: dict[str, Any] = {"types": name_types(statement.types)} if statement.types else {}
    if types:
        terms["named_types"] = dict(types)
    if isinstance(settings, SessionSettings):
        is_unsure = any(definition.epoch != settings.epoch for definition in used) or (count > 1 and settings.epoch > 0)
        terms["settings"] = dict(settings.make_unsure() if is_unsure else settings.values)
    return terms


def find_settings(action: Action) -> set[str]:
    """Names of the settings an action would change, in lower case; `all` stands for RESET ALL and for a name that is computed."""
    return {name.lower() for statement in action.facts.get("statements", ()) for name in statement.get("set_vars", ())}


def is_vast(action: Action) -> bool:
    """Whether any of its statements may look at more combinations of rows than costs are told apart by."""
    return any("vast" in statement["flags"] for statement in action.facts.get("statements", ()))


def find_shapes(facts: Mapping[str, object]) -> Callable[[int], Shape]:
    """What types are made of; without a snapshot nothing is known of any but PostgreSQL's own."""
    snapshot = read_snapshot(facts)
    return (UserTypes() if snapshot is None else snapshot.shapes).find_shape


def count_statements(action: Action | None) -> int:
    """How many statements an action has, at least one: what cannot be read, or holds none, is sent all the same."""
    return max(1, 0 if action is None else len(action.facts.get("statements", ())))


def uses_names(request: Action) -> bool:
    """Whether a statement of an action is judged as what a name of the session stands for."""
    statements = request.facts.get("statements", ())
    return any(names_another(statement) or UNTRACKED in statement.get("flags", ()) for statement in statements)


def names_another(statement: Mapping[str, Any]) -> bool:
    """Whether a described statement runs or reads another by its name."""
    return statement.get("verb") in {"fetch", "move", "execute"} or "prepared_name" in statement
