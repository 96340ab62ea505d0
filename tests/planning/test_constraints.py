"""MPC within a user's constraints: against solvers that know nothing of ours, by rolling out, and by what must fail."""

import copy
import dataclasses
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import clarabel
import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.linalg import block_diag
from scipy.sparse import csc_matrix, triu

from worldplan.errors import InvalidInput, SolverFailed
from worldplan.planning import constraints as room
from worldplan.planning.conic import StandardForm
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.mpc import MPCProblem, build_mpc, solve_mpc
from worldplan.planning.rotation import random_rotation
from worldplan.planning.shooting import solve_cem, solve_mppi

from turned import rotate_dynamics, rotate_state

checked = settings(derandomize=True, deadline=None, max_examples=15)
seeds = st.integers(0, 2**32 - 1)
COST = QuadraticCost.goal_reaching(2)
START, GOAL = np.array([0.4, -0.4, 0.0, 0.0]), np.array([-0.3, 0.3])
LIMIT = 0.03
ADJUSTABLE = cp.Parameter(nonneg=True, name="limit", value=LIMIT)


def joints(push=()):
    eye, zero = np.eye(2), np.zeros((2, 2))
    return LinearDynamics(np.block([[eye, 0.87 * eye], [zero, 0.87 * eye]]), 0.02 * np.vstack([eye, eye]), push)


def idle(x, u):
    return [x <= 1e3, cp.norm(u, axis=1) <= 1e3]


def slow(x, u):
    return [x[1:, 2:] <= LIMIT, x[1:, 2:] >= -LIMIT]


def slow_disc(x, u):
    return [cp.norm(x[1:, 2:], axis=1) <= LIMIT]


def below(x, u):
    return [x[1:, 0] + x[1:, 1] <= 0.02]


def adjustable(x, u):
    return [cp.abs(x[1:, 2:]) <= ADJUSTABLE]


def soft(x, u):
    over = cp.Variable(x.shape[0], nonneg=True, name="over")
    return [cp.abs(x[:, 2:]) <= LIMIT + over[:, None]], 1e3 * cp.sum(over)


def smooth(x, u, goal):
    over = cp.Variable(x.shape[0], name="over")
    return [x[:, 2] <= LIMIT + over], 1e3 * cp.sum_squares(over) + cp.norm1(u) + cp.sum_squares(x[-1] - goal)


EVERY = [idle, slow, slow_disc, below, adjustable, soft, smooth]


def problem_of(constraints, **options):
    return MPCProblem(joints(), COST, constraints=constraints, **options)


# --- against solvers that know nothing of ours ----------------------------------------------------------------------


def drawn(seed, soft):
    """A random problem with half-spaces and discs for every step, of which a plan is known to keep all."""
    rng = np.random.default_rng(seed)
    d, m, N, rows = int(rng.integers(2, 5)), int(rng.integers(1, 3)), int(rng.integers(2, 9)), int(rng.integers(1, 4))
    A = rng.standard_normal((d, d))
    dynamics = LinearDynamics(
        A * rng.uniform(0.5, 1.1) / np.abs(np.linalg.eigvals(A)).max(),
        rng.standard_normal((d, m)),
        rng.standard_normal(d),
    )
    W, R, P = (rng.standard_normal((k, k)) for k in (d, m, d))
    cost = QuadraticCost(W @ W.T, R @ R.T + 0.05 * np.eye(m), latent_dim=d)
    start, goal, known = rng.standard_normal(d), rng.standard_normal(d), rng.uniform(-1, 1, (N, m))
    states = [start]
    for u in known:
        states.append(dynamics.step(states[-1], u))
    F, M = rng.standard_normal((rows, d)), rng.standard_normal((2, d))
    sides = np.array(states)[1:] @ F.T + rng.uniform(0, 0.1, (N, rows))
    radii = np.linalg.norm(np.array(states)[1:] @ M.T, axis=1) + rng.uniform(0, 0.1, N)
    if soft:
        sides, radii = sides - 0.5, radii * 0.7
    weights = rng.uniform(0.5, 20, 2)

    def constraints(x, u):
        if not soft:
            return [x[1:] @ F.T <= sides, cp.norm(x[1:] @ M.T, axis=1) <= radii]
        over = cp.Variable((N, 2), nonneg=True, name="over")
        kept = [x[1:] @ F.T <= sides + over[:, :1], cp.norm(x[1:] @ M.T, axis=1) <= radii + over[:, 1]]
        return kept, weights[0] * cp.sum(over) + weights[1] * cp.sum_squares(over)

    problem = MPCProblem(dynamics, cost, N, terminal=P @ P.T, constraints=constraints)
    return problem, start, goal, known, (F, sides, M, radii, weights)


