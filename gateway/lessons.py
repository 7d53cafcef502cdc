"""What was recorded of one action, as a session needs it to answer the same action again by itself (decision 7).

A lesson is a record that was made the ordinary way, cut at the members that differ from one time to the next: ids, numbers, times, the
text and its parameters. Everything else is the same as long as the decision is: the facts because the text's skeleton is the same,
the decision because policy reads nothing but facts (`gateway.policy.cache`), the session because a lesson never leaves it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from evidence.canonical import encode
from evidence.drafts import PLACE, envelop

Template = list[bytes | str]
"""JSON and the names of what stands between, by turns."""

Path = tuple[str, ...]

CONTEXT_SLOTS: Final[Mapping[Path, str]] = {
    ("context", "now"): "now",
    ("context", "now_ns"): "now_ns",
    ("context", "session", "counters", "actions"): "actions",
    ("context", "session", "counters", "refused"): "refused",
    ("context", "session", "counters", "rows"): "rows",
    ("context", "session", "counters", "bytes"): "bytes",
}
"""Members of every input document that differ each time."""

RECORD_SLOTS: Final[Mapping[Path, str]] = {
    ("decision_id",): "decision_id",
    ("request_decision_id",): "request_decision_id",
    ("digest",): "digest",
    ("input", "n"): "n",
    ("input", "sha256"): "sha256",
    ("input", "bytes"): "chunk_bytes",
    **{(name,): name for name in PLACE},
}
"""Members of every decision record that differ each time."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One decision that may be used again, and what was recorded of it.

    Attributes:
        fields: the `decision` record.
        document: the input document, which is the same masked and unmasked.
        material: what the action's digest covers.
        until_mono_ns: monotonic time until which the decision may be used again.
        until_ns: the same for time since the epoch: the end of an exception or of the proof of identity.
    """

    fields: Mapping[str, Any]
    document: Mapping[str, Any]
    material: Mapping[str, Any]
    until_mono_ns: int
    until_ns: int

    @property
    def written(self) -> bytes:
        """The document as the record's chunk holds it."""
        return orjson.dumps(self.document, option=orjson.OPT_SORT_KEYS)


def cut_record(fields: Mapping[str, Any], sid: str) -> Template:
    """The template of a `decision` record like this one.

    It is taken from memory, so it says that it was cached and took no time; and its input is packed against that of `fields`, which
    differs from it in next to nothing.
    """
    base = {**fields["input"], "base": fields["input"]["n"]}
    whole = envelop("decision", {**fields, "input": base, "cached": True, "duration_ns": 0}, sid)
    encode(whole)  # the profile of canonical JSON: what is cut from it keeps to it
    return _cut(whole, RECORD_SLOTS)


def cut_input(document: Mapping[str, Any], payload: Path) -> Template:
    """The template of an input document like this one; `payload` is where text and parameters are."""
    return _cut(document, {**CONTEXT_SLOTS, (*payload, "text"): "text", (*payload, "params"): "params"})


def cut_material(material: Mapping[str, Any]) -> Template:
    """The template of what an action digest covers."""
    return _cut(material, {("canonical", "text"): "text", ("canonical", "params"): "params"})


def _cut(document: Mapping[str, Any], slots: Mapping[Path, str]) -> Template:
    mark = secrets.token_hex(16)  # no text of a document holds it by chance
    marked = _mark(document, {path: f"{mark}{name}" for path, name in slots.items()})
    written = orjson.dumps(marked, option=orjson.OPT_SORT_KEYS)
    first, *others = written.split(b'"' + mark.encode())
    template: Template = [first]
    for other in others:
        name, _, text = other.partition(b'"')
        template += [name.decode(), text]
    return template


def _mark(document: Mapping[str, Any], marks: Mapping[Path, str]) -> dict[str, Any]:
    marked = dict(document)
    for path, mark in marks.items():
        inner = marked
        for name in path[:-1]:
            if not isinstance(inner.get(name), Mapping):
                break
            inner[name] = dict(inner[name])
            inner = inner[name]
        else:
            if path[-1] in inner:
                inner[path[-1]] = mark
    return marked
