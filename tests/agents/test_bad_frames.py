"""Frames that do not show the arm: black, white, random, of another moment. The filter predicts through them."""

import gymnasium as gym
import numpy as np
import pytest

from worldplan.agents.latent_controller import PATIENCE
from worldplan.agents.planning_agent import load_agent
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rendering import render_frames
from worldplan.envs.tasks import Tasks
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.estimation import build_estimator

TASK = Tasks(np.array([[-1.0, 0.6]]), np.array([[1.0, -0.8]]))
STEPS, BAD = 70, range(8, 14)  # on the way


def black(frame, rng):
    return np.zeros_like(frame)


def white(frame, rng):
    return np.full_like(frame, 255)


def noise(frame, rng):
    return rng.integers(0, 256, frame.shape).astype(np.uint8)


def elsewhere(frame, rng):
    return render_frames(np.array([[-2.5, -1.0]]))[0]


class Spoilt(gym.ObservationWrapper):
    """The Reacher behind a camera that fails at some steps."""

    def __init__(self, spoil, steps=BAD):
        super().__init__(ReacherGoal())
        self.spoil, self.steps, self.now, self.rng = spoil, steps, 0, np.random.default_rng(0)

    def observation(self, observation):
        self.now += 1
        if self.now in self.steps:
            return observation | {"observation": self.spoil(observation["observation"], self.rng)}
        return observation


def episode(agent, spoil, steps=BAD):
    """The state at the end of an episode, and the largest distance of a joint from its goal there, rad."""
    env = Spoilt(spoil, steps)
    observation, _ = env.reset(seed=0, options=TASK.options()[0])
    state = None
    for _ in range(STEPS):
        action, state = agent.predict(observation, state)
        observation, *_, info = env.step(action)
    angles = info["qpos"]
    return state, float(np.abs((angles - TASK.goals[0] + np.pi) % (2 * np.pi) - np.pi).max())


@pytest.fixture(scope="module")
def agent():
    return load_agent("reacher")


@pytest.mark.parametrize("spoil", [black, white, noise, elsewhere])
def test_bad_frames_are_counted_and_predicted_through(agent, spoil):
    state, off = episode(agent, spoil)
    assert len(BAD) - 2 <= state.ignored[0] <= len(BAD) and state.blind[0] == 0  # near the arm's place, one may pass
    assert off < 0.1


def test_of_good_frames_none_is_ignored(agent):
    state, off = episode(agent, black, steps=())
    assert state.ignored[0] == 0 and off < 0.1


def test_without_the_test_a_black_frame_throws_the_estimate(agent):
    """The negative control: what `update` makes of the same latent."""
    estimator = agent.controller.estimator
    start = estimator.start(np.array([[0.5, 0.4]]))
    action, latent = np.zeros((1, 2)), agent.encoder(np.zeros((1, 64, 64, 3), np.uint8)).astype(float)
    careful, odd = estimator.watch(start, action, latent)
    assert odd.all() and np.abs(careful - start)[0, :2].max() < 0.01
    assert np.abs(estimator.update(start, action, latent) - start)[0, :2].max() > 0.3


def test_after_some_frames_in_a_row_the_filter_starts_anew(agent):
    """An arm that was moved by hand is believed in the end."""
    before, after = render_frames(np.array([[-1.0, 0.6], [1.4, -0.5]]))
    goal, state = render_frames(np.array([[0.2, 0.2]]))[0], None
    _, state = agent.predict({"observation": before, "desired_goal": goal}, state)
    for k in range(PATIENCE):
        _, state = agent.predict({"observation": after, "desired_goal": goal}, state)
        assert state.ignored[0] == state.blind[0] == k + 1
    _, state = agent.predict({"observation": after, "desired_goal": goal}, state)
    np.testing.assert_allclose(state.mean[0, :2], agent.encoder(after[None])[0], atol=1e-5)
    assert state.ignored[0] == PATIENCE + 1 and state.blind[0] == 0
    _, fresh = agent.predict({"observation": after, "desired_goal": goal}, state, episode_start=np.ones(1, bool))
    assert fresh.ignored[0] == 0


def test_without_known_noise_everything_is_believed():
    still = LinearDynamics(np.eye(2), np.zeros((2, 2)))
    estimator = build_estimator(still, 2)
    _, odd = estimator.watch(np.zeros((3, 2)), np.zeros((3, 2)), 1e6 * np.ones((3, 2)))
    assert estimator.precision is None and not odd.any()


def test_rows_are_judged_one_by_one():
    dynamics = LinearDynamics(np.eye(2), np.eye(2), process_noise=0.01 * np.eye(2), observation_noise=0.01 * np.eye(2))
    estimator, latents = build_estimator(dynamics, 2), np.array([[0.1, 0.0], [5.0, 0.0]])
    S = np.linalg.inv(estimator.precision)
    means, odd = estimator.watch(np.zeros((2, 2)), np.zeros((2, 2)), latents)
    assert odd.tolist() == [False, True] and not means[1].any()
    np.testing.assert_array_equal(means[0], estimator.update(np.zeros((2, 2)), np.zeros((2, 2)), latents)[0])
    # S is the covariance of what comes: of the prediction, and of the noise of a frame.
    P = (1 + np.sqrt(5)) / 2 * 0.01  # p = p r / (p + r) + q with q = r
    np.testing.assert_allclose(S, (P + 0.01) * np.eye(2), rtol=1e-9)
