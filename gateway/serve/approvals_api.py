"""The reviewers' part of the admin listener: list, show, vote, wait.

    GET  /v1/approvals?state=pending           requests the caller may review or has made
    GET  /v1/approvals/{ticket}                one request, with the exact action and its votes
    GET  /v1/approvals/{ticket}/wait?timeout_s=25
    POST /v1/approvals/{ticket}/votes          {"statement": <Sigstore bundle as text>, "note"?: text}

Every call carries `Authorization: Bearer <OIDC token>`. A caller sees only requests that name one of their groups, or their own.
Errors are problem documents (RFC 9457): {type, title, status, detail, fix}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from gateway.action import Subject
from gateway.approval.desk import ApprovalDesk, read_requirements
from gateway.approval.store import Request, State
from gateway.errors import ApprovalError, IdentityError, SealgateError
from gateway.identity import require_reviewer

MAX_BODY_BYTES: Final = 65_536
"""A vote is one signed statement of about 6 kB and a short note."""

MAX_NOTE_CHARS: Final = 500
"""A note is one or two sentences that the requester reads."""

MAX_WAIT_S: Final = 55.0
"""Below the 60 s after which clients and load balancers commonly give up."""

_STATES: Final[dict[str, tuple[State, ...]]] = {
    "pending": ("pending",),
    "approved": ("approved",),
    "denied": ("denied",),
    "expired": ("expired",),
    "used": ("used",),
    "all": ("pending", "approved", "denied", "expired", "used"),
}

Verify = Callable[[str], Awaitable[Subject]]
Endpoint = Callable[[HttpRequest, Subject], Awaitable[Any]]


def make_routes(desk: ApprovalDesk, verify_token: Verify) -> list[Route]:
    """The routes of the reviewers' API, for the admin application."""
    api = _ApprovalsApi(desk)

    def guarded(endpoint: Endpoint) -> Callable[[HttpRequest], Awaitable[Response]]:
        async def answer(request: HttpRequest) -> Response:
            try:
                return _json(200, await endpoint(request, await _authenticate(request, verify_token)))
            except SealgateError as error:
                return _problem(error)

        return answer

    return [
        Route("/v1/approvals", guarded(api.list_requests), methods=["GET"]),
        Route("/v1/approvals/{ticket}", guarded(api.show), methods=["GET"]),
        Route("/v1/approvals/{ticket}/wait", guarded(api.wait), methods=["GET"]),
        Route("/v1/approvals/{ticket}/votes", guarded(api.vote), methods=["POST"]),
    ]


class _ApprovalsApi:
    def __init__(self, desk: ApprovalDesk) -> None:
        self._desk = desk

    async def list_requests(self, request: HttpRequest, caller: Subject) -> list[dict[str, Any]]:
        state = request.query_params.get("state", "pending")
        if state not in _STATES:
            raise ApprovalError(f"unknown state {state[:20]!r}", fix=f"use one of {', '.join(_STATES)}")
        found = await self._desk.list_requests(_STATES[state])
        return [_summary(item) for item in found if _may_see(item, caller)]

    async def show(self, request: HttpRequest, caller: Subject) -> dict[str, Any]:
        return await self._describe(await self._read(request, caller))

    async def wait(self, request: HttpRequest, caller: Subject) -> dict[str, Any]:
        item = await self._read(request, caller)
        try:
            timeout_s = min(float(request.query_params.get("timeout_s", "25")), MAX_WAIT_S)
        except ValueError as error:
            raise ApprovalError("timeout_s is not a number", fix="give seconds, such as timeout_s=25") from error
        return await self._describe(await self._desk.wait(item.id, timeout_s, None))

    async def vote(self, request: HttpRequest, caller: Subject) -> dict[str, Any]:
        item = await self._read(request, caller)
        require_reviewer(caller)
        body = await _read_body(request)
        note = body.get("note")
        if not isinstance(body.get("statement"), str) or not (
            note is None or (isinstance(note, str) and len(note) <= MAX_NOTE_CHARS)
        ):
            raise ApprovalError(
                f"a vote is {{statement: text, note?: text of at most {MAX_NOTE_CHARS} characters}}",
                fix="use `sealgate approvals approve`",
            )
        return await self._describe(await self._desk.vote(item.id, caller, body["statement"], note))

    async def _read(self, request: HttpRequest, caller: Subject) -> Request:
        item = await self._desk.read(request.path_params["ticket"])
        if not _may_see(item, caller):
            raise ApprovalError(
                f"there is no approval request {item.id}", fix="list the open ones with `sealgate approvals list`"
            )
        return item

    async def _describe(self, item: Request) -> dict[str, Any]:
        votes = await self._desk.list_votes(item.id)
        return _summary(item) | {
            "canonical": item.document["canonical"],
            "preview": item.document.get("preview", {}),
            "facts": item.document["facts"],
            "requirements": item.document["requirements"],
            "policy_digest": item.document["policy_digest"],
            "nonce": item.document["nonce"],
            "salt": item.document["salt"],
            "session_id": item.document["session_id"],
            "votes": [
                {
                    "reviewer": vote.reviewer,
                    "decision": vote.document["decision"],
                    "note": vote.document["note"],
                    "at_ns": vote.at_ns,
                }
                for vote in votes
            ],
        }


def _may_see(item: Request, caller: Subject) -> bool:
    wanted = {group for requirement in read_requirements(item) for group in requirement.groups}
    return item.subject == caller.id or bool(wanted & set(caller.groups))


def _summary(item: Request) -> dict[str, Any]:
    document = item.document
    return {
        "ticket": item.id,
        "state": item.state,
        "subject": item.subject,
        "on_behalf_of": document["on_behalf_of"],
        "connection": item.connection,
        "resource": document["resource"],
        "protocol": document["protocol"],
        "action": document["action"],
        "rule": document["rule"],
        "message": document["message"],
        "digest": item.digest,
        "requested_at": document["requested_at"],
        "expires_at": document["expires_at"],
    }


async def _authenticate(request: HttpRequest, verify_token: Verify) -> Subject:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise IdentityError("no token was sent", why="every call needs `Authorization: Bearer <token>`", fix="give --token-file")
    return await verify_token(token.strip())


async def _read_body(request: HttpRequest) -> dict[str, Any]:
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise ApprovalError("the request body is too large", why=f"more than {MAX_BODY_BYTES} bytes")
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ApprovalError("the request body is not JSON", why=str(error)) from error
    if not isinstance(body, dict):
        raise ApprovalError("the request body is not a JSON object")
    return body


def _json(status: int, value: Any, media_type: str = "application/json") -> Response:
    return Response(orjson.dumps(value), status_code=status, media_type=media_type)


def _problem(error: SealgateError) -> Response:
    status = 401 if isinstance(error, IdentityError) else 409 if isinstance(error, ApprovalError) else 503
    document = {"type": error.code, "title": error.what, "status": status, "detail": error.why, "fix": error.fix}
    response = _json(status, document, "application/problem+json")
    if status == 401:  # noqa: PLR2004 - the HTTP status of RFC 9110 section 15.5.2
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
