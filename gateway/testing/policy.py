"""Policy in tests: documents, bundles no loader has seen, and a real OPA server."""

from __future__ import annotations

import json
import select
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from gateway.decision import STRATEGY_ORDER, Enforceable
from gateway.policy.bundle import Bundle, Module, write_manifest
from gateway.testing.processes import pause_process, resume_process

EVERYTHING: Final = Enforceable(
    frozenset({"index", "column", "detector"}), frozenset(STRATEGY_ORDER), frozenset({"record", "row_limit", "tag"})
)
"""A protocol that can carry out whatever policy may ask for."""


def add_topic(folder: Path, name: str, rules: str) -> None:
    """Write the topic `name`, such as "postgres/reads", into the bundle at `folder`; the package line is added."""
    target = folder / "sealgate/policies" / name / f"{name.rsplit('/', maxsplit=1)[-1]}.rego"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"package sealgate.policies.{name.replace('/', '.')}\n\n{rules}\n")


def copy_library(library: Path, folder: Path, change_site: Callable[[dict[str, Any]], None] = lambda _site: None) -> Path:
    """A policy library without its tests, with a manifest of its own.

    Args:
        library: where it is.
        folder: where the copy goes, made where it is missing.
        change_site: changes what site/data.json says, in place.
    """
    shutil.copytree(library, folder, ignore=shutil.ignore_patterns("*_test.rego", "*.manifest"), dirs_exist_ok=True)
    path = folder / "site/data.json"
    site = json.loads(path.read_bytes())
    change_site(site)
    path.write_text(json.dumps(site, indent=2))
    write_manifest(folder)
    return folder


def list_functions(library: Path, folder: Path, names: Iterable[str]) -> Path:
    """A policy library, copied to `folder`, of a site that lists these functions as harmless."""
    return copy_library(library, folder, lambda site: site["postgres"]["allowed_functions"].extend(names))


def raw_bundle(*rules: str, data: Mapping[str, Any] | None = None) -> Bundle:
    """A bundle no loader has seen: `rules` become package sealgate.main. For what only the process boundary can stop."""
    text = "package sealgate.main\n\n" + "\n".join(rules) + "\n"
    return Bundle("sha256:raw", (Module("main.rego", text),), data or {}, {}, {}, {})


def make_document(**changes: Any) -> dict[str, Any]:
    """A read by an analyst; `changes` replace top-level members."""
    return {
        "schema": "sealgate.input/1",
        "phase": "request",
        "protocol": "postgres",
        "subject": {"id": "corp/agent-7", "kind": "agent", "groups": ["analysts"], "on_behalf_of": "corp/ann"},
        "resource": {"connection": "ledger", "type": "postgres", "environment": "staging", "risk": "medium"},
        "action": {"name": "postgres.query", "effects": ["read"]},
        "context": {
            "now": "2026-11-21T04:00:00.000000Z",
            "now_ns": 1_795_000_000_000_000_000,
            "session": {"id": "s-1", "counters": {"requests": 3}},
            "client": {"ip": "127.0.0.1"},
            "parse": {"status": "ok"},
        },
        "postgres": {
            "facts": {"database": "ledger", "statements": [{"verb": "select", "effects": ["read"], "has_where": True}]},
            "payload": {"text": "select 1"},
        },
        **changes,
    }


class OpaServer:
    """A real OPA server on 127.0.0.1.

    Args:
        program: path of OPA.
        arguments: more arguments of `opa run`.
    """

    def __init__(self, program: str, *arguments: str) -> None:
        self._command = [program, "run", "--server", "--log-level", "error", *arguments]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        """Start on a free port and return when it answers."""
        for _ in range(5):  # another process may take the port between our look and OPA's bind
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port = probe.getsockname()[1]
            self.url = f"http://127.0.0.1:{port}"
            self._process = subprocess.Popen(  # noqa: S603 -- the OPA the caller names
                [*self._command, "--addr", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL
            )
            if self._is_ready():
                return
            self.stop()
        raise RuntimeError("the OPA server does not get ready")

    def _is_ready(self) -> bool:
        until = time.monotonic() + 15
        while self._process is not None and self._process.poll() is None and time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=1):  # noqa: S310 -- our own address
                    return True
            except (OSError, urllib.error.URLError):
                select.select([], [], [], 0.01)  # give the other process a slice
        return False

    def pause(self) -> None:
        """Take the processor from the server, as a busy machine does, until `resume`."""
        if self._process is not None:
            pause_process(self._process.pid)

    def resume(self) -> None:
        """Let the server run on."""
        if self._process is not None:
            resume_process(self._process.pid)

    def stop(self) -> None:
        """End the server."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
