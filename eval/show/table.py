"""Tables: one list of columns, written for the terminal, as Markdown and as HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worldplan.eval.statistics.estimate import Estimate

ROUNDING = 1e-6  # numbers below are shown as 0


@dataclass(frozen=True)
class Cell:
    """What stands in a cell.

    Attributes:
        text: the value.
        interval: its 95% interval, beside or below; empty where there is none.
        order: the number or text that the cell is sorted by in HTML; empty comes last, whichever way.
    """

    text: str
    interval: str = ""
    order: str = ""

    def __str__(self) -> str:
        """Value and interval, in lines as short as can be: many columns have to fit a terminal."""
        return f"{self.text}\n[{self.interval}]".replace(", ", ",\n") if self.interval else self.text


NONE = Cell("–")


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        head: its heading.
        meaning: what it means, a sentence; empty where the heading says it.
        short: heading in a terminal, broken into lines; None is `head`, and empty leaves the column out there.
        named: whether it holds text, which is sorted and aligned as such.
    """

    head: str
    meaning: str = ""
    short: str | None = None
    named: bool = False


@dataclass(frozen=True)
class Table:
    """A table, and what a reader has to know about it.

    Attributes:
        title: what it shows, in a line.
        columns: headings; strings stand for columns without more.
        rows: a cell or a text for each column.
        notes: sentences below.
    """

    title: str
    columns: Sequence[Column | str] = ()
    rows: Sequence[Sequence[Cell | str]] = ()
    notes: Sequence[str] = ()

    def also(self, *notes: str) -> Table:
        """The same with more notes."""
        return replace(self, notes=[*self.notes, *notes])

    def heads(self) -> list[Column]:
        """The columns."""
        return [Column(c) if isinstance(c, str) else c for c in self.columns]

    def lines(self) -> tuple[list[str], list[list[str]]]:
        """Headings and rows for a terminal, without the columns that are left out there."""
        heads = [c.head if c.short is None else c.short for c in self.heads()]
        shown = [k for k, c in enumerate(self.heads()) if c.short != ""]
        return [heads[k] for k in shown], [[str(row[k]) for k in shown] for row in self.rows]

    def markdown(self) -> str:
        """The table alone, as Markdown."""
        heads = [c.head for c in self.heads()]
        lines = [heads, ["---"] * len(heads), *([str(cell) for cell in row] for row in self.rows)]
        return "\n".join("| " + " | ".join(cell.replace("\n", " ") for cell in line) + " |" for line in lines)


def facts_table(title: str, facts: Iterable[tuple[str, str]], notes: Sequence[str] = ()) -> Table:
    """What, and how much, without headings."""
    return Table(title, ("", ""), [list(fact) for fact in facts], notes)


def number(value: Any, scale: float = 1.0, unit: str = "") -> Cell:
    """An `Estimate` with its interval, or a plain number; `NONE` for None and for what is not finite.

    Args:
        value: an `Estimate`, a number or None.
        scale: what it is multiplied by.
        unit: follows the number, such as `%`.
    """
    if value is None:
        return NONE
    known = value if isinstance(value, Estimate) else Estimate(value, math.nan, math.nan)
    if not math.isfinite(known.value):
        return NONE
    low, high = (digits(scale * x) for x in (known.low, known.high))
    interval = f"{low}, {high}" if math.isfinite(known.low) and math.isfinite(known.high) else ""
    return Cell(digits(scale * known.value) + unit, interval, repr(float(known.value)))


def digits(value: float) -> str:
    """Three decimals, where results differ; three digits of what is large, one of what is small, none of rounding."""
    if abs(value) < ROUNDING:
        return "0"
    return f"{value:.3f}" if 5e-4 <= abs(value) < 10 else f"{value:.3g}" if abs(value) >= 10 else f"{value:.0e}"
