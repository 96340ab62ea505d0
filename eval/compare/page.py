"""A comparison of encoders as one self-contained HTML page, which opens offline.

Tables are sorted by DataTables, out of the offline bundle of the package `itables`; without JavaScript, and in print,
they are plain tables. A content security policy forbids the page every connection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from worldplan.data.files import atomic_write
from worldplan.errors import InvalidInput
from worldplan.eval.compare.figure import draw_cost_against_r2, draw_encoder, draw_film
from worldplan.eval.compare.result import Comparison, ComparisonRow
from worldplan.eval.compare.table import significance
from worldplan.eval.control.baselines import REFERENCE
from worldplan.eval.control.episodes import ControlSummary
from worldplan.eval.control.open_loop import OpenLoopRow
from worldplan.eval.show.page import data_uri, render_page
from worldplan.eval.statistics.estimate import Estimate

PAGE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Column:
    """A column of the table: its head, and what it means."""

    head: str
    meaning: str


COLUMNS = (
    Column("Rank", "By mean cost ratio, lowest first. Encoders that failed, and the baselines, have none."),
    Column("Encoder", "Its name, and where it comes from."),
    Column(
        "Cost, mean",
        "Closed-loop cost of an episode (squared joint errors + .1 squared torque, over 100 steps) divided by that of "
        "the true-state clipped LQR from the same start to the same goal: the mean over all episodes.",
    ),
    Column("Cost, median", "The median of the same ratios: what a usual episode costs. Medians hide failures."),
    Column("Cost, 95th", "Their 95th percentile: what the bad episodes cost."),
    Column(
        "Cost, total",
        "All episodes' costs over all of the reference's. The mean of ratios hangs on episodes that start near their "
        "goal, where the reference pays next to nothing: trust this one more where an encoder fails.",
    ),
    Column("Reached", "Share of episodes that end with the fingertip within .025 m of where the goal pose has it."),
    Column(
        "p against first",
        "p-value of no difference in mean cost from the first, by random flips of the paired episodes' differences; "
        "above .05 the order may be chance.",
    ),
    Column("R² h→z", "Joint angles regressed on the latent, out of sample, angles N(0, .7²): is the state there?"),
    Column("R² z→h", "The latent regressed on the joint angles, likewise: is there nothing else?"),
    Column("Orth. error", "Orthogonality error of the linear map from state to latent; 0 for a rotation."),
    Column("Thm 3 error", "Measured E‖h − Qz‖²: distance of the latent from the best rotation of the state."),
    Column("Thm 3 bound", "Upper bound of that distance by Theorem 3 of Klindt, LeCun and Balestriero (2026)."),
    Column("Width", "Dimensions of the latent → principal components planned in (share of variance dropped)."),
    Column("ms a step", "Median milliseconds of a control step: encode a frame, estimate the state, plan."),
)

PLAN_COLUMNS = (
    Column("Encoder", "Whose latent is planned in."),
    Column("Plan", "The straight line between start and goal, as published, or the cheapest path (optimum)."),
    Column("Library", "Frames with known angles, by the nearest of which each point of the plan is decoded."),
    Column("To line", "Cost of the decoded paths over that of the straight lines in joint space: sums over all pairs."),
    Column("To line, median", "Of the pairs' own ratios, their median."),
    Column("To optimum", "Cost of the decoded paths over that of the cheapest paths in joint space; never below 1."),
)


@dataclass(frozen=True)
class Cell:
    """What a cell shows, its interval, and the number that it is sorted by ("" comes last, whichever way)."""

    text: str
    interval: str = ""
    order: str = ""


ROUNDING = 1e-6  # numbers below are shown as 0
NONE = Cell("—")


@dataclass(frozen=True)
class Line:
    """One row of the page's main table."""

    name: str
    notes: tuple[str, ...]
    state: str
    cells: tuple[Cell, ...]


def write_report(comparison: Comparison, path: Path | str, *, film: bool = True, day: date | None = None) -> Path:
    """Write a comparison as one HTML page that needs no other file and no network.

    Args:
        comparison: what `compare_encoders` found.
        path: of the page; appears only when it is whole.
        film: whether to render the first, middle and last ranked encoders at work; needs OpenGL.
        day: that the page names; None for today.

    Raises:
        InvalidInput: the comparison has no rows.
        RenderingUnavailable: a film without OpenGL.
    """
    path = Path(path)
    page = render_report(comparison, film=film, day=day or date.today())
    with atomic_write(path) as stream:
        stream.write(page.encode())
    return path