def oracle(problem, start, goal, parts, soft):
    """The same problem for Clarabel, written by hand: states stay variables, nothing is condensed, no CVXPY."""
    F, sides, M, radii, weights = parts
    dynamics, cost, N = problem.dynamics, problem.cost, problem.horizon
    d, m = dynamics.B.shape
    size = (N + 1) * d + N * m + 2 * N  # x, u, over
    xs = [np.arange(d) + t * d for t in range(N + 1)]
    us = [np.arange(m) + (N + 1) * d + t * m for t in range(N)]
    overs = [np.arange(2) + (N + 1) * d + N * m + 2 * t for t in range(N)]
    stages = [cost.W] * N + [problem.terminal]
    curve = 2 * block_diag(*stages, *[cost.R] * N, (weights[1] if soft else 1.0) * np.eye(2 * N))
    slope = np.zeros(size)
    for x, W in zip(xs, stages, strict=True):
        slope[x] = -2 * W @ goal
    slope[np.concatenate(overs)] = weights[0] if soft else 0.0
    equal, least, cones = [], [], []

    def row(pairs, bound, into):
        A = np.zeros((len(bound), size))
        for columns, block in pairs:
            A[:, columns] += block
        into.append((A, bound))

    row([(xs[0], np.eye(d))], start, equal)
    for t in range(N):
        row([(xs[t + 1], np.eye(d)), (xs[t], -dynamics.A), (us[t], -dynamics.B)], dynamics.intercept, equal)
        row([(us[t], np.eye(m))], np.ones(m), least)
        row([(us[t], -np.eye(m))], np.ones(m), least)
        row([(overs[t], -np.eye(2))], np.zeros(2), least)
        if not soft:
            row([(overs[t], np.eye(2))], np.zeros(2), least)
        row([(xs[t + 1], F), (overs[t][:1], -np.ones((len(F), 1)))], sides[t], least)
        disc = [(overs[t][1:], np.array([[-1.0], [0], [0]])), (xs[t + 1], np.vstack([np.zeros(d), -M]))]
        row(disc, np.array([radii[t], 0, 0]), cones)
    A = np.vstack([A for A, _ in (*equal, *least, *cones)])
    b = np.concatenate([b for _, b in (*equal, *least, *cones)])
    kinds = [clarabel.ZeroConeT((N + 1) * d), clarabel.NonnegativeConeT(sum(len(b) for _, b in least))]
    kinds += [clarabel.SecondOrderConeT(3)] * N
    options = clarabel.DefaultSettings()
    options.verbose, options.tol_gap_abs, options.tol_gap_rel, options.tol_feas = False, 1e-11, 1e-11, 1e-11
    found = clarabel.DefaultSolver(triu(curve, format="csc"), slope, csc_matrix(A), b, kinds, options).solve()
    y = np.array(found.x)
    constant = sum(goal @ W @ goal for W in stages)
    return y[np.concatenate(us)].reshape(N, m), found.obj_val + constant


@pytest.mark.parametrize("soft", [False, True])
@checked
@given(seed=seeds)
def test_plans_agree_with_a_problem_written_by_hand(soft, seed):
    problem, start, goal, _, parts = drawn(seed, soft)
    plan = solve_mpc(problem, start, goal)
    actions, cost = oracle(problem, start, goal, parts, soft)
    assert plan.certified and plan.status == "optimal"
    assert plan.cost == pytest.approx(cost, rel=1e-6)
    np.testing.assert_allclose(plan.actions, actions, atol=1e-3)
    F, sides, M, radii, weights = parts
    over = plan.variables["over"] if soft else np.zeros((problem.horizon, 2))
    assert (plan.states[1:] @ F.T <= sides + over[:, :1] + 1e-6).all()
    assert (np.linalg.norm(plan.states[1:] @ M.T, axis=1) <= radii + over[:, 1] + 1e-6).all()
    assert (np.abs(plan.actions) <= 1).all()
    np.testing.assert_array_equal(plan.states[0], start)
    for x, u, after in zip(plan.states, plan.actions, plan.states[1:], strict=False):
        np.testing.assert_allclose(problem.dynamics.step(x, u), after)
    measured = problem.solver.roll_out(start, goal, plan.actions)[1]
    if soft:
        measured += weights[0] * over.sum() + weights[1] * np.sum(over**2)
    assert plan.cost == pytest.approx(measured, rel=1e-9)


