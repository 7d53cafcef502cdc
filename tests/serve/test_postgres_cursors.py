"""A row limit over all FETCHes of a cursor."""

from gateway.action import Action
from gateway.decision import Decision
from gateway.pipeline import Ruling
from gateway.protocols.postgres.enforce import RowLimit
from gateway.protocols.postgres.named import MAX_NAMES, Definition, Ended
from gateway.serve.postgres.cursors import CursorRows


def fetch(*names, verb="fetch"):
    named = {f"cursor {name}": "declare" for name in names} | {"prepared p": "select 1"}
    return Action(
        "postgres", "request", "postgres.query", frozenset({"read"}), {"statements": [{"verb": verb}]}, {"named": named}
    )


def ruling(action):
    return Ruling("d", 1, action, Decision("allow"), "a")


def declare(name):
    return Definition("cursor", name, {"text": "declare"})


def test_what_a_cursor_gave_is_taken_off():
    rows = CursorRows()
    rows.count(ruling(fetch("a")), 4)
    rows.count(ruling(fetch("a")), 3)
    assert rows.tighten(RowLimit(10, "r"), fetch("a"), 0) == (RowLimit(3, "r"), True)
    assert rows.tighten(RowLimit(5), fetch("a"), 0) == (RowLimit(0), True)
    assert rows.tighten(RowLimit(10), fetch("b"), 0) == (RowLimit(10), True)
    assert rows.tighten(RowLimit(10), fetch("b", "a"), 0) == (RowLimit(3), True)


def test_other_statements_have_the_whole_limit():
    rows = CursorRows()
    rows.count(ruling(fetch("a")), 4)
    assert rows.tighten(RowLimit(10), fetch("a", verb="select"), 0) == (RowLimit(10), False)
    assert rows.tighten(RowLimit(10), fetch("a"), 1) == (RowLimit(10), False)
    assert rows.tighten(RowLimit(10), fetch(), 0) == (RowLimit(10), False)
    assert rows.tighten(None, fetch("a"), 0) == (None, False)


def test_a_new_cursor_of_the_name_begins_at_none():
    rows = CursorRows()
    rows.count(ruling(fetch("a")), 4)
    rows.begin(1, [Ended("cursor", "a"), declare("b")])
    assert rows.tighten(RowLimit(10), fetch("a"), 0) == (RowLimit(6), True)
    rows.begin(2, [declare("a")])
    assert rows.tighten(RowLimit(10), fetch("a"), 0) == (RowLimit(10), True)
    rows.count(ruling(fetch("a")), 3)
    rows.end(2, is_completed=True)
    assert rows.tighten(RowLimit(10), fetch("a"), 0) == (RowLimit(7), True)


def test_a_declare_that_fails_leaves_the_cursor_what_it_gave():
    rows = CursorRows()
    rows.count(ruling(fetch("a")), 4)
    rows.begin(1, [declare("a")])
    rows.count(ruling(fetch("a")), 2)
    rows.end(1, is_completed=False)
    rows.end(2, is_completed=False)
    assert rows.tighten(RowLimit(10), fetch("a"), 0) == (RowLimit(4), True)


def test_no_more_names_are_kept_than_a_session_may_have():
    rows = CursorRows()
    for number in range(MAX_NAMES + 1):
        rows.count(ruling(fetch(f"c{number}")), 1)
    assert rows.tighten(RowLimit(10), fetch("c0"), 0)[0] == RowLimit(10)
    assert rows.tighten(RowLimit(10), fetch("c1"), 0)[0] == RowLimit(9)
    rows.count(None, 3)
