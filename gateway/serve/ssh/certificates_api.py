"""The admin listener's part of SSH: a token in, a certificate for the caller's own key out.

    POST /v1/ssh/certificates   {"public_key": "ssh-ed25519 AAAA…"}
    200                         {"certificate", "expires_at", "name", "port", "host_ca", "hosts": {host: login name}}

Authenticated like the reviewers' API. Every certificate leaves a record before it leaves the gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.action import Subject, format_time
from gateway.errors import IdentityError, SealgateError
from gateway.parts import Receipt
from gateway.serve.ssh.start import RunningSsh

MAX_BODY_BYTES: Final = 16_384
"""A public key has 100 bytes, an RSA key of 16,384 bits 3 kB."""

_STATUS_REFUSED, _STATUS_UNAVAILABLE = 401, 503


def make_certificate_routes(
    host: RunningSsh,
    verify: Callable[[str], Awaitable[Subject]],
    record: Callable[[str, Mapping[str, Any]], asyncio.Future[Receipt]],
) -> list[Route]:
    """The route, for the admin application.

    Args:
        host: whose authority signs.
        verify: the subject of a token; raises IdentityError.
        record: appends a record to the log; done when it is durable.
    """

    async def answer(request: Request) -> Response:
        try:
            subject = await _authenticate(request, verify)
            certificate, ends_s = host.users.certify(await _read_public_key(request), subject)
            expires_at = format_time(ends_s * 1_000_000_000)
            await record("certificate.issued", {"subject": subject.id, "expires_at": expires_at, "kind": "ssh-user"})
        except SealgateError as error:
            return _refuse(error)
        answer = {"certificate": certificate, "expires_at": expires_at, **host.for_clients(subject)}
        return Response(orjson.dumps(answer), media_type="application/json")

    return [Route("/v1/ssh/certificates", answer, methods=["POST"])]


async def _authenticate(request: Request, verify: Callable[[str], Awaitable[Subject]]) -> Subject:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise IdentityError("no token was sent", why="every call needs `Authorization: Bearer <token>`", fix="give --token-file")
    return await verify(token.strip())


async def _read_public_key(request: Request) -> str:
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise IdentityError("the request body is too large", why=f"more than {MAX_BODY_BYTES} bytes")
    try:
        public_key = orjson.loads(data)["public_key"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise IdentityError("the request cannot be read", why='it must be {"public_key": text}') from error
    if not isinstance(public_key, str):
        raise IdentityError("the request cannot be read", why='it must be {"public_key": text}')
    return public_key


def _refuse(error: SealgateError) -> Response:
    status = _STATUS_REFUSED if isinstance(error, IdentityError) else _STATUS_UNAVAILABLE
    document = {"type": error.code, "title": error.what, "status": status, "detail": error.why, "fix": error.fix}
    return Response(orjson.dumps(document), status_code=status, media_type="application/problem+json")
