"""`sealgate bench`: speed beside peers in the same run. The programs lie in benchmarks/ of a checkout, not in the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

import gateway
from gateway.errors import TargetError

CHECKOUT: Final = Path(gateway.__file__).resolve().parent.parent


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document: the rows, and the machine they were measured on.")
@click.option(
    "--only",
    metavar="GROUPS",
    help="Groups of rows, with commas: policy, evidence, memory, postgres, tls, http, ssh, and volume, which is measured only if named.",
)
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds: a look, not a result.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where everything is kept meanwhile, which is the disk that is measured. Default: the folder for temporary files.",
)
@click.pass_context
def command(context: click.Context, as_json: bool, only: str | None, quick: bool, directory: Path | None) -> None:
    """Measure this build beside its peers: pgbouncer, PostgreSQL itself, bare mitmproxy, nginx, OPA, a plain synced file.

    Exit codes: 0 the floors of policy, evidence and memory hold, 1 one of them does not, 2 wrong usage, 5 something the benchmark needs
    is missing or failed. Floors of the rows of PostgreSQL and HTTP are shown and decide nothing.
    """
    if not (CHECKOUT / "benchmarks" / "__main__.py").is_file():
        raise TargetError(
            "there is nothing to measure with",
            why="benchmarks/ is part of the source, not of the installed package",
            fix="run `make bench` in a checkout of the source",
        )
    chosen = ["--only", only] if only else []
    chosen += ["--json"] * as_json + ["--quick"] * quick + (["--dir", str(directory.resolve())] if directory else [])
    path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "benchmarks", *chosen], cwd=CHECKOUT, env={**os.environ, "PYTHONPATH": path}, check=False
    )
    context.exit(done.returncode)
