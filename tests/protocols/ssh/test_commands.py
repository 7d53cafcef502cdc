"""Command lines as a shell would read them: never a plain argv where a shell would do more."""

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.ssh.commands import (
    MAX_COMMAND_BYTES,
    find_options,
    find_paths,
    name_program,
    normalize_path,
    read_command,
    unwrap,
)

VECTORS = sorted((Path(__file__).parents[2] / "vectors/ssh/commands").glob("*.txt"))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vectors(path):
    """First the line, then `argv` or `features` or `stages`, one per line."""
    line, _, expected = path.read_text().partition("\n-----\n")
    command = read_command(line)
    kind, *values = expected.splitlines()
    if kind == "argv":
        assert command.argv == tuple(values)
        assert command.features == ()
    elif kind == "stages":
        assert [shlex.join(stage) for stage in command.stages] == values
        assert command.features == ("pipe",)
    else:
        assert kind == "features"
        assert command.argv is None
        assert set(values) <= set(command.features)


@given(st.lists(st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126)), min_size=1))
def test_quoted_words_come_back(words):
    command = read_command(shlex.join(words))
    if command.features == ():
        assert command.argv == tuple(words)
    else:
        assert set(command.features) <= {"assignment", "compound", "builtin", "empty", "job"}


@given(st.text(alphabet="ab $`'\"\\|&;<>(){}*?[]!~#^%=\n\t-/", max_size=12))
def test_what_is_called_plain_is_what_a_shell_runs(line):
    """The oracle is sh itself, which prints the words it would run."""
    command = read_command(line)
    if command.argv is None or any(word.startswith("~") for word in command.argv):
        return
    printed = subprocess.run(
        ["sh", "-c", f'set -f -- {line}\nfor word; do printf "%s\\0" "$word"; done'], capture_output=True, check=False, timeout=10
    )
    assert printed.stdout == b"".join(word.encode() + b"\0" for word in command.argv)


@given(st.text())
def test_nothing_is_both_plain_and_not(line):
    command = read_command(line)
    assert (command.argv is None) == bool(command.features)
    assert not command.stages or set(command.features) <= {"pipe"}


def test_a_line_too_long_is_not_read():
    assert read_command("x" * (MAX_COMMAND_BYTES + 1)).features == ("too_long",)


def test_programs_keep_their_place_unless_it_is_standard():
    assert name_program("/usr/bin/cat") == "cat"
    assert name_program("/tmp/cat") == "/tmp/cat"
    assert name_program("/usr/bin/../../tmp/cat") == "/usr/bin/../../tmp/cat"
    assert name_program("./cat") == "./cat"


def test_wrappers_are_taken_off():
    assert unwrap(("sudo", "-u", "root", "env", "A=1", "systemctl", "restart", "x")) == (
        ("sudo", "env"),
        ("systemctl", "restart", "x"),
    )
    assert unwrap(("sudo", "-i")) == (("sudo",), ())
    assert unwrap(("timeout", "-s", "KILL", "5", "ls")) == (("timeout",), ("ls",))


def test_options_lose_their_values():
    assert find_options(("sort", "-rno", "x", "--output=y", "--", "-z")) == ("--output", "-n", "-o", "-r", "-rno")


def test_options_that_are_words_stay_whole():
    assert find_options(("find", ".", "-fprint0", "x", "-files0-from", "y")) == ("-files0-from", "-fprint0")


def test_paths_are_found_inside_words():
    assert find_paths(("dd", "if=/dev/sda", "-f/etc/shadow", "--file=/etc/a/../b", "word", "~/x", "./y")) == (
        "if=/dev/sda", "/dev/sda", "/etc/shadow", "/etc/a/../b", "~/x", "y",
    )  # fmt: skip


@given(st.text(alphabet="a/.~", max_size=12))
def test_normal_paths_stay_normal(path):
    assert normalize_path(normalize_path(path)) == normalize_path(path)
    assert normalize_path(path).startswith("/") == path.startswith("/")
    assert path.split("/").count("..") == normalize_path(path).split("/").count("..")
