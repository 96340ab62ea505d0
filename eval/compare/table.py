"""A comparison of encoders as a table of text."""

from __future__ import annotations

from worldplan.eval.compare.result import Comparison
from worldplan.eval.compare.trial import RHO, SCALE
from worldplan.eval.control.episodes import ControlSummary
from worldplan.eval.control.open_loop import largest
from worldplan.eval.statistics.correlation import FEWEST
from worldplan.eval.statistics.estimate import Estimate
from worldplan.eval.statistics.paired_test import LEVEL

COLUMNS = (
    "encoder",
    "cost\nratio,\nmean",
    "cost\nratio,\nmedian",
    "cost\nratio,\n95th\npct",
    "reach,\n%",
    "R2\nh → z",
    "R2\nz → h",
    "orth.\nerror",
    "Thm 3,\nerror ≤\nbound",
    "open\nloop",
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
            bound = f"{_seen(row.theorem3_error.value):.2g} ≤\n{_seen(row.theorem3_bound.value):.2g}"
        plan = f"{largest(row.open_loop, 'line').to_optimum.total.value:.3g}" if row.open_loop else _NONE
        rows.append([row.name, *costs, *fits, bound, plan, _NONE if row.step_ms is None else f"{row.step_ms:.2f}"])
    return rows + [[line.name, *_costs(line), *[_NONE] * 6] for line in comparison.baselines]


def notes(comparison: Comparison) -> list[str]:
    """What a reader of the table has to know, a sentence each."""
    told = [
        "Cost: squared joint errors + .1 squared torque, per episode over the true-state clipped LQR's, unreached "
        "episodes included. Brackets: 95% intervals.",
        f"R2, orthogonality error and Theorem 3: joint angles N(0, {SCALE}^2), pairs correlated by {RHO}.",
    ]
    if comparison.floor:
        floor = largest(comparison.floor, "line")
        told.append(
            f"Open loop: the straight line in the latent, decoded with {floor.library:,} frames, over the cheapest "
            f"path; the true angles get {floor.to_optimum.total}."
        )
    told += [totals(comparison), *significance(comparison)]
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


def totals(comparison: Comparison) -> str:
    """Costs of all episodes over the reference's, beside which the mean of ratios can be read."""
    lines = [*(row.control for row in comparison.rows if row.control is not None), *comparison.baselines]
    told = ", ".join(f"{line.name} {line.cost_ratio_total.value:.3g}" for line in lines)
    return (
        "The mean of ratios hangs, for what fails, on the few episodes that start near their goal. Summed costs over "
        f"the reference's: {told}."
    )


def significance(comparison: Comparison) -> list[str]:
    """Which ranks may be chance, and how often the test tells an encoder from itself; a sentence each."""
    told, done = [], [row for row in comparison.rows if row.ok]
    tested = [(row.name, row.p_first) for row in done if row.p_first is not None]
    if tested:
        alike = ", ".join(f"{name} (p = {p:.2g})" for name, p in tested if p > LEVEL)
        told.append(
            f"Paired test against {done[0].name} on the same episodes: "
            + (f"p > {LEVEL:g}, so that the order may be chance, for {alike}." if alike else f"p ≤ {LEVEL:g} for all.")
        )
    nulls = [(row.name, row.null) for row in done if row.null is not None]
    if nulls:
        name, null = max(nulls, key=lambda pair: pair[1].rate.value)
        rate = null.rate
        told.append(
            f"That test tells an encoder from itself, by halves of its episodes, in {rate.value:.1%} "
            f"[{rate.low:.1%}, {rate.high:.1%}] of {null.resamples} splits (worst: {name}; {LEVEL:.0%} allowed)."
        )
    return told


def _costs(control: ControlSummary) -> list[str]:
    reach = Estimate(*(round(100 * x) for x in (control.reach.value, control.reach.low, control.reach.high)))
    return [_cell(x) for x in (control.cost_ratio_mean, control.cost_ratio_median, control.cost_ratio_p95, reach)]


def _cell(estimate: Estimate | None) -> str:
    """Value over interval, in lines as short as can be: eleven columns have to fit a terminal."""
    if estimate is None:
        return _NONE
    shown = Estimate(*map(_seen, (estimate.value, estimate.low, estimate.high)))
    return str(shown).replace(" ", "\n")


def _seen(value: float) -> float:
    """The value, or 0 where it is rounding."""
    return 0.0 if abs(value) < _ROUNDING else value
