"""Input nobody should send, and targets that fail: a clear error, a record, and a gateway that lives on as it was.

All tests of this module speak to one gateway. When the last one has run, its memory and descriptors are compared with the beginning.
"""

import contextlib
import os
import signal
import socket
import struct
import threading
import time

import jwt
import psycopg
import pytest
from sealgate_native.postgres import encode_message, encode_query

from evidence.chunks import MAX_OPEN_FILES
from evidence.keys import MAX_BLOB_BYTES
from gateway.errors import TargetError
from gateway.recording import MAX_RECORDED_INPUT_BYTES
from gateway.testing.oidc import make_key
from gateway.testing.waiting import wait_until
from gateway.testing.wire import SSL_REQUEST, Client, error_of, kinds, startup

LOGIN_TIMEOUT_S = 3.0
GROWTH_MB = 1_000
"""How much larger the process may be at the end: trees of the largest texts, which the allocator keeps, once and not per test."""


@pytest.fixture(scope="module")
def gateway(configure, make_connection, tmp_path_factory):
    nowhere = socket.create_server(("127.0.0.1", 0))
    down = nowhere.getsockname()[1]
    nowhere.close()
    target = {"host": "127.0.0.1", "port": down, "database": "shop", "tls": {"mode": "disable"}}
    running = configure(
        tmp_path_factory.mktemp("gateway"),
        connections=[
            make_connection(),
            make_connection(name="down", target=target, sensitive=[]),
            make_connection(name="whole", transcript="full"),
        ],
        limits={"login_timeout_s": LOGIN_TIMEOUT_S},
    ).start()
    yield running
    if running.is_alive:
        running.stop()


@pytest.fixture(scope="module")
def promised():
    """What agents were told by decision id, and what the record of it must say: checked once the gateway has stopped."""
    return {}


@pytest.fixture(scope="module", autouse=True)
def unharmed(gateway, mint, verify, promised):
    """What must hold once every test of the module has run."""
    for database in ("shop", "whole"):
        with gateway.connect(mint(), dbname=database) as connection:
            connection.execute("select count(*) from customers")
    wait_until(lambda: gateway.count_sessions() == 0)
    descriptors, sockets = gateway.count_descriptors(), gateway.count_descriptors("socket:")
    children, rss_mb = sorted(gateway.children()), gateway.read_rss_mb()
    yield
    wait_until(lambda: gateway.count_sessions() == 0)
    wait_until(lambda: gateway.count_descriptors("socket:") <= sockets)
    assert gateway.count_descriptors() <= descriptors + MAX_OPEN_FILES, "beside the files of chunks, which the log keeps open"
    assert sorted(gateway.children()) == children, "an evaluator did not survive"
    assert gateway.read_rss_mb() < rss_mb + GROWTH_MB
    assert gateway.ask_health() == (200, {})
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.read_errors()
    assert verify(gateway).exit_code == 0
    records = gateway.read_records()
    for identifier, members in promised.items():
        (record,) = [record for record in records if record.get("decision_id") == identifier and record["type"] != "outcome"]
        assert members.items() <= record.items(), record
    # No token that was refused is anywhere in the records.
    assert "eyJ" not in str(records)


@pytest.fixture(autouse=True)
def alive(gateway, mint):
    """After every test the gateway serves others."""
    yield
    assert gateway.is_alive
    with gateway.connect(mint("agent-after")) as connection:
        assert connection.execute("select name from customers where id = 1").fetchone() == ("Customer 1",)


@pytest.fixture
def client(gateway):
    made = Client(gateway.port)
    yield made
    made.raw.close()


def session_of(gateway, subject):
    """The id of a subject's only session."""
    return gateway.wait_for_record(
        lambda record: record["type"] == "session.open" and record["subject"]["id"] == f"corp/{subject}"
    )["sid"]


def decision_of(text):
    return text.rpartition("Decision ")[2].strip().rstrip(".")


# --- before the login


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        struct.pack("!ii", 2**31 - 1, 196608),
        struct.pack("!ii", -1, 196608),
        struct.pack("!ii", 4, 196608),
        struct.pack("!ii", 9_999, 196608) + b"\xff" * 9_991,
        struct.pack("!ii", 16, 80877102) + b"\0" * 8,
        SSL_REQUEST * 5,
        startup(version=131072),
        startup(replication="database"),
        startup(options="-c search_path=evil"),
        startup(client_encoding="LATIN1"),
        startup(database="x\0\0\0"),
        b"\0" * 8,
    ],
)
def test_start_up_messages_that_make_no_sense(client, sent):
    client.raw.sendall(sent)
    client.raw.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionResetError):
        answer = b""
        while data := client.raw.recv(65_536):
            answer += data
        assert b"Z\0\0\0\x05" not in answer, "nobody was asked who they are"


