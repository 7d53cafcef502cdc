"""Settings a session may not change, and the texts that set one to the value it has: read in time however they are padded."""

from collections.abc import Iterable

import pytest

from gateway.action import Action
from gateway.protocols.postgres.events import Query
from gateway.protocols.postgres.login import HEAP_ORDER_SETTINGS, SQL_ASCII, UNORDERED_SETTINGS, UTF8_NAMES
from gateway.protocols.postgres.pins import explain_pins, find_changed_pins
from gateway.serve.postgres.values import SessionValues

KEEPING = [
    "set names 'utf8'",
    "SET CLIENT_ENCODING = utf-8 ;",
    "set session client_encoding to 'unicode'",
    "set local standard_conforming_strings = on",
    "reset search_path",
    "reset client_encoding",
    "set names utf8",
    "set search_path = public",
    'set search_path to "public" ',
    "select pg_catalog.set_config('search_path', '', false)",
    "set search_path = '';",
]
OTHERS = [
    "set enable_indexonlyscan = on",
    "set names 'latin1'",
    "set names 'utf8",
    "set client_encoding = sql_ascii",
    "set search_path = public, pg_temp",
    "set search_path = '",
    "set client_encoding = utf8 x",
]


def find(
    sql: str,
    encodings: frozenset[str] = UTF8_NAMES,
    fixed: frozenset[str] = frozenset(UNORDERED_SETTINGS),
) -> list[str]:
    known = ("search_path", "standard_conforming_strings", "transaction_read_only", "random_page_cost")
    name = next((name for name in (*known, *HEAP_ORDER_SETTINGS) if name in sql), "client_encoding")
    facts = {"statements": [{"verb": "set", "set_vars": [name], "flags": []}]}
    action = Action(
        "postgres", "request", "postgres.query", frozenset({"session"}), facts, canonical={"search_path": ["pg_catalog"]}
    )
    return find_changed_pins(Query(1, sql), action, path=("public",), encodings=encodings, fixed=fixed)


@pytest.mark.parametrize("sql", KEEPING)
def test_a_pin_may_be_set_to_what_it_is(sql: str) -> None:
    assert find(sql) == []


@pytest.mark.parametrize("sql", OTHERS)
def test_to_nothing_else(sql: str) -> None:
    assert len(find(sql)) == 1


@pytest.mark.parametrize("sql", [*KEEPING, *OTHERS])
@pytest.mark.parametrize("blank", [" ", "\n", " ;", "'"])
def test_no_padding_is_read_in_more_than_one_way(sql: str, blank: str) -> None:
    """A pattern that tries each way to divide so many blanks would not come to an end."""
    assert len(find(f"{sql}{blank * 200_000}x")) == 1


@pytest.mark.parametrize(
    "sql", ["set client_encoding = sql_ascii", "set names 'SQL_ASCII'", "set client_encoding to 'sql-ascii'"]
)
def test_sql_ascii_is_as_good_where_the_server_keeps_utf8(sql: str) -> None:
    for kept_in, found in (("UTF8", []), ("LATIN1", ["client_encoding"])):
        values = SessionValues()
        values.begin({"server_encoding": kept_in}, {})
        assert find(sql, values.encodings) == found
    assert find("set names latin1", UTF8_NAMES | {SQL_ASCII}) == ["client_encoding"]


@pytest.mark.parametrize(
    ("sql", "fixed", "count"),
    [
        ("set enable_indexonlyscan = on", (), 0),
        ("set enable_seqscan = off", UNORDERED_SETTINGS, 0),
        ("set enable_seqscan = off", HEAP_ORDER_SETTINGS, 1),
        ("set random_page_cost = 0", UNORDERED_SETTINGS, 0),
        ("set random_page_cost = 0", HEAP_ORDER_SETTINGS, 1),
        ("set transaction_read_only = off", (), 0),
        ("set transaction_read_only = off", ("default_transaction_read_only",), 1),
    ],
)
def test_what_the_connection_fixed_is_pinned_and_nothing_else(sql: str, fixed: Iterable[str], count: int) -> None:
    assert len(find(sql, fixed=frozenset(fixed))) == count


def set_action(name: str, *flags: str) -> Action:
    facts = {"statements": [{"verb": "select", "set_vars": [name], "flags": list(flags)}]}
    return Action("postgres", "request", "postgres.query", frozenset({"session"}), facts)


def test_a_read_only_connection_says_that_it_is() -> None:
    what, why, fix = explain_pins(["default_transaction_read_only"], set_action("default_transaction_read_only"))
    assert what == "this connection is read-only, so default_transaction_read_only cannot be changed"
    assert "read_only" in why
    assert "encoding" not in fix
    assert "connection that may write" in fix


def test_a_computed_name_is_said_to_be_one() -> None:
    action = set_action("all", "set_config")
    pins = find_changed_pins(
        Query(1, "select set_config(x, '', false)"), action, fixed=frozenset({"default_transaction_read_only"})
    )
    what, why, fix = explain_pins(pins, action)
    assert "computed, so it could be any" in what
    assert "default_transaction_read_only and " in why
    assert "write the name" in fix


def test_other_settings_are_explained_by_what_they_mean() -> None:
    assert "UTF8" in explain_pins(["client_encoding"], set_action("client_encoding"))[2]
    assert "UTF8" in explain_pins(["client_encoding", "transaction_read_only"], set_action("client_encoding"))[2]
