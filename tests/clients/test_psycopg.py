"""psycopg 3 through the gateway to a real server: what agents see when things are allowed, masked, blocked or fail."""

import socket
import struct
import threading

import psycopg
import pytest
from psycopg import errors

from gateway.testing.waiting import wait_until

MASKED = "[masked]"


def test_a_read_is_allowed(connect):
    assert connect().execute("select count(*) from orders").fetchone() == (50,)


def test_a_sensitive_column_is_masked_however_it_is_asked_for(connect):
    connection = connect()
    plain = connection.execute("select name, ssn from customers where id = 1").fetchone()
    assert plain[0] == "Customer 1"
    assert "001-12-0001" not in plain[1]
    for query in (
        "select * from customers where id = 1",
        "select ssn as s from customers where id = 1",
        "select number from contacts where name = 'Customer 1'",
        "with c as (select ssn from customers) select * from c limit 1",
        "select upper(ssn) from customers where id = 1",
        "select ssn || '' from customers where id = 1",
        "select customers from customers where id = 1",
        "select json_agg(c) from customers c where id = 1",
        "table customers limit 1",
    ):
        assert "-12-0" not in str(connection.execute(query).fetchall()), query


def test_a_sensitive_column_is_masked_in_prepared_and_binary_results(connect):
    connection = connect()
    for binary in (False, True):
        for _ in range(7):  # psycopg prepares a statement on the server after five runs
            with connection.cursor(binary=binary) as cursor:
                row = cursor.execute("select id, ssn from customers where id = %s", (5,)).fetchone()
                assert row[0] == 5
                assert "-12-" not in str(row[1])


def test_a_denied_statement_says_why_and_the_session_lives_on(connect):
    connection = connect()
    with pytest.raises(errors.InsufficientPrivilege) as caught:
        connection.execute("delete from orders")
    said = caught.value.diag
    assert said.message_primary == "DELETE blocked by policy"
    assert said.message_detail == "Rule test.unbounded: A DELETE needs a WHERE clause."
    assert "Decision " in said.message_hint
    assert connection.execute("select count(*) from orders").fetchone() == (50,)


def test_a_denied_statement_with_parameters_leaves_the_pipeline_in_step(connect):
    connection = connect()
    for _ in range(3):
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("delete from orders returning %s::int", (1,))
        assert connection.execute("select %s::int", (7,)).fetchone() == (7,)


def test_who_may_not_write_is_refused_by_default(connect, mint):
    connection = connect(token=mint("reader", groups=["agents"]))
    with pytest.raises(errors.InsufficientPrivilege) as caught:
        connection.execute("update orders set amount = 0 where id = 1")
    assert "default.deny.write" in caught.value.diag.message_detail


def test_transactions_keep_their_true_status_after_a_denial(connect):
    connection = connect(autocommit=False)
    connection.execute("insert into orders (customer, amount) values (1, 1)")
    with pytest.raises(errors.InsufficientPrivilege):
        connection.execute("delete from orders")
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    connection.execute("select 1")
    connection.rollback()
    assert connection.execute("select count(*) from orders").fetchone() == (50,)
    connection.rollback()


def test_writes_go_through_and_commit(connect):
    connection = connect(autocommit=False)
    connection.execute("insert into orders (id, customer, amount) values (9001, 1, 1)")
    connection.commit()
    assert connection.execute("delete from orders where id = 9001").rowcount == 1
    connection.commit()


def test_errors_of_the_server_arrive_with_their_code_and_masked_text(connect):
    connection = connect()
    with pytest.raises(errors.DivisionByZero):
        connection.execute("select 1/0")
    with pytest.raises(errors.InvalidTextRepresentation) as caught:
        connection.execute("select 'x 4111111111111111'::int")
    assert "4111111111111111" not in caught.value.diag.message_primary
    with pytest.raises(errors.UniqueViolation):
        connection.execute("insert into orders (id, customer, amount) values (1, 1, 1)")
    assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize(
    "statement",
    [
        "select (ssn || 'x')::int from customers where id = 7",
        "select ('value ' || name || ssn)::uuid from customers where id = 7",
        "update customers set id = 8 where id = 7",
        "insert into customers (id, name, ssn) values (7, 'new', 'planted 007-12-0007 planted')",
    ],
)
def test_errors_never_quote_what_a_sensitive_statement_met(connect, statement):
    connection = connect()
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statement)
    diag = caught.value.diag
    shown = " ".join(filter(None, (diag.message_primary, diag.message_detail, diag.message_hint, diag.context)))
    assert "007-12" not in shown
    assert "withheld" in diag.message_primary
    assert diag.message_detail is None
    assert diag.sqlstate[:2] in {"22", "23"}
    with pytest.raises(errors.UndefinedColumn, match="nowhere"):
        connection.execute("select nowhere from customers")
    with pytest.raises(errors.InvalidTextRepresentation, match="plain"):
        connection.execute("select 'plain'::int")


