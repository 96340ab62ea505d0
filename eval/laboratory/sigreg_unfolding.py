"""The X: samples in many dimensions that SIGReg moves to `N(0, I)`, along directions that stay or are drawn anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldplan.learning.gaussianity import TESTS, epps_pulley, unit_directions

COUNT = 100  # samples, as published
RATE = 0.01  # of Adam, which moves the samples
CUTOFF = 3.0  # of the Epps-Pulley integral
CHANCE = math.sqrt(2 * math.pi) * (
    math.erf(CUTOFF / math.sqrt(2)) - math.erf(CUTOFF * math.sqrt(1.5)) / math.sqrt(3)
)  # mean Epps-Pulley statistic of a Gaussian sample of any size: the integral of (1 - exp(-t^2)) exp(-t^2 / 2)


def crossed(count: int, n: int, generator: torch.Generator) -> Tensor:
    """Samples (count, n) of the X: `N(0, I)`, but the second coordinate is the first one with a random sign.

    Both have the law `N(0, 1)` and they do not correlate: only directions between the two axes see the X.
    """
    x = torch.randn(count, n, generator=generator)
    sign = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    x[:, 1] = sign * x[:, 0]
    return x


def in_plane(x: Tensor) -> Tensor:
    """Mean Epps-Pulley statistic of samples (N, n) over 64 directions of their first two coordinates."""
    angle = torch.arange(64) * (math.pi / 64)
    return epps_pulley(x[:, :2] @ torch.stack([angle.cos(), angle.sin()])).mean()


def tie(x: Tensor) -> Tensor:
    """Correlation of `|x_1|` and `|x_2|`: 1 for the X, 0 where the two are independent."""
    return x[:, :2].abs().T.corrcoef()[0, 1]


def unfold(
    n: int, slices: int, fixed: bool, by: str, steps: int, seeds: Sequence[Sequence[int]], folder: Path
) -> list[dict[str, Any]]:
    """The job: move the samples of the X by the gradient of SIGReg with a test, and measure them before and after."""
    generators = [torch.Generator().manual_seed(_integer(seed)) for seed in seeds]
    start = torch.stack([crossed(COUNT, n, generator) for generator in generators])
    x = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([x], lr=RATE)
    directions = _directions(generators, n, slices)
    marks = sorted({round(steps * share) for share in np.linspace(0, 1, 11)})
    curves: list[list[float]] = []
    for step in range(steps + 1):
        if step in marks:
            curves.append([float(tie(own)) for own in x.detach()])
        if step == steps:
            break
        if not fixed:
            directions = _directions(generators, n, slices)
        # Columns are projections of one sample each: a mean over directions, a sum over samples, which do not interact.
        loss = TESTS[by]((x @ directions).transpose(0, 1).flatten(1)).sum() / slices
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return [
        {
            "seed": list(seed),
            "before": _measured(start[k], seed),
            "after": _measured(x.detach()[k], seed),
            "steps": marks,
            "tie": [round(values[k], 4) for values in curves],
            "cloud": [
                [[round(v, 3) for v in point] for point in own[k, :, :2].tolist()] for own in (start, x.detach())
            ],
        }
        for k, seed in enumerate(seeds)
    ]


def _measured(x: Tensor, seed: Sequence[int]) -> dict[str, float]:
    fresh = _directions([torch.Generator().manual_seed(_integer([*seed, 1]))], x.shape[1], 1000)[0]
    return {
        "plane": float(in_plane(x)) / CHANCE,
        "fresh": float(epps_pulley(x @ fresh).mean()) / CHANCE,
        "tie": float(tie(x)),
    }


def _directions(generators: Sequence[torch.Generator], n: int, slices: int) -> Tensor:
    return torch.stack([unit_directions(n, slices, generator, torch.float32) for generator in generators])


def _integer(seed: Sequence[int]) -> int:
    return int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
