"""Theorem 3 over a grid of weights and correlations: whether its bound holds, and what predicts the error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from worldplan.arrays import Floats
from worldplan.eval.identifiability.theorem3 import ApproximateIdentifiability, distortion
from worldplan.eval.laboratory.ensemble import Training
from worldplan.eval.laboratory.experiment import Experiment, Finding, Results, ScaleName
from worldplan.eval.laboratory.figure import legend_below, logarithmic
from worldplan.eval.laboratory.judge import resamples_of
from worldplan.eval.laboratory.mixings import MIXINGS_EXPERIMENT
from worldplan.eval.laboratory.setting import JUDGE, Member, Setting, Trained, encoders, measured
from worldplan.eval.laboratory.width import WIDTH_EXPERIMENT
from worldplan.eval.laboratory.worlds import gaussian_pairs
from worldplan.eval.show.style import BLUE, ORANGE, RED, png, tidy
from worldplan.eval.show.table import NONE, Cell, Column, Table, number
from worldplan.eval.statistics.correlation import correlate, spearman_difference
from worldplan.eval.statistics.estimate import Estimate, estimate
from worldplan.provenance import restored
from worldplan.rounding import rounded
from worldplan.sweeps.jobs import Job

WEIGHTS = 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 0.9
RHOS = 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95
RELATED = MIXINGS_EXPERIMENT, WIDTH_EXPERIMENT


@dataclass(frozen=True)
class Bounded(Trained):
    """An encoder of the grid.

    Attributes:
        own: Theorem 3 with pairs at the member's own correlation; None for encoders of other experiments.
    """

    own: ApproximateIdentifiability | None = None


@dataclass(frozen=True)
class Size:
    """The grid: every weight at every rho with every seed, behind each mixing."""

    mixings: tuple[str, ...]
    weights: tuple[float, ...]
    rhos: tuple[float, ...]
    seeds: int
    width: int
    depth: int
    training: Training
    judged: int = 4000


SIZES: dict[ScaleName, Size] = {
    "smoke": Size(("spiral",), (0.01, 0.1, 0.9), (0.5, 0.8), 2, 8, 2, Training(10, 64), 400),
    "cpu": Size(("spiral",), WEIGHTS, RHOS, 3, 64, 3, Training(3000, 256)),
    "full": Size(("spiral", "couplings"), WEIGHTS, RHOS, 10, 256, 4, Training(20_000, 1024)),
}


def settings(scale: ScaleName, seed: int) -> list[Setting]:
    """An ensemble for each row of the grid, and one without training."""
    size = SIZES[scale]
    found = []
    for mixing in size.mixings:
        for rho in size.rhos:
            members = tuple(
                Member((seed, k), {"name": "lejepa", "weight": weight, "slices": 16}, rho)
                for weight in size.weights
                for k in range(size.seeds)
            )
            shape = size.width, size.depth, size.judged
            found.append(Setting(mixing, members, size.training, 2, None, "mlp", *shape))
        found.append(replace(found[-1], members=found[-1].members[: size.seeds], training=Training(0)))
    return found


def jobs(scale: ScaleName, seed: int) -> list[Job]:
    """One for each setting."""
    return [setting.job(train_and_bound) for setting in settings(scale, seed)]


def train_and_bound(setting: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The job: a `Bounded` for each member, as JSON."""
    own: Setting = restored(Setting, setting)
    found = []
    for encode, encoder in encoders(own):
        seed, rho = encoder.member.integer(JUDGE), float(np.max(encoder.member.rho))
        pairs = gaussian_pairs(2 * own.judged, own.n, rho, np.random.default_rng(seed))
        h = np.stack([encode(view) for view in pairs.swapaxes(0, 1)], axis=1)
        at = distortion(h, pairs, rho=rho, resamples=resamples_of(own.judged), seed=seed)[1]
        found.append(Bounded(**vars(encoder), own=at).to_dict())
    return found


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """Error beside bound over encoders.

    Attributes:
        runs: encoders.
        holds: of which the error's lower limit lies below the bound's upper limit.
        above: of which the error exceeds the bound, limits aside.
        tightness: median of bound over error, with its 95% interval over encoders.
    """

    runs: int
    holds: int
    above: int
    tightness: Estimate


def verdict(found: Sequence[ApproximateIdentifiability]) -> Verdict:
    """Whether the bound holds, and how tight it is."""
    ratios = np.array([one.bound.value / one.error.value for one in found if one.error.value > 0])
    return Verdict(
        len(found),
        sum(one.holds for one in found),
        sum(one.error.value > one.bound.value for one in found),
        estimate(ratios, np.median),
    )


