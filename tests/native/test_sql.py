"""The SQL analysis: every vector of tests/vectors/sql, limits, and laws that hold for any composition of statements."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealgate_native.sql import analyze

from gateway.action import BEYOND_LIMIT

EFFECTS = {
    "read",
    "write",
    "define",
    "execute",
    "file",
    "program",
    "export",
    "session",
    "lock",
    "privilege",
    "network",
    "unknown",
}
VECTORS = sorted((Path(__file__).parents[1] / "vectors" / "sql").glob("*.txt"))


def read_vector(path: Path) -> tuple[dict[str, str], str]:
    """The header lines and the SQL of one vector file."""
    head, _, sql = path.read_text().partition("\n---\n")
    pairs = (line.partition(":") for line in head.splitlines())
    return {name: value.strip() for name, _, value in pairs}, sql.removesuffix("\n")


def name_of(entry: dict) -> str:
    # A column known by its place only begins with a NUL, which a vector writes as a number sign; one that counts where the relation
    # has it is written with a question mark, one that a row with stars may have with a tilde, and what stands beside them behind a bar.
    name = ".".join(entry[part] for part in ("schema", "table", "name") if part in entry).replace("\0\3", "?")
    name = re.sub("\0\2[0-9a-f]+\0\2([^\2]*)\0\2", r"~\1|", re.sub("\0\1[0-9a-f]+\0\1", "~", name))
    return name.replace("\0", "#")


def gather(statements: list[dict], member: str, suffix=lambda entry: "") -> list[str]:
    return sorted({name_of(entry) + suffix(entry) for statement in statements for entry in statement[member]})


def observe(statements: list[dict]) -> dict[str, object]:
    """What an analysis says, in the terms of a vector's header."""
    first = statements[0] if statements else {}
    copy = next((statement["copy"] for statement in statements if "copy" in statement), None)
    return {
        "verb": [statement["verb"] for statement in statements],
        "effects": sorted({effect for statement in statements for effect in statement["effects"]}),
        "tables": gather(statements, "tables", lambda table: ":" + table["access"]),
        "columns": gather(statements, "columns", lambda column: ":" + column["use"]),
        "assigned": gather(statements, "assigned"),
        "functions": gather(statements, "functions", lambda function: f"/{function['args']}"),
        "operators": gather(statements, "operators"),
        "types": gather(statements, "types"),
        "attributes": sorted({name for statement in statements for name in statement["attributes"]}),
        "flags": sorted({flag for statement in statements for flag in statement["flags"]}),
        "set": sorted({name for statement in statements for name in statement["set_vars"]}),
        "rows": str(sum(statement["stated_rows"] for statement in statements)),
        "keyed": sorted(
            f"{name_of(rows)}({','.join(rows['columns'])}):{rows['times']}"
            for statement in statements
            for rows in statement["keyed_rows"]
        ),
        "said": sorted(
            f"{column}={value if isinstance(value, str) else f'${value}'}"
            for statement in statements
            for rows in statement["keyed_rows"]
            for column, value in rows["said"].items()
        ),
        "where": "yes" if first.get("has_where") else "no",
        "limit": "yes" if first.get("has_limit") else "no",
        "explain-analyze": "yes" if first.get("is_explain_analyze") else "no",
        "prepared": first.get("prepared_name"),
        "cursor": first.get("cursor_name"),
        "object": first.get("object"),
        "copy": copy and f"{copy['direction']} {copy['source']} {copy['format']}",
        "count": str(len(statements)),
    }


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vector(path: Path) -> None:
    expected, sql = read_vector(path)
    found = analyze(sql)
    assert found["status"] == expected["expect-status"], found.get("reason")
    if found["status"] == "failed":
        assert found["statements"] == []
        assert found["reason"]
        return
    assert found["statement_count"] == len(found["statements"])
    seen = observe(found["statements"])
    for key, wanted in expected.items():
        name = key.removeprefix("expect-")
        if key in {"about", "expect-status"}:
            continue
        if name == "verb":
            assert seen[name] == wanted.split()
        elif name == "effects":
            assert seen[name] == [effect for effect in wanted.split(",") if effect]
        elif name in {"flags", "operators", "types", "attributes"}:
            assert set(wanted.split()) <= set(seen[name]), (name, seen[name])
        elif name == "no-flags":
            assert not set(wanted.split()) & set(seen["flags"])
        elif isinstance(seen[name], list):
            assert seen[name] == sorted(wanted.split()), name
        else:
            assert seen[name] == wanted, name
    for statement in found["statements"]:
        assert statement["effects"]
        assert set(statement["effects"]) <= EFFECTS
        assert statement["text"] in sql
        assert len(statement["fingerprint"]) == 16


def test_there_are_enough_vectors() -> None:
    assert len(VECTORS) >= 250


