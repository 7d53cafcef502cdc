"""`sealgate run`: a command in the environment of an agent. What it does lies in `gateway.client.running`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from gateway.cli.env import directory_option, find_place, gateway_options
from gateway.client.running import run_command
from gateway.client.tokens import TokenSource


@click.command(context_settings={"ignore_unknown_options": True})
@gateway_options
@directory_option
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@click.pass_context
def command(
    context: click.Context,
    url: str,
    host: str | None,
    ca_file: str | None,
    token_file: Path | None,
    token_command: str | None,
    directory: Path | None,
    arguments: tuple[str, ...],
) -> None:
    """Run a command with everything its clients need, the token kept current: sealgate run -- curl https://ledger.bank.test/.

    Exit codes: those of the command; 4 the token is not accepted, 5 the gateway cannot be asked.
    """
    source = TokenSource(token_file, token_command)
    info, place = find_place(url, host, ca_file, directory, source)
    context.exit(asyncio.run(run_command(arguments, info, place, source)))
