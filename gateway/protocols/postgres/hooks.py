"""Code of a database that runs with statements which do not name it, judged by its body as far as that can be read. Pure.

A body says what it reads, writes and calls; what it runs as text (EXECUTE), and what a language other than SQL and PL/pgSQL does,
it does not say. Such a hook is opaque: anything may happen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sealgate_native import sql

if TYPE_CHECKING:
    from sealgate_native.sql import Statement as Analyzed


ROW_VARIABLES: Final = frozenset({"new", "old"})
"""What a trigger calls the row it runs for."""

_JSON: Final = 114
"""The OID of json, to which functions that make JSON cast whatever they are given, where there is such a cast (9.16)."""

COMPILED: Final = frozenset({"internal", "c"})
"""Languages of the server itself and of installed extensions; code in any other can be written by whoever may create functions."""


@dataclass(frozen=True, slots=True)
class Hook:
    """Code that runs with a statement that does not name it: a trigger, a rule, or a function in a default, constraint, index or policy.

    Attributes:
        kind: "trigger", "condition" (what the WHEN of one calls), "rule", "default", "generated", "constraint",
            "index", "partition" or "policy".
        source: what it runs, where its language is SQL or PL/pgSQL and it is short enough to be read; a rule's whole definition.
        events: with which changes of a row it runs: i insert, u update, d delete.
        transitions: names its body has for the rows that changed (REFERENCING): no relation of such a name is meant there.
        columns: of the row it runs for, those that stand in the expression which calls it, or by which the WHEN of a trigger chooses;
            `*` where that has the row as a whole.
        is_planned: it is called with constants, so the planner may run it for any statement on the table.
        follows_path: its names mean the same where a foreign key runs it, as the owner of its table.
    """

    kind: str
    schema: str
    name: str
    language: str
    is_definer: bool
    source: str | None
    events: str = "iud"
    transitions: frozenset[str] = frozenset()
    follows_path: bool = True
    columns: frozenset[str] = frozenset({"*"})
    is_planned: bool = False


@dataclass(frozen=True, slots=True)
class Cast:
    """A cast to a type, or a check or default of a domain, that calls a function which is not PostgreSQL's own.

    Attributes:
        source_oid: the type it is a cast from; 0 for a check or default.
        is_explicit: it needs the type to be written; otherwise an assignment to a column is enough.
        is_implicit: any expression with a value of the source may run it.
        is_of_domain: it is a check or a default, which runs whenever a value of the type is made.
    """

    schema: str
    name: str
    type_oid: int
    source_oid: int
    is_explicit: bool
    is_implicit: bool
    is_of_domain: bool
    function: str
    language: str

    @property
    def is_unnamed(self) -> bool:
        """Whether it runs on values of its source without being named: an implicit one, and one that `to_json` and its like use."""
        return self.is_implicit or (self.type_oid == _JSON and self.source_oid != 0)


@dataclass(frozen=True, slots=True)
class HookBody:
    """What a hook's body does, as far as it tells.

    Attributes:
        statements: the analyses of its statements.
        is_opaque: part of it could not be read.
    """

    statements: tuple[Analyzed, ...]
    is_opaque: bool


def read_body(hook: Hook) -> HookBody:
    """The body of a hook, parsed."""
    if hook.source is None:
        return HookBody((), is_opaque=True)
    text = hook.source if hook.kind == "rule" else f"do language {hook.language} {_quote(hook.source)}"
    analysis = sql.analyze(text)
    statements = tuple(analysis["statements"])
    return HookBody(statements, analysis["status"] != "ok" or any("opaque_body" in each["flags"] for each in statements))


def find_row_columns(hook: Hook) -> frozenset[str]:
    """The columns of the row it runs for that the body of a trigger or rule uses, as it was or as it will be."""
    used = (column for analyzed in read_body(hook).statements for column in analyzed["columns"])
    named = frozenset(column["name"] for column in used if column.get("table") in ROW_VARIABLES)
    # In RETURNING the grammar of today takes both for rows of the table that is written to.
    return named | frozenset(sql.find_row_fields(hook.source or ""))


def uses_whole_row(hook: Hook) -> bool:
    """Whether the body of a trigger or rule uses the row it runs for as one value, as `to_jsonb(new)` does."""
    return hook.source is not None and sql.uses_whole_row(hook.source)


def _quote(source: str) -> str:
    tag = next(tag for number in range(len(source) + 1) if (tag := f"$hook{number}$") not in source)
    return f"{tag}{source}{tag}"


def build_hooks(
    functions: Iterable[Sequence[str]], rules: Iterable[Sequence[str]], checks: Iterable[tuple[int, str, Cast]]
) -> dict[int, tuple[Hook, ...]]:
    """The hooks of each relation, from the answers "hooks" and "rules", and checks of types: relation, kind of place, and check."""
    found = [(int(row[0]), _build_hook(row)) for row in functions]
    found += [
        (int(relation), Hook("rule", "", name, "rule", is_definer=False, source=source or None, events=events))
        for relation, name, source, events in rules
    ]
    found += [
        (relation, Hook(kind, cast.schema, cast.function, cast.language, is_definer=False, source=None))
        for relation, kind, cast in checks
    ]
    grouped: dict[int, list[Hook]] = {}
    for relation, hook in found:
        grouped.setdefault(relation, []).append(hook)
    return {relation: tuple(hooks) for relation, hooks in grouped.items()}


def _build_hook(row: Sequence[str]) -> Hook:
    """One row of the answer "hooks"."""
    _, kind, _, name, schema, language, definer, source, events, transitions, follows, columns, planned = row
    names = frozenset(filter(None, json.loads(transitions)))
    used = frozenset(json.loads(columns))
    return Hook(kind, schema, name, language, definer == "1", source or None, events, names, follows == "1", used, planned == "1")


def build_cast(row: Sequence[str]) -> Cast:
    """One row of the answer "casts"."""
    schema, name, type_oid, source_oid, context, function, language = row
    return Cast(schema, name, int(type_oid), int(source_oid), context == "e", context == "i", context == "d", function, language)
