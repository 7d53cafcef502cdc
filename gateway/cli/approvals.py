"""`sealgate approvals`: a reviewer's commands. Each acts with the reviewer's own token, and signs on the reviewer's own machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import click
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evidence.approval_statement import ApprovalTerms, sign_statement
from evidence.keyless import KeylessSigner, SigningError
from gateway.approval.client import ApprovalsClient
from gateway.cli.output import EXIT_NO, admin_url_option, json_option
from gateway.errors import ApprovalError

MAX_WIDTH = 10_000
"""Columns without a terminal: longer than any line of a request but its statement, which is not in a table."""

EXIT_PENDING = 8
"""`wait` ended and the request is still open."""


@click.group("approvals")
@admin_url_option
@click.option(
    "--token-file",
    envvar="SEALGATE_TOKEN_FILE",
    show_envvar=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with your OIDC token; else the variable SEALGATE_TOKEN.",
)
@click.option(
    "--ca-file",
    envvar="SEALGATE_CA_FILE",
    show_envvar=True,
    type=click.Path(exists=True, dir_okay=False),
    help="CA of the admin listener.",
)
@click.pass_context
def command(context: click.Context, url: str, token_file: Path | None, ca_file: str | None) -> None:
    """List, read and answer requests for approval.

    Exit codes: 0 done, 1 denied or expired (wait), 7 refused by the gateway, 8 still open (wait); others as `sealgate --help` lists.
    """
    token = token_file.read_text().strip() if token_file else os.environ.get("SEALGATE_TOKEN", "").strip()
    if not token:
        raise ApprovalError(
            "no token was given", why="reviewers act with their own identity", fix="set SEALGATE_TOKEN or give --token-file"
        )
    context.obj = context.with_resource(ApprovalsClient(url, token, ca_file=ca_file))


@command.command("list")
@click.option(
    "--state",
    type=click.Choice(["pending", "approved", "denied", "expired", "used", "all"]),
    default="pending",
    show_default=True,
    help="Only those in this state: pending, approved, denied, expired, used or all.",
)
@json_option
@click.pass_obj
def list_command(client: ApprovalsClient, state: str, as_json: bool) -> None:
    """Requests you may review, or have made."""
    found = client.list_requests(state)
    if as_json:
        click.echo(orjson.dumps(found))
        return
    table = Table(box=None)
    for title in ("ticket", "state", "subject", "connection", "rule", "expires"):
        table.add_column(title, overflow="fold", no_wrap=title == "ticket")
    for item in found:
        table.add_row(*(escape(str(item[name])) for name in ("ticket", "state", "subject", "connection", "rule", "expires_at")))
    _open_console().print(table if found else f"no {state} requests")


@command.command("show")
@click.argument("ticket")
@json_option
@click.pass_obj
def show_command(client: ApprovalsClient, ticket: str, as_json: bool) -> None:
    """One request, with the exact action that would run."""
    print_request(client.show(ticket), as_json=as_json)


def _answer_options(function: Any) -> Any:
    for option in (
        click.argument("ticket"),
        click.option("--note", help="A sentence the requester will read."),
        click.option(
            "--trust-config",
            envvar="SEALGATE_TRUST_CONFIG",
            show_envvar=True,
            required=True,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Sigstore ClientTrustConfig to sign with.",
        ),
        click.option(
            "--sigstore-token-file",
            envvar="SEALGATE_SIGSTORE_TOKEN_FILE",
            show_envvar=True,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Token of your identity for audience sigstore; else the token itself is used.",
        ),
        json_option,
        click.pass_obj,
    ):
        function = option(function)
    return function


@command.command("approve")
@_answer_options
def approve_command(client: ApprovalsClient, **options: Any) -> None:
    """Sign and send an approval of exactly this action."""
    _answer(client, "approve", **options)


@command.command("deny")
@_answer_options
def deny_command(client: ApprovalsClient, **options: Any) -> None:
    """Sign and send a denial of this action."""
    _answer(client, "deny", **options)


@command.command("wait")
@click.argument("ticket")
@click.option("--timeout-s", type=float, default=25.0, show_default=True, help="Seconds to wait for a verdict, 55 at most.")
@json_option
@click.pass_context
def wait_command(context: click.Context, ticket: str, timeout_s: float, as_json: bool) -> None:
    """Wait for the verdict on a request."""
    request = context.obj.wait(ticket, timeout_s)
    print_request(request, as_json=as_json)
    context.exit({"pending": EXIT_PENDING, "denied": EXIT_NO, "expired": EXIT_NO}.get(request["state"], 0))


def _answer(
    client: ApprovalsClient,
    verdict: Literal["approve", "deny"],
    *,
    ticket: str,
    note: str | None,
    trust_config: Path,
    sigstore_token_file: Path | None,
    as_json: bool,
) -> None:
    token = sigstore_token_file.read_text().strip() if sigstore_token_file else client.token
    signer = KeylessSigner(trust_config.read_text(), lambda: token)

    def sign(request: Mapping[str, Any], decision: Literal["approve", "deny"]) -> str:
        terms = ApprovalTerms(
            action_digest=request["digest"],
            ticket=request["ticket"],
            decision=decision,
            policy_digest=request["policy_digest"],
            nonce=request["nonce"],
            expires=datetime.fromisoformat(request["expires_at"]),
            connection=request["connection"],
            note=note or "",
        )
        try:
            return sign_statement(signer, terms)
        except SigningError as error:
            raise ApprovalError(
                "the answer could not be signed", why=str(error), fix="check the trust configuration and your token"
            ) from error

    print_request(client.vote(ticket, verdict, sign, note), as_json=as_json)


def print_request(request: Mapping[str, Any], *, as_json: bool) -> None:
    """Show a request as a reviewer reads it: who asks, what policy says, the exact action, and what it would do."""
    if as_json:
        click.echo(orjson.dumps(request))
        return
    console = _open_console()
    table = Table(box=None, show_header=False)
    for name in ("ticket", "state", "subject", "on_behalf_of", "connection", "rule", "message", "requested_at", "expires_at"):
        if request[name]:
            table.add_row(name, escape(str(request[name])))
    for requirement in request["requirements"]:
        table.add_row("needs", escape(f"{requirement['count']} of {', '.join(requirement['groups'])}"))
    for vote in request["votes"]:
        table.add_row(vote["decision"], escape(f"{vote['reviewer']}{': ' + vote['note'] if vote['note'] else ''}"))
    console.print(table)
    for name, value in request["canonical"].items():
        console.print(f"[bold]{escape(name)}[/bold]")
        console.print(escape(show_exactly(value)), soft_wrap=True)
    for name, value in request["preview"].items():
        console.print(f"[bold]preview: {escape(name)}[/bold]")
        console.print(
            escape("\n".join(map(show_exactly, value)) if isinstance(value, list) else show_exactly(value)), soft_wrap=True
        )


def _open_console() -> Console:
    """As wide as the terminal; as wide as the text where there is none, because a script or a log must not get half a value."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else MAX_WIDTH)


def show_exactly(value: object) -> str:
    """A value as a reviewer must see it: text with its control and direction-changing characters written out."""
    text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return "".join(char if char in "\n\t" or char.isprintable() else f"\\u{ord(char):04x}" for char in text)
