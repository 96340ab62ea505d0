"""Encoders narrower and wider than the world: what they hold, and what planning on them costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.linalg import eigh

from worldplan.arrays import Floats
from worldplan.eval.identifiability.hermite import hermite_energy
from worldplan.eval.identifiability.regression import fit_affine, r2
from worldplan.eval.identifiability.rotation_fit import rotation_fit
from worldplan.eval.identifiability.spectrum import effective_rank
from worldplan.eval.laboratory.ensemble import Training
from worldplan.eval.laboratory.experiment import Experiment, Finding, Results, ScaleName, over_seeds
from worldplan.eval.laboratory.judge import Encode, control_cost
from worldplan.eval.laboratory.setting import JUDGE, UNTRAINED, Member, Setting, Trained, encoders, measured
from worldplan.eval.laboratory.worlds import gaussian_pairs
from worldplan.eval.show.style import BLUE, GREEN, ORANGE, RED, VIOLET, png, tidy
from worldplan.eval.show.table import Cell, Column, Table, number
from worldplan.planning.rotation import random_rotation
from worldplan.provenance import restored
from worldplan.rounding import rounded
from worldplan.sweeps.jobs import Job

N = 4  # latents
RATES: dict[str, tuple[float, ...]] = {"equal": (0.7,) * N, "unequal": (0.8, 0.75, 0.7, 0.66)}
"""Correlations of the latents. Within the window `rho_max^2 < rho_min`, every latent comes before every harmonic."""
OBJECTIVES: dict[str, dict[str, Any]] = {
    (LIGHT := "LeJEPA .001"): {"name": "lejepa", "weight": 0.001, "slices": 16},
    (HEAVY := "LeJEPA .01"): {"name": "lejepa", "weight": 0.01, "slices": 16},
    "VICReg": {"name": "vicreg", "weight": 0.3},
    "whitening": {"name": "whitening", "weight": 0.3},
}
SHARE = 0.01  # of the total variance, above which a direction counts
WHOLE, SLOWEST, PRINCIPAL, RANDOM = "whole", "slowest", "principal", "random"
RESAMPLES = 20  # intervals are over seeds


@dataclass(frozen=True)
class Widths(Trained):
    """An encoder of m outputs in a world of n latents.

    Attributes:
        rotation: R2 of `Q'(h - offset)` for z: no scale is fitted.
        energy: shares of the variance of h by Hermite degree 1, 2 and 3, then the rest.
        rank: effective rank of Cov(h).
        rates: autocorrelations of the directions of h that count, slowest first; no true state is used.
        latents: R2(h -> z_i) of each latent.
        costs: control cost of the whole embedding, and of min(m, n) directions of it.
    """

    rotation: float = np.nan
    energy: tuple[float, ...] = ()
    rank: float = np.nan
    rates: tuple[float, ...] = ()
    latents: tuple[float, ...] = ()
    costs: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Size:
    """Which widths and objectives, how many encoders, and how large."""

    outputs: tuple[int, ...]
    objectives: tuple[str, ...]
    seeds: int
    width: int
    depth: int
    training: Training
    judged: int = 4000


SIZES: dict[ScaleName, Size] = {
    "smoke": Size((2, 6), (LIGHT, HEAVY), 1, 8, 2, Training(10, 64), 400),
    "cpu": Size((2, 3, 4, 6, 8), tuple(OBJECTIVES), 3, 64, 3, Training(3000, 256)),
    "full": Size((2, 3, 4, 6, 8), tuple(OBJECTIVES), 10, 256, 4, Training(20_000, 1024)),
}


def settings(scale: ScaleName, seed: int) -> list[Setting]:
    """An ensemble of weights, rates and seeds for each width and objective, and one without training."""
    size = SIZES[scale]
    kinds: dict[str, list[dict[str, Any]]] = {}
    for objective in map(OBJECTIVES.__getitem__, size.objectives):
        kinds.setdefault(objective["name"], []).append(objective)
    found = []
    for m in size.outputs:
        for objectives in kinds.values():
            each = product(objectives, RATES.values(), range(size.seeds))
            members = tuple(Member((seed, k), objective, rho) for objective, rho, k in each)
            shape = size.width, size.depth, size.judged
            found.append(Setting("couplings", members, size.training, N, m, "mlp", *shape))
        once = found[-1].members[: len(RATES) * size.seeds]
        found.append(replace(found[-1], members=once, training=Training(0)))
    return found


def jobs(scale: ScaleName, seed: int) -> list[Job]:
    """One for each setting."""
    return [setting.job(train_and_reduce) for setting in settings(scale, seed)]


def train_and_reduce(setting: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The job: `Widths` of each member, as JSON."""
    own: Setting = restored(Setting, setting)
    return [examined(encode, encoder, own).to_dict() for encode, encoder in encoders(own)]


