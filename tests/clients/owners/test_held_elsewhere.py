"""Sensitive values under names that nobody configured: a table that gave its name away, and rows that are kept whole."""

import psycopg
import pytest

from gateway.testing.waiting import wait_until
from tests.clients.owners.test_row_order import ask

PEOPLE = """
create table people (id int primary key, name text, ssn text);
insert into people select n, 'n' || n, '000-00-000' || n from generate_series(1, 3) n;
create view contacts as select id, ssn as number from people;
grant all on people, contacts to app;
"""
MASKED = ["[redacted]"]
SENSITIVE = ["public.people.ssn"]
SWAPPED = """alter table people rename to people_old; create table people (like people_old including all);
    alter table people alter column id type bigint; grant all on people to app"""
ADDED = "alter table people rename ssn to ssn_old; alter table people add ssn text"
ROWS = """create type kept as (at date, who people); create domain rows_of_people as people[];
    create table history (id int, whole people, several people[], named rows_of_people, inside kept, seen contacts);
    insert into history select 1, p, array[p], array[p], (date '2026-01-01', p)::kept, c
      from people p join contacts c using (id) where p.id = 1;
    create view told as select whole as who from history;
    grant all on history, told to app"""


def tell(session, sql):
    """The rows, or why there are none."""
    try:
        return str(ask(session, sql))
    except psycopg.Error as error:
        return str(error)


@pytest.mark.parametrize(
    ("change", "asks"), [(SWAPPED, "select ssn from people_old"), (ADDED, "select ssn_old from people")], ids=["table", "column"]
)
def test_what_had_a_sensitive_name_stays_sensitive(change, asks, people, start, connect, caplog):
    with start(sensitive=SENSITIVE, limits={"catalog_age_s": 1}) as running, connect(running) as session:
        assert ask(session, "select ssn from people") == MASKED * 3
        people.run(change)
        wait_until(lambda: "had the name of a sensitive column" in caplog.text or ask(session, "select 1") != [1])
        assert ask(session, asks) == MASKED * 3
        assert ask(session, "select number from contacts") == MASKED * 3
        with pytest.raises(psycopg.Error, match=r"regulated\.predicate"):
            session.execute(f"{asks} order by 1")
        people.run("drop view contacts; drop table if exists people_old")
    assert caplog.text.count("had the name of a sensitive column") == 1


def test_rows_that_are_kept_whole_hold_what_their_table_holds(people, start, connect):
    people.run(ROWS)
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        for column in ("whole", "several", "named", "inside", "seen", "several[1]"):
            assert "000-00" not in str(ask(session, f"select {column} from history"))
        assert "000-00" not in str(ask(session, "select who from told"))
        for column in (
            "to_jsonb(whole)",
            "(whole).ssn",
            "(several[1]).ssn",
            "((inside).who).ssn",
            "(seen).number",
            "unnest(several)",
        ):
            told = tell(session, f"select {column} from history")
            assert "000-00" not in told
            assert "regulated" in told or "redacted" in told or "None" in told
        with pytest.raises(psycopg.Error, match=r"regulated\.predicate"):
            session.execute("select id from history where (whole).ssn = '000-00-0001'")
