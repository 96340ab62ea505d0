"""Linear systems with positive definite matrices, by LAPACK itself.

The problems of a planner are small: for 4 x 4, `scipy.linalg.cho_factor` and `cho_solve` take six times as long.
"""

from __future__ import annotations

import numpy as np
from numpy.linalg import LinAlgError
from scipy.linalg.lapack import dpotrf, dpotrs

from worldplan.arrays import Floats


def factor(S: Floats) -> Floats:
    """A Cholesky factor of S (k, k), for `solve_factored`. Raises LinAlgError if S is not finite and definite."""
    found, info = dpotrf(S)
    if info or not np.isfinite(found).all():  # LAPACK passes NaN and infinity on
        raise LinAlgError("the matrix is not positive definite")
    return np.asarray(found, dtype=np.float64)


def solve_factored(factored: Floats, right: Floats) -> Floats:
    """`S^-1 right`, (k,) or (k, l), for what `factor` made of S."""
    return np.asarray(dpotrs(factored, right)[0], dtype=np.float64)


def solve_definite(S: Floats, right: Floats) -> Floats:
    """`S^-1 right`, (k,) or (k, l), for S (k, k). Raises LinAlgError if S is not finite and definite."""
    return solve_factored(factor(S), right)
