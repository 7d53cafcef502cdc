"""The source's half of an scp transfer: cut anywhere, no path that leads elsewhere, bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProtocolError
from gateway.protocols.ssh.scp import MAX_DEPTH, MAX_LINE_BYTES, Announcement, Chunk, Control, ScpSource

STREAM = b"T1 0 2 0\nD0755 0 tree\nC0644 5 one\nhello\0C0600 0 empty\n\0E\n\2lost\n"


def read(stream, sizes=(1_000,)):
    source, parts, index = ScpSource(), [], 0
    while stream:
        size = sizes[index % len(sizes)]
        index += 1
        source.receive(stream[:size])
        stream = stream[size:]
        while (part := source.next()) is not None:
            parts.append(part)
    return parts


def join(parts):
    """The same parts with neighbouring chunks of one file joined."""
    joined = []
    for part in parts:
        if isinstance(part, Chunk) and joined and isinstance(joined[-1], Chunk) and not joined[-1].is_last:
            joined[-1] = Chunk(joined[-1].data + part.data, part.is_last)
        else:
            joined.append(part)
    return joined


def test_a_tree():
    assert join(read(STREAM)) == [
        Control(b"T1 0 2 0\n"),
        Announcement("folder", b"D0755 0 tree\n", "tree", 0o755, 0),
        Announcement("file", b"C0644 5 one\n", "tree/one", 0o644, 5),
        Chunk(b"hello", is_last=True),
        Control(b"\0"),
        Announcement("file", b"C0600 0 empty\n", "tree/empty", 0o600, 0),
        Control(b"\0"),
        Control(b"E\n"),
        Control(b"\2lost\n"),
    ]


@given(st.lists(st.integers(1, 7), min_size=1))
def test_cuts_change_nothing(sizes):
    assert join(read(STREAM, sizes)) == join(read(STREAM))


@pytest.mark.parametrize(
    "line",
    [
        b"C0644 1 ../x\n",
        b"C0644 1 a/b\n",
        b"C0644 1 ..\n",
        b"D0755 0 .\n",
        b"C0644 x y\n",
        b"C0644 1 \xff\n",
        b"E\n",
        b"X\n",
        b"C0644 1 a\0b\n",
        b"C9999 1 a\n",
    ],
)
def test_what_is_no_announcement_ends_the_stream_for_good(line):
    source = ScpSource()
    source.receive(line)
    for _ in range(2):
        with pytest.raises(ProtocolError):
            source.next()
    with pytest.raises(ProtocolError):
        source.receive(b"C0644 1 a\n")


def test_long_lines_and_deep_folders_are_refused():
    for stream in (b"C0644 1 " + b"a" * MAX_LINE_BYTES, b"D0755 0 a\n" * (MAX_DEPTH + 1)):
        with pytest.raises(ProtocolError):
            read(stream)