def test_the_random_constraints_matter():
    """Negative control: without them, most plans break them."""
    apart = 0
    for seed in range(10):
        problem, start, goal, _, _ = drawn(seed, False)
        free = solve_mpc(dataclasses.replace(problem, constraints=None), start, goal)
        apart += np.abs(free.actions - solve_mpc(problem, start, goal).actions).max() > 1e-2
    assert apart >= 6


@checked
@given(seed=seeds)
def test_constraints_that_hold_anyway_change_nothing(seed):
    problem, start, goal, _, _ = drawn(seed, False)
    free = dataclasses.replace(problem, constraints=None)
    plan = solve_mpc(free, start, goal)
    same = solve_mpc(dataclasses.replace(free, constraints=lambda x, u: [x <= 1e4]), start, goal)
    np.testing.assert_allclose(same.actions, plan.actions, atol=1e-6)
    assert same.cost == pytest.approx(plan.cost, rel=1e-9) and same.violation <= 1e-9
    empty = solve_mpc(dataclasses.replace(free, constraints=lambda x, u: []), start, goal)
    np.testing.assert_allclose(empty.actions, plan.actions, atol=1e-6)


# --- the certificate ------------------------------------------------------------------------------------------------


def solved(problem, start, goal, by=None):
    """Solver, and what it found."""
    solver = problem.solver
    q = solver.linear_term(start, goal) / solver.qp.scale
    free = solver.roll_out(start, goal, np.zeros((problem.horizon, problem.dynamics.action_dim)))[0].ravel()
    by = by or solver.constrained.solvers[-1]
    return solver, solver.constrained.solve(by, q, free, problem.cost.goal_state(goal), False)


def followed(form, u):
    """The variables beside the actions that keep what the actions allow: of norms, the least bounds."""
    rest = cp.Variable(len(form.c) - len(u))
    A = form.A.toarray()
    room = form.b - A[:, : len(u)] @ u - A[:, len(u) :] @ rest
    ends = np.cumsum([form.zeros + form.halflines, *form.cones])
    kept = [room[: form.zeros] == 0, room[form.zeros : ends[0]] >= 0]
    kept += [cp.norm(room[a + 1 : b]) <= room[a] for a, b in pairwise(ends)]
    cp.Problem(cp.Minimize(cp.sum_squares(rest)), kept).solve(solver=cp.CLARABEL)
    return rest.value


@checked
@given(seed=seeds)
def test_no_feasible_plan_is_cheaper_than_the_gap_says(seed):
    problem, start, goal, known, _ = drawn(seed, False)
    solver, found = solved(problem, start, goal)
    best = solver.judge_constrained(start, goal, found, 1e-6)
    assert best.certified
    for share in (1.0, 0.1, 1e-3, 1e-5):  # between two feasible plans all are
        y = found.y.copy()
        u = y[: known.size]
        u += share * (known.ravel() - u)
        y[known.size :] = followed(found.form, u)
        other = solver.judge_constrained(start, goal, dataclasses.replace(found, y=y), 1e-6)
        assert other.violation <= 1e-6
        assert other.cost >= best.cost - best.gap - 1e-9 * abs(best.cost)
        assert other.gap >= other.cost - best.cost - 1e-9 * abs(best.cost)
        assert other.action_error >= np.linalg.norm(other.actions - best.actions) - 1e-5


def active(constraints):
    """A problem whose multipliers matter, and what the last solver found."""
    problem = problem_of(constraints)
    solver, found = solved(problem, START, GOAL)
    assert solver.judge_constrained(START, GOAL, found, 1e-6).certified
    return solver, found


