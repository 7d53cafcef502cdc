"""`sealgate validate`: all problems of a configuration at once, or what it means."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.output import config_option, emit, json_option
from gateway.config import find_warnings, load_config, resolved_view, summarize
from gateway.policy.bundle import load_bundle


@click.command()
@config_option()
@json_option
def command(config_path: Path, as_json: bool) -> None:
    """Check a configuration and its policy bundle, and show what they mean.

    Nothing is contacted and no secret is read; `sealgate doctor` does that. Exit codes: 0 valid, 2 problems in the file, 3 problems in the
    policy bundle.
    """
    config = load_config(config_path)
    bundle = load_bundle(config.policy.bundle)
    document = {**resolved_view(config), "policy": {"digest": bundle.digest, "rules": len(bundle.rules)}}
    warnings = [f"warning: {text}" for text in find_warnings(config)]
    emit(document, [f"{config_path} is valid", *summarize(config, rules=len(bundle.rules)), *warnings], as_json=as_json)
