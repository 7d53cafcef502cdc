"""The evidence of one worker, as the hosts use it: the log, its attestor, and the adapter the pipeline records through."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import logging
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, cast

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sealgate_native.record import Chain, Sealer, SegmentFile, Writer

from evidence.attest import Attestor, LogSource
from evidence.disk import Disk
from evidence.drafts import Drafts
from evidence.errors import EvidenceError
from evidence.keyless import KeylessSigner
from evidence.log import Log, LogSettings
from evidence.note import encode_verifier_key
from evidence.record import TranscriptMode, is_origin_of, make_origin
from evidence.segment import NativeWriter
from evidence.session import SessionLog
from evidence.store import EvidenceStore
from evidence.transcript import HEAD_BYTES, Transcript
from evidence.trust import IdentityRule, SigstoreTrust
from evidence.verify_records import POLICY_FOLDER
from gateway.action import commit_digest
from gateway.config import Config, EvidenceSection
from gateway.errors import ConfigError, EvidenceUnavailableError
from gateway.pipeline import Receipt
from gateway.policy.bundle import MANIFEST_NAME
from gateway.secrets import SecretResolver

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S: Final = 30.0
"""How long the last attestation may take at shutdown; what it misses is attested after the next start."""

DEVELOPMENT_FOLDER: Final = "development-sigstore"


class _AsUnavailable:
    """Turns errors of the log into what the pipeline knows. A class, because several records of every statement pass through it."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, EvidenceError):
            raise EvidenceUnavailableError(
                "the record cannot be written", why=str(error), fix="check space and health of the evidence store"
            ) from error


_AS_UNAVAILABLE: Final = _AsUnavailable()


class ActionTranscript:
    """The transcript of one action while it runs (`gateway.parts.TranscriptWriter`)."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript

    def write(self, data: bytes) -> None:
        """Add bytes, masked already. Raises EvidenceUnavailableError."""
        with _AS_UNAVAILABLE:
            self._transcript.write(data)

    def close(self) -> Mapping[str, Any]:
        """End it, and say what it amounted to. Raises EvidenceUnavailableError."""
        with _AS_UNAVAILABLE:
            return self._transcript.close()


class LogRecorder:
    """One session's evidence as the pipeline writes it (`gateway.pipeline.SessionRecorder`).

    Args:
        session: the session in the log.
        check_lag: raises EvidenceUnavailableError while attestations are overdue; asked before every action that is not a read.
        on_close: called when the session's last record is queued.
        mode: how much of a streamed transcript is kept, and in mode head how many bytes of each action.
    """

    __slots__ = ("_check_lag", "_head_bytes", "_mode", "_on_close", "_session", "session_id")

    def __init__(
        self,
        session: SessionLog,
        check_lag: Callable[[], None],
        on_close: Callable[[], None],
        *,
        mode: TranscriptMode = "head",
        head_bytes: int = HEAD_BYTES,
    ) -> None:
        self._session = session
        self._mode: TranscriptMode = mode
        self._head_bytes = head_bytes
        self._check_lag = check_lag
        self._on_close = on_close
        self.session_id = session.sid

    def append(self, kind: str, fields: Mapping[str, Any]) -> asyncio.Future[Receipt]:
        """Queue one record; the future ends when it is durable. Raises EvidenceUnavailableError."""
        if kind == "decision" and not fields.get("refused") and fields.get("release") != "b":
            self._check_lag()
        with _AS_UNAVAILABLE:
            return cast("asyncio.Future[Receipt]", self._session.append(kind, fields))

    def put_blob(self, kind: str, data: bytes) -> dict[str, Any]:
        """Queue encrypted bytes that the next record refers to. Raises EvidenceUnavailableError."""
        with _AS_UNAVAILABLE:
            return dict(self._session.put_blob(cast("Literal['input', 'transcript']", kind), data))

    def open_transcript(self, decision_id: str) -> ActionTranscript:
        """The transcript of one action that runs for a while."""
        transcript = Transcript(self._session, self._mode, head_bytes=self._head_bytes)
        transcript.begin(decision_id)
        return ActionTranscript(transcript)

    def append_drafts(self, drafts: Drafts) -> asyncio.Future[Receipt]:
        """Queue prepared records; the future ends when all of them are durable. Raises EvidenceUnavailableError."""
        with _AS_UNAVAILABLE:
            return cast("asyncio.Future[Receipt]", self._session.append_drafts(drafts))

    def lend(self) -> Chain:
        """Have native code append to the session until `take_back`."""
        return self._session.lend(Chain)

    def take_back(self) -> None:
        """Go on after whatever was appended meanwhile."""
        self._session.take_back()

    def hurry(self) -> None:
        """Somebody waits for what was queued."""
        self._session.hurry()

    @property
    def salt(self) -> bytes:
        """The key of the session's commitments."""
        return self._session.salt

    def is_ready(self, *, for_effects: bool) -> bool:
        """Whether the log takes records, and for effects whether it is attested in time."""
        if not for_effects:
            return self._session.is_writable
        try:
            self._check_lag()
        except EvidenceUnavailableError:
            return False
        return self._session.is_writable

    @property
    def is_crowded(self) -> bool:
        """Whether whoever can wait with records should; of a log that has failed nobody waits for room."""
        return self._session.is_crowded and self._session.is_writable

    def commit(self, digest: bytes) -> str:
        """The digest keyed with the session's salt, in hex."""
        return commit_digest(digest, self._session.salt)

    def close(self, fields: Mapping[str, Any]) -> asyncio.Future[Receipt]:
        """Queue the session's last record; once it is durable, an attestation is asked for. Raises EvidenceUnavailableError."""
        with _AS_UNAVAILABLE:
            closed = cast("asyncio.Future[Receipt]", self._session.close(fields))
        closed.add_done_callback(lambda _: self._on_close())
        return closed


