"""Searching records: each condition, outcomes with their decisions, several logs in time order, records not yet published."""

import orjson
import pytest

from evidence.errors import StoreError
from evidence.query import Query, iterate_leaves, search
from gateway.testing.evidence import EvidenceBuilder
from gateway.testing.sigstore import DevelopmentSigstore

WAIT_S = 30


@pytest.fixture(scope="module")
def sigstore(tmp_path_factory):
    with DevelopmentSigstore(tmp_path_factory.mktemp("sigstore")) as service:
        yield service


@pytest.fixture(scope="module")
def evidence(tmp_path_factory, sigstore):
    directory = tmp_path_factory.mktemp("evidence")
    builders = [EvidenceBuilder(directory, sigstore, origin=f"gw/2026h2/w{worker}").open() for worker in range(2)]
    first, second = builders
    first.write_session(actions=2)
    second.write_session(actions=1)
    session = first.open_session()
    first.decide(session, "block", subject={"id": "corp/agent-2"}, connection="hr", on_behalf_of="corp/bob")
    first.decide(session, "mask", decision={"effect": "mask", "reasons": [{"rule": "hr.salary", "effect": "allow"}]})
    refused = {
        "decision_id": "r-1",
        "subject": "corp/agent-3",
        "connection": "ledger",
        "code": "target.unavailable",
        "why": "down",
    }
    session.submit("refusal", refused).result(WAIT_S)
    session.submit_close().result(WAIT_S)
    for builder in builders:
        builder.close()
    return directory


def found(directory, **conditions):
    return list(search(directory, Query(**conditions)))


def test_no_condition_gives_everything_in_time_order(evidence):
    hits = found(evidence)
    times = [hit.record["ts"] for hit in hits]
    assert times == sorted(times)
    assert {hit.origin for hit in hits} == {"gw/2026h2/w0", "gw/2026h2/w1"}
    assert len(hits) == sum(len(list(iterate_leaves(evidence / origin))) for origin in ("gw/2026h2/w0", "gw/2026h2/w1"))


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"kinds": frozenset({"session.open"})}, 3),
        ({"effect": "block", "kinds": frozenset({"decision"})}, 3),
        ({"effect": "mask"}, 1),
        ({"rule": "hr.salary"}, 1),
        ({"rule": "nobody.says"}, 0),
        ({"rule": "target.unavailable"}, 1),
        ({"rule": "target.unavailable", "effect": "block"}, 0),
        ({"subject": "corp/agent-2"}, 1),
        ({"subject": "corp/bob"}, 1),
        ({"subject": "corp/agent"}, 0),
        ({"connection": "hr"}, 1),
        ({"decision": "d-1", "kinds": frozenset({"decision"})}, 2),
        ({"since": "2100"}, 0),
        ({"until": "2000"}, 0),
    ],
)
def test_each_condition_narrows(evidence, conditions, expected):
    hits = found(evidence, **conditions)
    if conditions == {"effect": "mask"} or conditions.get("rule") == "hr.salary":
        hits = [hit for hit in hits if hit.record["type"] == "decision"]
    assert len(hits) == expected


def test_outcomes_come_with_the_decisions_they_belong_to(evidence):
    kinds = [hit.record["type"] for hit in found(evidence, effect="allow")]
    assert kinds.count("decision") == 3
    assert kinds.count("outcome") == 6
    assert set(kinds) == {"decision", "outcome"}


def test_times_bound_from_both_sides(evidence):
    hits = found(evidence)
    middle = hits[len(hits) // 2].record["ts"]
    before, after = found(evidence, until=middle), found(evidence, since=middle)
    assert len(before) + len(after) == len(hits)
    assert all(hit.record["ts"] < middle for hit in before)


def test_records_behind_the_last_checkpoint_are_found(sigstore, tmp_path):
    builder = EvidenceBuilder(tmp_path, sigstore).open()
    session = builder.open_session()
    builder.log.checkpoint()
    builder.decide(session, sql="select 2")
    session.submit("outcome", {"decision_id": "d-1", "status": "sent"}).result(WAIT_S)
    assert [hit.record["type"] for hit in found(tmp_path, session=session.sid)] == ["session.open", "decision", "outcome"]
    start = len(list(iterate_leaves(builder.path))) - 2
    assert [index for index, _ in iterate_leaves(builder.path, start)] == [start, start + 1]
    session.submit_close().result(WAIT_S)
    builder.close()


def test_hits_are_plain_json(evidence):
    for hit in found(evidence):
        assert orjson.loads(orjson.dumps(hit.as_record()))["record"] == hit.record


def test_no_evidence_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StoreError):
            search(path, Query())


def test_a_reviewers_verdict_is_found_by_the_rule_the_requester_saw():
    query = Query(rule="approval.denied")
    assert query.matches({"type": "approval.denied", "ticket": "AR-1"})
    assert not query.matches({"type": "approval.granted", "ticket": "AR-1"})
    assert not query.matches({"type": "heartbeat"})
