"""HTTP connections: the services agents reach through the gateway as their proxy, and how the gateway proves itself to them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from gateway.config.connections import ConnectionBase
from gateway.config.values import FilePath, HttpUrl, Many, Port, SecretRef, Settings, Text, is_loopback, is_safe_url

HostPattern = Annotated[str, Field(pattern=r"^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*$", max_length=253)]

HttpEffect = Literal["read", "write", "define", "execute", "export", "privilege", "network"]

TEMPLATE: Final = re.compile(r"/|(/([A-Za-z0-9._~!$&'()*+,=:@%-]+|\{[a-z_][a-z0-9_]*\}))+/?(\{\*\})?")
"""Path templates: literal segments, `{name}` for one segment, `{*}` at the end for any rest."""

FIELD_SELECTOR: Final = re.compile(
    r"[A-Za-z0-9_-]{1,64}|\$((\.[A-Za-z_][A-Za-z0-9_-]*)|\[\*\]|\[[0-9]{1,6}\]|(\['[^'\]]{1,64}'\])){1,32}"
)
"""A member's name at any depth, or a JSON path with children, indexes and wildcards (RFC 9535, a subset)."""

HEADER_NAME: Final = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$"


def _check_template(text: str) -> str:
    if not TEMPLATE.fullmatch(text):
        raise ValueError("must be a path such as /ledger/{id} or /files/{*}")
    return text


def _check_selector(text: str) -> str:
    if not FIELD_SELECTOR.fullmatch(text):
        raise ValueError("must be the name of a member, such as ssn, or a JSON path, such as $.customers[*].ssn")
    return text


Template = Annotated[str, AfterValidator(_check_template)]
FieldSelector = Annotated[
    str, AfterValidator(_check_selector), WithJsonSchema({"type": "string", "pattern": f"^({FIELD_SELECTOR.pattern})$"})
]
Method = Annotated[str, Field(pattern=r"^[A-Z]{1,32}$")]


class HttpMatch(Settings):
    """How a client's request finds the connection."""

    hosts: Many[HostPattern] = Field(
        min_length=1, description="Host names in lower case; `*.example.com` stands for every name below example.com."
    )
    ports: Many[Port] = Field(
        default=(443,), min_length=1, description="Ports clients may ask for. Default 443: what https stands for."
    )


class HttpTargetTls(Settings):
    """How the gateway checks the service's certificate; there is no way to leave the check out."""

    ca_file: FilePath | None = Field(
        default=None, description="PEM file with the authority of the service's certificate. None: the system's authorities."
    )
    server_name: Text | None = Field(
        default=None, description="Name the certificate must have. None: the host name the client asked for."
    )


class HttpTarget(Settings):
    """Where the service really is; the defaults go to the host and port the client asked for."""

    scheme: Literal["https", "http"] = Field(
        default="https", description="Default https. http sends credential and data in clear; use it on this machine only."
    )
    host: Text | None = Field(
        default=None, description="Host name or address to connect to. None: the host the client asked for."
    )
    port: Port | None = Field(default=None, description="TCP port to connect to. None: the port the client asked for.")
    tls: HttpTargetTls = Field(default=HttpTargetTls(), description="How the service's certificate is checked.")


class BearerCredential(Settings):
    """A fixed token, sent as `Authorization: Bearer`."""

    kind: Literal["bearer"] = Field(description="How the gateway proves itself.")
    token: SecretRef = Field(description="The token; read again when its file changes.")


class BasicCredential(Settings):
    """A user and password, sent as `Authorization: Basic`."""

    kind: Literal["basic"] = Field(description="How the gateway proves itself.")
    user: Text = Field(description="User name at the service.")
    password: SecretRef = Field(description="Its password.")


class HeaderCredential(Settings):
    """A secret in a header of its own, such as X-Api-Key."""

    kind: Literal["header"] = Field(description="How the gateway proves itself.")
    name: Annotated[str, Field(pattern=HEADER_NAME)] = Field(description="Name of the header.")
    value: SecretRef = Field(description="Its value.")


class QueryCredential(Settings):
    """A secret in the query, for services that know nothing better."""

    kind: Literal["query"] = Field(description="How the gateway proves itself.")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._~-]{1,64}$")] = Field(description="Name of the query parameter.")
    value: SecretRef = Field(description="Its value.")


class MtlsCredential(Settings):
    """A client certificate."""

    kind: Literal["mtls"] = Field(description="How the gateway proves itself.")
    cert_file: FilePath = Field(description="PEM file: the certificate and its chain.")
    key: SecretRef = Field(description="Its private key, PEM without a passphrase.")


