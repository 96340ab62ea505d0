import copy
import dataclasses
import gc
import math
import pickle
import threading
import tracemalloc
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cvxpy as cp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import lsq_linear

import worldplan.planning.mpc
from worldplan.errors import InvalidInput, NotStabilizable, SolverFailed, WorldplanError
from worldplan.planning.boxqp import BoxQP
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.lqr import solve_lqr
from worldplan.planning.mpc import MPCProblem, build_mpc, solve_mpc
from worldplan.planning.rotation import change_basis, random_rotation
from worldplan.planning.shooting import CEMConfig, MPPIConfig, solve_cem, solve_mppi

from turned import rotate_dynamics, rotate_state

checked = settings(derandomize=True, deadline=None, max_examples=20)
seeds = st.integers(0, 2**32 - 1)


def reacher_like(n=2, damping=0.87, intercept=()):
    eye, zero = np.eye(n), np.zeros((n, n))
    A, B = np.block([[eye, damping * eye], [zero, damping * eye]]), 0.02 * np.vstack([eye, eye])
    return LinearDynamics(A, B, intercept)


def random_problem(seed, **options):
    """A random problem, a state, and a goal that need not be at rest; some limits bind."""
    rng = np.random.default_rng(seed)
    d, m, horizon = int(rng.integers(1, 6)), int(rng.integers(1, 4)), int(rng.integers(1, 12))
    A = rng.standard_normal((d, d))
    dynamics = LinearDynamics(
        A * rng.uniform(0.5, 1.1) / np.abs(np.linalg.eigvals(A)).max(),
        rng.standard_normal((d, m)),
        rng.standard_normal(d),
    )
    W, R = rng.standard_normal((d, d)), rng.standard_normal((m, m))
    cost = QuadraticCost(W @ W.T, R @ R.T + 0.05 * np.eye(m), latent_dim=d)
    limits = {"action_low": -rng.uniform(0.1, 2, m), "action_high": rng.uniform(0.1, 2, m)}
    terminal = rng.standard_normal((d, d))
    problem = MPCProblem(dynamics, cost, horizon, **{**limits, "terminal": terminal @ terminal.T, **options})
    return problem, rng.standard_normal(d), rng.standard_normal(d)


def naive_residuals(problem, terminal, state, goal, actions):
    """A vector whose square is the cost, by a loop over the steps."""

    def root(M):
        values, vectors = np.linalg.eigh(M)
        return (vectors * np.sqrt(np.clip(values, 0, None))).T

    dynamics, cost = problem.dynamics, problem.cost
    x, rows = np.array(state, dtype=float), []
    for u in actions:
        rows += [root(cost.W) @ (x - goal), root(cost.R) @ u]
        x = dynamics.A @ x + dynamics.B @ u + dynamics.intercept
    return np.concatenate([*rows, root(terminal) @ (x - goal)])


def naive_solution(problem, terminal, state, goal):
    """The same optimum as a bounded least-squares problem whose columns are found by trying unit actions."""
    shape = (problem.horizon, problem.dynamics.action_dim)
    free = naive_residuals(problem, terminal, state, goal, np.zeros(shape))
    units = np.eye(np.prod(shape)).reshape(-1, *shape)
    columns = np.array([naive_residuals(problem, terminal, state, goal, unit) - free for unit in units]).T
    low, high = (np.tile(limit, problem.horizon) for limit in problem.limits)
    found = lsq_linear(columns, -free, (low, high), method="bvls", tol=1e-14, max_iter=1000)
    return found.x.reshape(shape), 2 * found.cost


@settings(checked, max_examples=40)
@given(seeds)
def test_plans_agree_with_bounded_least_squares(seed):
    problem, state, goal = random_problem(seed)
    plan = solve_mpc(problem, state, goal)
    actions, cost = naive_solution(problem, problem.terminal, state, goal)
    assert plan.cost == pytest.approx(cost, rel=1e-8, abs=1e-10)
    np.testing.assert_allclose(plan.actions, actions, atol=1e-5)
    measured = np.sum(naive_residuals(problem, problem.terminal, state, goal, plan.actions) ** 2)
    assert plan.cost == pytest.approx(measured, rel=1e-9)
    assert plan.status == "optimal" and plan.certified
    low, high = problem.limits
    assert (plan.actions >= low).all() and (plan.actions <= high).all()
    np.testing.assert_array_equal(plan.states[0], state)
    for x, u, after in zip(plan.states, plan.actions, plan.states[1:], strict=False):
        np.testing.assert_allclose(problem.dynamics.A @ x + problem.dynamics.B @ u + problem.dynamics.intercept, after)


