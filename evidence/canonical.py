"""Canonical bytes of a record: JSON as RFC 8785 (JCS) writes it, for a profile in which a fast encoder writes the same bytes.

The profile: objects with ASCII keys, text without lone surrogates, integers within ±(2^53 - 1), true, false, null, arrays. No
floating-point numbers: their shortest form is where JSON writers differ. Times are text. `docs/evidence-format.md`, section 3.

Verifiers hash the stored bytes and never re-encode; `decode` is for readers that also want to know that the bytes are canonical.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from evidence.errors import CanonicalError, RecordTooLargeError

MAX_LEAF_BYTES: Final = 65_535
"""A log entry is stored behind a 16-bit length (C2SP tlog-tiles, entry bundles)."""

MAX_DEPTH: Final = 64
"""Levels of nesting; records are shallow, and readers in other languages may recurse."""

_OPTIONS: Final = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_STRICT_INTEGER
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)

_SCALARS: Final = frozenset({str, int, bool, type(None)})
_SUSPECT_MAP: Final = bytes.maketrans(b"]}+-n", b",,...")
_SUSPECT_DROP: Final = bytes(set(range(256)) - set(b'".,]}+-n'))
"""Reduce JSON so that a value which is a float or null, and little else, ends in ".,".

A float keeps its point or the sign of its exponent once digits and letters are gone, null keeps its n, and every closing bracket
reads as a comma. Text ends in its quotation mark, other integers and literals leave nothing.
"""


def trim(encoded: bytes) -> bytes:
    """The same bytes in no more room than they need, for whoever keeps them.

    What orjson returns stays in the buffer it was written to: 4 KiB for a few bytes, 16 KiB for a record of one.
    """
    return bytes(memoryview(encoded))


def encode(document: Mapping[str, Any]) -> bytes:
    """The canonical bytes of a JSON object.

    Raises:
        CanonicalError: the object holds something outside the profile; the message names the place.
    """
    try:
        encoded = orjson.dumps(document, option=_OPTIONS)
    except (TypeError, ValueError) as error:
        _check(document, "")
        raise CanonicalError("the value has no canonical form", why=str(error), fix=_PROFILE) from error
    # Walking every value would cost more than encoding it. Floats show in the output (a not-a-number is written as null), so only
    # suspicious output pays for the walk; a null, or text such as "on, off", is suspicious too and found innocent.
    if not encoded.isascii() or encoded.translate(_SUSPECT_MAP, _SUSPECT_DROP).find(b".,") >= 0:
        _check(document, "")
    return encoded


def encode_leaf(document: Mapping[str, Any]) -> bytes:
    """The canonical bytes of a record, refused when they do not fit a log entry.

    Raises:
        CanonicalError: something outside the profile.
        RecordTooLargeError: over `MAX_LEAF_BYTES`; the message names the largest field.
    """
    encoded = encode(document)
    if len(encoded) > MAX_LEAF_BYTES:
        name, size = max(((key, len(orjson.dumps(value))) for key, value in document.items()), key=lambda item: item[1])
        raise RecordTooLargeError(
            f"a record of {len(encoded):,} bytes does not fit a log entry of {MAX_LEAF_BYTES:,}",
            why=f"its largest field is {name!r} with {size:,} bytes",
            fix=f"store {name!r} as a session chunk (put_blob) and name the chunk in the record",
        )
    return trim(encoded)  # a record is kept until it is published


def decode(encoded: bytes) -> dict[str, Any]:
    """The object that canonical bytes stand for.

    Raises:
        CanonicalError: not JSON, not an object, or not in canonical form (the bytes differ from what `encode` writes).
    """
    try:
        document = orjson.loads(encoded)
    except orjson.JSONDecodeError as error:
        raise CanonicalError("a record is not JSON", why=str(error), fix="treat the entry as damaged") from error
    if not isinstance(document, dict):
        raise CanonicalError("a record is not a JSON object", fix="treat the entry as damaged")
    if encode(document) != encoded:
        raise CanonicalError("a record is not in canonical form", why="re-encoding gives other bytes", fix="treat it as forged")
    return document


_PROFILE: Final = "use text, integers below 2^53, true, false, null, arrays, and objects with ASCII keys; write times as text"


def _check(value: object, path: str, depth: int = 0) -> None:
    """Walk every value and key, and name the first place outside the profile."""
    kind = type(value)
    if kind in _SCALARS:
        if kind is int and not -(2**53) < value < 2**53:  # type: ignore[operator]
            raise CanonicalError(f"the integer at {path or '/'} is 2^53 or larger", fix="record it as text")
        return
    if depth > MAX_DEPTH:
        raise CanonicalError(f"the value at {path or '/'} nests deeper than {MAX_DEPTH} levels", fix=_PROFILE)
    if isinstance(value, Mapping):
        for key, member in value.items():
            if type(key) is not str or not key.isascii():
                raise CanonicalError(f"the key {key!r} at {path or '/'} is not ASCII text", fix="rename it, or use an array")
            _check(member, f"{path}/{key}", depth + 1)
    elif kind is list or kind is tuple:
        for position, member in enumerate(value):  # type: ignore[arg-type]
            _check(member, f"{path}/{position}", depth + 1)
    else:
        raise CanonicalError(f"the value at {path or '/'} is a {kind.__name__}", fix=_PROFILE)
