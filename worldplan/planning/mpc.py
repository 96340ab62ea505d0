"""MPC with action limits: built once, solved by OSQP for any state and goal, each plan with a suboptimality bound.

The state is eliminated (condensed). Only the linear term then depends on state and goal, and one compiled problem
serves every solve. No solver's status is trusted: each plan carries a suboptimality bound that needs no solver and
counts its own rounding, or it is an error.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError

from worldplan.arrays import ROUNDING, Floats, action_limits, check_memory, finite_array, semidefinite
from worldplan.checks import positive_int, positive_number
from worldplan.errors import InvalidInput, SolverFailed
from worldplan.planning.bounds import Precise, many_digits, precise
from worldplan.planning.boxqp import BoxQP
from worldplan.planning.conic import CLARABEL_SETTINGS, COMPILING, OPTIMAL, OSQP_SETTINGS
from worldplan.planning.constraints import ConstrainedProgram, Constraints, Found, check_travels
from worldplan.planning.cost import QuadraticCost, quadratic_form
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.lqr import check_sizes, riccati_step, solve_lqr

if TYPE_CHECKING:
    import cvxpy as cp  # loaded by `build_mpc`: it takes a second, and LQR does without

TOLERANCE = 1e-6
POLISHINGS = 8
SAFE = 1e-3  # of the tolerance: rounding below it needs no exact arithmetic
EXACT = 1e-10  # action units: an active set that certifies this needs no QP solver


@dataclass(frozen=True, eq=False)
class MPCProblem:
    """Minimise `sum_{t<N} (e_t' W e_t + u_t' R u_t) + e_N' P_f e_N` over the actions `u_0, ..., u_{N-1}`.

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
        constraints: a function of CVXPY expressions: the states x (N + 1, d), which are absolute (`x[0]` is the given
            state), and the actions u (N, m); if it needs a third argument, the goal state (d,). It returns a list of
            convex constraints, or that list and a convex cost, which is added. Variables that it makes are slacks.

    Raises:
        InvalidInput: sizes do not match, a limit is NaN or crossed, the terminal is not one of the above, or
            `constraints` is no function.

    Constraints on latents belong to one latent space: Theorem 4 holds for them if they are rotated along.

    Example:
        >>> import cvxpy as cp
        >>> dynamics = LinearDynamics(A=[[1, 1], [0, 1]], B=[[0.5], [1]])
        >>> slow = MPCProblem(
        ...     dynamics, QuadraticCost.goal_reaching(1), horizon=8, constraints=lambda x, u: [cp.abs(x[1:, 1]) <= 0.5]
        ... )
        >>> plan = solve_mpc(slow, state=[0, 0], goal=[5])
        >>> plan.states[:4, 1].round(6).tolist()
        [0.0, 0.5, 0.5, 0.5]
        >>> plan.certified
        True
    """

    dynamics: LinearDynamics
    cost: QuadraticCost
    horizon: int = 20
    action_low: ArrayLike = -1.0
    action_high: ArrayLike = 1.0
    terminal: Literal["lqr", "stage"] | ArrayLike = "lqr"
    constraints: Constraints | None = None

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
        if self.constraints is not None and not callable(self.constraints):
            raise InvalidInput(f"constraints must be a function of states and actions, got {self.constraints!r}")

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
        check_travels(self.constraints)
        return {name: value for name, value in self.__dict__.items() if name != "solver"}

    def __copy__(self) -> MPCProblem:
        return replace(self)  # within a process, any function travels

    def __deepcopy__(self, memo: dict[int, Any]) -> MPCProblem:
        # Nothing here changes. CVXPY's objects keep what they compiled to when copied, and crash the next compilation.
        memo[id(self.constraints)] = self.constraints
        return replace(self)


@dataclass(frozen=True, eq=False)
class Plan:
    """An action sequence with its certificate.

    The certificate needs no solver. Let f be the cost of the actions, g its gradient at the plan's u, and mu the least
    eigenvalue of its Hessian 2 H. Strong convexity gives `f(v) >= f(u) + g'(v - u) + mu/2 |v - u|^2` for every v within
    the limits. Over the box, the right side has the closed-form minimum `f(u) - gap`. So the least cost lies in
    `[cost - gap, cost]`, and the optimal actions lie within `sqrt(2 gap / mu)` of u. Rounding of g and of `cost` is
    bounded and counted in the gap. Where these bounds are loose, both are computed with 60 digits.

    With constraints, f is the Lagrangian at the solver's multipliers, computed anew from the standard form
    (`worldplan.planning.conic`): weak duality takes the place of the box. Then `gap` and `action_error` compare with
    plans that keep the constraints, and as `Judgement` of `worldplan.planning.constraints` says.

    Attributes:
        actions: (N, m) within the limits, action units.
        states: (N + 1, d) from rolling the actions out, the given state first.
        cost: stage costs plus terminal cost of this roll-out.
        status: status of the solver; "sampled" for CEM and MPPI, whose plan is only the best of the drawn ones.
        gap: bound on `cost` minus the optimal cost.
        residual: largest entry of `u - clip(u - g / |2 H|)`, action units; 0 iff optimal (the KKT conditions of a box).
        action_error: bound on the Euclidean distance of `actions` to the optimal ones, action units.
        tolerance: tolerance of `certified`, relative in cost or absolute in actions, and of `violation`.
        violation: the most by which a constraint is broken, in its own units; 0 without constraints.
        variables: values of the variables that the constraints made, by name.
    """

    actions: Floats
    states: Floats
    cost: float
    status: str
    gap: float
    residual: float
    action_error: float
    tolerance: float = TOLERANCE
    violation: float = 0.0
    variables: dict[str, Floats] = field(default_factory=dict)

    @property
    def certified(self) -> bool:
        """Whether the plan is feasible and optimal, to `tolerance` of its cost or to `tolerance` in its actions."""
        near = self.gap <= self.tolerance * abs(self.cost) or self.action_error <= self.tolerance
        return near and self.violation <= self.tolerance

    @property
    def shifted(self) -> Floats:
        """Actions (N, m) one step later, the last one repeated: a start for the next plan."""
        return np.concatenate([self.actions[1:], self.actions[-1:]])


_OVERFLOW = "state or goal is so large that the problem overflows"


class _Workspace(threading.local):
    """What OSQP keeps from solve to solve, one for each thread: a C object that two threads would corrupt."""

    def __init__(self) -> None:
        self.program: cp.Problem | None = None
        self.constrained: ConstrainedProgram | None = None
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
        sizes: what bounds the rounding of all these.

    Threads may share it: each compiles a program of its own when it first needs one. Copies and pickles leave programs
    behind.
    """

    problem: MPCProblem
    terminal_weight: Floats
    qp: BoxQP
    F_error: Floats
    F_drift: Floats
    sizes: _Sizes
    _workspace: _Workspace = field(default_factory=_Workspace, init=False, repr=False)

    @property
    def program(self) -> cp.Problem:
        """This thread's CVXPY problem in `u`, with the one parameter `q`.

        H and q are divided by the largest eigenvalue of H, so that OSQP's absolute tolerances are in action units.
        """
        if self._workspace.program is None:
            with COMPILING:
                self._workspace.program = self._compiled()
        return self._workspace.program

    def _compiled(self) -> cp.Problem:
        import cvxpy as cp

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

    @property
    def constrained(self) -> ConstrainedProgram:
        """This thread's program with the problem's constraints."""
        own, problem = self._workspace, self.problem
        if own.constrained is None:
            assert problem.constraints is not None
            A, B, cost = problem.dynamics.A, problem.dynamics.B, problem.cost
            G = _condensed(A, B, cost.W, cost.R, self.terminal_weight, problem.horizon).from_actions
            G = np.vstack([np.zeros((len(A), G.shape[1])), G])
            H, convexity, scale = self.qp.H / self.qp.scale, self.qp.convexity / self.qp.scale, self.qp.scale
            with COMPILING:
                own.constrained = ConstrainedProgram(problem.constraints, H, convexity, scale, G, *problem.limits)
        return own.constrained

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
        low, high = (np.tile(limit, self.problem.horizon) for limit in self.problem.limits)
        with np.errstate(over="ignore", invalid="ignore"):
            gap, residual = self.qp.certificate(q, low, high, u)
            states, cost = self.roll_out(state, goal, u.reshape(self.problem.horizon, -1))
            slope, doubt = self.sizes.errors(states, self.problem.cost.goal_state(goal), u)
            safe = self.qp.bound(2 * (self.qp.H @ u + q), low, high, u, slope)
            if safe + doubt <= max(2 * gap, SAFE * tolerance * cost):
                gap = safe
            else:  # rounding may be most of it
                u, cost, gap = self._exactly(states[0], goal, u, low, high)
                states, doubt = self.roll_out(state, goal, u.reshape(self.problem.horizon, -1))[0], 0.0
        if not (np.isfinite(cost) and np.isfinite(gap + doubt) and np.isfinite(states).all()):
            raise InvalidInput(_OVERFLOW)  # nothing is certified of an infinite cost
        actions, action_error = u.reshape(self.problem.horizon, -1), float(np.sqrt(gap / self.qp.convexity))
        return Plan(actions, states, cost, status, gap + doubt, residual, action_error, tolerance)

    def judge_constrained(self, state: ArrayLike, goal: ArrayLike, found: Found, tolerance: float) -> Plan:
        """Roll out what a solver found, its actions clipped to the limits, and certify it by its multipliers.

        Raises InvalidInput if states, cost or bound overflow.
        """
        low, high = (np.tile(limit, self.problem.horizon) for limit in self.problem.limits)
        u = np.clip(found.y[: len(low)], low, high)
        actions = u.reshape(self.problem.horizon, -1)
        with np.errstate(over="ignore", invalid="ignore"):
            states, cost = self.roll_out(state, goal, actions)
            slope, doubt = self.sizes.errors(states, self.problem.cost.goal_state(goal), u)
            judged = self.constrained.judge(found, u, states, slope)
            cost, gap = cost + judged.extra, judged.gap + doubt
        if not (np.isfinite([cost, gap]).all() and np.isfinite(states).all()):
            raise InvalidInput(_OVERFLOW)
        return Plan(
            actions,
            states,
            cost,
            OPTIMAL,
            gap,
            judged.residual,
            judged.action_error,
            tolerance,
            judged.violation,
            found.variables,
        )

    def _exactly(
        self, state: Floats, goal: ArrayLike, u: Floats, low: Floats, high: Floats
    ) -> tuple[Floats, float, float]:
        """Actions (N m,), their cost and their gap with 60 digits, after Newton steps on what is within the limits."""
        best, cost, gap = u, np.inf, np.inf
        for _ in range(POLISHINGS):
            new, gradient = self._value(state, goal, u)
            new_gap = self.qp.bound(gradient, low, high, u, np.finfo(np.float64).eps * np.abs(gradient))
            free = (low < u) & (u < high)
            outward = ((u > low) | (gradient >= 0)) & ((u < high) | (gradient <= 0)) | free
            step, _ = self._newton(gradient, free)
            if outward.all():
                # Moves of what is at a limit cost something by themselves: the least cost of all others bounds theirs.
                new_gap = min(new_gap, self._newton(gradient * free, np.ones_like(free))[1])
            if not new_gap < gap / 2:
                break
            best, cost, gap = u, new, new_gap
            u = np.clip(u + step, low, high)
        return best, cost, gap

    def _newton(self, gradient: Floats, free: NDArray[np.bool_]) -> tuple[Floats, float]:
        """The s (N m,) that minimises `gradient' s + s' H s` over its free entries, and minus the minimum; 60 digits.

        By the Riccati recursion of this very problem with linear terms: H is never formed, and the step follows the
        stabilising gains. So no growth of A over the horizon costs digits.
        """
        N, m = self.problem.horizon, self.problem.dynamics.action_dim
        moves, at = np.zeros((N, m)), free.reshape(N, m)
        with many_digits():
            A, B, _, W, R, P = self._numbers()
            g = precise(gradient.reshape(N, m), Decimal)
            slope, saved = precise(np.zeros(len(A)), Decimal), Decimal(0)
            rules: list[tuple[Precise, Precise, Precise]] = []
            for t in reversed(range(N)):
                # Invariant: from an offset e at t + 1, the least cost of the later steps is e' P e + slope' e - saved.
                b = B[:, at[t]]
                right = g[t, at[t]] + b.T @ slope
                inverse = _inverse(R[np.ix_(at[t], at[t])] + b.T @ P @ b)
                K, k = inverse @ b.T @ P @ A, inverse @ right / 2
                rules.append((b, K, k))
                saved, slope = saved + sum(right * k, Decimal(0)) / 2, A.T @ slope - K.T @ right
                P = W + A.T @ P @ (A - b @ K)
                P = (P + P.T) / 2
            offset = precise(np.zeros(len(A)), Decimal)
            for t, (b, K, k) in enumerate(reversed(rules)):
                move = -K @ offset - k
                moves[t, at[t]] = move.astype(np.float64)
                offset = A @ offset + b @ move
        return moves.ravel(), float(saved) * (1 + ROUNDING)

    def _numbers(self) -> tuple[Precise, ...]:
        """A, B, c, W, R and P_f with 60 digits."""
        dynamics, weights = self.problem.dynamics, self.problem.cost
        matrices = (dynamics.A, dynamics.B, dynamics.intercept, weights.W, weights.R, self.terminal_weight)
        return tuple(precise(M, Decimal) for M in matrices)

    def _value(self, state: Floats, goal: ArrayLike, stacked: Floats) -> tuple[float, Floats]:
        """Cost of actions (N m,), and its gradient (N m,), with 60 digits: a roll-out and its adjoint."""
        target, actions = self.problem.cost.goal_state(goal), stacked.reshape(self.problem.horizon, -1)
        with many_digits():
            A, B, c, W, R, P_f = self._numbers()
            x, g, u = (precise(M, Decimal) for M in (state, target, actions))
            errors, drift = [x - g], A @ g + c - g
            for action in u:
                errors.append(A @ errors[-1] + B @ action + drift)
            cost = errors[-1] @ P_f @ errors[-1]
            costate, gradient = 2 * P_f @ errors[-1], np.empty_like(u)
            for t in reversed(range(len(u))):
                # Invariant: costate is the gradient of the cost of all later steps with respect to the state at t + 1.
                gradient[t] = 2 * R @ u[t] + B.T @ costate
                costate = 2 * W @ errors[t] + A.T @ costate
                cost = cost + errors[t] @ W @ errors[t] + u[t] @ R @ u[t]
            return float(cost), gradient.ravel().astype(np.float64)

    def follow(self, state: ArrayLike, goal: ArrayLike) -> Floats:
        """Feasible actions (N m,) of the feedback that is optimal without limits, clipped at each step.

        It acts on each state that it comes to, so it keeps its accuracy where A is unstable over the horizon. Raises
        SolverFailed if the recursion overflows.
        """
        dynamics, cost = self.problem.dynamics, self.problem.cost
        gains, P = [], self.terminal_weight
        for _ in range(self.problem.horizon):
            K, P = riccati_step(dynamics, cost, P)
            gains.append(K)
        x, target, actions = finite_array("state", state), cost.goal_state(goal), []
        for K in reversed(gains):
            actions.append(np.clip(-K @ (x - target), *self.problem.limits))
            x = dynamics.step(x, actions[-1])
        return np.concatenate(actions)


