"""SQL nobody wrote: statements drawn from a grammar, against the server's own plan and against what reaches the client.

The first law asks the server what a statement would do (EXPLAIN) and demands every bit of it among the facts. The second runs
queries whose sensitive columns are wrapped in anything the grammar has, in both worlds, and demands that no byte depends on them.
"""

import json

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.protocols.postgres.actions import CATALOG, SqlSettings, Statement, describe
from gateway.protocols.postgres.catalog_answers import build_snapshot
from gateway.protocols.postgres.catalog_queries import QUERIES
from gateway.testing.sql_corpus import Case, find_planted, spell

LAW = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))

SENSITIVE = st.sampled_from(["ssn", "motto", "grade"])

WRAPS = [
    "upper({})", "lower({})", "reverse({})", "md5({})", "{} || 'x'", "'x' || {}", "substr({}, 1, 3)", "left({}, 4)", "right({}, 2)",
    "replace({}, 'a', 'b')", "coalesce({}, 'none')", "nullif({}, 'x')", "concat({}, id)", "({})::varchar", "({})::text",
    "cast({} as char(30))", "case when id > 2 then {} else 'x' end", "case when {} like 'p%' then 'a' else 'b' end",
    "greatest({}, 'a')", "array[{}, 'x']::text", "row({})::text", "to_json({})::text", "json_build_object('k', {})::text",
    "encode(convert_to({}, 'UTF8'), 'base64')", "translate({}, 'abc', 'bcd')", "split_part({}, '-', 1)", "lpad({}, 40, '.')",
    "format('%s', {})", "quote_literal({})", "regexp_replace({}, '[a-m]', '', 'g')", "initcap({})", "ascii({})::text",
    "(select {} )", "(select max({}) from customers c2)", "first_value({}) over (order by id)", "string_agg({}, ',') over (order by id)",
    "({} = 'x')::text", "length({})::text", "strpos({}, 'w')::text", "array_to_string(string_to_array({}, '-'), '+')",
    "jsonb_build_array({})->>0", "xmlelement(name a, {})::text", "repeat({}, 2)", "overlay({} placing 'zz' from 2)",
]  # fmt: skip

SHAPES = [
    "select id, {e} from customers order by id",
    "select {e} as x, upper(name) from customers order by id",
    "select x, n from (select {e} as x, upper(name) as n, id from customers) t order by id",
    "with t as (select id, {e} as x from customers) select x || '' from t order by id",
    "with t as materialized (select id, {e} as x from customers) select * from t order by id",
    "select * from (select id, {e} from customers) t order by id",
    "select t.* from (select id, {e} as x from customers) t join orders o on o.id = t.id order by t.id",
    "select (t).x from (select {e} as x, id from customers) t order by id",
    "select t from (select {e} as x, id from customers) t order by id",
    "select row_to_json(t) from (select {e} as x, id from customers) t order by id",
    "(select id, {e} from customers order by id) union all select 0, 'last'",
    "select max({e}) from customers where id = 1",
    "select array_agg({e}) from customers",
    "select json_agg({e}) from customers",
    "select o.id, (select {e} from customers where id = 1) from orders o order by o.id limit 3",
    "with recursive t(n, x) as (select 1, ({e})::text from customers where id = 1 union all select n + 1, x from t where n < 3) select x, n from t",
    "values ((select {e} from customers where id = 1), 'x')",
    "select coalesce(a.x, b.x) from (select id, {e} as x from customers) a full join (select id, note as x from orders) b using (id) where id < 4 order by id",
    "select case when o.id = 1 then t.x end, o.note from orders o left join (select id, {e} as x from customers) t on t.id = o.id order by o.id limit 4",
    "select name from customers, (select {e} as name, id as i from customers) t where i = id order by id",
]


@st.composite
def wrapped(draw):
    """An expression over a sensitive column, some layers deep."""
    expression = draw(SENSITIVE)
    for wrap in draw(st.lists(st.sampled_from(WRAPS), max_size=4)):
        expression = wrap.format(expression)
    return expression


@st.composite
def masked_query(draw):
    """A query that delivers a wrapped sensitive column."""
    shape = draw(st.sampled_from(SHAPES))
    return shape.replace("{e}", draw(wrapped()))