@pytest.mark.parametrize("seed", range(4))
def test_plans_agree_with_an_uncondensed_problem_and_another_solver(seed):
    problem, state, goal = random_problem(seed)
    dynamics, cost, N = problem.dynamics, problem.cost, problem.horizon
    x, u = cp.Variable((N + 1, dynamics.state_dim)), cp.Variable((N, dynamics.action_dim))
    low, high = problem.limits
    objective = cp.quad_form(x[N] - goal, cp.psd_wrap(problem.terminal))
    limits = [x[0] == state]
    for t in range(N):
        objective += cp.quad_form(x[t] - goal, cp.psd_wrap(cost.W)) + cp.quad_form(u[t], cp.psd_wrap(cost.R))
        limits += [x[t + 1] == dynamics.A @ x[t] + dynamics.B @ u[t] + dynamics.intercept, low <= u[t], u[t] <= high]
    oracle = cp.Problem(cp.Minimize(objective), limits)
    oracle.solve(solver=cp.CLARABEL)
    plan = solve_mpc(problem, state, goal)
    assert plan.cost == pytest.approx(oracle.value, rel=1e-6)
    np.testing.assert_allclose(plan.actions, u.value, atol=1e-3)


@checked
@given(seeds)
def test_the_condensed_matrices_are_the_cost_of_rolling_out(seed):
    problem, state, goal = random_problem(seed)
    solver, rng = build_mpc(problem), np.random.default_rng(seed)
    assert solver.program.is_dpp() and [p.name() for p in solver.program.parameters()] == ["q"]
    assert solver.program.size_metrics.num_scalar_variables == len(solver.qp.H)  # actions only
    np.testing.assert_array_equal(solver.qp.H, solver.qp.H.T)
    assert 0 < solver.qp.convexity <= solver.qp.scale * (1 + 1e-12)
    q = solver.linear_term(state, goal)
    rest = solver.roll_out(state, goal, np.zeros((problem.horizon, problem.dynamics.action_dim)))[1]
    for _ in range(3):
        u = rng.standard_normal(len(q))
        states, cost = solver.roll_out(state, goal, u.reshape(problem.horizon, -1))
        assert u @ solver.qp.H @ u + 2 * q @ u + rest == pytest.approx(cost, rel=1e-8)
        assert states.shape == (problem.horizon + 1, problem.dynamics.state_dim)


@checked
@given(seeds)
def test_the_gap_bounds_what_any_feasible_actions_lose(seed):
    problem, state, goal = random_problem(seed)
    solver, rng = problem.solver, np.random.default_rng(seed)
    best = solve_mpc(problem, state, goal)
    q = solver.linear_term(state, goal)
    low, high = (np.tile(limit, problem.horizon) for limit in problem.limits)
    assert best.gap <= 1e-9 * (1 + best.cost) and best.residual < 1e-7
    for size in (1e-3, 1e-1, 10.0):
        u = np.clip(best.actions.ravel() + size * rng.standard_normal(len(q)), low, high)
        loss = solver.roll_out(state, goal, u.reshape(best.actions.shape))[1] - best.cost
        gap, residual = solver.qp.certificate(q, low, high, u)
        distance = np.linalg.norm(u - best.actions.ravel())
        assert gap >= loss - 1e-9 * (1 + best.cost)
        assert np.sqrt(gap / solver.qp.convexity) >= distance - 1e-6
        if loss > 1e-5 * best.cost and distance > 1e-3:  # negative control: what is not optimal shows it
            assert residual > 0
            assert not dataclasses.replace(best, gap=gap, action_error=np.sqrt(gap / solver.qp.convexity)).certified


@pytest.mark.parametrize("horizon", [1, 7, 20])
def test_without_active_limits_it_is_the_lqr_whatever_the_horizon(horizon):
    dynamics, cost = reacher_like(), QuadraticCost.goal_reaching(2)
    lqr, x, goal = solve_lqr(dynamics, cost), np.array([1.0, -0.5, 0.1, 0.0]), np.array([0.2, 0.4])
    free = MPCProblem(dynamics, cost, horizon, action_low=-np.inf, action_high=np.inf)
    plan = solve_mpc(free, x, goal)
    assert plan.cost == pytest.approx(lqr.value(x, goal), rel=1e-9)
    for state, action in zip(plan.states, plan.actions, strict=False):
        np.testing.assert_allclose(action, lqr.action(state, goal), atol=1e-8)
    # Negative controls: with the stage weight at the end the horizon matters, and limits that bind cost something.
    assert solve_mpc(dataclasses.replace(free, terminal="stage"), x, goal).cost < 0.9999 * plan.cost
    assert solve_mpc(MPCProblem(dynamics, cost, horizon), x, goal).cost > 1.001 * plan.cost
    # One limit only.
    half = solve_mpc(MPCProblem(dynamics, cost, horizon, action_low=[-np.inf, 0], action_high=np.inf), x, [0.2, -2.0])
    assert (half.actions[:, 1] == 0).all() and (half.actions[:, 0] < -1).any()


