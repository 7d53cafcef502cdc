"""Statements and descriptions of results, made into actions. Pure: everything about the target comes in as facts.

    lookups(statement)            which catalogue snapshot describing it needs
    describe(statement, facts)    the action it attempts
    describe_rows(request, …)     the action of delivering one described result, for the response phase
    describe_copy_out(request, …) the same for COPY TO STDOUT, which has no RowDescription

Lineage of a result column is what RowDescription says (relation OID and column number, 53.7) and the snapshot makes of it. Where the
server names none, it is what the statement's own output list says (`statements.py`, "outputs"): the base columns an expression is made
of. A column without both is of unknown lineage, and sensitive as soon as its statement may yield a sensitive value at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from sealgate_native.sql import analyze

from gateway.action import Action, Lookup
from gateway.protocols.postgres.catalog import CatalogSnapshot, Relation
from gateway.protocols.postgres.named import (
    UNTRACKED,
    Change,
    Definition,
    SessionNames,
    describe_by_name,
    find_moved,
    list_texts,
    read_changes,
    uses_moved,
    uses_name,
)
from gateway.protocols.postgres.sensitivity import Sensitivity, find_sensitive
from gateway.protocols.postgres.shapes import Shape, UserTypes
from gateway.protocols.postgres.statements import Described, describe_statement
from gateway.protocols.postgres.type_names import name_types

if TYPE_CHECKING:
    from sealgate_native.sql import Statement as Analyzed

CATALOG: Final = "postgres.catalog"
"""The look-up kind, and the key of its answer in facts."""

OWN_TABLES: Final = "postgres.own_tables"
"""The key in facts of the names of tables this session made, as far as the host knows; temporary ones are in no snapshot."""

MOVED: Final = "postgres.moved"
"""Among the facts: bare names under which another relation may answer than the snapshot says (`named.find_moved`)."""

SHIFTED: Final = "postgres.shifted"
"""Among the facts: bare names that stood for another relation before, which a statement prepared then may still read."""

VALUES: Final = "postgres.values"
"""Among the facts: the settings of the session that change what values its texts stand for."""

_UNCERTAIN: Final = (
    "a relation it names was renamed, moved, dropped or defined anew; end the transaction first, and prepare in a new session"
)

QUERY: Final = "postgres.query"
"""The action name, the same for simple and extended queries, so that one approval covers a statement however it is sent."""

SYSTEM_ATTRIBUTES: Final = {-1: "ctid", -2: "xmin", -3: "cmin", -4: "xmax", -5: "cmax", -6: "tableoid"}
"""Column numbers of the system columns (access/sysattr.h); none holds a user's value."""

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
class SqlSettings:
    """What describing a statement needs to know of its connection.

    Attributes:
        connection: the registered connection; with database and role it names the snapshot.
        sensitive: "schema.table.column" each.
        read_only: the server refuses writes in its sessions, and none may change that.
        max_sql_bytes: longest text that is analyzed; a longer one is of unknown effect.
        max_depth: deepest nesting that is analyzed.
    """

    connection: str
    database: str
    role: str
    sensitive: tuple[str, ...] = ()
    read_only: bool = False
    max_sql_bytes: int = DEFAULT_MAX_SQL_BYTES
    max_depth: int = DEFAULT_MAX_DEPTH


def lookups(statement: Statement, settings: SqlSettings) -> tuple[Lookup, ...]:
    """The snapshot every statement is judged against."""
    del statement  # every text may name relations; parsing it here would only be done again
    return (Lookup(CATALOG, {"connection": settings.connection, "database": settings.database, "role": settings.role}),)


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
    snapshot, own = _snapshot(facts), _own_tables(facts)
    if snapshot is None or len(statement.sql) > MAX_REMEMBERED_CHARS:
        judged = _judge(statement.sql, snapshot, settings, own)
    else:
        key = (statement.sql, settings.sensitive, settings.max_sql_bytes, settings.max_depth, own)
        judged = snapshot.remember(key, lambda: _judge(statement.sql, snapshot, settings, own))
    used: list[Definition] = []
    if judged.named:
        judged, used = _resolve_names(judged, snapshot, settings, names)
    if _uses_uncertain(judged, facts):
        judged = _Judged((), frozenset({"unknown"}), _UNCERTAIN)
    action = Action(
        protocol="postgres",
        phase="request",
        name=QUERY,
        effects=judged.effects,
        facts=_request_facts(statement, settings, snapshot, judged.described),
        payload=_payload(statement, used),
        canonical=_canonical(statement, settings, snapshot, used),
        terms=_terms(statement, facts),
        parse_status="ok" if judged.failure is None else "failed",
        parse_reason=judged.failure,
        harmless_read=judged.failure is None and all(each.is_harmless for each in judged.described),
    )
    return action, _read_changes(statement, judged, snapshot)


