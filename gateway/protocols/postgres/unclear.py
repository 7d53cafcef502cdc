"""What to write in place of what PostgreSQL would understand in a way that the text does not fix: such a statement has the effect `unknown`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

SPLIT_NUMBER: Final = "split_number"
"""The flag of a statement with a number that its server reads as a number and an alias, as PostgreSQL before 15 does."""

ADVICE: Final[Mapping[str, str]] = {
    "unnamed_source": "give each item in FROM that is neither a table nor a call by name an alias, as in "
    "FROM coalesce(a, b) AS item: without one the server chooses a name for it that can be another relation's",
    "generated_name": "give the subquery or VALUES in FROM an alias and use that: names the server makes up, such as "
    "unnamed_subquery, depend on its version",
    SPLIT_NUMBER: "write numbers without underscores, and those with 0x, 0o or 0b in decimal: this server takes what follows the "
    "first digits for an alias",
}
"""By flag of a statement that was read but is not certain, what its author can do."""


def find_advice(statements: Iterable[Mapping[str, Any]]) -> str | None:
    """What the author of these statements can change, so that their effects are known; None where nobody can say."""
    flags = {flag for statement in statements for flag in statement["flags"]}
    return next((advice for flag, advice in ADVICE.items() if flag in flags), None)
