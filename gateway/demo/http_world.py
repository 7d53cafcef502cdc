"""The HTTP part of the demonstration: a small real service, the authority of the proxy, and the connection to it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.serve.http.authority import make_http_authority
from gateway.testing.certificates import make_authority
from gateway.testing.http_service import HttpService

HOST: Final = "ledger.bank.test"
"""The name agents ask for; it resolves nowhere, only the gateway knows the way."""


@dataclass(frozen=True, slots=True)
class HttpPart:
    """What the demonstration's configuration says about HTTP.

    Attributes:
        token: the service's credential, which no agent ever sees.
    """

    service: HttpService
    token: str
    listener: Mapping[str, Any]
    connection: Mapping[str, Any]


def open_http_part(stack: contextlib.ExitStack, directory: Path) -> HttpPart:
    """Start the service and write the keys; the service stops with the stack."""
    token = secrets.token_urlsafe(24)
    secret = directory / "service.token"
    secret.touch(mode=0o600)
    secret.write_text(token)
    authority = make_authority(directory / "service", "Demonstration service CA")
    service = stack.enter_context(HttpService(*authority.issue("service", [HOST, "127.0.0.1"]), token=token))
    make_http_authority(directory / "http-ca.crt", directory / "http-ca.key", constraints=["bank.test"])
    listener = {"bind": "127.0.0.1", "port": 0, "ca": {"cert_file": "http-ca.crt", "key": "file:http-ca.key"}}
    connection = {
        "name": "ledger",
        "type": "http",
        "match": {"hosts": [HOST]},
        "target": {"host": "127.0.0.1", "port": service.port, "tls": {"ca_file": str(authority.ca_file)}},
        "credential": {"kind": "bearer", "token": "file:service.token"},
        "environment": "production",
        "risk": "critical",
        "allow_groups": ["agents"],
        "sensitive": ["ssn", "card"],
        "hold_s": 120,
        "operations": [
            {"id": "accounts.list", "methods": ["GET"], "path": "/accounts"},
            {"id": "accounts.close", "methods": ["DELETE"], "path": "/accounts/{id}", "labels": ["destructive"]},
            {"id": "transfers.make", "methods": ["POST"], "path": "/transfers", "labels": ["regulated"]},
            {"id": "events.read", "methods": ["GET"], "path": "/events"},
            {"id": "echo", "methods": ["GET"], "path": "/echo"},
        ],
    }
    return HttpPart(service, token, listener, connection)
