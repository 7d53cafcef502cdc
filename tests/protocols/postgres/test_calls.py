"""What calls of functions outside pg_catalog are taken for: those of known extensions, those a connection vouches for, and any other."""

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from gateway.protocols.postgres.actions import CATALOG, SqlSettings, Statement, describe
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_answers import build_snapshot
from gateway.protocols.postgres.catalog_queries import QUERIES
from gateway.protocols.postgres.results import describe_rows
from gateway.testing.postgres import start_postgres

SCHEMA = """
create extension citext; create extension "uuid-ossp"; create extension hstore; create extension pg_trgm; create extension tablefunc; create extension ltree;
create schema elsewhere; create extension unaccent schema elsewhere;
create function mark() returns text language plpgsql as 'begin return ''x''; end';
create table marked (id int primary key, note text default mark());
create table followed (id int references marked on delete set default, note text default mark());
create table people (id int primary key, name text, ssn text);
create table things (id uuid primary key default uuid_generate_v4(), name citext);
create view folded as select id, replace(name, 'a', 'b') as name from people;
create function add1(n int) returns int language sql immutable as 'select n + 1';
create function add2(n int) returns int language sql immutable as 'select n + 2';
create function lower(n int) returns text language sql immutable as 'select n::text';
"""

SETTINGS = SqlSettings("core", "postgres", "postgres", ("public.people.ssn",))
VOUCHED = replace(SETTINGS, clean_functions=frozenset({"public.add1"}))

HARMLESS = (
    "select max(id), min(name), replace(name, 'a', 'b'), split_part(name, ' ', 1) from people",
    "select max(name) from things",
    "select uuid_generate_v4(), 'literal'",
    "select elsewhere.unaccent('x')",
    "select hstore('a', 'b') -> 'a', similarity('a', 'b')",
    "select * from folded",
)
OTHERS = (
    "select add1(3)",
    "select unaccent('x')",
    "select lower(3)",
    "select crosstab('select 1')",
    "select set_limit(0.5)",
    "select nosuch(1)",
)


@pytest.fixture(scope="module")
def snapshot() -> Iterator[CatalogSnapshot]:
    with start_postgres() as server:
        options = {"host": str(server.socket_dir), "port": server.port, "user": "postgres", "dbname": "postgres"}
        with psycopg.connect(**options, autocommit=True) as connection:
            connection.execute(SCHEMA)
            yield build_snapshot({name: connection.execute(sql).fetchall() for name, sql in QUERIES.items()})


def deliver(text: str, columns: int, snapshot: CatalogSnapshot, settings: SqlSettings = SETTINGS) -> list[bool]:
    """Which computed columns of a result may hold sensitive values."""
    facts = {CATALOG: snapshot}
    fields = [{"name": "x", "table_oid": 0, "attnum": 0, "type_oid": 25}] * columns
    rows = describe_rows(describe(Statement(text), facts, settings), fields, facts, settings)
    return [column["sensitive"] for column in rows.response["columns"]]


@pytest.mark.parametrize("text", HARMLESS)
def test_functions_of_known_extensions_are_as_harmless_as_the_servers_own(text: str, snapshot: CatalogSnapshot) -> None:
    action = describe(Statement(text), {CATALOG: snapshot}, SETTINGS)
    (statement,) = action.facts["statements"]
    assert action.effects == {"read"}
    assert all(call["harmless"] for call in statement["functions"])
    assert not statement["may_yield_sensitive"]
    assert not any(table.get("hooks") for table in statement["tables"])


@pytest.mark.parametrize("text", OTHERS)
def test_no_other_function_is(text: str, snapshot: CatalogSnapshot) -> None:
    """Of unknown extensions, of known ones where they keep state, in a schema that is not searched, or somebody's own."""
    action = describe(Statement(text), {CATALOG: snapshot}, SETTINGS)
    (statement,) = action.facts["statements"]
    assert "execute" in action.effects
    assert not all(call["harmless"] for call in statement["functions"])
    assert statement["may_yield_sensitive"]


def test_a_default_that_calls_one_is_nothing_that_runs_unseen(snapshot: CatalogSnapshot) -> None:
    for text in (
        "insert into things values (default, 'x')",
        "update things set name = 'x' where id is null",
        "delete from things",
    ):
        (statement,) = describe(Statement(text), {CATALOG: snapshot}, SETTINGS).facts["statements"]
        assert statement["effects"] == ["write"] or statement["effects"] == ["read", "write"]
        assert not any(table.get("hooks") for table in statement["tables"])


def test_what_they_are_given_is_still_in_what_they_return(snapshot: CatalogSnapshot) -> None:
    assert deliver("select elsewhere.unaccent(ssn), elsewhere.unaccent(name), 5 from people", 3, snapshot) == [True, False, False]


@pytest.mark.parametrize(("text", "is_read"), [("ssn || 'x'", True), ("ssn -> 'x'", False)])
def test_an_operator_that_an_extension_has_as_well_may_read_what_it_joins(
    text: str, is_read: bool, snapshot: CatalogSnapshot
) -> None:
    """ltree has a `||` that fails where a text is no label; `->` and `||` of hstore take nothing but their own type on the left."""
    (statement,) = describe(Statement(f"select {text} from people"), {CATALOG: snapshot}, SETTINGS).facts["statements"]
    uses = {column["use"] for column in statement["columns"] if column["sensitive"]}
    assert uses == ({"other", "computed"} if is_read else {"other"})
    plain = replace(snapshot, reading_operators=frozenset(), memo={})
    (statement,) = describe(Statement(f"select {text} from people"), {CATALOG: plain}, SETTINGS).facts["statements"]
    assert {column["use"] for column in statement["columns"] if column["sensitive"]} == {"other"}


def test_results_of_functions_a_connection_vouches_for_are_what_they_are_given(snapshot: CatalogSnapshot) -> None:
    text = "select add1(id), add1(length(ssn)), 5 from people"
    assert deliver(text, 3, snapshot) == [True, True, True]
    assert deliver(text, 3, snapshot, VOUCHED) == [False, True, False]
    assert deliver(text.replace("add1(id)", "add2(id)"), 3, snapshot, VOUCHED) == [True, True, True]
    action = describe(Statement(text), {CATALOG: snapshot}, VOUCHED)
    assert "execute" in action.effects  # policy still has to allow the call


def test_a_vouched_name_covers_its_own_schema_only(snapshot: CatalogSnapshot) -> None:
    elsewhere = replace(SETTINGS, clean_functions=frozenset({"elsewhere.add1"}))
    assert deliver("select add1(3)", 1, snapshot, elsewhere) == [True]


def test_a_default_runs_where_a_row_is_made(snapshot: CatalogSnapshot) -> None:
    def find_hooks(text: str) -> bool:
        (statement,) = describe(Statement(text), {CATALOG: snapshot}, SETTINGS).facts["statements"]
        return any(table.get("hooks") for table in statement["tables"])

    assert find_hooks("insert into marked values (1)")
    assert find_hooks("with w as (insert into marked values (1) returning id) delete from things where name = 'x'")
    assert find_hooks("delete from marked where id = 1")  # the table that follows gets its default
    assert not find_hooks("delete from followed where id = 1")
