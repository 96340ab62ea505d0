"""The window of unequal rates: which features two outputs find, and what repairs a choice that is no use.

An embedding under whiteness takes the slowest features of the world. With rates `rho_max` and `rho_min` these are z_1,
and then z_2 or the second harmonic `He_2(z_1)` of the slow latent, whose correlation is `rho_max^2`. So z_2 is found
only within the window `rho_max^2 < rho_min` (Klindt, LeCun and Balestriero 2026, arXiv 2605.26379, on slow features).

Pairs at a k-fold lag have the rates `rho^k`, and the window is the same: `rho_max^(2k) < rho_min^k`. What helps:

- Reweighting. An encoder with one output finds z_1 at any rates. Pairs drawn again with the weights
  `p(z_1, z_1'; new) / p(z_1, z_1'; rho_max)` have the new rate in z_1, and leave z_2 alone. Their variance is finite
  while `1 - new < 2 (1 - rho_max)`.
- Independence, which a Gaussian embedding asks for and a white one does not: `He_2(z_1)` is a function of z_1.
- Actions. Let the second view be `rho z + sqrt(1 - rho^2) a`, a the action. For any h with the linear part M z,
  `S_ha = M diag(sqrt(1 - rho^2))`, and `S_hh - M diag(2 (1 - rho)) M'` is semidefinite, 0 iff h is linear. So the
  shares that the actions explain add up to `sum (1 + rho_i) / 2` at most, attained by linear maps alone, at any rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from worldplan.arrays import Floats
from worldplan.eval.identifiability.regression import fit_affine, r2
from worldplan.eval.laboratory.ensemble import Training
from worldplan.eval.laboratory.experiment import Experiment, Finding, Results, ScaleName, over_seeds
from worldplan.eval.laboratory.figure import curve
from worldplan.eval.laboratory.judge import Encode
from worldplan.eval.laboratory.mixings import LEJEPA
from worldplan.eval.laboratory.setting import JUDGE, PAIRS, UNTRAINED, Member, Setting, train_members
from worldplan.eval.laboratory.worlds import GaussianPairs, RecordedPairs
from worldplan.eval.show.style import BLUE, ORANGE, png, tidy
from worldplan.eval.show.table import NONE, Cell, Column, Table, number
from worldplan.provenance import Result, restored
from worldplan.sweeps.jobs import Job

SLOW = 0.9  # rho_max
NEW = 0.82  # rate of z_1 after reweighting: `1 - NEW = 1.8 (1 - SLOW)`
LAG = 3
MIXING = "couplings"
WHITENING: dict[str, Any] = {"name": "whitening", "weight": 0.5}
ARMS: dict[str, dict[str, Any]] = {
    "whitening": WHITENING,
    "VICReg": {"name": "vicreg", "weight": 0.5},
    "LeJEPA": LEJEPA,
    f"whitening, lag {LAG}": WHITENING,
    "whitening, reweighted": WHITENING,
    "excitation": {"name": "excitation"},
    UNTRAINED: WHITENING,
}
SWITCHED = [arm for arm in ARMS if arm not in ("excitation", UNTRAINED)]


@dataclass(frozen=True)
class Size:
    """How many encoders, and how large."""

    shares: tuple[float, ...]  # rho_min / rho_max
    seeds: int
    width: int
    training: Training
    pairs: int  # of the pool that is reweighted
    judged: int


SHARES = 0.98, 0.95, 0.93, 0.91, 0.89, 0.87, 0.84, 0.8, 0.76, 0.73, 0.65, 0.5
SIZES: dict[ScaleName, Size] = {
    "smoke": Size((0.95, 0.7), 1, 16, Training(10, 64), 500, 400),
    "cpu": Size(SHARES, 3, 64, Training(5000, 256), 200_000, 10_000),
    "full": Size(SHARES, 10, 256, Training(20_000, 1024), 1_000_000, 50_000),
}


@dataclass(frozen=True)
class Found(Result):
    """What an encoder tells of each feature, by linear R2 on other states.

    Attributes:
        fast: rho_min.
        slow_latent: R2(h -> z_1).
        fast_latent: R2(h -> z_2).
        harmonic: R2(h -> He_2(z_1)).
    """

    fast: float
    slow_latent: float
    fast_latent: float
    harmonic: float


def jobs(scale: ScaleName, seed: int) -> list[Job]:
    """One for each arm and seed: an ensemble of all rates, which share mixing and first weights."""
    size, found = SIZES[scale], []
    for k in range(size.seeds):
        for arm, objective in ARMS.items():
            members = tuple(Member((seed, k), objective, (SLOW, share * SLOW)) for share in size.shares)
            training = replace(size.training, steps=0) if arm == UNTRAINED else size.training
            setting = Setting(MIXING, members, training, width=size.width, judged=size.judged)
            found.append(Job(train_and_judge, {"arm": arm, "setting": asdict(setting), "pairs": size.pairs}))
    return found


def train_and_judge(arm: str, setting: Mapping[str, Any], pairs: int, folder: Path) -> list[dict[str, Any]]:
    """The job: a `Found` for each member, as JSON. `pairs` is the size of the pool that is reweighted."""
    own: Setting = restored(Setting, setting)
    if arm == "excitation":
        encoders = train_members(own, actions=actions_of(own))
    elif arm == "whitening, reweighted":
        encoders = train_members(own, reweighted(own, pairs))
    elif arm == f"whitening, lag {LAG}":
        later = [replace(member, rho=tuple(rho**LAG for rho in rates(member))) for member in own.members]
        encoders = train_members(own, replace(own, members=tuple(later)).source())
    else:
        encoders = train_members(own)
    return [
        measured(encode, rates(member)[1], own.judged, member.integer(JUDGE)).to_dict()
        for member, encode in zip(own.members, encoders, strict=True)
    ]


def rates(member: Member) -> tuple[float, float]:
    """Both correlations of a member's pairs."""
    slow, fast = np.broadcast_to(member.rho, 2).tolist()
    return slow, fast


