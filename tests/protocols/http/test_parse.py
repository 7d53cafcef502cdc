"""Requests with one meaning, and refusals for the others. Pure functions; bytes on the wire are tested with real clients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import LimitExceededError, ProtocolError
from gateway.messages import HttpRequest
from gateway.protocols.http.bodies import (
    find_kind,
    find_sensitive,
    find_shape,
    parse_json_path,
    read_body,
    read_form,
    read_media_type,
)
from gateway.protocols.http.events import Message, Request, Unreadable
from gateway.protocols.http.heads import MAX_HEAD_BYTES, check_fields, check_head, check_host, find_head_end, select_sent
from gateway.protocols.http.parse import parse_message, parse_request
from gateway.protocols.http.paths import find_operation, make_operation, read_target

HEAD = b"GET /a HTTP/1.1\r\nHost: a.test\r\nX: y\r\n\r\n"


def make_request(**changes):
    members = {
        "method": "GET",
        "scheme": "https",
        "host": "a.test",
        "port": 443,
        "target": "/a",
        "headers": (("host", "a.test"),),
    }
    return HttpRequest(**(members | changes))


def parse(**changes):
    return parse_request(make_request(**changes), max_parsed_bytes=1 << 20)


# --- heads


@given(st.integers(0, len(HEAD) - 1))
def test_the_end_of_a_head_is_found_however_it_arrives(cut):
    assert find_head_end(HEAD[:cut]) == -1
    assert find_head_end(HEAD + b"rest") == len(HEAD)


def test_a_head_without_end_is_refused():
    with pytest.raises(LimitExceededError):
        find_head_end(b"GET /a HTTP/1.1\r\nX: " + b"y" * MAX_HEAD_BYTES)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_of_heads_fail_otherwise(data):
    try:
        end = find_head_end(data)
        if end >= 0:
            check_head(data[:end])
    except ProtocolError:
        pass


def test_a_good_head_passes():
    check_head(HEAD)
    check_head(b"POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n")
    check_head(b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
    with pytest.raises(ProtocolError):
        check_head(b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", is_tunnel=True)


def test_hosts_are_compared_as_they_are_meant():
    check_host("A.Test", "a.test", 443, 443)
    check_host("a.test:443", "a.test", 443, 443)
    check_host("[::1]:8443", "::1", 8443, 443)
    for value in ("b.test", "a.test:80", "a.test:", "a.test, b.test", "", "a.test/x"):
        with pytest.raises(ProtocolError):
            check_host(value, "a.test", 443, 443)


def test_what_the_next_hop_or_an_agent_has_no_business_with_is_taken_away():
    fields = [
        ("accept", "*/*"), ("connection", "keep-alive"), ("proxy-authorization", "x"), ("te", "trailers"), ("te", "gzip"),
        ("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=x"), ("range", "bytes=0-1"), ("accept-encoding", "gzip"), (":path", "/"),
    ]  # fmt: skip
    assert select_sent(fields, keeps_upgrade=False) == (("accept", "*/*"), ("te", "trailers"))
    upgrade = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-extensions", "permessage-deflate")]
    assert select_sent(upgrade, keeps_upgrade=True) == (("connection", "Upgrade"), ("upgrade", "websocket"))


@pytest.mark.parametrize(
    "fields",
    [
        [("host", "a"), ("host", "a")],
        [("x-original-url", "/")],
        [("connection", "x-api-key")],
        [("x", "a\x01")],
        [("x", "y")] * 300,
    ],
)
def test_fields_with_two_meanings_are_refused(fields):
    with pytest.raises(ProtocolError):
        check_fields(fields)


# --- addresses


@given(st.text(alphabet="/.%2eEfF5cab;\\?&=+#~ é", max_size=30))
def test_a_canonical_path_is_its_own_canonical_form(text):
    try:
        target = read_target("/" + text)
    except ProtocolError:
        return
    sent = target.path + (f"?{target.query}" if target.query else "")
    again = read_target(sent)
    assert (again.path, again.query, again.segments, again.pairs) == (target.path, target.query, target.segments, target.pairs)
    assert ".." not in target.segments
    assert "//" not in target.path


def test_queries_have_one_meaning():
    target = read_target("/a?b=%41+c&b=2;admin=1&&d")
    assert target.pairs == (("b", "A c"), ("b", "2;admin=1"), ("d", ""))
    assert target.query == "b=A+c&b=2%3Badmin=1&d"
    for raw in ("/a?b=%ff", "/a?b=%zz", "/a?b=\x01", "/a?" + "&".join("x" for _ in range(2000)), "/" + "a" * 20_000):
        with pytest.raises(ProtocolError):
            read_target(raw)


OPERATIONS = [
    make_operation("list", ["GET"], "/ledger"),
    make_operation("show", ["GET"], "/ledger/{id}"),
    make_operation("latest", ["GET"], "/ledger/latest"),
    make_operation("post", ["POST"], "/ledger/{id}/entries", ["write"], ["regulated"]),
    make_operation("files", ["GET"], "/files/{*}"),
    make_operation("root", ["GET"], "/"),
]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/ledger", ("list", {})),
        ("HEAD", "/ledger", ("list", {})),
        ("GET", "/ledger/7", ("show", {"id": "7"})),
        ("GET", "/ledger/latest", ("latest", {})),
        ("POST", "/ledger/7/entries", ("post", {"id": "7"})),
        ("GET", "/files/a/b/c", ("files", {})),
        ("GET", "/files", ("files", {})),
        ("GET", "/", ("root", {})),
        ("POST", "/ledger", None),
        ("GET", "/Ledger", None),
        ("GET", "/ledger/7/8", None),
    ],
)
def test_operations_are_found_by_template(method, path, expected):
    found = find_operation(OPERATIONS, method, read_target(path).segments)
    assert (None if found is None else (found[0].id, found[1])) == expected


# --- bodies


@pytest.mark.parametrize(
    ("media_type", "kind"),
    [("application/json", "json"), ("application/problem+json", "json"), ("application/x-ndjson", "ndjson"), ("text/event-stream", "events"),
     ("application/x-www-form-urlencoded", "form"), ("multipart/form-data", "multipart"), ("application/grpc+proto", "grpc"),
     ("image/png", "binary"), ("image/svg+xml", "text"), ("application/zip", "binary"), ("application/octet-stream", "text"), ("", "text")],
)  # fmt: skip
def test_kinds_of_bodies(media_type, kind):
    assert find_kind(media_type) == kind


def test_media_types():
    assert read_media_type('Application/JSON; charset="UTF-8"') == ("application/json", "utf-8")
    assert read_media_type(None) == ("", "")
    with pytest.raises(ProtocolError):
        read_media_type("nonsense")


def test_bodies_that_call_themselves_something_else():
    assert read_body(b'{"a": 1}', None, max_parsed_bytes=100).value == {"a": 1}
    assert read_body(b"plain", "text/plain", max_parsed_bytes=100).value == "plain"
    assert read_body(b"\xff\xfe", "application/octet-stream", max_parsed_bytes=100).value is None
    assert read_body(b"", "application/json", max_parsed_bytes=100).kind == "none"
    with pytest.raises(ProtocolError):
        read_body(b'{"a": 1}', "application/json; charset=utf-16", max_parsed_bytes=100)
    with pytest.raises(LimitExceededError):
        read_body(b'{"a": 1}', "application/json", max_parsed_bytes=4)


def test_forms():
    assert read_form(b"a=1&b=x+y&a=2&c&d=%26") == {"a": ["1", "2"], "b": "x y", "c": "", "d": "&"}
    for form in (b"a=1;b=2", b"a=%ff", b"_method=DELETE"):
        with pytest.raises(ProtocolError):
            read_form(form)


def test_shapes_and_sensitive_members():
    value = {"rows": [{"SSN": "x", "n": {"card-number": 1}}, {"b": 2}], "z": None}
    assert find_shape(value) == ("rows", "rows[].SSN", "rows[].b", "rows[].n", "rows[].n.card-number", "z")
    assert find_sensitive(value, ("ssn", "cardNumber", "email", "$.rows[*].b", "$.rows[7].b")) == (
        "$.rows[*].b",
        "cardNumber",
        "ssn",
    )
    assert parse_json_path("$.a[0]['b c'][*]") == ("a", 0, "b c", None)
    with pytest.raises(ValueError, match="begins"):
        parse_json_path("a")


# --- events


def test_a_request_becomes_an_event():
    event = parse(target="/a/./b?x=1", headers=(("host", "a.test"), ("accept", "*/*")))
    assert isinstance(event, Request)
    assert (event.path, event.segments, event.query, event.headers) == (
        "/a/b",
        ("a", "b"),
        "x=1",
        (("host", "a.test"), ("accept", "*/*")),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "TRACE"},
        {"headers": (("host", "b.test"),)},
        {"headers": (("host", "a.test"), ("upgrade", "SPDY/3.1"))},
        {"method": "POST", "headers": (("host", "a.test"), ("upgrade", "websocket"))},
        {"target": "/a;b"},
        {"method": "POST", "body": b"{", "headers": (("host", "a.test"), ("content-type", "application/json"))},
    ],
)
def test_what_cannot_be_understood_is_an_event_that_says_why(changes):
    event = parse(**changes)
    assert isinstance(event, Unreadable)
    assert event.reason
    assert event.fix


def test_websocket_messages():
    request = parse()
    assert isinstance(request, Request)
    given_text = parse_message(request, b"hello", is_text=True, max_parsed_bytes=100)
    assert isinstance(given_text, Message)
    assert given_text.value == "hello"
    assert parse_message(request, b'{"a": 1}', is_text=True, max_parsed_bytes=100).value == {"a": 1}
    assert parse_message(request, b"\x00\xff", is_text=False, max_parsed_bytes=100).kind == "binary"
    for content in (b'{"a": 1, "a": 2}', b"\xff", b"{", b"x" * 200):
        assert isinstance(parse_message(request, content, is_text=True, max_parsed_bytes=100), Unreadable)
