"""An approval covers the values a text stands for: the types of its parameters, and what the session's settings make of it."""

import psycopg
import pytest
from sealgate_native.postgres import encode_query

from gateway.approval.store import ApprovalStore
from gateway.testing.wire import SYNC, Client, bind, error_of, execute, parse

CHANGE = "update accounts set balance = balance * ($1 / 2) where id = 1"
DATES = "update accounts set balance = balance + (date '2026-02-01' - date '01/02/2026') where id = 1"
INTEGER, NUMERIC = 23, 1700


@pytest.fixture(scope="module")
def plaintext(make_gateway, tmp_path_factory):
    with make_gateway(tmp_path_factory.mktemp("plaintext"), tls=False) as running:
        yield running


@pytest.fixture
def log_in(connect):
    return lambda options="": connect(options=options)


@pytest.fixture
def read(gateway):
    """The canonical action of a ticket, as its reviewers are shown it."""
    return lambda ticket: ApprovalStore(gateway.config.gateway.state).read(ticket).document["canonical"]


def find_ticket(result):
    hint = result.error_field(psycopg.pq.DiagnosticField.MESSAGE_HINT).decode()
    return next(word for word in hint.replace("`", " ").split() if word.startswith("AR-"))


def ask(connection, sql, value=None, oid=0):
    """The ticket under which a statement waits for its approval."""
    if value is None:
        return find_ticket(connection.pgconn.exec_(sql.encode()))
    return find_ticket(connection.pgconn.exec_params(sql.encode(), [value], [oid]))


def test_the_types_of_parameters_are_part_of_what_is_approved(log_in, read):
    connection = log_in()
    ticket = ask(connection, CHANGE, b"3", INTEGER)
    assert ask(log_in(), CHANGE, b"3", INTEGER) == ticket
    other = ask(connection, CHANGE, b"3", NUMERIC)
    assert other != ticket
    assert [read(each)["types"] for each in (ticket, other)] == [["integer"], ["numeric"]]


def test_so_are_those_of_a_statement_that_is_run_by_its_name(log_in, read):
    tickets = []
    for oid in (INTEGER, NUMERIC):
        connection = log_in()
        connection.pgconn.prepare(b"s", CHANGE.encode(), [oid])
        tickets.append(ask(connection, "execute s (3)"))
    assert tickets[0] != tickets[1]
    shown = read(tickets[1])
    assert (shown["named"], shown["named_types"]) == ({"prepared s": CHANGE}, {"prepared s": ["numeric"]})


def test_so_are_settings_from_the_start(log_in, read):
    first, second = ask(log_in("-c DateStyle=ISO,DMY"), DATES), ask(log_in("-c DateStyle=ISO,MDY"), DATES)
    assert ask(log_in("-c DateStyle=ISO,DMY"), DATES) == first
    assert first != second
    assert [read(each)["settings"]["DateStyle"] for each in (first, second)] == ["ISO, DMY", "ISO, MDY"]
    assert ask(log_in("-c extra_float_digits=0"), DATES) != ask(log_in("-c extra_float_digits=-5"), DATES)


def test_so_are_settings_the_session_changed(log_in):
    connection = log_in("-c DateStyle=ISO,MDY")
    first = ask(connection, DATES)
    connection.execute("set datestyle = 'ISO, DMY'")
    assert ask(connection, DATES) != first
    connection.execute("begin")
    connection.execute("set local datestyle = 'ISO, MDY'")
    assert ask(connection, DATES) == first
    connection.execute("rollback")
    assert ask(connection, DATES) != first


def test_so_are_settings_the_server_does_not_report(log_in):
    plain, changed, same = log_in(), log_in(), log_in()
    for connection in (changed, same):
        connection.execute("set transform_null_equals = on")
    assert ask(changed, DATES) == ask(same, DATES) != ask(plain, DATES)
    same.execute("reset all")
    assert ask(same, DATES) == ask(plain, DATES)


def test_where_they_are_not_certain_no_two_actions_are_the_same(log_in):
    connection = log_in()
    connection.execute("begin")
    connection.execute("set transform_null_equals = on")
    connection.execute("rollback")
    assert ask(connection, DATES) != ask(connection, DATES)
    connection.execute("reset all")
    assert ask(connection, DATES) == ask(connection, DATES)


def test_settings_that_change_no_value_are_no_part_of_it(log_in):
    connection = log_in("-c lock_timeout=5000")
    connection.execute("set application_name = 'another'")
    connection.execute("set statement_timeout = 10000")
    assert ask(connection, DATES) == ask(log_in(), DATES)


@pytest.mark.parametrize("first", [["set datestyle = 'ISO, DMY'"], ["begin", "set bytea_output = 'escape'", "rollback"]])
def test_what_is_sent_behind_unanswered_settings_is_no_action_of_another_session(plaintext, mint, first):
    """However much of it arrives at once."""

    def ask_behind(*before):
        client = Client(plaintext.port, mint())
        client.raw.sendall(b"".join(encode_query(sql) for sql in (*before, DATES)))
        messages = [message for _ in range(len(before) + 1) for message in client.read()]
        client.close()
        hint = error_of(messages)["H"]
        return next(word for word in hint.replace("`", " ").split() if word.startswith("AR-"))

    plain = ask_behind()
    assert ask_behind() == plain
    behind = ask_behind(*first)
    assert behind != plain
    assert ask_behind(*first) != behind


@pytest.mark.parametrize("behind", ["drop table customers", "select 1/0", "rollback", "begin"])
def test_a_setting_that_its_pipeline_may_take_back_is_no_part_of_an_approval(plaintext, mint, behind):
    """Outside a transaction a pipeline is one, and what comes behind the SET undoes it."""

    def ask_after(*statements):
        client = Client(plaintext.port, mint())
        if statements:
            client.converse(b"".join(parse(sql) + bind() + execute() for sql in statements) + SYNC)
            client.query("rollback")
        hint = error_of(client.query(DATES))["H"]
        client.close()
        return next(word for word in hint.replace("`", " ").split() if word.startswith("AR-"))

    set_alone = ask_after("set bytea_output = 'escape'")
    assert ask_after("set bytea_output = 'escape'") == set_alone != ask_after()
    taken_back = ask_after("set bytea_output = 'escape'", behind)
    assert taken_back not in {set_alone, ask_after()}
    assert ask_after("set bytea_output = 'escape'", behind) != taken_back
