"""What no stock client sends: the gateway's answers to a client that speaks the protocol by hand."""

import contextlib
import socket
import struct

import pytest
from sealgate_native.postgres import encode_message, encode_query

from gateway.testing.waiting import wait_until
from gateway.testing.wire import SYNC, Client, bind, error_of, execute, kinds, parse


@pytest.fixture(scope="module")
def plaintext(make_gateway, tmp_path_factory):
    with make_gateway(tmp_path_factory.mktemp("plaintext"), tls=False, limits={"max_message_bytes": 1 << 20}) as running:
        yield running


def test_a_query_by_hand(client):
    assert kinds(client.query("select 1")) == "TDCZ"
    assert kinds(client.query("")) == "IZ"


@pytest.mark.parametrize("oid", [1598, 764, 765, 2093, 16_400, 0, 2**32 - 1])
def test_a_function_call_is_refused_and_the_session_lives_on(client, oid):
    client.send("F", struct.pack("!Ihhh", oid, 0, 0, 0))
    messages = client.read()
    assert kinds(messages) == "EZ"
    assert error_of(messages)["C"] == "08P01"
    assert kinds(client.query("select 1")) == "TDCZ"


def test_text_that_is_not_utf8_is_refused(client):
    client.send("Q", b"select '\xff\xfe'\0")
    messages = client.read()
    assert kinds(messages) == "EZ"
    assert error_of(messages)["C"] == "08P01"
    assert kinds(client.query("select 1")) == "TDCZ"


@pytest.mark.parametrize("kind", ["d", "c", "R", "Z", "?", "p"])
def test_messages_that_do_not_belong_end_or_are_ignored_as_the_protocol_says(client, kind):
    # In one piece: what arrives after the end of a session resets the connection, and last words that were not read yet with it.
    client.raw.sendall(encode_message(kind, b"") + encode_query("select 1"))
    messages = client.read()
    assert kinds(messages) in {"TDCZ", "E"}
    if kinds(messages) == "E":
        assert error_of(messages)["S"] == "FATAL"
        assert client.next() is None


def test_a_message_longer_than_the_limit_is_refused_before_it_is_read(client):
    client.raw.sendall(b"Q" + struct.pack("!i", 1 << 30))
    messages = client.read()
    assert error_of(messages)["C"] in {"08P01", "54000"}
    assert client.next() is None


def test_a_denial_in_the_middle_of_a_pipeline_skips_to_sync(client):
    batch = (
        parse("select 1")
        + bind()
        + execute()
        + parse("delete from orders")
        + bind()
        + execute()
        + parse("select 2")
        + bind()
        + execute()
    )
    client.raw.sendall(batch + SYNC + parse("select 3") + bind() + execute() + SYNC)
    first = client.read()
    assert kinds(first).endswith("EZ")
    assert error_of(first)["C"] == "42501"
    assert kinds(client.read()) == "12DCZ"


def test_execute_without_describe_is_masked(client):
    client.raw.sendall(parse("select ssn from customers where id = 1") + bind() + execute() + SYNC)
    messages = client.read()
    assert kinds(messages) == "12DCZ"
    assert b"-12-" not in b"".join(body for _, body in messages)


def test_a_statement_described_once_stays_masked_under_another_format(client):
    client.raw.sendall(parse("select ssn from customers where id = 1", "s") + encode_message("D", b"Ss\0") + SYNC)
    assert kinds(client.read()) == "1tTZ"
    binary = encode_message("B", b"\0s\0\0\0\0\0\0\x01\0\x01")
    client.raw.sendall(binary + execute() + SYNC)
    messages = client.read()
    assert kinds(messages) == "2DCZ"
    assert b"-12-" not in messages[1][1]


def test_a_made_up_portal_or_statement_is_the_servers_error(client):
    client.raw.sendall(bind("nowhere") + execute() + SYNC)
    messages = client.read()
    assert kinds(messages) == "EZ"
    assert error_of(messages)["C"] == "26000"
    assert kinds(client.query("select 1")) == "TDCZ"


def test_bytes_may_come_one_by_one(client):
    for byte in encode_query("select name from customers where id = 9"):
        client.raw.sendall(bytes([byte]))
    assert b"Customer 9" in b"".join(body for _, body in client.read())


def test_good_bye_ends_the_session(plaintext, client):
    before = plaintext.session_count
    client.send("X")
    assert client.next() is None
    wait_until(lambda: plaintext.session_count < before)


def test_leaving_in_the_middle_of_a_message(plaintext, mint):
    before = plaintext.session_count
    client = Client(plaintext.port, mint())
    client.raw.sendall(encode_query("select 1")[:7])
    with contextlib.suppress(OSError):
        client.raw.shutdown(socket.SHUT_RDWR)
    client.close()
    wait_until(lambda: plaintext.session_count <= before)


@pytest.mark.parametrize("described", ["statement", "portal", "again"])
def test_a_statement_prepared_before_a_view_changed_is_masked_by_what_the_view_is_now(client, plaintext, mint, described):
    """The server plans it again, and the same column is another one then, whichever way and whenever the client had it described."""
    definer = Client(plaintext.port, mint())
    definer.query("create or replace view changing as select name as value from customers where id = 5")
    describe = {"statement": b"", "portal": encode_message("D", b"P\0"), "again": encode_message("D", b"Skept\0")}[described]
    client.raw.sendall(parse("select value from changing", "kept") + encode_message("D", b"Skept\0"))

    def run():
        messages = client.converse(bind("kept") + describe + execute() + SYNC)
        return b"".join(body for kind, body in messages if kind == "D")

    assert all(b"Customer 5" in run() for _ in range(6))
    for column, shown in (("ssn", b"[redacted]"), ("email", b"c5@example.com"), ("ssn", b"[redacted]")):
        definer.query(f"create or replace view changing as select {column} as value from customers where id = 5")
        for _ in range(3):
            assert shown in run()
    definer.query("drop view changing")
    definer.close()


