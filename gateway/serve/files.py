"""Whether the certificate files that a configuration names can be used: asked by `sealgate validate` and `sealgate doctor`.

A file that is not there, or that only the gateway may read, may come with the machine the gateway runs on: it is told apart from one
that is wrong wherever it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.config import Config, PostgresConnectionConfig, TargetTlsConfig, TlsConfig
from gateway.config.source import Location
from gateway.errors import ConfigError, TargetError
from gateway.serve.tls import ServerTls, client_context


@dataclass(frozen=True, slots=True)
class UnusableFile:
    """A setting whose files cannot be used. `is_absent` where they cannot be read here, which another machine may do."""

    location: Location
    why: str
    fix: str
    is_absent: bool


def find_unusable_files(config: Config) -> Iterator[UnusableFile]:
    """The certificates of listeners and of the ways to PostgreSQL targets that cannot be used, as the gateway would load them."""
    for name, listener in config.listeners:
        if listener is not None and listener.tls is not None:
            yield from _try_listener(("listeners", name, "tls"), listener.tls)
    http = config.listeners.http
    if http is not None and http.reverse is not None and http.reverse.tls is not None:
        yield from _try_listener(("listeners", "http", "reverse", "tls"), http.reverse.tls)
    for number, item in enumerate(config.connections):
        if isinstance(item, PostgresConnectionConfig) and item.target.socket_dir is None:
            yield from _try_target(("connections", number, "target", "tls"), item.target.tls)


def _try_listener(location: Location, tls: TlsConfig) -> Iterator[UnusableFile]:
    try:
        ServerTls(tls.cert_file, tls.key_file)
    except ConfigError as error:
        yield _describe(location, error)


def _try_target(location: Location, tls: TargetTlsConfig) -> Iterator[UnusableFile]:
    try:
        client_context(tls.mode, tls.ca_file, tls.own_files)
    except TargetError as error:
        yield _describe(location, error)


def _describe(location: Location, error: ConfigError | TargetError) -> UnusableFile:
    is_absent = isinstance(error.__cause__, FileNotFoundError | PermissionError)
    return UnusableFile(location, error.why, error.fix, is_absent)
