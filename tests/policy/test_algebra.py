"""How contributions combine: order and repetition never matter, adding anything but an allow only tightens, broken ones block.

Four topics contribute whatever the input tells them to, so that hypothesis chooses the contributions. The same documents go to a
real OPA, which must decide the same.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sealgate_native import policy as native

from gateway.action import EFFECTS
from gateway.decision import EFFECT_ORDER, STRATEGY_ORDER, check
from gateway.policy.bundle import Bundle, read_tree
from gateway.policy.engine import ENTRYPOINT, canonical
from gateway.policy.evaluator import Policies
from gateway.policy.heads import engine_modules
from gateway.policy.opa import Opa
from gateway.testing.policy import EVERYTHING, OpaServer, add_topic, make_document

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("allow", "approve", "deny", "masks", "obligations", "warn")
SLOTS = ("postgres/one", "postgres/two", "any/three", "any/four")

MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def told_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Topics that contribute what input.postgres.facts.told.<topic> lists."""
    folder = tmp_path_factory.mktemp("told")
    for source in (ROOT / "rego/sealgate/main").glob("*.rego"):
        if not source.name.endswith("_test.rego"):
            (folder / "sealgate/main").mkdir(parents=True, exist_ok=True)
            (folder / "sealgate/main" / source.name).write_text(source.read_text())
    for slot in SLOTS:
        topic = slot.split("/")[1]
        add_topic(
            folder,
            slot,
            "\n\n".join(f"{kind} contains item if some item in input.postgres.facts.told.{topic}.{kind}" for kind in KINDS),
        )
    exceptions = [
        {
            "rule": f"r{n}",
            "connection": "ledger",
            "owner": "o",
            "reason": "r",
            "ticket": "t",
            "expires_ns": 1_900_000_000_000_000_000,
        }
        for n in (0, 1)
    ]
    (folder / "site").mkdir()
    (folder / "site/data.json").write_text(json.dumps({"exceptions": exceptions}))
    return read_tree(folder)


