"""The sections of sealgate.yaml, except connections. Each description says the unit and why the default is what it is."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from gateway.config.listeners import HttpListenerConfig, ListenerConfig
from gateway.config.ssh_connections import SshListenerConfig
from gateway.config.values import (
    ALIAS_PATTERN,
    PERSON_PATTERN,
    AgeRecipient,
    FilePath,
    HttpUrl,
    Many,
    Name,
    SecretRef,
    Settings,
    Text,
    is_safe_url,
    place_with,
)

SubjectKind = Literal["agent", "service", "human"]

SIGNATURE_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Asymmetric only: with a shared secret the gateway itself could make tokens up."""

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class GatewaySection(Settings):
    """The gateway itself."""

    name: Name = Field(
        description="Name of this gateway in records, tickets and the origin of its logs. Never change it while evidence is kept."
    )
    workers: int = Field(
        default=1,
        description="Processes that serve clients. Only 1: a second worker is a second gateway with a name of its own.",
    )
    state: str = Field(
        default="sqlite:///sealgate-state.db",
        description="Database of approval requests: sqlite:///FILE for one machine, postgresql://… when several gateways share requests. "
        "A password belongs in `state_password`.",
    )
    state_password: SecretRef | None = Field(
        default=None, description="Password for a PostgreSQL state database. None: the database asks for none."
    )
    age_identity: SecretRef = Field(
        default="env:SEALGATE_AGE_IDENTITY",
        description="The age identity that opens secrets kept in *.age files. Read only when one is used.",
    )

    @field_validator("workers")
    @classmethod
    def _serve_alone(cls, workers: int) -> int:
        if workers != 1:
            raise ValueError(
                "must be 1: one process serves one worker; start one gateway per worker, each with a name of its own"
            )
        return workers

    @field_validator("state")
    @classmethod
    def _place_state(cls, text: str, info: ValidationInfo) -> str:
        if re.match(r"postgresql(\+[a-z0-9]+)?://", text):
            if re.match(r"[^/]*//[^/@]*:[^/@]*@", text):
                raise ValueError("holds a password; put a reference to it in gateway.state_password")
            return text
        if not text.startswith("sqlite:///") or text == "sqlite:///":
            raise ValueError("must be sqlite:///FILE or postgresql://USER@HOST/DATABASE")
        return f"sqlite:///{place_with(info)(text.removeprefix('sqlite:///'))}"


