import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealgate_native.postgres import Session, encode_message, encode_query

from gateway.errors import ProtocolError
from gateway.protocols.postgres.events import (
    ActionEnd,
    Execute,
    Parameter,
    Parse,
    Query,
    Ready,
    RowDescription,
    ServerError,
    Terminate,
    Undecodable,
)
from gateway.protocols.postgres.parse import parse_client_event, parse_server_event, read_binary


def make_kernel():
    return Session(
        max_message_bytes=1 << 20,
        max_statements=10,
        max_portals=10,
        max_pending=100,
        error_detectors=None,
        record_limit_bytes=1000,
    )


def string(text):
    return text.encode() + b"\0"


def extended(sql, *values):
    """Parse, Bind, Execute and Sync of one statement with text parameters."""
    count = len(values).to_bytes(2, "big")
    bound = b"".join(len(value.encode()).to_bytes(4, "big") + value.encode() for value in values)
    return (
        encode_message("P", string("") + string(sql) + b"\0\0")
        + encode_message("B", string("") + string("") + b"\0\0" + count + bound + b"\0\0")
        + encode_message("E", string("") + b"\0\0\0\0")
        + encode_message("S", b"")
    )


def test_a_simple_query():
    kernel = make_kernel()
    kernel.receive_client(encode_query("select 1"))
    event = parse_client_event(kernel.next_client_event())
    assert event == Query(event.id, "select 1")


def test_an_extended_query_with_a_parameter():
    kernel = make_kernel()
    kernel.receive_client(extended("select $1", "7"))
    first = parse_client_event(kernel.next_client_event())
    assert first == Parse(first.id, "", "select $1", ())
    kernel.forward(first.id, 1)
    second = parse_client_event(kernel.next_client_event())
    assert isinstance(second, Execute)
    assert (second.sql, second.params, second.needs_describe) == ("select $1", (Parameter(0, 0, text="7"),), True)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_any_chunking_gives_the_same_events(size):
    data = encode_query("select 'ä'") + encode_message("X", b"")
    kernel, events = make_kernel(), []
    for start in range(0, len(data), size):
        kernel.receive_client(data[start : start + size])
        while (report := kernel.next_client_event()) is not None:
            event = parse_client_event(report)
            events.append(event)
            if isinstance(event, Query):
                kernel.forward(event.id, 1)
    assert [type(event) for event in events] == [Query, Terminate]
    assert events[0].sql == "select 'ä'"


def test_text_that_is_not_utf8_is_refused_and_the_kernel_says_why():
    kernel = make_kernel()
    kernel.receive_client(encode_message("Q", b"select '\xff'\0"))
    event = parse_client_event(kernel.next_client_event())
    assert isinstance(event, Undecodable)
    assert event.reason


def test_rows_errors_and_ready_of_the_server():
    kernel = make_kernel()
    kernel.receive_client(encode_query("select 1"))
    kernel.forward(kernel.next_client_event()["id"], 5)
    column = string("n") + (16400).to_bytes(4, "big") + (2).to_bytes(2, "big") + (23).to_bytes(4, "big")
    column += (4).to_bytes(2, "big") + b"\xff\xff\xff\xff" + b"\0\0"
    kernel.receive_server(encode_message("T", b"\0\1" + column))
    event = parse_server_event(kernel.next_server_event())
    assert isinstance(event, RowDescription)
    assert (event.action, event.index, event.formats) == (5, 0, (0,))
    assert (event.fields[0].name, event.fields[0].table_oid, event.fields[0].attnum, event.fields[0].type_oid) == (
        "n",
        16400,
        2,
        23,
    )
    kernel.resolve_rows(event.id, [], None, bytes(32))
    kernel.receive_server(encode_message("E", b"SERROR\0VERROR\0C22012\0Mdivision by zero\0\0") + encode_message("Z", b"I"))
    kinds = []
    while (report := kernel.next_server_event()) is not None:
        kinds.append(parse_server_event(report))
    error = next(item for item in kinds if isinstance(item, ServerError))
    assert (error.code, error.action, error.is_fatal) == ("22012", 5, False)
    assert kinds[-2:] == [ActionEnd(5, "failed"), Ready("I")]


@pytest.mark.parametrize("report", [{}, {"kind": "shrug"}, {"kind": "query"}, {"kind": "execute", "id": 1}, {"kind": 7}])
def test_reports_that_are_not_known_or_not_complete_are_errors(report):
    with pytest.raises(ProtocolError):
        parse_client_event(report)
    with pytest.raises(ProtocolError):
        parse_server_event(report)


@pytest.mark.parametrize(
    ("oid", "data", "text"),
    [
        (16, b"\1", "t"),
        (16, b"\2", None),
        (20, (-5).to_bytes(8, "big", signed=True), "-5"),
        (21, b"\0\7", "7"),
        (23, b"\0\0\0\7", "7"),
        (23, b"\7", None),
        (25, "ä".encode(), "ä"),
        (25, b"\xff", None),
        (1043, b"x", "x"),
        (2950, bytes(range(16)), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        (1700, b"\0\1", None),
        (0, b"\0\1", None),
    ],
)
def test_binary_parameters_are_read_where_their_type_is_known(oid, data, text):
    assert read_binary(oid, data) == text


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_the_same_number_has_one_form_in_either_format(number):
    assert read_binary(20, number.to_bytes(8, "big", signed=True)) == str(number)


def test_parameters_for_the_input_document():
    assert Parameter(23, 1, text="7", hex=None).as_value() == "7"
    assert Parameter(1700, 1, hex="0001").as_value() == {"type_oid": 1700, "hex": "0001"}
    assert Parameter(0, 0).as_value() is None
    assert Parameter(0, 0).is_null
