"""Where an agent's token comes from. It is read again at each use, so that a renewed one counts at once."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import IdentityError

COMMAND_TIMEOUT_S: Final = 30.0
"""How long a command that prints a token may take; one that asks a browser takes longer, and should cache."""

MAX_TOKEN_BYTES: Final = 131_072
FIX: Final = "give --token-file or --token-command, or set SEALGATE_TOKEN"


@dataclass(frozen=True, slots=True)
class TokenSource:
    """A file, a command that prints the token, or the variable SEALGATE_TOKEN; the first that is given counts."""

    file: Path | None = None
    command: str | None = None

    def read(self) -> str:
        """The token now. Raises IdentityError."""
        token = self._read().strip()
        if not token:
            raise IdentityError("there is no token", why="its source is empty", fix=FIX)
        if not token.isprintable() or not token.isascii() or " " in token or len(token) > MAX_TOKEN_BYTES:
            raise IdentityError("the token cannot be used", why="it is not one printable word", fix=FIX)
        return token

    def _read(self) -> str:
        if self.file is not None:
            try:
                return self.file.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise IdentityError("the token cannot be read", why=f"{self.file}: {error}", fix=FIX) from None
        if self.command is not None:
            try:
                done = subprocess.run(  # noqa: S603 - the command the user names
                    shlex.split(self.command), capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True
                )
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                raise IdentityError("the token command fails", why=type(error).__name__, fix="run it by hand") from None
            return done.stdout
        return os.environ.get("SEALGATE_TOKEN", "")
