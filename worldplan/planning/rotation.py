"""Rotations of a latent space: draw one, check one, find the best one between two point sets.

If an encoder sees the true latents up to a rotation, `h = Q z`, everything downstream turns with it. With
`L = kron(I, Q)`, states and goals become `L x`, dynamics `(L A L', L B, L c)`, weights `L W L'`, covariances `L S L'`.
Actions stay. Theorem 4 of Klindt, LeCun and Balestriero (2026, arXiv 2605.26379) says: if `L W L' = W`, plans and
values stay too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import orthogonal_procrustes

from worldplan.arrays import Floats, finite_array
from worldplan.checks import positive_int
from worldplan.errors import InvalidInput
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.space import LatentSpace

ORTHOGONALITY = 1e-8  # largest entry of Q'Q - I that counts as rounding


def random_rotation(n: int, rng: np.random.Generator | int) -> Floats:
    """An orthogonal (n, n) matrix, uniform (Haar) on O(n), from a generator or seed; half of them are reflections.

    Raises InvalidInput if n is not an integer >= 1.
    """
    n = positive_int("n", n)
    Q, upper = np.linalg.qr(np.random.default_rng(rng).standard_normal((n, n)))
    # The signs of R's diagonal are LAPACK's choice; without them the law is not Haar (Mezzadri 2007).
    return np.asarray(Q * np.where(np.diag(upper) < 0, -1.0, 1.0))


def random_symmetry(space: LatentSpace, rng: np.random.Generator | int) -> Floats:
    """A linear isometry (n, n) of a latent space: random signs and exchanges of its circles, a rotation of its lines.

    These are all: an isometry of the circles that fixes the origin keeps the lattice of full turns. Without circles it
    is `random_rotation`.
    """
    rng, M = np.random.default_rng(rng), np.zeros((space.dim, space.dim))
    around, along = np.flatnonzero(space.circles), np.flatnonzero(~space.circles)
    M[around, rng.permutation(around)] = rng.choice([-1.0, 1.0], len(around))
    if len(along):
        M[np.ix_(along, along)] = random_rotation(len(along), rng)
    return M


def orthogonal(Q: ArrayLike) -> Floats:
    """`Q` as an array. Raises InvalidInput if it is not square or not finite, or if `Q'Q` is not the identity."""
    matrix = finite_array("Q", Q)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise InvalidInput(f"Q must be a square matrix, got shape {matrix.shape}")
    error = float(np.abs(matrix.T @ matrix - np.eye(len(matrix))).max())
    if error > ORTHOGONALITY:
        raise InvalidInput(f"Q is not orthogonal: an entry of Q'Q - I is {error:.3g}; use change_basis for other maps")
    return matrix


def change_basis(dynamics: LinearDynamics, M: ArrayLike) -> LinearDynamics:
    """The same world in coordinates `y = M x`, for any invertible M (d, d): `(M A M^-1, M B, M c)`.

    Raises InvalidInput if M has another shape or is singular.
    """
    M = finite_array("M", M)
    if M.shape != dynamics.A.shape:
        raise InvalidInput(f"M must have shape {dynamics.A.shape}, got {M.shape}")
    if np.linalg.cond(M) > 1 / np.finfo(np.float64).eps:
        raise InvalidInput("M is singular")
    A = np.asarray(np.linalg.solve(M.T, (M @ dynamics.A).T).T, dtype=np.float64)
    return LinearDynamics(A=A, B=M @ dynamics.B, intercept=M @ dynamics.intercept)


@dataclass(frozen=True, eq=False)
class Alignment:
    """The best rigid motion between two point sets, `target ~ Q source + offset`, Q (n, n) orthogonal, offset (n,).

    `residual` is the mean over the points of `|Q s + offset - t|^2`, summed over coordinates.
    """

    Q: Floats
    offset: Floats
    residual: float

    def __call__(self, source: ArrayLike) -> Floats:
        """`Q s + offset` for points (..., n)."""
        return finite_array("source", source) @ self.Q.T + self.offset


def procrustes(source: ArrayLike, target: ArrayLike) -> Alignment:
    """Minimise `mean |Q s + offset - t|^2` over orthogonal Q and offset, for points s, t (N, n) (Schonemann 1966).

    Raises InvalidInput if the shapes differ or are not (N >= 1, n), or if an entry is not finite.
    """
    s, t = finite_array("source", source), finite_array("target", target)
    if s.ndim != 2 or s.shape != t.shape or s.size == 0:
        raise InvalidInput(f"source and target must both be (N, n), got {s.shape} and {t.shape}")
    # For a given Q the best offset joins the means, so that only the centred sets decide Q.
    transposed, _ = orthogonal_procrustes(s - s.mean(axis=0), t - t.mean(axis=0))
    Q = np.asarray(transposed).T
    offset = t.mean(axis=0) - Q @ s.mean(axis=0)
    return Alignment(Q, offset, float(np.mean(np.sum((s @ Q.T + offset - t) ** 2, axis=1))))