def render_report(comparison: Comparison, *, film: bool, day: date) -> str:
    """The page as text; arguments and errors are those of `write_report`."""
    if not comparison.rows:
        raise InvalidInput("a report needs a comparison with at least one row")
    ok = [row for row in comparison.rows if row.ok]
    filmed = [row for row in dict.fromkeys((*ok[:1], *ok[len(ok) // 2 :][:1], *ok[-1:])) if row.paths] if film else []
    return render_page(
        PAGE,
        day=day.isoformat(),
        title="Encoders by control cost",
        summary=_summary(comparison, ok),
        columns=COLUMNS,
        lines=_lines(comparison),
        failed=len(comparison.rows) - len(ok),
        remarks=significance(comparison),
        plan_columns=PLAN_COLUMNS,
        plans=_plans(comparison),
        chart=data_uri("image/png", draw_cost_against_r2(comparison)) if ok else None,
        cards=[
            (row.name, data_uri("image/png", draw_encoder(comparison, row)))
            for row in ok
            if row.latents is not None or row.paths
        ],
        film=data_uri("image/gif", draw_film(comparison, filmed)) if filmed else None,
        facts=_facts(comparison),
    )


def _summary(comparison: Comparison, ok: Sequence[ComparisonRow]) -> str:
    n = comparison.config.episodes
    said = f"{len(comparison.rows)} encoders, {n} paired episodes each, from pixels to goal images."
    if ok and ok[0].control is not None:
        mean = ok[0].control.cost_ratio_mean
        said += f" Least cost: {ok[0].name}, {mean.value:.3g} times that of the controller that sees the true state."
    return said


def _lines(comparison: Comparison) -> list[Line]:
    lines = []
    for rank, row in enumerate(comparison.rows, 1):
        first = Cell(str(rank), order=str(rank)) if row.ok else Cell("failed")
        notes = (row.kind if row.ok else row.reason, *row.notes)
        lines.append(Line(row.name, notes, row.status, (first, *_numbers(row))))
    empty = (NONE,) * (len(COLUMNS) - 7)
    for baseline in comparison.baselines:
        notes = ("what costs are divided by" if baseline.name == REFERENCE else "baseline",)
        lines.append(Line(baseline.name, notes, "baseline", (NONE, *_control(baseline), *empty)))
    return lines


def _plans(comparison: Comparison) -> list[tuple[str, tuple[Cell, ...]]]:
    """Rows of the open-loop table: who, and the cells after."""
    named = [(row.name, plan) for row in comparison.rows for plan in row.open_loop]
    return [(name, _plan(row)) for name, row in [*named, *((row.latent, row) for row in comparison.floor)]]


def _plan(row: OpenLoopRow) -> tuple[Cell, ...]:
    library = Cell(f"{row.library:,}", order=str(row.library))
    costs = map(_cell, (row.to_line.total, row.to_line.median, row.to_optimum.total))
    return (Cell(row.plan, order=row.plan), library, *costs)


def _numbers(row: ComparisonRow) -> tuple[Cell, ...]:
    """Cells after the name."""
    estimates = (
        row.latent_to_state,
        row.state_to_latent,
        row.orthogonality_error,
        row.theorem3_error,
        row.theorem3_bound,
    )
    width = NONE
    if row.latent_dim is not None:
        text = str(row.latent_dim)
        if row.reduced_dim is not None and row.reduced_dim < row.latent_dim:
            text += f" → {row.reduced_dim}" + ("" if row.dropped is None else f" ({100 * row.dropped:.1f}%)")
        width = Cell(text, order=str(row.latent_dim))
    step = NONE if row.step_ms is None else Cell(f"{row.step_ms:.2f}", order=str(row.step_ms))
    p = NONE if row.p_first is None else Cell(f"{row.p_first:.3f}", order=str(row.p_first))
    return (*_control(row.control), p, *map(_cell, estimates), width, step)


def _control(control: ControlSummary | None) -> tuple[Cell, ...]:
    if control is None:
        return (NONE,) * 5
    reach = control.reach
    share = Cell(f"{100 * reach.value:.0f}%", f"{100 * reach.low:.0f}–{100 * reach.high:.0f}", str(reach.value))
    costs = (control.cost_ratio_mean, control.cost_ratio_median, control.cost_ratio_p95, control.cost_ratio_total)
    return (*map(_cell, costs), share)


def _cell(value: Estimate | None) -> Cell:
    if value is None or not math.isfinite(value.value):
        return NONE
    known = math.isfinite(value.low) and math.isfinite(value.high)
    interval = f"{_digits(value.low)}\u2009–\u2009{_digits(value.high)}" if known else ""
    return Cell(_digits(value.value), interval, repr(value.value))


def _digits(value: float) -> str:
    """Three decimals, where encoders differ; three digits of what is large, one of what is small, none of rounding."""
    if abs(value) < ROUNDING:
        return "0"
    text = f"{value:.3f}" if 5e-4 <= abs(value) < 10 else f"{value:.3g}" if abs(value) >= 10 else f"{value:.0e}"
    return text.replace("-", "−")


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    """How to get the same numbers again."""
    source, config = comparison.provenance, comparison.config
    facts = [("Command", str(source.get("command", "")))]
    facts += [(name.replace("_", " ").capitalize(), str(value)) for name, value in vars(config).items()]
    versions: dict[str, Any] = source.get("versions", {})
    return [*facts, ("Versions", ", ".join(f"{name} {number}" for name, number in versions.items()))]
