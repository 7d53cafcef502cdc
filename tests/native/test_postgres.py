"""The wire kernel against a second reading of the protocol: any conversation, cut anywhere, interleaved anyhow."""

from __future__ import annotations

import contextlib
import hashlib
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sealgate_native.mask import Detectors
from sealgate_native.postgres import FrameReader, ProtocolViolation, Session, encode_message

from tests.native import postgres_oracle as pg

KEY = bytes(32)
REFUSAL = {"S": "ERROR", "V": "ERROR", "C": "refused", "M": "refused by policy"}


def make_session(**changes: Any) -> Session:
    limits: dict[str, Any] = {
        "max_message_bytes": 1 << 20,
        "max_statements": 100,
        "max_portals": 100,
        "max_pending": 1000,
        "error_detectors": None,
        "record_limit_bytes": 1 << 16,
    }
    return Session(**{**limits, **changes})


def is_denied(phase: str, sql: str) -> bool:
    """The policy of these tests: `denied` never, `late` only when it is run."""
    return "denied" in sql or ("late" in sql and phase == "execute")


@dataclass
class Host:
    """Judges as the gateway would, one event at a time."""

    session: Session
    row_limit: int | None = None
    cut: tuple[str, str | None] | None = None
    client_events: list[dict[str, Any]] = field(default_factory=list)
    server_events: list[dict[str, Any]] = field(default_factory=list)
    forwarded: list[str] = field(default_factory=list)
    actions: int = 0

    def take_client_event(self) -> bool:
        event = self.session.next_client_event()
        if event is None:
            return False
        self.client_events.append(event)
        kind = event["kind"]
        if kind in {"function_call", "refused"} or (kind != "copy_in_end" and is_denied(kind, event.get("sql", ""))):
            self.session.refuse(event["id"], REFUSAL)
        elif kind in {"query", "parse", "execute"}:
            self.actions += 1
            is_sent = self.session.forward(event["id"], self.actions)
            if is_sent and kind != "parse":
                self.forwarded.append(event["sql"])
        return True

    def take_server_event(self) -> bool:
        event = self.session.next_server_event()
        if event is None:
            return False
        self.server_events.append(event)
        if event["kind"] == "row_description" and any(item["name"] == "hidden" for item in event["fields"]):
            self.session.withhold(event["id"], REFUSAL)
        elif event["kind"] == "row_description":
            masks = [
                {"index": index, "strategy": "redact", "rule": "secret", "apply": "both"}
                for index, item in enumerate(event["fields"])
                if (item["table_oid"], item["attnum"]) == (pg.SECRET_OID, 2)
            ]
            self.session.resolve_rows(event["id"], masks, None, KEY, self.row_limit, None, self.cut)
        elif event["kind"] == "copy_out":
            self.session.resolve_copy(event["id"], [], None, KEY)
        return True

    def take_events(self) -> None:
        while self.take_client_event() or self.take_server_event():
            pass


SQL = st.sampled_from(
    [
        "select plain 2",
        "select secret 3",
        "select plain 0",
        "insert",
        "insert late",
        "insert denied",
        "select late 1",
        "syntax",
        "fail",
        "begin",
        "commit",
        "rollback",
        "",
    ]
)
NAMES = st.sampled_from(["", "a", "b"])
PORTALS = st.sampled_from(["", "p"])
STEPS = st.one_of(
    st.builds(pg.query, SQL),
    st.builds(pg.parse, NAMES, SQL),
    st.builds(pg.bind, PORTALS, NAMES),
    st.builds(lambda name: pg.describe("S", name), NAMES),
    st.builds(lambda name: pg.describe("P", name), PORTALS),
    st.builds(pg.execute, PORTALS, st.sampled_from([0, 0, 1, 2])),
    st.builds(lambda name: pg.close("S", name), NAMES),
    st.builds(lambda name: pg.close("P", name), PORTALS),
    st.just(pg.SYNC),
    st.just(pg.FLUSH),
)
RUNS = st.builds(
    lambda sql, name, portal, is_described, is_ended: [
        pg.parse(name, sql),
        pg.bind(portal, name),
        *([pg.describe("P", portal)] if is_described else []),
        pg.execute(portal),
        *([pg.SYNC] if is_ended else []),
    ],
    SQL,
    NAMES,
    PORTALS,
    st.booleans(),
    st.booleans(),
)
CONVERSATIONS = st.lists(st.one_of(STEPS.map(lambda step: [step]), RUNS), max_size=12).map(
    lambda parts: [step for part in parts for step in part] + [pg.SYNC]
)


