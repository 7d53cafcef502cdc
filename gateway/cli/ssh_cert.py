"""`sealgate ssh-cert`: an hour's SSH certificate for a token, and the files that stock clients need."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.env import gateway_options
from gateway.cli.output import emit, json_option
from gateway.client.ssh_files import find_address, make_key, request_certificate, write_ssh_files
from gateway.client.tokens import TokenSource


@click.command()
@gateway_options
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("~/.sealgate/ssh"),
    show_default=True,
    help="Folder for the key, its certificate, known_hosts and ssh_config.",
)
@json_option
def command(
    url: str,
    host: str | None,
    ca_file: str | None,
    token_file: Path | None,
    token_command: str | None,
    folder: Path,
    as_json: bool,
) -> None:
    """Make a key, have it certified for an hour at most, and write an ssh_config that leads through the gateway.

    The key stays on this machine. Run it again for a new certificate. `sealgate env` does the same beside the other protocols. Exit codes: 0
    written, 2 the folder cannot be used, 4 the token was refused, 5 the gateway does not answer.
    """
    place = folder.expanduser().absolute()
    token = TokenSource(token_file, token_command).read()
    access = request_certificate(url, token, make_key(place / "id_ed25519"), ca_file=ca_file)
    config = write_ssh_files(place, access, address=host or find_address(url))
    result = {"ssh_config": str(config), "expires_at": access.expires_at, "hosts": dict(access.hosts)}
    lines = [
        f"certificate until {access.expires_at}; hosts: {', '.join(sorted(access.hosts)) or 'none'}",
        f"use it with: ssh -F {config} HOST   (also scp -F, sftp -F)",
        f'for git:     export GIT_SSH_COMMAND="ssh -F {config}"',
    ]
    emit(result, lines, as_json=as_json)
