"""Code of the owner that uses sensitive values of a row: what it does with them only the site can tell, which lists it."""

import contextlib
import shutil

import psycopg
import pytest

PEOPLE = """
create table people (id int primary key, name text, income int, bonus int default 0, code text);
insert into people select n, 'n' || n, 1000 * n, 0, 'zebra-' || n from generate_series(1, 9) n;
create table guesses (id int primary key, pattern text, most int);
insert into guesses values (1, 'x', 1);
grant all on people, guesses to app; grant create on schema public to app;
"""

SENSITIVE = ["public.people.income", "public.people.code"]


def write_trigger(body, when="before update", declares=""):
    return f"""create function watched() returns trigger language plpgsql as $watched$ {declares} begin {body} return new; end $watched$;
        create trigger watched {when} on people for each row execute function watched()"""


USING = {
    "trigger": write_trigger("if new.income > (select max(most) from guesses) then raise exception 'too much'; end if;"),
    "trigger by a variable": write_trigger(
        "q := old.code; perform 1 from guesses where q like pattern;", declares="declare q text;"
    ),
    "trigger with an effect": write_trigger("update guesses set most = 1 where old.code like pattern;"),
    "whole row": write_trigger(
        "r := to_jsonb(new); perform 1 from guesses where r ->> 'code' like pattern;", declares="declare r jsonb;"
    ),
    "what it writes to looks": """create table log (code text); grant all on log to app;
        create function looked() returns trigger language plpgsql as $$ begin perform 1 from guesses where new.code like pattern; return new; end $$;
        create trigger looked before insert on log for each row execute function looked();
        """
    + write_trigger("insert into log values (old.code);"),
    "rule": "create rule watched as on update to people where exists (select from guesses g where old.code like g.pattern) do instead nothing",
    "rule with an effect": """create rule watched as on update to people
        do also update guesses set most = 1 where old.code like guesses.pattern""",
    "check": """create function blocked(text) returns boolean language sql as 'select exists (select from guesses g where $1 like g.pattern)';
        alter table people add check (not blocked(code))""",
    "what gets a copy looks": """create table log (code text);
        create function looked() returns trigger language plpgsql as $$ begin perform 1 from guesses where new.code like pattern; return new; end $$;
        create trigger looked before insert on log for each row execute function looked();
        create function copied() returns trigger language plpgsql as $$ begin insert into log values (new.code); return new; end $$;
        create trigger copied before update on people for each row execute function copied();
        create table started (id int primary key, name text); insert into started values (1, ''); grant all on started, log to app;
        create function passed_on() returns trigger language plpgsql as $$ begin
            update people set name = new.name where id = new.id; return new; end $$;
        create trigger passed_on before update on started for each row execute function passed_on()""",
    "in RETURNING": write_trigger(
        "update guesses g set most = 1 where g.id = 1 returning new.code like g.pattern into found;",
        declares="declare found boolean;",
    ),
    "generated column": """create function looked(text) returns text language sql immutable
            as $$ select case when exists (select from guesses g where $1 like g.pattern) then 'a' end $$;
        alter table people add label text generated always as (looked(code)) stored;"""
    + write_trigger("new.name := lower(new.name);"),
    "condition of a trigger": """create function blocked(text) returns boolean language sql as 'select exists (select from guesses g where $1 like g.pattern)';
        create function kept() returns trigger language plpgsql as 'begin return null; end';
        create trigger watched before update on people for each row when (blocked(new.code)) execute function kept()""",
    "rows that are only added": """create table log (at timestamptz default now(), income int); grant all on log to app;
        """
    + write_trigger("insert into log (income) values (old.income);"),
    "rule that adds rows": """create table log (at timestamptz default now(), income int); grant all on log to app;
        create rule watched as on update to people do also insert into log (income) values (old.income)""",
    "no value of it": write_trigger("if new.code is null then raise exception 'no code'; end if;"),
}

