"""What the PostgreSQL host brings to the pipeline for one session: pure descriptions, and the catalogue look-up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Final, Literal

from gateway.action import Action, Lookup
from gateway.decision import Decision, Enforceable
from gateway.errors import ConfigError, ProtocolError, TargetError
from gateway.messages import Refusal
from gateway.parts import Held
from gateway.pipeline import PipelineSession, Ruling
from gateway.protocols.postgres import actions, results
from gateway.protocols.postgres.actions import SqlSettings, Statement, read_snapshot
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.enforce import ENFORCEABLE, READ_ONLY_ENFORCEABLE
from gateway.protocols.postgres.events import (
    CopyOut,
    Execute,
    FunctionCall,
    JudgedEvent,
    Parse,
    Query,
    RowDescription,
    Undecodable,
)
from gateway.protocols.postgres.large_objects import write_call
from gateway.protocols.postgres.login import HEAP_ORDER_SETTINGS, read_search_path
from gateway.protocols.postgres.named import ANY_CODE, ANY_NAME, Change, SessionNames, uses_moved
from gateway.protocols.postgres.preview import choose_preview
from gateway.protocols.postgres.rewritten import REFERRING, Name
from gateway.protocols.postgres.sensitivity import find_sensitive
from gateway.serve.postgres.changed_rows import ChangedRowsBook
from gateway.serve.postgres.fixed_settings import find_telling_indexes
from gateway.serve.postgres.hold import HeldWork
from gateway.serve.postgres.lookups import CatalogCache, Moved
from gateway.serve.postgres.moved_names import MovedNames, may_stand_for
from gateway.serve.postgres.own_tables import OwnTablesBook
from gateway.serve.postgres.preview import PreviewQuestions
from gateway.serve.postgres.values import SessionValues

logger = logging.getLogger(__name__)

CATALOG: Final = "postgres.catalog"

_READERS: Final = ThreadPoolExecutor(1, thread_name_prefix="large-texts")
"""Reads large texts ahead, one after the other: each holds the interpreter for most of its time, and more at once would slow the rest."""


class PostgresDoor:
    """The `gateway.pipeline.Door` of one session.

    Args:
        settings: what describing a statement needs to know of the connection.
        catalog: the connection's snapshots.
        may_hold: whether an action may wait for a reviewer right now.
        previews: asks the server what an action would do.
        search_path: what the session started with; None for the server's own.
        fixed: the settings its connection fixed when it began.
    """

    __slots__ = (
        "_catalog",
        "_changed",
        "_checked",
        "_event",
        "_is_fresh_wanted",
        "_is_settled",
        "_mark",
        "_may_hold",
        "_moved",
        "_own",
        "_previews",
        "_settings",
        "changes",
        "facts",
        "fixed",
        "hold",
        "is_outdated",
        "names",
        "search_path",
        "session",
        "values",
    )

    def __init__(
        self,
        settings: SqlSettings,
        catalog: CatalogCache,
        may_hold: Callable[[], bool],
        previews: PreviewQuestions | None = None,
        search_path: str | None = None,
        fixed: AbstractSet[str] = frozenset(),
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._may_hold = may_hold
        self._previews = previews
        self.search_path = None if search_path is None else read_search_path(search_path)
        self.fixed = fixed
        self.is_outdated = False
        """Whether another session has to take its place: what it began with does not hold any more."""
        self._event: JudgedEvent | None = None
        self._checked: CatalogSnapshot | None = None
        self._own = OwnTablesBook()
        self._moved = MovedNames()
        self._changed = ChangedRowsBook()
        self._mark = 0
        self._is_fresh_wanted = False
        self.session: PipelineSession | None = None
        self.hold: HeldWork | None = None
        self.facts: Mapping[str, object] = {}
        """What the last described event was described with; its results are described with the same."""
        self.names = SessionNames()
        self.values = SessionValues()
        self._is_settled: Callable[[], bool] = _never
        self.changes: tuple[Change, ...] = ()
        """The names the last described event makes or ends."""

    def begin(
        self,
        session: PipelineSession,
        may_be_portal: Callable[[str], bool],
        is_settled: Callable[[], bool] = lambda: False,
        note_epoch: Callable[[int], None] = lambda _: None,
        count_errors: Callable[[], int] = lambda: 0,
    ) -> None:
        """Whose door this is.

        Args:
            session: in the pipeline.
            may_be_portal: whether a name may be a portal's.
            is_settled: whether no reply is awaited.
            note_epoch: told when settings change.
            count_errors: how many errors the server has sent.
        """
        self._own.follow(count_errors)
        self.session = session
        self._is_settled = is_settled
        self.names.may_be_portal = may_be_portal
        self.values.follow(note_epoch)

    def close(self) -> None:
        """The session is over: let go of it.

        A session and its parts know one another. Parts that know it no longer are freed with it at once, and so is the snapshot it was
        last judged by; otherwise they wait until Python looks for cycles among old objects, which a busy worker does every few minutes.
        """
        self._may_hold = self._is_settled = _never
        self.values.close()
        self._own.follow(lambda: 0)
        if self.hold is not None:
            self.hold.close()

    @property
    def is_uncertain(self) -> bool:
        """Whether a name may stand for another relation than the snapshot says, or to what was prepared before, or soon will again."""
        return self._moved.is_uncertain or self._own.is_open

    @property
    def moving(self) -> frozenset[Moved]:
        """The names its open transaction moves, for the other sessions of the database."""
        return self._moved.moving

    @property
    def needs_settling(self) -> bool:
        """Whether something is only certain once the server is outside a transaction: a cursor's end, a table that was made."""
        return self.names.needs_settling or self._own.is_open or self._changed.is_open

    @property
    def weighs_costs(self) -> bool:
        """Whether what its connection fixed holds only as far as plans cost less than a scan that is off."""
        return "cpu_operator_cost" in self.fixed

    @property
    def is_read_only(self) -> bool:
        """Whether the server refuses every write of this session."""
        return self._settings.read_only

    @property
    def enforceable(self) -> Enforceable:
        """What PostgreSQL replies can be made to carry."""
        return READ_ONLY_ENFORCEABLE if self._settings.read_only else ENFORCEABLE

    def lookups(self, event: JudgedEvent) -> Sequence[Lookup]:
        """The facts of the target an event's statements need."""
        statement = read_statement(event)
        self._is_fresh_wanted = _may_keep_another(statement.sql)
        return actions.lookups(statement, self._settings)

    async def look_up(self, lookup: Lookup) -> object:
        """The catalogue snapshot, or what a text is by it; a question to the server is recorded before it is asked.

        Raises:
            TargetError, ConfigError: there is no snapshot, or it does not fit the configuration.
        """
        if lookup.kind == actions.AHEAD and self._checked is not None:
            read = partial(
                actions.read_ahead, lookup.key["text"], self._checked, self._settings, self._own.find_known(self._checked)
            )
            return await asyncio.get_running_loop().run_in_executor(_READERS, read)
        if lookup.kind != CATALOG:
            raise ProtocolError("the gateway cannot look this up", why=lookup.kind)
        self._mark = self._catalog.mark
        answer = await self._catalog.read(self._announce, is_fresh=self._is_fresh_wanted)
        if answer.snapshot is not self._checked:
            self._require_sensitive(answer.snapshot)
            self._require_order(answer.snapshot)
            self._checked = answer.snapshot
        return answer.snapshot

    def _require_sensitive(self, snapshot: CatalogSnapshot) -> None:
        """A configured column that is not there protects nothing: it is misspelt, or was renamed with the values still in it."""
        missing = find_sensitive(snapshot, self._settings.sensitive).missing
        if not missing:
            return
        why = f"not in the database: {', '.join(missing)}"
        logger.error("connection %s refuses every statement: %s", self._settings.connection, why)
        raise ConfigError(
            "sensitive columns of this connection cannot be found",
            why=why,
            fix="tell the gateway's operators: connections[].sensitive must name columns as the catalogue has them",
        )

    def _require_order(self, snapshot: CatalogSnapshot) -> None:
        """A session that began before an index was there that tells of sensitive values reads it in its order."""
        if not HEAP_ORDER_SETTINGS.keys() <= self.fixed and find_telling_indexes(snapshot, self._settings.sensitive):
            self.is_outdated = True
            raise TargetError(
                "the session began before a new index",
                why="it would get rows in the order of a sensitive column; a session that begins now would not",
                fix="connect again",
            )

    async def _announce(self) -> None:
        if self.session is not None:
            await self.session.record_lookup(CATALOG, {"reason": "no current snapshot"})

    def describe(self, event: JudgedEvent, facts: Mapping[str, object]) -> Action:
        """The action an event attempts."""
        snapshot = facts.get(CATALOG)
        if isinstance(snapshot, CatalogSnapshot):
            self._moved.judge_by(snapshot, self._own.temporary)
        # A portal runs a statement that was prepared before, and whose constants were read then.
        is_settled = self._is_settled() and not (isinstance(event, Execute) and event.epoch != self.values.epoch)
        given = {
            **facts,
            actions.OWN_TABLES: self._own.find_known(snapshot),
            actions.MOVED: self._moved.find_uncertain(is_prepared=isinstance(event, Execute)),
            actions.SHIFTED: self._moved.shifted,
            actions.CHANGED: self._changed.rows,
            actions.VALUES: self.values.describe(is_settled=is_settled),
        }
        self.changes, self._event = (), event
        # What was read ahead is many megabytes, and these are kept for as long as a name lives.
        self.facts = {kind: fact for kind, fact in given.items() if kind != actions.AHEAD} if actions.AHEAD in given else given
        action, self.changes = actions.describe_in_session(read_statement(event), given, self._settings, self.names)
        return action

    def note_allowed(self, number: int, action: Action | None) -> None:
        """Remember the tables an allowed action makes: temporary ones, and those of an open transaction, are in no snapshot."""
        if isinstance(self._event, Parse):
            return  # its Execute does
        if action is not None:
            # What follows in its pipeline could take it back: outside a transaction the pipeline is one.
            is_alone = self._may_hold() and self.hold is not None and self.hold.is_alone
            self.values.note_sent(number, action, is_alone=is_alone)
            self._changed.send(number, self._list_changed_rows(action))
            for statement in action.facts.get("statements", ()):
                is_temporary = self._own.makes_temporary(statement)
                self._own.send(number, statement)
                self._moved.send(statement, is_temporary=is_temporary)

    def _list_changed_rows(self, action: Action) -> Mapping[Name, Mapping[str, int | str]]:
        event = self._event
        if event is None or not any(REFERRING in each for each in action.facts.get("statements", ())):
            return {}
        return actions.list_changed_rows(read_statement(event), action, self.facts, self._settings)

    def end(self, number: int, *, is_completed: bool) -> None:
        """No reply of an action can come any more: what it did to names and settings is certain."""
        self.names.end(number, is_completed=is_completed)
        self.values.end(number, is_completed=is_completed)
        self._own.end(number)
        self._changed.end(number)

    def settle(self, *, is_under_way: bool) -> None:
        """The server is outside a transaction; `is_under_way` tells that it has yet to answer what defines."""
        self.names.settle()
        self._own.settle()
        self._changed.settle()
        if not is_under_way:
            self._moved.settle()

    async def preview(self, action: Action, decision: Decision) -> Mapping[str, object] | None:
        """The plan of the action just described, and its row count where policy asks for it."""
        if self._previews is None:
            return None
        params = self._event.params if isinstance(self._event, Execute) else ()
        settings, is_all = self.values.list_settings()
        is_all &= not isinstance(self._event, Execute) or self._event.epoch == self.values.epoch
        return await self._previews.ask(choose_preview(action, decision.obligations), params, settings if is_all else None)

    def follow_names(self, ruling: Ruling) -> None:
        """Remember what the action just described does to the names of the session, before it is sent."""
        if ruling.action is not None:
            count = len(ruling.action.facts.get("statements", ()))
            self.names.send(ruling.number, self.changes, ruling.action.effects, count)

    def is_overtaken(self, action: Action) -> bool:
        """Whether a relation the action just described names has become another one since, or is about to."""
        moved = self._catalog.moved_since(self._mark) - self.moving
        if not moved:
            return False
        snapshot = self.snapshot
        path = snapshot.search_path if isinstance(snapshot, CatalogSnapshot) else ()
        statements = action.facts.get("statements", ())
        tables = [table for statement in statements for table in statement["tables"]]
        hooked = {name for statement in statements for name in statement.get("hook_tables", ())}
        if hooked and any(name == ANY_NAME or name in hooked for _, name in moved):
            return True
        if (None, ANY_CODE) in moved and any(uses_moved(statement, frozenset({ANY_CODE})) for statement in statements):
            return True
        return any(may_stand_for(each, table, path) for each in moved for table in tables)

    def concerns_names(self, action: Action) -> bool:
        """Whether the action just described makes, ends or uses a name of the session: the same text may mean another thing later."""
        return bool(self.changes) or actions.uses_names(action)

    def describe_again(self, event: JudgedEvent, facts: Mapping[str, object]) -> Action:
        """The action of an event that was let through before, described with what it was judged with then."""
        return actions.describe(read_statement(event), facts, self._settings)

    def renew(self, event: JudgedEvent, action: Action, facts: Mapping[str, object]) -> tuple[Action, Mapping[str, object]]:
        """What the result of an action is described with: what it was judged with, or what is known now where it was prepared before.

        The server plans a prepared statement again once a definition has changed, so its columns are what the definitions of now make
        of them.
        """
        if not isinstance(event, Parse) or self._checked is None or facts.get(CATALOG) is self._checked:
            return action, facts
        renewed = {**facts, CATALOG: self._checked}
        return actions.describe_in_session(read_statement(event), renewed, self._settings, self.names)[0], renewed

    @property
    def present_path(self) -> tuple[str, ...] | None:
        """The search path the session has, as names: what it started with, else what the server gives its role. None for any other."""
        if self.search_path is not None:
            return self.search_path
        snapshot = read_snapshot(self.facts)
        return None if snapshot is None else snapshot.path_names

    @property
    def looks_up(self) -> bool:
        """Whether the server looks rows up by sensitive values."""
        return find_sensitive(read_snapshot(self.facts), self._settings.sensitive).looks_up

    @property
    def snapshot(self) -> object:
        """The snapshot the last event was described with."""
        return self.facts.get(CATALOG)

    def may_hold(self) -> bool:
        """Whether the action can wait for a reviewer: the server must be idle, outside a transaction."""
        return self._may_hold()

    def choose_hold(self, action: Action, decision: Decision) -> Literal["at_once", "until_commit"] | None:
        """Where the effect of the action just described can wait for its approval."""
        return None if self.hold is None else self.hold.choose(self._event, action, decision)

    async def run_held(self, action: Action, decision: Decision, ticket: str) -> Mapping[str, object] | Refusal:
        """Run the action just described with its effect undone, or get its client's transaction ready for it. Raises TargetError."""
        if self.hold is None or self.session is None:
            raise ProtocolError("the statement cannot be held")
        return await self.hold.run(self._event, action, decision, ticket, self.session.settings.hold_s)

    def find_held(self, action: Action) -> Sequence[Held]:
        """What the client's transaction holds, where the action just described would keep it. Raises ProtocolError."""
        return () if self.hold is None else self.hold.find_held(action)

    async def prolong(self) -> None:
        """Keep the client's transaction open for a wait that begins now. Raises TargetError."""
        if self.hold is not None and self.session is not None:
            await self.hold.prolong(self.session.settings.hold_s)

    def describe_rows(self, request: Action, event: RowDescription, facts: Mapping[str, object]) -> Action:
        """The response-phase action of a described result."""
        fields = [asdict(item) for item in event.fields]
        return results.describe_rows(request, fields, facts, self._settings, index=event.index)

    def describe_copy(self, request: Action, event: CopyOut, facts: Mapping[str, object]) -> Action:
        """The response-phase action of a COPY TO STDOUT."""
        return results.describe_copy_out(request, len(event.columns), facts, self._settings, index=event.index)


def _may_keep_another(sql: str) -> bool:
    """Whether a text may say IF NOT EXISTS: then what has the name already must not be taken for what the session makes."""
    text, place = sql.lower(), 0
    for word in ("create", "if", "not", "exists"):
        place = text.find(word, place)
        if place < 0:
            return False
    return True


def _never() -> bool:
    return False


def read_statement(event: JudgedEvent) -> Statement:
    """The statement an event asks to run. Raises ProtocolError for events that carry none that can be judged."""
    match event:
        case Query():
            return Statement(event.sql, (), "simple")
        case Parse():
            return Statement(event.sql, (), "extended", prepares=event.statement, types=event.param_oids)
        case Execute():
            params = tuple(parameter.as_value() for parameter in event.params)
            return Statement(event.sql, params, "extended", types=tuple(parameter.type_oid for parameter in event.params))
        case FunctionCall():
            return Statement(write_call(event), tuple(parameter.as_value() for parameter in event.params), "extended")
        case Undecodable():
            raise ProtocolError(
                "the message cannot be read", why=event.reason, fix="send text in UTF-8, and names of at most 63 bytes"
            )
