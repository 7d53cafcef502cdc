"""`sealgate keygen`: the key that signs the gateway's log, and the authority of its HTTPS proxy."""

from __future__ import annotations

from pathlib import Path

import click

from evidence.keys import generate_log_key
from gateway.cli.output import emit, json_option
from gateway.errors import ConfigError
from gateway.serve.http.authority import make_http_authority


@click.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--kind", type=click.Choice(["log", "http-ca"]), default="log", show_default=True, help="What the key is for.")
@click.option(
    "--cert", "cert_file", type=click.Path(dir_okay=False, path_type=Path), help="Also, for http-ca: file of the certificate."
)
@click.option(
    "--only",
    "constraints",
    multiple=True,
    metavar="DOMAIN",
    help="For http-ca: speak for hosts below this name only; repeatable.",
)
@json_option
def command(path: Path, kind: str, cert_file: Path | None, constraints: tuple[str, ...], as_json: bool) -> None:
    """Make a key in a new file that only you may read: an Ed25519 key for evidence.log_key, or the authority for listeners.http.ca.

    Exit codes: 0 made, 2 a file cannot be made.
    """
    certificate = cert_file or path.with_suffix(".crt")
    try:
        if kind == "log":
            generate_log_key(path)
        else:
            make_http_authority(certificate, path, constraints=constraints)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be made", why=error.strerror or "", fix="name a new file in a folder you may write"
        ) from None
    if kind == "log":
        emit({"path": str(path)}, [f"made {path}; set evidence.log_key to file:{path.resolve()}"], as_json=as_json)
        return
    lines = [
        f"made {path}; set listeners.http.ca.key to file:{path.resolve()}",
        f"made {certificate}; set listeners.http.ca.cert_file to {certificate.resolve()}, which clients trust",
    ]
    emit({"path": str(path), "certificate": str(certificate)}, lines, as_json=as_json)
