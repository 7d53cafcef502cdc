"""The admin listener: health for the orchestrator, metrics for the monitoring, and the routes other parts mount.

GET /healthz    200 while the gateway can record and decide, else 503; JSON with the reasons
GET /metrics    Prometheus text format
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import orjson
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.errors import ConfigError

START_TIMEOUT_S: Final = 10.0
"""Binding a port and starting the HTTP loop takes milliseconds."""

Health = Callable[[], Mapping[str, str]]
"""Problems by part, empty when all is well."""

Numbers = Callable[[], Mapping[str, float]]
"""Current values by metric name; names ending in _total are counters."""


class _Collector:
    """Reads the numbers when asked, so that counting costs the data path nothing."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> list[Any]:
        """One family per number, as Prometheus wants them."""
        families: list[Any] = []
        for name, value in sorted(self._numbers().items()):
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            metric = family(f"sealgate_{name.removesuffix('_total')}", f"{name.replace('_', ' ')} of this worker")
            metric.add_metric([], value)
            families.append(metric)
        return families


def make_app(*, health: Health, numbers: Numbers, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The admin application.

    Args:
        health: asked at every health request.
        numbers: asked at every metrics request.
        routes: what other parts mount, such as the reviewers' API.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(numbers))

    async def answer_health(_: Request) -> Response:
        problems = dict(health())
        body = orjson.dumps({"status": "failing" if problems else "ok", "problems": problems})
        return Response(body, 503 if problems else 200, media_type="application/json")

    async def answer_metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    own: list[BaseRoute] = [Route("/healthz", answer_health), Route("/metrics", answer_metrics)]
    return Starlette(routes=[*own, *routes])


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the gateway decides when to stop. `ready` says that it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class AdminServer:
    """Serves the admin application in the gateway's own event loop.

    Args:
        certificate: PEM chain and key files; None for plain HTTP on a loopback address.
    """

    def __init__(self, app: Starlette, *, certificate: tuple[str, str] | None = None) -> None:
        cert_file, key_file = certificate or (None, None)
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                ssl_certfile=cert_file,
                ssl_keyfile=key_file,
                timeout_graceful_shutdown=2,
            )
        )
        self._task: asyncio.Task[None] | None = None
        self.address: tuple[str, int] = ("", 0)

    async def start(self, bind: str, port: int) -> None:
        """Bind and serve; port 0 lets the kernel choose, `address` tells. Raises ConfigError when it cannot."""
        try:
            listening = socket.create_server((bind, port), family=socket.AF_INET6 if ":" in bind else socket.AF_INET)
        except OSError as error:
            raise ConfigError(
                "the admin listener cannot start", why=f"{bind}:{port}: {error}", fix="choose a free port"
            ) from error
        name = listening.getsockname()
        self.address = (str(name[0]), int(name[1]))
        self._task = asyncio.create_task(self._server.serve([listening]))
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait([ready, self._task], timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """Finish open requests and stop."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
