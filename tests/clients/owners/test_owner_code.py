"""What the owner of a database made, and an agent sets off without naming it: code below code, keys of partitions, views, policies."""

import shutil

import psycopg
import pytest

from tests.clients.owners import test_other_rows
from tests.clients.owners.test_other_rows import SENSITIVE, write_trigger

PEOPLE = test_other_rows.PEOPLE

CLOSINGS = """create table closings (id int primary key, person int, note text); grant all on closings to app;
    create function closed() returns trigger language plpgsql as 'begin return new; end';
    create trigger closed before insert on closings for each row execute function closed();
    """

KINDS = """create type kind as enum ('low', 'high');
    create function kind_of(t text) returns kind language sql as $$ select case when exists (select from people where code = t) then 'high'::kind else 'low' end $$;
    create cast (text as kind) with function kind_of(text) as assignment; create table kinds (kind kind); grant all on kinds to app;
    create table closings (id int primary key, person int, note text, kind kind); grant all on closings to app;
    create function closed() returns trigger language plpgsql as 'begin return new; end';
    create trigger closed before insert on closings for each row execute function closed(); """

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
    "tables that are emptied along": CLOSINGS
    + """create table groups (name text primary key); create table members (person int, name text references groups, code text);
        grant all on groups, members to app; create table archive (body text); grant all on archive to app;
        create function kept() returns trigger language plpgsql as $$ begin insert into archive select code from members; return null; end $$;
        create trigger kept before truncate on members for each statement execute function kept();
        create or replace function closed() returns trigger language plpgsql as $$ begin truncate groups cascade; return null; end $$""",
    "assignment that casts": KINDS
    + "create or replace function closed() returns trigger language plpgsql as $$ begin new.kind := new.note; return new; end $$",
    "variable that casts": KINDS
    + """create or replace function closed() returns trigger language plpgsql as $$ declare k kinds.kind%type; begin
        k := new.note; new.note := k; return new; end $$""",
    "field of a row that casts": KINDS
    + """create or replace function closed() returns trigger language plpgsql as $$ declare r record; begin
        for r in select * from kinds loop r.kind := new.note; new.note := r.kind; end loop; return new; end $$""",
    "field that is a function": CLOSINGS
    + """create table accounts (id int); grant all on accounts to app;
        create function summary(accounts) returns text language sql stable as $$ select string_agg(code, ',') from people $$;
        create or replace function closed() returns trigger language plpgsql as $$ declare v text; begin
            select a.summary into v from accounts a where a.id = new.person; new.note := v; return new; end $$""",
    **{
        f"{verb} in a body": CLOSINGS
        + f"""create function norm(v text) returns text language plpgsql immutable as $$ begin
                if exists (select from guesses where v like pattern) then raise 'no'; end if; return v; end $$;
            create index on people (norm(code)); create or replace function closed() returns trigger language plpgsql as $$ begin {verb} people; return null; end $$"""
        for verb in ("analyze", "reindex table", "vacuum")
    },
    "materialized view that a body fills": CLOSINGS
    + """create materialized view totals as select g.id, g.most + p.income as total from guesses g join people p on p.id = g.id;
        create or replace function closed() returns trigger language plpgsql as $$ begin refresh materialized view totals; return null; end $$""",
    "function of a view that a policy reads": CLOSINGS
    + """create function shown() returns text language sql stable as $$ select string_agg(code, ',') from people $$;
        create view seen as select id, shown() as said from guesses; create table topics (id int); grant all on topics, seen to app;
        create policy p on topics using (exists (select from seen s where s.id = topics.id)); alter table topics enable row level security;
        create or replace function closed() returns trigger language plpgsql as $$ begin
            new.note := (select count(*) from topics); return new; end $$""",
    "function with the name of one that numbers": CLOSINGS
    + """create function nextval(what text) returns bigint language plpgsql as $$ begin
            update guesses set pattern = (select string_agg(code, ',') from people) where id = 1; return 1; end $$;
        create or replace function closed() returns trigger language plpgsql as $$ begin new.note := nextval('closings'); return new; end $$""",
    "procedure with the name of a function": CLOSINGS
    + """create table log (said text); grant all on log to app;
        create procedure reverse(booking int, out done text) language plpgsql as $$ begin
            insert into log select string_agg(code, ',') from people; done := 'yes'; end $$;
        create or replace function closed() returns trigger language plpgsql as $$ declare v text; begin
            call reverse(new.id, v); return new; end $$""",
    "schemas that hide the server's": CLOSINGS
    + """create function gen_random_uuid() returns text language sql as $$ select string_agg(code, ',') from people $$;
        create or replace function closed() returns trigger language plpgsql set search_path = public, pg_catalog as $$ begin
            new.note := gen_random_uuid(); return new; end $$""",
    "operators of an index": """create function natural_order(a text, b text) returns int language plpgsql immutable as $$ begin
            if exists (select from people where code = a) then raise 'no'; end if; return pg_catalog.bttextcmp(a, b); end $$;
        create operator class natural_ops for type text using btree as operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >,
            function 1 natural_order(text, text);
        create table closings (id int primary key, person int, note text); grant all on closings to app;
        create index on closings (note natural_ops)""",
    "function that the grammar renames": CLOSINGS
    + """create function json_object(person int) returns json language sql stable as $$ select row_to_json(p) from people p where id = person $$;
        create or replace function closed() returns trigger language plpgsql as $$ begin new.note := json_object(new.person); return new; end $$""",
}


