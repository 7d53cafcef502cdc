"""Chunk files: grouping, reading back, repair after a crash; and the sealing of chunks."""

import hashlib

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence import chunks as chunks_module
from evidence.chunks import ChunkWriter, iterate_frames, list_chunk_files, read_chunk
from evidence.disk import Disk
from evidence.errors import DataKeyError, StoreError
from evidence.keys import (
    MAX_BLOB_BYTES,
    ChunkSealer,
    commit_data_key,
    derive_salt,
    generate_data_key,
    generate_log_key,
    load_log_key,
    parse_recipients,
    unwrap,
    wrap,
)


def write(path, numbers, sid="s1", size=100):
    writer = ChunkWriter(path, Disk())
    for number in numbers:
        writer.append(sid, number, bytes([number % 251]) * size)
    writer.flush()
    writer.close()


def test_many_chunks_share_a_file(tmp_path):
    write(tmp_path, range(50))
    assert [first for first, _ in list_chunk_files(tmp_path / "sessions/s1")] == [0]
    assert all(read_chunk(tmp_path / "sessions/s1", number) == bytes([number]) * 100 for number in range(50))
    with pytest.raises(StoreError, match="chunk 50"):
        read_chunk(tmp_path / "sessions/s1", 50)
    with pytest.raises(StoreError):
        read_chunk(tmp_path / "sessions/none", 0)


def test_a_full_file_is_followed_by_another(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks_module, "FILE_BYTES", 1000)
    write(tmp_path, range(30))
    assert [first for first, _ in list_chunk_files(tmp_path / "sessions/s1")] == [0, 9, 18, 27]
    write(tmp_path, range(30))  # as after a crash: everything is there already
    assert all(read_chunk(tmp_path / "sessions/s1", number) == bytes([number]) * 100 for number in range(30))


def test_cut_at_every_byte_is_repaired_by_appending_again(tmp_path):
    write(tmp_path, range(4), size=20)
    path = tmp_path / "sessions/s1/chunk-0.zst.enc"
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        write(tmp_path, range(4), size=20)
        assert path.read_bytes() == whole
        path.write_bytes(whole[:cut] + bytes(len(whole) - cut))
        write(tmp_path, range(4), size=20)
        assert path.read_bytes() == whole


def test_damaged_chunk_is_replaced_together_with_what_follows(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks_module, "FILE_BYTES", 300)
    write(tmp_path, range(8), size=100)
    folder = tmp_path / "sessions/s1"
    path = folder / "chunk-0.zst.enc"
    data = bytearray(path.read_bytes())
    data[130] ^= 1
    path.write_bytes(data)
    write(tmp_path, range(1, 8), size=100)
    assert all(read_chunk(folder, number) == bytes([number]) * 100 for number in range(8))


def test_few_files_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks_module, "MAX_OPEN_FILES", 3)
    writer = ChunkWriter(tmp_path, Disk())
    for number in range(4):
        for session in range(10):
            writer.append(f"s{session}", number, b"%d-%d" % (session, number))
            assert len(writer._open) <= 3
    writer.flush()
    writer.close()
    assert read_chunk(tmp_path / "sessions/s7", 3) == b"7-3"


@given(st.binary(max_size=200))
def test_arbitrary_chunk_file(data):
    frames = list(iterate_frames(data))
    assert sum(12 + len(sealed) for _, _, sealed in frames) <= len(data)


@given(st.binary(max_size=2000), st.integers(0, 2**40))
def test_sealing_round_trip(plain, number):
    sealer = ChunkSealer(bytes(32), "o", "s")
    assert sealer.open(number, sealer.seal(number, plain)) == plain


def test_sealed_chunk_opens_only_where_it_belongs():
    key = generate_data_key()
    sealed = ChunkSealer(key, "o", "s").seal(1, b"text")
    for other, number in (
        (ChunkSealer(key, "o", "s"), 2),
        (ChunkSealer(key, "o", "t"), 1),
        (ChunkSealer(key, "p", "s"), 1),
        (ChunkSealer(generate_data_key(), "o", "s"), 1),
    ):
        with pytest.raises(DataKeyError):
            other.open(number, sealed)
    with pytest.raises(DataKeyError):
        ChunkSealer(key, "o", "s").open(1, sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_blob_limit():
    sealer = ChunkSealer(bytes(32), "o", "s")
    assert len(sealer.open(0, sealer.seal(0, bytes(MAX_BLOB_BYTES)))) == MAX_BLOB_BYTES
    with pytest.raises(DataKeyError, match="too large"):
        sealer.seal(0, bytes(MAX_BLOB_BYTES + 1))


def test_wrapping_for_recipients():
    ours, theirs, stranger = (pyrage.x25519.Identity.generate() for _ in range(3))
    wrapped = wrap(b"secret", parse_recipients([str(ours.to_public()), str(theirs.to_public())]))
    assert unwrap(wrapped, [str(ours)]) == unwrap(wrapped, [str(theirs)]) == b"secret"
    for identities in ([str(stranger)], ["nonsense"]):
        with pytest.raises(DataKeyError):
            unwrap(wrapped, identities)
    with pytest.raises(DataKeyError, match="nobody"):
        wrap(b"secret", [])
    with pytest.raises(DataKeyError, match="age1nonsense"):
        parse_recipients(["age1nonsense"])


def test_commitments():
    assert commit_data_key(bytes(32)) == hashlib.sha256(b"dek-commit" + bytes(32)).hexdigest()
    assert commit_data_key(bytes(32)) != commit_data_key(bytes(31) + b"\1")
    assert derive_salt(bytes(32), "a") != derive_salt(bytes(32), "b")
    with pytest.raises(DataKeyError, match="length"):
        ChunkSealer(bytes(16), "o", "s")


def test_log_key_file(tmp_path):
    path = tmp_path / "keys" / "log.pem"
    key = generate_log_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_log_key(path).private_bytes_raw() == key.private_bytes_raw()
    with pytest.raises(FileExistsError):
        generate_log_key(path)
    with pytest.raises(DataKeyError):
        load_log_key(tmp_path / "missing.pem")
    (tmp_path / "bad.pem").write_text("nonsense")
    with pytest.raises(DataKeyError):
        load_log_key(tmp_path / "bad.pem")