def test_tighter_limits_cost_more_and_equal_ones_leave_no_choice():
    dynamics, cost = reacher_like(), QuadraticCost.goal_reaching(2)
    costs = [
        solve_mpc(MPCProblem(dynamics, cost, action_low=-a, action_high=a), [1, -1, 0, 0], [0, 0]).cost
        for a in (0.0, 0.1, 0.5, 1.0, 5.0)
    ]
    assert costs == sorted(costs, reverse=True) and costs[0] > costs[-1]
    fixed = solve_mpc(MPCProblem(dynamics, cost, action_low=0.3, action_high=0.3), [1, -1, 0, 0], [0, 0])
    np.testing.assert_array_equal(fixed.actions, 0.3)


def test_the_intercept_is_honoured():
    push = np.array([0.0, 0.0, 0.005, -0.002])
    dynamics, cost = reacher_like(intercept=push), QuadraticCost.goal_reaching(2)
    goal = np.array([0.3, -0.1])
    plan = solve_mpc(MPCProblem(dynamics, cost), [*goal, 0, 0], goal)
    assert plan.actions[0, 0] < -0.01 and plan.actions[0, 1] > 0.01  # pushes back at once, before any error is there
    still = solve_mpc(MPCProblem(reacher_like(), cost), [*goal, 0, 0], goal)
    np.testing.assert_allclose(still.actions, 0, atol=1e-9)
    assert plan.cost < solve_mpc(MPCProblem(dynamics, cost, action_low=0, action_high=0), [*goal, 0, 0], goal).cost


def closed_loop(problem, x, goal, steps, **options):
    actions = []
    for _ in range(steps):
        plan = solve_mpc(problem, x, goal, **options)
        actions.append(plan.actions[0])
        x = problem.dynamics.step(x, plan.actions[0])
    return np.array(actions), x


@pytest.mark.parametrize("seed", range(3))
def test_theorem_4_torques_are_the_same_in_rotated_latents(seed):
    Q = random_rotation(2, seed)
    dynamics, cost = reacher_like(intercept=[0, 0, 1e-3, -2e-3]), QuadraticCost.goal_reaching(2, velocity_weight=0.1)
    x, goal = np.array([1.5, -0.5, 0.1, 0.2]), np.array([-0.3, 0.8])
    plain, end = closed_loop(MPCProblem(dynamics, cost), x, goal, 60)
    turned, turned_end = closed_loop(
        MPCProblem(rotate_dynamics(dynamics, Q), cost), rotate_state(x, Q), rotate_state(goal, Q), 60
    )
    assert (np.abs(plain) == 1).any() and (np.abs(plain) < 1).any()  # the limits bind, but not always
    np.testing.assert_allclose(turned, plain, atol=1e-9)
    np.testing.assert_allclose(turned_end, rotate_state(end, Q), atol=1e-9)


def theorem_4_error(M, cost, turn_goal=True, terminal="lqr"):
    """How far planned torques in the latents `M h` are from those in h."""
    dynamics, L = reacher_like(), np.kron(np.eye(2), M)
    x, goal = np.array([0.6, -0.5, 0.0, 0.02]), np.array([0.4, -0.3])
    plain = solve_mpc(MPCProblem(dynamics, cost, terminal=terminal), x, goal)
    other = MPCProblem(change_basis(dynamics, L), cost, terminal=terminal)
    return np.abs(solve_mpc(other, L @ x, M @ goal if turn_goal else goal).actions - plain.actions).max()