def measured(encode: Encode, fast: float, count: int, seed: int) -> Found:
    """R2 of z_1, z_2 and He_2(z_1), fitted on `count` states and judged on as many others."""
    z = np.random.default_rng(seed).standard_normal((2 * count, 2))
    features = np.stack([z[:, 0], z[:, 1], (z[:, 0] ** 2 - 1) / math.sqrt(2)], axis=1)
    h = encode(z)
    told = fit_affine(h[:count], features[:count])(h[count:])
    parts = r2(features[count:], told, block=1, resamples=2).per_block
    return Found(fast, *(part.value for part in parts))


# --- repairs --------------------------------------------------------------------------------------------------------


def actions_of(own: Setting) -> Callable[[Tensor], Tensor]:
    """The actions (M, B, 2) that led from the first view to the second: `(z' - rho z) / sqrt(1 - rho^2)`."""
    rho = own.rates()[:, None]

    def actions(z: Tensor) -> Tensor:
        return (z[:, :, 1] - rho * z[:, :, 0]).div((1 - rho.square()).sqrt())

    return actions


def reweighted(own: Setting, pairs: int) -> RecordedPairs:
    """A pool of pairs of each member, drawn again so that the slowest feature has the rate `NEW`.

    The feature is that of an encoder with one output, which training on the same pairs finds first.
    """
    first = train_members(replace(own, m=1))
    pool = []
    for member, encode in zip(own.members, first, strict=True):
        z = GaussianPairs(torch.tensor([rates(member)]), [member.generator(PAIRS)]).draw(pairs)[0]
        feature = np.stack([encode(z[:, view].numpy())[:, 0] for view in (0, 1)], axis=1)
        chosen = chance_of(feature, NEW)
        rng = np.random.default_rng(member.integer(PAIRS))
        pool.append(z[torch.from_numpy(rng.choice(pairs, pairs, p=chosen))])
    return RecordedPairs(torch.stack(pool), [member.generator(PAIRS) for member in own.members])