def comparable(stream: bytes) -> list[tuple[str, bytes]]:
    """Messages, of errors only the code."""
    found = []
    for kind, body in pg.messages(stream):
        if kind == "E":
            codes = [item[1:] for item in body.split(b"\0") if item[:1] == b"C"]
            found.append((kind, codes[0]))
        else:
            found.append((kind, body))
    return found


def converse(steps: list[bytes], seed: int, **limits: Any) -> tuple[bytes, pg.Backend, Host]:
    """One conversation through a session, in an order and in pieces that `seed` picks."""
    pick = random.Random(seed)
    session, backend = make_session(**limits), pg.Backend()
    host = Host(session)
    to_client, client, given_out = b"", b"".join(steps), 0

    def send_client() -> bool:
        nonlocal client
        size = pick.choice([1, 3, 7, 30, 200])
        piece, client = client[:size], client[size:]
        session.receive_client(piece)
        return bool(piece)

    def send_server() -> bool:
        nonlocal given_out
        piece = backend.out[given_out : given_out + pick.choice([1, 4, 9, 40, 300])]
        given_out += len(piece)
        session.receive_server(piece)
        return bool(piece)

    def push() -> bool:
        data = session.take_to_server()
        backend.receive(data)
        return bool(data)

    moves = [send_client, send_server, push, host.take_client_event, host.take_server_event]
    while True:
        pick.shuffle(moves)
        if not any(move() for move in moves):
            break
        to_client += session.take_to_client()
    return to_client + session.take_to_client(), backend, host


RUN = [pg.parse("", "select plain 2"), pg.bind("", ""), pg.execute("")]
REFUSED_PARSE = [*RUN, pg.describe("S", "a"), pg.SYNC, pg.parse("", "insert denied"), pg.SYNC, pg.describe("S", ""), pg.SYNC]
REFUSED_QUERY = [pg.parse("", "begin"), pg.bind("", ""), pg.execute(""), pg.query("insert denied"), pg.describe("P", ""), pg.SYNC]


@settings(max_examples=600, deadline=None)
@given(CONVERSATIONS, st.integers(0, 2**32))
@example(REFUSED_PARSE, 0)
@example(REFUSED_QUERY, 0)
def test_a_client_sees_a_server_that_refuses_and_masks_by_itself(steps: list[bytes], seed: int) -> None:
    expected = pg.Backend(denied=is_denied, masks=True)
    expected.receive(b"".join(steps))
    to_client, backend, host = converse(steps, seed)
    assert comparable(to_client) == comparable(expected.out)
    assert host.session.pending == 0
    assert host.session.transaction_status == backend.status
    assert host.session.client_buffered == host.session.server_buffered == 0
    # What ran is what was judged under that text, in that order; what was forwarded and did not run, the server skipped.
    forwarded = iter(host.forwarded)
    assert all(any(sql == sent for sent in forwarded) for sql in backend.ran)
    assert backend.ran == expected.ran


@settings(max_examples=200, deadline=None)
@given(CONVERSATIONS, st.integers(0, 2**32))
def test_few_pending_replies_slow_a_client_down_but_change_nothing(steps: list[bytes], seed: int) -> None:
    expected = pg.Backend(denied=is_denied, masks=True)
    expected.receive(b"".join(steps))
    to_client, _, host = converse(steps, seed, max_pending=1)
    assert comparable(to_client) == comparable(expected.out)
    assert host.session.pending == 0


HIDING = CONVERSATIONS.map(lambda steps: [step.replace(b"select secret 3", b"select hidden 3") for step in steps])


@settings(max_examples=300, deadline=None)
@given(HIDING, st.integers(0, 2**32))
def test_withheld_rows_never_arrive_and_every_pipeline_still_ends(steps: list[bytes], seed: int) -> None:
    to_client, backend, host = converse(steps, seed)
    assert b"hidden-" not in to_client
    kinds = [kind for kind, _ in pg.messages(to_client)]
    ends = [kind for kind, _ in pg.messages(backend.out) if kind == "Z"]
    assert kinds.count("Z") == len(ends)
    assert host.session.pending == host.session.client_buffered == 0
    assert host.session.transaction_status == backend.status


