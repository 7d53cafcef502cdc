"""`sealgate agent`: the loopback forwarder. What it does lies in `gateway.client.forwarder`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import orjson

from gateway.cli.env import find_place, gateway_options
from gateway.cli.output import json_option
from gateway.client.running import make_forwarder, serve_forwarder
from gateway.client.tokens import TokenSource
from gateway.errors import ConfigError


@click.command()
@gateway_options
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=0, show_default=True, help="Port on 127.0.0.1; 0 for any free one."
)
@json_option
def command(
    url: str,
    host: str | None,
    ca_file: str | None,
    token_file: Path | None,
    token_command: str | None,
    port: int,
    as_json: bool,
) -> None:
    """Serve a proxy on 127.0.0.1 that adds the current token, for long sessions and clients that send a proxy no credentials.

    One line says where it listens. Exit codes: 0 stopped in order, 4 the token is not accepted, 5 the gateway cannot be asked.
    """
    source = TokenSource(token_file, token_command)
    info, place = find_place(url, host, ca_file, None, source)
    told = info.protocols.get("http")
    if told is None:
        raise ConfigError("this gateway is no HTTPS proxy", fix="ask its operators for listeners.http")

    def announce(address: str) -> None:
        click.echo(
            orjson.dumps({"ready": address}).decode() if as_json else f"listening on {address}; HTTPS_PROXY=http://{address}"
        )

    asyncio.run(serve_forwarder(make_forwarder(told, place, source), port, announce=announce))
