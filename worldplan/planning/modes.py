"""Tests for an optimal feedback: which modes of a linear system the actions reach, and which the cost sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dgebal

from worldplan.arrays import Floats
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics

# A double eigenvalue is computed to no more than the root of the rounding error, so that no finer test means anything.
MODE_TOLERANCE = float(np.sqrt(np.finfo(np.float64).eps))
PLAINLY_REACHED = 1e-5  # singular value over the largest: far above MODE_TOLERANCE, and its square far above rounding


def natural_units(A: Floats) -> Floats:
    """Units (d,) of the states, powers of two, in which rows and columns of A (d, d) have like norms.

    States in other units make `A * units / units[:, None]` of A. Source: Parlett and Reinsch 1969, Numer. Math. 13.
    """
    return np.asarray(dgebal(A, scale=1, permute=0)[3], dtype=np.float64)


def unreachable_modes(dynamics: LinearDynamics) -> NDArray[np.complex128]:
    """Eigenvalues `|lambda| >= 1` of A that B cannot move: `[A - lambda I, B]` loses rank (Popov, Belevitch, Hautus).

    There are none iff the system is stabilisable, up to `MODE_TOLERANCE`.
    """
    units = natural_units(dynamics.A)
    A, B = dynamics.A * units / units[:, None], dynamics.B / units[:, None]
    return hidden_modes(A, B, np.eye(len(A)))[0]


def unseen_modes(dynamics: LinearDynamics, cost: QuadraticCost) -> NDArray[np.complex128]:
    """Eigenvalues `|lambda| = 1` of A that W does not see; with any of these no Riccati solution is stabilising."""
    units = natural_units(dynamics.A)
    A, W = dynamics.A * units / units[:, None], cost.W * np.outer(units, units)
    return hidden_modes(A, np.eye(len(A)), W)[1]


def hidden_modes(A: Floats, B: Floats, W: Floats) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """The modes of A (d, d) that B (d, m) does not reach, and those that W (d, d) does not see, in natural units."""
    modes = np.linalg.eigvals(A)
    size = np.abs(modes)
    undamped = modes[np.abs(size - 1) <= MODE_TOLERANCE]
    return _hidden(A, B, modes[size >= 1 - MODE_TOLERANCE]), _hidden(A.T, W, undamped)


def _hidden(A: Floats, B: Floats, modes: NDArray[np.complexfloating]) -> NDArray[np.complex128]:
    """Those of `modes` for which `[A - lambda I, B]` lacks full row rank."""
    # Only the columns' span matters: with their lengths the test would depend on the units of the actions.
    if not len(modes):
        return np.zeros(0, dtype=np.complex128)
    lengths = np.linalg.norm(B, axis=0)
    scale = max(1.0, float(np.linalg.norm(A, 2)))
    A, columns, eye = A / scale, B[:, lengths > 0] / lengths[lengths > 0], np.eye(len(A))
    squares = A @ A.T + columns @ columns.T - PLAINLY_REACHED**2 * eye
    hidden = []
    for mode in modes:
        # The pencil's squared singular values are the eigenvalues of its Gram matrix. Mostly these all lie far above
        # rounding, and one factorisation shows it. Otherwise the pencil itself is decomposed.
        size = mode / scale
        if _positive(squares - size.conjugate() * A - size * A.T + abs(size) ** 2 * eye):
            continue
        pencil = np.concatenate([A - size * eye, columns], axis=1)
        if np.linalg.svd(pencil, compute_uv=False)[len(A) - 1] <= MODE_TOLERANCE:
            hidden.append(mode)
    return np.array(hidden, dtype=np.complex128)


def _positive(M: NDArray[np.complexfloating]) -> bool:
    """Whether a Hermitian matrix is positive definite."""
    try:
        np.linalg.cholesky(M)
    except np.linalg.LinAlgError:
        return False
    return True
