"""What a client is told where a result fails: its statement ran, and must not be taken for one that did not."""

from dataclasses import replace

import pytest

from evidence.errors import RecordTooLargeError
from gateway.action import Action
from gateway.errors import LimitExceededError
from gateway.refusal import refuse_fault, refuse_unrecorded

REQUEST = Action("postgres", "request", "postgres.query", frozenset({"write"}), {"statements": [{"verb": "update"}]})
RESULT = replace(REQUEST, phase="response", response={"columns": []})


def test_a_result_that_cannot_be_recorded_is_withheld_from_a_statement_that_ran():
    assert "not executed" in refuse_unrecorded(REQUEST, "d").what
    refusal = refuse_unrecorded(RESULT, "d")
    assert refusal.what.startswith("result of")
    assert refusal.what.endswith("withheld")
    assert "has taken effect all the same" in refusal.why


@pytest.mark.parametrize("error", [RecordTooLargeError("70,000 bytes"), LimitExceededError("too large"), ValueError("a fault")])
def test_so_is_one_that_fails_otherwise(error):
    request, result = (refuse_fault(error, action, "d")[1] for action in (REQUEST, RESULT))
    assert ("refused" in request.what, "effect" in request.why) == (True, False)
    assert result.what.startswith("result of")
    assert ("withheld" in result.what, "refused" in result.what) == (True, False)
    assert "has taken effect all the same" in result.why


def test_a_record_that_is_too_large_is_a_limit_not_a_fault():
    assert refuse_fault(RecordTooLargeError("70,000 bytes"), REQUEST, "d")[1].kind == "limit"
