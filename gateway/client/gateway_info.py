"""Asks a gateway's admin listener what its clients need to know: ports, names and authorities, never a secret."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from gateway.errors import IdentityError, TargetError

TIMEOUT_S: Final = 10.0
UNAUTHORIZED: Final = 401


@dataclass(frozen=True, slots=True)
class GatewayInfo:
    """What a gateway said about itself.

    Attributes:
        host: where its listeners are reached.
        protocols: by protocol, what its host told (`gateway.serve.hosts.Host.for_clients`).
    """

    name: str
    host: str
    protocols: Mapping[str, Mapping[str, Any]]


def ask_gateway(url: str, token: str, *, host: str | None = None, ca_file: str | None = None) -> GatewayInfo:
    """What clients of this gateway need. Raises IdentityError, TargetError.

    Args:
        url: of the admin listener.
        token: the agent's own.
        host: where the listeners are reached; None for the host of the URL.
        ca_file: authority of the admin listener.
    """
    try:
        verify = True if ca_file is None else ssl.create_default_context(cafile=ca_file)
        with httpx.Client(base_url=url, verify=verify, timeout=TIMEOUT_S, trust_env=False) as client:
            response = client.get("/v1/clients", headers={"authorization": f"Bearer {token}"})
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise TargetError("the gateway cannot be asked", why=f"{url}: {error}", fix="check --gateway and --ca-file") from None
    if response.status_code == UNAUTHORIZED:
        raise IdentityError("the gateway does not accept the token", why=_read_title(response), fix="get a new access token")
    if response.is_error:
        raise TargetError("the gateway cannot be asked", why=f"status {response.status_code}", fix="check --gateway")
    document = response.json()
    return GatewayInfo(str(document["gateway"]), host or urlsplit(url).hostname or "localhost", document["protocols"])


def _read_title(response: httpx.Response) -> str:
    try:
        return str(response.json().get("detail", ""))
    except ValueError:
        return ""