@dataclass(frozen=True)
class Prediction:
    """Spearman's correlation of the error with delta and with eps, and by how much the first is greater.

    Intervals are over encoders; those of the difference draw the same encoders for both.
    """

    delta: Estimate
    eps: Estimate
    difference: Estimate


def prediction(found: Sequence[ApproximateIdentifiability], seed: int = 0) -> Prediction:
    """Which of delta and eps ranks encoders as the error does."""
    error, delta, eps = (np.array([getattr(one, name).value for one in found]) for name in ("error", "delta", "eps"))
    return Prediction(
        correlate(delta, error, seed).spearman,
        correlate(eps, error, seed).spearman,
        spearman_difference(delta, eps, error, seed),
    )


def read(scale: ScaleName, results: Results) -> Finding:
    """Error beside bound by rho, for the grid, and for every encoder of the laboratory that is at hand."""
    found = measured(results, Bounded)
    grid = [encoder for setting, encoder in found if encoder.own is not None and setting.training.steps]
    untrained = [encoder for setting, encoder in found if encoder.own is not None and not setting.training.steps]
    others = [encoder for setting, encoder in found if encoder.own is None and setting.training.steps]
    groups = {f"rho {rho:g}": own_of(grid, rho) for rho in dict.fromkeys(encoder.member.rho for encoder in grid)}
    groups |= {"the grid": grid, "untrained": untrained, "all encoders of this call": grid + others if others else []}
    groups = {name: own for name, own in groups.items() if own}
    verdicts = {name: (verdict(at_half(own)), verdict(at_own(own))) for name, own in groups.items()}
    predictions = {name: prediction(at_half(own)) for name, own in groups.items()}
    half, own = verdicts["the grid"]
    foretold = predictions["the grid"]
    parts = {
        "error <= D": sum(one.error.low <= one.D.high for one in at_half(grid)),
        "error <= eps^2": sum(one.error.low <= one.eps.high**2 for one in at_half(grid)),
    }
    exceptions = [told for encoder in grid + others for told in exceptions_of(encoder)]
    table = Table(
        f"Theorem 3 over weights and correlations, scale {scale}",
        [
            Column("encoders", named=True),
            "runs",
            Column("largest R2(h → z)", short="largest R2"),
            "median error",
            Column("bound / error, rho .5", short="bound / error at .5"),
            Column("holds, rho .5", short="holds at .5"),
            Column("bound / error, own rho", short="bound / error at own rho"),
            Column("holds, own rho", short="holds at own rho"),
            Column("Spearman of delta and error", short="Spearman delta"),
            Column("Spearman of eps and error", short="Spearman eps"),
        ],
        [
            ["published", *["not given"] * 4, "all but 2", "not given", "not given", "far greater", "far less"],
            *(row(name, own, *verdicts[name], predictions[name]) for name, own in groups.items()),
        ],
        [
            "The bound holds if the error's lower 95% limit lies below the bound's upper limit. Spearman's "
            "correlations are those at rho .5. Bound / error is a median; intervals are over encoders.",
            f"Limits aside, the error exceeds the bound in {half.above} of {half.runs} runs at rho .5, and in "
            f"{own.above} of {own.runs} at their own rho.",
            f"What the theorem does not say: the error stays below D, its part for alignment, in "
            f"{parts['error <= D']} of {half.runs} runs, and below eps^2, its part for the covariance, in "
            f"{parts['error <= eps^2']}.",
            *(exceptions or ["There is no exception to explain."]),
        ],
    )
    sentence = (
        f"The bound of Theorem 3 holds in {half.holds} of {half.runs} runs with pairs at rho .5, where it is "
        f"{rounded(half.tightness.value)} times the error (median), and in {own.holds} with pairs at the run's own rho "
        f"({rounded(own.tightness.value)} times). The error's Spearman correlation is {foretold.delta} with delta and "
        f"{foretold.eps} with eps: {told_apart(foretold)}."
    )
    return Finding(
        sentence,
        table,
        draw(grid, others),
        {
            "verdicts": verdicts,
            "predictions": predictions,
            "parts": parts,
            "exceptions": exceptions,
            "encoders": [{**vars(encoder), "cloud": ()} for encoder in grid + untrained],
        },
        (
            "Published: 'grid, 2D, scaling, and gennorm runs', of which neither weights, correlations nor numbers of "
            "runs are given; the grid here is that of the code, with `lab all` the encoders of the others as well.",
            "Published: whether the bound is taken at the training correlation is not given; here it is at both.",
        ),
    )


def row(name: str, own: Sequence[Bounded], half: Verdict, at: Verdict, foretold: Prediction) -> list[Cell | str]:
    """A line of the table."""
    return [
        name,
        str(len(own)),
        number(max(encoder.judged.r2.value for encoder in own)),
        number(median(own)),
        number(half.tightness),
        held(half),
        number(at.tightness),
        held(at),
        number(foretold.delta),
        number(foretold.eps),
    ]


