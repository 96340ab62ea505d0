"""SIGReg on samples themselves: the "X" in many dimensions, and six tests of Gaussianity side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worldplan.eval.laboratory.experiment import Experiment, Finding, Results, ScaleName, over_seeds
from worldplan.eval.laboratory.gaussianity_tests import ALTERNATIVES, LEVEL, OUTLIERS, compare
from worldplan.eval.laboratory.sigreg_unfolding import COUNT, unfold
from worldplan.eval.show.style import BLUE, RED, png, tidy
from worldplan.eval.show.table import NONE, Cell, Column, Table, number
from worldplan.eval.statistics.estimate import Estimate
from worldplan.learning.gaussianity import TESTS
from worldplan.sweeps.jobs import Job

EPPS_PULLEY = "epps-pulley"


@dataclass(frozen=True)
class Size:
    """How much is computed.

    Attributes:
        seeds: of each job.
        grid: dimensions and directions of the X.
        others: dimensions in which the other tests move it, with `FEW` directions.
        steps: of the samples.
        null: Gaussian samples that give a critical value.
        draws: samples of each law that give a power.
        timed: repeats, and rows and columns of the sample, for the cost.
    """

    seeds: int
    grid: tuple[tuple[int, int], ...]
    others: tuple[int, ...]
    steps: int
    null: int
    draws: int
    timed: tuple[int, int]


FEW, MANY = 16, 1024
CPU_GRID = (*((n, FEW) for n in (2, 16, 128)), *((MANY, m) for m in (1, 4, FEW, 64, 256, MANY)))
FULL_GRID = (*CPU_GRID, (512, FEW), (128, 10), (128, 100), (MANY, 10), (MANY, 100), (MANY, 4096))
SIZES: dict[ScaleName, Size] = {
    "smoke": Size(1, ((2, 4), (8, 4)), (8,), 10, 200, 100, (1, 64)),
    "cpu": Size(3, CPU_GRID, (2, FEW, MANY), 2000, 20_000, 5000, (15, 512)),
    "full": Size(10, FULL_GRID, (2, FEW, 128, 512, MANY), 10_000, 100_000, 20_000, (50, 512)),
}


def jobs(scale: ScaleName, seed: int) -> list[Job]:
    """One for each number of dimensions and directions, fixed and resampled, and for each test."""
    size = SIZES[scale]
    seeds = [[seed, k] for k in range(size.seeds)]
    moved = [(n, slices, fixed, EPPS_PULLEY) for n, slices in size.grid for fixed in (False, True)]
    moved += [(n, FEW, False, test) for n in size.others for test in TESTS if test != EPPS_PULLEY]
    names, how = ("n", "slices", "fixed", "by"), {"steps": size.steps, "seeds": seeds}
    compared = {"null": size.null, "draws": size.draws, "timed": list(size.timed)}
    return [
        *(Job(unfold, {**dict(zip(names, own, strict=True)), **how}) for own in moved),
        *(Job(compare, {"test": test, **compared, "seed": own}) for test in TESTS for own in seeds),
    ]


# --- what they say --------------------------------------------------------------------------------------------------

Rows = list[tuple[Mapping[str, Any], list[dict[str, Any]]]]


def read(scale: ScaleName, results: Results) -> Finding:
    """How far the X is unfolded, and the tests side by side."""
    moved: Rows = [(arguments, rows) for arguments, rows in results if "slices" in arguments]
    tests: dict[str, list[dict[str, Any]]] = {}
    for arguments, row in results:
        if "test" in arguments:
            tests.setdefault(arguments["test"], []).append(row)
    return Finding(
        f"{_said_of_the_x(moved)} {_said_of_the_tests(tests)}",
        _x_table(scale, moved),
        draw(moved, tests),
        {
            "x": [{**arguments, "encoders": [_without_cloud(row) for row in rows]} for arguments, rows in moved],
            "tests": tests,
        },
        (
            "Published: the X is shown as a figure; ours is a random sign between two coordinates, which has the "
            "standard Gaussian marginals and the identity covariance that its caption names.",
            "Published: optimiser, steps and learning rate are not given; ours are Adam, rate .01, "
            f"{SIZES[scale].steps:,} steps.",
            "Published: the tests are compared by argument and by Figure 6, without power or size of gradients.",
        ),
        (_power_table(scale, tests), _gradient_table(scale, tests)),
    )


def _without_cloud(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "cloud"}


def _after(rows: list[dict[str, Any]], measure: str, when: str = "after") -> Estimate:
    return over_seeds(rows, lambda row: row[when][measure])


def _find(moved: Rows, n: int, slices: int, fixed: bool) -> list[dict[str, Any]] | None:
    wanted = {"n": n, "slices": slices, "fixed": fixed, "by": EPPS_PULLEY}
    return next((rows for own, rows in moved if all(own[key] == value for key, value in wanted.items())), None)


def _extremes(moved: Rows) -> tuple[int, int, int]:
    """Most dimensions, and in them the numbers of directions nearest `FEW` and greatest."""
    own = [(arguments["n"], arguments["slices"]) for arguments, _ in moved if arguments["by"] == EPPS_PULLEY]
    n = max(n for n, _ in own)
    slices = [slices for found, slices in own if found == n]
    return n, min(slices, key=lambda count: abs(count - FEW)), max(slices)


def _said_of_the_x(moved: Rows) -> str:
    n, few, most = _extremes(moved)
    new, fixed = _find(moved, n, few, False), _find(moved, n, most, True)
    if new is None or fixed is None:
        return "Jobs of the X are missing."
    before, after, kept = _after(new, "tie", "before"), _after(new, "tie"), _after(fixed, "tie")
    return (
        f"In {n} dimensions {few} resampled directions bring the tie of the X from {before.value:.2f} to "
        f"{after.value:.2f} (0 is none) and the statistic in fresh directions to {_after(new, 'fresh').value:.2f} of a "
        f"Gaussian sample's; {most} fixed ones to {kept.value:.2f} and {_after(fixed, 'fresh').value:.2f}."
    )


def _power(rows: list[dict[str, Any]], name: str) -> Estimate:
    return over_seeds(rows, lambda row: row["power"][name])


def _outlier(rows: list[dict[str, Any]], k: int) -> Estimate:
    return over_seeds(rows, lambda row: row["gradient"]["outlier"][k])


def _said_of_the_tests(tests: dict[str, list[dict[str, Any]]]) -> str:
    if not tests:
        return "Jobs of the tests are missing."
    mean = {
        test: over_seeds(rows, lambda row: float(np.mean(list(row["power"].values())))) for test, rows in tests.items()
    }
    best = max(mean, key=lambda test: mean[test].value)
    outlier = {test: over_seeds(rows, lambda row: row["gradient"]["outlier"][-1]).value for test, rows in tests.items()}
    tamest, wildest = (pick(outlier, key=lambda test: outlier[test]) for pick in (min, max))
    own = f"; Epps-Pulley has {mean[EPPS_PULLEY].value:.2f}" if best != EPPS_PULLEY and EPPS_PULLEY in mean else ""
    return (
        f"Mean power over {len(ALTERNATIVES)} alternatives is greatest for {best} ({mean[best].value:.2f}){own}. "
        f"Times the typical gradient at an outlier at {OUTLIERS[-1]:g}: {_times(outlier[tamest])} with {tamest}, "
        f"{_times(outlier.get(EPPS_PULLEY, math.nan))} with {EPPS_PULLEY}, {_times(outlier[wildest])} with {wildest}."
    )


def _times(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 1000 else f"{value:.1e}"


def _x_table(scale: ScaleName, moved: Rows) -> Table:
    nothing = sorted({own["n"]: rows for own, rows in moved}.items())
    heads = ["tie |x₁|, |x₂|", "statistic in the plane", "statistic, fresh directions"]

    def line(
        n: int, slices: Cell | str, drawn: str, by: Cell | str, rows: Any, when: str, told: str
    ) -> list[Cell | str]:
        return [
            str(n),
            slices,
            drawn,
            by,
            *(number(_after(rows, name, when)) for name in ("tie", "plane", "fresh")),
            told,
        ]

    return Table(
        f"The X moved by SIGReg, {COUNT} samples, scale {scale}",
        [
            "dimensions",
            "directions",
            Column("drawn", named=True),
            Column("test", named=True),
            *heads,
            Column("published", named=True),
        ],
        [
            ["any", NONE, "a Gaussian sample", NONE, "0", "1", "1", "not given"],
            *(line(n, NONE, "not moved", NONE, rows, "before", "not given") for n, rows in nothing),
            *(
                line(
                    own["n"],
                    str(own["slices"]),
                    "once" if own["fixed"] else "each step",
                    own["by"],
                    rows,
                    "after",
                    _published(own),
                )
                for own, rows in moved
            ),
        ],
        [
            "Means over seeds with their 95% intervals. Statistics: Epps-Pulley, over the mean of a Gaussian sample; "
            "below 1 a sample is more regular than chance. In the plane: 64 directions of the first two coordinates. "
            "Fresh: 1,000 random directions that the samples were not moved by.",
        ],
    )


def _published(own: Mapping[str, Any]) -> str:
    shown = {(512, FEW), (MANY, 10), (128, 10), (128, 100), (MANY, 100)}
    return "unfolds (figure)" if not own["fixed"] and (own["n"], own["slices"]) in shown else "not given"


def _power_table(scale: ScaleName, tests: dict[str, list[dict[str, Any]]]) -> Table:
    return Table(
        f"Power of tests of {COUNT} samples at size {LEVEL}, scale {scale}",
        [Column("test", named=True), "size on fresh Gaussian samples", *ALTERNATIVES],
        [
            [
                test,
                number(over_seeds(rows, lambda row: row["size"])),
                *(number(_power(rows, name)) for name in ALTERNATIVES),
            ]
            for test, rows in tests.items()
        ],
        [
            "Critical values are simulated, then held against fresh Gaussian samples: their share is the null. Power "
            "is not published.",
        ],
    )


def _gradient_table(scale: ScaleName, tests: dict[str, list[dict[str, Any]]]) -> Table:
    return Table(
        f"Gradients and cost of the tests, scale {scale}",
        [
            Column("test", named=True),
            "typical gradient",
            "largest",
            *(f"outlier at {value:g}" for value in OUTLIERS),
            "all 10 times too large",
            "cost over Epps-Pulley's",
            "ms, {0} x {0}".format(SIZES[scale].timed[1]),
            Column("published ms (V100)"),
        ],
        [
            [
                test,
                number(over_seeds(rows, lambda row: row["gradient"]["typical"])),
                number(over_seeds(rows, lambda row: row["gradient"]["largest"])),
                *(number(_outlier(rows, k)) for k in range(len(OUTLIERS))),
                number(over_seeds(rows, lambda row: row["gradient"]["large"])),
                number(over_seeds(rows, lambda row: row["cost"])),
                number(over_seeds(rows, lambda row: row["milliseconds"])),
                Cell("0.465") if test == EPPS_PULLEY else "not given",
            ]
            for test, rows in tests.items()
        ],
        [
            "Typical: median size of the derivative by one sample, for Gaussian samples. The next columns are "
            "multiples of it: the test is then free of its unit. Cost: a forward and a backward pass on one thread of "
            "this machine, both measured in the same run.",
        ],
    )


def draw(moved: Rows, tests: dict[str, list[dict[str, Any]]]) -> bytes:
    """The X before and after, the statistic by number of directions, and the power of the tests."""
    figure = Figure(figsize=(8, 6.6), dpi=110, layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.35), squeeze=False)[:, 0]
    n, few, _ = _extremes(moved)
    small = min(own["n"] for own, _ in moved)
    shown = {
        "the X": (moved[0][1], 0),
        f"{small} dimensions, resampled": (moved[0][1], 1),
        f"{n}, {few} resampled": (_find(moved, n, few, False), 1),
        f"{n}, {few} fixed": (_find(moved, n, few, True), 1),
    }
    for axes, (title, (rows, when)) in zip(top.subplots(1, 4, sharex=True, sharey=True), shown.items(), strict=True):
        points = np.array(rows[0]["cloud"][when]) if rows else np.zeros((0, 2))
        axes.scatter(points[:, 0], points[:, 1], s=5, color=BLUE)
        axes.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
        tidy(axes, 8, title=title, xlabel="coordinate 1", ylabel="coordinate 2" if title == "the X" else "")
    left, right = bottom.subplots(1, 2, width_ratios=(1, 1.5))
    for fixed, colour in ((True, BLUE), (False, RED)):
        own = sorted(
            (a["slices"], rows) for a, rows in moved if (a["n"], a["fixed"], a["by"]) == (n, fixed, EPPS_PULLEY)
        )
        left.plot(
            [slices for slices, _ in own],
            [_after(rows, "fresh").value for _, rows in own],
            "o-",
            color=colour,
            label="drawn once" if fixed else "drawn each step",
        )
    left.axhline(1, color="grey", lw=0.8, ls=":", label="a Gaussian sample")
    left.set_xscale("log", base=2)
    tidy(
        left,
        8,
        title=f"fresh directions, {n} dimensions",
        xlabel="directions of a step",
        ylabel="statistic (1 = chance)",
    )
    left.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1)
    _heat(right, tests)
    return png(figure)


def _heat(axes: Axes, tests: dict[str, list[dict[str, Any]]]) -> None:
    names = ["size", *ALTERNATIVES]
    values = np.array(
        [
            [float(np.mean([row["size"] if name == "size" else row["power"][name] for row in rows])) for name in names]
            for rows in tests.values()
        ]
    ).reshape(len(tests), len(names))
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        axes.text(j, i, f"{value:.2f}"[1:] if value < 0.995 else "1", ha="center", va="center", fontsize=7,
                  color="white" if value > 0.6 else "black")  # fmt: skip
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=7)
    axes.set_yticks(range(len(tests)), list(tests), fontsize=7)
    axes.set_title(f"share rejected, {COUNT} samples", fontsize=9)


SIGREG_EXPERIMENT = Experiment(
    "sigreg",
    "SIGReg by Epps-Pulley, with few directions that are resampled at each step, moves a sample of any dimension to "
    "N(0, I); its gradients are bounded (Balestriero and LeCun 2025, arXiv 2511.08544, Section 4).",
    jobs,
    read,
)
