"""Which program of a command line would run standard input as code.

`bash -s`, `python3 -`, `psql`: what such a program does lies in its input, so the gateway reads that first. Each known interpreter has
its options here, because only who knows every option of a line knows that a word names its code; an option that is not known counts as
one that leaves the code to standard input. Where a line cannot be read, any name of such a program in it counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.protocols.ssh.commands import Command, name_program, normalize_path, read_command, unwrap
from gateway.protocols.ssh.lists import split_list

SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "busybox", "fish", "rbash", "csh", "tcsh", "pwsh"})

_POSIX_SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "rbash"})
"""Shells of one family: their letters take no value, but for `o` and `O`."""

INTERPRETERS: Final = frozenset({
    "python", "perl", "ruby", "node", "nodejs", "php", "lua", "tclsh", "expect", "awk", "gawk", "mawk", "deno", "bun", "R",
    "Rscript", "guile", "osascript", "julia", "groovy",
})  # fmt: skip
"""Programs that run code given to them; `python3.11` counts as python."""

STATEMENT_READERS: Final = frozenset({
    "psql", "mysql", "mariadb", "sqlite3", "sqlcmd", "sqlplus", "mongosh", "mongo", "redis-cli", "gdb", "ed", "ex", "bc", "dc",
    "m4", "at", "batch", "crontab", "parallel", "xargs", "ssh", "ftp", "sftp", "telnet", "nc", "ncat", "socat",
})  # fmt: skip
"""Programs that take statements, jobs or further commands on standard input."""

RUNNERS: Final = frozenset({
    "find", "strace", "ltrace", "watch", "script", "flock", "taskset", "chrt", "setarch", "setpriv", "fakeroot", "pkexec", "gosu", "su-exec",
    "sg", "docker", "podman", "kubectl", "ssh-agent", "dbus-run-session", "unshare", "nsenter", "systemd-run", "runuser", "chroot",
})  # fmt: skip
"""Programs that run another one, with options too many to know: the name of an interpreter among their words is enough."""

_SHELL_BY_ITSELF: Final = frozenset({"su", "sudo", "newgrp", "doas", "runuser", "chroot", "unshare", "nsenter", "systemd-run"})
"""Programs that start a shell, or may, where no program is named."""

_INERT: Final = frozenset({
    "sleep", "echo", "true", "false", ":", "test", "printf", "pwd", "cd", "uname", "id", "whoami", "hostname", "date", "ls", "stat", "wc",
    "head", "tail", "cat", "grep", "mkdir", "rmdir", "rm", "chmod", "chown",
})  # fmt: skip
"""What may stand beside an interpreter in a list: it runs nothing, sets nothing that changes a later command, and makes no program."""

_PLAIN_WRAPPERS: Final = frozenset({"sudo", "nohup", "-H", "-S", "-n", "-E", "-k", "--"})
_VALUED_WRAPPER_OPTIONS: Final = frozenset({"-u", "-g", "-p"})
"""Words that may stand before a program in a list, and those of them that take the next word."""

_PLACES_OF_INPUT: Final = frozenset({"dev", "proc", "fd", "stdin", "tty"})
"""Parts of paths that may be standard input by another name."""

_CONSOLES: Final = frozenset({"code", "asyncio", "pdb", "bdb", "IPython", "ptpython", "bpython", "sqlite3", "idlelib", "_pyrepl", "cProfile", "profile", "trace", "runpy"})  # fmt: skip
"""Modules that, run by `python -m`, read code of their own accord or run any file."""


@dataclass(frozen=True, slots=True)
class _Usage:
    """How a program's words say where its code is. Letters are options of one hyphen, which may be joined.

    Attributes:
        flags: letters without a value; valued: with one; attached: with one in the same word, if any.
        code: options whose value is code; files: whose value is a file of code; last: of these, those after which no option follows.
        done: letters after which standard input is of no interest.
        long: other long options, without a value; long_valued: with one.
        operand: what the first word that is no option is; `skip` is followed by options again.
        subcommand: a word that must come first.
        is_sticky: whether an unknown `--name=value` is certain to name no code.
    """

    flags: str = ""
    valued: str = ""
    attached: str = ""
    code: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    last: str = ""
    done: str = ""
    long: tuple[str, ...] = ()
    long_valued: tuple[str, ...] = ()
    operand: str = "file"
    subcommand: str = ""
    is_sticky: bool = False
    not_files: frozenset[str] = field(default_factory=frozenset)


_AWK: Final = _Usage(valued="Fv", files=("-f", "--file"), operand="code")
_MYSQL: Final = _Usage(
    flags="BNsvtfqwACn", valued="uhPDS", attached="p", code=("-e", "--execute"), operand="skip",
    long=("--password", "--batch", "--silent", "--skip-column-names", "--table", "--raw"),
    long_valued=("--user", "--host", "--port", "--database", "--socket", "--protocol"),
)  # fmt: skip
_NODE: Final = _Usage(
    valued="r", code=("-e", "--eval", "-p", "--print"), long_valued=("--require", "--import"), is_sticky=True,
    not_files=frozenset({"inspect", "debug", "repl"}),
)  # fmt: skip

_USAGES: Final[dict[str, _Usage]] = {
    "python": _Usage(
        flags="bBdEIOPqsSuvx", valued="WX", code=("-c", "-m"), last="cm", done="hV", long=("--version", "--help"),
        long_valued=("--check-hash-based-pycs",),
    ),
    "perl": _Usage(
        flags="acnpsStTuUwWXl01234567", valued="I", attached="iFMm", code=("-e", "-E"), done="vV", long=("--version", "--help"),
    ),
    "ruby": _Usage(flags="acnplsw", valued="IrC", code=("-e",), done="h", long=("--version", "--help")),
    "node": _NODE,
    "nodejs": _NODE,
    "php": _Usage(flags="nqsw", valued="dc", code=("-r",), files=("-f",), done="vim"),
    "lua": _Usage(flags="EW", valued="l", code=("-e",)),
    "tclsh": _Usage(),
    "expect": _Usage(files=("-f",)),
    "awk": _AWK,
    "gawk": _AWK,
    "mawk": _AWK,
    "deno": _Usage(subcommand="run"),
    "bun": _Usage(subcommand="run"),
    "R": _Usage(code=("-e",), files=("-f", "--file"), long=("--vanilla", "--no-save", "--slave", "--quiet"), operand="skip"),
    "Rscript": _Usage(code=("-e",), long=("--vanilla",)),
    "guile": _Usage(code=("-c",), files=("-s",)),
    "osascript": _Usage(code=("-e",)),
    "julia": _Usage(code=("-e",)),
    "groovy": _Usage(code=("-e",)),
    "psql": _Usage(
        flags="aAbeEHnqStwWxXz01", valued="dFhLopPRTUv", code=("-c", "--command"), files=("-f", "--file"), done="lV", operand="skip",
        long=("--quiet", "--tuples-only", "--no-align", "--no-psqlrc", "--csv", "--no-password", "--single-transaction", "--expanded"),
        long_valued=("--dbname", "--host", "--port", "--username", "--set", "--variable", "--output", "--pset", "--field-separator"),
    ),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "su": _Usage(flags="lmp", code=("-c", "--command"), long=("--login", "--preserve-environment"), operand="skip"),
    "crontab": _Usage(valued="u", done="lr", operand="skip"),
    "redis-cli": _Usage(
        flags="c", valued="hpansurit", operand="code", long=("--raw", "--no-raw", "--csv", "--json", "--tls", "--no-auth-warning"),
        long_valued=("--user", "--pass", "--cacert", "--cert", "--key", "--sni"),
    ),
}  # fmt: skip


def find_script_reader(command: Command, line: str) -> str | None:
    """The program of a command line that would run standard input as code; None where none would.

    Where the line cannot be read into its commands, a name of such a program anywhere in it is enough: a pipe may lead to it.
    """
    if command.stages:
        return next(filter(None, map(_find_reader, command.stages)), None)
    commands = split_list(line)
    if not commands or not all(map(_is_understood, commands)):
        return _find_name(line)
    return next(filter(None, map(_find_reader, commands)), None)


def _find_name(text: str) -> str | None:
    """A name of such a program anywhere in a text, as it stands or with the quotes taken out of it."""
    words = re.findall(r"[A-Za-z][A-Za-z0-9.+-]*", f"{text}\n" + re.sub(r"[\"'\\]", "", text))
    return next((word for word in words if _runs_code(word)), None)


def _is_understood(words: tuple[str, ...]) -> bool:
    """Whether a command of a list does nothing that could make the next one another than it seems."""
    if words[0] in {"command", "builtin"}:
        # `command -v NAME` only looks; anything else under these names is run.
        return words[:2] == ("command", "-v") and all(not word.startswith("-") for word in words[2:])
    wrappers, argv = unwrap(words)
    if not argv or not all(map(_is_plain_path, words)):
        return False
    before = words[: len(words) - len(argv)]
    if wrappers and any(
        word not in _PLAIN_WRAPPERS | _VALUED_WRAPPER_OPTIONS and before[index - 1] not in _VALUED_WRAPPER_OPTIONS
        for index, word in enumerate(before)
    ):
        return False
    program = name_program(argv[0])
    if program == "printf":
        return not argv[1:2] or not argv[1].startswith("-")  # `printf -v` sets a variable
    return program in _INERT or _runs_code(_base(program))


def _is_plain_path(word: str) -> bool:
    """Whether a word, taken as a path, is certain not to be standard input by another name."""
    path = normalize_path(word)
    parts = path.split("/")
    if path == "/dev/null":
        return True
    if path.startswith("/") and ".." not in parts:
        return parts[1] not in {"dev", "proc"} and parts[-1] not in {"stdin", "tty"}
    return not _PLACES_OF_INPUT & set(re.split(r"[^A-Za-z0-9_.]", word))


def _find_reader(whole: tuple[str, ...]) -> str | None:
    """The program of one command that would run standard input."""
    wrappers, argv = unwrap(whole)
    before = whole[: len(whole) - len(argv)]
    if not argv or ("env" in wrappers and any(re.match(r"-[A-Za-z0-9]*S|--s", word) for word in before)):
        return _find_name(" ".join(whole)) or next((name for name in wrappers if name in _SHELL_BY_ITSELF), None)
    program = _base(argv[0])
    if RUNNERS & {program, *wrappers}:
        named = next((word for word in map(_base, whole) if _runs_code(word)), None)
        return named or next((name for name in wrappers if name == "runuser"), None)
    if "env" in wrappers and any("=" in word for word in before):
        return program if _runs_code(program) else None  # PYTHONINSPECT, BASH_ENV: variables that give it more to run
    return _find_program_reader(program, argv[1:]) if _runs_code(program) else None


def _find_program_reader(program: str, words: tuple[str, ...]) -> str | None:
    """The reader where the program is one that runs code: itself, or one in the code it was given."""
    name = _strip_version(program)
    if name in SHELLS:
        return _read_shell(program, words)
    if name in {"xargs", "parallel"}:
        return _read_list_runner(name, words)
    code = _find_code(_USAGES[name], words) if name in _USAGES else None
    if code is None:
        return program
    # `su -c python3`: what that starts reads the same standard input.
    return _read_code(code, ()) if name == "su" else None


def _read_code(code: str, operands: Sequence[str]) -> str | None:
    """The reader in a command line that a shell runs, given with the operands its variables may stand for."""
    command = read_command(code)
    if not command.stages and not split_list(code):
        return _find_name(" ".join((code, *operands)))
    return find_script_reader(command, code)


def _read_shell(program: str, words: tuple[str, ...]) -> str | None:
    """The reader where the program is a shell: itself, or one in the code it was given."""
    has_code = is_interactive = False
    flags = r"-[aefhilnuvxmbBCEHPc]+" if _base(program) in _POSIX_SHELLS else r"-c"
    for index, word in enumerate(words):
        if word in {"--norc", "--noprofile", "--posix", "--login"} and _base(program) == "bash":
            continue
        if re.fullmatch(flags, word):
            # `-s` reads standard input even beside `-c` in some shells; `-o` takes the next word.
            has_code |= "c" in word
            is_interactive |= "i" in word
            continue
        if word.startswith(("-", "+")) and word != "--":
            return program
        rest = words[index + (word == "--") :]
        if not rest:
            return program
        if has_code:
            return _read_code(rest[0], rest[1:])
        # The name of an interpreter can lead to a script that starts it, as those of version managers do.
        is_other = _is_file(rest[0]) and not _runs_code(_base(rest[0]))
        return None if is_other and not is_interactive else program
    return program


def _read_list_runner(name: str, words: tuple[str, ...]) -> str | None:
    """Xargs and parallel make command lines of standard input: harmless only with a fixed program that runs no code."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        if not re.fullmatch(
            r"-[0rtx]+|-[nPLs][0-9]*|-d.*|--null|--no-run-if-empty|--max-args=[0-9]+|--max-procs=[0-9]+", words[at]
        ):
            return name
        at += 2 if words[at] in {"-n", "-P", "-L", "-s", "-d"} else 1
    wrappers, argv = unwrap(words[at:])
    if name == "parallel" or wrappers or not argv or RUNNERS & {_base(argv[0])}:
        return name
    is_harmless = name_program(argv[0]) in _INERT or not any(_runs_code(_base(word)) for word in argv)
    return None if is_harmless else name