HARMLESS = {
    "another column": write_trigger("if new.bonus > (select max(most) from guesses) then raise exception 'too much'; end if;"),
    "type of a column": write_trigger("n := upper(new.name);", declares="declare n people.code%type;"),
    "new rows": write_trigger(
        "if new.income > (select max(most) from guesses) then raise exception 'too much'; end if;", "before insert"
    ),
}


@pytest.mark.parametrize("name", USING)
def test_code_that_uses_sensitive_values_runs_where_the_site_lists_it(name, people, start, connect, tmp_path):
    people.run(USING[name])
    changing = f"update {'started' if 'copy' in name else 'people'} set name = 'other' where id = 1"
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match=r"functions\.hook.*uses sensitive columns"):
            session.execute(changing)
        assert people.run("select name from people where id = 1") == "n1"
    shutil.rmtree(tmp_path / "gateway")
    names = [f"public.{name}" for name in ("watched", "looked", "copied", "passed_on", "blocked", "kept")]
    with start(sensitive=SENSITIVE, hold_s=0, listed=[*names, "rule.watched"]) as running, connect(running) as session:
        assert session.execute("insert into people (id, name) values (100, 'new')").rowcount == 1
        with contextlib.suppress(psycopg.errors.RaiseException):
            session.execute(changing)


def test_rows_that_go_are_used_as_well(people, start, connect):
    people.run(
        write_trigger("if exists (select from guesses g where old.code like g.pattern) then return old; end if;", "before delete")
    )
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match=r"functions\.hook"):
            session.execute("delete from people where id = 1")
        session.execute("update people set name = 'other' where id = 1")


@pytest.mark.parametrize("name", HARMLESS)
def test_code_that_uses_nothing_sensitive_passes(name, people, start, connect):
    people.run(HARMLESS[name])
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        session.execute("update people set name = 'other' where id = 1")
        session.execute("insert into people (id, name) values (100, 'new')") if name != "new rows" else None


POLICIES = {
    "rows of another table": "create policy p on people using (not exists (select from guesses g where code like g.pattern))",
    "whole row": "create policy p on people using (not exists (select from guesses g where to_jsonb(people) ->> 'code' like g.pattern))",
    "function of the whole row": """create function blocked(people) returns boolean language sql stable
            as 'select exists (select from guesses g where $1.code like g.pattern)';
        create policy p on people using (not blocked(people))""",
    "setting": "create policy p on people using (code like current_setting('application_name'))",
    "function that reads a setting": """create function mine(text) returns boolean language sql stable
            as $$ select $1 = current_setting('application_name') $$;
        create policy p on people using (mine(code))""",
    "function that reads": """create function blocked(text) returns boolean language sql stable
            as 'select exists (select from guesses g where $1 like g.pattern)';
        create policy p on people using (not blocked(code))""",
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_that_holds_sensitive_values_against_others_searches_them(name, people, assert_refused):
    people.run(f"{POLICIES[name]}; alter table people enable row level security")
    assert_refused(
        r"functions\.hook" if "function" in name else r"regulated\.predicate",
        "select id from people",
        "update people set name = 'other' where id = 1",
        "insert into people (id) values (100)",
        sensitive=SENSITIVE,
        hold_s=0,
    )


def test_policies_that_policies_read_count_as_well(people, start, connect):
    people.run(f"""{POLICIES["rows of another table"]}; alter table people enable row level security;
        create table topics (id int primary key, person int); insert into topics values (1, 1); grant all on topics to app;
        create policy p on topics using (exists (select from people t where t.id = person)); alter table topics enable row level security;
        create table events (id int primary key, person int); insert into events values (1, 1); grant all on events to app;
        create function checked() returns trigger language plpgsql as $$ begin
            perform 1 from people where id = new.person; return new; end $$;
        create trigger checked before update on events for each row execute function checked()""")
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match=r"regulated\.predicate"):
            session.execute("select id from topics")
        with pytest.raises(psycopg.Error, match=r"functions\.hook"):
            session.execute("update events set person = 2 where id = 1")


GOVERNED = {
    "texts": (
        "begin if code is not null then raise exception 'no access to %', code using errcode = '40001'; end if; return true; end",
        "40001",
    ),
    "code that is not read": ("begin execute format('select %L', code); return true; end", "42501"),
}


