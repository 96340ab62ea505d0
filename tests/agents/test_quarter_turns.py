"""Quarter turns of the image as charts: on real frames and the shipped encoder, with controls that must fail."""

import numpy as np
import pytest
import torch

from worldplan.agents import PlanningAgent, load_agent
from worldplan.agents.quarter_turns import QuarterTurns, encode_turned, fit_quarter_turns, turn
from worldplan.envs.rendering import render_frames, sample_targets
from worldplan.envs.tasks import Tasks, sample_tasks
from worldplan.errors import InvalidInput
from worldplan.eval.control.baselines import TrueStateLQR
from worldplan.eval.control.episodes import evaluate_control, summarise
from worldplan.eval.theorem4.pixels import MappedEncoder
from worldplan.learning.encoder import PixelEncoder, load_encoder
from worldplan.learning.network import ConvEncoder
from worldplan.planning.rotation import random_rotation

QUARTER = np.pi / 2


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("reacher")


@pytest.fixture(scope="module")
def poses():
    return sample_tasks(120, seed=11, distribution="reset").starts


@pytest.fixture(scope="module")
def frames(poses):
    return render_frames(poses, sample_targets(len(poses), np.random.default_rng(0)))


@pytest.fixture(scope="module")
def charts(encoder, frames):
    return fit_quarter_turns(encoder, frames)


def off(positions, poses):
    """Error of positions (N, 4), in quarter turns, around the circle."""
    truth = poses[:, :1] / QUARTER + np.arange(4)
    return np.abs((positions - truth + 2) % 4 - 2)


def test_a_turned_frame_shows_the_shoulder_a_quarter_turn_further(poses):
    here, there = render_frames(poses[:20]), render_frames(poses[:20] + [QUARTER, 0])
    turned = turn(here, np.ones(20, dtype=int)).astype(float)
    other = turn(here, np.full(20, 3)).astype(float)
    assert np.abs(turned - there).mean() < 0.7 * np.abs(other - there).mean()


def test_each_frame_is_turned_by_its_own_number():
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    turned = turn(frames, np.array([0, 1, 2, 3, 4]))
    for k in range(5):
        assert np.array_equal(turned[k], np.rot90(frames[k], k))
    assert turn(frames, np.zeros(5, dtype=int)) is frames


def test_the_vote_finds_the_shoulder_of_any_pose_where_one_chart_does_not(encoder, frames, poses, charts):
    latents = encode_turned(encoder, frames)
    assert np.quantile(off(charts.positions(latents), poses), 0.98) < 0.3
    said = (latents - charts.centre) @ charts.shift / (charts.shift @ charts.shift)
    assert np.quantile(off(said, poses), 0.98) > 0.3  # without the vote, charts beside their seam are wrong


def test_two_charts_that_are_off_do_not_outvote_two_that_agree():
    """Uncapped squares would settle for the second, which lies between the others."""
    places = np.array([-0.3, 1.3, 0.1, 0.1])  # where each chart puts the shoulder, in quarter turns from the first
    said = (places + np.arange(4) + 2) % 4 - 2
    assert QuarterTurns([1.0], [0.0]).positions(said[None, :, None])[0, 0] == pytest.approx(0.1)


def test_the_charts_turn_with_the_latent(encoder, frames, charts):
    Q = random_rotation(2, 5)
    turned = fit_quarter_turns(MappedEncoder(encoder, Q), frames)
    np.testing.assert_allclose(turned.shift, Q @ charts.shift, atol=1e-9)
    np.testing.assert_allclose(turned.centre, Q @ charts.centre, atol=1e-9)
    latents = encode_turned(encoder, frames)
    half = len(latents) // 2
    picked = charts.choose(latents[:half], latents[half:])
    assert np.array_equal(turned.choose(latents[:half] @ Q.T, latents[half:] @ Q.T), picked)


def test_the_chosen_chart_keeps_both_ends_from_the_seam(encoder, frames, poses, charts):
    latents = encode_turned(encoder, frames)
    half = len(latents) // 2
    rows, picked = np.arange(half), charts.choose(latents[:half], latents[half:])

    def farthest(chart):
        placed = (poses[:, 0] / QUARTER + np.tile(chart, 2) + 2) % 4 - 2
        return np.maximum(np.abs(placed[rows]), np.abs(placed[rows + half]))

    assert farthest(picked).max() < 1.75  # half of the largest distance, 1, and half a quarter turn, and some error
    assert farthest(np.zeros(half, dtype=int)).max() > 1.9
    assert set(picked) == {0, 1, 2, 3}


def test_an_encoder_without_the_symmetry_has_no_charts(frames):
    torch.manual_seed(0)
    for blind in (PixelEncoder(ConvEncoder(), {}), MappedEncoder(PixelEncoder(ConvEncoder(), {}), np.zeros((2, 2)))):
        with pytest.raises(InvalidInput):
            fit_quarter_turns(blind, frames)


@pytest.mark.parametrize("shift", [[0, 0], [np.nan, 1], [1, 2, 3], 1.0])
def test_bad_charts_are_refused(shift):
    with pytest.raises(InvalidInput):
        QuarterTurns(shift, [0, 0])


def test_across_the_seam_the_agent_goes_the_short_way_and_without_charts_it_does_not():
    pairs = Tasks(np.array([[2.9, 0.5], [-2.8, -0.7]]), np.array([[-2.7, 0.9], [2.9, -0.2]]))
    reference = evaluate_control(TrueStateLQR(), pairs, true_state=True)
    agent = load_agent("reacher-lejepa")
    assert agent.charts is not None
    result = summarise("charts", evaluate_control(agent, pairs), reference)
    assert result.reach.value == 1 and result.cost_ratio_mean.value < 1.5
    upright = PlanningAgent(agent.encoder, agent.dynamics, agent.cost)
    assert summarise("upright", evaluate_control(upright, pairs), reference).cost_ratio_mean.value > 3


def test_a_goal_that_changes_may_change_the_chart_and_keeps_the_velocity(encoder):
    agent = load_agent("reacher-lejepa")
    near, far = render_frames(np.array([[0.2, 0.3], [2.6, 0.3]]))
    frames = render_frames(np.array([[0.0, 0.5], [0.05, 0.5], [0.1, 0.5], [1.6, 0.5]]))
    state = None
    for frame in frames[:3]:
        _, state = agent.predict({"observation": frame, "desired_goal": near}, state)
    assert state[2].tolist() == [0]
    before = state[0][0, 2:]
    _, state = agent.predict({"observation": frames[2], "desired_goal": far}, state)
    assert state[2].tolist() != [0]
    np.testing.assert_allclose(state[0][0, 2:], before, atol=1e-12)
    np.testing.assert_allclose(state[3][0], encoder(turn(far[None], state[2])[0]), atol=1e-5)


def test_charts_travel_with_the_agent(tmp_path):
    agent = load_agent("reacher-lejepa")
    again = load_agent(agent.save(tmp_path), planner="mpc")
    assert again.charts is not None
    np.testing.assert_array_equal(again.charts.shift, agent.charts.shift)
    np.testing.assert_array_equal(again.charts.centre, agent.charts.centre)