def chance_of(feature: Floats, new: float) -> Floats:
    """Probabilities (P,) of pairs under which a Gaussian feature (P, 2) has the correlation `new`."""
    unit = (feature - feature.mean()) / feature.std()
    rho = float(np.mean(unit[:, 0] * unit[:, 1]))
    # The law of a pair is that of its sum and difference, of variances 1 + rho and 1 - rho.
    log = np.zeros(len(unit))
    for sign in (1, -1):
        square = np.square(unit[:, 0] + sign * unit[:, 1]) / 2
        log += square / 2 * (1 / (1 + sign * rho) - 1 / (1 + sign * new))
    weight = np.exp(log - log.max())
    return np.asarray(weight / weight.sum())


# --- reading --------------------------------------------------------------------------------------------------------


def switch(fast: Sequence[float], margin: Sequence[float]) -> float | None:
    """Where the margin `R2(z_2) - R2(He_2(z_1))` crosses 0, between rates; None unless it does so exactly once."""
    order = np.argsort(fast)
    x, y = np.array(fast)[order], np.array(margin)[order]
    crossed = np.flatnonzero((y[:-1] < 0) & (y[1:] >= 0))
    if len(crossed) != 1 or np.any((y[:-1] >= 0) & (y[1:] < 0)):
        return None
    k = int(crossed[0])
    return float(x[k] - y[k] * (x[k + 1] - x[k]) / (y[k + 1] - y[k]))


def read(scale: ScaleName, results: Results) -> Finding:
    """R2 of each feature by arm and rate, and where the second feature changes."""
    rows: dict[tuple[str, float], list[Found]] = {}
    switches: dict[str, list[float | None]] = {}
    for arguments, encoders in results:
        own: list[Found] = [restored(Found, one) for one in encoders]
        for found in own:
            rows.setdefault((arguments["arm"], found.fast), []).append(found)
        place = switch([e.fast for e in own], [e.fast_latent - e.harmonic for e in own])
        switches.setdefault(arguments["arm"], []).append(place)
    arms = [arm for arm in ARMS if arm in switches]
    table = Table(
        f"Window of unequal rates, rho_max {SLOW:g}, scale {scale}",
        [
            Column("pairs and objective", named=True),
            "rho_min",
            "rho_min / rho_max²",
            Column("theory", named=True),
            "R2(h → z₁)",
            "R2(h → z₂)",
            "R2(h → He₂(z₁))",
            Column("published", named=True),
        ],
        [
            [
                arm,
                f"{fast:.3f}",
                f"{fast / SLOW**2:.2f}",
                NONE if arm == UNTRAINED else "z₂" if fast > edge(arm) else "He₂(z₁)",
                *(number(over_seeds(rows[arm, fast], pick)) for pick in (_slow, _fast, _harmonic)),
                Cell("not given"),
            ]
            for arm, fast in sorted(rows, key=lambda key: (arms.index(key[0]), -key[1]))
        ],
        [
            "Means over seeds with their 95% intervals. R2 is linear, on other states. Theory: beside z_1, a white "
            "embedding holds the slower one of z_2 and He_2(z_1). A Gaussian one cannot hold z_1 and He_2(z_1), which "
            "depend on each other; where LeJEPA should switch at its weight the theory does not say.",
            f"Repairs: pairs at lag {LAG} (theory: none); pairs drawn again so that z_1 has the rate {NEW:g} (theory: "
            f"the switch moves to {NEW**2:.3f}); actions, with the objective excitation (theory: z_2 at any rate).",
        ],
    )
    facts = {
        "rows": [{"arm": arm, "encoders": own} for (arm, _), own in rows.items()],
        "switches": {arm: switches[arm] for arm in arms},
        "theory": {"whitening": SLOW**2, "whitening, reweighted": NEW**2},
    }
    return Finding(_sentence(rows, switches), table, draw(rows, arms), facts, DIFFERENCES)


