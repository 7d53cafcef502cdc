"""What every command shares: --json, exit codes, and the one path on which an error reaches a person."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import orjson

from evidence.errors import EvidenceError
from gateway.errors import (
    ApprovalError,
    ConfigError,
    EvidenceUnavailableError,
    IdentityError,
    PolicyError,
    SealgateError,
    SecretError,
    TargetError,
)

EXIT_NO: Final = 1
"""The command ran and its answer is no: a check failed, a request was denied."""

EXIT_USAGE: Final = 2
"""Wrong usage, configuration or secret."""

EXIT_CODES: Final[Sequence[tuple[type[Exception], int]]] = (
    (ConfigError, EXIT_USAGE),
    (SecretError, EXIT_USAGE),
    (PolicyError, 3),
    (IdentityError, 4),
    (TargetError, 5),
    (EvidenceUnavailableError, 6),
    (EvidenceError, 6),
    (ApprovalError, 7),
)
"""Exit codes of errors, for scripts. Errors of other kinds end with 1; an interruption with 130."""

EXIT_INTERRUPTED: Final = 130
_JSON_KEY: Final = "gateway.cli.json"


def json_option[F: Callable[..., Any]](command: F) -> F:
    """Add --json; the command gets `as_json`, and errors are then JSON on standard error too."""
    option = click.option(
        "--json", "as_json", is_flag=True, callback=_remember_json, help="Print one JSON document instead of text."
    )
    return option(command)


admin_url_option: Final = click.option(
    "--gateway",
    "url",
    envvar="SEALGATE_ADMIN_URL",
    show_envvar=True,
    required=True,
    help="The gateway's admin listener, such as https://gw:8444.",
)
"""The option of commands that speak with a running gateway; the command gets `url`."""


def config_option[F: Callable[..., Any]](*, required: bool = True) -> Callable[[F], F]:
    """Add -c/--config FILE; the command gets `config_path`. Also read from SEALGATE_CONFIG."""
    return click.option(
        "-c",
        "--config",
        "config_path",
        required=required,
        envvar="SEALGATE_CONFIG",
        show_envvar=True,
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The gateway's configuration (sealgate.yaml).",
    )


def emit(document: Mapping[str, Any] | Sequence[Any], lines: Sequence[str], *, as_json: bool) -> None:
    """Print a result: the document as JSON, or the lines for a person."""
    if as_json:
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str).decode())
    else:
        for line in lines:
            click.echo(line)


def show_error(error: SealgateError | EvidenceError, *, as_json: bool) -> int:
    """Print an error on standard error and return its exit code."""
    problems = list(getattr(error, "problems", ()))
    if as_json:
        members = {"code": error.code, "what": error.what, "why": "" if problems else error.why, "fix": error.fix}
        document = {"error": members | ({"problems": [str(problem) for problem in problems]} if problems else {})}
        click.echo(orjson.dumps(document).decode(), err=True)
    else:
        click.echo(f"sealgate: {error.what}", err=True)
        for problem in problems:
            click.echo(f"  {problem}", err=True)
        if error.why and not problems:
            click.echo(f"  why: {error.why}", err=True)
        if error.fix:
            click.echo(f"  what to do: {error.fix}", err=True)
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), EXIT_NO)


def wants_json(context: click.Context) -> bool:
    """Whether --json was given to the command that runs, also when its other options were wrong."""
    return bool(context.find_root().meta.get(_JSON_KEY)) or "--json" in sys.argv


def _remember_json(context: click.Context, _option: click.Parameter, value: bool) -> bool:
    context.find_root().meta[_JSON_KEY] = value
    return value
