"""LQR on latent dynamics, with checks before the solver and a certificate after it.

On systems that cannot be stabilised, SciPy's Riccati solver often returns a wrong matrix without raising. `solve_lqr`
therefore first checks whether a solution exists, and afterwards whether the answer is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import (
    LinAlgError,
    cho_factor,
    cho_solve,
    solve_discrete_are,
    solve_discrete_lyapunov,
    solve_triangular,
)

from worldplan.arrays import Floats, finite_vectors, semidefinite
from worldplan.checks import positive_int
from worldplan.errors import InvalidInput, NotStabilizable, SolverFailed
from worldplan.planning.cost import QuadraticCost, quadratic_form
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.modes import MODE_TOLERANCE, unreachable_modes, unseen_modes
from worldplan.planning.riccati import doubled_riccati

RESIDUAL_TOLERANCE = 1e-8
NEWTON_STEPS, NEWTON_TARGET = 4, 1e-12


@dataclass(frozen=True, eq=False)
class LQRSolution:
    """The feedback `u = -K (x - x_goal)` that minimises `sum_t e_t' W e_t + u_t' R u_t`, `e = x - x_goal`.

    The errors obey `e_{t+1} = A e_t + B u_t`. The infinite-horizon P is the stabilising solution of the Riccati
    equation `P = W + A' P A - A' P B (R + B' P B)^-1 B' P A`. `e_0' P e_0` is the least cost among controls that bring
    e to 0. With a horizon T, P_T is the terminal weight and the recursion runs backwards. Source: Anderson & Moore,
    Optimal Control: Linear Quadratic Methods (1990), chapters 2 and 4.

    The gain acts on the error alone. It is optimal where the goal is a rest point, `A x_goal + c = x_goal`. Elsewhere
    it ignores the drift `(A - I) x_goal + c` and comes to rest beside the goal; MPC includes the drift.

    Attributes:
        gain: (m, d) K, action units per state unit; for a finite horizon, the first one.
        value_matrix: (d, d) P; for a finite horizon, P_0.
        radius: largest |eigenvalue| of `A - B K`; below 1 for an infinite horizon.
        residual: `|Riccati(P) - P|_F / |P|_F`; for a finite horizon, that of the worst step.
        gains: (T, m, d) for a finite horizon, else None.
        value_matrices: (T + 1, d, d) for a finite horizon, else None.
    """

    gain: Floats
    value_matrix: Floats
    radius: float
    residual: float
    dynamics: LinearDynamics
    cost: QuadraticCost
    gains: Floats | None = None
    value_matrices: Floats | None = None

    @property
    def certified(self) -> bool:
        """Whether P solves its equation to tolerance and, for an infinite horizon, the loop is stable."""
        stable = self.gains is not None or self.radius < 1 - MODE_TOLERANCE
        return stable and self.residual <= RESIDUAL_TOLERANCE

    def action(self, state: ArrayLike, goal: ArrayLike, step: int = 0) -> Floats:
        """`u = -K (x - x_goal)`.

        Args:
            state: control states (..., d).
            goal: latent positions (..., n), at rest, or control states (..., d).
            step: t, which selects the gain of a finite horizon; otherwise ignored.

        Raises:
            InvalidInput: a shape does not match, an entry is not finite, or the step lies outside the horizon.
        """
        error = finite_vectors("state", state, self.dynamics.state_dim) - self.cost.goal_state(goal)
        gain = self.gain
        if self.gains is not None:
            if not 0 <= step < len(self.gains):
                raise InvalidInput(f"step must lie in [0, {len(self.gains)}), got {step}")
            gain = self.gains[step]
        return np.asarray(-error @ gain.T)

    def value(self, state: ArrayLike, goal: ArrayLike) -> Floats:
        """The cost from here on, `(x - x_goal)' P (x - x_goal)`.

        Raises InvalidInput if a shape does not match or an entry is not finite.
        """
        error = finite_vectors("state", state, self.dynamics.state_dim) - self.cost.goal_state(goal)
        return quadratic_form(error, self.value_matrix)


def solve_lqr(
    dynamics: LinearDynamics, cost: QuadraticCost, horizon: int | None = None, terminal: ArrayLike | None = None
) -> LQRSolution:
    """Solve for the feedback `u = -K (x - x_goal)`; `.gain` is K, without the minus sign.

    Args:
        dynamics: A (d, d), B (d, m).
        cost: W (d, d), R (m, m).
        horizon: T steps; None for an infinite horizon.
        terminal: (d, d) weight on the state after the last step of a finite horizon; W by default.

    Raises:
        InvalidInput: sizes do not match, or `terminal` comes without `horizon`.
        NotStabilizable: the horizon is infinite, and B does not reach a mode of A that does not decay.
        SolverFailed: no certified solution; the message says what to change.

    Example:
        >>> lqr = solve_lqr(LinearDynamics(A=[[1.0]], B=[[1.0]]), QuadraticCost(W=[[1.0]], R=[[1.0]]))
        >>> lqr.gain.round(4).tolist(), round(lqr.radius, 4)
        ([[0.618]], 0.382)
        >>> lqr.action(state=[0.0], goal=[1.0]).round(4).tolist()
        [0.618]
    """
    check_sizes(dynamics, cost)
    if horizon is None:
        if terminal is not None:
            raise InvalidInput("a terminal weight needs a finite horizon")
        return _solve_infinite(dynamics, cost)
    P = cost.W if terminal is None else semidefinite("terminal", terminal)
    if P.shape != cost.W.shape:
        raise InvalidInput(f"terminal must have shape {cost.W.shape}, got {P.shape}")
    return _solve_finite(dynamics, cost, positive_int("horizon", horizon), P)


def check_sizes(dynamics: LinearDynamics, cost: QuadraticCost) -> None:
    """Raise InvalidInput unless W fits A and R fits B."""
    sizes = (dynamics.state_dim, dynamics.action_dim)
    if (cost.state_dim, cost.action_dim) != sizes:
        raise InvalidInput(
            f"the dynamics have {sizes[0]} states and {sizes[1]} actions, "
            f"the cost {cost.state_dim} and {cost.action_dim}"
        )


def riccati_step(dynamics: LinearDynamics, cost: QuadraticCost, P: Floats) -> tuple[Floats, Floats]:
    """The K (m, d) that minimises `l(x, u) + (A x + B u)' P (A x + B u)`, and the matrix (d, d) of the least value.

    Raises SolverFailed if the step is not finite (P has overflowed).
    """
    A, B = dynamics.A, dynamics.B
    with np.errstate(over="ignore", invalid="ignore"):
        gain_system, right = cost.R + B.T @ P @ B, B.T @ P @ A
        try:
            K = np.asarray(cho_solve(cho_factor(gain_system), right))
        except (LinAlgError, ValueError) as error:
            message = f"the Riccati step broke down: {error}; rescale the state or R"
            raise SolverFailed(message, (dynamics, cost), "not finite") from error
        # Joseph's form is a sum of semidefinite terms: it stays semidefinite under rounding, the short form does not.
        loop = A - B @ K
        value = cost.W + K.T @ cost.R @ K + loop.T @ P @ loop
    if not np.isfinite(value).all():
        raise SolverFailed("the Riccati recursion overflows; shorten the horizon", (dynamics, cost), "not finite")
    return K, (value + value.T) / 2


def _relative(difference: Floats, size: Floats) -> float:
    largest = float(np.abs(size).max()) or 1.0  # divided out first: squares of large entries overflow
    return float(np.linalg.norm(difference / largest) / (np.linalg.norm(size / largest) or 1.0))


def _radius(M: Floats) -> float:
    return float(np.abs(np.linalg.eigvals(M)).max())


def _stabilising(dynamics: LinearDynamics, cost: QuadraticCost) -> tuple[Floats, Floats, Floats]:
    """P by doubling, or by SciPy's QZ decomposition if doubling does not converge to a stabilising solution.

    Returns P with what `riccati_step` makes of it.
    """
    # P depends on B and R through B R^-1 B' alone, and scales with the cost. SciPy does not use this freedom of units
    # and fails on R = 1e-19. So both solvers get actions in units of R = I, and a W of size 1.
    size = float(np.abs(cost.W).max()) or 1.0
    B = solve_triangular(np.linalg.cholesky(cost.R), dynamics.B.T, lower=True).T * np.sqrt(size)
    P = doubled_riccati(dynamics.A, B @ B.T, cost.W / size)
    if P is not None:
        K, again = riccati_step(dynamics, cost, size * P)
        if _radius(dynamics.A - dynamics.B @ K) < 1 - MODE_TOLERANCE:
            return size * P, K, again
    P = np.asarray(solve_discrete_are(dynamics.A, B, cost.W / size, np.eye(dynamics.action_dim)))
    P = size * (P + P.T) / 2
    return P, *riccati_step(dynamics, cost, P)


def _solve_infinite(dynamics: LinearDynamics, cost: QuadraticCost) -> LQRSolution:
    problem = (dynamics, cost)
    modes = unreachable_modes(dynamics)
    if len(modes):
        raise NotStabilizable(
            f"no feedback stabilises the system: B does not reach the modes of A with eigenvalues {modes}; "
            "refit the dynamics, drop those directions, or pass horizon=T",
            modes,
        )
    modes = unseen_modes(dynamics, cost)
    if len(modes):
        raise SolverFailed(
            f"no stabilising optimum: W does not see the undamped modes of A with eigenvalues {modes}; "
            "give them a small weight (velocity_weight=1e-6, say) or pass horizon=T",
            problem,
            "unseen mode",
        )
    try:
        P, K, again = _stabilising(dynamics, cost)
        for _ in range(NEWTON_STEPS):
            # Newton's method (Hewer 1971): the cost of a stabilising gain is a better P. Where R is small against W the
            # solver alone loses half of the digits.
            loop = dynamics.A - dynamics.B @ K
            if _relative(again - P, P) <= NEWTON_TARGET or _radius(loop) >= 1 - MODE_TOLERANCE:
                break
            P = np.asarray(solve_discrete_lyapunov(loop.T, cost.W + K.T @ cost.R @ K))
            P = (P + P.T) / 2
            K, again = riccati_step(dynamics, cost, P)
    except (LinAlgError, ValueError) as error:
        raise SolverFailed(f"the Riccati solver failed: {error}; rescale the state or R", problem, "failed") from error
    solution = LQRSolution(
        gain=K,
        value_matrix=P,
        radius=_radius(dynamics.A - dynamics.B @ K),
        residual=_relative(again - P, P),
        dynamics=dynamics,
        cost=cost,
    )
    lowest = float(np.linalg.eigvalsh(P)[0])
    if not solution.certified or lowest < -RESIDUAL_TOLERANCE * np.linalg.norm(P):
        raise SolverFailed(
            f"the Riccati solver returned no certified solution (residual {solution.residual:.3g}, closed-loop radius "
            f"{solution.radius:.9g}, lowest eigenvalue of P {lowest:.3g}): the system is close to one that cannot be "
            "stabilised, or badly scaled; rescale the state or R, or pass horizon=T",
            problem,
            "not certified",
        )
    return solution


def _solve_finite(dynamics: LinearDynamics, cost: QuadraticCost, horizon: int, terminal: Floats) -> LQRSolution:
    values = np.empty((horizon + 1, *terminal.shape))
    gains = np.empty((horizon, dynamics.action_dim, dynamics.state_dim))
    values[horizon] = terminal
    residual = 0.0
    for t in reversed(range(horizon)):
        # Invariant: for every s > t, x' values[s] x is the least cost of steps s ... T - 1 plus the terminal cost, from
        # x_s = x, and -gains[s] x is the control at s that attains it.
        gains[t], values[t] = riccati_step(dynamics, cost, values[t + 1])
        # The recursion uses Joseph's form, the certificate the short one: W + A'P (A - B K), equal at the exact K only.
        short = cost.W + dynamics.A.T @ values[t + 1] @ (dynamics.A - dynamics.B @ gains[t])
        residual = max(residual, _relative(short - values[t], values[t]))
    solution = LQRSolution(
        gain=gains[0],
        value_matrix=values[0],
        radius=_radius(dynamics.A - dynamics.B @ gains[0]),
        residual=residual,
        dynamics=dynamics,
        cost=cost,
        gains=gains,
        value_matrices=values,
    )
    if not solution.certified:
        raise SolverFailed(
            f"the finite-horizon recursion lost its accuracy (residual {residual:.3g}): what A amplifies and B does "
            f"not reach grows beyond rounding within {horizon} steps; shorten the horizon",
            (dynamics, cost),
            "not certified",
        )
    return solution