@settings(max_examples=200, deadline=None)
@given(CONVERSATIONS, st.integers(0, 2**32))
def test_every_forwarded_action_ends_once_and_after_its_results(steps: list[bytes], seed: int) -> None:
    _, _, host = converse(steps, seed)
    ends = [event["action"] for event in host.server_events if event["kind"] == "action_end"]
    assert sorted(ends) == list(range(1, host.actions + 1))
    for place, event in enumerate(host.server_events):
        if event["kind"] in {"result_end", "command_complete"}:
            later = [other["action"] for other in host.server_events[place:] if other["kind"] == "action_end"]
            assert event["action"] in later


def replay(chunks: list[tuple[str, bytes]], cut: random.Random | None) -> tuple[Any, ...]:
    """Feeds a recorded conversation, each part whole or cut anywhere, and returns everything it led to."""
    session = make_session()
    host = Host(session)
    to_client = to_server = b""
    for direction, data in chunks:
        receive = session.receive_client if direction == "client" else session.receive_server
        rest = data
        while rest:
            size = len(rest) if cut is None else cut.randint(1, 12)
            receive(rest[:size])
            rest = rest[size:]
            host.take_events()
            to_client += session.take_to_client()
            to_server += session.take_to_server()
    return to_client, to_server, host.client_events, host.server_events


@settings(max_examples=200, deadline=None)
@given(CONVERSATIONS, st.randoms(use_true_random=False))
def test_any_chunking_gives_the_same_events_and_bytes(steps: list[bytes], cut: random.Random) -> None:
    session, backend = make_session(), pg.Backend()
    host, chunks, given_out = Host(session), [], 0
    for step in steps:
        chunks.append(("client", step))
        session.receive_client(step)
        host.take_events()
        backend.receive(session.take_to_server())
        while given_out < len(backend.out):
            data, given_out = backend.out[given_out:], len(backend.out)
            chunks.append(("server", data))
            session.receive_server(data)
            host.take_events()
            backend.receive(session.take_to_server())
    assert replay(chunks, cut) == replay(chunks, None)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.characters(min_codepoint=33, max_codepoint=126), st.binary(max_size=60))),
    st.randoms(use_true_random=False),
)
def test_messages_survive_framing(items: list[tuple[str, bytes]], cut: random.Random) -> None:
    stream = b"".join(encode_message(kind, body) for kind, body in items)
    assert pg.messages(stream) == items
    reader, found = FrameReader(100), []
    while stream:
        size = cut.randint(1, 20)
        reader.receive(stream[:size])
        stream = stream[size:]
        while (item := reader.next()) is not None:
            found.append(item)
    assert found == items
    assert reader.take_rest() == b""


def each_call(session: Session) -> Iterator[Any]:
    yield lambda: session.receive_client(b"")
    yield lambda: session.receive_server(b"")
    yield session.next_client_event
    yield session.next_server_event
    yield session.take_to_client
    yield session.take_to_server
    yield session.forget_plans
    yield lambda: session.forward(1, 1)
    yield lambda: session.refuse(1, REFUSAL)
    yield lambda: session.resolve_rows(1, [], None, KEY)
    yield lambda: session.withhold(1, REFUSAL)


@pytest.mark.parametrize(
    ("side", "data", "code"),
    [
        ("client", pg.message("p", b"secret\0"), "unexpected"),
        ("client", pg.message("Q", b"select 1"), "malformed"),
        ("client", pg.message("Q", b"a\0b\0"), "malformed"),
        ("client", b"Q\0\0\0\3", "malformed"),
        ("client", b"Q\x7f\0\0\0", "too_large"),
        ("client", pg.message("B", b"\0\0\0\1\0\2\0\0\0\0"), "malformed"),
        ("client", pg.message("D", b"X\0"), "malformed"),
        ("server", pg.message("W", b"\0\0\0"), "unexpected"),
        ("server", pg.message("R", b"\0\0\0\0"), "unexpected"),
        ("server", pg.row([b"x"]), "unexpected"),
        ("server", pg.message("Z", b"I"), "unexpected"),
        ("server", pg.message("S", b"client_encoding\0LATIN1\0"), "unexpected"),
        ("server", b"D\x7f\0\0\0", "too_large"),
    ],
)
def test_a_violation_is_for_good(side: str, data: bytes, code: str) -> None:
    session = make_session()
    receive = session.receive_client if side == "client" else session.receive_server
    with pytest.raises(ProtocolViolation) as caught:
        receive(data)
    assert caught.value.code == code
    assert session.is_failed
    for call in each_call(session):
        with pytest.raises(ProtocolViolation, match=str(caught.value)[:20]):
            call()


