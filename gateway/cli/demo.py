"""`sealgate demo`: the whole story on real parts."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.output import EXIT_NO
from gateway.demo.story import run_demo


@click.command()
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="A new or empty folder for everything it makes."
)
@click.option("--keep", is_flag=True, help="Leave everything running at the end, and say how to reach it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: each step, then the summary.")
@click.pass_context
def command(context: click.Context, directory: Path | None, keep: bool, as_json: bool) -> None:
    """An agent's psql and curl are allowed, masked, blocked, and held for a reviewer; the evidence is verified and tampered with.

    Exit codes: 0 every step went as expected and the evidence verified, 1 something did not, others as `sealgate --help` lists.
    """
    context.exit(0 if run_demo(directory, keep=keep, as_json=as_json) else EXIT_NO)
