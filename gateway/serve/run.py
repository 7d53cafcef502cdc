"""Builds one gateway worker from its configuration, and runs it until it is told to stop.

Order matters on both ways. Up: evidence first, because nothing may happen without it, then policy, identity and connections, listeners
last. Down: listeners first, then sessions, then what they used; evidence last, so that every end is recorded and attested.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError
from starlette.routing import BaseRoute

from evidence.approval_statement import store_bundle
from gateway.action import Subject
from gateway.approval.desk import ApprovalDesk
from gateway.approval.statements import make_statement_check
from gateway.approval.store import ApprovalStore
from gateway.config import Config, ListenerConfig
from gateway.errors import ConfigError
from gateway.identity import TokenVerifier, with_reviewer_groups
from gateway.masking import DocumentMasker, build_detectors, derive_key
from gateway.pipeline import Pipeline
from gateway.policy.bundle import load_bundle
from gateway.policy.cache import DecisionCache
from gateway.policy.decide import DecisionPoint, label
from gateway.policy.engine import Engine
from gateway.policy.opa import Opa
from gateway.policy.regorus import Regorus
from gateway.secrets import SecretResolver
from gateway.serve.admin import AdminServer, make_app
from gateway.serve.approvals_api import make_routes
from gateway.serve.cell_masking import CellMasking
from gateway.serve.clients_api import make_client_routes
from gateway.serve.evidence import Evidence, keep_bundle, open_evidence
from gateway.serve.hosts import Host, Parts
from gateway.serve.http.start import start_http_host
from gateway.serve.postgres.loans import MAX_LENT
from gateway.serve.postgres.start import MAX_PENDING_LOGINS, start_postgres_host
from gateway.serve.ssh.certificates_api import make_certificate_routes
from gateway.serve.ssh.start import RunningSsh, start_ssh_host

logger = logging.getLogger(__name__)

COLLECT_AFTER: Final = 20_000
"""New objects after which Python looks for cycles. A statement makes hundreds of objects and no cycle, so that looking ten times as
often as this took 4 % of the time; twenty thousand small objects are a few megabytes."""

SESSION_DESCRIPTORS: Final = 2
"""Descriptors of one session: the agent's connection and the target's."""

OTHER_DESCRIPTORS: Final = 512 + 2 * MAX_LENT
"""Descriptors beside sessions and logins: the log's open chunk files (256), its segment, listeners, evaluators, questions; and those of
PostgreSQL sessions that are lent, once more."""

EXPIRE_EVERY_S: Final = 30.0
"""How often requests for review that ran out are recorded as expired; an approval that ran out is never honoured anyway."""


class Gateway:
    """One worker. `start` it, read its addresses, `stop` it."""

    def __init__(self, config: Config, *, routes: Sequence[BaseRoute] = ()) -> None:
        self._config = config
        self._routes = tuple(routes)
        self._stack = AsyncExitStack()
        self._secrets = SecretResolver(age_identity=config.gateway.age_identity)
        self._evidence: Evidence | None = None
        self._hosts: dict[str, Host] = {}
        self._started_at = time.monotonic()
        self._admin_address: tuple[str, int] | None = None

    async def start(self) -> None:
        """Build every part and begin to accept. Raises SealgateError, EvidenceError or OSError; nothing is left running then."""
        try:
            await self._start()
        except BaseException:
            await self._stop_hosts(0)
            await self._stack.aclose()
            raise

    async def stop(self) -> None:
        """Accept nothing more, let statements under way finish, close every record, and release everything."""
        await self._stop_hosts(self._config.limits.shutdown_grace_s)
        await self._stack.aclose()

    async def _stop_hosts(self, grace_s: float) -> None:
        stops = [host.stop(grace_s) for host in self._hosts.values()]
        for outcome in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(outcome, BaseException):
                logger.error("a host did not stop in order", exc_info=outcome)

    async def _start(self) -> None:
        config = self._config
        _reserve_descriptors(config.limits.max_sessions, hosts=sum(name != "admin" for name, item in config.listeners if item))
        evidence = self._evidence = await open_evidence(config, self._secrets)
        self._stack.push_async_callback(evidence.close)
        decision_point = await self._make_decision_point(evidence)
        verifier = TokenVerifier(config.identity.issuers, settings=config.identity)
        self._stack.push_async_callback(verifier.aclose)
        desk = await self._make_desk(evidence)
        masking, masker = self._make_masking()
        pipeline = Pipeline(
            decision_point=decision_point,
            desk=desk,
            open_log=evidence.open_recorder,
            mask_document=masker,
            clock_ns=time.time_ns,
            append_log_record=evidence.append,
        )
        parts = Parts(config, pipeline, verifier, self._secrets, masking, evidence)
        await self._start_hosts(parts)
        if config.listeners.admin is not None:
            await self._start_admin(config.listeners.admin, desk, verifier, evidence)

    @property
    def session_count(self) -> int:
        """Sessions open now."""
        return sum(host.session_count for host in self._hosts.values())

    @property
    def addresses(self) -> Mapping[str, tuple[str, int]]:
        """Where each listener accepts, by its name in the configuration."""
        found = {name: host.address for name, host in self._hosts.items()}
        return found if self._admin_address is None else {**found, "admin": self._admin_address}

    async def _start_hosts(self, parts: Parts) -> None:
        """Every protocol's listener: two lines for each protocol."""
        listeners = self._config.listeners
        if listeners.postgres is not None:
            self._hosts["postgres"] = await start_postgres_host(parts, listeners.postgres)
        if listeners.http is not None:
            self._hosts["http"] = await start_http_host(parts, listeners.http)
        if listeners.ssh is not None:
            self._hosts["ssh"] = await start_ssh_host(parts, listeners.ssh)

    # --- parts

    async def _make_decision_point(self, evidence: Evidence) -> DecisionPoint:
        section = self._config.policy
        bundle = load_bundle(section.bundle, detectors=self._config.masking.known_detectors)
        deadline_s, wait_s = section.deadline_ms / 1000, section.wait_ms / 1000
        engine: Engine
        if section.opa is not None:
            token = None if section.opa.token is None else self._secrets.resolve(section.opa.token).decode()
            engine = Opa(bundle, section.opa.url, token=token, upload=False, deadline_s=deadline_s, wait_s=wait_s)
        else:
            engine = Regorus(bundle, evaluators=section.evaluators, deadline_s=deadline_s, wait_s=wait_s)
        entries = section.cache_entries
        cache = DecisionCache(bundle, label(engine), max_entries=entries) if entries else None
        decision_point = DecisionPoint(engine, bundle, cache=cache)
        await decision_point.start()
        self._stack.push_async_callback(decision_point.aclose)
        # What decided stays beside what it decided, so that an auditor can decide again.
        archive = await asyncio.to_thread(keep_bundle, evidence.log.path, section.bundle, bundle.digest)
        await evidence.append("policy.loaded", {"bundle": bundle.digest, "archive_sha256": archive})
        return decision_point

    def _find_state(self) -> str:
        section = self._config.gateway
        url = make_url(section.state)
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+pg8000")
        if section.state_password is not None:
            url = url.set(password=self._secrets.resolve(section.state_password).decode())
        return url.render_as_string(hide_password=False)

    async def _make_desk(self, evidence: Evidence) -> ApprovalDesk:
        try:
            store = await asyncio.to_thread(lambda: ApprovalStore(self._find_state()))
        except SQLAlchemyError as error:
            # The driver's own words: SQLAlchemy's would repeat the address, which may name a password.
            why, fix = str(getattr(error, "orig", None) or type(error).__name__), "check gateway.state"
            raise ConfigError("the state database cannot be used", why=why, fix=fix) from error
        self._stack.callback(store.close)
        desk = ApprovalDesk(
            store,
            record=evidence.append,
            verify_statement=make_statement_check(evidence.trust),
            store_statement=partial(store_bundle, evidence.log.path),
            clock_ns=time.time_ns,
        )
        expiry = asyncio.create_task(_expire(desk))
        self._stack.push_async_callback(_cancel, expiry)
        return desk

    def _make_masking(self) -> tuple[CellMasking, DocumentMasker]:
        section = self._config.masking
        patterns = tuple((item.name, item.pattern) for item in section.patterns)
        key = derive_key(None if section.key is None else self._secrets.resolve(section.key))
        detectors = build_detectors(section.detectors, patterns)
        return CellMasking(key, tuple(section.detectors), patterns, detectors), DocumentMasker(detectors)

    async def _start_admin(
        self, listener: ListenerConfig, desk: ApprovalDesk, verifier: TokenVerifier, evidence: Evidence
    ) -> None:
        async def verify_reviewer(token: str) -> Subject:
            return with_reviewer_groups(await verifier.verify(token), self._config.approval)

        routes = [
            *make_routes(desk, verify_reviewer),
            *make_client_routes(self._config.gateway.name, self._hosts, verifier.verify),
            *self._routes,
        ]
        ssh = self._hosts.get("ssh")
        if isinstance(ssh, RunningSsh):
            routes += make_certificate_routes(ssh, verifier.verify, evidence.append)
        app = make_app(health=self._find_problems, numbers=self.count, routes=routes)
        certificate = None if listener.tls is None else (str(listener.tls.cert_file), str(listener.tls.key_file))
        server = AdminServer(app, certificate=certificate)
        await server.start(listener.bind, listener.port)
        self._stack.push_async_callback(server.stop)
        self._admin_address = server.address

    # --- what the admin listener tells

    def _find_problems(self) -> Mapping[str, str]:
        if self._evidence is None:
            return {"evidence": "not open"}
        problems = {}
        if (failure := self._evidence.log.failure) is not None:
            problems["evidence"] = str(failure)
        if self._evidence.attestor.lag_s > self._evidence.max_lag_s:
            problems["attestation"] = f"{self._evidence.attestor.lag_s:.0f} s behind"
        return problems

    def count(self) -> Mapping[str, float]:
        """Every number of the metrics page, by its name there without the product's."""
        numbers: dict[str, float] = {"uptime_seconds": time.monotonic() - self._started_at}
        for protocol, host in self._hosts.items():
            numbers |= {f"{protocol}_{name}": value for name, value in host.count().items()}
        if self._evidence is not None:
            numbers |= {f"evidence_{name}": value for name, value in self._evidence.log.metrics().items()}
            numbers["attestation_lag_seconds"] = self._evidence.attestor.lag_s
        return numbers


