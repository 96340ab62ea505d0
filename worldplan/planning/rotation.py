"""The group O(n) acting on a latent control problem.

If an encoder sees the world's latents up to a rotation, `h = Q z`, everything downstream turns with it: states and
goals by `L = kron(I, Q)`, dynamics to `(L A L', L B, L c)`, weights to `L W L'`, covariances to `L S L'`. Actions stay.
Theorem 4 of Klindt, LeCun, Balestriero (2026, arXiv 2605.26379) says that plans and values stay too if `L W L' = W`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import orthogonal_procrustes

from worldplan.arrays import Floats, finite_array, semidefinite
from worldplan.checks import positive_int
from worldplan.errors import InvalidInput
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics

ORTHOGONALITY = 1e-8  # largest entry of Q'Q - I that counts as rounding


def random_rotation(n: int, rng: np.random.Generator | int) -> Floats:
    """An orthogonal (n, n) matrix, uniform (Haar) on O(n): reflections come up half of the time.

    Args:
        n: dimension.
        rng: generator or seed.

    Raises:
        InvalidInput: n is not an integer >= 1.
    """
    n = positive_int("n", n)
    Q, upper = np.linalg.qr(np.random.default_rng(rng).standard_normal((n, n)))
    # The signs of R's diagonal are LAPACK's choice; without them the law is not Haar (Mezzadri 2007).
    return np.asarray(Q * np.where(np.diag(upper) < 0, -1.0, 1.0))


def orthogonal(Q: ArrayLike) -> Floats:
    """`Q`, checked.

    Raises:
        InvalidInput: it is not square, not finite, or `Q'Q` is not the identity.
    """
    matrix = finite_array("Q", Q)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise InvalidInput(f"Q must be a square matrix, got shape {matrix.shape}")
    error = float(np.abs(matrix.T @ matrix - np.eye(len(matrix))).max())
    if error > ORTHOGONALITY:
        raise InvalidInput(f"Q is not orthogonal: an entry of Q'Q - I is {error:.3g}; use change_basis for other maps")
    return matrix


def lift(Q: ArrayLike, blocks: int) -> Floats:
    """`kron(I_blocks, Q)`: how Q acts on `x = [h; v; ...]`.

    Raises:
        InvalidInput: Q is not orthogonal or `blocks` is not an integer >= 1.
    """
    return np.asarray(np.kron(np.eye(positive_int("blocks", blocks)), orthogonal(Q)), dtype=np.float64)


def _lift_to(name: str, length: int, Q: ArrayLike) -> Floats:
    n = len(orthogonal(Q))
    if length == 0 or length % n:
        raise InvalidInput(f"{name} has length {length}, which is no multiple of Q's {n}")
    return lift(Q, length // n)


def change_basis(dynamics: LinearDynamics, M: ArrayLike) -> LinearDynamics:
    """The same world seen in coordinates `y = M x`, for any invertible M (d, d): `(M A M^-1, M B, M c)`.

    Raises:
        InvalidInput: M has another shape or is singular.
    """
    M = finite_array("M", M)
    if M.shape != dynamics.A.shape:
        raise InvalidInput(f"M must have shape {dynamics.A.shape}, got {M.shape}")
    if np.linalg.cond(M) > 1 / np.finfo(np.float64).eps:
        raise InvalidInput("M is singular")
    A = np.asarray(np.linalg.solve(M.T, (M @ dynamics.A).T).T, dtype=np.float64)
    return LinearDynamics(A=A, B=M @ dynamics.B, intercept=M @ dynamics.intercept)


def rotate_dynamics(dynamics: LinearDynamics, Q: ArrayLike) -> LinearDynamics:
    """`(L A L', L B, L c)`, `L = kron(I, Q)`.

    Raises:
        InvalidInput: Q is not orthogonal or its size does not divide the state's.
    """
    L = _lift_to("the state", dynamics.state_dim, Q)
    Q_w, R_e = dynamics.process_noise, dynamics.observation_noise
    return LinearDynamics(
        A=L @ dynamics.A @ L.T,
        B=L @ dynamics.B,
        intercept=L @ dynamics.intercept,
        process_noise=None if Q_w is None else L @ Q_w @ L.T,
        observation_noise=None
        if R_e is None
        else _lift_to("the latent", len(R_e), Q) @ R_e @ _lift_to("the latent", len(R_e), Q).T,
    )


def rotate_cost(cost: QuadraticCost, Q: ArrayLike) -> QuadraticCost:
    """`(L W L', R)`: equal to `cost` iff `cost.invariant` holds for every Q.

    A cost that is carried along like this gives equal plans for *any* W, so that it tests nothing about an encoder.

    Raises:
        InvalidInput: Q is not orthogonal or its size does not divide the state's.
    """
    L = _lift_to("the state", cost.state_dim, Q)
    return QuadraticCost(L @ cost.W @ L.T, cost.R, latent_dim=cost.latent_dim)


def rotate_state(state: ArrayLike, Q: ArrayLike) -> Floats:
    """`L x` for vectors (..., k n): latents, goals and control states alike.

    Raises:
        InvalidInput: Q is not orthogonal or its size does not divide the vector's.
    """
    x = finite_array("state", state)
    return x @ _lift_to("the state", x.shape[-1] if x.ndim else 0, Q).T


def rotate_goal(goal: ArrayLike, Q: ArrayLike) -> Floats:
    """`L g`: a goal turns like a state (`rotate_state`); leaving it behind is the classic mistake.

    Raises:
        InvalidInput: as `rotate_state`.
    """
    return rotate_state(goal, Q)


def rotate_covariance(covariance: ArrayLike, Q: ArrayLike) -> Floats:
    """`L S L'` for the covariance S (k n, k n) of process or measurement noise.

    Raises:
        InvalidInput: S is not symmetric positive semidefinite, or Q is not orthogonal or of a size that does not fit.
    """
    S = semidefinite("covariance", covariance)
    L = _lift_to("the covariance", len(S), Q)
    return np.asarray(L @ S @ L.T)


@dataclass(frozen=True, eq=False)
class Alignment:
    """The best rigid motion between two point sets: `target ~ Q source + offset`.

    Attributes:
        Q: (n, n) orthogonal.
        offset: (n,).
        residual: mean over the points of `|Q s + offset - t|^2`, summed over coordinates (0 iff it fits exactly).
    """

    Q: Floats
    offset: Floats
    residual: float

    def __call__(self, source: ArrayLike) -> Floats:
        """`Q s + offset` for points (..., n)."""
        return finite_array("source", source) @ self.Q.T + self.offset


def procrustes(source: ArrayLike, target: ArrayLike) -> Alignment:
    """Minimise `mean |Q s + offset - t|^2` over orthogonal Q and offset (Schonemann 1966).

    Args:
        source: (N, n) points, N >= 1.
        target: (N, n) the points that they should land on.

    Raises:
        InvalidInput: the shapes differ, are not (N, n), or an entry is not finite.
    """
    s, t = finite_array("source", source), finite_array("target", target)
    if s.ndim != 2 or s.shape != t.shape or s.size == 0:
        raise InvalidInput(f"source and target must both be (N, n), got {s.shape} and {t.shape}")
    # For a given Q the best offset joins the means, so that only the centred sets decide Q.
    transposed, _ = orthogonal_procrustes(s - s.mean(axis=0), t - t.mean(axis=0))
    Q = np.asarray(transposed).T
    offset = t.mean(axis=0) - Q @ s.mean(axis=0)
    return Alignment(Q, offset, float(np.mean(np.sum((s @ Q.T + offset - t) ** 2, axis=1))))
