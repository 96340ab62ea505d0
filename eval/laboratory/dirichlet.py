"""The limit of small noise: alignment becomes the Dirichlet energy, whose floor only isometries reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from worldplan.eval.laboratory.dirichlet_energy import FIXED, RHOS, learn, measure_fixed
from worldplan.eval.laboratory.ensemble import Training
from worldplan.eval.laboratory.experiment import Experiment, Finding, Results, ScaleName, over_seeds
from worldplan.eval.laboratory.setting import Member, Setting
from worldplan.eval.show.style import BLUE, GREEN, ORANGE, RED, VIOLET, png, tidy
from worldplan.eval.show.table import NONE, Cell, Column, Table, number
from worldplan.eval.statistics.estimate import Estimate
from worldplan.sweeps.jobs import Job

MIXINGS = "spiral", "parabola"
WEIGHT = 0.02  # of SIGReg at rho .5
ALONE = "Gaussianity alone"


@dataclass(frozen=True)
class Size:
    """How many encoders, how large, and on how many states the energies are measured."""

    seeds: int
    width: int
    training: Training
    states: int
    measured: int


SIZES: dict[ScaleName, Size] = {
    "smoke": Size(1, 8, Training(10, 32), 400, 1000),
    "cpu": Size(3, 64, Training(5000, 256), 10_000, 200_000),
    "full": Size(10, 256, Training(20_000, 1024), 10_000, 2_000_000),
}


def jobs(scale: ScaleName, seed: int) -> list[Job]:
    """One for each fixed map and seed, and one for each mixing, rho and weight."""
    size = SIZES[scale]
    found = [
        Job(measure_fixed, {"name": name, "count": size.measured, "seed": [seed, k]})
        for name in FIXED
        for k in range(size.seeds)
    ]
    for mixing in MIXINGS:
        for rho, weight in arms() if mixing == MIXINGS[0] else arms()[: len(RHOS)]:
            objective = {"name": "lejepa", "weight": weight, "slices": 16}
            members = tuple(Member((seed, k), objective, rho) for k in range(size.seeds))
            setting = Setting(mixing, members, size.training, width=size.width, judged=size.states)
            found.append(Job(learn, {"setting": asdict(setting)}))
    return found


def arms() -> list[tuple[float, float]]:
    """Rho and weight: in step with `1 - rho`, as alignment shrinks; then the same at each rho; then no alignment."""
    scaled = [(rho, round(WEIGHT * (1 - rho) / (1 - RHOS[0]), 9)) for rho in RHOS]
    return [*scaled, *((rho, WEIGHT) for rho in RHOS[1:]), (RHOS[0], 1.0)]


# --- what they say --------------------------------------------------------------------------------------------------

Rows = list[tuple[str, str, list[dict[str, Any]]]]  # world, what it is, and one result a seed


def read(scale: ScaleName, results: Results) -> Finding:
    """Energies against the rates of alignment, and singular values."""
    fixed, learned = gathered(results)
    rows: Rows = [("fixed map", name, own) for name, own in fixed.items()]
    rows += [(mixing, label(rho, weight), own) for (mixing, rho, weight), own in learned.items()]
    return Finding(
        said(fixed, learned),
        _table(scale, rows, learned),
        draw(fixed, learned),
        {
            "fixed": {name: {"exact": exact(name), "seeds": own} for name, own in fixed.items()},
            "learned": [
                {"mixing": mixing, "rho": rho, "weight": weight, "encoders": own}
                for (mixing, rho, weight), own in learned.items()
            ],
        },
        (
            "Published: a proof without an experiment. Maps, encoders, rho and weights are ours.",
            "Published as far as the source tells it: the limit is the Dirichlet energy, without its constant. With "
            "L summed over coordinates it is L / (1 - rho) -> 2 E||J||_F^2: a rotation has L = 2 n (1 - rho) and "
            "E||J||_F^2 = n.",
        ),
    )


Learned = dict[tuple[str, float, float], list[dict[str, Any]]]  # by mixing, rho and weight


def gathered(results: Results) -> tuple[dict[str, list[dict[str, Any]]], Learned]:
    """Results of fixed maps by name, and of encoders by what trained them."""
    fixed: dict[str, list[dict[str, Any]]] = {}
    learned: Learned = {}
    for arguments, result in results:
        if "name" in arguments:
            fixed.setdefault(arguments["name"], []).append(result)
        else:
            setting = arguments["setting"]
            member = setting["members"][0]
            learned[setting["mixing"], member["rho"], member["objective"]["weight"]] = result
    return fixed, learned


def label(rho: float, weight: float) -> str:
    """What trained an encoder."""
    return ALONE if weight == 1 else f"rho {rho:g}, weight {weight:g}"


def exact(name: str) -> dict[str, Any]:
    """Energy and rates of a fixed map."""
    return {"energy": FIXED[name].energy, "rates": [FIXED[name].rate(rho) for rho in RHOS]}


def mismatch(own: Sequence[Mapping[str, Any]]) -> float:
    """How far `L / (2 n (1 - rho))` is from the energy at the largest rho, relative to it; the worst of some maps."""
    return max(abs(float(row["rates"][-1] / row["energy"]) - 1) for row in own)


def fraction(own: Sequence[Mapping[str, Any]], k: int) -> Estimate:
    """`L / (2 (1 - rho))` over `E ||J||_F^2` at the k-th rho."""
    return over_seeds(own, lambda row: row["rates"][k] / row["energy"])


def singular(own: Sequence[Mapping[str, Any]], k: int) -> Estimate:
    """The k-th of the quantiles of singular values."""
    return over_seeds(own, lambda row: row["singular"][k])


def said(fixed: Mapping[str, list[dict[str, Any]]], learned: Learned) -> str:
    """The finding."""
    maps = [row for own in fixed.values() for row in own]
    trained = [row for (_, _, weight), own in learned.items() if weight < 1 for row in own]
    parts = []
    if maps and trained:
        parts.append(
            f"At rho {RHOS[-1]:g}, L / (2 n (1 - rho)) lies within {100 * mismatch(maps):.2g}% of the Dirichlet energy "
            f"for fixed maps, and within {100 * mismatch(trained):.2g}% for encoders"
        )
    ends = {rho: learned.get((MIXINGS[0], rho, weight), []) for rho, weight in arms()[: len(RHOS)]}
    spreads = [f"{over_seeds(own, lambda row: row['spread']).value:.2f}" for own in ends.values() if own]
    if spreads and "spiral" in fixed:
        own = [row for rows in ends.values() for row in rows]
        before = np.mean([row["curve"][0]["spread"] for row in own])
        kept = over_seeds(fixed["spiral"], lambda row: row["spread"]).value
        parts.append(
            f"training on the spiral brings the spread of log singular values from {before:.2f} to "
            f"{', '.join(spreads)} (rho {', '.join(f'{rho:g}' for rho, rows in ends.items() if rows)}), where a spiral "
            f"that keeps the law has {kept:.2f}"
        )
    return "; ".join(parts) + "."


def _table(scale: ScaleName, rows: Rows, learned: Learned) -> Table:
    def line(world: str, name: str, own: list[dict[str, Any]]) -> list[Cell | str]:
        known = exact(name) if world == "fixed map" else None
        return [
            world,
            name,
            number(over_seeds(own, lambda row: row.get("r2"))),
            number(over_seeds(own, lambda row: row["energy"])),
            number(known["energy"]) if known else NONE,
            *(number(fraction(own, k)) for k in range(len(RHOS))),
            number(over_seeds(own, lambda row: row["floor"])),
            *(number(singular(own, k)) for k in (0, 2)),
            number(over_seeds(own, lambda row: row["spread"])),
        ]

    untrained = {
        mixing: [row["curve"][0] for row in own] for (mixing, _, weight), own in learned.items() if weight == WEIGHT
    }
    return Table(
        f"The limit of small noise, scale {scale}",
        [
            Column("world", named=True),
            Column("map", named=True),
            "R2(h → z)",
            "energy",
            "exact",
            *(Column(f"rate / energy, rho {rho:g}", short=None if rho in (RHOS[0], RHOS[-1]) else "") for rho in RHOS),
            "floor",
            "singular values, 5%",
            "95%",
            "spread",
        ],
        [
            ["published", "any that keeps the law", NONE, "≥ 1", NONE, *["not given"] * 3, "→ 1", "1", *[NONE] * 3],
            ["published", "rotation", NONE, "1", "1", *["not given"] * 3, "→ 1", "1", "1", "1", "0"],
            *(line(*row) for row in rows),
            *(_untrained(mixing, own) for mixing, own in untrained.items()),
        ],
        [
            "Means over seeds with their 95% intervals, at `N(0, I)`. Energy: `E ||J||_F^2 / n` of the Jacobian of "
            "`h = f o g`. Rate: `L / (2 n (1 - rho))`, measured at each rho, whatever the encoder was trained at; "
            "its exact values for fixed maps are in the JSON. Floor: `exp(2 E log |det J| / n)`, 1 for a map that "
            "keeps the law; energy meets it iff all singular values are one number. Spread: standard deviation of log "
            "singular values.",
        ],
    )


def _untrained(mixing: str, own: list[dict[str, Any]]) -> list[Cell | str]:
    return [
        mixing,
        "untrained",
        NONE,
        number(over_seeds(own, lambda row: row["energy"])),
        *[NONE] * (1 + len(RHOS)),
        number(over_seeds(own, lambda row: row["floor"])),
        *(number(singular(own, k)) for k in (0, 2)),
        number(over_seeds(own, lambda row: row["spread"])),
    ]


def draw(fixed: Mapping[str, list[dict[str, Any]]], learned: Learned) -> bytes:
    """Rate over energy by noise, and the spread of singular values as training goes on."""
    figure = Figure(figsize=(8, 4.2), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    noise = [1 - rho for rho in RHOS]
    colours = [BLUE, RED, GREEN, ORANGE, VIOLET]
    fine = np.geomspace(noise[-1], noise[0], 40)
    for (name, own), colour in zip(fixed.items(), colours, strict=False):
        left.plot(fine, [FIXED[name].rate(1 - step) / FIXED[name].energy for step in fine], color=colour, lw=1)
        values = [fraction(own, k).value for k in range(len(RHOS))]
        left.plot(noise, values, "o", color=colour, ms=4, label=name)
    trained = [(key, own) for key, own in learned.items() if key[0] == MIXINGS[0]]
    for (_, rho, weight), own in trained:
        values = [fraction(own, k).value for k in range(len(RHOS))]
        left.plot(noise, values, "x", color="grey", ms=5, label="encoders" if (rho, weight) == arms()[0] else None)
    left.axhline(1, color="black", lw=0.6, ls=":")
    left.set_xscale("log")
    left.invert_xaxis()
    tidy(left, 8, title="alignment over its limit", xlabel="1 - rho of the pairs", ylabel="L / (2 (1 - rho) E||J||²)")
    for (rho, weight), colour in zip(arms(), [BLUE, GREEN, ORANGE, RED, GREEN, ORANGE, RED, "black"], strict=True):
        own = learned.get((MIXINGS[0], rho, weight), [])
        if own:
            spread = np.mean([[point["spread"] for point in row["curve"]] for row in own], axis=0)
            dashed = weight == WEIGHT and rho != RHOS[0]
            right.plot(
                [max(1, point["step"]) for point in own[0]["curve"]],
                spread,
                color=colour,
                ls="--" if dashed else "-",
                label=ALONE if weight == 1 else f"rho {rho:g}, weight {weight:g}",
            )
    if "spiral" in fixed:
        right.axhline(
            over_seeds(fixed["spiral"], lambda row: row["spread"]).value,
            color="black",
            lw=0.8,
            ls=":",
            label="spiral, keeps the law",
        )
    right.set_xscale("log")
    right.set_ylim(bottom=0)
    tidy(
        right,
        8,
        title=f"encoders of the {MIXINGS[0]}",
        xlabel="training steps (1: untrained)",
        ylabel="spread of log singular values (0: isometry)",
    )
    for axes in (left, right):
        axes.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    return png(figure)


DIRICHLET_EXPERIMENT = Experiment(
    "dirichlet",
    "In the limit of small noise alignment is the Dirichlet energy, whose minimisers among maps that keep the law are "
    "isometries (Klindt, LeCun and Balestriero 2026, arXiv 2605.26379, second proof of Theorem 1).",
    jobs,
    read,
)
