"""Decide recorded inputs again with the policy bundle that decided them, and compare: the auditor's check of a gateway's verdicts.

The bundles come from beside the log (`policy/<digest>.tar.gz`). They need no trust of their own: a bundle counts only if its own
digest is the one in the decision record, and that record is covered by the log's attestations.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from evidence.report import NOT_CHECKED
from gateway.decision import STRATEGY_ORDER, Enforceable, check
from gateway.errors import PolicyError
from gateway.policy.bundle import load_bundle
from gateway.policy.engine import PolicyFailure, canonical
from gateway.policy.recompute import Recomputer

SAME: Final = "same"
DIFFERENT: Final = "different"
MAX_ARCHIVE_BYTES: Final = 64 << 20
"""A bundle is text and small data; an archive that unpacks to more is refused."""

SELECTORS: Final = frozenset({"index", "column", "detector", "json_path", "field", "header"})
"""Every kind of selector a protocol may carry out: a record without a cause says that this one could."""


class VerdictRecomputer:
    """Recomputes recorded decisions with the embedded engine; a context manager, to be given to the verifier as its hook.

    Args:
        archives: files `<digest>.tar.gz` among which each decision's bundle is looked for.
    """

    def __init__(self, archives: Sequence[Path]) -> None:
        self._archives = {path.name.split(".")[0]: path for path in archives}
        self._recomputers: dict[str, Recomputer | None] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="sealgate-policies-")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for recomputer in self._recomputers.values():
            if recomputer is not None:
                recomputer.close()
        self._folder.cleanup()

    def __call__(self, record: Mapping[str, Any], document: bytes) -> str:
        """`same`, `different`, or `not checked` when the bundle is not there. Meant for decisions that policy gave."""
        recomputer = self._find(str(record.get("bundle", "")))
        if recomputer is None:
            return NOT_CHECKED
        try:
            again = recomputer.evaluate(orjson.loads(document))
        except (PolicyFailure, orjson.JSONDecodeError):
            return DIFFERENT
        return SAME if _is_recorded(_check_again(again, str(record.get("phase", "request"))), record["decision"]) else DIFFERENT

    def _find(self, digest: str) -> Recomputer | None:
        if digest not in self._recomputers:
            self._recomputers[digest] = self._load(digest)
        return self._recomputers[digest]

    def _load(self, digest: str) -> Recomputer | None:
        archive = self._archives.get(digest.removeprefix("sha256:"))
        if archive is None:
            return None
        folder = Path(self._folder.name) / digest.removeprefix("sha256:")
        try:
            _unpack(archive, folder)
            bundle = load_bundle(folder, has_decided=True)
        except (PolicyError, tarfile.TarError, OSError, EOFError):
            return None
        return Recomputer(bundle) if bundle.digest == digest else None


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive, "r:gz") as packed:
        size = 0
        for entry in packed:
            size += entry.size
            if size > MAX_ARCHIVE_BYTES or not (entry.isfile() or entry.isdir()):
                raise PolicyError(f"{archive.name} is no policy archive", why="it is too large, or holds more than files")
            packed.extract(entry, folder, filter="data")


def _is_recorded(decision: object, recorded: Mapping[str, Any]) -> bool:
    """Whether a record shows this decision, whole or in outline (`gateway.recording.fit_decision`)."""
    omitted = recorded.get("omitted")
    if omitted is None:
        return decision == canonical(dict(recorded))
    is_alike = isinstance(decision, Mapping) and decision.get("effect") == recorded.get("effect")
    return is_alike and isinstance(omitted, Mapping) and digest_decision(decision) == omitted.get("sha256")


def _check_again(raw: object, phase: str) -> object:
    """The value as the gateway would have recorded it, had it been able to carry out everything."""
    obligations = raw.get("obligations", ()) if isinstance(raw, Mapping) else ()
    kinds = frozenset(str(each.get("kind")) for each in obligations if isinstance(each, Mapping))
    everything = Enforceable(SELECTORS, frozenset(STRATEGY_ORDER), kinds)
    return canonical(check(raw, everything, phase=phase).as_record())


def digest_decision(decision: object) -> str:
    """SHA-256 of a decision, whatever the order of its lists, as lower-case hex."""
    return hashlib.sha256(orjson.dumps(canonical(decision), option=orjson.OPT_SORT_KEYS)).hexdigest()
