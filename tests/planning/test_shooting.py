"""CEM and MPPI: their rules against naive ones, what is kept of a search, their noise, their bad input."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from worldplan.errors import InvalidInput, SolverFailed
from worldplan.planning import shooting
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.mpc import MPCProblem, solve_mpc
from worldplan.planning.shooting import CEMConfig, MPPIConfig, solve_cem, solve_mppi

BOTH = pytest.mark.parametrize(("solve", "config"), [(solve_cem, CEMConfig), (solve_mppi, MPPIConfig)])
START, GOAL = [1.0, -0.5, 0.1, 0.0], [-0.2, 0.3]
checked = settings(derandomize=True, deadline=None, max_examples=15)
seeds = st.integers(0, 2**32 - 1)


def reacher_like(horizon=10, weight=1.0, **limits):
    eye, zero = np.eye(2), np.zeros((2, 2))
    dynamics = LinearDynamics(np.block([[eye, 0.87 * eye], [zero, 0.87 * eye]]), 0.02 * np.vstack([eye, eye]))
    cost = QuadraticCost.goal_reaching(2)
    return MPCProblem(dynamics, QuadraticCost(weight * cost.W, weight * cost.R, latent_dim=2), horizon, **limits)


def random_problem(seed):
    rng = np.random.default_rng(seed)
    d, m, horizon = int(rng.integers(1, 5)), int(rng.integers(1, 4)), int(rng.integers(1, 8))
    A = rng.standard_normal((d, d))
    A *= rng.uniform(0.5, 1.1) / np.abs(np.linalg.eigvals(A)).max()
    W = rng.standard_normal((d, d))
    cost = QuadraticCost(W @ W.T, np.diag(rng.uniform(0.1, 10, m)))
    dynamics = LinearDynamics(A, rng.standard_normal((d, m)), rng.standard_normal(d))
    limits = {"action_low": -rng.uniform(0, 2, m), "action_high": rng.uniform(0.1, 2, m)}
    problem = MPCProblem(dynamics, cost, horizon, terminal="stage", **limits)
    return problem, rng.standard_normal(d), rng.standard_normal(d)


def naive_search(problem, seed, config, std):
    """The same search in loops: each sequence is rolled out, and costs are whole costs."""
    rng, shape = np.random.default_rng(seed), (problem.horizon, 2)

    def cost(actions):
        x, total = np.array(START), 0.0
        for u in actions:
            e = x - [*GOAL, 0, 0]
            total += e @ problem.cost.W @ e + u @ problem.cost.R @ u
            x = problem.dynamics.A @ x + problem.dynamics.B @ u
        e = x - [*GOAL, 0, 0]
        return total + e @ problem.solver.terminal_weight @ e

    mean, std, best = np.zeros(shape), np.full(shape, std), np.zeros(shape)
    for _ in range(config.iterations):
        draws = [mean + std * rng.standard_normal(shape) for _ in range(config.samples)]
        ranked = sorted([best, mean, *(u.clip(-1, 1) for u in draws)], key=cost)
        best = ranked[0]
        if isinstance(config, CEMConfig):
            elite = ranked[: int(np.ceil(config.elite_fraction * config.samples))]
            mean = config.smoothing * mean + (1 - config.smoothing) * sum(elite) / len(elite)
            std = config.smoothing * std + (1 - config.smoothing) * np.std(elite, axis=0)
        else:
            costs = [cost(u) for u in ranked]
            weights = [np.exp(-(c - costs[0]) / (config.temperature * np.std(costs))) for c in costs]
            mean = sum(w * u for w, u in zip(weights, ranked, strict=True)) / sum(weights)
            std = config.decay * std
    return min(best, mean, key=cost)


@BOTH
def test_the_search_is_the_one_of_loops_and_roll_outs(solve, config):
    problem, config = reacher_like(), config(samples=30, iterations=4, std=0.7)
    plan = solve(problem, START, GOAL, config=config, rng=5)
    np.testing.assert_allclose(plan.actions, naive_search(problem, 5, config, 0.7), rtol=0, atol=1e-10)
    wide = naive_search(problem, 5, dataclasses.replace(config), 0.8)
    assert np.abs(plan.actions - wide).max() > 1e-3


def test_mppi_averages_to_a_proximal_step():
    problem = reacher_like(2, action_low=-np.inf, action_high=np.inf)
    solver, std = problem.solver, 0.5
    q, draws = solver.linear_term(START, GOAL), np.random.default_rng(0).standard_normal((400_000, 4))
    costs = shooting._costs(solver, q, np.zeros(4), std * draws)
    config = MPPIConfig(temperature=2.0)
    mean, after = config.move(np.zeros(4), np.full(4, std), std * draws, costs)
    ratio = config.temperature * costs.std() / std**2
    exact = np.linalg.solve(2 * solver.qp.H + ratio * np.eye(4), -2 * q)
    assert np.abs(mean - exact).max() < 0.01 * np.abs(exact).max() and np.abs(exact).max() > 0.1
    np.testing.assert_allclose(after, config.decay * std)
    other = np.linalg.solve(2 * solver.qp.H + 2 * ratio * np.eye(4), -2 * q)  # another temperature is seen
    assert np.abs(mean - other).max() > 0.1 * np.abs(exact).max()


@checked
@given(seeds)
def test_a_plan_keeps_its_promises_on_any_problem(seed):
    problem, state, goal = random_problem(seed)
    best, (low, high) = solve_mpc(problem, state, goal), problem.limits
    guess = np.random.default_rng(seed).uniform(low, high, best.actions.shape)
    for solve, config in ((solve_cem, CEMConfig(64, 6)), (solve_mppi, MPPIConfig(64, 6))):
        plan = solve(problem, state, goal, config=config, rng=seed, guess=guess)
        assert plan.status == "sampled" and (low <= plan.actions).all() and (plan.actions <= high).all()
        for other in (guess, np.clip(np.zeros_like(guess), low, high)):
            assert plan.cost <= problem.solver.roll_out(state, goal, other)[1] * (1 + 1e-9)
        rolled = problem.solver.roll_out(state, goal, plan.actions)
        np.testing.assert_array_equal(plan.states, rolled[0])
        assert plan.cost == rolled[1]
        slack = 1e-9 * (1 + best.cost)
        assert -slack <= plan.cost - best.cost <= plan.gap + slack
        assert np.linalg.norm(plan.actions - best.actions) <= plan.action_error + 1e-5


@BOTH
def test_a_sampled_plan_is_certified_only_where_it_is_optimal(solve, config):
    problem = reacher_like()
    best = solve_mpc(problem, START, GOAL)
    plan = solve(problem, START, GOAL)
    assert not plan.certified and plan.gap > 1e-6 * plan.cost and plan.residual > 1e-6
    assert solve(problem, START, GOAL, tolerance=0.5).certified
    lucky = solve(problem, START, GOAL, guess=best.actions)
    assert lucky.certified and lucky.status == "sampled"
    assert lucky.cost == pytest.approx(best.cost, rel=1e-9)


@BOTH
def test_more_iterations_come_closer(solve, config):
    problem = reacher_like()
    gaps = [solve(problem, START, GOAL, config=config(iterations=n)).gap for n in (1, 6, 24)]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]


@BOTH
def test_a_warm_start_is_worth_something(solve, config):
    problem, few = reacher_like(20), config(iterations=3)
    before = solve_mpc(problem, START, GOAL)
    assert np.array_equal(before.shifted[:-1], before.actions[1:])
    assert np.array_equal(before.shifted[-1], before.actions[-1])
    best = solve_mpc(problem, before.states[1], GOAL).cost
    cold, warm = (solve(problem, before.states[1], GOAL, config=few, guess=g).cost for g in (None, before.shifted))
    assert warm - best < 0.1 * (cold - best)
    far = solve(problem, START, GOAL, config=few, guess=np.full((20, 2), 9.0))  # clipped like a sample
    assert np.abs(far.actions).max() <= 1


def improvement(solve, config):
    """What the search gains over as many samples around doing nothing, as a share of what there is to gain."""
    problem, nothing = reacher_like(20), np.zeros(40)
    best, found = solve_mpc(problem, START, GOAL).cost, solve(problem, START, GOAL, config=config, rng=1).cost
    blind = np.random.default_rng(1).standard_normal((config.samples * config.iterations, 40)).clip(-1, 1)
    costs = shooting._costs(problem.solver, problem.solver.linear_term(START, GOAL), nothing, blind)
    still = problem.solver.roll_out(START, GOAL, nothing.reshape(20, 2))[1]
    luck = still + min(costs.min(), 0)
    assert found <= still
    return (luck - found) / (luck - best)


@BOTH
def test_the_search_beats_blind_sampling_by_far(solve, config):
    assert improvement(solve, config(samples=64, iterations=20)) > 0.8


class DearestFirst(CEMConfig):
    """The elite are the samples that cost most."""

    def move(self, mean, std, candidates, costs):
        return super().move(mean, std, candidates, -costs)


class AllAlike(MPPIConfig):
    """Every sample has the same weight, whatever it costs."""

    def move(self, mean, std, candidates, costs):
        return candidates.mean(axis=0), std


def test_a_broken_rule_does_not():
    assert improvement(solve_cem, DearestFirst(samples=64, iterations=20)) < 0.1
    assert improvement(solve_mppi, AllAlike(samples=64, iterations=20)) < 0.5


@BOTH
def test_the_unit_of_cost_does_not_matter(solve, config):
    plan = solve(reacher_like(terminal=np.eye(4)), START, GOAL)
    scaled = solve(reacher_like(weight=1024.0, terminal=1024.0 * np.eye(4)), START, GOAL)
    np.testing.assert_array_equal(scaled.actions, plan.actions)
    other = solve(reacher_like(weight=1024.0, terminal=np.eye(4)), START, GOAL)
    assert np.abs(other.actions - plan.actions).max() > 1e-3


@BOTH
def test_one_generator_gives_the_same_draws_to_every_problem(solve, config):
    config = config(samples=8, iterations=3)
    used = [np.random.default_rng(3) for _ in range(3)]
    plans = [solve(reacher_like(), START, GOAL, config=config, rng=rng) for rng in used[:2]]
    solve(reacher_like(action_low=-0.1), np.zeros(4), [5.0, 0.0], config=config, rng=used[2])
    np.testing.assert_array_equal(*(plan.actions for plan in plans))
    np.testing.assert_array_equal(solve(reacher_like(), START, GOAL, config=config, rng=3).actions, plans[0].actions)
    drawn = np.random.default_rng(3)
    drawn.standard_normal((3, 8, 20))
    assert len({rng.standard_normal() for rng in (*used, drawn)}) == 1
    again = solve(reacher_like(), START, GOAL, config=config, rng=used[0])
    assert np.abs(again.actions - plans[0].actions).max() > 1e-3


@BOTH
def test_limits_of_every_kind(solve, config):
    fixed = solve(reacher_like(action_low=0.3, action_high=0.3), START, GOAL)
    np.testing.assert_array_equal(fixed.actions, 0.3)
    above = solve(reacher_like(action_low=0.2), START, GOAL)  # doing nothing is not allowed
    assert above.actions.min() == pytest.approx(0.2)
    for low, high in ((-np.inf, np.inf), ([-np.inf, 0.0], [np.inf, np.inf])):
        problem = reacher_like(action_low=low, action_high=high)
        plan = solve(problem, START, GOAL)
        assert plan.cost < 1.05 * solve_mpc(problem, START, GOAL).cost and np.abs(plan.actions).max() > 1


@BOTH
def test_at_the_goal_nothing_is_done(solve, config):
    for options in ({}, {"config": config(std=0.5)}):
        plan = solve(reacher_like(), [*GOAL, 0, 0], GOAL, **options)
        assert np.array_equal(plan.actions, np.zeros((10, 2))) and plan.cost == 0 and plan.certified
    one = solve(reacher_like(), START, GOAL, config=config(samples=1, iterations=1))
    assert one.actions.shape == (10, 2)


@BOTH
def test_bad_input(solve, config):
    problem = reacher_like()
    for options, message in (
        ({"state": [1, 2]}, "state must"),
        ({"state": [np.nan, 0, 0, 0]}, "not finite"),
        ({"goal": [1, 2, 3]}, "goal must"),
        ({"goal": ["x", 0]}, "goal"),
        ({"guess": np.zeros((9, 2))}, r"guess must have shape \(10, 2\)"),
        ({"guess": np.full((10, 2), np.inf)}, "guess has entries"),
        ({"rng": -1}, "rng must be"),
        ({"rng": "seed"}, "rng must be"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": np.nan}, "tolerance"),
    ):
        with pytest.raises(InvalidInput, match=message):
            solve(problem, **{"state": START, "goal": GOAL, **options})


COMMON = [(name, value) for name in ("samples", "iterations") for value in (0, -1, 2.0, True, "8", None)]
COMMON += [("std", value) for value in (0.0, -1.0, np.nan, np.inf, "1", True, [1.0])]


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [(config, *pair) for config in (CEMConfig, MPPIConfig) for pair in COMMON]
    + [(CEMConfig, "elite_fraction", value) for value in (0.0, -0.1, 1.1, np.nan, "x", None)]
    + [(CEMConfig, "smoothing", value) for value in (-0.1, 1.0, np.nan, None)]
    + [(MPPIConfig, "temperature", value) for value in (0.0, -1.0, np.nan, np.inf, None)]
    + [(MPPIConfig, "decay", value) for value in (0.0, 1.1, np.nan, "x")],
)
def test_options_out_of_range(config, name, value):
    with pytest.raises(InvalidInput, match=f"{name} must be"):
        config(**{name: value})


@BOTH
def test_costs_that_overflow_are_an_error(solve, config):
    problem = reacher_like(action_low=-np.inf, action_high=np.inf)
    with pytest.raises(SolverFailed, match="overflow") as caught:
        solve(problem, START, GOAL, config=config(std=1e200))
    assert caught.value.problem is problem and caught.value.status == "overflow"


@pytest.mark.parametrize("solve", [solve_mpc, solve_cem, solve_mppi])
@pytest.mark.parametrize("size", [1e154, 1e160, 1e300])
def test_no_infinite_cost_is_certified(solve, size):
    dynamics = LinearDynamics([[1, 1], [0, 1]], [[0.5], [1]])
    problem = MPCProblem(dynamics, QuadraticCost.goal_reaching(1), horizon=8)
    assert math.isfinite(solve(problem, [1e150, 0], [0]).cost)
    for state, goal in (([size, 0], [0]), ([0, 0], [size])):
        with pytest.raises((InvalidInput, SolverFailed), match="overflow"):
            solve(problem, state, goal)
