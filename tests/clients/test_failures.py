"""What happens when something breaks: the target, the agent, the gateway's own stop. And what is on record afterwards."""

import contextlib
import json
import re
import socket
import struct
import threading
import urllib.error
import urllib.request

import psycopg
import pytest
from psycopg import errors

from gateway.serve.postgres.start import MAX_PENDING_LOGINS
from gateway.testing.postgres import start_postgres
from gateway.testing.waiting import wait_until
from gateway.testing.wire import PASSWORD_WANTED, Client, error_of, startup


@pytest.fixture
def options(authority, mint):
    """Connection parameters for a gateway of its own."""

    def make(running, **changes):
        return {
            "host": "localhost",
            "port": running.port,
            "dbname": "shop",
            "user": "agent",
            "password": mint(),
            "sslmode": "verify-full",
            "sslrootcert": str(authority.ca_file),
            "autocommit": True,
        } | changes

    return make


def outcomes(running):
    """Status by decision id, of every action that was let through."""
    return {record["decision_id"]: record for record in running.read_records() if record["type"] == "outcome"}


def decisions(running):
    return [record for record in running.read_records() if record["type"] == "decision" and record["phase"] == "request"]


def test_every_decision_is_on_record_with_its_outcome(make_gateway, options, tmp_path):
    with make_gateway(tmp_path) as running, psycopg.connect(**options(running)) as connection:
        connection.execute("select id, ssn from customers where id <= 10").fetchall()
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("delete from orders")
        with pytest.raises(errors.DivisionByZero):
            connection.execute("select 1/0")
        connection.execute("update orders set amount = amount where id = %s", (1,))
    records = running.read_records()
    types = [record["type"] for record in records]
    assert types.count("session.open") == types.count("session.close") == 1
    made = decisions(running)
    ended = outcomes(running)
    refused = [record for record in made if record["refused"]]
    denied = [reason["rule"] for record in refused for reason in record["decision"]["reasons"] if reason["effect"] == "deny"]
    assert denied == ["test.unbounded"]
    let_through = [record for record in made if not record["refused"]]
    assert {record["decision_id"] for record in let_through} == set(ended)
    by_status = {}
    for record in let_through:
        by_status.setdefault(ended[record["decision_id"]]["status"], []).append(ended[record["decision_id"]])
    masked = [record for record in by_status["completed"] if record.get("masked")]
    assert [(record["rows"], record["masked"]) for record in masked] == [(10, {"test.pii": 10})]
    assert [record["error_code"] for record in by_status["failed"]] == ["22012"]
    assert not re.search(r"\d{3}-12-0\d{3}", json.dumps(records))
    assert records[types.index("session.close")]["counters"]["refused"] == 1
    positions = {record["decision_id"]: index for index, record in enumerate(records) if record["type"] == "decision"}
    assert all(positions[identifier] < records.index(record) for identifier, record in ended.items())


def test_a_look_up_is_on_record_as_the_gateways_own(make_gateway, options, tmp_path):
    with make_gateway(tmp_path) as running, psycopg.connect(**options(running)) as connection:
        connection.execute("select 1")
        connection.execute("select 1")
        connection.execute("create table fresh (x int)")
        connection.execute("select x from fresh")
        connection.execute("drop table fresh")
    lookups = [record for record in running.read_records() if record["type"] == "lookup"]
    assert len(lookups) >= 2
    assert all(record["kind"] == "postgres.catalog" for record in lookups)


def test_a_view_made_in_the_session_is_known_at_once(connect):
    connection = connect()
    connection.execute("create view fresh_view as select id, ssn as harmless from customers")
    try:
        rows = connection.execute("select harmless from fresh_view limit 3").fetchall()
        assert "-12-" not in str(rows)
    finally:
        connection.execute("drop view fresh_view")


def test_a_view_made_in_an_open_transaction_is_not_trusted(connect):
    connection = connect(autocommit=False)
    connection.execute("create view uncommitted as select id, ssn as harmless from customers")
    try:
        with contextlib.suppress(errors.InsufficientPrivilege):
            assert "-12-" not in str(connection.execute("select harmless from uncommitted limit 3").fetchall())
    finally:
        connection.rollback()


def test_the_target_dies_in_the_middle_of_a_result(make_gateway, make_connection, options, tmp_path):
    with start_postgres() as doomed:
        doomed.run("create table rows as select n as id, repeat('x', 1000) as note from generate_series(1, 200000) n")
        doomed.run("create role owner login superuser")
        target = {"socket_dir": str(doomed.socket_dir), "port": doomed.port, "database": "postgres"}
        connection_settings = make_connection(target=target, credential={"user": "owner", "password": "env:HOME"}, sensitive=[])
        with make_gateway(tmp_path, connections=[connection_settings]) as running:
            connection = psycopg.connect(**options(running, autocommit=False))
            cursor = connection.cursor()
            with pytest.raises(psycopg.OperationalError):  # noqa: PT012 - whichever row it is
                for number, _ in enumerate(cursor.stream("select id, note from rows")):
                    if number == 0:
                        doomed.stop()
            assert connection.closed
            with pytest.raises(psycopg.OperationalError, match="not available"):
                psycopg.connect(**options(running))
            wait_until(lambda: running.session_count == 0)
    (failed,) = [record for record in outcomes(running).values() if record["status"] == "failed"]
    assert failed["error_code"]
    # What was delivered before the end is on record: the rows, their bytes, and the head of them.
    assert failed["rows"] > number
    assert failed["bytes"] > 1_000 * number
    assert failed["transcript"]["bytes"] > 1_000
    closed = [record["reason"] for record in running.read_records() if record["type"] == "session.close"]
    assert closed == ["the target broke off", "the target is not available"]