def _uses_uncertain(judged: _Judged, facts: Mapping[str, object]) -> bool:
    """Whether a relation is named that could be another one by now, or to a statement that was prepared before."""
    moved, shifted = facts.get(MOVED), facts.get(SHIFTED)
    names = moved if isinstance(moved, frozenset) else frozenset()
    older = names | shifted if isinstance(shifted, frozenset) else names
    if not older:
        return False
    runs_older = any(analyzed["verb"] == "execute" or analyzed.get("nested") == "execute" for analyzed in judged.named)
    return any(uses_moved(each.facts, older if runs_older else names) for each in judged.described)


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


def _judge(sql: str, snapshot: CatalogSnapshot | None, settings: SqlSettings, own: frozenset[str]) -> _Judged:
    analysis = analyze(sql, max_bytes=settings.max_sql_bytes, max_depth=settings.max_depth)
    if analysis["status"] != "ok":
        return _Judged((), frozenset({"unknown"}), analysis.get("reason", "not understood"))
    described: list[Described] = []
    moved: frozenset[str] = frozenset()
    for analyzed in analysis["statements"]:
        if (chosen := CHOSEN_SETTING.fullmatch(sql)) and snapshot is not None and snapshot.search_path[:1] == ("pg_catalog",):
            analyzed["set_vars"] = [chosen[1]]
        described.append(describe_statement(analyzed, snapshot, find_sensitive(snapshot, settings.sensitive), own))
        if uses_moved(described[-1].facts, moved):
            return _Judged((), frozenset({"unknown"}), _UNCERTAIN)
        moved |= find_moved(described[-1].facts, snapshot, moved)
        own |= find_made_tables(described[-1].facts)
        if not NAME_SETTINGS.isdisjoint(analyzed["set_vars"]):
            # From here on names may mean something else than the snapshot says.
            snapshot = None
    found = tuple(analysis["statements"])
    has_names = any(uses_name(each) or read_changes(each, None) for each in found)
    only = found[0] if len(found) == 1 else None
    return _Judged(tuple(described), _join_effects(described), None, found if has_names else (), only)


def _join_effects(described: Sequence[Described]) -> frozenset[str]:
    # A text without any statement does nothing; drivers send it to see whether the server is there.
    return frozenset[str]().union(*(each.effects for each in described)) or frozenset({"read"})


def _resolve_names(
    judged: _Judged, snapshot: CatalogSnapshot | None, settings: SqlSettings, names: SessionNames
) -> tuple[_Judged, list[Definition]]:
    """The same text with every name it uses replaced by what the name stands for."""
    described, used, pending = list(judged.described), [], list[Change]()
    for index, analyzed in enumerate(judged.named):
        if uses_name(analyzed):
            is_cursor = "cursor_name" in analyzed
            name = analyzed.get("cursor_name") or analyzed.get("prepared_name", "")
            definition = names.find("cursor" if is_cursor else "prepared", name, pending)
            described[index] = describe_by_name(analyzed, described[index], definition, snapshot, settings.sensitive)
            used += [] if definition is None else [definition]
        pending += read_changes(analyzed, snapshot)
    return _Judged(tuple(described), _join_effects(described), judged.failure, judged.named, judged.only), used


def _read_changes(statement: Statement, judged: _Judged, snapshot: CatalogSnapshot | None) -> tuple[Change, ...]:
    """What names are made and ended when the statement is sent: a Parse message makes one, whatever runs later."""
    if statement.prepares is None:
        return tuple(change for analyzed in judged.named for change in read_changes(analyzed, snapshot))
    if not statement.prepares or judged.only is None:
        return ()
    analyzed = judged.only
    if any(statement.types):
        # The types are part of what the name stands for, and of what reviewers of its EXECUTE read.
        analyzed = {**analyzed, "text": f"{analyzed['text']}\n-- parameters: {', '.join(name_types(statement.types))}"}
    return (Definition("prepared", statement.prepares, analyzed, None if snapshot is None else snapshot.digest),)


def _payload(statement: Statement, used: Sequence[Definition]) -> dict[str, Any]:
    payload: dict[str, Any] = {"text": statement.sql}
    if statement.params:
        payload["params"] = list(statement.params)
    if used:
        payload["named"] = dict(list_texts(used))
    return payload


def find_made_tables(statement: Mapping[str, Any]) -> frozenset[str]:
    """Names of the tables a described statement makes and the catalogue does not hold; nothing sensitive is written into them."""
    is_filled_unseen = statement.get("nested") == "execute" or any(column["sensitive"] for column in statement["columns"])
    if "creates_table" not in statement["flags"] or is_filled_unseen:
        return frozenset()
    return frozenset(table["name"] for table in statement["tables"] if table["access"] == "define" and table.get("unresolved"))


