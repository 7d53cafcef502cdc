"""What the names of one session stand for: cursors made by DECLARE, statements made by PREPARE or by a Parse message. Pure.

FETCH and EXECUTE name a statement instead of showing it. They are judged as that statement where it is certain which one they mean,
and carry the flag `untracked` where it is not, so that policy can refuse them and every column they return counts as sensitive.

Certain means that exactly one text can stand under the name. A name is remembered from before its statement is sent until the server
has confirmed that it ended, so what was forgotten is gone, and what is still remembered may be gone: that only leads to a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from gateway.protocols.postgres.assigned import says_values
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import Relation
from gateway.protocols.postgres.implied import describe_cast, find_argument_code
from gateway.protocols.postgres.own import NONE_OWN, OwnTables, joins_others
from gateway.protocols.postgres.sensitivity import Sensitivity
from gateway.protocols.postgres.statements import Described, describe_statement

if TYPE_CHECKING:
    # A type of the stub only: at run time an analysis is a plain dict.
    from sealgate_native.sql import Statement as Analyzed

UNTRACKED: Final = "untracked"
"""The flag of a statement that uses a name which could stand for anything."""

MAX_NAMES: Final = 1_000
"""Definitions remembered at once; beyond it no name of the session is certain any more."""

BLURRING_EFFECTS: Final = frozenset({"execute", "unknown"})
"""Effects of code that can make cursors and prepared statements nobody saw: from then on no name is certain."""

ANY_NAME: Final = "*"
"""Among moved names: every one of them."""

NO_NAMES: Final[frozenset[Any]] = frozenset()
"""No moved names: one for all, since Python makes each empty set anew, and most sessions have nothing else."""

ANY_CODE: Final = "()"
"""Among moved names: a function, operator or type was given another name or schema, so that the name of any may call it."""

NEW_SCHEMA: Final = "\0"
"""Among moved names: none, but a schema was made, so the first of the search path may be another one."""

_KEEPS_RELATIONS: Final = frozenset(
    {
        *("column", "constraint", "index", "sequence", "trigger", "policy", "function", "procedure", "routine", "aggregate"),
        *("type", "domain", "operator", "role", "database", "extension", "language", "collation", "conversion", "statistics"),
        *("domain_constraint", "text_search", "event_trigger", "publication", "subscription", "foreign_server", "tablespace"),
        *("foreign_data_wrapper", "operator_class", "operator_family", "access_method", "attribute", "cast", "transform"),
    }
)
"""What can be renamed or dropped without another relation answering to a name."""

_CODE: Final = frozenset(
    {
        *("function", "procedure", "routine", "aggregate", "operator", "type", "domain", "attribute", "collation", "conversion"),
        *("operator_class", "operator_family", "cast", "language", "extension"),
    }
)
"""What runs, or tells what runs, under the name it is given."""

_SURE_VERBS: Final = frozenset(
    {
        *("begin", "commit", "rollback", "savepoint", "release", "rollback_to", "set_constraints"),
        *("close", "deallocate", "discard", "set", "reset", "show", "unlisten"),
    }
)
"""Statements that call nothing by a name."""

_LISTS: Final = ("tables", "columns", "assigned", "functions", "set_vars")
"""What a statement that names another has beside what the other has: EXECUTE has expressions of its own."""

_OPTIONAL_LISTS: Final = ("operators", "casts", "hook_tables")
"""The same, where there are any."""

type Kind = Literal["cursor", "prepared"]


@dataclass(frozen=True, slots=True)
class Definition:
    """A statement that was given a name.

    Attributes:
        analyzed: the DECLARE, the PREPARE, or the statement of a Parse message.
        catalog_digest: of the snapshot it was judged against; None without one.
        outlives: whether the end of the transaction may leave it.
        types: names of the types of its parameters, where a client declared any.
        epoch: which settings it was prepared under, as the host numbers them.
    """

    kind: Kind
    name: str
    analyzed: Analyzed
    catalog_digest: str | None = None
    outlives: bool = True
    types: tuple[str, ...] = ()
    epoch: int = 0

    @property
    def label(self) -> str:
        """Kind and name, as reviewers read them."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Ended:
    """Names that a statement ends: None for all of the kind."""

    kind: Kind
    name: str | None


type Change = Definition | Ended


@dataclass(slots=True)
class _Sent:
    """The changes of one action that was sent."""

    changes: tuple[Change, ...]
    is_single: bool
    is_over: bool = False


