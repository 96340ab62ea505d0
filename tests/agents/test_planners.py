"""The contract of every planner, alone on a problem and as an agent: one suite over `PLANNERS`."""

import json

import numpy as np
import pytest
import torch
from arms import ReadAngles, observe
from hypothesis import given, settings, strategies as st

from worldplan.agents.latent_controller import LatentController
from worldplan.agents.planners import PLANNERS
from worldplan.agents.planning_agent import PlanningAgent, load_agent
from worldplan.errors import InvalidInput, PlannerFellBack, SolverFailed, UnknownName
from worldplan.learning.encoder import PixelEncoder, load_encoder
from worldplan.learning.network import ConvEncoder
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.lqr import solve_lqr
from worldplan.planning.mpc import MPCProblem, Plan, solve_mpc
from worldplan.planning.rotation import change_basis, random_rotation
from worldplan.planning.shooting import CEMConfig, MPPIConfig, solve_cem, solve_mppi

from turned import rotate_dynamics, rotate_goal, rotate_state

checked = settings(derandomize=True, deadline=None, max_examples=8)
seeds = st.integers(0, 2**32 - 1)
COST = QuadraticCost.goal_reaching(2, velocity_weight=0.1)
DYNAMICS = LinearDynamics(np.kron([[1.0, 1.0], [0.0, 0.9]], np.eye(2)), np.kron([[0.0], [0.1]], np.eye(2)))
START, GOAL = np.array([0.8, -0.5, 0.1, 0.0]), np.array([-0.2, 0.3])


def clipped_lqr(problem, state, goal, seed=0):
    """The feedback law, clipped and rolled out on the model."""
    lqr, x, actions = solve_lqr(problem.dynamics, problem.cost), np.array(state), []
    for _ in range(problem.horizon):
        actions.append(lqr.action(x, goal).clip(*problem.limits))
        x = problem.dynamics.step(x, actions[-1])
    q = problem.solver.linear_term(state, goal)
    return problem.solver.judge(state, goal, q, np.concatenate(actions), "clipped", 1e-6)


SOLVE = {
    "lqr": clipped_lqr,
    "mpc": lambda problem, state, goal, seed=0: solve_mpc(problem, state, goal),
    "cem": lambda problem, state, goal, seed=0: solve_cem(problem, state, goal, rng=seed),
    "mppi": lambda problem, state, goal, seed=0: solve_mppi(problem, state, goal, rng=seed),
}
# Cost over the optimum's where no limit binds, first action beside LQR's (over the plan's largest), and cost over the
# optimum's where limits do bind, at the default budget.
ACCURACY = {"lqr": (1e-9, 1e-8, 0.05), "mpc": (1e-9, 1e-8, 1e-9), "cem": (0.12, 0.4, 0.03), "mppi": (0.06, 0.4, 0.05)}
SAMPLED = ("cem", "mppi")
ALL = pytest.mark.parametrize("planner", sorted(PLANNERS))


def joints(n=2):
    eye, zero = np.eye(n), np.zeros((n, n))
    return LinearDynamics(np.block([[eye, 0.87 * eye], [zero, 0.87 * eye]]), 0.02 * np.vstack([eye, eye]))