@LAW
@given(
    sql=masked_query(),
    mode=st.sampled_from(["simple", "extended", "binary", "blind"]),
    site=st.sampled_from(["open", "open", "shipped"]),
)
def test_no_wrapping_delivers_a_sensitive_value(world, sql, mode, site):
    case = Case("generated", "mask", "", "generated", (sql,), mode, site=site)
    replies = {database: world.run(case, database) for database in ("plum", "kiwi")}
    for database, word in (("plum", "plumwalrus"), ("kiwi", "figheronfinch")):
        assert not find_planted(replies[database], sorted(spell(word))), sql
    if not any(reply.failures for reply in replies.values()):
        plum, kiwi = (reply.comparable() for reply in replies.values())
        assert plum.replace(b"plum", b"kiwi") == kiwi.replace(b"plum", b"kiwi"), sql


# --- what the server would do


NAMES = st.sampled_from(
    ["orders", "notes", "customers", "tree", "branches", "events", "people", "contacts", "orders_open", "staff"]
)


@st.composite
def select(draw, depth=2):
    """A SELECT of ids."""
    kind = draw(st.sampled_from(["table", "table", "join", "sub", "cte", "union", "exists", "writing"])) if depth else "table"
    table = draw(NAMES)
    inner = draw(select(depth - 1)) if depth and kind != "table" else ""
    if kind == "writing":
        # Writing CTEs stand at the top only.
        kind = "cte" if depth < 2 else kind
    shapes = {
        "join": f"select t.id from {table} t join ({inner}) u on u.id = t.id",
        "sub": f"select id from ({inner}) s",
        "cte": f"with w as ({inner}) select w.id from w, {table} t where t.id = w.id",
        "union": f"select id from {table} union all ({inner})",
        "exists": f"select id from {table} t where exists ({inner}) and t.id in (select id from {draw(NAMES)})",
    }
    if kind == "writing":
        return f"with w as ({draw(change(0))} returning 1 as id) select id from w union all ({inner})"
    if kind in shapes:
        return shapes[kind]
    lock = draw(st.sampled_from(["", "", " for update", " for share"])) if table != "contacts" else ""
    return f"(select id from {table}{lock})" if lock else f"select id from {table}"


@st.composite
def change(draw, depth=1):
    """INSERT, UPDATE, DELETE or MERGE."""
    inner = draw(select(depth))
    source = "select 1" if inner.startswith("with w as (insert") else inner
    return draw(
        st.sampled_from(
            [
                f"insert into notes (id) select x.id + 1000 from ({source}) x",
                f"update orders set note = 'x' where id in ({source})",
                f"delete from notes where id in ({source})",
                f"update tree set label = 'x' from ({source}) x where x.id = tree.id",
                f"insert into tree (id) select x.id from ({source}) x on conflict (id) do update set label = 'y'",
                "delete from events where id = 1",
                "update people set name = 'x' where id = 1",
            ]
        )
    )


@pytest.fixture(scope="module")
def snapshot(world):
    return build_snapshot({name: world.ask("plum", sql) for name, sql in QUERIES.items()})


@LAW
@given(sql=st.one_of(select(), change()))
def test_no_effect_of_the_plan_is_lost(world, snapshot, sql):
    action = describe(Statement(sql), {CATALOG: snapshot}, SqlSettings("plum", "plum", "gateway"))
    try:
        ((plan,),) = world.ask("plum", f"explain (format json, verbose) {sql}")
    except psycopg.Error:
        return  # the server takes less than the grammar
    tables = action.facts["statements"][0]["tables"]
    written = {snapshot.resolve(None, table["name"]).oid for table in tables if table["access"] == "write"}
    named = {
        relation.oid for table in tables for relation in snapshot.behind(snapshot.resolve(None, table["name"]).oid).relations
    }
    for node in nodes(json.loads(plan) if isinstance(plan, str) else plan):
        kind, name = node.get("Node Type"), node.get("Relation Name")
        if kind == "LockRows":
            assert "lock" in action.effects, sql
        if kind == "ModifyTable":
            assert "write" in action.effects, sql
            oid = snapshot.resolve(node.get("Schema"), name).oid if name else None
            assert oid is None or any(oid in {each.oid for each in snapshot.behind(top).relations} for top in written), sql
        elif name is not None:
            assert snapshot.resolve(node.get("Schema"), name).oid in named, sql
    if "write" not in action.effects:
        assert not any(node.get("Node Type") == "ModifyTable" for node in nodes(plan)), sql


def nodes(plan):
    """Every node of a plan as EXPLAIN gives it."""
    if isinstance(plan, list):
        for item in plan:
            yield from nodes(item)
    elif isinstance(plan, dict):
        yield plan
        for value in plan.values():
            yield from nodes(value)
