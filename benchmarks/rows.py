"""One line of the table: ours beside its peer, with floor and aim. Arithmetic only; nothing is measured here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, Literal

GATING_GROUPS: Final = frozenset({"policy", "evidence", "memory"})
"""Groups whose floors decide the exit code. The others are ratios to programs in C, shown and not enforced."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A floor or an aim: a limit on the value itself, or on its ratio to the peer.

    Attributes:
        side: "min" where larger is better.
    """

    of: Literal["ratio", "value"]
    side: Literal["min", "max"]
    limit: float

    def is_met(self, value: float, ratio: float | None) -> bool | None:
        """Whether it holds; None where there is nothing to compare with."""
        measured = ratio if self.of == "ratio" else value
        if measured is None:
            return None
        return measured >= self.limit if self.side == "min" else measured <= self.limit

    def describe(self, unit: str, peer_name: str | None) -> str:
        """As the table shows it, such as ">= 0.5 x pgbouncer"."""
        sign = ">=" if self.side == "min" else "<="
        return f"{sign} {self.limit:g} x {peer_name}" if self.of == "ratio" else f"{sign} {self.limit:,g} {unit}"


@dataclass(frozen=True, slots=True)
class Row:
    """One measured line.

    Attributes:
        group: what `--only` selects by.
        ratio: ours over peer; where rounds were interleaved, the median of the rounds' own ratios.
        notes: the conditions: transcript mode, release point, spread.
    """

    group: str
    name: str
    ours: float
    unit: str
    peer: float | None = None
    peer_name: str | None = None
    ratio: float | None = None
    floor: Bound | None = None
    aim: Bound | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def floor_met(self) -> bool | None:
        return None if self.floor is None else self.floor.is_met(self.ours, self.ratio)

    @property
    def aim_met(self) -> bool | None:
        return None if self.aim is None else self.aim.is_met(self.ours, self.ratio)

    def as_json(self) -> dict[str, Any]:
        """The row as `sealgate bench --json` prints it."""
        return {
            "group": self.group,
            "name": self.name,
            "ours": shorten(self.ours),
            "peer": None if self.peer is None else shorten(self.peer),
            "peer_name": self.peer_name,
            "unit": self.unit,
            "ratio": None if self.ratio is None else shorten(self.ratio),
            "floor": None if self.floor is None else self.floor.describe(self.unit, self.peer_name),
            "floor_met": self.floor_met,
            "aim": None if self.aim is None else self.aim.describe(self.unit, self.peer_name),
            "aim_met": self.aim_met,
            "notes": list(self.notes),
        }


def compare(
    group: str,
    name: str,
    unit: str,
    ours: Sequence[float],
    peer: Sequence[float],
    peer_name: str,
    *,
    floor: Bound | None = None,
    aim: Bound | None = None,
    notes: Sequence[str] = (),
    pick: Callable[[Sequence[float]], float] = median,
) -> Row:
    """A row of interleaved rounds: the medians, and the median of each round's own ratio, which a busy minute moves least.

    Args:
        pick: which round's value is shown; `max` for a rate with a floor of its own that nothing but the machine's other work lowers.
    """
    if len(ours) != len(peer) or not ours:
        raise ValueError("each round measures both")
    ratio = median(mine / theirs for mine, theirs in zip(ours, peer, strict=True))
    return Row(group, name, pick(ours), unit, pick(peer), peer_name, ratio, floor, aim, notes)


def is_passed(rows: Sequence[Row]) -> bool:
    """Whether every floor that gates holds."""
    return all(row.floor_met is not False for row in rows if row.group in GATING_GROUPS)


def shorten(value: float) -> float:
    """Three digits are what a shared machine can repeat; integers stay whole."""
    return round(value) if abs(value) >= 1000 else float(f"{value:.3g}")  # noqa: PLR2004


def format_table(rows: Sequence[Row]) -> list[str]:
    """The rows for a person, one line each and their notes below."""
    head = ("what", "ours", "peer", "ratio", "floor", "aim")
    body = []
    for row in rows:
        shown = row.as_json()
        peer = "" if row.peer is None else f"{shown['peer']:,} {row.peer_name}"
        ratio = "" if row.ratio is None else f"{shown['ratio']:g}"
        body.append(
            (
                row.name,
                f"{shown['ours']:,} {row.unit}",
                peer,
                ratio,
                _verdict(shown["floor"], row.floor_met),
                _verdict(shown["aim"], row.aim_met),
            )
        )
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in (head, *body)]
    notes = [f"  {row.name}: {'; '.join(row.notes)}" for row in rows if row.notes]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:], "", *notes]


def _verdict(bound: str | None, is_met: bool | None) -> str:
    if bound is None:
        return ""
    return f"{bound} {'?' if is_met is None else 'yes' if is_met else 'NO'}"