@pytest.mark.parametrize("constraints", [slow, slow_disc, below, soft, smooth])
def test_a_perturbed_primal_or_dual_fails(constraints):
    solver, found = active(constraints)
    rng = np.random.default_rng(0)
    for size in (1e-2, 1.0):
        off = {
            "moved": dataclasses.replace(found, y=found.y + size * rng.standard_normal(len(found.y))),
            "without multipliers": dataclasses.replace(found, z=0 * found.z),
            "turned round": dataclasses.replace(found, z=-found.z),
            "stronger": dataclasses.replace(found, z=(1 + size) * found.z),
            "other multipliers": dataclasses.replace(found, z=found.z + size * np.abs(found.z).max() * rng.random()),
        }
        for name, other in off.items():
            plan = solver.judge_constrained(START, GOAL, other, 1e-6)
            assert not plan.certified, name
            assert plan.residual > 1e-5, name
    still = dataclasses.replace(found, y=0 * found.y)  # doing nothing, with the right multipliers
    assert not solver.judge_constrained(START, GOAL, still, 1e-6).certified


def test_a_price_of_a_slack_that_nothing_answers_fails():
    """The slack is 0 and the actions are right, but no multiplier shows that another slack is dearer."""
    solver, found = active(soft)
    A = found.form.A.toarray()
    alone = ((A != 0).sum(axis=1) == 1) & (A[:, 40:] != 0).any(axis=1) & (found.z > 1)
    assert alone.sum() == 21  # over >= 0
    z = np.where(alone, 0, found.z)
    plan = solver.judge_constrained(START, GOAL, dataclasses.replace(found, z=z), 1e-6)
    assert plan.violation < 1e-9 and plan.gap > 1 and not plan.certified


def test_a_plan_that_breaks_a_constraint_is_not_certified_however_cheap():
    solver, found = active(slow)
    free = solve_mpc(MPCProblem(joints(), COST), START, GOAL)
    y = found.y.copy()
    y[: free.actions.size] = free.actions.ravel()
    plan = solver.judge_constrained(START, GOAL, dataclasses.replace(found, y=y), 1e-6)
    most = np.abs(free.states[1:, 2:]).max() - LIMIT
    assert plan.violation == pytest.approx(most, abs=1e-9) and most > 0.01 and not plan.certified
    assert not dataclasses.replace(plan, gap=0.0, action_error=0.0).certified


def test_a_solver_that_lies_is_found_out(monkeypatch):
    problem = problem_of(slow)
    solve_mpc(problem, START, GOAL)
    honest = room.ConstrainedProgram.solve

    def lie(self, *arguments):
        found = honest(self, *arguments)
        return dataclasses.replace(found, y=0.99 * found.y)

    monkeypatch.setattr(room.ConstrainedProgram, "solve", lie)
    with pytest.raises(SolverFailed, match="not certified") as caught:
        solve_mpc(problem, START, GOAL)
    assert caught.value.problem is problem


def test_the_kkt_conditions_of_a_program_by_hand():
    """Minimise (y_0 - 2)^2 + y_1 over y_0 + y_1 = 1, y_1 >= 0: y = (1, 0), multipliers 2 and 3."""
    P, A = csc_matrix(np.diag([2.0, 0.0])), csc_matrix([[1.0, 1.0], [0.0, -1.0]])
    form = StandardForm(P, np.array([-4.0, 1.0]), A, np.array([1.0, 0.0]), 1, 1)
    right = form.kkt(np.array([1.0, 0.0]), np.array([2.0, 3.0]))
    assert right.violation == 0 and right.products < 1e-13 and np.abs(right.gradient).max() == 0
    assert right.reach.tolist() == [np.inf, 0.0]  # y_1's own limit takes up its gradient
    assert form.value(np.array([1.0, 0.0])) + 4 == 1
    assert np.isinf(
        form.kkt(np.array([1.0, 0.0]), np.array([2.0, 0.5])).reach
    ).all()  # its multiplier is too small for 2.5
    off = form.kkt(np.array([1.5, -0.25]), np.array([2.0, -3.0]))
    assert off.violation == 0.25 and off.products == pytest.approx(0.5)
    np.testing.assert_allclose(off.gradient, [1.0, 3.0])  # the wrong sign counts as 0


