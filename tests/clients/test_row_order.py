"""Rows come in no order that tells of a sensitive value, whatever indexes the owner made and wherever the server stands."""

from pathlib import Path

import psycopg
import pytest
from sealgate_native.postgres import encode_message, encode_query

from gateway.protocols.postgres.login import choose_heap_order
from gateway.testing.gateway import start_gateway, write_config
from gateway.testing.pgbouncer import start_pgbouncer
from gateway.testing.postgres import find_embedded, start_postgres
from gateway.testing.waiting import wait_until
from gateway.testing.wire import Client, bind, execute, kinds, parse

ROOT = Path(__file__).parents[2]

TABLES = """
create role app login password 'app';
create table illnesses (id int, illness text);
insert into illnesses values (1, 'plum');
insert into illnesses select 100000 + n, '~' || n from generate_series(1, 5000) n;
create table visits (id int primary key, note text);
grant all on illnesses, visits to app;
"""

INDEXES = {
    "behind": "create unique index told on illnesses (id, illness)",
    "before": "create index told on illnesses (illness, id)",
    "partial": "create index told on illnesses (illness) where id < 100",
    "expression": "create index told on illnesses (id, lower(illness))",
}

WARNING = "its sessions read no index in order"


@pytest.fixture
def server():
    with start_postgres() as running:
        running.run(TABLES)
        yield running


@pytest.fixture
def start(server, issuer, mint, tmp_path):
    """Sessions of a gateway under the policy as shipped, and of one before a pooler where a port is named."""

    def make(port=None, limits=None, **changes):
        password = tmp_path / "password"
        password.touch(mode=0o600)
        password.write_text("app")
        place = {"host": "127.0.0.1", "port": port or server.port, "database": "postgres", "tls": {"mode": "disable"}}
        connection = {
            "name": "shop",
            "type": "postgres",
            "target": place,
            "credential": {"user": "app", "password": f"file:{password}"},
            "environment": "staging",
            "allow_groups": ["agents"],
            "sensitive": ["public.illnesses.illness"],
        } | changes
        config = write_config(
            tmp_path / "gateway", issuer=issuer, bundle=ROOT / "rego", connections=[connection], limits=limits or {}
        )
        return start_gateway(config)

    return make


@pytest.fixture
def connect(mint):
    def make(running):
        options = {"host": "127.0.0.1", "port": running.port, "user": "agent", "sslmode": "disable", "dbname": "shop"}
        return psycopg.connect(password=mint(), autocommit=True, **options)

    return make


def ask(session, sql):
    return [row[0] for row in session.execute(sql).fetchall()]


def ask_on(session):
    """Until the snapshot is too old, and another one is read."""
    while True:
        session.execute("select 1")


@pytest.mark.parametrize("index", INDEXES)
def test_guesses_and_the_value_come_as_they_are_stored(index, server, start, connect, caplog):
    server.run(INDEXES[index] + "; analyze illnesses")
    with start() as running, connect(running) as session:
        session.execute("insert into illnesses select 1, chr(97 + n) from generate_series(0, 25) n order by md5(n::text)")
        kept = dict(line.split("|") for line in server.run("select ctid, illness from illnesses where id = 1").splitlines())
        for asked in ("where id = 1", "where id < 100 order by id", "where id < 100"):
            values = [kept[place] for place in ask(session, f"select ctid from illnesses {asked}")]
            assert len(values) == 27
            assert values != sorted(values)
    assert WARNING in caplog.text
    assert "told" in caplog.text


SERIES = ", ".join(f"generate_series(1, (select 1)) g{n}" for n in range(5))
DEAR = {
    "sort": f"select i.ctid from illnesses i, {SERIES} where i.id between 1 and 1 order by i.id",
    "merge": f"select i.ctid from {SERIES}, illnesses i join visits v on i.id = v.id where i.id < 2",
    "window": f"select i.ctid, row_number() over (partition by i.id) from illnesses i, {SERIES} where i.id < 2",
    "subplan": f"select i.ctid from illnesses i where i.id < 2 and (select count(*) from {SERIES} where g0 = i.id) >= 0 order by i.id",
}


@pytest.mark.parametrize("statement", DEAR)
def test_no_plan_is_so_dear_that_the_index_is_read_in_its_order(statement, server, start, connect):
    server.run(INDEXES["behind"] + "; analyze illnesses; insert into visits values (1, '')")
    with start() as running, connect(running) as session:
        session.execute("insert into illnesses select 1, chr(97 + n) from generate_series(0, 25) n order by md5(n::text)")
        kept = dict(line.split("|") for line in server.run("select ctid, illness from illnesses where id = 1").splitlines())
        values = [kept[place] for place in ask(session, DEAR[statement])]
        assert len(values) == 27
        assert values != sorted(values)
        plan = "\n".join(ask(session, f"explain {DEAR[statement]}"))
        assert "Index Scan using" not in plan.replace("Index Scan using visits", "")


