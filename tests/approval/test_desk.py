"""The desk: one request per exact action, signed verdicts, single use, expiry, and a record of every step."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from evidence.approval_statement import ApprovalTerms, sign_statement
from evidence.keyless import KeylessSigner
from evidence.trust import SigstoreTrust
from gateway.action import Action, Resource, Subject, compute_action_digest
from gateway.approval.client import check_shown_digest
from gateway.approval.desk import ApprovalDesk, are_requirements_met
from gateway.approval.statements import make_statement_check
from gateway.approval.store import ApprovalStore, Vote
from gateway.cli.approvals import print_request
from gateway.decision import Decision, Reason, Requirement
from gateway.errors import ApprovalError
from gateway.serve.approvals_api import make_routes
from gateway.testing.sigstore import DEFAULT_ISSUER, DevelopmentSigstore

ALICE = "alice@bank.example"
BOB = "bob@bank.example"
POLICY = "ab" * 32
RESOURCE = Resource("core", "postgres", "production", "high")
AGENT = Subject("corp/agent-7", "agent", "https://idp.example", "agent-7", ("agents",), on_behalf_of="corp/" + ALICE)
ACTION = Action(
    "postgres",
    "request",
    "postgres.query",
    frozenset({"write"}),
    {"statement_count": 1},
    canonical={"text": "UPDATE ledger SET x = 1 WHERE id = 2"},
)


@pytest.fixture(scope="module")
def sigstore():
    with DevelopmentSigstore() as running:
        yield running


@pytest.fixture
def clock():
    class Clock:
        now_ns = time.time_ns()

        def __call__(self):
            return self.now_ns

    return Clock()


@pytest.fixture
def records():
    return []


@pytest.fixture
def desk(tmp_path, sigstore, clock, records):
    async def record(kind, fields):
        records.append((kind, dict(fields)))

    store = ApprovalStore(f"sqlite:///{tmp_path}/state.db")
    check = make_statement_check(SigstoreTrust(sigstore.trust_config))
    yield ApprovalDesk(store, record=record, verify_statement=check, store_statement=lambda _: "cd" * 32, clock_ns=clock)
    store.close()


def human(name, *groups):
    return Subject("corp/" + name, "human", DEFAULT_ISSUER, name, groups, email=name)


def held(count=1, ttl_s=900):
    requirement = Requirement("postgres.ledger.change", ("payments-approvers",), count, ttl_s)
    reason = Reason("postgres.ledger.change", "approve", "a change to the ledger needs a second person")
    return Decision("require_approval", (reason,), requirements=(requirement,), bundle_digest=POLICY)


async def ask(desk, *, subject=AGENT, action=ACTION, decision=None):
    digest = compute_action_digest(action, subject, RESOURCE)
    return await desk.request(
        subject=subject, resource=RESOURCE, action=action, digest=digest, decision=decision or held(), session_id="s1"
    )


def sign(sigstore, request, name, decision="approve", **changes):
    terms = ApprovalTerms(
        action_digest=request.digest,
        ticket=request.id,
        decision=decision,
        policy_digest=request.document["policy_digest"],
        nonce=request.document["nonce"],
        expires=datetime.fromisoformat(request.document["expires_at"]),
        connection=request.connection,
    )
    signer = KeylessSigner(sigstore.trust_config, lambda: sigstore.mint_token(name))
    return sign_statement(signer, replace(terms, **changes))


async def test_the_same_action_shares_one_ticket(desk, records):
    first, second = await asyncio.gather(ask(desk), ask(desk))
    other = await ask(desk, action=replace(ACTION, canonical={"text": "UPDATE ledger SET x = 2 WHERE id = 2"}))
    assert first.id == second.id != other.id
    assert [kind for kind, _ in records] == ["approval.requested", "approval.requested"]
    assert (await ask(desk, subject=replace(AGENT, id="corp/agent-8"))).id not in {first.id, other.id}


async def test_an_approval_is_granted_once(desk, sigstore, records):
    request = await ask(desk)
    assert await desk.consume(request.id) is None
    approved = await desk.vote(request.id, human(BOB, "payments-approvers"), sign(sigstore, request, BOB))
    assert approved.state == "approved"
    grant = await desk.read_grant(request.id)
    assert list(grant.reviewers) == [{"id": "corp/" + BOB, "groups": ["payments-approvers"]}]
    grants = await asyncio.gather(*(desk.consume(request.id) for _ in range(8)))
    assert sum(grant is not None for grant in grants) == 1
    assert records[-1][0] == "approval.granted"
    assert records[-1][1]["action_digest"] == request.digest
    assert (await ask(desk)).id != request.id, "a used approval is not found again"


async def test_wait_ends_with_the_verdict(desk, sigstore):
    request = await ask(desk)
    waiting = asyncio.ensure_future(desk.wait(request.id, 30, None))
    await desk.vote(request.id, human(BOB, "payments-approvers"), sign(sigstore, request, BOB, "deny"), "not today")
    ended = await waiting
    assert ended.state == "denied"
    assert ended.note == "not today"
    assert (await ask(desk)).state == "denied", "the same action finds its denial"


async def test_wait_ends_when_the_client_leaves(desk):
    request = await ask(desk)
    gone = asyncio.Event()
    gone.set()
    assert (await desk.wait(request.id, 30, gone)).state == "pending"


async def test_two_reviewers_where_two_are_asked_for(desk, sigstore):
    request = await ask(desk, decision=held(count=2))
    one = await desk.vote(request.id, human(BOB, "payments-approvers"), sign(sigstore, request, BOB))
    assert one.state == "pending"
    with pytest.raises(ApprovalError, match="has voted"):
        await desk.vote(request.id, human(BOB, "payments-approvers"), sign(sigstore, request, BOB))
    two = await desk.vote(
        request.id, human("carol@bank.example", "payments-approvers"), sign(sigstore, request, "carol@bank.example")
    )
    assert two.state == "approved"


@pytest.mark.parametrize(
    "reviewer",
    [
        Subject("corp/agent-7", "agent", DEFAULT_ISSUER, "agent-7", ("payments-approvers",)),
        human(ALICE, "payments-approvers"),
        replace(human(BOB, "payments-approvers"), person="corp/agent-7"),
    ],
    ids=["the requester", "the person it acts for", "an alias of the requester"],
)
async def test_the_requester_never_reviews(desk, sigstore, reviewer):
    request = await ask(desk)
    with pytest.raises(ApprovalError, match="cannot be reviewed by the one who made it"):
        await desk.vote(request.id, reviewer, sign(sigstore, request, BOB))


async def test_only_the_named_groups_review(desk, sigstore):
    request = await ask(desk)
    with pytest.raises(ApprovalError, match="may not review"):
        await desk.vote(request.id, human(BOB, "platform-approvers"), sign(sigstore, request, BOB))


@pytest.mark.parametrize(
    "changes",
    [
        {"action_digest": "00" * 32},
        {"ticket": "AR-OTHERONE"},
        {"nonce": "00" * 16},
        {"policy_digest": "00" * 32},
        {"expires": datetime.now(UTC) - timedelta(minutes=1)},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_a_statement_about_anything_else_is_refused(desk, sigstore, changes):
    request = await ask(desk)
    with pytest.raises(ApprovalError):
        await desk.vote(request.id, human(BOB, "payments-approvers"), sign(sigstore, request, BOB, **changes))
    assert (await desk.read(request.id)).state == "pending"


async def test_a_statement_signed_by_somebody_else_is_refused(desk, sigstore):
    request = await ask(desk)
    with pytest.raises(ApprovalError, match="cannot be accepted"):
        await desk.vote(request.id, human(BOB, "payments-approvers"), sign(sigstore, request, "mallory@bank.example"))


@pytest.mark.parametrize("statement", ["", "{}", "not json", "x" * 40_000])
async def test_garbage_is_not_a_statement(desk, statement):
    request = await ask(desk)
    with pytest.raises(ApprovalError):
        await desk.vote(request.id, human(BOB, "payments-approvers"), statement)


async def test_an_approval_expires_unused(desk, sigstore, clock, records):
    request = await ask(desk, decision=held(ttl_s=60))
    await desk.vote(request.id, human(BOB, "payments-approvers"), sign(sigstore, request, BOB))
    clock.now_ns += 61 * 1_000_000_000
    assert await desk.consume(request.id) is None
    assert (await desk.read(request.id)).state == "expired"
    assert records[-1][0] == "approval.expired"
    assert (await ask(desk)).id != request.id


async def test_an_unknown_ticket_is_an_error(desk):
    with pytest.raises(ApprovalError, match="there is no approval request"):
        await desk.read("AR-NOTTHERE")


@given(
    counts=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 3)), min_size=1, max_size=3),
    votes=st.lists(
        st.tuples(st.sampled_from(["x", "y", "z"]), st.sampled_from(["a", "b"])), max_size=6, unique_by=lambda vote: vote[0]
    ),
)
def test_requirements_are_met_exactly_when_each_has_its_count(counts, votes):
    requirements = [Requirement("r", (group,), count, 60) for group, count in counts]
    cast = [Vote("t", name, 0, {"decision": "approve", "groups": [group]}) for name, group in votes]
    expected = all(sum(group == wanted for _, group in votes) >= count for wanted, count in counts)
    assert are_requirements_met(requirements, cast) is expected


async def test_the_api_shows_reviewers_their_requests_and_nobody_elses(desk, sigstore):
    request = await ask(desk)
    subjects = {"bob": human(BOB, "payments-approvers"), "eve": human("eve@bank.example", "other"), "agent": AGENT}

    async def verify(token):
        return subjects[token]

    transport = httpx.ASGITransport(Starlette(routes=make_routes(desk, verify)))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as http:

        async def call(method, path, who, **options):
            return await http.request(method, path, headers={"Authorization": f"Bearer {who}"}, **options)

        assert (await http.get("/v1/approvals")).status_code == 401
        assert [item["ticket"] for item in (await call("GET", "/v1/approvals", "bob")).json()] == [request.id]
        assert (await call("GET", "/v1/approvals", "eve")).json() == []
        assert (await call("GET", f"/v1/approvals/{request.id}", "eve")).status_code == 409
        shown = (await call("GET", f"/v1/approvals/{request.id}", "bob")).json()
        check_shown_digest(shown)
        assert shown["canonical"] == ACTION.canonical
        with pytest.raises(ApprovalError, match="not the one to be signed"):
            check_shown_digest({**shown, "canonical": {"text": "SELECT 1"}})
        refused = await call("POST", f"/v1/approvals/{request.id}/votes", "agent", json={"statement": "x"})
        assert refused.status_code == 401
        assert "kind agent" in refused.json()["detail"]
        body = {"statement": sign(sigstore, request, BOB), "note": "seen"}
        voted = await call("POST", f"/v1/approvals/{request.id}/votes", "bob", json=body)
        assert voted.status_code == 200
        assert voted.json()["state"] == "approved"
        for bad in ({"statement": 1}, [], {"statement": "x", "note": "n" * 501}):
            assert (await call("POST", f"/v1/approvals/{request.id}/votes", "bob", json=bad)).status_code == 409
        assert (await call("POST", f"/v1/approvals/{request.id}/votes", "bob", content=b"x" * 70_000)).status_code == 409


async def test_a_preview_is_kept_with_an_open_request_once(desk, sigstore, capsys):
    request = await ask(desk)
    assert not request.has_preview
    await desk.add_preview(request.id, {"plan": "Update on ledger", "rows": 1, "notes": ["a note"]})
    await desk.add_preview(request.id, {"plan": "another"})
    assert (await desk.read(request.id)).document["preview"]["plan"] == "Update on ledger"
    transport = httpx.ASGITransport(Starlette(routes=make_routes(desk, _as_bob)))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as http:
        shown = (await http.get(f"/v1/approvals/{request.id}", headers={"Authorization": "Bearer bob"})).json()
    check_shown_digest(shown)
    print_request(shown, as_json=False)
    printed = capsys.readouterr().out
    for part in ("preview: plan", "Update on ledger", "preview: rows", "a note"):
        assert part in printed
    await desk.vote(request.id, human(BOB, "payments-approvers"), sign(sigstore, request, BOB))
    assert (await desk.read(request.id)).has_preview


async def _as_bob(_token):
    return human(BOB, "payments-approvers")


async def test_a_request_shows_one_effect_in_its_life(desk, sigstore, records):
    request = await ask(desk)
    assert await desk.show_effect(request.id, {"tag": "UPDATE 1", "rows": 1})
    assert await desk.show_effect(request.id, {"tag": "UPDATE 1", "rows": 1})
    approved = await desk.vote(request.id, human(BOB, "payments-approvers"), sign(sigstore, request, BOB))
    assert approved.effect == {"tag": "UPDATE 1", "rows": 1}
    assert not await desk.show_effect(request.id, {"tag": "UPDATE 2", "rows": 2})
    assert (await desk.read(request.id)).state == "expired"
    assert await desk.consume(request.id) is None
    assert records[-1][0] == "approval.expired"
    assert not await desk.show_effect(request.id, {"tag": "UPDATE 1", "rows": 1})
