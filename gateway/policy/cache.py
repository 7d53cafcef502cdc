"""The decision cache (design section 4): bounded, short-lived, and only for decisions that depend on nothing but projected facts.

A decision is kept when its protocol is cacheable (no topic that judges it reads payload, time or counters), the document carries no
grant, and the decision is no approval and no block the enforcement point made itself. The host checks expiry, suspension and
revocation before it asks; each hit leaves its own record.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

from gateway.decision import Decision, Enforceable
from gateway.policy.bundle import Bundle

MAX_AGE_S: Final = 60.0
"""Longest life of a kept decision, so that nothing outlives a minute whatever else was overlooked."""

MAX_ENTRIES: Final = 4_096
"""Decisions kept at most, a few kilobytes each; the least recently used goes first."""


class DecisionCache:
    """Decisions of one engine and one bundle by what they depend on.

    Args:
        bundle: gives the projections; a cache never serves two bundles.
        engine_label: name and version of the engine; a cache never serves two engines.
        max_entries: decisions kept.
        max_age_s: at most `MAX_AGE_S`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine_label: str,
        *,
        max_entries: int = MAX_ENTRIES,
        max_age_s: float = MAX_AGE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bundle = bundle
        self._identity = (bundle.digest, engine_label)
        self._max_entries = max_entries
        self._max_age_s = min(max_age_s, MAX_AGE_S)
        self._clock = clock
        self._entries: OrderedDict[Hashable, tuple[float, Decision]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def key(self, document: Mapping[str, Any], enforceable: Enforceable) -> Hashable | None:
        """What the decision about `document` depends on, or None where it must not be cached."""
        protocol, phase = document["protocol"], document["phase"]
        if "approval" in document or not self._bundle.cacheable(protocol, phase):
            return None
        return (*self._identity, protocol, phase, enforceable, self._bundle.projection(protocol).key(document))

    def get(self, key: Hashable) -> Decision | None:
        """The kept decision, unless it is too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        kept_at, decision = entry
        if self._clock() - kept_at >= self._max_age_s:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return decision

    def until_ns(self, key: Hashable) -> int:
        """When the kept decision will be too old, in nanoseconds of this cache's clock; 0 when none is kept."""
        entry = self._entries.get(key)
        return 0 if entry is None else int((entry[0] + self._max_age_s) * 1e9)

    def put(self, key: Hashable, decision: Decision) -> None:
        """Keep a decision if it is one that may be kept."""
        if decision.cause is not None or decision.effect == "require_approval":
            return
        self._entries[key] = (self._clock(), decision)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
