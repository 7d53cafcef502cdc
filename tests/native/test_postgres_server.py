"""The wire kernel between raw client bytes and a real PostgreSQL."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sealgate_native.mask import Detectors
from sealgate_native.postgres import FrameReader, ProtocolViolation, Session, encode_startup

from gateway.testing.postgres import PostgresServer, start_postgres
from tests.native import postgres_oracle as pg

KEY = bytes(range(32))
REFUSAL = {"S": "ERROR", "V": "ERROR", "C": "42501", "M": "refused by policy"}
REPLY_TIMEOUT_S = 20


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with start_postgres() as running:
        running.run(
            "create table people (id int primary key, name text, ssn text);"
            "insert into people values (1, 'Ada', '219-09-9999'), (2, 'Bob', null), (3, 'Cy', '219-09-9998');"
            "create table ledger (n int)"
        )
        yield running


@dataclass
class Conversation:
    """A client's bytes through a session to a real server and back; `deny` and `hide` stand for policy."""

    sock: socket.socket
    session: Session
    people: int
    deny: Callable[[dict[str, Any]], bool] = lambda _event: False
    hide: Callable[[dict[str, Any]], bool] = lambda _event: False
    row_limit: int | None = None
    copy_options: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    actions: int = 0

    def send(self, *parts: bytes) -> list[tuple[str, bytes]]:
        """Sends, and reads until nothing is pending; returns what the client got."""
        self.session.receive_client(b"".join(parts))
        return self.settle(lambda: self.session.pending == 0)

    def settle(self, is_done: Callable[[], bool]) -> list[tuple[str, bytes]]:
        shown = b""
        while True:
            self.take_events()
            to_server = self.session.take_to_server()
            self.sent += pg.messages(to_server)
            self.sock.sendall(to_server)
            shown += self.session.take_to_client()
            if is_done():
                return pg.messages(shown)
            data = self.sock.recv(65536)
            assert data, "the server closed the connection"
            self.session.receive_server(data)

    def take_events(self) -> None:
        while True:
            event = self.session.next_client_event() or self.session.next_server_event()
            if event is None:
                return
            self.events.append(event)
            if event["kind"] in {"query", "parse", "execute"}:
                self.actions += 1
                if self.deny(event):
                    self.session.refuse(event["id"], REFUSAL)
                else:
                    self.session.forward(event["id"], self.actions)
            elif "id" in event:
                self.resolve(event)

    def resolve(self, event: dict[str, Any]) -> None:
        mask = {"strategy": "partial", "params": {"keep_last": 4}, "rule": "pii.ssn", "apply": "both"}
        if self.hide(event):
            self.session.withhold(event["id"], REFUSAL)
        elif event["kind"] == "copy_out":
            masks = [{**mask, "index": 2}] if self.copy_options else []
            self.session.resolve_copy(event["id"], masks, None, KEY, self.copy_options)
        else:
            fields = enumerate(event["fields"])
            masks = [{**mask, "index": at} for at, item in fields if (item["table_oid"], item["attnum"]) == (self.people, 3)]
            self.session.resolve_rows(event["id"], masks, None, KEY, self.row_limit)

    def found(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind]


@pytest.fixture
def conversation(server: PostgresServer) -> Iterator[Conversation]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(REPLY_TIMEOUT_S)
        sock.connect(str(server.socket_dir / f".s.PGSQL.{server.port}"))
        sock.sendall(encode_startup({"user": "postgres", "database": "postgres", "client_encoding": "UTF8"}))
        reader = FrameReader(1 << 20)
        message = None
        while message is None or message[0] != "Z":
            message = reader.next()
            if message is None:
                reader.receive(sock.recv(65536))
        session = Session(
            max_message_bytes=1 << 24,
            max_statements=100,
            max_portals=100,
            max_pending=1000,
            error_detectors=Detectors(["ssn"]),
            record_limit_bytes=1 << 16,
        )
        session.receive_server(reader.take_rest())
        people = int(server.run("select 'people'::regclass::oid::int"))
        yield Conversation(sock, session, people)


def kinds(shown: list[tuple[str, bytes]]) -> str:
    return "".join(kind for kind, _ in shown)


def cells(shown: list[tuple[str, bytes]]) -> list[list[bytes | None]]:
    rows = []
    for kind, body in shown:
        if kind != "D":
            continue
        at, values = 2, []
        while at < len(body):
            (length,) = struct.unpack_from("!i", body, at)
            values.append(None if length < 0 else body[at + 4 : at + 4 + length])
            at += 4 + max(length, 0)
        rows.append(values)
    return rows


