"""How many statements compute with sensitive values, and how many values they give to columns that are compared with these. Pure.

An agent that may write a value, and see what the server did with it beside those that are there, learns by each one. Policy bounds
how many (`inference_budget`), so each is counted when it is sent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gateway.action import Action
from gateway.protocols.postgres.assigned import SHORT_TYPE_OIDS
from gateway.protocols.postgres.catalog import FIRST_NORMAL_OID
from gateway.protocols.postgres.type_names import UNTYPED, name_types

INEXACT_TYPES: Final = frozenset({700, 701, 1042})
"""float4, float8, and bpchar, in which trailing blanks count for nothing: a text is compared as one where it meets one."""

_PARAMETER: Final = re.compile(r"\$([0-9]+)")
_TOO_MANY_DIGITS: Final = 10
"""The number of a parameter has less."""


_INEXACT_NAMES: Final = frozenset(name_types(INEXACT_TYPES))
_SHORT_NAMES: Final = frozenset(name_types(SHORT_TYPE_OIDS))

EARLY_ERRORS: Final = frozenset({"42601", "42703"})
"""syntax_error and undefined_column, which come before any value is read."""

OPEN_ENDED_GUESSES: Final = 100
"""What a change counts for of which nobody says how many rows it writes; the policy as shipped lets none pass without a reviewer."""

BYTES_PER_GUESS: Final = 64
"""Text and parameters that count for one guess, where a row may have any number of entries in an index."""


def count_inferences(action: Action | None) -> int:
    """How many statements of an action compute with sensitive columns, with the guesses it writes; at least one, since somebody asks."""
    statements = () if action is None else action.facts.get("statements", ())
    computing = [any(column["sensitive"] and column["use"] == "other" for column in each["columns"]) for each in statements]
    weighed = 0 if action is None or not any(map(counts_bytes, statements)) else _measure(action) // BYTES_PER_GUESS
    return max(1, sum(computing) + sum(map(_count_guesses, statements)) + weighed)


def tells_by_failing(action: Action | None, error_code: str | None) -> bool:
    """Whether the end of an action may depend on sensitive values it was to deliver."""
    if action is None or not error_code or error_code in EARLY_ERRORS:
        return False
    return any(column["sensitive"] for statement in action.facts.get("statements", ()) for column in statement["columns"])


def counts_bytes(statement: Mapping[str, Any]) -> bool:
    """Whether how many values a described statement writes is in how long they are."""
    return "write" in statement["effects"] and bool(statement.get("counts_bytes", False))


def _measure(action: Action) -> int:
    """Bytes of what an action says: its text, what the names it uses stand for, and parameters."""
    texts = (action.payload.get("text", ""), *action.payload.get("named", {}).values(), *action.payload.get("params", ()))
    return sum(len(str(text).encode(errors="replace")) for text in texts)


def _count_guesses(statement: Mapping[str, Any]) -> int:
    """How many values a statement gives at most to sensitive columns that the server compares with those that are there."""
    if "write" not in statement["effects"]:
        return 0
    if _guesses_unseen(statement):
        return OPEN_ENDED_GUESSES
    is_compared = any(column.get("compared", False) for column in statement["assigned"])
    return int(statement.get("most_guesses", OPEN_ENDED_GUESSES)) if is_compared else 0


def _guesses_unseen(statement: Mapping[str, Any]) -> bool:
    """Whether a trigger or rule gives values to columns that the server compares with sensitive ones."""
    return any(hook.get("compared", False) for table in statement["tables"] for hook in table.get("hooks", ()))


def is_open_ended(action: Action) -> bool:
    """Whether an action may write any number of values to sensitive columns that the server compares with those that are there."""
    statements = action.facts.get("statements", ())
    return any(
        _count_guesses(statement) and ("most_guesses" not in statement or _guesses_unseen(statement)) for statement in statements
    )


def tells_by_running(action: Action) -> bool:
    """Whether running an action, though it is rolled back, may tell others what sensitive values there are: it guesses, or uses some.

    What is tried for a reviewer counts against no budget, and may be tried any number of times.
    """
    statements = action.facts.get("statements", ())
    uses = (column["use"] for statement in statements for column in statement["columns"] if column["sensitive"])
    # Whether a value is another one than before shows in what the server did: it looks its code up again only then.
    assigns = any(column["sensitive"] for statement in statements for column in statement["assigned"])
    return assigns or any(map(_count_guesses, statements)) or any(use != "output" for use in uses)


def compares_inexactly(oids: Iterable[int], names: Iterable[str]) -> bool:
    """Whether a parameter has a type in which several keys may be equal to one value, such as a float; by number, or by `name_types`."""
    if any(oid in INEXACT_TYPES or oid >= FIRST_NORMAL_OID for oid in oids):
        return True
    return any(name in _INEXACT_NAMES or name.startswith("type ") for name in names)


def repeats_untyped(text: str, types: Sequence[object]) -> bool:
    """Whether a text uses a parameter twice that has no type: the server takes it from one place, and compares with it in another.

    `types` are their numbers, or what `name_types` makes of them.
    """
    digits = (found.lstrip("0") for found in _PARAMETER.findall(text))
    found = Counter(int(each) for each in digits if 0 < len(each) < _TOO_MANY_DIGITS)  # no text with larger ones can be read
    return any(count > 1 and (number > len(types) or types[number - 1] in {0, UNTYPED}) for number, count in found.items())


def may_lengthen(oids: Iterable[int], names: Iterable[str]) -> bool:
    """Whether a parameter has a type whose values can be far longer than what a client says them with, as numeric's `1e3000`."""
    return not (SHORT_TYPE_OIDS.issuperset(oids) and _SHORT_NAMES.issuperset(names))
