"""Short-lived passwords from a program, such as `aws rds generate-db-auth-token`: run anew for every connection to a target."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Final

from gateway.errors import SecretError
from gateway.secrets.resolve import MAX_SECRET_BYTES, strip_line_break

MAX_COMPLAINT_BYTES: Final = 4_096
"""How much of a failing program's standard error is read."""

COMMAND_TIMEOUT_S: Final = 10.0
"""Cloud credential programs make one or two requests; a client gives up connecting after about ten seconds."""


async def run_password_command(argv: Sequence[str], *, timeout_s: float = COMMAND_TIMEOUT_S) -> bytes:
    """What the program prints, without one trailing line break. Its output is a secret and appears in no error.

    Args:
        argv: program and arguments, run without a shell and without standard input.
        timeout_s: after this the program is ended, with whatever it started.

    Raises:
        SecretError: it cannot be run, fails, takes too long, or prints nothing or too much.
    """
    what = f"the password command {argv[0]} gave no password"
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # so that what it started is ended with it
        )
    except (OSError, ValueError) as error:
        raise SecretError(what, why=getattr(error, "strerror", None) or "not a program", fix="check the path") from None
    is_over = False
    try:
        async with asyncio.timeout(timeout_s):
            printed, complaint = await asyncio.gather(
                _read(process.stdout, MAX_SECRET_BYTES), _read(process.stderr, MAX_COMPLAINT_BYTES)
            )
            status = await process.wait()
            is_over = True
    except TimeoutError:
        why = f"it, or what it started, did not close its output within {timeout_s:g} s"
        raise SecretError(what, why=why, fix="run it by hand as the gateway's user") from None
    finally:
        if not is_over:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status != 0:
        last = complaint.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise SecretError(what, why=f"exit code {status}: {last[0][:300]}", fix="run it by hand as the gateway's user")
    password = strip_line_break(printed)
    if not password or len(password) > MAX_SECRET_BYTES:
        why = f"it printed nothing, or more than {MAX_SECRET_BYTES} bytes"
        raise SecretError(what, why=why, fix="it must print the password alone")
    return password


async def _read(stream: asyncio.StreamReader | None, limit: int) -> bytes:
    """The whole of a stream, of which one byte more than `limit` is kept."""
    kept = b""
    while stream is not None and (chunk := await stream.read(65_536)):
        kept += chunk[: limit + 1 - len(kept)]
    return kept
