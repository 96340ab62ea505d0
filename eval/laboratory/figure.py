"""What figures of the laboratory share: curves with intervals, and legends off the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from worldplan.eval.statistics.estimate import Estimate


def curve(axes: Axes, x: Sequence[float], estimates: Sequence[Estimate], **style: Any) -> None:
    """A line through estimates, with bars for the intervals of those that have one."""
    values = np.array([(e.value, e.value - e.low, e.high - e.value) for e in estimates]).reshape(-1, 3)
    axes.errorbar(x, values[:, 0], np.nan_to_num(values[:, 1:].T), marker="o", ms=4, capsize=2, **style)


def logarithmic(axes: Axes) -> None:
    """Logarithmic axes of what is drawn, with plain numbers at decades; also at 2 and 5 where an axis spans little."""
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def legend_below(axes: Axes, left: float = 0.0) -> None:
    """A legend under the axes, which begins at a share of their width."""
    under = (left, -0.2)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=under, ncols=3, columnspacing=0.8)
