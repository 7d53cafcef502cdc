"""The book of open actions: every action ends once, with what it amounted to."""

import pytest

from gateway.action import Action
from gateway.decision import Decision
from gateway.pipeline import Ruling
from gateway.protocols.postgres.events import ActionEnd, CommandComplete, Execute, Parse, Query, ResultEnd, ServerError
from gateway.serve.postgres.outcomes import OpenAction, OpenActions


def make_action(number, event, effects=("read",)):
    action = Action("postgres", "request", "postgres.query", frozenset(effects), {})
    return OpenAction(Ruling(f"d-{number}", number, action, Decision("allow"), "a"), event, {})


def result(number, **changes):
    fields = {"action": number, "rows": 2, "bytes_out": 20, "masked": {"r": 2}, "detected": {}, "record": b"{}\n"}
    return ResultEnd(**(fields | changes))


def test_a_simple_query_sums_up_its_statements():
    book = OpenActions(10)
    book.add(make_action(1, Query(1, "select 1; select 2")))
    book.count(result(1))
    book.tag(CommandComplete(1, "SELECT 2"))
    book.count(result(1, masked={"r": 1, "s": 4}, record_truncated=True))
    book.tag(CommandComplete(1, "SELECT 2"))
    ruling, outcome = book.end(ActionEnd(1, "completed"))
    assert ruling.decision_id == "d-1"
    assert (outcome.status, outcome.tag, outcome.rows, outcome.bytes_out) == ("completed", "SELECT 2; SELECT 2", 4, 40)
    assert (outcome.masked, outcome.transcript, outcome.transcript_truncated) == ({"r": 3, "s": 4}, b"{}\n{}\n", True)
    assert book.end(ActionEnd(1, "completed")) is None


@pytest.mark.parametrize(
    ("ended", "status"), [("completed", "completed"), ("suspended", "completed"), ("failed", "failed"), ("skipped", "cancelled")]
)
def test_how_the_server_ended_it(ended, status):
    book = OpenActions(10)
    book.add(make_action(1, Execute(1, "", "", "select 1")))
    if ended == "failed":
        book.note_error(ServerError({"C": "22012"}, 1))
    _, outcome = book.end(ActionEnd(1, ended))
    assert outcome.status == status
    assert outcome.error_code == ("22012" if ended == "failed" else None)


def test_withheld_results_are_said_to_be():
    book = OpenActions(10)
    book.add(make_action(1, Query(1, "select 1")))
    book.count(result(1, withheld="row_limit"))
    assert book.end(ActionEnd(1, "completed"))[1].status == "withheld"


def test_results_that_were_cut_say_by_which_rule():
    book = OpenActions(10)
    book.add(make_action(1, Query(1, "select 1; select 2")))
    for _ in range(2):
        book.count(result(1, withheld="cut", rows_withheld=3, cut_by="r.limit"))
    outcome = book.end(ActionEnd(1, "completed"))[1]
    assert (outcome.status, outcome.rows, outcome.rows_cut, outcome.cut_by) == ("completed", 4, 6, "r.limit")


def test_a_prepared_statement_is_found_for_later_descriptions():
    book = OpenActions(2)
    book.add(make_action(1, Parse(1, "a", "select 1")))
    book.end(ActionEnd(1, "completed"))
    assert book.find(1) is not None
    book.add(make_action(2, Parse(2, "a", "select 2")))
    assert book.find(1) is not None  # its description may still be on the way
    book.end(ActionEnd(2, "completed"))
    assert book.find(1) is None
    assert book.find(2) is not None


def test_a_statement_that_failed_to_parse_is_not_remembered():
    book = OpenActions(2)
    book.add(make_action(1, Parse(1, "a", "selec")))
    book.end(ActionEnd(1, "failed"))
    assert book.find(1) is None


def test_the_oldest_statement_is_forgotten_beyond_the_limit():
    book = OpenActions(2)
    for number, name in ((1, "a"), (2, "b"), (3, "c")):
        book.add(make_action(number, Parse(number, name, "select 1")))
        book.end(ActionEnd(number, "completed"))
    assert [book.find(number) is not None for number in (1, 2, 3)] == [False, True, True]


@pytest.mark.parametrize(
    ("event", "effects", "status"),
    [
        (Query(1, "select 1"), ("read",), "failed"),
        (Query(1, "delete from t"), ("write",), "unknown"),
        (Parse(1, "", "delete from t"), ("write",), "failed"),
    ],
)
def test_what_is_open_when_the_server_leaves(event, effects, status):
    book = OpenActions(10)
    book.add(make_action(1, event, effects))
    (action,) = book.drain()
    outcome = action.break_off("08006")
    assert (outcome.status, outcome.error_code) == (status, "08006")
    assert list(book.drain()) == []


def test_replies_to_nothing_known_are_ignored():
    book = OpenActions(10)
    book.count(result(9))
    book.tag(CommandComplete(None, "SELECT 1"))
    book.note_error(ServerError({"C": "57P01"}, None))
    assert book.find(None) is None
    assert book.find(9) is None