def settle_collector() -> None:
    """Take what start-up made out of the search for cycles, and search less often; for a process that does nothing but serve."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


async def run(
    config: Config,
    *,
    ready: Callable[[Gateway], None] | None = None,
    stop: asyncio.Event | None = None,
    routes: Sequence[BaseRoute] = (),
) -> None:
    """Run one worker until SIGTERM, SIGINT or `stop`.

    Args:
        config: as `load_config` gives it.
        stop: ends the run when set; made here where None.
        ready: called once every listener accepts; the gateway's addresses are known then.
        routes: further routes of the admin listener.
    """
    ending = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(RuntimeError, ValueError):  # only the main thread may handle signals
            loop.add_signal_handler(number, ending.set)
    gateway = Gateway(config, routes=routes)
    await gateway.start()
    try:
        if ready is not None:
            ready(gateway)
        await ending.wait()
    finally:
        await gateway.stop()


def _reserve_descriptors(max_sessions: int, *, hosts: int = 1) -> None:
    """Let this process open what its limits promise: without a descriptor the log would fail, and with it everything, for good."""
    needed = hosts * (SESSION_DESCRIPTORS * max_sessions + MAX_PENDING_LOGINS) + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        why = f"limits.max_sessions {max_sessions} needs {needed} open files, and this process may have {hard}"
        fix = "raise the limit of open files (ulimit -n, LimitNOFILE), or lower limits.max_sessions"
        raise ConfigError("the limit of open files is too low", why=why, fix=fix)
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


async def _expire(desk: ApprovalDesk) -> None:
    while True:
        await asyncio.sleep(EXPIRE_EVERY_S)
        try:
            await desk.expire_due()
        except Exception:
            logger.exception("requests that ran out cannot be marked; they are not honoured either way")


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
