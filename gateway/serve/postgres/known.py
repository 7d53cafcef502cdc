"""The hot path of a PostgreSQL session: what it has learned it answers in the native kernel (decision 7).

After an action went the ordinary way, the kernel is taught what was decided and recorded. A later message that differs from it only
in constants is then let through, recorded and answered without Python: same decision, same records. This module says when that may
be, and takes an action back when it turns out to be anything but ordinary.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from sealgate_native.mask import Detectors
from sealgate_native.postgres import Session

from gateway.decision import Obligation
from gateway.lessons import Recorded, cut_input, cut_material, cut_record
from gateway.parts import DecisionPoint
from gateway.pipeline import PipelineSession, Ruling
from gateway.protocols.postgres import enforce
from gateway.protocols.postgres.events import Execute, JudgedEvent, Parse, Query
from gateway.protocols.postgres.parse import parse_client_event
from gateway.protocols.postgres.rewritten import REFERRING
from gateway.serve.budgets import SessionBudget
from gateway.serve.postgres.door import PostgresDoor
from gateway.serve.postgres.lookups import CatalogCache
from gateway.serve.postgres.outcomes import OpenAction

FIRST_LABEL: Final = 1 << 52
"""Actions the kernel let through by itself are labelled from here on (`KNOWN_LABELS`)."""

PAYLOAD: Final = ("postgres", "payload")

CARRIED_OBLIGATIONS: Final = frozenset({"row_limit", "volume_limit", "record", "tag"})
"""Obligations that are part of the record, of a result's plan or of the gate, so that a lesson carries them. Any other is the host's
to keep."""

CLOSED: Final = (0, 0, False)

_KINDS: Final[dict[type, Literal["query", "parse", "execute"]]] = {Query: "query", Parse: "parse", Execute: "execute"}


@dataclass(frozen=True, slots=True)
class _Origin:
    """What an action of a lesson is described with when it is taken back."""

    kind: type[JudgedEvent]
    ruling: Ruling
    facts: Any


class KnownActions:
    """What one session has learned.

    Args:
        kernel: the session's kernel.
        session: the session in the pipeline.
        door: describes actions that are taken back.
        catalog: the connection's snapshots; a lesson belongs to one of them.
        budget: what the session and its run may still do.
        detectors: what texts and parameters are read with before they are recorded; None to learn nothing.
        on_forget: told when what was learned has been given up.
    """

    def __init__(
        self,
        kernel: Session,
        session: PipelineSession,
        door: PostgresDoor,
        catalog: CatalogCache,
        budget: SessionBudget,
        detectors: Detectors | None,
        on_forget: Callable[[], None],
    ) -> None:
        self._kernel = kernel
        self._session = session
        self._door = door
        self._catalog = catalog
        self._budget = budget
        self._on_forget = on_forget
        self._bounds: dict[tuple[str, str], Obligation] = {}
        self._point: DecisionPoint = session.pipeline.decision_point
        self._snapshot: object = None
        self._is_used = detectors is not None
        if detectors is None:
            return
        keeps_transcript = session.settings.transcript in {"head", "full"}
        kernel.set_known(session.recorder.salt, detectors, session.counted, keeps_transcript)

    def open_gate(self) -> tuple[int, int, bool]:
        """The times the kernel may use what it has learned with, and whether effects may pass; `CLOSED` where nothing may.

        Asked before every arrival, so that whatever ends a lesson ends it at once: a changed catalogue, an expired proof of
        identity, a suspended subject, a log that takes no records.
        """
        session = self._session
        if self._snapshot is None or self._door.is_uncertain or self._catalog.is_unsettled:
            return CLOSED
        if self._catalog.current is not self._snapshot:
            self.forget()
            return CLOSED
        recorder, subject = session.recorder, session.subject
        now_ns = session.pipeline.clock_ns()
        may_affect = recorder.is_ready(for_effects=True)
        if (
            not (may_affect or recorder.is_ready(for_effects=False))
            or (subject.expires_ns and now_ns >= subject.expires_ns)
            or not self._point.may_ask(subject.id)
        ):
            return CLOSED
        return now_ns, time.monotonic_ns(), may_affect

    @property
    def until_ns(self) -> int:
        """Monotonic nanoseconds until which the kernel may be left to itself."""
        return 0 if self._door.is_uncertain or self._catalog.is_unsettled else int(self._catalog.until_s * 1e9)

    def forget(self) -> None:
        """Give up what was learned: a silent session needs no memory for it, and it is too old by then."""
        if self._snapshot is not None:
            self._snapshot = None
            self._kernel.forget_lessons()
            self._on_forget()

    def learn(self, event: JudgedEvent, opened: OpenAction) -> None:
        """Teach the kernel what was decided about an event, where it may decide the same again."""
        ruling, kind = opened.ruling, _KINDS.get(type(event))
        recorded, action = ruling.recorded, ruling.action
        if (
            not self._is_used
            or kind is None
            or recorded is None
            or action is None
            or not isinstance(event, Query | Parse | Execute)
        ):
            return
        statements = action.facts.get("statements", ())
        if len(statements) != 1 or statements[0].get("set_vars") or "copy" in statements[0] or self._door.concerns_names(action):
            return
        if REFERRING in statements[0]:
            return  # what it may do follows from what its transaction did before
        if any(item.kind not in CARRIED_OBLIGATIONS for item in ruling.decision.obligations):
            return
        snapshot = self._catalog.current
        if snapshot is None or self._door.snapshot is not snapshot:
            return
        if self._snapshot is not snapshot:
            self._kernel.forget_lessons()
            self._snapshot = snapshot
        origin = _Origin(type(event), replace(ruling, recorded=None), opened.facts)
        lesson = {
            **self._cut(recorded),
            "material": cut_material(recorded.material),
            "is_harmless": ruling.release == "b",
            "hides_texts": enforce.can_quote_sensitive(action),
            "host": origin,
        }
        opened.lesson = self._kernel.learn(kind, event.sql, _list_types(event), lesson)
        for item in ruling.decision.obligations:
            if item.kind == "volume_limit":
                self._bounds[item.rule, str(item.params.get("per"))] = item
                self._kernel.bind_rows(self._budget.bind_rows(self._bounds.values()))

    def cut_rows(self, opened: OpenAction, ruling: Ruling) -> tuple[int, dict[str, Any]] | None:
        """What the kernel is to learn of the decision about a result, together with its plan."""
        if opened.lesson is None or ruling.recorded is None:
            return None
        if any(item.kind not in CARRIED_OBLIGATIONS for item in ruling.decision.obligations):
            return None
        return opened.lesson, self._cut(ruling.recorded)

    def _cut(self, recorded: Recorded) -> dict[str, Any]:
        return {
            "leaf": cut_record(recorded.fields, self._session.id),
            "input": cut_input(recorded.document, PAYLOAD),
            "base": recorded.written,
            "until_mono_ns": recorded.until_mono_ns,
            "until_ns": recorded.until_ns,
        }

    def adopt(self, label: int) -> tuple[OpenAction, bool] | None:
        """Take an action back from the kernel: something about it is the host's to see. Also whether it is still under way."""
        found = self._kernel.adopt(label) if label >= FIRST_LABEL else None
        if found is None:
            return None
        origin: _Origin = found["host"]
        event = _rebuild(origin.kind, found)
        action = self._door.describe_again(event, origin.facts)
        ruling = replace(origin.ruling, decision_id=found["decision_id"], number=label, action=action)
        opened = OpenAction(
            ruling,
            event,
            origin.facts,
            tags=list(found["tags"]),
            rows=found["rows"],
            bytes_out=found["bytes"],
            masked=Counter(found["masked"]),
            detected=Counter(found["detected"]),
            record=[found["record"]] if found["record"] else [],
            is_truncated=found["record_truncated"],
            lesson=found["lesson"],
        )
        return opened, found["is_open"]


def _list_types(event: Query | Parse | Execute) -> tuple[int, ...]:
    """The types an event was decided with: a value of another type is another value, and may run a check."""
    match event:
        case Parse():
            return event.param_oids
        case Execute():
            return tuple(parameter.type_oid for parameter in event.params)
    return ()


def _rebuild(kind: type[JudgedEvent], found: dict[str, Any]) -> JudgedEvent:
    """The event the kernel let through, as it would have reported it."""
    if kind is Query:
        return Query(0, found["sql"])
    if kind is Parse:
        return Parse(0, "", found["sql"])
    report = {
        "kind": "execute",
        "id": 0,
        "portal": "",
        "statement": "",
        "sql": found["sql"],
        "params": found["params"],
        "max_rows": 0,
    }
    event = parse_client_event(report)
    if not isinstance(event, Execute):
        raise TypeError("the kernel gave back another event than it took")
    return event
