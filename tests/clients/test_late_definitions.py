"""Definitions that take effect while replies, or whole sessions, get ahead of them: nothing is judged by what the catalogue was before."""

from pathlib import Path

import psycopg
import pytest
from sealgate_native.postgres import encode_message, encode_query

from gateway.testing.gateway import start_gateway, write_config
from gateway.testing.waiting import wait_until
from gateway.testing.wire import SYNC, Client, bind, error_of, execute, kinds, parse

ROOT = Path(__file__).parents[2]
READS = "select upper(ssn) from customers limit 1"
"""Reads a table of the agent's own until that is renamed; then the one of the same name with values to mask."""

MOVE = "alter table late.customers rename to elsewhere"
SETUP = """
drop schema if exists late cascade;
create schema late authorization sealgate_owner;
create table late.customers (id int, ssn text);
create table late.first (id int);
create table late.second (id int);
alter table late.customers owner to sealgate_owner;
alter table late.first owner to sealgate_owner;
alter table late.second owner to sealgate_owner;
"""
STUBBORN = """
create function public.wait_stubbornly() returns event_trigger language plpgsql as $$
begin
  loop
    begin
      lock table late.first in access share mode;
      return;
    exception when query_canceled then null;
    end;
  end loop;
end $$;
create event trigger stubborn on ddl_command_start when tag in ('ALTER TABLE') execute function public.wait_stubbornly();
"""
"""Every ALTER TABLE waits for a lock, and takes no cancellation for an answer."""


@pytest.fixture
def log_in(server, issuer, mint, make_connection, tmp_path):
    """Sessions by hand whose search path has a table of the agent's own before the sensitive one."""
    server.run(SETUP, database="shop")
    connections, opened = [make_connection(environment="sandbox")], []
    with start_gateway(
        write_config(tmp_path / "gateway", issuer=issuer, bundle=ROOT / "rego", connections=connections)
    ) as running:

        def make(path="late,public"):
            client = Client(running.port)
            client.login(mint(), search_path=path)
            opened.append(client)
            return client

        yield make
        for client in opened:
            client.close()
    server.run("drop schema late cascade", database="shop")


@pytest.fixture
def lock(server):
    """Keeps everybody else from a table until closed; what waits for it waits for as long as the test wants."""
    opened = []

    def take(table):
        opened.append(psycopg.connect(host=str(server.socket_dir), port=server.port, dbname="shop", user="postgres"))
        opened[-1].execute(f"lock table late.{table} in access exclusive mode")
        return opened[-1]

    yield take
    for connection in opened:
        connection.close()


@pytest.fixture
def stubborn(server, log_in):
    server.run(STUBBORN, database="shop")
    yield
    server.run("drop event trigger stubborn; drop function public.wait_stubbornly()", database="shop")


@pytest.fixture
def waits(server):
    """Whether a session of the gateway's waits for a lock in the database."""
    sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and usename = 'sealgate_owner'"
    return lambda: server.run(sql, database="shop").strip() == "1"


@pytest.fixture
def has_moved(server):
    return lambda: server.run("select to_regclass('late.elsewhere') is not null", database="shop").strip() == "t"


def read_values(client):
    """What READS gives: nothing from the agent's own table."""
    return [body[6:] for kind, body in client.query(READS) if kind == "D"]


def is_known(client):
    """Whether a session reads the other table, which it is refused until the definition is known to be in effect."""
    values = read_values(client)
    assert values in ([], [b"[redacted]"])
    return values


def run(sql):
    return parse(sql) + bind() + execute()


SLOW_MOVE = f"select count(*) from late.first; {MOVE}"

AHEAD = {
    "two queries": (None, encode_query("select 1"), encode_query(SLOW_MOVE)),
    "two Syncs": (None, run("select 1") + SYNC, run("select count(*) from late.first") + run(MOVE) + SYNC),
    "a failing query": (None, encode_query("select 1/0"), encode_query(SLOW_MOVE)),
    "ROLLBACK": ("begin", encode_query("rollback"), encode_query(f"begin; {SLOW_MOVE}; commit")),
    "COMMIT AND CHAIN": ("begin", encode_query("commit and chain"), encode_query(f"{SLOW_MOVE}; commit and chain")),
    "COMMIT of what was renamed before": (
        f"begin; {MOVE}",
        encode_query("select 1"),
        encode_query("select count(*) from late.first; commit"),
    ),
}


