"""Which latents serve probes best: bias and variance of ridge, kernel and nearest-neighbour probes by the latent's law.

The statements tested (Balestriero and LeCun 2025, arXiv 2511.08544), for latents of equal total variance:

- Lemma 1: a ridge probe's parameters have more bias, on some task, where the covariance is anisotropic.
- Lemma 2: least squares' parameters have more total variance there.
- Theorems 7 and 8: the integrated squared bias of a nearest-neighbour or kernel probe of small radius grows with the
  Fisher information `J(p) = E |grad log p|^2`, which `N(0, I)` minimises, for tasks whose gradients are isotropic; the
  integrated variance of the kernel probe is said not to depend on the law.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from matplotlib.figure import Figure

from worldplan.eval.laboratory.ensemble import Training
from worldplan.eval.laboratory.experiment import Experiment, Finding, Results, ScaleName, over_seeds
from worldplan.eval.laboratory.probes import (
    ALPHA,
    BANDWIDTH,
    BANDWIDTHS,
    NEIGHBOURS,
    NOISE,
    probe_encoders,
    probe_law,
    small_bias,
)
from worldplan.eval.laboratory.setting import Member, Setting
from worldplan.eval.laboratory.transports import CONDITIONS, IDEAL, INFORMATION, LATENTS, LAWS, OURS, eigenvalues
from worldplan.eval.show.style import BLUE, GREEN, ORANGE, RED, VIOLET, png, tidy
from worldplan.eval.show.table import NONE, Cell, Column, Table, number
from worldplan.eval.statistics.estimate import Estimate
from worldplan.sweeps.jobs import Job


@dataclass(frozen=True)
class Size:
    """How much is computed.

    Attributes:
        seeds: of each job.
        samples: of a training set.
        draws: training sets.
        queries: states to judge at.
        tasks: of a family.
        width: of trained encoders.
        training: of them.
    """

    seeds: int
    samples: int
    draws: int
    queries: int
    tasks: int
    width: int
    training: Training


SIZES: dict[ScaleName, Size] = {
    "smoke": Size(1, 80, 3, 40, 2, 8, Training(5, 32)),
    "cpu": Size(3, 500, 200, 300, 16, 64, Training(5000, 256)),
    "full": Size(10, 2000, 500, 1000, 32, 256, Training(20_000, 1024)),
}


def jobs(scale: ScaleName, seed: int) -> list[Job]:
    """One for each world, law and seed, and one for trained encoders."""
    size = SIZES[scale]
    kept = {name: value for name, value in asdict(size).items() if name in ("samples", "draws", "queries", "tasks")}
    found = [
        Job(probe_law, {"world": world, "law": law, "size": kept, "seed": [seed, k]})
        for world, laws in (("random", LAWS), ("ours", OURS))
        for law in laws
        for k in range(size.seeds)
    ]
    objective = {"name": "lejepa", "weight": 0.01, "slices": 16}
    members = tuple(Member((seed, k), objective) for k in range(size.seeds))
    setting = Setting("couplings", members, size.training, n=LATENTS, width=size.width)
    return [*found, Job(probe_encoders, {"setting": asdict(setting), "size": kept})]


# --- what they say --------------------------------------------------------------------------------------------------

Rows = dict[str, list[dict[str, Any]]]  # by law, one result a seed
Measure = Callable[[Mapping[str, Any]], float]
RANDOM: dict[str, Measure] = {
    "least squares: variance of parameters": lambda row: row["ridge"]["parameter variance"],
    "of predictions": lambda row: row["ridge"]["prediction variance"],
    "ridge: bias² of parameters, worst task": lambda row: row["ridge"]["least bias"],
    "of predictions, mean task": lambda row: row["ridge"]["prediction bias"],
    "kernel: bias²": lambda row: row["kernel"]["bias"],
    "kernel: variance": lambda row: row["kernel"]["variance"],
    "neighbours: bias²": lambda row: row["neighbours"]["bias"],
    "best neighbours: error": lambda row: row["best"]["smooth"]["share"],
}
CLAIMS = ("> 1 if anisotropic", "not given", "> 1 if anisotropic", "not given", "> 1", "1", "> 1", "not given")
SHARES = {
    "best ridge, linear tasks": "linear",
    "best neighbours, smooth tasks": "smooth",
    "best neighbours, task of state 1": "first",
    "shuffled labels": "shuffled",
}


def read(scale: ScaleName, results: Results) -> Finding:
    """Ratios to the isotropic Gaussian on random tasks, and errors on tasks of the world's states."""
    random: Rows = {}
    ours: Rows = {}
    for arguments, result in results:
        if "law" in arguments:
            rows = random if arguments["world"] == "random" else ours
            rows.setdefault(arguments["law"], []).append(result)
        else:
            for row in result:
                ours.setdefault(row["law"], []).append(row)
    return Finding(
        said(random, ours),
        _random_table(scale, random),
        draw(random, ours),
        {"random": random, "ours": ours, "information": INFORMATION},
        (
            "Published: statements and pictures without numbers; laws, tasks, sizes and probes are ours.",
            "Published: neighbours within a radius; ours are the k nearest, and a Gaussian kernel of fixed bandwidth "
            "for the theorem's fixed radius.",
            "Published: Theorem 8 says that the integrated variance is the same for all laws, which has the volume of "
            "the support as a factor; where that is infinite the table shows what is measured.",
        ),
        (_bandwidth_table(scale, random), _our_table(scale, ours)),
    )


