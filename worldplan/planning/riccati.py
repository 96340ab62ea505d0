"""The Riccati equation of an infinite horizon by doubling: the value of 1, 2, 4, 8, ... steps until it stands still."""

from __future__ import annotations

import numpy as np

from worldplan.arrays import Floats

DOUBLINGS = 40  # a loop of radius 1 - 1e-8 has forgotten its start after 2^31 steps
STANDSTILL = 1e-15


def doubled_riccati(A: Floats, G: Floats, W: Floats) -> Floats | None:
    """The least P >= 0 with `P = W + A' P (I + G P)^-1 A`, `G = B R^-1 B'`; where W sees all unstable modes, the LQR's.

    Each doubling costs one solve and a few products, so that large systems take a small part of the time of the QZ
    decomposition behind `scipy.linalg.solve_discrete_are`. Not for every problem: the caller judges what comes back.
    Source: Anderson 1978, Int. J. Control 28(2); Chu, Fan, Lin, Wang 2004, Int. J. Control 77(8).

    Args:
        A: (d, d).
        G: (d, d), semidefinite.
        W: (d, d), semidefinite.

    Returns:
        (d, d), symmetric; None if it did not come to a standstill.
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