@dataclass(slots=True)
class SessionNames:
    """The names of one session. `describe` reads them; the host tells what was sent and how it ended."""

    may_be_portal: Callable[[str], bool] = lambda _: False
    """Whether a Bind message may have given this name to a portal, which FETCH reads as it reads a cursor. Told by the host."""
    _sent: dict[int, _Sent] = field(default_factory=dict)
    _is_blurred: bool = False

    def find(self, kind: Kind, name: str, pending: Sequence[Change] = ()) -> Definition | None:
        """What the name certainly stands for, after `pending` changes of the same text; None where that is not certain."""
        if self._is_blurred or (kind == "cursor" and self.may_be_portal(name)):
            return None
        for change in reversed(pending):
            if isinstance(change, Definition) and (change.kind, change.name) == (kind, name):
                return change
            if isinstance(change, Ended) and change.kind == kind and change.name in {None, name}:
                return None
        found = [
            change
            for sent in self._sent.values()
            for change in sent.changes
            if isinstance(change, Definition) and (change.kind, change.name) == (kind, name)
        ]
        same = {(change.analyzed["text"], change.catalog_digest, change.types, change.epoch) for change in found}
        return found[0] if len(same) == 1 else None

    def send(self, number: int, changes: Sequence[Change], effects: Iterable[str], statement_count: int) -> None:
        """An action is about to be sent."""
        self._is_blurred |= not BLURRING_EFFECTS.isdisjoint(effects)
        if changes:
            self._sent[number] = _Sent(tuple(changes), statement_count == 1)
            self._is_blurred |= sum(len(sent.changes) for sent in self._sent.values()) > MAX_NAMES

    def end(self, number: int, *, is_completed: bool) -> None:
        """No reply of the action can come any more."""
        sent = self._sent.get(number)
        if sent is None:
            return
        sent.is_over = True
        if is_completed:
            self._apply(number, sent)
        elif sent.is_single:
            del self._sent[number]  # a statement that failed made nothing

    @property
    def needs_settling(self) -> bool:
        """Whether there is a cursor that ends with its transaction."""
        return any(
            isinstance(change, Definition) and not change.outlives for sent in self._sent.values() for change in sent.changes
        )

    def settle(self) -> None:
        """The server is outside a transaction: its cursors are gone, except those declared to outlive it."""
        for number, sent in list(self._sent.items()):
            if sent.is_over:
                self._keep(number, [change for change in sent.changes if isinstance(change, Definition) and change.outlives])

    def _apply(self, number: int, sent: _Sent) -> None:
        """Carry out what an action that ran to its end has ended, of earlier actions and of its own."""
        kept: list[Change] = []
        for change in sent.changes:
            if isinstance(change, Definition):
                kept.append(change)
                continue
            kept = _without(kept, change)
            for earlier, other in list(self._sent.items()):
                if earlier < number:
                    self._keep(earlier, _without(other.changes, change))
        self._keep(number, kept)

    def _keep(self, number: int, changes: Sequence[Change]) -> None:
        if changes:
            self._sent[number] = replace(self._sent[number], changes=tuple(changes))
        else:
            self._sent.pop(number, None)


def _without(changes: Iterable[Change], ended: Ended) -> list[Change]:
    def stays(change: Change) -> bool:
        return isinstance(change, Ended) or change.kind != ended.kind or ended.name not in {None, change.name}

    return [change for change in changes if stays(change)]


def read_changes(analyzed: Analyzed, snapshot: CatalogSnapshot | None) -> tuple[Change, ...]:
    """The names one statement makes or ends."""
    digest = None if snapshot is None else snapshot.digest
    match analyzed["verb"]:
        case "declare_cursor":
            # Only a text with the word can say WITH HOLD.
            may_outlive = "hold" in analyzed["text"].lower()
            return (Definition("cursor", analyzed.get("cursor_name", ""), analyzed, digest, may_outlive),)
        case "prepare":
            return (Definition("prepared", analyzed.get("prepared_name", ""), analyzed, digest),)
        case "close":
            return (Ended("cursor", analyzed.get("cursor_name")),)
        case "deallocate":
            return (Ended("prepared", analyzed.get("prepared_name")),)
        case "discard" if "all" in analyzed["set_vars"]:
            return (Ended("cursor", None), Ended("prepared", None))
    return ()


