"""Where clients connect: addresses, the certificates shown there, and the authority of the HTTPS proxy."""

from __future__ import annotations

from pydantic import Field, model_validator

from gateway.config.values import Bind, FilePath, ListenPort, Many, SecretRef, Settings, is_loopback


class TlsConfig(Settings):
    """The certificate a listener shows."""

    cert_file: FilePath = Field(description="PEM file: the certificate and its chain.")
    key_file: FilePath = Field(description="PEM file: the private key, readable by the gateway's user only.")


class ListenerConfig(Settings):
    """An address the gateway accepts clients on."""

    bind: Bind = Field(
        default="127.0.0.1", description="Address to listen on. Default this machine only: opening up is a decision."
    )
    port: ListenPort = Field(description="TCP port; 0 lets the kernel choose (it is printed at start).")
    tls: TlsConfig | None = Field(
        default=None, description="Certificate to show. Needed on any address but loopback: clients send their token here."
    )

    @model_validator(mode="after")
    def _require_tls(self) -> ListenerConfig:
        if self.tls is None and not is_loopback(self.bind):
            raise ValueError(f"tls is missing: on {self.bind} tokens would cross the network in clear")
        return self


class HttpCaConfig(Settings):
    """The authority that makes the certificates clients see for the hosts behind the gateway."""

    cert_file: FilePath = Field(
        description="PEM file with the authority's certificate, as `sealgate keygen --kind http-ca` makes it; clients trust it. A changed file is used at once."
    )
    key: SecretRef = Field(description="Its private key (PEM). Whoever has it can pose as any host to the clients.")
    trust_files: Many[FilePath] = Field(
        default=(),
        description="Further certificates clients should trust while the authority is replaced: the next one, or the last. Default none.",
    )


class HttpListenerConfig(ListenerConfig):
    """The address agents use as their HTTPS proxy."""

    ca: HttpCaConfig = Field(description="The authority of the certificates clients see.")
    reverse: ListenerConfig | None = Field(
        default=None,
        description="A second address for clients that know no proxy: https://gateway:port/CONNECTION/path, the token as bearer. None: not offered.",
    )
