"""`sealgate doctor`: check what the gateway needs from this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from gateway.cli.output import EXIT_NO, config_option, emit, json_option
from gateway.config import load_config
from gateway.doctor import examine_config, examine_machine


@click.command()
@config_option(required=False)
@json_option
@click.pass_context
def command(context: click.Context, config_path: Path | None, as_json: bool) -> None:
    """Check this machine and, with -c, whether a configuration works on it.

    With -c it reads the secrets, asks every issuer for its keys, tries every port, and connects to every target. A PostgreSQL target
    is tried as a session begins: TLS, login, sensitive columns in the catalogue, settings; nothing is changed there. Code of its tables
    that keeps statements from running until the site lists it is named, with the tables. Exit codes: 0 nothing failed, 1 something
    did, 2 problems in the file.
    """
    findings = list(examine_machine())
    if config_path is not None:
        findings += examine_config(load_config(config_path))
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:<4}  {finding.check}: {finding.detail}")
        if finding.fix:
            lines.append(f"      what to do: {finding.fix}")
    failed = any(finding.status == "fail" for finding in findings)
    emit({"ok": not failed, "findings": [asdict(finding) for finding in findings]}, lines, as_json=as_json)
    context.exit(EXIT_NO if failed else 0)