@pytest.mark.parametrize(
    ("sent", "code"),
    [(struct.pack("!ii", 2**31 - 1, 196608), "08P01"), (startup(replication="database"), None), (startup(version=131072), None)],
)
def test_a_start_up_message_that_is_refused_says_why_and_is_on_record(client, promised, sent, code):
    client.raw.sendall(sent)
    fields = error_of(client.read())
    assert fields["S"] == "FATAL"
    assert code is None or fields["C"] == code
    promised[decision_of(fields["H"])] = {"type": "login.refused", "client_ip": "127.0.0.1"}


@pytest.mark.parametrize("sent", [b"", b"\0", SSL_REQUEST, startup()[:20], startup()])
def test_clients_that_stop_halfway_are_let_go_in_time(gateway, sent):
    with socket.create_connection(("127.0.0.1", gateway.port)) as raw:
        raw.settimeout(20)
        began = time.monotonic()
        raw.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(65_536):
                pass
        assert time.monotonic() - began >= LOGIN_TIMEOUT_S / 2, "it was let go for another reason"


def test_a_client_that_sends_byte_by_byte_has_no_more_time_than_others(gateway):
    with socket.create_connection(("127.0.0.1", gateway.port)) as raw:
        raw.settimeout(0.05)
        message, sent, began = startup(application_name="x" * 5_000), 0, time.monotonic()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while time.monotonic() - began < 20:
                raw.sendall(message[sent : sent + 1])
                sent += 1
                with contextlib.suppress(TimeoutError):
                    if b"E" not in raw.recv(65_536):
                        break
                    break
        assert sent < len(message)
        assert time.monotonic() - began < 20


def test_many_clients_that_say_nothing_do_not_keep_others_out(gateway, mint):
    silent = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(100)]
    with gateway.connect(mint()) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    for raw in silent:
        raw.close()


# --- tokens


def forge(issuer, **changes):
    """A token without a signature."""
    now_s = int(time.time())
    claims = {"iss": issuer.url, "sub": "agent-7", "aud": ["sealgate"], "iat": now_s, "exp": now_s + 600, "groups": ["agents"]}
    return jwt.encode({**claims, **changes}, key=None, algorithm="none", headers={"typ": "at+jwt", "kid": issuer.key.key_id})


TOKENS = {
    "nonsense": lambda issuer: "not a token",
    "empty": lambda issuer: "",
    "expired": lambda issuer: issuer.mint("agent-7", groups=["agents"], now_s=time.time() - 7_200),
    "not yet": lambda issuer: issuer.mint("agent-7", groups=["agents"], claims={"nbf": int(time.time()) + 3_600}),
    "for somebody else": lambda issuer: issuer.mint("agent-7", groups=["agents"], audience=["bank"]),
    "of another issuer": lambda issuer: issuer.mint("agent-7", groups=["agents"], claims={"iss": "https://elsewhere.example"}),
    "by another key": lambda issuer: issuer.mint("agent-7", groups=["agents"], key=make_key(key_id=issuer.key.key_id)),
    "without signature": forge,
    "with a shared secret": lambda issuer: jwt.encode(
        jwt.decode(issuer.mint("agent-7"), options={"verify_signature": False}), "k" * 32, "HS256", {"kid": issuer.key.key_id}
    ),
    "cut": lambda issuer: issuer.mint("agent-7", groups=["agents"])[:-8],
    "17 kB": lambda issuer: issuer.mint("agent-7", groups=["agents"], claims={"pad": "x" * 17_000}),
}


@pytest.mark.parametrize("which", TOKENS)
def test_a_token_that_proves_nothing(client, promised, issuer, which):
    token = TOKENS[which](issuer)
    fields = error_of(client.login(token))
    assert (fields["S"], fields["C"]) in {("FATAL", "28P01"), ("FATAL", "08P01")}
    assert fields["M"]
    assert not token or token not in str(fields)
    promised[decision_of(fields["H"])] = {"type": "login.refused", "connection": "shop"}
    assert client.is_closed()


def test_a_database_nobody_registered_and_one_not_open_to_the_agent_read_alike(gateway, promised, mint):
    told = []
    for database, token in (("nowhere", mint()), ("shop", mint("stranger", groups=("strangers",)))):
        client = Client(gateway.port)
        fields = error_of(client.login(token, database=database))
        assert fields["C"] == "3D000"
        promised[decision_of(fields["H"])] = {"type": "login.refused", "connection": database}
        told.append(fields["M"].replace(database, "?"))
    assert told[0] == told[1]


# --- inside a session


@pytest.fixture
def agent(client, mint):
    assert kinds(client.login(mint())).endswith("Z")
    return client


