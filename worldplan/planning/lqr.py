"""LQR on latent dynamics, with checks before the solver and a certificate after it.

On systems that cannot be stabilised, SciPy's Riccati solver often returns a wrong matrix without raising. `solve_lqr`
therefore first checks whether a solution exists, and afterwards bounds how far the answer is from it. A small residual
of the Riccati equation is no such bound: where the actions hardly reach a mode, P was off by 2% at a residual of 2e-9.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgError, solve_discrete_are

from worldplan.arrays import Floats, check_memory, finite_vectors, not_overflown, semidefinite
from worldplan.checks import natural_int, positive_int
from worldplan.errors import InvalidInput, NotStabilizable, SolverFailed
from worldplan.planning.bounds import (
    Arithmetic,
    Precise,
    Step,
    System,
    bounded,
    bounded_finite,
    feedback_step,
    many_digits,
    precise,
    summed,
)
from worldplan.planning.cost import QuadraticCost, quadratic_form
from worldplan.planning.definite import solve_definite
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.modes import MODE_TOLERANCE, hidden_modes, natural_units
from worldplan.planning.riccati import doubled_riccati

VALUE_TOLERANCE = 1e-6  # of `certified`: relative error of the value, and relative loss of the gain
CROSS_CHECK = 1e-3  # relative difference at which two solvers of one equation disagree
LARGEST_QZ = 128  # states: beyond, SciPy's QZ decomposition is left out, and doubling serves alone
REFINEMENTS = 40
SETTLED = 1e-14  # relative defect at which float64 has nothing left to refine
REFINED, CONVERGED = 1e-17, 1e-9  # relative change at which steps end, and which they must reach
FEW_STATES = 32  # beyond, decimal arithmetic takes longer than everything else


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
        radius: largest absolute eigenvalue of `A - B K`; below 1 for an infinite horizon.
        residual: `|Riccati(P) - P|_F / |P|_F`; for a finite horizon, that of the worst step.
        value_error: bound on `|P - P*|_F / |P|_F`, P* the least cost; for a finite horizon, that of the worst step.
        gain_loss: bound on `trace(P_K) / trace(P*) - 1`, P_K the cost of following the gain: what it loses, on average
            over directions of the error. See `worldplan.planning.bounds` for how both are shown.
        gains: (T, m, d) for a finite horizon, else None.
        value_matrices: (T + 1, d, d) for a finite horizon, else None.
    """

    gain: Floats
    value_matrix: Floats
    radius: float
    residual: float
    value_error: float
    gain_loss: float
    dynamics: LinearDynamics
    cost: QuadraticCost
    gains: Floats | None = None
    value_matrices: Floats | None = None

    @property
    def certified(self) -> bool:
        """Whether the bounds show value and gain to be optimal to 1e-6, and an infinite horizon to be stable."""
        stable = self.gains is not None or self.radius < 1 - MODE_TOLERANCE
        return stable and self.value_error <= VALUE_TOLERANCE and self.gain_loss <= VALUE_TOLERANCE

    def action(self, state: ArrayLike, goal: ArrayLike, step: int = 0) -> Floats:
        """`u = -K (x - x_goal)`.

        Args:
            state: control states (..., d).
            goal: latent positions (..., n), at rest, or control states (..., d).
            step: t, which selects the gain of a finite horizon; otherwise ignored.

        Raises:
            InvalidInput: a shape does not match, an entry is not finite, the action overflows, or the step lies outside
                the horizon.
        """
        x = finite_vectors("state", state, self.dynamics.state_dim)
        gain = self.gain
        if self.gains is not None:
            if natural_int("step", step) >= len(self.gains):
                raise InvalidInput(f"step must lie in [0, {len(self.gains)}), got {step}")
            gain = self.gains[step]
        with np.errstate(over="ignore", invalid="ignore"):
            return not_overflown("the action", np.asarray(-(x - self.cost.goal_state(goal)) @ gain.T))

    def value(self, state: ArrayLike, goal: ArrayLike) -> Floats:
        """The cost from here on, `(x - x_goal)' P (x - x_goal)`.

        Raises InvalidInput if a shape does not match, an entry is not finite, or the cost overflows.
        """
        x = finite_vectors("state", state, self.dynamics.state_dim)
        with np.errstate(over="ignore", invalid="ignore"):
            return not_overflown("the cost", quadratic_form(x - self.cost.goal_state(goal), self.value_matrix))


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


