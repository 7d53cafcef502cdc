"""Catalogue snapshots of real servers, every version installed here: names, origins through views and partitions, digests."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from gateway.errors import ConfigError, ProtocolError
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_answers import build_snapshot
from gateway.protocols.postgres.catalog_objects import BaseColumn
from gateway.protocols.postgres.catalog_queries import QUERIES
from gateway.protocols.postgres.functions import EFFECTS, HARMLESS, TELLING, VOLATILE_HARMLESS, YIELDS_ANY
from gateway.protocols.postgres.implied import find_written_through
from gateway.protocols.postgres.sensitivity import find_sensitive
from gateway.protocols.postgres.shapes import MAX_DEPTH, MAX_FIELDS, build_types
from gateway.testing.postgres import find_embedded, start_postgres

ROOT = Path(__file__).parents[3]

SCHEMA = """
create table people (id int primary key, name text, ssn text, tail text generated always as (right(ssn, 4)) stored);
create view plain as select id, ssn as x, name from people;
create view computed as select upper(ssn) as u, name || '!' as n, 1 as one from people;
create view stacked as select x, name from plain where x like 'A%';
create view nested as select s.u as v, s.n from (select upper(ssn) as u, name as n from people) s;
create view row_view as select p as p, id from people p;
create view united as select id, ssn as a from people union all select id, name from people;
create view counted as select name, count(*) as c from people group by name;
create view with_cte as with c(a, b) as (select ssn, id from people) select b, a from c;
create materialized view stored as select x, n from (select x, name as n from stacked) s;
create view statistics as select tablename, most_common_vals::text as m from pg_stats;
create table events (id int, ssn text, day date) partition by range (day);
create table events_a partition of events for values from ('2024-01-01') to ('2025-01-01');
create table events_b (day date, ssn text, id int);
alter table events attach partition events_b for values from ('2025-01-01') to ('2026-01-01');
create view events_view as select ssn from events_a;
create table base (k int, secret text);
create table derived (extra text) inherits (base);
create function peek() returns text language plpgsql stable as $$ begin return (select ssn from people limit 1); end $$;
create function write_it() returns int language plpgsql as $$ begin delete from people; return 1; end $$;
create view by_function as select peek() as p, id from people;
create view by_query as select query_to_xml('select ssn from people', true, true, '') as q, 1 as one;
create view by_writer as select write_it() as w;
create schema bank;
create table bank.people (id int, ssn text);
create domain mail as text check (value like '%@%');
create type mood as enum ('a');
create domain mails as mail[];
create type address as (street text, gone int, place mail, moods mood[], at int4range);
alter type address drop attribute gone;
create type addressed as (home address, former address[]);
create domain home as address;
create type eight as range (subtype = float8);
create operator public.=== (leftarg = text, rightarg = text, function = texteq);
create function plus(text, text) returns text language sql as 'select $1';
create operator public.#@# (leftarg = text, rightarg = text, function = plus);
create table "Odd ""name""!" ("a.b" int);
"""


def find_servers() -> dict[str, Path]:
    """Folders with server binaries, by a short name."""
    found = {path.parts[-2]: path for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"))}
    return found | {f"wheel-{version}": folder for version, folder in find_embedded().items()}


SERVERS = find_servers()


@pytest.fixture(scope="module", params=list(SERVERS))
def connection(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    with start_postgres(bin_dir=SERVERS[request.param]) as server:
        options = {"host": str(server.socket_dir), "port": server.port, "user": "postgres", "dbname": "postgres"}
        with psycopg.connect(**options, autocommit=True) as opened:
            opened.execute(SCHEMA)
            yield opened


def take(connection: psycopg.Connection) -> CatalogSnapshot:
    return build_snapshot({name: connection.execute(sql).fetchall() for name, sql in QUERIES.items()})


@pytest.fixture(scope="module")
def snapshot(connection: psycopg.Connection) -> CatalogSnapshot:
    return take(connection)


SENSITIVE = ("public.people.ssn", "public.events.ssn", "public.base.secret")


def origins(snapshot: CatalogSnapshot, relation: str, column: str):
    found = snapshot.resolve(None, relation)
    assert found is not None
    attribute = found.find(column)
    assert attribute is not None
    return found.oid, attribute.number, snapshot.origins(found.oid, attribute.number)


CASES = [
    # relation, column, stored columns, same, opaque, sensitive
    ("people", "ssn", {"people.ssn"}, True, False, True),
    ("people", "name", {"people.name"}, True, False, False),
    ("people", "tail", {"people.tail"}, True, False, True),
    ("plain", "x", {"people.ssn"}, True, False, True),
    ("plain", "name", {"people.name"}, True, False, False),
    ("computed", "u", {"people.ssn"}, False, False, True),
    ("computed", "n", {"people.name"}, False, False, False),
    ("computed", "one", set(), False, False, False),
    ("stacked", "x", {"people.ssn"}, True, False, True),
    ("stacked", "name", {"people.name"}, True, False, False),
    ("nested", "v", {"people.ssn"}, False, False, True),
    ("nested", "n", {"people.name"}, True, False, False),
    ("row_view", "p", {"people.id", "people.name", "people.ssn", "people.tail"}, False, False, True),
    ("united", "a", {"people.ssn", "people.name"}, False, False, True),
    ("united", "id", {"people.id"}, True, False, False),
    ("counted", "name", {"people.name"}, True, False, False),
    ("counted", "c", set(), False, False, False),
    ("with_cte", "a", {"people.ssn"}, True, False, True),
    ("with_cte", "b", {"people.id"}, True, False, False),
    ("stored", "x", {"people.ssn"}, True, False, True),
    ("stored", "n", {"people.name"}, True, False, False),
    ("statistics", "m", {"pg_stats.most_common_vals"}, False, False, True),
    ("statistics", "tablename", {"pg_stats.tablename"}, True, False, False),
    ("events_a", "ssn", {"events.ssn"}, True, False, True),
    ("events_b", "ssn", {"events.ssn"}, True, False, True),
    ("events_b", "day", {"events.day"}, True, False, False),
    ("events_view", "ssn", {"events.ssn"}, True, False, True),
    ("derived", "secret", {"base.secret"}, True, False, True),
    ("derived", "extra", {"derived.extra"}, True, False, False),
    ("by_function", "p", set(), False, True, True),
    ("by_function", "id", {"people.id"}, True, False, False),
    ("by_query", "q", set(), False, True, True),
]


@pytest.mark.parametrize(
    ("relation", "column", "stored", "same", "opaque", "sensitive"),
    CASES,
    ids=lambda value: str(sorted(value) if isinstance(value, set | frozenset) else value)[:24],
)
def test_origins(snapshot: CatalogSnapshot, relation, column, stored, same, opaque, sensitive) -> None:
    oid, number, found = origins(snapshot, relation, column)
    assert {f"{base.table}.{base.column}" for base in found.columns} == stored
    assert (found.is_same, found.is_opaque) == (same, opaque)
    assert find_sensitive(snapshot, SENSITIVE).holds(oid, number) is sensitive


def test_every_view_column_depends_on_what_postgres_says(snapshot: CatalogSnapshot, connection: psycopg.Connection) -> None:
    """Whatever the text analysis finds lies within the columns PostgreSQL recorded for the view."""
    for oid, view in snapshot.views.items():
        for number in snapshot.relations[oid].columns:
            direct = {source for source in snapshot.origins(oid, number).through if source in view.columns}
            whole = {relation for relation, _ in view.columns}
            assert all(relation in whole for relation, _ in direct)


def test_row_descriptions_agree_with_the_snapshot(snapshot: CatalogSnapshot, connection: psycopg.Connection) -> None:
    cursor = connection.execute("select x, name, x || 'a' from stacked")
    result = cursor.pgresult
    assert result is not None
    described = [(result.ftable(index), result.ftablecol(index)) for index in range(result.nfields)]
    assert described[2] == (0, 0)
    assert [snapshot.origins(*key).columns for key in described[:2]] == [
        frozenset({BaseColumn("public", "people", "ssn")}),
        frozenset({BaseColumn("public", "people", "name")}),
    ]


def test_names_resolve_through_the_search_path(snapshot: CatalogSnapshot) -> None:
    assert snapshot.search_path == ("pg_catalog", "public")
    assert snapshot.resolve(None, "people").schema == "public"
    assert snapshot.resolve("bank", "people").schema == "bank"
    assert snapshot.resolve(None, "pg_class").schema == "pg_catalog"
    assert snapshot.resolve("other", "people") is None
    assert snapshot.resolve(None, 'Odd "name"!').find("a.b") is not None
    first = replace(snapshot, search_path=("pg_catalog", "bank", "public"))
    assert first.resolve(None, "people").schema == "bank"


def test_functions_operators_and_types(snapshot: CatalogSnapshot) -> None:
    (peek,) = snapshot.find_functions(None, "peek", 0)
    assert (peek.language, peek.volatility, peek.is_definer) == ("plpgsql", "stable", False)
    assert snapshot.find_functions(None, "peek", 1) == ()
    assert snapshot.find_functions("bank", "peek", 0) == ()
    assert snapshot.find_functions(None, "lower", 1) == ()
    assert snapshot.find_operators(None, "===") == ("internal",)
    assert snapshot.find_operators(None, "#@#") == ("sql",)
    assert snapshot.find_types(None, "mail") == ("d",)
    assert snapshot.find_types(None, "mood") == ("e",)
    assert snapshot.function_by_oid(peek.oid) is peek
    behind = snapshot.behind(snapshot.resolve(None, "by_function").oid)
    assert behind.functions == (peek,)
    assert behind.names == {"peek"}
    assert {relation.name for relation in behind.relations} == {"by_function", "people"}
    assert {relation.name for relation in snapshot.behind(snapshot.resolve(None, "events").oid).relations} == {
        "events",
        "events_a",
        "events_b",
    }


def test_sensitive_relations(snapshot: CatalogSnapshot) -> None:
    sensitivity = find_sensitive(snapshot, SENSITIVE)
    held = {name for name in ("people", "plain", "computed", "counted", "stored", "events_a", "derived", "pg_stats", "pg_namespace")
            if sensitivity.holds_any(snapshot.resolve(None, name))}  # fmt: skip
    assert held == {"people", "plain", "computed", "stored", "events_a", "derived", "pg_stats"}
    assert not find_sensitive(snapshot, ()).holds_any(snapshot.resolve(None, "people"))


def test_a_partition_makes_its_parent_sensitive_but_not_its_siblings(snapshot: CatalogSnapshot) -> None:
    sensitivity = find_sensitive(snapshot, ("public.events_a.ssn",))
    assert sensitivity.holds_any(snapshot.resolve(None, "events_a"))
    assert sensitivity.holds_any(snapshot.resolve(None, "events"))


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("base", {"derived"}),  # its children
        ("derived", {"base"}),  # it stands among the rows of its parent
        ("events", set()),  # stands for its partitions
        ("events_a", {"events"}),
        ("plain", {"people"}),
        ("stored", set()),  # what a materialized view is made of stays as it is
    ],
)
def test_a_write_reaches_the_rows_of_others(snapshot: CatalogSnapshot, name: str, reached: set[str]) -> None:
    relation = snapshot.resolve("public", name)
    assert relation is not None
    assert {each.name for each in find_written_through(snapshot, relation, ())} == reached
    added = {each.name for each in find_written_through(snapshot, relation, (), adds_only=True)}
    assert added == reached - {"derived"}


def test_missing_sensitive_columns_are_named(snapshot: CatalogSnapshot) -> None:
    sensitivity = find_sensitive(snapshot, ("public.people.snn", "bank.nothing.x", "public.people.ssn"))
    assert sensitivity.missing == ("bank.nothing.x", "public.people.snn")
    assert find_sensitive(None, ("public.people.ssn",)).missing == ()


def test_sensitive_names_have_three_parts(snapshot: CatalogSnapshot) -> None:
    for wrong in ("people.ssn", "public..ssn", "a.b.c.d", ""):
        with pytest.raises(ConfigError):
            find_sensitive(snapshot, (wrong,))


def test_the_digest_is_stable_and_sees_changes(connection: psycopg.Connection, snapshot: CatalogSnapshot) -> None:
    assert take(connection).digest == snapshot.digest
    rows = {name: connection.execute(sql).fetchall() for name, sql in QUERIES.items()}
    texts = {
        name: [[None if value is None else str(value) for value in row] for row in reversed(answer)]
        for name, answer in rows.items()
    }
    assert build_snapshot(texts).digest == snapshot.digest
    connection.execute("create table passing (x int)")
    changed = take(connection).digest
    connection.execute("drop table passing")
    assert changed != snapshot.digest


def test_an_incomplete_answer_is_no_snapshot(connection: psycopg.Connection) -> None:
    rows = {name: connection.execute(sql).fetchall() for name, sql in QUERIES.items()}
    for name in QUERIES:
        with pytest.raises(ProtocolError):
            build_snapshot({key: value for key, value in rows.items() if key != name})
    with pytest.raises(ProtocolError):
        build_snapshot({**rows, "session": []})
    with pytest.raises(ProtocolError):
        build_snapshot({**rows, "columns": [(1, 2)]})


def test_unknown_columns_are_opaque(snapshot: CatalogSnapshot) -> None:
    assert snapshot.origins(1, 1).is_opaque
    assert snapshot.origins(snapshot.resolve(None, "people").oid, 99).is_opaque


def test_temporary_relations_are_left_out(connection: psycopg.Connection) -> None:
    connection.execute("create temporary table mine (x int)")
    found = take(connection)
    connection.execute("drop table mine")
    assert found.resolve(None, "mine") is None


def test_deep_views_end_opaque(connection: psycopg.Connection) -> None:
    connection.execute("create view deep0 as select ssn from people")
    for level in range(1, 80):
        connection.execute(f"create view deep{level} as select ssn from deep{level - 1}")
    found = take(connection)
    sensitivity = find_sensitive(found, SENSITIVE)
    top = found.resolve(None, "deep79")
    connection.execute("drop view deep0 cascade")
    assert found.origins(top.oid, 1).is_opaque
    assert sensitivity.holds_any(top)


HARMLESS_QUERY = """
select p.proname, p.provolatile, l.lanname from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
where p.pronamespace = 'pg_catalog'::regnamespace and p.oid < 16384"""


def test_harmless_functions_are_what_the_server_says(connection: psycopg.Connection) -> None:
    for name, volatility, language in connection.execute(HARMLESS_QUERY).fetchall():
        if name in HARMLESS and name not in VOLATILE_HARMLESS:
            assert volatility in {"i", "s"}, name
        if name in HARMLESS:
            assert language in {"internal", "sql", "c"}, name


def test_function_lists_do_not_contradict() -> None:
    assert not HARMLESS & set(EFFECTS)
    assert not HARMLESS & YIELDS_ANY
    assert VOLATILE_HARMLESS <= HARMLESS
    dangerous = "pg_read_file lo_export dblink pg_ls_dir query_to_xml set_config pg_sleep nextval pg_terminate_backend pg_notify"
    assert not HARMLESS & set(dangerous.split())
    assert {"count", "lower", "now", "current_setting", "generate_series", "row_to_json"} <= HARMLESS


def test_every_harmless_function_is_in_a_group_of_the_site() -> None:
    """The allow-list the default policy ships names exactly what the gateway knows as harmless, but for what tells of the server's work."""
    groups = json.loads((ROOT / "rego/site/functions/data.json").read_text())
    assert groups.keys() == HARMLESS
    allowed = set(json.loads((ROOT / "rego/site/data.json").read_text())["postgres"]["function_groups"])
    assert set(groups.values()) - allowed == {"work"}
    assert {name for name, group in groups.items() if group == "work"} == TELLING