OK_TEXTS = [sql for head, sql in map(read_vector, VECTORS) if head["expect-status"] == "ok" and head.get("expect-count") != "0"]
DML = [
    "DELETE FROM people",
    "DELETE FROM people USING t WHERE people.id = t.id RETURNING *",
    "UPDATE people SET ssn = 'x' WHERE id = 1",
    "INSERT INTO people VALUES (1) RETURNING id",
    "INSERT INTO people SELECT * FROM t",
    "MERGE INTO people USING t ON people.id = t.id WHEN MATCHED THEN DELETE",
]
WRAPPERS = [
    "WITH x AS ({}) SELECT 1",
    "WITH a AS (SELECT 1), x AS ({}) SELECT * FROM a",
    "EXPLAIN ANALYZE {}",
    "EXPLAIN (COSTS off, ANALYZE) {}",
    "PREPARE p AS {}",
    "/* comment */ {} -- comment",
    "SELECT 1; {}",
    "{}; SELECT 1",
    "COPY ({}) TO STDOUT",
]


@st.composite
def wrapped_changes(draw: st.DrawFn) -> str:
    """A statement that changes rows, inside up to three others where the grammar takes it."""
    text = draw(st.sampled_from(DML))
    for _ in range(draw(st.integers(0, 3))):
        candidate = draw(st.sampled_from(WRAPPERS)).format(text)
        if analyze(candidate)["status"] == "ok":
            text = candidate
    return text


def effects_of(sql: str) -> set[str]:
    found = analyze(sql)
    assert found["status"] == "ok", found
    return {effect for statement in found["statements"] for effect in statement["effects"]}


@given(wrapped_changes())
def test_wrapping_a_change_keeps_its_write(sql: str) -> None:
    assert "write" in effects_of(sql)
    assert ("people", "write") in {
        (table["name"], table["access"]) for each in analyze(sql)["statements"] for table in each["tables"]
    }


@given(st.lists(st.sampled_from(OK_TEXTS), min_size=1, max_size=4))
def test_a_sequence_has_the_effects_of_its_parts(parts: list[str]) -> None:
    together = "\n;\n".join(parts)
    assert effects_of(together) == set().union(*(effects_of(part) for part in parts))
    alone = [statement for part in parts for statement in analyze(part)["statements"]]
    joined = analyze(together)["statements"]
    assert [statement["fingerprint"] for statement in joined] == [statement["fingerprint"] for statement in alone]
    for one, other in zip(joined, alone, strict=True):
        assert {key: one[key] for key in one if key != "text"} == {key: other[key] for key in other if key != "text"}


@given(st.text(max_size=200))
def test_any_text_is_a_result(text: str) -> None:
    found = analyze(text)
    assert found["status"] in {"ok", "failed"}
    assert all(statement["effects"] for statement in found["statements"])


@given(st.sampled_from(OK_TEXTS), st.integers(0, 400), st.text(max_size=3))
def test_a_damaged_statement_is_a_result(sql: str, place: int, noise: str) -> None:
    found = analyze(sql[:place] + noise + sql[place:])
    assert all(statement["effects"] for statement in found["statements"])


def test_nul_and_lone_surrogates_are_refused() -> None:
    assert analyze("SELECT 1\0; DROP TABLE t")["status"] == "failed"
    assert analyze("SELECT '\ud800'")["status"] == "failed"


def test_the_reason_never_quotes_the_text() -> None:
    assert "secret" not in analyze("SELECT 1 FROM FROM 'secret'")["reason"]
    assert "secret" not in analyze("'secret'")["reason"]


def test_limits() -> None:
    assert analyze("SELECT 1", max_bytes=8)["status"] == "ok"
    assert analyze("SELECT 12", max_bytes=8)["status"] == "failed"
    nested = "SELECT " + "NOT (" * 30 + "a" + ")" * 30
    assert analyze(nested, max_depth=40)["status"] == "ok"
    assert "nested" in analyze(nested, max_depth=20)["reason"]
    assert analyze("SELECT 1;" * 1000)["status"] == "ok"
    assert "too long" in analyze("SELECT 1;" * 1001)["reason"]


@pytest.mark.parametrize(
    ("sql", "is_ok"),
    [
        ("SELECT 1" + ";" * 5_000, True),
        ("SELECT 1;" + "/* ; */ -- ;\n ;" * 1_500, True),
        ("SELECT '" + ";" * 5_000 + "', $x$" + ";" * 5_000 + "$x$", True),
        ("CREATE RULE r AS ON INSERT TO t DO (" + "SELECT 1;" * 1_200 + "SELECT 2)", True),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC " + "SELECT 1;" * 1_200 + " END", True),
        ("SELECT 1;" * 1_000 + "SELECT 2", False),
        ("SELECT 1;" * 1_000 + ";;", True),
        ("SELECT 1;" * 11_000 + "SELECT atomic", False),
        ("SELECT 1); SELECT (" + "1);SELECT (" * 1_200, False),  # not balanced, so the parser says no
    ],
    ids=lambda value: str(value)[:24],
)
def test_statements_are_counted_before_their_trees_are_made(sql, is_ok):
    analysis = analyze(sql)
    assert (analysis["status"] == "ok") == is_ok, analysis.get("reason")


