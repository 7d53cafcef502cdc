"""Which tables count as a session's own, through transactions that end in every way."""

import pytest
from sealgate_native.sql import analyze

from gateway.protocols.postgres.own import OwnTables
from gateway.protocols.postgres.sensitivity import find_sensitive
from gateway.protocols.postgres.statements import describe_statement
from gateway.serve.postgres.own_tables import MAX_TEMPORARY, OwnTablesBook


class Session:
    """A session whose statements are sent, and end as a test says."""

    def __init__(self):
        self.book = OwnTablesBook()
        self.number = self.errors = 0
        self.book.follow(lambda: self.errors)

    def send(self, sql):
        self.number += 1
        for analyzed in analyze(sql)["statements"]:
            described = describe_statement(analyzed, None, find_sensitive(None, ()), self.book.tables)
            self.book.send(self.number, described.facts)
        return self.number

    def run(self, *texts, fails=False):
        for sql in texts:
            number = self.send(sql)
            self.errors += fails
            self.book.end(number)

    @property
    def names(self):
        return self.book.tables.names


@pytest.fixture
def session():
    return Session()


def test_what_is_made_counts_at_once_and_stays(session):
    session.send("create temp table mine (a int)")
    assert session.names == {"mine"}
    assert session.book.is_open
    session.book.end(1)
    session.book.settle()
    assert session.names == {"mine"}
    assert not session.book.is_open


@pytest.mark.parametrize("end", ["rollback", "abort", "prepare transaction 'x'"])
def test_what_is_rolled_back_is_nobodys(session, end):
    session.run("create temp table first (a int)")
    session.book.settle()
    session.run("begin", "create temp table mine (a int)", end)
    assert session.names == {"first"}
    session.book.settle()
    assert session.names == {"first"}


def test_what_a_failed_transaction_made_is_nobodys(session):
    session.run("begin", "create temp table mine (a int)")
    session.run("select 1", fails=True)
    session.run("commit")
    session.book.settle()
    assert session.names == set()


def test_what_was_made_before_a_savepoint_outlives_a_return_to_it(session):
    session.run("begin", "create temp table mine (a int)", "savepoint s", "create temp table other (a int)")
    session.run("select 1", fails=True)
    session.run("rollback to s", "commit")
    session.book.settle()
    assert session.names == {"mine"}


def test_an_error_of_something_else_takes_nothing_away(session):
    session.run("create temp table mine (a int)")
    session.book.settle()
    session.run("select 1", fails=True)
    session.run("create temp table other (a int)")
    session.book.settle()
    assert session.names == {"mine", "other"}


def test_an_error_does_not_confirm_what_was_sent_behind_it(session):
    failing, making = session.send("create temp table first (a int)"), session.send("create temp table second (a int)")
    session.errors += 1
    session.book.end(failing)
    session.book.settle()
    assert session.names == set()
    session.book.end(making)
    session.book.settle()
    assert session.names == set()


@pytest.mark.parametrize("discard", ["discard temp", "discard all"])
def test_what_is_discarded_is_gone(session, discard):
    session.run("create temp table mine (a int)", "create table kept (a int)", "create temp view seen as select 1")
    session.book.settle()
    assert session.book.temporary == {"mine", "seen"}
    session.run(discard)
    assert session.names == {"kept"}
    session.book.settle()
    assert session.book.temporary == set()


def test_a_discard_that_is_rolled_back_leaves_the_names(session):
    session.run("create temp view seen as select 1")
    session.book.settle()
    session.run("begin", "discard temp", "rollback")
    session.book.settle()
    assert session.book.temporary == {"seen"}
    session.run("discard temp", fails=True)
    session.book.settle()
    assert session.book.temporary == {"seen"}


def test_an_error_of_no_statement_undoes_a_discard(session):
    """An unknown portal, a parameter that cannot be read, or a constraint that is looked at by the Sync."""
    session.run("create temp view seen as select 1")
    session.book.settle()
    session.run("discard temp")
    session.errors += 1
    session.book.settle()
    assert session.book.temporary == {"seen"}


def test_what_ends_with_its_transaction_is_gone(session):
    session.run(
        "begin", "create temp table mine (a int) on commit drop", "create temp table kept on commit drop as select 1 as a"
    )
    renamed = {"name": "mine", "access": "define", "own": True}
    session.book.send(9, {"verb": "rename", "object": "table", "flags": [], "tables": [renamed], "new_names": ["other"]})
    session.book.end(9)
    assert session.names == {"kept", "other"}
    session.run("commit")
    session.book.settle()
    assert session.names == set()


def test_a_plan_makes_nothing(session):
    session.run("explain create temp table mine as select 1 as a")
    assert session.book.tables == OwnTables()
    assert session.book.temporary == set()


@pytest.mark.parametrize(
    "sql", ["create view notes as select * from mine", "alter table mine rename to notes", "alter view mine rename to notes"]
)
def test_names_of_temporary_relations_are_followed(session, sql):
    session.run("create temp table mine (a int)", sql)
    assert "notes" in session.book.temporary


def test_more_names_than_are_remembered_are_all_names(session):
    for number in range(MAX_TEMPORARY + 1):
        session.run(f"create temp view v{number} as select 1")
    assert session.book.temporary == {"*"}