def test_so_is_a_portal_that_was_described_before_its_execute(client, plaintext, mint):
    """What was decided about its description was decided by what the view was, unless rows have come since."""
    definer = Client(plaintext.port, mint())
    definer.query("create or replace view shifting as select name as value from customers where id = 5")
    client.converse(parse("select value from shifting", "kept") + encode_message("D", b"Skept\0") + SYNC)
    for _ in range(4):  # learned in between
        client.converse(bind("kept") + execute() + SYNC)
    definer.query("create or replace view shifting as select ssn as value from customers where id = 5")
    client.raw.sendall(bind("kept") + encode_message("D", b"P\0") + encode_message("H", b""))
    assert [client.next()[0], client.next()[0]] == ["2", "T"]
    messages = client.converse(execute() + SYNC)
    assert [body for kind, body in messages if kind == "D"] == [b"\0\1" + b"\0\0\0\x0a" + b"[redacted]"]
    definer.query("drop view shifting")
    definer.close()


def test_a_refusal_behind_unanswered_messages_is_told_at_once(client):
    """As the server would: a client that flushes waits for it."""
    client.raw.sendall(
        parse("select 1", "first") + bind("first") + parse("delete from orders", "second") + encode_message("H", b"")
    )
    assert [client.next()[0] for _ in range(3)] == ["1", "2", "E"]
    assert kinds(client.converse(SYNC)) == "Z"


@pytest.mark.parametrize("is_asked_for", [True, False], ids=["behind the first answer", "behind the query"])
def test_the_data_of_two_copies_of_one_query_may_come_together(client, server, is_asked_for):
    """What is for the second comes before the server asks for it, and waits there."""
    client.raw.settimeout(10)
    query = encode_query("copy events from stdin; copy events from stdin")
    data = [encode_message("d", row) + encode_message("c", b"") for row in (b"-70\tfirst\n", b"-70\tsecond\n")]
    if is_asked_for:
        client.raw.sendall(query)
        assert client.next()[0] == "G"
        client.raw.sendall(b"".join(data))
        assert kinds(client.read()) == "CGCZ"
    else:
        client.raw.sendall(query + b"".join(data))
        assert kinds(client.read()) == "GCGCZ"
    stored = server.run("select string_agg(note, ' ' order by note) from events where id = -70", database="shop")
    server.run("delete from events where id = -70", database="shop")
    assert stored == "first second"


def copy_as_sql_ascii(client, server, *pieces):
    """What comes of a COPY of one CopyData for each piece, and the notes it has stored."""
    assert kinds(client.query("set client_encoding to 'SQL_ASCII'")) == "CSZ"
    client.raw.sendall(encode_query("copy events from stdin"))
    assert client.next()[0] == "G"
    client.raw.sendall(b"".join(encode_message("d", piece) for piece in pieces) + encode_message("c", b""))
    messages = client.read()
    stored = server.run("select encode(textsend(note), 'hex') from events where id = -71", database="shop").split()
    server.run("delete from events where id = -71", database="shop")
    return messages, [bytes.fromhex(note) for note in stored]


@pytest.mark.parametrize(
    "pieces",
    [
        (b"-71\tgood\n-71\t\xff\n",),
        (b"-71\tgood\n", b"-71\t", b"\xff", b"\n"),
        (b"-71\tgood\n-71\tcaf\xc3", b"\n"),
        (b"-71\t\xe2", b"\x82", b"(\n"),
        (b"-71\t\xed", b"\xa0\x80\n"),
        (b"-71\t\xc3", b"\xa9\xa9\n"),
        (b"-71\tgood\n-71\tcaf\xc3",),
        (b"-71\tgood\n-71\t\xf0\x9f", b"\x98", b""),
    ],
    ids=[
        "no character",
        "alone",
        "cut by a line",
        "cut by another",
        "surrogate",
        "a rest too many",
        "ends within one",
        "ends within one of pieces",
    ],
)
def test_copy_data_that_is_not_utf8_ends_a_session_in_sql_ascii(client, server, pieces):
    """The server would store it unseen, and no client of another encoding could read it."""
    messages, stored = copy_as_sql_ascii(client, server, *pieces)
    assert kinds(messages) == "E"
    error = error_of(messages)
    assert (error["S"], error["C"]) == ("FATAL", "08P01")
    assert "not UTF-8" in error["D"]
    assert stored == []
    assert client.is_closed()


@pytest.mark.parametrize("size", [1, 2, 3, 64])
def test_copy_data_that_is_utf8_may_be_cut_anywhere_in_sql_ascii(client, server, size):
    notes = ["caf\u00e9", "\u20ac", "\U0001f600"]
    data = "".join(f"-71\t{note}\n" for note in notes).encode()
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    messages, stored = copy_as_sql_ascii(client, server, *pieces)
    assert kinds(messages) == "CZ"
    assert sorted(stored) == sorted(note.encode() for note in notes)
    assert kinds(client.query("select 1")) == "TDCZ"
