"""Listing and replaying sessions: sealed content with and without a key, and nothing that acts on the reader's terminal."""

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.errors import StoreError
from evidence.query import Query
from evidence.sessions import list_sessions, neutralise, read_session, replay
from evidence.transcript import Transcript
from gateway.testing.evidence import EvidenceBuilder
from gateway.testing.sigstore import DevelopmentSigstore

WAIT_S = 30
HOSTILE = b"\x1b]0;owned\x07 \x1b[2J \x1bP1$r\x1b\\ \x9b31m \r\n\ttext \xe2\x80\xae gnp.exe"


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    with DevelopmentSigstore(tmp_path_factory.mktemp("sigstore")) as service:
        made = EvidenceBuilder(tmp_path_factory.mktemp("evidence"), service).open()
        made.write_session(actions=2)
        made.write_approved_session()
        session = made.open_session()
        decision = made.decide(session, sql="select '\x1b[31mred'")
        transcript = Transcript(session, "full")
        transcript.begin(decision)
        transcript.write(HOSTILE)
        transcript.end()
        session.submit("outcome", {"decision_id": decision, "status": "completed", "tag": "SELECT \x1b[0m"}).result(WAIT_S)
        session.submit_close({"reason": "client left"}).result(WAIT_S)
        made.close()
        yield made, session.sid


def test_sessions_are_summarised(builder):
    made, sid = builder
    sessions = list_sessions(made.directory)
    assert len(sessions) == 3
    assert [dict(each.effects) for each in sessions] == [
        {"allow": 2, "block": 1},
        {"require_approval": 1, "allow": 1},
        {"allow": 1},
    ]
    assert {each.subject for each in sessions} == {"corp/agent-1"}
    assert sessions[2].sid == sid
    assert (sessions[2].reason, bool(sessions[2].closed)) == ("client left", True)


def test_sessions_can_be_narrowed(builder):
    made, _ = builder
    assert len(list_sessions(made.directory, Query(effect="require_approval"))) == 1
    assert list_sessions(made.directory, Query(connection="nowhere")) == []


def test_a_replay_without_a_key_shows_structure_only(builder):
    made, sid = builder
    steps = list(replay(made.directory, sid))
    assert [step.kind for step in steps] == ["session.open", "decision", "transcript.chunk", "outcome", "session.close"]
    assert all("red" not in step.content and "owned" not in step.content for step in steps)
    assert "age identity" in steps[1].content
    assert [step.at_s for step in steps] == sorted(step.at_s for step in steps)


def test_a_replay_with_the_key_shows_content_that_cannot_act(builder):
    made, sid = builder
    steps = list(replay(made.directory, sid, [str(made.age)]))
    assert "select" in steps[1].content
    assert steps[2].content == neutralise(HOSTILE)
    for step in steps:
        shown = step.title + step.content
        assert not any(character < " " and character not in "\n\t" for character in shown)
        assert "\x1b" not in shown
    assert "\\x1b]0;owned\\x07" in steps[2].content


def test_a_wrong_key_is_said(builder):
    made, sid = builder
    steps = list(replay(made.directory, sid, [str(pyrage.x25519.Identity.generate())]))
    assert "does not open" in steps[1].content


@pytest.mark.parametrize("sid", ["absent", "", "../../etc", "a" * 65])
def test_an_unknown_session_is_an_error(builder, sid):
    with pytest.raises(StoreError):
        read_session(builder[0].directory, sid)


@given(st.one_of(st.text(), st.binary()))
def test_neutralised_text_holds_nothing_that_acts(text):
    shown = neutralise(text)
    for character in shown:
        code = ord(character)
        assert character in "\n\t" or not (code < 0x20 or 0x7F <= code <= 0x9F)
        assert not (0x200B <= code <= 0x200F)
        assert not (0x2028 <= code <= 0x202E)
        assert not (0x2060 <= code <= 0x206F)


def test_ordinary_text_stays_as_it_is():
    assert neutralise("Zürich, 東京\n\tok") == "Zürich, 東京\n\tok"
    assert neutralise("\x1b\x9b\u202e\U000e0041") == "\\x1b\\x9b\\u202e\\U000e0041"
