"""Large objects as libpq and JDBC use them: calls of PostgreSQL's own functions by number (53.2.4), judged as the call they are. Pure.

The numbers are fixed in the server's sources (pg_proc.dat) and the same in every version, so no look-up is needed. Every other
number stays refused: it could be any function of the database. `lo_import` and `lo_export` of the server, which read and write files
of its machine, are not among them; the clients' commands of these names use the functions below.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.action import Action
from gateway.decision import Obligation
from gateway.errors import ProtocolError
from gateway.protocols.postgres.events import FunctionCall

CALLS: Final = {
    715: "lo_create",
    952: "lo_open",
    953: "lo_close",
    954: "loread",
    955: "lowrite",
    956: "lo_lseek",
    957: "lo_creat",
    958: "lo_tell",
    964: "lo_unlink",
    1004: "lo_truncate",
    3170: "lo_lseek64",
    3171: "lo_tell64",
    3172: "lo_truncate64",
}
"""Names in pg_catalog by number."""

MAX_ARGUMENTS: Final = 3
"""The most any of them takes."""


OPAQUE_RESULT: Final = "opaque_result"
"""The obligation {"kind": "opaque_result"}: what is read may be delivered as it is, though no mask can reach into it."""


def may_deliver(action: Action | None, obligations: Iterable[Obligation]) -> bool:
    """Whether the value of a call can be delivered: it cannot be sensitive, or policy says that it may pass as it is."""
    statements = () if action is None else action.facts.get("statements", ())
    is_clean = bool(statements) and not any(statement.get("may_yield_sensitive", True) for statement in statements)
    return is_clean or any(item.kind == OPAQUE_RESULT for item in obligations)


def write_call(event: FunctionCall) -> str:
    """The statement that does the same. Raises ProtocolError for another function."""
    name = CALLS.get(event.oid)
    if name is None or len(event.params) > MAX_ARGUMENTS:
        raise ProtocolError(
            "calls of functions by number are not accepted",
            why="only those of large objects are known by their number; another names no function that policy could judge",
            fix="call the function in a SELECT statement",
        )
    places = ", ".join(f"${number}" for number in range(1, len(event.params) + 1))
    return f"select pg_catalog.{name}({places})"
