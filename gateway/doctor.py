"""What `sealgate doctor` checks: whether this machine has what the gateway needs, and whether a configuration works here.

Each check answers with one or more findings: ok, warn (something optional is missing) or fail (the gateway would not start, or would refuse
everything). Nothing is changed at a target: PostgreSQL is logged in to, and its catalogue read, as a session would begin; others are
only connected to.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gateway.config import Config, PostgresConnectionConfig, find_warnings
from gateway.errors import ConfigError, PolicyError, SecretError
from gateway.identity import TokenVerifier
from gateway.policy.bundle import Bundle, load_bundle
from gateway.secrets import SecretResolver

MINIMUM_PYTHON: Final = (3, 13)
"""The first version on which all dependencies resolve together."""

NATIVE_PARTS: Final = ("sql", "mask", "postgres", "policy")

CLIENTS: Final = {
    "psql": "agents that speak to PostgreSQL",
    "git": "`sealgate demo`",
    "openssl": "looking at certificates by hand",
}
"""Programs that help, and for what."""

CONNECT_TIMEOUT_S: Final = 3.0
"""A target on the same network answers within milliseconds."""

MIN_FREE_BYTES: Final = 1 << 30
"""Evidence takes about 1 kB per action: a gigabyte is a million actions."""

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer of a check."""

    check: str
    status: Status
    detail: str
    fix: str = ""


