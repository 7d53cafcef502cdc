"""The same decision from an OPA server a company runs, through opa-python-client.

Two ways to be sure the server decides with our bundle:
    upload       the gateway puts modules and data there and asks through a module of its own that answers the decision together with
                 the digest; the server must hold no other module, and its API must be closed to everybody else
    provenance   the server loads its bundle itself; every answer must name a bundle whose revision is our bundle's digest

`{}`, a status other than 200, an answer without `result` and a wrong digest are failures, never an allow. Builtin errors are strict,
as they are in the embedded engine.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from opa_client.errors import PolicyNotFoundError, RegoParseError
from opa_client.opa_async import AsyncOpaClient

from gateway.errors import PolicyError
from gateway.policy.bundle import RULES_ROOT, Bundle
from gateway.policy.engine import WAIT_S, PolicyFailure
from gateway.policy.rego_text import read_module

OPA_DEADLINE_S: Final = 1.0
"""Longest wait for one answer: a busy server on the same network needs a few milliseconds."""

UPLOAD_DEADLINE_S: Final = 30.0
"""Longest time to put a bundle on the server; a hundred modules take a second."""

SERVER_LIMIT: Final = 64
"""Questions under way at once; more would only queue in the server and meet the deadline there. They wait in line here instead."""

GATE_PATH: Final = "sealgate_gate.rego"
GATE_MODULE: Final = """package sealgate_gate

