"""A command line as a POSIX shell would read it: its argv where it is plain, else which shell syntax stands in it.

An exec request carries one string that the account's login shell interprets (RFC 4254, 6.5). `read_command` understands the part of
the shell language that has exactly one meaning in every common shell: words, quotes and backslashes. Whatever else stands in the
string is named in `features`, and then there is no argv: a rule that wants certainty refuses features, and nothing here guesses.
(POSIX.1-2024, XCU chapter 2, Shell Command Language.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_COMMAND_BYTES: Final = 65_536
"""Longest command line that is read; a longer one is of unknown effect."""

STANDARD_FOLDERS: Final = ("/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/")
"""Where a program's path says no more than its name; any other path is kept whole, so that /tmp/cat is never taken for cat."""

_OPERATORS: Final = {
    "|": "pipe",
    ";": "sequence",
    "&": "background",
    "<": "redirect_in",
    ">": "redirect_out",
    "(": "subshell",
    ")": "subshell",
    "$": "variable",
    "`": "substitution",
    "*": "glob",
    "?": "glob",
    "[": "glob",
    "]": "glob",
    "{": "brace",
    "}": "brace",
    "!": "history",
    "~": "tilde",
    "#": "comment",
    "^": "history",
    "\n": "newline",
    "%": "job",
}
"""What has, or may have, a meaning outside quotes. Some count only in places (`~`, `#`, `%`); see `_note`."""

ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
"""How a word begins that sets a variable where it stands before a command."""

RESERVED_WORDS: Final = frozenset(
    [
        "if",
        "then",
        "else",
        "elif",
        "fi",
        "case",
        "esac",
        "for",
        "select",
        "while",
        "until",
        "do",
        "done",
        "in",
        "function",
        "time",
        "coproc",
        "[[",
        "]]",
    ]
)
"""Words that begin a compound command where a command is expected."""

BUILTINS_THAT_EVALUATE: Final = frozenset({"eval", "exec", "source", ".", "command", "builtin", "trap", "alias", "set", "cd"})
"""Builtins whose operands are commands, files of commands, or change what later words mean."""

_WRAPPERS: Final[dict[str, frozenset[str]]] = {
    "sudo": frozenset(
        {"-u", "-g", "-p", "-h", "-C", "-r", "-t", "-D", "-R", "-T", "-U", "--user", "--group", "--prompt", "--host"}
    ),
    "doas": frozenset({"-u", "-C"}),
    "env": frozenset({"-u", "--unset", "-C", "--chdir", "-S", "--split-string"}),
    "busybox": frozenset(),
    "nohup": frozenset(),
    "setsid": frozenset(),
    "nice": frozenset({"-n", "--adjustment"}),
    "ionice": frozenset({"-c", "-n", "--class", "--classdata"}),
    "timeout": frozenset({"-s", "-k", "--signal", "--kill-after"}),
    "stdbuf": frozenset({"-i", "-o", "-e", "--input", "--output", "--error"}),
    "chroot": frozenset(),
    "unshare": frozenset(),
    "nsenter": frozenset({"-t", "--target"}),
    "runuser": frozenset({"-u", "--user"}),
    "chronic": frozenset(),
    "catchsegv": frozenset(),
    "linux64": frozenset(),
    "systemd-run": frozenset({"-p", "--property", "--unit", "--slice"}),
}
"""Programs that run another program, and those of their options that take the next word."""

_OPERANDS_BEFORE_PROGRAM: Final = {"timeout": 1, "chroot": 1}

PRIVILEGE_PROGRAMS: Final = frozenset(
    {"sudo", "su", "doas", "pkexec", "runuser", "su-exec", "gosu", "sg", "newgrp", "chroot", "nsenter"}
)
"""Programs that change who runs what follows."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command line as read.

    Attributes:
        argv: the words, where the line is one plain command; else None.
        features: which shell syntax stands in the line, sorted; empty where it is plain.
        stages: the argv of each command, where the line is one plain command or plain commands joined by pipes; else ().
    """

    argv: tuple[str, ...] | None
    features: tuple[str, ...]
    stages: tuple[tuple[str, ...], ...] = ()


