"""What sessions and runs have used up."""

import pytest

from gateway.action import Subject
from gateway.decision import Decision, Obligation
from gateway.pipeline import Ruling
from gateway.serve.budgets import MAX_RATE, MAX_RUNS, Budgets, UncountableError


def subject(run_id="r1", name="corp/agent-7"):
    return Subject(id=name, kind="agent", issuer="corp", sub="agent-7", run_id=run_id)


def bound(kind, **params):
    return [Obligation("test.rule", kind, params)]


def deliver(session, rows, limit):
    session.count_rows(Ruling("d1", 1, None, Decision("allow", obligations=tuple(limit)), "b"), rows)


@pytest.fixture
def budgets():
    return Budgets(clock_s=lambda: 0.0)


def test_rows_count_over_the_sessions_of_a_run(budgets):
    limit = bound("volume_limit", rows=10, per="run")
    first, second = budgets.open(subject()), budgets.open(subject())
    deliver(first, 7, limit)
    assert second.find_row_limit(limit)[0] == 3
    deliver(second, 3, limit)
    assert first.charge(limit).rule == "test.rule"
    assert budgets.open(subject("r2")).charge(limit) is None


def test_rows_count_within_a_session(budgets):
    limit = bound("volume_limit", rows=10, per="session")
    deliver(budgets.open(subject()), 10, limit)
    assert budgets.open(subject()).find_row_limit(limit)[0] == 10


def test_without_a_run_a_session_is_one(budgets):
    limit = bound("volume_limit", rows=1, per="run")
    deliver(budgets.open(subject(None)), 1, limit)
    assert budgets.open(subject(None)).charge(limit) is None


def test_inferences_are_counted_until_none_is_left(budgets):
    session = budgets.open(subject())
    limit = bound("inference_budget", statements=2, per="run")
    assert [session.charge(limit) is None for _ in range(4)] == [True, True, False, False]
    assert session.charge([]) is None


def test_a_rate_counts_the_statements_of_a_text(budgets):
    session = budgets.open(subject())
    limit = bound("rate_limit", statements=10, per_s=60)
    assert [session.charge(limit, statements=number) is None for number in (4, 11, 4, 3, 2, 1)] == [
        True,
        False,
        True,
        False,
        True,
        False,
    ]


def test_a_statement_beyond_one_bound_counts_for_none(budgets):
    session = budgets.open(subject())
    both = bound("inference_budget", statements=5, per="run") + bound("rate_limit", statements=0, per_s=60)
    assert session.charge(both) is not None
    assert [session.charge(bound("inference_budget", statements=1, per="run")) is None for _ in range(2)] == [True, False]


def test_a_rate_recovers():
    now = [0.0]
    session = Budgets(clock_s=lambda: now[0]).open(subject())
    limit = bound("rate_limit", statements=2, per_s=60)
    assert [session.charge(limit) is None for _ in range(3)] == [True, True, False]
    now[0] = 60.0
    assert session.charge(limit) is None


@pytest.mark.parametrize(
    "limit",
    [
        bound("volume_limit", rows=1),
        bound("volume_limit", per="run"),
        bound("volume_limit", rows=-1, per="run"),
        bound("inference_budget", statements=True, per="run"),
        bound("rate_limit", statements=MAX_RATE + 1, per_s=1),
    ],
)
def test_what_cannot_be_counted_is_an_error(budgets, limit):
    with pytest.raises(UncountableError):
        budgets.open(subject()).charge(limit)


def test_memory_is_bounded(budgets):
    limit = bound("volume_limit", rows=1, per="run")
    deliver(budgets.open(subject("first")), 1, limit)
    for number in range(MAX_RUNS):
        budgets.open(subject(f"r{number}"))
    assert budgets.open(subject("first")).charge(limit) is None


def test_a_session_without_a_run_leaves_nothing(budgets):
    session = budgets.open(subject(None))
    assert session.charge(bound("rate_limit", statements=1, per_s=60)) is None
    assert session.charge(bound("rate_limit", statements=1, per_s=60)).rule == "test.rule"
    assert len(budgets) == 0
    budgets.open(subject())
    assert len(budgets) == 1
