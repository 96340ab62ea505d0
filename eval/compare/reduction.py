"""Reduction of latents wider than the world to the principal components that carry it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldplan.arrays import Floats, finite_array
from worldplan.errors import InvalidInput
from worldplan.eval.identifiability.spectrum import effective_rank
from worldplan.learning.encoder import Encoder


@dataclass(frozen=True, eq=False)
class LinearReduction:
    """`h -> basis (h - mean)`: keeps distances within the components; nothing is whitened.

    Args:
        mean: (m,) latent.
        basis: (k, m), orthonormal rows.
        dropped: share of the variance that the other components held, 0 to 1.

    Raises:
        InvalidInput: shapes that do not fit, or rows that are not orthonormal.
    """

    mean: Floats
    basis: Floats
    dropped: float = 0.0

    def __post_init__(self) -> None:
        mean, basis = finite_array("mean", self.mean), finite_array("basis", self.basis)
        if mean.ndim != 1 or basis.ndim != 2 or basis.shape[1] != len(mean) or not 1 <= len(basis) <= len(mean):
            raise InvalidInput(f"need a mean (m,) and a basis (k, m), 1 <= k <= m, got {mean.shape} and {basis.shape}")
        if not np.allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-9):
            raise InvalidInput("the rows of a basis must be orthonormal")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "basis", basis)

    def __call__(self, latents: Floats) -> Floats:
        """Components (N, k) of latents (N, m)."""
        return np.asarray((latents - self.mean) @ self.basis.T)


@dataclass(eq=False)
class ReducedEncoder:
    """An encoder whose latent is reduced to principal components."""

    encoder: Encoder
    reduction: LinearReduction

    def __post_init__(self) -> None:
        self.latent_dim = len(self.reduction.basis)

    def __call__(self, frames: NDArray[np.uint8]) -> Floats:
        """Frames (T, 64, 64, 3) to components (T, k)."""
        return self.reduction(np.asarray(self.encoder(frames), dtype=np.float64))


def fit_reduction(latents: Floats, least: int = 2) -> LinearReduction:
    """Principal components of latents (N, m): as many as their effective rank, rounded, but at least `least`.

    The subspace rotates with the latent: planning in the components of `Q h` equals planning in those of h.

    Raises:
        InvalidInput: fewer than `least` columns, or latents that do not vary.
    """
    latents = finite_array("latents", latents)
    if latents.ndim != 2 or latents.shape[1] < least or len(latents) < 2:
        raise InvalidInput(f"need latents (N, m) with N >= 2 and m >= {least}, got {latents.shape}")
    mean = latents.mean(axis=0)
    _, sizes, rows = np.linalg.svd(latents - mean, full_matrices=False)
    variances = np.square(sizes)
    k = max(least, round(effective_rank(variances)))
    basis = rows[:k] * np.where(rows[:k].sum(axis=1, keepdims=True) < 0, -1.0, 1.0)  # a fixed sign
    return LinearReduction(mean, basis, float(variances[k:].sum() / variances.sum()))
