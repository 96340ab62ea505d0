"""Convex quadratic programs over a box: an active set method, and a suboptimality bound that needs no solver."""

from __future__ import annotations

import numpy as np
from numpy.linalg import LinAlgError

from worldplan.arrays import Floats
from worldplan.planning.definite import factor, solve_definite, solve_factored


class BoxQP:
    """Minimise `u' H u + 2 q' u` over `low <= u <= high`.

    `scale` is the largest eigenvalue of H, and `convexity` a lower bound on the smallest, at least `least`.

    Args:
        H: (k, k), symmetric positive definite.
        least: a known lower bound on the smallest eigenvalue of H; used when rounding makes the computed one useless.
        rounding: how far H may be from the matrix that it stands for, in the spectral norm.

    Raises:
        LinAlgError: H has no Cholesky factor in float64.
    """

    def __init__(self, H: Floats, least: float = 0.0, rounding: float = 0.0) -> None:
        eigenvalues = np.linalg.eigvalsh(H)
        self.H = H
        self.scale = float(eigenvalues[-1])
        rounding += len(H) * float(np.finfo(np.float64).eps) * self.scale  # of the eigenvalues themselves
        self.convexity = max(float(eigenvalues[0]) - rounding, least)
        self._factor = factor(H)

    def unlimited(self, q: Floats) -> Floats:
        """Minimiser (k,) without the box."""
        return -solve_factored(self._factor, q)

    def certificate(self, q: Floats, low: Floats, high: Floats, u: Floats) -> tuple[float, float]:
        """Bound on the cost of a feasible u (k,) minus the least cost, and the residual of u; rounding left out.

        See `bound` for the first. The residual is the largest entry of `u - clip(u - g / |2 H|)` with g the gradient at
        u: 0 iff u is optimal.
        """
        gradient = 2 * (self.H @ u + q)
        residual = float(np.abs(u - np.clip(u - gradient / (2 * self.scale), low, high)).max())
        return self.bound(gradient, low, high, u), residual

    def bound(self, gradient: Floats, low: Floats, high: Floats, u: Floats, error: Floats | float = 0.0) -> float:
        """Bound on the cost of a feasible u (k,) minus the least cost, for a gradient (k,) that is known up to `error`.

        By strong convexity, a separable function of v bounds the cost of any v from below. Its minimum over the box is
        closed-form. It is lowest at one end of what the gradient may be.
        """
        ends = (gradient - error, gradient + error) if np.any(error) else (gradient,)
        worst = np.zeros_like(u)
        for end in ends:
            best = np.clip(-end / (2 * self.convexity), low - u, high - u)
            worst = np.maximum(worst, -best * (end + self.convexity * best))
        return float(worst.sum())

    def active_set(self, q: Floats, low: Floats, high: Floats, u: Floats) -> Floats:
        """The best of u and a few steps of the primal-dual active set method from it.

        With the right active set, one linear solve gives the optimum to rounding, wherever the method started
        (Hintermueller, Ito and Kunisch 2002). The method need not find that set.
        """
        best, gap = u, self.certificate(q, low, high, u)[0]
        active: Floats | None = None
        for _ in range(10):
            step = u - (self.H @ u + q) / self.scale
            sides = np.where(step <= low, -1.0, np.where(step >= high, 1.0, 0.0))
            if active is not None and np.array_equal(sides, active):
                break
            active = sides
            free = sides == 0
            u = np.where(sides < 0, low, np.where(sides > 0, high, 0.0))
            if free.any():
                try:
                    u[free] = solve_definite(self.H[np.ix_(free, free)], -(q + self.H @ u)[free])
                except LinAlgError:  # definite only beyond rounding: keep what we have
                    break
            clipped = np.clip(u, low, high)
            clipped_gap = self.certificate(q, low, high, clipped)[0]
            if clipped_gap < gap:
                best, gap = clipped, clipped_gap
        return best