def find_moved(
    statement: Mapping[str, Any], snapshot: CatalogSnapshot | None, moved: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Bare names under which another relation may answer once a described statement has run, although no snapshot says so yet.

    A snapshot is read past the session's transaction. What that renames, drops, moves or defines anew stands in none before COMMIT,
    and temporary relations stand in none at all. `moved` are the names that are uncertain already.
    """
    verb = statement["verb"]
    if verb == "alter_extension" or (verb in {"rename", "alter_schema"} and statement.get("object") in _CODE):
        return frozenset({ANY_CODE})
    if joins_others(statement):
        return _find_reached(statement, snapshot)
    if verb == "alter_table":
        return _find_altered(statement, snapshot)
    if verb == "create_schema":
        return _find_shadowed(statement, snapshot, moved | {NEW_SCHEMA}) | {NEW_SCHEMA}
    is_move = verb in {"rename", "alter_schema", "drop", "create_view", "create_rule"}
    # Any relation can be renamed as an index or a sequence.
    is_taken = verb in {"rename", "alter_schema"} and statement.get("object") in {"index", "sequence"}
    if not is_move or (statement.get("object") in _KEEPS_RELATIONS and not is_taken):
        return _find_shadowed(statement, snapshot, moved)
    defined = [table for table in statement["tables"] if table["access"] == "define"]
    names = frozenset(table["name"] for table in defined) or frozenset({ANY_NAME})
    if verb == "drop" and defined and snapshot is not None and all(map(_is_own_alone, defined)):
        names &= snapshot.name_schemas().keys()
    return names | frozenset(statement.get("new_names", ()))


def _is_own_alone(table: Mapping[str, Any]) -> bool:
    """Whether a table is the session's alone: once it is dropped its name stands for nothing, or for a known one."""
    return bool(table.get("own") and table.get("temporary"))


def _find_reached(statement: Mapping[str, Any], snapshot: CatalogSnapshot | None) -> frozenset[str]:
    """Names of relations whose rows are others' as well once one was attached or made a child: the parent, and those above it."""
    found: set[str] = set()
    for table in statement["tables"]:
        relation = None if snapshot is None else snapshot.resolve(table.get("schema"), table["name"])
        if snapshot is None or (relation is None and not table.get("own")):
            return frozenset({ANY_NAME})
        found |= _name_with_above(table, relation, snapshot)
    return frozenset(found)


def _name_with_above(table: Mapping[str, Any], relation: Relation | None, snapshot: CatalogSnapshot | None) -> set[str]:
    """The names of a table and of those that deliver its rows as theirs."""
    above = () if relation is None or snapshot is None else snapshot.above(relation.oid)
    return {table["name"], *(each.name for each in above)}


def _find_altered(statement: Mapping[str, Any], snapshot: CatalogSnapshot | None) -> frozenset[str]:
    """Names of relations that deliver or change more than the snapshot says once a table was altered.

    A column added to a parent becomes one with a child's column of its name. A foreign key whose columns follow lets a change of the
    table it refers to change the altered one, which does not matter where that is the session's own.
    """
    found: set[str] = set()
    is_key = "follows_key" in statement["flags"]
    altered = {(column.get("schema"), column.get("table")) for column in statement["assigned"]} if is_key else set()
    follows = any((table.get("schema"), table["name"]) in altered and not table.get("own") for table in statement["tables"])
    defined = [table for table in statement["tables"] if table["access"] == "define"]
    for table in defined:
        relation = None if snapshot is None else snapshot.resolve(table.get("schema"), table["name"])
        is_parent = relation is not None and snapshot is not None and snapshot.is_parent(relation)
        is_referred = follows and ((table.get("schema"), table["name"]) not in altered or len(defined) == 1)
        if is_referred and table.get("follows"):
            return frozenset({ANY_NAME})  # whatever changes the one changes the other through it
        if is_referred or (is_parent and statement.get("added_columns")):
            found |= _name_with_above(table, relation, snapshot)
    return frozenset(found)


def _find_shadowed(statement: Mapping[str, Any], snapshot: CatalogSnapshot | None, moved: frozenset[str]) -> frozenset[str]:
    """Names of known relations under which a new one may answer: it is temporary, or made in a schema that is searched before."""
    made = frozenset(statement.get("new_names", ()))
    if snapshot is None or not made:
        return made
    known = snapshot.name_schemas()
    if "temporary" in statement["flags"] or NEW_SCHEMA in moved:
        return made & known.keys()
    places = {
        table["name"]: table.get("schema", snapshot.first_schema) for table in statement["tables"] if table["access"] == "define"
    }
    # Where it has the place of the known one, it is the known one, or an error.
    return frozenset(name for name in made & known.keys() if places.get(name) != known[name])


def find_shifted(before: CatalogSnapshot, now: CatalogSnapshot) -> frozenset[str]:
    """Bare names that stand for a relation of another schema in one snapshot than in the other.

    The server plans a prepared statement anew when a relation it reads is changed, not when another one comes to stand before it.
    """
    if before is now or before.digest == now.digest:
        return frozenset()
    first, second = before.name_schemas(), now.name_schemas()
    return frozenset(name for name, schema in first.items() if second.get(name, schema) != schema)


def uses_moved(statement: Mapping[str, Any], moved: frozenset[str]) -> bool:
    """Whether a described statement names a relation, or may call something, that is not certain any more."""
    if ANY_CODE in moved and statement["verb"] not in _SURE_VERBS:
        return True
    # What a hook names is looked up anew each time, in the session's own path.
    named = {table["name"] for table in statement["tables"]} | set(statement.get("hook_tables", ()))
    return bool(named) and (ANY_NAME in moved or not named.isdisjoint(moved))


def uses_name(analyzed: Analyzed) -> bool:
    """Whether a statement runs or reads another by its name."""
    return analyzed["verb"] in {"fetch", "move", "execute"} or analyzed.get("nested") == "execute"


def describe_by_name(
    analyzed: Analyzed,
    described: Described,
    definition: Definition | None,
    sensitivity: Sensitivity,
    own: OwnTables = NONE_OWN,
) -> Described:
    """A statement that uses a name, described with what the name stands for, or flagged as `untracked`."""
    snapshot = sensitivity.snapshot
    if definition is None or analyzed.get("nested") == "execute" or not _still_holds(definition, snapshot):
        flags = sorted({*described.facts["flags"], UNTRACKED})
        return replace(described, facts={**described.facts, "flags": flags, "may_yield_sensitive": True}, is_harmless=False)
    named = describe_statement(definition.analyzed, snapshot, sensitivity, own)
    is_execute = analyzed["verb"] == "execute"
    effects = _effects_of_execute(described, named) if is_execute else described.effects | named.effects
    facts: dict[str, Any] = {**named.facts}
    for name in _LISTS:
        facts[name] = _join(named.facts[name], described.facts[name])
    casts = _describe_arguments(analyzed, named, snapshot) if is_execute else []
    for name in _OPTIONAL_LISTS:
        found = _join(named.facts.get(name, []), described.facts.get(name, []))
        if joined := _join(found, casts if name == "casts" else []):
            facts[name] = joined
    # Expressions of its own that run code, whatever the statement named does.
    effects |= {"execute"} if is_execute and (casts or "operators" in described.facts or "casts" in described.facts) else set()
    facts |= {
        "verb": named.facts.get("nested", named.facts["verb"]) if is_execute else analyzed["verb"],
        "effects": sorted(effects),
        "flags": sorted({*named.facts["flags"], *described.facts["flags"]}),
        "may_yield_sensitive": named.facts["may_yield_sensitive"] or _arguments_yield(described, is_execute=is_execute),
    }
    if facts.get("counts_bytes") and not says_values(analyzed):
        facts.pop("most_guesses", None)
    if is_execute:
        facts["prepared_name"] = definition.name
        facts.pop("nested", None)
    return Described(facts, effects, is_harmless=False, is_keyed=named.is_keyed)


def _join(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    return [*first, *(item for item in second if item not in first)]


def _describe_arguments(analyzed: Analyzed, named: Described, snapshot: CatalogSnapshot | None) -> list[dict[str, str]]:
    """The casts that arguments of EXECUTE may run on their way into parameters; a constant without a type runs none."""
    if snapshot is None or not (analyzed["types"] or analyzed["functions"] or analyzed["operators"] or analyzed["attributes"]):
        return []
    found = (snapshot.resolve(table.get("schema"), table["name"]) for table in named.facts["tables"])
    casts = find_argument_code(snapshot, [relation for relation in found if relation is not None])
    return [describe_cast(cast) for cast in casts]


def _effects_of_execute(described: Described, named: Described) -> frozenset[str]:
    """Those of the statement named, and of the arguments, which are expressions of their own; naming it is over."""
    called = {effect for each in (described, named) for call in each.facts["functions"] for effect in call.get("effects", ())}
    return (described.effects - {"execute"}) | (named.effects - {"session"}) | called


def _still_holds(definition: Definition, snapshot: CatalogSnapshot | None) -> bool:
    """A cursor returns the rows of the relations as they were when it was declared; a prepared statement is planned again."""
    return definition.kind == "prepared" or (snapshot is not None and snapshot.digest == definition.catalog_digest)


def _arguments_yield(described: Described, *, is_execute: bool) -> bool:
    return is_execute and any(column.get("sensitive", True) for column in described.facts["columns"])


def list_types(definitions: Iterable[Definition]) -> Mapping[str, list[str]]:
    """The types of the parameters of each name that has any declared: the same text is another statement in other types."""
    return {definition.label: list(definition.types) for definition in definitions if definition.types}


def list_texts(definitions: Iterable[Definition]) -> Mapping[str, str]:
    """What an approval of a statement that uses names covers beside its own text: the text each name stands for."""
    return {definition.label: definition.analyzed["text"] for definition in definitions}