def _own_tables(facts: Mapping[str, object]) -> frozenset[str]:
    found = facts.get(OWN_TABLES)
    return found if isinstance(found, frozenset) else frozenset()


def _snapshot(facts: Mapping[str, object]) -> CatalogSnapshot | None:
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


def _fits(output: Mapping[str, Any], relation: Relation | None, attnum: int) -> bool:
    """Whether what the server says of a column can be what the statement says of it: stars are counted by the catalogue's relations."""
    column = None if relation is None else relation.columns.get(attnum)
    if relation is None or column is None:
        return False
    origin = {"schema": relation.schema, "table": relation.name, "column": column.name}
    return origin in output["origins"]


def _terms(statement: Statement, facts: Mapping[str, object]) -> dict[str, Any]:
    """What an approval covers beside: the same text and parameters are other values in other types, and under other settings."""
    values = facts.get(VALUES)
    return {
        **({"types": name_types(statement.types)} if statement.types else {}),
        **({"settings": dict(values)} if isinstance(values, Mapping) else {}),
    }


def describe_rows(
    request: Action, fields: Sequence[Mapping[str, Any]], facts: Mapping[str, object], settings: SqlSettings, *, index: int = 0
) -> Action:
    """The action of delivering one described result.

    Args:
        request: the action the result answers.
        fields: per column of RowDescription {"name", "table_oid", "attnum", "type_oid", …}.
        facts: the snapshot the request was described with.
        settings: of the connection.
        index: which statement of a simple query.
    """
    snapshot = _snapshot(facts)
    sensitivity = find_sensitive(snapshot, settings.sensitive)
    may_yield = _may_yield(request, sensitivity, index)
    outputs = _outputs(request, index, len(fields))
    if _is_untracked(request, index):
        # Where the rows come from is not certain, so neither is what the catalogue or the statement says of their columns.
        snapshot, may_yield, outputs = None, sensitivity.is_configured, None
    has_own = _reads_own(request, index)
    if outputs is not None and snapshot is not None and not has_own:
        places = [(int(described["table_oid"]), int(described["attnum"])) for described in fields]
        known = [_fits(outputs[at], snapshot.relations.get(oid), number) for at, (oid, number) in enumerate(places) if oid]
        outputs = outputs if all(known) else None
    columns = []
    for number, described in enumerate(fields):
        column = _trace(int(described["table_oid"]), int(described["attnum"]), snapshot, sensitivity, may_yield=may_yield)
        oid = int(described["table_oid"])
        # A table of the session's own is in no snapshot; what is read from it is known by its name.
        is_own = has_own and (snapshot is None or oid not in snapshot.relations)
        if column["lineage"] == "unknown" and outputs is not None and (oid == 0 or is_own):
            column = outputs[number]
        columns.append({"index": number, "name": described["name"], "type": int(described["type_oid"]), **column})
    return _response(request, columns)


def describe_copy_out(
    request: Action, column_count: int, facts: Mapping[str, object], settings: SqlSettings, *, index: int = 0
) -> Action:
    """The action of delivering COPY TO STDOUT: columns of a copied relation are known, those of a query are not."""
    snapshot = _snapshot(facts)
    sensitivity = find_sensitive(snapshot, settings.sensitive)
    may_yield = _may_yield(request, sensitivity, index)
    keys = _copied_columns(request, snapshot, index)
    outputs = _outputs(request, index, column_count)
    columns = []
    for number in range(column_count):
        oid, attnum = keys[number] if len(keys) == column_count else (0, 0)
        column = _trace(oid, attnum, snapshot, sensitivity, may_yield=may_yield)
        if column["lineage"] == "unknown" and outputs is not None and oid == 0:
            column = outputs[number]
        columns.append({"index": number, **_copied_type(snapshot, oid, attnum), **column})
    return _response(request, columns)


def find_settings(action: Action) -> set[str]:
    """Names of the settings an action would change, in lower case; `all` stands for RESET ALL and for a name that is computed."""
    return {name.lower() for statement in action.facts.get("statements", ()) for name in statement.get("set_vars", ())}


def find_shapes(facts: Mapping[str, object]) -> Callable[[int], Shape]:
    """What types are made of; without a snapshot nothing is known of any but PostgreSQL's own."""
    snapshot = _snapshot(facts)
    return (UserTypes({}, {}) if snapshot is None else snapshot.shapes).find_shape


def _copied_type(snapshot: CatalogSnapshot | None, oid: int, attnum: int) -> dict[str, int]:
    relation = None if snapshot is None else snapshot.relations.get(oid)
    column = None if relation is None else relation.columns.get(attnum)
    return {} if column is None else {"type": column.type_oid}


def _response(request: Action, columns: list[dict[str, Any]]) -> Action:
    return Action(
        protocol=request.protocol,
        phase="response",
        name=request.name,
        effects=request.effects,
        facts=request.facts,
        payload=request.payload,
        canonical=request.canonical,
        terms=request.terms,
        response={"columns": columns},
        parse_status=request.parse_status,
        parse_reason=request.parse_reason,
    )


