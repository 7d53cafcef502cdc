"""Masks single values of bodies and headers: detectors over every spelling of a value, and the strategies policy may ask for."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from sealgate_native.mask import Detectors, RowPlan

from gateway.decision import Mask
from gateway.masking.scrub import Scrubber

TEXT_OID: Final = 25
"""PostgreSQL's type text: what the kernel's cell maskers take a body's value for."""

MIN_BASE64_CHARS: Final = 12
"""Shorter runs decode to fewer than nine bytes, which hold no value a detector knows."""

_PERCENT: Final = re.compile(r"[A-Za-z0-9._~!$'()*+,:@/\-]*(?:%[0-9A-Fa-f]{2}[A-Za-z0-9._~!$'()*+,:@/\-]*)+")
_ESCAPED: Final = re.compile(
    r"(?:[^\s\"'<>\\]|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2})*\\[ux](?:[^\s\"'<>\\]|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2})*"
)
_ESCAPE: Final = re.compile(r"\\u([0-9A-Fa-f]{4})|\\x([0-9A-Fa-f]{2})")
_BASE64: Final = re.compile(rf"[A-Za-z0-9+/_-]{{{MIN_BASE64_CHARS},}}={{0,2}}")


class CellMasker:
    """Carries out strategies on single values, with the kernel's own code: a token is the same as in a PostgreSQL result.

    Args:
        key: 32 bytes that key tokens and hashes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._plans: dict[tuple[str, tuple[tuple[str, Any], ...]], RowPlan] = {}

    def mask(self, mask: Mask, text: str) -> str | None:
        """What stands in place of a value; None for null."""
        strategy = "null" if mask.strategy == "drop" else mask.strategy
        name = (strategy, tuple(sorted(mask.params.items())))
        if name not in self._plans:
            entry = {"index": 0, "strategy": strategy, "params": dict(mask.params), "rule": mask.rule}
            self._plans[name] = RowPlan([(TEXT_OID, 0, "")], [entry], None, self._key)
        data = text.encode("utf-8", "replace")
        body, _ = self._plans[name].apply(struct.pack(">hi", 1, len(data)) + data, "delivered")
        size = struct.unpack_from(">i", body, 2)[0]
        return None if size < 0 else body[6 : 6 + size].decode("utf-8", "replace")


class ValueMasker:
    """Reads values with the detectors, however they are spelled, and takes secrets out of them. One per body.

    Args:
        detectors: None where nothing is looked for.
        scrubber: the gateway's own credentials, for values whose spelling hid them from the stream.
    """

    def __init__(self, detectors: Detectors | None, scrubber: Scrubber | None = None) -> None:
        self._detectors = detectors
        self._scrubber = scrubber
        self.detected: Counter[str] = Counter()

    def mask_text(self, name: str, text: str) -> str:
        """The text with findings replaced; the same object where there are none."""
        shown = text if self._scrubber is None else self._scrubber.scrub_text(text)
        if self._detectors is None:
            return shown
        masked, found = self._detectors.mask_field(name, shown.encode("utf-8", "surrogatepass"))
        if found:
            self.detected.update(found)
            shown = masked.decode("utf-8", "replace")
        return self.mask_spellings(shown)

    def is_clean(self, text: str) -> bool:
        """Whether nothing in a text would be masked; nothing is counted."""
        if self._scrubber is not None and self._scrubber.scrub_text(text) != text:
            return False
        if self._detectors is None:
            return True
        counted, self.detected = self.detected, Counter()
        is_clean = not self._detectors.scan(text.encode("utf-8", "surrogatepass")) and self.mask_spellings(text) == text
        self.detected = counted
        return is_clean

    def mask_spellings(self, text: str) -> str:
        """The text without runs that spell a finding as percent-encoding, escapes or base64."""
        if self._detectors is None:
            return text
        if "%" in text:
            text = _PERCENT.sub(self._mask_percent, text)
        if "\\" in text:
            text = _ESCAPED.sub(self._mask_escaped, text)
        return _BASE64.sub(self._mask_base64, text)

    def overwrite(self, data: bytes) -> bytes:
        """The bytes with findings overwritten one by one, for formats that break when lengths change."""
        if self._detectors is None or not (found := self._detectors.scan(data)):
            return data
        changed = bytearray(data)
        for name, start, end in found:
            changed[start:end] = b"*" * (end - start)
            self.detected[name] += 1
        return bytes(changed)

    def _mask_percent(self, match: re.Match[str]) -> str:
        return self._judge(match[0], unquote_to_bytes(match[0].replace("+", "%20")))

    def _mask_escaped(self, match: re.Match[str]) -> str:
        plain = _ESCAPE.sub(lambda escape: chr(int(escape[1] or escape[2], 16)), match[0])
        return self._judge(match[0], plain.encode("utf-8", "surrogatepass"))

    def _mask_base64(self, match: re.Match[str]) -> str:
        run = match[0].rstrip("=")
        for alternatives in (None, b"-_"):
            usable = run[: len(run) - (len(run) % 4 == 1)]
            try:
                plain = base64.b64decode(usable + "=" * (-len(usable) % 4), altchars=alternatives, validate=True)
            except (binascii.Error, ValueError):
                continue
            if (judged := self._judge(match[0], plain)) != match[0]:
                return judged
        return match[0]

    def _judge(self, run: str, plain: bytes) -> str:
        if self._scrubber is not None and self._scrubber.scrub(plain) != plain:
            return "[masked:credential]"
        found = self._detectors.scan(plain) if self._detectors is not None else []
        if not found:
            return run
        self.detected[found[0][0]] += 1
        return f"[masked:{found[0][0]}]"


def mask_headers(
    headers: Sequence[tuple[str, str]], masks: Mapping[str, Mask], values: ValueMasker, cells: CellMasker, masked: Counter[str]
) -> tuple[tuple[str, str], ...]:
    """Header fields as they may be delivered: named ones by their mask, every other value read by the detectors."""
    together = "\n".join(f"{name}: {value}" for name, value in headers if name not in _STRUCTURAL)
    if not any(name in masks for name, _ in headers) and values.is_clean(together):
        return tuple(headers)
    shown = []
    for name, value in headers:
        mask = masks.get(name)
        if mask is None:
            shown.append((name, values.mask_text(name, value) if name not in _STRUCTURAL else value))
            continue
        masked[mask.rule] += 1
        replaced = cells.mask(mask, value)
        if replaced is not None:
            shown.append((name, replaced))
    return tuple(shown)


_STRUCTURAL: Final = frozenset({"content-type", "content-length", "transfer-encoding", "date", "connection", "upgrade",
                                "sec-websocket-accept", "sec-websocket-protocol", "grpc-status", "cache-control", "vary"})  # fmt: skip
"""Fields that say how to read a message; their grammar leaves no room for a value, and a changed one breaks the client."""
