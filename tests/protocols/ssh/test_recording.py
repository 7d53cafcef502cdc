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


def test_echoed_lines_are_kept_however_they_are_typed():
    watch = EchoWatch()
    for char in b"ls -l":
        watch.type(bytes([char]))
        assert watch.show(bytes([char])) == []
    watch.type(b"\r")
    assert watch.show(b"\r\n") == ["ls -l\r"]
    watch.type(b"pasted\r")
    assert watch.show(b"\x1b[?2004hpas\x1b[1mted\r\n\x1b[?2004l") == ["pasted\r"]


def test_a_password_between_two_commands_is_hidden():
    watch, kept = EchoWatch(), []
    for typed, shown in (
        (b"sudo id\r", b"sudo id\r\n[sudo] password: "),
        (b"s3cret\r", b"\r\nuid=0\r\n$ "),
        (b"exit\r", b"exit\r\n"),
    ):
        watch.type(typed)
        kept += watch.show(shown)
    assert kept == ["sudo id\r", f"{HIDDEN_KEYS}\r", "exit\r"]


def test_scattered_letters_are_no_echo():
    watch = EchoWatch()
    watch.type(b"abc\r")
    assert watch.show(b"a quick brown cat\r\n") == [f"{HIDDEN_KEYS}\r"]


def test_what_is_left_at_the_end_is_hidden_unless_echoed():
    watch = EchoWatch()
    watch.type(b"half")
    assert watch.flush() == [HIDDEN_KEYS]


def test_lines_without_any_echo_do_not_pile_up():
    watch = EchoWatch()
    given_lines = [line for _ in range(1_000) for line in watch.type(b"secret\r")]
    assert len(given_lines) > 900
    assert set(given_lines) == {f"{HIDDEN_KEYS}\r"}


def test_a_very_long_line_is_not_kept():
    watch = EchoWatch()
    watch.type(b"x" * 5_000 + b"\r")
    assert watch.show(b"x" * 5_000 + b"\r\n") == [HIDDEN_KEYS + "\r"]


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_nothing_typed_in_the_dark_is_kept(secret):
    watch = EchoWatch()
    watch.type(secret.encode() + b"\r")
    assert watch.show(b"\r\n") == [f"{HIDDEN_KEYS}\r"]
