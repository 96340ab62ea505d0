"""Shares of a latent's variance that are polynomials of each degree of the true state, in the Gaussian world.

Products of normalised Hermite polynomials are an orthonormal basis of functions of `z ~ N(0, I)`. The
Ornstein-Uhlenbeck channel attenuates those of total degree d by `rho^d`: every share beyond degree 1 costs alignment
(Klindt, LeCun and Balestriero 2026, arXiv 2605.26379, Theorem 1).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise

import numpy as np
from scipy.special import eval_hermitenorm

from worldplan.arrays import Floats, varies
from worldplan.checks import positive_int
from worldplan.errors import InvalidInput
from worldplan.eval.statistics.bootstrap import half_moments, interval, over_views
from worldplan.eval.statistics.estimate import Estimate


def hermite_features(z: Floats, degree: int) -> Floats:
    """All products `prod_i He_{k_i}(z_i) / sqrt(k_i!)` of total degree `sum k_i = degree`, at least 1, for z (..., n).

    The result (..., C(n + degree - 1, degree)) has mean 0 and covariance I under `z ~ N(0, I)`.
    """
    columns = []
    for factors in combinations_with_replacement(range(z.shape[-1]), positive_int("degree", degree)):
        powers = Counter(factors)
        parts = [eval_hermitenorm(k, z[..., i]) / math.sqrt(math.factorial(k)) for i, k in powers.items()]
        columns.append(math.prod(parts[1:], start=parts[0]))
    return np.stack(columns, axis=-1)


@dataclass(frozen=True, eq=False)
class HermiteEnergy:
    """Shares of variance by total degree of the Hermite polynomials of z; they add up to 1.

    A share is a product of coefficients from two halves of the data. Noise then averages out, so a share may be
    slightly negative.

    Attributes:
        by_degree: shares of the total variance, degree 1 first, each with its 95% bootstrap interval.
        rest: higher degrees, and all that is no function of z.
        per_latent: (m, degrees + 1) shares of each coordinate's own variance, the rest last; NaN for a constant.
    """

    by_degree: tuple[Estimate, ...]
    rest: Estimate
    per_latent: Floats


def hermite_energy(h: Floats, z: Floats, *, degrees: int = 3, resamples: int = 1000, seed: int = 0) -> HermiteEnergy:
    """Energy by Hermite degree up to `degrees`, cross-fitted.

    The latents h (N, V, m) are V views of N independent sets, which are resampled as a whole. The true states z (N, V,
    n) are each `N(0, I)`. Raises InvalidInput if there are too few rows for the polynomials, or if the latent does not
    vary.
    """
    basis = [hermite_features(z, d) for d in range(1, positive_int("degrees", degrees) + 1)]
    sizes, (count, views, m) = [b.shape[-1] for b in basis], h.shape
    if count < 10 * (sum(sizes) + 1):
        raise InvalidInput(f"{count} rows are too few for {sum(sizes)} polynomials; take {10 * (sum(sizes) + 1)}")
    moving = varies(h)
    if not moving.any():
        raise InvalidInput("the latent does not vary: it has no energy to share out")
    h = h - h.mean(axis=(0, 1))
    rows = np.concatenate([np.ones((count, views, 1)), *basis, h], axis=2)
    halves = half_moments(rows.reshape(count, -1), resamples, seed)
    # (1 + resamples, degrees + 1, m)
    energy = np.stack([_energies(over_views(a, views), over_views(b, views), sizes, m) for a, b in halves])
    shares = energy.sum(axis=2) / energy.sum(axis=(1, 2))[:, None]
    estimates = [interval(float(column[0]), column[1:]) for column in shares.T]
    own = energy[0].sum(axis=0)
    per_latent = np.divide(energy[0], own, out=np.full_like(energy[0], np.nan), where=moving).T
    return HermiteEnergy(tuple(estimates[:-1]), estimates[-1], per_latent)


def _energies(first: Floats, second: Floats, sizes: list[int], m: int) -> Floats:
    """(degrees + 1, m): products of both halves' coefficients by degree, then the residual in the other half."""
    p = len(first) - m
    maps = [np.linalg.lstsq(S[:p, :p], S[:p, p:], rcond=None)[0] for S in (first, second)]
    product = maps[0] * maps[1]
    edges = np.cumsum([1, *sizes])
    powers = [product[a:b].sum(axis=0) for a, b in pairwise(edges)]
    left = np.zeros(m)
    for fitted, judge in ((maps[0], second), (maps[1], first)):
        residual = np.concatenate([-fitted, np.eye(m)])
        left += np.sum(residual * (judge @ residual), axis=0) / 2
    return np.stack([*powers, left])
