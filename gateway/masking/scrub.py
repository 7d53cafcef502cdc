"""Takes the gateway's own credentials out of what a target answers, in every form an answer is likely to repeat them."""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus

REPLACEMENT: Final = b"[masked:credential]"

SHORT_BYTES: Final = 64
"""Up to here one pass of the pattern costs less than a search for each form."""

MIN_SECRET_BYTES: Final = 4
"""A shorter secret would be found in ordinary words."""


def spell_secret(secret: bytes) -> list[bytes]:
    """The forms in which a secret may come back, longest first: plain, percent-encoded, in JSON, hexadecimal, base64 at any offset."""
    forms = {secret, secret.hex().encode(), secret.hex().upper().encode(), _escape_all(secret)}
    text = secret.decode("utf-8", "replace")
    forms |= {json.dumps(text)[1:-1].encode(), json.dumps(text, ensure_ascii=False)[1:-1].encode()}
    forms |= {json.dumps(text)[1:-1].replace("/", "\\/").encode(), quote(secret, safe="").encode(), quote_plus(secret).encode()}
    forms |= {quote(secret, safe="").lower().encode()} if b"%" in quote(secret).encode() else set()
    forms |= {text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;").encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms.add(encode(secret).rstrip(b"="))
        for offset in range(3):
            # The characters that depend on the secret alone, whatever stands before and after it.
            encoded = encode(b"\0" * offset + secret)
            first = (offset * 8 + 5) // 6
            last = (len(secret) + offset) * 8 // 6
            forms.add(encoded[first:last])
    return sorted((form for form in forms if len(form) >= MIN_SECRET_BYTES), key=len, reverse=True)


def _escape_all(secret: bytes) -> bytes:
    return "".join(f"\\u{ord(char):04x}" for char in secret.decode("utf-8", "replace") if ord(char) < 0x10000).encode()  # noqa: PLR2004 - the basic plane


@functools.lru_cache(maxsize=256)
def _compile(secrets: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], re.Pattern[bytes] | None]:
    """Every form of these secrets, and the pattern that finds one; kept, because each exchange of a connection asks for the same."""
    forms = {form for secret in secrets if len(secret) >= MIN_SECRET_BYTES for form in spell_secret(secret)}
    ordered = tuple(sorted(forms, key=len, reverse=True))
    return ordered, re.compile(b"|".join(re.escape(form) for form in ordered)) if ordered else None


class Scrubber:
    """Replaces secrets in a stream; the output does not depend on how it is cut. A finding never leaves in part.

    Args:
        secrets: what must not come back; forms are derived here.
        keeps_length: replace byte by byte, for formats that break when lengths change.
    """

    def __init__(self, secrets: Iterable[bytes], *, keeps_length: bool = False) -> None:
        self._forms, self._pattern = _compile(tuple(secrets))
        self._hold = max((len(form) for form in self._forms), default=1) - 1
        self._keeps_length = keeps_length
        self._held = b""
        self.count = 0

    def scrub(self, data: bytes) -> bytes:
        """A whole value without the secrets."""
        if self._pattern is None or not self._stands_in(data):
            return data
        cleaned, count = self._pattern.subn(self._replace, data)
        self.count += count
        return cleaned

    def scrub_text(self, text: str) -> str:
        """A whole text without the secrets."""
        if self._pattern is None:
            return text
        data = text.encode("utf-8", "surrogatepass")
        cleaned = self.scrub(data)
        return text if cleaned == data else cleaned.decode("utf-8", "replace")

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes of a stream; gives what is settled."""
        if self._pattern is None:
            return data
        data = self._held + data
        settled = max(len(data) - self._hold, 0)
        if not self._stands_in(data):
            self._held = data[settled:]
            return data[:settled]
        parts, at = [], 0
        for match in self._pattern.finditer(data):
            if match.start() >= settled:
                break
            parts += [data[at : match.start()], self._replace(match)]
            at = match.end()
            self.count += 1
        end = max(at, settled)
        parts.append(data[at:end])
        self._held = data[end:]
        return b"".join(parts)

    def finish(self) -> bytes:
        """Ends the stream; gives the rest."""
        rest, self._held = self._held, b""
        return self.scrub(rest)

    def _stands_in(self, data: bytes) -> bool:
        """Whether any form of a secret is in it: one pass of the pattern for a value, a fast search per form for a stream."""
        if self._pattern is not None and len(data) <= SHORT_BYTES:
            return self._pattern.search(data) is not None
        return any(form in data for form in self._forms)

    def _replace(self, match: re.Match[bytes]) -> bytes:
        return b"*" * len(match[0]) if self._keeps_length else REPLACEMENT
