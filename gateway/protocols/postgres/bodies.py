"""What the bodies of hooks do: code that runs with a statement which does not name it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.hooks import Hook, read_body
from gateway.protocols.postgres.implied import find_hooks, find_written_through
from gateway.protocols.postgres.sensitivity import Sensitivity

if TYPE_CHECKING:
    # A type of the stub only: at run time an analysis is a plain dict.
    from sealgate_native.sql import Statement as Analyzed

ERROR_TEXTS: Final = ("sqlerrm", "message_text", "pg_exception")
"""Words by which a handler of PL/pgSQL gets the text of an error (43.6.8.1)."""


class BodyReader(Protocol):
    """Reads one statement of a body."""

    has_unresolved: bool
    operators: list[dict[str, Any]]
    casts: list[dict[str, Any]]

    def read_tables_only(self) -> None:
        """The relations it names."""

    def read_functions(self) -> list[dict[str, Any]]:
        """The functions it calls."""

    def reads_sensitive(self) -> bool:
        """Whether it uses a sensitive column."""


MakeReader = Callable[["Analyzed", CatalogSnapshot, Sensitivity], BodyReader]


def judge_hook(
    hook: Hook, snapshot: CatalogSnapshot, sensitivity: Sensitivity, make_reader: MakeReader
) -> tuple[bool, bool, bool, bool]:
    """Whether a hook's body is opaque, reads a sensitive column, changes anything, and meets sensitive values."""
    body, touches = read_body(hook), sensitivity.is_configured and _touches_sensitive(snapshot, sensitivity, hook)
    # A handler has the text of the error it caught.
    reads_sensitive = touches and any(word in (hook.source or "").lower() for word in ERROR_TEXTS)
    opaque, effects = body.is_opaque, set[str]()
    for analyzed in body.statements:
        reader = make_reader(analyzed, snapshot, sensitivity)
        reader.read_tables_only()
        opaque |= any(not fact["harmless"] for fact in reader.read_functions())
        opaque |= reader.has_unresolved or bool(reader.operators or reader.casts or analyzed["set_vars"])
        reads_sensitive |= reader.reads_sensitive()
        effects |= set(analyzed["effects"])
    return opaque, reads_sensitive, bool(effects - {"read", "execute", "define"}), touches


def _touches_sensitive(snapshot: CatalogSnapshot, sensitivity: Sensitivity, hook: Hook) -> bool:
    """Whether a hook, or what runs with its statements in turn, meets sensitive values, which an error or notice of it can quote."""
    pending, seen = [hook], {hook}
    while pending:
        body = read_body(pending.pop())
        if body.is_opaque:
            return True
        named = (snapshot.resolve(table.get("schema"), table["name"]) for each in body.statements for table in each["tables"])
        for relation in {each.oid: each for each in named if each is not None}.values():
            actions = snapshot.changed_by_keys(relation.oid)
            reached = (*snapshot.behind(relation.oid).relations, *find_written_through(snapshot, relation, actions))
            if any(sensitivity.touches(each) for each in reached):
                return True
            below = set(find_hooks(snapshot, relation, "write", actions)) - seen
            pending += below
            seen |= below
    return False