def test_a_simple_query_is_masked_by_column(conversation: Conversation) -> None:
    shown = conversation.send(pg.query("select ssn as x, id from people order by id; insert into ledger values (1); select 7"))
    assert kinds(shown) == "TDDDCCTDCZ"
    assert cells(shown) == [[b"****9999", b"1"], [None, b"2"], [b"****9998", b"3"], [b"7"]]
    first, second = conversation.found("result_end")
    assert (first["rows"], first["masked"], first["index"], second["index"]) == (3, {"pii.ssn": 2}, 0, 2)
    assert [json.loads(line) for line in first["record"].splitlines()] == [["****9999", "1"], [None, "2"], ["****9998", "3"]]
    assert [event["tag"] for event in conversation.found("command_complete")] == ["SELECT 3", "INSERT 0 1", "SELECT 1"]
    assert conversation.found("action_end") == [{"kind": "action_end", "action": 1, "status": "completed"}]


@pytest.mark.parametrize("is_described", [False, True])
@pytest.mark.parametrize("result_format", [0, 1])
def test_a_prepared_statement_is_masked_each_time(conversation: Conversation, is_described: bool, result_format: int) -> None:
    sql = "select id, ssn from people where id = $1"
    conversation.send(pg.parse("s", sql), pg.describe("S", "s"), pg.SYNC)
    body = b"\0s\0" + struct.pack("!hhi", 0, 1, 1) + b"3" + struct.pack("!hh", 1, result_format)
    describe = [pg.describe("P", "")] if is_described else []
    for _ in range(3):
        shown = conversation.send(pg.message("B", body), *describe, pg.execute(""), pg.SYNC)
        assert kinds(shown) == ("2TDCZ" if is_described else "2DCZ")
        assert cells(shown) == [[b"3" if result_format == 0 else b"\0\0\0\3", b"****9998"]]
    assert [event["described_by"] for event in conversation.found("row_description")] == ["statement"]
    assert conversation.found("execute")[0]["params"] == [{"format": 0, "type_oid": 23, "text": "3"}]
    assert conversation.found("execute")[0]["needs_describe"] is not is_described


def test_a_portal_is_read_in_parts(conversation: Conversation) -> None:
    conversation.send(pg.query("begin"))
    conversation.send(pg.parse("", "select ssn from people order by id"), pg.bind("p", ""), pg.SYNC)
    assert kinds(conversation.send(pg.execute("p", 2), pg.SYNC)) == "DDsZ"
    assert cells(conversation.send(pg.execute("p", 2), pg.SYNC)) == [[b"****9998"]]
    assert conversation.session.transaction_status == "T"
    assert [event["status"] for event in conversation.found("action_end")][-2:] == ["suspended", "completed"]
    assert kinds(conversation.send(pg.query("commit"))) == "CZ"
    assert kinds(conversation.send(pg.execute("p"), pg.SYNC)) == "EZ"


def test_an_error_in_a_pipeline_skips_to_its_sync(conversation: Conversation) -> None:
    run = [pg.bind("", ""), pg.execute("")]
    good = [pg.parse("", "insert into ledger values (2)"), *run]
    bad = [pg.parse("", "select 1 / (n - n) from generate_series(1, 1) n"), *run]
    shown = conversation.send(*good, *bad, *good, pg.SYNC, *good, pg.SYNC)
    assert kinds(shown) == "12C12EZ12CZ"
    statuses = [event["status"] for event in conversation.found("action_end")]
    assert statuses.count("failed") == 1
    assert statuses.count("completed") == 5
    assert cells(conversation.send(pg.query("select count(*) from ledger where n = 2"))) == [[b"1"]]


def test_a_refusal_in_a_pipeline_undoes_what_ran_in_it(conversation: Conversation) -> None:
    conversation.deny = lambda event: event["kind"] == "execute" and event["sql"].startswith("delete")
    first = [pg.parse("", "insert into ledger values (3)"), pg.bind("", ""), pg.execute("")]
    second = [pg.parse("", "delete from ledger"), pg.bind("", ""), pg.execute("")]
    assert kinds(conversation.send(*first, *second, *first, pg.SYNC)) == "12C12EZ"
    assert cells(conversation.send(pg.query("select count(*) from ledger where n = 3"))) == [[b"0"]]


def test_refusals_show_the_true_transaction_status(conversation: Conversation) -> None:
    conversation.deny = lambda event: "denied" in event["sql"]
    conversation.send(pg.query("begin"))
    assert conversation.send(pg.query("select denied"))[-1] == ("Z", b"T")
    assert conversation.send(pg.parse("", "select denied"), pg.bind("", ""), pg.SYNC)[-1] == ("Z", b"T")
    assert conversation.send(pg.query("select 1/0"))[-1] == ("Z", b"E")
    assert conversation.send(pg.query("select denied"))[-1] == ("Z", b"E")
    assert conversation.send(pg.query("rollback"))[-1] == ("Z", b"I")


def test_copy_out_is_masked(conversation: Conversation) -> None:
    conversation.copy_options = {"direction": "to", "source": "stdout", "format": "csv", "columns": ["id", "name", "ssn"]}
    shown = conversation.send(pg.query("copy (select id, name, ssn from people order by id) to stdout (format csv)"))
    assert [body for kind, body in shown if kind == "d"] == [b'1,Ada,"****9999"\n', b"2,Bob,\n", b'3,Cy,"****9998"\n']
    end = conversation.found("result_end")[0]
    assert (end["rows"], end["masked"]) == (3, {"pii.ssn": 2})


