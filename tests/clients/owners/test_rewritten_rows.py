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

PARTED = """
    create table parted (id int, grade text not null references grades, city text) partition by list (id);
    create table parted_1 partition of parted for values in (1, 2);
    create table parted_3 partition of parted for values in (3, 4); insert into parted values (1, 'g1', 'a'), (3, 'g3', 'a');
    grant all on parted, parted_1, parted_3 to app
"""

AGAIN = r"(?s)guesses\.rewritten.*COMMIT first"
LOOKED_UP = r"(?s)guesses\.looked_up.*one row at a time"


@pytest.fixture
def run(server, start, connect):
    """A session of a gateway for which grades of clients are sensitive; `made` is what the owner has beside."""

    def make(made="", **changes):
        server.run(CODES + made)
        running = start(**{"sensitive": ["public.clients.grade"], "hold_s": 0} | changes)
        return running, connect

    return make


def passes(session, *statements):
    session.execute("begin")
    for statement in statements:
        session.execute(statement)
    session.execute("rollback")


def refuses(session, statement, match=AGAIN):
    with pytest.raises(psycopg.Error, match=match):
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
            session.execute("update clients set city = %s where id + 0 = %s", (city, 1))


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


def test_a_family_of_partitions_counts_as_one_table(run):
    running, connect = run(PARTED, sensitive=["public.parted.grade"])
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
            LOOKED_UP,
        )
        session.execute("begin")
        session.execute("update towns set mayor = 'n' where name = 'city'")
        session.execute("update clients set city = 'b' where id = 1")
        session.execute("commit")


def test_keys_that_may_change_a_row_twice_in_one_statement(run):
    made = """
        create table coins (code text primary key); insert into coins values ('usd'), ('eur');
        create table pairs (base text references coins on update cascade, quote text references coins on update cascade,
            primary key (base, quote)); insert into pairs values ('usd', 'eur');
        alter table clients add base text, add quote text,
            add foreign key (base, quote) references pairs on update cascade;
        create table towns (name text primary key); insert into towns values ('rome'), ('oslo');
        alter table clients add town text default 'oslo' references towns on delete set default,
            add home text references towns on delete set null;
        create table marks (mark text primary key); insert into marks values ('m1'), ('m2');
        alter table clients add mark char(3) references marks on update cascade;
        create table rates (rate numeric primary key); insert into rates values (1), (2);
        alter table clients add rate int references rates on update cascade;
        create table names (name text primary key); insert into names values ('n1'), ('n2');
        alter table clients add name text references names on update cascade on delete set null;
        create function trim_name() returns trigger language plpgsql as
            'begin new.name := coalesce(lower(new.name), old.name); return new; end';
        create trigger trim_name before update of name on clients for each row execute function trim_name();
        create table wards (name text primary key); insert into wards values ('w1'), ('w2');
        alter table clients add ward text references wards on delete set null;
        grant all on coins, pairs, towns, marks, rates, names, wards to app"""
    running, connect = run(made)
    with running as gateway, connect(gateway) as session:
        refuses(session, "update coins set code = upper(code) where code in ('usd', 'eur')", LOOKED_UP)
        refuses(session, "delete from towns where name in ('rome', 'oslo')", LOOKED_UP)
        refuses(session, "update rates set rate = case rate when 1 then 2.4 else 9 end where rate in (1, 2)", LOOKED_UP)
        refuses(session, "insert into rates values (1), (2) on conflict (rate) do update set rate = rates.rate + 1.4", LOOKED_UP)
        refuses(
            session, "update names set name = case name when 'n1' then 'N2' else 'n3' end where name in ('n1', 'n2')", LOOKED_UP
        )
        refuses(session, "delete from names where name in ('n1', 'n2')", LOOKED_UP)
        refuses(
            session, "update marks set mark = case mark when 'm1' then 'm2 ' else 'm3' end where mark in ('m1', 'm2')", LOOKED_UP
        )
        refuses(
            session,
            "with gone as (delete from wards where name = 'w1' returning name) delete from wards where name = 'w2'",
            LOOKED_UP,
        )
        session.execute("delete from wards where name in ('w1', 'w2')")
        session.execute("update rates set rate = 3 where rate = 1")