class _Condensed(NamedTuple):
    """The matrices of `MPCSolver`, and those that make the stacked errors `e_1 ... e_N`.

    Attributes:
        H: (N m, N m).
        F_error: (N m, d).
        F_drift: (N m, d).
        from_actions: (N d, N m).
        from_error: (N d, d).
        from_drift: (N d, d).
    """

    H: Floats
    F_error: Floats
    F_drift: Floats
    from_actions: Floats
    from_error: Floats
    from_drift: Floats


@dataclass(frozen=True, eq=False)
class _Sizes:
    """The condensed problem with every number positive: bounds on how far rounding moves gradient and cost.

    Attributes:
        positive: the problem with A, B and the weights replaced by their absolute values.
        weights: absolute values of W, R and P_f.
        A: (d, d); c: (d,), absolute values.
        unit: largest relative error of a sum of products of these sizes.
    """

    positive: _Condensed
    weights: tuple[Floats, Floats, Floats]
    A: Floats
    c: Floats
    unit: float

    def errors(self, states: Floats, target: Floats, actions: Floats) -> tuple[Floats, float]:
        """Bounds on the error of the gradient (N m,) and on that of the cost, for a roll-out from `states[0]`."""
        u, x, g = np.abs(actions), np.abs(states[0]), np.abs(target)
        start, drift = x + g, self.A @ g + self.c + g
        p = self.positive
        gradient = 2 * self.unit * (p.H @ u + p.F_error @ start + p.F_drift @ drift)
        sizes = (p.from_actions @ u + p.from_error @ x + p.from_drift @ self.c).reshape(-1, len(x)) + g
        sizes = np.concatenate([start[None], sizes])
        e, d, (W, R, P_f) = np.abs(states - target), self.unit * sizes, self.weights
        near, turns = 2 * e + d, u.reshape(len(states) - 1, -1)
        cost = np.vdot(near[:-1] @ W, d[:-1]) + near[-1] @ P_f @ d[-1]
        size = np.vdot(e[:-1] @ W, e[:-1]) + e[-1] @ P_f @ e[-1] + np.vdot(turns @ R, turns)
        return gradient, float(cost + self.unit * size)


