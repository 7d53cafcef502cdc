"""The rule catalogue as a page for people, made from the rules' own METADATA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.policy.bundle import Bundle

_HEAD: Final = """\
# Policies

What the shipped policy library says, made from the METADATA of its rules by `make docs`. A refusal names the rule that spoke; look it up here.
Site facts (groups, ledger tables, limits, exceptions) are in `rego/site/data.json`, under `data.site` ([site-data.md](site-data.md)); rules are not edited to change them.
Helpers that topics share are listed under *Library* and *Main*: they never speak by themselves.
"""


def render_catalogue(bundle: Bundle) -> str:
    """The page in Markdown: one section a topic, one entry a rule, in a fixed order."""
    sections: dict[str, list[str]] = {}
    for rule, entry in sorted(bundle.rules.items()):
        sections.setdefault(_section(rule), []).append(_render_rule(rule, entry))
    order = sorted(sections, key=lambda name: (name in {"Library", "Main"}, name))
    return _HEAD + "".join(f"\n## {name}\n\n{''.join(sections[name])}" for name in order)


def _section(rule: str) -> str:
    parts = rule.split(".")
    if parts[0] == "lib":
        return "Library"
    return "Main" if parts[0] == "main" else ".".join(parts[:2])


def _render_rule(rule: str, entry: Mapping[str, Any]) -> str:
    controls = ", ".join(entry.get("controls", ()))
    text = f"### `{rule}`\n\n**{entry['title']}.** {str(entry['description']).strip()}\n\n"
    text += f"- severity {entry['severity']}; controls {controls}\n"
    return text + f"- refusal: {entry['failure_msg']}\n- what to do: {entry['solution']}\n\n"
