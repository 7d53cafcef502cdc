"""pg8000, which always sends extended queries, through the gateway."""

import ssl

import pg8000.native
import pytest


@pytest.fixture
def connect(gateway, authority, mint):
    opened = []

    def make(token=None):
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        connection = pg8000.native.Connection(
            "agent",
            host="localhost",
            port=gateway.port,
            database="shop",
            password=token or mint(),
            ssl_context=context,
        )
        opened.append(connection)
        return connection

    yield make
    for connection in opened:
        connection.close()


def test_reads_with_parameters(connect):
    connection = connect()
    assert connection.run("select name from customers where id = :id", id=2) == [["Customer 2"]]
    assert connection.run("select count(*) from orders where id <= 50") == [[50]]


def test_masking(connect):
    rows = connect().run("select id, ssn from customers where id < 4 order by id")
    assert [row[0] for row in rows] == [1, 2, 3]
    assert "-12-" not in str(rows)


def test_a_denial_and_what_follows(connect):
    connection = connect()
    with pytest.raises(pg8000.native.DatabaseError) as caught:
        connection.run("delete from orders")
    assert caught.value.args[0]["C"] == "42501"
    assert connection.run("select 1") == [[1]]


def test_prepared_statements_are_judged_at_each_run(connect):
    prepared = connect().prepare("select id, ssn from customers where id = :id")
    for number in (1, 2, 3):
        ((identifier, masked),) = prepared.run(id=number)
        assert identifier == number
        assert "-12-" not in masked


def test_transactions(connect):
    connection = connect()
    connection.run("begin")
    connection.run("insert into orders (id, customer, amount) values (8001, 1, 1)")
    with pytest.raises(pg8000.native.DatabaseError):
        connection.run("delete from orders")
    assert connection._transaction_status in {b"T", b"E"}
    connection.run("rollback")
    assert connection.run("select count(*) from orders where id = 8001") == [[0]]
