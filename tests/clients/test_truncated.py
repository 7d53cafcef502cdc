"""A row limit that ends a result: psql, psycopg and the raw protocol get the first rows, a warning that names the rule, and the count."""

import os
import shutil
import socket
import struct
import subprocess

import psycopg
import pytest
from sealgate_native.postgres import FrameReader, decode_error, encode_message, encode_query

from gateway.policy.bundle import write_manifest
from gateway.testing.policy import add_topic
from gateway.testing.waiting import wait_until

TOPIC = """
obligations contains {"rule": "test.cut", "kind": "row_limit", "rows": 10, "on_excess": "truncate"} if input.phase == "request"

obligations contains {"rule": "test.error", "kind": "row_limit", "rows": 20, "on_excess": "block"} if input.phase == "request"
"""


@pytest.fixture(scope="module")
def make_cutting(make_gateway, bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cutting-bundle")
    shutil.copytree(bundle, folder, dirs_exist_ok=True)
    add_topic(folder, "postgres/bounds", TOPIC)
    write_manifest(folder)

    def make(**changes):
        policy = {"bundle": str(folder)} | changes.pop("policy", {})
        return make_gateway(tmp_path_factory.mktemp("cutting"), policy=policy, **changes)

    return make


@pytest.fixture(scope="module")
def cutting(make_cutting):
    with make_cutting() as running:
        yield running


@pytest.fixture
def agent(cutting, connect):
    return connect(running=cutting)


@pytest.fixture
def notices(agent):
    found = []
    # What a handler is given is gone when it returns.
    agent.add_notice_handler(
        lambda notice: found.append((notice.severity, notice.sqlstate, notice.message_primary, notice.message_detail))
    )
    return found


ALL = "select id from customers order by id"


def outcomes(running, tag):
    return [record for record in running.read_records() if record["type"] == "outcome" and record.get("tag") == tag]


def test_the_first_rows_come_with_a_warning(agent, notices, cutting):
    cursor = agent.execute(ALL)
    assert [row[0] for row in cursor.fetchall()] == list(range(1, 11))
    assert cursor.statusmessage == "SELECT 10"
    said = "the result was cut after 10 rows; there are more"
    assert notices == [("WARNING", "01000", said, "Rule test.cut: the result, or the cursor it comes from, has no more to give.")]
    wait_until(lambda: outcomes(cutting, "SELECT 100"))
    record = outcomes(cutting, "SELECT 100")[-1]
    assert (record["status"], record["rows"], record["rows_cut"], record["cut_by"]) == ("completed", 10, 90, "test.cut")


def test_a_result_within_the_limit_says_nothing(agent, notices):
    cursor = agent.execute("select id from customers where id <= 10 order by id")
    assert (cursor.rowcount, cursor.statusmessage, notices) == (10, "SELECT 10", [])


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize("binary", [False, True])
def test_extended_queries(agent, notices, prepare, binary):
    for number in range(8):  # learned after the first, prepared on the server where it says so
        cursor = agent.cursor(binary=binary)
        rows = cursor.execute("select id from customers where id > %s order by id", (number,), prepare=prepare).fetchall()
        assert [row[0] for row in rows] == list(range(number + 1, number + 11))
        assert len(notices) == number + 1


def test_the_transaction_stays_the_servers(agent, notices):
    with agent.transaction():
        assert len(agent.execute(ALL).fetchall()) == 10
        assert agent.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        assert agent.execute("select count(*) from customers").fetchone() == (100,)
    assert agent.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert len(notices) == 1


def test_each_statement_of_a_string_is_cut_by_itself(agent, notices):
    cursor = agent.execute(f"{ALL}; select 7; {ALL} desc")
    shown = [cursor.fetchall()]
    while cursor.nextset():
        shown.append(cursor.fetchall())
    assert [len(rows) for rows in shown] == [10, 1, 10]
    assert shown[2][0] == (100,)
    assert len(notices) == 2


def test_rows_of_a_change_are_cut_but_its_count_is_true(agent, notices):
    with agent.transaction(force_rollback=True):
        cursor = agent.execute("update customers set name = name where id <= 30 returning id")
        assert len(cursor.fetchall()) == 10
        assert cursor.statusmessage == "UPDATE 30"
        assert len(notices) == 1


def test_fetches_are_cut(agent, notices):
    with agent.transaction():
        agent.execute(f"declare c cursor for {ALL}")
        cursor = agent.execute("fetch 25 from c")
        assert (len(cursor.fetchall()), cursor.statusmessage) == (10, "FETCH 10")
        assert len(notices) == 1
        again = agent.execute("fetch 1 from c")
        assert (again.fetchall(), again.statusmessage) == ([], "FETCH 0")
        assert len(notices) == 2
        agent.execute("close c")
        agent.execute(f"declare c cursor for {ALL}")
        assert len(agent.execute("fetch 7 from c").fetchall()) == 7
        assert len(agent.execute("fetch 7 from c").fetchall()) == 3


@pytest.mark.parametrize("binary", [False, True])
def test_a_named_cursor_of_a_driver_is_cut_as_a_whole(agent, notices, binary):
    with agent.transaction(), agent.cursor("mine", binary=binary) as cursor:
        cursor.itersize = 4
        cursor.execute(ALL)
        rows = [row[0] for row in cursor]
    # Every column of a FETCH sent as an extended query counts as sensitive, and a masked number is null.
    assert rows == ([None] * 10 if binary else list(range(1, 11)))
    assert len(notices) == 1


def test_a_prepared_fetch_has_what_is_left_of_its_cursor(agent):
    with agent.transaction():
        agent.execute(f"declare c cursor for {ALL}")
        agent.pgconn.prepare(b"f", b"fetch 4 from c")
        assert [agent.pgconn.exec_prepared(b"f", []).ntuples for _ in range(5)] == [4, 4, 2, 0, 0]
        agent.execute("close c")


def test_a_client_that_streams(agent, notices):
    rows = list(agent.cursor().stream(ALL))
    assert len(rows) == 10
    assert len(notices) == 1


def test_copy_out_with_a_row_limit_is_refused(agent):
    with (
        pytest.raises(psycopg.Error, match="withheld"),
        agent.cursor() as cursor,
        cursor.copy(f"copy ({ALL}) to stdout") as copied,
    ):
        list(copied)
    assert agent.execute("select 1").fetchone() == (1,)


def test_an_error_after_the_limit_is_still_an_error(agent):
    with pytest.raises(psycopg.errors.DivisionByZero):
        agent.execute("select 1 / (50 - id) from customers order by id")
    assert agent.execute("select 1").fetchone() == (1,)


def test_psql(cutting, server, authority, mint):
    environment = {
        "PATH": os.environ["PATH"], "PGHOST": "localhost", "PGPORT": str(cutting.port), "PGUSER": "agent", "PGDATABASE": "shop",
        "PGPASSWORD": mint(), "PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(authority.ca_file),
    }  # fmt: skip
    for extra in ([], ["-v", "FETCH_COUNT=4"]):
        done = subprocess.run(
            [str(server.bin_dir / "psql"), "-XAt", *extra, "-c", ALL],
            capture_output=True, text=True, timeout=60, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(number) for number in range(1, 11)]
        if not extra:
            assert "WARNING:  the result was cut after 10 rows; there are more" in done.stderr
            assert "DETAIL:  Rule test.cut" in done.stderr


# --- the raw protocol


@pytest.fixture
def wire(make_cutting, mint):
    with make_cutting(tls=False) as running:
        yield Wire(running.port, mint())


class Wire:
    """A logged-in connection, message by message."""

    def __init__(self, port, token):
        self.raw = socket.create_connection(("127.0.0.1", port))
        self.raw.settimeout(30)
        self.reader = FrameReader(1 << 20)
        body = b"user\0agent\0database\0shop\0\0"
        self.raw.sendall(struct.pack("!ii", 8 + len(body), 196608) + body)
        self.until("R")
        self.exchange(encode_message("p", token.encode() + b"\0"))

    def until(self, kind):
        found = []
        while not found or found[-1][0] != kind:
            while (frame := self.reader.next()) is None:
                data = self.raw.recv(65_536)
                assert data, found
                self.reader.receive(data)
            found.append(frame)
        return found

    def exchange(self, *messages):
        self.raw.sendall(b"".join(messages))
        return self.until("Z")


def parse(sql):
    return encode_message("P", b"\0" + sql.encode() + b"\0\0\0")


BIND, SYNC = encode_message("B", b"\0\0" + struct.pack("!hhh", 0, 0, 0)), encode_message("S", b"")


def execute(most):
    return encode_message("E", b"\0" + struct.pack("!i", most))


def kinds(messages):
    return "".join(kind for kind, _ in messages)


def test_the_limit_is_one_for_all_executes_of_a_portal(wire):
    found = wire.exchange(encode_query("begin"))
    assert kinds(found) == "CZ"
    found = wire.exchange(parse(ALL), BIND, execute(4), execute(4), execute(4), execute(4), SYNC)
    assert kinds(found) == "12" + "DDDDs" + "DDDDs" + "DDNC" + "NC" + "Z"
    assert [body for kind, body in found if kind == "C"] == [b"SELECT 2\0", b"SELECT 0\0"]
    warnings = [decode_error(body) for kind, body in found if kind == "N"]
    assert [warning["M"] for warning in warnings] == ["the result was cut after 10 rows; there are more"] * 2
    assert found[-1] == ("Z", b"T")
    assert wire.exchange(encode_query("commit"))[-1] == ("Z", b"I")


def test_a_portal_that_ends_at_the_limit_is_not_cut(wire):
    wire.exchange(encode_query("begin"))
    found = wire.exchange(parse(f"select * from ({ALL} limit 10) c"), BIND, execute(10), execute(10), SYNC)
    assert kinds(found) == "12" + "D" * 10 + "s" + "C" + "Z"
    assert wire.exchange(encode_query("rollback"))[-1] == ("Z", b"I")


def test_a_simple_query_in_the_raw(wire):
    found = wire.exchange(encode_query(ALL))
    assert kinds(found) == "T" + "D" * 10 + "NCZ"
    assert found[-2] == ("C", b"SELECT 10\0")


# --- what was learned


def converse(connection):
    answers, said = [], []
    connection.add_notice_handler(lambda notice: said.append((notice.sqlstate, notice.message_primary, notice.message_detail)))
    for number in range(1, 6):
        for text, params, options in (
            (f"select id from customers where id > {number} order by id", None, {}),
            ("select id from customers where id > %s order by id", (number,), {"prepare": True}),
            ("select id from customers where id > %s order by id", (number,), {"prepare": False}),
            (f"select name from customers where id = {number}", None, {}),
        ):
            cursor = connection.execute(text, params, **options)
            answers.append((cursor.fetchall(), cursor.statusmessage))
    return answers, said


MEMBERS = ("status", "tag", "rows", "bytes", "rows_cut", "cut_by", "masked")


def test_learned_statements_are_cut_and_recorded_the_same(make_cutting, connect, mint):
    done = []
    for policy in ({}, {"cache_entries": 0}):
        with make_cutting(policy=policy) as running:
            connection = connect(running=running, token=mint())
            answers = converse(connection)
            connection.close()
        ended = [record for record in running.read_records() if record["type"] == "outcome"]
        decided = [record for record in running.read_records() if record["type"] == "decision"]
        done.append((answers, [[record.get(name) for name in MEMBERS] for record in ended]))
        learned = sum(not record["duration_ns"] for record in decided)
        assert (learned > 10) == (policy == {})
    (hot, recorded_hot), (slow, recorded_slow) = done
    assert hot == slow
    assert len(hot[1]) == 15
    assert sorted(recorded_hot, key=str) == sorted(recorded_slow, key=str)
    assert sum(record[5] == "test.cut" for record in recorded_hot) == 15