@pytest.mark.parametrize("seed", range(5))
def test_multipliers_are_moved_to_the_nearest_of_the_dual_cone(seed):
    rng = np.random.default_rng(seed)
    form = StandardForm(csc_matrix((1, 1)), np.zeros(1), csc_matrix(np.zeros((6, 1))), np.zeros(6), 1, 2, (3,))
    z, t = 2 * rng.standard_normal(6), cp.Variable(6)
    cp.Problem(cp.Minimize(cp.sum_squares(t - z)), [t[1:3] >= 0, cp.norm(t[4:]) <= t[3]]).solve(solver=cp.CLARABEL)
    np.testing.assert_allclose(form._dual(z), t.value, atol=1e-4)


# --- what constraints are for ---------------------------------------------------------------------------------------


def loop(problem, x, goal, steps=50):
    states, plans = [np.array(x)], []
    for _ in range(steps):
        plans.append(solve_mpc(problem, states[-1], goal))
        states.append(problem.dynamics.step(states[-1], plans[-1].actions[0]))
    return np.array(states), plans


@pytest.mark.parametrize("constraints", [slow, slow_disc])
def test_a_velocity_limit_holds_in_the_plan_and_in_the_loop(constraints):
    def speed(states):
        return np.abs(states[1:, 2:]).max() if constraints is slow else np.linalg.norm(states[1:, 2:], axis=1).max()

    states, plans = loop(problem_of(constraints), START, GOAL)
    assert speed(states) == pytest.approx(LIMIT, rel=1e-5)  # met, and kept
    assert max(speed(plan.states) for plan in plans) <= LIMIT + 1e-6
    assert all(plan.certified for plan in plans)
    assert np.abs(states[-1] - [*GOAL, 0, 0]).max() < 0.01
    assert speed(loop(MPCProblem(joints(), COST), START, GOAL)[0]) > 2 * LIMIT  # negative control


def test_a_half_space_is_not_entered():
    goal = np.array([0.3, 0.3])
    states, plans = loop(problem_of(below), [-0.3, -0.3, 0, 0], goal)
    assert states[:, :2].sum(axis=1).max() == pytest.approx(0.02, abs=1e-6)
    assert max(plan.states[1:, :2].sum(axis=1).max() for plan in plans) <= 0.02 + 1e-6
    assert loop(MPCProblem(joints(), COST), [-0.3, -0.3, 0, 0], goal)[0][-1, :2].sum() > 0.5  # negative control


def test_a_slack_softens_a_start_that_no_plan_can_mend():
    fast = np.array([0.4, -0.4, 0.1, 0.0])
    with pytest.raises(SolverFailed) as caught:
        solve_mpc(problem_of(lambda x, u: [cp.abs(x[:, 2:]) <= LIMIT, u[0, 1] >= -0.5]), fast, GOAL)
    assert caught.value.status == "infeasible" and caught.value.problem.horizon == 20
    told = str(caught.value)
    assert "constraint" in told and "0, `abs(x[0:21, 2:4]) <= 0.03`" in told and "slack" in told and "x[0]" in told
    assert "u[0, 1]" not in told and "[0, 1]" not in told  # which has no part in the conflict
    plan = solve_mpc(problem_of(soft), fast, GOAL)
    over = plan.variables["over"]
    assert plan.certified and over[0] == pytest.approx(0.07, abs=1e-6)
    np.testing.assert_allclose(over, np.maximum(np.abs(plan.states[:, 2:]).max(axis=1) - LIMIT, 0), atol=1e-6)
    assert over[-1] < 1e-9 and (np.diff(over) < 1e-9).all()
    inside = solve_mpc(problem_of(soft), START, GOAL)  # where it is not needed, the price is exact
    np.testing.assert_allclose(inside.actions, solve_mpc(problem_of(slow), START, GOAL).actions, atol=1e-6)
    assert np.abs(inside.variables["over"]).max() < 1e-9


def test_a_cost_without_a_least_value_is_told():
    with pytest.raises(SolverFailed, match="no least value") as caught:
        solve_mpc(problem_of(lambda x, u: ([], cp.Variable())), START, GOAL)
    assert caught.value.status == "unbounded"


def test_a_cost_is_added_and_may_be_negative():
    plain = solve_mpc(MPCProblem(joints(), COST), START, GOAL)
    for weight in (-5.0, 3.0):
        plan = solve_mpc(problem_of(lambda x, u, weight=weight: ([], weight * cp.sum(x[1:, 0]) + 1)), START, GOAL)
        bare = problem_of(None).solver.roll_out(START, GOAL, plan.actions)[1]
        assert plan.cost == pytest.approx(bare + weight * plan.states[1:, 0].sum() + 1, rel=1e-9)
        assert plan.certified and bare > plain.cost
        assert (plan.states[-1, 0] - plain.states[-1, 0]) * weight < 0
    quiet = solve_mpc(problem_of(lambda x, u: ([], 5.0)), START, GOAL)
    assert quiet.cost == pytest.approx(plain.cost + 5.0) and quiet.variables == {}


