"""The text of SQL statements as evidence may hold it: structure stays, sensitive literals go.

A lexer of PostgreSQL's literals and comments, no grammar: what a statement does is decided in `sealgate_native.sql`. Text that ends
inside a literal is treated as literal to its end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sealgate_native.mask import REDACTED, Detectors

Kind = Literal["string", "number", "identifier", "comment", "other"]


@dataclass(frozen=True, slots=True)
class Token:
    """One stretch of the text. `value` is what a string literal or comment says, its escapes undone."""

    kind: Kind
    text: str
    value: str = ""


# One alternative per way a token can begin; each is linear. Bodies of dollar quotes and comments are found by hand.
_START: Final = re.compile(
    r"""
      (?P<dollar>  \$(?:[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*)?\$ )
    | (?P<line>    --[^\n]* )
    | (?P<block>   /\* )
    | (?P<escape>  [eE]'(?:[^'\\]|\\.|'')*'? )
    | (?P<unicode> [uU]&'(?:[^']|'')*'? )
    | (?P<bits>    [bBxX]'[^']*'? )
    | (?P<plain>   (?:[nN])?'(?:[^']|'')*'? )
    | (?P<quoted>  (?:[uU]&)?"(?:[^"]|"")*"? )
    | (?P<word>    [A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]* )
    | (?P<space>   \s+ )
    | (?P<number>  (?:0[xX][0-9A-Fa-f_]+|(?:[0-9][0-9_]*)?\.?[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?) )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)