@pytest.mark.parametrize("name", BELOW)
def test_what_runs_further_down_is_judged_for_the_table_it_runs_for(name, people, assert_refused):
    people.run(BELOW[name])
    assert_refused(
        r"functions\.(hook|cast)",
        "insert into closings values (1, 1)",
        sensitive=[*SENSITIVE, *(["public.people.shown"] if "generated" in name else [])],
        hold_s=0,
    )


def test_a_partition_is_held_against_the_keys_of_its_parent(people, assert_refused):
    people.run("""create function area(v text) returns text language plpgsql immutable as $$ begin
            if exists (select from guesses where v like pattern) then raise 'no'; end if; return 'a'; end $$;
        create table clients (id int, name text, code text) partition by list (area(code));
        create table clients_a partition of clients for values in ('a'); insert into clients values (1, 'n', 'zebra'); grant all on clients_a to app""")
    assert_refused(
        r"functions\.hook", "update clients_a set name = 'x' where id = 1", sensitive=["public.clients.code"], hold_s=0
    )


def test_a_search_text_of_any_name_is_generated(people, start, connect):
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
    "computes": "select p.id, income * g.most as total from people p join guesses g on g.id = 1",
}


@pytest.mark.parametrize("name", ["joins", "filters"])
def test_a_materialized_view_of_a_view_that_chooses_is_listed_first(name, people, start, connect):
    people.run(f"""create view chosen as {VIEWS[name]}; create materialized view kept as select id from chosen;
        create materialized view own as {VIEWS[name]}; grant select on kept, own to app""")
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        for statement in ("select id from kept", "select id from own"):
            with pytest.raises(psycopg.Error, match=r"functions\.hook"):
                session.execute(statement)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_that_uses_sensitive_columns_to_choose_is_listed_first(name, people, start, connect, tmp_path):
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


