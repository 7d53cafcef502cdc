"""No row is changed twice in a transaction where a sensitive column of it refers to plain rows: the server would look for the one it has."""

import psycopg
import pytest

CODES = """
    create table grades (grade text primary key, label text); insert into grades select 'g' || n, 'label' from generate_series(1, 20) n;
    create table clients (id int primary key, city text, grade text not null references grades);
    insert into clients select n, 'city', 'g' || n from generate_series(1, 5) n;
    create table offers (id int primary key, client int, city text);
    grant all on grades, clients, offers to app;
"""

AGAIN = r"guesses\.rewritten.*COMMIT first"


@pytest.fixture
def run(server, start, connect):
    """A session of a gateway for which grades of clients are sensitive; `made` is what the owner has beside, `listed` what the site trusts."""

    def make(made="", **changes):
        server.run(CODES + made)
        running = start(**{"sensitive": ["public.clients.grade"], "hold_s": 0} | changes)
        return running, connect

    return make


def refuses(session, statement, match=AGAIN):
    with pytest.raises(psycopg.Error, match=f"(?s){match}"):
        session.execute(statement)


def test_a_second_change_in_a_transaction_is_refused_and_one_after_it_passes(run):
    running, connect = run()
    with running as gateway, connect(gateway) as session:
        for _ in range(2):  # each is a transaction of its own
            session.execute("update clients set city = 'a' where id = 1")
        session.execute("begin")
        session.execute("update clients set city = 'b' where id = 1")
        session.execute("update offers set city = 'b' where id = 1")
        session.execute("update offers set city = 'c' where id = 1")
        session.execute("select city from clients")
        refuses(session, "update clients set city = 'c' where id = 1")
        session.execute("rollback")
        session.execute("begin")
        session.execute("update clients set city = 'c' where id = 1")
        session.execute("savepoint s")
        refuses(session, "insert into clients values (1, 'd', 'g1') on conflict (id) do update set city = 'd'")
        session.execute("rollback to s")
        refuses(session, "update clients set city = 'd' where id = 1")
        session.execute("commit and chain")  # the server is in a transaction all the while, so that nobody is sure
        refuses(session, "update clients set city = 'd' where id = 1")
        session.execute("commit")
        assert session.execute("select city from clients where id = 1").fetchone() == ("c",)


def change_twice_in_a_pipeline(session):
    with session.pipeline():
        for city in ("b", "c"):
            session.execute("update clients set city = %s where id = %s", (city, 1))


@pytest.mark.parametrize(
    "second",
    [
        "update clients set city = 'c' where id > 0",
        "update only clients set city = 'c' where id = 2",
        "with changed as (update clients set city = 'c' where id = 1 returning id) select count(*) from changed",
        "merge into clients c using (values (1)) v (id) on c.id = v.id when matched then update set city = 'c'",
        "insert into clients values (1, 'd', 'g1') on conflict (id) do update set city = 'd'",
        "update seen set city = 'c' where id = 1",
        "execute changes",
    ],
)
def test_it_is_refused_whatever_it_is_written_as(second, run):
    running, connect = run("create view seen as select id, city from clients; grant all on seen to app")
    with running as gateway, connect(gateway) as session:
        session.execute("prepare changes as update clients set city = 'c' where id = 1")
        session.execute("begin")
        session.execute("update seen set city = 'b' where id = 1")
        refuses(session, second)
        session.execute("rollback")


def test_several_in_one_text_or_pipeline_are_refused(run):
    running, connect = run()
    with running as gateway, connect(gateway) as session:
        refuses(session, "update clients set city = 'b' where id = 1; update clients set city = 'c' where id = 1")
        refuses(session, "begin; update clients set city = 'b' where id = 1; commit; update clients set city = 'c' where id = 1")
        with pytest.raises(psycopg.Error, match=r"guesses\.rewritten"):
            change_twice_in_a_pipeline(session)
        assert session.execute("select distinct city from clients").fetchall() == [("city",)]
        for city in ("b", "c"):
            session.execute("update clients set city = %s where id = %s", (city, 1), prepare=True)


def test_a_family_of_partitions_counts_as_one_table(run, server):
    made = """
        create table parted (id int, grade text not null references grades, city text) partition by list (id);
        create table parted_1 partition of parted for values in (1, 2);
        create table parted_3 partition of parted for values in (3, 4); insert into parted values (1, 'g1', 'a'), (3, 'g3', 'a');
        grant all on parted, parted_1, parted_3 to app"""
    running, connect = run(made, sensitive=["public.parted.grade"])
    with running as gateway, connect(gateway) as session:
        for first, second in (("parted", "parted_1"), ("parted_1", "parted"), ("parted_1", "parted_1")):
            session.execute("begin")
            session.execute(f"update {first} set city = 'b' where id = 1")
            refuses(session, f"update {second} set city = 'c' where id = 1")
            session.execute("rollback")


def test_what_keys_change_counts(run):
    made = """
        create table towns (name text primary key, mayor text); insert into towns values ('city', 'm'), ('b', 'm');
        create table states (id int primary key, town text references towns on update cascade);
        alter table clients add foreign key (city) references towns on update cascade;
        grant all on towns, states to app"""
    running, connect = run(made)
    with running as gateway, connect(gateway) as session:
        session.execute("begin")
        session.execute("update towns set name = 'c' where name = 'city'")
        refuses(session, "update clients set city = 'b' where id = 1")
        session.execute("rollback")
        refuses(
            session,
            "with moved as (update clients set city = 'b' where id = 1) update towns set name = 'c' where name = 'b'",
        )
        session.execute("begin")
        session.execute("update towns set mayor = 'n' where name = 'city'")
        session.execute("update clients set city = 'b' where id = 1")
        session.execute("commit")


@pytest.mark.parametrize("timing", ["before", "after"])
def test_code_that_changes_such_rows_has_to_be_listed(timing, run):
    made = f"""
        create function move() returns trigger language plpgsql as
            'begin update clients set city = new.city where id = new.client; return new; end';
        create trigger move {timing} insert on offers for each row execute function move()"""
    running, connect = run(made)
    with running as gateway, connect(gateway) as session:
        refuses(session, "insert into offers values (1, 1, 'b')", "move")


def test_what_refers_to_sensitive_rows_is_changed_at_will(run):
    running, connect = run(sensitive=["public.clients.grade", "public.grades.grade"])
    with running as gateway, connect(gateway) as session:
        session.execute("begin")
        for city in ("b", "c"):
            session.execute("update clients set city = %s where id = 1", (city,))
        session.execute("rollback")


def test_rows_that_come_or_go_are_no_changes(run):
    running, connect = run()
    with running as gateway, connect(gateway) as session:
        session.execute("begin")
        for number in (10, 11):
            session.execute(f"insert into clients values ({number}, 'b', 'g1')")
        session.execute("delete from clients where id = 10")
        session.execute("update clients set city = 'c' where id = 11")
        session.execute("rollback")