class IssuerConfig(Settings):
    """One OpenID Connect issuer whose tokens prove who an agent or a reviewer is."""

    alias: Annotated[str, Field(pattern=ALIAS_PATTERN)] = Field(
        description="Short name of the issuer; a subject's id is alias/sub. Never reuse an alias for another issuer."
    )
    issuer: HttpUrl = Field(description="Exact `iss` of the tokens. https, except on this machine or when `jwks_url` is given.")
    audience: Many[Text] = Field(
        min_length=1, description="Accepted `aud` values; a token must hold at least one. Tokens made for others are refused."
    )
    jwks_url: HttpUrl | None = Field(
        default=None, description="Where the signing keys are. None: read from the issuer's discovery document."
    )
    ca_file: FilePath | None = Field(
        default=None, description="PEM file with the authority of the issuer's certificate. None: the system's authorities."
    )
    algorithms: Many[Algorithm] = Field(
        default=("RS256", "ES256"),
        min_length=1,
        description="Accepted signature algorithms, asymmetric only. Default: what nearly every issuer uses.",
    )
    groups_claim: Text = Field(
        default="groups",
        description="Claim with the groups, a list or one text. A dot descends: realm_access.roles. A claim of exactly that name wins.",
    )
    kind_claim: Text | None = Field(
        default=None, description="Claim that says agent, service or human; any other value is refused. None: `default_kind`."
    )
    default_kind: SubjectKind = Field(
        default="agent", description="Kind of subjects without `kind_claim`. Default agent, which policy trusts least."
    )
    person_claim: Text | None = Field(
        default=None,
        description="Claim naming the person who owns an agent, for records and the rule that nobody reviews their own request.",
    )
    run_claim: Text | None = Field(
        default=None, description="Claim naming the run that joins actions across protocols. None: the token's `jti`."
    )
    email_claim: Text = Field(
        default="email", description="Claim with the mail address; a reviewer's signature is matched with it."
    )
    require_verified_email: bool = Field(
        default=True,
        description="Use the address only if `email_verified` is true: an address users can set themselves proves nothing.",
    )
    claims_allow: Many[Text] = Field(
        default=(),
        description="Claims policy may read, by name or dotted path. Default none: tokens hold personal data that records need not.",
    )
    token_types: Many[Text] = Field(
        default=(),
        description='Accepted `typ` headers, such as "at+jwt", letter case ignored. Default: JWT, at+jwt or none; id tokens share JWT.',
    )
    leeway_s: int = Field(
        default=30,
        ge=0,
        le=300,
        description="Seconds of clock difference tolerated for exp, nbf and iat. Default 30: clocks under NTP differ far less.",
    )
    max_lifetime_s: int = Field(
        default=86_400,
        ge=60,
        le=31_536_000,
        description="Longest accepted time from iat (or now, without iat) to exp, in seconds. Default one day: a stolen token must end.",
    )

    @model_validator(mode="after")
    def _require_https(self) -> IssuerConfig:
        for name, url in (("issuer", self.issuer if self.jwks_url is None else None), ("jwks_url", self.jwks_url)):
            if url is not None and not is_safe_url(url):
                raise ValueError(f"{name} must be https: whoever can change plain http on the way can make tokens up")
        return self


class IdentitySection(Settings):
    """Who may speak to the gateway."""

    issuers: tuple[IssuerConfig, ...] = Field(
        min_length=1, strict=False, description="Issuers whose tokens are accepted; no other issuer ever is."
    )
    keys_max_age_s: int = Field(
        default=300,
        ge=5,
        le=86_400,
        description="Seconds until an issuer's keys are read again. Default 300: a withdrawn key stops working within five minutes.",
    )
    keys_stale_s: int = Field(
        default=3_600,
        ge=0,
        le=86_400,
        description="Seconds keys stay usable after `keys_max_age_s` while the issuer cannot be reached. Default one hour outlasts a restart of the issuer.",
    )
    refresh_interval_s: int = Field(
        default=10,
        ge=1,
        le=600,
        description="Shortest time in seconds between two readings because of an unknown key. Default 10: made-up key names must not flood the issuer.",
    )
    fetch_timeout_s: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="Seconds for one request to an issuer. Default 5: clients give up connecting after about 10.",
    )
    max_token_bytes: int = Field(
        default=16_384,
        ge=512,
        le=131_072,
        description="Largest accepted token in bytes. Default 16 KiB: groups of large directories fit.",
    )


class ListenersSection(Settings):
    """Where clients connect."""

    http: HttpListenerConfig | None = Field(
        default=None, description="HTTPS proxy: curl, SDKs, anything that follows HTTPS_PROXY."
    )

    postgres: ListenerConfig | None = Field(
        default=None, description="PostgreSQL wire protocol: psql, drivers, anything that speaks it."
    )
    ssh: SshListenerConfig | None = Field(default=None, description="SSH: `ssh -J gateway target`, scp, sftp, rsync, git.")
    admin: ListenerConfig | None = Field(default=None, description="Approvals, sessions, health and metrics over HTTP.")


class OpaConfig(Settings):
    """An OPA server that decides instead of the embedded engine."""

    url: HttpUrl = Field(description="Base address of OPA's REST API; it must serve the same bundle.")
    token: SecretRef | None = Field(default=None, description="Bearer token for OPA. None: OPA asks for none.")


