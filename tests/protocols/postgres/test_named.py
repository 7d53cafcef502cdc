"""Names of a session: what FETCH and EXECUTE are judged as, and when that is not certain."""

from collections.abc import Iterator

import psycopg
import pytest

from gateway.action import Action
from gateway.protocols.postgres.actions import CATALOG, SqlSettings, Statement, describe_in_session
from gateway.protocols.postgres.catalog_answers import build_snapshot
from gateway.protocols.postgres.catalog_queries import QUERIES
from gateway.protocols.postgres.named import MAX_NAMES, UNTRACKED, SessionNames
from gateway.protocols.postgres.results import describe_rows
from gateway.testing.postgres import start_postgres

SETTINGS = SqlSettings("core", "postgres", "postgres", ("public.people.ssn",))

COMPUTED = {"name": "x", "table_oid": 0, "attnum": 0, "type_oid": 25}

SCHEMA = """
create table people (id int primary key, name text, ssn text);
create table notes (id int, body text);
create function pay() returns int language sql as 'select 1';
"""


@pytest.fixture(scope="module")
def facts() -> Iterator[dict[str, object]]:
    with start_postgres() as server:
        options = {"host": str(server.socket_dir), "port": server.port, "user": "postgres", "dbname": "postgres"}
        with psycopg.connect(**options, autocommit=True) as connection:
            connection.execute(SCHEMA)
            yield {CATALOG: build_snapshot({name: connection.execute(sql).fetchall() for name, sql in QUERIES.items()})}


class Conversation:
    """A session whose statements are described in order, and end as the test says."""

    def __init__(self, facts: dict[str, object]) -> None:
        self.facts = facts
        self.names = SessionNames()
        self.number = 0

    def send(self, sql: str, **options: str) -> Action:
        self.number += 1
        action, changes = describe_in_session(Statement(sql, **options), self.facts, SETTINGS, self.names)
        self.names.send(self.number, changes, action.effects, len(action.facts["statements"]))
        return action

    def run(self, sql: str, *, fails: bool = False, **options: str) -> Action:
        action = self.send(sql, **options)
        self.names.end(self.number, is_completed=not fails)
        return action

    def last(self, sql: str, **options: str) -> dict:
        return self.run(sql, **options).facts["statements"][-1]


@pytest.fixture
def session(facts) -> Conversation:
    return Conversation(facts)


def test_a_fetch_is_judged_as_the_cursor(session):
    session.run("declare c cursor for select ssn from people where id = 1")
    action = session.run("fetch 5 from c")
    (statement,) = action.facts["statements"]
    assert statement["verb"] == "fetch"
    assert statement["tables"] == [{"name": "people", "access": "read", "schema": "public", "sensitive": True, "kind": "r"}]
    assert action.effects == {"read", "session"}
    assert UNTRACKED not in statement["flags"]
    assert action.canonical["named"] == {"cursor c": "declare c cursor for select ssn from people where id = 1"}
    assert describe_rows(action, [COMPUTED], session.facts, SETTINGS).response["columns"][0]["sensitive"]


def test_rows_of_a_cursor_over_nothing_sensitive_are_not(session):
    session.run("declare c cursor for select upper(body) from notes")
    action = session.run("fetch all from c")
    assert not describe_rows(action, [COMPUTED], session.facts, SETTINGS).response["columns"][0]["sensitive"]


def test_an_execute_is_judged_as_what_was_prepared(session):
    session.run("prepare p as delete from people")
    action = session.run("execute p")
    (statement,) = action.facts["statements"]
    assert (statement["verb"], action.effects) == ("delete", {"write"})
    assert "unfiltered_write" in statement["flags"]
    assert "text" in action.payload
    assert action.payload["named"] == {"prepared p": "prepare p as delete from people"}


def test_arguments_of_an_execute_count(session):
    session.run("prepare p(int) as select id from notes where id = $1")
    action = session.run("execute p(pay())")
    assert {"read", "execute"} <= action.effects
    assert [call["name"] for call in action.facts["statements"][0]["functions"]] == ["pay"]


