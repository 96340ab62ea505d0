"""Numbers as people read them, in tables, sentences and on the command line; JSON files keep more digits.

An estimate has three significant digits, or two below .1; an interval has the decimals of its estimate, a share has one
decimal of its per cent, and counts stay whole. Errors near rounding are told by their power of ten, and what a user set
as it was set.
"""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

MILLION = 1e6


def rounded(value: float) -> str:
    """Three significant digits, two below .1: 12,346, 104, 12.8, 1.00 for .9999998, 0.052. Counts and 0 as they are."""
    if isinstance(value, Integral):
        return f"{value:,}"
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if 999.5 <= abs(value) < MILLION:
        return f"{value:,.0f}"
    return f"{value:#.{3 if abs(value) >= 0.1 else 2}g}".removesuffix(".")


def bounds(value: float, low: float, high: float) -> tuple[str, str]:
    """The ends of an interval, with the decimals of its estimate, but no finer than its width."""
    places = min(_places(value), _places(high - low))
    if not math.isfinite(places):
        return rounded(low), rounded(high)
    return f"{low:z,.{places}f}", f"{high:z,.{places}f}"


def percent(share: float) -> str:
    """A share as per cent, with one decimal where it is not zero: 92.7%, 100%."""
    if 0 < abs(share) < 0.0005:
        return f"{rounded(100 * share)}%"
    return f"{100 * share:.1f}".removesuffix(".0") + "%" if math.isfinite(share) else "–"


def shown(value: Any) -> str:
    """A JSON value: numbers rounded, lists of them side by side, anything else as its text."""
    if isinstance(value, list):
        return "  ".join(map(shown, value))
    return rounded(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _places(value: float) -> float:
    """Decimals of a number in `rounded`; infinitely many for 0 and in powers of ten, which say nothing of them."""
    text = rounded(value)
    return math.inf if text in ("0", "–") or "e" in text else len(text.partition(".")[2])
