"""What the loader refuses: modules by which a contribution could vanish, an engine could be lost, or the engines could differ.

Each rule answers one measured hazard (design section 4). A bundle with any problem is not loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.action import PROTOCOLS
from gateway.policy.capabilities import DENIED, allowed_builtins
from gateway.policy.rego_text import HEAD_VALUE, OWN_PROTOCOL, ModuleText, Token
from gateway.policy.site_data import find_exception_problems

CONTRIBUTIONS: Final = frozenset({"allow", "approve", "deny", "masks", "obligations", "warn"})
"""The partial sets by which a topic contributes to a decision."""

MAX_LINES: Final = 20_000
MAX_LINE_CHARS: Final = 1_000
"""The engine refuses longer modules and lines (1024); refused here with a message that says what to do."""

MAX_NESTING: Final = 8
"""Open brackets at any place of a module. The engine's parser doubles its time with each: 20 ms at 8, 6 s at 16."""

MAX_RULES: Final = 4_000
"""Rules of a whole bundle. A chain of 18 000 rules overflows the engine's stack; 4 000 leave a factor of four."""

MAX_FORMAT_WIDTH: Final = 99
"""Largest width or precision in a format: `%1000000000d` makes the engine ask for a gigabyte and abort."""

SITE_FILE: Final = "site/data.json"
"""Where most bundles have all data of their site; problems of `data.site` are told of it."""

READS: Final = ("counters", "payload", "time")
"""What a topic must declare that it reads, in `custom.reads` of its package's METADATA."""

_FORMAT: Final = re.compile(r"%([^A-Za-z%]*)([A-Za-z%])")
_PORTABLE_CLASS: Final = re.compile(r"\\[dDwWsSbB]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that keeps a bundle from being loaded: where, and what to do about it."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}" if self.line else f"{self.path}: {self.text}"


def find_problems(modules: Sequence[ModuleText], data: Mapping[str, Any]) -> list[Problem]:
    """Everything that keeps these modules and this data from being loaded, in path order."""
    problems = [problem for module in modules for problem in _module_problems(module)]
    if not any(module.package == ("sealgate", "main") for module in modules):
        problems.append(Problem("sealgate/main", 0, "package sealgate.main is missing; nothing would combine the contributions"))
    rules = sum(len(module.heads) for module in modules)
    if rules > MAX_RULES:
        problems.append(Problem("", 0, f"the bundle has {rules} rules; at most {MAX_RULES} are loaded"))
    problems += _call_problems(modules)
    problems += _data_problems(data)
    return sorted(problems, key=lambda problem: (problem.path, problem.line, problem.text))


def reads_of(path: tuple[str, ...]) -> frozenset[str]:
    """Which of payload, time, counters and approval a reference to `path` of the input may read."""
    if not path:
        return frozenset({*READS, "approval"})
    found = set()
    first, second = path[0], path[1] if len(path) > 1 else None
    if first == "approval":
        found.add("approval")
    if (first in PROTOCOLS or first == OWN_PROTOCOL) and second in {None, "payload"}:
        found.add("payload")
    if first == "context":
        if second in {None, "now", "now_ns"}:
            found.add("time")
        if second is None or (second == "session" and (len(path) == 2 or path[2] == "counters")):  # noqa: PLR2004
            found.add("counters")
    return frozenset(found)


def _module_problems(module: ModuleText) -> Iterator[Problem]:
    for line, text in module.problems:
        yield Problem(module.path, line, text)
    if module.lines > MAX_LINES:
        yield Problem(module.path, 0, f"{module.lines} lines; at most {MAX_LINES} are loaded")
    if module.longest_line > MAX_LINE_CHARS:
        yield Problem(module.path, 0, f"a line has {module.longest_line} characters; at most {MAX_LINE_CHARS} are loaded")
    depth, line = module.nesting
    if depth > MAX_NESTING:
        yield Problem(module.path, line, f"brackets nest {depth} deep, at most {MAX_NESTING}; move constants to site data")
    yield from _package_problems(module)
    match _kind(module.package):
        case "topic":
            yield from _rewrite_problems(module)
            yield from _head_problems(module)
            yield from _topic_read_problems(module)
        case "lib":
            yield from _rewrite_problems(module)
            yield from _lib_problems(module)


def _kind(package: tuple[str, ...]) -> str | None:
    match package:
        case ("sealgate", "main"):
            return "main"
        case ("sealgate", "lib", *_):
            return "lib"
        case ("sealgate", "policies", scope, _topic) if scope == "any" or scope in PROTOCOLS:
            return "topic"
    return None