def _may_yield(request: Action, sensitivity: Sensitivity, index: int) -> bool:
    """Whether a column of unknown lineage in the result of one statement may hold a sensitive value."""
    if not sensitivity.is_configured:
        return False
    statements = request.facts.get("statements", ())
    return bool(statements[index].get("may_yield_sensitive", True)) if 0 <= index < len(statements) else True


def count_inferences(action: Action | None) -> int:
    """How many statements of an action compute with sensitive columns; at least one, since somebody asks for that."""
    statements = () if action is None else action.facts.get("statements", ())
    computing = [any(column["sensitive"] and column["use"] == "other" for column in each["columns"]) for each in statements]
    return max(1, sum(computing))


def _reads_own(request: Action, index: int) -> bool:
    """Whether a statement names a table the session made itself."""
    statements = request.facts.get("statements", ())
    return 0 <= index < len(statements) and any(table.get("own", False) for table in statements[index]["tables"])


def _outputs(request: Action, index: int, count: int) -> list[dict[str, Any]] | None:
    """What the statement's output list says of each result column; None where it does not say it of every one."""
    statements = request.facts.get("statements", ())
    statement = statements[index] if 0 <= index < len(statements) else {}
    outputs = statement.get("outputs")
    # In another encoding a byte of a character can look like a delimiter of COPY, so what is in which column is not sure.
    if outputs is None or len(outputs) != count or "copy_encoding" in statement["flags"]:
        return None
    return [{"lineage": "known", "sensitive": output["sensitive"], "origins": output["columns"]} for output in outputs]


def _is_untracked(request: Action, index: int) -> bool:
    """Whether the rows come from a statement used by name, and the name may stand for another one by the time they come.

    A prepared FETCH or EXECUTE is described once and run often, whatever its name stands for by then.
    """
    statements = request.facts.get("statements", ())
    statement = statements[index] if 0 <= index < len(statements) else {}
    return UNTRACKED in statement.get("flags", ()) or (request.facts.get("mode") == "extended" and _names_another(statement))


def uses_names(request: Action) -> bool:
    """Whether a statement of an action is judged as what a name of the session stands for."""
    statements = request.facts.get("statements", ())
    return any(_names_another(statement) or UNTRACKED in statement.get("flags", ()) for statement in statements)


def _names_another(statement: Mapping[str, Any]) -> bool:
    return statement.get("verb") in {"fetch", "move", "execute"} or "prepared_name" in statement


def _trace(
    oid: int, attnum: int, snapshot: CatalogSnapshot | None, sensitivity: Sensitivity, *, may_yield: bool
) -> dict[str, Any]:
    """Lineage and sensitivity of one result column."""
    relation = None if snapshot is None else snapshot.relations.get(oid)
    if snapshot is None or relation is None or attnum == 0:
        # Computed, a whole row, or a relation the snapshot does not hold (temporary, or newer than it).
        unseen = oid != 0 and relation is None and sensitivity.is_configured
        row = relation is not None and sensitivity.holds_any(relation)
        return {"lineage": "unknown", "sensitive": may_yield or unseen or row}
    if attnum < 0:
        origin = {"schema": relation.schema, "table": relation.name, "column": SYSTEM_ATTRIBUTES.get(attnum, "system")}
        return {"lineage": "known", "sensitive": False, "origin": origin}
    origins = snapshot.origins(oid, attnum)
    if origins.is_opaque:
        return {"lineage": "unknown", "sensitive": may_yield or sensitivity.holds(oid, attnum)}
    column: dict[str, Any] = {"lineage": "known", "sensitive": sensitivity.holds(oid, attnum)}
    if origins.is_same:
        (base,) = origins.columns
        column["origin"] = {"schema": base.schema, "table": base.table, "column": base.column}
    return column


def _copied_columns(request: Action, snapshot: CatalogSnapshot | None, index: int) -> list[tuple[int, int]]:
    """(relation oid, attnum) of each column COPY delivers, where it copies a relation; else nothing."""
    statements = request.facts.get("statements", ())
    statement = statements[index] if 0 <= index < len(statements) else {}
    copy = statement.get("copy")
    if snapshot is None or copy is None or "relation" not in copy or "copy_encoding" in statement["flags"]:
        return []
    relation = snapshot.resolve(copy["relation"].get("schema"), copy["relation"]["name"])
    if relation is None:
        return []
    if not copy["columns"]:
        # Without a list COPY leaves generated columns out.
        return [(relation.oid, column.number) for column in relation.columns.values() if not column.is_generated]
    found = [relation.find(name) for name in copy["columns"]]
    return [(relation.oid, column.number) for column in found if column is not None]
