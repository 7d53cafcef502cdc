"""Masks inside values, as psql and psycopg meet them: JSON by path, arrays, composites and every type, in text, binary and COPY."""

import json
import os
import shutil
import subprocess

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.composite import CompositeInfo, register_composite

from gateway.policy.bundle import write_manifest
from gateway.testing.policy import add_topic
from gateway.testing.waiting import wait_until

PLANTED = "Zq7-planted-value-9XyKpL"

TABLES = f"""
create type record_like as (a text, b int);
create type address as (street text, zip int, extra jsonb);
create type mood as enum ('{PLANTED}');
create domain mail as text;
create table orders (id int primary key, note text, payload jsonb, raw json, tags text[], home address, homes address[], parts jsonb[],
  contact mail, feeling mood, nums int[], span int4range, spans int4multirange, money numeric, born date, blob bytea, whole record_like);
insert into orders values (1, 'first',
  '{{"card": {{"number": "{PLANTED}", "exp": "12/30"}}, "holders": [{{"ssn": "{PLANTED}", "name": "Ann"}}], "n": 1}}',
  '{{ "\\u0063ard" : {{"number":"{PLANTED}", "exp":"12/30"}},  "card": {{"number":1234567, "number":"{PLANTED}"}} , "n":1}}',
  array['{PLANTED}', null, 'a "quoted" one'], row('{PLANTED}', 1234, '{{"pan": "{PLANTED}", "x": 1}}'),
  array[row('{PLANTED}', 1234, null)::address, row('s', 5, '{{"pan": "{PLANTED}", "x": 2}}')::address],
  array['{{"pan": "{PLANTED}", "x": 1}}'::jsonb, '{{"x": 2}}'], '{PLANTED}', '{PLANTED}', array[1234567], '[1234567,1234568]', '{{[1,5]}}',
  1234567.89, '1984-05-06', '\\xdeadbeef', row('{PLANTED}', 1)),
  (2, 'empty', '{{}}', '[]', '{{}}', null, '{{}}', '{{}}', null, null, '{{}}', 'empty', '{{}}', null, null, null, null),
  (3, 'odd', '[{{"card": "{PLANTED}"}}]', '"{PLANTED}"', array['{PLANTED}'], row('{PLANTED}', 1, '["{PLANTED}"]'), null, null, 'x', null,
   null, null, null, 0, null, null, null);
create view seen as select id, payload as document, home as place, tags from orders;
"""
KINDS = {
    "bool": "true", "smallint": "1234", "int": "1234567", "bigint": "4111111111111111", "oid": "1234567", "real": "1.5", "float8": "2.5",
    "numeric": "1234567.89", "money": "12.34", "date": "1984-05-06", "time": "01:02:03", "timetz": "01:02:03+01", "interval": "1 day",
    "timestamp": "1984-05-06 01:02:03", "timestamptz": "1984-05-06 01:02:03+00", "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "bytea": "\\xdeadbeef", "inet": "192.0.2.7", "cidr": "192.0.2.0/24", "macaddr": "08:00:2b:01:02:03",
    "macaddr8": "08:00:2b:01:02:03:04:05", "bit(4)": "1010", "bit varying": "101", "point": "(1,2)", "line": "{1,2,3}",
    "lseg": "[(1,2),(3,4)]", "box": "(3,4),(1,2)", "path": "((1,2),(3,4))", "polygon": "((1,2),(3,4))", "circle": "<(1,2),3>",
    "tsvector": "'secret':1", "tsquery": "'secret'", "jsonpath": "$.secret", "pg_lsn": "16/B374D848", "tid": "(1,2)", "xid": "1234567",
    '"char"': "s", "int4range": "[1234567,1234569)", "numrange": "[1.5,2.5]", "daterange": "[1984-05-06,1984-05-08)",
    "tsrange": "[1984-05-06,1984-05-08)", "int8multirange": "{[1234567,1234569)}", "int[]": "{1234567}", "box[]": "{(3,4),(1,2)}",
    "date[]": "{1984-05-06}", "int4range[]": '{"[1234567,1234569)"}', "text": "secret", "varchar(20)": "secret", "char(8)": "secret",
    "name": "secret", "xml": "<secret/>", "json": '"secret"', "jsonb": '"secret"', "text[]": "{secret}", "varchar[]": "{{secret},{secret}}",
    "json[]": '{"\\"secret\\""}',
}  # fmt: skip
CARRYING = ["text", "varchar(20)", "char(8)", "name", "xml", "json", "jsonb", "text[]", "varchar[]", "json[]"]

PATHS = {
    "public.orders.payload": {
        "$.card.number": {"strategy": "partial", "params": {"keep_last": 4}},
        "$.holders[*].ssn": {"strategy": "redact"},
    },
    "public.orders.raw": {"$.card.number": {"strategy": "redact"}},
    "public.orders.home": {"$.street": {"strategy": "redact"}, "$.extra.pan": {"strategy": "tokenize"}},
    "public.orders.homes": {"$[*].street": {"strategy": "redact"}, "$[*].extra.pan": {"strategy": "null"}},
    "public.orders.parts": {"$.pan": {"strategy": "redact"}},
}
SENSITIVE = [
    "payload", "raw", "tags", "home", "homes", "parts", "contact", "feeling", "nums", "span", "spans", "money", "born", "blob", "whole",
]  # fmt: skip

