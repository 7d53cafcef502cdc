"""Row security that asks for other rows of its own table, and policies that run with some commands only."""

import psycopg
import pytest

PEOPLE = """
create table people (id int primary key, name text, ssn text);
insert into people select n, 'n' || n, '000-00-000' || n from generate_series(1, 3) n;
create view told as select id, ssn from people;
grant all on people, told to app;
alter table people enable row level security;
create policy seen on people for select using (true);
"""

WRITING = {
    "none of this value": "for insert with check (not exists (select from people p where p.ssn = people.ssn))",
    "the highest": "for insert with check (ssn > (select max(p.ssn) from people p))",
    "at most two": "for update using (true) with check ((select count(*) from people p where p.ssn = people.ssn) < 2)",
    "through a view": "for insert with check (not exists (select from told t where t.ssn = people.ssn))",
}


@pytest.mark.parametrize("name", WRITING)
def test_a_policy_that_asks_its_own_table_searches_it_when_rows_are_written(name, server, start, connect):
    server.run(PEOPLE + f"create policy written on people {WRITING[name]}")
    with start(sensitive=["public.people.ssn"], hold_s=0) as running, connect(running) as session:
        assert len(session.execute("select id, ssn from people").fetchall()) == 3
        for statement in (
            "insert into people values (50, 'new', '000-00-0001')",
            "update people set name = 'other' where id = 1",
            "select id from people where id = 1 for update",
        ):
            with pytest.raises(psycopg.Error, match=r"regulated\.predicate.*Column (ssn|id|name) is"):
                session.execute(statement)


def test_a_policy_that_asks_for_nothing_sensitive_passes(server, start, connect):
    asks = "(select count(*) from people p where p.name = people.name) < 9"
    server.run(PEOPLE + f"create table hidden (ssn text); create policy written on people for insert with check ({asks})")
    with start(sensitive=["public.hidden.ssn"], hold_s=0) as running, connect(running) as session:
        session.execute("insert into people values (50, 'new', '000-00-0001')")
