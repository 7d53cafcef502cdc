"""Asciicast version 3, and which typed lines may be kept."""

import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.ssh.recording import HIDDEN_KEYS, CastWriter, EchoWatch


def test_a_recording_is_asciicast_3():
    writer = CastWriter(columns=80, rows=24, started_ns=1_000_000_000, details={"kind": "shell"})
    lines = (
        writer.begin()
        + writer.write("o", b"hi", 1_500_000_000)
        + writer.resize(100, 30, 1_500_000_000)
        + writer.exit("0", 2_000_000_000)
    )
    header, *events = map(json.loads, lines.splitlines())
    assert header == {"version": 3, "term": {"cols": 80, "rows": 24}, "timestamp": 1, "sealgate": {"kind": "shell"}}
    assert events == [[0.5, "o", "hi"], [0.0, "r", "100x30"], [0.5, "x", "0"]]


@given(st.text(), st.lists(st.integers(1, 3), min_size=1))
def test_characters_survive_any_cut(text, sizes):
    writer, data, lines, index = CastWriter(columns=1, rows=1, started_ns=0, details={}), text.encode(errors="replace"), b"", 0
    while data:
        size = sizes[index % len(sizes)]
        index += 1
        lines += writer.write("o", data[:size], 0)
        data = data[size:]
    lines += writer.exit("0", 0)
    assert lines.isascii()
    shown = "".join(event[2] for event in map(json.loads, lines.splitlines()) if event[1] == "o")
    assert shown == text.encode(errors="replace").decode()


def test_echoed_lines_are_kept():
    watch = EchoWatch()
    for char in b"ls -l":
        assert watch.type(bytes([char])) == []
        watch.show(bytes([char]))
    assert watch.type(b"\r") == ["ls -l\r"]


def test_lines_that_were_not_echoed_are_hidden():
    watch = EchoWatch()
    assert watch.type(b"hunter2\r") == [f"{HIDDEN_KEYS}\r"]


def test_a_password_between_two_commands_is_hidden():
    watch = EchoWatch()
    watch.type(b"sudo id")
    watch.show(b"sudo id")
    assert watch.type(b"\r") == ["sudo id\r"]
    watch.show(b"\r\n[sudo] password: ")
    assert watch.type(b"s3cret\r") == [f"{HIDDEN_KEYS}\r"]
    watch.type(b"exit")
    watch.show(b"exit")
    assert watch.type(b"\r") == ["exit\r"]


def test_what_is_left_at_the_end_is_hidden_unless_echoed():
    watch = EchoWatch()
    watch.type(b"half")
    assert watch.flush() == [HIDDEN_KEYS]


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_nothing_typed_in_the_dark_is_kept(secret):
    watch = EchoWatch()
    assert watch.type(secret.encode() + b"\n") == [f"{HIDDEN_KEYS}\n"]
