"""Bias and variance of ridge, kernel and nearest-neighbour probes on latents, over redrawn training sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from worldplan.arrays import Floats
from worldplan.eval.laboratory.ensemble import Training
from worldplan.eval.laboratory.judge import composed
from worldplan.eval.laboratory.setting import JUDGE, MIXING, Setting
from worldplan.eval.laboratory.transports import CONDITIONS, IDEAL, LATENTS, OURS, Transport, eigenvalues
from worldplan.eval.laboratory.worlds import find_mixing
from worldplan.provenance import restored

NOISE = 0.5  # of the labels
LENGTH = 2.0  # of random smooth tasks: they have the kernel exp(-|x|^2 / (2 LENGTH^2))
FEATURES = 64  # cosines of a random smooth task
ALPHA, BANDWIDTH, NEIGHBOURS = 0.1, 0.6, 8  # of the probes whose bias and variance are told
BANDWIDTHS = 1.0, BANDWIDTH, 0.3, 0.1, 0.03  # of the kernel probe with infinitely many samples
ALPHAS, COUNTS = (0.0, 0.01, ALPHA, 1.0), (1, 2, 4, NEIGHBOURS, 16, 32, 64)  # from which the best is chosen


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