def test_a_statement_of_a_parse_message_can_be_executed_by_name(session):
    session.run("delete from notes where id = 1", mode="extended", prepares="p")
    assert session.last("execute p")["verb"] == "delete"


@pytest.mark.parametrize(
    "sql", ["fetch 1 from c", "move 1 in c", "execute c", "explain analyze execute c", "create table x as execute c"]
)
def test_a_name_that_nothing_was_given_is_not_certain(session, sql):
    assert UNTRACKED in session.last(sql)["flags"]


def test_two_texts_under_one_name_are_not_certain(session):
    session.run("declare c cursor for select id from notes")
    session.send("declare c cursor for select ssn from people")
    assert UNTRACKED in session.last("fetch 1 from c")["flags"]


def test_a_failed_declaration_leaves_the_earlier_one(session):
    session.run("declare c cursor for select id from notes")
    session.run("declare c cursor for select ssn from people", fails=True)
    assert session.last("fetch 1 from c")["tables"][0]["name"] == "notes"


def test_a_failed_text_of_several_statements_may_have_done_some(session):
    session.run("prepare p as select id from notes")
    session.run("deallocate p; prepare p as delete from notes; select 1/0", fails=True)
    assert UNTRACKED in session.last("execute p")["flags"]


@pytest.mark.parametrize("ending", ["close c", "close all", "discard all"])
def test_an_ended_name_can_be_given_again(session, ending):
    session.run("declare c cursor for select id from notes")
    session.run(ending)
    assert UNTRACKED in session.last("fetch 1 from c")["flags"]
    session.run("declare c cursor for select ssn from people")
    assert session.last("fetch 1 from c")["tables"][0]["name"] == "people"


def test_what_ends_a_name_counts_only_when_it_is_done(session):
    session.run("declare c cursor for select id from notes")
    session.send("close c")
    session.send("declare c cursor for select ssn from people")
    assert UNTRACKED in session.last("fetch 1 from c")["flags"]


def test_names_within_one_text(session):
    assert session.last("declare c cursor for select id from notes; fetch 1 from c")["tables"][0]["name"] == "notes"
    assert UNTRACKED in session.last("close c; fetch 1 from c")["flags"]


def test_cursors_end_with_the_transaction_unless_they_are_held(session):
    session.run("declare c cursor for select id from notes")
    session.run("declare h cursor with hold for select id from notes")
    session.names.settle()
    assert UNTRACKED in session.last("fetch 1 from c")["flags"]
    assert UNTRACKED not in session.last("fetch 1 from h")["flags"]


def test_prepared_statements_outlive_transactions(session):
    session.run("prepare p as select id from notes")
    session.names.settle()
    assert session.last("execute p")["verb"] == "select"
    session.run("deallocate p")
    assert UNTRACKED in session.last("execute p")["flags"]


def test_a_changed_catalogue_makes_an_open_cursor_uncertain(session, facts):
    session.run("declare h cursor with hold for select id from notes")
    session.facts = {}
    assert UNTRACKED in session.last("fetch 1 from h")["flags"]


def test_code_nobody_saw_makes_every_name_uncertain(session):
    session.run("declare c cursor for select id from notes")
    session.run("select pay()")
    assert UNTRACKED in session.last("fetch 1 from c")["flags"]


def test_too_many_names_make_every_one_uncertain(session):
    for number in range(MAX_NAMES + 1):
        session.run(f"prepare p{number} as select 1")
    assert UNTRACKED in session.last("execute p1")["flags"]


def test_rows_of_an_uncertain_name_count_as_sensitive_whatever_their_origin(session):
    action = session.run("fetch 1 from c")
    known = {"name": "id", "table_oid": 1259, "attnum": 1, "type_oid": 23}
    (column,) = describe_rows(action, [known], session.facts, SETTINGS).response["columns"]
    assert (column["lineage"], column["sensitive"]) == ("unknown", True)


def test_a_prepared_fetch_is_never_certain_about_its_rows(session):
    session.run("declare c cursor for select upper(body) from notes")
    action = session.run("fetch 1 from c", mode="extended", prepares="f")
    (column,) = describe_rows(action, [COMPUTED], session.facts, SETTINGS).response["columns"]
    assert column["sensitive"]
