"""Who gets in, to what, with which credential, and what of it an agent can ever see."""

import contextlib
import json
import re
import socket
import ssl
import struct
import threading
import time
import urllib.request

import psycopg
import pytest

from gateway.testing.oidc import DevelopmentIssuer
from gateway.testing.waiting import wait_until


def refused(connect, **options):
    with pytest.raises(psycopg.OperationalError) as caught:
        connect(**options)
    return str(caught.value)


def test_an_expired_token(connect, mint):
    said = refused(connect, token=mint(ttl_s=-60))
    assert "token was refused" in said
    assert "expired" in said


def test_a_token_for_another_audience(connect, mint):
    assert "token was refused" in refused(connect, token=mint(audience=["someone-else"]))


def test_a_token_of_a_foreign_issuer(connect):
    with DevelopmentIssuer() as foreign:
        assert "token was refused" in refused(connect, token=foreign.mint("agent-7", groups=["agents"]))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é", "x" * 60_000])
def test_what_is_no_token(connect, token):
    said = refused(connect, token=token or " ")
    assert "token" in said


def test_a_password_beyond_every_limit(connect):
    refused(connect, token="x" * 200_000)


def test_a_token_without_the_group_reaches_nothing_and_learns_nothing(connect, mint):
    for database in ("shop", "does-not-exist"):
        said = refused(connect, token=mint("outsider", groups=["others"]), dbname=database)
        assert f'no connection "{database}" is open to you' in said
        assert "Ask the gateway's operators" in said


def test_a_token_that_expires_inside_an_open_session(connect, mint):
    connection = connect(token=mint(ttl_s=3))
    assert connection.execute("select 1").fetchone() == (1,)
    expires = time.time() + 3

    answers = []

    def is_refused():
        try:
            connection.execute("select 1")
        except psycopg.Error as error:
            answers.append((error.diag.sqlstate, error.diag.message_primary))
        return answers

    wait_until(is_refused)
    assert answers[0][0] == "28000"
    assert "expired" in answers[0][1]
    assert time.time() >= expires - 2
    assert not connection.closed


def test_two_agents_do_not_see_each_other(connect, mint):
    writer = connect(token=mint("writer"), autocommit=False)
    reader = connect(token=mint("reader", groups=["agents"]))
    writer.execute("insert into orders (id, customer, amount) values (7001, 1, 1)")
    writer.execute("create temp table mine (x int)")
    assert reader.execute("select count(*) from orders where id = 7001").fetchone() == (0,)
    with pytest.raises(psycopg.Error):
        reader.execute("insert into orders (id, customer, amount) values (7002, 1, 1)")
    with pytest.raises(psycopg.Error):
        reader.execute("select * from mine")
    writer.rollback()


def test_the_credential_can_be_rotated_without_a_restart(connect, server, password_file):
    old = password_file.read_text()
    assert connect().execute("select 1").fetchone() == (1,)
    server.run("alter role sealgate_owner password 'rotated'")
    try:
        password_file.write_text("rotated")
        assert connect().execute("select 1").fetchone() == (1,)
    finally:
        server.run(f"alter role sealgate_owner password '{old}'")
        password_file.write_text(old)
    assert connect().execute("select 1").fetchone() == (1,)


class Tap:
    """A relay in front of a plaintext gateway that keeps every byte the client was sent."""

    def __init__(self, port):
        self.seen = bytearray()
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                upstream = socket.create_connection(("127.0.0.1", self._port))
                threading.Thread(target=self._copy, args=(client, upstream, None), daemon=True).start()
                threading.Thread(target=self._copy, args=(upstream, client, self.seen), daemon=True).start()

    def _copy(self, source, target, keep):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if keep is not None:
                    keep += data
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self):
        self._listening.close()


