"""Latents of equal total variance and different laws, as transports of `N(0, I)`, and their Fisher information."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.special import log_ndtr, ndtr

from worldplan.arrays import Floats
from worldplan.eval.laboratory.worlds import Spiral

LATENTS = 4
IDEAL = "isotropic Gaussian"

Transport = Callable[[Floats], Floats]  # world's states (N, n) of N(0, I) -> latents (N, n) of total variance n


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