class _Reader:
    """Reads one line, character by character."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._at = 0
        self.stages: list[list[str]] = [[]]
        self.features: set[str] = set()
        self._word: list[str] | None = None
        self._is_quoted = False

    def read(self) -> None:
        while self._at < len(self._line):
            char = self._line[self._at]
            self._at += 1
            if char in " \t":
                self._end_word()
            elif char == "'":
                self._single()
            elif char == '"':
                self._double()
            elif char == "\\":
                self._backslash()
            elif char == "|" and self._line[self._at : self._at + 1] not in {"|", "&"}:
                self._end_word()
                self.features.add("pipe")
                self.stages.append([])
            else:
                self._plain(char)
        self._end_word()

    def _plain(self, char: str) -> None:
        if char == "{" and self._line[self._at : self._at + 1] == "}":
            self._at += 1  # `{}` stands for itself, in find and xargs
            char = "{}"
        elif char in _OPERATORS:
            self._note(char)
        elif not char.isprintable() or ord(char) == 0:
            self.features.add("control_character")
        elif not char.isascii():
            self.features.add("non_ascii")  # some shells' word separators and digits depend on the locale
        self._put(char)

    def _note(self, char: str) -> None:
        """Name what an operator character means where it stands."""
        at_start = self._word is None
        following = self._line[self._at : self._at + 1]
        if char == "#" and not at_start:
            return
        if char == "~":
            # Inside a word it means nothing, and alone at its start it is the account's own home in every shell.
            inside, alone = not at_start and self._line[self._at - 2] not in ":=", at_start and following in {"", "/", " ", "\t"}
            if inside or alone:
                return
        if char == "%" and not (at_start and not self.stages[-1]):
            return
        if char == "$" and following in {"(", "'", '"'}:
            self.features.add("substitution" if following == "(" else "quoting")
        elif char in "|&" and following == char:
            self._at += 1
            self.features.add("conditional")
        elif char == "<" and following == "<":
            self.features.add("here_document")
        elif char in "<>" and following == "(":
            self.features.add("substitution")
        else:
            self.features.add(_OPERATORS[char])

    def _single(self) -> None:
        end = self._line.find("'", self._at)
        if end < 0:
            self.features.add("unterminated_quote")
            end = len(self._line)
        self._put(self._line[self._at : end], is_quoted=True)
        self._at = end + 1

    def _double(self) -> None:
        while self._at < len(self._line):
            char = self._line[self._at]
            self._at += 1
            if char == '"':
                self._put("", is_quoted=True)
                return
            if char == "$" and self._line[self._at : self._at + 1] not in {"", " ", '"'}:
                self.features.add("substitution" if self._line[self._at] == "(" else "variable")
            elif char == "`":
                self.features.add("substitution")
            elif char == "!":
                self.features.add("history")
            elif char == "\\":
                following = self._line[self._at : self._at + 1]
                if following and following in '$`"\\\n':
                    self._at += 1
                    self._put("" if following == "\n" else following, is_quoted=True)
                    continue
            self._put(char, is_quoted=True)
        self.features.add("unterminated_quote")

    def _backslash(self) -> None:
        following = self._line[self._at : self._at + 1]
        self._at += 1
        if not following:
            self.features.add("unterminated_quote")
        elif following == "\n":
            self.features.add("newline")
        else:
            self._put(following, is_quoted=True)

    def _put(self, text: str, *, is_quoted: bool = False) -> None:
        self._word = [] if self._word is None else self._word
        self._word.append(text)
        self._is_quoted |= is_quoted

    def _end_word(self) -> None:
        if self._word is None:
            return
        word = "".join(self._word)
        if not self.stages[-1]:
            if ASSIGNMENT.match(word):
                self.features.add("assignment")
            if word in RESERVED_WORDS and not self._is_quoted:
                self.features.add("compound")
        self.stages[-1].append(word)
        self._word, self._is_quoted = None, False


def read_command(line: str) -> Command:
    """The argv of a plain line, or the shell syntax in it; an empty line has neither and counts as unreadable."""
    if len(line.encode()) > MAX_COMMAND_BYTES:
        return Command(None, ("too_long",))
    reader = _Reader(line)
    reader.read()
    if any(not char.isprintable() for stage in reader.stages for word in stage for char in word):
        reader.features.add("control_character")
    if not all(reader.stages):
        reader.features.add("empty")
    elif any(name_program(stage[0]) in BUILTINS_THAT_EVALUATE for stage in reader.stages):
        reader.features.add("builtin")
    features = tuple(sorted(reader.features))
    stages = tuple(map(tuple, reader.stages)) if reader.features <= {"pipe"} else ()
    return Command(stages[0] if stages and not features else None, features, stages)


def name_program(word: str) -> str:
    """A program as rules name it: the bare name for the standard folders, the whole path for any other place."""
    for folder in STANDARD_FOLDERS:
        name = word.removeprefix(folder)
        if name != word and name and "/" not in name:
            return name
    return word


def unwrap(argv: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The wrappers in front (sudo, env, timeout, …) by name, and the argv of the program they run; () where that is not certain."""
    wrappers: list[str] = []
    rest = argv
    while rest:
        name = name_program(rest[0])
        if name not in _WRAPPERS:
            return tuple(wrappers), rest
        wrappers.append(name)
        rest = _skip_options(name, rest[1:])
    return tuple(wrappers), ()