@pytest.mark.parametrize("case", AHEAD)
def test_the_answer_to_what_was_sent_before_settles_nothing(log_in, lock, waits, case):
    before, ahead, moves = AHEAD[case]
    mover, other, held = log_in(), log_in(), lock("first")
    assert read_values(other) == []
    if before is not None:
        mover.query(before)
    mover.raw.sendall(ahead + moves)
    assert kinds(mover.read())[-1] == "Z"
    wait_until(waits)
    other.query("select 1")  # reads the catalogue as it still is
    mover.raw.sendall(encode_query(READS))
    held.close()
    mover.read()
    messages = mover.read()
    assert "renamed, moved" in str(error_of(messages))
    assert "D" not in kinds(messages)
    mover.query("rollback")
    for session in (mover, other, log_in()):
        assert read_values(session) == [b"[redacted]"]


def test_what_was_committed_counts_before_the_server_says_so(log_in, lock, waits, has_moved):
    """One text goes on after its COMMIT for as long as it likes, and the server answers once it is done."""
    mover, other, first, second = log_in(), log_in(), lock("first"), lock("second")
    mover.raw.sendall(encode_query(f"begin; {SLOW_MOVE}; commit; select count(*) from late.second"))
    wait_until(waits)
    assert read_values(other) == []
    first.close()
    wait_until(has_moved)
    assert "renamed, moved" in str(error_of(other.query(READS)))
    second.close()
    mover.read()
    for session in (mover, other):
        assert read_values(session) == [b"[redacted]"]


def test_a_table_that_comes_to_stand_before_another_counts_from_when_it_is_sent(log_in, lock, waits):
    """CREATE TABLE AS adds a table, and takes a name from one that is searched later."""
    mover, other, first = log_in(), log_in(), lock("first")
    assert "D" in kinds(other.query("select id from orders limit 1"))
    mover.raw.sendall(encode_query("create table late.orders as select id from late.first"))
    wait_until(waits)
    assert "renamed, moved" in str(error_of(other.query("select id from orders limit 1")))
    assert "D" in kinds(other.query("select id from public.accounts limit 1"))
    first.close()
    mover.read()
    assert "D" not in kinds(other.query("select id from orders limit 1"))


def test_a_violation_cancels_what_the_server_runs(log_in, lock, waits, has_moved):
    mover, _ = log_in(), lock("first")
    mover.raw.sendall(encode_query(SLOW_MOVE))
    wait_until(waits)
    mover.raw.sendall(encode_message("\1", b""))
    assert error_of(mover.read())["C"] == "08P01"
    wait_until(lambda: not waits())
    assert not has_moved()


@pytest.mark.parametrize("end", ["violation", "client left"])
def test_what_takes_effect_after_its_session_is_known_all_the_same(log_in, stubborn, lock, waits, has_moved, end):
    mover, other, held = log_in(), log_in(), lock("first")
    assert read_values(other) == []
    mover.raw.sendall(encode_query(MOVE))
    wait_until(waits)
    assert "renamed, moved" in str(error_of(other.query(READS)))
    if end == "violation":
        mover.raw.sendall(encode_message("\1", b""))
        assert error_of(mover.read())["C"] == "08P01"
    else:
        mover.close()
    other.query("select 1")  # reads the catalogue as it still is
    held.close()
    wait_until(has_moved)
    wait_until(lambda: is_known(other))


def test_names_of_a_failed_transaction_do_not_pile_up(log_in):
    """Beyond a bound every name counts as moved, until the transaction is over."""
    mover = log_in()
    mover.query("begin")
    for start in range(0, 1_200, 400):
        mover.query("; ".join(f"alter table late.absent{number} rename to gone" for number in range(start, start + 400)))
    assert "renamed, moved" in str(error_of(mover.query("select count(*) from orders")))
    mover.query("rollback")
    assert "D" in kinds(mover.query("select count(*) from orders"))


def test_sessions_that_do_not_see_the_schema_go_on(log_in, lock, waits):
    mover, elsewhere, held = log_in(), log_in("public"), lock("first")
    mover.raw.sendall(encode_query(SLOW_MOVE))
    wait_until(waits)
    assert read_values(elsewhere) == [b"[redacted]"]
    assert "renamed, moved" in str(error_of(elsewhere.query("select id from late.customers")))
    held.close()
    mover.read()
