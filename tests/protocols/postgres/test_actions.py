"""Statements and results described against a snapshot of a real server: facts, effects, harmlessness, sensitivity of result columns."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.action import EFFECTS
from gateway.protocols.postgres.actions import (
    AHEAD,
    CATALOG,
    LARGE_TEXT_CHARS,
    OWN_TABLES,
    SqlSettings,
    Statement,
    describe,
    lookups,
    read_ahead,
)
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_answers import build_snapshot
from gateway.protocols.postgres.catalog_queries import QUERIES
from gateway.protocols.postgres.enforce import can_quote_sensitive
from gateway.protocols.postgres.own import OwnTables, find_made
from gateway.protocols.postgres.results import describe_copy_out, describe_rows
from gateway.testing.postgres import find_embedded, start_postgres

SCHEMA = """
create table people (id int primary key, name text, ssn text, low text generated always as (lower(name)) stored);
create table notes (id int, person int, body text);
create table secure (id int, body text);
alter table secure enable row level security;
create view masked as select id, ssn as x, upper(ssn) as u, name from people;
create table parents (id int primary key, code text unique, name text);
create table children (id int, parent int references parents on delete set null, code text references parents (code) on update cascade);
create table kept (id int, parent int references parents);
create view marked as select id, ssn as "\3a", ssn as "\1b\1c", ssn as "\2d\2e\2id" from people;
create view harmless_view as select id, upper(name) as n from people;
create function peek(int) returns text language plpgsql stable as $$ begin return (select ssn from people limit 1); end $$;
create function write_it() returns int language plpgsql as $$ begin delete from notes; return 1; end $$;
create function lower(people) returns text language sql as 'select $1.ssn';
create function reveal(people) returns text language sql as 'select $1.ssn';
create view writer as select write_it() as w;
create view sleeper as select pg_sleep(0)::text as s;
create foreign data wrapper nothing;
create server elsewhere foreign data wrapper nothing;
create foreign table remote (line text) server elsewhere;
create view over_remote as select upper(line) as l from remote;
create view over_secure as select body from secure;
create domain mail as text check (value like '%@%');
create type mood as enum ('a');
create function plus(text, text) returns text language sql as 'select $1';
create operator public.#@# (leftarg = text, rightarg = text, function = plus);
create operator public.=== (leftarg = text, rightarg = text, function = texteq);
create table judged (id int, owner text);
alter table judged enable row level security;
create policy of_people on judged using (exists (select 1 from people where people.ssn = judged.owner));
insert into people values (1, 'Ann', '123-45-6789');
analyze people;
"""

SETTINGS = SqlSettings("core", "postgres", "postgres", ("public.people.ssn",))


MINE = OwnTables(frozenset({"mine"}))


@contextlib.contextmanager
def connect(bin_dir: Path | None = None) -> Iterator[psycopg.Connection]:
    with start_postgres(bin_dir=bin_dir) as server:
        options = {"host": str(server.socket_dir), "port": server.port, "user": "postgres", "dbname": "postgres"}
        with psycopg.connect(**options, autocommit=True) as opened:
            opened.execute(SCHEMA)
            yield opened


@pytest.fixture(scope="module")
def connection() -> Iterator[psycopg.Connection]:
    with connect() as opened:
        yield opened


@pytest.fixture(scope="module")
def recent_connection() -> Iterator[psycopg.Connection]:
    """To a server with the newest syntax, which was built without XML."""
    with connect(find_embedded()["18"]) as opened:
        yield opened


def take(connection: psycopg.Connection) -> CatalogSnapshot:
    return build_snapshot({name: connection.execute(sql).fetchall() for name, sql in QUERIES.items()})


@pytest.fixture(scope="module")
def snapshot(connection: psycopg.Connection) -> CatalogSnapshot:
    return take(connection)


@pytest.fixture
def facts(snapshot: CatalogSnapshot) -> dict[str, object]:
    return {CATALOG: snapshot}


def request(sql: str, facts: dict[str, object], *params: object):
    return describe(Statement(sql, params), facts, SETTINGS)


def first(sql: str, facts: dict[str, object]) -> dict:
    return request(sql, facts).facts["statements"][0]


def sensitive(statement: dict) -> set[tuple[str, str]]:
    return {(column["name"], column["use"]) for column in statement["columns"] if column["sensitive"]}


def test_the_condition_of_a_policy_is_met_by_whoever_reads_its_table(facts) -> None:
    """An error of the condition would quote what it compares."""
    action = request("select id from judged", facts)
    assert action.facts["statements"][0]["tables"][0]["sensitive"]
    assert can_quote_sensitive(action)
    assert not can_quote_sensitive(request("select id from kept", facts))


def test_lookups_name_the_snapshot() -> None:
    (lookup,) = lookups(Statement("select 1"), SETTINGS)
    assert lookup.kind == CATALOG
    assert lookup.key == {"connection": "core", "database": "postgres", "role": "postgres"}


def test_a_large_text_is_read_ahead(facts, snapshot) -> None:
    text = f"select {', '.join(['ssn'] * 1_000)} from people where name in ({', '.join(['$1'] * 10_000)})"
    assert len(text) > LARGE_TEXT_CHARS
    catalog, ahead = lookups(Statement(text), SETTINGS)
    assert (catalog.kind, ahead.kind) == (CATALOG, AHEAD)
    statement = Statement(text, ("x",))
    read = read_ahead(ahead.key["text"], snapshot, SETTINGS, OwnTables())
    assert describe(statement, {**facts, AHEAD: read}, SETTINGS) == describe(statement, facts, SETTINGS)


def test_what_was_read_ahead_counts_for_what_it_was_read_of(facts, snapshot) -> None:
    other = read_ahead("select ssn from people", snapshot, SETTINGS, OwnTables())
    assert request("select 1", {**facts, AHEAD: other}) == request("select 1", facts)
    text = "select * from mine"
    for own, now in ((MINE, OwnTables()), (OwnTables(), MINE)):
        session = {**facts, OWN_TABLES: now}
        assert request(text, {**session, AHEAD: read_ahead(text, snapshot, SETTINGS, own)}) == request(text, session)
    assert request(text, {AHEAD: read_ahead(text, snapshot, SETTINGS, OwnTables())}) == request(text, {})


def test_a_plain_read(facts, snapshot) -> None:
    action = request("select id, ssn from people where id = 1", facts)
    assert (action.protocol, action.phase, action.name) == ("postgres", "request", "postgres.query")
    assert action.effects == {"read"}
    assert action.harmless_read
    assert action.facts["catalog_digest"] == snapshot.digest
    assert action.facts["statement_count"] == 1
    statement = action.facts["statements"][0]
    assert statement["tables"] == [{"name": "people", "access": "read", "schema": "public", "sensitive": True, "kind": "r"}]
    assert statement["columns"] == [
        {"schema": "public", "table": "people", "name": "id", "use": "output", "sensitive": False},
        {"schema": "public", "table": "people", "name": "id", "use": "predicate", "sensitive": False},
        {"schema": "public", "table": "people", "name": "ssn", "use": "output", "sensitive": True},
    ]
    assert action.payload == {"text": "select id, ssn from people where id = 1"}


def test_facts_hold_no_literals(facts) -> None:
    action = request("select * from people where ssn = 'LITERAL' and name like 'LITERAL%' limit 77123", facts, "LITERAL")
    assert "LITERAL" not in json.dumps(action.facts)
    assert "77123" not in json.dumps(action.facts)
    copied = request("copy people from '/LITERAL' (delimiter 'L', null 'LITERAL')", facts)
    assert "LITERAL" not in json.dumps(copied.facts)


def test_canonical_covers_what_decides_the_meaning(facts, snapshot) -> None:
    action = request("select $1", facts, "x", None)
    assert action.canonical == {
        "text": "select $1",
        "database": "postgres",
        "params": ["x", None],
        "search_path": ["pg_catalog", "public"],
    }
    simple = describe(Statement("select 1", (), "simple"), facts, SETTINGS)
    extended = describe(Statement("select 1", (), "extended"), facts, SETTINGS)
    assert (simple.canonical, simple.name) == (extended.canonical, extended.name)
    assert "params" not in simple.canonical
    moved = {CATALOG: replace(snapshot, search_path=("pg_catalog", "other"))}
    assert describe(Statement("select 1"), moved, SETTINGS).canonical != simple.canonical


def test_every_statement_counts(facts) -> None:
    action = request("select 1; delete from notes; set role admin", facts)
    assert action.effects == {"read", "write", "session", "privilege"}
    assert [statement["verb"] for statement in action.facts["statements"]] == ["select", "delete", "set"]
    assert not action.harmless_read


@pytest.mark.parametrize("sql", ["", ";", "-- ping", " /* */ ; "])
def test_no_statement_is_a_harmless_read(sql: str, facts) -> None:
    action = request(sql, facts)
    assert (action.effects, action.harmless_read, action.facts["statement_count"]) == ({"read"}, True, 0)


@pytest.mark.parametrize("sql", ["selec", "select 'x", "select 1; drop"])
def test_what_does_not_parse_is_unknown(sql: str, facts) -> None:
    action = request(sql, facts)
    assert action.effects == {"unknown"}
    assert action.parse_status == "failed"
    assert action.parse_reason
    assert not action.harmless_read


UNCLEAR = {
    "select item from coalesce(1, 2)": "alias",
    'select * from (values (1)) where "*VALUES*".column1 = 1': "names the server makes up",
    "select 1_000 from customers": "without underscores",
    "select 0x1F": "without underscores",
}


@pytest.mark.parametrize(("sql", "advice"), UNCLEAR.items())
def test_what_depends_on_the_server_says_what_to_write(sql: str, advice: str, facts, snapshot) -> None:
    old = {CATALOG: replace(snapshot, server_version=140_000)}
    action = request(sql, old)
    assert "unknown" in action.effects
    assert action.unclear is not None
    assert advice in action.unclear
    assert request("select 1", old).unclear is None


def test_a_number_that_the_server_does_not_split_is_clear(facts) -> None:
    action = request("select 1_000", facts)
    assert (action.effects, action.unclear) == ({"read"}, None)


def test_limits_come_from_settings(facts) -> None:
    small = replace(SETTINGS, max_sql_bytes=10)
    assert describe(Statement("select 1234567"), facts, small).effects == {"unknown"}
    flat = replace(SETTINGS, max_depth=4)
    assert describe(Statement("select not (not (not (not (not (a)))))"), facts, flat).effects == {"unknown"}


HARMLESS = [
    "select count(*), max(id) from notes where upper(body) = 'a'",
    "select now(), current_setting('timezone'), random(), version()",
    "select * from harmless_view",
    "select 'a'::mood, '1'::int, 'x'::text",
    "explain select * from notes",
    "show search_path",
    "values (1)",
    "select * from pg_class",
]
NOT_HARMLESS = [
    ("select write_it()", {"read", "execute"}),
    ("select peek(1)", {"read", "execute"}),
    ("select public.lower(p) from people p", {"read", "execute"}),
    ("select p.reveal from people p", {"read", "execute"}),
    ("select (select p from people p limit 1).reveal", {"read", "execute"}),
    ("select * from writer", {"read", "execute"}),
    ("select * from sleeper", {"read", "lock"}),
    ("select pg_read_file('/etc/passwd')", {"read", "file"}),
    ("select lo_export(1, '/x')", {"read", "file", "export"}),
    ("select nextval('s')", {"read", "write"}),
    ("select setval('s', 1)", {"read", "write"}),
    ("select pg_advisory_lock(1)", {"read", "lock", "session"}),
    ("select pg_terminate_backend(1)", {"read", "privilege"}),
    ("select set_config('a.b', 'c', false)", {"read", "session"}),
    ("select pg_notify('a', 'b')", {"read", "session", "write"}),
    ("select query_to_xml('select 1', true, true, '')", {"read", "execute"}),
    ("select dblink_exec('x', 'y')", {"read", "execute", "network"}),
    ("select unheard_of(1)", {"read", "execute"}),
    ("select 'a'::text #@# 'b'", {"read", "execute"}),
    ("select 'a'::text === 'b'", {"read"}),
    ("select 'x'::mail", {"read"}),
    ("select * from secure", {"read"}),
    ("select * from over_secure", {"read"}),
    ("select * from remote", {"read", "network"}),
    ("select l from over_remote", {"read", "network"}),
    ("select * from missing", {"read"}),
    ("select * from people for update", {"read", "lock"}),
    ("select pg_catalog.pg_sleep(1)", {"read", "lock"}),
    ("select explode.lower('A')", {"read", "execute"}),
]


@pytest.mark.parametrize("sql", HARMLESS)
def test_harmless_reads(sql: str, facts) -> None:
    action = request(sql, facts)
    assert (action.effects, action.harmless_read) == ({"read"}, True)
    assert not request(sql, {}).harmless_read, "without a snapshot nothing is known to be harmless"


@pytest.mark.parametrize(("sql", "effects"), NOT_HARMLESS, ids=[sql for sql, _ in NOT_HARMLESS])
def test_other_reads(sql: str, effects: set[str], facts) -> None:
    action = request(sql, facts)
    assert action.effects == effects
    assert not action.harmless_read


def test_names_are_unsure_once_the_search_path_is_set(facts) -> None:
    statements = request("select 1 from notes; set search_path = evil; select id from notes", facts).facts["statements"]
    assert statements[0]["tables"][0]["schema"] == "public"
    assert statements[2]["tables"] == [{"name": "notes", "access": "read", "unresolved": True}]
    assert statements[2]["columns"][0]["sensitive"]


def test_a_remembered_statement_takes_new_parameters(facts, snapshot) -> None:
    one, other = (request("select name from people where id = $1", facts, value) for value in ("1", "2"))
    assert one.facts == other.facts
    assert (one.payload["params"], other.payload["params"]) == (["1"], ["2"])
    for number in range(3000):
        request(f"select {number}", facts)
    assert len(snapshot.memo) <= 1024


def test_function_facts(facts) -> None:
    functions = first("select lower(name), write_it(), pg_sleep(1), nobody.knows(1, 2) from people", facts)["functions"]
    by_name = {(function.get("schema"), function["name"]): function for function in functions}
    assert by_name["pg_catalog", "lower"]["harmless"]
    # The table's own lower(people) has the same name and number of arguments, so the call may mean it.
    assert not by_name["public", "lower"]["harmless"]
    assert by_name["public", "write_it"] == {
        "schema": "public",
        "name": "write_it",
        "args": 0,
        "harmless": False,
        "language": "plpgsql",
        "volatility": "volatile",
        "security_definer": False,
        "effects": ["execute"],
    }
    assert by_name["pg_catalog", "pg_sleep"]["effects"] == ["lock"]
    assert by_name["nobody", "knows"] == {
        "schema": "nobody",
        "name": "knows",
        "args": 2,
        "harmless": False,
        "effects": ["execute"],
    }


SENSITIVE_USES = [
    ("select ssn from people", {("ssn", "output")}),
    ("select * from people", {("*", "output")}),
    ("select name from people", set()),
    ("select name from people where ssn like '1%'", {("ssn", "predicate")}),
    ("select name from people order by ssn", {("ssn", "predicate")}),
    ("select id, ssn from people order by 2", {("ssn", "output"), ("ssn", "predicate")}),
    ("select substr(ssn, 1, 3) from people", {("ssn", "other")}),
    ("select x, name from masked", {("x", "output")}),
    ("select name from masked where u = 'A'", {("u", "predicate")}),
    ("select p from people p", {("*", "other")}),
    ("select row_to_json(p) from people p", {("*", "other")}),
    ("select p.row_to_json from people p", {("*", "output")}),
    ("select ssn from people p, notes n", {("ssn", "output")}),
    ("select body from people p, notes n where person = p.id", set()),
    ("select x from (select ssn as x from people) s where x > '1'", {("ssn", "output"), ("ssn", "predicate")}),
    ("select p.name from people p natural join notes", {("*", "predicate")}),
    ("select ctid, tableoid from people", set()),
    ("select ssn from missing", {("ssn", "output")}),
    ("select other from missing", {("other", "output")}),
    ("select most_common_vals from pg_stats", {("most_common_vals", "output")}),
    ("select tablename from pg_stats", set()),
    ("update notes set body = ssn from people p where p.id = person", {("ssn", "other")}),
    ("insert into notes select id, id, ssn from people", {("ssn", "other")}),
    ("copy people (ssn) to stdout", {("ssn", "output")}),
    ("explain select ssn from people", {("ssn", "other")}),
    ("with c(a) as (select ssn from people) select 1 from c where a = '1'", {("ssn", "output"), ("ssn", "predicate")}),
]


@pytest.mark.parametrize(("sql", "uses"), SENSITIVE_USES, ids=[sql for sql, _ in SENSITIVE_USES])
def test_sensitive_uses(sql: str, uses: set[tuple[str, str]], facts) -> None:
    assert sensitive(first(sql, facts)) == uses


def test_assigned_columns(facts) -> None:
    assert first("update people set ssn = 'x', name = 'y' where id = 1", facts)["assigned"] == [
        {"schema": "public", "table": "people", "name": "name", "sensitive": False},
        {"schema": "public", "table": "people", "name": "ssn", "sensitive": True},
    ]


def test_unresolved_relations(facts) -> None:
    assert first("select 1 from missing", facts)["tables"] == [{"name": "missing", "access": "read", "unresolved": True}]
    assert first("select 1 from s.missing", facts)["tables"] == [
        {"name": "missing", "access": "read", "schema": "s", "unresolved": True}
    ]


# What every result column of a query must be: (name, lineage, sensitive, origin).
RESULTS = [
    ("select id, ssn from people", [("id", "known", False, "people.id"), ("ssn", "known", True, "people.ssn")]),
    ("select ssn as id from people", [("id", "known", True, "people.ssn")]),
    (
        "select x, u, name from masked",
        [("x", "known", True, "people.ssn"), ("u", "known", True, None), ("name", "known", False, "people.name")],
    ),
    ("select n from harmless_view", [("n", "known", False, None)]),
    ("select upper(ssn), name from people", [("upper", "known", True, None), ("name", "known", False, "people.name")]),
    ("select upper(name) from people", [("upper", "known", False, None)]),
    ("select count(*) from people", [("count", "known", False, None)]),
    ("select count(*) from people where ssn like '1%'", [("count", "known", False, None)]),
    ("select p from people p", [("p", "unknown", True, None)]),
    ("select n from notes n", [("n", "unknown", False, None)]),
    ("select (select ssn from people limit 1)", [("ssn", "known", True, None)]),
    ("select ssn from people union all select name from people", [("ssn", "known", True, None)]),
    ("select s.a from (select ssn as a from people offset 0) s", [("a", "known", True, "people.ssn")]),
    ("select peek(1)", [("peek", "unknown", True, None)]),
    ("select * from peek(1) as f(a)", [("a", "unknown", True, None)]),
    ("select query_to_xml('select ssn from people', true, true, '')", [("query_to_xml", "unknown", True, None)]),
    ("select row_to_json(p) from people p", [("row_to_json", "known", True, None)]),
    ("select p.row_to_json from people p", [("row_to_json", "known", True, None)]),
    ("select p.reveal from people p", [("reveal", "unknown", True, None)]),
    ("select string_agg(ssn, ',') from people", [("string_agg", "known", True, None)]),
    ("select ctid from people", [("ctid", "known", False, "people.ctid")]),
    ("select 1 as one, now() as t", [("one", "known", False, None), ("t", "known", False, None)]),
    ("explain select * from people", [("QUERY PLAN", "unknown", False, None)]),
    ("explain select 1 from people where ssn = '1'", [("QUERY PLAN", "unknown", True, None)]),
    ("explain analyze select ssn from people", [("QUERY PLAN", "unknown", True, None)]),
    ("select most_common_vals::text as m from pg_stats", [("m", "known", True, None)]),
    (
        "update people set name = 'x' where id = 1 returning id, ssn",
        [("id", "known", False, "people.id"), ("ssn", "known", True, "people.ssn")],
    ),
    ("show search_path", [("search_path", "unknown", False, None)]),
]


@pytest.mark.parametrize(("sql", "expected"), RESULTS, ids=[sql for sql, _ in RESULTS])
def test_results_of_a_real_server(sql, expected, facts, connection: psycopg.Connection) -> None:
    result = connection.execute(sql).pgresult
    assert result is not None
    fields = [
        {
            "name": (result.fname(index) or b"").decode(),
            "table_oid": result.ftable(index),
            "attnum": result.ftablecol(index) if result.ftable(index) else 0,
            "type_oid": result.ftype(index),
        }
        for index in range(result.nfields)
    ]
    asked = request(sql, facts)
    action = describe_rows(asked, fields, facts, SETTINGS)
    assert (action.phase, action.effects, action.facts) == ("response", asked.effects, asked.facts)
    columns = action.response["columns"]
    seen = [
        (column["name"], column["lineage"], column["sensitive"],
         ".".join((column["origin"]["table"], column["origin"]["column"])) if "origin" in column else None)
        for column in columns
    ]  # fmt: skip
    if "ctid" in sql:
        # The client library hides the number of a system column; the wire has it.
        fields[0]["attnum"] = -1
        columns = describe_rows(asked, fields, facts, SETTINGS).response["columns"]
        seen = [("ctid", columns[0]["lineage"], columns[0]["sensitive"], "people.ctid")]
    assert seen == expected
    assert [column["index"] for column in columns] == list(range(len(fields)))


# Ways to get at the one stored value, 123-45-6789: whatever column shows a part of it must be sensitive.
LEAKS = [
    "select * from people",
    "table people",
    "select people from people",
    "select (people).ssn from people",
    "select (people).* from people",
    "select p.* from people p",
    "select (select p from people p limit 1)",
    "select ((select p from people p limit 1)).ssn",
    "select row(p.*) from people p",
    "select row(id, ssn) from people",
    "select array(select ssn from people)",
    "select array_agg(ssn) from people",
    "select unnest(array(select ssn from people))",
    "select u from unnest(array(select ssn from people)) u",
    "select json_agg(p) from people p",
    "select to_jsonb(p) -> 'ssn' from people p",
    "select row_to_json(p)::text from people p",
    "select jsonb_path_query(to_jsonb(p), '$.ssn') from people p",
    "select xmlforest(ssn) from people",
    "select ssn::varchar(20) from people",
    "select cast(ssn as char(11)) from people",
    'select ssn collate "C" from people',
    "select coalesce(ssn, 'x') from people",
    "select case when true then ssn end from people",
    "select nullif(ssn, 'x') from people",
    "select greatest(ssn, '0') from people",
    "select max(ssn) over () from people",
    "select first_value(ssn) over (order by id) from people",
    "select lag(ssn, 0) over (order by id) from people",
    "select string_agg(ssn, '') from people",
    "select mode() within group (order by ssn) from people",
    "select ssn from people union select 'x' order by 1",
    "select ssn from people except select 'x'",
    "values ((select ssn from people))",
    "select a from (values ((select ssn from people))) v(a)",
    "select x from (select * from people) s(w, x, y, z), lateral (select s.y as q) l where q is not null",
    "select s.y from (select * from people) s(w, x, y, z)",
    "select q from (select * from people) s(w, x, y, z), lateral (select s.y as q) l",
    "with c as (select ssn as a from people) select a || '' from c",
    "with recursive c(a, n) as (select ssn, 1 from people union all select a, n + 1 from c where n < 3) select a from c",
    "with c as materialized (select p from people p) select (c.p).ssn from c",
    "select t.a from people as t(k, b, a, d)",
    "select j.c from (people p join notes n on false) as j(a, b, c) union all select ssn from people",
    "select ssn from people join (select 1 as id) i using (id)",
    "select j.ssn from people join (select '123-45-6789' as ssn) i using (ssn) as j",
    "select * from people natural join (select 1 as id) i",
    "select * from masked",
    "select masked from masked",
    "select u from masked",
    "select reveal(p) from people p",
    "select p.reveal from people p",
    "select peek(1)",
    "select * from peek(1)",
    "select x.* from (select peek(id) from people) x",
    "select query_to_xml('select ssn from people', true, true, '')",
    "select table_to_xml('people', true, true, '')",
    "update people set name = name returning ssn",
    "update people set name = name returning upper(ssn)",
    "update people set name = name returning people",
    "with u as (update people set name = name returning *) select * from u",
    "with u as (update people set name = name returning ssn as s) select s || '' from u",
    "insert into people (id, name, ssn) select 2, 'b', ssn from people where id = 1 on conflict do nothing returning ssn",
    "merge into people p using (select 1) s on p.id = 1 when matched then update set name = p.name",
    "select overlay(ssn placing 'x' from 1 for 1) from people",
    "select substring(ssn from '[0-9]+$') from people",
    "select split_part(ssn, '-', 3) from people",
    "select regexp_matches(ssn, '(.*)') from people",
    "select regexp_split_to_table(ssn, '-') from people",
    "select format('%s', ssn) from people",
    "select concat_ws('', p) from people p",
    "select quote_literal(ssn) from people",
    "select p::text from people p",
    "select textin(record_out(p)) from people p",
    "select tableoid, ssn from people",
    "select most_common_vals::text from pg_stats where tablename = 'people' and attname = 'ssn'",
]


RECENT_LEAKS = [
    "select json_object('a' : ssn) from people",
    "select json_array(ssn) from people",
    "select json_serialize(json_object('a' : ssn)) from people",
    "select j.x from people, json_table(json_object('a' : ssn), '$' columns (x text path '$.a')) j",
    "update people set name = name returning old.ssn, new.ssn",
]


@pytest.mark.parametrize("sql", LEAKS)
def test_no_value_is_shown_by_a_column_that_is_not_sensitive(sql: str, facts, connection: psycopg.Connection) -> None:
    assert_nothing_shown(sql, facts, connection)


@pytest.mark.parametrize("sql", RECENT_LEAKS)
def test_no_value_is_shown_in_the_newest_syntax(sql: str, recent_connection: psycopg.Connection) -> None:
    assert_nothing_shown(sql, {CATALOG: take(recent_connection)}, recent_connection)


def assert_nothing_shown(sql: str, facts: dict[str, object], connection: psycopg.Connection) -> None:
    with connection.transaction(force_rollback=True):
        result = connection.execute(sql).pgresult
    fields = [
        {
            "name": str(index),
            "table_oid": result.ftable(index),
            "attnum": result.ftablecol(index),
            "type_oid": result.ftype(index),
        }
        for index in range(result.nfields)
    ]
    columns = describe_rows(request(sql, facts), fields, facts, SETTINGS).response["columns"]
    for row in range(result.ntuples):
        for column in columns:
            shown = (result.get_value(row, column["index"]) or b"").decode()
            assert column["sensitive"] or "6789" not in shown, (sql, column, shown)


def field(name: str, oid: int = 0, attnum: int = 0) -> dict:
    return {"name": name, "table_oid": oid, "attnum": attnum, "type_oid": 25}


@pytest.mark.parametrize("sql", ["fetch all from c", "execute p", "call p()", "selec", "select * from temporary_copy"])
def test_rows_of_another_statement_may_be_sensitive(sql: str, facts) -> None:
    (column,) = describe_rows(request(sql, facts), [field("x")], facts, SETTINGS).response["columns"]
    assert column["sensitive"]
    assert column["lineage"] == "unknown"


def test_a_relation_the_snapshot_does_not_hold_may_be_sensitive(facts) -> None:
    (column,) = describe_rows(request("select 1", facts), [field("x", 4_000_000, 1)], facts, SETTINGS).response["columns"]
    assert (column["lineage"], column["sensitive"]) == ("unknown", True)


def test_without_a_snapshot_every_column_may_be_sensitive(facts, snapshot) -> None:
    asked = request("select name from people", {})
    people = snapshot.resolve(None, "people")
    (column,) = describe_rows(asked, [field("name", people.oid, 2)], {}, SETTINGS).response["columns"]
    assert (column["lineage"], column["sensitive"]) == ("unknown", True)


def test_nothing_is_sensitive_where_nothing_is_configured(facts) -> None:
    plain = replace(SETTINGS, sensitive=())
    asked = describe(Statement("select upper(ssn) from people"), facts, plain)
    assert not any(column["sensitive"] for column in asked.facts["statements"][0]["columns"])
    (column,) = describe_rows(asked, [field("upper")], facts, plain).response["columns"]
    assert not column["sensitive"]


def test_the_statement_of_the_index_decides(facts) -> None:
    asked = request("select count(*) from notes; select upper(ssn) from people", facts)
    results = [
        describe_rows(asked, [field("c")], facts, SETTINGS, index=index).response["columns"][0]["sensitive"]
        for index in (0, 1, 2)
    ]
    assert results == [False, True, True]


def test_copy_out(facts) -> None:
    def columns(sql: str, count: int) -> list[tuple[str, bool, str | None]]:
        action = describe_copy_out(request(sql, facts), count, facts, SETTINGS)
        return [(c["lineage"], c["sensitive"], c.get("origin", {}).get("column")) for c in action.response["columns"]]

    # The generated column is not copied.
    assert columns("copy people to stdout", 3) == [("known", False, "id"), ("known", False, "name"), ("known", True, "ssn")]
    assert columns("copy people (ssn, id) to stdout", 2) == [("known", True, "ssn"), ("known", False, "id")]
    assert columns("copy (select id, ssn from people) to stdout", 2) == [("known", False, None), ("known", True, None)]
    assert columns("copy (select id from notes) to stdout", 1) == [("known", False, None)]
    assert columns("copy people to stdout", 9) == [("unknown", True, None)] * 9
    assert columns("copy missing to stdout", 1) == [("unknown", True, None)]
    assert columns("copy people to stdout (encoding 'SJIS')", 3) == [("unknown", True, None)] * 3


def test_copy_facts_say_how_rows_are_split(facts) -> None:
    copy = first("copy people to stdout (format csv, delimiter '|', quote '!', escape '?', null 'LITERAL')", facts)["copy"]
    assert copy == {
        "direction": "to", "source": "stdout", "query": False, "format": "csv", "header": False, "columns": [],
        "relation": {"name": "people"}, "delimiter": "|", "quote": "!", "escape": "?",
    }  # fmt: skip


VECTORS = [path.read_text().partition("\n---\n")[2] for path in sorted(Path(__file__).parents[2].glob("vectors/sql/*.txt"))]


@given(st.lists(st.sampled_from(VECTORS), min_size=1, max_size=3), st.booleans())
def test_every_action_is_well_formed(parts: list[str], with_snapshot: bool) -> None:
    facts = {CATALOG: EMPTY} if with_snapshot else {}
    action = describe(Statement("\n;\n".join(parts)), facts, SETTINGS)
    assert action.effects
    assert action.effects <= EFFECTS
    json.dumps(action.facts)
    if action.harmless_read:
        assert action.effects == {"read"}
    rows = describe_rows(action, [field("x")], facts, SETTINGS).response["columns"]
    if action.parse_status == "failed":
        assert rows[0]["sensitive"]


EMPTY = build_snapshot(
    {name: [("d", "r", '["pg_catalog", "public"]', "180000", "public")] if name == "session" else [] for name in QUERIES}
)


def test_a_write_to_a_view_is_one_to_the_columns_below(facts: dict[str, object]) -> None:
    """Which may be called otherwise there: a rule that speaks of their names has to see them."""
    assigned = first("update masked set x = 'y' where id = 1", facts)["assigned"]
    assert {"schema": "public", "table": "people", "name": "ssn", "sensitive": True} in assigned


@pytest.mark.parametrize(
    "sql",
    ["create table kid partition of people for values in (1)", "create table kid () inherits (people)", "create table kid ()"],
)
def test_what_inherits_rows_is_no_table_of_the_sessions_own(sql: str, facts: dict[str, object]) -> None:
    assert find_made(first(sql, facts)) == (frozenset() if "people" in sql else {"kid"})


def test_nor_is_one_that_was_attached(facts: dict[str, object]) -> None:
    own = OwnTables(frozenset({"kid", "kin"}))
    session = {**facts, OWN_TABLES: own}
    for sql in (
        "alter table people attach partition kid default",
        "alter table people inherit kid",
        "alter table kid inherit people",
    ):
        assert not own.after(first(sql, session)).names
    for sql in ("alter table kid add column b text", "alter table kid inherit kin", "alter table kid alter column b type int"):
        assert own.after(first(sql, session)) == own


def test_a_name_is_the_sessions_own_while_it_is_that_of_its_table(facts: dict[str, object]) -> None:
    own = OwnTables()
    steps = [
        ("create temp table kid (id int)", {"kid"}, {"kid"}),
        ("create temp table if not exists kid (id int)", {"kid"}, {"kid"}),
        ("create table kin (id int references people)", {"kid", "kin"}, {"kid"}),
        ("alter table kid rename to old", {"kin", "old"}, {"old"}),
        ("create temp table kid (id int)", {"kid", "kin", "old"}, {"kid", "old"}),
        ("drop table kid", {"kin", "old"}, {"old"}),
        ("create temp view kid as select id from people", {"kin", "old"}, {"old"}),
        # It fails, or does nothing, and the name is that of the view.
        ("create temp table if not exists kid (id int)", {"kin", "old"}, {"old"}),
        ("create temp table kid (id int)", {"kin", "old"}, {"old"}),
        ("create table elsewhere.kid (id int)", {"kin", "old"}, {"old"}),
        ("create table elsewhere.far (id int)", {"kin", "old"}, {"old"}),
        ("alter table old rename to kid", {"kin"}, set()),
        ("create temp table kin (id int)", set(), set()),
        ("create table sole (id int)", {"sole"}, set()),
        ("create temp table sole (id nosuch)", set(), set()),
        ("create table kin2 (id int)", {"kin2"}, set()),
        ("create temp table copied as select reverse(ssn) from people", {"kin2"}, set()),
        ("create temp table if not exists fresh as select 1 as id", {"kin2", "fresh"}, {"fresh"}),
        ("create table part partition of kin2 default", {"kin2", "fresh", "part"}, {"fresh"}),
        ("create table other partition of people default", {"kin2", "fresh", "part"}, {"fresh"}),
        ("alter table kin2 attach partition people default", {"fresh"}, {"fresh"}),
        ("create table if not exists kin2 (id int)", {"fresh"}, {"fresh"}),
    ]
    for sql, names, temporary in steps:
        own = own.after(first(sql, {**facts, OWN_TABLES: own}))
        assert (own.names, own.temporary) == (names, temporary), sql


@pytest.mark.parametrize(
    ("sql", "written", "assigned"),
    [
        ("update parents set name = 'x' where id = 1", {"parents"}, {"parents.name"}),
        (
            "update parents set code = 'x' where id = 1",
            {"parents", "children"},
            {"parents.code", "children.code"},
        ),
        ("delete from parents where id = 1", {"parents", "children"}, {"children.parent"}),
        ("insert into parents values (1, 'x', 'y')", {"parents"}, {"parents.id", "parents.code", "parents.name"}),
        (
            "insert into parents (id) values (1) on conflict (id) do update set code = 'x'",
            {"parents", "children"},
            {"parents.id", "parents.code", "children.code"},
        ),
        ("update kept set parent = 1", {"kept"}, {"kept.parent"}),
    ],
)
def test_what_foreign_keys_change_is_written_to(
    sql: str, written: set[str], assigned: set[str], facts: dict[str, object]
) -> None:
    statement = first(sql, facts)
    assert {table["name"] for table in statement["tables"] if table["access"] == "write"} == written
    assert {f"{column['table']}.{column['name']}" for column in statement["assigned"]} == assigned


def test_the_type_of_a_parameter_may_run_code(connection: psycopg.Connection) -> None:
    connection.execute("create function noted(text) returns bool language plpgsql as 'begin return true; end'")
    connection.execute("create domain noted_text as text check (noted(value))")
    connection.execute("create type noted_row as (id int, body noted_text)")
    connection.execute("create type noted_range as range (subtype = noted_text)")
    facts = {CATALOG: take(connection)}
    for name in ("noted_text", "noted_row", "noted_row[]", "noted_range"):
        ((oid,),) = connection.execute(f"select '{name}'::regtype::oid::int").fetchall()
        assert describe(Statement("select $1 is null", (None,), types=(oid,)), facts, SETTINGS).effects == {"unknown"}
        assert "execute" in request(f"select null::{name}", facts).effects
    assert describe(Statement("select $1 is null", (None,), types=(25,)), facts, SETTINGS).effects == {"read"}
    connection.execute("drop type noted_row, noted_range; drop domain noted_text; drop function noted")


CODE = """
create function noted(text) returns bool language plpgsql as 'begin return true; end';
create function noted_both(text, text) returns bool language plpgsql immutable as 'begin return true; end';
create function noted_key(text) returns int language plpgsql immutable as 'begin return 1; end';
create operator === (leftarg = text, rightarg = text, function = noted_both);
create domain noted_text as text check (noted(value));
create domain compared_text as text check (value === 'x');
create domain defaulted_text as text default ('x'::noted_text)::text;
create view v_operator as select id, name === 'x' as same from people;
create view v_type as select id, ('x'::noted_text)::text as noted from people;
create view v_row as select id, array_agg(name::noted_text) as all_of_them from people group by id;
create table t_check (id int, body text check (body === 'x'));
create table t_default (id int, body text default ('x'::noted_text)::text);
create table t_compared (id int, body compared_text);
create table t_defaulted (id int, body defaulted_text);
create table t_index (id int, body text);
create index on t_index ((body === 'x'));
create table t_partial (id int, body text);
create index on t_partial (id) where body === 'x';
create table t_when (id int, body text);
create trigger w before update on t_when for each row when (noted(new.body)) execute function suppress_redundant_updates_trigger();
create table t_parts (id int, body text) partition by list (noted_key(body));
create table t_body (id int, body text);
create function compares() returns trigger language plpgsql as 'begin if new.body === ''x'' then return null; end if; return new; end';
create trigger b before insert or update on t_body for each row execute function compares();
create table k_base (base text, g text generated always as (base) stored unique);
create table k_child (g text references k_base (g) on update cascade);
"""


def test_code_behind_operators_and_types_of_an_object_counts(connection: psycopg.Connection) -> None:
    connection.execute("create schema coded; set search_path = coded, public")
    connection.execute(CODE)
    facts = {CATALOG: take(connection)}
    for view in ("v_operator", "v_type", "v_row"):
        action = request(f"select * from {view}", facts)
        assert any(table.get("hooks") for table in action.facts["statements"][0]["tables"]) or "execute" in action.effects, view
        assert not action.harmless_read
    for table in ("t_check", "t_default", "t_compared", "t_defaulted", "t_index", "t_partial", "t_when", "t_parts", "t_body"):
        action = request(f"update {table} set body = 'y' where id = 1", facts)
        (written,) = [each for each in action.facts["statements"][0]["tables"] if each["access"] == "write"]
        assert written.get("hooks") or "execute" in action.effects, table
    statement = first("update k_base set base = 'x' where base = 'y'", facts)
    assert {table["name"] for table in statement["tables"] if table["access"] == "write"} == {"k_base", "k_child"}
    connection.execute("drop schema coded cascade; reset search_path")
