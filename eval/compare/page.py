"""A comparison of encoders as one self-contained HTML page, which opens offline.

DataTables sorts the tables; without JavaScript, and in print, they are plain. A content security policy forbids the
page every connection.
"""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from worldplan.data.files import atomic_write
from worldplan.errors import InvalidInput
from worldplan.eval.compare.figure import draw_cost_against_r2, draw_encoder, draw_film
from worldplan.eval.compare.in_world import WorldComparison
from worldplan.eval.compare.result import Comparison, ComparisonRow
from worldplan.eval.compare.table import remarks, significance, table
from worldplan.eval.control.open_loop import OpenLoopRow
from worldplan.eval.show.page import data_uri, render_page
from worldplan.eval.show.table import Cell, Column, Table, number
from worldplan.rounding import rounded

PAGE = Path(__file__).with_name("page.html")
PLAN_COLUMNS = (
    Column("Encoder", "Whose latent is planned in.", named=True),
    Column("Plan", "The straight line between start and goal, as published, or the cheapest path.", named=True),
    Column("Library", "Frames with known angles, by the nearest of which each point of the plan is decoded."),
    Column("To line", "Cost of the decoded paths over that of the straight lines in joint space: sums over all pairs."),
    Column("To line, median", "Of the pairs' own ratios, their median."),
    Column("To optimum", "Cost of the decoded paths over that of the cheapest paths in joint space; never below 1."),
)


def write_report(
    comparison: Comparison | WorldComparison, path: Path | str, *, film: bool = True, day: date | None = None
) -> Path:
    """Write a comparison as one HTML page that needs no other file and no network; it appears whole or not at all.

    `film` renders the first, middle and last ranked encoders at work, and needs OpenGL; pages of other worlds than the
    Reacher have no pictures. `day` is the page's date, today by default.

    Raises:
        InvalidInput: the comparison has no rows.
        RenderingUnavailable: a film without OpenGL.
    """
    path = Path(path)
    day = day or date.today()
    if isinstance(comparison, WorldComparison):
        page = render_world_report(comparison, day)
    else:
        page = render_report(comparison, film=film, day=day)
    with atomic_write(path) as stream:
        stream.write(page.encode())
    return path


def render_report(comparison: Comparison, *, film: bool, day: date, autoescape: bool = True) -> str:
    """The page as text; arguments and errors are those of `write_report` and `render_page`."""
    if not comparison.rows:
        raise InvalidInput("a report needs a comparison with at least one row")
    ok = [row for row in comparison.rows if row.ok]
    filmed = [row for row in dict.fromkeys((*ok[:1], *ok[len(ok) // 2 :][:1], *ok[-1:])) if row.paths] if film else []
    drawn = [row for row in ok if row.latents is not None or row.paths]
    picture = partial(data_uri, "image/png")
    return render_page(
        PAGE,
        autoescape=autoescape,
        day=day.isoformat(),
        title="Encoders by control cost",
        summary=_summary(comparison, ok),
        table=table(comparison),
        states=[row.status for row in comparison.rows] + ["baseline"] * len(comparison.baselines),
        remarks=remarks(comparison),
        failed=len(comparison.rows) - len(ok),
        significance=significance(comparison),
        plans=_plans(comparison),
        chart=picture(draw_cost_against_r2(comparison)) if ok else None,
        cards=[(row.name, picture(draw_encoder(comparison, row))) for row in drawn],
        film=data_uri("image/gif", draw_film(comparison, filmed)) if filmed else None,
        facts=_facts(comparison.provenance, vars(comparison.config)),
    )


def render_world_report(comparison: WorldComparison, day: date) -> str:
    """The page of another world than the Reacher, as text: its table, without pictures and plans in open loop."""
    shown, rows, config = comparison.table(), comparison.rows, comparison.config
    fit = {f"fit: {name}": value for name, value in vars(comparison.fit).items()}
    states = ["baseline" if row.kind == "baseline" else row.status for row in rows]
    return render_page(
        PAGE,
        day=day.isoformat(),
        title=f"Encoders by control cost in {comparison.world.card.name}",
        summary=f"{len(rows) - states.count('baseline')} encoders, {config.episodes} paired episodes each, "
        "from pixels to goal images.",
        table=shown,
        states=states,
        remarks=[" ".join((row.reason or row.kind, *row.notes)) for row in rows],
        failed=states.count("failed"),
        significance=shown.notes[:2],
        plans=Table("Open loop", PLAN_COLUMNS),
        chart=None,
        cards=[],
        film=None,
        facts=_facts(comparison.origin, vars(config) | fit),
    )


def _summary(comparison: Comparison, ok: list[ComparisonRow]) -> str:
    n = comparison.config.episodes
    said = f"{len(comparison.rows)} encoders, {n} paired episodes each, from pixels to goal images."
    if ok and ok[0].control is not None:
        times = rounded(ok[0].control.cost_ratio_mean.value)
        said += f" Least cost: {ok[0].name}, {times} times that of the controller that sees the true state."
    return said


def _plans(comparison: Comparison) -> Table:
    named = [(row.name, plan) for row in comparison.rows for plan in row.open_loop]
    named += [(row.latent, row) for row in comparison.floor]
    return Table("Open loop", PLAN_COLUMNS, [_plan(*pair) for pair in named])


def _plan(name: str, row: OpenLoopRow) -> list[Cell]:
    library = Cell(rounded(row.library), order=str(row.library))
    costs = map(number, (row.to_line.total, row.to_line.median, row.to_optimum.total))
    return [Cell(name, order=name), Cell(row.plan, order=row.plan), library, *costs]


def _facts(source: dict[str, Any], options: dict[str, Any]) -> list[tuple[str, str]]:
    """What one needs to get the same numbers again."""
    facts = [("Command", str(source.get("command", "")))]
    facts += [(name.replace("_", " ").capitalize(), str(value)) for name, value in options.items()]
    versions: dict[str, Any] = source.get("versions", {})
    return [*facts, ("Versions", ", ".join(f"{name} {number}" for name, number in versions.items()))]
