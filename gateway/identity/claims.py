"""Verified claims become a subject. Pure: time comes in as an argument.

Acting for someone (RFC 8693, section 4.1): in a token with an `act` claim, `sub` is the party acted for and `act.sub` the party that acts now.
So the subject is `<alias>/<act.sub>` and its `on_behalf_of` is `<alias>/<sub>`. Actors nested deeper acted earlier; they are checked for shape
and bounded, but policy never sees them, as the RFC asks. The groups are those inside `act` where it has the claim, else the token's: then
the issuer lent the agent the person's groups when it made the token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from gateway.action import Subject, sort_unique
from gateway.config import IssuerConfig
from gateway.identity.envelope import refuse_token

MAX_ACTORS: Final = 4
"""An agent that calls an agent that calls an agent is three."""

MAX_GROUPS: Final = 1_000
MAX_TEXT_CHARS: Final = 512
"""Subjects, groups and run ids go into every record; identifiers are far shorter."""

MAX_CLAIM_CHARS: Final = 4_096
"""All allowed claims together go into every input document."""

MAX_INTEGER: Final = 2**53
"""Beyond it, JSON readers disagree about a number."""

_KINDS: Final = frozenset({"agent", "service", "human"})
_NS: Final = 1_000_000_000


def check_claims(claims: Mapping[str, Any], issuer: IssuerConfig, now_s: float) -> None:
    """Check for whom and for when a token was made. Raises IdentityError."""
    if claims.get("iss") != issuer.issuer:
        refuse_token("it was made by another issuer")
    audience = claims.get("aud")
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not all(isinstance(item, str) for item in named):
        refuse_token("it does not say for which audience it was made")
    if set(issuer.audience).isdisjoint(named):
        refuse_token(
            "it was made for another audience", fix=f"ask issuer {issuer.alias} for a token with audience {issuer.audience[0]}"
        )
    expires_s = _read_time(claims, "exp")
    if expires_s is None:
        refuse_token("it never expires")
    if now_s >= expires_s + issuer.leeway_s:
        refuse_token("it has expired")
    issued_s = _read_time(claims, "iat")
    if any(time_s is not None and time_s > now_s + issuer.leeway_s for time_s in (issued_s, _read_time(claims, "nbf"))):
        refuse_token("it is not valid yet", fix="check the clocks of the issuer and the gateway")
    if expires_s - (now_s if issued_s is None else issued_s) > issuer.max_lifetime_s + issuer.leeway_s:
        refuse_token(
            f"it lives longer than {issuer.max_lifetime_s} s",
            fix=f"shorten the issuer's tokens, or raise identity.issuers[{issuer.alias}].max_lifetime_s",
        )


def build_subject(claims: Mapping[str, Any], issuer: IssuerConfig) -> Subject:
    """The subject of checked claims. Raises IdentityError where a claim the configuration names has the wrong form."""
    party = _text(claims.get("sub"), "sub")
    actor = _read_actor(claims, issuer)
    acting = party if actor is None else _text(actor.get("sub"), "act.sub")
    groups = _find(actor, issuer.groups_claim) if actor is not None else None
    expires_s = _read_time(claims, "exp") or 0.0
    return Subject(
        id=f"{issuer.alias}/{acting}",
        kind=_read_kind(claims, issuer),
        issuer=issuer.issuer,
        sub=acting,
        groups=_read_groups(_find(claims, issuer.groups_claim) if groups is None else groups),
        person=_optional_text(claims, issuer.person_claim),
        on_behalf_of=None if actor is None else f"{issuer.alias}/{party}",
        claims=_read_allowed(claims, issuer),
        expires_ns=math.floor(expires_s + issuer.leeway_s) * _NS,
        run_id=_optional_text(claims, issuer.run_claim or "jti"),
        email=_read_email(claims, issuer) if actor is None else None,
    )


def _read_actor(claims: Mapping[str, Any], issuer: IssuerConfig) -> Mapping[str, Any] | None:
    """The party that acts now, after the whole chain was checked; None when the token's own subject acts."""
    if "act" not in claims:
        return None
    holder, depth = claims, 0
    while "act" in holder:
        holder, depth = holder["act"], depth + 1
        if not isinstance(holder, dict):
            refuse_token("its act claim is not an object")
        if depth > MAX_ACTORS:
            refuse_token(f"its act claim nests more than {MAX_ACTORS} actors")
        _text(holder.get("sub"), "act.sub")
        if holder.get("iss", issuer.issuer) != issuer.issuer:
            refuse_token("its act claim names an actor of another issuer")
    actor: Mapping[str, Any] = claims["act"]
    return actor


def _read_kind(claims: Mapping[str, Any], issuer: IssuerConfig) -> Any:
    if issuer.kind_claim is None:
        return issuer.default_kind
    kind = _find(claims, issuer.kind_claim)
    if kind is None:
        return issuer.default_kind
    if not isinstance(kind, str) or kind not in _KINDS:
        refuse_token(f"its claim {issuer.kind_claim} is not agent, service or human")
    return kind


def _read_groups(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    groups = [value] if isinstance(value, str) else value
    if not isinstance(groups, list) or len(groups) > MAX_GROUPS:
        refuse_token(f"its groups are not a list of at most {MAX_GROUPS} names")
    return sort_unique([_text(group, "groups") for group in groups])


def _read_email(claims: Mapping[str, Any], issuer: IssuerConfig) -> str | None:
    email = _find(claims, issuer.email_claim)
    if not isinstance(email, str) or (issuer.require_verified_email and claims.get("email_verified") is not True):
        return None
    return _text(email, issuer.email_claim)


def _read_allowed(claims: Mapping[str, Any], issuer: IssuerConfig) -> dict[str, Any]:
    """The allow-listed claims that are there: texts, whole numbers, booleans, and lists of these, as records can hold them."""
    allowed: dict[str, Any] = {}
    for name in issuer.claims_allow:
        value = _find(claims, name)
        if value is None:
            continue
        if not all(_is_plain(item) for item in (value if isinstance(value, list) else [value])):
            refuse_token(f"its claim {name} is neither text, a whole number, true or false, nor a list of these")
        allowed[name] = value
    if len(repr(allowed)) > MAX_CLAIM_CHARS:
        refuse_token(f"its allowed claims have more than {MAX_CLAIM_CHARS} characters")
    return allowed


def _is_plain(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and abs(value) < MAX_INTEGER)


def _find(claims: Mapping[str, Any] | None, path: str) -> Any:
    """A claim by name, else by descending at each dot. Names with dots (https://…/groups) are found by the first rule."""
    if claims is None:
        return None
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value


def _optional_text(claims: Mapping[str, Any], path: str | None) -> str | None:
    value = None if path is None else _find(claims, path)
    return None if value is None else _text(value, path or "")


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT_CHARS or not value.isprintable():
        refuse_token(f"its claim {name} is not one printable line of at most {MAX_TEXT_CHARS} characters")
    return value


def _read_time(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519, section 2) in seconds."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        refuse_token(f"its claim {name} is not a time")
    return float(value)
