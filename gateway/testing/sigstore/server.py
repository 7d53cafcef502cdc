"""The HTTP face of the development Sigstore on a loopback port the kernel chooses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

MAX_BODY_BYTES = 64 * 1024  # a certificate request or log entry is a few kilobytes
REQUEST_TIMEOUT_S = 30  # an idle client must not keep a thread for ever

type Service = Literal["ca", "log", "tsa", "issuer"]
type Answer = tuple[HTTPStatus, str, bytes]
type Route = Callable[[Mapping[str, str], bytes], Answer]


class RefusalError(Exception):
    """A request that is answered with `status` and a message, as the real services do."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class LoopbackServer:
    """Serves `routes`, (method, path) → (service, handler), in daemon threads; single services can be made to fail or stall."""

    def __init__(self, routes: Mapping[tuple[str, str], tuple[Service, Route]]) -> None:
        self._routes = routes
        self._failing: set[str] = set()
        self._flowing = {service: threading.Event() for service, _ in routes.values()}
        for event in self._flowing.values():
            event.set()
        server = self

        class Handler(_Handler):
            owner = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Base address of all services."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port; stalled requests are released."""
        for event in self._flowing.values():
            event.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @contextmanager
    def outage(self, service: Service) -> Iterator[None]:
        """While the block runs, `service` answers 503."""
        self._failing.add(service)
        try:
            yield
        finally:
            self._failing.discard(service)

    @contextmanager
    def stalled(self, service: Service) -> Iterator[None]:
        """While the block runs, requests to `service` get no answer."""
        self._flowing[service].clear()
        try:
            yield
        finally:
            self._flowing[service].set()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Route one request; every refusal becomes a JSON error of the shape {code, message}."""
        try:
            service, route = self._routes.get((method, path), (None, None))
            if service is None or route is None:
                raise RefusalError(HTTPStatus.NOT_FOUND, "the development Sigstore has no such resource")
            self._flowing[service].wait()
            if service in self._failing:
                raise RefusalError(HTTPStatus.SERVICE_UNAVAILABLE, f"{service} is switched off")
            return route(headers, body)
        except RefusalError as refusal:
            return as_json({"code": int(refusal.status), "message": str(refusal)}, refusal.status)


class _Handler(BaseHTTPRequestHandler):
    owner: LoopbackServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write per answer: separate small writes would each wait for a delayed acknowledgement
    disable_nagle_algorithm = True
    timeout = REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        self._reply(b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        self._reply(self.rfile.read(int(length)))

    def _reply(self, body: bytes) -> None:
        status, content_type, data = self.owner.answer(self.command, self.path.split("?")[0], dict(self.headers.items()), body)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature is the standard library's
        """Say nothing: requests carry identity tokens."""


def as_json(value: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """A JSON answer."""
    return status, "application/json", json.dumps(value).encode()
