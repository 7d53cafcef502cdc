"""Masks of a decision compiled for one response, and the masker that carries them out on its body.

Selectors are {"field": NAME}, {"json_path": "$.a[*].b"}, {"header": NAME} and {"detector": NAME} (design section 4). Whatever cannot be
carried out on this kind of body is an error, and the host withholds the response.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sealgate_native.mask import Detectors

from gateway.decision import Mask, pick_strategy
from gateway.masking.json_stream import JsonMasker, JsonMasks, fold
from gateway.masking.plan import UnenforceableMaskError
from gateway.masking.scrub import Scrubber
from gateway.masking.streams import BodyMasker, EventMasker, GrpcMasker, LineMasker, PlainMasker, TextMasker
from gateway.masking.values import CellMasker, ValueMasker
from gateway.paths import Step, parse_path

_STRUCTURED: Final = frozenset({"json", "ndjson", "events"})
_IN_UNITS: Final = frozenset({"grpc", "events", "ndjson"})
"""Scrubbed message by message: a stream that is held back would keep a complete event from leaving."""

_JSON_STARTS: Final = frozenset(b'{["')


@dataclass(frozen=True, slots=True)
class BodyPlan:
    """What to do with one response, delivered or recorded."""

    members: JsonMasks = field(default_factory=JsonMasks)
    headers: Mapping[str, Mask] = field(default_factory=dict)
    detectors: tuple[str, ...] = ()


def compile_body_plan(
    masks: Sequence[Mask], target: str, *, known_detectors: Iterable[str], always: Iterable[str] = ()
) -> BodyPlan:
    """The plan for one target, "delivered" or "record".

    Args:
        masks: every mask that binds this response: the request decision's and the response decision's.
        target: which of both it is for.
        known_detectors: detectors and patterns that exist.
        always: detectors the configuration runs over every result.

    Raises:
        UnenforceableMaskError: a selector that no body can be read with.
    """
    known, detectors = frozenset(known_detectors), set(always)
    names: dict[str, list[Mask]] = {}
    paths: dict[tuple[Step, ...], list[Mask]] = {}
    headers: dict[str, list[Mask]] = {}
    for mask in masks:
        if mask.apply not in {target, "both"}:
            continue
        kind, wanted = _only_member(mask)
        if kind == "detector":
            if wanted not in known or mask.strategy != "redact":
                raise _refuse(mask, "a finding of a known detector can be redacted, and nothing else")
            detectors.add(str(wanted))
        elif kind == "field":
            names.setdefault(fold(str(wanted)), []).append(mask)
        elif kind == "json_path":
            paths.setdefault(_parse(mask, str(wanted)), []).append(mask)
        elif kind == "header":
            headers.setdefault(str(wanted).lower(), []).append(mask)
        else:
            raise _refuse(mask, f"a response has no {kind!r} to select by")
    return BodyPlan(
        JsonMasks(
            {name: pick_strategy(tuple(met)) for name, met in names.items()},
            [(steps, pick_strategy(tuple(met))) for steps, met in paths.items()],
        ),
        {name: pick_strategy(tuple(met)) for name, met in headers.items()},
        tuple(sorted(detectors)),
    )


def _only_member(mask: Mask) -> tuple[str, Any]:
    if len(mask.selector) != 1:
        raise _refuse(mask, "its selector needs exactly one member")
    return next(iter(mask.selector.items()))


def _parse(mask: Mask, path: str) -> tuple[Step, ...]:
    try:
        return parse_path(path)
    except ValueError as error:
        raise _refuse(mask, str(error)) from error


def _refuse(mask: Mask, why: str) -> UnenforceableMaskError:
    return UnenforceableMaskError(
        f"a mask of rule {mask.rule} cannot be carried out on this response",
        why=why,
        fix="correct the rule's selector or strategy",
    )


class MaskedBody:
    """The masker of one body with what it found. Secrets are taken out first, then values are masked.

    Args:
        kind: what the body is read as (`gateway.protocols.http.events.BodyKind`).
        plan: what to mask.
        detectors: compiled from `plan.detectors`.
        secrets: the gateway's own credentials.

    Raises:
        UnenforceableMaskError: the plan names members, and this kind of body has none that can be told apart.
    """

    def __init__(
        self, kind: str, plan: BodyPlan, detectors: Detectors | None, cells: CellMasker, secrets: Sequence[bytes]
    ) -> None:
        self.masked: Counter[str] = Counter()
        self._plan = plan
        self._cells = cells
        keeps_length = kind in {"binary", "grpc"}
        self._scrubber = Scrubber(secrets, keeps_length=keeps_length)
        self.values = ValueMasker(detectors, Scrubber(secrets))
        self._kind = kind
        self._detectors = detectors
        self._masker: BodyMasker | None = None
        if kind == "grpc":
            self._masker = GrpcMasker(self.values, self._scrubber)
        elif kind == "binary":
            self._masker = PlainMasker()

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes, their content coding undone; gives what is settled."""
        if self._kind in _IN_UNITS:
            return self._open().feed(data)
        settled = self._scrubber.feed(data)
        return self._open().feed(settled) if settled else b""

    def finish(self) -> bytes:
        """Ends the body; gives the rest."""
        if self._kind in _IN_UNITS:
            return self._open().finish()
        rest = self._scrubber.finish()
        masker = self._open()
        return (masker.feed(rest) if rest else b"") + masker.finish()

    @property
    def detected(self) -> Counter[str]:
        """Findings by detector, secrets among them as `credential`."""
        found = Counter(self.values.detected)
        if self._scrubber.count:
            found["credential"] += self._scrubber.count
        return found

    def _open(self) -> BodyMasker:
        if self._masker is None:
            self._masker = self._choose()
        return self._masker

    def _choose(self) -> BodyMasker:
        if self._kind == "events":
            return EventMasker(self._make_member_masker, self.values, self._scrubber)
        if self._kind == "ndjson":
            return LineMasker(self._make_member_masker, self._scrubber)
        if self._kind == "json":
            return _Sniffer(self._make_member_masker)
        return TextMasker(self.values, self._detectors)

    def _make_member_masker(self, first: bytes) -> BodyMasker:
        if first.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] and first.lstrip(b" \t\r\n\xef\xbb\xbf")[0] in _JSON_STARTS:
            return JsonMasker(self._plan.members, self.values, self._cells, self.masked)
        return TextMasker(self.values, self._detectors)


class _Sniffer:
    """Waits for the first character that says whether a JSON body is JSON at all; what is not is masked as text."""

    def __init__(self, make: Callable[[bytes], BodyMasker]) -> None:
        self._make = make
        self._held = b""
        self._masker: BodyMasker | None = None

    def feed(self, data: bytes) -> bytes:
        if self._masker is None:
            self._held += data
            if not self._held.strip(b" \t\r\n\xef\xbb\xbf"):
                return b""
            self._masker = self._make(self._held)
            data, self._held = self._held, b""
        return self._masker.feed(data)

    def finish(self) -> bytes:
        return self._held if self._masker is None else self._masker.finish()


def check_plan_fits(plan: BodyPlan, kind: str) -> None:
    """Refuse masks by member on a body whose members nobody can tell apart. Raises UnenforceableMaskError."""
    if not (plan.members.names or plan.members.paths) or kind in _STRUCTURED or kind == "none":
        return
    masks = [*plan.members.names.values(), *(mask for _, mask in plan.members.paths)]
    raise _refuse(masks[0], f"a body of kind {kind} has no members that can be told apart")
