"""Statements that run before their approval, with their effect undone until a reviewer has seen it. Pure.

Policy asks for it with the obligation {"kind": "hold_commit", "lock_timeout_ms"?, "statement_timeout_ms"?} beside an approval. Only
changes of rows are held: a rollback undoes them whole, except for numbers drawn from sequences. Everything else, and every statement
that is not alone in its pipeline, goes the ordinary way and waits before it runs.

What is sent beside the client's own messages goes as extended queries (53.2.3) under a name of its own, because a simple query would
end the client's unnamed statement and portal. The server's own idle_in_transaction_session_timeout ends a transaction that nobody
settles, also where the gateway has died.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sealgate_native.postgres import encode_message, encode_query

from gateway.action import Action
from gateway.decision import Obligation
from gateway.messages import Refusal
from gateway.protocols.postgres.actions import find_settings
from gateway.protocols.postgres.events import Execute, Query
from gateway.protocols.postgres.guesses import tells_by_running

HOLD_COMMIT: Final = "hold_commit"
"""The obligation's kind."""

LOCK_TIMEOUT_MS: Final = 2_000
"""How long a held statement waits for a lock unless the obligation says otherwise: others may wait behind it."""

STATEMENT_TIMEOUT_MS: Final = 10_000
"""How long it may run unless the obligation says otherwise."""

MAX_TIMEOUT_MS: Final = 600_000
"""Longest either may be set to: beyond ten minutes nobody would call it bounded."""

IDLE_MARGIN_S: Final = 10.0
"""How much longer than a reviewer has the server keeps a transaction in which nothing happens."""

HELD_VERBS: Final = frozenset({"insert", "update", "delete", "merge"})
HELD_EFFECTS: Final = frozenset({"read", "write"})
KEEPING_VERBS: Final = frozenset({"commit", "prepare_transaction"})
"""What makes a transaction's effect last."""

BOUNDS: Final = frozenset(
    {"lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout", "all"}
)
"""Settings that bound how long a held change keeps others waiting; `all` is RESET ALL, or a name that is computed."""

OWN_NAME: Final = f"sealgate_{secrets.token_hex(16)}\0".encode()
"""Statement and portal of what is sent beside the client's messages, closed again at once; no client has the name."""


@dataclass(frozen=True, slots=True)
class HoldTerms:
    """How a statement is held, in milliseconds."""

    lock_timeout_ms: int = LOCK_TIMEOUT_MS
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS


def read_terms(obligations: Iterable[Obligation]) -> HoldTerms | None:
    """What policy asks for: the shortest bounds of all its rules. None where it asks for nothing, or for what cannot be kept."""
    asked = [item.params for item in obligations if item.kind == HOLD_COMMIT]
    locks = [params.get("lock_timeout_ms", LOCK_TIMEOUT_MS) for params in asked]
    runs = [params.get("statement_timeout_ms", STATEMENT_TIMEOUT_MS) for params in asked]
    if not asked or not all(map(_is_timeout, (*locks, *runs))):
        return None
    return HoldTerms(min(locks), min(runs))


def _is_timeout(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_TIMEOUT_MS


def is_undone_by_rollback(action: Action, *, shows_rows: bool) -> bool:
    """Whether an action is one change of rows, and one without rows of its own where the client would see them before the approval."""
    statements: Sequence[Mapping[str, Any]] = action.facts.get("statements", ())
    if len(statements) != 1 or "named" in action.payload or not action.effects <= HELD_EFFECTS:
        return False
    if tells_by_running(action):
        return False  # what other sessions learn while it runs, no rollback takes back
    (only,) = statements
    is_known = all(call.get("harmless") is True or _draws_number(call) for call in only["functions"])
    return only["verb"] in HELD_VERBS and is_known and (not shows_rows or "returning" not in only["flags"])


def _draws_number(call: Mapping[str, Any]) -> bool:
    return call.get("schema") == "pg_catalog" and call.get("name") == "nextval"


def find_keeping(action: Action) -> Literal["alone", "among others"] | None:
    """Whether an action makes the effects of the client's transaction last, and whether it does nothing else."""
    verbs = [statement["verb"] for statement in action.facts.get("statements", ())]
    if not KEEPING_VERBS.intersection(verbs):
        return None
    return "alone" if verbs == ["commit"] else "among others"


def find_loosened(action: Action) -> list[str]:
    """Bounds of a held transaction that an action would change."""
    return sorted(BOUNDS & find_settings(action))


def encode_settings(terms: HoldTerms, hold_s: float, *, begins: bool) -> bytes:
    """The messages that bound the transaction a statement is held in, and begin it where the client has none."""
    settings = (
        f"set local lock_timeout = {terms.lock_timeout_ms}",
        f"set local statement_timeout = {terms.statement_timeout_ms}",
        _limit_idle(hold_s),
    )
    return encode_own(("begin", *settings) if begins else settings)


def encode_idle(hold_s: float) -> bytes:
    """The messages that begin anew how long nothing may happen in the transaction."""
    return encode_own([_limit_idle(hold_s)])


def _limit_idle(hold_s: float) -> str:
    return f"set local idle_in_transaction_session_timeout = {int((hold_s + IDLE_MARGIN_S) * 1000)}"


def encode_own(statements: Sequence[str]) -> bytes:
    """Statements of the gateway's own as extended queries, with the Sync that ends them."""
    messages: list[tuple[str, bytes]] = []
    for sql in statements:
        messages += [
            ("P", OWN_NAME + sql.encode() + b"\0\0\0"),
            ("B", OWN_NAME + OWN_NAME + b"\0\0\0\0\0\0"),
            ("E", OWN_NAME + struct.pack("!i", 0)),
            ("C", b"P" + OWN_NAME),
            ("C", b"S" + OWN_NAME),
        ]
    return b"".join(encode_message(kind, body) for kind, body in (*messages, ("S", b"")))


def encode_run(event: Query | Execute) -> bytes:
    """The messages the kernel sends when it forwards the event: the query, or the portal's Execute after its description if due."""
    if isinstance(event, Query):
        return encode_query(event.sql)
    portal = event.portal.encode() + b"\0"
    described = encode_message("D", b"P" + portal) if event.needs_describe else b""
    return described + encode_message("E", portal + struct.pack("!i", event.max_rows))


def split_replies(
    frames: Sequence[tuple[str, bytes]], *, is_described: bool
) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    """The replies to what was sent before the statement itself, and the statement's own; the latter begin with its injected description."""
    first = next((index for index, (kind, _) in enumerate(frames) if kind not in "123tTn"), len(frames))
    if is_described and first and frames[first - 1][0] in "Tn":
        first -= 1
    return list(frames[:first]), list(frames[first:])


def refuse_failed(action_name: str, sqlstate: str) -> Refusal:
    """The refusal of a statement that fails when it is run for its reviewer."""
    why = f"it was run to show its effect, and the server failed it with SQLSTATE {sqlstate}"
    fix = "correct the statement, or run it again when whatever it waits for is free"
    return Refusal("approval", "approval.would_fail", f"{action_name} undone", why, fix, "none")


def describe_effect(tag: str) -> dict[str, object]:
    """What a reviewer is shown of a statement that ran: the server's tag, and the rows it counts."""
    count = tag.rsplit(" ", 1)[-1]
    return {"tag": tag, **({"rows": int(count)} if count.isdecimal() else {})}
