"""Turns references such as env:DB_PASSWORD or file:/run/secrets/db into secrets, anew at every use so that rotation works."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import pyrage

from gateway.errors import SecretError
from gateway.secrets.secret import Secret

MAX_SECRET_BYTES: Final = 65_536
"""Passwords, tokens and keys are far smaller; a larger file is not the one meant."""

AGE_OVERHEAD_BYTES: Final = 65_536
"""Room for the recipients of an age file and its framing, beside the secret itself."""

MAX_AGE_IDENTITIES: Final = 32
"""Each identity is tried on each file; more than this is a key ring, not an identity."""

DEFAULT_AGE_IDENTITY: Final = "env:SEALGATE_AGE_IDENTITY"
_AGE_KEY_PREFIX: Final = "AGE-SECRET-KEY-1"

_OTHERS_MAY_READ: Final = stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH

_PROVIDER_TITLES: Final = {"vault": "HashiCorp Vault", "aws-sm": "AWS Secrets Manager", "k8s": "Kubernetes secrets"}


class Provider(Protocol):
    """A place secrets come from beyond files and the environment; registered by its scheme."""

    def fetch(self, name: str) -> bytes:
        """The secret called `name` (what follows "scheme:"). Blocking, with its own deadline. Raises SecretError."""


class SecretResolver:
    """Resolves references to secrets; keeps none.

    Args:
        age_identity: reference to the age identity that opens *.age files.
        environment: where env: looks.
        providers: further schemes, such as {"vault": …}.
    """

    def __init__(
        self,
        *,
        age_identity: str = DEFAULT_AGE_IDENTITY,
        environment: Mapping[str, str] = os.environ,
        providers: Mapping[str, Provider] | None = None,
    ) -> None:
        self._age_identity = age_identity
        self._environment = environment
        self._providers = dict(providers or {})

    def resolve(self, reference: str) -> bytes:
        """The secret's bytes, without one trailing line break. Raises SecretError."""
        return self.read(reference).reveal()

    async def resolve_async(self, reference: str) -> bytes:
        """Like `resolve`, off the event loop: disks and providers may be slow."""
        return await asyncio.to_thread(self.resolve, reference)

    def read(self, reference: str) -> Secret:
        """The secret, wrapped so that it is not shown by accident. Raises SecretError."""
        scheme, separator, name = reference.partition(":")
        if not separator or not name:
            # Whatever stands here may be the secret itself, so it is not repeated.
            raise SecretError("a setting is not a reference to a secret", fix="write env:NAME or file:PATH")
        if scheme == "env":
            value = self._read_environment(name)
        elif scheme == "file":
            value = self._read_file(Path(name))
        else:
            value = self._read_provider(scheme, name)
        value = strip_line_break(value)
        if not value:
            raise SecretError(f"{reference} is empty", fix="put the secret there; an empty one protects nothing")
        if len(value) > MAX_SECRET_BYTES:
            raise SecretError(f"{reference} is too large", why=f"{len(value)} bytes; at most {MAX_SECRET_BYTES} are read")
        return Secret(value, reference)

    def _read_environment(self, name: str) -> bytes:
        value = self._environment.get(name)
        if value is None:
            raise SecretError(
                f"env:{name} cannot be resolved",
                why=f"the environment variable {name} is not set",
                fix=f"set {name} for the gateway's process",
            )
        return value.encode("utf-8", "surrogateescape")

    def _read_file(self, path: Path) -> bytes:
        if path.suffix == ".age":
            return self._decrypt(path, read_limited(path, MAX_SECRET_BYTES + AGE_OVERHEAD_BYTES))
        return read_limited(path, MAX_SECRET_BYTES + 2, private=True)

    def _decrypt(self, path: Path, ciphertext: bytes) -> bytes:
        if self._age_identity.startswith("file:") and self._age_identity.endswith(".age"):
            raise SecretError(
                "the age identity must not be encrypted with age", fix="keep it in a file only the gateway may read"
            )
        identities = _parse_identities(self.read(self._age_identity))
        try:
            return bytes(pyrage.decrypt(ciphertext, identities))
        except pyrage.DecryptError as error:
            raise SecretError(
                f"file:{path} cannot be decrypted",
                why=f"age: {error}",
                fix=f"encrypt it for the identity in {self._age_identity}",
            ) from None

    def _read_provider(self, scheme: str, name: str) -> bytes:
        provider = self._providers.get(scheme)
        if provider is None:
            title = _PROVIDER_TITLES.get(scheme)
            if title is None:
                raise SecretError("a setting is not a reference to a secret", fix="write env:NAME or file:PATH")
            raise SecretError(
                f"{scheme}:{name} cannot be resolved",
                why=f"no provider for {title} is registered in this gateway",
                fix="let the platform mount the secret and name it with file:, or register a provider for the scheme",
            )
        return provider.fetch(name)


def read_limited(path: Path, limit: int, *, private: bool = False) -> bytes:
    """A regular file's bytes, at most `limit`.

    Args:
        path: the file; links are followed, because platforms mount secrets through them.
        limit: most bytes accepted.
        private: whether to refuse a file that others may read or change.

    Raises:
        SecretError: it cannot be read, is not a regular file, is too large, or others may read it.
    """
    try:
        # O_NONBLOCK: opening a pipe nobody writes to would wait for ever.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a path"
        raise SecretError(f"file:{path} cannot be read", why=why, fix="check the path and its permissions") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise SecretError(f"file:{path} is not a regular file", fix="name the file that holds the secret")
        if private:
            _check_private(path, status)
        if status.st_size > limit:
            raise SecretError(f"file:{path} is too large", why=f"{status.st_size} bytes; at most {limit} are read")
        return _read_all(path, handle, limit)
    finally:
        os.close(handle)


def _read_all(path: Path, handle: int, limit: int) -> bytes:
    data = b""
    while chunk := os.read(handle, limit + 1 - len(data)):
        data += chunk
        if len(data) > limit:
            raise SecretError(f"file:{path} is too large", why=f"more than {limit} bytes")
    return data


def _check_private(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in {os.geteuid(), 0}:
        raise SecretError(
            f"file:{path} belongs to another user",
            why=f"its owner is user {status.st_uid}, who can read and change it",
            fix="give the file to the gateway's user",
        )
    if status.st_mode & _OTHERS_MAY_READ:
        raise SecretError(
            f"file:{path} is open to other users of this machine",
            why=f"its mode is {stat.S_IMODE(status.st_mode):04o}",
            fix=f"chmod 600 {path}, or encrypt it with age and name it {path}.age",
        )


def _parse_identities(secret: Secret) -> list[pyrage.x25519.Identity]:
    lines = [line.strip() for line in secret.reveal_text().splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    try:
        if not keys or len(keys) > MAX_AGE_IDENTITIES or not all(key.startswith(_AGE_KEY_PREFIX) for key in keys):
            raise ValueError
        return [pyrage.x25519.Identity.from_str(key) for key in keys]
    except (ValueError, pyrage.IdentityError):
        # The library's message may quote the key, so it is not repeated.
        raise SecretError(
            f"{secret.reference} holds no age identity",
            why=f"1 to {MAX_AGE_IDENTITIES} lines starting with {_AGE_KEY_PREFIX} are expected",
            fix="make one with age-keygen",
        ) from None


def strip_line_break(value: bytes) -> bytes:
    """Without one line break at the end, which editors and `echo` add and no secret needs."""
    return value.removesuffix(b"\n").removesuffix(b"\r") if value.endswith(b"\n") else value
