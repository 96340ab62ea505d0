"""A comparison of encoders as a table of text."""

from __future__ import annotations

from worldplan.eval.compare import Comparison
from worldplan.eval.control import ControlSummary, Estimate
from worldplan.eval.correlation import FEWEST
from worldplan.eval.trial import RHO, SCALE

COLUMNS = (
    "encoder",
    "cost ratio,\nmean",
    "cost ratio,\nmedian",
    "cost ratio,\n95th pct",
    "reached",
    "R2 h → z",
    "R2 z → h",
    "orthogo-\nnality error",
    "Theorem 3,\nerror ≤ bound",
    "ms per\nstep",
)
_NONE = "–"
_ROUNDING = 1e-9


def title(comparison: Comparison) -> str:
    """Who is first, in a line."""
    rows, done = comparison.rows, [row for row in comparison.rows if row.ok]
    if not done:
        return f"All {len(rows)} encoders failed"
    what = f"{len(done)} of {len(rows)} encoders over {comparison.config.episodes} paired episodes"
    return f"{what}; least cost: {done[0].name}"


def table(comparison: Comparison) -> list[list[str]]:
    """Rows under `COLUMNS`: encoders by rank, then the baselines."""
    rows = []
    for row in comparison.rows:
        costs = _costs(row.control) if row.control is not None else ["failed", *[_NONE] * 3]
        fits = [_cell(x) for x in (row.latent_to_state, row.state_to_latent, row.orthogonality_error)]
        bound = _NONE
        if row.theorem3_error is not None and row.theorem3_bound is not None:
            bound = f"{_seen(row.theorem3_error.value):.2g} ≤ {_seen(row.theorem3_bound.value):.2g}"
        rows.append([row.name, *costs, *fits, bound, _NONE if row.step_ms is None else f"{row.step_ms:.2f}"])
    return rows + [[line.name, *_costs(line), *[_NONE] * 5] for line in comparison.baselines]


def notes(comparison: Comparison) -> list[str]:
    """What a reader of the table has to know, a sentence each."""
    told = [
        "Cost: squared joint errors + .1 squared torque, per episode over the true-state clipped LQR's, unreached "
        "episodes included. Brackets: 95% intervals.",
        f"R2, orthogonality and Theorem 3: joint angles N(0, {SCALE}^2), pairs correlated by {RHO}.",
    ]
    correlation = comparison.correlation
    if correlation.n >= FEWEST:
        told.append(
            f"Mean cost ratio against 1 - R2(h → z) over {correlation.n} encoders: rank correlation "
            f"{correlation.spearman}, linear {correlation.pearson}."
        )
    for row in comparison.rows:
        if not row.ok:
            told.append(f"{row.name} failed: {row.reason}")
        elif row.dropped is not None:
            share = f"{row.dropped:.2%} of the variance dropped"
            told.append(f"{row.name}: planned in {row.reduced_dim} components of {row.latent_dim}, {share}.")
        told += [f"{row.name}: {note}" for note in row.notes]
    return told


def _costs(control: ControlSummary) -> list[str]:
    columns = (control.cost_ratio_mean, control.cost_ratio_median, control.cost_ratio_p95, control.reach)
    return [_cell(x) for x in columns]


def _cell(estimate: Estimate | None) -> str:
    """Value over interval."""
    if estimate is None:
        return _NONE
    shown = Estimate(*map(_seen, (estimate.value, estimate.low, estimate.high)))
    return str(shown).replace(" [", "\n[")


def _seen(value: float) -> float:
    """The value, or 0 where it is rounding."""
    return 0.0 if abs(value) < _ROUNDING else value