@dataclass(slots=True)
class Evidence:
    """The evidence of one worker while it runs. Made by `open_evidence`, ended by `close`."""

    log: Log
    attestor: Attestor
    trust: SigstoreTrust
    max_lag_s: float
    end_development: Callable[[], None] | None = None
    head_bytes: int = HEAD_BYTES

    def open_recorder(self, fields: Mapping[str, Any], transcript: str) -> LogRecorder:
        """Open one session in the log. Raises EvidenceUnavailableError."""
        with _AS_UNAVAILABLE:
            mode = cast("TranscriptMode", transcript)
            session = self.log.open_session(dict(fields), mode)
        on_close = partial(self.attestor.request, "session")
        return LogRecorder(session, self.check_lag, on_close, mode=mode, head_bytes=self.head_bytes)

    def append(self, kind: str, fields: Mapping[str, Any]) -> asyncio.Future[Receipt]:
        """Queue one log-level record; the future ends when it is durable, or with EvidenceUnavailableError."""
        return asyncio.ensure_future(self._append(kind, fields))

    async def _append(self, kind: str, fields: Mapping[str, Any]) -> Receipt:
        with _AS_UNAVAILABLE:
            return cast("Receipt", await self.log.append(kind, dict(fields)))

    def check_lag(self) -> None:
        """Raise EvidenceUnavailableError while the newest attestation is too old (evidence.max_attest_lag_s)."""
        if self.attestor.lag_s > self.max_lag_s:
            raise EvidenceUnavailableError(
                "the evidence is not attested in time",
                why=f"the oldest unattested record is older than {self.max_lag_s:g} s",
                fix="check that the gateway reaches Sigstore; reads go on meanwhile",
            )

    @property
    def lag_left_s(self) -> float:
        """Seconds for which the newest attestation will do, whatever happens; not positive while it is too old."""
        return self.max_lag_s - self.attestor.lag_s

    async def close(self) -> None:
        """End the log, attest it a last time, and release everything."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self.log.close()
        if not self.attestor.stop(STOP_TIMEOUT_S):
            logger.warning("the last records are not attested yet; the next start catches up")
        if self.end_development is not None:
            self.end_development()


async def open_evidence(config: Config, secrets: SecretResolver, *, worker: int = 0) -> Evidence:
    """Open the log, recovering what a crash left, and start the attestor.

    Raises:
        ConfigError: a key or a trust configuration cannot be used.
        evidence.errors.EvidenceError: the log cannot be opened or continued.
    """
    return await asyncio.to_thread(_open, config, secrets, worker)


def _open(config: Config, secrets: SecretResolver, worker: int) -> Evidence:
    section = config.evidence
    origin = make_origin(config.gateway.name, time.time_ns(), worker)
    settings = LogSettings(ballast_bytes=section.ballast_mb << 20)
    log = Log.open(
        section.store,
        origin=origin,
        log_key=parse_log_key(secrets.resolve(section.log_key)),
        recipients=section.recipients,
        openings_recipients=section.openings_recipients,
        settings=settings,
        make_sealer=Sealer,
        native=NativeWriter(SegmentFile, Writer),
    )
    end_development: Callable[[], None] | None = None
    try:
        trust_config, token, rule, end_development = _choose_sigstore(config.gateway.name, section, secrets)
        trust = SigstoreTrust(trust_config)
        signer = KeylessSigner(trust_config, token)
        attestor = Attestor(
            config.gateway.name, [LogSource(log)], signer=signer, trust=trust, rules=[rule], every_s=section.attest_every_s
        )
        attestor.start()
        attestor.request("start")  # what a crash left unattested should not wait, nor news that the services do not answer
    except BaseException:
        log.close()
        if end_development is not None:
            end_development()
        raise
    return Evidence(log, attestor, trust, section.max_attest_lag_s, end_development, config.limits.transcript_head_bytes)


def keep_bundle(log: Path, bundle: Path, digest: str) -> str:
    """Put the policy bundle that decides beside the log: `policy/<digest>.tar.gz`, the same bytes for the same bundle.

    Returns the archive's SHA-256 in hex, which the record of loading it carries. Raises EvidenceUnavailableError.
    """
    folder = log / POLICY_FOLDER
    target = folder / f"{digest.removeprefix('sha256:')}.tar.gz"
    listed = orjson.loads((bundle / MANIFEST_NAME).read_bytes())["files"]
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in [MANIFEST_NAME, *sorted(listed)]:
            content = (bundle / name).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    disk = Disk()
    try:
        disk.make_directory(folder)
        disk.write_file_durably(target, packed.getvalue())
    except OSError as error:
        fix = "check space and health of the evidence store"
        raise EvidenceUnavailableError("the policy bundle cannot be kept beside the log", why=str(error), fix=fix) from error
    return hashlib.sha256(packed.getvalue()).hexdigest()


def read_verifier_keys(config: Config, secrets: SecretResolver) -> tuple[str, ...]:
    """The verifier keys an auditor pins: of every log of this gateway that is kept, or of the one it would begin now.

    The names come from the evidence, which proves nothing by them: each line holds the configured key, and no other key can have signed
    a log that verifies with it. A log that is not there is not named, because evidence without a log that is pinned counts as incomplete.

    Raises:
        ConfigError: the key cannot be used.
        gateway.errors.SecretError: it cannot be read.
    """
    key = parse_log_key(secrets.resolve(config.evidence.log_key)).public_key()
    store = EvidenceStore(config.evidence.store)
    kept = store.list_origins() if config.evidence.store.is_dir() else []
    name = config.gateway.name
    origins = [origin for origin in kept if is_origin_of(origin, name)] or [make_origin(name, time.time_ns(), 0)]
    return tuple(encode_verifier_key(origin, key) for origin in origins)


def parse_log_key(pem: bytes) -> Ed25519PrivateKey:
    """The key of evidence.log_key. Raises ConfigError where it is of another kind."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError("evidence.log_key cannot be used", why="it is not an unencrypted PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            "evidence.log_key cannot be used", why="it is not an Ed25519 key", fix="make one with `sealgate keygen`"
        )
    return key


