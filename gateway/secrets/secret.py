"""A secret in memory that no log, error or debugger print shows by accident."""

from __future__ import annotations

import hmac
from typing import NoReturn

from gateway.errors import SecretError


class Secret:
    """Bytes that show themselves only when `reveal` or `reveal_text` is called.

    Args:
        value: the secret.
        reference: where it came from, shown in its place.
    """

    __slots__ = ("_value", "reference")

    def __init__(self, value: bytes, reference: str) -> None:
        self._value = value
        self.reference = reference

    def reveal(self) -> bytes:
        """The secret itself."""
        return self._value

    def reveal_text(self) -> str:
        """The secret as text. Raises SecretError when it is not UTF-8."""
        try:
            return self._value.decode("utf-8")
        except UnicodeDecodeError:
            raise SecretError(
                f"{self.reference} is not text", why="its bytes are not UTF-8", fix="store the secret as UTF-8 text"
            ) from None

    def __repr__(self) -> str:
        return f"Secret({self.reference!r})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a hash would tell equal secrets apart from others in a dump

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")
