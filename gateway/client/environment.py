"""The environment of an agent, from every protocol's contribution: files written, variables exported for each shell."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gateway.client.contributions import CONTRIBUTIONS, Place
from gateway.client.gateway_info import GatewayInfo
from gateway.client.private_files import write_private
from gateway.errors import ConfigError

Shell = Literal["sh", "fish", "powershell", "json"]
SHELLS: Final[tuple[Shell, ...]] = ("sh", "fish", "powershell", "json")


@dataclass(frozen=True, slots=True)
class Environment:
    """Variables to set, and the files that were written for them."""

    variables: Mapping[str, str]
    files: tuple[Path, ...]

    def render(self, shell: Shell) -> str:
        """The exports in a shell's own words; `eval` reads them."""
        if shell == "json":
            return json.dumps(dict(self.variables), indent=2)
        write = {"sh": _write_sh, "fish": _write_fish, "powershell": _write_powershell}[shell]
        return "\n".join(write(name, value) for name, value in self.variables.items())


def default_directory(gateway: str) -> Path:
    """Where files go unless told otherwise: below the user's own runtime or home folder, one folder per gateway."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) / "sealgate" if runtime else Path.home() / ".sealgate"
    return base / gateway


def make_environment(info: GatewayInfo, place: Place) -> Environment:
    """Collect what every known protocol contributes, and write the files. Raises ConfigError when they cannot be written."""
    variables: dict[str, str] = {"SEALGATE_DIR": str(place.directory)}
    files: list[Path] = []
    try:
        place.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for protocol, told in sorted(info.protocols.items()):
            contribute = CONTRIBUTIONS.get(protocol)
            if contribute is None:
                continue
            contribution = contribute(told, place)
            variables |= contribution.variables
            for name, content in contribution.files.items():
                write_private(place.directory / name, content.encode())
                files.append(place.directory / name)
    except OSError as error:
        raise ConfigError(
            "the files for clients cannot be written", why=f"{place.directory}: {error}", fix="give another folder with --dir"
        ) from None
    return Environment(variables, tuple(files))


def _write_sh(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def _write_fish(name: str, value: str) -> str:
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{quoted}'"


def _write_powershell(name: str, value: str) -> str:
    quoted = value.replace("'", "''")
    return f"$Env:{name} = '{quoted}'"
