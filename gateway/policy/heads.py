"""The one rewrite between a bundle's text and the embedded engine: the value of a rule head is bound at the end of its body.

    deny contains {"rule": "r", "message": m.why, …} if {      deny contains head_value__ if {
        some m in input.members                           →        some m in input.members
    }                                                              head_value__ := {"rule": "r", "message": m.why, …}}

The two mean the same in Rego. They do not in regorus 0.14: when the head is undefined for the last of several members, the rule loses
the values of all the members before it, so that a deny vanishes without an error; bound in the body, that member alone is skipped,
as in OPA. Rules that follow keep their line numbers. Modules are hashed, recorded and given to OPA as they were written.
"""

from __future__ import annotations

from gateway.policy.bundle import Bundle, Module
from gateway.policy.rego_text import HEAD_VALUE as VALUE
from gateway.policy.rego_text import Head, ModuleText, Token, read_module


def engine_modules(bundle: Bundle) -> list[tuple[str, str]]:
    """Path and text of every module as the embedded engine compiles it."""
    return [(module.path, bind_heads(module)) for module in bundle.modules]


def bind_heads(module: Module) -> str:
    """The module's text with every head value bound in its body, where it could be undefined."""
    found = read_module(module.path, module.text)
    pieces: list[str] = []
    position = 0
    for head in found.heads:
        rewritten = _rewrite(found, module.text, head)
        if rewritten is None:
            continue
        start, end, text = rewritten
        pieces += [module.text[position:start], text]
        position = end
    return "".join([*pieces, module.text[position:]])


def _rewrite(found: ModuleText, text: str, head: Head) -> tuple[int, int, str] | None:
    """The range of the text from the head's value to the rule's end, and what takes its place; None leaves the rule alone."""
    tokens = found.tokens[slice(*head.span)]
    at_top = [(index, token.text) for index, token in enumerate(tokens) if token.depth == tokens[0].depth]
    if head.is_default or head.is_function or any(name == "else" for _, name in at_top):
        return None
    marks = {"contains"} if head.is_partial_set else {":=", "="}
    mark = next((index for index, name in at_top if name in marks), None)
    if mark is None:
        return None
    stop = next((index for index, name in at_top if name == "if" and index > mark), len(tokens))
    value, body = tokens[mark + 1 : stop], tokens[stop + 1 :]
    if not value or is_always_defined(value):
        return None
    start, end = value[0].start, tokens[-1].end
    value_text = text[start : value[-1].end]
    if not body:
        return start, end, f"{VALUE} if {{ {VALUE} := {value_text} }}"
    if body[0].text == "{" and _closes_at_the_end(body):
        inner = text[body[0].end : body[-1].start]
    else:
        inner = f" {text[body[0].start : body[-1].end]}"
    separator = "" if inner.rstrip(" \t").endswith("\n") else "; "
    return start, end, f"{VALUE} if {{{inner}{separator}{VALUE} := {value_text}}}"


def _closes_at_the_end(body: list[Token]) -> bool:
    first = next(index for index, token in enumerate(body) if token.text == "}" and token.depth == body[0].depth)
    return first == len(body) - 1


def is_always_defined(value: list[Token]) -> bool:
    """Whether a value is made of literals and plain names only: a name bound in the body has a value."""
    for token, following in zip(value, [*value[1:], None], strict=True):
        if token.kind == "name" and following is not None and following.text in {".", "[", "("}:
            return False
        if token.kind == "punct" and token.text not in {"{", "}", "[", "]", ",", ":"}:
            return False
    return True