def _inverse(S: Precise) -> Precise:
    """The inverse of a definite matrix with 60 digits: Newton's iteration from the one in float64 (Schulz 1933)."""
    inverse, twice = precise(np.linalg.inv(S.astype(np.float64)), Decimal), precise(2 * np.eye(len(S)), Decimal)
    for _ in range(3):  # 1e-8, say, then 1e-16, 1e-32, 1e-64
        inverse = inverse @ (twice - S @ inverse)
    return inverse


def build_mpc(problem: MPCProblem) -> MPCSolver:
    """Condense a problem and compile it, for any number of solves.

    Raises:
        NotStabilizable: `terminal="lqr"` and the system cannot be stabilised.
        SolverFailed: `terminal="lqr"` and the LQR failed, or the condensed problem overflows or is singular.
        InvalidInput: the constraints are not convex, not DPP, or no constraints; or the horizon takes too much memory.
    """
    import cvxpy  # noqa: F401 - not in the control step that first needs it

    A, B, N = problem.dynamics.A, problem.dynamics.B, problem.horizon
    d, m = B.shape
    check_memory(f"a horizon of {N} steps", (N, d, N, m))
    if isinstance(problem.terminal, str):
        lqr = problem.terminal == "lqr"
        P_f = solve_lqr(problem.dynamics, problem.cost).value_matrix if lqr else problem.cost.W
    else:
        P_f = np.asarray(problem.terminal)
    with np.errstate(over="ignore", invalid="ignore"):
        H, F_error, F_drift = _condensed(A, B, problem.cost.W, problem.cost.R, P_f, N)[:3]
        if not all(np.isfinite(M).all() for M in (H, F_error, F_drift)):
            raise SolverFailed(
                "the condensed problem overflows: A grows too fast; shorten the horizon", problem, "overflow"
            )
        weights = (np.abs(problem.cost.W), np.abs(problem.cost.R), np.abs(P_f))
        positive = _condensed(np.abs(A), np.abs(B), *weights, N)
        # A product of N + 3 matrices rounds at most so often; each sum has up to N d terms.
        unit = float(np.finfo(np.float64).eps) * (N + 4) * (d + m + 2)
        sizes = _Sizes(positive, weights, np.abs(A), np.abs(problem.dynamics.intercept), unit)
    try:
        # H exceeds kron(I, R) by a semidefinite term.
        least = float(np.linalg.eigvalsh(problem.cost.R)[0]) * (1 - ROUNDING)
        qp = BoxQP(H, least=least, rounding=unit * float(np.linalg.norm(positive.H)))
    except LinAlgError as error:
        raise SolverFailed(
            "the condensed problem is not definite in float64; shorten the horizon, or rescale R", problem, "singular"
        ) from error
    solver = MPCSolver(problem, P_f, qp, F_error, F_drift, sizes)
    if problem.constraints is not None:
        solver.constrained  # noqa: B018 - what is wrong with them is told now, and the first step need not compile
    return solver