@pytest.mark.parametrize("is_extended", [False, True])
def test_copy_in_passes(conversation: Conversation, is_extended: bool) -> None:
    sql = "copy ledger from stdin"
    steps = [pg.parse("", sql), pg.bind("", ""), pg.execute(""), pg.SYNC] if is_extended else [pg.query(sql)]
    conversation.session.receive_client(b"".join(steps))
    conversation.settle(lambda: bool(conversation.found("copy_in")))
    end = [pg.SYNC] if is_extended else []
    shown = conversation.send(pg.message("d", b"70\n71"), pg.message("d", b"\n"), pg.message("c"), *end)
    assert kinds(shown) == "CZ"
    assert conversation.found("copy_in_end") == [
        {
            "kind": "copy_in_end",
            "action": conversation.actions,
            "ok": True,
            "bytes": 6,
            "rows": 2,
            "sha256": hashlib.sha256(b"70\n71\n").hexdigest(),
        }
    ]
    conversation.session.receive_client(b"".join(steps))
    conversation.settle(lambda: len(conversation.found("copy_in")) == 2)
    shown = conversation.send(pg.message("d", b"not a number\n"), pg.message("c"), *end)
    assert kinds(shown) == "EZ"
    assert kinds(conversation.send(pg.query("select 1"))) == "TDCZ"


def test_a_withheld_result_leaves_the_session_usable(conversation: Conversation) -> None:
    conversation.hide = lambda event: event["kind"] == "row_description" and len(event["fields"]) == 3
    assert kinds(conversation.send(pg.query("select * from people; select 1"))) == "EZ"
    steps = [pg.parse("", "select * from people"), pg.bind("", ""), pg.describe("P", ""), pg.execute(""), pg.SYNC]
    assert kinds(conversation.send(*steps)) == "12EZ"
    assert kinds(conversation.send(*steps[:2], *steps[3:])) == "12EZ"
    assert [end["rows_withheld"] for end in conversation.found("result_end")] == [3, 1, 3, 3]
    assert kinds(conversation.send(pg.query("select 1"))) == "TDCZ"


def test_the_row_limit_stops_a_large_result(conversation: Conversation) -> None:
    conversation.row_limit = 1000
    shown = conversation.send(pg.query("select g, repeat('x', 90) from generate_series(1, 60000) g"))
    assert kinds(shown) == "T" + "D" * 1000 + "EZ"
    assert b"C54000\0" in shown[-2][1]
    end = conversation.found("result_end")[0]
    assert (end["rows"], end["rows_withheld"], end["withheld"]) == (1000, 59000, "row_limit")
    assert end["record_truncated"] is True
    assert len(end["record"]) <= 1 << 16


def test_errors_and_notices_do_not_carry_values(conversation: Conversation) -> None:
    shown = conversation.send(pg.query("select ssn::int from people where id = 1"))
    shown += conversation.send(pg.query("do $$ begin raise notice 'ssn %', (select ssn from people where id = 1); end $$"))
    assert kinds(shown) == "TEZNCZ"
    assert b"219-09-9999" not in b"".join(body for _, body in shown)


def test_a_statement_made_in_sql_cannot_be_bound(conversation: Conversation) -> None:
    conversation.send(pg.query("prepare hidden as select ssn from people"))
    shown = conversation.send(pg.bind("", "hidden"), pg.execute(""), pg.SYNC)
    assert kinds(shown) == "EZ"
    assert b"C26000\0" in shown[0][1]


def test_a_cursor_under_the_name_of_a_portal_gives_no_rows(conversation: Conversation) -> None:
    conversation.send(pg.query("begin"))
    conversation.send(pg.parse("", "select name from people"), pg.bind("p", ""), pg.describe("P", "p"), pg.SYNC)
    run = [pg.bind("", "x"), pg.execute("")]
    swap = [pg.parse("x", "close p"), *run, pg.close("S", "x")]
    swap += [pg.parse("x", "declare p cursor for select ssn from people"), *run]
    shown = conversation.send(*swap, pg.execute("p"), pg.SYNC)
    assert "D" not in kinds(shown)
    assert b"C34000\0" in next(body for kind, body in shown if kind == "E")


def test_notifications_pass_masked(conversation: Conversation) -> None:
    shown = conversation.send(pg.query("listen news; notify news, 'ssn 219-09-9999'"))
    assert kinds(shown) == "CCAZ"
    assert b"219-09-9999" not in shown[2][1]


def test_changing_the_encoding_ends_the_session(conversation: Conversation) -> None:
    with pytest.raises(ProtocolViolation, match="client_encoding"):
        conversation.send(pg.query("set client_encoding to latin1"))
