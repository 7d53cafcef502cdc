"""A small real service over HTTPS, for tests and the demonstration: accounts of a bank, transfers, exports, streams, a WebSocket.

It remembers what reached it, so that a test can say what did not. Whoever does not show its credential gets 401.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

START_TIMEOUT_S: Final = 20.0

ACCOUNTS: Final = [
    {"id": 1, "owner": "Ann Archer", "ssn": "123-45-6789", "balance": 1200.50, "card": "4111 1111 1111 1111"},
    {"id": 2, "owner": "Bob Brewer", "ssn": "234-56-7890", "balance": 80.00, "card": "5500 0000 0000 0004"},
]
"""Made-up people; the card numbers are those of the payment networks' own test lists."""


@dataclass(slots=True)
class Seen:
    """One request as it reached the service."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Record:
    """What reached the service so far."""

    requests: list[Seen] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


class HttpService:
    """The service on 127.0.0.1; use as a context manager.

    Args:
        cert_file, key_file: its certificate.
        token: the credential it asks for, as `Authorization: Bearer`; None for none.
    """

    def __init__(self, cert_file: Path, key_file: Path, *, token: str | None = None) -> None:
        self.record = Record()
        self._token = token
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._make_app(),
                host="127.0.0.1",
                port=0,
                log_config=None,
                access_log=False,
                ws="wsproto",
                lifespan="off",
                ssl_certfile=str(cert_file),
                ssl_keyfile=str(key_file),
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._server.run, name="http service", daemon=True)
        self._started = threading.Event()
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Serve; returns once it accepts."""
        startup = self._server.startup

        async def start(sockets: Any = None) -> None:
            await startup(sockets)
            self._started.set()

        self._server.startup = start  # type: ignore[method-assign] # uvicorn has no other sign that it accepts
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise TimeoutError("the service does not start")
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join(START_TIMEOUT_S)

    def find(self, path: str, method: str | None = None) -> list[Seen]:
        """What reached the service at this path."""
        return [seen for seen in self.record.requests if seen.path == path and method in {None, seen.method}]

    # --- what it serves

    def _make_app(self) -> Starlette:
        def route(path: str, answer: Callable[..., Any], *methods: str) -> Route:
            return Route(path, self._guard(answer), methods=list(methods or ("GET",)))

        return Starlette(
            routes=[
                route("/accounts", lambda _: JSONResponse({"accounts": ACCOUNTS})),
                route("/accounts/{id:int}", self._show_account, "GET", "DELETE", "PATCH"),
                route("/transfers", self._make_transfer, "POST"),
                route("/echo", self._echo, "GET", "POST", "PUT"),
                route("/events", lambda _: StreamingResponse(_make_events(), media_type="text/event-stream")),
                route("/ndjson", lambda _: StreamingResponse(_make_lines(), media_type="application/x-ndjson")),
                route("/export", _export),
                route("/text", lambda _: PlainTextResponse("call 123-45-6789 about card 4111111111111111\n")),
                route("/gzip", lambda _: _compress(json.dumps({"accounts": ACCOUNTS}).encode())),
                route("/redirect", lambda request: RedirectResponse(f"/echo?from={request.headers.get('authorization', '')}")),
                route("/cookie", self._set_cookie),
                route("/{rest:path}", lambda _: PlainTextResponse("no such thing\n", status_code=404)),
                WebSocketRoute("/socket", self._talk),
            ]
        )

    def _guard(self, answer: Callable[..., Any]) -> Callable[[Request], Any]:
        async def guarded(request: Request) -> Response:
            body = await request.body()
            headers = dict(request.headers)
            seen = Seen(request.method, request.scope["raw_path"].decode(), request.url.query, headers, body)
            self.record.requests.append(seen)
            if self._token is not None and request.headers.get("authorization") != f"Bearer {self._token}":
                return JSONResponse({"error": "no credential"}, status_code=401)
            given: Response = answer(request) if not asyncio.iscoroutinefunction(answer) else await answer(request)
            return given

        return guarded

    def _show_account(self, request: Request) -> Response:
        found = next((account for account in ACCOUNTS if account["id"] == request.path_params["id"]), None)
        return JSONResponse({"error": "not found"}, status_code=404) if found is None else JSONResponse(found)

    async def _make_transfer(self, request: Request) -> Response:
        return JSONResponse({"done": True, "amount": (await request.json()).get("amount")}, status_code=201)

    async def _echo(self, request: Request) -> Response:
        """Everything the request said, as careless services do in their error pages."""
        body = await request.body()
        said = {"headers": dict(request.headers), "query": request.url.query, "body": body.decode("utf-8", "replace")}
        return JSONResponse(said, headers={"x-echo": request.headers.get("authorization", "none")})

    def _set_cookie(self, request: Request) -> Response:
        response = PlainTextResponse("cookie set\n")
        response.set_cookie("session", request.headers.get("authorization", "none"))
        response.headers["alt-svc"] = 'h3=":443"'
        return response

    async def _talk(self, socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                said = await socket.receive_text()
                self.record.messages.append(said)
                await socket.send_text(json.dumps({"you": said, "ssn": "123-45-6789"}))
        except WebSocketDisconnect:
            return


def _export(request: Request) -> Response:
    """As many bytes of lines as the query asks for."""
    size = int(request.query_params.get("bytes", "1000000"))
    line = b"account 7 moved 12.50 to account 9, all in order\n" * 1_000

    async def make() -> AsyncIterator[bytes]:
        left = size
        while left > 0:
            yield line[:left]
            left -= len(line)

    return StreamingResponse(make(), media_type="text/plain")


async def _make_events() -> AsyncIterator[bytes]:
    for number in range(3):
        yield f'id: {number}\nevent: account\ndata: {{"number": {number}, "ssn": "123-45-'.encode()
        await asyncio.sleep(0)
        yield b'6789"}\n\n'


async def _make_lines() -> AsyncIterator[bytes]:
    for account in ACCOUNTS:
        yield json.dumps(account).encode() + b"\n"


def _compress(data: bytes) -> Response:
    return Response(gzip.compress(data), media_type="application/json", headers={"content-encoding": "gzip"})
