"""`sealgate evidence`: verify, follow, search and export the record. What it does lies in the evidence package."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import orjson

from evidence import cli as verifier
from evidence.query import Hit, Query, iterate_leaves, read_origin, search
from evidence.report import EXIT_USAGE
from evidence.sessions import neutralise
from evidence.store import LogReader
from evidence.verify_log import find_logs
from evidence.verify_records import POLICY_FOLDER, Recompute
from gateway.cli.output import config_option, emit, json_option
from gateway.cli.times import TimePrefix
from gateway.config import load_config
from gateway.errors import ConfigError
from gateway.policy.verdicts import VerdictRecomputer
from gateway.secrets import SecretResolver

EFFECTS = ("allow", "mask", "block", "require_approval")
POLL_S = 0.5  # how often `tail --follow` looks for new records; the log publishes about once a second


@click.group("evidence")
def command() -> None:
    """Verify, query and export the record.

    Exit codes of verify: 0 verified, 1 tampered, 2 incomplete, 3 untrusted, 4 usage or unable to verify.
    """


@command.command("verify", context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.option(
    "--engine", type=click.Choice(["native", "opa"]), help="Decide again what was recorded, with the kept policies: native."
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def verify_command(context: click.Context, engine: str | None, arguments: tuple[str, ...]) -> None:
    """The verifier of `sealgate-verify`; with --engine native, verdicts are recomputed too."""
    if engine == "opa":
        # An exit code of the verifier's own: 2 would mean `incomplete`.
        click.echo("sealgate evidence verify: verdicts are recomputed with --engine native only", err=True)
        context.exit(EXIT_USAGE)
    parser = verifier.build_parser("sealgate evidence verify")
    # click has taken it out already; here it is for --help.
    parser.add_argument("--engine", choices=["native"], help="decide again what was recorded, with the kept policies")
    options = parser.parse_args(list(arguments))
    if engine is not None and not options.age_identity:
        click.echo(
            "sealgate evidence verify: --engine needs --age-identity: what was decided about lies in sealed chunks", err=True
        )
        context.exit(EXIT_USAGE)
    with ExitStack() as stack:
        recompute: Recompute | None = None
        if engine is not None and options.directory.is_dir():
            archives = [path for log in find_logs(options.directory) for path in (log / POLICY_FOLDER).glob("*.tar.gz")]
            recompute = stack.enter_context(VerdictRecomputer(archives))
        context.exit(verifier.run(options, recompute))


@command.command("vkey")
@config_option()
@json_option
def vkey_command(config_path: Path, as_json: bool) -> None:
    """The verifier key of each log of a gateway, one a line: what an auditor pins with --log-vkey.

    Run it on the gateway's machine: it reads evidence.log_key. Hand the lines over by a way that does not lead through the evidence.
    """
    from gateway.serve.evidence import read_verifier_keys  # noqa: PLC0415 - loads what only a running gateway needs otherwise

    config = load_config(config_path)
    keys = read_verifier_keys(config, SecretResolver(age_identity=config.gateway.age_identity))
    emit({"log_vkeys": list(keys)}, keys, as_json=as_json)


def _query_options(function: Any) -> Any:
    for option in (
        click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path)),
        click.option("--since", type=TimePrefix(), default="", metavar="TIME", help="RFC 3339 in UTC, or a prefix of it."),
        click.option("--until", type=TimePrefix(), default="", metavar="TIME", help="Before this time."),
        click.option("--agent", "subject", default="", metavar="ID", help="Who acted, or on whose behalf."),
        click.option("--connection", default="", metavar="NAME", help="The connection acted on."),
        click.option("--effect", type=click.Choice(EFFECTS), help="What was decided."),
        click.option("--rule", default="", metavar="CODE", help="A rule among the decision's reasons."),
        click.option("--type", "kinds", multiple=True, metavar="TYPE", help="Record type; repeatable."),
        click.option("--session", default="", metavar="ID", help="One session."),
        click.option("--decision", default="", metavar="ID", help="One decision, by the id a refusal shows."),
    ):
        function = option(function)
    return function


@command.command("query")
@_query_options
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="Stop after so many records.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def query_command(directory: Path, limit: int, as_json: bool, **conditions: Any) -> None:
    """Records that match, oldest first. Unverified: `verify` proves what this shows."""
    for count, hit in enumerate(search(directory, _build_query(conditions)), 1):
        click.echo(_line(hit, as_json=as_json))
        if count == limit:
            click.echo(f"stopped after {limit} records (--limit)", err=True)
            break


@command.command("export")
@_query_options
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="New file for JSON lines.")
def export_command(directory: Path, output: Path, **conditions: Any) -> None:
    """Write the records that match to a file, one JSON object per line with origin and index."""
    try:
        file = output.open("xb")
    except FileExistsError:
        raise ConfigError(f"{output} exists", fix="name a new file") from None
    with file:
        count = 0
        for hit in search(directory, _build_query(conditions)):
            file.write(orjson.dumps(hit.as_record(), option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    click.echo(f"{count} records written to {output}")


@command.command("tail")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), default=10, show_default=True, help="Newest records of each log first."
)
@click.option("-f", "--follow", is_flag=True, help="Go on as records are published; end with an interruption.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def tail_command(directory: Path, lines: int, follow: bool, as_json: bool) -> None:
    """The newest records of every log."""
    seen: dict[Path, int] = {}
    for path in find_logs(directory):
        published = LogReader(path).read_checkpoint().size
        newest = deque(_read_from(path, max(0, published - lines - 1)), maxlen=lines + 1)
        seen[path] = newest[-1].index + 1 if newest else 0
        for hit in list(newest)[-lines:] if lines else []:
            click.echo(_line(hit, as_json=as_json))
    while follow:
        time.sleep(POLL_S)
        for path in find_logs(directory):
            for hit in _read_from(path, seen.get(path, 0)):
                seen[path] = hit.index + 1
                click.echo(_line(hit, as_json=as_json))


def _read_from(path: Path, start: int) -> Iterator[Hit]:
    origin = read_origin(path)
    for index, leaf in iterate_leaves(path, start):
        yield Hit(origin, index, orjson.loads(leaf))


def _build_query(conditions: dict[str, Any]) -> Query:
    return Query(**conditions | {"effect": conditions["effect"] or "", "kinds": frozenset(conditions["kinds"])})


def _line(hit: Hit, *, as_json: bool) -> str:
    if as_json:
        return orjson.dumps(hit.as_record()).decode()
    record = hit.record
    decision = record.get("decision")
    effect = decision.get("effect", "") if isinstance(decision, dict) else record.get("status", "")
    who = record.get("subject", "")
    who = who.get("id", "") if isinstance(who, dict) else who
    what = record.get("decision_id", record.get("reason", record.get("ticket", "")))
    fields = (record.get("ts"), f"{hit.origin}#{hit.index}", record.get("type"), record.get("sid"), effect, who, what)
    return neutralise("  ".join(str(value) for value in fields if value)).replace("\n", " ")