def check_types(dynamics: object, cost: object) -> None:
    """Raise InvalidInput unless they are dynamics and a cost."""
    if not isinstance(dynamics, LinearDynamics) or not isinstance(cost, QuadraticCost):
        raise InvalidInput(f"need LinearDynamics and a QuadraticCost, got {dynamics!r} and {cost!r}")


def check_sizes(dynamics: LinearDynamics, cost: QuadraticCost) -> None:
    """Raise InvalidInput unless they are dynamics and a cost, W fits A, and R fits B."""
    check_types(dynamics, cost)
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
            K = solve_definite(gain_system, right)
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


def _gain(system: System, P: Floats) -> Floats:
    """`(R + B' P B)^-1 B' P A` (m, d) for P (d, d). Raises LinAlgError if there is none."""
    return solve_definite(system.R + system.B.T @ P @ system.B, system.B.T @ P @ system.A)


class _Refined(NamedTuple):
    """A value P (d, d), its gain K (m, d), what the gain does to it, and the radius of `A - B K`."""

    P: Precise
    K: Floats
    step: Step
    radius: float


def _refined(system: System, P: Floats, K: Floats, arithmetic: Arithmetic) -> _Refined | None:
    """Newton's method from a stabilising gain; None if the gain is not, or the steps break down.

    The cost of a stabilising gain makes a better gain, and so on (Hewer 1971, IEEE TAC 16(4)). The step adds to any P
    what the gain's defect sums up to. A defect with more digits than float64 refines rounding away too.
    """
    exact, last, wide = precise(P, arithmetic), np.inf, arithmetic is not np.float64
    try:
        step = feedback_step(system, K, exact, exact)
        for _ in range(REFINEMENTS):
            if not wide and np.linalg.norm(step.defect) <= SETTLED * np.linalg.norm(exact):
                last = 0.0
                break
            change = summed(step.defect, step.loop)
            better = exact + change
            size = _relative(change.astype(np.float64), better.astype(np.float64))
            if not size < last:
                break  # at rounding, or it does not converge
            exact, last = better, size
            K = _gain(system, exact.astype(np.float64))
            step = feedback_step(system, K, exact, exact)
            if wide:
                K = K - _solved(system, exact, step.slope)
                step = feedback_step(system, K, exact, exact)
            if size <= REFINED:
                break
        radius = _radius(step.loop.astype(np.float64))
    except (LinAlgError, ValueError):
        return None
    return _Refined(exact, K, step, radius) if last <= CONVERGED and radius < 1 else None


def _solved(system: System, P: Precise, right: Floats) -> Floats:
    """`(R + B' P B)^-1 right`."""
    return solve_definite(system.R + system.B.T @ P.astype(np.float64) @ system.B, right)


def _in_units(system: System, units: Floats) -> System:
    """The system with its states in other units (d,). With powers of two, no digit is lost."""
    A, B, W, R = system
    return System(A * units / units[:, None], B / units[:, None], W * np.outer(units, units), R)


def _answers(system: System, cheaper: bool) -> Iterator[tuple[Floats, Floats]]:
    """P (d, d) and K (m, d) that SciPy's solver and doubling find, or that they find for `cheaper` controls."""
    if not system.W.any():
        yield np.zeros_like(system.A), np.zeros_like(system.B.T)
    # P depends on B and R through B R^-1 B' alone, and scales with the cost. SciPy does not use this freedom of units
    # and fails on R = 1e-19. So both solvers get actions in units of R = I, and a W of size 1.
    size = float(np.abs(system.W).max()) or 1.0
    B = np.linalg.solve(np.linalg.cholesky(system.R), system.B.T).T
    dear = 1 / float(np.abs(B).max(initial=1e-300)) if cheaper else 1.0
    for solve in (_scipys, _doubled):
        P = solve(System(system.A, B * (dear * np.sqrt(size)), system.W / size, np.eye(B.shape[1])))
        try:
            if P is not None:
                yield size * P, _gain(system._replace(R=system.R / dear**2), size * P)
        except (LinAlgError, ValueError):
            continue