def ratio(rows: Rows, law: str, measure: Measure) -> Estimate:
    """A measure over that of the isotropic Gaussian, seed by seed."""
    pairs = list(zip(rows.get(law, ()), rows.get(IDEAL, ()), strict=False))
    return over_seeds(pairs, lambda pair: measure(pair[0]) / measure(pair[1]) if measure(pair[1]) else None)


def share(own: list[dict[str, Any]], family: str) -> Estimate:
    """Error of the best probe on a family of tasks."""
    return over_seeds(own, lambda row: row["best"][family]["share"])


def exact(rows: Rows, law: str, k: int) -> Estimate:
    """Bias of the kernel probe with infinitely many samples at `BANDWIDTHS[k]`, over the isotropic Gaussian's."""
    return ratio(rows, law, lambda row: row["exact"][k])


def theory(rows: Rows, law: str) -> list[Cell | str]:
    """What exact formulas say of `RANDOM` for a Gaussian law, as ratios to the isotropic one."""
    spread = eigenvalues(CONDITIONS[law])
    by_task = spread * (ALPHA / (spread + ALPHA)) ** 2
    return [
        number(float((1 / spread).mean())),
        "1",
        number(float(((1 + ALPHA) / (spread[-1] + ALPHA)) ** 2)),
        number(float(by_task.mean() * ((1 + ALPHA) / ALPHA) ** 2)),
        number(exact(rows, law, BANDWIDTHS.index(BANDWIDTH))),
        *[NONE] * 3,
    ]


def said(random: Rows, ours: Rows) -> str:
    """The finding."""
    law = max((law for law in random if law in CONDITIONS), key=lambda law: CONDITIONS[law], default=None)
    if law is None or IDEAL not in random:
        return "Jobs of the isotropic and the most anisotropic law are missing."
    of = {name: ratio(random, law, measure).value for name, measure in RANDOM.items()}
    values = list(of.values())
    text = (
        f"Over the isotropic Gaussian, {law} multiplies the variance of least squares by {values[0]:.2f} in parameters "
        f"and {values[1]:.2f} in predictions, the kernel probe's bias² by {values[4]:.2f} and its variance by "
        f"{values[5]:.2f}, and the error of the best nearest-neighbour probe by {values[7]:.2f} on random smooth tasks"
    )
    least = min(random, key=lambda law: over_seeds(random[law], RANDOM["best neighbours: error"]).value)
    text += f"; that error is least for {least}"
    small = exact(random, law, len(BANDWIDTHS) - 1).value
    limit = small_bias(INFORMATION[law]) / small_bias(LATENTS)
    text += (
        f". With infinitely many samples the kernel's bias² is multiplied by {small:.2f} at bandwidth "
        f"{BANDWIDTHS[-1]:g}, where Theorem 8 says {limit:.2f} in the limit, and by "
        f"{exact(random, law, 1).value:.2f} at {BANDWIDTHS[1]:g}"
    )
    if law in ours and IDEAL in ours:
        first = ratio(ours, law, lambda row: row["best"]["first"]["share"]).value
        text += f"; on a task of the stretched state alone it is multiplied by {first:.2f}"
    return text + "."


