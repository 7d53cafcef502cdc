"""What a record says, in words for people: one line about it, and the part of its input document that a reader looks for first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

_FRAME: Final = frozenset({"v", "type", "seq", "sid", "sseq", "sprev", "ts", "mono_us"})
"""Members every record has; a line about a record leaves them out."""


def describe_record(record: Mapping[str, Any]) -> str:
    """One line about a record: sentences for the records of a session, JSON for the others."""
    kind = record.get("type")
    if kind == "decision" and isinstance(record.get("decision"), Mapping):
        return _describe_decision(record)
    if kind == "session.open" and isinstance(record.get("subject"), Mapping):
        return _describe_opening(record)
    if kind == "outcome":
        return _describe_outcome(record)
    rest = {name: value for name, value in record.items() if name not in _FRAME}
    return orjson.dumps(rest, option=orjson.OPT_SORT_KEYS).decode() if rest else ""


def excerpt_input(document: object) -> str | None:
    """What an input document asks for: text, parameters, bodies and who approved it, a line or more for each; None for other JSON."""
    if not isinstance(document, Mapping) or not isinstance(document.get("protocol"), str):
        return None
    if document.get("phase") == "response":
        return ""  # the request it answers was shown
    part = document.get(document["protocol"])
    payload = part.get("payload") if isinstance(part, Mapping) else None
    lines = [_word(name, value) for name, value in sorted(payload.items())] if isinstance(payload, Mapping) else []
    approval = document.get("approval")
    if isinstance(approval, Mapping):
        reviewers = [str(each.get("id")) for each in _items(approval.get("reviewers"))]
        lines.append(f"approved by {', '.join(reviewers)}")
    return "\n".join(lines)


def _describe_decision(record: Mapping[str, Any]) -> str:
    decision = record["decision"]
    action = _mapping(record.get("action"))
    rules = ", ".join(dict.fromkeys(str(each.get("rule")) for each in _items(decision.get("reasons"))))
    masks = [f"{each.get('strategy')} by {each.get('rule')}" for each in _items(decision.get("masks"))]
    words = [str(decision.get("effect")), str(action.get("name", "")), "+".join(_texts(action.get("effects")))]
    words += ["of the answer"] if record.get("phase") == "response" else []
    words += [f"[{rules}]"] if rules else []
    words += [f"masks {', '.join(dict.fromkeys(masks))}"] if masks else []
    words += [f"ticket {record['ticket']}"] if record.get("ticket") else []
    return " ".join([*words, str(record.get("decision_id"))])


def _describe_opening(record: Mapping[str, Any]) -> str:
    subject, resource = record["subject"], _mapping(record.get("resource"))
    behalf = f" for {subject['on_behalf_of']}" if subject.get("on_behalf_of") else ""
    place = resource.get("connection") or record.get("connection", "")
    return f"{subject.get('id')}{behalf} on {place} from {record.get('client_ip', 'an unknown address')}"


def _describe_outcome(record: Mapping[str, Any]) -> str:
    words = [str(record.get("status"))]
    words += [str(record[name]) for name in ("tag", "error_code") if record.get(name)]
    words += [f"{record[name]} {name}" for name in ("rows", "bytes") if record.get(name)]
    for name in ("masked", "detected"):
        counts = _mapping(record.get(name))
        words += [f"{name} {', '.join(f'{key}={count}' for key, count in sorted(counts.items()))}"] if counts else []
    words += ["transcript cut"] if record.get("transcript_truncated") else []
    return ", ".join([*words, str(record.get("decision_id"))])


def _word(name: str, value: object) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if name == "text" else f"{name}: {text}"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _items(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []
