"""Constraints and costs of a user's own, in the words of CVXPY, as one parametrised program of an MPC problem.

CVXPY compiles the program once for each thread; then states and goals are parameters, beside those of the user. States
are eliminated from its standard form, which saves OSQP most of its iterations. OSQP solves what is a quadratic program,
Clarabel what is not, and wherever OSQP fails.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csc_array, issparse

from worldplan.arrays import Floats
from worldplan.errors import InvalidInput, SolverFailed
from worldplan.planning.conic import (
    CLARABEL_SETTINGS,
    COMPILING,
    INFEASIBLE,
    OPTIMAL,
    OSQP_SETTINGS,
    UNBOUNDED,
    UNKNOWN_CONES,
    StandardForm,
)

Constraints = Callable[..., Any]
"""Maps CVXPY expressions of states (N + 1, d), actions (N, m) and, if it needs a third argument, the goal (d,), to a
list of CVXPY constraints, or to that list and a convex cost."""

# `BoxQP.active_set` knows limits of actions only: here OSQP polishes. See `OSQP_SETTINGS` of mpc.py for the others.
SETTINGS: dict[str, dict[str, Any]] = {
    # Where slacks or norms are not unique it needs thousands of iterations, in which Clarabel is done twice.
    "OSQP": {**OSQP_SETTINGS, "max_iter": 500, "verbose": False},
    # Its gaps are absolute where the cost is small. It goes nearly as far as it comes, and the certificate decides.
    "CLARABEL": {**CLARABEL_SETTINGS, "tol_gap_abs": 1e-15, "tol_gap_rel": 1e-15, "max_iter": 60, "verbose": False},
}
FAR = 10.0  # see `Judgement.gap`
TAKES_PART = 1e-3  # of the largest multiplier: constraints with less have no part in a conflict


@dataclass(frozen=True, eq=False)
class Found:
    """What a solver gave for one state and goal.

    Attributes:
        form: the standard form that was solved; its first N m entries are the actions.
        y: (k,) primal point.
        z: (r,) multipliers.
        q: (N m,) linear term of the problem's own cost.
        free: ((N + 1) d,) states without actions.
        constant: the program's cost above that of the form.
        variables: values of the user's variables by name.
    """

    form: StandardForm
    y: Floats
    z: Floats
    q: Floats
    free: Floats
    constant: float
    variables: dict[str, Floats]


class Judgement(NamedTuple):
    """What actions cost beside the problem's own cost, and how far they are from the best ones.

    Attributes:
        extra: the user's cost.
        gap: bound on the whole cost minus the least cost within the constraints. Variables of the user that carry no
            curvature count as far from their values as `FAR` times the largest number of the plan.
        action_error: bound on the Euclidean distance to every feasible plan that costs no more.
        violation: the most by which a constraint is broken, in its own units.
        residual: largest residual of the KKT conditions.
    """

    extra: float
    gap: float
    action_error: float
    violation: float
    residual: float


class _Matrices(NamedTuple):
    """What only parameters of the user change: of CVXPY's form, and of that without states."""

    full_P: Any
    full_A: Any
    P: Any
    A: Any