def _find_code(usage: _Usage, words: tuple[str, ...]) -> str | None:
    """The code or file that words name, or "" where the program reads nothing; None where they leave it to standard input."""
    if usage.subcommand:
        is_named = words[:1] == (usage.subcommand,)
        words = words[1:] if is_named else ("-",)
    reader, found = _Options(usage, words), None
    while (option := reader.next()) is not None:
        kind, value = option
        if kind == "unknown" or (kind == "file" and not _is_file(value)):
            return None
        if kind == "operand":
            if value == "-" and usage.operand != "skip":
                return None
            if usage.operand != "skip":
                return found or (value if usage.operand == "code" or (_is_file(value) and value not in usage.not_files) else None)
        elif kind in {"code", "file", "done"}:
            if kind == "code" and found is not None and usage.operand == "skip":
                return None  # two of them: which one counts depends on the program
            found = value
        if kind == "last":
            return value if _is_module(value, reader.rest()) else None
    return found


def _is_module(value: str, rest: Sequence[str]) -> bool:
    """Whether a module that is run leaves standard input alone; of code on the command line, "" here, that is not asked."""
    is_quiet = value.split(".", maxsplit=1)[0] not in _CONSOLES and "-" not in rest and all(map(_is_plain_path, rest))
    return not value or is_quiet


