"""A loopback proxy that adds the current token: for long sessions, and for clients that send a proxy no credentials.

It reads one request head, adds `Proxy-Authorization`, and passes everything else as it is. Only processes of the same user are served,
where the system tells whose a connection is (Linux).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError, IdentityError

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 65_536
PIECE_BYTES: Final = 65_536
HEAD_TIMEOUT_S: Final = 30.0

_TAKEN: Final = (b"proxy-authorization:", b"proxy-connection:", b"connection:", b"keep-alive:")


class Forwarder:
    """Passes on to one gateway.

    Args:
        host, port: of the gateway's HTTPS proxy.
        read_token: gives the current token.
        tls: how the gateway's own certificate is checked; None for a plain listener.
    """

    def __init__(self, host: str, port: int, read_token: Callable[[], str], *, tls: ssl.SSLContext | None = None) -> None:
        self._host = host
        self._port = port
        self._read_token = read_token
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""

    async def start(self, port: int = 0) -> None:
        """Accept on 127.0.0.1; port 0 lets the kernel choose, `address` tells. Raises ConfigError when the port is taken."""
        try:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, limit=MAX_HEAD_BYTES)
        except OSError as error:
            raise ConfigError("the forwarder cannot start", why=str(error), fix="choose a free port") from None
        name = self._server.sockets[0].getsockname()
        self.address = f"{name[0]}:{name[1]}"

    async def stop(self) -> None:
        """Stop, and end what passes."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            if not is_own(writer):
                return
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                rewritten = add_token(head, await asyncio.to_thread(self._read_token))
                far_reader, far_writer = await asyncio.open_connection(
                    self._host, self._port, ssl=self._tls, server_hostname=self._host if self._tls else None
                )
            far_writer.write(rewritten)
            await self._pass_both(reader, writer, far_reader, far_writer)
        except IdentityError as error:
            writer.write(_answer(407, "Proxy Authentication Required", str(error)))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            writer.write(_answer(502, "Bad Gateway", f"the gateway cannot be reached: {type(error).__name__}"))
        finally:
            with contextlib.suppress(OSError):
                writer.close()

    async def _pass_both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        ways = [asyncio.create_task(_pass(reader, far_writer)), asyncio.create_task(_pass(far_reader, writer))]
        try:
            # The gateway closing ends both ways; a client that has sent all may still read.
            await ways[1]
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def add_token(head: bytes, token: str) -> bytes:
    """A request head with the token; a plain request is made the only one of its connection. Raises ValueError."""
    line, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if line.count(b" ") != 2:  # noqa: PLR2004 - method, target, version
        raise ValueError("no request line")
    kept = [field for field in fields if not field.lower().startswith(_TAKEN)]
    credential = base64.b64encode(f"agent:{token}".encode())
    kept.append(b"Proxy-Authorization: Basic " + credential)
    if not line.startswith(b"CONNECT "):
        kept.append(b"Connection: close")
    return b"\r\n".join([line, *kept, b"", b""])


def is_own(writer: asyncio.StreamWriter, table: Path = Path("/proc/net/tcp")) -> bool:
    """Whether a loopback connection comes from a process of this user; true where the system does not tell."""
    peer = writer.get_extra_info("peername")
    if peer is None or not table.exists():
        return True
    place = f"{socket.inet_aton(peer[0])[::-1].hex().upper()}:{peer[1]:04X}"
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == place:
            return int(fields[7]) in {os.getuid(), 0}
    return False


def _answer(status: int, reason: str, text: str) -> bytes:
    body = f"sealgate agent: {text}\n".encode()
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