def examine_machine() -> Iterator[Finding]:
    """What needs no configuration."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    wanted = ".".join(str(part) for part in MINIMUM_PYTHON)
    good = sys.version_info >= MINIMUM_PYTHON
    yield Finding("python", "ok" if good else "fail", f"Python {version}", "" if good else f"use Python {wanted} or newer")
    for part in NATIVE_PARTS:
        yield _examine_native(part)
    for program, use in CLIENTS.items():
        path = shutil.which(program)
        if path is None:
            yield Finding(f"client {program}", "warn", f"not found; needed for {use}", f"install {program}")
        else:
            yield Finding(f"client {program}", "ok", path)


def examine_config(config: Config) -> Iterator[Finding]:
    """Whether a configuration works on this machine. Contacts issuers and targets, opens and closes ports, reads secrets."""
    for text in find_warnings(config):
        yield Finding("settings", "warn", text)
    bundle = _load_bundle(config)
    yield _examine_bundle(bundle)
    yield from _examine_secrets(config)
    yield from _examine_listeners(config)
    yield from _examine_certificates(config)
    yield from _examine_folder("evidence store", config.evidence.store)
    yield from asyncio.run(_examine_issuers(config))
    for connection in config.connections:
        if isinstance(connection, PostgresConnectionConfig):
            yield from _try_postgres(config, connection, _find_listed(bundle))
        elif (address := connection.target_address()) is not None:
            yield _examine_target(connection.name, address)


def _examine_native(part: str) -> Finding:
    name = f"native {part}"
    try:
        module = getattr(importlib.import_module("sealgate_native"), part, None)
    except ImportError as error:
        return Finding(
            name, "fail", f"the native module cannot be loaded ({error})", "install the wheel of this platform, or build it"
        )
    if module is None or not [member for member in vars(module) if not member.startswith("_")]:
        return Finding(name, "fail", "the native module lacks this part", "install the whole distribution again")
    return Finding(name, "ok", "loaded")


def _load_bundle(config: Config) -> Bundle | PolicyError:
    try:
        return load_bundle(config.policy.bundle, detectors=config.masking.known_detectors)
    except PolicyError as error:
        return error


def _examine_bundle(bundle: Bundle | PolicyError) -> Finding:
    if isinstance(bundle, PolicyError):
        return Finding("policy bundle", "fail", f"{bundle.what} ({bundle.why})", bundle.fix)
    return Finding("policy bundle", "ok", f"{len(bundle.rules)} rules, {bundle.digest}")


def _examine_secrets(config: Config) -> Iterator[Finding]:
    resolver = SecretResolver(age_identity=config.gateway.age_identity)
    ssh = config.listeners.ssh
    references = {
        "gateway.state_password": config.gateway.state_password,
        "policy.opa.token": config.policy.opa.token if config.policy.opa else None,
        "evidence.log_key": config.evidence.log_key,
        "evidence.sigstore.identity_token": config.evidence.sigstore.identity_token,
        "masking.key": config.masking.key,
        "listeners.ssh.host_key": None if ssh is None else ssh.host_key,
        "listeners.ssh.host_ca": None if ssh is None else ssh.host_ca,
        "listeners.ssh.user_ca": None if ssh is None else ssh.user_ca,
        **{
            f"connection {item.name} {what}": reference
            for item in config.connections
            for what, reference in item.secret_references().items()
        },
    }
    uses = _find_uses()
    for place, reference in references.items():
        if reference is None:
            continue
        try:
            found = resolver.resolve(reference)
            if (use := uses.get(place)) is not None:
                use(found)
        except (SecretError, ConfigError) as error:
            yield Finding(f"secret {place}", "fail", f"{error.what}: {error.why}", error.fix)
        else:
            yield Finding(f"secret {place}", "ok", f"{reference} can be read")


def _find_uses() -> Mapping[str, Callable[[bytes], object]]:
    """What raises ConfigError where a secret is not of the kind that a setting needs."""
    try:
        from gateway.masking import derive_key  # noqa: PLC0415 - needs the native module, which may not load
        from gateway.serve.evidence import parse_log_key  # noqa: PLC0415
    except ImportError:
        return {}  # said of the machine already
    return {"evidence.log_key": parse_log_key, "masking.key": derive_key}


def _examine_listeners(config: Config) -> Iterator[Finding]:
    for name, listener in config.listeners:
        if listener is None:
            continue
        family = socket.AF_INET6 if ":" in listener.bind else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((listener.bind, listener.port))
        except OSError as error:
            fix = "stop what uses it, choose another, or ignore this while the gateway itself runs"
            yield Finding(f"listener {name}", "fail", f"{listener.bind} port {listener.port}: {error.strerror}", fix)
        else:
            yield Finding(f"listener {name}", "ok", f"{listener.bind} port {listener.port} is free")


def _examine_certificates(config: Config) -> Iterator[Finding]:
    try:
        from gateway.serve.files import find_unusable_files  # noqa: PLC0415 - needs the native module, which may not load
    except ImportError:
        return  # said of the machine already
    for item in find_unusable_files(config):
        if item.location[0] == "listeners":  # those of a target are part of its own steps
            yield Finding(f"listener {'.'.join(map(str, item.location[1:-1]))} certificate", "fail", item.why, item.fix)


def _examine_folder(name: str, folder: Path) -> Iterator[Finding]:
    """Whether files can be made in the folder, or in the nearest one above it that exists."""
    existing = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(b"\0")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        yield Finding(name, "fail", f"{folder} cannot be written: {error.strerror}", "give the folder to the gateway's user")
        return
    free = shutil.disk_usage(existing).free
    enough = free >= MIN_FREE_BYTES
    detail = f"{folder}, {free >> 20} MB free"
    yield Finding(
        name, "ok" if enough else "warn", detail, "" if enough else "make room: when the disk is full every action is refused"
    )


async def _examine_issuers(config: Config) -> list[Finding]:
    verifier = TokenVerifier(config.identity.issuers, settings=config.identity)
    try:
        results = await verifier.check_issuers()
    finally:
        await verifier.aclose()
    findings = []
    for alias, error in results.items():
        if error is None:
            findings.append(Finding(f"issuer {alias}", "ok", "its keys can be read"))
        else:
            findings.append(Finding(f"issuer {alias}", "fail", error.why, error.fix))
    return findings


def _try_postgres(config: Config, connection: PostgresConnectionConfig, listed: Collection[str] | None) -> Iterator[Finding]:
    """The beginning of a session, step by step; the first that fails ends it."""
    try:
        from gateway.serve.postgres.trial import try_connection  # noqa: PLC0415 - needs the native module, which may not load
    except ImportError:
        return  # said of the machine already
    secrets = SecretResolver(age_identity=config.gateway.age_identity)
    for step in asyncio.run(try_connection(connection, config.limits, secrets, listed)):
        name = f"target {connection.name}" if step.name == "address" else f"target {connection.name} {step.name}"
        status: Status = "warn" if step.is_refusing else "fail" if step.fix else "ok"
        yield Finding(name, status, step.detail, step.fix)


def _find_listed(bundle: Bundle | PolicyError) -> Collection[str] | None:
    """The code of databases that the policy lets run; None where it has no such list, or cannot be read, which is said of the bundle."""
    data = {} if isinstance(bundle, PolicyError) else bundle.data
    listed = data.get("site", {}).get("postgres", {}).get("allowed_functions")
    return listed if isinstance(listed, list) else None


def _examine_target(connection: str, address: tuple[str, int]) -> Finding:
    name = f"target {connection}"
    try:
        socket.create_connection(address, CONNECT_TIMEOUT_S).close()
    except OSError as error:
        fix = "check the address, and that the gateway's machine may reach it"
        return Finding(name, "fail", f"{address[0]} port {address[1]}: {error.strerror or error}", fix)
    return Finding(name, "ok", "accepts connections")
