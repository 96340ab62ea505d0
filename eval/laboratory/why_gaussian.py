"""Which latents serve probes best: bias and variance of ridge, kernel and nearest-neighbour probes by the latent's law.

The statements tested (Balestriero and LeCun 2025, arXiv 2511.08544), for latents of equal total variance:

- Lemma 1: a ridge probe's parameters have more bias, on some task, where the covariance is anisotropic.
- Lemma 2: least squares' parameters have more total variance there.
- Theorems 7 and 8: the integrated squared bias of a nearest-neighbour or kernel probe of small radius grows with the
  Fisher information `J(p) = E |grad log p|^2`, which `N(0, I)` minimises, for tasks whose gradients are isotropic; the
  integrated variance of the kernel probe is said not to depend on the law.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.special import log_ndtr, ndtr

from worldplan.arrays import Floats
from worldplan.eval.laboratory.ensemble import Training
from worldplan.eval.laboratory.experiment import Experiment, Finding, Results, ScaleName, over_seeds
from worldplan.eval.laboratory.judge import composed
from worldplan.eval.laboratory.setting import JUDGE, MIXING, Member, Setting
from worldplan.eval.laboratory.worlds import Spiral, find_mixing
from worldplan.eval.show.style import BLUE, GREEN, ORANGE, RED, VIOLET, png, tidy
from worldplan.eval.show.table import NONE, Cell, Column, Table, number
from worldplan.eval.statistics.estimate import Estimate
from worldplan.provenance import restored
from worldplan.sweeps.jobs import Job

LATENTS = 4
NOISE = 0.5  # of the labels
LENGTH = 2.0  # of random smooth tasks: they have the kernel exp(-|x|^2 / (2 LENGTH^2))
FEATURES = 64  # cosines of a random smooth task
ALPHA, BANDWIDTH, NEIGHBOURS = 0.1, 0.6, 8  # of the probes whose bias and variance are told
BANDWIDTHS = 1.0, BANDWIDTH, 0.3, 0.1, 0.03  # of the kernel probe with infinitely many samples
ALPHAS, COUNTS = (0.0, 0.01, ALPHA, 1.0), (1, 2, 4, NEIGHBOURS, 16, 32, 64)  # from which the best is chosen
IDEAL = "isotropic Gaussian"

Transport = Callable[[Floats], Floats]  # world's states (N, n) of N(0, I) -> latents (N, n) of total variance n


# --- laws -----------------------------------------------------------------------------------------------------------


def eigenvalues(condition: float, n: int = LATENTS) -> Floats:
    """Variances (n,) in a geometric row, the first the largest, of sum n and this condition number."""
    row = np.geomspace(condition, 1, n)
    return np.asarray(row * n / row.sum())


def stretched(condition: float) -> Transport:
    """A Gaussian law of this condition number."""
    scale = np.sqrt(eigenvalues(condition))
    return lambda z: np.asarray(z * scale)


def _uniform(z: Floats) -> Floats:
    return np.asarray(np.sqrt(12) * (ndtr(z) - 0.5))


def _laplace(z: Floats) -> Floats:
    return np.asarray(np.sign(z) * -(np.log(2) + log_ndtr(-np.abs(z))) / np.sqrt(2))


MODES, WIDTH = 0.8, 0.6  # of the bimodal law, whose variance is .64 + .36


def _bimodal(z: Floats) -> Floats:
    grid = np.linspace(-6, 6, 4001)
    heights = (ndtr((grid - MODES) / WIDTH) + ndtr((grid + MODES) / WIDTH)) / 2
    return np.asarray(np.interp(ndtr(z), heights, grid))


def _spiral(z: Floats) -> Floats:
    planes = torch.from_numpy(np.ascontiguousarray(z)).reshape(len(z), -1, 2)
    return np.asarray(Spiral()(planes).reshape(z.shape).numpy())


def _bimodal_information() -> float:
    x = np.linspace(-8, 8, 20_001)
    parts = [np.exp(-((x - mode) ** 2) / (2 * WIDTH**2)) / (2 * WIDTH * np.sqrt(2 * np.pi)) for mode in (-MODES, MODES)]
    slope = sum(part * (mode - x) / WIDTH**2 for part, mode in zip(parts, (-MODES, MODES), strict=True))
    return float(np.trapezoid(slope**2 / sum(parts), x))


CONDITIONS = {f"condition {condition}": float(condition) for condition in (4, 16, 64)}
LAWS: dict[str, Transport] = {
    IDEAL: lambda z: z,
    **{name: stretched(condition) for name, condition in CONDITIONS.items()},
    "uniform": _uniform,
    "Laplace": _laplace,
    "bimodal": _bimodal,
}
"""Laws of total variance n, as what they make of N(0, I), coordinate by coordinate."""
OURS: dict[str, Transport] = {**LAWS, "spiral, not undone": _spiral}
INFORMATION: dict[str, float] = {
    IDEAL: float(LATENTS),
    **{name: float((1 / eigenvalues(condition)).sum()) for name, condition in CONDITIONS.items()},
    "uniform": np.inf,
    "Laplace": 2.0 * LATENTS,
    "bimodal": LATENTS * _bimodal_information(),
}
"""Fisher information `E |grad log p|^2` of the laws."""


# --- tasks ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Smooth:
    """Tasks `sqrt(2 / D) sum_k cos(w_k x + b_k)`: draws of a stationary law, whose gradients are isotropic everywhere.

    Args:
        w: (T, D, n) frequencies, Gaussian of deviation 1 / LENGTH.
        b: (T, D) phases.
    """

    w: Floats
    b: Floats

    def __call__(self, x: Floats) -> Floats:
        """Targets (N, T) of states (N, n)."""
        return self.seen(x, np.zeros(x.shape[1]))

    def seen(self, mean: Floats, variances: Floats) -> Floats:
        """What Gaussian weights of these means (N, n) and variances (n,) average: damped cosines, (N, T)."""
        damped = np.exp(-0.5 * (self.w**2 @ variances)) * np.sqrt(2 / self.b.shape[1])
        columns = [np.cos(mean @ w.T + b) @ a for w, b, a in zip(self.w, self.b, damped, strict=True)]
        return np.stack(columns, axis=1)


def kernel_bias(task: Smooth, queries: Floats, variances: Floats, bandwidth: float) -> float:
    """Mean squared bias of the Gaussian-kernel probe with infinitely many samples of `N(0, diag(variances))`, exact.

    The kernel's weights around q are then Gaussian: of mean `q s / (s + bandwidth^2)` and variance
    `s bandwidth^2 / (s + bandwidth^2)` in a coordinate of variance s.
    """
    shrunk = variances / (variances + bandwidth**2)
    found = task.seen(queries * shrunk, shrunk * bandwidth**2)
    return float(np.square(found - task(queries)).mean())


def small_bias(information: float, n: int = LATENTS) -> float:
    """The same by Theorem 8 to leading order, over `bandwidth^4`: `J(p) E|grad|^2 / n + E (Laplacian)^2 / 4`."""
    return information / LENGTH**2 + n * (n + 2) / LENGTH**4 / 4


def tasks(world: str, count: int, rng: np.random.Generator) -> tuple[dict[str, Callable[[Floats], Floats]], Smooth]:
    """Tasks by family. A random world asks for functions of the latent itself; ours, for functions of its states."""
    linear = rng.standard_normal((count, LATENTS)) / np.sqrt(LATENTS)
    smooth = Smooth(
        rng.standard_normal((count, FEATURES, LATENTS)) / LENGTH, rng.uniform(0, 2 * np.pi, (count, FEATURES))
    )
    special: dict[str, Callable[[Floats], Floats]] = (
        {"least": lambda x: x[:, -1:]}
        if world == "random"
        else {"first": lambda x: np.sqrt(2) * np.sin(1.5 * x[:, :1])}
    )
    return {"linear": lambda x: x @ linear.T, "smooth": smooth, **special}, smooth


# --- probes ---------------------------------------------------------------------------------------------------------


class Moments:
    """Mean and variance of arrays of one shape, over draws."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, np.zeros(()), np.zeros(())

    def add(self, values: Floats) -> None:
        """One more draw."""
        self.count, self.total, self.squares = self.count + 1, self.total + values, self.squares + values**2

    @property
    def variance(self) -> Floats:
        """Unbiased variance over draws."""
        return np.asarray((self.squares - self.total**2 / self.count) / (self.count - 1)).clip(0)

    def squared_bias(self, truth: Floats) -> Floats:
        """Squared distance of the mean from the truth, less what chance adds to it."""
        return np.asarray((self.total / self.count - truth) ** 2 - self.variance / self.count)


