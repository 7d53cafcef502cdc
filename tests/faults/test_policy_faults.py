"""Policies that hang or take their evaluator down, and an OPA server that goes away: the action is blocked, nothing else is harmed."""

import json
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest
from psycopg import errors

from gateway.policy.bundle import load_bundle
from gateway.policy.checks import find_opa
from gateway.testing.policy import OpaServer
from gateway.testing.processes import pause_process, resume_process
from gateway.testing.waiting import wait_until

DEADLINE_MS = 400
"""Small against what the rules below would take, large against a decision on a busy machine."""

HANGING = """
numbers := [n | some n in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]]

deny contains {"rule": "test.hangs", "message": "never reached", "severity": "low", "controls": []} if {
	input.subject.id == "corp/agent-hang"
	count([1 |
		some a in numbers
		some b in numbers
		some c in numbers
		some d in numbers
		some e in numbers
		some f in numbers
		some g in numbers
		a + b + c + d + e + f + g < 0
	]) > 0
}
"""

CRASHING = """
x0 := "aaaaaaaaaa" if input.subject.id == "corp/agent-crash"

x1 := replace(x0, "a", "aaaaaaaaaa")

x2 := replace(x1, "a", "aaaaaaaaaa")

x3 := replace(x2, "a", "aaaaaaaaaa")

x4 := replace(x3, "a", "aaaaaaaaaa")

x5 := replace(x4, "a", "aaaaaaaaaa")

x6 := replace(x5, "a", "aaaaaaaaaa")

x7 := replace(x6, "a", "aaaaaaaaaa")

x8 := replace(x7, "a", "aaaaaaaaaa")

deny contains {"rule": "test.crashes", "message": "never reached", "severity": "low", "controls": []} if count(x8) < 0
"""

METADATA = """# METADATA
# title: A rule that does harm
# description: It is what a mistake in a policy can do.
# custom:
#   id: {id}
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Never seen.
#   solution: None.
"""


def harmful(identifier, text):
    head, _, rule = text.partition("deny contains")
    return head + METADATA.format(id=identifier) + "deny contains" + rule


@pytest.fixture(scope="module")
def harm(make_bundle):
    return make_bundle({"postgres/hangs": harmful("test.hangs", HANGING), "postgres/crashes": harmful("test.crashes", CRASHING)})


def causes(gateway, subject):
    """Cause of every refused decision about a subject."""
    return [
        record.get("cause") for record in gateway.read_records() if record["type"] == "decision" and record["subject"] == subject
    ]


def test_a_rule_that_hangs_and_one_that_takes_its_evaluator_down(serve, mint, harm, server, tmp_path):
    gateway = serve(tmp_path, policy={"bundle": str(harm), "deadline_ms": DEADLINE_MS, "evaluators": 2})
    with (
        gateway.connect(mint("agent-hang")) as hanging,
        gateway.connect(mint("agent-crash")) as crashing,
        gateway.connect(mint("agent-good")) as good,
    ):
        assert good.execute("select 1").fetchone() == (1,)
        for number, harmful_one in enumerate([hanging, hanging, crashing, crashing]):
            with pytest.raises(errors.InsufficientPrivilege) as caught:
                harmful_one.execute(f"insert into marks values ({700_000 + number})")
            assert "blocked by policy" in caught.value.diag.message_primary
            assert "policy." in caught.value.diag.message_detail
            assert "Decision" in caught.value.diag.message_hint
            wait_until(lambda: good_answer(good))
        # Whoever took two evaluators down is not evaluated for a while; others are.
        with pytest.raises(errors.InsufficientPrivilege):
            crashing.execute("select 1")
        assert good.execute("select count(*) from customers").fetchone() == (20,)
        wait_until(lambda: len(gateway.children()) == 2)
        assert gateway.ask_health() == (200, {})
    assert gateway.stop() == 0
    assert server.run("select count(*) from marks where n >= 700000 and n < 800000", database="shop") == "0"
    assert set(causes(gateway, "corp/agent-hang")) <= {"policy.deadline", "policy.died", "policy.suspended", "policy.error"}
    assert set(causes(gateway, "corp/agent-crash")) <= {"policy.died", "policy.deadline", "policy.suspended", "policy.error"}
    assert None in causes(gateway, "corp/agent-good")


