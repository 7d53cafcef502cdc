"""References become secrets at the moment of use, and nothing shows them by accident."""

import copy
import os
import pickle

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SecretError
from gateway.secrets import MAX_SECRET_BYTES, Secret, SecretResolver

PASSWORD = b"correct horse battery staple"


@pytest.fixture
def identity():
    return pyrage.x25519.Identity.generate()


def write(path, data=PASSWORD, mode=0o600):
    path.write_bytes(data)
    path.chmod(mode)
    return f"file:{path}"


def refuse(reference, **options):
    with pytest.raises(SecretError) as caught:
        SecretResolver(**options).resolve(reference)
    assert "horse" not in str(caught.value)
    return str(caught.value)


def test_env():
    assert SecretResolver(environment={"DB": "pw"}).resolve("env:DB") == b"pw"
    assert "DB is not set" in refuse("env:DB", environment={})
    assert "empty" in refuse("env:DB", environment={"DB": ""})


def test_a_private_file_is_read(tmp_path):
    assert SecretResolver().resolve(write(tmp_path / "pw")) == PASSWORD


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o660, 0o666])
def test_a_file_others_may_read_or_change_is_refused(tmp_path, mode):
    text = refuse(write(tmp_path / "pw", mode=mode))
    assert f"{mode:04o}" in text
    assert "chmod 600" in text


def test_a_link_to_a_private_file_is_followed(tmp_path):
    write(tmp_path / "pw")
    (tmp_path / "link").symlink_to(tmp_path / "pw")
    assert SecretResolver().resolve(f"file:{tmp_path}/link") == PASSWORD


@pytest.mark.parametrize(
    ("stored", "secret"),
    [(b"a\n", b"a"), (b"a\r\n", b"a"), (b"a\n\n", b"a\n"), (b"a\r", b"a\r"), (b" a ", b" a "), (b"\0\n", b"\0")],
)
def test_one_line_break_at_the_end_is_not_part_of_the_secret(tmp_path, stored, secret):
    assert SecretResolver().resolve(write(tmp_path / "pw", stored)) == secret


@pytest.mark.parametrize("stored", [b"", b"\n", b"\r\n"])
def test_an_empty_secret_is_refused(tmp_path, stored):
    assert "empty" in refuse(write(tmp_path / "pw", stored))


def test_the_largest_secret_is_read_and_a_larger_one_refused(tmp_path):
    assert len(SecretResolver().resolve(write(tmp_path / "pw", b"x" * MAX_SECRET_BYTES + b"\n"))) == MAX_SECRET_BYTES
    assert "too large" in refuse(write(tmp_path / "pw", b"x" * (MAX_SECRET_BYTES + 1)))
    assert "too large" in refuse("env:A", environment={"A": "x" * (MAX_SECRET_BYTES + 1)})


def test_what_is_not_a_regular_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "regular" in refuse(f"file:{tmp_path}/pipe")
    assert "regular" in refuse(f"file:{tmp_path}")
    assert "regular" in refuse("file:/dev/zero")
    assert "cannot be read" in refuse(f"file:{tmp_path}/missing")
    assert "cannot be read" in refuse("file:a\0b")


def test_a_changed_secret_is_used_at_once(tmp_path, identity):
    environment = {"DB": "old", "ID": str(identity)}
    resolver = SecretResolver(environment=environment, age_identity="env:ID")
    plain, sealed = write(tmp_path / "pw", b"old"), tmp_path / "pw.age"
    sealed.write_bytes(pyrage.encrypt(b"old", [identity.to_public()]))
    references = ["env:DB", plain, f"file:{sealed}"]
    assert [resolver.resolve(reference) for reference in references] == [b"old"] * 3
    environment["DB"] = "new"
    write(tmp_path / "pw", b"new")
    sealed.write_bytes(pyrage.encrypt(b"new", [identity.to_public()]))
    assert [resolver.resolve(reference) for reference in references] == [b"new"] * 3


