"""What the owner of a database made, and an agent sets off without naming it: code below code, keys of partitions, views, policies."""

import shutil

import psycopg
import pytest

from tests.clients.test_other_rows import SENSITIVE, people, write_trigger  # noqa: F401 - fixtures
from tests.clients.test_row_order import connect, server, start  # noqa: F401 - fixtures


BELOW = {
    "rows that a body takes away": """create table closings (id int primary key, person int); grant all on closings to app;
        create function closed() returns trigger language plpgsql as $$ begin delete from people where id = new.person; return new; end $$;
        create trigger closed after insert on closings for each row execute function closed();"""
    + write_trigger("if exists (select from guesses where old.code like pattern) then raise 'no'; end if;", "before delete"),
    "one function of two tables": """create table orders (id int primary key, person int); create table archive (body jsonb);
        create table closings (id int primary key, person int); grant all on closings, archive, orders to app;
        create function kept() returns trigger language plpgsql as $$ begin insert into archive values (to_jsonb(old)); return old; end $$;
        create trigger kept after delete on orders for each row execute function kept();
        create trigger kept after delete on people for each row execute function kept();
        create function closed() returns trigger language plpgsql as $$ begin
            update guesses set most = 1 where id = 1; delete from orders where person = new.person; delete from people where id = new.person; return null; end $$;
        create trigger closed after insert on closings for each row execute function closed()""",
    "what a body makes up": """create table closings (id int primary key, person int); create table log (said text); grant all on closings, log to app;
        create function closed() returns trigger language plpgsql as $$ begin
            insert into people (id, code) values (new.person, gen_random_uuid()); return new; end $$;
        create trigger closed after insert on closings for each row execute function closed();"""
    + write_trigger("insert into log values (new.code);", "after insert"),
    "generated of what the server chooses": """alter table people alter code set default gen_random_uuid()::text;
        alter table people add shown text generated always as (upper(code)) stored; create table log (said text); grant all on log to app;
        create table closings (id int, person int); create rule closed as on insert to closings do instead insert into people (id) values (new.person);
        grant all on closings to app;"""
    + write_trigger("insert into log values (new.shown);", "after insert"),
    "argument that is left out": """create function most() returns int language sql stable as $$ select max(income) from people $$;
        create function within(amount int, most int default most()) returns boolean language sql stable as $$ select amount <= most $$;
        create table closings (id int, person int check (within(person))); grant all on closings to app""",
    "domain of a result": """create function known(t text) returns boolean language sql stable as $$ select not exists (select from people where code = t) $$;
        create domain reference as text check (known(value));
        create function refer(a text) returns reference language plpgsql as $$ begin return a; end $$;
        create table closings (id int, person int, check (refer(person::text) is not null)); grant all on closings to app""",
}


@pytest.mark.parametrize("name", BELOW)
def test_what_runs_further_down_is_judged_for_the_table_it_runs_for(name, people, start, connect):  # noqa: F811
    people.run(BELOW[name])
    with (
        start(sensitive=[*SENSITIVE, *(["public.people.shown"] if "generated" in name else [])], hold_s=0) as running,
        connect(running) as session,
        pytest.raises(psycopg.Error, match=r"functions\.(hook|cast)"),
    ):
        session.execute("insert into closings values (1, 1)")


def test_a_partition_is_held_against_the_keys_of_its_parent(people, start, connect):  # noqa: F811
    people.run("""create function area(v text) returns text language plpgsql immutable as $$ begin
            if exists (select from guesses where v like pattern) then raise 'no'; end if; return 'a'; end $$;
        create table clients (id int, name text, code text) partition by list (area(code));
        create table clients_a partition of clients for values in ('a'); insert into clients values (1, 'n', 'zebra'); grant all on clients_a to app""")
    with (
        start(sensitive=["public.clients.code"], hold_s=0) as running,
        connect(running) as session,
        pytest.raises(psycopg.Error, match=r"functions\.hook"),
    ):
        session.execute("update clients_a set name = 'x' where id = 1")


def test_a_search_text_of_any_name_is_generated(people, start, connect):  # noqa: F811
    people.run("""alter table people add "suche_für\\x" tsvector, add "straße" text; update people set "straße" = code;
        create trigger found before insert or update on people for each row
            execute function tsvector_update_trigger('suche_für\\x', 'pg_catalog.simple', name, "straße"); update people set name = name""")
    with start(sensitive=["public.people.straße"]) as running, connect(running) as session:
        assert {row[0] for row in session.execute('select "suche_für\\x" from people').fetchall()} <= {None, "[redacted]"}


VIEWS = {
    "ranks": "select id, dense_rank() over w as place from people window w as (order by income)",
    "frames": "select id, count(*) over w as near from people window w as (order by income range between 10 preceding and 10 following)",
    "joins": "select p.id from people p join guesses g on p.code like g.pattern",
    "compares rows": "select c.id, d.n from people c, lateral (select count(*) as n from people d where d.income <= c.income) d",
    "picks": "select distinct on (bonus) id, bonus from people order by bonus, income",
    "sorts": "select id from people order by income limit 3",
    "groups": "select count(*) from people group by code",
    "filters": "select id from people where income > 1000",
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_that_uses_sensitive_columns_to_choose_is_listed_first(name, people, start, connect, tmp_path):  # noqa: F811
    people.run(
        f"create view chosen as {VIEWS[name]}; create view above as select * from chosen; grant all on chosen, above to app"
    )
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        for view in ("chosen", "above"):
            with pytest.raises(psycopg.Error, match=r"functions\.hook: View public\.chosen.*uses sensitive columns"):
                session.execute(f"select * from {view}")
    shutil.rmtree(tmp_path / "gateway")
    with start(sensitive=SENSITIVE, hold_s=0, listed=["public.chosen"]) as running, connect(running) as session:
        found = session.execute("select * from above").fetchall()
        if name in {"ranks", "frames"}:
            assert {row[1] for row in found} == {None}


def test_a_view_that_shows_sensitive_columns_passes(people, start, connect):  # noqa: F811
    people.run("""create view shown as select id, code, upper(code) as loud, income from people where bonus >= 0 order by name;
        grant all on shown to app""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        assert set(session.execute("select code, loud, income from shown").fetchall()) == {("[redacted]", "[redacted]", None)}


def test_a_policy_that_looks_into_the_catalogue_asks_it(people, start, connect):  # noqa: F811
    people.run("""create policy p on people using (exists (select from pg_class where relname = 't_' || code));
        alter table people enable row level security""")
    with (
        start(sensitive=SENSITIVE, hold_s=0) as running,
        connect(running) as session,
        pytest.raises(psycopg.Error, match=r"regulated\.predicate"),
    ):
        session.execute("select id from people")


def test_a_lock_makes_no_value_of_a_domain(people, start, connect):  # noqa: F811
    people.run("""create function checked(text) returns boolean language sql as 'select true'; create domain iban as text check (checked(value));
        create table accounts (id int, number iban); grant all on accounts to app""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session, session.transaction():
        session.execute("lock table accounts in access share mode")
