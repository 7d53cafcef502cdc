"""Settings a session may not change, and the texts that set one to the value it has: read in time however they are padded."""

import pytest

from gateway.action import Action
from gateway.protocols.postgres.events import Query
from gateway.serve.postgres.door import find_changed_pins

KEEPING = [
    "set names 'utf8'",
    "SET CLIENT_ENCODING = utf-8 ;",
    "set session client_encoding to 'unicode'",
    "set local standard_conforming_strings = on",
    "reset search_path",
    "set search_path = public",
    'set search_path to "public" ',
    "select pg_catalog.set_config('search_path', '', false)",
    "set search_path = '';",
]
OTHERS = ["set names 'latin1'", "set search_path = public, pg_temp", "set search_path = '", "set client_encoding = utf8 x"]


def find(sql: str) -> list[str]:
    name = next((name for name in ("search_path", "standard_conforming_strings") if name in sql), "client_encoding")
    facts = {"statements": [{"verb": "set", "set_vars": [name], "flags": []}]}
    action = Action(
        "postgres", "request", "postgres.query", frozenset({"session"}), facts, canonical={"search_path": ["pg_catalog"]}
    )
    return find_changed_pins(Query(1, sql), action, path=("public",))


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