def _package_problems(module: ModuleText) -> Iterator[Problem]:
    name = ".".join(module.package)
    if module.package and module.package[-1].endswith("_test"):
        yield Problem(module.path, 1, f"package {name} is a test; tests are no part of a bundle")
    elif _kind(module.package) is None:
        scopes = "|".join(("any", *PROTOCOLS))
        yield Problem(
            module.path, 1, f"package {name!r} is none of sealgate.policies.<{scopes}>.<topic>, sealgate.lib.…, sealgate.main"
        )
    folder = tuple(module.path.split("/")[:-1])
    if folder != module.package:
        yield Problem(module.path, 1, f"package {name} does not belong in folder {'/'.join(folder)}")


def _head_problems(module: ModuleText) -> Iterator[Problem]:
    for head in module.heads:
        if head.name in CONTRIBUTIONS and not (head.is_partial_set and head.is_plain and not head.is_default):
            yield Problem(module.path, head.line, f"{head.name} is a contribution: write `{head.name} contains … if …`")
        elif head.is_partial_set and head.name not in CONTRIBUTIONS and not head.name.startswith("_"):
            known = ", ".join(sorted(CONTRIBUTIONS))
            yield Problem(
                module.path, head.line, f"{head.name} is no contribution ({known}); start the name of a helper set with `_`"
            )


def _topic_read_problems(module: ModuleText) -> Iterator[Problem]:
    declared = _declared_reads(module)
    for read in module.input_reads:
        reads = reads_of(read.path)
        shown = ".".join(("input", *read.path))
        if not read.path:
            yield Problem(
                module.path, read.line, "the whole input is read; name the members, input.approval is for sealgate.main"
            )
        elif "approval" in reads:
            yield Problem(module.path, read.line, "input.approval is read; only sealgate.main may")
        elif missing := sorted(reads - declared):
            yield Problem(
                module.path, read.line, f"{shown} reads {missing[0]}; declare it in custom.reads of the package METADATA"
            )
    allowed = {("sealgate", "lib"), ("sealgate", "policies", module.package[2]), ("sealgate", "policies", "any"), ("site",)}
    yield from _data_read_problems(module, allowed)


def _declared_reads(module: ModuleText) -> frozenset[str]:
    custom = module.package_annotation().get("custom")
    reads = custom.get("reads", []) if isinstance(custom, dict) else []
    return frozenset(name for name in reads if name in READS) if isinstance(reads, list) else frozenset()


def _lib_problems(module: ModuleText) -> Iterator[Problem]:
    for read in module.input_reads:
        if not read.path or reads_of(read.path):
            yield Problem(module.path, read.line, "a library reads payload, time, counters or approval; take it as an argument")
    yield from _data_read_problems(module, {("sealgate", "lib"), ("site",)})


def _data_read_problems(module: ModuleText, allowed: Iterable[tuple[str, ...]]) -> Iterator[Problem]:
    for read in module.data_reads:
        if not any(read.path[: len(prefix)] == prefix for prefix in allowed):
            shown = ".".join(("data", *read.path))
            yield Problem(
                module.path, read.line, f"{shown} is not what this package may read: site data, sealgate.lib, its own protocol"
            )


def _call_problems(modules: Sequence[ModuleText]) -> Iterator[Problem]:
    functions: dict[tuple[str, ...], set[str]] = {}
    for module in modules:
        functions.setdefault(module.package, set()).update(module.functions)
    edges: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for module in modules:
        own = functions[module.package]
        for call in module.calls:
            target = _resolve(call.name, module, own)
            if target is not None:
                edges.setdefault((*module.package, call.caller), set()).add(target)
                continue
            if call.name == "set":  # `set()` is how Rego writes the empty set
                continue
            if call.name in DENIED:
                yield Problem(module.path, call.line, f"{call.name} may not be called: {DENIED[call.name]}")
            elif call.name not in allowed_builtins():
                yield Problem(module.path, call.line, f"{call.name} is no builtin of both engines and no function of the bundle")
            yield from _literal_problems(module, call.name, call.literal, call.line)
        yield from _shadow_problems(module, own)
    for cycle in _find_cycles(edges):
        yield Problem("", 0, f"functions call themselves: {' → '.join(cycle)}; the evaluator would overflow its stack")