class _Options:
    """The options and operands of words by a usage, one after another."""

    def __init__(self, usage: _Usage, words: tuple[str, ...]) -> None:
        self._usage = usage
        self._words = list(words)
        self._letters = ""
        self._is_past = False

    def rest(self) -> Sequence[str]:
        """The words not read yet."""
        return self._words

    def next(self) -> tuple[str, str] | None:
        """What the next option is and its value; None at the end."""
        if self._letters:
            return self._letter()
        if not self._words:
            return None
        word = self._words.pop(0)
        if self._is_past or not word.startswith("-") or word == "-":
            return "operand", word
        if word == "--":
            self._is_past = True
            return self.next()
        if word.startswith("--"):
            return self._long(word)
        self._letters = word[1:]
        return self._letter()

    def _letter(self) -> tuple[str, str]:
        usage, letter = self._usage, self._letters[0]
        self._letters = self._letters[1:]
        option = f"-{letter}"
        if letter in usage.flags:
            return "flag", ""
        if letter in usage.done:
            return "done", ""
        if letter in usage.attached:
            self._letters = ""
            return "flag", ""
        if letter in usage.valued or option in usage.code or option in usage.files:
            value, self._letters = self._letters or None, ""
            return self._with_value(option, value, letter in usage.last)
        return "unknown", ""

    def _long(self, word: str) -> tuple[str, str]:
        usage = self._usage
        name, separator, value = word.partition("=")
        if name in usage.long:
            return "done" if name in {"--version", "--help"} else "flag", ""
        if name in usage.long_valued or name in usage.code or name in usage.files:
            return self._with_value(name, value if separator else None, is_last=False)
        return ("flag" if separator and usage.is_sticky else "unknown"), ""

    def _with_value(self, option: str, value: str | None, is_last: bool) -> tuple[str, str]:
        if value is None:
            if not self._words:
                return "unknown", ""
            value = self._words.pop(0)
        if is_last:
            return "last", value if option == "-m" else ""
        return "code" if option in self._usage.code else "file" if option in self._usage.files else "flag", value


def _is_file(word: str) -> bool:
    """Whether a word names a file that is not standard input by another name."""
    return bool(word) and word != "-" and _is_plain_path(word)


def _base(word: str) -> str:
    return word.rsplit("/", 1)[-1]


def _strip_version(name: str) -> str:
    return re.sub(r"[0-9.]+$", "", name) if name not in STATEMENT_READERS else name


def _runs_code(name: str) -> bool:
    return name in STATEMENT_READERS or _strip_version(name) in SHELLS | INTERPRETERS or name in {"su", "sudo", "newgrp"}
