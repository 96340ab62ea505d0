"""A comparison of encoders as one table, for the terminal, the README and the HTML page."""

from __future__ import annotations

from worldplan.eval.compare.result import Comparison, ComparisonRow
from worldplan.eval.compare.trial import RHO, SCALE
from worldplan.eval.control.baselines import REFERENCE
from worldplan.eval.control.episodes import ControlSummary
from worldplan.eval.control.open_loop import largest
from worldplan.eval.show.table import NONE, Cell, Column, Table, number, rate
from worldplan.eval.statistics.correlation import FEWEST
from worldplan.eval.statistics.paired_test import LEVEL
from worldplan.rounding import percent, rounded

COLUMNS = (
    Column("Encoder", "Its name, and where it comes from.", named=True),
    Column("Rank", "By mean cost ratio, lowest first. Encoders that failed, and the baselines, have none.", ""),
    Column(
        "Cost, mean",
        "Closed-loop cost of an episode (squared joint errors + .1 squared torque, over 100 steps) divided by that of "
        "the true-state clipped LQR from the same start to the same goal: the mean over all episodes.",
        "cost\nratio,\nmean",
    ),
    Column(
        "Cost, median",
        "The median of the same ratios: what a usual episode costs. Medians hide failures.",
        "cost\nratio,\nmedian",
    ),
    Column("Cost, 95th", "Their 95th percentile: what the bad episodes cost.", "cost\nratio,\n95th\npct"),
    Column(
        "Cost, total",
        "All episodes' costs over all of the reference's. The mean of ratios hangs on episodes that start near their "
        "goal, where the reference pays next to nothing: trust this one more where an encoder fails.",
        "",
    ),
    Column(
        "Reached",
        "Share of episodes that end with the fingertip within .025 m of where the goal pose has it.",
        "reached",
    ),
    Column(
        "p against first",
        "p-value of no difference in mean cost from the first, by random flips of the paired episodes' differences; "
        "above .05 the order may be chance.",
        "",
    ),
    Column(
        "R² h→z",
        "Joint angles regressed on the latent, out of sample, angles N(0, .7²): is the state there?",
        "R2\nh → z",
    ),
    Column("R² z→h", "The latent regressed on the joint angles, likewise: is there nothing else?", "R2\nz → h"),
    Column(
        "Orth. error", "Orthogonality error of the linear map from state to latent; 0 for a rotation.", "orth.\nerror"
    ),
    Column(
        "Thm 3 error",
        "Measured E‖h − Qz‖²: distance of the latent from the best rotation of the state.",
        "Thm 3\nerror",
    ),
    Column(
        "Thm 3 bound",
        "Upper bound of that distance by Theorem 3 of Klindt, LeCun and Balestriero (2026).",
        "",
    ),
    Column(
        "Open loop",
        "The straight line in the latent, decoded as published with the largest library, over the cheapest path.",
        "open\nloop",
    ),
    Column("Width", "Dimensions of the latent → principal components planned in (share of variance dropped).", ""),
    Column(
        "ms a step", "Median milliseconds of a control step: encode a frame, estimate the state, plan.", "ms per\nstep"
    ),
)


def table(comparison: Comparison) -> Table:
    """Encoders by rank, then the baselines."""
    return Table(_title(comparison), COLUMNS, _rows(comparison), _notes(comparison))


NOT_IN_README = ("Rank", "p against first", "Width", "ms a step")


def markdown(comparison: Comparison) -> str:
    """The README's table: fewer columns, and no interval but that of the mean cost."""
    kept = [k for k, column in enumerate(COLUMNS) if column.head not in NOT_IN_README]
    rows = [
        [row[k] if COLUMNS[k].head == "Cost, mean" else Cell(row[k].text) for k in kept] for row in _rows(comparison)
    ]
    return Table(_title(comparison), [COLUMNS[k] for k in kept], rows).markdown()


def remarks(comparison: Comparison) -> list[str]:
    """Text below each name in a page: the encoder's origin or why it failed, and its warnings."""
    told = [" ".join((row.kind if row.ok else row.reason, *row.notes)) for row in comparison.rows]
    return told + [
        "what costs are divided by" if line.name == REFERENCE else "baseline" for line in comparison.baselines
    ]


def _rows(comparison: Comparison) -> list[list[Cell]]:
    rows = [_cells(rank, row) for rank, row in enumerate(comparison.rows, 1)]
    empty = [NONE] * (len(COLUMNS) - 7)
    return rows + [[_name(line.name), NONE, *_control(line), *empty] for line in comparison.baselines]


def _cells(rank: int, row: ComparisonRow) -> list[Cell]:
    estimates = (
        row.latent_to_state,
        row.state_to_latent,
        row.orthogonality_error,
        row.theorem3_error,
        row.theorem3_bound,
        largest(row.open_loop, "line").to_optimum.total if row.open_loop else None,
    )
    control = [Cell(row.status), *[NONE] * 4] if row.control is None else _control(row.control)
    return [
        _name(row.name),
        Cell(str(rank), order=str(rank)) if row.ok else Cell(row.status),
        *control,
        number(row.p_first),
        *map(number, estimates),
        _width(row),
        number(row.step_ms),
    ]


def _name(name: str) -> Cell:
    return Cell(name, order=name)


def _control(control: ControlSummary) -> list[Cell]:
    costs = (control.cost_ratio_mean, control.cost_ratio_median, control.cost_ratio_p95, control.cost_ratio_total)
    return [*map(number, costs), rate(control.reach)]


def _width(row: ComparisonRow) -> Cell:
    if row.latent_dim is None:
        return NONE
    text = str(row.latent_dim)
    if row.reduced_dim is not None and row.reduced_dim < row.latent_dim:
        text += f" → {row.reduced_dim}" + ("" if row.dropped is None else f" ({percent(row.dropped)})")
    return Cell(text, order=str(row.latent_dim))


def _title(comparison: Comparison) -> str:
    rows, done = comparison.rows, [row for row in comparison.rows if row.ok]
    if not done:
        waiting = any(row.status == "waiting" for row in rows)
        return f"None of {len(rows)} encoders is done" if waiting else f"All {len(rows)} encoders failed"
    what = f"{len(done)} of {len(rows)} encoders over {comparison.config.episodes} paired episodes"
    return f"{what}; least cost: {done[0].name}"


def _notes(comparison: Comparison) -> list[str]:
    planned = [] if comparison.config.planner == "lqr" else [f"Planner: {comparison.config.planner}."]
    told = [
        *planned,
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
    told += [_totals(comparison), *significance(comparison)]
    correlation = comparison.correlation
    if correlation.n >= FEWEST:
        told.append(
            f"Mean cost ratio against 1 - R2(h → z) over {correlation.n} encoders: rank correlation "
            f"{correlation.spearman}, linear {correlation.pearson}."
        )
    for row in comparison.rows:
        if not row.ok:
            told.append(f"{row.name} {row.status}: {row.reason}")
        elif row.dropped is not None:
            share = f"{percent(row.dropped)} of the variance dropped"
            told.append(f"{row.name}: planned in {row.reduced_dim} components of {row.latent_dim}, {share}.")
        told += [f"{row.name}: {note}" for note in row.notes]
    return told


def _totals(comparison: Comparison) -> str:
    """Ratios of summed costs, to read beside the mean of ratios."""
    lines = [*(row.control for row in comparison.rows if row.control is not None), *comparison.baselines]
    told = ", ".join(f"{line.name} {rounded(line.cost_ratio_total.value)}" for line in lines)
    return (
        "The mean of ratios hangs, for what fails, on the few episodes that start near their goal. Summed costs over "
        f"the reference's: {told}."
    )


def significance(comparison: Comparison) -> list[str]:
    """Sentences on which ranks may be chance, and how often the test finds a difference where there is none."""
    told, done = [], [row for row in comparison.rows if row.ok]
    tested = [(row.name, row.p_first) for row in done if row.p_first is not None]
    if tested:
        alike = ", ".join(f"{name} (p = {rounded(p)})" for name, p in tested if p > LEVEL)
        told.append(
            f"Paired test against {done[0].name} on the same episodes: "
            + (f"p > {LEVEL:g}, so that the order may be chance, for {alike}." if alike else f"p ≤ {LEVEL:g} for all.")
        )
    nulls = [(row.name, row.null) for row in done if row.null is not None]
    if nulls:
        name, null = max(nulls, key=lambda pair: pair[1].rate.value)
        found = null.rate
        told.append(
            "As a check, random halves of one encoder's own episodes: the test finds a difference in "
            f"{percent(found.value)} [{percent(found.low)}, {percent(found.high)}] of {null.resamples} splits "
            f"(worst: {name}; chance alone gives {LEVEL:.0%})."
        )
    return told
