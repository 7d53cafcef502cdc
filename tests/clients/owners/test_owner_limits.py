"""What objects of an owner tell of sensitive values all the same: the limits that LIMITATIONS.md names, as they are."""

import psycopg
import pytest

from gateway.errors import TargetError
from tests.clients.owners import test_unseen_guesses
from tests.clients.owners.test_unseen_guesses import SENSITIVE

PEOPLE = test_unseen_guesses.PEOPLE


def test_the_sequence_behind_a_sensitive_column_shows_its_newest_value(people, start, connect):
    people.run(
        """create table cards (id int primary key, number serial); insert into cards values (1); grant all on cards, cards_number_seq to app"""
    )
    with start(sensitive=["public.cards.number"]) as running, connect(running) as session:
        assert session.execute("select number from cards").fetchall() == [(None,)]
        assert session.execute("select last_value from cards_number_seq").fetchall() == [(1,)]  # a limit, see LIMITATIONS.md


def test_a_materialized_view_shows_what_it_was_filled_with_after_the_view_below_shows_less(people, start, connect):
    people.run("""create view shown as select id, code from people; create materialized view kept as select * from shown;
        grant select on kept to app; create or replace view shown as select id, '***'::text as code from people""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        assert session.execute("select code from kept where id = 1").fetchall() == [("c1",)]
        people.run("refresh materialized view kept")
        assert session.execute("select code from kept where id = 1").fetchall() == [("***",)]


DETACHED = {
    "partition": """create table members (id int, code text) partition by range (id); grant all on members to app;
        create table left_alone partition of members for values from (0) to (10);
        insert into members values (1, 'c1'); alter table members detach partition left_alone""",
    "child": """create table members (id int, code text); create table left_alone () inherits (members);
        insert into left_alone values (1, 'c1'); alter table left_alone no inherit members""",
    "foreign key": """create table members (id int, code text unique); create table left_alone (id int, code text references members (code));
        insert into members values (1, 'c1'); insert into left_alone values (1, 'c1');
        alter table left_alone drop constraint left_alone_code_fkey""",
}


@pytest.mark.parametrize("name", DETACHED)
def test_what_leaves_a_sensitive_table_is_configured_by_its_own_name(name, people, start, connect):
    people.run(DETACHED[name] + "; grant all on left_alone to app")
    with start(sensitive=["public.members.code"]) as running, connect(running) as session:
        assert session.execute("select code from left_alone").fetchall() == [("c1",)]
    with start(sensitive=["public.members.code", "public.left_alone.code"]) as running, connect(running) as session:
        assert session.execute("select code from left_alone").fetchall() == [("[redacted]",)]


def test_a_policy_shows_on_which_side_of_its_own_constants_a_value_is(people, start, connect):
    people.run("create policy p on people to app using (income > 5000); alter table people enable row level security")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        assert session.execute("select count(*) from people").fetchall() == [(4,)]


def test_a_refresh_that_fails_tells_that_some_row_was_there(people, start, connect):
    people.run("""create materialized view kept as select code from people union all select body from notes;
        create unique index on kept (code); grant select on kept to app""")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        session.execute("insert into notes values (1, 'c1'), (2, 'c99')")
        with pytest.raises(TargetError, match=r"could not create unique index|duplicate key"):
            people.run("refresh materialized view kept")
        assert session.execute("select count(*) from kept").fetchall() == [(9,)]


def test_the_planner_knows_how_many_rows_a_partial_index_has(people, start, connect):
    people.run("create index rich on people (id) where income > 5000; analyze people")
    with start(sensitive=SENSITIVE) as running, connect(running) as session:
        assert session.execute("select reltuples::int from pg_class where relname = 'rich'").fetchall() == [(4,)]


@pytest.mark.parametrize("person", [1, 9])
def test_the_partition_of_a_code_that_another_client_has_looked_up_is_named_by_its_lock(person, people, start, connect):
    people.run("""create table codes (code text primary key) partition by range (code); grant all on codes to app;
        create table codes_low partition of codes for values from (minvalue) to ('c5');
        create table codes_high partition of codes for values from ('c5') to (maxvalue);
        insert into codes select 'c' || n from generate_series(1, 9) n; alter table people add foreign key (code) references codes""")
    place = {"host": people.host, "port": people.port, "user": "app", "password": "app", "dbname": "postgres"}
    with start(sensitive=SENSITIVE) as running, connect(running) as session, psycopg.connect(**place, sslmode="disable") as other:
        for _ in range(2):  # the second has the code looked up
            other.execute("update people set name = 'other' where id = %s", (person,))
        asks = "select c.relname from pg_locks l join pg_class c on c.oid = l.relation where c.relname in ('codes_low', 'codes_high')"
        assert session.execute(asks).fetchall() == [("codes_high" if person == 9 else "codes_low",)]
        other.rollback()
        assert session.execute(asks).fetchall() == []