@pytest.mark.parametrize("name", GOVERNED)
@pytest.mark.parametrize("how", ["policy", "view"])
def test_what_runs_below_a_policy_is_judged_like_what_runs_with_it(how, name, people, start, connect):
    body, sqlstate = GOVERNED[name]
    people.run(f"""create function may_see(code text) returns boolean language plpgsql as $$ {body} $$;
        create table topics (id int primary key, person int); insert into topics values (1, 1); grant all on topics to app;
        alter table topics enable row level security""")
    if how == "policy":
        people.run("""create policy p on people using (may_see(code)); alter table people enable row level security;
            create policy p on topics using (exists (select from people t where t.id = person))""")
    else:
        people.run("""create view seen as select id from people where may_see(code); grant all on seen to app;
            create policy p on topics using (exists (select from seen t where t.id = person))""")
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        with pytest.raises(psycopg.Error) as caught:
            session.execute("select id from topics")
        assert caught.value.sqlstate in {sqlstate, "42501"}
        assert "zebra" not in str(caught.value)


def test_policies_count_where_the_server_applies_them(people, start, connect):
    people.run(f"""{POLICIES["rows of another table"]}; alter table people enable row level security;
        create table everybody (id int, name text, income int, bonus int, code text); alter table people inherit everybody;
        grant all on everybody to app""")
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        assert len(session.execute("select id from everybody").fetchall()) == 9
        with session.transaction():
            session.execute("lock table people in access share mode")
        session.execute("create temp table alike (like people)")


