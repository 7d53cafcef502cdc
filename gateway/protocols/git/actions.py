"""From events to actions: which repository, which refs, and what becomes of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.action import Action, Carrier, Lookup
from gateway.protocols.git.events import Event, Fetch, Push, Undecodable


def lookups(event: Event) -> tuple[Lookup, ...]:
    """Nothing is asked of the target: the client's commands name old and new objects themselves."""
    del event
    return ()


def describe(event: Event, facts: Mapping[str, object], carrier: Carrier | None = None) -> Action:
    """The action an event attempts, and which action of another protocol carries it."""
    del facts  # there are no look-ups
    match event:
        case Push():
            return _describe_push(event, carrier)
        case Fetch():
            known = {"service": event.service, "repository": event.repository}
            return _make("fetch", {"read"}, known, {}, known, carrier)
        case Undecodable():
            known = {"service": "receive-pack", "repository": event.repository}
            return _make("push", {"unknown"}, known, {}, known, carrier, failure=event.reason)


def _describe_push(event: Push, carrier: Carrier | None) -> Action:
    updates = [{"ref": item.ref, "create": item.is_create, "delete": item.is_delete} for item in event.updates]
    known: dict[str, Any] = {
        "service": "receive-pack",
        "repository": event.repository,
        "updates": updates,
        "is_atomic": "atomic" in event.capabilities,
    }
    payload = {"options": list(event.options)} if event.options else {}
    # The object ids are the content: whoever approves them approves every byte they name.
    canonical = {
        "repository": event.repository,
        "updates": [[item.ref, item.old, item.new] for item in event.updates],
        **payload,
    }
    effects = {"write"} if event.updates else {"read"}
    return _make("push", effects, known, payload, canonical, carrier)


def _make(
    verb: str,
    effects: set[str],
    facts: Mapping[str, Any],
    payload: Mapping[str, Any],
    canonical: Mapping[str, Any],
    carrier: Carrier | None,
    *,
    failure: str | None = None,
) -> Action:
    return Action(
        protocol="git",
        phase="request",
        name=f"git.{verb}",
        effects=frozenset(effects),
        facts=facts,
        payload=payload,
        canonical=canonical,
        parse_status="ok" if failure is None else "failed",
        parse_reason=failure,
        carrier=carrier,
        title=f"{verb} {'to' if verb == 'push' else 'from'} {facts['repository']}",
    )