def test_a_statement_that_could_be_dearer_is_refused(server, start, connect):
    series = [f"generate_series(1, (select 1)) g{n}" for n in range(15)]
    few, many = ", ".join(series[2:]), ", ".join(series)
    with start() as running, connect(running) as session:
        session.execute(f"select count(*) from {many}")
    server.run(INDEXES["behind"])
    with start() as running, connect(running) as session:
        session.execute(f"select count(*) from {few}")
        with pytest.raises(psycopg.Error, match="too vast"):
            session.execute(f"select count(*) from {many}")


def test_costs_stay_as_they_are_where_a_scan_that_is_off_comes_last(connect, start):
    with start_postgres(bin_dir=find_embedded()["18"]) as server:
        server.run(f"{TABLES}; {INDEXES['behind']}")
        with start(server.port) as running, connect(running) as session:
            assert ask(session, "show enable_indexscan") == ["off"]
            assert ask(session, "show seq_page_cost") == ["1"]


def test_the_same_rows_come_in_the_order_of_values_without_it(server):
    """What the test before stands on: the server takes the index where it may."""
    server.run(f"{INDEXES['behind']}; analyze illnesses")
    server.run("insert into illnesses select 1, chr(97 + n) from generate_series(0, 25) n order by md5(n::text)")
    listed = server.run("select illness from illnesses where id = 1").splitlines()
    assert listed == sorted(listed)


@pytest.mark.parametrize(
    "index", ["create index on illnesses (id)", "create unique index on illnesses (illness)", "create index on visits (id, note)"]
)
def test_other_indexes_are_read_in_their_order(index, server, start, connect, caplog):
    server.run(index)
    with start() as running, connect(running) as session:
        assert ask(session, "show enable_indexscan") == ["on"]
    assert WARNING not in caplog.text


def test_a_session_ends_that_began_before_the_index(server, start, connect):
    with start(limits={"catalog_age_s": 1}) as running, connect(running) as session:
        assert ask(session, "show enable_indexscan") == ["on"]
        server.run(INDEXES["behind"])
        with pytest.raises(psycopg.Error, match="began under definitions that hold no more"):
            ask_on(session)
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
        with connect(running) as later:
            assert ask(later, "show enable_indexscan") == ["off"]
    assert any("in the order of a sensitive column" in str(record) for record in running.read_records())


def test_a_pooler_that_drops_settings_carries_no_session(server, start, connect, caplog):
    server.run(INDEXES["behind"])
    costs = server.run("select name || '|' || setting from pg_settings where name ~ '_cost$'").splitlines()
    fixed = choose_heap_order(150_000, {name: float(value) for name, _, value in (line.partition("|") for line in costs)})
    names = ",".join(fixed)
    options = {"database": "postgres", "role": "app", "password": "app"}
    with start_pgbouncer(server, **options, settings={"ignore_startup_parameters": names}) as (_, port), start(port) as running:
        with pytest.raises(psycopg.OperationalError, match="target of this connection is not available"):
            connect(running)
        assert "enable_indexonlyscan, enable_indexscan, jit_above_cost" in caplog.text
        server.run(";".join(f"alter role app set {name} = '{value}'" for name, value in fixed.items()))
        server.run("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
        with connect(running) as session:
            session.execute("reset all")
            assert ask(session, "show enable_indexscan") == ["off"]


def test_a_pooler_that_refuses_settings_is_named_to_the_operators(server, start, connect, caplog):
    with start_pgbouncer(server, database="postgres", role="app", password="app") as (_, port), start(port) as running:
        with pytest.raises(psycopg.OperationalError, match="target of this connection is not available"):
            connect(running)
        assert "unsupported startup parameter: enable_indexonlyscan" in caplog.text


def test_nothing_is_fixed_where_no_column_is_sensitive(server, start, connect):
    pooler = start_pgbouncer(server, database="postgres", role="app", password="app")
    with pooler as (_, port), start(port, sensitive=[]) as running, connect(running) as session:
        assert ask(session, "show enable_indexonlyscan") == ["on"]


@pytest.mark.parametrize(
    ("index", "statement", "counted"),
    [
        ("create index on illnesses (illness)", "insert into illnesses select 1, 'x' || n from generate_series(1, 600) n", True),
        (
            "create index on illnesses (lower(illness))",
            "insert into illnesses select 1, 'x' || n from generate_series(1, 600) n",
            True,
        ),
        ("create index on illnesses (id)", "insert into illnesses select 1, 'x' || n from generate_series(1, 600) n", False),
        ("create index on illnesses (illness)", "insert into illnesses (id) select 1 from generate_series(1, 600) n", False),
        ("create index on illnesses (illness)", "update illnesses set illness = id::text where id > 104400", True),
    ],
)
def test_guesses_that_an_index_compares_are_counted_row_by_row(index, statement, counted, server, start, connect):
    server.run(index)
    with start() as running, connect(running) as session:
        session.execute(statement)
        for again in ("insert into illnesses values (1, 'guess')", "update illnesses set illness = 'guess' where id = 100001"):
            if counted:
                with pytest.raises(psycopg.Error, match="limit reached"):
                    session.execute(again)
            else:
                session.execute(again)


def test_so_are_those_of_a_view_and_of_a_with_and_none_are_loaded(server, start, connect):
    server.run("create index on illnesses (illness); create view seen as select id as key, illness as ill from illnesses")
    server.run("grant all on seen to app")
    with start() as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match="may not be filled by COPY"), session.cursor() as cursor:
            cursor.execute("copy illnesses from stdin")
        session.execute("insert into seen select 1, 'y' || n from generate_series(1, 300) n")
        session.execute("with made as (insert into illnesses values (1, 'z') returning id) select count(*) from made")
        session.execute("insert into illnesses select 1, 'w' || n from generate_series(1, 100) n")
        with pytest.raises(psycopg.Error, match="limit reached"):
            session.execute("insert into illnesses values (1, 'guess')")


