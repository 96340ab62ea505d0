"""Constraints and costs of a user's own, in the words of CVXPY, as one parametrised program of an MPC problem.

The program is compiled once for each thread and solver. Free response, linear term and goal are its parameters, beside
those of the user. OSQP solves it if it is a quadratic program, Clarabel otherwise and wherever OSQP fails.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldplan.arrays import Floats
from worldplan.errors import InvalidInput, SolverFailed
from worldplan.planning.conic import CLARABEL_SETTINGS, COMPILING, OSQP_SETTINGS, UNKNOWN_CONES, StandardForm

Constraints = Callable[..., Any]
"""Maps CVXPY expressions of states (N + 1, d), actions (N, m) and, if it needs a third argument, the goal (d,), to a
list of CVXPY constraints, or to that list and a convex cost."""

# `BoxQP.active_set` knows limits of actions only: here OSQP polishes. See `OSQP_SETTINGS` of mpc.py for the others.
SETTINGS: dict[str, dict[str, Any]] = {
    # `BoxQP.active_set` knows no constraints on states, so OSQP polishes. Where slacks or norms are not unique it needs
    # thousands of iterations, in which Clarabel is done twice.
    "OSQP": {**OSQP_SETTINGS, "polishing": True, "max_iter": 500},
    # Its gaps are absolute where the cost is small. It goes as far as it comes, and the certificate decides.
    "CLARABEL": {**CLARABEL_SETTINGS, "tol_gap_abs": 1e-18, "tol_gap_rel": 1e-18, "accept_unknown": True},
}
FAR = 10.0  # see `Judgement.gap`
TAKES_PART = 1e-3  # of the largest multiplier: constraints with less have no part in a conflict


@dataclass(frozen=True, eq=False)
class Found:
    """What a solver gave for one state and goal.

    Attributes:
        form: the standard form that was solved.
        y: (k,) primal point.
        z: (r,) multipliers.
        actions: columns of the actions, (N m,), row by row.
        states: columns of the states, ((N + 1) d,), row by row.
        free: ((N + 1) d,) states without actions.
        q: (N m,) linear term of the actions.
        offset: what the cost is above that of the form.
        variables: values of the user's variables by name.
    """

    form: StandardForm
    y: Floats
    z: Floats
    actions: NDArray[np.intp]
    states: NDArray[np.intp]
    free: Floats
    q: Floats
    offset: float
    variables: dict[str, Floats]


class Judgement(NamedTuple):
    """What actions cost beside the problem's own cost, and how far they are from the best ones.

    Attributes:
        extra: the user's cost.
        gap: bound on the whole cost minus the least cost within the constraints. Variables of the user that carry no
            curvature count as far as `FAR (1 + |value|)` from their values.
        action_error: bound on the Euclidean distance to every feasible plan that costs no more.
        violation: the most by which a constraint is broken, in its own units.
        residual: largest residual of the KKT conditions.
    """

    extra: float
    gap: float
    action_error: float
    violation: float
    residual: float


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
        limits = [np.tile(limit, N) for limit in (low, high)]
        below, above = (np.flatnonzero(np.isfinite(limit)) for limit in limits)
        self._limits = {}
        if below.size:
            self._limits["the lowest actions"] = self._u[below] >= limits[0][below]
        if above.size:
            self._limits["the highest actions"] = self._u[above] <= limits[1][above]
        # States are variables. Else a parameter of the user times a state would be a product of parameters: not DPP.
        moves = cp.vec(self._x, order="C") == self._free + G @ self._u
        actions = cp.reshape(self._u, (N, m), order="C")
        self._given, cost = _told(constraints, self._x, actions, self._goal)
        self._has_cost = cost is not None
        objective = cp.quad_form(self._u, cp.psd_wrap(H)) + 2 * (self._q @ self._u)
        objective = cp.Minimize(objective + cost / scale if self._has_cost else objective)
        every = [moves, *self._limits.values(), *self._given]
        # One for each solver: CVXPY keeps one compiled form of a problem, and OSQP's workspace with it.
        self._programs = {by: cp.Problem(objective, every) for by in SETTINGS}
        program, ours = self._programs["OSQP"], {p.id for p in (self._q, self._free, self._goal, self._u, self._x)}
        if program.is_mixed_integer():
            raise InvalidInput("a variable of the constraints is boolean or integer: planning here is convex")
        self._parameters = [p for p in program.parameters() if p.id not in ours]
        self._variables = {v.id: v.name() for v in program.variables() if v.id not in ours}
        self.solvers = ("OSQP", "CLARABEL") if program.is_qp() else ("CLARABEL",)
        self._compiled: set[str] = set()
        self._restart = False  # after a failure, do not start from OSQP's iterates
        if all(p.value is not None for p in self._parameters):
            self._data(self.solvers[0])

    def _data(self, by: str) -> tuple[dict[str, Any], Any, Any]:
        """CVXPY's data, chain and inverse data for a solver."""
        ask = partial(self._programs[by].get_problem_data, by, solver_opts=dict(SETTINGS[by]))
        if by in self._compiled:
            return ask()  # type: ignore[no-any-return]
        with COMPILING:
            data, chain, inverse = ask()
        unknown = [name for name in UNKNOWN_CONES if getattr(data["dims"], name, None)]
        if unknown:
            raise InvalidInput(
                f"the constraints need cones of the kind {', '.join(unknown)}, which have no certificate here; use "
                "affine functions, norms and squares"
            )
        self._compiled.add(by)
        return data, chain, inverse

    def solve(self, by: str, q: Floats, free: Floats, goal: Floats, warm_start: bool) -> Found:
        """Solve for a linear term (N m,), a free response ((N + 1) d,) and a goal state (d,).

        Raises:
            InvalidInput: a parameter of the user has no value, or data are not finite.
            SolverFailed: the solver did not solve it; the status says whether it is infeasible or unbounded.
        """
        import cvxpy as cp

        missing = [p.name() for p in self._parameters if p.value is None]
        if missing:
            raise InvalidInput(f"parameters of the constraints have no value: {', '.join(missing)}; set `.value`")
        self._q.value, self._free.value, self._goal.value = q, free, goal
        warm_start, self._restart = warm_start and not self._restart, True
        try:
            # `Problem.solve` in its parts, see `_solve_program` of mpc.py.
            data, chain, inverse = self._data(by)
            form = StandardForm.of(data)
            if not form.finite:
                raise InvalidInput("constraints are not finite: a parameter, state or goal is too large, or NaN")
            raw = chain.solve_via_data(self._programs[by], data, warm_start, False, dict(SETTINGS[by]))
            solution = chain.invert(raw, inverse)
        except cp.SolverError as error:
            raise SolverFailed(f"{by} failed: {error}", None, "solver_error") from error
        y, z = (np.array(v, dtype=np.float64) for v in (raw.x, raw.y if by == "OSQP" else raw.z))
        status = str(solution.status)
        if status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE) or not (np.isfinite(y).all() and np.isfinite(z).all()):
            raise SolverFailed(self._reason(by, status, solution.dual_vars), None, status)
        self._restart = by != "OSQP"
        column, (steps, d) = data["param_prob"].var_id_to_col, self._x.shape
        return Found(
            form=form,
            y=y,
            z=z,
            actions=column[self._u.id] + np.arange(len(q)),
            states=column[self._x.id] + np.arange(len(free)).reshape(steps, d, order="F").ravel(),
            free=free,
            q=q,
            offset=float(inverse[-1]["offset"]),
            variables={name: np.array(solution.primal_vars[id]) for id, name in self._variables.items()},
        )

    def judge(self, found: Found, actions: Floats, states: Floats, slope: Floats) -> Judgement:
        """What actions (N m,) within the limits, and their states (N + 1, d), lose by the found multipliers.

        `slope` (N m,) bounds the rounding of the gradient of the problem's own cost.
        """
        form, y = found.form, found.y.copy()
        y[found.actions], y[found.states] = actions, states.ravel()
        kkt = form.kkt(y, found.z)
        # Feasible states are free + G u: their part of the gradient is one of the actions, up to rounding of ours.
        away = np.abs(found.free + self.G @ actions - y[found.states])
        gradient = kkt.gradient[found.actions] + self.G.T @ kkt.gradient[found.states]
        rounding = kkt.rounding[found.actions] + np.abs(self.G).T @ kkt.rounding[found.states] + slope / self.scale
        rest, others = np.abs(kkt.gradient) + kkt.rounding, np.ones(len(y), dtype=bool)
        others[found.actions] = others[found.states] = False
        reach = np.minimum(kkt.reach, FAR * np.abs(y).max())
        constant = kkt.products + rest[found.states] @ away + rest[others] @ reach[others]
        steep, curve = float(np.linalg.norm(np.abs(gradient) + rounding)), 2 * self.convexity
        own = actions @ self.H @ actions + 2 * found.q @ actions
        return Judgement(
            extra=self.scale * float(form.value(y) + found.offset - own) if self._has_cost else 0.0,
            gap=self.scale * float(constant + steep**2 / (2 * curve)),
            action_error=float(steep + np.sqrt(steep**2 + 2 * curve * constant)) / curve,
            violation=kkt.violation,
            residual=max(float(np.abs(gradient).max()), float(rest[others].max(initial=0.0)), kkt.largest),
        )

    def _reason(self, by: str, status: str, forces: dict[int, Any]) -> str:
        """Why there is no plan, and what to do."""
        if status.startswith("unbounded"):
            return "the cost has no least value: bound the variables of your constraints, or weigh them in the cost"
        if not status.startswith("infeasible"):
            return f"{by} did not solve the problem (status {status}); rescale the constraints and their cost"
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
