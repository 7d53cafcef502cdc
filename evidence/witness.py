"""Witness cosignatures on checkpoints: c2sp.org/tlog-cosignature (Ed25519, `cosignature/v1`), and a quorum over them.

A witness signs only trees that continue the one it signed before. A quorum of witnesses on a checkpoint is therefore what rules out
a second history shown to somebody else.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from evidence.errors import NoteError
from evidence.note import Note, compute_key_id, parse_note

COSIGNATURE_V1: Final = 4
"""Signature type of an Ed25519 witness cosignature."""

_TIMESTAMP_BYTES: Final = 8
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A pinned witness: name, key id, Ed25519 key."""

    name: str
    key_id: bytes
    public_key: Ed25519PublicKey

    @classmethod
    def parse(cls, vkey: str) -> WitnessKey:
        """Read a witness verifier key, `name+hex+base64(0x04 || key)`."""
        name, _, rest = vkey.strip().partition("+")
        hexadecimal, _, encoded = rest.partition("+")
        try:
            key_id, raw = bytes.fromhex(hexadecimal), base64.b64decode(encoded, validate=True)
        except ValueError as error:
            raise _bad(vkey, str(error)) from error
        if not name or len(raw) != 1 + _KEY_BYTES or raw[0] != COSIGNATURE_V1:
            raise _bad(vkey, "it is not an Ed25519 cosignature key")
        if compute_key_id(name, raw[1:], COSIGNATURE_V1) != key_id:
            raise _bad(vkey, "its id does not belong to its name and key")
        return cls(name, key_id, Ed25519PublicKey.from_public_bytes(raw[1:]))


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """At least `quorum` of `witnesses` must have cosigned."""

    witnesses: tuple[WitnessKey, ...]
    quorum: int

    def count(self, note: bytes) -> int:
        """How many of the witnesses cosigned this note; a wrong cosignature by a known witness raises NoteError."""
        parsed = parse_note(note)
        return sum(_cosigned(parsed, witness) for witness in self.witnesses)

    def is_met(self, notes: Sequence[bytes]) -> bool:
        """Whether every one of these notes carries a quorum."""
        return bool(notes) and all(self.count(note) >= self.quorum for note in notes)


def _cosigned(note: Note, witness: WitnessKey) -> bool:
    for line in note.signatures:
        if (line.name, line.key_id) != (witness.name, witness.key_id):
            continue
        stamp, signature = line.signature[:_TIMESTAMP_BYTES], line.signature[_TIMESTAMP_BYTES:]
        message = f"cosignature/v1\ntime {int.from_bytes(stamp)}\n{note.text}"
        try:
            witness.public_key.verify(signature, message.encode())
        except InvalidSignature as error:
            why = "the checkpoint or the cosignature was changed"
            raise NoteError(f"the cosignature by {witness.name} is wrong", why=why, fix="treat the note as untrusted") from error
        return True
    return False


def _bad(vkey: str, why: str) -> NoteError:
    return NoteError("a witness key is malformed", why=f"{vkey[:80]!r}: {why}", fix="use the vkey the witness publishes")
