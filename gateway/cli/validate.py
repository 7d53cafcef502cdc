"""`sealgate validate`: all problems of a configuration at once, or what it means."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.output import config_option, emit, json_option
from gateway.config import Config, SshConnectionConfig, find_warnings, load_config, place_problems, resolved_view, summarize
from gateway.config.source import show_path
from gateway.errors import ConfigError
from gateway.policy.bundle import load_bundle


@click.command()
@config_option()
@json_option
def command(config_path: Path, as_json: bool) -> None:
    """Check a configuration and its policy bundle, and show what they mean.

    Nothing is contacted and no reference to a secret is followed; `sealgate doctor` does that. Files of certificates, with their
    keys, and known_hosts files are read where they are there; a warning says which are not. Exit codes: 0 valid, 2 problems in the
    file, 3 problems in the policy bundle.
    """
    config = load_config(config_path)
    _check_ssh_targets(config, config_path)
    absent = _check_certificates(config, config_path)
    bundle = load_bundle(config.policy.bundle, detectors=config.masking.known_detectors)
    document = {**resolved_view(config), "policy": {"digest": bundle.digest, "rules": len(bundle.rules)}}
    warnings = [f"warning: {text}" for text in (*find_warnings(config), *absent)]
    emit(document, [f"{config_path} is valid", *summarize(config, rules=len(bundle.rules)), *warnings], as_json=as_json)


def _check_ssh_targets(config: Config, path: Path) -> None:
    """Raise ConfigError for SSH targets that no key could ever prove, as `sealgate serve` would."""
    if not any(isinstance(item, SshConnectionConfig) for item in config.connections):
        return
    from gateway.serve.ssh.known_hosts import find_unproven_targets  # noqa: PLC0415 - loads asyncssh, which few configurations need

    found = find_unproven_targets(config)
    if found:
        problems = place_problems(
            path, {("connections", number, "target", "known_hosts"): text for number, text in found.items()}
        )
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ConfigError(f"{path} has {count}", problems=problems, fix="add the host's key, or its authority")


def _check_certificates(config: Config, path: Path) -> list[str]:
    """Raise ConfigError for certificates that could not be used on any machine; what is not on this one, in words."""
    try:
        from gateway.serve.files import find_unusable_files  # noqa: PLC0415 - needs the native module, which validating can do without
    except ImportError:
        return []
    found = list(find_unusable_files(config))
    if wrong := {item.location: f"cannot be used: {item.why}; {item.fix}" for item in found if not item.is_absent}:
        problems = place_problems(path, wrong)
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ConfigError(f"{path} has {count}", problems=problems, fix="correct the files, or name others")
    return [f"{show_path(item.location)} cannot be used on this machine: {item.why}" for item in found]
