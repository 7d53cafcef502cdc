"""The settings a connection fixes in a session: chosen before it begins, and looked at once it has.

They are start-up parameters, so that RESET ALL and DISCARD ALL bring them back. A pooler before the server may drop a parameter that it
does not know, and say nothing; so the server is asked what it has, and a session in which one does not hold never begins.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from gateway.errors import TargetError
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.login import choose_heap_order, choose_unordered
from gateway.protocols.postgres.sensitivity import find_sensitive
from gateway.serve.postgres.lookups import CatalogCache, run_query
from gateway.serve.postgres.upstream import Upstream

logger = logging.getLogger(__name__)

ISOLATION: Final = "default_transaction_isolation"


class FixedSettings:
    """What one connection fixes.

    Args:
        connection: its name, for the operators' log.
        sensitive: its sensitive columns, as configured.
        read_only: whether the server has to refuse every write.
    """

    __slots__ = ("_chosen", "_connection", "_looks_up", "_own", "_sensitive", "_told")

    def __init__(self, connection: str, sensitive: tuple[str, ...], *, read_only: bool) -> None:
        self._connection = connection
        self._sensitive = sensitive
        self._own: Mapping[str, str] = {"default_transaction_read_only": "on"} if read_only else {}
        self._told: tuple[str, ...] = ()
        self._chosen = self._own
        self._looks_up = False

    async def choose(self, catalog: CatalogCache, announce: Callable[[], Awaitable[None]]) -> Mapping[str, str]:
        """Those of a session that is about to begin. Raises TargetError where its server cannot be asked."""
        if not self._sensitive:
            return self._own
        snapshot = (await catalog.read(announce)).snapshot
        self._looks_up = find_sensitive(snapshot, self._sensitive).looks_up
        indexes = find_telling_indexes(snapshot, self._sensitive)
        if indexes and indexes != self._told:
            self._told = indexes
            text = "connection %s: its sessions read no index in order, because %s would give rows in the order of a sensitive column"
            logger.warning(text, self._connection, ", ".join(indexes))
        heap_order = choose_heap_order(snapshot.server_version, snapshot.costs) if indexes else {}
        chosen = {**self._own, **choose_unordered(snapshot.server_version), **heap_order}
        if chosen != self._chosen:
            self._chosen = chosen  # thousands of sessions keep it, and would each keep another
        return self._chosen

    async def check(self, upstream: Upstream, fixed: Mapping[str, str]) -> None:
        """See that they hold in a session that was just opened, which is closed where they do not. Raises TargetError."""
        if not fixed:
            return
        try:
            async with asyncio.timeout(upstream.target.connect_timeout_s):
                await _require(upstream, fixed, bars_serializable=self._looks_up)
        except TimeoutError as error:
            upstream.wire.abort()
            raise TargetError("the target did not say what its settings are in time") from error
        except BaseException:
            upstream.wire.abort()
            raise


async def _require(upstream: Upstream, fixed: Mapping[str, str], *, bars_serializable: bool) -> None:
    names = sorted(fixed)
    asked = [*names, ISOLATION]
    ((*row, level),) = await run_query(upstream, f"select {', '.join(f"pg_catalog.current_setting('{name}')" for name in asked)}")
    if bars_serializable and level == "serializable":
        raise TargetError(
            "sessions of this connection cannot be SERIALIZABLE",
            why="the server would show which rows it looks up by sensitive values",
            fix="begin with another default_transaction_isolation, or give the role another one",
        )
    if wrong := [name for name, value in zip(names, row, strict=True) if not _is_same(value, fixed[name])]:
        raise TargetError(
            "the target does not take settings at start-up",
            why=f"{', '.join(wrong)} did not become {', '.join(fixed[name] for name in wrong)}; a pooler may drop them",
            fix="let the pooler pass them on, or set them for the role in the database",
        )


def _is_same(value: str | None, wanted: str) -> bool:
    """The server writes numbers in its own way."""
    if value is None or value == wanted:
        return value is not None
    try:
        return math.isclose(float(value), float(wanted), rel_tol=1e-4)
    except ValueError:
        return False


def find_telling_indexes(snapshot: CatalogSnapshot, sensitive: tuple[str, ...]) -> tuple[str, ...]:
    """See `Sensitivity.find_telling_indexes`; found once per snapshot."""
    return snapshot.remember(("telling", sensitive), find_sensitive(snapshot, sensitive).find_telling_indexes)