@pytest.fixture(scope="module")
def decide(told_bundle: Bundle) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The embedded engine in this process. r0 may be switched off, r1 may not."""
    data = {**told_bundle.data, "sealgate_rules": {"r0": {"overridable": True}, "r1": {"overridable": False}}}
    policy = Policies(engine_modules(told_bundle), data, ENTRYPOINT, 250)
    return lambda document: canonical(policy.eval(document))


@pytest.fixture(scope="module")
def decide_in_opa(told_bundle: Bundle, opa_program: str) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    server = OpaServer(opa_program)
    server.start()
    engine = Opa(told_bundle, server.url)

    async def upload() -> None:
        await engine.start()
        await engine.aclose()

    asyncio.run(upload())
    rules = {"r0": {"overridable": True}, "r1": {"overridable": False}}
    with httpx.Client(base_url=server.url) as client:
        client.put("/v1/data/sealgate_rules", json=rules).raise_for_status()

        def ask(document: dict[str, Any]) -> dict[str, Any]:
            path = "/v1/data/sealgate/main/decision?strict-builtin-errors=true"
            return canonical(client.post(path, json={"input": document}).raise_for_status().json()["result"])

        yield ask
    server.stop()


RULES = st.sampled_from([f"r{n}" for n in range(6)])
GROUPS = st.lists(st.sampled_from(["dba", "risk", "sre"]), min_size=1, max_size=2)
CONTRIBUTIONS = {
    "allow": st.fixed_dictionaries({"rule": RULES, "effects": st.lists(st.sampled_from(sorted(EFFECTS)), max_size=4)}),
    "deny": st.fixed_dictionaries(
        {
            "rule": RULES,
            "message": st.text(max_size=8),
            "severity": st.sampled_from(["low", "critical"]),
            "controls": st.lists(st.sampled_from(["GLBA", "SOX"]), max_size=2),
        }
    ),
    "approve": st.fixed_dictionaries(
        {"rule": RULES, "groups": GROUPS, "count": st.integers(1, 2), "ttl_s": st.integers(1, 900), "scope": st.just("action")}
    ),
    "masks": st.fixed_dictionaries(
        {
            "rule": RULES,
            "selector": st.fixed_dictionaries({"index": st.integers(0, 3)}),
            "strategy": st.sampled_from(STRATEGY_ORDER),
            "apply": st.sampled_from(["delivered", "record", "both"]),
        },
        optional={"params": st.fixed_dictionaries({"keep": st.integers(1, 4)})},
    ),
    "obligations": st.fixed_dictionaries(
        {"rule": RULES, "kind": st.sampled_from(["record", "tag"])}, optional={"rows": st.integers(1, 9)}
    ),
    "warn": st.fixed_dictionaries({"rule": RULES, "message": st.text(max_size=8)}),
}
TOPIC = st.fixed_dictionaries({}, optional={kind: st.lists(item, max_size=2) for kind, item in CONTRIBUTIONS.items()})
TOLD = st.fixed_dictionaries({slot.split("/")[1]: TOPIC for slot in SLOTS})
REVIEWER = st.fixed_dictionaries({"id": st.sampled_from(["corp/dana", "corp/eve", "corp/ann", "corp/agent-7"]), "groups": GROUPS})
APPROVAL = st.none() | st.fixed_dictionaries(
    {
        "reviewers": st.lists(REVIEWER, max_size=3),
        "expires_ns": st.sampled_from([1, 1_795_000_000_000_000_000, 1_800_000_000_000_000_000]),
        "break_glass": st.booleans(),
    }
)
DOCUMENTS = st.builds(
    lambda told, effects, phase, approval, connection: make_document(
        phase=phase,
        action={"name": "postgres.query", "effects": effects},
        resource={"connection": connection, "type": "postgres", "environment": "test", "risk": "low"},
        postgres={"facts": {"told": told}},
        **({} if approval is None else {"approval": approval}),
    ),
    TOLD,
    st.lists(st.sampled_from(sorted(EFFECTS)), max_size=3, unique=True),
    st.sampled_from(["request", "request", "response", "session"]),
    APPROVAL,
    st.sampled_from(["ledger", "other"]),
)


def strictness(decision: dict[str, Any]) -> int:
    return EFFECT_ORDER.index(decision["effect"])


def model(document: dict[str, Any]) -> str:
    """The algebra of design section 4, written a second time."""
    told = document["postgres"]["facts"]["told"].values()
    is_off = {"r0"} if document["resource"]["connection"] == "ledger" else set()
    spoken = {kind: [item for topic in told for item in topic.get(kind, []) if item["rule"] not in is_off] for kind in KINDS}
    if spoken["deny"]:
        return "block"
    if document["phase"] != "response":
        covered = {effect for item in spoken["allow"] for effect in item["effects"]}
        if not document["action"]["effects"] or set(document["action"]["effects"]) - covered:
            return "block"
    if spoken["approve"] and document["phase"] != "request":
        return "block"
    if any(not is_met(item, document) for item in spoken["approve"]):
        return "require_approval"
    return "mask" if spoken["masks"] else "allow"


def is_met(requirement: dict[str, Any], document: dict[str, Any]) -> bool:
    approval = document.get("approval")
    if approval is None or approval["expires_ns"] <= document["context"]["now_ns"]:
        return False
    requesters = {document["subject"].get(name) for name in ("id", "person", "on_behalf_of")}
    granting = {
        reviewer["id"] for reviewer in approval["reviewers"] if set(reviewer["groups"]) & set(requirement["groups"])
    } - requesters
    return approval["break_glass"] or len(granting) >= requirement["count"]


@MANY
@given(document=DOCUMENTS)
def test_the_aggregator_is_the_algebra(decide, document) -> None:
    decision = decide(document)
    assert decision["effect"] == model(document)
    assert check(decision, EVERYTHING, phase=document["phase"]).cause is None


@MANY
@given(document=DOCUMENTS)
def test_both_engines_decide_the_same(decide, decide_in_opa, document) -> None:
    assert decide_in_opa(document) == decide(document)


@MANY
@given(document=DOCUMENTS, order=st.permutations(range(len(SLOTS))))
def test_order_of_topics_and_contributions_does_not_matter(decide, document, order) -> None:
    told = document["postgres"]["facts"]["told"]
    names = [slot.split("/")[1] for slot in SLOTS]
    moved = {
        names[place]: {kind: list(reversed(items)) for kind, items in told[name].items()}
        for place, name in zip(order, names, strict=True)
    }
    assert decide({**document, "postgres": {"facts": {"told": moved}}}) == decide(document)


@MANY
@given(document=DOCUMENTS)
def test_saying_it_twice_changes_nothing(decide, document) -> None:
    told = document["postgres"]["facts"]["told"]
    everything = {kind: [item for topic in told.values() for item in topic.get(kind, [])] for kind in KINDS}
    repeated = dict.fromkeys(told, everything)
    assert decide({**document, "postgres": {"facts": {"told": repeated}}}) == decide(document)


@MANY
@given(document=DOCUMENTS, kind=st.sampled_from(["deny", "approve", "masks", "obligations", "warn"]), data=st.data())
def test_adding_anything_but_an_allow_only_tightens(decide, document, kind, data) -> None:
    before = decide(document)
    added = copy.deepcopy(document)
    topic = added["postgres"]["facts"]["told"]["two"]
    topic[kind] = [*topic.get(kind, []), data.draw(CONTRIBUTIONS[kind])]
    after = decide(added)
    assert strictness(after) >= strictness(before)
    if kind == "deny" and topic[kind][-1]["rule"] != "r0":
        assert after["effect"] == "block"


@MANY
@given(document=DOCUMENTS, data=st.data())
def test_neither_a_grant_nor_break_glass_lifts_a_deny(decide, document, data) -> None:
    document["postgres"]["facts"]["told"]["one"]["deny"] = [{"rule": "r5", "message": "no", "severity": "high", "controls": []}]
    document["approval"] = {"reviewers": [], "expires_ns": 1_800_000_000_000_000_000, "break_glass": True}
    assert decide(document)["effect"] == "block"


BROKEN = st.sampled_from(
    [
        ("deny", {"rule": "r2"}),
        ("deny", "text"),
        ("deny", 1),
        ("deny", None),
        ("deny", []),
        ("deny", {"rule": "r2", "message": "m", "severity": "fatal", "controls": []}),
        ("deny", {"rule": "r2", "message": 1, "severity": "low", "controls": []}),
        ("deny", {"rule": "", "message": "m", "severity": "low", "controls": []}),
        ("deny", {"rule": "r2", "message": "m", "severity": "low", "controls": [1]}),
        ("deny", {"rule": "r2", "message": "m", "severity": "low", "controls": [], "extra": 1}),
        ("allow", {"rule": "r2", "effects": "read"}),
        ("allow", {"rule": "r2", "effects": ["reed"]}),
        ("allow", {"rule": "r2", "effect": ["read"]}),
        ("approve", {"rule": "r2", "groups": [], "count": 1, "ttl_s": 1, "scope": "action"}),
        ("approve", {"rule": "r2", "groups": ["g"], "count": 0, "ttl_s": 1, "scope": "action"}),
        ("approve", {"rule": "r2", "groups": ["g"], "count": 1.5, "ttl_s": 1, "scope": "action"}),
        ("approve", {"rule": "r2", "groups": ["g"], "count": "1", "ttl_s": 1, "scope": "action"}),
        ("masks", {"rule": "r2", "selector": {}, "strategy": "null", "apply": "both"}),
        ("masks", {"rule": "r2", "selector": {"index": 1}, "strategy": "hide", "apply": "both"}),
        ("masks", {"rule": "r2", "selector": {"index": 1}, "strategy": "null", "apply": "never"}),
        ("masks", {"rule": "r2", "selector": {"index": 1}, "strategy": "null", "apply": "both", "params": []}),
        ("obligations", {"rule": "r2"}),
        ("obligations", {"kind": "record"}),
        ("warn", {"rule": "r2"}),
    ]
)


@MANY
@given(document=DOCUMENTS, broken=BROKEN, slot=st.sampled_from(["one", "three"]))
def test_a_contribution_that_is_not_well_formed_blocks_in_both_engines(decide, decide_in_opa, document, broken, slot) -> None:
    kind, item = broken
    document["postgres"]["facts"]["told"][slot][kind] = [item]
    decision = decide(document)
    assert decision["effect"] == "block"
    assert "policy.malformed" in {reason["rule"] for reason in decision["reasons"]}
    assert decide_in_opa(document) == decision


@pytest.mark.parametrize("value", ["[]", "{}", '"text"', "1", "null", '{"r": {"rule": "r"}}'])
@pytest.mark.parametrize("kind", KINDS)
def test_a_contribution_that_is_no_set_blocks(value: str, kind: str) -> None:
    """The loader refuses such a module; an auditor's OPA does not have our loader."""
    modules = [
        (path.name, path.read_text())
        for path in (ROOT / "rego/sealgate/main").glob("*.rego")
        if not path.name.endswith("_test.rego")
    ]
    topics = [
        ("a.rego", 'package sealgate.policies.any.a\n\nallow contains {"rule": "a", "effects": ["read"]}\n'),
        ("b.rego", f"package sealgate.policies.postgres.b\n\n{kind} := {value}\n"),
    ]
    decision = native.CompiledPolicy([*modules, *topics], "{}", ENTRYPOINT).eval(make_document())
    assert decision["effect"] == "block"
    assert "policy.malformed" in {reason["rule"] for reason in decision["reasons"]}


SOMETHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "request", "postgres", "read", "sealgate.input/1"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "facts", "effects", "now_ns"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@MANY
@given(
    document=DOCUMENTS, member=st.sampled_from(["schema", "phase", "protocol", "resource", "action", "context"]), value=SOMETHING
)
def test_a_member_that_is_missing_or_wrong_is_never_an_allow(decide, document, member, value) -> None:
    for broken in ({**document, member: value}, {name: kept for name, kept in document.items() if name != member}):
        if broken.get(member) == document[member] or (member == "phase" and value == "request"):
            continue
        try:
            decision = decide(broken)
        except native.EvaluationError:
            continue  # an error is a block, see test_decide.py
        assert decision["effect"] == "block", broken


def test_an_exception_switches_off_only_what_may_be_switched_off_and_leaves_a_reason(decide) -> None:
    deny = {"message": "no", "severity": "low", "controls": []}
    allow = [{"rule": "r4", "effects": ["read"]}]
    for rule, connection, effect in [
        ("r0", "ledger", "allow"),
        ("r0", "other", "block"),
        ("r1", "ledger", "block"),
        ("r2", "ledger", "block"),
    ]:
        told = {"one": {"deny": [{"rule": rule, **deny}], "allow": allow}}
        document = make_document(resource={"connection": connection}, postgres={"facts": {"told": told}})
        decision = decide(document)
        assert decision["effect"] == effect
        warned = {reason["rule"] for reason in decision["reasons"] if reason["effect"] == "warn"}
        assert warned == ({"r0"} if effect == "allow" else set())
        document["context"]["now_ns"] = 1_900_000_000_000_000_000
        assert decide(document)["effect"] == "block"
