"""Passwords that a program prints: run anew each time, bounded, and never quoted in an error."""

import asyncio
import os
import sys

import pytest

from gateway.errors import SecretError
from gateway.secrets import MAX_SECRET_BYTES, run_password_command


def program(text):
    return [sys.executable, "-c", text]


async def test_each_run_gives_a_fresh_password(tmp_path):
    counter = tmp_path / "count"
    count = program(
        f"import pathlib; p = pathlib.Path({str(counter)!r}); p.open('a').write('x'); print('pass', len(p.read_text()))"
    )
    assert await run_password_command(count) == b"pass 1"
    assert await run_password_command(count) == b"pass 2"


async def test_one_line_break_at_the_end_is_not_part_of_it():
    assert await run_password_command(program("print('a b', end='\\r\\n')")) == b"a b"
    assert await run_password_command(program("print('a\\n')")) == b"a\n"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["/nowhere/program"], "No such file"),
        (program("import sys; print('hunter2'); sys.exit('token expired')"), "exit code 1: token expired"),
        (program("import sys; print('hunter2'); sys.exit(3)"), "exit code 3: it said nothing"),
        (program("pass"), "printed nothing"),
        (program("print()"), "printed nothing"),
        (program(f"print('hunter2' * {MAX_SECRET_BYTES})"), "more than"),
    ],
)
async def test_what_goes_wrong_is_told_without_the_output(argv, why):
    with pytest.raises(SecretError) as caught:
        await run_password_command(argv)
    assert why in caught.value.why
    assert "hunter2" not in f"{caught.value}{caught.value.why}{caught.value.fix}"


async def test_a_program_that_does_not_end_is_ended(tmp_path):
    trace = tmp_path / "ended"
    text = f"import signal, time, pathlib; print('x', flush=True); time.sleep(600); pathlib.Path({str(trace)!r}).touch()"
    with pytest.raises(SecretError, match="gave no password") as caught:
        await run_password_command(program(text), timeout_s=0.3)
    assert "within 0.3 s" in caught.value.why
    assert not trace.exists()


@pytest.mark.parametrize("ending", ["time.sleep(600)", "print('x')"])
async def test_what_a_program_started_ends_with_it(tmp_path, ending):
    pipe = tmp_path / "alive"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    start = f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], pass_fds=[os.open({str(pipe)!r}, os.O_WRONLY)])"
    with pytest.raises(SecretError, match="gave no password"):
        await run_password_command(program(f"import os, subprocess, sys, time; {start}; {ending}"), timeout_s=1)
    os.set_blocking(reader, True)
    assert await asyncio.to_thread(os.read, reader, 1) == b""  # nobody has it open any more
    os.close(reader)