@pytest.mark.parametrize(
    ("kept_in", "asked", "is_good"),
    [
        ("UTF8", "SQL_ASCII", True),
        ("UTF8", "UTF8", True),
        ("UTF8", "LATIN1", False),
        ("LATIN1", "SQL_ASCII", False),
        ("", "SQL_ASCII", False),
    ],
)
def test_an_encoding_that_means_the_same_bytes_passes(kept_in: str, asked: str, is_good: bool) -> None:
    session = make_session()
    session.note_server_encoding(kept_in)
    status = pg.message("S", f"client_encoding\0{asked}\0".encode())
    with contextlib.nullcontext() if is_good else pytest.raises(ProtocolViolation, match="client_encoding"):
        session.receive_server(status)
    assert session.is_failed is not is_good


def ask(session: Session, data: bytes, action: int = 1) -> bytes:
    """Forwards the one judged message in `data` and what comes with it; returns what the server gets."""
    session.receive_client(data)
    while (event := session.next_client_event()) is not None:
        session.forward(event["id"], action)
    return session.take_to_server()


def next_judged(session: Session) -> dict[str, Any]:
    """The next event of the server's direction that has to be judged."""
    while (event := session.next_server_event()) is not None:
        if "id" in event:
            return event
    raise AssertionError("nothing waits to be judged")


def test_rows_that_do_not_fit_their_description_end_the_session() -> None:
    session = make_session()
    ask(session, pg.query("select plain 1"))
    session.receive_server(pg.row_description([("n", 0, 0), ("m", 0, 0)]))
    mask = {"index": 0, "strategy": "null", "rule": "r", "apply": "both"}
    session.resolve_rows(session.next_server_event()["id"], [mask], None, KEY)
    with pytest.raises(ProtocolViolation, match="column count"):
        session.receive_server(pg.row([b"x"]))


