"""What the settings of one session make of the text of its statements, as far as an approval must cover it.

`date '01/02/2026'` is another day under another DateStyle. The server reports three such settings whenever they change; what a session
sets beyond them is known by the statement that set it, where that statement stood alone and outside a transaction, so that nothing can
take it back unseen, and once it has run to its end. Where what is in effect is not certain, no two actions count as the same: an
approval is then good for the action that waits for it, and for no later one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.action import Action
from gateway.protocols.postgres.actions import SessionSettings, find_settings
from gateway.protocols.postgres.login import SQL_ASCII, UTF8_NAMES
from gateway.protocols.postgres.named import NO_NAMES

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


@dataclass(frozen=True, slots=True)
class _Sent:
    """An action that changes settings and was sent: what it names, and what is known once it has run to its end."""

    names: frozenset[str]
    verb: str
    text: str
    is_certain: bool


class SessionValues:
    """The settings of one session that an approval covers.

    Attributes:
        encodings: the client encodings that mean the bytes the gateway judges, as `fold_encoding` writes them.
        epoch: raised whenever a setting may have become another: when a change is sent, and again when its answer is known.
    """

    __slots__ = ("_is_uncertain", "_note_epoch", "_reported", "_restored", "_sent", "_set", "_started", "encodings", "epoch")

    def __init__(self) -> None:
        self.encodings = UTF8_NAMES
        self.epoch = 0
        self._reported: dict[str, str] = {}
        self._started: dict[str, str] = {}
        self._set: dict[str, tuple[str, ...]] = {}
        self._restored: frozenset[str] = NO_NAMES
        self._sent: dict[int, _Sent] = {}
        self._is_uncertain = False
        self._note_epoch: Callable[[int], None] = _ignore

    def begin(self, reported: Mapping[str, str], asked: Mapping[str, str]) -> None:
        """What the server reported at login, and what the client asked for at start-up."""
        self._reported = {name.lower(): value for name, value in reported.items() if name.lower() in REPORTED}
        if reported.get("server_encoding") == "UTF8":
            self.encodings = UTF8_NAMES | {SQL_ASCII}
        self._started = {name.lower(): value for name, value in asked.items() if name.lower() in STARTED}

    def follow(self, note_epoch: Callable[[int], None]) -> None:
        """Whom to tell of each epoch."""
        self._note_epoch = note_epoch

    def close(self) -> None:
        """The session is over: let go of it."""
        self._note_epoch = _ignore

    def _begin_epoch(self) -> None:
        self.epoch += 1
        self._note_epoch(self.epoch)

    def note_reported(self, name: str, value: str) -> None:
        """The server reports a setting."""
        lower = name.lower()
        if lower in REPORTED and self._reported.get(lower) != value:
            self._reported[lower] = value
            self._begin_epoch()

    def note_sent(self, number: int, action: Action, *, is_alone: bool) -> None:
        """An allowed action is about to be sent; `is_alone` where nothing else is under way, outside a transaction."""
        names = find_settings(action) - HARMLESS
        if not names:
            return
        statements = action.facts.get("statements", ())
        is_local = any("set_local" in statement["flags"] for statement in statements)
        verb = statements[0]["verb"] if statements else ""
        text = str(action.payload.get("text", ""))
        self._sent[number] = _Sent(frozenset(names), verb, text, is_alone and len(statements) == 1 and not is_local)
        self._begin_epoch()

    def end(self, number: int, *, is_completed: bool) -> None:
        """No reply of the action can come any more; one that was alone and failed has set nothing."""
        sent = self._sent.pop(number, None)
        if sent is None:
            return
        self._begin_epoch()
        if sent.is_certain and not is_completed:
            return
        if sent.is_certain and sent.verb in {"reset", "discard"} and "all" in sent.names:
            # Whatever else is under way was sent later, and counts when it is over.
            self._set, self._restored, self._is_uncertain = {}, NO_NAMES, False
        elif sent.is_certain and sent.verb in {"set", "reset"} and "all" not in sent.names:
            # All of them in their order, from what the session began with: one sets back what another has set.
            if sent.verb == "reset" or "default" in sent.text.lower():
                self._restored |= sent.names & self._started.keys()
            for name in sent.names - REPORTED.keys():
                self._set[name] = (*self._set.get(name, self._tell_start(name)), sent.text)
                self._is_uncertain |= len(self._set[name]) > MAX_TEXTS
        elif not sent.names <= REPORTED.keys():
            self._is_uncertain = True

    def describe(self, *, is_settled: bool) -> SessionSettings:
        """The settings a statement runs under; `is_settled` where all that was sent before it has been answered."""
        is_unsure = self._is_uncertain or bool(self._sent) or (self.epoch > 0 and not is_settled)
        values = self._make_unsure() if is_unsure else self._list_values()
        return SessionSettings(values, self.epoch, not is_unsure, self._make_unsure)

    def _tell_start(self, name: str) -> tuple[str, ...]:
        return (f"set {name} to {_quote(self._started[name])}",) if name in self._started else ()

    def _list_values(self) -> dict[str, Any]:
        values: dict[str, Any] = {REPORTED[name]: value for name, value in self._reported.items()}
        values |= {**self._started, **{name: list(texts) for name, texts in self._set.items()}}
        return dict(sorted(values.items()))

    def _make_unsure(self) -> dict[str, Any]:
        return {**self._list_values(), "others": f"changed in a way that is not followed ({secrets.token_hex(8)})"}

    def list_settings(self) -> tuple[tuple[str, ...], bool]:
        """Statements that give another session the same settings, and whether that is all there is to it.

        Another session would go back to other values than this one began with.
        """
        named = {**self._reported, **self._started}
        texts = [f"set {name} to {_quote(value)}" for name, value in sorted(named.items())]
        return (*texts, *(text for texts in self._set.values() for text in texts)), not (
            self._is_uncertain or self._sent or self._restored
        )


def _quote(value: str) -> str:
    """A string constant of SQL (4.1.2.1), as every setting of strings reads it."""
    return "'" + value.replace("'", "''") + "'"


def _ignore(_: int) -> None:
    return None