def test_theorem_4_fails_where_it_must():
    cost, Q = QuadraticCost.goal_reaching(2), random_rotation(2, 1)
    assert theorem_4_error(Q, cost) < 1e-9
    assert theorem_4_error(Q, cost, turn_goal=False) > 0.1
    assert theorem_4_error(np.array([[1, 0.1], [0, 1]]) @ Q, cost) > 1e-3
    assert theorem_4_error(1.1 * Q, cost) > 1e-3
    anisotropic = QuadraticCost(np.diag([1.5, 1, 0, 0]), cost.R, latent_dim=2)
    assert not anisotropic.invariant and theorem_4_error(Q, anisotropic) > 1e-3
    # A terminal matrix that is copied over, not computed in each space: fine if invariant, wrong if not.
    assert theorem_4_error(Q, cost, terminal=np.kron([[20.0, 5.0], [5.0, 9.0]], np.eye(2))) < 1e-9
    assert theorem_4_error(Q, cost, terminal=np.diag([50.0, 1, 0, 0])) > 1e-3


def test_warm_and_cold_starts_give_the_same_plans_in_any_order():
    problem = MPCProblem(reacher_like(), QuadraticCost.goal_reaching(2))
    cases = [
        (np.random.default_rng(i).standard_normal(4), np.random.default_rng(-~i).standard_normal(2)) for i in range(12)
    ]
    warm = [solve_mpc(problem, *case).actions for case in cases]
    cold = [solve_mpc(problem, *case, warm_start=False).actions for case in cases]
    back = [solve_mpc(problem, *case).actions for case in reversed(cases)][::-1]
    fresh = [solve_mpc(dataclasses.replace(problem), *case).actions for case in cases]
    for other in (cold, back, fresh):
        np.testing.assert_allclose(other, warm, atol=1e-9)


def test_a_problem_is_built_once_and_its_neighbours_have_their_own():
    wide = MPCProblem(reacher_like(), QuadraticCost.goal_reaching(2))
    tight = dataclasses.replace(wide, action_low=-0.5, action_high=0.5)
    built = set()
    for _ in range(3):
        assert np.abs(solve_mpc(wide, [1, -1, 0, 0], [0, 0]).actions).max() == 1
        assert np.abs(solve_mpc(tight, [1, -1, 0, 0], [0, 0]).actions).max() == 0.5
        built |= {vars(wide)["solver"], vars(tight)["solver"]}
    assert len(built) == 2
    given_built = solve_mpc(wide.solver, [1, -1, 0, 0], [0, 0])
    np.testing.assert_allclose(given_built.actions, solve_mpc(wide, [1, -1, 0, 0], [0, 0]).actions, atol=1e-12)
    vars(wide)["solver"] = tight.solver  # what was built is what is solved: with another's, the other's plan comes out
    assert np.abs(solve_mpc(wide, [1, -1, 0, 0], [0, 0]).actions).max() == 0.5


def test_a_dropped_problem_is_freed_with_its_solver():
    problem = MPCProblem(reacher_like(), QuadraticCost.goal_reaching(2), horizon=3)
    solve_mpc(problem, [1, 0, 0, 0], [0, 0])
    watch = weakref.ref(problem)
    del problem
    gc.collect()
    assert watch() is None


@pytest.mark.parametrize("travel", [copy.deepcopy, lambda problem: pickle.loads(pickle.dumps(problem))])
def test_problems_travel_without_their_solver(travel):
    problem = MPCProblem(reacher_like(), QuadraticCost.goal_reaching(2), horizon=5)
    plan = solve_mpc(problem, [1, -1, 0, 0], [0, 0])
    other = travel(problem)
    assert "solver" in vars(problem) and "solver" not in vars(other)
    np.testing.assert_allclose(solve_mpc(other, [1, -1, 0, 0], [0, 0]).actions, plan.actions, atol=1e-12)


def test_the_settings_do_not_hang_on_the_machine():
    settings = worldplan.planning.mpc.OSQP_SETTINGS
    assert settings["adaptive_rho"] == 1 and settings["adaptive_rho_interval"] > 0  # counted in iterations, not in time
    assert {"eps_abs", "eps_rel", "max_iter", "polishing"} <= settings.keys() and "time_limit" not in settings


def test_osqp_giving_up_is_an_error_that_leaves_nothing_behind(monkeypatch):
    problem = MPCProblem(reacher_like(), QuadraticCost.goal_reaching(2))
    before = solve_mpc(problem, [1, -1, 0, 0], [0, 0])
    with monkeypatch.context() as patch:
        patch.setitem(worldplan.planning.mpc.OSQP_SETTINGS, "max_iter", 1)
        patch.setitem(worldplan.planning.mpc.CLARABEL_SETTINGS, "max_iter", 1)
        patch.setattr(worldplan.planning.mpc, "_follow", worldplan.planning.mpc._active_set)
        patch.setattr(BoxQP, "active_set", lambda self, q, low, high, u: u)
        with pytest.raises(SolverFailed) as caught:
            solve_mpc(problem, [-1, 1, 0.5, 0], [3, 0], warm_start=False)
        assert caught.value.problem is problem and caught.value.status == "user_limit"
    after = solve_mpc(problem, [1, -1, 0, 0], [0, 0])
    np.testing.assert_allclose(after.actions, before.actions, atol=1e-9)


