"""What the settings of one session make of the text of its statements, as far as an approval must cover it.

`date '01/02/2026'` is another day under another DateStyle. The server reports three such settings whenever they change; what a session
sets beyond them is known by the statement that set it, where that statement stood alone and outside a transaction, so that nothing can
take it back unseen. Where what is in effect is not certain, no two actions count as the same: an approval is then good for the action
that waits for it, and for no later one.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

from gateway.action import Action
from gateway.protocols.postgres.actions import find_settings
from gateway.protocols.postgres.login import SQL_ASCII, UTF8_NAMES

REPORTED: Final = {"datestyle": "DateStyle", "intervalstyle": "IntervalStyle", "timezone": "TimeZone"}
"""Settings that change values and that the server reports (53.2.7), by their names in lower case."""

STARTED: Final = frozenset({"bytea_output", "extra_float_digits"})
"""Start-up settings beyond them that change values."""

HARMLESS: Final = frozenset(
    {
        *("application_name", "client_encoding", "client_min_messages", "jit", "search_path", "standard_conforming_strings"),
        *("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "deadlock_timeout"),
        *("transaction_isolation", "transaction_read_only", "transaction_deferrable", "synchronous_commit", "work_mem"),
        *("default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"),
    }
)
"""Settings that change no value, or that are covered or pinned elsewhere."""


MAX_TEXTS: Final = 20
"""Statements that set one setting and are remembered; beyond it the setting is not certain any more."""


class SessionValues:
    """The settings of one session that an approval covers.

    Attributes:
        encodings: the client encodings that mean the bytes the gateway judges, as `fold_encoding` writes them.
    """

    __slots__ = ("_has_changed", "_is_uncertain", "_reported", "_set", "_started", "encodings")

    def __init__(self) -> None:
        self.encodings = UTF8_NAMES
        self._reported: dict[str, str] = {}
        self._started: dict[str, str] = {}
        self._set: dict[str, tuple[str, ...]] = {}
        self._is_uncertain = self._has_changed = False

    def begin(self, reported: Mapping[str, str], asked: Mapping[str, str]) -> None:
        """What the server reported at login, and what the client asked for at start-up."""
        for name, value in reported.items():
            self.note_reported(name, value)
        if reported.get("server_encoding") == "UTF8":
            self.encodings = UTF8_NAMES | {SQL_ASCII}
        self._started = {name.lower(): value for name, value in asked.items() if name.lower() in STARTED}

    def note_reported(self, name: str, value: str) -> None:
        """The server reports a setting."""
        if REPORTED.get(name.lower()) is not None:
            self._reported[name.lower()] = value

    def note_sent(self, action: Action, *, is_alone: bool) -> None:
        """An allowed action is about to be sent; `is_alone` where nothing else is under way, outside a transaction."""
        names = find_settings(action) - HARMLESS
        if not names:
            return
        self._has_changed = True
        statements = action.facts.get("statements", ())
        is_certain = is_alone and len(statements) == 1
        verb = statements[0]["verb"] if statements else ""
        is_local = any("set_local" in statement["flags"] for statement in statements)
        if is_certain and verb in {"reset", "discard"} and "all" in names:
            self._set, self._is_uncertain = {}, False
        elif is_certain and verb in {"set", "reset"} and not is_local and "all" not in names:
            # All of them in their order: one that fails leaves what was set before.
            for name in names - REPORTED.keys():
                self._set[name] = (*self._set.get(name, ()), str(action.payload.get("text", "")))
                self._is_uncertain |= len(self._set[name]) > MAX_TEXTS
        elif not names <= REPORTED.keys():
            self._is_uncertain = True

    def describe(self, *, is_settled: bool) -> dict[str, Any]:
        """The settings a statement runs under; `is_settled` where everything sent before it has been answered."""
        values: dict[str, Any] = {REPORTED[name]: value for name, value in self._reported.items()}
        values |= {**self._started, **{name: list(texts) for name, texts in self._set.items()}}
        if self._is_uncertain or (self._has_changed and not is_settled):
            values["others"] = f"changed in a way that is not followed ({secrets.token_hex(8)})"
        return dict(sorted(values.items()))