class PolicySection(Settings):
    """What decides."""

    engine: Literal["regorus", "opa"] = Field(
        default="regorus", description="regorus is embedded and needs no service; opa asks the server under `opa`."
    )
    bundle: FilePath = Field(
        description="Folder with the Rego policies, their data and the manifest that `sealgate policy bundle` writes."
    )
    deadline_ms: int = Field(
        default=250,
        ge=1,
        le=30_000,
        description="Milliseconds one evaluation may take before the action is blocked, in processor time: a busy machine blocks nothing"
        " until four times as long, at least 5 s, have passed. With OPA the time until its answer. Default 250: a hundred times the usual.",
    )
    wait_ms: int = Field(
        default=10_000,
        ge=1,
        le=300_000,
        description="Milliseconds an action may wait for a free evaluator before it is blocked as `policy.busy`."
        " Default 10,000: a burst of a thousand decisions needs about one second.",
    )
    evaluators: int = Field(
        default=1,
        ge=1,
        le=32,
        description="Evaluator processes per worker. Default 1: one answers more than a thousand actions per second.",
    )
    cache_entries: int = Field(
        default=10_000,
        ge=0,
        le=1_000_000,
        description="Decisions remembered, each for at most 60 s; 0 switches the cache off. Default 10,000 takes a few tens of MB.",
    )
    opa: OpaConfig | None = Field(default=None, description="The OPA server; needed with engine opa, refused otherwise.")

    @model_validator(mode="after")
    def _match_engine(self) -> PolicySection:
        if (self.engine == "opa") != (self.opa is not None):
            raise ValueError("`opa` must be given with engine opa, and only then")
        return self


class SigstoreConfig(Settings):
    """Who signs the log's checkpoints, and under whose trust."""

    mode: Literal["development", "private", "public"] = Field(
        description="private: your own Fulcio, Rekor and time stamps. public: sigstore.dev. development: in-process, proves nothing outside."
    )
    trust_config: FilePath | None = Field(
        default=None, description="ClientTrustConfig JSON with addresses and roots; needed in mode private."
    )
    identity_token: SecretRef | None = Field(
        default=None,
        description="Token with audience sigstore that proves the gateway; needed in modes private and public, read again for every certificate.",
    )

    @model_validator(mode="after")
    def _match_mode(self) -> SigstoreConfig:
        missing = []
        if self.mode == "private" and self.trust_config is None:
            missing.append("trust_config is missing: mode private needs the addresses and roots of your Sigstore")
        if (self.mode != "development" or self.trust_config is not None) and self.identity_token is None:
            missing.append("identity_token is missing: these services sign with the gateway's own identity")
        if missing:
            raise ValueError("; ".join(missing))
        return self


class EvidenceSection(Settings):
    """Where and how the record is kept."""

    store: FilePath = Field(description="Folder of the evidence. It must be on a disk that keeps what was synced.")
    sigstore: SigstoreConfig = Field(description="Who signs checkpoints.")
    log_key: SecretRef = Field(description="Ed25519 private key (PKCS #8 PEM) that signs checkpoints of the log.")
    recipients: Many[AgeRecipient] = Field(
        min_length=1,
        max_length=64,
        description="age public keys that may read recorded inputs and transcripts. No default: without one nobody ever could.",
    )
    openings_recipients: Many[AgeRecipient] = Field(
        default=(),
        max_length=64,
        description="age public keys of auditors who may check a guessed value against the keyed digests. Default none.",
    )
    attest_every_s: int = Field(
        default=60,
        ge=1,
        le=86_400,
        description="Seconds between two signed attestations of the log. Default 60: the exposed tail stays about a minute.",
    )
    max_attest_lag_s: int = Field(
        default=900,
        ge=10,
        le=604_800,
        description="Seconds without an attestation after which actions other than reads stop. Default 15 minutes outlasts a short Sigstore outage.",
    )
    ballast_mb: int = Field(
        default=64,
        ge=0,
        le=65_536,
        description="Megabytes held back so that the last records still fit on a full disk. Default 64.",
    )

    @model_validator(mode="after")
    def _outlast_interval(self) -> EvidenceSection:
        if self.max_attest_lag_s <= self.attest_every_s:
            raise ValueError(
                f"max_attest_lag_s {self.max_attest_lag_s} must be longer than attest_every_s {self.attest_every_s}:"
                " otherwise actions other than reads stop before each attestation is due"
            )
        return self