def own_of(grid: Sequence[Bounded], rho: Any) -> list[Bounded]:
    """Encoders of one correlation."""
    return [encoder for encoder in grid if encoder.member.rho == rho]


def at_half(encoders: Sequence[Bounded]) -> list[ApproximateIdentifiability]:
    """Theorem 3 at rho .5."""
    return [encoder.judged.theorem3 for encoder in encoders if encoder.judged.theorem3 is not None]


def at_own(encoders: Sequence[Bounded]) -> list[ApproximateIdentifiability]:
    """Theorem 3 at the training correlation, of those that have it."""
    return [encoder.own for encoder in encoders if encoder.own is not None]


def held(own: Verdict) -> str:
    """In how many runs the bound holds; a dash where nobody measured it."""
    return f"{own.holds} of {own.runs}" if own.runs else NONE.text


def told_apart(found: Prediction) -> str:
    """Which of the two predicts better, if the interval of the difference says so."""
    if found.difference.low > 0:
        return "delta predicts the error better"
    return "eps predicts the error better" if found.difference.high < 0 else "their intervals do not tell them apart"


def exceptions_of(encoder: Bounded) -> list[str]:
    """A sentence for each measurement of an encoder that breaks the bound."""
    named = [(one, where) for one, where in ((encoder.judged.theorem3, "rho .5"), (encoder.own, "its own rho")) if one]
    return [
        f"Exception at {where}: {described(encoder.member)}: "
        f"error {one.error}, bound {one.bound}, eps {one.eps}, delta {one.delta}."
        for one, where in named
        if not one.holds
    ]


def described(member: Member) -> str:
    """A member in words."""
    options = ", ".join(f"{name} {value}" for name, value in member.objective.items() if name != "name")
    return f"{member.objective['name']} ({options}), rho {member.rho}, seed {member.seed}"


def draw(grid: Sequence[Bounded], others: Sequence[Bounded]) -> bytes:
    """Error beside bound at both correlations, and beside delta and eps; lines: equality."""
    figure = Figure(figsize=(10.5, 3.6), dpi=110, layout="constrained")
    half, own, causes = figure.subplots(1, 3)
    rhos = np.array([np.max(encoder.member.rho) for encoder in grid])
    for axes, found, where in ((half, at_half(grid), "rho .5"), (own, at_own(grid), "the run's own rho")):
        error, bound = values(found, "error"), values(found, "bound")
        ends = [error.min(), error.max()]
        if axes is half and others:
            rest = at_half(others)
            axes.plot(values(rest, "error"), values(rest, "bound"), ".", color="0.7", label="other experiments")
            ends = [min(ends[0], values(rest, "error").min()), max(ends[1], values(rest, "error").max())]
        points = axes.scatter(error, bound, c=rhos, s=12, cmap="viridis", label="the grid")
        axes.plot(ends, ends, color=RED, lw=1, label="bound = error")
        names = {"xlabel": "error E|h - Qz|²", "ylabel": "bound D + (ε + D)²"}
        tidy(axes, title=f"pairs at {where}", **names)
        logarithmic(axes)
    figure.colorbar(points, ax=own, label="training rho")
    error = values(at_half(grid), "error")
    for name, colour in (("delta", BLUE), ("eps", ORANGE)):
        causes.plot(values(at_half(grid), name), error, ".", color=colour, ms=5, label=name)
    tidy(causes, title="what predicts the error", xlabel="delta, eps at rho .5", ylabel="error E|h - Qz|²")
    logarithmic(causes)
    for axes in (half, causes):
        legend_below(axes)
    return png(figure)


def values(found: Sequence[ApproximateIdentifiability], name: str) -> Floats:
    """A quantity of each, at least 1e-6: sampling noise can take delta below 0, and axes are logarithmic."""
    return np.array([getattr(one, name).value for one in found]).clip(min=1e-6)


def median(encoders: Sequence[Bounded]) -> Estimate:
    """Of the error at rho .5, with its interval over encoders."""
    return estimate(np.array([one.error.value for one in at_half(encoders)]), np.median)


def related(scale: ScaleName, seed: int) -> list[Job]:
    """Jobs of other experiments that train and judge encoders."""
    return [job for experiment in RELATED for job in experiment.jobs(scale, seed) if "setting" in job.arguments]


BOUND_EXPERIMENT = Experiment(
    "bound",
    "Theorem 3: an encoder lies within D + (eps + D)^2 of a rotation, where eps measures its covariance and D its "
    "alignment (Klindt, LeCun and Balestriero 2026, arXiv 2605.26379).",
    jobs,
    read,
    related,
)
