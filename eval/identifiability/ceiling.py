"""The best R2 with which an image can tell a Gaussian angle."""

from __future__ import annotations

import numpy as np

from worldplan.errors import InvalidInput, UnknownName
from worldplan.eval.identifiability.regression import LABEL_KINDS

_NODES = 2**12
_WIDEST = 20.0  # radians; beyond it an image tells nothing: R2 ~ 2 scale^2 exp(-scale^2)


def bayes_ceiling(scale: float, kind: str = "unwrapped") -> float:
    """Best R2 that any function of an image can reach on one joint angle `theta ~ N(0, scale^2)`, radians.

    An image shows theta modulo 2 pi. For "unwrapped" labels the best guess is the posterior mean over `theta + 2 pi k`,
    so `R2 = 1 - E var(theta | theta mod 2 pi) / scale^2`. "wrapped" and "sincos" labels are functions of the image:
    their ceiling is 1. This holds for both joints of the Reacher: the wrist's limit of 160 degrees binds the simulator,
    not the renderer. For two joints of one scale it is also the ceiling of the total R2.

    Raises:
        InvalidInput: the scale is not positive and finite.
        UnknownName: no such kind of label.
    """
    if not (np.isfinite(scale) and scale > 0):
        raise InvalidInput(f"scale must be a positive angle, got {scale}")
    if kind not in LABEL_KINDS:
        raise UnknownName("label kind", kind, LABEL_KINDS)
    if kind != "unwrapped":
        return 1.0
    if scale > _WIDEST:
        return 0.0
    turns = np.arange(-1 - int(2 * scale), 2 + int(2 * scale))  # to 12 standard deviations
    seen = np.linspace(-np.pi, np.pi, _NODES, endpoint=False)
    theta = seen[:, None] + 2 * np.pi * turns
    exponent = -np.square(theta / scale) / 2
    largest = exponent.max(axis=1, keepdims=True)
    weight = np.exp(exponent - largest)
    density = weight.sum(axis=1)
    mean = (weight * theta).sum(axis=1) / density
    variance = (weight * np.square(theta - mean[:, None])).sum(axis=1) / density
    # The density of the angle seen; a trapezoid sum of a smooth periodic function converges faster than any power.
    density *= np.exp(largest[:, 0]) / (scale * np.sqrt(2 * np.pi))
    return max(0.0, float(1 - (density * variance).mean() * 2 * np.pi / scale**2))
