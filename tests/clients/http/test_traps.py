"""The traps of mitmproxy as a library that were measured before it was chosen, one row each. Each would pass something, or hang."""

import http.server
import socket
import ssl
import threading
import time

import pytest

from addons.http import HttpAddon
from gateway.serve.http.exchange import Exchange
from gateway.testing.waiting import wait_until

GET = b"GET /accounts HTTP/1.1\r\nHost: ledger.bank.test\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\n"


class RawService:
    """Answers each connection with given bytes, one piece at a time, then closes."""

    def __init__(self, authority, pieces):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("raw", ["ledger.bank.test", "127.0.0.1"]))
        self.connections = 0
        self.received = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._context = context
        self._pieces = pieces
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(accepted,), daemon=True).start()

    def _answer(self, accepted):
        try:
            with self._context.wrap_socket(accepted, server_side=True) as client:
                while b"\r\n\r\n" not in self.received:
                    data = client.recv(65536)
                    if not data:
                        return
                    self.received += data
                for piece in self._pieces:
                    client.sendall(piece)
        except OSError:
            return

    def stop(self):
        self._listening.close()


@pytest.fixture
def open_raw(authority, make_gateway, make_connection, open_tunnel, tmp_path):
    """A tunnel to a service that answers with given bytes."""
    opened, managers = [], []

    def make(*pieces, **changes):
        service = RawService(authority, pieces)
        opened.append(service)
        target = {"host": "127.0.0.1", "port": service.port, "tls": {"ca_file": str(authority.ca_file)}}
        manager = make_gateway(tmp_path / f"raw{len(opened)}", connections=[make_connection(target=target, **changes)])
        running = manager.__enter__()
        managers.append(manager)
        return open_tunnel(running=running), service, running

    yield make
    for manager in managers:
        manager.__exit__(None, None, None)
    for service in opened:
        service.stop()


@pytest.mark.parametrize("hook", ["begin", "judge", "answer", "deliver"])
def test_a_hook_that_raises_lets_nothing_pass(open_tunnel, gateway, service, monkeypatch, hook):
    """mitmproxy logs what an addon raises and goes on; the wrapper refuses, and leaves a record."""
    before = len(service.record.requests)

    async def fail(*_, **__):
        raise ZeroDivisionError("a fault of the gateway")

    monkeypatch.setattr(Exchange, hook, fail)
    tunnel = open_tunnel()
    tunnel.send(GET)
    status, _, body = tunnel.read_response()
    assert status == 403
    assert b"gateway.fault" in body
    assert b"Ann" not in body
    if hook in {"begin", "judge"}:
        assert len(service.record.requests) == before
    monkeypatch.undo()
    decision_id = body.split(b'"decision_id":"')[1].split(b'"')[0].decode()
    wait_until(lambda: any(record.get("decision_id") == decision_id for record in gateway.read_records()))


def test_even_a_system_exit_lets_nothing_pass(open_tunnel, service, monkeypatch):
    before = len(service.record.requests)

    async def leave(*_, **__):
        raise SystemExit(3)

    monkeypatch.setattr(HttpAddon, "on_request", leave)
    tunnel = open_tunnel()
    tunnel.send(GET)
    assert tunnel.read_response()[0] == 403
    assert len(service.record.requests) == before


def test_nothing_is_dialled_before_it_is_allowed(open_raw):
    tunnel, service, _ = open_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert service.connections == 0
    tunnel.send(b"DELETE /accounts/1 HTTP/1.1\r\nHost: ledger.bank.test\r\n\r\n")
    assert tunnel.read_response()[0] == 403
    assert service.connections == 0
    tunnel.send(GET)
    assert tunnel.read_response()[0] == 200
    assert service.connections == 1


def test_trailers_of_a_service_do_not_hang(open_raw):
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n"
    tunnel, _, _ = open_raw(answer)
    tunnel.send(GET)
    assert tunnel.read_response()[0] == 502