_ESCAPE: Final = re.compile(r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_UNICODE_ESCAPE: Final = re.compile(r"\\(?:\+([0-9A-Fa-f]{6})|([0-9A-Fa-f]{4})|(\\))")
_LETTERS: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LAST_CODE_POINT: Final = 0x10FFFF

_NEEDS_LEXER: Final = re.compile(r"\\|''|'\s+'|[uU]&|[bBxX]'|[Pp][Aa][Ss][Ss][Ww][Oo][Rr][Dd]")
"""What makes a literal say something else than it shows, or sensitive by the word before it. Without it a literal's value stands
in the text as it is, and one pass over the whole text finds what passes over the literals would."""

_HIDDEN: Final[Mapping[Kind, str]] = {"string": f"'{REDACTED}'", "number": "0", "comment": "/* */"}


def read_tokens(text: str) -> Iterator[Token]:
    """The text cut into tokens; joined together they are the text again."""
    at = 0
    while at < len(text):
        match = _START.match(text, at)
        if match is None:  # `other` takes any character
            raise AssertionError("a lexer that takes every character met one it does not take")
        kind = match.lastgroup
        if kind == "dollar":
            token = _dollar_quoted(text, at, match.group())
        elif kind == "block":
            token = _block_comment(text, at)
        else:
            token = _simple(kind or "other", match.group())
        yield token
        at += len(token.text)


def _simple(kind: str, text: str) -> Token:
    if kind in _DECODERS:
        return Token("string", text, _DECODERS[kind](text))
    return Token(_KINDS.get(kind, "other"), text, text)


def _inside(quoted: str) -> str:
    body = quoted[1:-1] if len(quoted) > 1 and quoted.endswith("'") else quoted[1:]
    return body.replace("''", "'")


def _unescape(match: re.Match[str]) -> str:
    octal, byte, short, long, letter = match.groups()
    if letter is not None:
        return _LETTERS.get(letter, letter)
    code = int(octal, 8) if octal else int(byte or short or long, 16)
    return chr(code) if code <= _LAST_CODE_POINT else ""


def _unescape_unicode(match: re.Match[str]) -> str:
    long, short, _ = match.groups()
    if long is None and short is None:
        return "\\"
    code = int(long or short, 16)
    return chr(code) if code <= _LAST_CODE_POINT else ""


def _read_bits(prefix: str, body: str) -> str:
    """The characters a hexadecimal string spells; anything else as it stands."""
    if prefix in "xX":
        try:
            return bytes.fromhex(body).decode("latin-1")
        except ValueError:
            return body
    return body


_KINDS: Final[Mapping[str, Kind]] = {"line": "comment", "quoted": "identifier", "number": "number"}
_DECODERS: Final[Mapping[str, Callable[[str], str]]] = {
    "escape": lambda text: _ESCAPE.sub(_unescape, _inside(text[1:])),
    "unicode": lambda text: _UNICODE_ESCAPE.sub(_unescape_unicode, _inside(text[2:])),
    "bits": lambda text: _read_bits(text[0], _inside(text[1:])),
    "plain": lambda text: _inside(text.lstrip("nN")),
}


def _dollar_quoted(text: str, at: int, tag: str) -> Token:
    end = text.find(tag, at + len(tag))
    whole = text[at:] if end < 0 else text[at : end + len(tag)]
    return Token("string", whole, whole[len(tag) :] if end < 0 else whole[len(tag) : -len(tag)])


_COMMENT_MARK: Final = re.compile(r"/\*|\*/")


def _block_comment(text: str, at: int) -> Token:
    """PostgreSQL nests block comments."""
    depth, end = 0, len(text)
    for mark in _COMMENT_MARK.finditer(text, at):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            end = mark.end()
            break
    return Token("comment", text[at:end], text[at:end])


def mask_sql(text: str, detectors: Detectors, *, hide_literals: bool = False) -> tuple[str, Counter[str]]:
    """The text with every string literal that holds a finding replaced as a whole, and findings anywhere else in place.

    A literal directly after the word PASSWORD is always replaced. Literals are read with their escapes undone, so that
    spelling a value in another way does not hide it.

    Args:
        text: one or more statements, as the agent sent them.
        detectors: what to look for.
        hide_literals: replace every string and number and drop every comment's text, whatever it holds.

    Returns:
        The masked text, and findings by detector.
    """
    if not hide_literals and not _NEEDS_LEXER.search(text) and not detectors.scan(text.encode("utf-8", "surrogatepass")):
        return text, Counter()
    counts: Counter[str] = Counter()
    parts: list[str] = []
    before = ""
    has_own_escape = "UESCAPE" in text.upper()
    for token in _join_continued(read_tokens(text)):
        if has_own_escape and token.text[:2].upper() == "U&" and token.kind == "string":
            # UESCAPE stands behind the literal it changes; rather than guess which, none of these is kept.
            before = "PASSWORD"
        parts.append(_mask_token(token, before, detectors, counts, hide_literals=hide_literals))
        if token.kind != "comment" and not token.text.isspace():
            before = token.text.upper()
    # Words before a value, as in `ssn = 123456789`, are seen only over the whole text.
    masked, found = detectors.mask("".join(parts).encode("utf-8", "surrogatepass"))
    counts.update(found)
    return masked.decode("utf-8", "replace"), counts


def _join_continued(tokens: Iterable[Token]) -> Iterator[Token]:
    """String literals with only a line end between them are one literal to PostgreSQL."""
    held: list[Token] = []
    for token in tokens:
        continues = len(held) > 1 and token.kind == "string" and token.text.startswith("'")
        if continues:
            held = [Token("string", "".join(part.text for part in [*held, token]), held[0].value + token.value)]
        elif len(held) == 1 and token.text.isspace() and "\n" in token.text:
            held.append(token)
        else:
            yield from held
            held = [token] if token.kind == "string" and not token.text.startswith("$") else []
            if not held:
                yield token
    yield from held


def _mask_token(token: Token, before: str, detectors: Detectors, counts: Counter[str], *, hide_literals: bool) -> str:
    if hide_literals:
        return _HIDDEN.get(token.kind, token.text)
    if token.kind != "string":
        return token.text
    if before == "PASSWORD":
        counts["generic_secret"] += 1
        return "'[masked:generic_secret]'"
    found = detectors.scan(token.value.encode("utf-8", "surrogatepass"))
    if not found:
        return token.text
    counts.update(name for name, _, _ in found)
    return f"'[masked:{found[0][0]}]'"