@pytest.mark.parametrize(
    ("statement", "count"),
    [
        ("insert into illnesses select 1, 'plum' from generate_series(1, 9) n", 5),
        ("insert into illnesses values (1, 'fig'), (1, 'plum')", 5),
        ("update illnesses set illness = 'plum' where id = 100001", 5),
        ("insert into illnesses values (generate_series(1, 9) / (9 - generate_series(1, 9)), 'x' || generate_series(1, 9))", 5),
        ("insert into illnesses values (1, 'plum')", 7),
    ],
)
def test_a_change_of_several_rows_that_fails_counts_for_many(statement, count, server, start, connect):
    server.run("create unique index on illnesses (illness)")
    with start() as running, connect(running) as session:
        for _ in range(count):
            with pytest.raises((psycopg.errors.UniqueViolation, psycopg.errors.DivisionByZero)):
                session.execute(statement)
        if count == 5:
            with pytest.raises(psycopg.Error, match="limit reached"):
                session.execute(statement)


def test_rows_moved_beside_a_sensitive_value_count(server, start, connect):
    server.run(INDEXES["behind"])
    with start() as running, connect(running) as session:
        session.execute("update illnesses set id = id + 1000000 where id > 104400")
        with pytest.raises(psycopg.Error, match="limit reached"):
            session.execute("update illnesses set id = 7 where id = 100001")


def test_rows_of_a_portal_that_was_not_read_to_its_end_count_for_many(server, start, mint):
    """The server writes all of them before it returns the first, and does not say how many."""
    server.run("create index on illnesses (illness)")
    guesses = "insert into illnesses select 1, 'x' || n from generate_series(1, 120) n returning id"
    with start() as running:
        client = Client(running.port, mint())
        for number in range(6):
            replies = client.converse(parse(guesses) + bind() + execute(rows=1) + encode_message("S", b""))
            assert ("E" in kinds(replies)) == (number == 5)
        client.close()


def test_what_a_session_leaves_behind_counts_as_well(server, start, connect, mint):
    server.run("create index on illnesses (illness)")
    with start() as running:
        token = mint()
        for _ in range(5):
            client = Client(running.port, token)
            client.raw.sendall(encode_query("insert into illnesses select 1, 'x' || n from generate_series(1, 1000000) n"))
            wait_until(lambda: server.run("select count(*) from pg_stat_activity where query like 'insert into ill%'") != "0")
            client.raw.close()
            wait_until(lambda: running.session_count == 0)
        client = Client(running.port, token)
        assert b"limit reached" in dict(client.query("insert into illnesses values (1, 'guess')"))["E"]
        client.close()


def test_rows_of_tables_of_its_own_count_for_nothing(server, start, connect):
    server.run("grant create on schema public to app")
    with start() as running, connect(running) as session, session.transaction():
        session.execute("create table mine (id int primary key, illness text unique)")
        session.execute("insert into mine select n, 'x' || n from generate_series(1, 600) n")
        session.execute("insert into mine values (0, '')")


def test_a_pipeline_writes_no_more_before_it_is_counted(server, start, mint):
    server.run("create index on illnesses (illness)")
    guesses = parse("insert into illnesses select 1, 'x' || n from generate_series(1, 1000) n") + bind() + execute()
    with start() as running:
        client = Client(running.port, mint())
        replies = kinds(client.converse(guesses * 20 + encode_message("S", b"")))
        assert replies.count("C") == 5
        client.close()


def test_a_change_of_one_row_counts_for_one_once_it_is_done(server, start, connect):
    server.run("create index on illnesses (illness)")
    with start() as running, connect(running) as session:
        for number in range(50):
            session.execute(f"update illnesses set illness = 'guess{number}' where id = 100001")