def test_shapes_of_types(connection: psycopg.Connection, snapshot: CatalogSnapshot):
    def oid(name: str) -> int:
        found = connection.execute("select %s::regtype::oid", (name,)).fetchone()
        assert found is not None
        return int(found[0])

    def of(name: str):
        return snapshot.shapes.find_shape(oid(name))

    mail = ("scalar", oid("mail"), 25)
    moods = ("array", oid("mood[]"), ",", ("opaque", oid("mood")))
    address = ("composite", oid("address"), [("street", ("own", 25)), ("place", mail), ("moods", moods), ("at", ("own", 3904))])
    assert of("text") == ("own", 25)
    assert of("text[]") == ("own", 1009)
    assert of("mood") == ("opaque", oid("mood"))
    assert of("eight") == ("opaque", oid("eight"))
    assert of("mail") == mail
    assert of("mails") == ("array", oid("mails"), ",", mail)
    assert of("address") == address
    assert of("home") == ("composite", oid("home"), address[2])
    assert of("addressed") == (
        "composite",
        oid("addressed"),
        [("home", address), ("former", ("array", oid("address[]"), ",", address))],
    )
    assert of("people")[0] == "composite"
    assert [name for name, _ in of("people")[2]] == ["id", "name", "ssn", "tail"]
    assert snapshot.shapes.find_shape(4_000_000_000) == ("opaque", 4_000_000_000)