@pytest.mark.parametrize("seed", range(3))
def test_plans_are_the_same_in_rotated_latents_if_constraints_turn_along(seed):
    Q = random_rotation(2, seed)
    dynamics = joints([0, 0, 1e-3, -2e-3])
    normal = np.array([0.6, 0.8])

    def within(n):
        return lambda x, u: [x[1:, :2] @ n <= 0.05, cp.norm(x[1:, 2:], axis=1) <= LIMIT]

    start, goal = np.array([-0.4, -0.1, 0, 0]), np.array([0.5, 0.2])
    plain = solve_mpc(MPCProblem(dynamics, COST, constraints=within(normal)), start, goal)
    free = solve_mpc(MPCProblem(dynamics, COST), start, goal)
    assert 0.05 - 1e-6 < (plain.states[1:, :2] @ normal).max() < 0.06 < (free.states[1:, :2] @ normal).max()
    turned = rotate_dynamics(dynamics, Q), COST
    ends = rotate_state(start, Q), rotate_state(goal, Q)
    plan = solve_mpc(MPCProblem(*turned, constraints=within(Q @ normal)), *ends)
    np.testing.assert_allclose(plan.actions, plain.actions, atol=1e-5)
    assert plan.cost == pytest.approx(plain.cost, rel=1e-6)
    np.testing.assert_allclose(plan.states, rotate_state(plain.states, Q), atol=1e-6)
    try:  # negative control: the half-space is left behind
        left = solve_mpc(MPCProblem(*turned, constraints=within(normal)), *ends)
        assert np.abs(left.actions - plain.actions).max() > 1e-3
    except SolverFailed as error:  # the start may lie outside
        assert error.status == "infeasible"


# --- parameters, threads, copies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("constraints", EVERY)
def test_it_is_compiled_once_and_solved_many_times(constraints):
    solver = problem_of(constraints).solver
    program = solver.constrained
    assert program.solvers == (("CLARABEL",) if constraints in (idle, slow_disc) else ("OSQP", "CLARABEL"))
    assert program._program.is_dcp(dpp=True)
    chain = program._program.get_problem_data("CLARABEL", solver_opts={})[1]
    for k in range(3):
        assert solve_mpc(solver, START * (1 + k / 10), GOAL).certified
    assert solver.constrained is program
    assert program._program.get_problem_data("CLARABEL", solver_opts={})[1] is chain


def answers(monkeypatch):
    """The solvers that are asked from now on."""
    asked, honest = [], room.ConstrainedProgram.solve

    def watched(self, by, *arguments):
        asked.append(by)
        return honest(self, by, *arguments)

    monkeypatch.setattr(room.ConstrainedProgram, "solve", watched)
    return asked


def test_parameters_are_set_between_solves(monkeypatch):
    problem, normal = problem_of(adjustable), cp.Parameter(2, value=[1.0, 0.0], name="normal")
    tilted = problem_of(lambda x, u: [x[1:, :2] @ normal <= 0.5])
    try:
        for limit in (LIMIT, 0.05, 0.01):
            ADJUSTABLE.value = limit
            fixed = problem_of(lambda x, u, limit=limit: [cp.abs(x[1:, 2:]) <= limit])
            plan = solve_mpc(problem, START, GOAL)
            np.testing.assert_allclose(plan.actions, solve_mpc(fixed, START, GOAL).actions, atol=1e-6)
            assert np.abs(plan.states[1:, 2:]).max() == pytest.approx(limit, abs=1e-6)
    finally:
        ADJUSTABLE.value = LIMIT
    for direction in ([1.0, 0.0], [0.0, 1.0]):
        normal.value = direction
        plan = solve_mpc(tilted, [0, 0, 0, 0], 2 * np.array(direction))
        assert (plan.states[1:, :2] @ direction).max() == pytest.approx(0.5, abs=1e-6)
    asked = answers(monkeypatch)  # and OSQP goes on with the new matrix
    for direction in ([0.6, 0.8], [0.8, 0.6]):
        normal.value = direction
        solve_mpc(tilted, [0, 0, 0, 0], 2 * np.array(direction))
    assert asked == ["OSQP", "OSQP"]
    with pytest.raises(InvalidInput, match=r"no value: late.*\.value"):
        late = cp.Parameter(name="late")
        solve_mpc(problem_of(lambda x, u: [x <= late]), START, GOAL)
    late.value = np.inf
    with pytest.raises(InvalidInput, match="too large"):
        solve_mpc(problem_of(lambda x, u: [x <= late]), START, GOAL)


