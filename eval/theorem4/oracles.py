"""Is a planner's answer a minimum? Held against the problem itself, by other code than the planner's.

Two spaces that agree prove nothing if the planner errs alike in both. So each answer is also put into the conditions of
optimality, written out here from the matrices of the problem. What a planner says of itself is not used: neither its
copy of the weights, nor its certificate, nor its roll-out.

- LQR: the value obeys Bellman's equation with the gain, and the gain minimises its right side. Both together hold for
  the optimum alone, among gains that stabilise (policy iteration stops there; Hewer 1971, IEEE TAC 16(4)).
- MPC: the plan obeys the Karush-Kuhn-Tucker conditions of the limits. The cost is strictly convex, so no other does.
- Sampling planners: on a problem of few actions, all active sets are tried, and the cheapest feasible point wins.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.linalg import solve_discrete_are

from worldplan.arrays import Floats
from worldplan.eval.theorem4.problems import LatentProblem, relative
from worldplan.planning.lqr import LQRSolution
from worldplan.planning.mpc import Plan

FEW_ACTIONS = 3  # of which all active sets are tried


def goal_state(problem: LatentProblem) -> Floats:
    """The goal (d,) at rest."""
    return np.concatenate([problem.goal, np.zeros(len(problem.start) - len(problem.goal))])


def lqr_fault(problem: LatentProblem, solution: LQRSolution, horizon: int | None) -> float:
    """The largest relative violation by an LQR solution of what the optimum obeys; infinite if parts are missing."""
    A, B, W, R = problem.dynamics.A, problem.dynamics.B, problem.cost.W, problem.cost.R
    error = problem.start - goal_state(problem)
    if horizon is None:
        pairs = [(solution.gain, solution.value_matrix, solution.value_matrix)]
        unstable = float(np.abs(np.linalg.eigvals(A - B @ solution.gain)).max()) >= 1
        faults = [np.inf if unstable else 0.0]
    else:
        gains, values = solution.gains, solution.value_matrices
        if gains is None or values is None or len(gains) != horizon or len(values) != horizon + 1:
            return float("inf")
        pairs = list(zip(gains, values[1:], values[:-1], strict=True))
        first = (relative(solution.gain - gains[0], gains[0]), relative(solution.value_matrix - values[0], values[0]))
        faults = [relative(values[-1] - W, W), *first]
    K, after, before = (np.stack(parts) for parts in zip(*pairs, strict=True))
    turned, loop, pull = K.swapaxes(1, 2), A - B @ K, B.T @ after
    value = W + turned @ R @ K + loop.swapaxes(1, 2) @ after @ loop
    faults += map(relative, value - before, before)
    faults += map(relative, (R + pull @ B) @ K - pull @ A, pull @ A)
    for t, gain in enumerate(K):
        faults.append(relative(solution.action(problem.start, problem.goal, t) + gain @ error, gain @ error))
    P = before[0]
    faults.append(relative(solution.value(problem.start, problem.goal) - error @ P @ error, error @ P @ error))
    return max(faults)


def mpc_fault(problem: LatentProblem, plan: Plan, horizon: int, limit: float) -> float:
    """The same for a plan with torques limited to `limit` and the infinite horizon's value at the end.

    The residual of the Karush-Kuhn-Tucker conditions is over the limit, that of the plan's cost relative.
    """
    if plan.actions.shape != (horizon, problem.dynamics.action_dim):
        return float("inf")
    matrices = (problem.dynamics.A, problem.dynamics.B, problem.cost.W, problem.cost.R)
    P_f = np.asarray(solve_discrete_are(*matrices), dtype=np.float64)
    cost, gradient, curvature = _cost_and_gradient(problem, plan.actions, P_f)
    step = np.clip(plan.actions - gradient / curvature, -limit, limit)
    return max(
        float(np.abs(step - plan.actions).max() / limit),
        relative(np.asarray(plan.cost - cost), np.asarray(cost)),
    )


def _cost_and_gradient(problem: LatentProblem, actions: Floats, P_f: Floats) -> tuple[float, Floats, float]:
    """Cost of actions (N, m), its gradient by the adjoint equation, and a bound on the largest curvature."""
    A, B, c = problem.dynamics.A, problem.dynamics.B, problem.dynamics.intercept
    W, R, goal = problem.cost.W, problem.cost.R, goal_state(problem)
    states = [problem.start]
    for u in actions:
        states.append(A @ states[-1] + B @ u + c)
    errors = np.array(states) - goal
    cost = errors[-1] @ P_f @ errors[-1] + sum(e @ W @ e + u @ R @ u for e, u in zip(errors, actions, strict=False))
    pull, gradient = 2 * P_f @ errors[-1], np.empty_like(actions)
    for t in reversed(range(len(actions))):
        gradient[t] = 2 * R @ actions[t] + B.T @ pull
        pull = 2 * W @ errors[t] + A.T @ pull
    reach, curvature = B, np.linalg.norm(R, 2)
    for t in range(len(actions)):  # of the last action, of the one before it, and so on
        curvature += np.linalg.norm(P_f if t == len(actions) - 1 else W, 2) * np.linalg.norm(reach, 2) ** 2
        reach = A @ reach
    return float(cost), gradient, 2 * len(actions) * float(curvature)


def small_case_loss(problem: LatentProblem, plan: Plan, horizon: int, limit: float) -> float:
    """What a plan of few actions costs more than the best one, relative; all active sets are tried.

    The weight at the end is that of a stage.
    """
    m = problem.dynamics.action_dim
    if plan.actions.shape != (horizon, m) or np.abs(plan.actions).max() > limit:
        return float("inf")
    size, W = horizon * m, problem.cost.W
    zero, slope, _ = _cost_and_gradient(problem, np.zeros((horizon, m)), W)
    columns = [_cost_and_gradient(problem, unit.reshape(horizon, m), W)[1] - slope for unit in np.eye(size)]
    H, g = np.array([column.ravel() for column in columns]) / 2, slope.ravel()
    least = float("inf")
    for sides in product((-1, 0, 1), repeat=size):
        u, free = limit * np.array(sides, dtype=np.float64), np.array(sides) == 0
        if free.any():
            u[free] = np.linalg.solve(H[np.ix_(free, free)], -(g / 2 + H @ u)[free])
        if np.abs(u).max() <= limit * (1 + 1e-12):
            least = min(least, float(zero + g @ u + u @ H @ u))
    cost = _cost_and_gradient(problem, plan.actions, W)[0]
    return max(cost / least - 1, relative(np.asarray(plan.cost - cost), np.asarray(cost)))