@pytest.mark.parametrize(
    "sent",
    [
        b"Q" + struct.pack("!i", 2**31 - 1),
        b"Q" + struct.pack("!i", 3),
        b"Q" + struct.pack("!i", -5),
        b"\xff" + struct.pack("!i", 4),
        b"P" + struct.pack("!i", 6) + b"\0\0",
        b"B" + struct.pack("!i", 10) + b"\0\0\xff\xff\0\0",
        encode_message("R", b"\0\0\0\0"),
        encode_message("W", b""),
    ],
)
def test_frames_that_break_the_protocol_end_the_session_with_a_record(agent, promised, sent):
    agent.raw.sendall(sent)
    messages = agent.read()
    fields = error_of(messages)
    assert fields["S"] == "FATAL"
    assert fields["C"] in {"08P01", "54000"}
    assert agent.is_closed()
    promised[decision_of(fields["H"])] = {"type": "refusal", "code": "protocol.malformed"}


def test_a_message_that_never_ends_only_costs_its_own_session(agent, gateway):
    agent.raw.sendall(b"Q" + struct.pack("!i", 1 << 20) + b"select " * 100)
    agent.raw.shutdown(socket.SHUT_WR)
    assert kinds(agent.read()) == ""


STATEMENTS = {
    "12 MB comment": ("/* " + "x" * (12 << 20) + " */ select 1", {"54000"}),
    "10 MB that take 20 in JSON": ("select '" + '"' * (10 << 20) + "'", {"54000"}),
    "100 k parentheses": ("select " + "(" * 100_000 + "1" + ")" * 100_000, {"54000"}),
    "100 k nested selects": ("select * from (" * 100_000 + "select 1" + ") a" * 100_000, {"54000"}),
    "100 k operators": ("select " + "1+" * 100_000 + "1", {"54000"}),
    "100 k not": ("select " + "not " * 100_000 + "true", {"54000"}),
    "100 k arrays": ("select " + "array[" * 100_000 + "1" + "]" * 100_000, {"54000"}),
    "100 k columns": ("select " + ",".join("1" for _ in range(100_000)), {None, "42501", "54000", "54011"}),
    "unended comment": ("select 1 /* " * 10_000, {"42501", "42601"}),
    "unended quote": ("select '" + "x" * 100_000, {"42501", "42601"}),
    "not SQL": ("\x01\x02 \U0001f600 ;;;' $$ --", {"42501", "42601"}),
}


@pytest.mark.parametrize("which", STATEMENTS)
def test_statements_made_to_break_a_parser(agent, promised, which):
    text, expected = STATEMENTS[which]
    messages = agent.query(text)
    assert kinds(messages).endswith("Z"), "the session lives on"
    state = error_of(messages)["C"] if "E" in kinds(messages) else None
    assert state in expected
    if "E" in kinds(messages) and "Decision" in error_of(messages).get("H", ""):
        promised[decision_of(error_of(messages)["H"])] = {"connection": "shop"}
    assert state not in {"42501", "54000"} or "Decision" in error_of(messages)["H"]
    assert kinds(agent.query("select 1")) == "TDCZ"


def test_a_20_mb_comment_is_refused_before_it_is_read(client, gateway, mint):
    client.login(mint("agent-20-mb"))
    with contextlib.suppress(ConnectionError):
        client.raw.sendall(encode_query("/* " + "x" * (20 << 20) + " */ select 1"))
    sid = session_of(gateway, "agent-20-mb")
    refusal = gateway.wait_for_record(lambda record: record["type"] == "refusal" and record["sid"] == sid)
    assert str(20 << 20)[:4] in refusal["why"] or str(16 << 20) in refusal["why"]


def test_a_parameter_larger_than_a_record_holds_is_refused_with_a_record(gateway, promised, mint):
    with gateway.connect(mint()) as connection:
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("select length(%b)", (b"\0" * (9 << 20),))
        promised[decision_of(caught.value.diag.message_hint)] = {"type": "refusal", "code": "limit.exceeded"}
        assert connection.execute("select 1").fetchone() == (1,)
        assert caught.value.diag.sqlstate == "54000"
    assert MAX_RECORDED_INPUT_BYTES == MAX_BLOB_BYTES


def test_a_text_of_very_many_statements_is_refused_before_it_takes_hundreds_of_megabytes(agent, gateway, promised):
    before = gateway.read_rss_mb()
    messages = agent.query("select 1;" * 100_000)
    assert kinds(messages) == "EZ"
    promised[decision_of(error_of(messages)["H"])] = {"type": "decision", "refused": True}
    assert gateway.read_rss_mb() < before + 160


