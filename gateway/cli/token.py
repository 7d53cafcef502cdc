"""`sealgate token`: the current token, for programs that ask a command for one."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.env import token_options
from gateway.client.tokens import TokenSource


@click.command()
@token_options
def command(token_file: Path | None, token_command: str | None) -> None:
    """Print the current token. Exit codes: 0 printed, 4 there is none."""
    click.echo(TokenSource(token_file, token_command).read())