class ConstrainedProgram:
    """Minimise `u' H u + 2 q' u + cost / scale` over u, x and the user's variables.

    Subject to `x = free + G u`, the action limits and the user's constraints. Each thread has its own.

    Args:
        constraints: the user's function.
        H: (N m, N m), divided by `scale`.
        convexity: a lower bound on the smallest eigenvalue of H.
        scale: unit of the program's cost.
        G: ((N + 1) d, N m), what actions do to states.
        low: (m,) lowest actions.
        high: (m,) highest actions.

    Raises:
        InvalidInput: the function raises, gives something else than constraints and a cost, or these are not convex,
            not DPP, or of cones that the certificate does not know.
    """

    def __init__(
        self, constraints: Constraints, H: Floats, convexity: float, scale: float, G: Floats, low: Floats, high: Floats
    ) -> None:
        import cvxpy as cp

        self.H, self.convexity, self.scale, self.G = H, convexity, scale, G
        N, m = len(H) // len(low), len(low)
        self._u, self._q = cp.Variable(N * m, name="u"), cp.Parameter(N * m, name="q")
        self._x, self._free = cp.Variable((N + 1, len(G) // (N + 1)), name="x"), cp.Parameter(len(G), name="free")
        self._goal = cp.Parameter(self._x.shape[1], name="goal")
        for parameter in (self._q, self._free, self._goal):
            parameter.value = np.zeros(parameter.shape)
        self._limits, limits = {}, [np.tile(limit, N) for limit in (low, high)]
        below, above = (np.flatnonzero(np.isfinite(limit)) for limit in limits)
        if below.size:
            self._limits["the lowest actions"] = self._u[below] >= limits[0][below]
        if above.size:
            self._limits["the highest actions"] = self._u[above] <= limits[1][above]
        # States are variables. Else a parameter of the user times a state would be a product of parameters: not DPP.
        self._moves = cp.vec(self._x, order="C") == self._free + G @ self._u
        actions = cp.reshape(self._u, (N, m), order="C")
        self._given, cost = _told(constraints, self._x, actions, self._goal)
        self._has_cost = cost is not None
        own = cp.quad_form(self._u, cp.psd_wrap(H)) + 2 * (self._q @ self._u)
        self._program = cp.Problem(
            cp.Minimize(own + cost / scale if self._has_cost else own),
            [self._moves, *self._limits.values(), *self._given],
        )
        if self._program.is_mixed_integer():
            raise InvalidInput("a variable of the constraints is boolean or integer: planning here is convex")
        ours = {part.id for part in (self._q, self._free, self._goal, self._u, self._x)}
        self._parameters = [p for p in self._program.parameters() if p.id not in ours]
        self._variables = {v.id: v.name() for v in self._program.variables() if v.id not in ours}
        self.solvers = ("OSQP", "CLARABEL") if self._program.is_qp() else ("CLARABEL",)
        self._data: dict[str, Any] = {}
        self._matrices: _Matrices | None = None
        self._osqp: Any = None  # OSQP's workspace, which goes on from its last iterates
        if all(p.value is not None for p in self._parameters):
            self._compile()

    def _compile(self) -> None:
        with COMPILING:
            self._data, self._chain, self._inverse = self._program.get_problem_data("CLARABEL", solver_opts={})
        dims, size = self._data["dims"], len(self._data["c"])
        unknown = [name for name in UNKNOWN_CONES if getattr(dims, name, None)]
        if unknown:
            raise InvalidInput(
                f"the constraints need cones of the kind {', '.join(unknown)}, which have no certificate here; use "
                "affine functions, norms of vectors (`axis=1` for rows) and squares"
            )
        columns = self._data["param_prob"].var_id_to_col
        actions = columns[self._u.id] + np.arange(self._u.size)
        self._states = columns[self._x.id] + np.arange(self._x.size).reshape(self._x.shape, order="F").ravel()
        others = np.setdiff1d(np.arange(size), [*actions, *self._states])
        # y = T w + y_0: w holds the actions and what the user's part brings, y_0 the free response.
        rows = [*actions, *others, *np.repeat(self._states, len(actions))]
        entries = [*range(len(actions) + len(others)), *np.tile(np.arange(len(actions)), len(self._states))]
        values = np.concatenate([np.ones(len(actions) + len(others)), self.G.ravel()])
        self._T = csc_array((values, (rows, entries)), shape=(size, len(actions) + len(others)))
        # Numbered multipliers tell which rows are whose: those of the dynamics hold by themselves now.
        numbers = self._inverted(np.zeros(size), np.arange(len(self._data["b"]), dtype=np.float64)).dual_vars
        self._rows = np.ones(len(self._data["b"]), dtype=bool)
        self._rows[np.abs(np.ravel(numbers[self._moves.id])).astype(int)] = False
        self._zeros = int(self._rows[: dims.zero].sum())

    def _inverted(self, y: Floats, z: Floats) -> Any:
        """CVXPY's solution, by variables and constraints, of a point and multipliers of its standard form."""
        told = SimpleNamespace(status="Solved", x=y, s=None, z=z, obj_val=0.0, solve_time=0.0, iterations=0)
        return self._chain.invert(told, self._inverse)

    def _reduced(self, free: Floats) -> tuple[StandardForm, Floats, float]:
        """The standard form without states, y_0, and what the cost of y is above that of w."""
        data, _, _ = self._program.get_problem_data("CLARABEL", solver_opts={})
        P, A, c, b = data["P"], data["A"], data["c"], data["b"]
        kept, T, y_0 = self._matrices, self._T, np.zeros(len(c))
        if not (kept and np.array_equal(P.data, kept.full_P.data) and np.array_equal(A.data, kept.full_A.data)):
            kept = self._matrices = _Matrices(P, A, csc_array(T.T @ (P @ T)), csc_array((A @ T).tocsr()[self._rows]))
            self._osqp = None
        y_0[self._states] = free
        steep = P @ y_0
        form = StandardForm(
            kept.P,
            T.T @ (steep + c),
            kept.A,
            (b - A @ y_0)[self._rows],
            self._zeros,
            data["dims"].nonneg,
            tuple(data["dims"].soc),
        )
        return form, y_0, float(y_0 @ steep / 2 + c @ y_0 + self._inverse[-1]["offset"])

    def solve(self, by: str, q: Floats, free: Floats, goal: Floats, warm_start: bool) -> Found:
        """Solve for a linear term (N m,), a free response ((N + 1) d,) and a goal state (d,).

        Raises:
            InvalidInput: a parameter of the user has no value, or data are not finite.
            SolverFailed: the solver did not solve it; the status says whether it is infeasible or unbounded.
        """
        missing = [p.name() for p in self._parameters if p.value is None]
        if missing:
            raise InvalidInput(f"parameters of the constraints have no value: {', '.join(missing)}; set `.value`")
        self._q.value, self._free.value, self._goal.value = q, free, goal
        if not self._data:
            self._compile()
        form, y_0, constant = self._reduced(free)
        if not form.finite:
            raise InvalidInput("constraints are not finite: a parameter, state or goal is too large, or NaN")
        if by == "OSQP":
            workspace, self._osqp = self._osqp if warm_start else None, None
            w, z, status, workspace = form.osqp(SETTINGS[by], workspace)
        else:
            w, z, status = form.clarabel(SETTINGS[by])
        if status != OPTIMAL:
            raise SolverFailed(self._reason(by, status, z), None, status)
        if by == "OSQP":
            self._osqp = workspace
        named = self._inverted(self._T @ w + y_0, np.zeros(len(self._rows))).primal_vars if self._variables else {}
        variables = {name: _dense(named[id]) for id, name in self._variables.items()}
        return Found(form, w, z, q, free, constant, variables)

    def judge(self, found: Found, actions: Floats, states: Floats, slope: Floats) -> Judgement:
        """What actions (N m,) within the limits, and their states (N + 1, d), lose by the found multipliers.

        `slope` (N m,) bounds the rounding of the gradient of the problem's own cost.
        """
        count, form = len(actions), found.form
        y = np.concatenate([actions, found.y[count:]])
        kkt = form.kkt(y, found.z)
        steep = np.abs(kkt.gradient) + kkt.rounding
        rest, reach = steep[count:], np.minimum(kkt.reach, FAR * max(np.abs(y).max(), np.abs(states).max()))
        constant = kkt.products + float(rest @ reach[count:])
        slant, curve = float(np.linalg.norm(steep[:count] + slope / self.scale)), 2 * self.convexity
        own = actions @ self.H @ actions + 2 * found.q @ actions
        away = float(np.abs(found.free + self.G @ actions - states.ravel()).max())  # rounding of the roll-out
        return Judgement(
            extra=self.scale * float(form.value(y) + found.constant - own) if self._has_cost else 0.0,
            gap=self.scale * (constant + slant**2 / (2 * curve)),
            action_error=float(slant + np.sqrt(slant**2 + 2 * curve * constant)) / curve,
            violation=kkt.violation + away,
            residual=max(float(np.abs(kkt.gradient).max()), kkt.largest),
        )

    def _reason(self, by: str, status: str, z: Floats) -> str:
        """Why there is no plan, and what to do."""
        if status == UNBOUNDED:
            return "the cost has no least value: bound the variables of your constraints, or weigh them in the cost"
        if status != INFEASIBLE:
            return f"{by} did not solve the problem (status {status}); rescale the constraints and their cost"
        every = np.zeros(len(self._rows))
        every[self._rows] = z  # whose combination of the constraints contradicts itself
        forces = self._inverted(np.zeros(self._T.shape[0]), every).dual_vars
        named = {f"{k}, `{_text(c)}`": c for k, c in enumerate(self._given)}
        named |= self._limits
        sizes = {name: float(np.abs(forces.get(c.id, 0.0)).max(initial=0.0)) for name, c in named.items()}
        parts = [name for name, size in sizes.items() if size > TAKES_PART * max(sizes.values())]
        return (
            f"no plan keeps these constraints together: {'; '.join(parts or named)}. Give one of them a slack variable "
            "with a cost, or leave out x[0], which is the state itself"
        )


def _told(constraints: Constraints, x: Any, u: Any, goal: Any) -> tuple[list[Any], Any]:
    """The user's constraints and cost (None if there is none), checked."""
    import cvxpy as cp

    try:
        needed = [p for p in inspect.signature(constraints).parameters.values() if p.default is p.empty]
        places = [p for p in needed if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        given, cost = constraints(x, u, goal) if len(places) > 2 else constraints(x, u), None
        if isinstance(given, tuple) and len(given) == 2 and not isinstance(given[1], cp.Constraint):
            given, cost = given
        listed = [given] if isinstance(given, cp.Constraint) else list(given)
        cost = None if cost is None else cp.Minimize(cost)
    except Exception as error:  # whatever a function of the user's raises
        raise InvalidInput(
            f"constraints(x, u) with x {x.shape} and u {u.shape} must return a list of CVXPY constraints, or such a "
            f"list and a scalar cost: {type(error).__name__}: {error}"
        ) from error
    for k, constraint in enumerate(listed):
        if not isinstance(constraint, cp.Constraint):
            raise InvalidInput(f"constraint {k} is {constraint!r}, which is no CVXPY constraint")
    for name, part in [*((f"constraint {k}", c) for k, c in enumerate(listed)), ("the cost", cost)]:
        if part is not None and not part.is_dcp():
            raise InvalidInput(f"{name}, `{_text(part)}`, is not convex by CVXPY's rules (https://www.cvxpy.org, DCP)")
        if part is not None and not part.is_dcp(dpp=True):
            raise InvalidInput(
                f"{name}, `{_text(part)}`, is not DPP: let parameters enter affinely, as in `p * x`, and give products "
                "of parameters and roots of matrices a parameter of their own (https://www.cvxpy.org, DPP)"
            )
    return listed, None if cost is None else cost.expr


def _dense(value: Any) -> Floats:
    """A variable's value; CVXPY keeps diagonal ones sparse."""
    dense: Floats = np.array(value.todense() if issparse(value) else value)  # type: ignore[attr-defined]
    return dense


def _text(part: Any) -> str:
    text = " ".join(str(part).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


def check_travels(constraints: Constraints | None) -> None:
    """Raise InvalidInput if a function cannot be pickled, or would be another problem in another process."""
    while isinstance(constraints, partial):
        constraints = constraints.func
    name = getattr(constraints, "__qualname__", type(constraints).__qualname__)
    if "<" in name:
        raise InvalidInput(f"constraints {name} cannot be pickled: define the function at the top level of a module")
    held = getattr(constraints, "__dict__", {})
    if any(type(value).__module__.startswith("cvxpy.") for value in held.values()):
        raise InvalidInput(
            f"constraints {name} cannot be pickled: CVXPY numbers its objects anew in each process; make those that it "
            "holds within its call, or at the top level of a module"
        )
