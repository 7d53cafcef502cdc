"""Descriptions of results, made into the actions of delivering them. Pure: everything about the target comes in as facts.

    describe_rows(request, …)     the action of delivering one described result, for the response phase
    describe_copy_out(request, …) the same for COPY TO STDOUT, which has no RowDescription

Lineage of a result column is what RowDescription says (relation OID and column number, 53.7) and the snapshot makes of it. Where the
server names none, it is what the statement's own output list says (`statements.py`, "outputs"): the base columns an expression is made
of. A column without both is of unknown lineage, and sensitive as soon as its statement may yield a sensitive value at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.action import Action
from gateway.protocols.postgres.actions import SqlSettings, names_another, read_snapshot
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import Relation
from gateway.protocols.postgres.named import UNTRACKED
from gateway.protocols.postgres.sensitivity import Sensitivity, find_sensitive

SYSTEM_ATTRIBUTES: Final = {-1: "ctid", -2: "xmin", -3: "cmin", -4: "xmax", -5: "cmax", -6: "tableoid"}
"""Column numbers of the system columns (access/sysattr.h); none holds a user's value."""


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
    snapshot = read_snapshot(facts)
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


def _fits(output: Mapping[str, Any], relation: Relation | None, attnum: int) -> bool:
    """Whether what the server says of a column can be what the statement says of it: stars are counted by the catalogue's relations."""
    column = None if relation is None else relation.columns.get(attnum)
    if relation is None or column is None:
        return False
    origin = {"schema": relation.schema, "table": relation.name, "column": column.name}
    return origin in output["origins"]


def describe_copy_out(
    request: Action, column_count: int, facts: Mapping[str, object], settings: SqlSettings, *, index: int = 0
) -> Action:
    """The action of delivering COPY TO STDOUT: columns of a copied relation are known, those of a query are not."""
    snapshot = read_snapshot(facts)
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
    return UNTRACKED in statement.get("flags", ()) or (request.facts.get("mode") == "extended" and names_another(statement))


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
        name = SYSTEM_ATTRIBUTES.get(attnum, "system")
        origin = {"schema": relation.schema, "table": relation.name, "column": name}
        return {"lineage": "known", "sensitive": sensitivity.shows_locks(name), "origin": origin}
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
