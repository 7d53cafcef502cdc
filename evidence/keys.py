"""Keys of the evidence: the log's signing key, and one data key per session that encrypts its chunks.

A session's data key exists in memory while the session lives, and on disk only wrapped to the configured age recipients
(`keys/<sid>.dek`). Destroying that file makes the session's chunks unreadable for good, while every hash and proof still verifies.
The session salt, which opens the commitments in records, is wrapped apart, to the auditors only (`sessions/<sid>/openings.enc`).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyrage
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from evidence.disk import Disk
from evidence.errors import DataKeyError

DATA_KEY_BYTES: Final = 32
"""AES-256."""

SALT_BYTES: Final = 32
"""As long as the HMAC's output, so that guessing the salt is no easier than forging the HMAC."""

MAX_BLOB_BYTES: Final = 16 << 20
"""Largest plain text of one chunk: an input document with the largest statement a gateway accepts, and room to spare."""

_NONCE_BYTES: Final = 12
_COMPRESSION_LEVEL: Final = 3


class _Local(threading.local):
    """A compressor per thread: it must not be shared, and making one costs more than a small chunk."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL)


_local: Final = _Local()


def generate_data_key() -> bytes:
    """A fresh data key for one session."""
    return secrets.token_bytes(DATA_KEY_BYTES)


def commit_data_key(data_key: bytes) -> str:
    """What session.open says about the data key, as hex: AES-GCM alone does not bind a ciphertext to one key."""
    return hashlib.sha256(b"dek-commit" + data_key).hexdigest()


def derive_salt(session_salt: bytes, name: str) -> bytes:
    """The salt of one commitment, so that a single opening can be shown without giving away the others."""
    return hmac.new(session_salt, name.encode(), hashlib.sha256).digest()


def parse_recipients(recipients: Sequence[str]) -> list[pyrage.x25519.Recipient]:
    """Age X25519 recipients (`age1...`) in usable form.

    Raises:
        DataKeyError: one of them is not an age recipient.
    """
    parsed = []
    for text in recipients:
        try:
            parsed.append(pyrage.x25519.Recipient.from_str(text))
        except pyrage.RecipientError as error:
            raise DataKeyError(
                "an evidence recipient is not an age X25519 recipient", why=f"{text!r}: {error}", fix="make one with age-keygen"
            ) from error
    return parsed


def wrap(secret: bytes, recipients: Sequence[pyrage.x25519.Recipient]) -> bytes:
    """An age file that any one of the recipients can open."""
    if not recipients:
        raise DataKeyError("a key cannot be wrapped for nobody", fix="configure at least one evidence recipient")
    try:
        return bytes(pyrage.encrypt(secret, list(recipients)))
    except pyrage.EncryptError as error:
        raise DataKeyError("a key could not be wrapped", why=str(error), fix="check the configured recipients") from error


def unwrap(wrapped: bytes, identities: Sequence[str]) -> bytes:
    """Open an age file with one of the given identities (`AGE-SECRET-KEY-1...`).

    Raises:
        DataKeyError: none of them opens it.
    """
    try:
        return bytes(pyrage.decrypt(wrapped, [pyrage.x25519.Identity.from_str(text) for text in identities]))
    except (pyrage.DecryptError, pyrage.IdentityError) as error:
        raise DataKeyError("the key file does not open", why=str(error), fix="use an identity it was wrapped for") from error


def destroy_keys(log_path: Path, sid: str, disk: Disk) -> None:
    """Remove a session's wrapped data key and salt: its chunks and commitments cannot be opened any more."""
    for path in (log_path / "keys" / f"{sid}.dek", log_path / "sessions" / sid / "openings.enc"):
        if path.exists():
            path.unlink()
            disk.sync_directory(path.parent)


class ChunkSealer:
    """Seals the chunks of one session: zstd, then AES-256-GCM with the chunk number as nonce.

    The number must never repeat under one data key; the session's owner counts. Bound to origin, session and number, so that a
    ciphertext moved elsewhere does not open.
    """

    def __init__(self, data_key: bytes, origin: str, sid: str) -> None:
        if len(data_key) != DATA_KEY_BYTES:
            raise DataKeyError("a data key has the wrong length", why=f"{len(data_key)} bytes", fix=f"use {DATA_KEY_BYTES} bytes")
        self._cipher = AESGCM(data_key)
        self._bound = f"{origin}|{sid}|"

    def seal(self, number: int, plain: bytes) -> bytes:
        """The ciphertext of chunk `number`."""
        if len(plain) > MAX_BLOB_BYTES:
            raise DataKeyError(
                f"a chunk of {len(plain):,} bytes is too large", why=f"the limit is {MAX_BLOB_BYTES:,}", fix="split it"
            )
        packed = _local.compressor.compress(plain)
        return self._cipher.encrypt(number.to_bytes(_NONCE_BYTES), packed, f"{self._bound}{number}".encode())

    def open(self, number: int, sealed: bytes, base: bytes | None = None) -> bytes:
        """The plain text of chunk `number`.

        Args:
            number: its number in the session.
            sealed: its ciphertext.
            base: plain text of the chunk that the record names as the base of this one; None where it names none.

        Raises:
            DataKeyError: the ciphertext was changed, moved, or made with another key.
        """
        try:
            packed = self._cipher.decrypt(number.to_bytes(_NONCE_BYTES), sealed, f"{self._bound}{number}".encode())
            words = zstandard.ZstdCompressionDict(base or b"", dict_type=zstandard.DICT_TYPE_RAWCONTENT)
            return zstandard.ZstdDecompressor(dict_data=words if base else None).decompress(
                packed, max_output_size=MAX_BLOB_BYTES
            )
        except (InvalidTag, zstandard.ZstdError) as error:
            raise DataKeyError(
                f"chunk {number} does not open", why="changed, moved, or sealed with another key", fix="treat it as tampered"
            ) from error


def load_log_key(path: Path) -> Ed25519PrivateKey:
    """Read the log's signing key from a PKCS #8 PEM file."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise DataKeyError(
            f"the log key {path} cannot be read", why=str(error), fix="create one with generate_log_key"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise DataKeyError(f"the log key {path} is not an Ed25519 key", fix="create one with generate_log_key")
    return key


def generate_log_key(path: Path) -> Ed25519PrivateKey:
    """Make a signing key and store it as PKCS #8 PEM that only its owner can read; refuses to replace a file."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    return key