def _scipys(system: System) -> Floats | None:
    """P by SciPy's QZ decomposition, in units that are natural already; None if it fails, or has too many states."""
    if len(system.A) > LARGEST_QZ:
        return None
    try:
        P = np.asarray(solve_discrete_are(system.A, system.B, system.W, system.R, balanced=False))
    except (LinAlgError, ValueError):
        return None
    return (P + P.T) / 2 if np.isfinite(P).all() else None


def _doubled(system: System) -> Floats | None:
    """P by doubling, for R = I; None if it does not converge."""
    return doubled_riccati(system.A, system.B @ system.B.T, system.W)


def _stabilising(system: System, arithmetic: Arithmetic) -> tuple[Floats, _Refined]:
    """Units (d,), and the stabilising solution in them. Raises LinAlgError if no solver finds it, or two differ."""
    found: tuple[Floats, _Refined] | None = None
    value = np.zeros_like(system.A)  # of `found`, in the units of before
    # Controls may be so dear that the solvers lose W in rounding. A gain for cheaper ones is a start then.
    for cheaper in (False, True):
        for P, K in _answers(system, cheaper):
            if found and _relative(P - value, value) <= CROSS_CHECK:
                continue
            # In units in which each state alone costs about one, the bounds waste least.
            costs = np.maximum(np.diag(P), 1e-16 * np.diag(P).max())
            units = np.exp2(-np.round(np.log2(costs) / 2)) if costs.all() else np.ones(len(P))
            scales = np.outer(units, units)
            refined = _refined(_in_units(system, units), P * scales, K * units, arithmetic)
            if refined is None:
                continue
            other = refined.P.astype(np.float64) / scales
            if found and (gap := _relative(other - value, value)) > VALUE_TOLERANCE:
                raise LinAlgError(f"two solvers disagree by {gap:.1g} of the value")
            if not found:
                found, value = (units, refined), other
        if found:
            return found
    raise LinAlgError("no solver finds a solution that stabilises")


