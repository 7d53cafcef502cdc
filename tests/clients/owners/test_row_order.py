"""Rows come in no order that tells of a sensitive value, whatever indexes the owner made and wherever the server stands."""

from pathlib import Path

import psycopg
import pytest
from sealgate_native.postgres import encode_message

from gateway.protocols.postgres.login import choose_heap_order, choose_unordered
from gateway.testing.pgbouncer import start_pgbouncer
from gateway.testing.wire import Client, bind, execute, kinds, parse

ROOT = Path(__file__).parents[2]

INDEXES = {
    "behind": "create unique index told on illnesses (id, illness)",
    "before": "create index told on illnesses (illness, id)",
    "partial": "create index told on illnesses (illness) where id < 100",
    "expression": "create index told on illnesses (id, lower(illness))",
}

SHUFFLED = "insert into illnesses select 1, chr(97 + n) from generate_series(0, 25) n order by md5(n::text) limit 26"

WARNING = "its sessions read no index in order"


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
        session.execute(SHUFFLED)
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
        session.execute(SHUFFLED)
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


@pytest.mark.parametrize("server", ["18"], indirect=True)
def test_costs_stay_as_they_are_where_a_scan_that_is_off_comes_last(server, connect, start):
    server.run(INDEXES["behind"])
    with start() as running, connect(running) as session:
        assert ask(session, "show enable_indexscan") == ["off"]
        assert ask(session, "show seq_page_cost") == ["1"]


def test_the_same_rows_come_in_the_order_of_values_without_it(server):
    """What the test before stands on: the server takes the index where it may."""
    server.run(f"{INDEXES['behind']}; analyze illnesses")
    server.run(SHUFFLED)
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
    heap_order = choose_heap_order(150_000, {name: float(value) for name, _, value in (line.partition("|") for line in costs)})
    fixed = {**choose_unordered(150_000), **heap_order}
    names = ",".join(fixed)
    options = {"database": "postgres", "role": "app", "password": "app"}
    with start_pgbouncer(server, **options, settings={"ignore_startup_parameters": names}) as (_, port), start(port) as running:
        with pytest.raises(psycopg.OperationalError, match="target of this connection is not available"):
            connect(running)
        assert "enable_indexonlyscan, enable_indexscan, enable_memoize, jit_above_cost" in caplog.text
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


def test_no_cache_compares_values_that_nothing_compares(server, start, connect):
    server.run("create table tree (label text); insert into tree select 'leaf'; grant all on tree to app")
    by_value = "select k, z.r from ((select substr(illness, 1, 1) s from illnesses where id = 1 union all values ('a'), ('b') offset 0) y"
    by_value += " cross join generate_series(1, 100) k) left join lateral (select y.s || label r from tree offset 0) z on true"
    with start() as running, connect(running) as session:
        assert ask(session, "show enable_memoize") == ["off"]
        assert "Memoize" not in "".join(ask(session, f"explain {by_value}"))
        with pytest.raises(psycopg.Error):
            session.execute("set enable_memoize = on")
    with start(sensitive=[]) as running, connect(running) as session:
        assert "Memoize" in "".join(ask(session, f"explain {by_value}"))


def write_guesses(count, start="x"):
    """An INSERT of so many values that an index compares with sensitive ones."""
    return "insert into illnesses values " + ", ".join(f"(1, '{start}{number}')" for number in range(count))


@pytest.mark.parametrize(
    ("index", "statement", "is_counted"),
    [
        ("create index on illnesses (illness)", write_guesses(500), True),
        ("create index on illnesses (lower(illness))", write_guesses(500), True),
        ("create index on illnesses (id)", write_guesses(600), False),
        ("create index on illnesses (illness)", "insert into illnesses (id) select 1 from generate_series(1, 600) n", False),
        (
            "create index on illnesses (illness)",
            "insert into illnesses select 1, 'y' || n from generate_series(1, 900) n limit 500",
            True,
        ),
        (
            """create index on illnesses (illness); create table few (id bigint primary key);
            insert into few select n from generate_series(1, 600) n; grant all on few to app""",
            "insert into illnesses select f.id, 'y' from few f where f.id in (" + ", ".join(map(str, range(500))) + ")",
            True,
        ),
    ],
)
def test_guesses_that_an_index_compares_are_counted_row_by_row(index, statement, is_counted, server, start, connect):
    server.run(index)
    with start() as running, connect(running) as session:
        session.execute(statement)
        if is_counted:
            with pytest.raises(psycopg.Error, match="has had 500"):
                session.execute("insert into illnesses values (1, 'guess')")
        else:
            session.execute("insert into illnesses values (1, 'guess')")


def test_more_than_may_be_written_is_not_begun(server, start, connect):
    server.run("create index on illnesses (illness)")
    with start() as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match="has had 0, written values included; this would be 501 more"):
            session.execute(write_guesses(501))
        session.execute(write_guesses(500))


OPEN_ENDED = (
    "insert into illnesses select 1, 'x' || n from generate_series(1, 5) n",
    """insert into illnesses with recursive r(n) as (select 1::bigint union all select n + t.last_value from r, ticks t
    where n < 100) select 1, 'x' || n from r""",
    "merge into illnesses i using visits v on i.id = v.id when not matched then insert values (v.id, 'x')",
    "update illnesses set illness = 'x' where id = 100001",
    "update illnesses set id = id + 1000000 where id > 104400",
    "with w as (update illnesses set illness = 'x' where id > 5 returning id) select count(*) from w",
    "prepare p(float8) as update visits set illness = 'x' where id = $1",
)