def _choose_sigstore(
    gateway: str, section: EvidenceSection, secrets: SecretResolver
) -> tuple[str, Callable[[], str], IdentityRule, Callable[[], None] | None]:
    """Trust, token source and own identity; starts the development services where nothing else is configured."""
    sigstore = section.sigstore
    if sigstore.mode == "development" and sigstore.trust_config is None:
        return _start_development(gateway, section.store / DEVELOPMENT_FOLDER)
    if sigstore.identity_token is None:
        raise ConfigError("evidence.sigstore.identity_token is missing", fix="give the gateway's own token for audience sigstore")
    token = partial(_read_token, secrets, sigstore.identity_token)  # read again for every certificate
    return _read_trust(sigstore.trust_config), token, _read_identity(token()), None


def _read_token(secrets: SecretResolver, reference: str) -> str:
    return secrets.resolve(reference).decode()


def _start_development(gateway: str, folder: Path) -> tuple[str, Callable[[], str], IdentityRule, Callable[[], None] | None]:
    from gateway.testing.sigstore import DevelopmentSigstore  # noqa: PLC0415 - only where the configuration asks for it

    services = DevelopmentSigstore(folder)
    services.start()
    identity = f"https://{gateway}.gateway.development.sealgate.invalid"
    return services.trust_config, lambda: services.mint_token(identity), IdentityRule(identity, services.issuer), services.stop


def _read_trust(path: Path | None) -> str:
    if path is not None:
        try:
            return path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("evidence.sigstore.trust_config cannot be read", why=f"{path}: {error}") from error
    from sigstore.models import ClientTrustConfig  # noqa: PLC0415 - fetches the public trust root, so only for the public service

    public: Any = ClientTrustConfig.production()
    return str(public._inner.to_json())  # noqa: SLF001 - the library offers no other way to the text


def _read_identity(token: str) -> IdentityRule:
    """Who the attestor's own bundles must be signed by: what the token says, checked by Sigstore itself when it signs."""
    try:
        body = token.split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return IdentityRule(str(claims.get("email") or claims["sub"]), str(claims["iss"]))
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise ConfigError("evidence.sigstore.identity_token is not an OpenID Connect token") from error