def _solve_infinite(dynamics: LinearDynamics, cost: QuadraticCost) -> LQRSolution:
    problem = (dynamics, cost)
    # In natural units nothing is large only because of the units of the states.
    units = natural_units(dynamics.A)
    system = _in_units(System(dynamics.A, dynamics.B, cost.W, cost.R), units)
    out_of_reach, unseen = hidden_modes(system.A, system.B, system.W)
    if len(out_of_reach):
        raise NotStabilizable(
            f"no feedback stabilises the system: B does not reach the modes of A with eigenvalues {out_of_reach}; "
            "refit the dynamics, drop those directions, or pass horizon=T",
            out_of_reach,
        )
    if len(unseen):
        raise SolverFailed(
            f"no stabilising optimum: W does not see the undamped modes of A with eigenvalues {unseen}; "
            "give them a small weight (velocity_weight=1e-6, say) or pass horizon=T",
            problem,
            "unseen mode",
        )
    with many_digits(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for arithmetic in (np.float64, np.longdouble, Decimal)[: 3 if len(units) <= FEW_STATES else 2]:
            solution, failure = _certificate(problem, system, units, arithmetic)
            if solution and solution.certified:
                return solution
    if solution is None:
        raise SolverFailed(f"the Riccati solver failed: {failure}; rescale the state or R", problem, "failed")
    raise SolverFailed(
        f"the Riccati solver returned no certified solution (the value may be off by {solution.value_error:.3g} of "
        f"itself, the gain lose {solution.gain_loss:.3g}, closed-loop radius {solution.radius:.9g}): the system is "
        "close to one that cannot be stabilised, or badly scaled; rescale the state or R, or pass horizon=T",
        problem,
        "not certified",
    )


def _certificate(
    problem: tuple[LinearDynamics, QuadraticCost], system: System, units: Floats, arithmetic: Arithmetic
) -> tuple[LQRSolution | None, str]:
    """The solution of a problem, of which `system` is the form in units (d,), with its bounds; or None, and why."""
    try:
        own, (P, K, step, radius) = _stabilising(system, arithmetic)
    except (LinAlgError, ValueError) as error:
        return None, str(error)
    system, units = _in_units(system, own), units * own
    bound, value = bounded(system, P, step), P.astype(np.float64)
    residual = _relative(step.defect, value)
    value, gain = value / np.outer(units, units), K / units
    value_error = gain_loss = float("inf")
    if bound is not None:
        Z = bound.Z / np.outer(units, units)
        value_error, gain_loss = _relative_errors(value, bound.below * Z, bound.above * Z)
    return LQRSolution(gain, value, radius, residual, value_error, gain_loss, *problem), ""


def _relative_errors(value: Floats, below: Floats, above: Floats) -> tuple[float, float]:
    """`value_error` and `gain_loss`, given that `value - below <= optimum <= cost of the gain <= value + above`."""
    # A symmetric matrix between -Z and Z has at most sqrt(2) times its norm.
    error = np.sqrt(2) * max(float(np.linalg.norm(below)), float(np.linalg.norm(above)))
    loss, least = float(np.trace(below) + np.trace(above)), float(np.trace(value) - np.trace(below))
    if error == 0:
        return 0.0, 0.0
    size = float(np.linalg.norm(value))
    rounding = float(np.finfo(np.float64).eps)
    return (error / size + rounding if size > 0 else np.inf), (loss / least if least > 0 else np.inf)


def _solve_finite(dynamics: LinearDynamics, cost: QuadraticCost, horizon: int, terminal: Floats) -> LQRSolution:
    check_memory("the horizon", (horizon + 1, *terminal.shape))
    values = np.empty((horizon + 1, *terminal.shape))
    gains = np.empty((horizon, dynamics.action_dim, dynamics.state_dim))
    values[horizon] = terminal
    for t in reversed(range(horizon)):
        # Invariant: for every s > t, x' values[s] x is the least cost of steps s ... T - 1 plus the terminal cost, from
        # x_s = x, and -gains[s] x is the control at s that attains it.
        gains[t], values[t] = riccati_step(dynamics, cost, values[t + 1])
    system = System(dynamics.A, dynamics.B, cost.W, cost.R)
    for arithmetic in (np.float64, np.longdouble):
        step = feedback_step(system, gains, values[1:], precise(values[:-1], arithmetic))
        bounds = bounded_finite(system, step, values[1:])
        pairs = [] if bounds is None else list(zip(values[:-1], bounds, strict=True))
        errors = [_relative_errors(value, Z, Z) for value, Z in pairs] or [(np.inf, np.inf)]
        solution = LQRSolution(
            gain=gains[0],
            value_matrix=values[0],
            radius=_radius(dynamics.A - dynamics.B @ gains[0]),
            residual=max(_relative(*pair) for pair in zip(step.defect, values[:-1], strict=True)),
            value_error=max(error for error, _ in errors),
            gain_loss=max(loss for _, loss in errors),
            dynamics=dynamics,
            cost=cost,
            gains=gains,
            value_matrices=values,
        )
        if solution.certified:
            break
    if not solution.certified:
        raise SolverFailed(
            f"the finite-horizon recursion lost its accuracy (the value may be off by {solution.value_error:.3g} of "
            f"itself, the gains lose {solution.gain_loss:.3g}): what A amplifies and B does not reach grows beyond "
            f"rounding within {horizon} steps; shorten the horizon",
            (dynamics, cost),
            "not certified",
        )
    return solution
