"""A reproduction as a table, as Markdown, and on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from worldplan.data.files import atomic_write, write_json
from worldplan.eval.control.open_loop import OpenLoopRow, largest
from worldplan.eval.identifiability.regression import LABEL_KINDS, LabelFit
from worldplan.eval.reproduce.figure import draw_control_cost
from worldplan.eval.reproduce.published import COST_RATIO, SOURCE, WORST_RATIO
from worldplan.eval.reproduce.run import ReproducedRow, Reproduction, SeedResult
from worldplan.eval.show.table import Table

COLUMNS = (
    "trained on",
    "paper's\nR2",
    "h → z by\njoint",
    "z → h",
    "h → z,\nwrapped",
    "h → z,\nsin cos",
    "h → z on\nN(0, I)",
    "z → h on\nN(0, I)",
    "cost /\nline,\nmedian",
    "cost /\nline, 95th\npct",
    "best plan\n/ optimum",
)
_NONE = "–"


def _title(report: Reproduction) -> str:
    done, wanted = sum(len(row.done) for row in report.rows), sum(len(row.results) for row in report.rows)
    warning = "; smoke: these numbers mean nothing" if report.name == "smoke" else ""
    return f"Reacher, reproduced at scale {report.name}: {done} of {wanted} encoders{warning}"


def table(report: Reproduction) -> Table:
    """One row for each condition: means over seeds, with their range below if there are several; the floor last."""
    rows = [_line(row) for row in report.rows] + [_floor(report.floor)]
    return Table(_title(report), COLUMNS, rows, _notes(report))


def _notes(report: Reproduction) -> list[str]:
    library = max(report.scale.libraries)
    seeds = "one encoder a row" if report.scale.seeds == 1 else f"means of {report.scale.seeds} seeds [lowest, highest]"
    medians = {kind: np.median(found) for kind in COST_RATIO if (found := _medians(report, kind))}
    told = [
        f"R2 out of sample, labels unwrapped unless said otherwise; {seeds}. With angles N(0, I) no function of an "
        f"image gets above {report.ceiling:.3f} (unwrapped).",
        f"Cost: of the straight line in the latent, decoded with {library:,} frames, over the straight line in joint "
        "space; last column: of the cheapest plan in the latent over the true optimum, summed over pairs.",
        "Median cost over the line's, median of encoders: "
        + "; ".join(f"{kind} {value:.2f} (published about {COST_RATIO[kind]:g})" for kind, value in medians.items())
        + f"; the published trajectory encoders had outliers up to {WORST_RATIO:g}.",
        f"Published: {SOURCE}.",
    ]
    failed = [(row, result) for row in report.rows for result in row.results if result.reason]
    return told + [f"{row.condition.name}, seed {result.seed}: {result.reason}" for row, result in failed]


def markdown(report: Reproduction) -> str:
    """The report with its differences of protocol."""
    shown = table(report)
    head = [f"# {shown.title}", "", shown.markdown(), "", *(f"- {note}" for note in shown.notes)]
    told = [[d.what, d.published, d.ours] for d in report.differences]
    more = ["", "## Differences of protocol", "", Table("", ("", "published", "here"), told).markdown()]
    picture = ["", "## Control cost", "", "![control cost](control_cost.png)"]
    source = ["", f"Made by `{report.provenance['command']}`, seed {report.provenance['seed']}.", ""]
    return "\n".join([*head, *picture, *more, *source])


def write_reproduction(report: Reproduction, out: Path | str) -> list[Path]:
    """Write `reproduce.json`, `reproduce.md` and `control_cost.png`, and return their paths."""
    paths = [Path(out) / name for name in ("reproduce.json", "reproduce.md", "control_cost.png")]
    write_json(paths[0], report.to_dict())
    for path, content in zip(paths[1:], (markdown(report).encode(), draw_control_cost(report)), strict=True):
        with atomic_write(path) as stream:
            stream.write(content)
    return paths


def _line(row: ReproducedRow) -> list[str]:
    published, condition = row.published, row.condition
    value = f"rho {condition.value:g}" if condition.kind == "gaussian" else f"delta {condition.value:g}"
    cells = [f"{condition.process},\n{value}", _NONE if published is None else str(published)]
    if not row.done:
        return [*cells, "failed", *[_NONE] * (len(COLUMNS) - 3)]
    shoulder, wrist, *means = (_cell(values) for values in zip(*map(_numbers, row.done), strict=True))
    return [*cells, f"{shoulder} /\n{wrist}", *means]


def _numbers(result: SeedResult) -> list[float]:
    """What the columns show of one encoder, in their order."""
    own, wrapped, sincos = (_fit(result.own, kind) for kind in LABEL_KINDS)
    there, normal = (wrapped.latent_to_state, sincos.latent_to_state), _fit(result.normal)
    fits = (*own.per_joint, own.state_to_latent, *there, normal.latent_to_state, normal.state_to_latent)
    return [*(estimate.value for estimate in fits), *_costs(result.paths)]


def _costs(paths: tuple[OpenLoopRow, ...]) -> list[float]:
    line, optimum = largest(paths, "line").to_line, largest(paths, "optimum").to_optimum
    return [line.median.value, line.p95.value, optimum.total.value]


def _floor(paths: tuple[OpenLoopRow, ...]) -> list[str]:
    costs = [f"{cost:.2f}" for cost in _costs(paths)] if paths else [_NONE] * 3
    return ["true angles (floor)", *[_NONE] * (len(COLUMNS) - 4), *costs]


def _fit(fits: tuple[LabelFit, ...], kind: str = "unwrapped") -> LabelFit:
    return fits[LABEL_KINDS.index(kind)]


def _medians(report: Reproduction, kind: str) -> list[float]:
    """Median cost of the line in the latent over the line in joint space, for each encoder of a kind."""
    rows = [row for row in report.rows if row.condition.kind == kind]
    return [largest(result.paths, "line").to_line.median.value for row in rows for result in row.done]


def _cell(values: Sequence[float]) -> str:
    text = f"{np.mean(values):.2f}"
    return text if len(values) == 1 else f"{text}\n[{min(values):.2f}, {max(values):.2f}]"
