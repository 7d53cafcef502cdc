"""What calls of functions do, by their names and how many arguments they have. Pure.

The text does not say which overload a call means, so every one counts that the search path reaches: PostgreSQL's own, those of
extensions that are known to be harmless, and any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from gateway.protocols.postgres.catalog import SYSTEM_SCHEMAS, CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import Function
from gateway.protocols.postgres.functions import EFFECTS, HARMLESS, YIELDS_ANY
from gateway.protocols.postgres.sensitivity import Sensitivity

ALWAYS_FIRST: Final = frozenset({("gen_random_uuid", 0)})
"""Functions of pg_catalog without arguments: whatever else has the name, theirs is called, because pg_catalog comes first."""

_EXECUTE: Final = frozenset({"execute"})


@dataclass(frozen=True, slots=True)
class Call:
    """One function that a call may mean.

    Attributes:
        fact: the entry of `functions`.
        is_harmless: it only returns a value made of its arguments, the catalogue or the clock.
        yields_any: what it returns may hold values of any relation.
    """

    fact: dict[str, Any]
    effects: frozenset[str]
    is_harmless: bool
    yields_any: bool


def find_calls(
    snapshot: CatalogSnapshot | None, sensitivity: Sensitivity, schema: str | None, name: str, args: int
) -> Iterator[Call]:
    """Every function that a call may mean. Without a snapshot a name may be somebody's own function."""
    own = schema is None or schema in SYSTEM_SCHEMAS
    is_first = schema is None and (name, args) in ALWAYS_FIRST
    others = () if snapshot is None or is_first else snapshot.find_functions(schema, name, args)
    harmless = () if snapshot is None or is_first else snapshot.find_harmless(schema, name, args)
    for function in others:
        yield _describe_other(function, args, is_clean=sensitivity.vouches_for([function]))
    known = own and (name in HARMLESS or name in EFFECTS)
    if known or not (others or harmless):
        yield _describe_own(snapshot, schema, name, args, own=own, known=known)
    elif not others:
        found = harmless[0]
        fact = {"schema": found.schema, "name": name, "args": args, "harmless": True, "extension": found.extension}
        yield Call(fact, frozenset(), is_harmless=True, yields_any=False)


def _describe_own(snapshot: CatalogSnapshot | None, schema: str | None, name: str, args: int, *, own: bool, known: bool) -> Call:
    is_harmless = known and name in HARMLESS and snapshot is not None
    effects = EFFECTS.get(name, frozenset()) if own or name in EFFECTS else frozenset[str]()
    if not is_harmless:
        effects = effects or _EXECUTE
    place = schema or ("pg_catalog" if known and snapshot is not None else None)
    fact = {
        **({"schema": place} if place else {}),
        "name": name,
        "args": args,
        "harmless": is_harmless,
        **({"effects": sorted(effects)} if effects else {}),
    }
    return Call(fact, effects, is_harmless, yields_any=name in YIELDS_ANY or not known)


def _describe_other(function: Function, args: int, *, is_clean: bool) -> Call:
    effects = _EXECUTE | EFFECTS.get(function.name, frozenset())
    fact = {
        "schema": function.schema,
        "name": function.name,
        "args": args,
        "harmless": False,
        "language": function.language,
        "volatility": function.volatility,
        "security_definer": function.is_definer,
        "effects": sorted(effects),
    }
    return Call(fact, effects, is_harmless=False, yields_any=not is_clean or function.name in YIELDS_ANY)
