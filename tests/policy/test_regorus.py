"""The evaluator pool: deadlines, deaths, respawn, suspension, quarantine, closing."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.errors import PolicyError
from gateway.policy.bundle import Bundle
from gateway.policy.engine import PolicyFailure
from gateway.policy.process import Evaluator
from gateway.policy.regorus import QUARANTINE_KILLS, REGORUS_VERSION, SUBJECT_KILLS, SUSPENSION_S, Regorus
from gateway.testing.policy import make_document, raw_bundle
from gateway.testing.processes import pause_process, resume_process

BOMBS = (
    "f(n) := f(n - 1)",
    'decision := f(1) if input.bomb == "stack"',
    "x0 := input.context.now_ns",
    *(f"x{n} := x{n - 1} * x{n - 1}" for n in range(1, 30)),  # the numbers double their length: no timer looks into that
    'decision := x29 if input.bomb == "hang"',
    'decision := upper(1) if input.bomb == "error"',
    'decision := "fine" if not input.bomb',
)


@asynccontextmanager
async def running(bundle: Bundle, **settings) -> AsyncIterator[Regorus]:
    engine = Regorus(bundle, **settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.aclose()


async def failure_of(engine: Regorus, subject: str, **members) -> str:
    with pytest.raises(PolicyFailure) as caught:
        await engine.evaluate(make_document(**members), subject_key=subject)
    return caught.value.kind


async def until(condition, deadline_s: float = 10.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 -- the condition is a process that ends
            await asyncio.sleep(0.005)


async def test_answers_and_errors_leave_the_evaluator_alive() -> None:
    async with running(raw_bundle(*BOMBS), evaluators=1) as engine:
        (evaluator,) = engine._all
        assert await engine.evaluate(make_document(), subject_key="a") == "fine"
        assert await failure_of(engine, "a", bomb="error") == "error"
        assert await failure_of(engine, "a", bomb="other") == "undefined"
        assert await engine.evaluate(make_document(), subject_key="a") == "fine"
        assert engine._all == {evaluator}


async def test_a_dead_evaluator_is_replaced() -> None:
    async with running(raw_bundle(*BOMBS), evaluators=1) as engine:
        (first,) = engine._all
        assert await failure_of(engine, "a", bomb="stack") in {"died", "deadline"}
        await until(lambda: engine._all and first not in engine._all)
        assert await engine.evaluate(make_document(), subject_key="b") == "fine"
        with pytest.raises(ProcessLookupError):
            os.kill(first.pid, 0)


async def test_a_hanging_evaluator_is_killed_at_the_deadline_and_others_answer_meanwhile() -> None:
    async with running(raw_bundle(*BOMBS), evaluators=2, deadline_s=0.4) as engine:
        hanging = asyncio.ensure_future(failure_of(engine, "a", bomb="hang"))
        await asyncio.sleep(0)
        answers = [await engine.evaluate(make_document(), subject_key="b") for _ in range(20)]
        assert set(answers) == {"fine"}
        assert not hanging.done()
        assert await hanging in {"deadline", "died"}


def read_used_s(evaluator: Evaluator) -> float:
    """Processor time of an evaluator so far."""
    return time.clock_gettime(~evaluator.pid << 3 | 2)


@asynccontextmanager
async def other_deadline_passed(engine: Regorus) -> AsyncIterator[None]:
    """Ends after an evaluation that spins was killed, which takes longer than the deadline of any that was asked before."""
    spinning = asyncio.ensure_future(failure_of(engine, "mallory", bomb="hang"))
    yield
    assert await spinning == "deadline"


async def test_an_evaluator_without_a_processor_is_waited_for_while_one_that_spins_is_killed() -> None:
    async with running(raw_bundle(*BOMBS), evaluators=2, deadline_s=0.3, wall_s=120, wait_s=120) as engine:
        waiting = engine._idle[-1]
        pause_process(waiting.pid)
        answer = asyncio.ensure_future(engine.evaluate(make_document(), subject_key="ann"))
        await asyncio.sleep(0)
        async with other_deadline_passed(engine):
            pass
        assert waiting.is_alive
        assert not answer.done()
        resume_process(waiting.pid)
        assert await answer == "fine"
        assert list(engine._kills_by_subject) == ["mallory"]


async def test_a_burst_waits_its_turn_for_longer_than_the_deadline() -> None:
    async with running(raw_bundle(*BOMBS), evaluators=2, deadline_s=0.3, wall_s=120, wait_s=120) as engine:
        evaluator = engine._idle[0]
        pause_process(evaluator.pid)
        spinning = asyncio.ensure_future(failure_of(engine, "mallory", bomb="hang"))
        await asyncio.sleep(0)
        burst = [asyncio.ensure_future(engine.evaluate(make_document(), subject_key=f"s{number}")) for number in range(16)]
        assert await spinning == "deadline"
        resume_process(evaluator.pid)
        assert await asyncio.gather(*burst) == ["fine"] * 16
        assert list(engine._kills_by_subject) == ["mallory"]


async def test_an_evaluation_that_lost_its_processor_on_the_way_is_begun_anew() -> None:
    """The engine's timer reads the wall clock, so it runs out in the stopped process; the evaluation is not to blame."""
    busy_s = 0.05
    rules = (*BOMBS, 'decision := count([1 | some a in input.n; some b in input.n; a + b < 0]) if input.bomb == "busy"')
    async with running(raw_bundle(*rules), evaluators=2, deadline_s=2.0, wall_s=120, wait_s=120) as engine:
        evaluator = engine._idle[-1]
        used_s = read_used_s(evaluator)
        document = make_document(bomb="busy", n=list(range(500)))
        answer = asyncio.ensure_future(engine.evaluate(document, subject_key="ann"))
        await until(lambda: read_used_s(evaluator) - used_s > busy_s)
        pause_process(evaluator.pid)
        assert not answer.done(), "the rule must last longer, or the test shows nothing"
        async with other_deadline_passed(engine):
            pass
        resume_process(evaluator.pid)
        assert await answer == 0
        assert evaluator.is_alive


