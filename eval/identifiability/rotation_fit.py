"""Is the latent the state up to a rotation, or only up to a rotation and one monotone map shared by all coordinates?

Where the latent law is not Gaussian, the slowest eigenfunction of each coordinate is monotone but not affine. The best
that alignment can give is then `h = Q (w(z_1), ..., w(z_n))` (Klindt, LeCun and Balestriero 2026, arXiv 2605.26379).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from worldplan.arrays import Floats
from worldplan.eval.identifiability.regression import AffineMap, r2
from worldplan.eval.statistics.estimate import Estimate
from worldplan.planning.rotation import procrustes


@dataclass(frozen=True, eq=False)
class RotationFit:
    """The best rotation `h ~ Q z + offset` of the training rows, judged on others by how well it predicts z.

    Attributes:
        Q: (m, n), orthonormal columns (rows, if m < n).
        offset: (m,).
        rotation: total R2 of `Q'(h - offset)` for z, with its 95% bootstrap interval. No scale is fitted.
        monotone: R2 of `v(Q'(h - offset))`, with v increasing and the same for all coordinates.
    """

    Q: Floats
    offset: Floats
    rotation: Estimate
    monotone: Estimate


def best_rotation(z: Floats, h: Floats) -> AffineMap:
    """`h ~ Q z + offset` by least squares over Q (m, n) with orthonormal columns.

    If m < n, Q has orthonormal rows and the largest covariance of Qz with h: least squares where z is white.
    """
    n, m = z.shape[1], h.shape[1]
    width = max(n, m)
    # With zeros appended, a square Q of which only the (m, n) block matters: Procrustes as it stands.
    found = procrustes(_padded(z, width), _padded(h, width))
    return AffineMap(found.Q[:m, :n], found.offset[:m])


def _padded(x: Floats, width: int) -> Floats:
    return np.pad(x, ((0, 0), (0, width - x.shape[1])))


def rotation_fit(
    train_latents: Floats,
    train_states: Floats,
    test_latents: Floats,
    test_states: Floats,
    *,
    groups: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> RotationFit:
    """Fit rotation and monotone map on the training rows; judge both on the test rows.

    Latents are (N, m) and (K, m). States are (N, n) and (K, n), in units in which h should be a rotation: of unit
    variance. Rows with the same label in `groups` (K,) are resampled together. Raises InvalidInput for states that do
    not vary.
    """
    turn = best_rotation(train_states, train_latents)
    back, judged = ((h - turn.b) @ turn.M for h in (train_latents, test_latents))
    # One map for all coordinates: their values are pooled. Equal ones (a collapsed coordinate) share one height.
    knots, place, count = np.unique(back, return_inverse=True, return_counts=True)
    means = np.bincount(place.ravel(), train_states.ravel()) / count
    # Beyond the last knots v goes on with slope 1, so that the identity is one of the maps.
    beyond = judged - np.clip(judged, knots[0], knots[-1])
    warped = np.interp(judged, knots, isotonic_regression(means, weights=count).x) + beyond
    scores = [r2(test_states, told, groups=groups, resamples=resamples, seed=seed).total for told in (judged, warped)]
    return RotationFit(turn.M, turn.b, *scores)
