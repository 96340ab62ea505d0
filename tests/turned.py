"""The group O(n) acting on a latent control problem: what must come out when everything is turned."""

import numpy as np

from worldplan.arrays import finite_array, semidefinite
from worldplan.checks import positive_int
from worldplan.errors import InvalidInput
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.rotation import orthogonal


def lift(Q, blocks):
    """`kron(I_blocks, Q)`: how Q acts on `x = [h; v; ...]`.

    Raises:
        InvalidInput: Q is not orthogonal or `blocks` is not an integer >= 1.
    """
    return np.asarray(np.kron(np.eye(positive_int("blocks", blocks)), orthogonal(Q)), dtype=np.float64)


def _lift_to(name, length, Q):
    n = len(orthogonal(Q))
    if length == 0 or length % n:
        raise InvalidInput(f"{name} has length {length}, which is no multiple of Q's {n}")
    return lift(Q, length // n)


def rotate_dynamics(dynamics, Q):
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


def rotate_cost(cost, Q):
    """`(L W L', R)`: equal to `cost` iff `cost.invariant` holds for every Q.

    A cost that is carried along like this gives equal plans for *any* W, so that it tests nothing about an encoder.

    Raises:
        InvalidInput: Q is not orthogonal or its size does not divide the state's.
    """
    L = _lift_to("the state", cost.state_dim, Q)
    return QuadraticCost(L @ cost.W @ L.T, cost.R, latent_dim=cost.latent_dim)


def rotate_state(state, Q):
    """`L x` for vectors (..., k n): latents, goals and control states alike.

    Raises:
        InvalidInput: Q is not orthogonal or its size does not divide the vector's.
    """
    x = finite_array("state", state)
    return x @ _lift_to("the state", x.shape[-1] if x.ndim else 0, Q).T


def rotate_goal(goal, Q):
    """`L g`: a goal turns like a state (`rotate_state`); leaving it behind is the classic mistake.

    Raises:
        InvalidInput: as `rotate_state`.
    """
    return rotate_state(goal, Q)


def rotate_covariance(covariance, Q):
    """`L S L'` for the covariance S (k n, k n) of process or measurement noise.

    Raises:
        InvalidInput: S is not symmetric positive semidefinite, or Q is not orthogonal or of a size that does not fit.
    """
    S = semidefinite("covariance", covariance)
    L = _lift_to("the covariance", len(S), Q)
    return np.asarray(L @ S @ L.T)
