"""`sealgate serve`: run the gateway."""

from __future__ import annotations

from pathlib import Path

import click
import orjson
import uvloop

from gateway.cli.output import config_option, json_option
from gateway.config import find_warnings, load_config
from gateway.serve.run import Gateway, run, settle_collector


@click.command()
@config_option()
@json_option
def command(config_path: Path, as_json: bool) -> None:
    """Run the gateway until SIGTERM or SIGINT; running actions get limits.shutdown_grace_s to finish.

    One line says where it listens once every listener accepts. Exit codes: 0 stopped in order, 2 problems in the configuration, others as
    `sealgate --help` lists.
    """
    config = load_config(config_path)
    for text in () if as_json else find_warnings(config):
        click.echo(f"warning: {text}", err=True)

    def announce(gateway: Gateway) -> None:
        settle_collector()
        addresses = {name: f"{host}:{port}" for name, (host, port) in gateway.addresses.items()}
        text = ", ".join(f"{name} on {address}" for name, address in addresses.items())
        click.echo(orjson.dumps({"ready": addresses}).decode() if as_json else f"{config.gateway.name} serves {text}")

    uvloop.run(run(config, ready=announce))
