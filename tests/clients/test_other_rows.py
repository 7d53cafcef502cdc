"""What code of the owner holds sensitive values of a row against: rows of other tables, which an agent may have written."""

import psycopg
import pytest

from tests.clients.test_row_order import connect, server, start  # noqa: F401 - fixtures

PEOPLE = """
create table people (id int primary key, name text, income int, bonus int default 0, code text);
insert into people select n, 'n' || n, 1000 * n, 0, 'c' || n from generate_series(1, 9) n;
create table guesses (id int primary key, pattern text, most int);
insert into guesses values (1, 'x', 1);
grant all on people, guesses to app; grant create on schema public to app;
"""

SENSITIVE = ["public.people.income", "public.people.code"]


def write_trigger(body, when="before update", declares=""):
    return f"""create function watched() returns trigger language plpgsql as $watched$ {declares} begin {body} return new; end $watched$;
        create trigger watched {when} on people for each row execute function watched()"""


HELD = {
    "trigger": write_trigger("if new.income > (select max(most) from guesses) then raise exception 'too much'; end if;"),
    "trigger by a variable": write_trigger(
        "q := old.code; perform 1 from guesses where q like pattern;", declares="declare q text;"
    ),
    "trigger with an effect": write_trigger("update guesses set most = 1 where old.code like pattern;"),
    "whole row": write_trigger(
        "r := to_jsonb(new); perform 1 from guesses where r ->> 'code' like pattern;", declares="declare r jsonb;"
    ),
    "what it writes to looks": """create table log (code text);
        create function looked() returns trigger language plpgsql as $$ begin perform 1 from guesses where new.code like pattern; return new; end $$;
        create trigger looked before insert on log for each row execute function looked();
        """
    + write_trigger("insert into log values (old.code);"),
    "rule": "create rule watched as on update to people where exists (select from guesses g where old.code like g.pattern) do instead nothing",
    "rule with an effect": """create rule watched as on update to people
        do also update guesses set most = 1 where old.code like guesses.pattern""",
    "check": """create function blocked(text) returns boolean language sql as 'select exists (select from guesses g where $1 like g.pattern)';
        alter table people add check (not blocked(code))""",
    "condition of a trigger": """create function blocked(text) returns boolean language sql as 'select exists (select from guesses g where $1 like g.pattern)';
        create function kept() returns trigger language plpgsql as 'begin return null; end';
        create trigger watched before update on people for each row when (blocked(new.code)) execute function kept()""",
}

HARMLESS = {
    "another column": write_trigger("if new.bonus > (select max(most) from guesses) then raise exception 'too much'; end if;"),
    "rows that are only added": """create table log (at timestamptz default now(), income int); grant all on log to app;
        """
    + write_trigger("insert into log (income) values (old.income);"),
    "rule that adds rows": """create table log (at timestamptz default now(), income int); grant all on log to app;
        create rule watched as on update to people do also insert into log (income) values (old.income)""",
    "new rows": write_trigger(
        "if new.income > (select max(most) from guesses) then raise exception 'too much'; end if;", "before insert"
    ),
}


@pytest.fixture
def people(server):  # noqa: F811
    server.run(PEOPLE)
    return server


@pytest.mark.parametrize("name", HELD)
def test_a_reviewer_sees_what_is_held_against_rows_of_other_tables(name, people, start, connect):  # noqa: F811
    people.run(HELD[name])
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match=r"guesses\.unseen"):
            session.execute("update people set name = 'other' where id = 1")
        assert people.run("select name from people where id = 1") == "n1"


def test_rows_that_go_are_held_against_others_as_well(people, start, connect):  # noqa: F811
    people.run(
        write_trigger("if exists (select from guesses g where old.code like g.pattern) then return old; end if;", "before delete")
    )
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match=r"guesses\.unseen"):
            session.execute("delete from people where id = 1")
        session.execute("update people set name = 'other' where id = 1")


@pytest.mark.parametrize("name", HARMLESS)
def test_what_holds_nothing_sensitive_against_others_passes(name, people, start, connect):  # noqa: F811
    people.run(HARMLESS[name])
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        session.execute("update people set name = 'other' where id = 1")
        session.execute("insert into people (id, name) values (100, 'new')") if name != "new rows" else None


