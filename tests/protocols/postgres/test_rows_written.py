"""How many rows a change can write where an index compares them with sensitive values: what the text and the keys say, and what the server does."""

from collections.abc import Iterator

import psycopg
import pytest

from gateway.action import Action
from gateway.protocols.postgres import guesses
from gateway.protocols.postgres.actions import CATALOG, SqlSettings, Statement, describe, describe_in_session
from gateway.protocols.postgres.assigned import PLURAL_GUESSES
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_answers import build_snapshot
from gateway.protocols.postgres.catalog_queries import QUERIES
from gateway.protocols.postgres.named import SessionNames
from gateway.testing.postgres import start_postgres

TABLES = ("ill", "visits", "halves", "parents", "later", "partial", "folded", "parted", "named")

SCHEMA = """
create collation caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table ill (id int, note text, ssn text);
create table visits (id bigint primary key, note text, ssn text);
create table halves (a int, b int, ssn text, primary key (a, b));
create table parents (id int primary key, ssn text);
create table children () inherits (parents);
create table later (id int primary key deferrable, ssn text);
create table partial (id int, ssn text);
create unique index on partial (id) where ssn > 'm';
create table folded (name text collate caseless, ssn text);
create unique index on folded (name collate "C");
create table parted (id int primary key, ssn text) partition by range (id);
create table parted_low partition of parted for values from (0) to (1000);
create table named (key varchar(20) primary key, ssn text);
create table lowered (id int, ssn text, low text generated always as (lower(ssn)) stored, twice int generated always as (id * 2) stored);
create index on lowered (twice, low);
insert into lowered (id, ssn) select n, 'n' from generate_series(1, 5) n;
insert into named select 'a' || repeat(' ', n) from generate_series(0, 9) n;
create table people (name text);
create table phoned (id int primary key, ssn text[]);
create index on phoned using gin (ssn);
create view seen as select * from visits;
create sequence ticks;
create function several(n int) returns setof int language sql immutable as 'select generate_series(1, n)';
create table owners (id int primary key, note text);
create table owned (id int references owners on update cascade, ssn text);
create index on owned (id, ssn);
create view moving as select id as place from owned;
insert into ill select n, 'n' || n from generate_series(1, 30) n;
insert into visits select n, 'n' || n from generate_series(1, 30) n;
insert into visits select 4611686018427387904 + n, 'big' from generate_series(1, 30) n;
insert into halves select 1, n from generate_series(1, 30) n;
insert into parents values (1);
insert into children select 1 from generate_series(1, 30);
insert into partial select 1 from generate_series(1, 30);
insert into folded values ('abc'), ('ABC');
insert into parted select n from generate_series(1, 30) n;
insert into owners values (1), (2);
insert into owned select 1 from generate_series(1, 30);
"""

OPEN_ENDED = {
    "query": "insert into ill select 1, '', 'x' || n from generate_series(1, 5) n",
    "recursive query": """insert into ill with recursive r(n) as (select 1::bigint union all select n + t.last_value from r, ticks t
        where n < 100) select 1, '', 'x' || n from r""",
    "set": "insert into ill values (1, '', 'x' || generate_series(1, 5))",
    "set of one row": "insert into ill values (1, (pg_timezone_names()).name, 'x')",
    "set of the site": "insert into ill values (1, '', 'x' || several(5))",
    "set in one arm": "insert into ill select 1, '', 'x' union all select generate_series(1, 3), '', 'y'",
    "arm with a table": "insert into ill select 1, '', 'x' union all select id, '', 'y' from visits",
    "computed limit": "insert into ill select id, '', 'x' from visits limit (select 5)",
    "ties": "insert into ill select id, '', 'x' from visits order by note fetch first 1 row with ties",
    "grouping sets": "insert into ill select 1, '', 'x' group by grouping sets ((), (), ())",
    "limit of an arm": "insert into ill (select 1, '', 'x' limit 1) union all select id, '', 'y' from visits",
    "subquery": "insert into ill select * from (values (1, '', 'x')) v",
    "cte under the name of a table": "with visits as (select 5 id from ill) insert into ill select id, '', 'x' from visits where id = 5",
    "cte of the query": "insert into ill with visits as (select 5 id from ill) select id, '', 'x' from visits where id = 5",
    "renamed columns": "insert into ill select id, '', 'x' from visits v(note, id) where id = 'big'",
    "merge": "merge into ill i using visits v on i.id = v.id when not matched then insert values (v.id, '', 'x')",
    "every row": "update ill set ssn = 'x'",
    "no key": "update ill set ssn = 'x' where id = 1",
    "range": "update visits set ssn = 'x' where id < 5",
    "any": "update visits set ssn = 'x' where id = any('{1,2,3}')",
    "key computed for each row": "update visits set ssn = 'x' where id = (select visits.id)",
    "volatile key": "update visits set ssn = 'x' where id = (random() * 30)::int",
    "key or other": "update visits set ssn = 'x' where id = 1 or note = 'n2'",
    "all but a key": "update visits set ssn = 'x' where not (id = 1)",
    "key not in": "update visits set ssn = 'x' where id not in (1, 2)",
    "key of another": "update ill i set ssn = 'x' from visits v where v.id = 1",
    "lossy": "update visits set ssn = 'x' where id = 4611686018427387904::float8",
    "blanks": "update named set ssn = 'x' where key = 'a'::bpchar",
    "generated": "update lowered set ssn = 'x' where id > 0",
    "generated for the other column": "update lowered set id = id + 7 where id > 0",
    "inside a with": "with w as (update ill set ssn = 'x' where id > 5 returning id) select count(*) from w",
    "half a key": "update halves set ssn = 'x' where a = 1",
    "parent": "update parents set ssn = 'x' where id = 1",
    "deferred": "update later set ssn = 'x' where id = 1",
    "partial": "update partial set ssn = 'a' where id = 1",
    "other collation": "update folded set ssn = 'x' where name = 'abc'",
    "moved through a view": "update moving set place = 2 where place = 1",
    "view": "update seen set ssn = 'x' where id = 1",
    "followed": "update owners set id = 3 where id = 1",
    "moved": "update owned set id = 2 where id = 1",
    "declared float": "prepare p(float8) as update visits set ssn = 'x' where id = $1",
    "copy": "copy ill from stdin",
}