def _condensed(A: Floats, B: Floats, W: Floats, R: Floats, P_f: Floats, N: int) -> _Condensed:
    d, m = B.shape
    from_error, from_drift, from_actions = np.zeros((N, d, d)), np.zeros((N, d, d)), np.zeros((N, d, N, m))
    power, total = np.eye(d), np.zeros((d, d))
    for t in range(N):
        # Invariant: power = A^t and total = I + A + ... + A^(t-1).
        impulse = power @ B
        for s in range(t, N):
            from_actions[s, :, s - t] = impulse
        total, power = total + power, A @ power
        from_error[t], from_drift[t] = power, total
    weights = np.stack([W] * (N - 1) + [P_f])
    left = np.einsum("tdsm,tde->smte", from_actions, weights).reshape(N * m, N * d)
    actions, error, drift = from_actions.reshape(N * d, N * m), from_error.reshape(N * d, d), from_drift.reshape(-1, d)
    H = left @ actions + np.kron(np.eye(N), R)
    return _Condensed((H + H.T) / 2, left @ error, left @ drift, actions, error, drift)


def built(problem: Any) -> MPCSolver:
    """The solver of a problem, or the solver itself. Raises InvalidInput for another type, and as `build_mpc`."""
    if not isinstance(problem, MPCProblem | MPCSolver):
        raise InvalidInput(f"need an MPCProblem, or what build_mpc built, got {problem!r}")
    return problem.solver if isinstance(problem, MPCProblem) else problem


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
        SolverFailed: OSQP did not solve it, or its answer fails the certificate. With constraints, `status` is
            "infeasible" where no plan keeps them together, which the message names, and "unbounded" where the least
            cost is minus infinity.

    Example:
        >>> dynamics = LinearDynamics(A=[[1, 1], [0, 1]], B=[[0.5], [1]])
        >>> problem = MPCProblem(dynamics, QuadraticCost.goal_reaching(1), horizon=8)
        >>> plan = solve_mpc(problem, state=[0, 0], goal=[5])
        >>> plan.actions[:3].round(1).tolist()
        [[1.0], [1.0], [-0.3]]
        >>> plan.certified
        True
    """
    tolerance, solver = positive_number("tolerance", tolerance), built(problem)
    q = solver.linear_term(state, goal)
    if solver.problem.constraints is not None:
        return _solve_constrained(solver, q, state, goal, warm_start, tolerance)
    low, high = (np.tile(limit, solver.problem.horizon) for limit in solver.problem.limits)
    best: Plan | None = None
    failure: SolverFailed | None = None
    for candidate in (_active_set, _follow, _osqp, _clarabel):
        try:
            u, status = candidate(solver, q, low, high, (state, goal), warm_start)
        except SolverFailed as error:
            failure = failure or error
            continue
        # The first two are exact or nothing, so that plans in two latent spaces agree to rounding.
        exact = solver.qp.certificate(q, low, high, u)[0] < EXACT**2 * solver.qp.convexity
        if candidate is _active_set and not exact:
            continue
        plan = solver.judge(state, goal, q, u, status, tolerance)
        if best is None or plan.gap < best.gap:
            best = plan
        if plan.certified and (exact or candidate in (_osqp, _clarabel)):
            return plan
    if best is not None and best.certified:
        return best
    if failure is not None or best is None:
        raise failure or SolverFailed("no solver answers", solver.problem, "solver_error")
    raise SolverFailed(
        f"no solver's plan is certified; the best may cost {best.gap:.3g} more than the optimum of about "
        f"{best.cost:.3g}: the problem is badly scaled or unstable over the horizon; shorten the horizon, or rescale R",
        solver.problem,
        best.status,
    )


def _solve_constrained(
    solver: MPCSolver, q: Floats, state: ArrayLike, goal: ArrayLike, warm_start: bool, tolerance: float
) -> Plan:
    """OSQP's plan, and where it fails or is not certified, or the problem is no quadratic program, Clarabel's."""
    problem, program = solver.problem, solver.constrained
    free, _ = solver.roll_out(state, goal, np.zeros((problem.horizon, problem.dynamics.action_dim)))
    for by in program.solvers:
        try:
            found = program.solve(by, q / solver.qp.scale, free.ravel(), problem.cost.goal_state(goal), warm_start)
        except SolverFailed as error:
            error.problem = problem
            failure = error
            continue
        plan = solver.judge_constrained(state, goal, found, tolerance)
        if plan.certified:
            return plan
        failure = SolverFailed(
            f"the plan of {by} is not certified: it may cost {plan.gap:.3g} more than the optimum of about "
            f"{plan.cost:.3g}, and breaks a constraint by {plan.violation:.3g}; rescale the constraints and their cost",
            problem,
            plan.status,
        )
    raise failure


_Ends = tuple[ArrayLike, ArrayLike]  # state and goal


def _active_set(solver: MPCSolver, q: Floats, low: Floats, high: Floats, ends: _Ends, warm: bool) -> tuple[Floats, str]:
    """Most problems of a closed loop need no iterations: this method ends exactly within a few linear solves."""
    return solver.qp.active_set(q, low, high, np.clip(solver.qp.unlimited(q), low, high)), OPTIMAL


def _follow(solver: MPCSolver, q: Floats, low: Floats, high: Floats, ends: _Ends, warm: bool) -> tuple[Floats, str]:
    return solver.qp.active_set(q, low, high, solver.follow(*ends)), OPTIMAL


def _osqp(solver: MPCSolver, q: Floats, low: Floats, high: Floats, ends: _Ends, warm: bool) -> tuple[Floats, str]:
    u, status = _solve_program(solver, q, warm)
    return solver.qp.active_set(q, low, high, np.clip(u, low, high)), status


def _clarabel(solver: MPCSolver, q: Floats, low: Floats, high: Floats, ends: _Ends, warm: bool) -> tuple[Floats, str]:
    u, status = _solve_program(solver, q, False, "CLARABEL", CLARABEL_SETTINGS)
    return solver.qp.active_set(q, low, high, np.clip(u, low, high)), status


def _solve_program(
    solver: MPCSolver, q: Floats, warm_start: bool, by: str = "OSQP", settings: dict[str, Any] = OSQP_SETTINGS
) -> tuple[Floats, str]:
    import cvxpy as cp

    program, own = solver.program, solver._workspace
    program.param_dict["q"].value = q / solver.qp.scale
    warm_start, own.restart = warm_start and not own.restart, True
    try:
        # `Problem.solve` in its parts. As a whole it warns of an inexact solution, which is an error below, and
        # warnings cannot be silenced for one thread.
        data, chain, inverse = program.get_problem_data(by, solver_opts=dict(settings))
        found = chain.solve_via_data(program, data, warm_start, False, dict(settings))
        solution = chain.invert(found, inverse)
    except cp.SolverError as error:
        raise SolverFailed(f"{by} failed: {error}", solver.problem, "solver_error") from error
    status = str(solution.status)
    u = (solution.primal_vars or {}).get(program.var_dict["u"].id)
    accepted = (cp.OPTIMAL,) if by == cp.OSQP else (cp.OPTIMAL, cp.OPTIMAL_INACCURATE)
    if status not in accepted or u is None or not np.isfinite(u).all():
        raise SolverFailed(
            f"{by} did not solve the problem (status {status}); shorten the horizon, or rescale R",
            solver.problem,
            status,
        )
    own.restart = by != cp.OSQP
    return np.array(u, dtype=np.float64), status
