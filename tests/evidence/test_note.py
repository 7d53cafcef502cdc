"""Signed notes and checkpoints: vectors of the Go note package, round trips, and everything that must be refused."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from evidence.errors import NoteError
from evidence.note import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Checkpoint,
    NoteSigner,
    VerifierKey,
    encode_verifier_key,
    parse_checkpoint,
    parse_note,
    verify_checkpoint,
    verify_note,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "evidence" / "note"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = NoteSigner("gw-a/2026h2/w0", KEY)
ROOT = bytes(32)


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.txt")), ids=lambda path: path.stem)
def test_vector(path):
    header, _, note = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in header.decode().split("\n"))

    def verify():
        return verify_note(note, VerifierKey.parse(fields["vkey"]))

    if fields["expect"] == "verified":
        assert [key.name for key in verify()[1]] == ["PeterNeumann"]
    else:
        with pytest.raises(NoteError, match=fields["expect"]):
            verify()


def test_public_key_of_the_go_checksum_database_parses():
    key = VerifierKey.parse("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")
    assert encode_verifier_key(key.name, key.public_key).startswith("sum.golang.org+033de0ae+")


def test_checkpoint_round_trip():
    checkpoint = Checkpoint(SIGNER.name, 70_000, ROOT)
    note = SIGNER.sign(checkpoint.text())
    assert verify_checkpoint(note, SIGNER.verifier_key) == checkpoint
    assert VerifierKey.parse(encode_verifier_key(SIGNER.name, KEY.public_key())) == SIGNER.verifier_key


@given(st.data())
def test_any_changed_byte_is_noticed(data):
    note = bytearray(SIGNER.sign(Checkpoint(SIGNER.name, 123, ROOT).text()))
    position = data.draw(st.integers(0, len(note) - 1))
    note[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(NoteError):
        verify_checkpoint(bytes(note), SIGNER.verifier_key)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data):
    with pytest.raises(NoteError):
        verify_note(data, SIGNER.verifier_key)


def test_origin_must_be_the_signers_name():
    note = SIGNER.sign(Checkpoint("gw-b/2026h2/w0", 1, ROOT).text())
    with pytest.raises(NoteError, match="origin"):
        verify_checkpoint(note, SIGNER.verifier_key)


@pytest.mark.parametrize(
    "text",
    [
        "o\n1\n",
        "o\n01\nAAAA\n",
        "o\n-1\nAAAA\n",
        "o\n1\nAAAA\n",
        "o\n1\n!!\n",
        "o\n1 \nx\n",
        "\n1\nx\n",
        "o\n9999999999999999999999\nx\n",
    ],
)
def test_malformed_checkpoints(text):
    with pytest.raises(NoteError):
        parse_checkpoint(text)


def test_extension_lines_are_ignored():
    text = Checkpoint("o", 1, ROOT).text()
    assert parse_checkpoint(text + "extension\n") == Checkpoint("o", 1, ROOT)


def test_limits():
    with pytest.raises(NoteError, match="larger"):
        parse_note(b"x" * (MAX_NOTE_BYTES + 1))
    note = SIGNER.sign("text\n")
    signature = note.split(b"\n\n")[1]
    assert len(parse_note(b"text\n\n" + signature * MAX_SIGNATURES).signatures) == MAX_SIGNATURES
    with pytest.raises(NoteError, match="too many"):
        parse_note(b"text\n\n" + signature * (MAX_SIGNATURES + 1))


@pytest.mark.parametrize("text", ["", "no newline", "two\n\nparts\n", "\nlead\n"])
def test_signer_refuses_malformed_text(text):
    with pytest.raises(NoteError):
        SIGNER.sign(text)


@pytest.mark.parametrize("vkey", ["", "a+b", "a+00000000+", "a b+00000000+AA==", "a+zz+AA==", "a+00000000+AgAA"])
def test_malformed_verifier_keys(vkey):
    with pytest.raises(NoteError):
        VerifierKey.parse(vkey)
