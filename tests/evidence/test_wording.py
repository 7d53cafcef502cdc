"""What records say in words, whatever they hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.wording import describe_record, excerpt_input

DECISION = {
    "type": "decision",
    "phase": "request",
    "decision_id": "d-1",
    "action": {"name": "postgres.query", "effects": ["export", "read"]},
    "decision": {
        "effect": "mask",
        "reasons": [{"rule": "a.b"}, {"rule": "a.b"}],
        "masks": [{"rule": "c.d", "strategy": "redact"}, {"rule": "c.d", "strategy": "redact"}],
    },
    "ticket": "AR-1",
}


def test_a_decision_is_one_line():
    assert describe_record(DECISION) == "mask postgres.query export+read [a.b] masks redact by c.d ticket AR-1 d-1"
    answer = {**DECISION, "phase": "response", "ticket": None, "decision": {"effect": "allow"}}
    assert describe_record(answer) == "allow postgres.query export+read of the answer d-1"


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (
            {
                "type": "session.open",
                "subject": {"id": "corp/a", "on_behalf_of": "corp/b"},
                "resource": {"connection": "core"},
                "client_ip": "::1",
            },
            "corp/a for corp/b on core from ::1",
        ),
        (
            {"type": "outcome", "status": "completed", "tag": "SELECT 2", "rows": 2, "masked": {"r": 2}, "decision_id": "d"},
            "completed, SELECT 2, 2 rows, masked r=2, d",
        ),
        ({"type": "outcome", "status": "failed", "error_code": "22012", "decision_id": "d"}, "failed, 22012, d"),
        ({"type": "session.close", "v": 1, "seq": 3, "reason": "left"}, '{"reason":"left"}'),
    ],
)
def test_other_records(record, text):
    assert describe_record(record) == text


def test_an_input_document_shows_what_it_asks_for():
    document = {
        "protocol": "postgres",
        "phase": "request",
        "postgres": {"facts": {"database": "x"}, "payload": {"text": "select\n1", "params": ["a"]}},
        "approval": {"reviewers": [{"id": "corp/bob"}]},
    }
    assert excerpt_input(document) == 'params: ["a"]\nselect\n1\napproved by corp/bob'
    assert excerpt_input({**document, "phase": "response"}) == ""
    assert excerpt_input(["a row"]) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["decision", "outcome", "session.open", "x"]), st.dictionaries(st.sampled_from([*DECISION]), JSON), JSON)
def test_no_record_is_too_strange(kind, record, document):
    assert isinstance(describe_record({**record, "type": kind}), str)
    excerpt = excerpt_input(document if not isinstance(document, dict) else {**document, "protocol": "p", "p": document})
    assert excerpt is None or isinstance(excerpt, str)
