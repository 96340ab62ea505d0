"""One problem in two latent spaces: plan in each from scratch, and measure how much the plans differ.

Only what an encoder carries is carried from one space to the other (see `seen_through`). Each space solves its own
equations, terminal weights included. The gap "optimality" holds each answer against the conditions of optimality (see
`worldplan.eval.theorem4.oracles`): a planner that is wrong in the same way in both spaces does not pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_discrete_lyapunov

from worldplan.arrays import Floats
from worldplan.eval.theorem4.oracles import FEW_ACTIONS, lqr_fault, mpc_fault, small_case_loss
from worldplan.eval.theorem4.problems import LatentProblem, Matrices, relative
from worldplan.planning.lqr import LQRSolution, solve_lqr
from worldplan.planning.mpc import MPCProblem, MPCSolver, Plan, build_mpc, solve_mpc
from worldplan.planning.shooting import CEMConfig, MPPIConfig, solve_cem, solve_mppi

Policy = Callable[[Floats, int], Floats]

MPC_HORIZON, MPC_STEPS = 10, 4
CLOSE = 1e-3  # relative: what sampling planners may lose on a problem of few actions
LIMIT = 0.7  # torque limit over the largest action that is wanted at the start

TOLERANCE = 1e-9  # relative gap up to which two spaces agree
ROUNDINGS = 1e3  # allowed for ill-conditioned problems: this many machine epsilons times the condition number


@dataclass(frozen=True, eq=False)
class Gaps:
    """Relative differences between two spaces.

    `value` is the gap of the cost from the start, `action` of the first action, `plan` of all actions; `more` has
    others by name. `condition` computes the condition number of the problem; it is called only where it matters.
    """

    value: float
    action: float
    plan: float
    more: dict[str, float]
    condition: Callable[[], float]

    @property
    def all(self) -> dict[str, float]:
        """All gaps by name."""
        return {"value": self.value, "action": self.action, "plan": self.plan, **self.more}

    @property
    def worst(self) -> tuple[str, float]:
        """Name and value of the largest gap."""
        name = max(self.all, key=lambda key: self.all[key])
        return name, self.all[name]

    def tolerance(self, tolerance: float = TOLERANCE) -> float:
        """The largest gap allowed: `tolerance`, or more if rounding in an ill-conditioned problem explains more."""
        if self.worst[1] <= tolerance:
            return tolerance
        return max(tolerance, ROUNDINGS * float(np.finfo(np.float64).eps) * self.condition())


def lqr_gaps(
    world: LatentProblem,
    seen: LatentProblem,
    horizon: int | None = None,
    solve: Callable[..., LQRSolution] = solve_lqr,
) -> Gaps:
    """Gaps of LQR with an infinite or finite horizon, and of its closed loop under common noise."""
    ours, theirs = (_answer(p, horizon, solve) for p in (world, seen))
    steps = horizon or len(world.noise)
    policies = [lambda x, t: ours.action(x, world.goal, t), lambda x, t: theirs.action(x, seen.goal, t)]
    plans, states = _loops((world, seen), policies, steps)
    values = [float(s.value(p.start, p.goal)) for s, p in ((ours, world), (theirs, seen))]
    lift = seen.basis @ np.linalg.inv(world.basis)
    more = {
        "gain": relative(theirs.gain @ lift - ours.gain, ours.gain),
        "value matrix": relative(lift.T @ theirs.value_matrix @ lift - ours.value_matrix, ours.value_matrix),
        "trajectory": relative(states[1] - states[0], states[0]),
        "optimality": max(lqr_fault(p, s, horizon) for p, s in ((world, ours), (seen, theirs))),
    }
    value, action = relative(values[1] - values[0], values[0]), relative(plans[1][0] - plans[0][0], plans[0][0])
    return Gaps(value, action, relative(plans[1] - plans[0], plans[0]), more, lambda: _condition(ours))


@lru_cache(maxsize=256)
def _solved(matrices: Matrices, horizon: int | None, solve: Callable[..., LQRSolution]) -> LQRSolution:
    return solve(matrices.dynamics, matrices.cost, horizon)


def _answer(
    problem: LatentProblem, horizon: int | None = None, solve: Callable[..., LQRSolution] = solve_lqr
) -> LQRSolution:
    return _solved(Matrices.of(problem.dynamics, problem.cost), horizon, solve)


def mpc_solver(problem: LatentProblem, horizon: int, limit: float) -> MPCSolver:
    """MPC for a problem, with torques up to `limit`."""
    return _built(Matrices.of(problem.dynamics, problem.cost, problem.dynamics.intercept.tobytes()), horizon, limit)


@lru_cache(maxsize=256)
def _built(matrices: Matrices, horizon: int, limit: float) -> MPCSolver:
    return build_mpc(MPCProblem(matrices.dynamics, matrices.cost, horizon, -limit, limit))


class RolledOut(NamedTuple):
    """A plan without a certificate; the fields are those of `Plan`."""

    actions: Floats
    states: Floats
    cost: float


def plan_gaps(world: LatentProblem, seen: LatentProblem, ours: Plan | RolledOut, theirs: Plan | RolledOut) -> Gaps:
    """Gaps of the plans of both spaces, and of the states that they foresee."""
    return Gaps(
        value=relative(theirs.cost - ours.cost, ours.cost),
        action=relative(theirs.actions[0] - ours.actions[0], ours.actions[0]),
        plan=relative(theirs.actions - ours.actions, ours.actions),
        more={"planned states": relative(pulled_back(world, seen, theirs.states) - ours.states, ours.states)},
        condition=lambda: 1.0,
    )


def mpc_gaps(world: LatentProblem, seen: LatentProblem, solve: Callable[..., Plan] = solve_mpc) -> Gaps:
    """Gaps of MPC with torque limits active at the start, and of some closed-loop steps under common noise."""
    return planner_gaps(world, seen, lambda solver, x, goal, **_: solve(solver, x, goal), exact=True)


def planner_gaps(
    world: LatentProblem, seen: LatentProblem, solve: Callable[..., Plan], seed: int = 0, exact: bool = False
) -> Gaps:
    """Gaps of a planner with the same random numbers in both spaces, and of some closed-loop steps.

    The common torque limit is a part of what the LQR wants at the start. Plans that are `exact` must be minima. Others
    must come close to the minimum on a problem of few actions; "optimality" is what they lose beyond `CLOSE`.
    """
    wanted = _answer(world).action(world.start, world.goal)
    limit = LIMIT * float(np.abs(wanted).max())
    both = world, seen
    solvers = [mpc_solver(p, MPC_HORIZON, limit) for p in both]
    ours, theirs = (solve(s, p.start, p.goal, rng=seed) for s, p in zip(solvers, both, strict=True))
    states = _loops(both, [_replanning(s, p.goal, solve) for s, p in zip(solvers, both, strict=True)], MPC_STEPS)[1]
    gaps = plan_gaps(world, seen, ours, theirs)
    more = {"trajectory": relative(states[1] - states[0], states[0]), **gaps.more}
    if exact:
        answers = ((world, ours), (seen, theirs))
        more["optimality"] = max(mpc_fault(p, plan, MPC_HORIZON, limit) for p, plan in answers)
    else:
        steps = max(1, FEW_ACTIONS // world.dynamics.action_dim)
        few = MPCProblem(world.dynamics, world.cost, steps, -limit, limit, terminal="stage")
        loss = small_case_loss(world, solve(few, world.start, world.goal, rng=seed), steps, limit)
        more["optimality"] = max(0.0, loss - CLOSE)
    return replace(gaps, more=more, condition=lambda: solvers[0].qp.scale / solvers[0].qp.convexity)


cem_gaps = partial(planner_gaps, solve=partial(solve_cem, config=CEMConfig(samples=64, iterations=10)))
mppi_gaps = partial(planner_gaps, solve=partial(solve_mppi, config=MPPIConfig(samples=64, iterations=10)))


def _replanning(solver: MPCSolver, goal: Floats, solve: Callable[..., Plan]) -> Policy:
    """A policy that plans anew in every step, from the previous plan, with the step's number as seed."""
    plans: list[Plan] = []

    def act(x: Floats, t: int) -> Floats:
        plans.append(solve(solver, x, goal, rng=t, guess=plans[-1].shifted if plans else None))
        action: Floats = plans[-1].actions[0]
        return action

    return act