def test_a_view_that_shows_sensitive_columns_passes(people, start, connect):
    people.run("""create view shown as select id, code, upper(code) as loud, income from people where bonus >= 0 order by name;
        grant all on shown to app""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        assert set(session.execute("select code, loud, income from shown").fetchall()) == {("[redacted]", "[redacted]", None)}


@pytest.mark.parametrize("whole", ["to_jsonb(c) ->> 'code' = topics.word", "held(c, topics.word)"])
def test_a_policy_that_takes_a_row_of_another_table_whole_uses_its_columns(whole, people, assert_refused):
    people.run(f"""create function held(c people, word text) returns boolean language sql stable as 'select c.code = word';
        create table topics (id int primary key, person int, word text); insert into topics values (1, 1, 'zebra-1'); grant all on topics to app;
        create policy p on topics using (exists (select from people c where c.id = topics.person and {whole}));
        alter table topics enable row level security""")
    assert_refused(r"functions\.hook|regulated\.predicate", "select id from topics", sensitive=SENSITIVE, hold_s=0)


def test_a_policy_that_looks_into_the_catalogue_asks_it(people, assert_refused):
    people.run("""create policy p on people using (exists (select from pg_class where relname = 't_' || code));
        alter table people enable row level security""")
    assert_refused(r"regulated\.predicate", "select id from people", sensitive=SENSITIVE, hold_s=0)


def test_a_lock_makes_no_value_of_a_domain(people, start, connect):
    people.run("""create function checked(text) returns boolean language sql as 'select true'; create domain iban as text check (checked(value));
        create table accounts (id int, number iban); grant all on accounts to app""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session, session.transaction():
        session.execute("lock table accounts in access share mode")


def test_a_function_that_the_grammar_renames_is_the_owners(people, start, connect):
    people.run("""create function json_object(person int) returns json language sql stable
        as $$ select row_to_json(p) from people p where id = person $$""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match=r"functions\.unknown"):
            session.execute("select json_object(1)")
        with pytest.raises(psycopg.Error, match=r"functions\.unknown"):
            session.execute("select json_object(person => 1)")


def test_an_ordered_aggregate_of_the_owner_is_not_the_servers(people, start, connect):
    people.run("""create function st(s text, v text) returns text language sql stable as $$ select coalesce(s, v) $$;
        create function fin(s text, f float8) returns text language sql stable as $$ select string_agg(code, ',') from people $$;
        create aggregate percentile_cont(float8 order by text) (sfunc = st, stype = text, finalfunc = fin)""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match=r"functions\.unknown"):
            session.execute("select percentile_cont(0.5) within group (order by pattern) from guesses")
        session.execute("select mode() within group (order by pattern) from guesses")


PLANNED = {
    "index": "create index on guesses (pattern) where most > lowest()",
    "expression": "create index on guesses ((most + lowest()))",
    "statistics": "create statistics seen on (most + lowest()), pattern from guesses",
    "check": "alter table guesses add check (most <= lowest() + 100000)",
    "call within": """create function is_low(n int) returns boolean language sql immutable as 'select n > lowest()';
        create index on guesses (pattern) where is_low(most)""",
}


@pytest.mark.parametrize("name", PLANNED)
def test_what_the_planner_runs_is_judged_for_reads_as_well(name, people, start, connect):
    people.run(
        f"create function lowest() returns int language sql immutable as 'select max(income) from people'; {PLANNED[name]}"
    )
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        for statement in ("select id from guesses where most > 8000", "explain select id from guesses where most > 8000"):
            with pytest.raises(psycopg.Error, match=r"functions\.hook"):
                session.execute(statement)


def test_what_the_planner_cannot_run_is_judged_where_it_runs(people, start, connect):
    people.run("""create function norm(t text) returns text language plpgsql immutable as $$ begin execute 'select 1'; return lower(t); end $$;
        create index on guesses (norm(pattern)); alter table guesses add note varchar; create index on guesses (norm(note)) where norm(note) <> ''""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        assert session.execute("select id from guesses where most > 0").fetchall() == [(1,)]
        with pytest.raises(psycopg.Error, match=r"functions\.hook"):
            session.execute("update guesses set most = 1 where id = 1")


def test_casts_between_types_of_the_server_may_run_for_any_constant(people, start, connect):
    people.run("""create function int_text(i int) returns text language sql stable as $$ select string_agg(code, ',') from people $$;
        create cast (int as text) with function int_text(int) as implicit;
        create function small_text(i smallint) returns text language sql stable as $$ select 'x' $$;
        create cast (smallint as text) with function small_text(smallint) as implicit""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session, session.transaction():
        for statement in ("select upper(1)", "select lpad(1, 2)", "select lower(x) from generate_series(1, 2) x"):
            with pytest.raises(psycopg.Error, match=r"functions\.cast"), session.transaction():
                session.execute(statement)
        session.execute("lock table guesses in access share mode")


WHEN = {
    "time": "extract(hour from old.seen) < 12",
    "setting": "old.code like current_setting('application_name')",
    "record": "(hstore(old.*) -> 'seen') < '1971'",
}


@pytest.mark.parametrize("name", WHEN)
def test_rows_that_go_are_looked_at_by_conditions_over_sensitive_columns(name, people, start, connect):
    people.run(f"""create extension if not exists hstore; alter table people add seen timestamptz default '2020-05-05 12:00+00';
        create function kept() returns trigger language plpgsql as $$ begin return null; end $$;
        create trigger kept before delete on people for each row when ({WHEN[name]}) execute function kept();
        create table parts (id int primary key, person int); grant all on parts to app; insert into parts values (1, 1);
        create function parted() returns trigger language plpgsql as $$ begin delete from people where id = old.person; return old; end $$;
        create trigger parted before delete on parts for each row execute function parted()""")
    with start(sensitive=[*SENSITIVE, "public.people.seen"], hold_s=0) as running, connect(running) as session:
        for statement in ("delete from people where id = 1", "delete from parts where id = 1"):
            with pytest.raises(psycopg.Error, match=r"functions\.hook.*uses sensitive columns"):
                session.execute(statement)
        session.execute("update people set bonus = 1 where id = 1")


CHOOSING = {
    "constant": "new.income > 5000",
    "another column": "new.income > new.bonus * 100",
    "limit of the same type": "new.income > new.bonus",
    "nothing at all": "new.code is null",
    "the greatest": "greatest(old.income, new.income) > 5000",
    "the sum": "old.income + new.income > 5000",
}

NOTICING = {
    "whole row": "old.* is distinct from new.*",
    "one column": "old.code is distinct from new.code",
    "one column beside others": "pg_trigger_depth() < 1 and old.name <> 'x' and old.income <> new.income",
}


def write_when(condition):
    return f"""create table alerts (id int); grant all on alerts to app;
        create function alerted() returns trigger language plpgsql as $$ begin insert into alerts values (new.id); return null; end $$;
        create trigger alerted after update on people for each row when ({condition}) execute function alerted()"""


@pytest.mark.parametrize("name", CHOOSING)
def test_a_condition_that_chooses_rows_by_sensitive_columns_is_listed_with_its_trigger(name, people, assert_refused):
    people.run(write_when(CHOOSING[name]))
    assert_refused(
        r"functions\.hook.*uses sensitive columns", "update people set name = 'other' where id = 1", sensitive=SENSITIVE, hold_s=0
    )


@pytest.mark.parametrize("name", NOTICING)
def test_a_condition_that_only_notices_a_change_is_not(name, people, start, connect):
    people.run(write_when(NOTICING[name]))
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        assert session.execute("update people set name = 'other' where id = 1").rowcount == 1


def test_places_in_the_log_are_masked_whatever_they_are_kept_in(people, start, connect):
    people.run("""create domain place as pg_lsn default pg_current_wal_insert_lsn(); create type span as (began pg_lsn, label text);
        create table orders (id int primary key, place place, places pg_lsn[], span span); grant all on orders to app""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        session.execute("insert into orders (id, places, span) values (1, '{0/1}', '(0/1,a)')")
        assert session.execute("select place, places, span from orders").fetchall() == [(None, None, '(,"[redacted]")')]


READING = {
    "place in the log as a default": "alter table guesses add place numeric default pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')",
    "place in the log in a body": """create function stamped() returns trigger language plpgsql as $$ begin
            new.place := pg_current_wal_lsn()::text; return new; end $$;
        alter table guesses add place text;
        create trigger stamped before insert on guesses for each row execute function stamped()""",
    "default": "alter table guesses add doc text default (query_to_xml('select code from people', true, false, '')::text)",
    "check": "alter table guesses add check (query_to_xml('select code from people', true, false, '')::text <> pattern)",
    "policy": """create policy p on guesses using (query_to_xml('select code from people', true, false, '')::text <> pattern);
        alter table guesses enable row level security""",
}


@pytest.mark.parametrize("name", READING)
def test_functions_that_read_what_they_are_told_are_code_wherever_they_stand(name, people, assert_refused):
    people.run(READING[name])
    assert_refused(r"functions\.hook", "insert into guesses (id, pattern) values (2, 'wal')", sensitive=SENSITIVE, hold_s=0)


def test_a_delete_is_planned_too(people, assert_refused):
    people.run("""create function lowest() returns int language sql immutable as 'select max(income) from people';
        create index on guesses (pattern) where most > lowest()""")
    assert_refused(r"functions\.hook", "delete from guesses where most > 8000", sensitive=SENSITIVE, hold_s=0)


def test_a_check_over_a_sensitive_column_keeps_nobody_from_reading(people, start, connect):
    people.run("""create function valid(t text) returns boolean language sql immutable as $$ select t <> '' $$;
        alter table people add check (valid(upper(code))); create index on people (valid(lower(code)));
        create materialized view totals as select bonus, count(*), avg(income) as mean from people group by bonus; grant select on totals to app""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        assert len(session.execute("select id, code from people").fetchall()) == 9
        assert session.execute("select count, mean from totals").fetchall() == [(9, None)]
        with pytest.raises(psycopg.Error, match=r"functions\.hook"):
            session.execute("update people set name = 'x' where id = 1")


def test_what_refers_to_a_sensitive_column_is_sensitive_and_a_guess(people, start, connect):
    people.run("""alter table people add unique (code); create table cards (id int primary key, code text references people (code));
        create table copies (id int primary key, code text); grant all on cards, copies to app; insert into cards values (1, 'zebra-1')""")
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        assert session.execute("select code from cards").fetchall() == [("[redacted]",)]
        with pytest.raises(psycopg.Error, match=r"guesses\.open_ended|copied"):
            session.execute("insert into cards select id, code from copies")
        rows = ", ".join(f"({n}, 'g{n}')" for n in range(1000, 1501))
        with pytest.raises(psycopg.Error, match="has had 0"):
            session.execute(f"insert into cards values {rows}")
        session.execute(f"insert into copies values {rows}")


MOVING = """create table members (id int, year int, name text, code text, primary key (id, year)) partition by list (year);
    create table members_1 partition of members for values in (1); create table members_2 partition of members for values in (2);
    insert into members values (1, 1, 'a', 'zebra'); grant all on members, members_1, members_2 to app; """


@pytest.mark.parametrize("what", ["create unique index on members_2 (code)", "alter table members_2 add check (code <> name)"])
def test_a_row_that_moves_is_compared_in_its_new_partition(what, people, start, connect):
    people.run(MOVING + what)
    with start(sensitive=["public.members.code"], hold_s=0) as running, connect(running) as session:
        session.execute("update members set name = 'b' where id = 1 and year = 1")
        with pytest.raises(psycopg.Error, match=r"guesses\.open_ended"):
            session.execute("update members set year = 2 where id > 0")


def test_a_type_that_is_sorted_by_code_is_a_type_with_code(people, assert_refused):
    people.run("""create type version as (major int, minor int);
        create function version_order(a version, b version) returns int language plpgsql immutable as $$ begin
            return (select count(*) from people where income > (a).major); end $$;
        create function version_less(a version, b version) returns boolean language sql immutable as 'select version_order(a, b) < 0';
        create operator < (leftarg = version, rightarg = version, function = version_less);
        create operator class version_ops default for type version using btree as operator 1 <, function 1 version_order(version, version);
        create table releases (id int, v version); grant all on releases to app""")
    assert_refused(
        r"functions\.cast",
        "select id from releases order by v",
        "select distinct v from releases",
        "select array_agg(id order by v) from releases",
        sensitive=SENSITIVE,
    )


def test_a_function_of_the_row_in_exists_is_a_call(people, start, connect):
    people.run("""create function told(g guesses) returns setof int language sql stable
        as $$ select p.id from people p where p.code like g.pattern $$""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        for statement in (
            "select id from guesses g where exists (select g.told)",
            "select id from guesses g where exists (select g.told from guesses h)",
            "select exists (select g.told from guesses g offset 0)",
            "select exists (select u.ts_stat from lower('select to_tsvector(code) from people') u)",
        ):
            with pytest.raises(psycopg.Error, match=r"functions\.unknown"):
                session.execute(statement)
        session.execute("select id from guesses g where exists (select * from people p where p.id = g.id)")


def test_keys_of_locks_are_masked(people, start, connect):
    with psycopg.connect(
        host=people.host, port=people.port, user="postgres", password=people.password, dbname="postgres"
    ) as other:
        other.execute("select pg_advisory_lock(income) from people where id = 9")
        with start(sensitive=SENSITIVE) as running, connect(running) as session:
            keys = session.execute("select classid, objid from pg_locks where locktype = 'advisory'").fetchall()
            assert keys == [(None, None)]
            with pytest.raises(psycopg.Error, match=r"regulated\.predicate"):
                session.execute("select from pg_locks where objid = 9000")


ORDINARY = {
    "check of another column": """create function named(t text) returns boolean language plpgsql immutable as $$ begin return t <> ''; end $$;
        alter table people add check (named(name))""",
    "index of another column": """create function norm(t text) returns text language plpgsql immutable as $$ begin return lower(t); end $$;
        create index on people (norm(name)); alter table people add low text generated always as (norm(name)) stored""",
    "policy that does not run": """create function may(int) returns boolean language plpgsql as $$ begin execute 'select 1'; return true; end $$;
        create policy p on people using (may(id))""",
    "guard against recursion": write_trigger("if pg_trigger_depth() > 1 then return null; end if; new.bonus := 1;"),
    "words in texts": write_trigger("new.name := 'missed call'; -- call them later\n"),
    "numbers": "create sequence numbers; grant all on sequence numbers to app;"
    + write_trigger("new.bonus := nextval('numbers');"),
    "test of a row": write_trigger(
        "if not exists (select * from people p where p.id = new.id) then return null; end if; perform pg_notify('people', new.id::text);"
    ),
    "trigger that runs with TRUNCATE": """create function emptied() returns trigger language plpgsql as $$ begin execute 'select 1'; return null; end $$;
        create trigger emptied before truncate on people for each statement execute function emptied()""",
    "schemas of the session": write_trigger("new.bonus := 1;") + "; alter function watched() set search_path = public, pg_temp",
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_code_over_other_columns_passes(name, people, start, connect):
    people.run(ORDINARY[name])
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        session.execute("insert into people (id, name) values (100, 'new')")
        session.execute("update people set name = 'other' where id = 1")


def test_rows_of_a_parent_run_no_code_of_its_children(people, start, connect):
    people.run("""create table staff () inherits (people); create function opaque() returns trigger language plpgsql as $$ begin
            execute 'select 1'; return new; end $$;
        create trigger opaque before insert or update on staff for each row execute function opaque(); grant all on staff to app""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        session.execute("insert into people (id, name) values (100, 'new')")
        with pytest.raises(psycopg.Error, match=r"functions\.hook"):
            session.execute("update people set name = 'other' where id = 1")


def test_other_schemas_than_the_sessions_keep_a_body_from_being_read(people, assert_refused):
    people.run(
        "create schema elsewhere;"
        + write_trigger("new.bonus := 1;")
        + "; alter function watched() set search_path = elsewhere, public"
    )
    assert_refused(r"functions\.hook.*cannot be judged", "update people set name = 'other' where id = 1", sensitive=SENSITIVE)
