"""`sealgate ssh-cert`: an hour's SSH certificate for a token, and the files that stock clients need."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gateway.cli.output import emit, json_option
from gateway.client.ssh_files import find_address, make_key, request_certificate, write_ssh_files
from gateway.errors import IdentityError


@click.command()
@click.option(
    "--gateway", "url", envvar="SEALGATE_ADMIN_URL", required=True, help="The gateway's admin listener, such as https://gw:8444."
)
@click.option(
    "--token-file",
    envvar="SEALGATE_TOKEN_FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with your OIDC token; else the variable SEALGATE_TOKEN.",
)
@click.option(
    "--ca-file", envvar="SEALGATE_CA_FILE", type=click.Path(exists=True, dir_okay=False), help="CA of the admin listener."
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("~/.sealgate/ssh"),
    show_default=True,
    help="Folder for the key, its certificate, known_hosts and ssh_config.",
)
@click.option("--address", help="How this machine reaches the SSH listener. Default: the host of --gateway.")
@json_option
def command(url: str, token_file: Path | None, ca_file: str | None, folder: Path, address: str | None, as_json: bool) -> None:
    """Make a key, have it certified for an hour at most, and write an ssh_config that leads through the gateway.

    The key stays on this machine. Run it again for a new certificate. Exit codes: 0 written, 2 the folder cannot be used,
    4 the token was refused, 5 the gateway does not answer.
    """
    token = token_file.read_text().strip() if token_file else os.environ.get("SEALGATE_TOKEN", "").strip()
    if not token:
        raise IdentityError(
            "no token was given", why="a certificate says who you are", fix="set SEALGATE_TOKEN or give --token-file"
        )
    place = folder.expanduser().absolute()
    public_key = make_key(place / "id_ed25519")
    access = request_certificate(url, token, public_key, ca_file=ca_file)
    config = write_ssh_files(place, access, address=address or find_address(url))
    result = {"ssh_config": str(config), "expires_at": access.expires_at, "hosts": dict(access.hosts)}
    lines = [
        f"certificate until {access.expires_at}; hosts: {', '.join(sorted(access.hosts)) or 'none'}",
        f"use it with: ssh -F {config} HOST   (also scp -F, sftp -F)",
        f'for git:     export GIT_SSH_COMMAND="ssh -F {config}"',
    ]
    emit(result, lines, as_json=as_json)
