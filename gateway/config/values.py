"""The kinds of value settings are made of: strict models, references to secrets, paths, names.

Models are strict (text is never turned into a number), frozen, and refuse unknown keys. Lists become tuples.
Relative paths are resolved against the folder of the configuration file, which the loader passes as validation context.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema

BASE_FOLDER: Final = "base_folder"
"""Key of the validation context that holds the folder of the configuration file."""

SECRET_SCHEMES: Final = ("env", "file", "vault", "aws-sm", "k8s")
"""What a reference to a secret may start with; `gateway.secrets` resolves them."""

SECRET_REFERENCE: Final = re.compile(r"(?P<scheme>[a-z0-9-]+):(?P<rest>.+)", re.DOTALL)
ENVIRONMENT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

SECRET_HINT: Final = f"a reference to a secret ({', '.join(f'{scheme}:…' for scheme in SECRET_SCHEMES)})"

NAME_PATTERN: Final = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"
"""Names appear in records, log origins and file names: lower case, no separators a path or URL could misread."""

ALIAS_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,31}$"
"""No slash: a subject's id is alias/sub."""

PERSON_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,31}/.+$"
URL_PATTERN: Final = r"^https?://[^\s/?#@]+[^\s?#@]*$"

AGE_RECIPIENT_PATTERN: Final = r"^age1[a-z0-9]{50,4000}$"
"""Bech32; X25519 recipients have 62 characters, post-quantum ones about 2,000."""

SENSITIVE_COLUMN: Final = re.compile(r'[^\s".]+([ ][^\s".]+)*(\.[^\s".]+([ ][^\s".]+)*){2}')
"""Three names as the catalogue has them: no quotes, and no dots inside, which nothing could tell from the separators."""


class Settings(BaseModel):
    """Base of every group of settings."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True, hide_input_in_errors=True)


def _check_secret_reference(reference: str) -> str:
    """A reference keeps its text; a wrong one is never repeated in the message, because it may be a secret put in plainly."""
    match = SECRET_REFERENCE.fullmatch(reference)
    if match is None or match["scheme"] not in SECRET_SCHEMES:
        raise ValueError(f"must be {SECRET_HINT}, not the secret itself")
    if not reference.isprintable():
        raise ValueError("a reference to a secret is one printable line")
    if match["scheme"] == "env" and not ENVIRONMENT_NAME.fullmatch(match["rest"]):
        raise ValueError("env: takes the name of an environment variable, such as env:DB_PASSWORD")
    return reference


def _place_secret_reference(reference: str, info: ValidationInfo) -> str:
    scheme, _, rest = reference.partition(":")
    return f"file:{_place(rest, info)}" if scheme == "file" else reference


def _place(text: str, info: ValidationInfo) -> Path:
    path = Path(text).expanduser()
    base = (info.context or {}).get(BASE_FOLDER)
    return path if base is None or path.is_absolute() else Path(base) / path


def _place_path(value: object, info: ValidationInfo) -> object:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be the path of a file or folder")
    return _place(value, info)


def _check_bind(text: str) -> str:
    if text != "localhost":
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ValueError("must be an IP address of this machine, such as 127.0.0.1, 0.0.0.0 or ::1") from None
    return text


def _check_sensitive(text: str) -> str:
    if not SENSITIVE_COLUMN.fullmatch(text):
        raise ValueError("must be schema.table.column, the names as the catalogue has them, without quotes")
    return text


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _check_unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = sorted({str(value) for value in values if isinstance(value, str) and values.count(value) > 1})
    if repeated:
        raise ValueError(f"named twice: {', '.join(repeated)}")
    return values


_T = TypeVar("_T")

# Not a `type` statement: JSON Schema would then give every such list a name of its own.
Many = Annotated[tuple[_T, ...], BeforeValidator(_as_tuple), AfterValidator(_check_unique)]
"""A list in the file, an immutable tuple in memory, no value twice."""

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Text = Annotated[str, Field(min_length=1, max_length=1_000)]
SecretRef = Annotated[
    str,
    AfterValidator(_check_secret_reference),
    AfterValidator(_place_secret_reference),
    WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(SECRET_SCHEMES)}):.+"}),
]
"""Where a secret is, never the secret."""

AgeRecipient = Annotated[str, Field(pattern=AGE_RECIPIENT_PATTERN)]
FilePath = Annotated[Path, BeforeValidator(_place_path), WithJsonSchema({"type": "string", "format": "path"})]
Bind = Annotated[str, AfterValidator(_check_bind)]
ListenPort = Annotated[int, Field(ge=0, le=65_535)]
Port = Annotated[int, Field(ge=1, le=65_535)]
HttpUrl = Annotated[str, Field(pattern=URL_PATTERN, max_length=2_000)]
FunctionName = Annotated[str, Field(pattern=r"^[^.]+[.][^.]+$", max_length=200)]
"""schema.function"""

SensitiveColumn = Annotated[
    str, AfterValidator(_check_sensitive), WithJsonSchema({"type": "string", "pattern": f"^{SENSITIVE_COLUMN.pattern}$"})
]


def is_loopback(host: str) -> bool:
    """Whether an address or host name stays on this machine. Names other than localhost are not looked up: they do not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_safe_url(url: str) -> bool:
    """Whether nobody on the way can change what an address answers: https, or http that stays on this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


def place_with(info: ValidationInfo) -> Callable[[str], Path]:
    """The function that resolves a path of this file, for validators of texts that hold a path."""
    return lambda text: _place(text, info)
