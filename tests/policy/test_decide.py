"""The decision point never raises, and keeps only what may be kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.decision import Enforceable
from gateway.policy.bundle import Bundle
from gateway.policy.cache import MAX_AGE_S, DecisionCache
from gateway.policy.decide import DecisionPoint, label
from gateway.policy.engine import PolicyFailure
from gateway.policy.regorus import Regorus
from gateway.testing.policy import EVERYTHING, make_document, raw_bundle


class Scripted:
    """An engine that answers what it is told; counts its questions."""

    name = "scripted"
    version = "1"

    def __init__(self, answer: Any, standing: PolicyFailure | None = None) -> None:
        self.answer = answer
        self.refusal = standing
        self.asked = 0

    def standing(self, subject_key: str) -> PolicyFailure | None:
        return self.refusal

    async def evaluate(self, document: object, *, subject_key: str) -> object:
        self.asked += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...


ALLOW = {"schema": "sealgate.decision/1", "effect": "allow", "reasons": [], "masks": [], "obligations": []}


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (PolicyFailure("deadline", "late"), "policy.deadline"),
        (PolicyFailure("conflict", "two"), "policy.conflict"),
        (RuntimeError("boom"), "policy.error"),
        ({}, "policy.shape"),
        (None, "policy.shape"),
        ([], "policy.shape"),
        ({**ALLOW, "effect": "permit"}, "policy.shape"),
        ({**ALLOW, "schema": "sealgate.decision/2"}, "policy.shape"),
        ({**ALLOW, "reasons": "none"}, "policy.shape"),
        ({**ALLOW, "effect": "require_approval"}, "policy.shape"),
        ({**ALLOW, "effect": "mask"}, "policy.shape"),
        ({**ALLOW, "obligations": [{"rule": "r", "kind": "unheard"}]}, "policy.obligation"),
        (
            {**ALLOW, "effect": "mask", "masks": [{"rule": "r", "selector": {"json_path": "$.a"}, "strategy": "null"}]},
            "policy.mask",
        ),
    ],
)
async def test_every_failure_is_a_block_with_its_cause(small_bundle: Bundle, answer: Any, cause: str) -> None:
    decision = await DecisionPoint(Scripted(answer), small_bundle).decide(make_document(), EVERYTHING)
    assert (decision.effect, decision.cause) == ("block", cause)
    assert decision.engine == "scripted 1"
    assert decision.bundle_digest == small_bundle.digest
    assert decision.duration_ns > 0


@pytest.mark.parametrize("document", [{}, {"subject": None}, {"subject": {"id": "a"}}, [], {"subject": {"id": "a"}, "phase": []}])
async def test_a_document_that_cannot_be_judged_is_a_block(small_bundle: Bundle, document: Any) -> None:
    engine = Scripted(ALLOW)
    cache = DecisionCache(small_bundle, label(engine))
    decision = await DecisionPoint(engine, small_bundle, cache=cache).decide(document, EVERYTHING)
    assert decision.effect == "block" or "protocol" not in document


async def test_cancelling_the_question_is_not_swallowed(small_bundle: Bundle) -> None:
    with pytest.raises(asyncio.CancelledError):
        await DecisionPoint(Scripted(asyncio.CancelledError()), small_bundle).decide(make_document(), EVERYTHING)


class TestCache:
    """Design section 4: the rule of what may be kept."""

    @pytest.fixture
    def now(self) -> list[float]:
        return [0.0]

    @pytest.fixture
    def point(self, small_bundle: Bundle, now: list[float]) -> DecisionPoint:
        engine = Scripted(ALLOW)
        cache = DecisionCache(small_bundle, label(engine), max_entries=3, clock=lambda: now[0])
        return DecisionPoint(engine, small_bundle, cache=cache)

    async def decide(self, point: DecisionPoint, **members: Any) -> bool:
        return (await point.decide(make_document(**members), EVERYTHING)).cached

    async def test_the_same_facts_hit_whatever_the_rest_is(self, point: DecisionPoint) -> None:
        assert not await self.decide(point)
        assert await self.decide(point)
        document = make_document()
        document["context"]["now_ns"] += 1
        document["context"]["session"] = {"id": "another"}
        document["postgres"]["payload"] = {"text": "select 2"}
        assert (await point.decide(document, EVERYTHING)).cached

    @pytest.mark.parametrize(
        "members",
        [
            {"phase": "response"},
            {"protocol": "ssh"},
            {"subject": {"id": "corp/other"}},
            {"action": {"effects": ["write"]}},
            {"resource": {"connection": "other"}},
            {"postgres": {"facts": {"statements": []}}},
            {"postgres": {"facts": {"statements": None}}},
            {"postgres": {"facts": {}}},
            {"postgres": {}},
        ],
    )
    async def test_other_facts_miss(self, point: DecisionPoint, members: dict[str, Any]) -> None:
        await self.decide(point)
        assert not await self.decide(point, **members)

    async def test_absent_and_null_are_different(self, point: DecisionPoint) -> None:
        await self.decide(point, postgres={"facts": {"statements": None}})
        assert not await self.decide(point, postgres={"facts": {}})

    async def test_what_the_asker_can_carry_out_is_part_of_the_key(self, point: DecisionPoint) -> None:
        await self.decide(point)
        narrow = Enforceable(frozenset(), frozenset(), frozenset())
        assert not (await point.decide(make_document(), narrow)).cached

    async def test_an_entry_dies_of_age(self, point: DecisionPoint, now: list[float]) -> None:
        await self.decide(point)
        now[0] = MAX_AGE_S - 0.001
        assert await self.decide(point)
        now[0] = MAX_AGE_S
        assert not await self.decide(point)

    async def test_the_least_recently_used_goes_first(self, point: DecisionPoint) -> None:
        for name in ("a", "b", "c"):
            await self.decide(point, subject={"id": name})
        assert await self.decide(point, subject={"id": "a"})
        assert not await self.decide(point, subject={"id": "d"})
        assert await self.decide(point, subject={"id": "a"})
        assert not await self.decide(point, subject={"id": "b"})

    async def test_a_grant_is_never_answered_from_the_cache(self, point: DecisionPoint) -> None:
        await self.decide(point)
        assert not await self.decide(point, approval={"reviewers": [], "expires_ns": 1})
        assert not await self.decide(point, approval=None)

    async def test_an_exception_that_ends_is_noticed_at_once(self, point: DecisionPoint) -> None:
        await self.decide(point)
        document = make_document()
        document["context"]["now_ns"] = 2_000_000_000_000_000_000
        assert not (await point.decide(document, EVERYTHING)).cached

    @pytest.mark.parametrize(
        "answer",
        [
            PolicyFailure("died", "x"),
            {},
            {
                **ALLOW,
                "effect": "require_approval",
                "approval": {"requirements": [{"rule": "r", "groups": ["g"], "count": 1, "ttl_s": 1, "scope": "action"}]},
            },
        ],
    )
    async def test_failures_and_approvals_are_not_kept(self, point: DecisionPoint, answer: Any) -> None:
        point.engine.answer = answer
        assert not await self.decide(point)
        assert not await self.decide(point)
        assert point.engine.asked == 2

    async def test_a_block_by_policy_is_kept(self, point: DecisionPoint) -> None:
        point.engine.answer = {**ALLOW, "effect": "block"}
        await self.decide(point)
        assert await self.decide(point)

    async def test_a_suspended_subject_gets_nothing_from_the_cache(self, point: DecisionPoint) -> None:
        await self.decide(point)
        point.engine.refusal = PolicyFailure("suspended", "x")
        decision = await point.decide(make_document(), EVERYTHING)
        assert decision.cause == "policy.suspended"
        assert not decision.cached

    async def test_a_protocol_whose_topics_read_payload_is_never_cached(self, make_bundle) -> None:
        bundle = make_bundle({"postgres/t": 'allow contains {"rule": "t", "effects": ["read"]} if input.phase'})
        assert bundle.cacheable("postgres", "request")
        bundle = make_bundle({"ssh/t": "_x := 1"})
        topic = bundle.modules[0]
        assert topic


async def test_the_real_engine_decides(small_bundle: Bundle) -> None:
    engine = Regorus(small_bundle, evaluators=1)
    point = DecisionPoint(engine, small_bundle, cache=DecisionCache(small_bundle, label(engine)))
    await point.start()
    try:
        allowed = await point.decide(make_document(), EVERYTHING)
        again = await point.decide(make_document(), EVERYTHING)
        blocked = await point.decide(make_document(action={"name": "x", "effects": ["read", "define"]}), EVERYTHING)
    finally:
        await point.aclose()
    assert allowed.effect == "allow"
    assert not allowed.cached
    assert again.cached
    assert again.as_record() == allowed.as_record()
    assert blocked.effect == "block"
    assert blocked.cause is None
    assert blocked.lead_reason().rule == "default.deny.define"


async def test_a_bundle_that_answers_nonsense_blocks() -> None:
    bundle = raw_bundle('decision := "allow"')
    point = DecisionPoint(Regorus(bundle, evaluators=1), bundle)
    await point.start()
    try:
        assert (await point.decide(make_document(), EVERYTHING)).cause == "policy.shape"
    finally:
        await point.aclose()
