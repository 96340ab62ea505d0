"""Tests of Gaussianity side by side: size, power against laws that are not Gaussian, gradients and cost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldplan.eval.laboratory.sigreg_unfolding import COUNT
from worldplan.learning.gaussianity import TESTS, epps_pulley

LEVEL = 0.05  # size of the tests

Draw = Callable[[np.random.Generator, tuple[int, int]], Any]


def _lattice(rng: np.random.Generator, shape: tuple[int, int]) -> Any:
    """Three points that have the first five moments of `N(0, 1)`, and a little noise, which keeps that so."""
    points = math.sqrt(3) * rng.choice([-1, 0, 1], shape, p=[1 / 6, 2 / 3, 1 / 6])
    return math.sqrt(0.9) * points + math.sqrt(0.1) * rng.standard_normal(shape)


ALTERNATIVES: dict[str, Draw] = {
    "shifted by .3": lambda rng, shape: rng.normal(0.3, 1, shape),
    "scaled by 1.25": lambda rng, shape: rng.normal(0, 1.25, shape),
    "uniform": lambda rng, shape: rng.uniform(-math.sqrt(3), math.sqrt(3), shape),
    "Laplace": lambda rng, shape: rng.laplace(0, math.sqrt(0.5), shape),
    "Student t, 5": lambda rng, shape: rng.standard_t(5, shape) * math.sqrt(3 / 5),
    "skewed": lambda rng, shape: (rng.gamma(4, 1, shape) - 4) / 2,
    "bimodal": lambda rng, shape: rng.choice([-0.8, 0.8], shape) + rng.normal(0, 0.6, shape),
    "diagonal of the X": lambda rng, shape: math.sqrt(2) * rng.integers(0, 2, shape) * rng.standard_normal(shape),
    "five moments equal": _lattice,
}
"""Laws that are not `N(0, 1)`; all but the first two have its mean and variance."""

OUTLIERS = 10.0, 100.0


def compare(
    test: str, null: int, draws: int, timed: tuple[int, int], seed: Sequence[int], folder: Path
) -> dict[str, Any]:
    """The job: size, power, gradients and cost of a test, on samples of `COUNT`."""
    rng, statistic = np.random.default_rng([*seed, 2]), TESTS[test]

    def statistics(draw: Draw, columns: int) -> Any:
        parts = [min(1000, columns - k) for k in range(0, columns, 1000)]
        return np.concatenate([statistic(torch.from_numpy(draw(rng, (COUNT, part)))).numpy() for part in parts])

    critical = float(np.quantile(statistics(_gaussian, null), 1 - LEVEL))
    return {
        "critical": critical,
        "size": float((statistics(_gaussian, draws) > critical).mean()),
        "power": {name: float((statistics(law, draws) > critical).mean()) for name, law in ALTERNATIVES.items()},
        "gradient": gradients(statistic, rng),
        **cost(statistic, *timed),
    }


def _gaussian(rng: np.random.Generator, shape: tuple[int, int]) -> Any:
    return rng.standard_normal(shape)


def gradients(statistic: Callable[[Tensor], Tensor], rng: np.random.Generator) -> dict[str, Any]:
    """Size of the gradient by a sample: typical, largest, of an outlier, and where all samples are 10 times too large.

    The first is the median over 200 Gaussian samples of `COUNT`; the others are multiples of it.
    """
    u = rng.standard_normal((COUNT, 200))

    def size(values: Any) -> Tensor:
        x = torch.from_numpy(values).requires_grad_()
        return torch.autograd.grad(statistic(x).sum(), x)[0].abs()

    own = size(u)
    typical = float(own.median())
    outlier = [float(size(np.concatenate([np.full((1, 200), v), u[1:]]))[0].mean()) / typical for v in OUTLIERS]
    return {
        "typical": typical,
        "largest": float(own.max()) / typical,
        "outlier": outlier,
        "large": float(size(10 * u).median()) / typical,
    }


def cost(statistic: Callable[[Tensor], Tensor], repeats: int, width: int) -> dict[str, float]:
    """Milliseconds of a forward and backward pass on (width, width), the fastest of some, and over Epps-Pulley's."""
    x = torch.randn((width, width), generator=torch.Generator().manual_seed(0)).requires_grad_()

    def seconds(own: Callable[[Tensor], Tensor]) -> float:
        start = time.perf_counter()
        torch.autograd.grad(own(x).sum(), x)
        return time.perf_counter() - start

    pairs = [(seconds(statistic), seconds(epps_pulley)) for _ in range(repeats + 1)][1:]  # the first one warms up
    fastest, reference = (min(column) for column in zip(*pairs, strict=True))
    return {"milliseconds": 1e3 * fastest, "cost": fastest / reference}