def test_threads_may_share_a_solver(only_osqp):
    """With one workspace for all, iterates mix, and OSQP's memory is corrupted."""
    solver = MPCProblem(reacher_like(), QuadraticCost.goal_reaching(2), 30, -0.05, 0.05).solver
    states = np.random.default_rng(0).standard_normal((24, 4)) * [2, 2, 0.3, 0.3]
    alone = [solve_mpc(solver, x, [0, 0], warm_start=False).actions for x in states]
    all_there = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        programs = list(pool.map(lambda _: (all_there.wait(60), id(solver.program))[1], range(8)))
        together = list(pool.map(lambda x: solve_mpc(solver, x, [0, 0], warm_start=False).actions, states))
    assert len({*programs, id(solver.program)}) == 9
    np.testing.assert_array_equal(together, alone)


def test_copies_of_a_solver_share_no_workspace():
    solver = MPCProblem(reacher_like(), QuadraticCost.goal_reaching(2)).solver
    plan = solve_mpc(solver, [1, -1, 0, 0], [0, 0])
    for other in (copy.deepcopy(solver), copy.copy(solver), pickle.loads(pickle.dumps(solver))):
        assert other._workspace is not solver._workspace and other.program is not solver.program
        np.testing.assert_array_equal(solve_mpc(other, [1, -1, 0, 0], [0, 0]).actions, plan.actions)


def test_iterates_that_were_poisoned_are_not_started_from():
    solver = MPCProblem(reacher_like(), QuadraticCost.goal_reaching(2)).solver
    q = solver.linear_term([1, -1, 0, 0], [0, 0])
    before, _ = worldplan.planning.mpc._solve_program(solver, q, True)
    with pytest.raises(SolverFailed):
        worldplan.planning.mpc._solve_program(solver, q * 1e30, True)
    np.testing.assert_array_equal(worldplan.planning.mpc._solve_program(solver, q, True)[0], before)


class Asked:
    """A program that counts how often it is solved."""

    def __init__(self, program):
        self.program, self.times = program, 0

    def __getattr__(self, name):
        return getattr(self.program, name)

    def get_problem_data(self, *args, **options):
        self.times += 1
        return self.program.get_problem_data(*args, **options)


@pytest.fixture
def only_osqp(monkeypatch):
    """What needs no QP solver does not answer: every plan needs OSQP."""

    def idle(solver, q, low, high, ends, warm):
        return np.clip(0 * q, low, high), "idle"

    for name in ("_active_set", "_follow"):
        monkeypatch.setattr(worldplan.planning.mpc, name, idle)


def test_the_active_set_alone_gives_most_plans_and_the_program_gives_the_others(request):
    """Both ways end at the same plan; the closed loop of a Reacher does not wait for OSQP."""
    solver = MPCProblem(reacher_like(), QuadraticCost.goal_reaching(2)).solver
    asked = solver._workspace.program = Asked(solver.program)
    states = np.random.default_rng(0).standard_normal((20, 4))
    quick = [solve_mpc(solver, x, [0, 0]).actions for x in states]
    assert asked.times <= 2
    asked.times = 0
    request.getfixturevalue("only_osqp")
    for x, actions in zip(states, quick, strict=True):
        np.testing.assert_allclose(solve_mpc(solver, x, [0, 0]).actions, actions, atol=1e-8)
    assert asked.times == 20


@checked
@given(seeds)
def test_the_program_alone_is_the_problem(seed):
    """Without polishing, which would hide limits that are missing from the program."""
    problem, state, goal = random_problem(seed)
    solver = problem.solver
    u, status = worldplan.planning.mpc._solve_program(solver, solver.linear_term(state, goal), True)
    plan = solve_mpc(problem, state, goal)
    assert (
        status == "optimal" and np.linalg.norm(u - plan.actions.ravel()) < 1e-4 * solver.qp.scale / solver.qp.convexity
    )
    low, high = (np.tile(limit, problem.horizon) for limit in problem.limits)
    assert (u > low - 1e-4).all() and (u < high + 1e-4).all()


class Idle(BoxQP):
    """An active set method that leaves everything as it is."""

    def active_set(self, q, low, high, u):
        return u