HIDDEN_UNTIL_THE_END = {
    "rows": ("update customers set name = name where id = 7", "select 'plain'::int"),
    "locks": ("select name from customers where id = 7 for update", "select 'plain'::int"),
    "cursor": ("declare c cursor for select ssn from customers", "select 'plain'::int"),
}


@pytest.mark.parametrize("before", HIDDEN_UNTIL_THE_END)
def test_what_may_speak_later_hides_what_comes_in_its_transaction(before, connect):
    first, later = HIDDEN_UNTIL_THE_END[before]
    connection = connect()
    for statement in ("begin", first):
        connection.execute(statement)
    with pytest.raises(errors.InvalidTextRepresentation, match="withheld"):
        connection.execute(later)
    connection.execute("rollback")
    with pytest.raises(errors.InvalidTextRepresentation, match="plain"):
        connection.execute(later)


@pytest.mark.parametrize(
    "before", ["select ssn from customers", "select attname from pg_attribute limit 1", "select n_distinct from pg_stats limit 1"]
)
def test_what_was_only_read_hides_nothing_that_comes_after_its_answer(before, connect):
    connection = connect()
    later = "select 'plain'::int"
    for statement in ("begin", before):
        connection.execute(statement)
    with pytest.raises(errors.InvalidTextRepresentation, match="plain"):
        connection.execute(later)
    connection.execute("rollback")
    with pytest.raises(errors.InvalidTextRepresentation, match="withheld"):
        connection.execute(f"{before}; {later}")

    def send_both():
        with connection.pipeline():
            connection.execute(before)
            connection.execute(later)

    with pytest.raises(errors.InvalidTextRepresentation, match="withheld"):
        send_both()


def test_card_numbers_are_found_in_any_text(connect):
    value = connect().execute("select 'card 4111111111111111 end'").fetchone()[0]
    assert value.startswith("card ")
    assert value.endswith(" end")
    assert "4111" not in value


def test_a_view_that_is_replaced_changes_the_masks_of_prepared_statements(connect):
    connection = connect()
    connection.execute("create view shifting as select id, name as value from customers")
    try:
        for _ in range(7):
            (value,) = connection.execute("select value from shifting where id = %s", (1,)).fetchone()
            assert value == "Customer 1"
        connection.execute("create or replace view shifting as select id, ssn as value from customers")
        (value,) = connection.execute("select value from shifting where id = %s", (1,)).fetchone()
        assert "-12-" not in value
    finally:
        connection.execute("drop view shifting")


def test_notices_are_masked(connect):
    connection = connect()
    heard = []
    connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    connection.execute("create table if not exists orders (x text)")
    assert heard
    assert all("4111111111111111" not in text for text in heard)


def test_copy_out_of_harmless_and_sensitive_tables(connect):
    connection = connect()
    with connection.cursor().copy("copy orders (id, customer) to stdout") as copy:
        assert len(list(copy.rows())) == 50
    with connection.cursor() as cursor, cursor.copy("copy customers (id, ssn) to stdout") as copy:
        assert b"-12-" not in b"".join(bytes(block) for block in copy)


def test_copy_in(connect):
    connection = connect(autocommit=False)
    with connection.cursor().copy("copy orders (id, customer, amount) from stdin") as copy:
        for number in range(100):
            copy.write_row((20_000 + number, 1, 5))
    assert connection.execute("select count(*) from orders where id >= 20000").fetchone() == (100,)
    connection.rollback()


def test_pipelines(connect):
    connection = connect()
    with connection.pipeline():
        results = [connection.execute("select %s::int", (number,)) for number in range(50)]
    assert [result.fetchone()[0] for result in results] == list(range(50))


def test_a_denial_inside_a_pipeline(connect):
    connection = connect()

    def run_three():
        with connection.pipeline() as pipeline:
            for statement in ("select 1", "delete from orders", "select 2"):
                connection.execute(statement)
            pipeline.sync()

    with pytest.raises(errors.InsufficientPrivilege):
        run_three()
    assert connection.execute("select count(*) from orders").fetchone() == (50,)


def test_server_side_cursors(connect):
    connection = connect(autocommit=False)
    with connection.cursor(name="rows") as cursor:
        cursor.itersize = 10
        cursor.execute("select id from orders order by id")
        assert len(cursor.fetchall()) == 50
    connection.rollback()


def test_large_results_are_whole(connect):
    rows = connect().execute("select id, note from events order by id").fetchall()
    assert len(rows) == 100_000
    assert rows[-1] == (100_000, "x" * 100)


def test_a_running_statement_can_be_cancelled(connect, server):
    connection = connect()
    active = "select count(*) from pg_stat_activity where query like 'select pg_sleep(60)%' and state = 'active'"

    def cancel():
        wait_until(lambda: server.run(active) == "1")
        connection.cancel_safe(timeout=10)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(errors.QueryCanceled):
        connection.execute("select pg_sleep(60)")
    canceller.join()
    assert connection.execute("select 1").fetchone() == (1,)


