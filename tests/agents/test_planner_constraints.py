"""The `mpc` planner of agents within a user's constraints: closed loops, circles, fallback, files and copies."""

import copy
import pickle

import cvxpy as cp
import numpy as np
import pytest
from arms import COST, ReadAngles, agent_on_angles, joints, observe, small_encoder

from worldplan.agents.latent_controller import LatentController
from worldplan.agents.planning_agent import PlanningAgent, load_agent
from worldplan.agents.quarter_turns import QuarterTurns
from worldplan.errors import InvalidInput, PlannerFellBack
from worldplan.eval.plan.run import _told
from worldplan.planning.space import LatentSpace

LIMIT = 0.02
GOAL = np.array([[0.3, -0.2]])


def slow(x, u):
    return [cp.abs(x[1:, 2:]) <= LIMIT]


def softly_slow(x, u):
    over = cp.Variable(nonneg=True)
    return [cp.abs(x[1:, 2:]) <= LIMIT + over], 1e3 * over


def out_of_reach(x, u):
    return [x[1:, 0] >= 5]


def arc(x, u):
    return [x[1:, 0] <= 2.0, x[1:, 0] >= -2.0]


def run(controller, mean, goals, steps=60):
    """States (steps + 1, d) of the model under the controller."""
    states = [mean]
    for _ in range(steps):
        actions, failed = controller.act(states[-1], goals)
        assert not failed.any()
        states.append(controller.dynamics.step(states[-1], actions))
    return np.concatenate(states)


@pytest.mark.parametrize("constraints", [slow, softly_slow])
def test_a_velocity_limit_holds_in_the_loop(constraints):
    states = run(LatentController(joints(), COST, 2, "mpc", constraints=constraints), np.zeros((1, 4)), GOAL)
    assert np.abs(states[:, 2:]).max() == pytest.approx(LIMIT, rel=1e-5)
    assert np.abs(states[-1, :2] - GOAL).max() < 0.02
    free = run(LatentController(joints(), COST, 2, "mpc"), np.zeros((1, 4)), GOAL)
    assert np.abs(free[:, 2:]).max() > 1.5 * LIMIT  # negative control


def test_constraints_that_hold_anyway_leave_the_actions_of_the_agent():
    poses = 0.1 * np.random.default_rng(0).standard_normal((4, 3, 2)).cumsum(axis=0)
    goals, states = np.repeat(GOAL, 3, axis=0), [None, None]
    agents = agent_on_angles("mpc"), agent_on_angles("mpc", constraints=lambda x, u: [cp.abs(x) <= 100])
    for pose in poses:
        actions = []
        for i, agent in enumerate(agents):
            action, states[i] = agent.predict(observe(pose, goals), states[i])
            actions.append(action)
        np.testing.assert_allclose(actions[1], actions[0], atol=1e-6)


def test_on_circles_states_start_within_half_a_turn():
    """Estimates run on from turn to turn: constraints on angles would else change with each of them."""
    space = LatentSpace("circle", "line")
    controller = LatentController(joints(), COST, 2, "mpc", space=space, constraints=arc)
    mean, turn = np.array([[1.8, 0.1, 0.01, 0.0]]), np.array([[2 * np.pi, 0, 0, 0]])
    goals = np.array([[2.5, 0.0]])
    plain, failed = controller.act(mean, goals)
    assert not failed.any()
    for turns in (-3, 1, 2):
        for shown in (goals, goals + turns * turn[:, :2], goals - turn[:, :2]):
            actions, failed = controller.act(mean + turns * turn, shown)
            assert not failed.any()
            np.testing.assert_allclose(actions, plain, atol=1e-6)
    states = run(controller, mean + 2 * turn, goals)
    assert (states - 2 * turn)[:, 0].max() == pytest.approx(2.0, abs=1e-5)
    # Negative controls: no arc, no stop; and on a line, two turns on is another place.
    assert (run(LatentController(joints(), COST, 2, "mpc", space=space), mean, goals))[:, 0].max() > 2.4
    line = LatentController(joints(), COST, 2, "mpc", constraints=arc)
    with pytest.warns(PlannerFellBack, match="infeasible"):
        assert line.act(mean + 2 * turn, goals)[1].all()


def test_where_no_plan_keeps_them_clipped_lqr_acts_and_is_counted():
    agent, lqr = agent_on_angles("mpc", constraints=out_of_reach), agent_on_angles("lqr")
    state = other = None
    for step in range(3):
        with pytest.warns(PlannerFellBack, match="SolverFailed: infeasible"):
            actions, state = agent.predict(observe(np.zeros((1, 2)), GOAL), state)
        expected, other = lqr.predict(observe(np.zeros((1, 2)), GOAL), other)
        assert state.fallbacks.tolist() == [step + 1]
        np.testing.assert_array_equal(actions, expected)
    poses = np.array([[0.0, 0.0], [4.99, 0.0]])  # one row fails, another does not
    goals = np.array([[0.3, 0.0], [5.3, 0.0]])
    with pytest.warns(PlannerFellBack):
        failed = agent.controller.act(np.hstack([poses, [[0, 0], [0.02, 0]]]), goals)[1]
    assert failed.tolist() == [True, False]


@pytest.mark.parametrize("planner", ["lqr", "cem", "mppi"])
def test_other_planners_do_not_pass_constraints_over(planner):
    with pytest.raises(InvalidInput, match=f"planner '{planner}'.*constraints"):
        agent_on_angles(planner, constraints=slow)


def test_what_is_wrong_with_constraints_is_told_when_the_agent_is_made():
    with pytest.raises(InvalidInput, match="not convex"):
        agent_on_angles("mpc", constraints=lambda x, u: [cp.norm(x[1]) >= 1])
    charts = QuarterTurns(np.array([1.0, 0.0]), np.zeros(2))
    with pytest.raises(InvalidInput, match="charts=None"):
        PlanningAgent(ReadAngles(), joints(), COST, "mpc", charts=charts, constraints=slow)
    PlanningAgent(ReadAngles(), joints(), COST, "mpc", charts=charts)


def test_files_hold_no_constraints_and_agents_take_them_when_loaded(tmp_path):
    agent = PlanningAgent(small_encoder(), joints(), COST, "mpc", horizon=7)
    bound = load_agent(agent.save(tmp_path / "free"), constraints=slow)
    assert bound.planner == "mpc" and bound.options["constraints"] is slow and bound.options["horizon"] == 7
    with pytest.raises(InvalidInput, match="load_agent"):
        bound.save(tmp_path / "bound")
    assert not (tmp_path / "bound").exists()
    assert {name: _told(value) for name, value in bound.options.items()} == {**agent.options, "constraints": "slow"}


def test_shipped_agents_take_them():
    agent = load_agent("reacher", planner="mpc", constraints=slow)
    states = run(agent.controller, np.zeros((1, 4)), GOAL, steps=20)
    assert np.abs(states[:, 2:]).max() <= LIMIT + 1e-6


def test_agents_travel_with_functions_of_modules_alone():
    poses = np.array([[0.1, 0.0]])
    agent = agent_on_angles("mpc", constraints=slow)
    action = agent.predict(observe(poses, GOAL))[0]
    for other in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        np.testing.assert_array_equal(other.predict(observe(poses, GOAL))[0], action)
        assert other.options["constraints"] is slow
    local = agent_on_angles("mpc", constraints=lambda x, u: slow(x, u))
    np.testing.assert_array_equal(copy.deepcopy(local).predict(observe(poses, GOAL))[0], action)
    with pytest.raises(InvalidInput, match="top level of a module"):
        pickle.dumps(local)