@pytest.fixture
def keyed(server):
    """Tables with a sensitive column in an index, with and without a key."""
    server.run(f"""{INDEXES["behind"]}; create sequence ticks; grant all on ticks to app;
        alter table visits alter id type bigint, add illness text; create index on visits (illness)""")
    return ["public.illnesses.illness", "public.visits.illness"]


def test_a_change_whose_text_does_not_bound_it_waits_for_a_reviewer(keyed, server, start, connect):
    """Another session could choose each value by what the last one told, while it counts for a few."""
    before = server.run("select count(*), max(id), max(illness) from illnesses")
    with start(sensitive=keyed, hold_s=0) as running, connect(running) as session:
        for statement in OPEN_ENDED:
            with pytest.raises(psycopg.Error, match=r"guesses\.open_ended"):
                session.execute(statement)
        with pytest.raises(psycopg.Error, match="has had 0, written"):
            session.execute(write_guesses(501))
    assert server.run("select count(*), max(id), max(illness) from illnesses") == before


BOUNDED = {
    "update visits set illness = 'x' where id = 1": 1,
    "update visits set illness = 'x' where id in (1, 2, 3)": 3,
    "update illnesses set illness = 'x' where current of c": 1,
    "insert into visits (id, illness) values (1, 'x'), (2, 'y') on conflict (id) do update set illness = excluded.illness": 2,
    "insert into visits (id, illness) values (1, 'x'), (2, 'y') on conflict (id) do nothing": 2,
    "with w as (insert into illnesses values (1, 'z') returning id) select count(*) from w": 1,
    "prepare p(bigint) as update visits set illness = 'x' where id = $1": 1,
    "execute p(1)": 1,
    "update visits set note = 'x' where id > 0": 0,
}


def test_a_change_counts_for_the_rows_it_can_write(keyed, server, start, connect):
    counted = 0
    with start(sensitive=keyed) as running, connect(running) as session:
        for statement, count in BOUNDED.items():
            with session.transaction():
                session.execute("declare c cursor for select id from illnesses")
                session.execute("fetch c")
                session.execute(statement)
            counted += count
            with pytest.raises(psycopg.Error, match=f"has had {counted}, written"):
                session.execute(write_guesses(501))


def test_a_key_compared_with_a_float_bounds_nothing(keyed, server, start, connect):
    server.run("insert into visits select 4611686018427387904 + n, '' from generate_series(1, 50) n")
    with start(sensitive=keyed, hold_s=0) as running, connect(running) as session:
        for dumper in (psycopg.types.numeric.Float4, psycopg.types.numeric.Float8):
            with pytest.raises(psycopg.Error, match=r"guesses\.open_ended"):
                session.execute("update visits set illness = 'x' where id = %s", [dumper(4611686018427387904.0)])
        session.execute("update visits set illness = 'x' where id = %s", [4611686018427387905])
    assert server.run("select count(*) from visits where illness = 'x'") == "1"


def test_so_are_those_of_a_view_and_none_are_loaded(server, start, connect):
    server.run("create index on illnesses (illness); create view seen as select id as key, illness as ill from illnesses")
    server.run("grant all on seen to app")
    with start() as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match="may not be filled by COPY"), session.cursor() as cursor:
            cursor.execute("copy illnesses from stdin")
        session.execute("insert into seen values (1, 'y'), (1, 'z')")
        with pytest.raises(psycopg.Error, match="has had 2, written"):
            session.execute(write_guesses(501))


def test_a_change_that_fails_counts_as_well(server, start, connect):
    """Whether a value is there already is what it tells."""
    server.run("create unique index on illnesses (illness)")
    with start() as running, connect(running) as session:
        session.execute(write_guesses(498))
        with pytest.raises(psycopg.errors.UniqueViolation):
            session.execute("insert into illnesses values (1, 'fig'), (1, 'plum')")
        with pytest.raises(psycopg.Error, match="has had 500, written"):
            session.execute("insert into illnesses values (1, 'plum')")


def test_rows_of_tables_of_its_own_count_for_nothing(server, start, connect):
    server.run("grant create on schema public to app")
    with start() as running, connect(running) as session, session.transaction():
        session.execute("create table mine (id int primary key, illness text unique)")
        session.execute("insert into mine select n, 'x' || n from generate_series(1, 600) n")
        session.execute("insert into mine values (0, '')")


def test_a_pipeline_writes_no_more_before_it_is_counted(server, start, mint):
    server.run("create index on illnesses (illness)")
    guesses = parse(write_guesses(100)) + bind() + execute()
    with start() as running:
        client = Client(running.port, mint())
        replies = kinds(client.converse(guesses * 20 + encode_message("S", b"")))
        assert replies.count("C") == 5
        client.close()


def test_functions_of_usual_extensions_pass_as_the_servers_own_do(server, start, connect):
    server.run('create extension citext; create extension "uuid-ossp"; create extension unaccent')
    with start() as running, connect(running) as session:
        assert session.execute("select max(id), unaccent('é'), 5 from visits where id > 0").fetchone() == (None, "e", 5)
        assert len(str(session.execute("select uuid_generate_v4()").fetchone()[0])) == 36
        with pytest.raises(psycopg.Error, match="may not be computed with"):
            session.execute("select unaccent(illness) from illnesses limit 1")