def test_an_agent_that_leaves_has_its_statement_cancelled_and_recorded(make_gateway, options, server, tmp_path):
    active = "select count(*) from pg_stat_activity where query like 'select pg_sleep(62)%' and state = 'active'"
    with make_gateway(tmp_path) as running:
        connection = psycopg.connect(**options(running))
        left = threading.Thread(target=_run, args=(connection, "select pg_sleep(62)"))
        left.start()
        wait_until(lambda: server.run(active) == "1")
        with socket.socket(fileno=socket.dup(connection.fileno())) as raw:
            raw.shutdown(socket.SHUT_RDWR)
        left.join()
        wait_until(lambda: server.run(active) == "0")
        wait_until(lambda: running.session_count == 0)
        connection.close()
    ended = [record for record in running.read_records() if record["type"] == "outcome"]
    assert [(record["status"], record["error_code"]) for record in ended] == [("failed", "57014")]


def _run(connection, statement):
    with contextlib.suppress(psycopg.Error):
        connection.execute(statement)


def test_an_idle_session_is_ended(make_gateway, options, tmp_path):
    with make_gateway(tmp_path, limits={"idle_timeout_s": 0.3}) as running:
        connection = psycopg.connect(**options(running))
        wait_until(lambda: running.session_count == 0)
        with pytest.raises(psycopg.OperationalError, match="idle for too long"):
            connection.execute("select 1")
    assert running.read_records()[-1]["type"] in {"session.close", "heartbeat"}


def test_a_long_session_is_ended(make_gateway, options, tmp_path):
    with make_gateway(tmp_path, limits={"max_session_s": 0.3}) as running:
        connection = psycopg.connect(**options(running))
        wait_until(lambda: running.session_count == 0)
        with pytest.raises(psycopg.OperationalError, match="lasted too long"):
            connection.execute("select 1")


def test_too_many_sessions_are_refused(make_gateway, options, mint, tmp_path):
    with make_gateway(tmp_path, limits={"max_sessions": 3, "max_sessions_per_subject": 2}) as running:
        opened = [psycopg.connect(**options(running)) for _ in range(2)]
        with pytest.raises(psycopg.OperationalError, match="too many sessions of this subject"):
            psycopg.connect(**options(running))
        opened.append(psycopg.connect(**options(running, password=mint("agent-8"))))
        with pytest.raises(psycopg.OperationalError, match="too many sessions"):
            psycopg.connect(**options(running, password=mint("agent-9")))
        for connection in opened:
            connection.close()
        wait_until(lambda: running.session_count == 0)
        psycopg.connect(**options(running)).close()


def test_a_client_that_never_logs_in_is_let_go(make_gateway, tmp_path):
    with make_gateway(tmp_path, limits={"login_timeout_s": 0.3}) as running:
        for sent in (b"", struct.pack("!ii", 8, 80877103)):
            with socket.create_connection(("127.0.0.1", running.port)) as raw:
                raw.settimeout(20)
                raw.sendall(sent)
                while raw.recv(100):
                    pass


def test_those_who_only_connect_keep_nobody_out(make_gateway, options, tmp_path):
    with make_gateway(tmp_path, tls=False, limits={"max_sessions": 2}) as running, contextlib.ExitStack() as stack:
        plain = options(running, sslmode="disable")
        first = stack.enter_context(psycopg.connect(**plain))
        waiting = []
        for _ in range(2 + MAX_PENDING_LOGINS):
            waiting.append(stack.enter_context(contextlib.closing(Client(running.port))))
            waiting[-1].raw.sendall(startup())
            assert waiting[-1].next() == PASSWORD_WANTED
        psycopg.connect(**plain).close()
        for client in waiting[:2]:
            fields = error_of(client.read())
            assert (fields["C"], fields["M"]) == ("53300", "others wait to log in")
            assert client.is_closed()
        assert first.execute("select 1").fetchone() == (1,)
    refused = [record for record in running.read_records() if record["type"] == "login.refused"]
    assert [record["why"].startswith("others wait to log in") for record in refused] == [True, True]


