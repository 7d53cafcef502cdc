"""An ended session is freed at once, not when Python looks for cycles: the snapshot it was judged by would stay with it for minutes."""

import contextlib
import gc

import psycopg
import pytest

from evidence.session import SessionLog
from gateway.pipeline import PipelineSession
from gateway.serve.listeners import Wire
from gateway.serve.postgres.session import PostgresSession
from gateway.testing.waiting import wait_until


def say_good_bye(connection):
    connection.execute("select name from customers where id = %s", (1,), prepare=True)
    connection.close()


def leave_without_a_word(connection):
    connection.execute("select name from customers where id = 1")
    psycopg.pq.PGconn.finish(connection.pgconn)


def leave_in_the_middle(connection):
    connection.pgconn.send_query(b"select pg_sleep(60)")
    with contextlib.suppress(psycopg.Error):
        connection.pgconn.flush()
    connection.pgconn.finish()


def be_refused(connection):
    for text in ("delete from customers", "select name from nowhere", "set search_path = other", "no statement at all"):
        with pytest.raises(psycopg.Error):
            connection.execute(text)
    connection.close()


def define(connection):
    connection.execute("create table ended_here (id int)")
    connection.execute("drop table ended_here")
    connection.close()


def roll_back(connection):
    for text in ("begin", "declare c cursor for select id from customers", "fetch 2 from c", "rollback"):
        connection.execute(text)
    connection.close()


def be_turned_away(connection):
    info = connection.info
    for changes in ({"password": "no token"}, {"dbname": "nowhere"}):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(**(info.get_parameters() | {"password": info.password} | changes))
    connection.close()


def find_sessions():
    """What there is of sessions, as (kind, session id): a reference would keep it."""
    found = set()
    for each in gc.get_objects():
        if type(each) in SESSION:
            session = getattr(each, "_session", each)
            found.add((type(each).__name__, getattr(session, "sid", None) or session.id))
    return found


def count_wires():
    return sum(type(each) is Wire for each in gc.get_objects())


SESSION = (PostgresSession, PipelineSession, SessionLog)
ENDINGS = [say_good_bye, leave_without_a_word, leave_in_the_middle, be_refused, define, roll_back, be_turned_away]


@pytest.mark.parametrize("end", ENDINGS)
def test_an_ended_session_is_no_garbage(connect, gateway, end):
    with connect() as first:
        first.execute("select name from customers where id = 1")
    wait_until(lambda: gateway.session_count == 0)
    gc.collect()
    others, wires = find_sessions(), count_wires()  # of other gateways of this process, and connections for questions
    gc.disable()
    try:
        connection = connect()
        assert len(find_sessions() - others) == len(SESSION)
        end(connection)
        wait_until(lambda: not find_sessions() - others and count_wires() <= wires)
    finally:
        gc.enable()
