"""The decision point: one input document in, one checked decision out, and never an exception.

    standing (suspended, quarantined) ▶ cache ▶ engine ▶ shape and enforceability (`gateway.decision.check`)

Whatever goes wrong on the way is a block with cause `policy.<kind>`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from gateway.decision import Decision, Enforceable, check, fail_closed
from gateway.policy.bundle import Bundle
from gateway.policy.cache import DecisionCache
from gateway.policy.engine import Engine, PolicyFailure, canonical


class DecisionPoint:
    """Decides with one engine and one bundle.

    Args:
        engine: what evaluates; `start` starts it.
        bundle: what the engine evaluates.
        cache: kept decisions; None keeps none.
        clock_ns: monotonic nanoseconds.
    """

    def __init__(
        self,
        engine: Engine,
        bundle: Bundle,
        *,
        cache: DecisionCache | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.engine = engine
        self.bundle = bundle
        self._cache = cache
        self._clock_ns = clock_ns
        self._engine_label = label(engine)

    async def start(self) -> None:
        """Start the engine; raises PolicyError when the bundle cannot be used."""
        await self.engine.start()

    async def aclose(self) -> None:
        """End the engine."""
        await self.engine.aclose()

    async def decide(self, document: Mapping[str, Any], enforceable: Enforceable) -> Decision:
        """The decision about one `sealgate.input/1` document; every failure is a block with a cause.

        Args:
            document: the input document; with `approval` where a reviewer's grant is at hand.
            enforceable: what the protocol that asks can carry out.
        """
        started_ns = self._clock_ns()
        cached = False
        try:
            decision, cached, key = await self._decide(document, enforceable)
            decision = self._bound(decision, document, key)
        except PolicyFailure as failure:
            decision = fail_closed(failure.kind, failure.message)
        except Exception as error:  # noqa: BLE001 -- the one place where any fault must become a block
            decision = fail_closed("error", f"the decision point failed ({type(error).__name__})")
        return replace(
            decision,
            engine=self._engine_label,
            bundle_digest=self.bundle.digest,
            duration_ns=self._clock_ns() - started_ns,
            cached=cached,
            failure_msg=self._say(decision, "failure_msg"),
            solution=self._say(decision, "solution"),
        )

    def judges_alike(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Whether two documents of one protocol agree in everything that any rule reads, so that their decisions are the same."""
        projection = self.bundle.projection(one["protocol"])
        return projection.key(one) == projection.key(other)

    def may_ask(self, subject_key: str) -> bool:
        """Whether a kept decision may be used for this subject: not while it is suspended or the bundle quarantined."""
        return self.engine.standing(subject_key) is None

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call back whenever `may_ask` may have become false for somebody."""
        self.engine.watch(on_change)

    def _bound(self, decision: Decision, document: Mapping[str, Any], key: Hashable | None) -> Decision:
        if self._cache is None or key is None:
            return decision
        until_ns = self.bundle.projection(document["protocol"]).until_ns(document["context"]["now_ns"])
        return replace(decision, until_mono_ns=self._cache.until_ns(key), until_ns=until_ns)

    def _say(self, decision: Decision, member: str) -> str | None:
        """What METADATA says of what policy refused or wants approved; `default.deny.read` is an id of the rule `default.deny`."""
        if decision.effect not in {"block", "require_approval"} or decision.cause is not None:
            return None
        rule = decision.lead_reason().rule
        while rule and rule not in self.bundle.rules:
            rule = rule.rpartition(".")[0]
        said = self.bundle.rules.get(rule, {}).get(member)
        return " ".join(said.split()) if isinstance(said, str) else None

    async def _decide(self, document: Mapping[str, Any], enforceable: Enforceable) -> tuple[Decision, bool, Hashable | None]:
        try:
            subject_key, phase = document["subject"]["id"], document["phase"]
            key = self._cache.key(document, enforceable) if self._cache is not None else None
        except (KeyError, TypeError, orjson.JSONEncodeError) as error:
            raise PolicyFailure("input", f"the input document lacks what every decision needs ({type(error).__name__})") from None
        if (refusal := self.engine.standing(subject_key)) is not None:
            raise refusal
        if self._cache is not None and key is not None and (kept := self._cache.get(key)) is not None:
            return kept, True, key
        raw = canonical(await self.engine.evaluate(document, subject_key=subject_key))
        decision = check(raw, enforceable, phase=phase)
        if self._cache is not None and key is not None:
            self._cache.put(key, decision)
        return decision, False, key


def label(engine: Engine) -> str:
    """Name and version of an engine, as cache keys and records hold them."""
    return f"{engine.name} {engine.version}"