def test_another_column_of_the_key_is_not_changed(run):
    made = """
        create table kinds (country text, kind text, primary key (country, kind)); insert into kinds values ('fr', 'a'), ('de', 'a');
        create table firms (id int primary key, country text, kind text, name text, foreign key (country, kind) references kinds);
        insert into firms values (1, 'fr', 'a', 'n'), (2, 'fr', 'a', 'n'); grant all on kinds, firms to app"""
    running, connect = run(made, sensitive=["public.firms.kind"])
    with running as gateway, connect(gateway) as session:
        refuses(session, "update firms set country = 'de' where id = 1", LOOKED_UP)
        refuses(session, "update firms set country = 'de', kind = kind where id = 1", "postgres.")
        session.execute("update firms set name = 'm' where id = 1")
        session.execute("insert into firms values (3, 'de', 'a', 'n')")


def test_a_key_that_is_made_of_two_columns_is_changed_by_neither(run):
    made = """
        create table kinds (kind text primary key); insert into kinds values ('fr:a'), ('de:a'), ('de:b');
        create table firms (id int primary key, country text, kind text, full_kind text generated always as (country || ':' || kind) stored
            references kinds);
        insert into firms values (1, 'fr', 'a'), (2, 'fr', 'a'); grant all on kinds, firms to app"""
    running, connect = run(made, sensitive=["public.firms.kind"])
    with running as gateway, connect(gateway) as session:
        refuses(session, "update firms set country = 'de' where id = 1", LOOKED_UP)


def test_a_child_may_generate_what_its_parent_does_not(run):
    made = """
        create table grown (version int generated always as (id % 10) stored) inherits (clients_all);
        insert into grown (id, grade) values (1, 'g1'); grant all on grown, clients_all to app"""
    running, connect = run(
        "create table clients_all (id int, version int, grade text references grades);" + made,
        sensitive=["public.clients_all.grade"],
    )
    with running as gateway, connect(gateway) as session:
        session.execute("begin")
        session.execute("update clients_all set id = 2 where version = 1")
        refuses(session, "update clients_all set id = 3 where version = 2")
        session.execute("rollback")


def test_keys_that_lead_to_a_table_that_refers_to_itself_are_followed_as_far_as_they_go(run):
    made = """
        create table depts (id int primary key, name text); insert into depts values (1, 'd'), (2, 'd'), (3, 'd');
        alter table clients add dept int references depts on delete set null on update cascade,
            add head int references clients on delete set null; grant all on depts to app"""
    running, connect = run(made)
    with running as gateway, connect(gateway) as session:
        session.execute("delete from depts where id in (1, 2)")
        session.execute("update depts set id = 4 where id = 3")
        session.execute("delete from clients where id = 5")


def test_a_row_that_moves_is_gone_for_keys_to_its_partition(run):
    made = """
        create table towns (id int primary key); insert into towns values (1), (2), (3);
        create table halls (id int, town int references towns on update cascade, primary key (id, town)) partition by list (town);
        create table halls_1 partition of halls for values in (1);
        create table halls_2 partition of halls for values in (2, 3); insert into halls values (1, 1);
        alter table halls_1 add unique (id);
        alter table clients add hall int references halls_1 (id) on delete set null,
            add town int references towns on update cascade; update clients set hall = 1, town = 1;
        grant all on towns, halls, halls_1, halls_2 to app"""
    running, connect = run(made)
    with running as gateway, connect(gateway) as session:
        session.execute("begin")
        session.execute("update halls set town = 2 where id = 1 and town = 1")
        refuses(session, "update clients set city = 'b' where id = 1")
        session.execute("rollback")
        refuses(session, "update towns set id = 4 where id = 1", LOOKED_UP)


def test_one_parameter_is_two_numbers_as_a_float(run):
    made = """
        create table big (no numeric primary key); insert into big values (9007199254740992), (9007199254740993);
        alter table clients add big bigint references big on update cascade; grant all on big to app"""
    running, connect = run(made)
    with running as gateway, connect(gateway) as session:
        said = "update big set no = case no when 9007199254740992 then 9007199254740992.9 else 7 end where"
        for condition in ("$1::float8 is not null and no = $1", "no = $1"):
            found = session.pgconn.exec_params(f"{said} {condition}".encode(), [b"9007199254740992"])
            assert b"guesses.looked_up" in found.error_message
        session.execute("update big set no = 5 where no = 9007199254740992")