BOUNDED = {
    "key": ("update visits set ssn = 'x' where id = 1", 1),
    "cast key": ("update visits v set ssn = 'x' where v.id = '1'::bigint and note <> 'z'", 1),
    "key in numeric": ("update visits set ssn = 'x' where id = 4611686018427387905.0", 1),
    "keys": ("update visits set ssn = 'x' where id in (1, 2, 3)", 3),
    "keys twice": ("update visits set ssn = 'x' where id in (1, 2) and id = 1", 2),
    "both halves": ("update halves set ssn = 'x' where b = 2 and 1 = a", 1),
    "halves of two": ("update halves set ssn = 'x' where b in (2, 3) and a in (1, 2)", 4),
    "partitioned": ("update parted set ssn = 'x' where id = 1", 1),
    "joined": ("update visits v set ssn = i.note from ill i where v.id = 1", 1),
    "without from": ("insert into ill select 1, '', 'x' where not exists (select from visits where id = 99)", 1),
    "values": ("insert into ill values (1, '', 'x'), (1, '', 'y')", 2),
    "computed values": (
        "insert into ill values (1, '', (select 'x' || last_value from ticks)), (1, '', clock_timestamp()::text)",
        2,
    ),
    "arms": ("insert into ill select 1, '', 'x' union all values (1, '', 'y'), (1, '', 'z')", 3),
    "key of text": ("update named set ssn = 'x' where key = 'a '", 1),
    "limit": ("insert into ill select id, '', 'x' from visits limit 7", 7),
    "limit of sets": ("insert into ill select generate_series(1, 100), '', 'x' limit 7", 7),
    "row by its key": ("insert into ill select id, '', 'x' from visits where id = 5", 1),
    "upsert": ("insert into visits (id, ssn) values (1, 'x'), (2, 'y') on conflict (id) do update set ssn = excluded.ssn", 2),
    "inside a with": ("with w as (insert into ill values (1, '', 'z') returning id) insert into ill select 1, '', 'y'", 2),
    "row of the cursor": ("update ill set ssn = 'x' where current of c", 1),
}

UNCOMPARED = (
    "update visits set note = 'x'",
    "insert into ill (id) select id from visits",
    "delete from ill",
    "select ssn from ill",
    "explain update ill set ssn = 'x'",
)


@pytest.fixture(scope="module")
def connection() -> Iterator[psycopg.Connection]:
    with start_postgres() as server:
        options = {"host": str(server.socket_dir), "port": server.port, "user": "postgres", "dbname": "postgres"}
        with psycopg.connect(**options, autocommit=True) as opened:
            opened.execute(SCHEMA + "".join(f"create index on {table} (ssn);" for table in TABLES))
            yield opened


@pytest.fixture(scope="module")
def snapshot(connection: psycopg.Connection) -> CatalogSnapshot:
    return build_snapshot({name: connection.execute(sql).fetchall() for name, sql in QUERIES.items()})


SETTINGS = SqlSettings(
    "core", "postgres", "postgres", tuple(f"public.{table}.ssn" for table in (*TABLES, "owned", "lowered", "phoned"))
)