def test_types_nested_too_deep_or_too_wide_are_opaque():
    def build(fields, types=()):
        return build_types(types, fields, ())

    def row(oid, relation):
        return (str(oid), "c", "C", "0", ",", "0", str(relation), "public", f"t{oid}", "0")

    deep = build(
        [(str(1 + level), "1", "next", str(20_001 + level)) for level in range(20)],
        [row(20_000 + level, 1 + level) for level in range(20)],
    )
    shape, levels = deep.find_shape(20_000), 0
    while shape[0] == "composite":
        shape, levels = shape[2][0][1], levels + 1
    assert (shape[0], levels) == ("opaque", MAX_DEPTH)
    wide = build([("1", str(number), f"f{number}", "25") for number in range(MAX_FIELDS + 1)], [row(20_000, 1)])
    assert wide.find_shape(20_000) == ("opaque", 20_000)


def test_a_sequence_is_found_by_what_the_server_leaves_of_its_name(connection):
    """Of the longest names, with characters of four bytes, once its first ten names are taken."""
    table = "a" + "😀" * 15
    connection.execute("create schema numbered")
    try:
        for number in range(11):
            connection.execute(f'create table numbered."{table}" (number_{"y" * 40} serial)')
            connection.execute(f'alter table numbered."{table}" rename to "{number}"')
        for number in range(10):
            connection.execute(f'drop table numbered."{number}"')
        snapshot = take(connection)
    finally:
        connection.execute("drop schema numbered cascade")
    assert [each.name[-6:] for each in snapshot.relations.values() if each.schema == "numbered" and each.kind == "S"] == [
        "_seq10"
    ]
    assert snapshot.has_sequence_like(table, "public")
    assert not snapshot.has_sequence_like(table, "numbered")
    assert not snapshot.has_sequence_like("b" + table, "public")