def ridge(x: Floats, y: Floats, alpha: float) -> Floats:
    """Parameters (n, T) of centred x (N, n) and y (N, T), with the penalty `alpha N |w|^2`."""
    return np.asarray(np.linalg.solve(x.T @ x + alpha * len(x) * np.eye(x.shape[1]), x.T @ y))


def predictions(x: Floats, y: Floats, queries: Floats) -> dict[tuple[str, float], Floats]:
    """What each probe says at queries (Q, n), (Q, T) each."""
    centre, level = x.mean(axis=0), y.mean(axis=0)
    found = {("ridge", alpha): (queries - centre) @ ridge(x - centre, y - level, alpha) + level for alpha in ALPHAS}
    squares = (queries**2).sum(axis=1)[:, None] - 2 * queries @ x.T + (x**2).sum(axis=1)
    nearest = np.argsort(squares, axis=1)[:, : COUNTS[-1]]
    sums = np.cumsum(y[nearest], axis=1)
    found |= {("neighbours", float(k)): sums[:, k - 1] / k for k in COUNTS if k <= len(x)}
    weights = np.exp(-(squares - squares.min(axis=1, keepdims=True)) / (2 * BANDWIDTH**2))
    found["kernel", BANDWIDTH] = weights / weights.sum(axis=1, keepdims=True) @ y
    return found


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