TOPIC = """
allow contains {"rule": "test.all", "effects": ["read", "session", "export", "lock"]}

masks contains {"rule": "test.path", "selector": {"index": column.index, "path": path}, "strategy": chosen.strategy,
	"params": object.get(chosen, "params", {}), "apply": "both"} if {
	some column in input.postgres.response.columns
	column.sensitive
	some path, chosen in _paths(column)
}

masks contains {"rule": "test.whole", "selector": {"index": column.index}, "strategy": "redact", "apply": "both"} if {
	some column in input.postgres.response.columns
	column.sensitive
	count(_paths(column)) == 0
}

_paths(column) := listed if {
	column.lineage == "known"
	listed := data.site.own.paths[sprintf("%v.%v.%v", [column.origin.schema, column.origin.table, column.origin.column])]
} else := {}
"""


@pytest.fixture(scope="module")
def inside(make_gateway, make_connection, bundle, server, authority, tmp_path_factory):
    server.run("create database inside owner sealgate_owner")
    server.run("grant all on schema public to sealgate_owner", database="inside")
    kinds = ", ".join(f"c{number} {kind}" for number, kind in enumerate(KINDS))
    values = ", ".join("'" + text.replace("'", "''") + "'" for text in KINDS.values())
    server.run(
        f"set role sealgate_owner; {TABLES} create table kinds ({kinds}); insert into kinds values ({values})", database="inside"
    )
    folder = tmp_path_factory.mktemp("inside-bundle")
    shutil.copytree(bundle / "sealgate/main", folder / "sealgate/main")
    add_topic(folder, "postgres/inside", TOPIC)
    (folder / "site").mkdir()
    (folder / "site/data.json").write_text(json.dumps({"own": {"paths": PATHS}}))
    write_manifest(folder)
    target = make_connection()["target"] | {"database": "inside"}
    sensitive = [f"public.orders.{name}" for name in SENSITIVE] + [f"public.kinds.c{number}" for number in range(len(KINDS))]
    connection = make_connection(name="inside", target=target, sensitive=sensitive)
    with make_gateway(tmp_path_factory.mktemp("inside"), connections=[connection], policy={"bundle": str(folder)}) as running:
        yield running


@pytest.fixture
def agent(inside, connect):
    return connect(running=inside, dbname="inside")


@pytest.fixture
def psql(inside, server, authority, mint):
    def run(*arguments):
        environment = {
            "PATH": os.environ["PATH"], "PGHOST": "localhost", "PGPORT": str(inside.port), "PGUSER": "agent", "PGDATABASE": "inside",
            "PGPASSWORD": mint(), "PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(authority.ca_file),
        }  # fmt: skip
        command = [str(server.bin_dir / "psql"), "-X", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)

    return run


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("query", ["select payload from orders where id = 1", "select document from seen where id = 1"])
def test_only_the_named_parts_of_a_document_are_masked(agent, binary, query):
    (document,) = agent.cursor(binary=binary).execute(query).fetchone()
    assert document == {
        "card": {"number": "****" + PLANTED[-4:], "exp": "12/30"},
        "holders": [{"ssn": "[redacted]", "name": "Ann"}],
        "n": 1,
    }


def test_json_text_stays_as_it_is_around_what_is_masked(agent):
    agent.adapters.register_loader("json", psycopg.types.string.TextLoader)
    (raw,) = agent.execute("select raw from orders where id = 1").fetchone()
    assert raw == (
        '{ "\\u0063ard" : {"number":"[redacted]", "exp":"12/30"},  "card": {"number":"[redacted]", "number":"[redacted]"} , "n":1}'
    )


@pytest.mark.parametrize("binary", [False, True])
def test_documents_of_another_shape_are_masked_more(agent, binary):
    payload, raw = agent.cursor(binary=binary).execute("select payload, raw from orders where id = 3").fetchone()
    assert payload == [{"card": "****" + PLANTED[-4:]}]
    assert raw == "[redacted]"
    assert agent.cursor(binary=binary).execute("select payload, raw from orders where id = 2").fetchone() == ({}, [])


@pytest.mark.parametrize("binary", [False, True])
def test_composites_and_arrays(agent, binary):
    register_composite(CompositeInfo.fetch(agent, "address"), agent)
    cursor = agent.cursor(binary=binary)
    tags, home, homes, parts = cursor.execute("select tags, home, homes, parts from orders where id = 1").fetchone()
    assert tags == ["[redacted]", None, "[redacted]"]
    assert (home.street, home.zip) == ("[redacted]", 1234)
    assert home.extra["x"] == 1
    assert home.extra["pan"].startswith("tok_")
    assert [(each.street, each.zip, each.extra) for each in homes] == [
        ("[redacted]", 1234, None),
        ("[redacted]", 5, {"pan": None, "x": 2}),
    ]
    assert parts == [{"pan": "[redacted]", "x": 1}, {"x": 2}]
    (odd,) = cursor.execute("select place from seen where id = 3").fetchone()
    assert PLANTED not in str(odd)