def test_bytes_held_while_something_waits_are_bounded() -> None:
    session = make_session(max_message_bytes=1000)
    session.receive_client(pg.query("select plain 1") + pg.query("x" * 900))
    room = (1 << 20) - session.client_buffered
    session.receive_client(pg.query("x" * 900) * (room // 906))
    with pytest.raises(ProtocolViolation) as caught:
        session.receive_client(pg.query("x" * 900) * 3)
    assert caught.value.code == "too_large"


def test_a_function_call_is_one_question_with_one_value() -> None:
    session = make_session()
    body = struct.pack("!IHHHHi", 954, 2, 1, 1, 2, 4) + b"\0\0\0\7" + struct.pack("!ih", -1, 1)
    session.receive_client(pg.message("F", body) + pg.query("select plain 1"))
    event = session.next_client_event()
    assert (event["kind"], event["oid"]) == ("function_call", 954)
    assert [value and value.get("hex") for value in event["params"]] == ["00000007", None]
    assert session.forward(event["id"], 1)
    assert session.take_to_server() == pg.message("F", body)
    value = pg.message("V", struct.pack("!i", 3) + b"abc")
    session.receive_server(value + pg.message("Z", b"I"))
    assert session.take_to_client() == value + pg.message("Z", b"I")
    ended = [session.next_server_event() for _ in range(2)]
    assert [(item["kind"], item["action"]) for item in ended] == [("result_end", 1), ("action_end", 1)]
    assert ended[0]["bytes"] == len(value)
    assert session.next_client_event()["kind"] == "query"


@pytest.mark.parametrize("body", [b"", b"\0" * 9, b"\0" * 11, struct.pack("!IHHiH", 954, 0, 1, 5, 0)])
def test_a_function_call_that_is_cut_short_is_a_violation(body: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        make_session().receive_client(pg.message("F", body))


def test_an_error_ends_a_function_call_and_a_value_belongs_to_nothing_else() -> None:
    session = make_session()
    session.receive_client(pg.message("F", b"\0" * 10))
    session.forward(session.next_client_event()["id"], 1)
    session.receive_server(pg.message("E", b"SERROR\0C42883\0\0") + pg.message("Z", b"E"))
    assert [kind for kind, _ in pg.messages(session.take_to_client())] == ["E", "Z"]
    events = [session.next_server_event() for _ in range(2)]
    assert events[-1]["status"] == "failed"
    session.receive_client(pg.query("select plain 1"))
    session.forward(session.next_client_event()["id"], 2)
    with pytest.raises(ProtocolViolation):
        session.receive_server(pg.message("V", struct.pack("!i", -1)))


def test_function_calls_can_be_refused_and_unreadable_text_can_only_be() -> None:
    session = make_session()
    session.receive_client(pg.message("F", b"\0" * 10) + pg.message("Q", b"\xff\0"))
    for kind in ("function_call", "refused"):
        event = session.next_client_event()
        assert event["kind"] == kind
        if kind == "refused":
            with pytest.raises(ValueError, match="refused"):
                session.forward(event["id"], 1)
        session.refuse(event["id"], REFUSAL)
        assert session.take_to_server() == pg.SYNC
        session.receive_server(pg.message("Z", b"T"))
        assert [kind for kind, _ in pg.messages(session.take_to_client())] == ["E", "Z"]
    assert session.transaction_status == "T"


def test_the_row_limit_holds_over_all_executes_of_a_portal() -> None:
    session, backend = make_session(), pg.Backend()
    host = Host(session, row_limit=3)
    session.receive_client(pg.query("begin") + pg.parse("", "select secret 9") + pg.bind("p", ""))
    session.receive_client((pg.execute("p", 2) + pg.SYNC) * 3)
    for _ in range(10):
        host.take_events()
        backend.receive(session.take_to_server())
        session.receive_server(backend.out)
        backend.out = b""
    kinds = [kind for kind, _ in pg.messages(session.take_to_client())]
    assert kinds == ["C", "Z", "1", "2", "D", "D", "s", "Z", "D", "E", "Z", "E", "Z"]
    ends = [event for event in host.server_events if event["kind"] == "result_end"]
    assert [(end["rows"], end["rows_withheld"], end["withheld"]) for end in ends] == [
        (2, 0, None),
        (1, 1, "row_limit"),
        (0, 2, "row_limit"),
    ]
    assert ends[0]["masked"] == {"secret": 2}
    assert ends[0]["record"] == b'["0","[redacted]"]\n["1","[redacted]"]\n'


@pytest.mark.parametrize("tag", ["SELECT", None])
def test_a_result_that_is_cut_ends_as_if_there_were_no_more(tag: str | None) -> None:
    session, backend = make_session(), pg.Backend()
    host = Host(session, row_limit=3, cut=("rule.limit", tag))
    session.receive_client(pg.query("begin") + pg.parse("", "select secret 9") + pg.bind("p", ""))
    session.receive_client((pg.execute("p", 2) + pg.SYNC) * 3)
    for _ in range(10):
        host.take_events()
        backend.receive(session.take_to_server())
        session.receive_server(backend.out)
        backend.out = b""
    sent = pg.messages(session.take_to_client())
    # What the server would only suspend ends, unless its tag would count something else than rows.
    end = "C" if tag else "s"
    assert [kind for kind, _ in sent] == ["C", "Z", "1", "2", "D", "D", "s", "Z", "D", "N", end, "Z", "N", end, "Z"]
    assert [body for kind, body in sent if kind == "C"][1:] == ([b"SELECT 1\0", b"SELECT 0\0"] if tag else [])
    assert all(b"C01000\0" in body and b"Rule rule.limit: " in body for kind, body in sent if kind == "N")
    ends = [event for event in host.server_events if event["kind"] == "result_end"]
    assert [(end["rows"], end["rows_withheld"], end["withheld"], end.get("cut_by")) for end in ends] == [
        (2, 0, None, None),
        (1, 1, "cut", "rule.limit"),
        (0, 2, "cut", "rule.limit"),
    ]
    assert session.transaction_status == "T"


def test_a_cut_needs_a_limit() -> None:
    session = make_session()
    ask(session, pg.query("select plain 1"))
    session.receive_server(pg.row_description([("n", 0, 0)]))
    event = next_judged(session)
    with pytest.raises(ValueError, match="limit"):
        session.resolve_rows(event["id"], [], None, KEY, None, None, ("rule", None))
    session.resolve_rows(event["id"], [], None, KEY, 1, None, ("rule", None))


def test_a_withheld_result_is_one_error_and_the_true_status() -> None:
    session = make_session()
    ask(session, pg.query("select secret 1; select plain 1"))
    answer = pg.row_description([("n", 0, 0)]) + pg.row([b"x"]) * 3 + pg.message("C", b"SELECT 3\0")
    session.receive_server(answer + answer + pg.message("Z", b"T"))
    session.withhold(next_judged(session)["id"], REFUSAL)
    assert [kind for kind, _ in pg.messages(session.take_to_client())] == ["E", "Z"]
    events = []
    while (event := session.next_server_event()) is not None:
        events.append(event)
    assert [event["kind"] for event in events] == ["result_end", "command_complete"] * 2 + ["action_end", "ready"]
    assert events[0]["rows_withheld"] == 3
    assert events[0]["rows"] == 0


def test_a_withheld_pipeline_is_silent_to_its_sync() -> None:
    session = make_session()
    first = ask(session, pg.parse("", "select secret 1") + pg.bind("", "") + pg.execute(""))
    assert [kind for kind, _ in pg.messages(first)] == ["P", "B", "D", "E"]
    session.receive_server(pg.message("1") + pg.message("2") + pg.row_description([("n", 0, 0)]))
    session.withhold(next_judged(session)["id"], REFUSAL)
    session.receive_server(pg.row([b"x"]) + pg.message("C", b"SELECT 1\0"))
    assert ask(session, pg.parse("", "insert") + pg.SYNC) == pg.SYNC
    session.receive_server(pg.message("Z", b"I"))
    assert [kind for kind, _ in pg.messages(session.take_to_client())] == ["1", "2", "E", "Z"]


def test_a_refusal_after_something_ran_fails_the_pipeline_at_the_server() -> None:
    session = make_session()
    ask(session, pg.parse("", "insert") + pg.bind("", "") + pg.execute(""))
    session.receive_client(pg.parse("", "insert denied"))
    session.refuse(session.next_client_event()["id"], REFUSAL)
    session.receive_client(pg.bind("", "") + pg.execute("") + pg.SYNC)
    assert session.next_client_event() is None
    sent = pg.messages(session.take_to_server())
    assert [kind for kind, _ in sent] == ["P", "S"]
    session.receive_server(pg.message("1") + pg.message("2") + pg.message("n") + pg.message("C", b"INSERT 0 1\0"))
    session.receive_server(pg.error("42601") + pg.message("Z", b"I"))
    shown = pg.messages(session.take_to_client())
    assert [kind for kind, _ in shown] == ["1", "2", "C", "E", "Z"]
    assert b"Crefused\0" in shown[3][1]


def test_names_made_in_sql_are_not_known_here() -> None:
    session = make_session()
    for message in (pg.bind("", "made_by_prepare"), pg.execute("made_by_declare")):
        session.receive_client(message + pg.SYNC)
        # What the server gets in its place makes its transaction fail, as an unknown name would.
        assert [kind for kind, _ in pg.messages(session.take_to_server())] == ["P", "S"]
        session.receive_server(pg.error("42601") + pg.message("Z", b"E"))
    assert [code for kind, code in comparable(session.take_to_client()) if kind == "E"] == [b"26000", b"34000"]


@pytest.mark.parametrize("tag", [b"CLOSE CURSOR\0", b"COMMIT\0", b"DISCARD ALL\0"])
def test_a_portal_whose_name_sql_may_have_reused_is_not_run(tag: bytes) -> None:
    session = make_session()
    ask(session, pg.query("begin"))
    session.receive_server(pg.message("C", b"BEGIN\0") + pg.message("Z", b"T"))
    ask(session, pg.parse("", "select plain 1") + pg.bind("p", "") + pg.describe("P", "p") + pg.SYNC)
    session.receive_server(pg.message("1") + pg.message("2") + pg.row_description([("n", 0, 0)]) + pg.message("Z", b"T"))
    while (event := session.next_server_event()) is not None:
        if "id" in event:
            session.resolve_rows(event["id"], [], None, KEY)
    sql = "close p; declare p cursor"
    ask(session, pg.parse("x", sql) + pg.bind("", "x") + pg.execute("") + pg.execute("p") + pg.SYNC)
    session.take_to_server()
    session.receive_server(pg.message("1") + pg.message("2") + pg.message("n") + pg.message("C", tag))
    assert session.next_client_event() is None
    # What the server gets in place of the Execute makes its transaction fail, as an unknown name would.
    assert [kind for kind, _ in pg.messages(session.take_to_server())] == ["P", "S"]
    session.receive_server(pg.error("42601") + pg.message("Z", b"E"))
    assert [code for kind, code in comparable(session.take_to_client()) if kind == "E"] == [b"34000"]


def test_statements_beyond_the_limit_are_forgotten_oldest_first() -> None:
    session, backend = make_session(max_statements=2), pg.Backend()
    host = Host(session)
    for name in ("a", "b", "c"):
        session.receive_client(pg.parse(name, "insert") + pg.SYNC)
    for name in ("c", "a"):
        session.receive_client(pg.bind("", name) + pg.execute("") + pg.SYNC)
        for _ in range(4):
            host.take_events()
            backend.receive(session.take_to_server())
            session.receive_server(backend.out)
            backend.out = b""
    shown = session.take_to_client()
    assert [code for kind, code in comparable(shown) if kind == "E"] == [b"26000"]
    assert b'statement "a" is not known: this session prepared more than 2, ' in shown
    assert b"raise limits.max_statements" in shown
    assert backend.ran == ["insert"]


def test_texts_beside_the_results_are_masked() -> None:
    session = make_session(error_detectors=Detectors(["ssn"]))
    ask(session, pg.query("select plain 1"))
    session.receive_server(pg.message("E", b"SERROR\0C22P02\0Minvalid input: 078-05-1120, ssn 219-09-9999\0\0"))
    session.receive_server(pg.message("N", b"SNOTICE\0C00000\0Mssn 219-09-9999\0\0"))
    session.receive_server(pg.message("A", b"\0\0\0\1channel\0ssn 219-09-9999\0") + pg.message("Z", b"I"))
    shown = session.take_to_client()
    assert b"219-09-9999" not in shown
    assert [kind for kind, _ in pg.messages(shown)] == ["E", "N", "A", "Z"]
    error = session.next_server_event()
    assert error["detected"]["ssn"] >= 1
    assert "219" not in error["fields"]["M"]


def test_copy_to_stdout_is_masked_and_recorded() -> None:
    session = make_session()
    ask(session, pg.query("copy people to stdout"))
    session.receive_server(pg.message("H", b"\0\0\2\0\0\0\0") + pg.message("d", b"1\tAda\n") + pg.message("d", b"2\tB"))
    event = session.next_server_event()
    assert (event["kind"], event["format"], event["columns"]) == ("copy_out", 0, [0, 0])
    mask = {"index": 1, "strategy": "redact", "rule": "name", "apply": "both"}
    with pytest.raises(ValueError, match="options"):
        session.resolve_copy(event["id"], [mask], None, KEY)
    facts = {"direction": "to", "source": "stdout", "query": False, "columns": ["id", "name"], "format": "text"}
    session.resolve_copy(event["id"], [mask], None, KEY, facts)
    session.receive_server(pg.message("d", b"ob\n") + pg.message("c") + pg.message("C", b"COPY 2\0") + pg.message("Z", b"I"))
    shown = pg.messages(session.take_to_client())
    assert [body for kind, body in shown if kind == "d"] == [b"1\t[redacted]\n", b"2\t[redacted]\n"]
    end = session.next_server_event()
    assert (end["kind"], end["rows"], end["masked"]) == ("result_end", 2, {"name": 2})
    assert end["record"] == b'{"copy":"1\\t[redacted]\\n"}\n{"copy":"2\\t[redacted]\\n"}\n'


@pytest.mark.parametrize("is_extended", [False, True])
def test_copy_from_stdin_passes_and_is_counted(is_extended: bool) -> None:
    session = make_session()
    if is_extended:
        ask(session, pg.parse("", "copy t from stdin") + pg.bind("", "") + pg.execute("") + pg.SYNC)
        session.receive_server(pg.message("1") + pg.message("2") + pg.message("n"))
    else:
        ask(session, pg.query("copy t from stdin"))
    # Data sent before the server said that it wants any waits.
    session.receive_client(pg.message("d", b"1\n"))
    assert pg.message("d", b"1\n") not in session.take_to_server()
    session.receive_server(pg.message("G", b"\0\0\1\0\0"))
    session.receive_client(pg.message("d", b"2\n3") + pg.message("c"))
    assert [kind for kind, _ in pg.messages(session.take_to_server())] == ["d", "d", "c"]
    digest = hashlib.sha256(b"1\n2\n3").hexdigest()
    assert session.next_client_event() == {
        "kind": "copy_in_end",
        "action": 1,
        "ok": True,
        "bytes": 5,
        "rows": 2,
        "sha256": digest,
    }
    if is_extended:
        # The first Sync was read, and ignored, as part of the COPY.
        session.receive_client(pg.SYNC)
    session.receive_server(pg.message("C", b"COPY 3\0") + pg.message("Z", b"I"))
    assert session.pending == 0
    assert [kind for kind, _ in pg.messages(session.take_to_client())][-3:] == ["G", "C", "Z"]


def test_only_copy_data_may_follow_a_copy_from_stdin() -> None:
    session = make_session()
    ask(session, pg.query("copy t from stdin"))
    session.receive_server(pg.message("G", b"\0\0\1\0\0"))
    with pytest.raises(ProtocolViolation):
        session.receive_client(pg.query("insert"))


def test_a_failed_copy_from_stdin_leaves_nothing_behind() -> None:
    session = make_session()
    ask(session, pg.query("copy t from stdin"))
    session.receive_server(pg.message("G", b"\0\0\1\0\0"))
    session.receive_client(pg.message("d", b"bad\n"))
    session.receive_server(pg.error("22P04") + pg.message("Z", b"I"))
    session.take_to_server()
    session.receive_client(pg.message("d", b"more\n") + pg.message("c"))
    assert session.take_to_server() == b""
    assert ask(session, pg.query("insert")) == pg.query("insert")


def test_a_plan_is_kept_while_the_fields_stay_the_same_and_judged_again_otherwise() -> None:
    session = make_session()
    seen = []

    def run(fields: list[tuple[str, int, int]]) -> None:
        sent = ask(session, pg.bind("", "s") + pg.execute("") + pg.SYNC)
        assert [kind for kind, _ in pg.messages(sent)] == ["B", "D", "E", "S"]
        session.receive_server(pg.message("2") + pg.row_description(fields) + pg.row([b"x"]))
        session.receive_server(pg.message("C", b"SELECT 1\0") + pg.message("Z", b"I"))
        while (event := session.next_server_event()) is not None:
            if event["kind"] == "row_description":
                seen.append(event["described_by"])
                session.resolve_rows(event["id"], [], None, KEY)

    ask(session, pg.parse("s", "select plain 1") + pg.SYNC)
    session.receive_server(pg.message("1") + pg.message("Z", b"I"))
    run([("n", 1, 1)])
    run([("n", 1, 1)])
    assert seen == ["execute"]
    run([("n", 2, 1)])
    assert seen == ["execute"] * 2
    session.forget_plans()
    run([("n", 2, 1)])
    assert seen == ["execute"] * 3
    assert [kind for kind, _ in pg.messages(session.take_to_client())].count("T") == 0


@pytest.mark.parametrize("is_extended", [False, True])
def test_a_copy_after_a_withheld_result_is_ended_for_the_client(is_extended: bool) -> None:
    session = make_session()
    description = pg.row_description([("n", 0, 0)])
    if is_extended:
        run = [pg.bind("", ""), pg.execute("")]
        steps = [pg.parse("", "select secret 1"), *run, pg.parse("", "copy t from stdin"), *run, pg.SYNC]
        ask(session, b"".join(steps))
        session.receive_server(pg.message("1") + pg.message("2") + description)
    else:
        ask(session, pg.query("select secret 1; copy t from stdin"))
        session.receive_server(description)
    session.withhold(next_judged(session)["id"], REFUSAL)
    session.receive_server(pg.row([b"x"]) + pg.message("C", b"SELECT 1\0"))
    if is_extended:
        session.receive_server(pg.message("1") + pg.message("2") + pg.message("n"))
    session.receive_server(pg.message("G", b"\0\0\1\0\0"))
    # The server ignored the client's Sync as part of the COPY, so it gets another one.
    sent = [kind for kind, _ in pg.messages(session.take_to_server())]
    assert sent == (["f", "S"] if is_extended else ["f"])
    session.receive_server(pg.error("57014") + pg.message("Z", b"I"))
    assert [kind for kind, _ in pg.messages(session.take_to_client())][-2:] == ["E", "Z"]
    assert session.pending == 0
    assert ask(session, pg.query("insert")) == pg.query("insert")
