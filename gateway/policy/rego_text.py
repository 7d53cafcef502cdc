"""A Rego module read as tokens: enough to see heads, references, calls and nesting before any engine parses it.

The engine's own parser takes exponential time on nested brackets and its evaluator dies of recursive functions, so what this
module needs to know it learns by one pass over the text. It never decides what a rule means: where the text leaves a doubt, the
reading is the wider one (`input[x]` is the whole input).

    read_module(path, text) -> ModuleText
        package, imports          dotted paths; imports by the name they are used under
        heads                     every rule head: name, whether `contains`, whether a function, its line
        input_reads, data_reads   reference prefixes, as tuples of names; () is the whole document
        calls                     every called name with the head it is called from
        annotations               the METADATA blocks, parsed, with the line of what they stand before
        problems                  what cannot be read at all
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import yaml

KEYWORDS: Final = frozenset(
    {"if", "in", "not", "every", "some", "with", "as", "else", "default", "import", "package", "null", "true", "false"}
)

HEAD_VALUE: Final = "head_value__"
"""The name `gateway.policy.heads` binds in bodies; the loader refuses modules that use it."""

OWN_PROTOCOL: Final = "*protocol*"
"""Stands in a path for `input[input.protocol]`: the member of whatever protocol the action has."""

_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\r]+)|(?P<newline>\n)|(?P<comment>\#[^\n]*)
      |(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<raw>`[^`]*`)
      |(?P<number>[0-9][0-9A-Za-z_.+-]*)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      |(?P<punct>:=|==|!=|<=|>=|[-+*/%&|<>=.,:;()\[\]{}])""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """One token; `column` counts from 0, `depth` is how many brackets are open around it, `start` and `end` its place."""

    kind: str
    text: str
    line: int
    column: int
    depth: int
    start: int
    end: int


class Head(NamedTuple):
    """One rule head. `span` is the range of tokens from the head to the next one."""

    name: str
    is_plain: bool
    is_partial_set: bool
    is_function: bool
    is_default: bool
    line: int
    span: tuple[int, int]


class Read(NamedTuple):
    """One reference: the longest prefix that is sure, and its line."""

    path: tuple[str, ...]
    line: int


class Call(NamedTuple):
    """One call: the dotted name, the head it is in, the first argument when it is a literal text."""

    name: str
    caller: str
    line: int
    literal: str | None


@dataclass(slots=True)
class ModuleText:
    """What one pass over a module finds; see the module's description."""

    path: str
    package: tuple[str, ...] = ()
    imports: dict[str, tuple[str, ...]] = field(default_factory=dict)
    heads: list[Head] = field(default_factory=list)
    input_reads: list[Read] = field(default_factory=list)
    data_reads: list[Read] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    annotations: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)
    nesting: tuple[int, int] = (0, 0)
    longest_line: int = 0
    lines: int = 0
    tokens: list[Token] = field(default_factory=list)

    @property
    def functions(self) -> set[str]:
        """Names of the functions the module defines."""
        return {head.name for head in self.heads if head.is_function}

    def package_annotation(self) -> dict[str, Any]:
        """The METADATA of the package, empty when there is none."""
        package_line = next((token.line for token in self.tokens if token.text == "package"), 0)
        return next((block for line, block in self.annotations if line == package_line), {})

    def rule_annotations(self) -> list[dict[str, Any]]:
        """The METADATA blocks that stand before rules."""
        head_lines = {head.line for head in self.heads}
        return [block for line, block in self.annotations if line in head_lines]


def read_module(path: str, text: str) -> ModuleText:
    """Read one module. Never raises on bad Rego: see `problems`."""
    module = ModuleText(path, lines=text.count("\n") + 1, longest_line=max(map(len, text.split("\n")), default=0))
    _tokenize(module, text)
    _read_annotations(module, text)
    _read_heads(module)
    _read_references(module)
    return module


def _tokenize(module: ModuleText, text: str) -> None:
    position, line, line_start, depth = 0, 1, 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            module.problems.append((line, f"{text[position]!r} is not part of the Rego both engines read"))
            return
        kind, lexeme = str(match.lastgroup), match.group()
        if kind == "punct" and lexeme in ")]}":
            depth -= 1
        if kind not in {"space", "comment", "newline"}:
            module.tokens.append(Token(kind, lexeme, line, position - line_start, depth, position, match.end()))
        if kind == "punct" and lexeme in "([{":
            depth += 1
            if depth > module.nesting[0]:
                module.nesting = (depth, line)
        newlines = lexeme.count("\n")
        if newlines:
            line += newlines
            line_start = position + lexeme.rindex("\n") + 1
        position = match.end()
    if depth != 0:
        module.problems.append((line, "brackets do not match"))