def _skip_options(wrapper: str, words: tuple[str, ...]) -> tuple[str, ...]:
    takes_next = _WRAPPERS[wrapper]
    at, operands = 0, _OPERANDS_BEFORE_PROGRAM.get(wrapper, 0)
    while at < len(words):
        word = words[at]
        if word == "--":
            at += 1
            break
        if word in takes_next:
            at += 2
        elif word.startswith("-") or (wrapper in {"env", "sudo"} and ASSIGNMENT.match(word)):
            at += 1
        elif operands:
            operands -= 1
            at += 1
        else:
            break
    return words[at:]


WORD_OPTION_PROGRAMS: Final = frozenset({"find", "openssl", "java", "ffmpeg", "convert", "xset"})
"""Programs whose options are whole words after one hyphen, with the value in the next word."""


def find_options(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the options of an argv, without values, sorted: `--output=x` is `--output`, `-rf` is `-r` and `-f`."""
    found: set[str] = set()
    are_words = bool(argv) and name_program(argv[0]) in WORD_OPTION_PROGRAMS
    for word in argv[1:]:
        if word == "--" and not are_words:
            break
        if are_words and re.fullmatch(r"-[A-Za-z0-9_-]{1,32}", word):
            found.add(word)
        elif word.startswith("--"):
            found.add(word.partition("=")[0])
        elif re.fullmatch(r"-[A-Za-z]{1,8}", word):
            found.add(word)
            found.update(f"-{letter}" for letter in word[1:])
        elif word.startswith("-") and len(word) > 1:
            found.add(word[:2])
    return tuple(sorted(found))


MAX_PATHS: Final = 64
"""Paths kept as facts; a longer list says so by `paths_truncated`."""

_EMBEDDED_PATH: Final = re.compile(r"(?:^|[=@,:+]|^-[A-Za-z])((?:/|~|\.{1,2}/)[^\s=@,]*)")


def find_paths(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Words, and parts of words, that look like paths: with a slash, or beginning with a dot or a tilde."""
    found: list[str] = []
    for word in argv[1:]:
        if "/" in word or word.startswith(("~", ".")):
            if not word.startswith("-"):
                found.append(normalize_path(word))
            found += [normalize_path(match[1]) for match in _EMBEDDED_PATH.finditer(word) if match[1] != word]
    return tuple(dict.fromkeys(found))


def normalize_path(path: str) -> str:
    """A path without `.` and `//`; a relative one stays relative. `..` stays, because where it leads depends on links of the target."""
    joined = "/".join(part for part in path.split("/") if part not in {"", "."})
    return f"/{joined}" if path.startswith("/") else joined or "."
