"""The ledger closes for every policy and plant, and only with the right P and K."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from worldplan.agents.planning_agent import load_agent
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.envs.tasks import sample_tasks
from worldplan.errors import InvalidInput
from worldplan.eval.control.ledger import CostLedger, cost_ledger
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.lqr import solve_lqr

seeds = st.integers(0, 2**32 - 1)


def random_lqr(rng, d, m, radius=1.2):
    A = rng.standard_normal((d, d))
    dynamics = LinearDynamics(
        A * radius / np.abs(np.linalg.eigvals(A)).max(), rng.standard_normal((d, m)), rng.standard_normal(d)
    )
    factor, effort = rng.standard_normal((d, d)), rng.standard_normal((m, m))
    return solve_lqr(dynamics, QuadraticCost(factor @ factor.T + 0.1 * np.eye(d), effort @ effort.T + 0.1 * np.eye(m)))


def episode(rng, lqr, steps, mistake=1.0, noise=1.0):
    """A loop around a goal that is no rest point, with wrong actions and disturbances: states, actions, goal."""
    d, m = lqr.dynamics.state_dim, lqr.dynamics.action_dim
    goal, x = rng.standard_normal(d), rng.standard_normal(d)
    states, actions = [x], []
    for _ in range(steps):
        actions.append(-lqr.gain @ (x - goal) + mistake * rng.standard_normal(m))
        x = lqr.dynamics.step(x, actions[-1]) + noise * rng.standard_normal(d)
        states.append(x)
    return np.array(states), np.array(actions), goal


def paid(lqr, states, actions, goal):
    """The naive sum."""
    return sum(
        (x - goal) @ lqr.cost.W @ (x - goal) + u @ lqr.cost.R @ u for x, u in zip(states[:-1], actions, strict=True)
    )


@given(seeds, st.integers(1, 6), st.integers(1, 3), st.integers(1, 30), st.floats(0, 3), st.floats(0, 3))
def test_it_closes_for_every_policy_and_plant(seed, d, m, steps, mistake, noise):
    rng = np.random.default_rng(seed)
    lqr = random_lqr(rng, d, m)
    loop = episode(rng, lqr, steps, mistake, noise)
    ledger = cost_ledger(lqr, *loop)
    assert ledger.residual < 1e-12
    assert ledger.cost == pytest.approx(paid(lqr, *loop), rel=1e-12)
    assert ledger.policy >= 0 and ledger.initial >= 0 and ledger.tail >= 0
    assert ledger.loss == pytest.approx(ledger.policy + ledger.model, abs=1e-10 * ledger.cost)


@given(seeds, st.integers(1, 4), st.integers(1, 3))
def test_it_does_not_close_with_another_P_or_K(seed, d, m):
    rng = np.random.default_rng(seed)
    lqr = random_lqr(rng, d, m)
    loop = episode(rng, lqr, 10)
    tilt = rng.standard_normal((d, d))
    for size in (1e-1, 1e-4):
        wrong = replace(lqr, value_matrix=lqr.value_matrix + size * np.trace(lqr.value_matrix) * tilt @ tilt.T)
        assert cost_ledger(wrong, *loop).residual > 1e-4 * size
    wrong = replace(lqr, gain=lqr.gain + 0.1 * np.linalg.norm(lqr.gain))
    assert cost_ledger(wrong, *loop).residual > 1e-9


@given(seeds, st.integers(1, 5), st.integers(1, 3))
def test_an_estimate_that_errs_costs_its_error_through_the_gain_and_nothing_else(seed, d, m):
    rng = np.random.default_rng(seed)
    lqr = random_lqr(rng, d, m)
    plant = replace(lqr.dynamics, intercept=np.zeros(d))  # 0 is a rest point
    M = lqr.cost.R + plant.B.T @ lqr.value_matrix @ plant.B
    x, states, actions, price = rng.standard_normal(d), [], [], 0.0
    states.append(x)
    for _ in range(12):
        error = rng.standard_normal(d)
        price += (lqr.gain @ error) @ M @ (lqr.gain @ error)
        actions.append(-lqr.gain @ (x + error))
        x = plant.step(x, actions[-1])
        states.append(x)
    ledger = cost_ledger(lqr, states, actions, np.zeros(d))
    assert ledger.policy == pytest.approx(price, rel=1e-9)
    assert ledger.loss == pytest.approx(price, rel=1e-8, abs=1e-10 * ledger.initial)
    assert abs(ledger.model) < 1e-10 * ledger.cost


def test_several_episodes_are_the_sum_and_the_optimum_pays_its_value():
    rng = np.random.default_rng(0)
    lqr = random_lqr(rng, 4, 2, 0.9)
    loops = [episode(rng, lqr, 7) for _ in range(3)]
    states, actions, goals = (np.stack(parts) for parts in zip(*loops, strict=True))
    together = cost_ledger(lqr, states, actions, goals)
    for name in ("initial", "tail", "policy", "model", "cost"):
        assert getattr(together, name) == pytest.approx(sum(getattr(cost_ledger(lqr, *loop), name) for loop in loops))
    still = replace(lqr, dynamics=replace(lqr.dynamics, intercept=np.zeros(4)))
    x, states = rng.standard_normal(4), []
    states.append(x)
    for _ in range(300):
        x = still.dynamics.step(x, -lqr.gain @ x)
        states.append(x)
    actions = -np.array(states[:-1]) @ lqr.gain.T
    best = cost_ledger(still, states, actions, np.zeros(4))
    assert best.cost == pytest.approx(best.initial, rel=1e-9)
    assert best.policy < 1e-20 and best.tail < 1e-9


def test_it_closes_in_mujoco_from_pixels():
    agent = load_agent("reacher-lejepa")
    lqr = solve_lqr(agent.dynamics, agent.cost)
    pairs = sample_tasks(2, seed=1)
    run = rollout(ReacherGoal(profile="fast"), agent, 2, seed=1, steps=30, options=pairs.options())
    for qpos, actions, goals in zip(run.info["qpos"], run.actions, run.info["goal_qpos"], strict=True):
        states = np.concatenate([qpos, np.diff(qpos, axis=0, prepend=qpos[:1])], axis=1)
        ledger = cost_ledger(lqr, states, actions, goals[0])
        assert ledger.residual < 1e-12
        assert ledger.policy > 1e-3 and abs(ledger.model) > 1e-3  # not a linear plant, and not that gain
        wrong = replace(lqr, value_matrix=1.001 * lqr.value_matrix)
        assert cost_ledger(wrong, states, actions, goals[0]).residual > 1e-6


def test_nothing_paid_closes():
    assert CostLedger(0.0, 0.0, 0.0, 0.0, 0.0).residual == 0.0
    assert CostLedger(1.0, 0.0, 0.0, 0.0, 2.0).residual == 0.5


@pytest.mark.parametrize(
    ("states", "actions", "goal"),
    [
        (np.zeros((5, 3)), np.zeros((5, 2)), np.zeros(3)),
        (np.zeros((5, 2)), np.zeros((4, 2)), np.zeros(3)),
        (np.zeros((5, 3)), np.zeros((4, 1)), np.zeros(3)),
        (np.zeros(3), np.zeros(2), np.zeros(3)),
        (np.zeros((2, 5, 3)), np.zeros((3, 4, 2)), np.zeros(3)),
        (np.zeros((2, 5, 3)), np.zeros((2, 4, 2)), np.zeros((3, 3))),
        (np.zeros((5, 3)), np.zeros((4, 2)), np.zeros(2)),
        (np.full((5, 3), np.nan), np.zeros((4, 2)), np.zeros(3)),
    ],
)
def test_what_does_not_fit_is_refused(states, actions, goal):
    lqr = random_lqr(np.random.default_rng(0), 3, 2)
    with pytest.raises(InvalidInput):
        cost_ledger(lqr, states, actions, goal)
    with pytest.raises(InvalidInput, match="horizon"):
        cost_ledger(solve_lqr(lqr.dynamics, lqr.cost, 5), np.zeros((5, 3)), np.zeros((4, 2)), np.zeros(3))
