"""The configuration of a gateway: `load_config` reads sealgate.yaml into frozen, typed settings.

values.py        the kinds of value: references to secrets, paths, names
sections.py      the sections; masking.py detectors and patterns, listeners.py where clients connect
connections.py   the systems behind the gateway: what all have, and PostgreSQL; http_connections.py and ssh_connections.py the other protocols
source.py        YAML with the line of every value
load.py          the whole file: problems, conflicts, warnings
view.py          what `sealgate validate` shows, without secrets
reference.py     JSON Schema and docs/configuration.md, made from the models
"""

from gateway.config.connections import (
    ANY_GROUP,
    ConnectionBase,
    DatabaseMatch,
    PostgresConnectionConfig,
    PostgresCredential,
    PostgresTarget,
    TargetTlsConfig,
    TranscriptMode,
)
from gateway.config.http_connections import (
    BasicCredential,
    BearerCredential,
    HeaderCredential,
    HttpConnectionConfig,
    HttpCredential,
    HttpOperation,
    MtlsCredential,
    OAuth2Credential,
    QueryCredential,
)
from gateway.config.listeners import HttpCaConfig, HttpListenerConfig, ListenerConfig, TlsConfig
from gateway.config.load import (
    CONNECTION_TYPES,
    Config,
    ConnectionConfig,
    find_warnings,
    load_config,
    parse_config,
    place_problems,
)
from gateway.config.masking import DETECTORS, MaskingSection, PatternConfig
from gateway.config.reference import json_schema, render_reference
from gateway.config.sections import (
    SIGNATURE_ALGORITHMS,
    ApprovalSection,
    EvidenceSection,
    GatewaySection,
    IdentitySection,
    IssuerConfig,
    LimitsSection,
    ListenersSection,
    OpaConfig,
    PolicySection,
    ReviewerGroup,
    SigstoreConfig,
)
from gateway.config.ssh_connections import SshConnectionConfig, SshListenerConfig
from gateway.config.values import is_loopback, is_safe_url
from gateway.config.view import resolved_view, summarize

__all__ = [
    "ANY_GROUP",
    "CONNECTION_TYPES",
    "DETECTORS",
    "SIGNATURE_ALGORITHMS",
    "ApprovalSection",
    "BasicCredential",
    "BearerCredential",
    "Config",
    "ConnectionBase",
    "ConnectionConfig",
    "DatabaseMatch",
    "EvidenceSection",
    "GatewaySection",
    "HeaderCredential",
    "HttpCaConfig",
    "HttpConnectionConfig",
    "HttpCredential",
    "HttpListenerConfig",
    "HttpOperation",
    "IdentitySection",
    "IssuerConfig",
    "LimitsSection",
    "ListenerConfig",
    "ListenersSection",
    "MaskingSection",
    "MtlsCredential",
    "OAuth2Credential",
    "OpaConfig",
    "PatternConfig",
    "PolicySection",
    "PostgresConnectionConfig",
    "PostgresCredential",
    "PostgresTarget",
    "QueryCredential",
    "ReviewerGroup",
    "SigstoreConfig",
    "SshConnectionConfig",
    "SshListenerConfig",
    "TargetTlsConfig",
    "TlsConfig",
    "TranscriptMode",
    "find_warnings",
    "is_loopback",
    "is_safe_url",
    "json_schema",
    "load_config",
    "parse_config",
    "place_problems",
    "render_reference",
    "resolved_view",
    "summarize",
]
