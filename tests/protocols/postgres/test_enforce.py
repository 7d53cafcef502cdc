import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.action import Action
from gateway.decision import Obligation
from gateway.messages import Refusal
from gateway.protocols.postgres.enforce import (
    MAX_FIELD_CHARS,
    SQLSTATES,
    RowLimit,
    UnenforceableError,
    carry_limit,
    join_bound,
    read_row_limit,
    refuse,
    refuse_login,
)


def make_refusal(**changes):
    fields = {
        "kind": "denied",
        "rule": "postgres.writes.no_unbounded_delete",
        "what": "DELETE blocked by policy",
        "why": "a DELETE needs a WHERE clause",
        "fix": "add a WHERE clause",
        "decision_id": "d-1",
    }
    return Refusal(**(fields | changes))


def test_a_denial_says_what_rule_why_what_to_do_and_the_decision():
    assert refuse(make_refusal()) == {
        "S": "ERROR",
        "V": "ERROR",
        "C": "42501",
        "M": "DELETE blocked by policy",
        "D": "Rule postgres.writes.no_unbounded_delete: A DELETE needs a WHERE clause.",
        "H": "Add a WHERE clause. Decision d-1.",
    }


def test_an_approval_names_ticket_and_when_to_retry():
    fields = refuse(make_refusal(kind="approval", fix="run `sealgate approvals approve t-9`", ticket="t-9", retry_after_s=30))
    assert fields["C"] == "42501"
    assert "t-9" in fields["H"]
    assert "30 s" in fields["H"]


@pytest.mark.parametrize(
    ("kind", "sqlstate"),
    [
        ("denied", "42501"),
        ("approval", "42501"),
        ("evidence", "58030"),
        ("identity", "28000"),
        ("target", "08006"),
        ("protocol", "08P01"),
        ("limit", "54000"),
        ("cancelled", "57014"),
    ],
)
def test_every_kind_has_its_code(kind, sqlstate):
    assert SQLSTATES[kind] == sqlstate
    assert refuse(make_refusal(kind=kind))["C"] == sqlstate


def test_the_end_of_a_session_is_fatal():
    assert refuse(make_refusal(), fatal=True)["S"] == "FATAL"
    assert refuse_login("3D000", "no such connection", decision_id="d-2")["V"] == "FATAL"


def test_empty_parts_are_left_out():
    fields = refuse_login("57P01", "the gateway is shutting down")
    assert set(fields) == {"S", "V", "C", "M"}


@given(st.text(max_size=3000), st.text(max_size=300))
def test_fields_are_one_printable_line_of_bounded_length(why, fix):
    fields = refuse(make_refusal(why=why, fix=fix))
    for text in fields.values():
        assert text
        assert text.isprintable()
        assert len(text) <= MAX_FIELD_CHARS


def test_the_least_row_limit_binds():
    limits = [Obligation("a", "row_limit", {"rows": 10}), Obligation("b", "row_limit", {"rows": 3, "on_excess": "block"})]
    assert read_row_limit([*limits, Obligation("c", "tag", {"value": "x"})]) == RowLimit(3)
    assert read_row_limit([]) is None
    assert join_bound(RowLimit(3), 2) == join_bound(None, 2) == RowLimit(2)
    assert join_bound(RowLimit(3), None) == RowLimit(3)
    assert join_bound(None, None) is None


def test_a_limit_that_cuts_binds_only_where_none_ends_with_an_error_before_it():
    cut = Obligation("a", "row_limit", {"rows": 3, "on_excess": "truncate"})
    assert read_row_limit([cut, Obligation("b", "row_limit", {"rows": 4})]) == RowLimit(3, "a")
    for other in ([Obligation("b", "row_limit", {"rows": 3})], [Obligation("b", "row_limit", {"rows": 2})]):
        assert read_row_limit([cut, *other]).cut_by is None
        assert read_row_limit([*other, cut]).cut_by is None
    assert join_bound(read_row_limit([cut]), 4) == RowLimit(3, "a")
    assert join_bound(read_row_limit([cut]), 3) == RowLimit(3)


CUT = RowLimit(3, "a")


def test_the_tag_of_a_suspended_portal_is_known_of_reads_only():
    def of(verb, index=0, limit=CUT):
        action = Action("postgres", "request", "postgres.query", frozenset({"read"}), {"statements": [{"verb": verb}]}, {}, {})
        return carry_limit(limit, action, index)[:2]

    assert [of(verb) for verb in ("select", "fetch", "update", "execute")] == [
        (3, ("a", tag)) for tag in ("SELECT", "FETCH", None, None)
    ]
    assert of("select", index=1) == (3, ("a", None))
    assert of("select", limit=RowLimit(3)) == (3, None)
    assert of("select", limit=None) == (None, None)


@pytest.mark.parametrize("params", [{}, {"rows": -1}, {"rows": True}, {"rows": "5"}, {"rows": 5, "on_excess": "drop"}])
def test_a_row_limit_that_cannot_be_carried_out_is_an_error(params):
    with pytest.raises(UnenforceableError):
        read_row_limit([Obligation("a", "row_limit", params)])