class OAuth2Credential(Settings):
    """Tokens of the client-credentials grant (RFC 6749 4.4), fetched by the gateway and renewed before they end."""

    kind: Literal["oauth2"] = Field(description="How the gateway proves itself.")
    token_url: HttpUrl = Field(description="The token endpoint; https, except on this machine.")
    client_id: Text = Field(description="The gateway's client id.")
    client_secret: SecretRef = Field(description="Its secret.")
    scope: Text | None = Field(default=None, description="Scopes to ask for, separated by blanks. None: what the server gives.")
    audience: Text | None = Field(default=None, description="Audience to ask for, where the server knows that parameter.")
    ca_file: FilePath | None = Field(
        default=None, description="PEM file with the authority of the token endpoint. None: the system's authorities."
    )

    @model_validator(mode="after")
    def _require_https(self) -> OAuth2Credential:
        if not is_safe_url(self.token_url):
            raise ValueError("token_url must be https: the client secret goes there")
        return self


HttpCredential = Annotated[
    BearerCredential | BasicCredential | HeaderCredential | QueryCredential | MtlsCredential | OAuth2Credential,
    Field(discriminator="kind"),
]


class HttpOperation(Settings):
    """One operation of the service, which policy knows by its id."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")] = Field(description="Name of the operation in policy.")
    methods: Many[Method] = Field(min_length=1, description="HTTP methods, in capitals.")
    path: Template = Field(description="Path template: `{name}` stands for one segment, `{*}` at the end for any rest.")
    effects: Many[HttpEffect] = Field(
        default=(), description="What it does, where the method does not say it. Default: read for GET and HEAD, else write."
    )
    labels: Many[Text] = Field(
        default=(), description="Free labels policy reads, such as regulated, destructive or bulk. Default none."
    )


class HttpConnectionConfig(ConnectionBase):
    """One HTTP service behind the gateway."""

    type: Literal["http"] = Field(description="Protocol of the target.")
    match: HttpMatch = Field(description="Which hosts are this connection.")
    target: HttpTarget = Field(default=HttpTarget(), description="Where the service is.")
    credential: HttpCredential | None = Field(
        default=None, description="How the gateway proves itself; agents never see it. None: the service asks for nothing."
    )
    operations: tuple[HttpOperation, ...] = Field(
        default=(),
        max_length=1_000,
        strict=False,
        description="The service's operations. Where any are given, policy knows what is none of them. Default none.",
    )
    sensitive: Many[FieldSelector] = Field(
        default=(),
        description="Members of JSON and form bodies that hold sensitive data: a name at any depth, or a JSON path such as $.customers[*].ssn.",
    )
    max_request_bytes: int = Field(
        default=16_777_216,
        ge=1_024,
        le=1_073_741_824,
        description="Largest request body in bytes, decoded. Default 16 MiB: it is held in memory until it was judged.",
    )
    max_parsed_bytes: int = Field(
        default=1_048_576,
        ge=1_024,
        le=8_388_608,
        description="Largest JSON or form body policy reads, in bytes; a larger one is refused. Default 1 MiB.",
    )
    max_response_bytes: int = Field(
        default=16_777_216,
        ge=1_024,
        le=1_073_741_824,
        description="Responses with a larger body are refused, unless policy lets them be streamed. Default 16 MiB.",
    )

    @model_validator(mode="after")
    def _check_operations(self) -> HttpConnectionConfig:
        names = [operation.id for operation in self.operations]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"operations named twice: {', '.join(repeated)}")
        return self

    def find_weaknesses(self) -> Iterator[str]:
        """Also a way to the service that is not encrypted, and a service of which policy knows no operations."""
        yield from super().find_weaknesses()
        if self.target.scheme == "http" and not is_loopback(self.target.host or ""):
            yield f"connection {self.name}: scheme http sends credential and data in clear"
        if not self.operations:
            yield f"connection {self.name}: no operations are declared, so policy judges by method and path only"

    @property
    def asked_for(self) -> tuple[str, ...]:
        """The hosts."""
        return self.match.hosts

    def describe_target(self) -> str:
        """The hosts, and where they really are."""
        asked = ",".join(self.match.hosts)
        host, port = self.target.host, self.target.port
        return asked if host is None else f"{asked} at {host}{'' if port is None else f':{port}'}"

    def describe_protection(self) -> str:
        """How many operations and sensitive fields there are, and how the gateway proves itself."""
        proof = "nothing" if self.credential is None else self.credential.kind
        return f", {len(self.operations)} operations, {len(self.sensitive)} sensitive fields, proves itself by {proof}"

    def secret_references(self) -> Mapping[str, str]:
        """The credential's secret."""
        match self.credential:
            case BearerCredential(token=reference):
                return {"token": reference}
            case BasicCredential(password=reference):
                return {"password": reference}
            case HeaderCredential(value=reference) | QueryCredential(value=reference):
                return {"value": reference}
            case MtlsCredential(key=reference):
                return {"key": reference}
            case OAuth2Credential(client_secret=reference):
                return {"client_secret": reference}
            case _:
                return {}

    def target_address(self) -> tuple[str, int] | None:
        """The service's address, where it does not depend on what a client asks for."""
        host = self.target.host or next((name for name in self.match.hosts if "*" not in name), None)
        return None if host is None else (host, self.target.port or self.match.ports[0])