def good_answer(connection):
    """Whether an innocent subject is served; while evaluators are being replaced it may be refused."""
    try:
        return connection.execute("select name from customers where id = 2").fetchone() == ("Customer 2",)
    except errors.InsufficientPrivilege:
        return False


def test_who_waits_too_long_for_a_busy_evaluator_is_told_to_try_again(serve, mint, server, tmp_path):
    gateway = serve(tmp_path, policy={"wait_ms": 200})
    with ThreadPoolExecutor() as pool, gateway.connect(mint()) as one, gateway.connect(mint()) as other:
        (evaluator,) = gateway.children()
        pause_process(evaluator)
        asked = {
            pool.submit(connection.execute, f"insert into marks values ({number})"): (connection, number)
            for connection, number in ((one, 710_001), (other, 710_002))
        }
        done, waiting = wait(asked, return_when=FIRST_COMPLETED)
        resume_process(evaluator)
        (refused,), (judged,) = done, waiting
        judged.result()
        with pytest.raises(errors.InsufficientPrivilege) as caught:
            refused.result()
        assert "policy.busy" in caught.value.diag.message_detail
        assert "not carried out; try again" in caught.value.diag.message_hint
        assert "worth it after 1 s" in caught.value.diag.message_hint
        connection, number = asked[refused]
        assert server.run("select count(*) from marks where n between 710001 and 710002", database="shop") == "1"
        connection.execute(f"insert into marks values ({number})")
    assert gateway.stop() == 0
    assert server.run("select count(*) from marks where n between 710001 and 710002", database="shop") == "2"
    assert sorted(map(str, causes(gateway, "corp/agent-7"))) == ["None", "None", "policy.busy"]


@pytest.fixture
def opa(bundle, tmp_path):
    """A real OPA server that serves the bundle under its digest, as a company's own would."""
    program = find_opa()
    assert program is not None, "tools/build opa must work where these tests run"
    loaded, folder = load_bundle(bundle), tmp_path / "opa"
    for module in loaded.modules:
        target = folder / module.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(module.text)
    (folder / "data.json").write_text(json.dumps(loaded.data))
    manifest = {"revision": loaded.digest, "roots": ["sealgate", "site", "sealgate_rules"]}
    (folder / ".manifest").write_text(json.dumps(manifest))
    server = OpaServer(program, "--bundle", str(folder))
    server.start()
    yield server
    server.stop()


def test_opa_decides_and_without_opa_nothing_happens(serve, mint, opa, server, verify, tmp_path):
    gateway = serve(tmp_path / "gateway", policy={"engine": "opa", "opa": {"url": opa.url}, "cache_entries": 0})
    with gateway.connect(mint()) as connection:
        row = connection.execute("select name, ssn from customers where id = 1").fetchone()
        assert row[0] == "Customer 1"
        assert "-12-" not in row[1]
        with pytest.raises(errors.InsufficientPrivilege) as denied:
            connection.execute("drop table customers")
        assert "test.drops" in denied.value.diag.message_detail
        connection.execute("insert into marks values (800001)")
        opa.stop()
        for statement in ("insert into marks values (800002)", "select name from customers"):
            with pytest.raises(errors.InsufficientPrivilege) as blocked:
                connection.execute(statement)
            assert "policy.died" in blocked.value.diag.message_detail
        assert gateway.is_alive
    assert gateway.stop() == 0
    assert server.run("select n from marks where n in (800001, 800002)", database="shop") == "800001"
    assert server.run("select count(*) from customers", database="shop") == "20"
    decisions = [record for record in gateway.read_records() if record["type"] == "decision"]
    assert all(record["engine"].startswith("opa ") for record in decisions)
    assert [record["cause"] for record in decisions if "cause" in record] == ["policy.died"] * 2
    assert verify(gateway).exit_code == 0


def test_no_opa_at_the_start_is_said_at_once(configure, opa, tmp_path):
    opa.stop()
    code, text = configure(tmp_path / "gateway", policy={"engine": "opa", "opa": {"url": opa.url}}).fail_to_start()
    assert code == 3
    assert "Traceback" not in text
    assert opa.url in json.loads(text.splitlines()[-1])["error"]["what"]
