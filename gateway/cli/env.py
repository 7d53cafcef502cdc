"""`sealgate env`, and the options that `run`, `agent` and `token` share with it. What they do lies in `gateway.client`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import click

from gateway.cli.output import admin_url_option
from gateway.client.contributions import Place
from gateway.client.environment import SHELLS, Shell, default_directory, make_environment
from gateway.client.gateway_info import GatewayInfo, ask_gateway
from gateway.client.tokens import TokenSource


def token_options[F: Callable[..., Any]](command: F) -> F:
    """Add the options that say where the token comes from; the command gets `token_file` and `token_command`."""
    for option in (
        click.option("--token-command", metavar="COMMAND", help="Command that prints the token, run at each use."),
        click.option(
            "--token-file",
            envvar="SEALGATE_TOKEN_FILE",
            show_envvar=True,
            type=click.Path(dir_okay=False, path_type=Path),
            help="File with the token, read at each use; else the variable SEALGATE_TOKEN.",
        ),
    ):
        command = option(command)
    return command


def gateway_options[F: Callable[..., Any]](command: F) -> F:
    """Add the options that say which gateway; the command gets `url`, `host`, `ca_file` and those of the token."""
    for option in (
        token_options,
        click.option(
            "--ca-file",
            envvar="SEALGATE_CA_FILE",
            show_envvar=True,
            type=click.Path(exists=True, dir_okay=False),
            help="Authority of the gateway's own listeners.",
        ),
        click.option(
            "--host", metavar="NAME", help="Where the gateway's listeners are reached, if not at the admin listener's host."
        ),
        admin_url_option,
    ):
        command = option(command)
    return command


def find_place(
    url: str, host: str | None, ca_file: str | None, directory: Path | None, source: TokenSource, forwarder: str | None = None
) -> tuple[GatewayInfo, Place]:
    """What the gateway told, and where and as whom the agent reaches it."""
    token = source.read()
    info = ask_gateway(url, token, host=host, ca_file=ca_file)
    # The variables hold in whatever folder a client runs.
    ca_file = None if ca_file is None else str(Path(ca_file).absolute())
    directory = None if directory is None else directory.absolute()
    return info, Place(info.host, token, directory or default_directory(info.name), forwarder, ca_file, url)


def directory_option[F: Callable[..., Any]](command: F) -> F:
    """Add --dir; the command gets `directory`."""
    return click.option(
        "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="Folder for the files clients read."
    )(command)


@click.command()
@gateway_options
@directory_option
@click.option("--shell", type=click.Choice(SHELLS), default="sh", show_default=True, help="Whose syntax to print.")
@click.option("--agent", "forwarder", metavar="HOST:PORT", help="A running `sealgate agent`; no token is exported then.")
def command(
    url: str,
    host: str | None,
    ca_file: str | None,
    token_file: Path | None,
    token_command: str | None,
    directory: Path | None,
    shell: str,
    forwarder: str | None,
) -> None:
    """Print the variables an agent's own clients need: eval "$(sealgate env)".

    Also writes the files they name: a bundle of authorities, a password file, an SSH key with its certificate and ssh_config
    (`ssh -F "$SEALGATE_SSH_CONFIG" HOST`). Without --ca-file PostgreSQL clients are told to trust the system's authorities
    (PGSSLROOTCERT=system), which psql and libpq before version 16 take for the name of a file that is not there: give them the
    authority, or the system's own file such as /etc/ssl/certs/ca-certificates.crt, with --ca-file. Exit codes: 0 printed, 4 the
    token is not accepted, 5 the gateway cannot be asked.
    """
    info, place = find_place(url, host, ca_file, directory, TokenSource(token_file, token_command), forwarder)
    click.echo(make_environment(info, place).render(cast("Shell", shell)))
