"""How long a session may last: an agent that sends half of something, or reads nothing, is silent all the same."""

import contextlib
import struct
import threading

import psycopg
import pytest

from gateway.serve.postgres.traffic import TURN_BYTES
from gateway.testing.waiting import wait_until
from gateway.testing.wire import SYNC, Client, bind, execute, parse


def parse_without_sync(client):
    client.raw.sendall(parse("select 1"))


def open_copy(client):
    client.send("Q", b"copy events from stdin\0")


def leave_rows_unread(client):
    client.send("Q", b"begin; insert into events values (-7, 'kept'); select repeat('x', 1000) from generate_series(1, 200000)\0")


HALVES = [parse_without_sync, open_copy, leave_rows_unread]


@pytest.mark.parametrize("half", HALVES)
def test_half_a_message_does_not_keep_a_session(make_gateway, mint, server, tmp_path, half):
    with make_gateway(tmp_path, tls=False, limits={"idle_timeout_s": 0.3}) as running:
        client = Client(running.port, mint())
        half(client)
        wait_until(lambda: running.session_count == 0)
        client.close()
    closes = [record for record in running.read_records() if record["type"] == "session.close"]
    assert [record["reason"] for record in closes] == ["idle"]
    assert server.run("select count(*) from events where id = -7", database="shop").strip() == "0"


def test_a_session_that_is_always_in_a_pipeline_ends_too(make_gateway, mint, tmp_path):
    with make_gateway(tmp_path, tls=False, limits={"max_session_s": 0.5}) as running:
        client = Client(running.port, mint())
        with contextlib.suppress(ConnectionError):  # the gateway may have closed while this was sent
            while [kind for kind, _ in client.converse(SYNC + parse("select 1"))][-1:] == ["Z"]:
                pass
        wait_until(lambda: running.session_count == 0)
        client.close()
    closes = [record for record in running.read_records() if record["type"] == "session.close"]
    assert [record["reason"] for record in closes] == ["too long"]


def test_data_of_a_copy_has_a_digest_in_the_record(make_gateway, mint, tmp_path):
    with make_gateway(tmp_path, tls=False) as running:
        client = Client(running.port, mint())
        for rows in (b"-8\tone\n-9\ttwo\n", b"-8\tone\n-9\tTWO\n", b"-8\tone\n-9\ttwo\n"):
            client.send("Q", b"copy events from stdin\0")
            while client.next()[0] != "G":
                pass
            client.send("d", rows[:5])
            client.send("d", rows[5:])
            client.send("c")
            client.read()
        client.query("delete from events where id < 0")
        client.close()
    streams = [record["stream"] for record in running.read_records() if record["type"] == "outcome" and "stream" in record]
    assert [stream["bytes_in"] for stream in streams] == [14, 14, 14]
    first, second, third = (stream["copied"] for stream in streams)
    assert first == third != second


def test_logins_at_once_keep_to_the_number_of_sessions(make_gateway, authority, mint, tmp_path):
    with make_gateway(tmp_path, limits={"max_sessions": 5, "max_sessions_per_subject": 3}) as running:
        options = {
            "host": "localhost",
            "port": running.port,
            "dbname": "shop",
            "user": "agent",
            "sslmode": "verify-full",
            "sslrootcert": str(authority.ca_file),
        }
        opened, refused, start = [], [], threading.Barrier(12)

        def log_in(subject):
            start.wait()
            try:
                opened.append(psycopg.connect(**options, password=mint(subject)))
            except psycopg.OperationalError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=log_in, args=(f"agent-{number % 2}",)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(opened) == 5
        assert all("too many sessions" in text for text in refused)
        for connection in opened:
            connection.close()
        wait_until(lambda: running.session_count == 0)
        psycopg.connect(**options, password=mint()).close()


def test_a_pipeline_of_thousands_lets_others_in_between(make_gateway, mint, tmp_path):
    """Another agent is answered long before one packet full of statements is, though nothing in judging them has to be waited for."""
    statement = b"Q" + struct.pack("!i", 13) + b"select 1\0"
    count = TURN_BYTES // len(statement)
    with make_gateway(tmp_path, tls=False) as running:
        many, other = Client(running.port, mint()), Client(running.port, mint("agent-8"))
        other.query("select 1")
        # While the table is the transaction's alone, nothing passes as learned: each is judged, by a verdict that is known already.
        many.query("begin; create temp table mine (id int)")
        many.query("select 1")
        # A machine may have something else to do at any moment, but not each time. Without turns a thousand come before.
        answered_before = [count_answered_before(many, other, statement * count, count) for _ in range(3)]
        assert min(answered_before) < count / 5
        many.close()
        other.close()


def count_answered_before(many, other, batch, count):
    """How many of the statements one client sends at once are answered before one that another sends then."""
    sender = threading.Thread(target=many.raw.sendall, args=(batch,))
    sender.start()
    answered = 0
    while answered < 1:
        answered += many.next()[0] == "Z"
    assert other.query("select 2")[-1][0] == "Z"
    many.raw.settimeout(0)  # what has come by now, without waiting for more
    with contextlib.suppress(BlockingIOError):
        while True:
            answered += many.next()[0] == "Z"
    before = answered
    many.raw.settimeout(30)
    while answered < count:
        answered += many.next()[0] == "Z"
    sender.join()
    return before


def test_what_waits_behind_a_judged_statement_passes_as_learned(make_gateway, mint, tmp_path):
    """One packet of the same statement: it is decided once, and the rest of the packet needs no decision of its own."""
    with make_gateway(tmp_path, tls=False) as running:
        client = Client(running.port, mint())
        client.raw.sendall((parse("select id from customers limit 0") + bind() + execute() + SYNC) * 200)
        answered = 0
        while answered < 200:
            answered += client.next()[0] == "Z"
        client.close()
    learned = [
        record for record in running.read_records() if record["type"] == "decision" and "base" in (record.get("input") or {})
    ]
    assert learned
