"""sftp packets: cut anywhere, bounded, and in error for good once they are."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import LimitExceededError, ProtocolError
from gateway.protocols.ssh import sftp
from gateway.protocols.ssh.sftp import SftpReader, frame, pack_string, parse_request


def packet(kind, number, *parts):
    return struct.pack(">BI", kind, number) + b"".join(parts)


def u32(value):
    return struct.pack(">I", value)


OPEN = packet(sftp.OPEN, 7, pack_string(b"/srv/x"), u32(0x1A), u32(0x04), u32(0o644))
READ = packet(sftp.READ, 8, pack_string(b"h1"), struct.pack(">QI", 65_536, 32_768))


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=10), st.lists(st.integers(1, 9), min_size=1))
def test_packets_come_out_however_the_stream_is_cut(packets, sizes):
    stream, reader, found, index = b"".join(map(frame, packets)), SftpReader(), [], 0
    while stream:
        size = sizes[index % len(sizes)]
        index += 1
        reader.receive(stream[:size])
        stream = stream[size:]
        found += sftp.iterate(reader)
    assert found == packets
    assert reader.held_bytes == 0


@pytest.mark.parametrize("length", [0, sftp.MAX_PACKET_BYTES + 1, 0xFFFFFFFF])
def test_impossible_lengths_end_the_stream_for_good(length):
    reader = SftpReader()
    reader.receive(u32(length) + b"x" * 8)
    for _ in range(2):
        with pytest.raises(ProtocolError):
            reader.next()
    with pytest.raises(ProtocolError):
        reader.receive(frame(OPEN))


def test_an_open_says_how():
    request = parse_request(OPEN)
    assert (request.id, request.event.operation, request.event.path) == (7, "open", "/srv/x")
    assert request.event.flags == ("write", "create", "truncate")
    assert (request.event.attributes, request.event.mode) == (("permissions",), 0o644)


def test_reads_and_writes_name_their_span():
    request = parse_request(READ)
    assert (request.handle, request.offset, request.length, request.event) == (b"h1", 65_536, 32_768, None)
    write = packet(sftp.WRITE, 9, pack_string(b"h1"), struct.pack(">Q", 5), pack_string(b"data"))
    assert parse_request(write).length == 4
    assert sftp.read_written(write) == b"data"


@pytest.mark.parametrize(
    ("kind", "parts", "operation", "paths"),
    [
        (sftp.REMOVE, [pack_string(b"/a")], "remove", ("/a", None)),
        (sftp.RENAME, [pack_string(b"/a"), pack_string(b"/b")], "rename", ("/a", "/b")),
        (sftp.SYMLINK, [pack_string(b"/a"), pack_string(b"/b")], "symlink", ("/a", "/b")),
        (sftp.MKDIR, [pack_string(b"/a"), u32(0)], "mkdir", ("/a", None)),
        (sftp.OPENDIR, [pack_string(b"/a")], "list", ("/a", None)),
        (
            sftp.EXTENDED,
            [pack_string(b"posix-rename@openssh.com"), pack_string(b"/a"), pack_string(b"/b")],
            "rename",
            ("/a", "/b"),
        ),
        (sftp.EXTENDED, [pack_string(b"hardlink@openssh.com"), pack_string(b"/a"), pack_string(b"/b")], "link", ("/a", "/b")),
        (sftp.EXTENDED, [pack_string(b"copy-data"), pack_string(b"/a")], "unknown", ("copy-data", None)),
        (99, [b""], "unknown", ("type 99", None)),
    ],
)
def test_operations_on_paths(kind, parts, operation, paths):
    event = parse_request(packet(kind, 1, *parts)).event
    assert (event.operation, (event.path, event.other_path)) == (operation, paths)


@pytest.mark.parametrize(
    "broken",
    [
        OPEN[:10],
        OPEN[:3],
        packet(sftp.REMOVE, 1, pack_string(b"\xff")),
        packet(sftp.REMOVE, 1, pack_string(b"a\0b")),
        packet(sftp.OPEN, 1, pack_string(b"/a"), u32(0), u32(0)),
        packet(sftp.OPEN, 1, pack_string(b"/a"), u32(0x41), u32(0)),
        packet(sftp.SETSTAT, 1, pack_string(b"/a"), u32(0x10)),
    ],
)
def test_misshapen_requests_are_refused(broken):
    with pytest.raises(ProtocolError):
        parse_request(broken)


def test_long_names_are_refused():
    with pytest.raises(LimitExceededError):
        parse_request(packet(sftp.REMOVE, 1, pack_string(b"a" * (sftp.MAX_PATH_BYTES + 1))))


@given(st.binary(min_size=1, max_size=60))
def test_no_packet_raises_anything_else(data):
    with contextlib.suppress(ProtocolError):
        parse_request(data)


def test_unknown_extensions_are_not_announced():
    greeting = (
        bytes([sftp.VERSION])
        + u32(3)
        + pack_string(b"fsync@openssh.com")
        + pack_string(b"1")
        + pack_string(b"copy-data")
        + pack_string(b"1")
    )
    assert sftp.keep_extensions(greeting) == bytes([sftp.VERSION]) + u32(3) + pack_string(b"fsync@openssh.com") + pack_string(
        b"1"
    )
    with pytest.raises(ProtocolError):
        sftp.keep_extensions(bytes([sftp.VERSION]) + u32(6))


def test_the_limit_for_reads_leaves_room():
    reply = packet(sftp.EXTENDED_REPLY, 4, struct.pack(">QQQQ", 262_144, 261_120, 261_120, 0))
    assert sftp.shrink_read_limit(reply)[13:21] == struct.pack(">Q", 261_120 - sftp.READ_AHEAD_BYTES)
