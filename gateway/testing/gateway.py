"""A whole gateway in this process, in a thread of its own, so that blocking clients and stock programs can talk to it.

config = write_config(folder, issuer=issuer, bundle=bundle, connections=[…], tls=authority.issue("gateway"))
with start_gateway(config) as gateway:
psycopg.connect(host=…, port=gateway.port, password=issuer.mint("agent-7"), dbname="shop")
records = gateway.read_records()
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyrage
import yaml

from evidence.keys import generate_log_key, load_log_key
from evidence.note import NoteSigner
from evidence.report import Report
from evidence.store import EvidenceStore
from evidence.trust import IdentityRule, SigstoreTrust
from evidence.verify import verify_directory
from evidence.verify_trust import TrustPolicy
from gateway.config import Config, load_config
from gateway.policy.verdicts import VerdictRecomputer
from gateway.serve.http.authority import make_http_authority
from gateway.serve.run import Gateway, run
from gateway.testing.oidc import DevelopmentIssuer
from gateway.testing.sigstore import DEFAULT_ISSUER

START_TIMEOUT_S: Final = 60.0
"""Starting evaluators and signing the first checkpoint takes a second or two on a quiet machine."""

GATEWAY_NAME: Final = "gw-test"


def write_config(
    folder: Path,
    *,
    issuer: DevelopmentIssuer,
    bundle: Path,
    connections: Sequence[Mapping[str, Any]],
    tls: tuple[Path, Path] | None = None,
    **sections: Mapping[str, Any],
) -> Path:
    """Write sealgate.yaml for a gateway on kernel-chosen loopback ports, with its keys beside it.

    Args:
        folder: where configuration, keys, state and evidence go.
        issuer: whose tokens count.
        bundle: the policy bundle's folder.
        connections: members of the section `connections`.
        tls: certificate and key of the PostgreSQL listener; None for plaintext.
        sections: members that replace or extend those of a section, such as limits={"idle_timeout_s": 1}; a listener that is None is
            left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key_file = folder / "log-key.pem"
    if not key_file.exists():
        generate_log_key(key_file)
    age = pyrage.x25519.Identity.generate()
    (folder / "auditor.age").write_text(str(age))
    listener: dict[str, Any] = {"port": 0}
    if tls is not None:
        listener["tls"] = {"cert_file": str(tls[0]), "key_file": str(tls[1])}
    listeners: dict[str, Any] = {"admin": {"port": 0}}
    kinds = {connection["type"] for connection in connections}
    if "postgres" in kinds:
        listeners["postgres"] = listener
    if "http" in kinds:
        cert_file, key = folder / "http-ca.pem", folder / "http-ca-key.pem"
        if not key.exists():
            make_http_authority(cert_file, key)
        listeners["http"] = {"port": 0, "ca": {"cert_file": str(cert_file), "key": f"file:{key}"}}
    document: dict[str, Any] = {
        "gateway": {"name": GATEWAY_NAME, "state": "sqlite:///state.db"},
        "identity": {
            "issuers": [
                {"alias": "corp", "issuer": issuer.url, "audience": ["sealgate"], "jwks_url": issuer.jwks_url, "leeway_s": 0}
            ]
        },
        "listeners": listeners,
        "policy": {"bundle": str(bundle)},
        "evidence": {
            "store": "evidence",
            "sigstore": {"mode": "development"},
            "log_key": f"file:{key_file}",
            "recipients": [str(age.to_public())],
            "openings_recipients": [str(age.to_public())],
            "ballast_mb": 0,
        },
        "connections": [dict(connection) for connection in connections],
    }
    for name, members in sections.items():
        document[name] = {**document.get(name, {}), **members}
    document["listeners"] = {name: listener for name, listener in document["listeners"].items() if listener is not None}
    path = folder / "sealgate.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@dataclass(slots=True)
class RunningGateway:
    """A gateway that serves until the `with` block ends.

    Attributes:
        ports: of the listeners on 127.0.0.1, by name.
    """

    config: Config
    ports: Mapping[str, int] = field(default_factory=dict)
    loop: asyncio.AbstractEventLoop | None = None
    gateway: Gateway | None = None
    error: BaseException | None = None
    _stop: asyncio.Event | None = None
    _ready: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        """Of the PostgreSQL listener."""
        return self.ports["postgres"]

    @property
    def http_port(self) -> int:
        """Of the HTTPS proxy."""
        return self.ports["http"]

    @property
    def ssh_port(self) -> int:
        """Of the SSH listener."""
        return self.ports["ssh"]

    @property
    def admin_port(self) -> int:
        """Of the admin listener."""
        return self.ports["admin"]

    @property
    def session_count(self) -> int:
        """Sessions open now."""
        return 0 if self.gateway is None else self.gateway.session_count

    def stop(self) -> None:
        """Ask the gateway to stop in order; the `with` block waits for it."""
        if self.loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # already closed
                self.loop.call_soon_threadsafe(self._stop.set)

    def read_records(self) -> list[dict[str, Any]]:
        """Every record of the evidence that is published so far; complete once the gateway has stopped."""
        store = EvidenceStore(self.config.evidence.store)
        records: list[dict[str, Any]] = []
        for origin in store.list_origins():
            reader = store.open_log(origin)
            records += [record for _, record in reader.iterate_records(reader.read_checkpoint().size)]
        return records

    def verify_evidence(self) -> Report:
        """Verify what a stopped gateway left as an auditor with every key does: chunks are opened and verdicts recomputed."""
        store = self.config.evidence.store
        (origin,) = EvidenceStore(store).list_origins()
        trust = TrustPolicy(
            sigstore=SigstoreTrust((store / "development-sigstore/trust_config.json").read_text()),
            log_keys=(NoteSigner(origin, load_log_key(store.parent / "log-key.pem")).verifier_key,),
            gateway=(IdentityRule("*", DEFAULT_ISSUER),),
            accept_development=True,
        )
        ages = [(store.parent / "auditor.age").read_text()]
        with VerdictRecomputer(list((store / origin / "policy").iterdir())) as recompute:
            return verify_directory(store, trust, age_identities=ages, recompute=recompute)

    def serve(self) -> None:
        """Run until stopped; the body of the thread."""
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self.error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await run(self.config, ready=self._announce, stop=self._stop)

    def _announce(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.ports = {name: address[1] for name, address in gateway.addresses.items()}
        self._ready.set()

    def wait_until_ready(self) -> None:
        """Return once every listener accepts; raise what went wrong instead."""
        if not self._ready.wait(START_TIMEOUT_S):
            raise TimeoutError(f"the gateway is not ready after {START_TIMEOUT_S:g} s")
        if self.error is not None:
            raise self.error


@contextlib.contextmanager
def start_gateway(config_path: Path) -> Iterator[RunningGateway]:
    """Run the gateway of a configuration; it has stopped, with its evidence closed and attested, when the block ends."""
    running = RunningGateway(load_config(config_path))
    thread = threading.Thread(target=running.serve, name="gateway", daemon=True)
    thread.start()
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()
        thread.join(START_TIMEOUT_S)
    if running.error is not None:
        raise running.error