def test_an_upsert_through_a_view_changes_no_part_of_a_key(run):
    made = """
        create table kinds (country text, kind text, primary key (country, kind)); insert into kinds values ('fr', 'a'), ('de', 'a');
        create table firms (id int primary key, land text, kind text, foreign key (land, kind) references kinds);
        insert into firms values (1, 'fr', 'a'); create view shown as select id, land as country from firms; grant all on kinds, firms, shown to app"""
    running, connect = run(made, sensitive=["public.firms.kind"])
    with running as gateway, connect(gateway) as session:
        for table, column in (("shown", "country"), ("firms", "land")):
            upsert = (
                f"insert into {table} (id, {column}) values (1, 'de') on conflict (id) do update set {column} = excluded.{column}"
            )
            refuses(session, upsert, LOOKED_UP)


def test_keys_of_partitions_are_each_for_its_own_rows(run):
    made = """
        create table depts (id int primary key); insert into depts values (1), (2);
        create table parted (id int, dept int references depts on update cascade, grade text not null references grades)
            partition by hash (id);
        create table parted_0 partition of parted for values with (modulus 2, remainder 0);
        create table parted_1 partition of parted for values with (modulus 2, remainder 1);
        insert into parted select n, 1, 'g1' from generate_series(1, 4) n; grant all on depts, parted, parted_0, parted_1 to app"""
    running, connect = run(made, sensitive=["public.parted.grade"])
    with running as gateway, connect(gateway) as session:
        session.execute("update depts set id = 3 where id = 1")
        refuses(session, "update depts set id = id + 10 where id in (2, 3)", LOOKED_UP)


def test_a_row_that_refers_to_its_own_table_is_changed(run):
    running, connect = run("alter table clients add head int references clients on delete set null on update cascade")
    with running as gateway, connect(gateway) as session:
        session.execute("insert into clients values (1, 'd', 'g1', 2) on conflict (id) do update set city = excluded.city")
        session.execute("update clients set head = 3 where id = 1")
        assert session.execute("select city, head from clients where id = 1").fetchone() == ("d", 3)


def test_a_row_does_not_move_to_another_partition(run):
    running, connect = run(PARTED, sensitive=["public.parted.grade"])
    with running as gateway, connect(gateway) as session:
        refuses(session, "update parted set id = 3 where id = 1", r"postgres\.guesses\.(looked_up|open_ended)")
        session.execute("update parted set city = 'b' where id = 1")


def test_a_definition_may_have_written_all_rows(run):
    running, connect = run("alter table clients owner to app", site={"sandbox_environments": ["staging"]})
    with running as gateway, connect(gateway) as session:
        session.execute("begin")
        session.execute("alter table clients add column token uuid default gen_random_uuid()")
        refuses(session, "update clients set city = 'b' where id = 1")
        session.execute("rollback")


@pytest.mark.parametrize("timing", ["before", "after"])
def test_code_that_changes_such_rows_has_to_be_listed(timing, run):
    made = f"""
        create function move() returns trigger language plpgsql as
            'begin update clients set city = new.city where id = new.client; return new; end';
        create trigger move {timing} insert on offers for each row execute function move()"""
    running, connect = run(made)
    with running as gateway, connect(gateway) as session:
        refuses(session, "insert into offers values (1, 1, 'b')", "move")