DIFFERENCES = (
    "Published: the condition rho_max^2 < rho_min stands in an appendix, without an experiment that we know of.",
    "The condition is that of a white embedding, as whitening and VICReg ask for; LeJEPA asks for a Gaussian one.",
    "The reweighted pairs and the pairs with actions are ours.",
)


def edge(arm: str) -> float:
    """The rho_min above which the theory of whiteness promises z_2."""
    return {"whitening, reweighted": NEW**2, "excitation": 0.0}.get(arm, SLOW**2)


def _slow(found: Found) -> float:
    return found.slow_latent


def _fast(found: Found) -> float:
    return found.fast_latent


def _harmonic(found: Found) -> float:
    return found.harmonic


def _sentence(rows: Mapping[tuple[str, float], list[Found]], switches: Mapping[str, list[float | None]]) -> str:
    parts = []
    for arm in (arm for arm in SWITCHED if arm in switches):
        places = [place for place in switches[arm] if place is not None]
        if places:
            middle, count = float(np.mean(places)), f"{len(places)} of {len(switches[arm])} seeds"
            off = f"{100 * (middle / edge(arm) - 1):+.0f}% off {edge(arm):.3f}"
            parts.append(f"{middle:.3f} for {arm} ({off}, {count})")
        else:
            parts.append(f"no single place for {arm}")
    below: dict[str, list[float]] = {}
    for (arm, fast), own in rows.items():
        if fast < SLOW**2:
            below.setdefault(arm, []).append(over_seeds(own, _fast).value)
    least = [f"{arm} {min(below[arm]):.2f}" for arm in ARMS if arm in below]
    found = f"The second feature changes at a rho_min of {', '.join(parts)}"
    return f"{found}; the least R2 of z_2 outside the window: {', '.join(least)}."


def draw(rows: Mapping[tuple[str, float], list[Found]], arms: Sequence[str]) -> bytes:
    """R2 of z_2 and He_2(z_1) by rho_min, a panel for each arm, with the theory of whitening on the same pairs."""
    shown = [arm for arm in arms if arm != UNTRAINED]
    columns = 3
    figure = Figure(figsize=(8, 2.5 * math.ceil(len(shown) / columns)), dpi=110, layout="constrained")
    grid = figure.subplots(math.ceil(len(shown) / columns), columns, sharex=True, sharey=True, squeeze=False)
    for axes, arm in zip(grid.flat, shown, strict=False):
        fast = sorted(rate for a, rate in rows if a == arm)
        rates_shown = np.linspace(fast[0], fast[-1], 500)
        for label, colour, pick in (("z₂", BLUE, _fast), ("He₂(z₁)", ORANGE, _harmonic)):
            curve(axes, fast, [over_seeds(rows[arm, rate], pick) for rate in fast], color=colour, label=label)
            told = ((rates_shown > edge(arm)) == (pick is _fast)).astype(float)
            axes.plot(rates_shown, told, "--", color=colour, lw=1, label=f"{label}, theory of whiteness")
        axes.set_ylim(-0.05, 1.05)
        tidy(axes, title=arm, xlabel="rho_min")
    for axes in grid[:, 0]:
        axes.set_ylabel("R2 on other states")
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=len(labels), fontsize=8, frameon=False)
    return png(figure)


WINDOW_EXPERIMENT = Experiment(
    "window",
    "The hidden condition: with unequal rates two outputs find both latents only if `rho_max^2 < rho_min`; else the "
    "second is a harmonic of the slow latent (Klindt, LeCun and Balestriero 2026, arXiv 2605.26379).",
    jobs,
    read,
)