async def test_nobody_is_blamed_for_an_evaluator_that_did_not_get_to_run() -> None:
    async with running(raw_bundle(*BOMBS), evaluators=1, deadline_s=0.3, wall_s=0.3) as engine:
        (evaluator,) = engine._all
        pause_process(evaluator.pid)
        with pytest.raises(PolicyFailure, match="the host is busy") as caught:
            await engine.evaluate(make_document(), subject_key="ann")
        assert caught.value.kind == "deadline"
        assert evaluator.was_starved
        assert engine._kills_by_subject == {}
        await until(lambda: engine._all and evaluator not in engine._all)
        assert await engine.evaluate(make_document(), subject_key="ann") == "fine"


async def test_who_waits_longer_than_the_bound_is_told_so_and_blamed_for_nothing() -> None:
    async with running(raw_bundle(*BOMBS), evaluators=1, wall_s=120, wait_s=0.1) as engine:
        (evaluator,) = engine._all
        pause_process(evaluator.pid)
        first = asyncio.ensure_future(engine.evaluate(make_document(), subject_key="ann"))
        await asyncio.sleep(0)
        with pytest.raises(PolicyFailure, match=r"no evaluator came free within 0\.1 s") as caught:
            await engine.evaluate(make_document(), subject_key="bob")
        assert caught.value.kind == "busy"
        resume_process(evaluator.pid)
        assert await first == "fine"
        assert await engine.evaluate(make_document(), subject_key="bob") == "fine"
        assert engine._kills_by_subject == {}


async def test_a_subject_whose_inputs_end_two_evaluators_is_suspended_for_a_while() -> None:
    now = [1000.0]
    alarms: list[str] = []
    async with running(raw_bundle(*BOMBS), evaluators=2, clock=lambda: now[0], on_alarm=alarms.append) as engine:
        for _ in range(SUBJECT_KILLS):
            assert await failure_of(engine, "mallory", bomb="stack") in {"died", "deadline"}
        assert await failure_of(engine, "mallory") == "suspended"
        assert engine.standing("mallory").kind == "suspended"
        assert engine.standing("ann") is None
        assert await engine.evaluate(make_document(), subject_key="ann") == "fine"
        assert len(alarms) == 1
        assert not engine.is_quarantined
        now[0] += SUSPENSION_S
        assert engine.standing("mallory") is None


