"""The distance between a latent and the best rotation of the true state, and the upper bound that Theorem 3 puts on it.

Theorem 3 of Klindt, LeCun and Balestriero (2026, arXiv 2605.26379): h is centred, `z ~ N(0, I)`, and pairs follow the
Ornstein-Uhlenbeck channel at rho, with alignment loss `L = E||h - h'||^2`. Let `eps = ||Cov(h) - I||_F`,
`delta = L - 2 (1 - rho) tr Cov(h)` and `D = delta / (2 rho (1 - rho))`. Then some Q with orthonormal columns (rows, if
h is narrower than z) has

    E||h - Q z||^2 <= D + (eps + D)^2.

Reason: the channel attenuates degree d of h by rho^d. So `delta = 2 sum_d (rho - rho^d) energy_d` is at least
`2 rho (1 - rho)` times the energy of the residual `r = h - M z`. The singular values s of M obey
`|s - 1| <= |s^2 - 1|`. Everything here is a function of the second moments of `(1, z, h)` over both views of a pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldplan.arrays import Floats
from worldplan.eval.statistics.bootstrap import half_moments, interval
from worldplan.eval.statistics.estimate import Estimate

ROUNDING = 1e-9  # error, relative to the latent's energy, that counts as none


@dataclass(frozen=True)
class ApproximateIdentifiability:
    """Theorem 3's quantities, each with its 95% bootstrap interval over pairs.

    Attributes:
        rho: correlation of the evaluator's own pairs. At .5 the bound of noise is twice its error; at .99 it is 300
            times.
        delta: alignment loss above what the latent's energy must cost.
        D: bound on the energy of the residual of the linear map.
        bound: `D + (eps + D)^2`. Resampling inflates a norm, so its upper limit errs to the safe side.
        error: `E||h - Q z||^2` of centred h; Q is the best rotation of one half of the pairs. Noise of the linear map,
            which the halves do not share, adds nothing.
        holds: whether the error's lower limit lies below the bound's upper limit. It must, for any encoder. If not, the
            pairs do not follow the channel, or the measurement is broken.
    """

    rho: float
    eps: Estimate
    delta: Estimate
    D: Estimate
    bound: Estimate
    error: Estimate
    holds: bool


@dataclass(frozen=True)
class LinearDistortion:
    """Deviation of the linear map `h ~ M z + b` from a rotation, with 95% bootstrap intervals over pairs.

    Attributes:
        orthogonality: `||M'M - I||_F`, from a product of both halves' estimates of M, so that noise is no distortion.
        condition: largest over smallest singular value of M; infinite (null in JSON) for a collapsed direction.
    """

    orthogonality: Estimate
    condition: Estimate


def theorem3_bound(eps: float, delta: float, rho: float) -> tuple[float, float]:
    """`D` and `D + (eps + D)^2`; a delta below 0, which only sampling noise can give, counts as 0."""
    D = max(delta, 0.0) / (2 * rho * (1 - rho))
    return D, D + (eps + D) ** 2


def excess_alignment(rho: float, residual: float, lagged: float) -> float:
    """`delta = L - 2 (1 - rho) tr Cov(h)`, computed as `2 (rho tr Cov(r) - tr Cov(r, r'))`.

    `residual` is `tr Cov(r)` with `r = h - M z - b`; `lagged` is `tr Cov(r, r')` across the two views. The linear part
    cancels exactly, which avoids a difference of two large, noisy sums.
    """
    return 2 * (rho * residual - lagged)


def isometry(M: Floats) -> Floats:
    """The matrix with orthonormal columns (rows, if it is wide) nearest to M (m, n): its polar factor."""
    left, _, right = np.linalg.svd(M, full_matrices=False)
    return np.asarray(left @ right)


def distortion(
    h: Floats, z: Floats, *, rho: float = 0.5, resamples: int = 1000, seed: int = 0
) -> tuple[LinearDistortion, ApproximateIdentifiability]:
    """Measure both from latents h (N, 2, m) of pairs of states z (N, 2, n), each `N(0, I)` and correlated by rho.

    This law of the states is not checked here. Every fit is done again on each of `resamples` bootstrap samples of
    pairs.
    """
    h = h - h.mean(axis=(0, 1))
    count, _, n = z.shape
    rows = np.concatenate([np.ones((count, 2, 1)), z, h], axis=2).reshape(count, -1)
    measured = np.array([_measure(a, b, n, rho) for a, b in half_moments(rows, resamples, seed)])
    names = ("orthogonality", "condition", "eps", "delta", "D", "bound", "error")
    found = {k: interval(float(column[0]), column[1:]) for k, column in zip(names, measured.T, strict=True)}
    energy = float(np.square(h).sum(axis=2).mean())
    holds = found["error"].low <= found["bound"].high + ROUNDING * energy
    linear = LinearDistortion(found.pop("orthogonality"), found.pop("condition"))
    return linear, ApproximateIdentifiability(rho=rho, holds=holds, **found)


def _measure(first: Floats, second: Floats, n: int, rho: float) -> tuple[float, ...]:
    """The seven numbers, fitted on each half and judged on the other: noise of M then adds nothing to delta."""
    A, B = _Half(first, n), _Half(second, n)
    residuals = [A.residual(A.M, B), B.residual(B.M, A)]
    left, lagged = (np.mean([pair[k] for pair in residuals], axis=0) for k in range(2))
    # Cov(h) = M M' + Cov(r), and E||h - Q z||^2 = ||M - Q||^2 + tr Cov(r): with the state's known covariance, in every
    # sample a rotation has eps 0, and an encoder that has collapsed an error of n, which is its bound.
    rotations = isometry(A.M), isometry(B.M)
    error = float(np.trace(left) + np.mean([np.sum((A.M - Q) * (B.M - Q)) for Q in rotations]))
    product = A.M @ B.M.T
    eps = float(np.linalg.norm((product + product.T) / 2 + left - np.eye(len(left))))
    delta = excess_alignment(rho, float(np.trace(left)), float(np.trace(lagged)))
    gram = A.M.T @ B.M
    orthogonality = float(np.linalg.norm((gram + gram.T) / 2 - np.eye(n)))
    condition, bounded = _condition((A.M + B.M) / 2), theorem3_bound(eps, delta, rho)
    return orthogonality, condition, eps, delta, *bounded, max(0.0, error)


def _condition(M: Floats) -> float:
    values = np.linalg.svd(M, compute_uv=False)
    negligible = values[-1] <= max(M.shape) * np.finfo(np.float64).eps * values[0] or len(values) < M.shape[1]
    return float("inf") if negligible else float(values[0] / values[-1])


class _Half:
    """Second moments of `(1, z, h)` in both views on one half of the pairs, and the linear fit on them."""

    def __init__(self, moments: Floats, n: int) -> None:
        q = len(moments) // 2
        self.same = (moments[:q, :q] + moments[q:, q:]) / 2  # the views are exchangeable
        self.cross = (moments[:q, q:] + moments[q:, :q]) / 2
        self.n = n
        # h = b + M z, by the normal equations of (1, z): z is near N(0, I), so that they are well conditioned.
        fitted = np.linalg.solve(self.same[: n + 1, : n + 1], self.same[: n + 1, n + 1 :])
        self.M: Floats = np.asarray(fitted[1:].T, dtype=np.float64)

    def residual(self, F: Floats, judge: _Half) -> tuple[Floats, Floats]:
        """Covariance (m, m) of `h - b - F z` in the other half, and across the views; the offset b is of this half."""
        offset = self.same[0, self.n + 1 :] - F @ self.same[0, 1 : self.n + 1]
        T = np.concatenate([-offset[:, None], -F, np.eye(len(F))], axis=1)
        return T @ judge.same @ T.T, T @ judge.cross @ T.T
