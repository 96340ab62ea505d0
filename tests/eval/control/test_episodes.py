"""What is measured about control: pairs, the reference controller, and summaries that a hand can check."""

import numpy as np
import pytest

from worldplan.data.trajectories import Trajectories
from worldplan.envs.reacher import WRIST_LIMIT, ReacherGoal
from worldplan.envs.tasks import TrueStateObservation, sample_tasks
from worldplan.errors import InvalidInput, UnknownName
from worldplan.eval.control.baselines import StandStill, TrueStateLQR, true_dynamics
from worldplan.eval.control.episodes import ControlResult, evaluate_control, measure, summarise
from worldplan.eval.statistics.estimate import estimate, estimate_rate

# --- pairs ----------------------------------------------------------------------------------------------------------


def test_normal_pairs_are_clipped_standard_normals():
    pairs = sample_tasks(20_000, seed=1)
    poses = np.concatenate([pairs.starts, pairs.goals])
    assert poses.shape == (40_000, 2) and np.abs(poses).max() == 2.4
    assert (np.abs(poses) == 2.4).mean() == pytest.approx(0.0164, abs=0.003)  # the tails of N(0, 1) beyond 2.4
    assert np.abs(poses.mean(axis=0)).max() < 0.03 and np.abs(poses.std(axis=0) - 0.985).max() < 0.03
    assert abs(np.corrcoef(pairs.starts[:, 0], pairs.goals[:, 0])[0, 1]) < 0.03


def test_reset_pairs_fill_the_range_of_the_task():
    pairs = sample_tasks(2000, distribution="reset")
    poses = np.concatenate([pairs.starts, pairs.goals])
    assert np.abs(poses).max(axis=0) == pytest.approx([np.pi, WRIST_LIMIT], rel=0.01)
    assert poses.std(axis=0) == pytest.approx(np.array([np.pi, WRIST_LIMIT]) / np.sqrt(3), rel=0.03)


@pytest.mark.parametrize("distribution", ["normal", "reset"])
def test_a_seed_gives_the_same_pairs(distribution):
    first, again, other = (sample_tasks(5, seed, distribution) for seed in (3, 3, 4))
    assert np.array_equal(first.starts, again.starts) and np.array_equal(first.goals, again.goals)
    assert not np.array_equal(first.starts, other.starts) and not np.array_equal(first.starts, first.goals)
    assert [o["goal_qpos"].tolist() for o in first.options()] == first.goals.tolist()


def test_bad_requests_for_pairs():
    with pytest.raises(UnknownName, match="known: ahead, normal, reset"):
        sample_tasks(3, distribution="uniform")
    with pytest.raises(InvalidInput, match="number of pairs"):
        sample_tasks(0)


# --- episodes -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs():
    pairs = sample_tasks(20, seed=2)
    agents = {"lqr": TrueStateLQR(), "random": None, "still": StandStill()}
    return {name: evaluate_control(agent, pairs, true_state=True) for name, agent in agents.items()}, pairs


def test_the_true_state_controller_reaches_and_chance_does_not(runs):
    results, _ = runs
    assert results["lqr"].success.mean() >= 0.95
    assert results["random"].success.mean() <= 0.1 and results["still"].success.mean() <= 0.1
    assert results["lqr"].cost.mean() < 0.5 * min(results["random"].cost.mean(), results["still"].cost.mean())
    assert np.median(results["lqr"].tip_error) < 0.005


def test_standing_still_costs_the_start_every_step(runs):
    results, pairs = runs
    error = pairs.starts - pairs.goals
    error[:, 0] = (error[:, 0] + np.pi) % (2 * np.pi) - np.pi
    assert np.allclose(results["still"].cost, 100 * (error**2).sum(axis=1), rtol=1e-6)


def test_episodes_are_paired_and_reproducible(runs):
    results, pairs = runs
    again = evaluate_control(None, pairs, true_state=True)
    assert np.array_equal(again.cost, results["random"].cost)
    assert not np.array_equal(evaluate_control(None, pairs, seed=1, true_state=True).cost, again.cost)


def test_the_reference_wraps_the_shoulder():
    lqr = TrueStateLQR()
    near = {"observation": np.array([3.1, 0.0, 0.0, 0.0]), "desired_goal": np.array([-3.1, 0.0])}
    action, state = lqr.predict(near)
    assert state is None and action.dtype == np.float32
    assert 0 < action[0] < 1  # on through pi, not all the way back
    far = {"observation": np.zeros(4), "desired_goal": np.array([-2.0, 2.0])}
    assert lqr.predict(far)[0].tolist() == [-1.0, 1.0]