POLICIES = {
    "rows of another table": "create policy p on people using (not exists (select from guesses g where code like g.pattern))",
    "function that reads": """create function blocked(text) returns boolean language sql stable
            as 'select exists (select from guesses g where $1 like g.pattern)';
        create policy p on people using (not blocked(code))""",
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_that_holds_sensitive_values_against_others_searches_them(name, people, start, connect):  # noqa: F811
    people.run(f"{POLICIES[name]}; alter table people enable row level security")
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        for statement in ("select id from people", "update people set name = 'other'", "insert into people (id) values (100)"):
            with pytest.raises(psycopg.Error, match=r"regulated\.predicate"):
                session.execute(statement)


def test_a_policy_over_other_columns_passes(people, start, connect):  # noqa: F811
    people.run("""create policy p on people using (exists (select from guesses g where g.most >= people.bonus));
        alter table people enable row level security; update guesses set most = 1000""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        assert len(session.execute("select id from people").fetchall()) == 9


PARTED = """
create table parted (id int, year int, kind text, income int, primary key (id, year)) partition by list (year);
create table parted_1 partition of parted for values in (1);
create table parted_2 partition of parted for values in (2);
insert into parted values (1, 1, 'a', 1000);
create function watched() returns trigger language plpgsql as $$ begin
    if new.income::text like new.kind then raise exception 'no'; end if; return new; end $$;
create trigger watched before insert on parted_2 for each row execute function watched();
grant all on parted, parted_1, parted_2 to app;
"""


def test_a_row_that_moves_to_another_partition_has_values_when_it_comes(people, start, connect):  # noqa: F811
    people.run(PARTED)
    with start(sensitive=["public.parted.income"], hold_s=0) as running, connect(running) as session:
        session.execute("insert into parted values (2, 2, 'a', 1)")
        with pytest.raises(psycopg.Error, match=r"guesses\.open_ended"):
            session.execute("update parted set kind = '1%', year = 2 where id > 0")


PARTIAL = {
    "unique": "create unique index on people (name) where code like 'c1%'",
    "exclusion": "alter table people add exclude using btree (name with =) where (code like 'c1%')",
}


@pytest.mark.parametrize("name", PARTIAL)
def test_an_index_of_some_rows_tells_which_of_them_are_in_it(name, people, start, connect):  # noqa: F811
    people.run(PARTIAL[name])
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        session.execute("insert into people (id, name) values (100, 'new')")
        with pytest.raises(psycopg.Error, match=r"guesses\.open_ended"):
            session.execute("insert into people (id, name) select most, pattern from guesses")


CHANGED = """
create table log (id int); grant all on log to app;
create function watched() returns trigger language plpgsql as $$ begin
    insert into log select c.id from changed c where c.code < c.name; return null; end $$;
create trigger watched after update on people referencing new table as changed for each statement execute function watched();
"""


@pytest.mark.parametrize("table", ["", "create table changed (id int, name text, code text)"])
def test_rows_that_changed_are_no_table_of_that_name(table, people, start, connect):  # noqa: F811
    people.run(CHANGED + table)
    with (
        start(sensitive=SENSITIVE, hold_s=0) as running,
        connect(running) as session,
        pytest.raises(psycopg.Error, match=r"functions\.hook"),
    ):
        session.execute("update people set name = 'other' where id = 1")


def test_a_name_that_code_waits_for_is_not_taken_unseen(people, start, connect):  # noqa: F811
    people.run(write_trigger("insert into session_log values (new.id, new.code);"))
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match=r"functions\.hook"):
            session.execute("update people set name = 'other' where id = 1")
        for statement in (
            "create table session_log (id int, code text)",
            "create table session_log as select 1",
            "select 1 as id into session_log",
            "create sequence session_log",
        ):
            with pytest.raises(psycopg.Error, match=r"schema_changes\.not_plain"):
                session.execute(statement)
        session.execute("create table other_log (id int, code text)")


DEFINER = """
create schema keeper authorization keeper;
create view keeper.found as select id, code as value from public.people;
create table public.found (id int, value text); create table asked (id int, note text); grant all on asked, public.found to app;
grant select on people, public.found to keeper;
create function answered() returns trigger language plpgsql security definer as $$ begin
    new.note := (select value from found where id = new.id); return new; end $$;
alter function answered() owner to keeper;
create trigger answered before insert on asked for each row execute function answered();
"""


def test_what_runs_as_its_owner_looks_for_names_where_the_owner_does(people, start, connect):  # noqa: F811
    people.run("create role keeper")
    people.run(DEFINER)
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match=r"functions\.hook"):
            session.execute("insert into asked (id) values (1)")
        people.run("drop schema keeper cascade")
        session.execute("create table noticed (id int)")  # the catalogue is looked at again
        session.execute("insert into asked (id) values (2)")


def test_a_column_of_another_tables_row_type_binds_it(people, start, connect):  # noqa: F811
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        for kind in ("guesses", "guesses[]"):
            with pytest.raises(psycopg.Error, match=r"schema_changes\.not_plain"):
                session.execute(f"create table bound (id int, of {kind})")


CODES = ("40001", "55P03", "57014", "53400", "08000", "25006", "26000", "P0001", "42501")


@pytest.mark.parametrize("when", ["before update", "after update"])
def test_no_text_that_a_body_raises_is_shown_whatever_its_code(when, people, start, connect):  # noqa: F811
    people.run(
        write_trigger(
            "if new.name like 'w%' then raise warning 'has %', old.code using errcode = substr(new.name, 2); "
            "else raise exception 'has %', old.code using errcode = new.name, detail = old.code, hint = old.code, "
            "column = old.code, constraint = old.code, table = old.code, schema = old.code, datatype = old.code; end if;",
            when,
        )
    )
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        notices = []
        session.add_notice_handler(notices.append)
        for code in CODES:
            with pytest.raises(psycopg.Error) as caught:
                session.execute(f"update people set name = '{code}' where id = 1")
            shown = {name: getattr(caught.value.diag, name) for name in dir(caught.value.diag) if not name.startswith("_")}
            assert caught.value.sqlstate == code
            assert "c1" not in str(shown)
            session.execute(f"update people set name = 'w{code}' where id = 1")
        assert not notices


def test_what_the_server_says_of_itself_is_shown_also_below_a_body(people, start, connect):  # noqa: F811
    people.run(write_trigger("insert into people (id) values (1);", "after update"))
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            session.execute("update people set name = 'other' where id = 2")
        assert caught.value.diag.constraint_name == "people_pkey"
