"""`sealgate sessions`: list, show and replay recorded sessions. What it does lies in `evidence.sessions`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import orjson

from evidence.cli import read_age_identities
from evidence.query import Query
from evidence.sessions import list_sessions, neutralise, read_session, replay
from gateway.cli.evidence import EFFECTS
from gateway.cli.output import json_option
from gateway.cli.times import TimePrefix

MAX_PAUSE_S = 2.0  # a replay skips longer idle times, as terminal players do

_DIRECTORY = click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
_IDENTITY = click.option(
    "--age-identity",
    "identities",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Private age key that opens the session's chunks; repeatable.",
)


@click.group("sessions")
def command() -> None:
    """Recorded sessions. Unverified: `sealgate evidence verify` proves what is shown."""


@command.command("list")
@_DIRECTORY
@click.option("--agent", "subject", default="", metavar="ID", help="Who acted, or on whose behalf.")
@click.option("--connection", default="", metavar="NAME", help="The connection acted on.")
@click.option("--since", type=TimePrefix(), default="", metavar="TIME", help="RFC 3339 in UTC, or a prefix of it.")
@click.option("--until", type=TimePrefix(), default="", metavar="TIME", help="Before this time.")
@click.option("--effect", type=click.Choice(EFFECTS), help="What was decided in it, at least once.")
@click.option("--rule", default="", metavar="CODE", help="A rule among a decision's reasons.")
@json_option
def list_command(directory: Path, as_json: bool, effect: str | None, **conditions: Any) -> None:
    """Sessions with a record that matches, oldest first."""
    found = list_sessions(directory, Query(effect=effect or "", **conditions))
    if as_json:
        click.echo(orjson.dumps([session.as_record() for session in found], option=orjson.OPT_INDENT_2).decode())
        return
    for session in found:
        effects = " ".join(f"{effect}={count}" for effect, count in sorted(session.effects.items()))
        closed = session.reason if session.closed else "open"
        click.echo(f"{session.opened}  {session.sid}  {session.subject}  {session.connection}  {effects}  {closed}")


@command.command("show")
@_DIRECTORY
@click.argument("sid")
@json_option
def show_command(directory: Path, sid: str, as_json: bool) -> None:
    """Every record of one session."""
    hits = read_session(directory, sid)
    if as_json:
        click.echo(orjson.dumps([hit.as_record() for hit in hits], option=orjson.OPT_INDENT_2).decode())
        return
    for hit in hits:
        click.echo(neutralise(f"{hit.origin}#{hit.index} {orjson.dumps(dict(hit.record), option=orjson.OPT_SORT_KEYS).decode()}"))


@command.command("replay")
@_DIRECTORY
@click.argument("sid")
@_IDENTITY
@click.option("--speed", type=click.FloatRange(min=0), default=0.0, show_default=True, help="1 is real time; 0 does not wait.")
@click.option("--whole", is_flag=True, help="Show input documents whole, as policy evaluated them.")
@json_option
def replay_command(directory: Path, sid: str, identities: tuple[Path, ...], speed: float, whole: bool, as_json: bool) -> None:
    """One session step by step. Control characters are shown as escapes, never sent to the terminal."""
    steps = list(replay(directory, sid, read_age_identities(identities), whole=whole or as_json))
    if as_json:
        click.echo(orjson.dumps([step.as_record() for step in steps], option=orjson.OPT_INDENT_2).decode())
        return
    before = 0.0
    for step in steps:
        if speed:
            time.sleep(min(MAX_PAUSE_S, max(0.0, step.at_s - before) / speed))
        before = step.at_s
        click.echo(f"{step.at_s:10.3f}  {step.kind:<18} {step.title}".rstrip())
        for line in step.content.splitlines():
            click.echo(f"            | {line}")
