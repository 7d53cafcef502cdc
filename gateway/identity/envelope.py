"""Takes a signed token apart (RFC 7515 compact form, RFC 7519 claims) without believing it yet. Pure.

Only one spelling of a token is accepted: base64url without padding and with zero spare bits, JSON objects without repeated names. Otherwise
two parties could read one token differently, or one token could have many spellings.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from gateway.errors import IdentityError

MAX_JSON_DEPTH: Final = 16
"""Claims nest three or four levels."""

PARTS: Final = 3
"""Header, payload, signature. Encrypted tokens have five."""

_FIX: Final = "get a new access token from the identity provider and pass it unchanged"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A token taken apart. Nothing in it is proven until the signature is verified."""

    token: str = field(repr=False)
    header: Mapping[str, Any] = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False)
    algorithm: str
    key_id: str | None


def open_envelope(token: str, *, max_bytes: int) -> Envelope:
    """The header and claims of a token, unverified.

    Raises:
        IdentityError: it is too large, not a signed token, spelled in more than one way, or names critical extensions.
    """
    if len(token) > max_bytes:
        raise IdentityError(
            "the token is too large",
            why=f"{len(token)} characters; at most {max_bytes} are read",
            fix="ask for a token with fewer groups, or raise identity.max_token_bytes",
        )
    if not token:
        refuse_token("there is none")
    parts = token.split(".")
    if not token.isascii() or len(parts) != PARTS:
        refuse_token("it is not three base64url parts joined by dots")
    header, claims = _read_object(parts[0], "header"), _read_object(parts[1], "claims")
    _decode(parts[2], "signature")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        refuse_token("its header names no algorithm")
    if "crit" in header:
        refuse_token("its header marks extensions as critical, and none is supported")
    if "b64" in header:
        refuse_token("its header changes how the payload is encoded")
    if key_id is not None and not isinstance(key_id, str):
        refuse_token("the key id in its header is not text")
    return Envelope(token, header, claims, algorithm, key_id)


def refuse_token(why: str, *, fix: str = _FIX) -> NoReturn:
    """Raise IdentityError for a token; `why` must not contain any of it."""
    raise IdentityError("the token was refused", why=why, fix=fix)


def _read_object(part: str, title: str) -> Mapping[str, Any]:
    data = _decode(part, title)
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_refuse_repeats, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # fails for half of a surrogate pair, which no record could hold
    except (ValueError, RecursionError):
        refuse_token(f"its {title} is not one unambiguous JSON object")
    if not isinstance(value, dict) or _depth(value) > MAX_JSON_DEPTH:
        refuse_token(f"its {title} is not one unambiguous JSON object")
    return value


def _decode(part: str, title: str) -> bytes:
    try:
        data = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        refuse_token(f"its {title} is not base64url")
    if not data or base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii") != part:
        refuse_token(f"its {title} is not base64url in its one proper spelling")
    return data


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name is repeated")
    return members


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(text)


def _depth(value: object) -> int:
    deepest = 0
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(item, dict):
            waiting += [(inner, depth + 1) for inner in item.values()]
        elif isinstance(item, list):
            waiting += [(inner, depth + 1) for inner in item]
    return deepest