def examined(encode: Encode, encoder: Trained, setting: Setting) -> Widths:
    """What an encoder holds, and what planning on it costs before and after reductions."""
    seed, n, count = encoder.member.integer(JUDGE), setting.n, setting.judged
    z = gaussian_pairs(2 * count, n, encoder.member.rho, np.random.default_rng((seed, 1)))
    h = np.stack([encode(view) for view in z.swapaxes(0, 1)], axis=1)
    train, test, told, seen = z[:count, 0], z[count:, 0], h[:count, 0], h[count:, 0]
    each = r2(test, fit_affine(told, train)(seen), block=1, resamples=RESAMPLES).per_block
    shares = hermite_energy(h, z, resamples=RESAMPLES)
    k = min(n, h.shape[2])
    rates, slow = slow_directions(h)
    directions = {SLOWEST: slow[:k], PRINCIPAL: principal(h)[:k], RANDOM: random_rotation(h.shape[2], seed)[:k]}
    costs = {name: control_cost(reduced(encode, own), n, seed=seed) for name, own in directions.items()}
    return Widths(
        **vars(encoder),
        rotation=rotation_fit(told, train, seen, test, resamples=RESAMPLES).rotation.value,
        energy=tuple(share.value for share in (*shares.by_degree, shares.rest)),
        rank=effective_rank(variance(h)[0]),
        rates=tuple(rates.tolist()),
        latents=tuple(one.value for one in each),
        costs={WHOLE: encoder.control, **costs},
    )


def reduced(encode: Encode, directions: Floats) -> Encode:
    """Embeddings along directions (k, m)."""
    return lambda z: np.asarray(encode(z) @ directions.T)


# --- reductions: none sees a true state -----------------------------------------------------------------------------


def slow_directions(h: Floats) -> tuple[Floats, Floats]:
    """Autocorrelations (k,) and directions (k, m) of embeddings (N, 2, m) of pairs, slowest first; each of variance 1.

    Linear slow feature analysis (Wiskott and Sejnowski 2002, Neural Computation 14). Directions with less than `SHARE`
    of the variance do not count: they would be amplified noise.
    """
    variances, axes = variance(h)
    counts = variances > SHARE * variances.sum()
    white = (axes[:, counts] / np.sqrt(variances[counts])).T
    first, second = ((h - h.mean(axis=(0, 1))) @ white.T).swapaxes(0, 1)
    lagged = first.T @ second / len(h)
    rates, turn = eigh((lagged + lagged.T) / 2)
    return rates[::-1], turn.T[::-1] @ white


def principal(h: Floats) -> Floats:
    """Directions (m, m) of embeddings (N, 2, m), orthonormal, those with most variance first."""
    return variance(h)[1].T