def test_settings_that_have_names_of_their_own_are_no_guesses(people, start, connect):
    people.run("""create policy p on people using (code = current_setting('app.code', true) or true);
        alter table people enable row level security""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        assert len(session.execute("select id from people").fetchall()) == 9


SETTINGS = {
    "check": "alter table people add check (code not like current_setting('application_name'))",
    "trigger": write_trigger("if old.code like current_setting('application_name') then raise exception 'no'; end if;"),
    "condition": """create function kept() returns trigger language plpgsql as 'begin return null; end';
        create trigger watched before update on people for each row
        when (old.code like current_setting('application_name')) execute function kept()""",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_is_held_against_a_value_is_a_guess(name, people, assert_refused):
    people.run(SETTINGS[name])
    assert_refused(
        r"functions\.hook" if name in {"trigger", "condition"} else r"guesses\.open_ended",
        "update people set name = 'other' where id > 0",
        sensitive=SENSITIVE,
        hold_s=0,
    )


ZONED = {
    "hour": "extract(hour from seen) between 8 and 18",
    "day": "seen::date > '2020-01-01'",
    "day beside it": "seen > date '2020-01-01'",
    "days beside it": "(seen, id) > (date '2020-01-01', 0)",
    "text": "seen::text like '2020%'",
    "digits": "score::text like '1.2%'",
    "today": "seen::text < current_date::text",
    "age today": "age(seen) >= interval '2 years'",
    "age": "extract(month from age(seen, timestamptz '1970-01-01 00:00+00')) >= 4",
    "domain": "seen::office_time is not null",
}


@pytest.mark.parametrize("name", ZONED)
def test_what_follows_a_setting_is_a_guess_at_sensitive_values(name, people, start, connect):
    people.run(f"""create domain office_time as timestamptz check (extract(hour from value) between 0 and 24);
        alter table people add seen timestamptz default '2020-05-05 12:00+00', add score float default 1.25;
        create policy p on people using ({ZONED[name]}); create policy q on people using (true);
        alter table people enable row level security;
        create table noted (id int primary key, note text, seen timestamptz default '2020-05-05 12:00+00', score float default 1.25,
            check ({ZONED[name]})); grant all on noted to app; insert into noted values (1, '')""")
    sensitive = [f"public.{table}.{column}" for table in ("people", "noted") for column in ("seen", "score")]
    with start(sensitive=sensitive, hold_s=0) as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match=r"regulated\.predicate"):
            session.execute("select id from people")
        session.execute("update noted set note = 'x' where id = 1")
        with pytest.raises(psycopg.Error, match=r"guesses\.open_ended"):
            session.execute("update noted set note = 'x' where id > 0")


STEADY = (
    "seen > '2020-01-01 00:00+00'",
    "seen < now()",
    "income > 3 and code ~ '^z' and name = current_user",
    "upper(code) = code",
)


@pytest.mark.parametrize("expression", STEADY)
def test_what_follows_no_setting_passes(expression, people, start, connect):
    people.run(f"""alter table people add seen timestamptz default '2020-05-05 12:00+00', add check (({expression}) or true);
        create policy p on people using (({expression}) or true); alter table people enable row level security""")
    with start(sensitive=[*SENSITIVE, "public.people.seen"], hold_s=0) as running, connect(running) as session:
        assert len(session.execute("select id from people").fetchall()) == 9
        session.execute("update people set bonus = 1 where id > 0")


def test_a_policy_over_other_columns_passes(people, start, connect):
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


def test_a_row_that_moves_to_another_partition_has_values_when_it_comes(people, start, connect):
    people.run(PARTED)
    with start(sensitive=["public.parted.income"], hold_s=0) as running, connect(running) as session:
        session.execute("insert into parted values (2, 2, 'a', 1)")
        with pytest.raises(psycopg.Error, match=r"functions\.hook"):
            session.execute("update parted set kind = '1%', year = 2 where id > 0")


PARTIAL = {
    "unique": "create unique index on people (name) where code like 'zebra-1%'",
    "exclusion": "alter table people add exclude using btree (name with =) where (code like 'zebra-1%')",
}


@pytest.mark.parametrize("name", PARTIAL)
def test_an_index_of_some_rows_tells_which_of_them_are_in_it(name, people, start, connect):
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
def test_rows_that_changed_are_no_table_of_that_name(table, people, assert_refused):
    people.run(CHANGED + table)
    assert_refused(r"functions\.hook", "update people set name = 'other' where id = 1", sensitive=SENSITIVE, hold_s=0)


def test_a_name_that_code_waits_for_is_not_taken_unseen(people, start, connect):
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


def test_what_runs_as_its_owner_looks_for_names_where_the_owner_does(people, start, connect):
    people.run("create role keeper")
    people.run(DEFINER)
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match=r"functions\.hook"):
            session.execute("insert into asked (id) values (1)")
        people.run("drop schema keeper cascade")
        session.execute("create table noticed (id int)")  # the catalogue is looked at again
        session.execute("insert into asked (id) values (2)")


FIRST = """
create schema app; grant usage on schema app to app;
create view app.found as select id, null::text as value from public.people; grant select on app.found to app;
create view public.found as select id, code as value from public.people;
create table asked (id int primary key, parent int, note text); grant all on asked to app;
create function answered() returns trigger language plpgsql security definer as $$ begin
    new.note := (select value from found where id = new.id); return new; end $$;
create trigger answered before insert on asked for each row execute function answered();
"""


def test_what_runs_as_its_owner_finds_no_names_that_only_the_session_has(people, assert_refused):
    people.run(FIRST)
    assert_refused(r"functions\.hook", "insert into asked (id) values (1)", sensitive=SENSITIVE, hold_s=0)


FOLLOWED = """
create role holder;
create schema holder authorization holder;
create table parents (id int primary key, slug text unique, name text); insert into parents values (1, 'a', 'A'); grant all on parents to app;
create table asked (id int primary key, parent int references parents on delete set null, note text); insert into asked values (1, 1, '');
create view holder.found as select id, code as value from public.people; create table public.found (id int, value text);
create function answered() returns trigger language plpgsql as $$ begin
    new.note := (select value from found where id = new.id); return new; end $$;
create trigger answered before update on asked for each row execute function answered();
alter table asked owner to holder; grant all on asked to app; grant select on public.found, people to app, holder; grant all on parents to holder;
"""


def test_what_a_foreign_key_runs_it_runs_as_the_owner_of_the_table(people, start, connect):
    people.run(FOLLOWED)
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        with pytest.raises(psycopg.Error, match=r"functions\.hook"):
            session.execute("delete from parents where id = 1")
        assert people.run("select note from asked") == ""


SLUGS = """
create table parents (slug text primary key, id int unique, name text); insert into parents values ('a', 1, 'A'); grant all on parents to app;
create function slugged() returns trigger language plpgsql as $$ begin new.slug := lower(new.name); return new; end $$;
create trigger slugged before update on parents for each row execute function slugged();
alter table people add dep text references parents (slug) on update cascade; update people set dep = 'a';
"""


def test_a_key_that_a_trigger_fills_is_followed(people, start, connect):
    people.run(SLUGS + write_trigger("raise exception 'code % is kept', old.code using errcode = '40001';"))
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        with pytest.raises(psycopg.Error) as caught:
            session.execute("update parents set name = 'Q' where id = 1")
        assert "zebra" not in str(caught.value)


def test_a_cursor_is_not_named_by_a_value_in_the_open(people, start, connect):
    people.run(write_trigger("c := 'rows of ' || old.code; open c for select 1;", declares="declare c refcursor;"))
    with start(sensitive=SENSITIVE, listed=["public.watched"]) as running, connect(running) as session, session.transaction():
        session.execute("update people set name = 'other' where id = 1")
        assert "zebra" not in str(session.execute("select name from pg_cursors").fetchall())


def test_a_column_of_another_tables_row_type_binds_it(people, start, connect):
    with start(sensitive=SENSITIVE, hold_s=0) as running, connect(running) as session:
        for kind in ("guesses", "guesses[]"):
            with pytest.raises(psycopg.Error, match=r"schema_changes\.not_plain"):
                session.execute(f"create table bound (id int, of {kind})")


COMPUTED = {
    "default": "alter table people alter code set default gen_random_uuid()::text;",
    "identity": "alter table people alter income set not null, alter income add generated always as identity (start 1000);",
    "another trigger": """create function coded() returns trigger language plpgsql as $$ begin
            new.code := gen_random_uuid(); new.income := 7; return new; end $$;
        create trigger coded before insert on people for each row execute function coded();""",
}


@pytest.mark.parametrize("name", COMPUTED)
def test_a_new_row_has_values_of_its_own_where_the_server_chooses_them(name, people, assert_refused):
    looks = "if new.code like (select max(pattern) from guesses) or new.income > 0 then raise exception 'no'; end if;"
    people.run(COMPUTED[name] + write_trigger(looks, "before insert"))
    assert_refused(r"functions\.hook", "insert into people (id, name) values (100, 'new')", sensitive=SENSITIVE, hold_s=0)


CODES = ("40001", "55P03", "57014", "53400", "08000", "25006", "26000", "P0001", "42501")


@pytest.mark.parametrize("when", ["before update", "after update"])
def test_no_text_that_a_body_raises_is_shown_whatever_its_code(when, people, start, connect):
    people.run(
        write_trigger(
            "if new.name like 'w%' then raise warning 'has %', old.code using errcode = substr(new.name, 2); "
            "else raise exception 'has %', old.code using errcode = new.name, detail = old.code, hint = old.code, "
            "column = old.code, constraint = old.code, table = old.code, schema = old.code, datatype = old.code; end if;",
            when,
        )
    )
    with start(sensitive=SENSITIVE, listed=["public.watched"]) as running, connect(running) as session:
        notices = []
        session.add_notice_handler(notices.append)
        for code in CODES:
            with pytest.raises(psycopg.Error) as caught:
                session.execute(f"update people set name = '{code}' where id = 1")
            shown = {name: getattr(caught.value.diag, name) for name in dir(caught.value.diag) if not name.startswith("_")}
            assert caught.value.sqlstate == code
            assert "zebra" not in str(shown)
            session.execute(f"update people set name = 'w{code}' where id = 1")
        assert not notices


def test_what_the_server_says_of_itself_is_shown_also_below_a_body(people, start, connect):
    people.run(write_trigger("insert into people (id) values (1);", "after update"))
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            session.execute("update people set name = 'other' where id = 2")
        assert caught.value.diag.constraint_name == "people_pkey"
