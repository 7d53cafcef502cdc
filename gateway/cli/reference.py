"""The reference of the command line as a page, made from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

_HEAD: Final = """\
# Commands

Made from the commands themselves by `make docs`. Every command takes `--help`; those that print results take `--json`. None needs a terminal.

Exit codes: 0 done, 1 the answer is no, 2 usage or configuration, 3 policy, 4 identity, 5 target, 6 evidence, 7 approval, 130 interrupted. A command whose
text below lists exit codes of its own uses those.

## Environment

| variable | read by | meaning |
|---|---|---|
| `SEALGATE_CONFIG` | serve, validate, connections, doctor | the configuration, instead of `-c` |
| `SEALGATE_ADMIN_URL` | approvals, ssh-cert, env, run, agent | the gateway's admin listener |
| `SEALGATE_TOKEN`, `SEALGATE_TOKEN_FILE` | approvals, ssh-cert, env, run, agent, token | the caller's OIDC token, or a file with it |
| `SEALGATE_SIGSTORE_TOKEN_FILE` | approvals | the reviewer's token for audience sigstore; else the token itself is used |
| `SEALGATE_TRUST_CONFIG` | approvals | the Sigstore ClientTrustConfig to sign with |
| `SEALGATE_CA_FILE` | approvals, ssh-cert, env, run, agent | CA of the admin listener |
| `SEALGATE_DIR` | set by env, run | folder with the files that clients read |
| `SEALGATE_SSH_CONFIG` | set by env, run | the ssh_config that leads through the gateway |
| `SEALGATE_AGE_IDENTITY` | serve | private age key that opens `file:NAME.age` secrets |
| `SEALGATE_OPA` | policy | the program opa, where it is not on PATH |
| `SEALGATE_POSTGRES_BIN` | demo, tests | folder with initdb, postgres and psql |
| `SEALGATE_CACHE` | make | where built tools and compiled dependencies are kept |
| `SEALGATE_NO_SKIPS` | tests | a missing part is a failure, never a skip |
"""


def render_commands(root: click.Command) -> str:
    """The page in Markdown."""
    return _HEAD + "".join(_render(path, command) for path, command in _walk(root, ("sealgate",)))


def _walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from _walk(child, (*path, name))


def _render(path: tuple[str, ...], command: click.Command) -> str:
    if len(path) == 1:
        return ""
    arguments = [
        parameter.make_metavar(click.Context(command)) for parameter in command.params if isinstance(parameter, click.Argument)
    ]
    text = f"\n{'#' * (len(path))} `{' '.join((*path, *arguments))}`\n\n"
    help_text = (command.help or "").replace("\b", "").strip()
    text += "\n".join(line.strip() for line in help_text.splitlines()) + "\n"
    options = [_render_option(option) for option in command.params if isinstance(option, click.Option)]
    return text + ("\n" + "".join(options) if options else "")


def _render_option(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    required = " Required." if option.required else ""
    return f"- {names}: {option.help or ''}{required}\n"