class Claims:
    """A program that calls one answer optimal, whatever was asked."""

    status = "optimal"

    def __init__(self, answer):
        self.param_dict, self.var_dict = {"q": SimpleNamespace()}, {"u": SimpleNamespace(id=0)}
        self.solution = SimpleNamespace(status="optimal", primal_vars={0: answer})

    def get_problem_data(self, solver, solver_opts=None):
        return {}, self, []

    def solve_via_data(self, *args):
        pass

    def invert(self, found, inverse):
        return self.solution


def test_a_solver_that_lies_is_found_out(monkeypatch):
    monkeypatch.setattr(worldplan.planning.mpc, "_follow", worldplan.planning.mpc._active_set)
    solver = MPCProblem(reacher_like(), QuadraticCost.goal_reaching(2)).solver
    right = solve_mpc(solver, [1, -1, 0, 0], [0, 0])

    def plan(answer):
        told = dataclasses.replace(solver, qp=Idle(solver.qp.H))
        told._workspace.program = Claims(answer)
        return solve_mpc(told, [1, -1, 0, 0], [0, 0])

    for answer in (np.zeros(40), np.ones(40), -right.actions.ravel(), right.actions.ravel() * 0.99):
        with pytest.raises(SolverFailed, match="no solver's plan is certified"):
            plan(answer)
    # A violation of the limits by rounding is clipped, and rolled out.
    nearly = plan(right.actions.ravel() * (1 + 1e-9))
    assert np.abs(nearly.actions).max() == 1 and nearly.certified
    np.testing.assert_allclose(nearly.states, right.states, atol=1e-6)


def unstable(radius, horizon, seed, limit):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((4, 4))
    dynamics = LinearDynamics(A * radius / np.abs(np.linalg.eigvals(A)).max(), rng.standard_normal((4, 2)))
    return MPCProblem(dynamics, QuadraticCost(np.eye(4), np.eye(2)), horizon, -limit, limit), rng.standard_normal(4)


def exact_least_cost(problem, x):
    """The least cost from x to 0 without limits, by the Riccati recursion in 60 digits of another library."""
    with mpmath.workdps(60):
        matrices = (problem.dynamics.A, problem.dynamics.B, problem.cost.W, problem.cost.R)
        A, B, W, R = (mpmath.matrix(M.tolist()) for M in matrices)
        P, x = mpmath.matrix(problem.solver.terminal_weight.tolist()), mpmath.matrix(x.tolist())
        for _ in range(problem.horizon):
            P = W + A.T * P * (A - B * (R + B.T * P * B) ** -1 * (B.T * P * A))
        return (x.T * P * x)[0]


def exact_cost(problem, x, actions):
    with mpmath.workdps(60):
        matrices = (problem.dynamics.A, problem.dynamics.B, problem.cost.W, problem.cost.R)
        A, B, W, R = (mpmath.matrix(M.tolist()) for M in matrices)
        x, total = mpmath.matrix(x.tolist()), mpmath.mpf(0)
        for action in actions:
            u = mpmath.matrix(action.tolist())
            total += (x.T * W * x)[0] + (u.T * R * u)[0]
            x = A * x + B * u
        return total + (x.T * mpmath.matrix(problem.solver.terminal_weight.tolist()) * x)[0]


@pytest.mark.parametrize("radius, horizon", [(0.9, 20), (1.3, 40), (1.5, 35)])
def test_the_gap_is_true_on_unstable_horizons(radius, horizon):
    """Two of six plans once lost more than their gap: the gradient was rounding."""
    for seed in range(3):
        problem, x = unstable(radius, horizon, seed, 1e9)
        plan = solve_mpc(problem, x, np.zeros(4))
        loss = exact_cost(problem, x, plan.actions) - exact_least_cost(problem, x)
        assert plan.certified and -1e-9 * plan.cost <= loss <= plan.gap + 1e-30
        off = plan.actions + 1e-7 * np.random.default_rng(seed).standard_normal(plan.actions.shape)
        solver = problem.solver
        worse = solver.judge(x, np.zeros(4), solver.linear_term(x, np.zeros(4)), off.ravel(), "off", 1e-6)
        assert exact_cost(problem, x, worse.actions) - exact_least_cost(problem, x) <= worse.gap + 1e-30


