"""The files with which a stock OpenSSH client goes through the gateway: key, certificate, known_hosts, ssh_config.

    sealgate ssh-cert --gateway https://gw:8444 --dir ~/.sealgate/ssh
    ssh -F ~/.sealgate/ssh/ssh_config web-1 uptime          also scp -F, sftp -F, GIT_SSH_COMMAND="ssh -F …"

The private key is made here and never leaves; the gateway signs its public half for as long as the token lasts, an hour at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from gateway.client.private_files import write_private
from gateway.errors import ConfigError, IdentityError, TargetError

PATH: Final = "/v1/ssh/certificates"
"""Where the admin listener signs keys."""

TIMEOUT_S: Final = 30.0

JUMP_ALIAS: Final = "sealgate"
"""How the gateway is called in the ssh_config."""


@dataclass(frozen=True, slots=True)
class SshAccess:
    """What the gateway says to a client it gave a certificate.

    Attributes:
        certificate: one line in OpenSSH's form.
        expires_at: RFC 3339 in UTC.
        name: what the gateway's host certificate names.
        host_ca: public key of the authority behind every host the client will see.
        hosts: the login name for each host.
    """

    certificate: str
    expires_at: str
    name: str
    port: int
    host_ca: str
    hosts: Mapping[str, str]


def request_certificate(url: str, token: str, public_key: str, *, ca_file: str | None = None) -> SshAccess:
    """Have the gateway sign a public key.

    Raises:
        IdentityError: the token proves nothing, or the key is none.
        TargetError: the admin listener does not answer, or serves no SSH.
    """
    try:
        response = httpx.post(
            url.rstrip("/") + PATH,
            content=orjson.dumps({"public_key": public_key}),
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
            verify=ca_file or True,
            trust_env=False,  # a proxy that `sealgate env` set leads to the targets
        )
    except httpx.HTTPError as error:
        raise TargetError(
            "the gateway's admin listener does not answer", why=str(error), fix="check --gateway and the network"
        ) from error
    try:
        answer: Any = orjson.loads(response.content)
    except orjson.JSONDecodeError as error:
        fix = "check --gateway, and that listeners.ssh is set"
        raise TargetError("the gateway gives no certificates there", why=f"HTTP {response.status_code}", fix=fix) from error
    if not response.is_success:
        raise IdentityError(str(answer.get("title")), why=str(answer.get("detail") or ""), fix=str(answer.get("fix") or ""))
    return SshAccess(
        answer["certificate"], answer["expires_at"], answer["name"], int(answer["port"]), answer["host_ca"], dict(answer["hosts"])
    )


def make_known_hosts(host_ca: str) -> str:
    """One line: every host seen through the gateway shows a certificate of its authority."""
    return f"@cert-authority * {host_ca}\n"


def make_ssh_config(access: SshAccess, *, address: str, folder: Path) -> str:
    """The ssh_config fragment; everything a client needs, and nothing of the user's own configuration.

    Args:
        access: what the gateway said.
        address: host name or address the client reaches the gateway at.
        folder: where key, certificate and known_hosts are.
    """
    lines = [
        f"Host {JUMP_ALIAS}",
        f"  HostName {address}",
        f"  HostKeyAlias {access.name}",
        f"  Port {access.port}",
        f"  User {JUMP_ALIAS}",
    ]
    for host, user in sorted(access.hosts.items()):
        lines += [f"Host {host}", f"  User {user}", f"  ProxyJump {JUMP_ALIAS}"]
    lines += [
        f"Host {' '.join([JUMP_ALIAS, *sorted(access.hosts)])}",
        f'  IdentityFile "{folder}/id_ed25519"',
        f'  CertificateFile "{folder}/id_ed25519-cert.pub"',
        f'  UserKnownHostsFile "{folder}/known_hosts"',
        "  GlobalKnownHostsFile /dev/null",
        "  StrictHostKeyChecking yes",
        "  UpdateHostKeys no",
        "  IdentitiesOnly yes",
        "  IdentityAgent none",
        "  ForwardAgent no",
        "  ForwardX11 no",
        "  SendEnv LANG LC_*",
    ]
    return "\n".join(lines) + "\n"


def make_key(path: Path) -> str:
    """The public half of the key at `path` in OpenSSH's form; the key is made where there is none, readable by its owner only.

    Raises ConfigError when it cannot be read or made.
    """
    try:
        if path.exists():
            key = load_ssh_private_key(path.read_bytes(), password=None)
            if not isinstance(key, Ed25519PrivateKey):
                raise ConfigError(f"{path} cannot be used", why="it is no Ed25519 key", fix="name another folder")
        else:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            key = Ed25519PrivateKey.generate()
            write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read or made", why=type(error).__name__, fix="name another folder") from error
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def write_ssh_files(folder: Path, access: SshAccess, *, address: str) -> Path:
    """Write certificate, known_hosts and ssh_config beside the key; returns the ssh_config. Raises ConfigError."""
    config = folder / "ssh_config"
    try:
        write_private(folder / "id_ed25519-cert.pub", f"{access.certificate}\n".encode())
        write_private(folder / "known_hosts", make_known_hosts(access.host_ca).encode())
        write_private(config, make_ssh_config(access, address=address, folder=folder).encode())
    except OSError as error:
        raise ConfigError(
            f"the files in {folder} cannot be written", why=error.strerror or "", fix="name another folder"
        ) from error
    return config


def find_address(url: str) -> str:
    """The host of the admin listener's address, where nothing else says how the gateway is reached."""
    return urlsplit(url).hostname or "127.0.0.1"
