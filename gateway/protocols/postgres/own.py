"""The tables a session made itself, through the gateway: nothing sensitive went in, though no snapshot may hold them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import Relation

MAX_OWN_TABLES: Final = 1_000
"""Tables of a session that are remembered; further ones count as unknown."""

_ANY: Final = "*"

COPIED: Final = frozenset({"default", "generated", "constraint", "index"})
"""Kinds of hooks that LIKE can take along into a new table."""


@dataclass(frozen=True, slots=True)
class OwnTables:
    """What is known of them.

    Attributes:
        names: bare names of all.
        temporary: those that are the session's alone, so that nothing of anybody else's can depend on them.
        taken: names that stand for something else the session made, or for a table whose rows may be others': none of them becomes
            one of its tables again, since a CREATE that fails, or says IF NOT EXISTS, leaves what has the name as it is.
        fleeting: temporary ones that are gone with the end of the transaction.
        following: those with a foreign key by which other tables change them.
    """

    names: frozenset[str] = frozenset()
    temporary: frozenset[str] = frozenset()
    taken: frozenset[str] = frozenset()
    fleeting: frozenset[str] = frozenset()
    following: frozenset[str] = frozenset()

    def holds(self, schema: str | None, name: str) -> bool:
        """Whether a table that no snapshot holds is one of them."""
        if schema == "public":
            return name in self.names - self.temporary
        return name in self.names and schema in {None, "pg_temp"}

    def holds_temporary(self, schema: str | None, name: str) -> bool:
        """Whether it is the session's alone."""
        return name in self.temporary and schema in {None, "pg_temp"}

    def made(self, snapshot: CatalogSnapshot | None, relation: Relation) -> bool:
        """Whether a table the snapshot holds is one of them. Where anything else has its name, too, nobody can tell."""
        is_table = relation.kind in {"r", "p"} and relation.is_owned  # what somebody else made anew has another owner
        if snapshot is None or not is_table or relation.name not in self.names - self.temporary - self.taken:
            return False
        return snapshot.first_schema == relation.schema and snapshot.find_schemas(relation.name) == {relation.schema}

    def may_type(self, name: str) -> bool:
        """Whether a type may be that of a temporary table or view of the session, or of arrays of it."""
        return not {name, name.removeprefix("_")}.isdisjoint(self.temporary | self.taken)

    def after(self, statement: Mapping[str, Any]) -> OwnTables:
        """What is known once a described statement was sent."""
        after = self._after(statement)
        if "follows_key" not in statement["flags"]:
            return after
        defined = (table["name"] for table in statement["tables"] if table["access"] == "define")
        return replace(after, following=after.following | (frozenset(defined) & after.names))

    def _after(self, statement: Mapping[str, Any]) -> OwnTables:
        named, made, lost = frozenset(statement.get("new_names", ())), find_made(statement), find_lost(statement)
        if "drops_temporary" in statement["flags"]:
            return self._bound(self.names - self.temporary, frozenset(), self.taken)
        if joins_others(statement):
            # Those above what was attached to have its rows too; nobody else's can come into a temporary one.
            kept = self.temporary - frozenset(table["name"] for table in statement["tables"])
            return self._bound(kept, kept, self.taken | (self.names - kept))
        if not named and not lost:
            return self
        # It can fail, and leave what has the name as it is.
        made -= named if _ANY in self.taken else self.taken
        is_temporary = "temporary" in statement["flags"] or bool(lost & self.temporary)
        made -= (self.names - self.temporary) if is_temporary else self.temporary  # two tables of one name, or one that failed
        names = (self.names - lost - named) | made
        temporary = (self.temporary - lost - named) | (made if is_temporary else frozenset())
        fleeting = self.fleeting | (made if "on_commit_drop" in statement["flags"] else frozenset())
        if lost & self.fleeting:
            fleeting |= made  # under another name
        return self._bound(names, temporary, self.taken | (named - made), fleeting)

    def undone_to(self, before: OwnTables) -> OwnTables:
        """What is left where everything since `before` may have been rolled back."""
        if before is self:
            return self
        return self._bound(self.names & before.names, self.temporary & before.temporary, self.taken | before.taken)

    def settled(self) -> OwnTables:
        """What is left after the end of a transaction."""
        if not self.fleeting:
            return self
        return replace(self, names=self.names - self.fleeting, temporary=self.temporary - self.fleeting, fleeting=frozenset())

    def _bound(
        self, names: frozenset[str], temporary: frozenset[str], taken: frozenset[str], fleeting: frozenset[str] | None = None
    ) -> OwnTables:
        if len(names) > MAX_OWN_TABLES:
            names, temporary = names & self.names, temporary & self.temporary
        fleeting = self.fleeting if fleeting is None else fleeting
        taken = taken if len(taken) <= MAX_OWN_TABLES else frozenset({_ANY})
        return OwnTables(names, temporary, taken, fleeting & temporary, self.following & names)


NONE_OWN: Final = OwnTables()
"""A session that has made none."""


def find_made(statement: Mapping[str, Any]) -> frozenset[str]:
    """Names of the tables a described statement makes and the catalogue does not hold; nothing sensitive is written into them.

    One that is renamed is made under its new name.
    """
    named = frozenset(statement.get("new_names", ()))
    defined = [table for table in statement["tables"] if table["access"] == "define"]
    if statement["verb"] == "rename" and statement.get("object") == "table":
        if "if_exists" in statement["flags"]:
            return frozenset()
        return named if defined and all(table.get("own") for table in defined) else frozenset()
    is_filled_unseen = statement.get("nested") == "execute" or any(column["sensitive"] for column in statement["columns"])
    if "creates_table" not in statement["flags"] or is_filled_unseen or statement["verb"] == "create_schema":
        return frozenset()
    # What inherits gets rows that were never written to it.
    others = [table for table in defined if table["name"] not in named]
    is_child = "inherits" in statement["flags"]
    if is_child and ("temporary" in statement["flags"] or not all(table.get("own") for table in others)):
        return frozenset()  # a temporary one also goes with its parent
    if any(hook["kind"] in COPIED for table in statement["tables"] for hook in table.get("hooks", ())):
        return frozenset()  # LIKE: what runs with the other table runs with this one, though no snapshot says so
    unknown = (table for table in defined if table.get("unresolved") and table.get("schema") in {None, "pg_temp", "public"})
    return frozenset(table["name"] for table in unknown) & named


def find_lost(statement: Mapping[str, Any]) -> frozenset[str]:
    """Names of tables that are not what has the name from now on: they were renamed, moved or dropped."""
    if statement["verb"] not in {"rename", "alter_schema", "drop"}:
        return frozenset()
    return frozenset(table["name"] for table in statement["tables"] if table["access"] == "define")


def joins_others(statement: Mapping[str, Any]) -> bool:
    """Whether a statement gives one table the rows of another, by attaching it or making it a child, and not both are the session's."""
    is_joining = statement["verb"] == "alter_table" and "inherits" in statement["flags"]
    return is_joining and not all(table.get("own") for table in statement["tables"])
