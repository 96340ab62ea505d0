"""The infinite-horizon Riccati equation by doubling: the value of 1, 2, 4, 8, ... steps until it stops changing."""

from __future__ import annotations

import numpy as np

from worldplan.arrays import Floats

DOUBLINGS = 40  # a loop of radius 1 - 1e-8 has forgotten its start after 2^31 steps
STANDSTILL = 1e-15


def doubled_riccati(A: Floats, G: Floats, W: Floats) -> Floats | None:
    """The least P >= 0 with `P = W + A' P (I + G P)^-1 A`, `G = B R^-1 B'`; None if the doubling does not converge.

    A, G, W and P are (d, d); G and W are semidefinite, P is symmetric. Where W sees all unstable modes, P is the LQR's.
    Each doubling costs one solve and a few products. For large systems that is far faster than the QZ decomposition in
    `scipy.linalg.solve_discrete_are`. It does not work for every problem: the caller must check P. Source: Anderson
    1978, Int. J. Control 28(2); Chu, Fan, Lin, Wang 2004, Int. J. Control 77(8).
    """
    n = len(A)
    P = W
    with np.errstate(all="ignore"):
        for _ in range(DOUBLINGS):
            # Invariant, after k doublings: with a terminal weight S, the least cost of 2^k steps from x is
            # x' (P + A' S (I + G S)^-1 A) x. Two such stretches, one after the other, make the next.
            try:
                both = np.linalg.solve(np.eye(n) + G @ P, np.concatenate([A, G], axis=1))
            except np.linalg.LinAlgError:
                return None
            gain = A.T @ P @ both[:, :n]
            G, A = G + A @ both[:, n:] @ A.T, A @ both[:, :n]
            P, G = P + (gain + gain.T) / 2, (G + G.T) / 2
            if not np.isfinite(P).all():
                return None
            if np.abs(gain).max() <= STANDSTILL * np.abs(P).max():
                return P
    return None
