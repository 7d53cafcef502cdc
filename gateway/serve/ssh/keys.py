"""Keys and certificates of the SSH door: who the gateway is, which hosts it stands for, and who a certificate proves.

A user certificate carries the whole subject in its key id, signed by the gateway's own user authority; nothing is looked up when it
comes back. It lasts as long as the token it was made from at most. (OpenSSH PROTOCOL.certkeys.)
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncssh
import orjson
from asyncssh.public_key import CERT_TYPE_USER, SSHOpenSSHCertificate

from gateway.action import Subject
from gateway.errors import ConfigError, IdentityError, SecretError
from gateway.secrets import SecretResolver

HOST_CERTIFICATE_S: Final = 3_600
"""Life of a host certificate; clients check it when they connect, and a new one is made for later connections."""

MAX_HOST_CERTIFICATES: Final = 1_000
"""Host certificates kept, one per asked name; each takes a signature of 0.1 ms to make again."""

TARGET_CERTIFICATE_S: Final = 300
"""Life of a certificate the gateway makes for its own login at a target: long enough for a slow login."""

CLOCK_SKEW_S: Final = 60
"""How far back a certificate begins, for clocks that run behind."""

MAX_KEY_ID_BYTES: Final = 16_384
"""Longest key id; a subject with very many groups does not fit, and is told so."""

_NANOSECONDS: Final = 1_000_000_000


def load_private_key(resolver: SecretResolver, reference: str, setting: str) -> asyncssh.SSHKey:
    """The private key a reference leads to. Raises ConfigError that names the setting, never any part of the key."""
    try:
        return asyncssh.import_private_key(resolver.resolve(reference))
    except SecretError as error:
        raise ConfigError(f"{setting} cannot be read", why=str(error)) from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
        fix = "make one with `ssh-keygen -t ed25519 -N '' -f FILE`"
        raise ConfigError(f"{setting} cannot be used", why="it is not a private key without a passphrase", fix=fix) from error


@dataclass(slots=True)
class HostKeys:
    """The gateway's host key and the authority behind its names.

    Args:
        clock: seconds since the epoch.
    """

    host_key: asyncssh.SSHKey
    host_ca: asyncssh.SSHKey
    clock: Callable[[], float] = time.time
    _certificates: OrderedDict[tuple[str, ...], tuple[float, Any]] = field(default_factory=OrderedDict)

    def certify(self, names: Sequence[str]) -> list[Any]:
        """The host key with a certificate for these names, as asyncssh takes it; kept until half its life is over."""
        key, now = tuple(names), self.clock()
        found = self._certificates.get(key)
        if found is None or found[0] < now:
            certificate = self.host_ca.generate_host_certificate(
                self.host_key,
                f"sealgate host {','.join(names)}",
                principals=list(names),
                valid_after=int(now) - CLOCK_SKEW_S,
                valid_before=int(now) + HOST_CERTIFICATE_S,
            )
            found = now + HOST_CERTIFICATE_S / 2, (self.host_key, certificate)
            self._certificates[key] = found
            if len(self._certificates) > MAX_HOST_CERTIFICATES:
                self._certificates.popitem(last=False)
        return [found[1]]

    @property
    def authority_line(self) -> str:
        """The public key of the host authority, as known_hosts takes it after @cert-authority and a pattern."""
        return self.host_ca.export_public_key().decode().strip()


@dataclass(slots=True)
class UserAuthority:
    """Makes users' certificates and reads them back.

    Args:
        gateway: its name; a certificate is for one gateway only.
        ttl_s: longest life of a certificate.
    """

    key: asyncssh.SSHKey
    gateway: str
    ttl_s: int
    clock: Callable[[], float] = time.time

    @property
    def principal(self) -> str:
        """What every certificate of this gateway names, whoever it proves."""
        return f"sealgate:{self.gateway}"

    def certify(self, public_key: str, subject: Subject) -> tuple[str, int]:
        """A certificate for a public key in OpenSSH's form, and when it ends in seconds. Raises IdentityError."""
        try:
            user_key = asyncssh.import_public_key(public_key)
        except (asyncssh.KeyImportError, ValueError) as error:
            fix = "send the line of a .pub file, such as ssh-keygen -t ed25519 makes"
            raise IdentityError("the public key cannot be read", why="it is not an OpenSSH public key", fix=fix) from error
        now = int(self.clock())
        ends = min(now + self.ttl_s, subject.expires_ns // _NANOSECONDS)
        key_id = _write_subject(subject)
        if len(key_id) > MAX_KEY_ID_BYTES:
            why = f"the subject takes {len(key_id)} bytes; at most {MAX_KEY_ID_BYTES} fit"
            raise IdentityError("no certificate can be made for this token", why=why, fix="use the token as password instead")
        certificate = self.key.generate_user_certificate(
            user_key,
            key_id,
            serial=secrets.randbits(63),
            principals=[self.principal],
            valid_after=now - CLOCK_SKEW_S,
            valid_before=ends,
            permit_x11_forwarding=False,
            permit_agent_forwarding=False,
            permit_port_forwarding=True,  # `ssh -J` asks for it; what it reaches is decided here
            permit_user_rc=False,
        )
        return certificate.export_certificate("openssh").decode().strip(), ends

    def prove(self, certificate: SSHOpenSSHCertificate) -> Subject:
        """The subject of a certificate of ours. Raises IdentityError."""
        if certificate.signing_key.public_data != self.key.public_data or self.principal not in certificate.principals:
            raise IdentityError(
                "the certificate is not one of this gateway",
                why="another authority signed it",
                fix="make one with `sealgate ssh-cert`",
            )
        try:
            certificate.validate(CERT_TYPE_USER, self.principal)
        except ValueError as error:
            raise IdentityError(
                "the certificate has expired", why="certificates last an hour", fix="make a new one with `sealgate ssh-cert`"
            ) from error
        subject = _read_subject(certificate._key_id)  # noqa: SLF001 - the library keeps the key id, but has no name for it
        ends_ns = int(certificate._valid_before) * _NANOSECONDS  # noqa: SLF001 - as above
        return Subject(**{**subject, "expires_ns": ends_ns})


def _write_subject(subject: Subject) -> str:
    document = {
        "v": 1,
        "id": subject.id,
        "kind": subject.kind,
        "issuer": subject.issuer,
        "sub": subject.sub,
        "groups": list(subject.groups),
        "person": subject.person,
        "on_behalf_of": subject.on_behalf_of,
        "claims": dict(subject.claims),
        "run_id": subject.run_id,
        "email": subject.email,
    }
    return orjson.dumps({name: value for name, value in document.items() if value}).decode()


def _read_subject(key_id: str) -> dict[str, Any]:
    try:
        document = orjson.loads(key_id)
        if document.pop("v") != 1:
            raise ValueError("another version")
        document["groups"] = tuple(document.get("groups", ()))
        Subject(**document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fix = "make a new one with `sealgate ssh-cert`"
        raise IdentityError("the certificate cannot be read", why="another version of the gateway made it", fix=fix) from error
    return dict(document)


def certify_login(
    authority: asyncssh.SSHKey, user: str, subject_id: str, *, clock: Callable[[], float] = time.time
) -> tuple[Any, Any]:
    """A fresh key and its certificate for one login at a target that trusts the authority; the key id names the subject in the target's log."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    now = int(clock())
    certificate = authority.generate_user_certificate(
        key,
        f"sealgate {subject_id}"[:256],
        serial=secrets.randbits(63),
        principals=[user],
        valid_after=now - CLOCK_SKEW_S,
        valid_before=now + TARGET_CERTIFICATE_S,
        permit_x11_forwarding=False,
        permit_agent_forwarding=False,
        permit_port_forwarding=False,
        permit_user_rc=False,
    )
    return key, certificate
