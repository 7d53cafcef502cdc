"""The settings a session may not change, since each changes what a statement's text means, and what drivers may send of them all the same. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Final

from gateway.action import Action
from gateway.protocols.postgres import actions
from gateway.protocols.postgres.events import Execute, JudgedEvent, Parse, Query
from gateway.protocols.postgres.login import HEAP_ORDER_SETTINGS, PINNED_SETTINGS, UTF8_NAMES, fold_encoding, read_search_path

PINS: Final = frozenset({"search_path", *PINNED_SETTINGS})
"""What no session may set: each changes which words, or which objects, a statement's text means."""

_KEEPS_PIN: Final = re.compile(
    r"\s*+set\s++(?:session\s++|local\s++)?+"
    r"(?:client_encoding(?:\s*+=|\s++to\s)|names\b)\s*+(?P<quote>'?+)(?P<encoding>[a-z0-9_-]++)(?P=quote)\s*+;?\s*+"
    r"|\s*+set\s++(?:session\s++|local\s++)?+standard_conforming_strings(?:\s*+=|\s++to\s)\s*+'?(?:on|true)'?\s*+;?\s*+"
    r"|\s*+reset\s++(?:search_path|client_encoding)\s*+;?\s*+"
    r"|\s*+set\s++(?:session\s++|local\s++)?+(?:search_path|client_encoding)(?:\s*+=|\s++to)\s*+default\s*+;?\s*+",
    re.IGNORECASE | re.ASCII,
)
"""What drivers send to be sure: a single statement that sets a pin to the value it has, or to another word for it."""

_SETS_PATH: Final = re.compile(
    r"\s*+set\s++(?:session\s++|local\s++)?+search_path(?:\s*+=|\s++to\s)\s*+([^;']++|'[^';,]++')\s*+;?\s*+",
    re.IGNORECASE | re.ASCII,
)
"""A single SET of the path to names, or to one name as a string; what JDBC's setSchema sends."""

_EMPTIES_PATH: Final = re.compile(
    r"\s*+select\s++(pg_catalog\.)?set_config\(\s*+'search_path'\s*+,\s*+''\s*+,\s*+(true|false)\s*+\)\s*+;?\s*+"
    r"|\s*+set\s++(session\s++|local\s++)?+search_path(\s*+=|\s++to\s)\s*+''\s*+;?\s*+",
    re.IGNORECASE | re.ASCII,
)
"""What pg_dump sends first. Where pg_catalog is searched first anyway, a name then means what the gateway takes it for, or nothing."""

_BESIDE: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {"default_transaction_read_only": frozenset({"transaction_read_only"})}
)
"""What would undo a setting that is fixed, but for itself."""

_READ_ONLY: Final = frozenset(_BESIDE) | frozenset().union(*_BESIDE.values())
"""What a connection fixes that is read-only."""

ISOLATION: Final = frozenset({"transaction_isolation", "default_transaction_isolation"})
"""How far a transaction is kept from others."""

_PIN_FIXES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "search_path": "write names with their schema, or connect with another search_path",
        "client_encoding": "leave it at UTF8, and convert text where it comes from and goes to",
        "standard_conforming_strings": "write strings that need escapes as E'...'",
    }
)
"""What to do instead of changing a pin."""

_PLANNER: Final = re.compile(r"enable_\w+|\w+_cost|plan_cache_mode|effective_cache_size")
"""What the planner weighs kinds of scans by: where one of them is fixed, making others dear would bring it back."""


def find_changed_pins(
    event: JudgedEvent,
    action: Action | None,
    *,
    fixed: AbstractSet[str] = frozenset(),
    path: tuple[str, ...] | None = None,
    encodings: frozenset[str] = UTF8_NAMES,
    looks_up: bool = False,
) -> list[str]:
    """The pinned settings a statement would change, which the host then refuses.

    Args:
        event: the statement.
        action: what it was described as; None where it is no SQL.
        fixed: the settings its connection fixed when it began.
        path: the search path the session has; None where it is not made of names alone.
        encodings: names of encodings that mean the bytes the gateway judges, as `fold_encoding` writes them.
        looks_up: whether a SERIALIZABLE transaction would show what the server looks up by sensitive values.
    """
    if action is None or not isinstance(event, Query | Parse | Execute):
        return []
    pins = PINS | fixed | frozenset[str]().union(*(_BESIDE[name] for name in fixed & _BESIDE.keys()))
    if _computes_name(action):
        # A computed name could be any of them. RESET ALL is another matter: it restores what the gateway fixed at start-up.
        return sorted(pins)
    settings = actions.find_settings(action)
    if looks_up and _is_serializable(action):
        return sorted(settings & ISOLATION)
    if HEAP_ORDER_SETTINGS.keys() <= fixed:
        pins |= {name for name in settings if _PLANNER.fullmatch(name)}
    changed = sorted(settings & pins)
    return changed if changed and not _keeps_pins(event.sql, action, path, encodings) else []


def _keeps_pins(sql: str, action: Action, path: tuple[str, ...] | None, encodings: frozenset[str]) -> bool:
    """Whether a text sets a pin to the value it has, in one of the ways drivers do."""
    kept = _KEEPS_PIN.fullmatch(sql)
    if kept is not None and (kept["encoding"] is None or fold_encoding(kept["encoding"]) in encodings):
        return True
    if path is not None and _read_set_path(sql) == path:
        return True
    empties = _EMPTIES_PATH.fullmatch(sql) is not None
    return empties and bool(action.canonical.get("search_path", ("",))[0] == "pg_catalog")


def explain_pins(pins: list[str], action: Action | None) -> tuple[str, str, str]:
    """What a statement is told that `find_changed_pins` found these for: what, why, what to do."""
    if _computes_name(action):
        what = "set_config refused: the name of its setting is computed, so it could be any"
        return what, f"{' and '.join(pins)} cannot be changed", "write the name of the setting into the statement, as a string"
    if ISOLATION.issuperset(pins):
        why = "the server shows of them which rows it looks up, and here it looks some up by sensitive values"
        return (
            "transactions of this connection cannot be SERIALIZABLE",
            why,
            "use REPEATABLE READ, and lock the rows you decide by",
        )
    if _READ_ONLY.issuperset(pins):
        what = f"this connection is read-only, so {' and '.join(pins)} cannot be changed"
        fix = "leave out READ WRITE and the setting, or use a connection that may write, where the gateway's operators offer one"
        return what, "every transaction on it is read-only, as its operators configured (read_only)", fix
    return (
        f"{' and '.join(pins)} cannot be changed",
        "the gateway judges statements by what this setting makes them mean, or by what it keeps their answers from telling",
        "; ".join(dict.fromkeys(_PIN_FIXES.get(pin, "leave the kinds of scans as they are") for pin in pins)),
    )


def _is_serializable(action: Action) -> bool:
    return any("serializable" in statement["flags"] for statement in action.facts.get("statements", ()))


def _computes_name(action: Action | None) -> bool:
    statements = () if action is None else action.facts.get("statements", ())
    return any("set_config" in statement["flags"] and "all" in statement["set_vars"] for statement in statements)


def _read_set_path(sql: str) -> tuple[str, ...] | None:
    """The schemas a SET search_path names; one in quotes is taken as it is, as the server takes it."""
    found = _SETS_PATH.fullmatch(sql)
    if found is None:
        return None
    value = found[1].strip()
    return read_search_path(f'"{value[1:-1]}"' if value.startswith("'") else value)