def _read_annotations(module: ModuleText, text: str) -> None:
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        if lines[number].rstrip() != "# METADATA":
            number += 1
            continue
        start = number + 1
        number = start
        while number < len(lines) and lines[number].startswith("#"):
            number += 1
        try:
            block = yaml.safe_load("\n".join(line[1:] for line in lines[start:number]))
        except yaml.YAMLError:
            block = None
        if not isinstance(block, dict):
            module.problems.append((start, "the METADATA block is not YAML"))
            continue
        while number < len(lines) and not lines[number].strip():
            number += 1
        module.annotations.append((number + 1, block))


def _read_heads(module: ModuleText) -> None:
    tokens = module.tokens
    starts: list[int] = []
    for index, token in enumerate(tokens):
        is_first = index == 0 or tokens[index - 1].line != token.line
        if token.depth != 0 or not is_first or token.kind != "name" or token.text == "else":
            continue
        if token.column != 0:
            module.problems.append((token.line, "a rule starts at the beginning of its line (opa fmt does this)"))
        elif token.text == "package":
            module.package = _dotted(tokens, index + 1)
        elif token.text == "import":
            _read_import(module, index + 1)
        else:
            starts.append(index)
    for position, start in enumerate(starts):
        end = starts[position + 1] if position + 1 < len(starts) else len(tokens)
        module.heads.append(_head(tokens, start, end))


def _dotted(tokens: list[Token], index: int) -> tuple[str, ...]:
    line, names = tokens[index].line if index < len(tokens) else 0, []
    while index < len(tokens) and tokens[index].line == line and tokens[index].text != "as":
        if tokens[index].kind == "name":
            names.append(tokens[index].text)
        elif tokens[index].kind == "string":
            names.append(tokens[index].text[1:-1])
        index += 1
    return tuple(names)


def _read_import(module: ModuleText, index: int) -> None:
    path = _dotted(module.tokens, index)
    line = module.tokens[index].line if index < len(module.tokens) else 0
    rest = [token.text for token in module.tokens[index:] if token.line == line]
    alias = rest[rest.index("as") + 1] if "as" in rest[:-1] else (path[-1] if path else "")
    module.imports[alias] = path


def _head(tokens: list[Token], start: int, end: int) -> Head:
    is_default = tokens[start].text == "default"
    first = start + is_default
    name = tokens[first]
    following = tokens[first + 1].text if first + 1 < end else ""
    depth_zero = [token.text for token in tokens[first + 1 : end] if token.depth == 0]
    stop = next((i for i, text in enumerate(depth_zero) if text in {"if", ":=", "=", "else"}), len(depth_zero))
    return Head(
        name=name.text,
        is_plain=following not in {".", "[", "("},
        is_partial_set="contains" in depth_zero[:stop],
        is_function=following == "(",
        is_default=is_default,
        line=tokens[start].line,
        span=(start, end),
    )


def _read_references(module: ModuleText) -> None:
    tokens = module.tokens
    callers = [(head.span, head.name) for head in module.heads]
    position = 0
    for index, token in enumerate(tokens):
        while position < len(callers) and index >= callers[position][0][1]:
            position += 1
        if token.kind != "name" or (index > 0 and tokens[index - 1].text == "."):
            continue
        if token.text in {"input", "data"}:
            path, _ = _path(tokens, index + 1)
            reads = module.input_reads if token.text == "input" else module.data_reads
            reads.append(Read(path, token.line))
        called, after = _called_name(tokens, index)
        if after < len(tokens) and tokens[after].text == "(" and called not in KEYWORDS:
            is_definition = position < len(callers) and index == callers[position][0][0]
            if not is_definition and not (tokens[index - 1].text == "default" and index > 0):
                caller = callers[position][1] if position < len(callers) else ""
                argument = tokens[after + 1] if after + 1 < len(tokens) else token
                literal = argument.text[1:-1] if argument.kind in {"string", "raw"} else None
                module.calls.append(Call(called, caller, token.line, literal))


def _called_name(tokens: list[Token], index: int) -> tuple[str, int]:
    names = [tokens[index].text]
    index += 1
    while index + 1 < len(tokens) and tokens[index].text == "." and tokens[index + 1].kind == "name":
        names.append(tokens[index + 1].text)
        index += 2
    return ".".join(names), index


def _path(tokens: list[Token], index: int) -> tuple[tuple[str, ...], int]:
    """The names that follow `input` or `data`, as far as they are literal."""
    names: list[str] = []
    while index + 1 < len(tokens):
        if tokens[index].text == "." and tokens[index + 1].kind == "name":
            names.append(tokens[index + 1].text)
            index += 2
        elif tokens[index].text == "[" and tokens[index].line == tokens[index - 1].line and index + 2 < len(tokens):
            literal = tokens[index + 1]
            own = [token.text for token in tokens[index + 1 : index + 5]] == ["input", ".", "protocol", "]"]
            if own:
                names.append(OWN_PROTOCOL)
                index += 5
            elif literal.kind == "string" and tokens[index + 2].text == "]":
                names.append(literal.text[1:-1])
                index += 3
            else:
                break
        else:
            break
    return tuple(names), index