def test_true_state_observations_show_state_and_goal():
    env = TrueStateObservation(ReacherGoal(pixels=False))
    observation, _ = env.reset(options={"qpos": [0.1, 0.2], "goal_qpos": [1.0, -1.0]})
    assert observation["observation"].tolist() == [0.1, 0.2, 0.0, 0.0]
    assert observation["desired_goal"].tolist() == [1.0, -1.0]
    after, *_, info = env.step(np.ones(2))
    assert np.array_equal(after["observation"], [*info["qpos"], *info["qvel"]])


def test_true_dynamics_are_those_of_a_frictional_arm():
    fit = true_dynamics()
    radii = np.sort(np.abs(np.linalg.eigvals(fit.A)))
    assert radii == pytest.approx([0.29, 0.86, 1.0, 1.0], abs=0.03)
    assert np.linalg.norm(fit.intercept) < 1e-2


@pytest.mark.parametrize(
    ("verdicts", "reached", "steps"),
    [
        ([0, 0, 1, 1], True, 2),
        ([1, 1, 1, 1], True, 0),
        ([0, 1, 0, 1], True, 3),  # not the first touch, but the last time of getting there
        ([1, 1, 1, 0], False, np.nan),
        ([0, 0, 0, 0], False, np.nan),
    ],
)
def test_steps_to_reach_count_until_success_lasts(verdicts, reached, steps):
    info = {"is_success": [np.array(verdicts, dtype=bool)], "tip_distance": [np.linspace(0.4, 0.1, 4)]}
    data = Trajectories([np.zeros((4, 1))], [np.zeros((3, 2))], [np.array([-1.0, -2.0, -3.0])], info)
    result = measure([data])
    assert result.cost.tolist() == [6.0] and result.success.tolist() == [reached]
    assert result.tip_error == pytest.approx([0.1])
    assert result.steps_to_reach.tolist() == pytest.approx([steps], nan_ok=True)


# --- numbers --------------------------------------------------------------------------------------------------------


def coverage(interval, truth, draws):
    bounds = [interval(draw) for draw in draws]
    return np.mean([b.low <= truth <= b.high for b in bounds])


def test_intervals_hold_the_truth_at_about_their_rate():
    rng = np.random.default_rng(0)
    means = rng.standard_normal((150, 60)) + 3
    assert 0.88 <= coverage(estimate, 3.0, means) <= 0.99
    assert coverage(estimate, 3.2, means) < 0.8  # another value is held less often
    rates = rng.random((1000, 40)) < 0.9
    assert 0.92 <= coverage(estimate_rate, 0.9, rates) <= 0.985


def test_estimates_of_little():
    one = estimate(np.array([2.0]))
    assert (one.value, one.low, one.high) == (2.0, 2.0, 2.0)
    same = estimate(np.full(5, 3.0), np.median)
    assert (same.low, same.high) == (3.0, 3.0)
    all_good = estimate_rate(np.ones(300, dtype=bool))
    assert all_good.value == 1.0 and all_good.low == pytest.approx(300 / (300 + 1.96**2), abs=1e-4)
    assert str(estimate(np.array([0.5, 0.5]))) == "0.500 [0.500, 0.500]"


def result(cost, tip=None, success=None, steps=None):
    n = len(cost)
    return ControlResult(
        np.array(cost, dtype=float),
        np.array(tip if tip is not None else np.zeros(n)),
        np.array(success if success is not None else np.ones(n, dtype=bool)),
        np.array(steps if steps is not None else np.zeros(n), dtype=float),
        np.array(steps if steps is not None else np.zeros(n), dtype=float),
    )


def test_a_summary_made_by_hand():
    reference = result([1.0, 2.0, 4.0, 0.0])
    ours = result([2.0, 2.0, 6.0, 5.0], [0.01, 0.02, 0.03, 0.10], [True, True, True, False], [10, 20, 60, np.nan])
    row = summarise("ours", ours, reference)
    assert (row.name, row.episodes) == ("ours", 4)
    assert row.reach.value == 0.75 and 0.25 < row.reach.low < 0.75 < row.reach.high < 1
    assert row.tip_error_median.value == pytest.approx(0.025) and row.tip_error_mean.value == pytest.approx(0.04)
    assert row.steps_to_reach.value == 20  # of those that arrived
    assert row.cost_ratio_mean.value == pytest.approx(1.5)  # 2, 1, 1.5: an episode that costs nothing has no ratio
    assert row.cost_ratio_median.value == pytest.approx(1.5)
    assert row.cost_ratio_p95.value == pytest.approx(1.95)
    assert row.cost_ratio_total.value == pytest.approx(10 / 7)
    assert row.to_dict()["reach"]["value"] == 0.75


def test_a_summary_of_none_that_arrived():
    lost = result([2.0, 3.0], success=[False, False], steps=[np.nan, np.nan])
    row = summarise("lost", lost, result([1.0, 1.0]))
    assert row.steps_to_reach is None and row.reach.value == 0.0
