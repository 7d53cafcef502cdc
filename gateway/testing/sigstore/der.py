"""The few DER (ITU-T X.690) shapes a time-stamp authority needs, written and read without an ASN.1 library.

Writers return a complete tag-length-value; the reader walks one level at a time and refuses anything that is not DER.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

INTEGER, OCTET_STRING, NULL, OBJECT_IDENTIFIER = 0x02, 0x04, 0x05, 0x06
GENERALIZED_TIME, SEQUENCE, SET = 0x18, 0x30, 0x31
LONG_FORM = 0x80  # lengths from here on need a count of length octets first
MAX_LENGTH_OCTETS = 4  # 4 GiB: far above every message this package accepts


def encode(tag: int, *parts: bytes) -> bytes:
    """One element: `tag`, the definite length of the joined parts, the parts."""
    body = b"".join(parts)
    size = len(body)
    if size < LONG_FORM:
        return bytes((tag, size)) + body
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, LONG_FORM | len(octets))) + octets + body


def sequence(*parts: bytes) -> bytes:
    """A SEQUENCE of already encoded parts."""
    return encode(SEQUENCE, *parts)


def set_of(*parts: bytes) -> bytes:
    """A SET OF already encoded parts, in the ascending order DER demands."""
    return encode(SET, *sorted(parts))


def integer(value: int) -> bytes:
    """A non-negative INTEGER in its shortest form."""
    return encode(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def octets(value: bytes) -> bytes:
    """An OCTET STRING."""
    return encode(OCTET_STRING, value)


def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER from its dotted form."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    body = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        body += bytes(reversed(groups))
    return encode(OBJECT_IDENTIFIER, bytes(body))


def generalized_time(moment: datetime) -> bytes:
    """A GeneralizedTime in UTC with whole seconds, the form every RFC 3161 client reads."""
    return encode(GENERALIZED_TIME, moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode())


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The (tag, content) pairs that fill `data` exactly; raises ValueError on anything else."""
    at = 0
    while at < len(data):
        tag, size, body_at = _header(data, at)
        if body_at + size > len(data):
            raise ValueError("DER element runs past its container")
        yield tag, data[body_at : body_at + size]
        at = body_at + size


def only(data: bytes, tag: int) -> bytes:
    """The content of the single element of kind `tag` that `data` must be."""
    found = list(elements(data))
    if len(found) != 1 or found[0][0] != tag:
        raise ValueError(f"expected exactly one DER element with tag {tag:#04x}")
    return found[0][1]


def _header(data: bytes, at: int) -> tuple[int, int, int]:
    if at + 2 > len(data):
        raise ValueError("DER element has no length")
    tag, size = data[at], data[at + 1]
    if size < LONG_FORM:
        return tag, size, at + 2
    count = size & 0x7F
    if not 0 < count <= MAX_LENGTH_OCTETS or at + 2 + count > len(data):
        raise ValueError("DER length is indefinite, too long or cut off")
    size = int.from_bytes(data[at + 2 : at + 2 + count], "big")
    if size < LONG_FORM or data[at + 2] == 0:
        raise ValueError("DER length is not in its shortest form")
    return tag, size, at + 2 + count
