"""`sealgate keygen`: the key that signs the gateway's log."""

from __future__ import annotations

from pathlib import Path

import click

from evidence.keys import generate_log_key
from gateway.cli.output import emit, json_option
from gateway.errors import ConfigError


@click.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def command(path: Path, as_json: bool) -> None:
    """Make an Ed25519 key for evidence.log_key in a new file that only you may read. Exit codes: 0 made, 2 the file cannot be made."""
    try:
        generate_log_key(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be made", why=error.strerror or "", fix="name a new file in a folder you may write"
        ) from None
    emit({"path": str(path)}, [f"made {path}; set evidence.log_key to file:{path.resolve()}"], as_json=as_json)
