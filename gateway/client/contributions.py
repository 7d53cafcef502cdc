"""What each protocol adds to an agent's environment. A protocol adds one function here and one line in `CONTRIBUTIONS`."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.client.ssh_files import make_key, request_certificate, write_ssh_files

USER: Final = "agent"
"""The user name clients give; the token says who it is."""

CA_BUNDLE: Final = "ca-bundle.pem"

CA_VARIABLES: Final = (
    "SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE",
    "DENO_CERT", "CARGO_HTTP_CAINFO", "PIP_CERT",
)  # fmt: skip
"""One bundle with the system's roots and the gateway's authority for all of them, because several replace the roots."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where and as whom an agent reaches the gateway.

    Attributes:
        host: of the gateway's listeners.
        token: the agent's token now.
        directory: where files go.
        forwarder: host:port of a loopback forwarder that adds the token; None where clients send it themselves.
        ca_file: authority of the gateway's own listeners, where one was given.
        admin_url: of the admin listener, which signs SSH keys.
    """

    host: str
    token: str
    directory: Path
    forwarder: str | None = None
    ca_file: str | None = None
    admin_url: str = ""


@dataclass(frozen=True, slots=True)
class Contribution:
    """Variables, and files by name; files are readable by their owner only."""

    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


Contribute = Callable[[Mapping[str, Any], Place], Contribution]


def contribute_http(told: Mapping[str, Any], place: Place) -> Contribution:
    """Proxy variables for every client family, and the bundle of authorities they must trust."""
    scheme = "https" if told.get("tls") else "http"
    proxy = f"http://{place.forwarder}" if place.forwarder else f"{scheme}://{USER}:{place.token}@{place.host}:{told['port']}"
    bundle = str(place.directory / CA_BUNDLE)
    variables = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), proxy)
    variables |= {"NO_PROXY": "", "no_proxy": "", "NODE_USE_ENV_PROXY": "1"}
    variables |= dict.fromkeys(CA_VARIABLES, bundle)
    variables |= {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "http.proxyAuthMethod",
        "GIT_CONFIG_VALUE_0": "basic",
        "GIT_CONFIG_KEY_1": "credential.helper",
        "GIT_CONFIG_VALUE_1": "",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return Contribution(variables, {CA_BUNDLE: read_system_roots() + str(told["ca_pem"])})


def contribute_postgres(told: Mapping[str, Any], place: Place) -> Contribution:
    """What libpq and the drivers that follow it read; the token lies in a file, because `ps e` shows variables."""
    databases = list(told.get("databases", ()))
    variables = {
        "PGHOST": place.host,
        "PGPORT": str(told["port"]),
        "PGUSER": USER,
        "PGPASSFILE": str(place.directory / "pgpass"),
        "PGSSLMODE": "verify-full" if told.get("tls") else "disable",
        "PGSSLROOTCERT": place.ca_file or "system",
        "PGCHANNELBINDING": "disable",
        "PGGSSENCMODE": "disable",
    }
    if len(databases) == 1:
        variables["PGDATABASE"] = str(databases[0])
    escaped = place.token.replace("\\", "\\\\").replace(":", "\\:")
    return Contribution(variables, {"pgpass": f"*:*:*:{USER}:{escaped}\n"})


def contribute_ssh(told: Mapping[str, Any], place: Place) -> Contribution:
    """A key and its certificate for an hour at most, and an ssh_config that leads through the gateway; git uses it at once."""
    if not told.get("hosts"):
        return Contribution()
    folder = place.directory / "ssh"
    public_key = make_key(folder / "id_ed25519")
    access = request_certificate(place.admin_url, place.token, public_key, ca_file=place.ca_file)
    config = write_ssh_files(folder, access, address=place.host)
    return Contribution({"SEALGATE_SSH_CONFIG": str(config), "GIT_SSH_COMMAND": f'ssh -F "{config}"'})


CONTRIBUTIONS: Final[Mapping[str, Contribute]] = {
    "http": contribute_http,
    "postgres": contribute_postgres,
    "ssh": contribute_ssh,
}
"""By protocol, as the gateway names it. What a gateway offers and nobody here knows is left out."""


def read_system_roots() -> str:
    """The system's authorities as PEM."""
    paths = ssl.get_default_verify_paths()
    for name in (paths.cafile, paths.openssl_cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"):
        if name and Path(name).is_file():
            return Path(name).read_text().rstrip() + "\n"
    return ""