def measure(make: Transport, world: str, size: Mapping[str, int], seed: Sequence[int]) -> dict[str, Any]:
    """Bias and variance of the probes on latents `make(z)`, over redrawn training sets; see `told` for the names."""
    rng = np.random.default_rng([*seed, 7])
    families, smooth = tasks(world, size["tasks"], rng)

    def told(count: int) -> tuple[Floats, dict[str, Floats]]:
        z = rng.standard_normal((count, LATENTS))
        h = make(z)
        return h, {name: family(h if world == "random" else z) for name, family in families.items()}

    queries, truths = told(size["queries"])
    truths["shuffled"] = truths["smooth"]
    ends = np.cumsum([0, *(values.shape[1] for values in truths.values())])
    columns = {name: slice(a, b) for name, a, b in zip(truths, ends[:-1], ends[1:], strict=True)}
    truth = np.concatenate(list(truths.values()), axis=1)
    said: dict[tuple[str, float], Moments] = {}
    parameters = {alpha: Moments() for alpha in (0.0, ALPHA)}
    for _ in range(size["draws"]):
        h, clean = told(size["samples"])
        y = np.concatenate(list(clean.values()), axis=1)
        y = y + NOISE * rng.standard_normal(y.shape)
        y = np.concatenate([y, rng.permutation(y[:, columns["smooth"]])], axis=1)
        for name, values in predictions(h, y, queries).items():
            said.setdefault(name, Moments()).add(values)
        for alpha, kept in parameters.items():
            kept.add(ridge(h - h.mean(axis=0), y - y.mean(axis=0), alpha))

    def split(probe: tuple[str, float], family: str) -> dict[str, float]:
        of = columns[family]
        bias = float(said[probe].squared_bias(truth)[:, of].mean())
        variance = float(said[probe].variance[:, of].mean())
        return {"bias": bias, "variance": variance, "error": bias + variance}

    def best(kind: str, family: str) -> dict[str, float]:
        """Of all settings of a probe, the one of least error; the error as a share of the task's variance."""
        found = {at: split((name, at), family)["error"] for name, at in said if name == kind}
        chosen = min(found, key=lambda at: found[at])
        return {"at": chosen, "share": found[chosen] / float(truth[:, columns[family]].var(axis=0).mean())}

    result: dict[str, Any] = {
        "kernel": split(("kernel", BANDWIDTH), "smooth"),
        "neighbours": split(("neighbours", float(NEIGHBOURS)), "smooth"),
        "best": {
            "linear": best("ridge", "linear"),
            **{name: best("neighbours", name) for name in columns if name not in ("linear", "least")},
        },
    }
    if world == "random":
        unit = size["samples"] / NOISE**2
        least = np.eye(LATENTS)[:, -1:]
        result["ridge"] = {
            "parameter variance": unit * float(parameters[0.0].variance[:, columns["linear"]].sum(axis=0).mean()),
            "prediction variance": unit * split(("ridge", 0.0), "linear")["variance"],
            "least bias": float(
                parameters[ALPHA].squared_bias(np.tile(least, len(truth.T)))[:, columns["least"]].sum()
            ),
            "prediction bias": split(("ridge", ALPHA), "linear")["bias"],
        }
        result["smooth"] = {"queries": queries, "task": smooth}
    return result


# --- jobs -----------------------------------------------------------------------------------------------------------


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


def probe_law(world: str, law: str, size: Mapping[str, int], seed: Sequence[int], folder: Path) -> dict[str, Any]:
    """The job of a law. Seeds draw the same states and tasks under each law."""
    result = measure(OURS[law], world, size, seed)
    smooth = result.pop("smooth", None)
    if smooth and (law == IDEAL or law in CONDITIONS):
        variances = eigenvalues(CONDITIONS.get(law, 1.0))
        result["exact"] = [kernel_bias(smooth["task"], smooth["queries"], variances, width) for width in BANDWIDTHS]
    return result


def probe_encoders(setting: Mapping[str, Any], size: Mapping[str, int], folder: Path) -> list[dict[str, Any]]:
    """The job of encoders: observations, and what an untrained and a trained encoder make of them."""
    own: Setting = restored(Setting, setting)
    ensembles = {"untrained encoder": replace(own, training=Training(0)).train(), "LeJEPA": own.train()}
    found = []
    for k, member in enumerate(own.members):
        alone = find_mixing(own.mixing, own.n, [member.integer(MIXING)])
        maps = {"observation": composed(lambda x: x.double(), alone)}
        maps |= {name: composed(ensemble.encoder(k), alone) for name, ensemble in ensembles.items()}
        for name, encode in maps.items():
            rng = np.random.default_rng(member.integer(JUDGE))
            result = measure(levelled(encode, rng), "ours", size, member.seed)
            found.append({"law": f"couplings: {name}", **result})
    return found


def levelled(encode: Transport, rng: np.random.Generator) -> Transport:
    """The same latents, centred, and scaled to a total variance of n."""
    seen = encode(rng.standard_normal((4000, LATENTS)))
    centre, scale = seen.mean(axis=0), np.sqrt(LATENTS / seen.var(axis=0).sum())
    return lambda z: np.asarray((encode(z) - centre) * scale)


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