class ReviewerGroup(Settings):
    """Who belongs to a group of reviewers that policy names."""

    groups: Many[Text] = Field(default=(), description="Groups of the identity provider whose members belong to it.")
    people: Many[Annotated[str, Field(pattern=PERSON_PATTERN)]] = Field(default=(), description="Single subjects, as alias/sub.")

    @model_validator(mode="after")
    def _require_members(self) -> ReviewerGroup:
        if not self.groups and not self.people:
            raise ValueError("has no members: name groups or people, or nobody can ever approve")
        return self


class ApprovalSection(Settings):
    """How actions wait for a reviewer."""

    hold_s: float = Field(
        default=25.0,
        ge=0,
        le=300,
        description="Seconds an action waits for a verdict before it is refused with its ticket. Default 25: below the 60 s of clients and balancers.",
    )
    reviewers: dict[Name, ReviewerGroup] = Field(
        default_factory=dict,
        description="Reviewer groups by the name policy uses. A group not listed here is matched with the token's groups as they are.",
    )


class LimitsSection(Settings):
    """Sizes and times beyond which the gateway refuses."""

    max_message_bytes: int = Field(
        default=16_777_216,
        ge=65_536,
        le=1_073_741_823,
        description="Largest message of a protocol in bytes. Default 16 MiB: larger values are files, not statements.",
    )
    max_sql_bytes: int = Field(
        default=1_048_576,
        ge=1_024,
        le=67_108_864,
        description="Longest SQL text in bytes. Default 1 MiB: parsing takes time in proportion.",
    )
    max_sql_depth: int = Field(
        default=256, ge=16, le=4_096, description="Deepest nesting of a statement. Default 256: written statements stay below 50."
    )
    max_statements: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        description="Prepared statements one session may use; beyond it the one not used for the longest time is forgotten, and using that one"
        " is refused (26000). Default 1,000: drivers cache at most a few hundred (asyncpg and psycopg 100, JDBC 256, pgx 512).",
    )
    max_portals: int = Field(
        default=100, ge=1, le=100_000, description="Open portals (cursors of the protocol) in one session. Default 100."
    )
    max_pending: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        description="Requests a client may send ahead of their replies. Default 1,000: pipelines are shorter.",
    )
    max_sessions: int = Field(
        default=500, ge=1, le=100_000, description="Sessions open at once in one worker. Default 500: each takes about 50 kB."
    )
    max_sessions_per_subject: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Sessions one subject may hold open in one worker. Default 100: one agent must not lock out others.",
    )
    login_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=300,
        description="Seconds from connecting to a proven identity. Default 10: idle strangers must go.",
    )
    connect_timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="Seconds to reach and log in to a target. Default 10."
    )
    idle_timeout_s: float = Field(
        default=900.0, gt=0, le=86_400, description="Seconds without a message after which a session ends. Default 15 minutes."
    )
    max_session_s: float = Field(
        default=28_800.0,
        gt=0,
        le=604_800,
        description="Longest session in seconds, whatever its token says; a statement under way has a minute more. Default 8 hours.",
    )
    lookup_timeout_s: float = Field(
        default=5.0, gt=0, le=60, description="Seconds for one question to a target that describing an action needs. Default 5."
    )
    catalog_age_s: float = Field(
        default=60.0,
        gt=0,
        le=3_600,
        description="Seconds until a target's catalogue is read again; changes through the gateway count at once. Default 60.",
    )
    transcript_head_bytes: int = Field(
        default=1_048_576,
        ge=0,
        le=67_108_864,
        description="Bytes of results recorded per action in transcript mode head. Default 1 MiB.",
    )
    shutdown_grace_s: float = Field(
        default=10.0, ge=0, le=600, description="Seconds running actions get to finish when the gateway stops. Default 10."
    )