def ask(statement: Statement, snapshot: CatalogSnapshot) -> tuple[Action, dict]:
    action = describe(statement, {CATALOG: snapshot}, SETTINGS)
    return action, action.facts["statements"][0]


@pytest.mark.parametrize("name", OPEN_ENDED)
def test_a_text_that_does_not_say_bounds_nothing(name: str, snapshot: CatalogSnapshot) -> None:
    action, statement = ask(Statement(OPEN_ENDED[name]), snapshot)
    assert any(column.get("compared") for column in statement["assigned"])
    assert "most_guesses" not in statement
    assert guesses.is_open_ended(action) == ("write" in action.effects)


@pytest.mark.parametrize("name", BOUNDED)
def test_the_server_writes_no_more_than_the_text_says(
    name: str, snapshot: CatalogSnapshot, connection: psycopg.Connection
) -> None:
    text, most = BOUNDED[name]
    action, statement = ask(Statement(text), snapshot)
    assert statement["most_guesses"] == most
    assert guesses.count_inferences(action) == most
    assert not guesses.is_open_ended(action)
    with connection.transaction(force_rollback=True):
        connection.execute("declare c cursor for select id from ill")
        connection.execute("fetch c")
        assert 0 < connection.execute(text).rowcount <= most


@pytest.mark.parametrize("name", ["lossy", "blanks", "parent", "partial", "half a key", "other collation", "grouping sets"])
def test_the_server_writes_several_where_it_is_open_ended(name: str, connection: psycopg.Connection) -> None:
    """What the rules before stand on: these look like one row."""
    with connection.transaction(force_rollback=True):
        assert connection.execute(OPEN_ENDED[name]).rowcount > 1


@pytest.mark.parametrize("text", UNCOMPARED)
def test_nothing_is_said_of_other_statements(text: str, snapshot: CatalogSnapshot) -> None:
    action, statement = ask(Statement(text), snapshot)
    assert "most_guesses" not in statement or statement["effects"] == ["read"]
    assert not guesses.is_open_ended(action)
    assert guesses.count_inferences(action) == 1


@pytest.mark.parametrize(
    ("oid", "is_bounded"),
    [(0, True), (20, True), (23, True), (1700, True), (1043, True), (700, False), (701, False), (1042, False)],
)
def test_a_parameter_is_compared_in_the_type_it_is_declared_with(oid: int, is_bounded: bool, snapshot: CatalogSnapshot) -> None:
    statement = Statement("update visits set ssn = 'x' where id = $1", ("1",), "extended", types=(oid,))
    _, facts = ask(statement, snapshot)
    assert ("most_guesses" in facts) == is_bounded


@pytest.mark.parametrize(
    ("text", "oid", "is_bounded"),
    [
        ("update visits set ssn = 'x' where $1::float8 > 0 and id = $1", 0, False),
        ("update visits set ssn = 'x' where $1::float8 > 0 and id = $01", 0, False),
        ("update visits set ssn = 'x' where $00000000000000000000001::float8 > 0 and id = $1", 0, False),
        ("update visits set ssn = 'x' where $1 > 0 and id = $1", 20, True),
        ("insert into visits (id, ssn) values (1, $1), (2, $1)", 0, True),
    ],
)
def test_a_parameter_without_a_type_that_is_there_twice_may_be_of_another(
    text: str, oid: int, is_bounded: bool, snapshot: CatalogSnapshot
) -> None:
    """The server takes its type from one place, and in another compares a key with it as a float."""
    _, facts = ask(Statement(text, ("1",), "extended", types=(oid,)), snapshot)
    assert ("most_guesses" in facts) == is_bounded


@pytest.mark.parametrize(("oid", "is_bounded"), [(20, True), (701, False)])
def test_so_is_that_of_a_name(oid: int, is_bounded: bool, snapshot: CatalogSnapshot) -> None:
    names = SessionNames()
    prepared = Statement("update visits set ssn = 'x' where id = $1", mode="extended", prepares="p", types=(oid,))
    action, changes = describe_in_session(prepared, {CATALOG: snapshot}, SETTINGS, names)
    names.send(1, changes, action.effects, 1)
    names.end(1, is_completed=True)
    run, _ = describe_in_session(Statement("execute p(1)"), {CATALOG: snapshot}, SETTINGS, names)
    assert run.facts["statements"][0].get("most_guesses") == (1 if is_bounded else None)


