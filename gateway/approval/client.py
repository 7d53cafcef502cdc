"""What a reviewer's command line says to the gateway's admin listener.

The statement is signed here, on the reviewer's own device, with the reviewer's own identity: the gateway receives the finished signature.
Before signing, the digest is recomputed from the action as shown, so that a gateway cannot show one action and have another one signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import urlencode

import httpx
import orjson

from gateway.action import commit_digest
from gateway.errors import ApprovalError

TIMEOUT_S: Final = 70.0
"""Longer than the longest wait the gateway grants (55 s)."""

SignStatement = Callable[[Mapping[str, Any], Literal["approve", "deny"]], str]
"""Signs the in-toto statement for one shown request and returns the Sigstore bundle as text."""


class ApprovalsClient:
    """One reviewer's connection to the admin listener; use as a context manager.

    Args:
        url: where the admin listener is, such as "https://gateway.example.com:8444".
        token: the reviewer's OIDC token.
        ca_file: a private CA for the admin listener; the system's when None.
    """

    def __init__(self, url: str, token: str, *, ca_file: str | None = None) -> None:
        self.token = token
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
            verify=ca_file or True,
            follow_redirects=False,
            trust_env=False,  # a proxy that `sealgate env` set leads to the targets
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.close()

    def list_requests(self, state: str = "pending") -> list[dict[str, Any]]:
        """The requests the caller may see in this state. Raises ApprovalError."""
        result: list[dict[str, Any]] = self._call("GET", f"/v1/approvals?{urlencode({'state': state})}")
        return result

    def show(self, ticket: str) -> dict[str, Any]:
        """One request with the exact action. Raises ApprovalError."""
        result: dict[str, Any] = self._call("GET", f"/v1/approvals/{_path(ticket)}")
        return result

    def wait(self, ticket: str, timeout_s: float) -> dict[str, Any]:
        """One request after a verdict or the time-out. Raises ApprovalError."""
        result: dict[str, Any] = self._call("GET", f"/v1/approvals/{_path(ticket)}/wait?{urlencode({'timeout_s': timeout_s})}")
        return result

    def vote(
        self, ticket: str, verdict: Literal["approve", "deny"], sign: SignStatement, note: str | None = None
    ) -> dict[str, Any]:
        """Check, sign and send a verdict; returns the request as it stands then. Raises ApprovalError."""
        request = self.show(ticket)
        check_shown_digest(request)
        body = {"statement": sign(request, verdict), **({"note": note} if note else {})}
        result: dict[str, Any] = self._call("POST", f"/v1/approvals/{_path(ticket)}/votes", body)
        return result

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            response = self._http.request(method, path, content=None if body is None else orjson.dumps(body))
        except httpx.HTTPError as error:
            raise ApprovalError(
                "the gateway's admin listener does not answer", why=str(error), fix="check --gateway and the network"
            ) from error
        try:
            answer = orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise ApprovalError("the gateway answered something else than JSON", why=f"HTTP {response.status_code}") from error
        if response.is_success:
            return answer
        if isinstance(answer, dict):
            raise ApprovalError(str(answer.get("title")), why=str(answer.get("detail") or ""), fix=str(answer.get("fix") or ""))
        raise ApprovalError("the gateway refused the call", why=f"HTTP {response.status_code}")


def check_shown_digest(request: Mapping[str, Any]) -> None:
    """Recompute the digest from the action as shown, so that what is signed is what was read. Raises ApprovalError."""
    material = {
        "schema": "sealgate.action-digest/1",
        "subject": request["subject"],
        "connection": request["connection"],
        "protocol": request["protocol"],
        "action": request["action"]["name"],
        "canonical": request["canonical"],
        **({"on_behalf_of": request["on_behalf_of"]} if request["on_behalf_of"] else {}),
    }
    digest = hashlib.sha256(orjson.dumps(material, option=orjson.OPT_SORT_KEYS)).digest()
    if commit_digest(digest, bytes.fromhex(request["salt"])) != request["digest"]:
        raise ApprovalError(
            "the request shown is not the one to be signed",
            why="its digest does not match the action",
            fix="do not approve; tell the security team",
        )


def _path(ticket: str) -> str:
    if not ticket.replace("-", "").isalnum():
        raise ApprovalError(f"{ticket!r} is not a ticket", fix="tickets look like AR-ABCDEFGH")
    return ticket