def test_shutdown_lets_a_statement_finish_and_ends_idle_sessions(make_gateway, options, server, tmp_path):
    active = "select count(*) from pg_stat_activity where query like 'select pg_sleep(0.7)%' and state = 'active'"
    results = []
    with make_gateway(tmp_path) as running:
        idle, busy = psycopg.connect(**options(running)), psycopg.connect(**options(running))
        worker = threading.Thread(target=lambda: results.append(busy.execute("select pg_sleep(0.7), 'done'").fetchone()))
        worker.start()
        wait_until(lambda: server.run(active) == "1")
        running.stop()
        worker.join()
        with pytest.raises(psycopg.OperationalError, match="shutting down"):
            idle.execute("select 1")
    assert results[0][1] == "done"
    closed = [record["reason"] for record in running.read_records() if record["type"] == "session.close"]
    assert closed == ["shutdown", "shutdown"]


def test_messages_beyond_the_limit_end_the_session(make_gateway, options, tmp_path):
    with make_gateway(tmp_path, limits={"max_message_bytes": 65_536}) as running:
        connection = psycopg.connect(**options(running))
        with pytest.raises(psycopg.Error):
            connection.execute(f"select '{'x' * 100_000}'")
        wait_until(lambda: running.session_count == 0)
    assert [record["reason"] for record in running.read_records() if record["type"] == "session.close"] == ["protocol violation"]


def test_a_statement_beyond_its_limit_is_blocked(make_gateway, options, tmp_path):
    with make_gateway(tmp_path, limits={"max_sql_bytes": 1_024}) as running, psycopg.connect(**options(running)) as connection:
        with pytest.raises(errors.ProgramLimitExceeded):
            connection.execute(f"select '{'x' * 2_000}'")
        assert connection.execute("select 1").fetchone() == (1,)


def test_nothing_happens_once_evidence_cannot_be_written(make_gateway, options, server, tmp_path):
    before = server.run("select count(*) from orders", database="shop")
    with make_gateway(tmp_path) as running:
        connection = psycopg.connect(**options(running))
        connection.execute("select 1")
        running.gateway._evidence.log._fail(OSError(28, "no space left"))
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("insert into orders (customer, amount) values (1, 1)")
        assert caught.value.diag.sqlstate == "58030"
        with pytest.raises(psycopg.OperationalError, match="no record can be made durable"):
            psycopg.connect(**options(running))
        with pytest.raises(urllib.error.HTTPError) as unhealthy:
            urllib.request.urlopen(f"http://127.0.0.1:{running.admin_port}/healthz")
        assert unhealthy.value.code == 503
    assert server.run("select count(*) from orders", database="shop") == before


def test_an_approval_is_asked_for_at_once_inside_a_transaction(make_gateway, make_connection, options, tmp_path):
    with make_gateway(tmp_path, connections=[make_connection(hold_s=20)]) as running:
        connection = psycopg.connect(**options(running, autocommit=False))
        connection.execute("select 1")
        with pytest.raises(errors.InsufficientPrivilege) as caught:
            connection.execute("update accounts set balance = balance - 10 where id = 1")
        assert "needs approval" in caught.value.diag.message_primary
        assert "sealgate approvals approve" in caught.value.diag.message_hint
        connection.rollback()
        connection.close()


def test_a_cancel_ends_the_wait_for_a_reviewer(make_gateway, make_connection, options, tmp_path):
    with make_gateway(tmp_path, connections=[make_connection(hold_s=60)]) as running:
        connection = psycopg.connect(**options(running))
        asked = threading.Event()

        def cancel():
            wait_until(lambda: any(record["type"] == "approval.requested" for record in running.read_records()))
            asked.set()
            connection.cancel_safe(timeout=10)

        canceller = threading.Thread(target=cancel)
        canceller.start()
        with pytest.raises(errors.QueryCanceled):
            connection.execute("update accounts set balance = balance - 10 where id = 1")
        canceller.join()
        assert asked.is_set()
        assert connection.execute("select 1").fetchone() == (1,)
        connection.close()


def test_an_agent_that_leaves_ends_the_wait_for_a_reviewer(make_gateway, make_connection, options, server, tmp_path):
    with make_gateway(tmp_path, connections=[make_connection(hold_s=60)]) as running:
        connection = psycopg.connect(**options(running))
        left = threading.Thread(target=_run, args=(connection, "update accounts set balance = 0 where id = 1"))
        left.start()
        wait_until(lambda: any(record["type"] == "approval.requested" for record in running.read_records()))
        with socket.socket(fileno=socket.dup(connection.fileno())) as raw:
            raw.shutdown(socket.SHUT_RDWR)
        left.join()
        wait_until(lambda: running.session_count == 0)
        connection.close()
    assert server.run("select balance from accounts where id = 1", database="shop") == "100"


def test_a_prepared_statement_needs_one_approval_not_two(make_gateway, options, tmp_path):
    with make_gateway(tmp_path) as running, psycopg.connect(**options(running)) as connection:
        for _ in range(2):
            with pytest.raises(errors.InsufficientPrivilege, match="needs approval"):
                connection.execute("update accounts set balance = %s where id = %s", (5, 1))
    records = running.read_records()
    assert [record["type"] for record in records].count("approval.requested") == 1
