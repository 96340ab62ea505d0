"""MPC with action limits: built once, solved by OSQP for any state and goal, each plan with a suboptimality bound.

The state is eliminated (condensed). Only the linear term then depends on state and goal, and one compiled problem
serves every solve. OSQP's status is not trusted: each plan carries a suboptimality bound that needs no solver, or it is
an error.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgError

from worldplan.arrays import Floats, action_limits, finite_array, semidefinite
from worldplan.checks import positive_int
from worldplan.errors import InvalidInput, SolverFailed
from worldplan.planning.boxqp import BoxQP
from worldplan.planning.cost import QuadraticCost, quadratic_form
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.lqr import check_sizes, solve_lqr

# CVXPY has defaults of its own, and time-based rho adaptation makes iterates depend on the machine: set everything.
# `BoxQP.active_set` polishes: it also improves what OSQP's polishing rejects, and costs less.
OSQP_SETTINGS: dict[str, Any] = {
    "eps_abs": 1e-6,
    "eps_rel": 1e-6,
    "max_iter": 20_000,
    "adaptive_rho": 1,
    "adaptive_rho_interval": 50,
    "polishing": False,
}
TOLERANCE = 1e-6
EXACT = 1e-10  # action units: an active set that certifies this needs no QP solver


@dataclass(frozen=True, eq=False)
class MPCProblem:
    """Minimise `sum_{t<N} (e_t' W e_t + u_t' R u_t) + e_N' P_f e_N` over the actions `u_0 ... u_{N-1}`.

    Subject to `e_t = x_t - x_goal`, `x_0 = state`, `x_{t+1} = A x_t + B u_t + c` and
    `action_low <= u_t <= action_high`.

    With `terminal="lqr"`, no active limit and a goal at rest, it is the infinite-horizon LQR for every N. Only actions
    are limited, and rotating the latent space does not change actions. So Theorem 4 of Klindt, LeCun and Balestriero
    2026 (arXiv 2605.26379) holds. Source: Rawlings, Mayne & Diehl, Model Predictive Control (2017), chapter 1.

    Args:
        dynamics: A (d, d), B (d, m), c (d,).
        cost: W (d, d), R (m, m).
        horizon: N steps.
        action_low: lower limit, a number or (m,), action units; may be -inf.
        action_high: upper limit, a number or (m,), action units; may be inf.
        terminal: P_f: "lqr" (the value matrix of the infinite-horizon LQR), "stage" (W), or a (d, d) matrix. A matrix
            is used as it is and belongs to this latent space; never copy one from another encoder's.

    Raises:
        InvalidInput: sizes do not match, a limit is NaN or crossed, or the terminal is not one of the above.
    """

    dynamics: LinearDynamics
    cost: QuadraticCost
    horizon: int = 20
    action_low: ArrayLike = -1.0
    action_high: ArrayLike = 1.0
    terminal: Literal["lqr", "stage"] | ArrayLike = "lqr"

    def __post_init__(self) -> None:
        check_sizes(self.dynamics, self.cost)
        object.__setattr__(self, "horizon", positive_int("horizon", self.horizon))
        low, high = action_limits(self.action_low, self.action_high, self.dynamics.action_dim)
        object.__setattr__(self, "action_low", low)
        object.__setattr__(self, "action_high", high)
        if isinstance(self.terminal, str):
            if self.terminal not in ("lqr", "stage"):
                raise InvalidInput(f"terminal must be 'lqr', 'stage' or a matrix, got {self.terminal!r}")
        else:
            matrix = semidefinite("terminal", self.terminal)
            if matrix.shape != self.cost.W.shape:
                raise InvalidInput(f"terminal must have shape {self.cost.W.shape}, got {matrix.shape}")
            object.__setattr__(self, "terminal", matrix)

    @property
    def limits(self) -> tuple[Floats, Floats]:
        """Lowest and highest action, (m,) each."""
        return np.asarray(self.action_low), np.asarray(self.action_high)

    @cached_property
    def solver(self) -> MPCSolver:
        """The built problem, made once per problem object; `dataclasses.replace` starts afresh."""
        return build_mpc(self)

    def __getstate__(self) -> dict[str, Any]:
        # Copies and other processes build their own: OSQP's workspace is a C object that cannot travel.
        return {name: value for name, value in self.__dict__.items() if name != "solver"}


@dataclass(frozen=True, eq=False)
class Plan:
    """An action sequence with its certificate.

    The certificate needs only the QP's matrices. Let f be the cost of the actions, g its gradient at the plan's u, and
    mu the least eigenvalue of its Hessian 2 H. Strong convexity gives `f(v) >= f(u) + g'(v - u) + mu/2 |v - u|^2` for
    every v within the limits. Over the box, the right side has the closed-form minimum `f(u) - gap`. So the least cost
    lies in `[cost - gap, cost]`, and the optimal actions lie within `sqrt(2 gap / mu)` of u.

    Attributes:
        actions: (N, m) within the limits, action units.
        states: (N + 1, d) from rolling the actions out, the given state first.
        cost: stage costs plus terminal cost of this roll-out.
        status: status of the solver; "sampled" for CEM and MPPI, whose plan is only the best of the drawn ones.
        gap: bound on `cost` minus the optimal cost.
        residual: largest entry of `u - clip(u - g / |2 H|)`, action units; 0 iff optimal (the KKT conditions of a box).
        action_error: bound on the Euclidean distance of `actions` to the optimal ones, action units.
        tolerance: tolerance of `certified`, relative in cost or absolute in actions.
    """

    actions: Floats
    states: Floats
    cost: float
    status: str
    gap: float
    residual: float
    action_error: float
    tolerance: float = TOLERANCE

    @property
    def certified(self) -> bool:
        """Whether the plan is feasible and optimal, to `tolerance` of its cost or to `tolerance` in its actions."""
        return self.gap <= self.tolerance * self.cost or self.action_error <= self.tolerance

    @property
    def shifted(self) -> Floats:
        """Actions (N, m) one step later, the last one repeated: a start for the next plan."""
        return np.concatenate([self.actions[1:], self.actions[-1:]])


_OVERFLOW = "state or goal is so large that the problem overflows"
_COMPILING = threading.Lock()  # CVXPY numbers variables by a counter that threads share


class _Workspace(threading.local):
    """What OSQP keeps from solve to solve, one for each thread: a C object that two threads would corrupt."""

    def __init__(self) -> None:
        self.program: cp.Problem | None = None
        self.restart = False  # after a failure, do not start from OSQP's iterates


@dataclass(eq=False)
class MPCSolver:
    """A built `MPCProblem`: minimise `u' H u + 2 q' u` over the box, `q = F_error (x - x_goal) + F_drift drift`.

    `u` stacks the N actions; errors obey `e_{t+1} = A e_t + B u_t + drift`, `drift = (A - I) x_goal + c`.

    Attributes:
        terminal_weight: (d, d) P_f.
        qp: box QP of H (N m, N m), symmetric positive definite.
        F_error: (N m, d).
        F_drift: (N m, d).

    Threads may share it: each compiles a program of its own when it first needs one. Copies and pickles leave programs
    behind.
    """

    problem: MPCProblem
    terminal_weight: Floats
    qp: BoxQP
    F_error: Floats
    F_drift: Floats
    _workspace: _Workspace = field(default_factory=_Workspace, init=False, repr=False)

    @property
    def program(self) -> cp.Problem:
        """This thread's CVXPY problem in `u`, with the one parameter `q`.

        H and q are divided by the largest eigenvalue of H, so that OSQP's absolute tolerances are in action units.
        """
        if self._workspace.program is None:
            with _COMPILING:
                self._workspace.program = self._compiled()
        return self._workspace.program

    def _compiled(self) -> cp.Problem:
        size, N = len(self.qp.H), self.problem.horizon
        u, q = cp.Variable(size, name="u"), cp.Parameter(size, name="q")
        low, high = (np.tile(limit, N) for limit in self.problem.limits)
        below, above = np.flatnonzero(np.isfinite(low)), np.flatnonzero(np.isfinite(high))
        limits = [u[below] >= low[below]] * bool(below.size) + [u[above] <= high[above]] * bool(above.size)
        objective = cp.Minimize(cp.quad_form(u, cp.psd_wrap(self.qp.H / self.qp.scale)) + 2 * (q @ u))
        program = cp.Problem(objective, limits)
        q.value = np.zeros(size)
        program.get_problem_data(cp.OSQP)  # compiles; later calls find the result
        return program

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_workspace"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _workspace=_Workspace())

    def linear_term(self, state: ArrayLike, goal: ArrayLike) -> Floats:
        """`q` (N m,) for a state (d,) and a goal (n,) or (d,).

        Raises InvalidInput if a shape does not match, an entry is not finite, or the problem overflows.
        """
        x = finite_array("state", state)
        if x.shape != (self.problem.dynamics.state_dim,):
            raise InvalidInput(f"state must have shape ({self.problem.dynamics.state_dim},), got {x.shape}")
        target = self.problem.cost.goal_state(goal)
        if target.ndim != 1:
            raise InvalidInput(f"goal must be a single vector, got shape {target.shape}")
        drift = self.problem.dynamics.step(target, np.zeros(self.problem.dynamics.action_dim)) - target
        with np.errstate(over="ignore", invalid="ignore"):
            q = self.F_error @ (x - target) + self.F_drift @ drift
        # A value that is not finite would stay in OSQP's iterates for good.
        if not np.isfinite(q).all():
            raise InvalidInput(_OVERFLOW)
        return np.asarray(q)

    def roll_out(self, state: ArrayLike, goal: ArrayLike, actions: Floats) -> tuple[Floats, float]:
        """Roll out actions (N, m): states (N + 1, d) and cost."""
        dynamics, cost = self.problem.dynamics, self.problem.cost
        states = [np.array(state, dtype=np.float64)]
        for action in actions:
            states.append(dynamics.step(states[-1], action))
        errors = np.array(states) - cost.goal_state(goal)
        stages = quadratic_form(errors[:-1], cost.W) + quadratic_form(actions, cost.R)
        return np.array(states), float(stages.sum() + quadratic_form(errors[-1], self.terminal_weight))

    def judge(self, state: ArrayLike, goal: ArrayLike, q: Floats, u: Floats, status: str, tolerance: float) -> Plan:
        """Roll out feasible stacked actions u (N m,) and certify them; q is the linear term.

        Raises InvalidInput if states, cost or bound overflow.
        """
        actions = u.reshape(self.problem.horizon, -1)
        low, high = (np.tile(limit, self.problem.horizon) for limit in self.problem.limits)
        with np.errstate(over="ignore", invalid="ignore"):
            gap, residual = self.qp.certificate(q, low, high, u)
            states, cost = self.roll_out(state, goal, actions)
        if not (np.isfinite(cost) and np.isfinite(gap) and np.isfinite(states).all()):
            raise InvalidInput(_OVERFLOW)  # nothing is certified of an infinite cost
        return Plan(actions, states, cost, status, gap, residual, float(np.sqrt(gap / self.qp.convexity)), tolerance)


def build_mpc(problem: MPCProblem) -> MPCSolver:
    """Condense a problem and compile it, for any number of solves.

    Raises:
        NotStabilizable: `terminal="lqr"` and the system cannot be stabilised.
        SolverFailed: `terminal="lqr"` and the LQR failed, or the condensed problem overflows or is singular.
    """
    A, B, N = problem.dynamics.A, problem.dynamics.B, problem.horizon
    d, m = B.shape
    if isinstance(problem.terminal, str):
        lqr = problem.terminal == "lqr"
        P_f = solve_lqr(problem.dynamics, problem.cost).value_matrix if lqr else problem.cost.W
    else:
        P_f = np.asarray(problem.terminal)
    # Errors e_1 ... e_N, stacked: from_error e_0 + from_actions u + from_drift drift.
    from_error, from_drift, from_actions = np.zeros((N, d, d)), np.zeros((N, d, d)), np.zeros((N, d, N, m))
    power, total = np.eye(d), np.zeros((d, d))
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(N):
            # Invariant: power = A^t and total = I + A + ... + A^(t-1).
            impulse = power @ B
            for s in range(t, N):
                from_actions[s, :, s - t] = impulse
            total, power = total + power, A @ power
            from_error[t], from_drift[t] = power, total
        weights = np.stack([problem.cost.W] * (N - 1) + [P_f])
        left = np.einsum("tdsm,tde->smte", from_actions, weights).reshape(N * m, N * d)
        H = left @ from_actions.reshape(N * d, N * m) + np.kron(np.eye(N), problem.cost.R)
        H = (H + H.T) / 2
        F_error, F_drift = left @ from_error.reshape(N * d, d), left @ from_drift.reshape(N * d, d)
    if not all(np.isfinite(M).all() for M in (H, F_error, F_drift)):
        raise SolverFailed(
            "the condensed problem overflows: A grows too fast; shorten the horizon", problem, "overflow"
        )
    try:
        qp = BoxQP(H, least=float(np.linalg.eigvalsh(problem.cost.R)[0]))  # H exceeds kron(I, R) by a semidefinite term
    except LinAlgError as error:
        raise SolverFailed(
            "the condensed problem is not definite in float64; shorten the horizon, or rescale R", problem, "singular"
        ) from error
    return MPCSolver(problem, P_f, qp, F_error, F_drift)


def solve_mpc(
    problem: MPCProblem | MPCSolver,
    state: ArrayLike,
    goal: ArrayLike,
    *,
    warm_start: bool = True,
    tolerance: float = TOLERANCE,
) -> Plan:
    """Plan from a state to a goal.

    Args:
        problem: the problem (built on first use and kept with it), or one that `build_mpc` built.
        state: (d,).
        goal: (n,) latent position, at rest, or (d,).
        warm_start: start OSQP, if it is needed, from its last solution; this changes the plan by at most `tolerance`.
        tolerance: tolerance of the certificate, relative in cost or absolute in actions.

    Raises:
        InvalidInput: a shape does not match or an entry is not finite.
        NotStabilizable: on building, see `build_mpc`.
        SolverFailed: OSQP did not solve it, or its answer fails the certificate.

    Example:
        >>> dynamics = LinearDynamics(A=[[1, 1], [0, 1]], B=[[0.5], [1]])
        >>> problem = MPCProblem(dynamics, QuadraticCost.goal_reaching(1), horizon=8)
        >>> plan = solve_mpc(problem, state=[0, 0], goal=[5])
        >>> plan.actions[:3].round(1).tolist()
        [[1.0], [1.0], [-0.3]]
        >>> plan.certified
        True
    """
    if not tolerance > 0:
        raise InvalidInput(f"tolerance must be > 0, got {tolerance}")
    solver = problem.solver if isinstance(problem, MPCProblem) else problem
    q = solver.linear_term(state, goal)
    low, high = (np.tile(limit, solver.problem.horizon) for limit in solver.problem.limits)
    # Most problems of a closed loop need no iterations: the active set method ends exactly within a few linear solves.
    u, status = solver.qp.active_set(q, low, high, np.clip(solver.qp.unlimited(q), low, high)), cp.OPTIMAL
    if solver.qp.certificate(q, low, high, u)[0] >= EXACT**2 * solver.qp.convexity:
        u, status = _solve_program(solver, q, warm_start)
        u = solver.qp.active_set(q, low, high, np.clip(u, low, high))
    plan = solver.judge(state, goal, q, u, status, tolerance)
    if not plan.certified:
        raise SolverFailed(
            f"OSQP says {status}, but the plan may cost {plan.gap:.3g} more than the optimum of about {plan.cost:.3g}: "
            "the problem is badly scaled or unstable over the horizon; shorten the horizon, or rescale R",
            solver.problem,
            status,
        )
    return plan


def _solve_program(solver: MPCSolver, q: Floats, warm_start: bool) -> tuple[Floats, str]:
    program, own = solver.program, solver._workspace
    program.param_dict["q"].value = q / solver.qp.scale
    warm_start, own.restart = warm_start and not own.restart, True
    try:
        # `Problem.solve` in its parts. As a whole it warns of an inexact solution, which is an error below, and
        # warnings cannot be silenced for one thread.
        data, chain, inverse = program.get_problem_data(cp.OSQP)
        found = chain.solve_via_data(program, data, warm_start, False, dict(OSQP_SETTINGS))
        solution = chain.invert(found, inverse)
    except cp.SolverError as error:
        raise SolverFailed(f"OSQP failed: {error}", solver.problem, "solver_error") from error
    status = str(solution.status)
    u = (solution.primal_vars or {}).get(program.var_dict["u"].id)
    if status != cp.OPTIMAL or u is None or not np.isfinite(u).all():
        raise SolverFailed(
            f"OSQP did not solve the problem (status {status}); shorten the horizon, or rescale R",
            solver.problem,
            status,
        )
    own.restart = False
    return np.array(u, dtype=np.float64), status
