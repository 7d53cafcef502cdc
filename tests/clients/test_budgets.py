"""Bounds over a session and a run, and read-only connections, as psycopg meets them."""

import shutil

import psycopg
import pytest
from sealgate_native.postgres import encode_query

from gateway.policy.bundle import write_manifest
from gateway.testing.policy import add_topic
from gateway.testing.wire import SYNC, Client, bind, bind_texts, describe, error_of, execute, kinds, parse

TOPIC = """
obligations contains {"rule": "test.volume", "kind": "volume_limit", "rows": 10, "per": "run"} if {
	input.phase == "request"
	input.resource.environment == "narrow"
}

obligations contains {"rule": "test.inference", "kind": "inference_budget", "statements": 2, "per": "session"} if {
	input.phase == "request"
	input.resource.environment == "narrow"
	some column in input.postgres.facts.statements[_].columns
	column.sensitive
	column.use == "other"
}

obligations contains {"rule": "test.few", "kind": "row_limit", "rows": 2, "on_excess": "block"} if {
	input.phase == "request"
	input.resource.environment == "few"
}

obligations contains {"rule": "test.many", "kind": "row_limit", "rows": "many"} if {
	input.phase == "request"
	input.resource.environment == "many"
}

obligations contains {"rule": "test.read_only", "kind": "read_only"} if input.resource.environment in {"reader", "writer"}
"""


@pytest.fixture(scope="module")
def bounded(bundle, tmp_path_factory):
    """The section `policy` of a gateway whose bundle has the topic."""
    folder = tmp_path_factory.mktemp("bounded")
    shutil.copytree(bundle, folder, dirs_exist_ok=True)
    add_topic(folder, "postgres/bounds", TOPIC)
    write_manifest(folder)
    return {"bundle": str(folder)}


@pytest.fixture(scope="module")
def plain(make_gateway, make_connection, bounded, tmp_path_factory):
    """A gateway without TLS, whose first connection is a narrow one."""
    connections = [make_connection(environment="narrow"), make_connection(name="few", environment="few")]
    with make_gateway(tmp_path_factory.mktemp("plain"), connections=connections, policy=bounded, tls=False) as running:
        yield running


@pytest.fixture(scope="module")
def narrow(make_gateway, make_connection, bounded, tmp_path_factory):
    """A gateway with four connections to the same database, by the environment the topic speaks of."""
    connections = [
        make_connection(name="narrow", environment="narrow"),
        make_connection(name="reader", environment="reader", read_only=True),
        make_connection(name="writer", environment="writer"),
        make_connection(name="few", environment="few"),
    ]
    with make_gateway(tmp_path_factory.mktemp("narrow"), connections=connections, policy=bounded) as running:
        yield running


@pytest.fixture
def few(plain, mint):
    """A client of the protocol's messages whose statements may return two rows each."""
    opened = Client(plain.port)
    opened.login(mint(), database="few")
    yield opened
    opened.close()


def test_rows_are_counted_over_the_sessions_of_a_run(narrow, connect, mint):
    token = mint()
    first = connect(running=narrow, dbname="narrow", token=token)
    assert len(first.execute("select id from customers where id <= 7").fetchall()) == 7
    second = connect(running=narrow, dbname="narrow", token=token)
    with pytest.raises(psycopg.Error, match="3 rows") as caught:
        second.execute("select id from customers where id <= 7")
    assert caught.value.diag.message_detail == "Rule test.volume lets this run receive 10 rows in all; 3 of them were left."
    with pytest.raises(psycopg.Error, match="limit reached") as caught:
        second.execute("select id from customers where id = 1")
    assert caught.value.sqlstate == "54000"
    assert "test.volume" in caught.value.diag.message_detail
    other_run = connect(running=narrow, dbname="narrow", token=mint())
    assert other_run.execute("select id from customers where id = 1").fetchall() == [(1,)]


