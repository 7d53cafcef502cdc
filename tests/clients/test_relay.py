"""Sessions that the relay carries, as psycopg meets them: what ends a loan, and that nothing gets past a rule meanwhile.

Each once with nothing encrypted and once with both connections encrypted; `tests/clients/test_hot_path.py` compares what is recorded,
`native/kernel/relay/tests/carry.rs` what leaves when.
"""

import contextlib
import shutil
import threading

import psycopg
import pytest

from gateway.policy.bundle import write_manifest
from gateway.serve.postgres.traffic import LEND_AFTER
from gateway.testing.policy import add_topic
from gateway.testing.waiting import wait_until

TOPIC = """
obligations contains {"rule": "test.volume", "kind": "volume_limit", "rows": 200, "per": "run"} if {
	input.phase == "request"
	input.resource.environment == "narrow"
}
"""


@pytest.fixture(scope="module", params=["plain", "tls"])
def encryption(request, authority):
    """Whether the gateway's listener has TLS, how its target is reached, and how agents connect."""
    if request.param == "plain":
        return False, {"mode": "disable"}, {"sslmode": "disable"}
    target = {"mode": "verify-full", "ca_file": str(authority.ca_file)}
    return True, target, {"sslmode": "verify-full", "sslrootcert": str(authority.ca_file)}


@pytest.fixture(scope="module")
def lending(make_gateway, make_connection, encryption, bundle, tmp_path_factory):
    """A gateway in front of a target."""
    folder = tmp_path_factory.mktemp("relay-bundle")
    shutil.copytree(bundle, folder, dirs_exist_ok=True)
    add_topic(folder, "postgres/volume", TOPIC)
    write_manifest(folder)
    connections = [make_connection(), make_connection(name="narrow", environment="narrow")]
    has_tls, target, _ = encryption
    for connection in connections:
        connection["target"]["tls"] = target
    with make_gateway(
        tmp_path_factory.mktemp("relay"), tls=has_tls, connections=connections, policy={"bundle": str(folder)}
    ) as running:
        yield running


@pytest.fixture
def open_session(lending, encryption, connect):
    """A connection to it; ended with the test, so that the loans that are counted are the test's own."""
    opened = []

    def make(**options):
        opened.append(connect(running=lending, **encryption[2], **options))
        return opened[-1]

    yield make
    for connection in opened:
        with contextlib.suppress(psycopg.Error):
            connection.close()
    wait_until(lambda: not lending.session_count)
    assert count(lending, "sessions_lent") == 0


def count(running, name):
    return running.gateway.count()[f"postgres_{name}"]


def be_lent(running, connection, statement, **options):
    """Repeat a statement until the session is lent; returns its last answer."""
    before, rows = count(running, "sessions_lent"), None
    for _ in range(LEND_AFTER):
        rows = connection.execute(statement, **options).fetchall()
    assert count(running, "sessions_lent") == before + 1
    return rows


def test_what_needs_a_decision_ends_the_loan_and_another_begins(lending, open_session):
    connection = open_session()
    rows = be_lent(lending, connection, "select name, ssn from customers where id = 3")
    assert rows == [("Customer 3", "[redacted]")]
    for _ in range(3):
        with pytest.raises(psycopg.Error, match="unbounded") as caught:
            connection.execute("delete from orders")
        assert "decision" in caught.value.diag.message_detail + (caught.value.diag.message_hint or "")
        assert count(lending, "sessions_lent") == 0
        assert be_lent(lending, connection, "select name, ssn from customers where id = 4") == [("Customer 4", "[redacted]")]


def test_a_view_that_means_something_else_meanwhile_is_judged_anew(lending, open_session, server):
    """Whoever changes a definition through the gateway has every loan of that database recalled before it takes effect."""
    reader, definer = open_session(), open_session()
    definer.execute("create view shown as select name as value from customers where id = 5")
    try:
        assert be_lent(lending, reader, "select value from shown") == [("Customer 5",)]
        definer.execute("create or replace view shown as select ssn as value from customers where id = 5")
        assert reader.execute("select value from shown").fetchall() == [("[redacted]",)]
    finally:
        server.run("drop view shown", database="shop")


