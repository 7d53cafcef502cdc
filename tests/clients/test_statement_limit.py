"""limits.max_statements: the statement not used for the longest time is forgotten, which whoever uses it is told; others go on."""

import asyncpg
import pytest

from gateway.testing.wire import SYNC, Client, bind, describe, execute, kinds, parse

MOST = 4


@pytest.fixture(scope="module")
def narrow(make_gateway, tmp_path_factory):
    with make_gateway(tmp_path_factory.mktemp("narrow"), tls=False, limits={"max_statements": MOST}) as running:
        yield running


@pytest.fixture
async def connection(narrow, mint):
    opened = await asyncpg.connect(host="127.0.0.1", port=narrow.port, user="agent", password=mint(), database="shop", ssl=False)
    yield opened
    await opened.close()


async def test_a_forgotten_statement_is_said_to_be(connection):
    statements = [await connection.prepare(f"select {number}") for number in range(MOST + 1)]
    with pytest.raises(asyncpg.InvalidSQLStatementNameError) as caught:
        await statements[0].fetchval()
    assert f"this session prepared more than {MOST}, and the ones not used for the longest time were forgotten" in str(
        caught.value
    )
    assert "limits.max_statements" in caught.value.hint
    assert [await each.fetchval() for each in statements[1:]] == [1, 2, 3, 4]
    assert await (await connection.prepare("select 0")).fetchval() == 0


async def test_closing_statements_makes_room(connection):
    for number in range(3 * MOST):
        statement = await connection.prepare(f"select {number}")
        assert await statement.fetchval() == number
        del statement
    kept = await connection.prepare("select 'kept'")
    for number in range(MOST):
        assert await connection.fetchval("select $1::int", number) == number
    assert await kept.fetchval() == "kept"


def test_a_statement_in_use_outlasts_others_and_can_still_be_described(narrow, mint):
    client = Client(narrow.port, mint())
    try:
        assert kinds(client.converse(parse("select 0", "first") + describe(b"S", "first") + SYNC)) == "1tTZ"
        for number in range(3 * MOST):
            used = client.converse(
                parse(f"select {number}", f"other{number}") + bind("first") + describe(b"P") + execute() + SYNC
            )
            assert kinds(used) == "12TDCZ"
        assert kinds(client.converse(describe(b"S", "first") + SYNC)) == "tTZ"
        assert kinds(client.converse(describe(b"S", "other0") + SYNC)) == "EZ"
    finally:
        client.close()
