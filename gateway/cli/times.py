"""Times as the command line takes them."""

from __future__ import annotations

import re
from typing import Any, Final

import click

_PREFIX: Final = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\d(\.\d+)?)?)?Z?)?)?)?")
"""RFC 3339 (5.6) in UTC, from the year on."""


class TimePrefix(click.ParamType[str]):
    """A time in UTC as records have it, or as much of it as is meant: 2026-11, 2026-11-28T09."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is. Raises BadParameter where it is no such time."""
        text = str(value)
        if text and _PREFIX.fullmatch(text) is None:
            self.fail(f"{text!r} is no time in UTC; write 2026-11-28, or 2026-11-28T09:30:00Z", param, ctx)
        return text