def test_age_files_may_be_readable_by_all(tmp_path, identity):
    path = tmp_path / "pw.age"
    path.write_bytes(pyrage.encrypt(PASSWORD + b"\n", [identity.to_public()]))
    path.chmod(0o644)
    key_file = write(tmp_path / "identity", f"# created by age-keygen\n{identity}\n".encode())
    assert SecretResolver(age_identity=key_file).resolve(f"file:{path}") == PASSWORD
    assert SecretResolver(environment={"SEALGATE_AGE_IDENTITY": str(identity)}).resolve(f"file:{path}") == PASSWORD


def test_age_refusals(tmp_path, identity):
    other = pyrage.x25519.Identity.generate()
    path = tmp_path / "pw.age"
    path.write_bytes(pyrage.encrypt(PASSWORD, [identity.to_public()]))
    reference = f"file:{path}"
    assert "SEALGATE_AGE_IDENTITY is not set" in refuse(reference, environment={})
    assert "cannot be decrypted" in refuse(reference, environment={"SEALGATE_AGE_IDENTITY": str(other)})
    wrong = refuse(reference, environment={"SEALGATE_AGE_IDENTITY": "AGE-SECRET-KEY-1WRONGWRONG"})
    assert "holds no age identity" in wrong
    assert "WRONG" not in wrong
    assert "holds no age identity" in refuse(reference, environment={"SEALGATE_AGE_IDENTITY": "x"})
    assert "must not be encrypted" in refuse(reference, age_identity=reference)
    path.write_bytes(b"age-encryption.org/v1\n")
    assert "cannot be decrypted" in refuse(reference, environment={"SEALGATE_AGE_IDENTITY": str(identity)})


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_of_an_age_file_is_noticed(tmp_path_factory, position, change):
    identity = pyrage.x25519.Identity.generate()
    sealed = bytearray(pyrage.encrypt(PASSWORD, [identity.to_public()]))
    sealed[position % len(sealed)] ^= change
    path = tmp_path_factory.mktemp("age") / "pw.age"
    path.write_bytes(sealed)
    assert "cannot be decrypted" in refuse(f"file:{path}", environment={"SEALGATE_AGE_IDENTITY": str(identity)})


class Shelf:
    """A provider with its secrets in memory."""

    def __init__(self, secrets):
        self._secrets = secrets

    def fetch(self, name):
        return self._secrets[name]


def test_providers():
    assert SecretResolver(providers={"vault": Shelf({"db/pw#field": b"pw\n"})}).resolve("vault:db/pw#field") == b"pw"
    assert "no provider for HashiCorp Vault is registered" in refuse("vault:db/pw")
    assert "AWS Secrets Manager" in refuse("aws-sm:db")
    assert "Kubernetes" in refuse("k8s:ns/name")
    assert "empty" in refuse("vault:x", providers={"vault": Shelf({"x": b""})})
    assert "too large" in refuse("vault:x", providers={"vault": Shelf({"x": b"x" * (MAX_SECRET_BYTES + 1)})})


@pytest.mark.parametrize("reference", ["correct horse", "", ":", "env:", "file:", "https://horse.example.com/x", "ftp:horse"])
def test_what_is_no_reference_is_never_repeated(reference):
    refuse(reference)


async def test_resolving_off_the_event_loop(tmp_path):
    assert await SecretResolver().resolve_async(write(tmp_path / "pw")) == PASSWORD


def test_a_secret_does_not_show_itself():
    secret = Secret(PASSWORD, "env:DB")
    assert secret.reveal() == PASSWORD
    assert secret.reveal_text() == PASSWORD.decode()
    for text in (repr(secret), str(secret), f"{secret}", "%s" % secret, repr({"a": [secret]})):  # noqa: UP031 # the old form is meant
        assert "horse" not in text
        assert "env:DB" in text
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.copy(secret)
    with pytest.raises(TypeError):
        hash(secret)
    assert not hasattr(secret, "__dict__")
    assert secret == Secret(PASSWORD, "file:x")
    assert secret != Secret(b"other", "env:DB")
    assert secret != PASSWORD
    with pytest.raises(SecretError, match="not text"):
        Secret(b"\xff", "env:DB").reveal_text()