def test_a_token_that_ends_stops_a_lent_session(lending, open_session, mint):
    connection = open_session(token=mint(ttl_s=3))
    be_lent(lending, connection, "select name from customers where id = 1")
    caught = []

    def run():
        try:
            connection.execute("select name from customers where id = 1")
        except psycopg.Error as error:
            caught.append(error)
        return caught

    wait_until(run)
    assert "expired" in str(caught[0])


def test_rows_of_a_run_are_counted_over_its_lent_sessions(lending, open_session, mint):
    """Two sessions of one run at the same time, both in the relay: together they get what the run may have, and not a row more."""
    token = mint()
    sessions = [open_session(token=token, dbname="narrow") for _ in range(2)]
    received, errors = [], []
    for connection in sessions:
        received += be_lent(lending, connection, "select id from customers where id = 1") * LEND_AFTER

    def read(connection):
        try:
            while True:
                received.extend(connection.execute("select id from customers where id <= 3").fetchall())
        except psycopg.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(connection,)) for connection in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 200 - 2 * 3 <= len(received) <= 200  # an answer that is cut off is an error, so its rows are not seen here
    assert {error.sqlstate for error in errors} == {"54000"}


def test_a_statement_of_a_lent_session_can_be_cancelled(lending, open_session):
    connection = open_session()
    be_lent(lending, connection, "select count(*) from generate_series(1, 10)")
    caught = []

    def run():
        try:
            connection.execute("select count(*) from generate_series(1, 10000000000)")
        except psycopg.Error as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def cancel():
        connection.cancel_safe(timeout=5)
        return not thread.is_alive()

    wait_until(cancel)
    assert caught[0].sqlstate == "57014"
    assert connection.execute("select 1").fetchall() == [(1,)]


def test_a_target_that_ends_a_lent_session_ends_it_for_the_agent(lending, open_session, server):
    connection = open_session()
    be_lent(lending, connection, "select name from customers where id = 2")
    server.run("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'sealgate_owner' and datname = 'shop'")
    with pytest.raises(psycopg.OperationalError):
        connection.execute("select name from customers where id = 2")
    wait_until(lambda: not lending.session_count)


def test_an_agent_that_leaves_ends_its_session_and_its_statement(lending, open_session, server):
    connection = open_session()
    be_lent(lending, connection, "select count(*) from generate_series(1, 10)")
    connection.pgconn.send_query(b"select count(*) from generate_series(1, 10000000000)")
    active = "select count(*) from pg_stat_activity where query like '%generate_series(1, 10000000000)' and state = 'active'"
    wait_until(lambda: server.run(active).strip() == "1")
    connection.pgconn.finish()
    wait_until(lambda: not lending.session_count)
    wait_until(lambda: server.run(active).strip() == "0")


def test_an_answer_longer_than_the_agent_reads_at_once_arrives_whole(lending, open_session):
    connection = open_session()
    be_lent(lending, connection, "select id, note from events where id <= 2")
    rows = connection.execute("select id, note from events where id <= 100000").fetchall()
    assert [row[0] for row in sorted(rows)] == list(range(1, 100_001))
    assert {row[1] for row in rows} == {"x" * 100}


def test_a_pipeline_of_a_lent_session_is_answered_in_order(lending, open_session):
    connection = open_session(prepare_threshold=0)
    be_lent(lending, connection, "select name from customers where id = %s", params=(1,))
    with connection.pipeline():
        cursors = [connection.execute("select name from customers where id = %s", (number,)) for number in range(1, 61)]
        names = [cursor.fetchone()[0] for cursor in cursors]
    assert names == [f"Customer {number}" for number in range(1, 61)]


def test_sessions_that_are_lent_end_with_the_gateway(make_gateway, make_connection, encryption, connect, tmp_path):
    has_tls, target, trust = encryption
    connection = make_connection()
    connection["target"]["tls"] = target
    with make_gateway(tmp_path, tls=has_tls, connections=[connection]) as running:
        sessions = [connect(running=running, **trust) for _ in range(3)]
        for session in sessions:
            be_lent(running, session, "select name from customers where id = 1")
        assert count(running, "sessions_lent") == 3
    with pytest.raises(psycopg.OperationalError):
        sessions[0].execute("select name from customers where id = 1")
    closed = [record for record in running.read_records() if record["type"] == "session.close"]
    assert len(closed) == 3
    assert {record["reason"] for record in closed} == {"shutdown"}
    assert {record["counters"]["rows"] for record in closed} == {LEND_AFTER}