def mixed(seed):
    """A random system of blocks of n with a drift, a state and a goal."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    A = rng.standard_normal((2 * n, 2 * n))
    A *= rng.uniform(0.5, 1.1) / np.abs(np.linalg.eigvals(A)).max()
    dynamics = LinearDynamics(A, rng.standard_normal((2 * n, m)), 0.1 * rng.standard_normal(2 * n))
    cost = QuadraticCost.goal_reaching(n, 0.3, velocity_weight=0.5, action_dim=m)
    return dynamics, cost, rng.standard_normal(2 * n), rng.standard_normal(n)


def test_every_planner_is_in_this_suite():
    assert set(SOLVE) == set(ACCURACY) == set(PLANNERS)


@ALL
@checked
@given(seed=seeds)
def test_shapes_limits_and_no_worse_than_doing_nothing(planner, seed):
    rng = np.random.default_rng(seed)
    low, high = -rng.uniform(0.05, 1, 2), rng.uniform(0.05, 1, 2)
    problem = MPCProblem(joints(), COST, int(rng.integers(1, 15)), low, high)
    state, goal = 10 ** rng.uniform(-3, 1) * rng.standard_normal(4) * [1, 1, 0.1, 0.1], rng.standard_normal(2)
    plan = SOLVE[planner](problem, state, goal, seed % 1000)
    assert isinstance(plan, Plan) and plan.actions.dtype == np.float64
    assert plan.actions.shape == (problem.horizon, 2) and plan.states.shape == (problem.horizon + 1, 4)
    assert (plan.actions >= low).all() and (plan.actions <= high).all()
    np.testing.assert_array_equal(plan.states[0], state)
    np.testing.assert_allclose(problem.dynamics.step(plan.states[:-1], plan.actions), plan.states[1:], atol=1e-12)
    e = plan.states - [*goal, 0, 0]
    measured = COST.stage(e[:-1], plan.actions).sum() + e[-1] @ problem.solver.terminal_weight @ e[-1]
    assert plan.cost == pytest.approx(measured, rel=1e-12)
    assert plan.cost <= problem.solver.roll_out(state, goal, np.zeros_like(plan.actions))[1] * (1 + 1e-9)
    assert plan.cost - plan.gap <= solve_mpc(problem, state, goal).cost * (1 + 1e-9)


@ALL
def test_the_same_seed_gives_the_same_plan_to_the_bit(planner):
    first, second, other = (SOLVE[planner](MPCProblem(joints(), COST), START, GOAL, seed) for seed in (4, 4, 5))
    assert first.actions.tobytes() == second.actions.tobytes() and first.cost == second.cost
    if planner in SAMPLED:
        assert np.abs(other.actions - first.actions).max() > 1e-4
    else:
        np.testing.assert_array_equal(other.actions, first.actions)


@ALL
def test_where_no_limit_binds_it_is_the_lqr(planner):
    rng, lqr = np.random.default_rng(0), solve_lqr(joints(), COST)
    cost, action, _ = ACCURACY[planner]
    for scale in (1e-4, 1e-2, 0.1):
        state = scale * rng.standard_normal(4) * [1, 1, 0.1, 0.1]
        plan = SOLVE[planner](MPCProblem(joints(), COST), state, [0, 0])
        assert plan.cost <= (1 + cost) * lqr.value(state, [0, 0])
        exact = clipped_lqr(MPCProblem(joints(), COST), state, [0, 0]).actions
        assert np.abs(exact).max() < 1
        assert np.abs(plan.actions[0] - lqr.action(state, [0, 0])).max() <= action * np.abs(exact).max()


@ALL
def test_where_limits_bind_it_comes_near_the_optimum(planner):
    rng = np.random.default_rng(1)
    for _ in range(5):
        state = np.concatenate([rng.uniform(0.6, 1.2, 2) * rng.choice([-1, 1], 2), [0, 0]])
        best = solve_mpc(MPCProblem(joints(), COST), state, [0, 0])
        assert np.abs(best.actions).max() == 1
        plan = SOLVE[planner](MPCProblem(joints(), COST), state, [0, 0])
        assert 1 - 1e-9 <= plan.cost / best.cost <= 1 + ACCURACY[planner][2]


@ALL
def test_a_closed_loop_reaches_the_goal(planner):
    problem = MPCProblem(joints(), COST)
    x = y = START
    for _ in range(60):
        x = problem.dynamics.step(x, SOLVE[planner](problem, x, GOAL).actions[0])
    for _ in range(15):
        y = problem.dynamics.step(y, -SOLVE[planner](problem, y, GOAL).actions[0])  # torques the wrong way round
    assert np.abs(x - [*GOAL, 0, 0]).max() < 0.01 < 0.5 < np.abs(y - [*GOAL, 0, 0]).max()


# --- Theorem 4, with common random numbers --------------------------------------------------------------------------


@ALL
@checked
@given(seed=seeds)
def test_plans_are_the_same_in_rotated_latents(planner, seed):
    dynamics, cost, state, goal = mixed(seed)
    Q = random_rotation(len(goal), seed)
    try:
        plain = SOLVE[planner](MPCProblem(dynamics, cost, 8), state, goal, 7)
    except SolverFailed as error:  # a random system may have no stabilising optimum
        assert error.status == "unseen mode"
        return
    turned = MPCProblem(rotate_dynamics(dynamics, Q), cost, 8)
    plan = SOLVE[planner](turned, rotate_state(state, Q), rotate_goal(goal, Q), 7)
    np.testing.assert_allclose(plan.actions, plain.actions, rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        plan.states, rotate_state(plain.states, Q), rtol=0, atol=1e-9 * np.abs(plain.states).max()
    )
    assert plan.cost == pytest.approx(plain.cost, rel=1e-9)


def theorem_4_error(planner, M, cost=COST, turn_goal=True, seed=0):
    """How far planned actions in the latents `M h` are from those in h."""
    L = np.kron(np.eye(2), M)
    plain = SOLVE[planner](MPCProblem(joints(), cost), START, GOAL)
    other = MPCProblem(change_basis(joints(), L), cost)
    return np.abs(SOLVE[planner](other, L @ START, M @ GOAL if turn_goal else GOAL, seed).actions - plain.actions).max()


@ALL
def test_they_are_not_where_the_theorem_does_not_hold(planner):
    Q = random_rotation(2, 1)
    assert theorem_4_error(planner, Q) < 1e-9
    assert theorem_4_error(planner, Q, turn_goal=False) > 0.1
    assert theorem_4_error(planner, np.array([[1, 0.1], [0, 1]]) @ Q) > 1e-3
    assert theorem_4_error(planner, 1.1 * Q) > 1e-3
    assert theorem_4_error(planner, Q, QuadraticCost(np.diag([1.5, 1, 0, 0]), COST.R, latent_dim=2)) > 1e-3
    if planner in SAMPLED:
        assert theorem_4_error(planner, Q, seed=1) > 1e-3  # the random numbers must be common
        moved = np.random.default_rng(0)
        moved.standard_normal()
        assert theorem_4_error(planner, Q, seed=moved) > 1e-3


@pytest.mark.parametrize("solve", [solve_cem, solve_mppi])
@pytest.mark.parametrize("iterations", [1, 300])
def test_a_search_that_has_converged_is_not_decided_by_rounding(solve, iterations):
    """Samples lie so close together at last that their costs agree in all digits."""
    config = (CEMConfig if solve is solve_cem else MPPIConfig)(samples=64, iterations=iterations)
    for seed in range(3):
        Q = random_rotation(2, seed)
        turned = MPCProblem(rotate_dynamics(joints(), Q), COST)
        plain = solve(MPCProblem(joints(), COST), START, GOAL, config=config)
        plan = solve(turned, rotate_state(START, Q), rotate_goal(GOAL, Q), config=config)
        np.testing.assert_allclose(plan.actions, plain.actions, rtol=0, atol=1e-9)


# --- as agents ------------------------------------------------------------------------------------------------------


def agent_for(planner, **options):
    noise = {"process_noise": 1e-4 * np.eye(4), "observation_noise": 1e-3 * np.eye(2)}
    return PlanningAgent(
        ReadAngles(), LinearDynamics(joints().A, joints().B, np.zeros(4), **noise), COST, planner, **options
    )


def play(agent, rows, steps=3):
    """Actions (steps, N, 2) of the chosen rows of a small walk."""
    rng = np.random.default_rng(0)
    poses, goals = 0.3 * rng.standard_normal((steps, 3, 2)).cumsum(axis=0), rng.standard_normal((3, 2))
    state, actions = None, []
    for pose in poses[:, rows]:
        action, state = agent.predict(observe(pose, goals[rows]), state)
        actions.append(action)
    return np.array(actions)


@ALL
def test_agents_act_row_by_row_and_carry_nothing_hidden(planner):
    options = {"samples": 64, "iterations": 6} if planner in SAMPLED else {}
    agent = agent_for(planner, **options)
    together = play(agent, [0, 1, 2])
    assert together.shape == (3, 3, 2) and together.dtype == np.float32 and np.abs(together).max() <= 1
    assert len(np.unique(together[0], axis=0)) == 3
    for i in range(3):
        np.testing.assert_allclose(play(agent, [i])[:, 0], together[:, i], rtol=0, atol=2e-6)
    np.testing.assert_array_equal(play(agent, [2, 0, 1])[:, [1, 2, 0]], together)
    np.testing.assert_array_equal(play(agent_for(planner, **options), [0, 1, 2]), together)


@pytest.mark.parametrize("planner", SAMPLED)
def test_the_seed_and_the_budget_of_an_agent(planner):
    quick = {"samples": 32, "iterations": 3, "horizon": 6}
    first, other, long = (play(agent_for(planner, **quick, **more), [0, 1]) for more in ({}, {"seed": 1}, {"std": 0.1}))
    assert np.abs(first - other).max() > 1e-3 and np.abs(first - long).max() > 1e-3
    for options, message in (
        ({"seed": -1}, "seed must be"),
        ({"seed": np.random.default_rng(0)}, "seed must be"),  # it would carry from row to row
        ({"samples": 0}, "samples must be"),
        ({"horizon": 0}, "horizon"),
        ({"elites": 3}, f"planner '{planner}'.*elites"),
    ):
        with pytest.raises(InvalidInput, match=message):
            agent_for(planner, **options)


@ALL
def test_agents_of_every_planner_are_saved_and_loaded(planner, tmp_path):
    torch.manual_seed(0)
    encoder = PixelEncoder(ConvEncoder(latent_dim=2, width=2, hidden=8), {"made": "at random"})
    options = {"samples": 16, "iterations": 2, "seed": 3} if planner in SAMPLED else {}
    agent = PlanningAgent(encoder, joints(), COST, planner, **options)
    loaded = load_agent(agent.save(tmp_path))
    assert json.loads(json.dumps(agent.options)) == loaded.options == agent.options
    np.testing.assert_array_equal(play(loaded, [0, 1]), play(agent, [0, 1]))
    for other in PLANNERS:
        assert load_agent(tmp_path, planner=other).planner == other


@pytest.mark.parametrize("error", [KeyError, StopIteration, AssertionError, TypeError, RecursionError, MemoryError])
def test_whatever_a_planner_of_the_users_raises_clipped_lqr_acts(error):
    def raising(setting):
        def policy(states, goals):
            raise error("x")

        return policy

    controller = LatentController(DYNAMICS, COST, 2, raising)
    with pytest.warns(PlannerFellBack, match=error.__name__):
        actions, failed = controller.act(np.zeros((1, 4)), np.ones((1, 2)))
    assert failed.all() and np.isfinite(actions).all()


@pytest.mark.parametrize("planner", [lambda setting: None, lambda setting: 5])
def test_a_planner_that_gives_no_policy_is_refused(planner):
    with pytest.raises(InvalidInput, match="gives no policy"):
        LatentController(DYNAMICS, COST, 2, planner)


def test_parts_of_wrong_types_are_refused_by_name():
    for dynamics, cost in ((None, COST), (DYNAMICS, None), (COST, DYNAMICS)):
        with pytest.raises(InvalidInput, match="need LinearDynamics"):
            LatentController(dynamics, cost, 2)
    for planner in (None, 5, ["lqr"]):
        with pytest.raises(UnknownName):
            LatentController(DYNAMICS, COST, 2, planner)
    for encoder in (None, "reacher", lambda frames: frames):
        with pytest.raises(InvalidInput, match="an encoder is"):
            PlanningAgent(encoder, DYNAMICS, COST)
    for options in ({"charts": 5}, {"action_low": [[1], [1, 2]]}, {"action_low": -(10**400)}):
        with pytest.raises(InvalidInput):
            PlanningAgent(load_encoder("reacher"), DYNAMICS, COST, **options)