@pytest.mark.parametrize("binary", [False, True])
def test_rows_that_are_told_apart_by_a_key_are_changed_in_one_transaction(binary, run):
    running, connect = run("alter table clients add token uuid unique default gen_random_uuid()")
    with running as gateway, connect(gateway) as session:
        tokens = [token for (token,) in session.execute("select token from clients order by id").fetchall()]
        with session.transaction(), session.cursor(binary=binary) as cursor:
            cursor.execute("update clients set city = 'b' where id = 1")
            cursor.executemany("update clients set city = %s where %s = id", [("c", 2), ("d", 3)])
            cursor.execute("update clients set city = 'e' where id = '4' and city > 'a'")
            with pytest.raises(psycopg.Error, match=AGAIN), session.transaction():
                cursor.execute("update clients set city = %s where id = %s", ("f", 3))
        assert session.execute("select city from clients order by id").fetchall() == [("b",), ("c",), ("d",), ("e",), ("city",)]
        with session.transaction(), session.cursor(binary=binary) as cursor:
            for token in tokens:
                cursor.execute("update clients set city = 'g' where token = %s", (token,))
            with pytest.raises(psycopg.Error, match=AGAIN), session.transaction():
                cursor.execute("update clients set city = 'h' where token = %s", (str(tokens[0]).upper(),))
        assert session.execute("select distinct city from clients").fetchall() == [("g",)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("city = 'b' where id = 1", "city = 'c' where id = 01"),
        ("city = 'b' where id = 1", "city = 'c' where id in (2, 1)"),
        ("city = 'b' where id = 1", "city = 'c' where id = 2 or id = 1"),
        ("city = 'b' where id = 1", "city = 'c' where not id = 2"),
        ("city = 'b' where id = 1", "city = 'c' where id = 2 - 1"),
        ("city = 'b' where id = 1", "city = 'c' where id <> 2"),
        ("city = 'b' where id = 1", "city = 'c' where city = 'b'"),
        ("city = 'b' where id = 1", "city = 'c' where id::float4 = 1"),
        ("city = 'b' where id = 1", "city = 'c' where 2 = (select id)"),
        ("city = 'b' where id = 1", "city = 'c' from offers where offers.id = 2"),
        ("id = 9 where id = 1", "city = 'c' where id = 9"),
        ("(city, id) = ('b', 9) where id = 1", "city = 'c' where id = 9"),
        ("city = 'b' where city = 'city' and id = 1", "city = 'c' where city = 'b'"),
        ("city = 'b' where double = 2", "id = 5 where double = 4"),
    ],
)
def test_rows_that_may_be_the_same_are_not_told_apart(first, second, run):
    running, connect = run("alter table clients add double int generated always as (id * 2) stored")
    with running as gateway, connect(gateway) as session:
        session.execute("begin")
        session.execute(f"update clients set {first}")
        refuses(session, f"update clients set {second}")
        session.execute("rollback")


@pytest.mark.parametrize("body", ["new.id := 10 - old.id; return new", "old.id := 10 - old.id; return old"])
def test_a_column_that_a_trigger_fills_tells_no_rows_apart(body, run):
    made = f"""
        create function swap() returns trigger language plpgsql as 'begin {body}; end';
        create trigger swap before update on clients for each row execute function swap()"""
    running, connect = run(made)
    with running as gateway, connect(gateway) as session:
        session.execute("begin")
        session.execute("update clients set city = 'b' where id = 1")
        refuses(session, "update clients set city = 'c' where id = 9")
        session.execute("rollback")


def test_a_parameter_without_a_type_is_no_other_number(run):
    """As a transaction number, `010` is read as 8."""
    running, connect = run("update clients set id = 8 where id = 5")
    with running as gateway, connect(gateway) as session:
        raw = session.pgconn
        session.execute("begin")
        session.execute("update clients set city = 'b' where id = 8")
        found = raw.exec_params(b"update clients set city = city where $1::xid is not null and $1 = id", [b"010"])
        assert b"guesses.rewritten" in found.error_message
        session.execute("rollback")


def test_what_is_prepared_changes_nothing_yet(run):
    running, connect = run()
    with running as gateway, connect(gateway) as session:
        session.execute("begin")
        session.execute("prepare first as update clients set city = 'b' where id = 1")
        session.execute("execute first")
        session.execute("prepare second as update clients set city = 'c' where id = 1")
        for statement in ("execute first", "execute second", "update clients set city = 'd' where id = 1"):
            refuses(session, statement)
        session.execute("rollback")


def test_what_is_known_by_heart_is_refused_all_the_same(run):
    running, connect = run()
    with running as gateway, connect(gateway) as session:
        for _ in range(12):  # often enough for the gateway to know the texts by heart
            passes(session, "update clients set city = 'b' where id = 1", "update clients set city = 'b' where id = 2")
        session.execute("begin")
        session.execute("update clients set city = 'b' where id = 1")
        refuses(session, "update clients set city = 'b' where id = 1")
        session.execute("rollback")


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