ANSWERS = {
    "length and coding": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
    "no HTTP": b"hello there, nice to meet you\r\n\r\n",
    "closes at once": b"",
    "unknown coding": b"HTTP/1.1 200 OK\r\nContent-Encoding: made-up\r\nContent-Length: 2\r\n\r\nhi",
    "broken gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi",
    "asks for proxy credentials": b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
    "switches protocols unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n",
    "breaks off in its body": b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"ssn": "123-45-6789"',
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_cannot_be_read_are_not_passed_on(open_raw, name):
    tunnel, _, running = open_raw(*([ANSWERS[name]] if ANSWERS[name] else []))
    tunnel.send(GET)
    status, _, body = tunnel.read_response()
    assert status == 502, (status, body)
    assert b"45-6789" not in body
    running.stop()


def test_an_event_stream_is_live_and_not_gathered(open_raw):
    gate = threading.Event()

    class Pieces:
        def __iter__(self):
            yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n"
            gate.wait(20)
            yield b"data: two\n\n"

    tunnel, service, _ = open_raw()
    service._pieces = Pieces()
    tunnel.send(GET)
    first = tunnel.read_until(b"one\n\n")
    assert b"data: one" in first
    assert b"chunked" in first.lower()
    gate.set()
    assert b"data: two" in tunnel.read_until(b"two\n\n")


def test_a_stream_that_must_be_cut_never_looks_whole(open_raw):
    """A masker that cannot go on ends the connection without the last chunk, so that no client takes the part for the whole."""
    event = b"data: " + b"x" * 1_200_000
    tunnel, _, running = open_raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n", event)
    tunnel.send(GET)
    everything = tunnel.read_all()
    assert b"data: one" in everything
    assert not everything.endswith(b"0\r\n\r\n")
    wait_until(lambda: any(record["type"] == "outcome" for record in running.read_records()))
    outcome = next(record for record in running.read_records() if record["type"] == "outcome")
    assert outcome["status"] == "failed"


def test_a_slow_hook_delays_nobody_else(open_tunnel, monkeypatch):
    import asyncio  # noqa: PLC0415 - only here

    judge = Exchange.judge
    gate = threading.Event()

    async def wait(self, body):
        if self.request is None and self._head.target == "/slow":
            await asyncio.to_thread(gate.wait, 20)
        return await judge(self, body)

    monkeypatch.setattr(Exchange, "judge", wait)
    slow, quick = open_tunnel(), open_tunnel()
    slow.send(GET.replace(b"/accounts", b"/slow"))
    quick.send(GET)
    assert quick.read_response()[0] == 200
    gate.set()
    assert slow.read_response()[0] == 404


def test_a_token_that_expires_inside_a_tunnel_stops_it(open_tunnel, mint):
    tunnel = open_tunnel(token=mint(ttl_s=3))
    tunnel.send(GET)
    assert tunnel.read_response()[0] == 200
    deadline = time.monotonic() + 15
    status = 200
    while status == 200 and time.monotonic() < deadline:
        tunnel.send(GET)
        status, head, _ = tunnel.read_response()
    assert status == 407
    assert "proxy-authenticate" in head.lower()


def test_a_token_that_expires_after_the_head_came_is_asked_for_anew(open_tunnel, mint, monkeypatch):
    import asyncio  # noqa: PLC0415 - only here

    judge = Exchange.judge

    async def wait(self, body):
        await asyncio.to_thread(wait_until, lambda: time.time_ns() >= self.subject.expires_ns)
        return await judge(self, body)

    monkeypatch.setattr(Exchange, "judge", wait)
    tunnel = open_tunnel(token=mint(ttl_s=3))
    tunnel.send(GET)
    status, head, body = tunnel.read_response()
    assert status == 407
    assert "proxy-authenticate" in head.lower()
    assert b"token of this session has expired" in body


def test_a_large_upload_is_refused_while_it_comes(open_tunnel):
    tunnel = open_tunnel()
    tunnel.send(POST + b"Content-Length: 999999999\r\n\r\n" + b"x" * 100_000)
    assert tunnel.read_response()[0] == 413


def test_continue_is_answered_only_to_what_may_go_on(open_tunnel):
    tunnel = open_tunnel()
    tunnel.send(POST + b"Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert b" 100 " in tunnel.read_until(b"\r\n\r\n")
    tunnel.send(b"{}")
    assert tunnel.read_response()[0] == 200


def test_a_service_with_a_certificate_of_another_name_is_not_spoken_to(
    authority, make_gateway, make_connection, open_tunnel, tmp_path
):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            raise AssertionError("it was spoken to")

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("false", ["other.test"]))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    target = {"host": "127.0.0.1", "port": server.server_address[1], "tls": {"ca_file": str(authority.ca_file)}}
    with make_gateway(tmp_path / "gateway", connections=[make_connection(target=target)]) as running:
        tunnel = open_tunnel(running=running)
        tunnel.send(GET)
        assert tunnel.read_response()[0] == 502
    server.shutdown()
    server.server_close()


def test_a_service_that_is_not_there_is_told_in_the_gateways_words(make_gateway, make_connection, open_tunnel, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with make_gateway(tmp_path / "gateway", connections=[make_connection(target={"host": "127.0.0.1", "port": port})]) as running:
        tunnel = open_tunnel(running=running)
        tunnel.send(GET)
        status, head, body = tunnel.read_response()
    assert status == 502
    assert b"target.unavailable" in body
    assert "mitmproxy" not in head