def variance(h: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues (m,) and eigenvectors (m, m), as columns, of the covariance of both views; largest first."""
    values, axes = eigh(np.cov(h.reshape(-1, h.shape[2]).T))
    return values[::-1].clip(min=0), axes[:, ::-1]


# --- reading --------------------------------------------------------------------------------------------------------

Rows = dict[tuple[str, int, str], list[Widths]]  # by rates, m, and objective


def read(scale: ScaleName, results: Results) -> Finding:
    """What encoders of each width hold and cost, means over seeds."""
    rows: Rows = {}
    for setting, encoder in measured(results, Widths):
        objective = next(name for name, one in OBJECTIVES.items() if one == encoder.member.objective)
        rates = next(name for name, rho in RATES.items() if np.array_equal(rho, encoder.member.rho))
        key = rates, setting.m or N, objective if setting.training.steps else UNTRAINED
        rows.setdefault(key, []).append(encoder)
    rows = dict(sorted(rows.items(), key=lambda row: row[0][:2]))
    table = Table(
        f"Encoders of m outputs in a world of {N} latents, scale {scale}",
        [
            Column("rates", named=True),
            "m",
            Column("objective", named=True),
            "R2(h → z)",
            Column("R2(h → each latent)", short="R2 of each"),
            "R2(z → h)",
            Column("orthogonal R2", short="R2 of Q'h"),
            Column("degree 1", short=""),
            "degree 2",
            Column("degree 3 and rest", short=""),
            Column("effective rank", short="rank"),
            Column("control cost, whole", short="cost"),
            *(Column(f"{name} directions", short=name) for name in (SLOWEST, PRINCIPAL, RANDOM)),
        ],
        [line for (rates, m, objective), own in rows.items() for line in lines(rates, m, objective, own)],
        [
            "Means over seeds with their 95% intervals. Theory: the white h with the best alignment holds the m "
            "slowest latents if m < n, and all of them and m - n second harmonics if m > n. Degrees: shares of the "
            "variance of h by Hermite degree. Control cost: LQR in the embedding over LQR on the true state.",
            "Slowest: the min(m, n) directions of h with the largest autocorrelation over pairs, scaled to variance 1. "
            "Principal: those with most variance, as they are. Random: orthonormal ones. None sees a true state; n is "
            "taken as known, and the gap of the autocorrelations shows it.",
            "Published: no numbers. Klindt, LeCun and Balestriero name both cases as open.",
        ],
    )
    return Finding(
        sentence(rows),
        table,
        draw(rows),
        {
            "rows": [
                {"rates": rates, "m": m, "objective": objective, "encoders": own}
                for (rates, m, objective), own in rows.items()
            ]
        },
        ("Published: m = n only; both other cases are named as limits.",),
    )


def lines(rates: str, m: int, objective: str, own: list[Widths]) -> list[list[Cell | str]]:
    """The row of an objective; before the first, what theory says."""
    row: list[Cell | str] = [
        rates,
        str(m),
        objective,
        number(over_seeds(own, lambda e: e.judged.r2.value)),
        "  ".join(f"{value:.2f}" for value in np.mean([e.latents for e in own], axis=0)),
        number(over_seeds(own, lambda e: e.judged.back.value)),
        *(number(mean(own, get)) for get in ("rotation", "degree 1", "degree 2", "more", "rank")),
        *(number(mean(own, name)) for name in (WHOLE, SLOWEST, PRINCIPAL, RANDOM)),
    ]
    if objective != LIGHT:
        return [row]
    k = min(m, N)
    each = "  ".join(f"{float(i < k):.2f}" for i in range(N)) if rates == "unequal" else f"sum {k}"
    linear = ["1", rounded((m - k) / m), "0", str(m)] if m <= N else [rounded(k / m), rounded((m - k) / m), "0", str(m)]
    kept = rounded(k / N)
    theory: list[Cell | str] = [rates, str(m), "theory", kept, each, rounded(k / m), kept, *linear, *["–"] * 4]
    return [theory, row]


def mean(own: list[Widths], name: str) -> Any:
    """A measure's mean over seeds."""
    measures = {
        "rotation": lambda e: e.rotation,
        "degree 1": lambda e: e.energy[0],
        "degree 2": lambda e: e.energy[1],
        "more": lambda e: sum(e.energy[2:]),
        "rank": lambda e: e.rank,
    }
    return over_seeds(own, measures.get(name, lambda e: e.costs[name]))


def complete(rows: Rows) -> list[int]:
    """Widths of which LeJEPA's encoders are done."""
    needed = [(rates, objective) for rates in RATES for objective in (LIGHT, HEAVY)]
    return [m for m in sorted({m for _, m, _ in rows}) if all((rates, m, one) in rows for rates, one in needed)]


def sentence(rows: Rows) -> str:
    """The narrowest and the widest encoder of LeJEPA, beside what theory says."""
    if not (widths := complete(rows)):
        return "LeJEPA's encoders are not done yet."
    m, most = widths[0], widths[-1]
    narrow, light, heavy = rows["unequal", m, LIGHT], rows["equal", most, LIGHT], rows["equal", most, HEAVY]
    top, rest = (float(np.mean([e.latents[half] for e in narrow])) for half in (slice(m), slice(m, None)))
    whole, slow, first, drawn = (rounded(mean(heavy, name).value) for name in (WHOLE, SLOWEST, PRINCIPAL, RANDOM))
    return (
        f"At unequal rates {LIGHT} with {m} outputs for {N} latents holds the {m} slowest with R2 {top:.3f} and the "
        f"others with {rest:.3f} (theory: 1 and 0). With {most} outputs second harmonics are "
        f"{mean(light, 'degree 2').value:.2f} of the variance of {LIGHT} and {mean(heavy, 'degree 2').value:.2f} of "
        f"that of {HEAVY} (theory: {(most - N) / most:.2f}), at effective ranks {mean(light, 'rank').value:.1f} and "
        f"{mean(heavy, 'rank').value:.1f}. On the latter, control costs {whole} times true-state LQR's, after "
        f"reduction to the {N} slowest directions {slow}, to the principal ones {first}, and to random ones {drawn}."
    )


def draw(rows: Rows) -> bytes:
    """LeJEPA by width: which latents, which degrees, which autocorrelations, and the cost of control."""
    widths = complete(rows)
    figure = Figure(figsize=(10, 7), dpi=100, layout="constrained")
    (which, degrees), (rates, costs) = figure.subplots(2, 2)
    place = np.arange(len(widths))
    for i, colour in enumerate((BLUE, GREEN, ORANGE, RED)):
        heights = np.array([np.mean([e.latents[i] for e in rows["unequal", m, LIGHT]]) for m in widths])
        which.bar(place + 0.2 * (i - 1.5), heights, 0.18, color=colour, label=f"rho {RATES['unequal'][i]:g}")
    tidy(which, title=f"latents held, unequal rates, {LIGHT}", xlabel="outputs m", ylabel="R2(h → z_i)")
    for shift, objective in ((-0.2, LIGHT), (0.2, HEAVY)):
        below = np.zeros(len(widths))
        for name, colour in (("degree 1", BLUE), ("degree 2", ORANGE), ("more", "0.7")):
            heights = np.array([mean(rows["equal", m, objective], name).value for m in widths])
            label = "" if objective == HEAVY else "degree 3 and rest" if name == "more" else name
            degrees.bar(place + shift, heights, 0.36, bottom=below, color=colour, label=label)
            below = below + heights
    theory = [min(1.0, N / m) for m in widths]
    degrees.hlines(theory, place - 0.4, place + 0.4, color="black", label="degree 1, theory")
    title = "Hermite energy, equal rates; left .001, right .01"
    tidy(degrees, title=title, xlabel="outputs m", ylabel="share of the variance of h")
    for m, colour in zip(widths, (VIOLET, RED, BLUE, GREEN, ORANGE), strict=False):
        for objective, style in ((LIGHT, "s:"), (HEAVY, "o-")):
            own = [e.rates for e in rows["equal", m, objective]]
            seen = np.mean([one[: min(map(len, own))] for one in own], axis=0)
            label = f"m = {m}" if objective == HEAVY else ""
            rates.plot(np.arange(1, len(seen) + 1), seen, style, color=colour, ms=4, label=label)
    rho = RATES["equal"][0]
    for power, style in ((1, "--"), (2, "-.")):
        rates.axhline(rho**power, color="black", ls=style, lw=1, label="rho" if power == 1 else "rho²")
    title = "correlation of directions over pairs, equal rates"
    tidy(rates, title=title, xlabel="direction, slowest first (squares: .001)", ylabel="correlation")
    for name, colour in ((WHOLE, BLUE), (SLOWEST, GREEN), (PRINCIPAL, ORANGE), (RANDOM, RED)):
        heights = np.array([mean(rows["equal", m, HEAVY], name).value for m in widths])
        costs.plot(place, heights, "o-", color=colour, ms=4, label=name)
    tidy(costs, title=f"control, equal rates, {HEAVY}", xlabel="outputs m", ylabel="cost over true-state LQR's")
    costs.set_yscale("log")
    for axes in (which, degrees, costs):
        axes.set_xticks(place, [str(m) for m in widths])
    for axes in (which, degrees, rates, costs):
        beside(axes)
    return png(figure)


def beside(axes: Axes) -> None:
    """A legend off the data."""
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


WIDTH_EXPERIMENT = Experiment(
    "width",
    "Theorem 1 assumes as many outputs as latents. By its argument a narrower white encoder holds the slowest latents, "
    "and a wider one all latents and their slowest harmonics.",
    jobs,
    read,
)