def _random_table(scale: ScaleName, rows: Rows) -> Table:
    lines: list[list[Cell | str]] = [["claimed", NONE, *CLAIMS]]
    for law in rows:
        lines.append(
            [law, number(INFORMATION[law]), *(number(ratio(rows, law, measure)) for measure in RANDOM.values())]
        )
        if law in CONDITIONS:
            lines.append(["  in theory", NONE, *theory(rows, law)])
    return Table(
        f"Random tasks on latents of equal total variance, scale {scale}",
        [Column("law of the latents", named=True), "J(p)", *RANDOM],
        lines,
        [
            f"Ratios to the isotropic Gaussian of the same seed: means over seeds with their 95% intervals. {LATENTS} "
            f"latents, labels with noise of deviation {NOISE}. Ridge: penalty {ALPHA} N. Kernel: Gaussian, bandwidth "
            f"{BANDWIDTH}. Neighbours: {NEIGHBOURS}. Best: the number of neighbours of least error. In theory: exact "
            "for many samples; for the kernel's bias the mean over the same tasks and queries. J(p): Fisher "
            "information, infinite for the uniform law.",
        ],
    )


def _bandwidth_table(scale: ScaleName, rows: Rows) -> Table:
    return Table(
        f"Bias² of the kernel probe by bandwidth, infinitely many samples, scale {scale}",
        [Column("law of the latents", named=True), *(f"{width:g}" for width in BANDWIDTHS), "Theorem 8, to 0"],
        [
            [
                law,
                *(number(exact(rows, law, k)) if law in CONDITIONS else NONE for k in range(len(BANDWIDTHS))),
                number(small_bias(INFORMATION[law]) / small_bias(LATENTS)),
            ]
            for law in rows
            if law != IDEAL
        ],
        ["Ratios to the isotropic Gaussian, on random smooth tasks, by an exact formula for Gaussian laws."],
    )


def _our_table(scale: ScaleName, rows: Rows) -> Table:
    return Table(
        f"Tasks of a world's states, by what represents them, scale {scale}",
        [Column("latents", named=True), *SHARES, Column("published", named=True)],
        [
            [
                law,
                *(number(share(own, family)) for family in SHARES.values()),
                "not given",
            ]
            for law, own in rows.items()
        ],
        [
            "Error as a share of the task's variance: means over seeds with their 95% intervals. Tasks are functions "
            "of the states `N(0, I)`; all latents are scaled to one total variance. State 1 is the coordinate that "
            "anisotropic laws stretch. The spiral has the law `N(0, I)` and is not undone. Couplings: RealNVP mixings. "
            "Shuffled labels are the null: about 1, or above.",
        ],
    )


def draw(random: Rows, ours: Rows) -> bytes:
    """Ratios by law on random tasks, and errors by latents on tasks of the states."""
    figure = Figure(figsize=(8, 4.6), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = [(0, BLUE, "o"), (1, BLUE, "x"), (2, GREEN, "o"), (4, RED, "o"), (5, RED, "x"), (7, ORANGE, "s")]
    names = list(RANDOM)
    names[1], names[3] = "least squares: variance of predictions", "ridge: bias² of predictions"
    for k, colour, marker in shown:
        values = [ratio(random, law, list(RANDOM.values())[k]).value for law in random]
        left.plot(range(len(random)), values, marker, color=colour, ms=5, label=names[k], ls="none")
    left.axhline(1, color="black", lw=0.6, ls=":")
    left.set_yscale("log")
    tidy(left, 8, title="random tasks", ylabel="ratio to the isotropic Gaussian")
    for (label, family), colour in zip(SHARES.items(), (BLUE, ORANGE, VIOLET, "grey"), strict=True):
        values = [share(own, family).value for own in ours.values()]
        right.plot(range(len(ours)), values, "o", color=colour, ms=5, label=label)
    right.set_yscale("log")
    tidy(right, 8, title="tasks of the world's states", ylabel="error, share of the task's variance")
    for axes, rows in ((left, random), (right, ours)):
        axes.set_xticks(range(len(rows)), list(rows), rotation=40, ha="right", fontsize=7)
        axes.grid(axis="x", lw=0.3)
        axes.legend(fontsize=6.5, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.08), ncols=2)
    return png(figure)


WHY_GAUSSIAN_EXPERIMENT = Experiment(
    "why-gaussian",
    "At equal total variance isotropic Gaussian latents minimise bias and variance of linear probes over tasks, and "
    "the bias of nearest-neighbour and kernel probes (Balestriero and LeCun 2025, arXiv 2511.08544, Lemmas 1 and 2, "
    "Theorems 7 and 8).",
    jobs,
    read,
)
