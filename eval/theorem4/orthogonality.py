"""Is one latent a rotation of another? The linear map between them, and how far it is from orthogonal.

Costs that agree within a tolerance do not say so: a shear of .5 once passed for a rotation by its costs. On circles
the map that keeps plans is a signed permutation (see `worldplan.eval.theorem4.spaces`), which is orthogonal too.
"""

from __future__ import annotations

import numpy as np

from worldplan.arrays import Floats
from worldplan.eval.statistics.bootstrap import resampled_counts
from worldplan.eval.statistics.estimate import Estimate

RESAMPLES = 1000


def orthogonality_error(source: Floats, target: Floats, seed: int = 0) -> Estimate:
    """`|M'M - I|` (spectral norm) of the least-squares map `target = M source`, with its interval over episodes.

    Args:
        source: paths (E, T + 1, n) without jumps. Offsets are left out: displacements from the first frame are mapped.
        target: paths (E, T + 1, n) on the same frames.
        seed: for the resampled episodes.

    Returns:
        NaN where the source does not vary in every direction.
    """
    x, y = (paths[:, 1:] - paths[:, :1] for paths in (source, target))
    squares = np.einsum("eti,etj->eij", x, x)
    products = np.einsum("eti,etj->eij", y, x)
    ones = np.ones((1, len(x)))
    draws = np.concatenate([ones, *resampled_counts(len(x), RESAMPLES, seed)])
    found = [_error(np.tensordot(count, products, 1), np.tensordot(count, squares, 1)) for count in draws]
    low, high = np.quantile(found[1:], [0.025, 0.975])
    return Estimate(found[0], float(low), float(high))


def _error(products: Floats, squares: Floats) -> float:
    try:
        M = np.linalg.solve(squares, products.T).T
    except np.linalg.LinAlgError:
        return float("nan")
    return float(np.linalg.norm(M.T @ M - np.eye(M.shape[1]), 2))
