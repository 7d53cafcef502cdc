"""The facts of what runs with one statement although its text does not name it: triggers, rules, defaults, checks, policies. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from gateway.protocols.postgres.assigned import is_alone
from gateway.protocols.postgres.bodies import (
    Judged,
    MakeReader,
    describe_hook,
    fills_compared,
    fills_converted,
    judge_hook,
    searches_sensitive,
    uses_sensitive,
)
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import KeyAction, Relation
from gateway.protocols.postgres.governed import find_governed
from gateway.protocols.postgres.hooks import Hook
from gateway.protocols.postgres.implied import find_hooked, find_hooks, is_planned
from gateway.protocols.postgres.reached import find_events, find_key_actions
from gateway.protocols.postgres.sensitivity import Sensitivity

if TYPE_CHECKING:
    # A type of the stub only: at run time an analysis is a plain dict.
    from sealgate_native.sql import Statement as Analyzed

REWRITTEN: Final = frozenset({"default", "generated", "constraint", "index", "partition", "view"})
"""Kinds of hooks that run where a definition reads or rewrites the rows there are."""

DELETED: Final = frozenset({"trigger", "condition", "rule", "policy"})
"""Kinds of hooks that run where rows only go."""


ROW_VERBS: Final = frozenset({"insert", "update", "delete", "merge", "copy"})
"""Statements that change rows, and empty no table."""


class HookReader:
    """Reads what runs with the relations of one statement.

    Args:
        analyzed: the statement.
        snapshot: the catalogue; without one nothing is known to run.
        sensitivity: what the connection marks.
        make_reader: how the statements of a body are read in turn.

    Attributes:
        has_touched: what runs meets sensitive values, which its errors come with.
        has_rules: rules make other statements of this one.
        tables: bare names of relations that what runs uses.
    """

    def __init__(
        self, analyzed: Analyzed, snapshot: CatalogSnapshot | None, sensitivity: Sensitivity, make_reader: MakeReader
    ) -> None:
        self._analyzed = analyzed
        self._snapshot = snapshot
        self._sensitivity = sensitivity
        self._make_reader = make_reader
        self.has_touched = False
        self.has_rules = False
        self.tables: set[str] = set()

    def find_key_actions(self, relation: Relation) -> tuple[KeyAction, ...]:
        """What foreign keys do with the rows of other tables where the statement writes to this one."""
        return () if self._snapshot is None else find_key_actions(self._snapshot, self._analyzed, relation)

    def read(self, relation: Relation, access: str) -> list[dict[str, Any]]:
        """The facts of what runs where the statement uses a relation in this way."""
        match self._analyzed["verb"]:
            case "create_table" if access in {"read", "write"}:
                return self._read(relation, "write")  # LIKE copies what runs with a table
            case "alter_table" if access == "define":
                return self._read(relation, "write", REWRITTEN)  # its triggers do not fire
            case "delete" if access == "write" and is_alone(self._analyzed) and not self.find_key_actions(relation):
                return self._read(relation, access, DELETED)  # no row is made, so no default or check runs
        return self._read(relation, access) if access in {"read", "write"} else []

    def _read(self, relation: Relation, access: str, kinds: frozenset[str] | None = None) -> list[dict[str, Any]]:
        snapshot = self._snapshot
        if snapshot is None:
            return []
        actions = self.find_key_actions(relation) if access == "write" else ()
        events = find_events(self._analyzed, relation, actions)
        hooks = find_hooks(snapshot, relation, access, actions, adds_only=events == "i")
        hooks = [hook for hook in hooks if kinds is None or hook.kind in kinds or is_planned(hook)]
        self.has_rules |= any(hook.kind == "rule" for hook in hooks)
        hooks = [hook for hook in hooks if self._sets_off(hook, events)]
        filled = find_hooked(snapshot, relation, actions, adds_only=events == "i")
        governed = find_governed(snapshot, relation)
        facts = []
        for hook in hooks:
            is_met = access == "write" and (kinds is None or hook.kind in kinds)  # what only the planner runs meets no row
            facts.append(self._describe(hook, snapshot, filled if is_met else (), governed, events))
        for each in governed:
            facts += self._describe_view(each, snapshot) if each.oid in snapshot.views or each is relation else ()
        return facts

    def _sets_off(self, hook: Hook, events: str) -> bool:
        """Whether a hook can run with these changes of rows; one that runs with none of them runs with TRUNCATE."""
        if not hook.events:
            return self._analyzed["verb"] not in ROW_VERBS
        return not events or not set(events).isdisjoint(hook.events)

    def _describe_view(self, view: Relation, snapshot: CatalogSnapshot) -> Iterator[dict[str, Any]]:
        """The functions of a view's definition, and the view itself where it uses sensitive columns otherwise than to show them."""
        for function in snapshot.behind(view.oid).functions:
            place = {"kind": "view", "schema": function.schema, "name": function.name, "language": function.language}
            changes = function.volatility == "volatile"
            yield {**place, "security_definer": function.is_definer, "opaque": True, "changes": changes}
        if searches_sensitive(snapshot, self._sensitivity, view, self._make_reader):
            place = {"kind": "view", "schema": view.schema, "name": view.name, "language": "sql"}
            yield {**place, "security_definer": False, "opaque": False, "reads_sensitive": True, "changes": False}

    def _describe(
        self, hook: Hook, snapshot: CatalogSnapshot, relations: Sequence[Relation], governed: Sequence[Relation], events: str
    ) -> dict[str, Any]:
        """What a hook does.

        Args:
            hook: the code.
            snapshot: the catalogue.
            relations: those for whose rows it may run; none where only the planner runs it.
            governed: those whose policies may run.
            events: the changes that the statement makes of these rows.
        """
        sensitivity, make_reader = self._sensitivity, self._make_reader
        judged: Judged = snapshot.remember(
            ("hook", hook, sensitivity.names), lambda: judge_hook(hook, snapshot, sensitivity, make_reader)
        )
        self.has_touched |= judged.touches
        self.tables |= judged.names
        is_adding, changes_rows = events == "i", bool(events)
        is_opaque = judged.is_opaque or fills_converted(snapshot, relations, hook, judged.filled)
        is_compared = judged.guesses or fills_compared(sensitivity, relations, hook, judged.filled, is_adding=is_adding)
        if "d" in events and "d" in hook.events and hook.kind == "trigger":
            is_compared |= any(sensitivity.asks_when_rows_go(each.oid) for each in relations)
        # Rows that only come have the agent's values.
        meets_sensitive = changes_rows and uses_sensitive(
            snapshot, sensitivity, relations, hook, judged.used, is_adding=is_adding
        )
        meets_sensitive |= hook.kind == "policy" and any(map(sensitivity.governs_by_sensitive, governed))
        judged = replace(judged, is_opaque=is_opaque, reads_sensitive=judged.reads_sensitive or meets_sensitive)
        return describe_hook(hook, judged, is_compared=is_compared and changes_rows)