def test_the_stored_credential_never_reaches_the_agent(
    make_gateway, make_connection, server, password_file, mint, tmp_path, caplog
):
    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("an-outdated-password")
    broken = make_connection(name="broken", credential={"user": "sealgate_owner", "password": f"file:{wrong}"})
    missing = make_connection(name="missing", credential={"user": "sealgate_owner", "password": f"file:{tmp_path}/nowhere"})
    down = make_connection(name="down", target={"host": "127.0.0.1", "port": 1, "database": "shop", "tls": {"mode": "disable"}})
    with make_gateway(tmp_path / "gw", connections=[make_connection(), broken, missing, down], tls=False) as running:
        tap = Tap(running.port)
        options = {"host": "127.0.0.1", "port": tap.port, "user": "agent", "password": mint(), "sslmode": "disable"}
        with psycopg.connect(dbname="shop", autocommit=True, **options) as connection:
            assert connection.info.parameter_status("session_authorization") == "agent"
            connection.execute("select * from customers").fetchall()
            for statement in ("delete from orders", "select 1/0", "select * from pg_authid", "select nothing"):
                with pytest.raises(psycopg.Error):
                    connection.execute(statement)
        for database in ("broken", "missing", "down"):
            with pytest.raises(psycopg.OperationalError, match="not available"):
                psycopg.connect(dbname=database, **options)
        tap.close()
    seen = bytes(tap.seen)
    assert b"blocked by policy" in seen
    assert b"not available" in seen
    for secret in (password_file.read_bytes(), wrong.read_bytes(), b"sealgate_owner", str(server.port).encode()):
        # The random ids of decisions have digits of their own.
        assert secret not in re.sub(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", b"", seen), secret
    assert not re.search(rb"\d{3}-12-0\d{3}", seen)
    refused = [record for record in running.read_records() if record["type"] == "login.refused"]
    assert len(refused) == 3
    # The operators are told too: what to mend, and the id the agent was given.
    said = [each.getMessage() for each in caplog.records if each.name == "gateway.serve.postgres.listener"]
    assert said == [f"connection {each['connection']}: {each['why']} (decision {each['decision_id']})" for each in refused]
    assert wrong.read_text() not in "".join(said)


def test_every_refused_login_leaves_a_record(make_gateway, authority, mint, tmp_path):
    with make_gateway(tmp_path) as running:
        options = {
            "host": "localhost",
            "port": running.port,
            "user": "agent",
            "sslmode": "verify-full",
            "sslrootcert": str(authority.ca_file),
        }
        for changes in (
            {"password": "wrong", "dbname": "shop"},
            {"password": mint(), "dbname": "elsewhere"},
            {"password": mint(), "dbname": "shop", "options": "-c role=x"},
            {"password": mint(), "dbname": "shop", "sslmode": "disable"},
        ):
            with pytest.raises(psycopg.OperationalError) as caught:
                psycopg.connect(**{**options, **changes})
            assert "Decision " in str(caught.value)
    records = [record for record in running.read_records() if record["type"] == "login.refused"]
    assert len(records) == 4
    assert records[1]["subject"] == "corp/agent-7"
    assert "wrong" not in json.dumps(records)


def startup(**params):
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in params.items()) + b"\0"
    return struct.pack("!ii", 8 + len(body), 196608) + body


def test_plaintext_encryption_requests_and_garbage(gateway):
    """What a stock client never sends: each ends in an orderly refusal or a closed connection, never in an answer."""
    ssl_request = struct.pack("!ii", 8, 80877103)
    gss_request = struct.pack("!ii", 8, 80877104)
    for sent, expected in (
        (gss_request + startup(user="agent"), b"N"),
        (startup(user="agent"), b"E"),
        (ssl_request + b"x" * 20, b"E"),
        (struct.pack("!ii", 8, 80877102), b"E"),
        (struct.pack("!iiii", 16, 80877102, 1, 1), b""),
        (struct.pack("!ii", 1 << 30, 196608), b"E"),
        (struct.pack("!ii", 8, 131072), b"E"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"E"),
        (b"\0" * 64, b"E"),
    ):
        with socket.create_connection(("127.0.0.1", gateway.port)) as raw:
            raw.settimeout(10)
            raw.sendall(sent)
            answer = raw.recv(1)
            assert answer == expected or (expected == b"E" and answer == b""), (sent[:20], answer)


def test_a_newer_protocol_is_negotiated_down(make_gateway, mint, tmp_path):
    with make_gateway(tmp_path, tls=False) as running, socket.create_connection(("127.0.0.1", running.port)) as raw:
        body = b"user\0agent\0database\0shop\0_pq_.future\x001\0\0"
        raw.sendall(struct.pack("!iHH", 8 + len(body), 3, 9999) + body)
        reader = raw.makefile("rb")
        kind, length = struct.unpack("!ci", reader.read(5))
        assert kind == b"v"
        content = reader.read(length - 4)
        assert struct.unpack("!ii", content[:8]) == (196610, 1) or struct.unpack("!ii", content[:8]) == (2, 1)
        assert content[8:] == b"_pq_.future\0"
        assert reader.read(9) == b"R" + struct.pack("!ii", 8, 3)
        token = mint().encode() + b"\0"
        raw.sendall(b"p" + struct.pack("!i", 4 + len(token)) + token)
        key = b""
        while True:
            kind, length = struct.unpack("!ci", reader.read(5))
            content = reader.read(length - 4)
            if kind == b"K":
                key = content
            if kind == b"Z":
                break
        assert len(key) == 4 + 32


def test_direct_tls_needs_the_protocols_name(gateway, authority):
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    with (
        socket.create_connection(("127.0.0.1", gateway.port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secure,
    ):
        secure.sendall(startup(user="agent"))
        assert secure.recv(1) == b""
    context.set_alpn_protocols(["postgresql"])
    with (
        socket.create_connection(("127.0.0.1", gateway.port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secure,
    ):
        secure.sendall(startup(user="agent", database="shop"))
        assert secure.recv(9) == b"R" + struct.pack("!ii", 8, 3)


def test_health_and_metrics(gateway, connect):
    connect()
    base = f"http://127.0.0.1:{gateway.admin_port}"
    with urllib.request.urlopen(f"{base}/healthz") as answer:
        assert json.load(answer) == {"status": "ok", "problems": {}}
    with urllib.request.urlopen(f"{base}/metrics") as answer:
        text = answer.read().decode()
    for name in (
        "postgres_sessions",
        "postgres_actions_total",
        "postgres_refused_total",
        "attestation_lag_seconds",
        "evidence_size",
    ):
        assert f"\nsealgate_{name} " in text