def _resolve(name: str, module: ModuleText, own: set[str]) -> tuple[str, ...] | None:
    """The function of the bundle a called name means, or None for a builtin."""
    first, *rest = name.split(".")
    if not rest and first in own:
        return (*module.package, first)
    if first == "data":
        return tuple(rest)
    if first in module.imports and module.imports[first][:1] == ("data",):
        return (*module.imports[first][1:], *rest)
    return None


def _literal_problems(module: ModuleText, name: str, literal: str | None, line: int) -> Iterator[Problem]:
    if name == "sprintf":
        if literal is None:
            yield Problem(module.path, line, "the format of sprintf is not a literal; its width could be anything")
            return
        for flags, verb in _FORMAT.findall(literal):
            if verb not in "v%" or flags:
                yield Problem(
                    module.path, line, f"format %{flags}{verb} is not %v; the engines write other verbs and widths differently"
                )
    if name.startswith("regex.") and literal is not None and _PORTABLE_CLASS.search(literal):
        yield Problem(module.path, line, r"\d \w \s \b match Unicode in one engine and ASCII in the other; write the class out")


def _rewrite_problems(module: ModuleText) -> Iterator[Problem]:
    """What `gateway.policy.heads` cannot make safe: see there."""
    for head in module.heads:
        tokens = module.tokens[slice(*head.span)]
        depth = tokens[0].depth
        for index, token in enumerate(tokens[:-1]):
            if token.text == HEAD_VALUE:
                yield Problem(module.path, token.line, f"{HEAD_VALUE} is a name of the loader")
            if (
                token.depth == depth
                and token.text in {":=", "="}
                and not head.is_function
                and any(t.text == "else" for t in tokens)
            ):
                stop = next(
                    (i for i, t in enumerate(tokens) if i > index and t.depth == depth and t.text in {"if", "else"}), len(tokens)
                )
                if any(_may_be_undefined(tokens, i) for i in range(index + 1, stop)):
                    yield Problem(
                        module.path, token.line, "a rule with else has a value that may be undefined; bind it in the body"
                    )
        if len(tokens) > 1 and tokens[1].text == "[" and any(_may_be_undefined(tokens, i) for i in _key_range(tokens)):
            yield Problem(module.path, head.line, "the key of a rule may be undefined; bind it in the body")


def _may_be_undefined(tokens: Sequence[Token], index: int) -> bool:
    return tokens[index].kind == "name" and index + 1 < len(tokens) and tokens[index + 1].text in {".", "[", "("}


def _key_range(tokens: Sequence[Token]) -> range:
    stop = next(
        (i for i, token in enumerate(tokens) if i > 1 and token.text == "]" and token.depth == tokens[1].depth), len(tokens)
    )
    return range(2, stop)


def _shadow_problems(module: ModuleText, functions: set[str]) -> Iterator[Problem]:
    tokens = module.tokens
    for index, token in enumerate(tokens):
        if token.kind != "name" or token.text not in functions:
            continue
        before, after = (tokens[index - 1].text if index else ""), (tokens[index + 1].text if index + 1 < len(tokens) else "")
        if before != "." and after != "(":
            yield Problem(
                module.path, token.line, f"{token.text} is a function of this package; regorus fails on a variable so named"
            )


def _find_cycles(edges: Mapping[tuple[str, ...], set[tuple[str, ...]]]) -> list[list[str]]:
    """The functions from which a chain of calls comes back, one cycle each."""
    settled: set[tuple[str, ...]] = set()
    cycles: list[list[str]] = []
    for start in sorted(edges):
        path: list[tuple[str, ...]] = []
        stack = [(start, iter(sorted(edges[start])))] if start not in settled else []
        on_path = {start}
        path.append(start)
        while stack:
            node, targets = stack[-1]
            target = next(targets, None)
            if target is None:
                stack.pop()
                path.pop()
                on_path.discard(node)
                settled.add(node)
            elif target in on_path:
                cycles.append([".".join(name) for name in [*path[path.index(target) :], target]])
            elif target in edges and target not in settled:
                stack.append((target, iter(sorted(edges[target]))))
                on_path.add(target)
                path.append(target)
    return cycles


def _data_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    for root in data:
        if root != "site":
            yield Problem(
                f"{root}/data.json", 0, f"data.{root} is not site data; a data document there could stand where a rule is read"
            )
    for problem in find_exception_problems(data):
        yield Problem(SITE_FILE, 0, problem)
