"""Texts with one skeleton are one statement: whatever the constants, the facts are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealgate_native.postgres import skeleton
from sealgate_native.sql import analyze

SHAPES = [
    "SELECT a, b FROM t WHERE id = {0} AND c <> {1}",
    "SELECT count(*) FROM s.t WHERE a IN ({0}, {1}) ORDER BY 1 LIMIT 5",
    "SELECT a FROM t WHERE b >= {0} GROUP BY a HAVING count(*) > {1}",
    "UPDATE t SET a = a + {0}, b = {1} WHERE id = {0}",
    "INSERT INTO t (a, b) VALUES ({0}, {1}), ({1}, {0})",
    "DELETE FROM t USING u WHERE t.id = u.id AND u.a = {0} RETURNING t.b, {1} AS k",
    "SELECT f({0}), g(x := {1}), h(y => {0})",
    "SELECT a FROM t WHERE o = {0}::regclass OR o = CAST({1} AS regclass)",
    "SELECT a, b FROM t ORDER BY {0}, {1}",
    "SELECT a FROM t LIMIT {0} OFFSET {1}",
    "SELECT set_config({0}, {1}, false)",
    "SELECT nextval({0}) WHERE 1 = {1}",
    "WITH x AS (SELECT {0} AS k) SELECT k FROM x WHERE k = {1}",
    "SELECT CASE WHEN a = {0} THEN {1} ELSE b END FROM t",
    "SELECT a FROM t WHERE (a, b) IN (({0}, {1}))",
    "INSERT INTO t SELECT {0}, x FROM u WHERE y = {1} ON CONFLICT DO NOTHING",
    "SELECT a -> {0}, a - {1}, - {0}, a || {1} FROM t",
    "SELECT substring(a FROM {0} FOR {1}) FROM t",
    "EXPLAIN SELECT a FROM t WHERE b = {0} AND c = {1}",
    "SET work_mem = {0}",
    "COPY (SELECT a FROM t WHERE b = {0}) TO STDOUT",
    "SELECT a, b FROM t ORDER BY a IN ({0}), ({1})",
    "SELECT 1 FROM f(5) AS values (a), (SELECT a AS n, b AS s FROM t ORDER BY {0}, {1}) q",
    "INSERT INTO t SELECT 1 FROM f(5) values (a), (SELECT a, b FROM u ORDER BY {0}, {1}) q",
    "SELECT a, b FROM t WHERE a IN (SELECT b FROM u ORDER BY {0}, {1})",
    "SELECT a, b FROM t WHERE a IN (VALUES ({0}), ({1})) ORDER BY b, ({1})",
    "SELECT DISTINCT ON (a IN ({0}), ({1})) a, b FROM t",
    "SELECT a, b FROM t GROUP BY b IN ({0}), ({1}), ROLLUP ({0})",
]

CONSTANTS = st.one_of(
    st.integers(0, 2**40).map(str),
    st.text(st.sampled_from("abcdegklm .:=,()[]{}0123456789-+*/;@%_A\u00e4'\\$\""), max_size=8).map(
        lambda text: "'" + text.replace("'", "''") + "'"
    ),
    st.sampled_from(
        ["-5", "1.5", "NULL", "$1", "E'a'", "B'1'", "x'41'", "date '2020-01-01'", "'1' '2'", "true", "'pg_class'", "'x' --\n"]
    ),
)


def facts(sql):
    found = analyze(sql, max_bytes=1 << 20, max_depth=256)
    statements = [
        {name: value for name, value in statement.items() if name != "text"} for statement in found.get("statements", ())
    ]
    return found["status"], statements


@given(st.sampled_from(SHAPES), st.lists(CONSTANTS, min_size=2, max_size=2), st.lists(CONSTANTS, min_size=2, max_size=2))
def test_one_skeleton_has_one_set_of_facts(shape, one, other):
    first, second = shape.format(*one), shape.format(*other)
    if skeleton(first) is not None and skeleton(first) == skeleton(second):
        assert facts(first) == facts(second)


@given(st.text(max_size=200))
def test_any_text_has_a_skeleton_or_none(text):
    found = skeleton(text)
    assert found is None or len(found) <= len(text)


@pytest.mark.parametrize("sql", ["SELECT 1" + " " * 4096, "", "   "])
def test_texts_that_are_too_long_or_empty_have_none(sql):
    assert skeleton(sql) is None
