"""The command line: `sealgate COMMAND`. Parsing only; what a command does lies in the packages.

Commands are loaded when they are called, so that `sealgate validate` does not load what only `sealgate serve` needs. Each lies in
gateway/cli/<name>.py as `command`, or under its own name. Errors take one path: what, why and what to do on standard error, and an exit
code by the kind of error (`gateway.cli.output.EXIT_CODES`).
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Final

import click

from evidence.errors import EvidenceError
from gateway.cli.output import EXIT_INTERRUPTED, show_error, wants_json
from gateway.errors import SealgateError

COMMANDS: Final = {
    "demo": "Run the whole story on real parts and verify its evidence.",
    "serve": "Run the gateway.",
    "validate": "Check a configuration and show what it means.",
    "config": "JSON Schema and documentation of the configuration.",
    "doctor": "Check what the gateway needs from this machine.",
    "env": "Print what an agent's own clients need.",
    "run": "Run a command with what its clients need.",
    "agent": "A loopback proxy that adds the current token.",
    "token": "Print the current token.",
    "connections": "The systems agents may reach.",
    "ssh-cert": "An hour's SSH certificate for a token.",
    "approvals": "Review actions that wait for approval.",
    "sessions": "Recorded sessions.",
    "evidence": "Verify, query and export the record.",
    "policy": "Check, test and bundle policies.",
    "keygen": "Make the gateway's keys.",
    "bench": "Measure this build beside its peers.",
}
"""Every command with its one-line help, in the order shown."""


class _Commands(click.Group):
    """Loads a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 # the signature is click's
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 # the signature is click's
        return _load_command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 # the signature is click's
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SealgateError, EvidenceError) as error:
            ctx.exit(show_error(error, as_json=wants_json(ctx)))
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            # The reader, such as `head`, has seen enough. Python would complain again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)


def _load_command(name: str) -> click.Command:
    module_name = f"gateway.cli.{name.replace('-', '_')}"
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if error.name == module_name:
            why = "this installation does not contain it"
        else:
            why = f"{error.name or 'a module'} cannot be loaded ({error})"
        raise SealgateError(
            f"the command {name} is not available",
            why=why,
            fix="install the whole distribution again; `sealgate doctor` checks it",
        ) from error
    command = getattr(module, "command", None) or getattr(module, name, None)
    if not isinstance(command, click.Command):
        raise SealgateError(f"the command {name} is not available", why=f"{module_name} defines no command")
    return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="sealgate", prog_name="sealgate")
def main() -> None:
    """A policy-as-code gateway for AI agents.

    Exit codes: 0 done, 1 the answer is no, 2 usage or configuration, 3 policy, 4 identity, 5 target, 6 evidence, 7 approval, 130
    interrupted. A command whose help lists exit codes of its own uses those.
    """
