"""Command lists, `a && b; c | d`, read into their simple commands where that is certain.

`read_command` calls a line with `&&`, `||` or `;` shell syntax, and policy sees it so. This reader answers a smaller question, whether
standard input of such a line is code, and needs the words of every command in it. It knows the token rules for blanks, quotes, backslashes
and those three operators and the pipe (POSIX.1-2024, XCU 2.2, 2.3 and 2.9); at anything else a shell could give a meaning to, it gives up.
"""

from __future__ import annotations

from typing import Final

from gateway.protocols.ssh.commands import ASSIGNMENT, MAX_COMMAND_BYTES, RESERVED_WORDS

_MEANINGFUL: Final = frozenset("<>()$`*?[]{}!~#^%=&\n")
"""What may mean more than itself outside quotes; `=` and `#` only where a word begins."""

_ESCAPABLE: Final = frozenset('"\\')
"""What a backslash takes the meaning from inside double quotes, beside what is not read there at all."""


class _UnreadableError(Exception):
    """The line holds more than this reader knows."""


class _ListReader:
    """Reads one line, token by token."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._at = 0
        self._word: list[str] | None = None
        self._is_quoted = False
        self._needs_command = True
        self.commands: list[list[str]] = [[]]

    def read(self) -> None:
        while (char := self._take()) is not None:
            if char in " \t":
                self._end_word()
            elif char == "'":
                self._single()
            elif char == '"':
                self._double()
            elif char == "\\":
                self._put(self._escaped(), is_quoted=True)
            elif char in "|;&":
                self._operator(char)
            else:
                self._literal(char)
        self._end_word()
        if not self.commands[-1]:
            if self._needs_command:  # only `;` may stand at the end
                raise _UnreadableError
            self.commands.pop()

    def _take(self) -> str | None:
        if self._at >= len(self._line):
            return None
        char = self._line[self._at]
        self._at += 1
        if not char.isascii() or not (char.isprintable() or char == "\t"):
            raise _UnreadableError  # line ends too; and what bytes mean may depend on the locale
        return char

    def _operator(self, char: str) -> None:
        self._end_word()
        is_double = self._line[self._at : self._at + 1] == char
        if char in "&;" and is_double != (char == "&"):
            raise _UnreadableError  # `&` alone leaves a command running, `;;` belongs to `case`
        self._at += is_double
        if not self.commands[-1]:
            raise _UnreadableError
        self.commands.append([])
        self._needs_command = char != ";"

    def _literal(self, char: str) -> None:
        if char in _MEANINGFUL and (char not in "=#" or self._word is None):
            raise _UnreadableError
        self._put(char)

    def _single(self) -> None:
        while (char := self._take()) != "'":
            if char is None:
                raise _UnreadableError
            self._put(char, is_quoted=True)
        self._put("", is_quoted=True)

    def _double(self) -> None:
        while (char := self._take()) != '"':
            if char is None or char in "$`!":
                raise _UnreadableError
            if char == "\\" and self._line[self._at : self._at + 1] in {"$", "`", "\n"}:
                raise _UnreadableError
            if char == "\\" and self._line[self._at : self._at + 1] in _ESCAPABLE:
                char = self._escaped()
            self._put(char, is_quoted=True)
        self._put("", is_quoted=True)

    def _escaped(self) -> str:
        char = self._take()
        if char is None:
            raise _UnreadableError
        return char

    def _put(self, text: str, *, is_quoted: bool = False) -> None:
        self._word = [] if self._word is None else self._word
        self._word.append(text)
        self._is_quoted |= is_quoted

    def _end_word(self) -> None:
        if self._word is None:
            return
        word = "".join(self._word)
        if not self.commands[-1] and (ASSIGNMENT.match(word) or (word in RESERVED_WORDS and not self._is_quoted)):
            raise _UnreadableError
        self.commands[-1].append(word)
        self._word, self._is_quoted = None, False


def split_list(line: str) -> tuple[tuple[str, ...], ...]:
    """The words of each simple command of a line, in the order they stand; () where the line is more than a list of them."""
    if len(line) > MAX_COMMAND_BYTES:
        return ()
    reader = _ListReader(line)
    try:
        reader.read()
    except _UnreadableError:
        return ()
    return tuple(map(tuple, reader.commands))
