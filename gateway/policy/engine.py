"""What the decision point asks of an engine, and how an engine says that it has no answer (design section 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import orjson

from gateway.decision import FailureKind

ENTRYPOINT: Final = "data.sealgate.main.decision"
"""The one rule every engine is asked for."""


WAIT_S: Final = 10.0
"""Longest wait in line for an engine: ten thousand decisions of the usual length, and far more than replacing an evaluator takes."""


class PolicyFailure(Exception):  # noqa: N818 -- a failure is an answer of its own here, not an error of the program
    """No usable answer; always enforced as a block with cause `policy.<kind>`.

    Attributes:
        kind: which family of failure.
        message: what happened, without any value of the input.
    """

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind: FailureKind = kind
        self.message = message


class Engine(Protocol):
    """Answers `data.sealgate.main.decision` for one input document."""

    @property
    def name(self) -> str:
        """Which engine, such as "regorus" or "opa"."""

    @property
    def version(self) -> str:
        """The engine's own version, part of every cache key and every record."""

    def standing(self, subject_key: str) -> PolicyFailure | None:
        """Why nothing of this subject is evaluated at the moment, or None. Asked before the cache as well."""

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call back whenever `standing` may have become something else than None for a subject."""

    async def evaluate(self, document: Mapping[str, Any], *, subject_key: str) -> object:
        """The raw value of the decision.

        Args:
            document: a `sealgate.input/1` document.
            subject_key: who caused the evaluation; a subject whose inputs kill evaluators is suspended.

        Raises:
            PolicyFailure: there is no value.
        """

    async def start(self) -> None:
        """Make the engine ready to answer; raises PolicyError when the bundle cannot be used."""

    async def aclose(self) -> None:
        """End the engine and everything it started."""


def canonical(raw: object) -> object:
    """The decision with its lists in one order: engines put the members of a set in orders of their own."""
    if not isinstance(raw, dict):
        return raw
    ordered = {name: _sorted(value) for name, value in raw.items()}
    approval = raw.get("approval")
    if isinstance(approval, dict):
        ordered["approval"] = {name: _sorted(value) for name, value in approval.items()}
    return ordered


def _sorted(value: object) -> object:
    if not isinstance(value, list) or len(value) < 2:  # noqa: PLR2004 -- one member has one order
        return value
    return sorted(value, key=lambda member: orjson.dumps(member, option=orjson.OPT_SORT_KEYS))
