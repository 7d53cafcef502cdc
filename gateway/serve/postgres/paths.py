"""What the gateway asks a server, by the search path of the session it asks for.

A session may start with a search path of its own (login.py says which). The text of its statements, and of views, then means other
objects, so its facts come from a snapshot taken on a connection that started with the very same value: the server decides both what a
statement means and what the snapshot says, by one rule. The path cannot change in a session, so nothing has to be followed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.errors import LimitExceededError
from gateway.serve.postgres.lookups import CatalogCache
from gateway.serve.postgres.preview import PreviewQuestions

MAX_PATHS: Final = 16
"""Search paths of one connection that are in use at once, beside the server's own: each holds a snapshot and a connection."""


@dataclass(frozen=True, slots=True)
class Questions:
    """How sessions of one search path ask the server about their statements."""

    catalog: CatalogCache
    previews: PreviewQuestions | None = None


class SearchPaths:
    """The questions of one connection.

    Args:
        make: the questions of sessions that start with this search path; None for those that name none.
    """

    def __init__(self, make: Callable[[str | None], Questions]) -> None:
        self._make = make
        self._questions: dict[str | None, Questions] = {None: make(None)}
        self._users: dict[str, int] = {}

    @property
    def own(self) -> Questions:
        """Those of sessions that name no search path."""
        return self._questions[None]

    def acquire(self, path: str | None) -> Questions:
        """The questions for one more session; pair with `release`. Raises LimitExceededError."""
        if path is None:
            return self.own
        if path not in self._questions:
            self._make_room()
            self._questions[path] = made = self._make(path)
            made.catalog.join(self.own.catalog)
        self._users[path] = self._users.get(path, 0) + 1
        return self._questions[path]

    def release(self, path: str | None) -> None:
        """One session less. What it asked with stays for the next one while there is room."""
        if path is not None:
            self._users[path] -= 1

    def close(self) -> None:
        """Close every connection questions run on."""
        for questions in self._questions.values():
            questions.catalog.close()

    def _make_room(self) -> None:
        if len(self._questions) <= MAX_PATHS:
            return
        unused = next((path for path, users in self._users.items() if not users), None)
        if unused is None:
            raise LimitExceededError(
                "too many different search paths are in use on this connection",
                why=f"at most {MAX_PATHS} besides the server's own",
                fix="use one of those other agents use, or write names with their schema",
            )
        del self._users[unused]
        leaving = self._questions.pop(unused).catalog
        leaving.leave()
        leaving.close()