async def test_one_subject_cannot_quarantine_the_bundle_even_in_parallel() -> None:
    async with running(raw_bundle(*BOMBS), evaluators=4) as engine:
        kinds = await asyncio.gather(*(failure_of(engine, "mallory", bomb="stack") for _ in range(8)))
        assert set(kinds) <= {"died", "deadline", "suspended"}
        assert not engine.is_quarantined


async def test_several_subjects_ending_evaluators_within_a_minute_quarantine_the_bundle() -> None:
    alarms: list[str] = []
    async with running(raw_bundle(*BOMBS), evaluators=2, on_alarm=alarms.append) as engine:
        for number in range(QUARANTINE_KILLS):
            assert await failure_of(engine, f"s{number}", bomb="stack") in {"died", "deadline"}
        assert engine.is_quarantined
        assert await failure_of(engine, "ann") == "quarantined"
        assert any("quarantined" in alarm for alarm in alarms)


async def test_kills_spread_over_more_than_a_minute_do_not_quarantine() -> None:
    now = [0.0]
    async with running(raw_bundle(*BOMBS), evaluators=2, clock=lambda: now[0]) as engine:
        for number in range(QUARANTINE_KILLS + 1):
            await failure_of(engine, f"s{number}", bomb="stack")
            now[0] += 31
        assert not engine.is_quarantined


async def test_more_questions_than_evaluators_are_all_answered() -> None:
    async with running(raw_bundle(*BOMBS), evaluators=2) as engine:
        answers = await asyncio.gather(*(engine.evaluate(make_document(), subject_key="a") for _ in range(200)))
        assert answers == ["fine"] * 200


async def test_a_question_given_up_returns_its_evaluator() -> None:
    async with running(raw_bundle(*BOMBS), evaluators=1) as engine:
        for _ in range(20):
            task = asyncio.ensure_future(engine.evaluate(make_document(), subject_key="a"))
            await asyncio.sleep(0)
            task.cancel()
        assert await engine.evaluate(make_document(), subject_key="a") == "fine"
        await until(lambda: len(engine._idle) == 1)


async def test_a_large_input_passes_and_an_input_that_is_no_json_does_not() -> None:
    async with running(raw_bundle(*BOMBS), evaluators=1) as engine:
        assert await engine.evaluate(make_document(big="x" * (3 << 20)), subject_key="a") == "fine"
        assert await failure_of(engine, "a", big=object()) == "input"
        assert await engine.evaluate(make_document(), subject_key="a") == "fine"


async def test_an_evaluator_ended_from_outside_is_replaced_before_anyone_asks() -> None:
    async with running(raw_bundle(*BOMBS), evaluators=1) as engine:
        (first,) = engine._all
        first._process.kill()
        await until(lambda: engine._all and first not in engine._all)
        assert await engine.evaluate(make_document(), subject_key="a") == "fine"
        assert engine.standing("a") is None


async def test_a_bundle_that_does_not_compile_is_refused_at_start() -> None:
    with pytest.raises(PolicyError, match=r"main\.rego"):
        async with running(raw_bundle("decision := ")):
            pass


async def test_closing_ends_every_process() -> None:
    async with running(raw_bundle(*BOMBS), evaluators=3) as engine:
        pids = [evaluator.pid for evaluator in engine._all]
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


async def test_an_evaluator_hanging_in_a_builtin_ends_with_its_gateway() -> None:
    async with running(raw_bundle(*BOMBS), evaluators=1, deadline_s=30) as engine:
        (evaluator,) = engine._all
        task = asyncio.ensure_future(engine.evaluate(make_document(bomb="hang"), subject_key="a"))
        await asyncio.sleep(0)
        evaluator._loop.remove_reader(evaluator._channel)
        evaluator._channel.shutdown(2)
        await until(lambda: evaluator._process.poll() is not None)
        task.cancel()


async def test_the_evaluator_inherits_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEALGATE_SECRET", "hunter2")
    async with running(raw_bundle(*BOMBS), evaluators=1) as engine:
        (evaluator,) = engine._all
        assert b"hunter2" not in Path(f"/proc/{evaluator.pid}/environ").read_bytes()  # noqa: ASYNC240 -- procfs


def test_the_version_is_the_pinned_one() -> None:
    manifest = Path(__file__).resolve().parents[2] / "native/kernel/policy/Cargo.toml"
    assert re.findall(r'regorus = \{ version = "=([^"]+)"', manifest.read_text()) == [REGORUS_VERSION]
