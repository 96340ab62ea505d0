"""Tables with one list of columns, for the terminal, Markdown and HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worldplan.eval.statistics.estimate import Estimate
from worldplan.rounding import bounds, percent, rounded

ROUNDING = 1e-6  # smaller numbers are shown as 0


@dataclass(frozen=True)
class Cell:
    """A cell: text, and its 95% interval or empty.

    `order` is the number or text that HTML sorts by; empty comes last in both directions.
    """

    text: str
    interval: str = ""
    order: str = ""

    def __str__(self) -> str:
        """Value and interval on short lines, so that many columns fit a terminal."""
        return f"{self.text}\n[{self.interval}]".replace(", ", ",\n") if self.interval else self.text


NONE = Cell("–")


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        meaning: a sentence; empty if the heading is enough.
        short: heading in a terminal, broken into lines; None means `head`, and empty omits the column there.
        named: whether it holds text, which is sorted and aligned as such.
    """

    head: str
    meaning: str = ""
    short: str | None = None
    named: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a one-line title and, below, a sentence per note; a string stands for a plain column or cell."""

    title: str
    columns: Sequence[Column | str] = ()
    rows: Sequence[Sequence[Cell | str]] = ()
    notes: Sequence[str] = ()

    def also(self, *notes: str) -> Table:
        """The same with more notes."""
        return replace(self, notes=[*self.notes, *notes])

    def heads(self) -> list[Column]:
        """All columns, strings included, as `Column`."""
        return [Column(c) if isinstance(c, str) else c for c in self.columns]

    def lines(self) -> tuple[list[str], list[list[str]]]:
        """Headings and rows for a terminal, without the columns omitted there."""
        heads = [c.head if c.short is None else c.short for c in self.heads()]
        shown = [k for k, c in enumerate(self.heads()) if c.short != ""]
        return [heads[k] for k in shown], [[str(row[k]) for k in shown] for row in self.rows]

    def markdown(self) -> str:
        """The table as Markdown, without title and notes."""
        heads = [c.head for c in self.heads()]
        lines = [heads, ["---"] * len(heads), *([str(cell) for cell in row] for row in self.rows)]
        escaped = ([cell.replace("\n", " ").replace("|", "\\|") for cell in line] for line in lines)
        return "\n".join("| " + " | ".join(line) + " |" for line in escaped)


def facts_table(title: str, facts: Iterable[tuple[str, str]], notes: Sequence[str] = ()) -> Table:
    """A table of names and values, without headings."""
    return Table(title, ("", ""), [list(fact) for fact in facts], notes)


def number(value: Any, scale: float = 1.0, unit: str = "") -> Cell:
    """An `Estimate` with its interval, or a number, times `scale`, then `unit`; `NONE` for None and non-finite."""
    if value is None:
        return NONE
    known = value if isinstance(value, Estimate) else Estimate(value, math.nan, math.nan)
    if not math.isfinite(known.value):
        return NONE
    middle, low, high = (0.0 if abs(scale * x) < ROUNDING else scale * x for x in (known.value, known.low, known.high))
    interval = ", ".join(bounds(middle, low, high)) if math.isfinite(low) and math.isfinite(high) else ""
    return Cell(rounded(middle) + unit, interval, repr(float(known.value)))


def rate(value: Estimate, count: int | None = None) -> Cell:
    """A share as per cent, or as so many of `count`, with its interval."""
    text = percent(value.value) if count is None else f"{round(value.value * count)} of {count}"
    return Cell(text, f"{percent(value.low)}, {percent(value.high)}", str(value.value))