answer := {"decision": data.sealgate.main.decision, "digest": data.sealgate_bundle.digest}
"""
"""Uploaded beside the bundle, so that no answer comes without the digest of what gave it."""

STRICT: Final = {"strict-builtin-errors": "true"}


class Opa:
    """An OPA server as engine; implements `gateway.policy.engine.Engine`.

    Args:
        bundle: what the server must decide with.
        url: such as "http://127.0.0.1:8181" or "https://opa.example.com".
        token: bearer token for the server, when it asks for one.
        upload: put the bundle on the server at `start`; else the server loads it and provenance is checked.
        deadline_s: longest wait for one answer.
        wait_s: longest wait in line before a question is asked.
    """

    name = "opa"

    def __init__(
        self,
        bundle: Bundle,
        url: str,
        *,
        token: str | None = None,
        upload: bool = True,
        deadline_s: float = OPA_DEADLINE_S,
        wait_s: float = WAIT_S,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
            raise PolicyError(f"{url!r} is not the address of an OPA server", fix="use http://host:port or https://host:port")
        self.bundle = bundle
        self.url = url
        self.version = "unknown"
        self._upload = upload
        self._deadline_s = deadline_s
        self._wait_s = wait_s
        is_tls = parts.scheme == "https"
        self._client = AsyncOpaClient(
            host=parts.hostname,
            port=parts.port or (443 if is_tls else 8181),
            ssl=is_tls,
            token=token,
            retries=0,
            timeout=deadline_s,
        )
        self._slots = asyncio.Semaphore(SERVER_LIMIT)

    async def start(self) -> None:
        """Connect, read the version, and upload the bundle or check that the server has it.

        Raises:
            PolicyError: the server cannot be reached, refuses the bundle or holds something else.
        """
        await self._client.__aenter__()
        try:
            async with asyncio.timeout(UPLOAD_DEADLINE_S):
                await self._start()
        except PolicyError:
            await self.aclose()
            raise
        except Exception as error:
            await self.aclose()
            raise PolicyError(
                f"the OPA server at {self.url} cannot be used",
                why=f"{type(error).__name__}: {error}",
                fix="start it, or correct policy.opa.url",
            ) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close_connection()

    def standing(self, subject_key: str) -> PolicyFailure | None:  # noqa: ARG002 -- the engine's interface
        """Always None: the server is a process of its own and outlives any input."""
        return None

    def watch(self, on_change: Callable[[], None]) -> None:
        """Nothing to watch: `standing` never changes."""

    async def evaluate(self, document: Mapping[str, Any], *, subject_key: str) -> object:  # noqa: ARG002
        """The raw decision; raises PolicyFailure. See `Engine.evaluate`."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._slots.acquire()
        except TimeoutError:
            raise PolicyFailure("busy", f"the OPA server had {SERVER_LIMIT} questions to answer for {self._wait_s:g} s") from None
        try:
            return self._unwrap(await self._answer(document))
        finally:
            self._slots.release()

    async def _answer(self, document: Mapping[str, Any]) -> object:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._ask(document)
        except TimeoutError:
            raise PolicyFailure("deadline", "the OPA server did not answer in time") from None
        except Exception as error:  # noqa: BLE001 -- whatever the client library raises, there is no decision
            status = getattr(error, "status", None)
            if status is not None:
                raise PolicyFailure("error", f"the OPA server answered with status {status}") from None
            raise PolicyFailure("died", f"the OPA server cannot be reached ({type(error).__name__})") from None

    async def _ask(self, document: Mapping[str, Any]) -> object:
        ask: Callable[..., Awaitable[object]] = self._client.query_rule
        if self._upload:
            return await ask(document, "sealgate_gate", "answer", query_params=STRICT)
        return await ask(document, "sealgate.main", "decision", query_params={**STRICT, "provenance": "true"})

    def _unwrap(self, answer: object) -> object:
        if not isinstance(answer, dict):
            raise PolicyFailure("shape", "the OPA server's answer is not an object")
        if "result" not in answer:
            raise PolicyFailure("no_result", "the OPA server's answer has no result; the decision is undefined there")
        result = answer["result"]
        if not self._upload:
            provenance = answer.get("provenance")
            bundles = provenance.get("bundles") if isinstance(provenance, dict) else None
            revisions = [item.get("revision") for item in bundles.values()] if isinstance(bundles, dict) else []
            if self.bundle.digest not in revisions:
                raise PolicyFailure("digest", "the OPA server decides with another bundle")
            return result
        if not isinstance(result, dict) or result.keys() != {"decision", "digest"}:
            raise PolicyFailure("shape", "the OPA server's answer is not what the gateway's module gives")
        if result["digest"] != self.bundle.digest:
            raise PolicyFailure("digest", "the OPA server decides with another bundle")
        return result["decision"]

    async def _start(self) -> None:
        answer = await self._client.ad_hoc_query("version := opa.runtime().version")
        self.version = str(answer["result"][0]["version"])
        if not self._upload:
            return
        await self._upload_modules()
        for root in ("site", RULES_ROOT):
            await self._client.update_or_create_data(self.bundle.data.get(root, {}), root)
        await self._client.update_or_create_data({"digest": self.bundle.digest}, "sealgate_bundle")

    async def _upload_modules(self) -> None:
        """Put every module there, users after what they use, and make sure that no other module is there."""
        held = set(await self._client.get_policies_list())
        wanted = _by_package(self.bundle) | {GATE_PATH: GATE_MODULE}
        if foreign := sorted(held - wanted.keys()):
            raise PolicyError(
                f"the OPA server at {self.url} holds other modules", why=", ".join(foreign[:5]), fix="use a server of its own"
            )
        waiting = deque(wanted.items())
        failures = 0
        until = time.monotonic() + UPLOAD_DEADLINE_S
        while waiting:
            path, text = waiting.popleft()
            try:
                await self._client.update_policy_from_string(text, path, rego_compat=False)
                failures = 0
            except (RegoParseError, PolicyNotFoundError) as error:
                # It may use a function of a module that is still to come.
                waiting.append((path, text))
                failures += 1
                if failures > len(waiting) or time.monotonic() > until:
                    raise PolicyError(
                        f"the OPA server refuses {path}", why=str(error), fix="run `sealgate policy check`"
                    ) from error


def _by_package(bundle: Bundle) -> dict[str, str]:
    """One module per package: the server compiles after each upload, and files of one package may need each other."""
    imports: dict[str, dict[str, None]] = {}
    bodies: dict[str, list[str]] = {}
    for module in bundle.modules:
        found = read_module(module.path, module.text)
        name = "/".join(found.package) + ".rego"
        lines = module.text.split("\n")
        starts = {token.line: token.text for token in found.tokens if token.text in {"package", "import"} and token.column == 0}
        package_line = min((line for line, keyword in starts.items() if keyword == "package"), default=0)
        own = imports.setdefault(name, {})
        own.update({lines[line - 1]: None for line, keyword in sorted(starts.items()) if keyword == "import"})
        kept = [line for number, line in enumerate(lines, 1) if number > package_line and number not in starts]
        bodies.setdefault(name, []).append("\n".join(kept))
    return {
        name: "\n".join([f"package {name.removesuffix('.rego').replace('/', '.')}", "", *imports[name], *texts])
        for name, texts in bodies.items()
    }
