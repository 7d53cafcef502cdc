"""`sealgate connections`: the systems agents may reach."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.output import config_option, emit, json_option
from gateway.config import ConnectionConfig, load_config


@click.group()
def command() -> None:
    """The systems agents may reach."""


@command.command("list")
@config_option()
@json_option
def list_connections(config_path: Path, as_json: bool) -> None:
    """List the connections of a configuration. Exit codes: 0 listed, 2 problems in the file."""
    connections = load_config(config_path).connections
    rows: list[tuple[str, ...]] = [("NAME", "TYPE", "ENVIRONMENT", "RISK", "ASKED-FOR", "GROUPS", "TARGET")]
    rows += [_describe(connection) for connection in connections]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    documents = [{**connection.model_dump(mode="json"), "asked_for": connection.asked_for} for connection in connections]
    emit({"connections": documents}, lines, as_json=as_json)


def _describe(connection: ConnectionConfig) -> tuple[str, ...]:
    return (
        connection.name,
        connection.type,
        connection.environment,
        connection.risk,
        ",".join(connection.asked_for),
        ",".join(connection.allow_groups),
        connection.describe_target(),
    )
