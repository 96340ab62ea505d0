"""The control-cost figure of a reproduction, as PNG bytes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from worldplan.eval.control.open_loop import PLANS, OpenLoopRow
from worldplan.eval.control.paths import path_cost
from worldplan.eval.reproduce.published import COST_RATIO, POINTS
from worldplan.eval.reproduce.run import Reproduction
from worldplan.eval.show.style import BLUE, GREEN, ORANGE, png, tidy

COLOURS = {"ou": BLUE, "random": GREEN, "sac": ORANGE}
NAMES = {"ou": "Gaussian pairs", "random": "random torques", "sac": "SAC"}
FLOOR = "0.2"


def draw_control_cost(report: Reproduction) -> bytes:
    """A PNG. Left: straight lines in each latent over those in joint space. Right: cheapest plans over the optimum.

    Left: a dot is an encoder's median over pairs, and its bar ends at the 95th percentile. Right: lines are means over
    encoders, and bands reach from the best to the worst encoder.
    """
    figure = Figure(figsize=(12.0, 4.8), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1.0])
    _lines(left, report)
    _optima(right, report)
    figure.suptitle(f"Open-loop control cost of plans made in the latent, scale {report.name}", fontsize=12)
    return png(figure)


def _lines(axes: Axes, report: Reproduction) -> None:
    library = max(report.scale.libraries)
    for place, row in enumerate(report.rows):
        ratios = [path.to_line for s in row.done for path in s.paths if (path.plan, path.library) == ("line", library)]
        for k, ratio in enumerate(ratios):
            x = place + 0.16 * (k - (len(ratios) - 1) / 2)
            colour = COLOURS[row.condition.process]
            axes.plot([x, x], [ratio.median.value, ratio.p95.value], color=colour, lw=1.2, alpha=0.6)
            axes.plot(x, ratio.median.value, "o", color=colour, ms=6)
    levels = [(1.0, "-", FLOOR, "straight line in joint space"), (_optimum(), ":", FLOOR, "true optimum")]
    floor = [path.to_line.median.value for path in report.floor if (path.plan, path.library) == ("line", library)]
    levels += [(value, "--", FLOOR, "true angles, same library") for value in floor]
    colours = {"gaussian": COLOURS["ou"], "trajectory": COLOURS["sac"]}
    levels += [(value, "-.", colours[kind], f"published, {kind}") for kind, value in COST_RATIO.items()]
    for level, style, colour, label in levels:
        axes.axhline(level, ls=style, color=colour, lw=1, label=label, zorder=0)
    axes.set_yscale("log")
    axes.set_xticks(range(len(report.rows)), [row.condition.name for row in report.rows], rotation=40, ha="right")
    title = f"straight line in the latent, {library:,} frames: median to 95th percentile"
    _axes(axes, title=title, ylabel="cost over the straight line's")


def _optima(axes: Axes, report: Reproduction) -> None:
    sizes = sorted(report.scale.libraries)
    for process, colour in COLOURS.items():
        curves = [_curve(s.paths) for row in report.rows if row.condition.process == process for s in row.done]
        if curves:
            axes.plot(sizes, np.mean(curves, axis=0), "o-", color=colour, ms=4, label=NAMES[process])
            axes.fill_between(sizes, np.min(curves, axis=0), np.max(curves, axis=0), color=colour, alpha=0.12, lw=0)
    if report.floor:
        axes.plot(sizes, _curve(report.floor), "s--", color=FLOOR, ms=4, label="true angles (floor)")
    axes.axhline(1.0, ls=":", color=FLOOR, lw=1, label="true optimum")
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    title = "cheapest plan in the latent, by size of the library"
    _axes(axes, title=title, xlabel="frames to decode with", ylabel="summed cost over the optimum's")


def _curve(paths: tuple[OpenLoopRow, ...]) -> list[float]:
    """Summed costs over the optimum's, by size of the library, smallest first."""
    rows = sorted((path for path in paths if path.plan == "optimum"), key=lambda path: path.library)
    return [path.to_optimum.total.value for path in rows]


def _optimum() -> float:
    """Cost of the cheapest path over the straight line's."""
    best, line = (path_cost(PLANS[plan]([1.0], [0.0], POINTS)) for plan in ("optimum", "line"))
    return float(best / line)


def _axes(axes: Axes, **names: str) -> None:
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    tidy(axes, **names)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=8, frameon=False)  # off the data
