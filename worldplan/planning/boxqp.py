"""Convex quadratic programs over a box: an active set method, and a suboptimality bound that needs no solver."""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from worldplan.arrays import Floats


class BoxQP:
    """Minimise `u' H u + 2 q' u` over `low <= u <= high`.

    `scale` and `convexity` are the largest and smallest eigenvalue of H; `convexity` is at least `least`.

    Args:
        H: (k, k), symmetric positive definite.
        least: a known lower bound on the smallest eigenvalue of H; used when rounding makes the computed one useless.

    Raises:
        LinAlgError: H has no Cholesky factor in float64.
    """

    def __init__(self, H: Floats, least: float = 0.0) -> None:
        eigenvalues = np.linalg.eigvalsh(H)
        self.H = H
        self.scale = float(eigenvalues[-1])
        self.convexity = max(float(eigenvalues[0]), least)
        self._factor = cho_factor(H)

    def unlimited(self, q: Floats) -> Floats:
        """Minimiser (k,) without the box."""
        return np.asarray(-cho_solve(self._factor, q))

    def certificate(self, q: Floats, low: Floats, high: Floats, u: Floats) -> tuple[float, float]:
        """Bound on the cost of a feasible u (k,) minus the least cost, and the residual of u.

        By strong convexity, a separable function of v bounds the cost of any v from below. Its minimum over the box is
        closed-form. With g the gradient at u, the residual is the largest entry of `u - clip(u - g / |2 H|)`: 0 iff u
        is optimal.
        """
        gradient = 2 * (self.H @ u + q)
        best = np.clip(-gradient / (2 * self.convexity), low - u, high - u)
        gap = float(-(gradient @ best + self.convexity * best @ best))
        residual = float(np.abs(u - np.clip(u - gradient / (2 * self.scale), low, high)).max())
        return max(gap, 0.0), residual

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
                    u[free] = cho_solve(cho_factor(self.H[np.ix_(free, free)]), -(q + self.H @ u)[free])
                except LinAlgError:  # definite only beyond rounding: keep what we have
                    break
            clipped = np.clip(u, low, high)
            clipped_gap = self.certificate(q, low, high, clipped)[0]
            if clipped_gap < gap:
                best, gap = clipped, clipped_gap
        return best