def test_a_made_up_cancel_key_does_nothing(connect, gateway, authority):
    connection = connect()
    with socket.create_connection(("127.0.0.1", gateway.port)) as raw:
        raw.sendall(struct.pack("!iiii", 16, 80877102, connection.info.backend_pid, 12345))
        assert raw.recv(1) == b""
    assert connection.execute("select 1").fetchone() == (1,)


def test_the_backend_pid_is_not_the_servers(connect, server):
    pid = connect().info.backend_pid
    assert server.run(f"select count(*) from pg_stat_activity where pid = {pid}") == "0"


@pytest.mark.parametrize(
    "statement",
    [
        "set search_path to pg_temp",
        "set client_encoding to 'SJIS'",
        "set standard_conforming_strings to off",
        "set names 'LATIN1'",
        "set search_path = ''; select 1",
        "select set_config(name, 'pg_temp', false) from pg_settings where name = 'search_path'",
        "select set_config('search_' || 'path', 'pg_temp', false)",
        "SELECT set_config(name, 'pg_temp', false) FROM pg_settings WHERE name = 'search_path'",
    ],
)
def test_what_the_gateway_pins_stays(connect, statement):
    connection = connect()
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statement)
    assert caught.value.diag.sqlstate in {"0A000", "42501", "08P01"}
    assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize(
    "statement",
    [
        "set client_encoding to 'UTF8'",
        "reset client_encoding",
        "set standard_conforming_strings = on",
        "select pg_catalog.set_config('search_path', '', false)",
        "set search_path to ''",
        "reset search_path",
        "reset all",
    ],
)
def test_setting_a_pin_to_what_it_is_is_harmless(connect, statement):
    connect().execute(statement)


def test_sql_ascii_is_utf8_without_its_name(connect):
    """Where the server keeps UTF-8, both mean the same bytes; psycopg then reads text as bytes."""
    connection = connect()
    connection.execute("set client_encoding to sql_ascii")
    assert connection.info.parameter_status("client_encoding") == "SQL_ASCII"
    assert connection.execute("select 'é', ssn from customers where id = 1".encode()).fetchone() == ("é".encode(), b"[redacted]")
    with pytest.raises(psycopg.errors.ProtocolViolation, match="cannot be read"):
        connection.execute(b"select '\xe9'")
    connection.execute("reset client_encoding")
    assert connection.execute("select 'é'").fetchone() == ("é",)


def test_a_parameter_of_a_type_the_gateway_has_not_read_is_refused(connect, server):
    connection = connect()
    connection.execute("select 1")
    told = []
    for number in range(5):  # the catalogue may be read anew in between, and then holds it
        oid = server.run(f"create type fresh{number} as enum ('a'); select 'fresh{number}'::regtype::oid", database="shop")
        told.append(connection.pgconn.exec_params(b"select $1", [b"a"], [int(oid)]).error_message)
        server.run(f"drop type fresh{number}", database="shop")
    assert any(b"not in the catalogue as the gateway knows it" in message for message in told)


def test_a_cursor_is_never_another_statements(connect):
    connection = connect(autocommit=False)
    connection.execute("declare c cursor for select upper(name) from customers order by id")
    assert connection.execute("fetch 1 from c").fetchone() == ("CUSTOMER 1",)
    connection.execute("close c")
    connection.execute("declare c cursor for select upper(ssn) from customers order by id")
    assert "-12-" not in str(connection.execute("fetch 5 from c").fetchall())
    connection.rollback()
    connection.execute("prepare p as select upper(name) from customers where id = 1")
    assert connection.execute("execute p").fetchone() == ("CUSTOMER 1",)
    connection.execute("deallocate p")
    connection.execute("prepare p as select upper(ssn) from customers where id = 1")
    assert "-12-" not in str(connection.execute("execute p").fetchone())
    connection.execute("deallocate p")


def test_a_prepared_fetch_keeps_no_plan_of_an_earlier_cursor(connect):
    connection = connect(autocommit=False)
    for column in ("name", "ssn", "name"):
        connection.execute(f"declare c cursor for select upper({column}) from customers order by id")
        for _ in range(3):
            rows = connection.execute("fetch 1 from c", prepare=True).fetchall()
            assert "-12-" not in str(rows)
        connection.execute("close c")


def test_a_syntax_error_has_its_own_code(connect):
    with pytest.raises(errors.SyntaxError, match="cannot be read"):
        connect().execute("selec 1")


def test_what_is_made_anew_is_nothing_an_error_could_quote(connect):
    connection = connect()
    connection.execute("begin")
    connection.execute("create table made_anew (id int primary key)")
    with pytest.raises(errors.DuplicateTable, match='relation "made_anew" already exists'):
        connection.execute("create table made_anew (id int primary key)")
    connection.execute("rollback")