@pytest.mark.parametrize("horizon", [10, 40])
def test_unstable_horizons_with_active_limits_are_solved(horizon):
    """CVXPY's issue 580: its solvers called such a problem infeasible."""
    rng = np.random.RandomState(2)  # the data of that issue
    A, B = np.eye(8) + 0.2 * rng.randn(8, 8), rng.randn(8, 2)
    x = 5 * rng.randn(8)
    problem = MPCProblem(LinearDynamics(A, B), QuadraticCost(np.eye(8), np.eye(2)), horizon, terminal="stage")
    plan = solve_mpc(problem, x, np.zeros(8))
    assert plan.certified and (np.abs(plan.actions) == 1).any()
    assert plan.cost == pytest.approx({10: 11871.52254, 40: 63599046.19}[horizon], rel=1e-9)
    with pytest.raises(SolverFailed):  # negative control: a tolerance below what float64 actions can reach
        solve_mpc(problem, x, np.zeros(8), tolerance=1e-40)


@checked
@given(seeds)
def test_newton_steps_and_gradients_in_digits_are_those_of_the_matrices(seed):
    problem, state, goal = random_problem(seed)
    solver, rng = problem.solver, np.random.default_rng(seed)
    u, free = rng.standard_normal(len(solver.qp.H)), rng.random(len(solver.qp.H)) < 0.6
    cost, gradient = solver._value(state, goal, u)
    np.testing.assert_allclose(gradient, 2 * (solver.qp.H @ u + solver.linear_term(state, goal)), rtol=1e-8, atol=1e-7)
    assert cost == pytest.approx(solver.roll_out(state, goal, u.reshape(problem.horizon, -1))[1], rel=1e-12)
    step, saved = solver._newton(gradient, free)
    wanted = -np.linalg.solve(solver.qp.H[np.ix_(free, free)], gradient[free]) / 2
    np.testing.assert_allclose(step[free], wanted, rtol=1e-6, atol=1e-9)
    assert not step[~free].any() and saved == pytest.approx(-gradient[free] @ wanted / 2, rel=1e-6)


def test_a_tolerance_can_be_asked_for():
    problem = MPCProblem(reacher_like(), QuadraticCost.goal_reaching(2))
    plan = solve_mpc(problem, [1, -1, 0, 0], [0, 0], tolerance=1e-9)
    assert plan.certified and plan.tolerance == 1e-9 and plan.gap <= 1e-9 * plan.cost
    for tolerance in (0.0, -1.0, np.nan):
        with pytest.raises(InvalidInput, match="tolerance"):
            solve_mpc(problem, [1, -1, 0, 0], [0, 0], tolerance=tolerance)