def test_a_row_limit_that_is_no_number_refuses_the_statement_and_nothing_else(
    make_gateway, make_connection, bounded, connect, tmp_path, caplog
):
    connections = [make_connection(name="many", environment="many")]
    said = [
        ("select id from customers", None, "statement refused"),
        ("update customers set id = id where id = %s", (1,), "statement refused"),
        ("select id from customers where id = %s", (1,), "result withheld"),  # which a Describe asks for first
    ]
    with make_gateway(tmp_path, connections=connections, policy=bounded) as running:
        connection = connect(running=running, dbname="many")
        for text, parameters, what in said:
            with pytest.raises(psycopg.Error, match=what) as caught:
                connection.execute(text, parameters)
            assert caught.value.sqlstate == "42501"
            assert "Rule test.many sets a row limit the gateway cannot carry out" in caught.value.diag.message_detail
        connection.close()
    assert "Traceback" not in caplog.text
    records = running.read_records()
    assert [record["status"] for record in records if record["type"] == "outcome"].count("refused") == len(said)
    assert len([record for record in records if record["type"] == "session.close"]) == 1


def test_every_statement_of_a_text_counts_that_computes_with_what_is_sensitive(narrow, connect):
    connection = connect(running=narrow, dbname="narrow")
    one = "select upper(ssn) from customers where id = 1"
    with pytest.raises(psycopg.Error, match="limit reached") as caught:
        connection.execute(f"{one}; select 1; {one}; {one}")
    assert "may have 2 statements that compute with sensitive columns, and has had 0" in caught.value.diag.message_detail
    connection.execute(f"{one}; {one}; select 1")
    with pytest.raises(psycopg.Error, match="limit reached"):
        connection.execute(one)


def test_a_failure_counts_by_the_row_it_comes_at(narrow, connect):
    """Where it comes is a number that a value decides."""
    connection = connect(running=narrow, dbname="narrow")
    with pytest.raises(psycopg.Error):
        connection.execute("select g, 1 / (g + 6 - length(ssn)) from generate_series(1, 9) g, customers where id = 1")
    with pytest.raises(psycopg.Error, match="limit reached") as caught:
        connection.execute("select upper(ssn) from customers where id = 1")
    assert "has had" in caught.value.diag.message_detail


@pytest.mark.parametrize("grown", ["repeat('x', 500000000), repeat('x', 600000000)", "repeat('x', 40000000)"])
def test_a_result_with_sensitive_columns_that_fails_counts_as_many_rows(grown, narrow, connect, mint):
    """How long a masked value is decides whether it fits where there is room for so many bytes, of the server or of the gateway."""
    token = mint()
    first = connect(running=narrow, dbname="narrow", token=token)
    with pytest.raises(psycopg.errors.UndefinedColumn):
        first.execute("select ssn, nosuch from customers")  # no value was looked at
    assert len(first.execute("select ssn from customers where id = 1").fetchall()) == 1
    with pytest.raises(psycopg.Error):
        first.execute(f"select ssn, {grown} from customers where id = 1")
    second = connect(running=narrow, dbname="narrow", token=token)
    with pytest.raises(psycopg.Error, match="has received the 10 rows it may"):
        second.execute("select ssn from customers where id = 1")


def test_a_limit_of_one_statement_names_its_rule(narrow, connect):
    connection = connect(running=narrow, dbname="few")
    assert len(connection.execute("select id from customers where id <= 2").fetchall()) == 2
    with pytest.raises(psycopg.Error, match="more than the 2 rows") as caught:
        connection.execute("select id from customers")
    assert caught.value.diag.message_detail == "Rule test.few lets a statement return 2 rows."
    assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("is_one_pipeline", [True, False])
def test_a_description_between_parts_of_a_portal_does_not_begin_its_limit_anew(few, is_one_pipeline):
    part = describe(b"P", "p") + execute("p", 1)
    few.converse(encode_query("begin"), parse("select id from customers", "s") + bind("s", "p") + SYNC)
    messages = few.converse(part * 4 + SYNC) if is_one_pipeline else few.converse(*[part + SYNC] * 4)
    assert kinds(messages).count("D") == 2
    assert error_of(messages)["D"] == "Rule test.few lets a statement return 2 rows."


