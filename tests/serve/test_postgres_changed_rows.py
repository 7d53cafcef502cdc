"""What a session counts as changed in its open transaction, through answers that come in every order."""

import pytest

from gateway.serve.postgres.changed_rows import ChangedRowsBook

TABLE = ("public", "clients")


@pytest.fixture
def book():
    return ChangedRowsBook()


def test_a_transaction_that_is_over_counts_no_more(book):
    book.send(1, {TABLE: {"id": 1}})
    assert book.is_open
    book.end(1)
    assert book.rows.may_hold(TABLE, {"id": 1})
    book.settle()
    assert not book.is_open
    assert not book.rows.may_hold(TABLE, {"id": 1})


def test_what_is_sent_and_not_answered_counts_on(book):
    """ReadyForQuery of what was sent before says nothing of a transaction that begins behind it."""
    book.send(1, {TABLE: {"id": 1}})
    book.send(2, {TABLE: {"id": 2}})
    book.end(1)
    book.settle()
    assert not book.rows.may_hold(TABLE, {"id": 1})
    assert book.rows.may_hold(TABLE, {"id": 2})
    book.settle()
    assert book.rows.may_hold(TABLE, {"id": 2})


def test_what_changes_no_such_table_is_not_kept(book):
    book.send(1, {})
    book.end(1)
    assert not book.is_open
