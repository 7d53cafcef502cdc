"""Requests that two readers could understand differently, and clients that do what no client does. None of it reaches the service."""

import socket
import struct

import pytest

from gateway.testing.waiting import wait_until

GET = "GET /accounts HTTP/1.1\r\nHost: ledger.bank.test\r\n"

SMUGGLING = {
    "length and coding": "POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": "POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "two equal lengths": "POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "length with sign": "POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nContent-Length: +4\r\n\r\nabcd",
    "length in hexadecimal": "POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nContent-Length: 0x4\r\n\r\nabcd",
    "coding of another name": "POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding twice": "POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip and chunked": "POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding in HTTP/1.0": "POST /echo HTTP/1.0\r\nHost: ledger.bank.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare LF": "GET /accounts HTTP/1.1\nHost: ledger.bank.test\n\n",
    "one bare LF": "GET /accounts HTTP/1.1\r\nHost: ledger.bank.test\nX: y\r\n\r\n",
    "lone CR": "GET /accounts HTTP/1.1\r\nHost: ledger.bank.test\rX: y\r\n\r\n",
    "folded field": GET + "X: a\r\n b\r\n\r\n",
    "field with a blank before the colon": GET + "Content-Length : 4\r\n\r\n",
    "field without a name": GET + ": x\r\n\r\n",
    "NUL in a field": GET + "X: a\0b\r\n\r\n",
    "tab in the request line": "GET\t/accounts HTTP/1.1\r\nHost: ledger.bank.test\r\n\r\n",
    "two blanks in the request line": "GET  /accounts HTTP/1.1\r\nHost: ledger.bank.test\r\n\r\n",
    "HTTP/0.9": "GET /accounts\r\n\r\n",
    "HTTP/3.0": "GET /accounts HTTP/3.0\r\nHost: ledger.bank.test\r\n\r\n",
    "no host": "GET /accounts HTTP/1.1\r\n\r\n",
    "two hosts": "GET /accounts HTTP/1.1\r\nHost: ledger.bank.test\r\nHost: other.test\r\n\r\n",
    "another host": "GET /accounts HTTP/1.1\r\nHost: other.test\r\n\r\n",
    "another port": "GET /accounts HTTP/1.1\r\nHost: ledger.bank.test:444\r\n\r\n",
    "host with user": "GET /accounts HTTP/1.1\r\nHost: me@ledger.bank.test\r\n\r\n",
    "10,000 fields": GET + "".join(f"X-{n}: y\r\n" for n in range(10_000)) + "\r\n",
    "a field of 100 kB": GET + f"X: {'a' * 100_000}\r\n\r\n",
    "declared trailer": "POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "trailer": "POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n",
    "connection names a field": GET + "Connection: close, authorization\r\n\r\n",
    "method override": GET + "X-HTTP-Method-Override: DELETE\r\n\r\n",
    "path override": GET + "X-Original-URL: /admin\r\n\r\n",
    "upgrade to another protocol": GET + "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
    "TRACE": "TRACE /accounts HTTP/1.1\r\nHost: ledger.bank.test\r\n\r\n",
    "made-up method": "FROB /accounts HTTP/1.1\r\nHost: ledger.bank.test\r\n\r\n",
    "CONNECT inside a tunnel": "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n",
    "absolute address of another host": "GET https://other.test/accounts HTTP/1.1\r\nHost: ledger.bank.test\r\n\r\n",
    "asterisk": "OPTIONS * HTTP/1.1\r\nHost: ledger.bank.test\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_ambiguous_requests_are_refused(open_tunnel, service, name):
    before = len(service.record.requests)
    tunnel = open_tunnel()
    tunnel.send(SMUGGLING[name].encode("latin-1"))
    status, head, body = tunnel.read_response()
    assert status in {400, 403, 413}, (status, head, body)
    assert b"decision_id" in body
    assert len(service.record.requests) == before


def test_a_smuggled_second_request_is_judged_like_any_other(open_tunnel, service):
    tunnel = open_tunnel()
    tunnel.send(GET.encode() + b"\r\n" + b"DELETE /accounts/2 HTTP/1.1\r\nHost: ledger.bank.test\r\n\r\n")
    assert tunnel.read_response()[0] == 200
    assert tunnel.read_response()[0] == 403
    assert not service.find("/accounts/2", "DELETE")


PATHS = {
    "//accounts": "/accounts",
    "/./accounts": "/accounts",
    "/accounts/../accounts": "/accounts",
    "/%61ccounts": "/accounts",
    "/x/%2e%2e/accounts": "/accounts",
    "/%2e/accounts": "/accounts",
    "/accounts?a=%7e%2f&b": "/accounts",
}


@pytest.mark.parametrize("path", PATHS)
def test_paths_are_sent_as_they_were_judged(open_tunnel, service, path):
    tunnel = open_tunnel()
    tunnel.send(f"GET {path} HTTP/1.1\r\nHost: ledger.bank.test\r\n\r\n".encode())
    assert tunnel.read_response()[0] == 200
    assert service.record.requests[-1].path == PATHS[path]


@pytest.mark.parametrize(
    "path",
    ["/accounts\\x", "/accounts%5cx", "/accounts%2fx", "/accounts;x", "/accounts%3bx", "/%252e%252e/accounts", "/accounts%00", "/%zz",
     "/accounts#x", "accounts", "/accounts%0d%0aX:y", "/\xe4", "/%ff", "/accounts%25%32%66"],
)  # fmt: skip
def test_paths_that_servers_read_differently_are_refused(open_tunnel, service, path):
    before = len(service.record.requests)
    tunnel = open_tunnel()
    tunnel.send(f"GET {path} HTTP/1.1\r\nHost: ledger.bank.test\r\n\r\n".encode("latin-1"))
    status, _, body = tunnel.read_response()
    assert status == 400, body
    assert len(service.record.requests) == before


@pytest.mark.parametrize("path", ["/ACCOUNTS/1", "/Accounts/1/"])
def test_another_letter_case_is_another_operation(open_tunnel, path):
    tunnel = open_tunnel()
    tunnel.send(f"GET {path} HTTP/1.1\r\nHost: ledger.bank.test\r\n\r\n".encode())
    status, _, body = tunnel.read_response()
    assert status == 403
    assert b"http.operations.undeclared" in body


JSON = {
    "name twice": b'{"amount": 1, "amount": 1000000}',
    "NaN": b'{"amount": NaN}',
    "too large a number": b'{"amount": 1' + b"0" * 400 + b"}",
    "1e999": b'{"amount": 1e999}',
    "too deep": b"[" * 5000 + b"]" * 5000,
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "half a character": b'{"a": "\\ud800"}',
    "cut off": b'{"a": ',
    "2 MB": b'{"a": "' + b"x" * 2_000_000 + b'"}',
}


@pytest.mark.parametrize("name", JSON)
def test_json_that_readers_understand_differently_is_refused(open_tunnel, service, name):
    before = len(service.record.requests)
    tunnel = open_tunnel()
    head = f"POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nContent-Type: application/json\r\nContent-Length: {len(JSON[name])}\r\n\r\n"
    tunnel.send(head.encode() + JSON[name])
    status, _, body = tunnel.read_response()
    assert status in {400, 413}, body
    assert len(service.record.requests) == before


def test_a_body_that_is_declared_too_large_is_refused_at_once(open_tunnel):
    tunnel = open_tunnel()
    tunnel.send(b"POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nExpect: 100-continue\r\nContent-Length: 1000000000\r\n\r\n")
    assert tunnel.read_response()[0] == 413


def test_a_chunked_body_that_grows_too_large_is_refused(open_tunnel, service):
    before = len(service.record.requests)
    tunnel = open_tunnel()
    tunnel.send(b"POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    try:
        for _ in range(40):
            tunnel.send(chunk)
    except OSError:
        pass  # closed while we still sent
    assert len(service.record.requests) == before


def test_a_zip_bomb_is_refused(open_tunnel, service):
    import gzip  # noqa: PLC0415 - only here

    before = len(service.record.requests)
    bomb = gzip.compress(b"\0" * 100_000_000)
    tunnel = open_tunnel()
    head = f"POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    tunnel.send(head.encode() + bomb)
    assert tunnel.read_response()[0] == 413
    assert len(service.record.requests) == before


@pytest.mark.parametrize("coding", ["compress", "gzip, gzip", "br, gzip", "made-up"])
def test_codings_that_cannot_be_undone_are_refused(open_tunnel, coding):
    tunnel = open_tunnel()
    tunnel.send(
        f"POST /echo HTTP/1.1\r\nHost: ledger.bank.test\r\nContent-Encoding: {coding}\r\nContent-Length: 1\r\n\r\nx".encode()
    )
    assert tunnel.read_response()[0] == 400


@pytest.mark.parametrize("first", [b"SSH-2.0-OpenSSH_9.2\r\n", struct.pack(">ii", 8, 80877103), b"\x00\x01\x02" * 20])
def test_what_is_no_http_inside_a_tunnel_reaches_nobody(open_tunnel, service, first):
    tunnel = open_tunnel(tls=False)
    tunnel.send(first)
    assert tunnel.read_all() == b""


def test_another_name_in_the_tls_handshake_is_refused(open_tunnel):
    with pytest.raises(OSError):  # noqa: PT011 - which error depends on the library
        open_tunnel(name="other.test")


def test_a_half_closed_tunnel_ends(open_tunnel):
    tunnel = open_tunnel(tls=False)
    tunnel.socket.shutdown(socket.SHUT_WR)
    assert tunnel.read_all() == b""


def test_plain_http_inside_a_tunnel_is_judged(open_tunnel):
    tunnel = open_tunnel(tls=False, place="ledger.bank.test:80")
    tunnel.send(b"GET /accounts HTTP/1.1\r\nHost: ledger.bank.test\r\n\r\n")
    status, _, body = tunnel.read_response()
    assert status == 200
    assert b"45-6789" not in body


def test_garbage_on_the_proxy_port_is_refused(gateway):
    for garbage in (b"\x16\x03\x01 not tls", b"\0" * 100, b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", gateway.http_port), timeout=10) as client:
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := client.recv(65536):
                answer += piece
            assert b" 200 " not in answer.split(b"\r\n")[0]


def test_every_refusal_has_its_record(gateway, open_tunnel):
    tunnel = open_tunnel()
    tunnel.send(SMUGGLING["two lengths"].encode())
    body = tunnel.read_response()[2]
    decision_id = body.split(b'"decision_id":"')[1].split(b'"')[0].decode()
    wait_until(lambda: any(record.get("decision_id") == decision_id for record in gateway.read_records()), timeout_s=20)