@pytest.mark.parametrize("body", [b"select '\xff\xfe'\0", b"select 1\0; drop table marks\0", b"select 1", b"\xc0\x80\0", b""])
def test_texts_that_are_not_utf8_or_hold_a_nul(agent, promised, body):
    agent.send("Q", body)
    messages = agent.read()
    fields = error_of(messages)
    assert fields["C"] == "08P01"
    promised[decision_of(fields["H"])] = {"type": "refusal"}
    if fields["S"] == "ERROR":
        assert kinds(agent.query("select 1")) == "TDCZ"


def test_a_client_that_does_not_read_its_rows_costs_no_memory(agent, gateway):
    before = gateway.read_rss_mb()
    agent.raw.sendall(encode_query("select id, note from big a, (values (1), (2), (3)) b"))
    # The rows, 90 MB, can only be in the gateway, in PostgreSQL or in the sockets' buffers: a reader that lags stops the target.
    deadline = time.monotonic() + 1.0
    most = before
    while time.monotonic() < deadline:
        most = max(most, gateway.read_rss_mb())
    assert most < before + 40


@pytest.mark.parametrize(
    ("database", "sql"), [("whole", "select id, note from big"), ("shop", "select id, note from big limit 1500;" * 20)]
)
def test_results_larger_than_a_record_holds_are_delivered_and_recorded_cut(gateway, mint, database, sql):
    subject = f"agent-large-{database}"
    with gateway.connect(mint(subject), dbname=database, prepare_threshold=None) as connection:
        cursor = connection.execute(sql)
        rows = len(cursor.fetchall())
        while cursor.nextset():
            rows += len(cursor.fetchall())
        assert rows == 30_000
        assert connection.execute("select 1").fetchone() == (1,)
    sid = session_of(gateway, subject)
    outcome = gateway.wait_for_record(
        lambda record: record["type"] == "outcome" and record["sid"] == sid and record.get("rows") == 30_000
    )
    assert outcome["status"] == "completed"
    assert outcome["transcript_truncated"] is True
    assert (1 << 20) * 0.9 < outcome["transcript"]["bytes"] <= MAX_BLOB_BYTES


# --- targets


def test_a_target_that_is_down(client, promised, mint):
    fields = error_of(client.login(mint(), database="down"))
    assert (fields["S"], fields["C"]) == ("FATAL", "08001")
    assert "sealgate_owner" not in str(fields)
    promised[decision_of(fields["H"])] = {"type": "login.refused", "code": "target.unavailable", "connection": "down"}


def test_a_target_that_dies_in_the_middle_of_a_result(gateway, server, mint):
    connection = gateway.connect(mint("agent-cut"), autocommit=False)
    with pytest.raises(psycopg.OperationalError) as caught:  # noqa: PT012 - the rows before the cut are part of it
        rows = connection.cursor().stream("select a.id, a.note from big a, (values (1), (2), (3)) b")
        next(rows)
        assert (
            server.run(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity where query like 'select a.id, a.note%' and state = 'active'"
            )
            == "1"
        )
        for _ in rows:
            pass
    assert caught.value.diag.sqlstate in {"57P01", "08006", None}
    connection.close()
    sid = session_of(gateway, "agent-cut")
    ended = gateway.wait_for_record(lambda record: record["type"] == "session.close" and record["sid"] == sid)
    assert ended["reason"] == "the target broke off"
    failed = [record for record in gateway.read_records() if record["type"] == "outcome" and record["sid"] == sid][-1]
    assert (failed["status"], failed["error_code"]) in {("failed", "57P01"), ("failed", "08006")}


def test_a_target_that_dies_without_a_word_under_a_write_leaves_an_outcome_that_is_not_known(gateway, server, mint):
    """Killed as by a power cut: whether the write took effect is not known, and the record says so."""
    connection = gateway.connect(mint("agent-power"))
    caught = []

    def write():
        try:
            connection.execute("insert into marks select 900000 from pg_sleep(61)")
        except psycopg.Error as error:
            caught.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    active = "select pid from pg_stat_activity where query like 'insert into marks select 900000%' and state = 'active'"
    wait_until(lambda: server.run(active))
    os.kill(int(server.run(active)), signal.SIGKILL)
    writer.join(20)
    assert [error.diag.sqlstate for error in caught] in (["08006"], ["57P02"])
    connection.close()
    sid = session_of(gateway, "agent-power")
    outcome = gateway.wait_for_record(lambda record: record["type"] == "outcome" and record["sid"] == sid)
    # PostgreSQL tells its other sessions of the crash, not the one that was killed.
    assert (outcome["status"], outcome["error_code"]) == ("unknown", "08006")
    wait_until(lambda: answers(server))  # it recovers by itself


def answers(server):
    with contextlib.suppress(TargetError):
        return server.run("select 1") == "1"
    return False
