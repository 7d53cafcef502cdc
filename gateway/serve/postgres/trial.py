"""A connection tried as a session would use it, for `sealgate doctor`: files, TLS, login, catalogue, settings. The target is only read.

Each step stands on the one before, so the first that fails is the last that is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from gateway.config import LimitsSection, PostgresConnectionConfig
from gateway.errors import TargetError
from gateway.protocols.postgres.login import PINNED_SETTINGS
from gateway.protocols.postgres.sensitivity import find_sensitive
from gateway.protocols.postgres.unlisted import find_unlisted
from gateway.secrets import SecretResolver
from gateway.serve.postgres.fixed_settings import FixedSettings
from gateway.serve.postgres.lookups import CatalogCache
from gateway.serve.postgres.start import LOOKUP_NAME, make_target, read_credential
from gateway.serve.postgres.upstream import PostgresTarget, dial, open_upstream
from gateway.serve.tls import client_context

FIXES: Final = {
    "files": "give readable PEM files in target.tls",
    "address": "check the address in target, and that the gateway's machine may reach it",
    "tls": "let target.tls.ca_file hold the authority of the target's certificate and target.host be a name in it, or switch TLS on at the target",
    "login": "check the user, the password and the way to log in under credential, and what the target's pg_hba.conf asks of this user",
    "catalogue": "let the user read pg_catalog, or raise limits.lookup_timeout_s",
    "code": "where somebody has reviewed it, add it to data.site.postgres.allowed_functions of the policy bundle",
    "settings": "let a pooler before the target pass start-up settings on, or connect to the server itself",
}
"""What to do where the error itself does not say, by step."""


MAX_NAMES: Final = 5
"""Relations that are named of those one function runs with."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step, in the order of `FIXES`. `fix` is empty where it went well; with `is_refusing` sessions begin, and some statements are refused."""

    name: str
    detail: str
    fix: str = ""
    is_refusing: bool = False


async def try_connection(
    item: PostgresConnectionConfig, limits: LimitsSection, secrets: SecretResolver, listed: Collection[str] | None
) -> list[Step]:
    """The steps of a session's beginning, for each database that a client can ask for, as far as they go.

    It lasts no longer than limits.connect_timeout_s for each login and limits.lookup_timeout_s for the catalogue allow.

    Args:
        item: the connection.
        limits: of the configuration.
        secrets: resolves its credential.
        listed: code of databases that the site's policy lets run; None where it has no such list.
    """
    by_database = {item.target_database(asked): asked for asked in item.databases}
    steps: list[Step] = []
    for asked in by_database.values():
        steps += await _Trial(item, make_target(limits, item, asked), limits, secrets, listed).run()
    return steps


class _Trial:
    def __init__(
        self,
        item: PostgresConnectionConfig,
        target: PostgresTarget,
        limits: LimitsSection,
        secrets: SecretResolver,
        listed: Collection[str] | None,
    ) -> None:
        self._item = item
        self._listed = listed
        self._target = target
        self._credential = partial(read_credential, secrets, item)
        self._settings = {**PINNED_SETTINGS, "application_name": LOOKUP_NAME}
        connect = partial(open_upstream, target, self._credential, self._settings)
        self._catalog = CatalogCache(connect, max_age_s=limits.catalog_age_s, timeout_s=limits.lookup_timeout_s)

    async def run(self) -> list[Step]:
        """The steps up to the first that fails."""
        takes: tuple[Callable[[], Awaitable[Sequence[str | Step]]], ...] = (
            self._read_files,
            self._reach,
            self._encrypt,
            self._log_in,
            self._read_catalogue,
            self._judge_code,
            self._begin_session,
        )
        steps: list[Step] = []
        try:
            for name, take in zip(FIXES, takes, strict=True):
                try:
                    steps += [detail if isinstance(detail, Step) else Step(name, detail) for detail in await take()]
                except TargetError as error:
                    detail = f"{error.what}: {error.why}" if error.why else error.what
                    return [*steps, Step(name, detail, error.fix or FIXES[name])]
        finally:
            self._catalog.close()
        return steps

    @property
    def _is_encrypted(self) -> bool:
        return self._target.socket_dir is None and self._target.tls_mode != "disable"

    async def _read_files(self) -> list[str]:
        target = self._target
        if self._is_encrypted:
            client_context(target.tls_mode, target.ca_file, target.own_certificate)
        return []

    async def _reach(self) -> list[str]:
        await self._dial(replace(self._target, tls_mode="disable"))
        return ["accepts connections"]

    async def _encrypt(self) -> list[str]:
        if not self._is_encrypted:
            return []
        await self._dial(self._target)
        return [f"its certificate is accepted by mode {self._target.tls_mode}"]

    async def _dial(self, target: PostgresTarget) -> None:
        try:
            async with asyncio.timeout(target.connect_timeout_s):
                wire = await dial(target)
        except TimeoutError as error:
            why = f"no connection within {target.connect_timeout_s:g} s"
            raise TargetError("the target did not answer in time", why=why) from error
        except OSError as error:
            raise TargetError("the target cannot be reached", why=str(error)) from error
        wire.abort()

    async def _log_in(self) -> list[str]:
        upstream = await open_upstream(self._target, self._credential, self._settings)
        upstream.close()
        unasked = "with its certificate" if self._target.own_certificate else "without a credential"
        how = f"with {upstream.mechanism}" if upstream.mechanism else unasked
        return [f"{self._item.credential.user} is let into {self._target.database} {how}"]

    async def _read_catalogue(self) -> list[str]:
        snapshot = (await self._catalog.read(_stay_silent)).snapshot
        sensitive = tuple(self._item.sensitive)
        if missing := find_sensitive(snapshot, sensitive).missing:
            raise TargetError(
                "every statement would be refused",
                why=f"sensitive columns are not in {self._target.database}: {', '.join(missing)}",
                fix="let connections[].sensitive name columns as the catalogue has them, in schemas the user may look into",
            )
        return [f"it can be read; sensitive columns found: {len(sensitive)}"]

    async def _judge_code(self) -> list[Step]:
        if self._listed is None:
            return []
        snapshot = (await self._catalog.read(_stay_silent)).snapshot
        found = find_unlisted(snapshot, tuple(self._item.sensitive), self._listed)
        return [
            Step(
                "code",
                f"{each.name} {each.why}: statements on {_list(each.relations)} are refused",
                FIXES["code"],
                is_refusing=True,
            )
            for each in found
        ]

    async def _begin_session(self) -> list[str]:
        fixed = FixedSettings(self._item.name, tuple(self._item.sensitive), read_only=self._item.read_only)
        chosen = await fixed.choose(self._catalog, _stay_silent)
        upstream = await open_upstream(self._target, self._credential, {**chosen, **self._settings})
        await fixed.check(upstream, chosen)
        upstream.close()
        return ["a session has the settings the gateway fixes"] if chosen else []


def _list(names: Sequence[str]) -> str:
    """Some of many names."""
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


async def _stay_silent() -> None:
    """A trial's questions belong to no session, so no record announces them."""
