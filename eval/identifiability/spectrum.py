"""How many directions a latent uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import entr

from worldplan.arrays import Floats, varies
from worldplan.errors import InvalidInput
from worldplan.eval.statistics.bootstrap import half_moments, interval, over_views
from worldplan.eval.statistics.estimate import Estimate


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues of the latent's covariance.

    Attributes:
        eigenvalues: (m,), descending.
        effective_rank: `exp(-sum p log p)` of the eigenvalues' shares p, with its 95% bootstrap interval. This is the
            entropy rank of Roy and Vetterli (EUSIPCO 2007), of the covariance matrix. k equal directions have rank k.
        share: share of the total variance above which a direction counts.
        directions: number of directions that count.
    """

    eigenvalues: Floats
    effective_rank: Estimate
    share: float
    directions: int


def effective_rank(variances: Floats) -> float:
    """`exp(-sum p log p)`, p the shares of the variances (m,): m if all are equal, 1 if there is but one.

    Raises InvalidInput if there is no variance at all.
    """
    positive = np.asarray(variances, dtype=np.float64).clip(min=0.0)
    if not positive.sum() > 0:
        raise InvalidInput("nothing varies: there is no rank")
    return float(np.exp(entr(positive / positive.sum()).sum()))


def spectrum(h: Floats, *, share: float = 0.01, resamples: int = 1000, seed: int = 0) -> Spectrum:
    """Spectrum of latents (N, V, m) of V views of N independent sets.

    Raises InvalidInput if the share is not within [0, 1), or if the latent does not vary.
    """
    if not 0 <= share < 1:
        raise InvalidInput(f"share must lie in [0, 1), got {share}")
    count, views, _ = h.shape
    if not varies(h).any():
        raise InvalidInput("the latent does not vary: it has no directions")
    rows = np.concatenate([np.ones((count, views, 1)), h - h.mean(axis=(0, 1))], axis=2)
    values = []
    for first, second in half_moments(rows.reshape(count, -1), resamples, seed):
        mean = over_views((first + second) / 2, views)
        values.append(np.linalg.eigvalsh(mean[1:, 1:] - np.outer(mean[0, 1:], mean[0, 1:]))[::-1].clip(min=0))
    eigenvalues = np.array(values)
    shares = eigenvalues / eigenvalues.sum(axis=1, keepdims=True)
    ranks = np.exp(entr(shares).sum(axis=1))
    directions = int((shares[0] > share).sum())
    return Spectrum(eigenvalues[0], interval(float(ranks[0]), ranks[1:]), share, directions)