def test_a_declare_that_fails_does_not_begin_the_limit_of_its_cursor_anew(few):
    declares = "declare c cursor with hold for select id from customers"
    assert kinds(few.query(declares)) == "CZ"
    assert [kinds(few.query("fetch 1 from c")) for _ in range(2)] == ["TDCZ"] * 2
    failing = parse(declares) + bind(values=[b"a parameter too many"]) + execute() + SYNC
    assert error_of(few.converse(failing))["C"] == "08P01"
    messages = few.query("fetch 1 from c")
    assert "D" not in kinds(messages)
    assert error_of(messages)["D"] == "Rule test.few lets a statement return 2 rows."


def test_statements_that_compute_with_sensitive_columns_are_counted(narrow, connect):
    connection = connect(running=narrow, dbname="narrow")
    for _ in range(2):
        assert connection.execute("select upper(ssn) from customers where id = 1").fetchone() == ("[redacted]",)
    with pytest.raises(psycopg.Error, match="limit reached"):
        connection.execute("select lower(ssn) from customers where id = 1")
    assert connection.execute("select ssn from customers where id = 1").fetchone() == ("[redacted]",)


@pytest.mark.parametrize(
    "sql",
    [
        "set transaction_read_only = off",
        "set default_transaction_read_only = off",
        "begin read write",
        "set session characteristics as transaction read write",
        "reset default_transaction_read_only",
    ],
)
def test_a_read_only_connection_stays_so(narrow, connect, sql):
    connection = connect(running=narrow, dbname="reader")
    with pytest.raises(psycopg.Error, match="this connection is read-only, so "):
        connection.execute(sql)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("update customers set name = name where id = 1")
    assert connection.execute("select count(*) from customers").fetchone() == (100,)


def test_read_only_needs_a_connection_that_is(narrow, connect):
    with pytest.raises(psycopg.Error, match="blocked by policy"):
        connect(running=narrow, dbname="writer").execute("select 1")


def test_learned_statements_keep_to_the_bound(narrow, connect, mint):
    token = mint()
    connection = connect(running=narrow, dbname="narrow", token=token)
    for number in range(1, 11):  # the same but for a constant: learned after the first
        assert connection.execute(f"select id from customers where id = {number}").fetchall() == [(number,)]
    with pytest.raises(psycopg.Error, match="limit reached"):
        connection.execute("select id from customers where id = 11")
    with pytest.raises(psycopg.Error, match="limit reached"):
        connect(running=narrow, dbname="narrow", token=token).execute("select id from customers where id = 12")


def test_a_pipeline_of_learned_statements_keeps_to_the_bound(narrow, connect, mint):
    connection = connect(running=narrow, dbname="narrow", token=mint())
    for number in (1, 2):
        connection.execute("select id from customers where id = %s", (number,), prepare=True)
    cursors = []
    with pytest.raises(psycopg.Error), connection.pipeline():
        cursors += [
            connection.execute("select id from customers where id = %s", (number,), prepare=True) for number in range(3, 40)
        ]
    received = [cursor.pgresult.ntuples for cursor in cursors if cursor.pgresult is not None]
    assert sum(received) <= 8


@pytest.mark.parametrize("describes", [True, False])
def test_a_pipeline_of_statements_that_are_not_learned_keeps_to_the_bound(plain, mint, describes):
    """What is left is another number for each result, although all were judged before the first came."""
    client = Client(plain.port, mint())
    client.converse(parse("select id from customers where id <= $1::int /* not learned */", "s") + SYNC)
    run = bind_texts("s", "4") + (describe(b"P") if describes else b"") + execute()
    assert kinds(client.converse(run + SYNC)).count("D") == 4
    messages = client.converse(run * 5 + SYNC)
    assert kinds(messages).count("D") == 6
    assert "10 rows in all" in error_of(messages)["D"]
    client.close()


def test_sessions_of_a_run_that_send_at_once_keep_to_the_bound(plain, mint):
    """Each of them may have one result under way that the others do not know of."""
    token = mint()
    clients = [Client(plain.port, token) for _ in range(3)]
    for client in clients:
        client.converse(parse("select id from customers where id <= $1::int /* not learned */", "s") + SYNC)
    run = bind_texts("s", "2") + execute()
    for client in clients:
        client.raw.sendall(run * 8 + SYNC)
    rows = sum(kinds(client.read()).count("D") for client in clients)
    assert 10 <= rows <= 10 + 2 * 2
    for client in clients:
        client.close()