def pulled_back(world: LatentProblem, seen: LatentProblem, states: Floats) -> Floats:
    """States of the second space in the coordinates of the first."""
    return seen.to_world(states) @ world.basis.T + world.shift


def _loops(
    problems: tuple[LatentProblem, LatentProblem], policies: list[Policy], steps: int
) -> tuple[list[Floats], list[Floats]]:
    """Actions (T, m) and states (T + 1, d) of both closed loops; states are in the coordinates of the first."""
    plans, paths = [], []
    for problem, policy in zip(problems, policies, strict=True):
        x, actions, states = problem.start, [], [problem.start]
        for t in range(steps):
            actions.append(policy(x, t))
            x = problem.step(x, actions[-1], t)
            states.append(x)
        plans.append(np.array(actions))
        paths.append(pulled_back(problems[0], problem, np.array(states)))
    return plans, paths


def _condition(solution: LQRSolution) -> float:
    """Condition of the Riccati solution: relative change of P over that of A, B and W (Sun 1998, up to a constant).

    A change D of the right-hand side moves P by `sum_t A_t' D A_t`, with A_t the closed loop over t steps. The norm of
    this map is that of S, the same sum for `D = I`. The data move the right-hand side by at most `|W| + 2 |A|^2 |P|`,
    relative.
    """
    A, B, W = solution.dynamics.A, solution.dynamics.B, solution.cost.W
    if solution.gains is None:
        S = solve_discrete_lyapunov((A - B @ solution.gain).T, np.eye(len(A)))
    else:
        S = np.eye(len(A))
        for K in solution.gains[::-1]:
            S = np.eye(len(A)) + (A - B @ K).T @ S @ (A - B @ K)
    size = np.linalg.norm(solution.value_matrix, 2)
    data = np.linalg.norm(W, 2) + 2 * np.linalg.norm(A, 2) ** 2 * size
    return float(np.linalg.norm(S, 2) * data / size)