def test_clarabel_stands_behind_osqp(monkeypatch):
    problem = problem_of(slow)
    before, asked = solve_mpc(problem, START, GOAL), answers(monkeypatch)
    solve_mpc(problem, START, GOAL)
    assert asked == ["OSQP"]
    with monkeypatch.context() as patch:
        patch.setitem(room.SETTINGS["OSQP"], "max_iter", 1)
        again = solve_mpc(problem, START * 1.1, GOAL, warm_start=False)
        assert asked[1:] == ["OSQP", "CLARABEL"] and again.certified
        patch.setitem(room.SETTINGS["CLARABEL"], "max_iter", 1)
        with pytest.raises(SolverFailed, match="rescale"):
            solve_mpc(problem, START, GOAL, warm_start=False)
    np.testing.assert_allclose(solve_mpc(problem, START, GOAL).actions, before.actions, atol=1e-6)


def test_threads_may_share_a_problem():
    solver = problem_of(soft).solver
    states = 0.4 * np.random.default_rng(0).standard_normal((12, 4)) * [1, 1, 0.1, 0.1]
    alone = [solve_mpc(solver, x, GOAL, warm_start=False).actions for x in states]
    all_there = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        programs = list(pool.map(lambda _: (all_there.wait(60), id(solver.constrained))[1], range(4)))
        together = list(pool.map(lambda x: solve_mpc(solver, x, GOAL, warm_start=False).actions, states))
    assert len({*programs, id(solver.constrained)}) == 5
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, lambda problem: pickle.loads(pickle.dumps(problem))])
@pytest.mark.parametrize("constraints", [slow, adjustable, partial(slow), soft])
def test_problems_and_solvers_travel(travel, constraints):
    problem = problem_of(constraints, horizon=6)
    plan = solve_mpc(problem, START, GOAL)
    other = travel(problem)
    assert "solver" in vars(problem) and "solver" not in vars(other)
    for built in (other, travel(problem.solver)):
        np.testing.assert_allclose(solve_mpc(built, START, GOAL).actions, plan.actions, atol=1e-9)


class Held:
    """Constraints with a parameter of their own."""

    def __init__(self):
        self.limit = cp.Parameter(value=LIMIT)

    def __call__(self, x, u):
        return [x[1:, 2:] <= self.limit, x[1:, 2:] >= -self.limit]


def test_functions_that_cannot_be_pickled_are_told_and_can_be_copied():
    for constraints in (lambda x, u: slow(x, u), partial(lambda x, u: slow(x, u)), Held()):
        problem = problem_of(constraints)
        plan = solve_mpc(problem, START, GOAL)
        for unable in (problem, problem.solver):
            with pytest.raises(InvalidInput, match="cannot be pickled"):
                pickle.dumps(unable)
            for travel in (copy.copy, copy.deepcopy):
                np.testing.assert_allclose(solve_mpc(travel(unable), START, GOAL).actions, plan.actions, atol=1e-9)
    several = copy.deepcopy([problem, problem.solver, problem.constraints])
    assert {id(c) for c in (several[0].constraints, several[1].problem.constraints, several[2])} == {id(constraints)}
    constraints.limit.value = 10.0  # copies share the function and its parameters
    assert np.abs(solve_mpc(several[1], START, GOAL).states[:, 2:]).max() > 2 * LIMIT


# --- what is refused ------------------------------------------------------------------------------------------------