def test_at_the_goal_nothing_is_done_and_nothing_warns():
    problem = MPCProblem(reacher_like(), QuadraticCost.goal_reaching(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for distance in (0.0, 1e-12, 1e-6, 1e3, 1e6):
            plan = solve_mpc(problem, [distance, 0, 0, 0], [0, 0])
            assert plan.certified and plan.cost >= 0
            assert (np.abs(plan.actions[:, 1]) < 1e-9).all()
    assert np.abs(solve_mpc(problem, [0, 0, 0, 0], [0, 0]).actions).max() < 1e-9


def test_an_unstable_mode_out_of_reach_needs_another_terminal():
    dynamics, cost = (
        LinearDynamics(np.diag([1.2, 0.5]), [[0.0], [1.0]]),
        QuadraticCost(np.eye(2), [[1.0]], latent_dim=2),
    )
    with pytest.raises(NotStabilizable):
        solve_mpc(MPCProblem(dynamics, cost), [1, 1], [0, 0])
    assert solve_mpc(MPCProblem(dynamics, cost, terminal="stage"), [1, 1], [0, 0]).certified
    explosive = MPCProblem(LinearDynamics([[1e20]], [[1.0]]), QuadraticCost([[1.0]], [[1.0]]), 40, terminal="stage")
    with pytest.raises(SolverFailed, match="horizon"):
        build_mpc(explosive)


@pytest.mark.parametrize(
    "options",
    [
        {"cost": QuadraticCost.goal_reaching(3)},
        {"cost": QuadraticCost.goal_reaching(2, action_dim=3)},
        {"horizon": 0},
        {"horizon": -1},
        {"horizon": 2.0},
        {"horizon": True},
        {"action_low": 1, "action_high": -1},
        {"action_low": [-1, 2]},
        {"action_low": [-1, -1, -1]},
        {"action_low": np.nan},
        {"action_high": [1, np.nan]},
        {"action_low": np.inf, "action_high": np.inf},
        {"action_low": -np.inf, "action_high": -np.inf},
        {"action_low": "low"},
        {"action_high": None},
        {"terminal": "final"},
        {"terminal": None},
        {"terminal": np.eye(2)},
        {"terminal": -np.eye(4)},
        {"terminal": np.full((4, 4), np.nan)},
    ],
)
def test_bad_problems_are_refused(options):
    with pytest.raises(InvalidInput) as caught:
        MPCProblem(**{"dynamics": reacher_like(), "cost": QuadraticCost.goal_reaching(2), **options})
    assert isinstance(caught.value, WorldplanError)


def test_bad_states_and_goals_are_refused_before_they_reach_the_solver():
    problem = MPCProblem(reacher_like(), QuadraticCost.goal_reaching(2))
    before = solve_mpc(problem, [1, -1, 0, 0], [0, 0])
    nan, inf = np.nan, np.inf
    for state, goal in [
        ([1, -1, 0, nan], [0, 0]),
        ([1, -1, 0, inf], [0, 0]),
        ([1, -1, 0, 0], [0, nan]),
        ([1, -1, 0, 0], [0, 0, -inf, 0]),
        ([1e308, -1e308, 1e308, 0], [0, 0]),
        ([1, -1, 0], [0, 0]),
        ([1, -1], [0, 0]),
        ([[1, -1, 0, 0]], [0, 0]),
        (1.0, [0, 0]),
        ([1, -1, 0, 0], [0]),
        ([1, -1, 0, 0], [0, 0, 0]),
        ([1, -1, 0, 0], [[0, 0]]),
        ([1, -1, 0, 0], 0.0),
        ([1, -1, 0, 0], None),
        ("state", [0, 0]),
    ]:
        with pytest.raises(InvalidInput):
            solve_mpc(problem, state, goal)
        np.testing.assert_array_equal(solve_mpc(problem, [1, -1, 0, 0], [0, 0]).actions, before.actions)


def test_problems_cannot_be_changed_under_their_solver():
    low = np.array([-1.0, -1.0])
    problem = MPCProblem(reacher_like(), QuadraticCost.goal_reaching(2), action_low=low, terminal=np.eye(4))
    low[:] = 0
    np.testing.assert_array_equal(problem.action_low, -1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.horizon = 3
    for array in (problem.action_low, problem.action_high, problem.terminal):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


HOSTILE_TOLERANCES = (0, -1, math.nan, math.inf, "x", None, True, [1e-6], np.array([1e-6, 1.0]))


@pytest.mark.parametrize("solve", [solve_mpc, solve_cem, solve_mppi])
def test_what_is_no_problem_or_no_tolerance_is_refused(solve):
    problem = MPCProblem(LinearDynamics([[1.0]], [[1.0]]), QuadraticCost([[1.0]], [[1.0]]), horizon=3)
    for wrong in (None, problem.dynamics, "x"):
        with pytest.raises(InvalidInput, match="MPCProblem"):
            solve(wrong, [0.0], [1.0])
    for tolerance in HOSTILE_TOLERANCES:
        with pytest.raises(InvalidInput, match="tolerance"):
            solve(problem, [0.0], [1.0], tolerance=tolerance)
    assert solve(problem, [0.0], [1.0], tolerance=np.float32(0.5))
    with pytest.raises(InvalidInput, match="LinearDynamics"):
        MPCProblem(problem.cost, problem.dynamics)


def test_a_horizon_that_no_memory_holds_is_refused_before_it_is_taken():
    dynamics, cost = LinearDynamics([[1.0]], [[1.0]]), QuadraticCost([[1.0]], [[1.0]])
    tracemalloc.start()
    for horizon in (10_000, 10**6, 10**12):
        with pytest.raises(InvalidInput, match="GiB"):
            build_mpc(MPCProblem(dynamics, cost, horizon=horizon))
    with pytest.raises(InvalidInput, match="GiB"):
        solve_lqr(dynamics, cost, horizon=10**12)
    small = MPCProblem(dynamics, cost, horizon=3)
    for config, solve in ((CEMConfig(samples=10**12), solve_cem), (MPPIConfig(samples=10**9), solve_mppi)):
        with pytest.raises(InvalidInput, match="GiB"):
            solve(small, [0.0], [1.0], config=config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_one_planner_takes_no_others_options():
    small = MPCProblem(LinearDynamics([[1.0]], [[1.0]]), QuadraticCost([[1.0]], [[1.0]]), horizon=3)
    for solve, config in ((solve_cem, MPPIConfig()), (solve_mppi, CEMConfig()), (solve_cem, "x")):
        with pytest.raises(InvalidInput, match="config is a"):
            solve(small, [0.0], [1.0], config=config)
