"""Certificates: what they carry, how long they last, and what is not believed."""

import asyncssh
import pytest
from asyncssh.public_key import decode_ssh_certificate

from gateway.action import Subject
from gateway.errors import ConfigError, IdentityError
from gateway.secrets import SecretResolver
from gateway.serve.ssh.keys import HOST_CERTIFICATE_S, HostKeys, UserAuthority, load_private_key

NOW = 1_800_000_000
SUBJECT = Subject(
    "corp/agent-7", "agent", "https://id.example.com", "agent-7", ("agents", "öffentlich"), person="corp/alice",
    on_behalf_of="corp/alice", claims={"team": "a"}, expires_ns=(NOW + 900) * 10**9, run_id="run-1", email="a@example.com",
)  # fmt: skip


@pytest.fixture
def key():
    return asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture
def authority(key):
    return UserAuthority(key, "gw-a", 3_600, clock=lambda: NOW)


@pytest.fixture
def public_key():
    return asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()


def read(line):
    return asyncssh.import_certificate(line)


def test_a_certificate_carries_the_whole_subject_and_ends_with_the_token(authority, public_key, monkeypatch):
    line, ends = authority.certify(public_key, SUBJECT)
    assert ends == NOW + 900
    monkeypatch.setattr("time.time", lambda: NOW + 899)
    assert authority.prove(read(line)) == SUBJECT
    monkeypatch.setattr("time.time", lambda: NOW + 901)
    with pytest.raises(IdentityError, match="expired"):
        authority.prove(read(line))


def test_it_never_lasts_longer_than_configured(authority, public_key):
    long = Subject("corp/a", "agent", "https://id", "a", expires_ns=(NOW + 10**6) * 10**9)
    assert authority.certify(public_key, long)[1] == NOW + 3_600


def test_other_authorities_gateways_and_kinds_are_not_believed(authority, key, public_key, monkeypatch):
    monkeypatch.setattr("time.time", lambda: NOW)
    other = UserAuthority(asyncssh.generate_private_key("ssh-ed25519"), "gw-a", 3_600, clock=lambda: NOW)
    elsewhere = UserAuthority(key, "gw-b", 3_600, clock=lambda: NOW)
    for maker in (other, elsewhere):
        with pytest.raises(IdentityError, match="not one of this gateway"):
            authority.prove(read(maker.certify(public_key, SUBJECT)[0]))
    host = key.generate_host_certificate(asyncssh.import_public_key(public_key), "{}", principals=["sealgate:gw-a"])
    for key_id in ("", "no json", '{"v":2}', '{"v":1,"id":"corp/a"}', '{"v":1,"unknown":1}', "[]"):
        forged = key.generate_user_certificate(asyncssh.import_public_key(public_key), key_id, principals=["sealgate:gw-a"])
        with pytest.raises(IdentityError, match="cannot be read"):
            authority.prove(forged)
    with pytest.raises(IdentityError):
        authority.prove(host)


def test_keys_that_are_none_and_subjects_that_do_not_fit_are_refused(authority, public_key):
    for text in ("", "hello", "ssh-ed25519 AAAA", public_key[:40]):
        with pytest.raises(IdentityError, match="public key"):
            authority.certify(text, SUBJECT)
    large = Subject("corp/a", "agent", "https://id", "a", tuple(f"group-{number}" for number in range(5_000)), expires_ns=10**19)
    with pytest.raises(IdentityError, match="no certificate can be made"):
        authority.certify(public_key, large)


def test_host_certificates_are_made_again_in_time(key):
    now = [NOW]
    keys = HostKeys(asyncssh.generate_private_key("ssh-ed25519"), key, clock=lambda: now[0])
    ((_, first),) = keys.certify(("web-1",))
    assert keys.certify(("web-1",))[0][1] is first
    assert decode_ssh_certificate(first.public_data).principals == ["web-1"]
    now[0] += HOST_CERTIFICATE_S
    assert keys.certify(("web-1",))[0][1] is not first


def test_a_private_key_must_be_one(tmp_path):
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text("no key")
    with pytest.raises(ConfigError, match=r"listeners\.ssh\.host_key"):
        load_private_key(SecretResolver(age_identity="env:NONE"), f"file:{path}", "listeners.ssh.host_key")
