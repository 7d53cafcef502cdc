"""Names that SQL and the protocol share: whatever stands under one must be what was judged. Every case is a way in which it once was not."""

from pathlib import Path

import pytest
from sealgate_native.postgres import encode_query

from gateway.testing.gateway import start_gateway, write_config
from gateway.testing.wire import SYNC, bind, close, error_of, execute, kinds, parse

ROOT = Path(__file__).parents[2]

PLAIN = "select id, left(name, 7) from customers order by id limit 1"
SENSITIVE = "select id, left(ssn, 7) from customers order by id limit 1"


@pytest.fixture(scope="module")
def plaintext(issuer, make_connection, tmp_path_factory):
    """A gateway with the shipped policy library."""
    folder, connection = tmp_path_factory.mktemp("names"), make_connection(environment="sandbox")
    with start_gateway(write_config(folder, issuer=issuer, bundle=ROOT / "rego", connections=[connection])) as running:
        yield running


def run(sql, name="", portal=""):
    """Parse, Bind and Execute of the unnamed statement."""
    return parse(sql, name) + bind(name, portal) + execute(portal)


def find_error(messages):
    assert not any(b"-12-" in body[::-1] or b"-12-" in body for kind, body in messages if kind == "D")
    return error_of(messages)


@pytest.mark.parametrize("what", ["statement", "portal"])
def test_a_name_the_server_would_cut_ends_the_session(client, what):
    """The server takes the first 63 bytes, so that two names could be one to it and two to whoever judges."""
    long = "n" * 64
    batch = parse(PLAIN, long) if what == "statement" else parse(PLAIN) + bind("", long)
    messages = client.converse(batch + SYNC)
    error = find_error(messages)
    assert (error["S"], error["C"]) == ("FATAL", "08P01")
    assert "64 bytes" in error["D"]
    assert client.next() is None


def test_names_as_long_as_the_server_tells_apart_are_names(client):
    name = "n" * 63
    assert kinds(client.converse(parse(PLAIN, name) + bind(name, name) + execute(name) + SYNC)) == "12DCZ"


@pytest.mark.parametrize(
    "drop",
    [
        close(b"P", "p") + SYNC,
        encode_query("rollback to s"),
        encode_query("close p"),
        encode_query("rollback; begin; savepoint s"),
    ],
    ids=["Close", "ROLLBACK TO", "CLOSE", "ROLLBACK"],
)
@pytest.mark.parametrize("use", ["fetch all from p", "move 1 from p"])
def test_a_cursor_whose_name_a_bind_took_is_not_judged_as_the_cursor(client, drop, use):
    before = encode_query("begin"), encode_query("savepoint s"), encode_query(f"declare p cursor for {PLAIN}")
    messages = client.converse(*before, drop, parse(SENSITIVE) + bind("", "p") + SYNC, encode_query(use))
    assert (find_error(messages)["C"], "postgres.sessions.untracked" in find_error(messages)["D"]) == ("42501", True)


def test_a_name_is_a_cursors_again_once_the_transaction_of_its_portal_is_over(client):
    client.converse(encode_query("begin"), parse(PLAIN) + bind("", "p") + SYNC, encode_query("commit"))
    messages = client.converse(encode_query(f"begin; declare p cursor for {PLAIN}"), encode_query("fetch 1 from p"))
    assert kinds(messages[-4:]) == "TDCZ"


def test_a_portal_that_went_without_a_word_is_not_taken_for_the_cursor_of_its_name(client):
    """CREATE INDEX CONCURRENTLY ends the transaction of a pipeline, and DECLARE makes another thing under the same name."""
    client.query("create table pipeline_of_names (id int)")
    indexes = "create index concurrently on pipeline_of_names (id)"
    declares = f"declare p cursor with hold for {SENSITIVE}"
    batch = parse(PLAIN) + bind("", "p") + run(indexes) + run(declares) + execute("p")
    messages = client.converse(batch + SYNC)
    assert find_error(messages)["C"] == "34000"
    assert kinds(messages).count("D") == 0


def test_a_statement_that_sql_replaced_within_a_pipeline_is_not_run_as_what_it_was(client):
    batch = parse("select 1", "s") + run("deallocate s") + run(f"prepare s as {SENSITIVE}") + bind("s") + execute()
    messages = client.converse(batch + SYNC)
    assert find_error(messages)["C"] == "26000"
    assert kinds(messages).count("D") == 0


def test_nor_is_one_that_a_query_replaced_whose_replies_are_still_to_come(client, server):
    before = server.run("select count(*) from orders", database="shop")
    prepares = "deallocate s; prepare s as insert into orders (customer, amount) values (1, 1)"
    messages = client.converse(parse("select 1", "s") + SYNC, encode_query(prepares) + bind("s") + execute() + SYNC)
    assert find_error(messages + client.read())["C"] == "26000"
    assert server.run("select count(*) from orders", database="shop") == before


def test_statements_prepared_before_go_on_behind_a_cursor_of_the_same_pipeline(client):
    """What a name meant is certain again once the server has answered, which it is asked to do at once."""
    batch = parse(PLAIN, "s") + run("begin") + run("declare c cursor for select 1") + bind("s") + execute() + run("commit")
    assert kinds(client.converse(batch + SYNC)) == "112C12C2DC12CZ"


def test_a_learned_text_is_another_one_with_another_sort_key(client):
    """The number behind the list of an IN is a position, not a value."""
    text = "select name, left(ssn, 1) from customers order by id in (9), ({})"
    for _ in range(4):
        assert "D" in kinds(client.query(text.format(1)))
    assert find_error(client.query(text.format(2)))["C"] == "42501"


def test_a_portal_is_not_read_on_after_a_rollback_to_a_savepoint(client):
    """Only the server knows whether the rollback ended it, and a function of the database may have opened a cursor of that name."""
    assert kinds(client.converse(encode_query("begin"), parse(PLAIN, "s") + bind("s", "p") + SYNC)[-3:]) == "12Z"
    messages = client.converse(encode_query("savepoint s"), encode_query("rollback to s"), execute("p") + SYNC)
    assert find_error(messages)["C"] == "34000"


def test_statements_prepared_before_a_deallocate_and_a_prepare_are_not_run(client):
    messages = client.converse(parse(PLAIN, "s") + SYNC, encode_query("prepare q as select 1"), encode_query("deallocate q"))
    assert "E" not in kinds(messages)
    messages = client.converse(encode_query("prepare q as select 2"), bind("s") + execute() + SYNC)
    assert find_error(messages)["C"] == "26000"
