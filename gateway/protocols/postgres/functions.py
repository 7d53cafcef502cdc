"""What PostgreSQL's own functions can do, from `functions.json`: which are harmless, which have effects beyond returning a value.

Names stand for every overload. A name in no list is judged by its absence: not harmless, effect `execute`.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Final

_TABLE: Final = json.loads(resources.files(__package__).joinpath("functions.json").read_text(encoding="utf-8"))

HARMLESS: Final[frozenset[str]] = frozenset(_TABLE["harmless"]) | frozenset(_TABLE["constructs"])
"""Functions of pg_catalog that only return a value made of their arguments, the catalogue or the clock."""

EFFECTS: Final[dict[str, frozenset[str]]] = {name: frozenset(effects) for name, effects in _TABLE["effects"].items()}
"""What calling a function does, for those known to do something. Holds for extension functions in any schema."""

UNJUDGED: Final[frozenset[str]] = frozenset(_TABLE["unjudged"])
"""Functions of pg_catalog in no other list that take one argument: `(value).name` calls them."""

YIELDS_ANY: Final[frozenset[str]] = frozenset(_TABLE["yields_any"])
"""Functions whose result can hold values of any relation, whatever the statement names."""

HARMLESS_EXTENSIONS: Final[frozenset[str]] = frozenset(_TABLE["harmless_extensions"])
"""Extensions whose functions only return a value made of their arguments, as PostgreSQL's own harmless ones do, but for the volatile ones."""

RANDOM_EXTENSIONS: Final[frozenset[str]] = frozenset(_TABLE["random_extensions"])
"""Those of them whose volatile functions are harmless too: they give random numbers."""

TELLING: Final[frozenset[str]] = frozenset(_TABLE["telling"])
"""Harmless functions that tell how much the server worked, from which sizes and equality of values follow; the group `work` of a site."""

VOLATILE_HARMLESS: Final[frozenset[str]] = frozenset(_TABLE["volatile_harmless"])
"""The harmless ones that are declared volatile: clocks, random numbers, sizes and states of the server."""
