"""What clients' machines may learn from the admin listener.

    GET /v1/clients     {"gateway": name, "protocols": {protocol: what its host tells}}

The call carries `Authorization: Bearer <OIDC token>` of any subject. It tells ports, public authorities and
the names open to that subject, never a secret.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.action import Subject
from gateway.errors import IdentityError
from gateway.serve.hosts import Host


def make_client_routes(name: str, hosts: Mapping[str, Host], verify: Callable[[str], Awaitable[Subject]]) -> list[Route]:
    """The route, for the admin application.

    Args:
        name: of the gateway.
        hosts: by protocol; read at each call.
        verify: the subject of a token; raises IdentityError.
    """

    async def tell(request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer" or not token:
                raise IdentityError("a token is needed", why="send it as Authorization: Bearer")
            subject = await verify(token.strip())
        except IdentityError as error:
            problem = {"title": error.what, "status": 401, "detail": error.why, "fix": error.fix}
            headers = {"www-authenticate": 'Bearer realm="sealgate"'}
            return Response(orjson.dumps(problem), 401, headers, media_type="application/problem+json")
        told = {protocol: dict(host.for_clients(subject)) for protocol, host in hosts.items()}
        return Response(orjson.dumps({"gateway": name, "protocols": told}), media_type="application/json")

    return [Route("/v1/clients", tell, methods=["GET"])]