P, M = cp.Parameter(value=1.0, name="p"), cp.Parameter((2, 2), PSD=True, value=np.eye(2), name="M")


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (3, "must be a function"),
        (lambda x, u: None, "must return a list of CVXPY constraints.*not iterable"),
        (lambda x, u: [True], "constraint 0 is True"),
        (lambda x, u: [x <= 1, x], "constraint 1 is"),
        (lambda x: [x <= 1], r"constraints\(x, u\) with x \(21, 4\) and u \(20, 2\)"),
        (lambda x, u: [-1 <= x <= 1], "chain constraints"),
        (lambda x, u: [x[:, 7] <= 1], "out of bounds"),
        (lambda x, u: [x @ u <= 1], "Incompatible"),
        (lambda x, u: [cp.abs(x) >= 1], "constraint 0, `1.0 <= abs\\(x\\)`, is not convex"),
        (lambda x, u: ([], -cp.sum_squares(x)), "the cost, .* is not convex"),
        (lambda x, u: ([], x), "scalar"),
        (lambda x, u: ([], "cheap"), "scalar cost"),
        (lambda x, u: [x <= 1, P * P * x <= 1], "constraint 1, .* is not DPP"),
        (lambda x, u: ([], cp.quad_form(x[1, :2], M)), "the cost, .* is not DPP: .*parameter of their own"),
        (lambda x, u: [cp.exp(x) <= 3], "cones of the kind exp"),
        (lambda x, u: [cp.lambda_max(cp.reshape(x[1], (2, 2), order="C")) <= 3], "cones of the kind psd|not convex"),
        (lambda x, u: [x[1:, 0] <= cp.Variable(20, integer=True)], "boolean or integer"),
    ],
)
def test_what_are_no_convex_constraints_is_refused(constraints, message):
    with pytest.raises(InvalidInput, match=message):
        build_mpc(problem_of(constraints))


def test_a_goal_is_handed_over_where_it_is_needed():
    """And a default is no goal."""
    handed = []

    def near(x, u, goal):
        handed.append(goal.shape)
        return [cp.abs(x[-1, :2] - goal[:2]) <= 0.02]

    def margin(x, u, margin=0.7):
        return [x[1:, 0] <= margin]

    plan = solve_mpc(problem_of(near, horizon=12), START, GOAL)
    assert handed == [(4,)] and np.abs(plan.states[-1, :2] - GOAL).max() == pytest.approx(0.02, abs=1e-6)
    assert np.abs(solve_mpc(problem_of(None, horizon=12), START, GOAL).states[-1, :2] - GOAL).max() > 0.03
    assert solve_mpc(problem_of(margin), START, [2.0, 0.0]).states[1:, 0].max() == pytest.approx(0.7, abs=1e-6)


def test_sampling_planners_do_not_pass_constraints_over():
    for solve in (solve_cem, solve_mppi):
        with pytest.raises(InvalidInput, match="only solve_mpc"):
            solve(problem_of(slow), START, GOAL)


def test_states_too_large_for_the_solvers_are_refused_and_leave_nothing_behind():
    problem = problem_of(slow)
    before = solve_mpc(problem, START, GOAL)
    for state in ([1e300, 0, 0, 0], [1e30, 0, 0, 0], [np.nan, 0, 0, 0]):
        with pytest.raises(InvalidInput):
            solve_mpc(problem, state, GOAL)
    np.testing.assert_allclose(solve_mpc(problem, START, GOAL).actions, before.actions, atol=1e-9)


def test_limits_may_be_infinite():
    problem = problem_of(slow, action_low=-np.inf, action_high=np.inf)
    plan = solve_mpc(problem, START, GOAL)
    assert plan.certified and np.abs(plan.actions).max() > 1
    half = solve_mpc(problem_of(slow, action_low=[-np.inf, 0], action_high=np.inf), START, GOAL)
    assert half.certified and (half.actions[:, 1] >= 0).all() and (half.actions[:, 0] < 0).any()


def test_values_of_structured_variables_are_arrays():
    def constraints(x, u):
        slack = cp.Variable((2, 2), diag=True, name="slack")
        return [x[1:, 0] <= 0.5 + slack[0, 0], slack[0, 0] >= 0, slack[1, 1] == 1], slack[0, 0]

    dynamics = LinearDynamics(A=[[1, 1], [0, 1]], B=[[0.5], [1]])
    plan = solve_mpc(
        MPCProblem(dynamics, QuadraticCost.goal_reaching(1), horizon=4, constraints=constraints), [0, 0], [1]
    )
    assert plan.certified
    np.testing.assert_allclose(np.diag(plan.variables["slack"])[1], 1.0, atol=1e-6)