@pytest.mark.parametrize("binary", [False, True])
def test_types_that_carry_nothing_are_null(agent, binary):
    names = ["feeling", "nums", "span", "spans", "money", "born", "blob"]
    row = agent.cursor(binary=binary).execute(f"select {', '.join(names)}, contact, whole from orders where id = 1").fetchone()
    assert row[: len(names)] == (None,) * len(names)
    assert row[len(names)] == "[redacted]"
    assert "[redacted]" in str(row[-1])
    assert PLANTED not in str(row)


@pytest.mark.parametrize("binary", [0, 1])
def test_every_type_of_the_server_is_null_or_says_redacted(agent, binary):
    raw = agent.pgconn.exec_params(b"select * from kinds", [], result_format=binary)
    assert raw.ntuples == 1
    for number, kind in enumerate(KINDS):
        shown = raw.get_value(0, number)
        if kind in CARRYING:
            assert b"[redacted]" in shown, kind
            assert b"secret" not in shown, kind
        else:
            assert shown is None, kind


@pytest.mark.parametrize(
    "query",
    [
        "select payload -> 'card' from orders where id = 1",
        "select payload::text from orders where id = 1",
        "select o from orders o where id = 1",
        "select row(o.home, 1) from orders o where id = 1",
        "select array_agg(home) from orders",
        "select json_agg(o) from orders o",
        "select to_jsonb(o) from orders o where id = 1",
        "select (home).extra from orders where id = 1",
        "select unnest(tags) from orders",
        "select * from orders",
        "table seen",
        "with c as (select homes from orders) select homes from c",
        "select payload from orders union all select payload from orders",
        "select jsonb_build_object('x', raw) from orders",
        "select array[tags] from orders where id = 1",
    ],
)
def test_no_way_of_asking_shows_the_value(agent, psql, query):
    for binary in (False, True):
        assert PLANTED not in str(agent.cursor(binary=binary).execute(query).fetchall())
    done = psql("-Atc", query)
    assert done.returncode == 0, done.stderr
    assert PLANTED not in done.stdout


def copy_out(connection, statement):
    with connection.cursor() as cursor, cursor.copy(statement) as copied:
        return b"".join(bytes(data) for data in copied)


@pytest.mark.parametrize("options", ["", "(format csv)", "(format csv, force_quote *)", "(format binary)"])
@pytest.mark.parametrize(
    "what", ["orders", "orders (id, payload, home)", "(select payload, homes, parts from orders)", "(select * from seen)"]
)
def test_copy_shows_no_value(agent, what, options):
    data = copy_out(agent, f"copy {what} to stdout {options}")
    assert PLANTED.encode() not in data
    assert len(data) > 20


def test_copy_of_a_table_masks_by_path(agent):
    text = copy_out(agent, "copy orders (id, payload) to stdout").decode()
    (line,) = [line for line in text.splitlines() if line.startswith("1\t")]
    document = json.loads(line.split("\t")[1].replace("\\\\", "\\"))
    assert document["card"] == {"number": "****" + PLANTED[-4:], "exp": "12/30"}
    data = copy_out(agent, "copy orders (payload) to stdout (format binary)")
    assert b'"exp": "12/30"' in data
    assert data.count(b"[redacted]") == 1


def test_psql_shows_composites_and_arrays_that_can_be_read_back(psql, server):
    done = psql("-Atc", "select homes, tags from orders where id = 1")
    homes, tags = done.stdout.rstrip("\n").split("|")
    count = server.run(f"select cardinality($${homes}$$::address[]) + cardinality($${tags}$$::text[])", database="inside")
    assert count == "5"


def test_the_record_counts_masked_cells_by_rule(inside, connect):
    def find_counts():
        return [
            record["masked"]
            for record in inside.read_records()
            if record["type"] == "outcome" and record.get("tag") == "SELECT 77"
        ]

    connection = connect(running=inside, dbname="inside")
    connection.execute("select payload, tags from orders, generate_series(1, 77) where id = 1").fetchall()
    wait_until(find_counts)
    assert find_counts() == [{"test.path": 77, "test.whole": 77}]


DOCUMENTS = st.recursive(
    st.sampled_from([PLANTED, "x", 1, None, True]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["card", "number", "k"]), inner, max_size=3),
    max_leaves=8,
)


@given(DOCUMENTS, st.booleans(), st.sampled_from(["payload", "raw"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_value_at_a_masked_path_never_survives(server, agent, inner, binary, column):
    document = {"card": {"number": inner, "note": "kept"}, "n": 7}
    text = json.dumps(document).replace("'", "''")
    server.run(
        f"insert into orders (id, {column}) values (9, '{text}') on conflict (id) do update set {column} = excluded.{column}",
        database="inside",
    )
    (shown,) = agent.cursor(binary=binary).execute(f"select {column} from orders where id = 9").fetchone()
    assert "planted" not in json.dumps(shown)
    assert shown["card"]["note"] == "kept"
    assert shown["n"] == 7