@pytest.mark.parametrize(
    ("text", "is_bounded"),
    [
        ("prepare p as update visits set ssn = 'x' where id = $1", True),
        ("prepare p as update visits set ssn = 'x' where $1::float8 > 0 and id = $1", False),
        ("prepare p as update visits set ssn = 'x' where $001::float8 > 0 and id = $1", False),
    ],
)
def test_a_name_with_a_parameter_that_is_there_twice_is_open_ended(
    text: str, is_bounded: bool, snapshot: CatalogSnapshot
) -> None:
    names, facts = SessionNames(), {CATALOG: snapshot}
    action, changes = describe_in_session(Statement(text), facts, SETTINGS, names)
    names.send(1, changes, action.effects, 1)
    names.end(1, is_completed=True)
    run, _ = describe_in_session(Statement("execute p(1)"), facts, SETTINGS, names)
    assert ("most_guesses" in run.facts["statements"][0]) == is_bounded


@pytest.mark.parametrize(("types", "is_bounded"), [((0, 20), False), ((20, 0), True), ((20, 20), True), ((), False)])
def test_a_name_that_a_message_gives_has_types_too(types: tuple[int, ...], is_bounded: bool, snapshot: CatalogSnapshot) -> None:
    names, facts = SessionNames(), {CATALOG: snapshot}
    text = "update visits set ssn = 'x' where $1::float8 > 0 and id = $1 and id <> $2"
    action, changes = describe_in_session(Statement(text, mode="extended", prepares="p", types=types), facts, SETTINGS, names)
    names.send(1, changes, action.effects, 1)
    names.end(1, is_completed=True)
    run, _ = describe_in_session(Statement("execute p(1, 2)"), facts, SETTINGS, names)
    assert ("most_guesses" in run.facts["statements"][0]) == is_bounded


def test_a_null_may_stand_for_any_number_of_rows(snapshot: CatalogSnapshot) -> None:
    """With transform_null_equals, as clients of MS Access have it."""
    for condition in ("id = null", "null = id", "id in (1, null)"):
        _, facts = ask(Statement(f"update visits set ssn = 'x' where {condition}"), snapshot)
        assert "most_guesses" not in facts


def test_without_a_snapshot_nothing_is_known() -> None:
    action = describe(Statement("insert into ill values (1, '', 'x')"), {}, SETTINGS)
    assert "most_guesses" not in action.facts["statements"][0]


def test_what_a_text_computes_and_writes_is_charged_together(snapshot: CatalogSnapshot) -> None:
    """Else one change of a row would pay for what is computed beside it."""
    text = "; ".join(["update visits set ssn = 'x' where id in (1, 2)", *["select upper(ssn) from ill"] * 20])
    action, _ = ask(Statement(text), snapshot)
    assert guesses.count_inferences(action) == 22


def test_a_row_with_many_entries_in_an_index_counts_for_more(snapshot: CatalogSnapshot) -> None:
    """Each element of an array is compared where GIN has it, so what counts is how much the text says."""
    text = "insert into phoned values (1, '{a,b,c}'), (2, '{d}')"
    action, statement = ask(Statement(text), snapshot)
    assert statement["most_guesses"] == 2 * PLURAL_GUESSES
    assert guesses.count_inferences(action) == 2 * PLURAL_GUESSES
    long = "{" + ",".join(map(str, range(100_000))) + "}"
    action, _ = ask(Statement("insert into phoned values (1, $1)", (long,), "extended"), snapshot)
    assert guesses.count_inferences(action) > len(long) // guesses.BYTES_PER_GUESS
    action, _ = ask(Statement(f"insert into phoned values (1, '{long}')"), snapshot)
    assert guesses.count_inferences(action) > len(long) // guesses.BYTES_PER_GUESS
    _, statement = ask(Statement("insert into phoned (id) values (3)"), snapshot)
    assert "most_guesses" not in statement


@pytest.mark.parametrize(
    "text",
    [
        "insert into phoned values (1, array_fill('a'::text, '{1000}'))",
        "insert into phoned values (1, array(select name from people))",
        "insert into phoned values (1, string_to_array(repeat('a,', 1000), ','))",
        "update phoned set ssn = (select array_agg(note) from ill) where id = 1",
        "update phoned p set ssn = array[i.note] from ill i where p.id = 1",
    ],
)
def test_a_value_that_is_made_of_others_has_any_number_of_entries(text: str, snapshot: CatalogSnapshot) -> None:
    action, statement = ask(Statement(text), snapshot)
    assert "most_guesses" not in statement
    assert guesses.is_open_ended(action)


def test_what_a_name_stands_for_is_measured(snapshot: CatalogSnapshot) -> None:
    names, facts = SessionNames(), {CATALOG: snapshot}
    long = "{" + ",".join(map(str, range(10_000))) + "}"
    action, changes = describe_in_session(
        Statement(f"prepare p as insert into phoned values (1, '{long}')"), facts, SETTINGS, names
    )
    names.send(1, changes, action.effects, 1)
    names.end(1, is_completed=True)
    run, _ = describe_in_session(Statement("execute p"), facts, SETTINGS, names)
    assert guesses.count_inferences(run) > len(long) // guesses.BYTES_PER_GUESS