@pytest.mark.parametrize(
    ("sql", "status"),
    [
        ("SELECT " + "(" * 100_000 + "1" + ")" * 100_000, "failed"),
        ("SELECT " + " OR ".join(["a = 1"] * 100_000), "ok"),
        ("SELECT " + "+".join(["a"] * 100_000), "failed"),
        ("SELECT 1 /*" + "x" * 20_000_000 + "*/", "ok"),
        ("SELECT 1 -- " + "x" * 20_000_000, "ok"),
        ("SELECT '" + "x" * 20_000_000 + "'", "ok"),
        (" UNION ALL ".join(["SELECT 1"] * 3_000), "ok"),
        ("SELECT " + "a[" * 9_000 + "1" + "]" * 9_000, "failed"),
        ("SELECT 1 FROM " + ", ".join(["a"] * 20_000) + " WHERE " + " OR ".join(["x = 1"] * 20_000), "failed"),
    ],
    ids=["parentheses", "or", "plus", "comment", "line-comment", "string", "union", "subscripts", "sources"],
)
def test_huge_texts_are_bounded(sql: str, status: str) -> None:
    assert analyze(sql, max_bytes=1 << 25)["status"] == status


def test_star_expansion_is_bounded() -> None:
    sql = "SELECT * FROM t"
    for level in range(40):
        sql = f"SELECT *, * FROM ({sql}) s{level}"
    assert analyze(sql)["status"] == "ok"
    assert {"table": "t", "name": "*", "use": "output"} in analyze(sql)["statements"][0]["columns"]


def test_outputs_say_what_they_are_made_of() -> None:
    (statement,) = analyze("SELECT p.ssn, upper(name) AS n, s.*, 1 FROM people p, (SELECT a AS b FROM t) s")["statements"]
    assert statement["outputs"] == [
        {"name": "ssn", "kind": "column", "columns": [{"table": "people", "name": "ssn"}]},
        {"name": "n", "kind": "expression", "columns": [{"name": "name"}]},
        {"name": "b", "kind": "column", "columns": [{"table": "t", "name": "a"}]},
        {"kind": "expression", "columns": []},  # `?column?`, but for TRUE before version 15
    ]


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("select 1_0", True),
        ("select 2 + 0x1F", True),
        ("select '1_0', \"1_0\", a1_0, 10 -- 1_0", False),
        ("select 10, 1.5e3", False),
    ],
)
def test_numbers_that_older_servers_split_are_told(text: str, has: bool) -> None:
    assert analyze(text)["statements"][0]["has_new_numbers"] is has


def test_copy_options() -> None:
    sql = (
        "COPY s.t (a) FROM STDIN (FORMAT CSV, DELIMITER E'\\t', NULL 'x', HEADER match, QUOTE '\"', ESCAPE '!', ENCODING 'utf8')"
    )
    assert analyze(sql)["statements"][0]["copy"] == {
        "direction": "from",
        "source": "stdin",
        "relation": {"schema": "s", "name": "t"},
        "query": False,
        "columns": ["a"],
        "format": "csv",
        "delimiter": "\t",
        "null": "x",
        "header": True,
        "quote": '"',
        "escape": "!",
        "encoding": "utf8",
    }
    assert analyze("COPY t TO STDOUT CSV DELIMITER '|'")["statements"][0]["copy"]["delimiter"] == "|"
    assert analyze("COPY t TO STDOUT (HEADER false)")["statements"][0]["copy"]["header"] is False


def test_analyses_run_at_once_and_leave_standard_error_alone() -> None:
    before = os.fstat(2)
    texts = [OK_TEXTS[number % len(OK_TEXTS)] for number in range(400)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(analyze, texts))
    assert [each["status"] for each in found] == ["ok"] * len(texts)
    after = os.fstat(2)
    assert (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino)


@pytest.mark.parametrize(
    "text",
    [
        "select '" + "x" * (1 << 20) + "'",
        "select " + "1+" * 5_000 + "1",
        "select " + "1+" * 100_000 + "1",
        "select " + "(" * 20_000 + "1" + ")" * 20_000,
        "select " + "not " * 300 + "true",
        "select 1;" * 2_000,
    ],
)
def test_a_text_beyond_a_bound_is_told_from_one_that_is_wrong(text: str) -> None:
    found = analyze(text, max_bytes=1 << 20, max_depth=256)
    assert found["status"] == "failed"
    assert found["reason"].startswith(BEYOND_LIMIT), found["reason"]
    assert not analyze("select 1 +")["reason"].startswith(BEYOND_LIMIT)
