"""Signed notes and checkpoints as C2SP specifies them: c2sp.org/signed-note and c2sp.org/tlog-checkpoint.

    gw-a.example.com/2026h2/w0
    70000
    T2nCr7cdnWOBVCAF7Hw+ZvBxGD5V2qkPnX3S7w5wiZw=

    — gw-a.example.com/2026h2/w0 q1jQnN…

Only Ed25519 signatures (algorithm byte 0x01) are made; signatures by unknown keys are kept and ignored, as the specification asks.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from evidence.errors import NoteError

ED25519: Final = 1
"""Signature type of an Ed25519 note signature."""

MAX_NOTE_BYTES: Final = 1_000_000
"""A note with a full set of witness cosignatures is a few kilobytes; more is not a checkpoint."""

MAX_SIGNATURES: Final = 100
"""The specification lets a reader refuse notes with more lines than it is ready to check."""

_KEY_ID_BYTES: Final = 4
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: who says they signed, with which key, and the signature bytes after the key id."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note: the signed text, which ends in a newline, and its signature lines."""

    text: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log's note says: origin, number of leaves, root hash."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note text of this checkpoint, without extension lines."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def compute_key_id(name: str, public_key: bytes, algorithm: int = ED25519) -> bytes:
    """The four bytes that tell keys of one name apart: SHA-256(name || newline || algorithm || key), shortened."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([algorithm]) + public_key).digest()[:_KEY_ID_BYTES]


def encode_verifier_key(name: str, public_key: Ed25519PublicKey) -> str:
    """The verifier key ("vkey") an auditor pins: `name+keyid+base64(algorithm || key)`."""
    raw = public_key.public_bytes_raw()
    return f"{name}+{compute_key_id(name, raw).hex()}+{base64.b64encode(bytes([ED25519]) + raw).decode()}"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A pinned key: its name, its id, and the Ed25519 public key."""

    name: str
    key_id: bytes
    public_key: Ed25519PublicKey

    @classmethod
    def parse(cls, vkey: str) -> VerifierKey:
        """Read a verifier key and check that its id belongs to its name and key."""
        name, _, rest = vkey.strip().partition("+")
        hexadecimal, _, encoded = rest.partition("+")
        try:
            key_id, raw = bytes.fromhex(hexadecimal), base64.b64decode(encoded, validate=True)
        except ValueError as error:
            raise _bad("a verifier key is not name+hex+base64", str(error)) from error
        if not _is_name(name) or len(raw) != 1 + 32 or raw[0] != ED25519:
            raise _bad("a verifier key is not an Ed25519 key with a proper name", vkey[:80])
        if compute_key_id(name, raw[1:]) != key_id:
            raise _bad("a verifier key's id does not belong to its name and key", vkey[:80])
        return cls(name, key_id, Ed25519PublicKey.from_public_bytes(raw[1:]))


class NoteSigner:
    """Signs notes under one name with one Ed25519 key."""

    def __init__(self, name: str, private_key: Ed25519PrivateKey) -> None:
        if not _is_name(name):
            raise _bad("a signer name is empty or holds white space or '+'", name)
        self.name = name
        self.verifier_key = VerifierKey.parse(encode_verifier_key(name, private_key.public_key()))
        self._private_key = private_key

    def sign(self, text: str) -> bytes:
        """The note: text, blank line, one signature line."""
        if not text.endswith("\n") or "\n\n" in text or text.startswith("\n"):
            raise _bad("a note text is not lines that each end in a newline, without blank lines", text[:80])
        blob = base64.b64encode(self.verifier_key.key_id + self._private_key.sign(text.encode())).decode()
        return f"{text}\n— {self.name} {blob}\n".encode()


def parse_note(data: bytes) -> Note:
    """Split a note into its text and its signature lines; checks form only, no signature."""
    if len(data) > MAX_NOTE_BYTES:
        raise _bad(f"a note is larger than {MAX_NOTE_BYTES:,} bytes", f"{len(data):,} bytes")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise _bad("a note is not UTF-8", str(error)) from error
    if any(character < " " and character != "\n" for character in whole):
        raise _bad("a note holds a control character", "only newlines are allowed")
    text, separator, tail = whole.rpartition("\n\n")
    lines = tail.split("\n")
    if not separator or len(lines) < 2 or lines.pop() != "" or len(lines) > MAX_SIGNATURES:  # noqa: PLR2004 - one line and its end
        raise _bad("a note has no signature lines, or too many", whole[:80])
    return Note(text + "\n", tuple(_parse_signature(line) for line in lines))


def verify_note(data: bytes, *keys: VerifierKey) -> tuple[Note, tuple[VerifierKey, ...]]:
    """Parse a note and return which of the given keys signed it.

    Raises:
        NoteError: malformed, a signature by a known key that is wrong, or none by a known key.
    """
    note = parse_note(data)
    signed: list[VerifierKey] = []
    for signature in note.signatures:
        for key in keys:
            if (key.name, key.key_id) != (signature.name, signature.key_id) or key in signed:
                continue
            try:
                key.public_key.verify(signature.signature, note.text.encode())
            except InvalidSignature as error:
                raise _bad(f"the signature by {key.name} on a note is wrong", "the text or the signature was changed") from error
            signed.append(key)
    if not signed:
        raise _bad("a note is signed by none of the expected keys", f"expected {', '.join(key.name for key in keys)}")
    return note, tuple(signed)


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint a note text states; lines after the third are extensions and are ignored (tlog-checkpoint)."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] != "" or not lines[0] or "" in lines[1:-1]:  # noqa: PLR2004 - three lines and the end
        raise _bad("a checkpoint has fewer than three lines, or blank ones", text[:80])
    if not _SIZE.fullmatch(lines[1]):
        raise _bad("a checkpoint's size is not a plain decimal number", lines[1][:40])
    try:
        root = base64.b64decode(lines[2], validate=True)
    except binascii.Error as error:
        raise _bad("a checkpoint's root hash is not base64", lines[2][:80]) from error
    if len(root) != hashlib.sha256().digest_size or base64.b64encode(root).decode() != lines[2]:
        raise _bad("a checkpoint's root hash is not 32 bytes of canonical base64", lines[2][:80])
    return Checkpoint(lines[0], int(lines[1]), root)


def verify_checkpoint(data: bytes, key: VerifierKey) -> Checkpoint:
    """The checkpoint of a note signed by `key`, whose name must be the checkpoint's origin."""
    note, _ = verify_note(data, key)
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != key.name:
        raise _bad("a checkpoint's origin is not the name of the key that signed it", f"{checkpoint.origin} and {key.name}")
    return checkpoint


def _parse_signature(line: str) -> Signature:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise _bad("a note's signature line is not base64", line[:80]) from error
    if dash != "—" or not _is_name(name) or len(raw) <= _KEY_ID_BYTES:
        raise _bad("a note's signature line is malformed", line[:80])
    return Signature(name, raw[:_KEY_ID_BYTES], raw[_KEY_ID_BYTES:])


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(character.isspace() for character in name)


def _bad(what: str, why: str) -> NoteError:
    return NoteError(what, why=why, fix="treat the note as untrusted and look at where it came from")
