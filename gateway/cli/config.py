"""`sealgate config`: the settings described."""

from __future__ import annotations

import click
import orjson

from gateway.cli.output import json_option
from gateway.config import json_schema, render_reference


@click.group()
def command() -> None:
    """JSON Schema and documentation of the configuration."""


@command.command("schema")
@json_option
def schema(as_json: bool) -> None:  # noqa: ARG001 # a schema is JSON with and without --json
    """Print the JSON Schema of sealgate.yaml, for editors."""
    click.echo(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode())


@command.command("docs")
@json_option
def docs(as_json: bool) -> None:
    """Print docs/configuration.md, made from the settings themselves."""
    text = render_reference()
    click.echo(orjson.dumps({"markdown": text}).decode() if as_json else text, nl=as_json)
