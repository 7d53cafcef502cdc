"""The decision: what policy said about one action (`sealgate.decision/1`), checked on arrival.

Rego computes the decision; this module only validates its shape, orders mask strategies, checks that what was asked can be
carried out, and may only ever tighten. Whatever is wrong becomes a block with a cause: `fail_closed` is the one place that
makes such a decision (design section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

DECISION_SCHEMA: Final = "sealgate.decision/1"

Effect = Literal["allow", "mask", "require_approval", "block"]
EFFECT_ORDER: Final[tuple[Effect, ...]] = ("allow", "mask", "require_approval", "block")
"""From most to least permissive."""

STRATEGY_ORDER: Final = ("drop", "null", "redact", "tokenize", "hash", "partial")
"""From most to least destructive; where two masks meet on one cell the more destructive wins."""

APPLY: Final = frozenset({"delivered", "record", "both"})

FailureKind = Literal[
    "undefined", "error", "conflict", "panic", "died", "deadline", "busy", "shape", "effect", "obligation", "mask", "phase",
    "no_result", "no_modules", "digest", "suspended", "quarantined", "input",
]  # fmt: skip
"""Why a decision could not be had or used. Each becomes a block with cause `policy.<kind>`."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a decision came out as it did: one rule that spoke."""

    rule: str
    effect: Literal["allow", "deny", "approve", "warn"]
    message: str = ""
    severity: str = "medium"
    controls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mask:
    """One masking instruction. `selector` is a one-member object such as {"index": 3} or {"detector": "payment_card"}."""

    rule: str
    selector: Mapping[str, Any]
    strategy: str
    apply: str = "both"
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One approval requirement: `count` reviewers, each in one of `groups`, within `ttl_s` seconds."""

    rule: str
    groups: tuple[str, ...]
    count: int
    ttl_s: int
    scope: str = "action"


@dataclass(frozen=True, slots=True)
class Obligation:
    """Something the enforcement point must do, or else block."""

    rule: str
    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """A checked decision. `cause` is set only where the enforcement point itself blocked, such as `policy.deadline`.

    `until_mono_ns` (monotonic) and `until_ns` (since the epoch) bound how long the same facts get the same decision: both must lie
    ahead. 0 where a decision must be asked for each time. `failure_msg` and `solution` are what METADATA of the rule that blocks, or
    asks for an approval, says of it and of what can be done about it.
    """

    effect: Effect
    reasons: tuple[Reason, ...] = ()
    masks: tuple[Mask, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    cause: str | None = None
    raw: Mapping[str, Any] | None = None
    engine: str = ""
    bundle_digest: str = ""
    duration_ns: int = 0
    cached: bool = False
    until_mono_ns: int = 0
    until_ns: int = 0
    failure_msg: str | None = None
    solution: str | None = None

    @property
    def is_blocked(self) -> bool:
        """Whether nothing may happen."""
        return self.effect == "block"

    def lead_reason(self) -> Reason:
        """The reason a person should read first: the first deny of a block, the first approve of a held action."""
        wanted = {"block": "deny", "require_approval": "approve"}.get(self.effect)
        ranked = [reason for reason in self.reasons if reason.effect == wanted] or list(self.reasons)
        return ranked[0] if ranked else Reason(self.cause or "default.deny", "deny", "no rule spoke about this action")

    def as_record(self) -> dict[str, Any]:
        """The decision as evidence holds it: what policy said plus what the host added."""
        document: dict[str, Any] = {
            "schema": DECISION_SCHEMA,
            "effect": self.effect,
            "reasons": [
                {"rule": r.rule, "effect": r.effect, "severity": r.severity, "message": r.message, "controls": list(r.controls)}
                for r in self.reasons
            ],
            "masks": [_mask_record(mask) for mask in self.masks],
            "obligations": [{"rule": o.rule, "kind": o.kind, **o.params} for o in self.obligations],
        }
        if self.requirements:
            document["approval"] = {
                "requirements": [
                    {"rule": q.rule, "groups": list(q.groups), "count": q.count, "ttl_s": q.ttl_s, "scope": q.scope}
                    for q in self.requirements
                ]
            }
        return document


@dataclass(frozen=True, slots=True)
class Enforceable:
    """What one protocol can carry out; anything else policy asks for blocks the action."""

    selectors: frozenset[str]
    strategies: frozenset[str]
    obligations: frozenset[str]
    can_hold: bool = True


def fail_closed(kind: FailureKind, message: str, *, rule: str | None = None) -> Decision:
    """The block that stands in for a decision that could not be had or cannot be carried out."""
    cause = f"policy.{kind}"
    return Decision("block", reasons=(Reason(rule or cause, "deny", message, "critical"),), cause=cause)


def check(raw: object, enforceable: Enforceable, *, phase: str = "request") -> Decision:
    """The checked form of what an engine returned; a block with a cause when anything about it is wrong.

    Args:
        raw: the value of `data.sealgate.main.decision`.
        enforceable: what the protocol that asks can carry out.
        phase: in the response phase an approval cannot be asked for any more.
    """
    try:
        decision = _parse(raw)
    except (KeyError, TypeError, ValueError) as error:
        return fail_closed("shape", f"the policy's answer is not a {DECISION_SCHEMA} document ({error})")
    return tighten(decision, enforceable, phase=phase)


def tighten(decision: Decision, enforceable: Enforceable, *, phase: str = "request") -> Decision:
    """The same decision, or a block where it asks for what this protocol cannot carry out."""
    if decision.is_blocked:
        return decision
    if decision.effect == "require_approval" and (phase != "request" or not enforceable.can_hold):
        return _keep_reasons(fail_closed("phase", "an approval was asked for where the action cannot be held any more"), decision)
    for mask in decision.masks:
        selector = next(iter(mask.selector))
        if selector not in enforceable.selectors or mask.strategy not in enforceable.strategies:
            problem = f"rule {mask.rule} asks for mask {mask.strategy} on {selector}, which this protocol cannot carry out"
            return _keep_reasons(fail_closed("mask", problem), decision)
    for obligation in decision.obligations:
        if obligation.kind not in enforceable.obligations:
            problem = f"rule {obligation.rule} sets obligation {obligation.kind}, which this protocol cannot carry out"
            return _keep_reasons(fail_closed("obligation", problem), decision)
    return decision


def pick_strategy(masks: tuple[Mask, ...]) -> Mask:
    """The mask that wins where several meet on one cell; two different partials give redact."""
    ranked = sorted(masks, key=lambda mask: (STRATEGY_ORDER.index(mask.strategy), mask.rule))
    first = ranked[0]
    if first.strategy == "partial" and any(dict(mask.params) != dict(first.params) for mask in ranked):
        return replace(first, strategy="redact", params={})
    return first


def _keep_reasons(block: Decision, decision: Decision) -> Decision:
    return replace(block, reasons=block.reasons + decision.reasons, raw=decision.raw)


def _parse(raw: object) -> Decision:
    document = _object(raw, "decision")
    if document["schema"] != DECISION_SCHEMA:
        raise ValueError(f"schema is {document['schema']!r}")
    effect = document["effect"]
    if effect not in EFFECT_ORDER:
        raise ValueError(f"unknown effect {effect!r}")
    requirements = tuple(
        _requirement(item)
        for item in _list(_object(document.get("approval") or {"requirements": []}, "approval")["requirements"])
    )
    if (effect == "require_approval") and not requirements:
        raise ValueError("require_approval without a requirement")
    masks = tuple(_mask(item) for item in _list(document["masks"]))
    if effect == "mask" and not masks:
        raise ValueError("mask without a mask")
    return Decision(
        effect=effect,
        reasons=tuple(_reason(item) for item in _list(document["reasons"])),
        masks=masks,
        requirements=requirements,
        obligations=tuple(_obligation(item) for item in _list(document["obligations"])),
        raw=document,
    )


def _reason(item: object) -> Reason:
    document = _object(item, "reason")
    if document["effect"] not in {"allow", "deny", "approve", "warn"}:
        raise ValueError(f"unknown reason effect {document['effect']!r}")
    controls = tuple(_text(control, "control") for control in _list(document.get("controls", [])))
    severity = _text(document.get("severity", "medium"), "severity")
    return Reason(
        _text(document["rule"], "rule"), document["effect"], _text(document.get("message", ""), "message"), severity, controls
    )


def _mask(item: object) -> Mask:
    document = _object(item, "mask")
    selector = _object(document["selector"], "selector")
    if not selector:
        raise ValueError("empty selector")
    if document["strategy"] not in STRATEGY_ORDER:
        raise ValueError(f"unknown strategy {document['strategy']!r}")
    apply = document.get("apply", "both")
    if apply not in APPLY:
        raise ValueError(f"unknown apply {apply!r}")
    params = _object(document.get("params", {}), "params")
    normal = {"column": selector} if {"table", "column"} <= selector.keys() else selector
    return Mask(_text(document["rule"], "rule"), normal, document["strategy"], apply, params)


def _requirement(item: object) -> Requirement:
    document = _object(item, "requirement")
    groups = tuple(sorted(_text(group, "group") for group in _list(document["groups"])))
    count, ttl_s = document["count"], document["ttl_s"]
    if not groups or not _is_int(count) or count < 1 or not _is_int(ttl_s) or ttl_s < 1:
        raise ValueError("an approval requirement needs groups, count and ttl_s of at least one")
    return Requirement(_text(document["rule"], "rule"), groups, count, ttl_s, _text(document.get("scope", "action"), "scope"))


def _obligation(item: object) -> Obligation:
    document = dict(_object(item, "obligation"))
    rule, kind = _text(document.pop("rule"), "rule"), _text(document.pop("kind"), "kind")
    return Obligation(rule, kind, document)


def _mask_record(mask: Mask) -> dict[str, Any]:
    record: dict[str, Any] = {"rule": mask.rule, "selector": dict(mask.selector), "strategy": mask.strategy, "apply": mask.apply}
    if mask.params:
        record["params"] = dict(mask.params)
    return record


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} is not an object")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError("a list was expected")
    return list(value)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is not text")
    return value


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
