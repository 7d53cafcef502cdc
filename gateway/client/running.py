"""`sealgate run`: a command with the environment of an agent and a forwarder of its own, so that a renewed token counts at once."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.client.contributions import Place
from gateway.client.environment import make_environment
from gateway.client.forwarder import Forwarder
from gateway.client.gateway_info import GatewayInfo
from gateway.client.tokens import TokenSource
from gateway.errors import ConfigError


def make_forwarder(told: Mapping[str, Any], place: Place, source: TokenSource) -> Forwarder:
    """A forwarder to the gateway's HTTPS proxy."""
    tls = ssl.create_default_context(cafile=place.ca_file) if told.get("tls") else None
    return Forwarder(place.host, int(told["port"]), source.read, tls=tls)


async def run_command(command: Sequence[str], info: GatewayInfo, place: Place, source: TokenSource) -> int:
    """Run a command until it ends; gives its exit code, 128 and the signal's number where a signal ended it."""
    forwarder: Forwarder | None = None
    if (told := info.protocols.get("http")) is not None:
        forwarder = make_forwarder(told, place, source)
        await forwarder.start()
        place = replace(place, forwarder=forwarder.address)
    try:
        environment = make_environment(info, place)
        # The token stays with us: the forwarder adds the current one, and a copy that a child inherits would grow stale, and leak.
        inherited = {name: value for name, value in os.environ.items() if name != "SEALGATE_TOKEN"}
        try:
            process = await asyncio.create_subprocess_exec(*command, env=inherited | dict(environment.variables))
        except OSError as error:
            raise ConfigError(f"{command[0]} cannot be run", why=str(error), fix="check the command") from None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _pass_signal, process, number)
        code = await process.wait()
    finally:
        if forwarder is not None:
            await forwarder.stop()
    return code if code >= 0 else 128 - code


def _pass_signal(process: asyncio.subprocess.Process, number: int) -> None:
    if process.returncode is None:
        process.send_signal(number)


async def serve_forwarder(forwarder: Forwarder, port: int, *, announce: Any) -> None:
    """Serve until SIGTERM or SIGINT; `announce` gets the address once it accepts."""
    await forwarder.start(port)
    announce(forwarder.address)
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    try:
        await ending.wait()
    finally:
        await forwarder.stop()
