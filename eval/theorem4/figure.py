"""The dose-response of the mistakes as one picture: a panel for each mistake, and one for harmless changes."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from worldplan.data.files import atomic_write
from worldplan.eval.show.style import BLUE, GREEN, ORANGE, RED, tidy
from worldplan.eval.theorem4.levels import MistakeLevel
from worldplan.eval.theorem4.report import QUANTITIES, DoseReport

COLOURS = {"value": ORANGE, "action": BLUE, "plan": GREEN}
STYLES = {"LQR": ("-", "o"), "MPC": ("--", "s"), "QP": ("-.", "D")}
FLOOR = 1e-17  # errors of exactly zero are drawn there, for the axis is logarithmic
COLUMNS = 3
FAIR = "no mistake: accepted"
LABEL: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7.5, "color": "0.3"}


def figure(report: DoseReport, path: Path | str) -> None:
    """Write a PNG, whole or not at all: median errors against the size of each mistake, both logarithmic.

    Each mistake has a panel with a line for each planner and error. The last panel shows harmless changes. Horizontal
    lines are tolerances. Vertical lines are the sizes down to which all trials must be rejected. A marker is hollow
    where a trial was not rejected.
    """
    panels: dict[str, list[MistakeLevel]] = {}
    for control in report.controls:
        panels.setdefault(control.name if control.expected == "rejected" else FAIR, []).append(control)
    if FAIR in panels:
        panels[FAIR] = panels.pop(FAIR)  # last
    rows = ceil(len(panels) / COLUMNS)
    drawing = Figure(figsize=(12.0, 1.2 + 3.6 * rows), dpi=110, layout="constrained")
    grid = drawing.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axes, (name, controls) in zip(grid.flat, panels.items(), strict=False):
        for control in controls:
            _lines(axes, control)
        _limits(axes, controls)
        _slopes(axes, report, controls)
        _frame(axes, name)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("size of the mistake", fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel("relative error, median", fontsize=9)
    drawing.suptitle(report.title, fontsize=12)
    _legend(drawing, report)
    with atomic_write(path) as stream:
        drawing.savefig(stream, format="png")


def _lines(axes: Axes, control: MistakeLevel) -> None:
    line, marker = STYLES.get(control.planner, ("-", "o"))
    missed = [k for k, dose in enumerate(control.doses) if dose.rejected < dose.trials]
    sizes = [dose.size for dose in control.doses]
    for quantity in QUANTITIES:
        errors, colour = [max(FLOOR, getattr(dose, quantity)) for dose in control.doses], COLOURS[quantity]
        axes.plot(sizes, errors, line, marker=marker, ms=4.5, color=colour, lw=1.4)
        hollow = [sizes[k] for k in missed], [errors[k] for k in missed]
        axes.plot(*hollow, marker, ms=4.5, color=colour, mfc="white")


def _limits(axes: Axes, controls: list[MistakeLevel]) -> None:
    for tolerance in sorted({control.tolerance for control in controls}):
        axes.axhline(tolerance, color=RED, lw=1.0)
        planners = dict.fromkeys(control.planner for control in controls if control.tolerance == tolerance)
        place = (0.985, tolerance)
        axes.annotate(
            f"tolerance, {', '.join(planners)}", place, (0, 3), ("axes fraction", "data"), ha="right", **LABEL
        )
    for control in controls:
        if control.expected == "rejected":
            axes.axvline(control.required, color="0.45", lw=1.0, ls=":")
            place = (control.required, 1.0)
            axes.annotate(control.planner, place, (3, -2), ("data", "axes fraction"), va="top", rotation=90, **LABEL)


def _slopes(axes: Axes, report: DoseReport, controls: list[MistakeLevel]) -> None:
    slopes = [(control.planner, report.told(control)) for control in controls]
    lines = [f"slopes, {planner}: {told}" for planner, told in slopes if told]
    axes.text(0.985, 0.03, "\n".join(lines), transform=axes.transAxes, fontsize=8, ha="right", linespacing=1.5)


def _frame(axes: Axes, name: str) -> None:
    axes.set(xscale="log", yscale="log")
    axes.set_title(name, fontsize=10, loc="left")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(numticks=12))
    axes.grid(color="0.92", lw=0.8)
    tidy(axes)


def _legend(drawing: Figure, report: DoseReport) -> None:
    planners = dict.fromkeys(control.planner for control in report.controls)
    handles = [Line2D([], [], color=COLOURS[q], lw=3, label=f"{q} error") for q in QUANTITIES]
    for planner in planners:
        line, marker = STYLES.get(planner, ("-", "o"))
        handles.append(Line2D([], [], color="0.3", ls=line, marker=marker, ms=4.5, lw=1.4, label=planner))
    handles.append(Line2D([], [], color="0.45", lw=1.0, ls=":", label="smallest size that must be seen"))
    handles.append(Line2D([], [], color="0.3", ls="", marker="o", ms=4.5, mfc="white", label="not all rejected"))
    drawing.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False, columnspacing=1.4
    )
