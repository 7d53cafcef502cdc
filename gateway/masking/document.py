"""The input document as evidence may hold it: every string and number of its payload read by the detectors.

Facts hold structure only and are never masked (design section 3), so rules that read facts decide the same on the masked form.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from sealgate_native.mask import Detectors

from gateway.action import PROTOCOLS
from gateway.errors import LimitExceededError
from gateway.masking.sql import mask_sql

MAX_DEPTH: Final = 200
"""Levels of a payload; parsers of the protocols allow less, so a deeper one was not made by them."""


KEPT_TEXTS: Final = 256
"""Short texts whose masked form is kept: a request and its response hold the same statement, and so does each run of a prepared one."""

KEPT_TEXT_BYTES: Final = 4_096
"""Longest text that is kept, so that what is kept stays below 2 MB."""


class DocumentMasker:
    """Makes the recorded form of input documents. Called by the pipeline for each decision; the same call always gives the same.

    Args:
        detectors: the configured detectors.
        hide_literals: record SQL without any literal, for places where even the rest of a statement may not be kept.
    """

    def __init__(self, detectors: Detectors, *, hide_literals: bool = False) -> None:
        self._detectors = detectors
        self._hide_literals = hide_literals
        self._mask_kept_sql = functools.lru_cache(KEPT_TEXTS)(self._mask_sql)

    def __call__(self, document: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
        """The masked document and findings by detector. The document passed in is not changed.

        Raises:
            LimitExceededError: a payload nested deeper than `MAX_DEPTH`.
        """
        masked = dict(document)
        counts: Counter[str] = Counter()
        for protocol in PROTOCOLS:
            block = document.get(protocol)
            if isinstance(block, Mapping) and "payload" in block:
                payload = self._mask(protocol, "", block["payload"], counts, 0)
                masked[protocol] = {**block, "payload": payload}
        return masked, dict(counts)

    def _mask(self, protocol: str, name: str, value: Any, counts: Counter[str], depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise LimitExceededError("a payload is nested too deep to be masked", why=f"more than {MAX_DEPTH} levels")
        if isinstance(value, str):
            return self._mask_text(protocol, name, value, counts, is_top=depth == 1)
        if isinstance(value, Mapping):
            return self._mask_members(protocol, value, counts, depth)
        if isinstance(value, list | tuple):
            # Elements of a list are named by the list: {"passwords": ["…", "…"]}.
            return [self._mask(protocol, name, item, counts, depth + 1) for item in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._mask_number(name, value, counts)
        return value

    def _mask_members(self, protocol: str, members: Mapping[str, Any], counts: Counter[str], depth: int) -> dict[str, Any]:
        masked: dict[str, Any] = {}
        for name, value in members.items():
            shown = self._mask_plain("", str(name), counts)
            # Two names masked alike stay two members: the digest of the record must not lose one.
            number = 1
            while shown in masked:
                number += 1
                shown = f"{shown}#{number}"
            masked[shown] = self._mask(protocol, str(name), value, counts, depth + 1)
        return masked

    def _mask_text(self, protocol: str, name: str, text: str, counts: Counter[str], *, is_top: bool) -> str:
        if protocol == "postgres" and name == "text" and is_top:
            masked, found = self._mask_kept_sql(text) if len(text) <= KEPT_TEXT_BYTES else self._mask_sql(text)
            if found:
                counts.update(found)
            return masked
        if name == "hex":
            return self._mask_hex(text, counts)
        return self._mask_plain(name, text, counts)

    def _mask_sql(self, text: str) -> tuple[str, Counter[str]]:
        return mask_sql(text, self._detectors, hide_literals=self._hide_literals)

    def _mask_plain(self, name: str, text: str, counts: Counter[str]) -> str:
        masked, found = self._detectors.mask_field(name, text.encode("utf-8", "surrogatepass"))
        if not found:
            return text
        counts.update(found)
        return masked.decode("utf-8", "replace")

    def _mask_hex(self, text: str, counts: Counter[str]) -> str:
        """A binary parameter, spelt in hexadecimal: one finding in its bytes and all of it goes."""
        try:
            found = self._detectors.scan(bytes.fromhex(text))
        except ValueError:
            return self._mask_plain("", text, counts)
        if not found:
            return text
        counts.update(name for name, _, _ in found)
        return f"[masked:{found[0][0]}]"

    def _mask_number(self, name: str, number: float, counts: Counter[str]) -> Any:
        text = str(number)
        masked = self._mask_plain(name, text, counts)
        return number if masked == text else masked
