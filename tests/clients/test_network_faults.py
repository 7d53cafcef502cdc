"""Bad networks on either side: each ends with a clear error, an outcome on record, and nothing left open."""

import contextlib
import os
import threading
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from gateway.testing.fault_proxy import start_fault_proxy
from gateway.testing.waiting import wait_until

BIG = "select id, note from events"


@pytest.fixture
def target(server):
    """The way to the target, with faults."""
    with start_fault_proxy("127.0.0.1", server.port) as proxy:
        yield proxy


@pytest.fixture
def make_faulty(make_gateway, make_connection, server, authority, tmp_path, target):
    """A gateway that reaches its target through the faulty way."""

    @contextlib.contextmanager
    def make(**sections):
        tls = {"mode": "verify-full", "ca_file": str(authority.ca_file)}
        connection = make_connection(
            target={"host": "127.0.0.1", "port": target.port, "database": "shop", "tls": tls},
            **sections.pop("connection", {}),
        )
        with make_gateway(tmp_path, connections=[connection], **sections) as running:
            yield running

    return make


@pytest.fixture
def open_session(authority, mint):
    opened = []

    def make(port, **changes):
        options = {"host": "localhost", "port": port, "dbname": "shop", "user": "agent", "password": mint(), "autocommit": True}
        tls = {"sslmode": "verify-full", "sslrootcert": str(authority.ca_file)}
        opened.append(psycopg.connect(**options | tls | changes))
        return opened[-1]

    yield make
    for connection in opened:
        connection.close()


def count_descriptors():
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))


def outcomes(running):
    return [(item["status"], item.get("error_code")) for item in running.read_records() if item["type"] == "outcome"]


def closings(running):
    return [item["reason"] for item in running.read_records() if item["type"] == "session.close"]


def test_the_target_is_cut_in_the_middle_of_a_row(make_faulty, target, open_session):
    with make_faulty() as running:
        connection = open_session(running.port)
        counted = connection.execute("select count(*) from orders").fetchone()
        target.cut_after(100_001)
        with pytest.raises(psycopg.OperationalError, match="the target ended the connection"):
            connection.execute(BIG)
        target.heal()
        assert open_session(running.port).execute("select count(*) from orders").fetchone() == counted
        wait_until(lambda: running.session_count == 1)
    assert ("failed", "08006") in outcomes(running)
    (failed,) = [item for item in running.read_records() if item["type"] == "outcome" and item["status"] == "failed"]
    assert failed["rows"] > 0
    assert failed["bytes"] > 0
    assert "the target broke off" in closings(running)


def test_a_write_that_was_cut_off_is_recorded_as_unknown(make_faulty, target, open_session):
    with make_faulty() as running:
        connection = open_session(running.port)
        connection.execute("select 1")
        target.stall("down")
        written = threading.Thread(target=_fail, args=(connection, "update orders set amount = amount where id = 1"))
        before = target.passed_bytes["up"]
        written.start()
        wait_until(lambda: target.passed_bytes["up"] > before)
        target.reset()
        written.join()
        wait_until(lambda: running.session_count == 0)
        target.heal()
    assert outcomes(running)[-1] == ("unknown", "08006")


def test_a_target_that_restarts_is_used_again(make_faulty, target, open_session):
    with make_faulty() as running:
        open_session(running.port).execute("select 1")
        target.is_accepting = False
        target.reset()
        wait_until(lambda: running.session_count == 0)
        with pytest.raises(psycopg.OperationalError, match="the target of this connection is not available"):
            open_session(running.port)
        target.heal()
        assert open_session(running.port).execute("select 1").fetchone() == (1,)


def test_a_slow_target_is_waited_for(make_faulty, target, open_session):
    with make_faulty() as running:
        connection = open_session(running.port)
        counted = connection.execute("select count(*) from orders").fetchall()
        target.stall("down")
        sent = target.passed_bytes["up"]
        rows = []
        waiting = threading.Thread(target=lambda: rows.extend(connection.execute("select count(*) from orders").fetchall()))
        waiting.start()
        wait_until(lambda: target.passed_bytes["up"] > sent)
        assert not rows
        target.heal()
        waiting.join()
        assert rows == counted


def test_sessions_leave_no_descriptor_behind(make_faulty, target, open_session):
    with make_faulty() as running:
        open_session(running.port).execute("select 1")
        before = count_descriptors()
        for _ in range(5):
            connection = open_session(running.port)
            connection.execute("select 1")
            target.reset()
            wait_until(lambda: running.session_count == 0)
            connection.close()
        wait_until(lambda: count_descriptors() <= before)


def test_a_slow_agent_holds_up_the_target_and_gets_every_row(make_gateway, open_session, tmp_path):
    with make_gateway(tmp_path) as running, start_fault_proxy("127.0.0.1", running.port) as agent:
        connection = open_session(agent.port, sslmode="require", sslrootcert=None)
        connection.execute("select 1")
        rows = []
        reading = threading.Thread(target=lambda: rows.extend(connection.execute(BIG).fetchall()))
        agent.stall("down")
        reading.start()
        sent = agent.passed_bytes["up"]
        wait_until(lambda: agent.passed_bytes["up"] >= sent)
        assert not rows
        agent.heal()
        reading.join()
        assert len(rows) == 100_000


def test_an_agent_that_is_half_open_is_ended_when_idle(make_gateway, open_session, tmp_path):
    with (
        make_gateway(tmp_path, limits={"idle_timeout_s": 1}) as running,
        start_fault_proxy("127.0.0.1", running.port) as agent,
    ):
        connection = open_session(agent.port, sslmode="require", sslrootcert=None)
        connection.execute("select 1")
        agent.stall("up", "down")
        wait_until(lambda: running.session_count == 0)
        agent.reset()
    assert closings(running) == ["idle"]


def test_an_agent_that_goes_during_a_hold_leaves_nothing(make_gateway, make_connection, open_session, tmp_path):
    with (
        make_gateway(tmp_path, connections=[make_connection(hold_s=60)]) as running,
        start_fault_proxy("127.0.0.1", running.port) as agent,
    ):
        connection = open_session(agent.port, sslmode="require", sslrootcert=None)
        connection.execute("select 1")
        before = count_descriptors()
        held = threading.Thread(target=_fail, args=(connection, "update accounts set balance = 1 where id = 1"))
        held.start()
        wait_until(lambda: any(item["type"] == "approval.requested" for item in running.read_records()))
        agent.reset()
        held.join()
        wait_until(lambda: running.session_count == 0)
        wait_until(lambda: count_descriptors() <= before)
    last = [item for item in running.read_records() if item["type"] == "decision" and item["phase"] == "request"][-1]
    assert last["refused"]
    assert closings(running) == ["the agent left"]


def _fail(connection, statement):
    with contextlib.suppress(psycopg.Error, errors.QueryCanceled):
        connection.execute(statement)
