"""The one loop: T + 1 frames for T actions, each episode reproducible by itself, on any Gymnasium environment."""

import gymnasium as gym
import numpy as np
import pytest

from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.errors import InvalidInput


class Counter(gym.Env):
    """Counts its steps and ends by itself; reuses one buffer for all observations, as some simulators do."""

    observation_space = gym.spaces.Box(0, 100, (1,), np.float64)
    action_space = gym.spaces.Box(np.array([-1.0, 2.0]), np.array([1.0, 3.0]), dtype=np.float64)

    def __init__(self, length=4):
        self.length, self.buffer = length, np.zeros(1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.buffer[:] = 0
        self.torques, self.end = [], self.length + (options or {}).get("more", 0)
        return self.buffer, {"count": 0, "name": "start", "even": True}

    def step(self, action):
        self.torques.append(np.array(action))
        self.buffer += 1
        count = int(self.buffer[0])
        info = {"count": count, "name": "on the way", "even": count % 2 == 0, "late": 1.0}
        return self.buffer, -count, count >= self.end, False, info


class Constant:
    """One action; remembers what it was called with."""

    def __init__(self, action):
        self.action, self.calls = action, []

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        self.calls.append((np.array(observation), state, episode_start.copy(), deterministic))
        return np.array(self.action), (np.array([len(self.calls)]),)


def test_episodes_are_recorded_whole():
    data = rollout(Counter(), None, 3)
    assert (len(data), data.steps) == (3, 12)
    for k in range(3):
        assert data.frames[k][:, 0].tolist() == [0, 1, 2, 3, 4]  # copies, not views of the environment's buffer
        assert data.actions[k].shape == (4, 2)
        assert data.rewards[k].tolist() == [-1, -2, -3, -4]
        assert data.info["count"][k].tolist() == [0, 1, 2, 3, 4]
        assert data.info["even"][k].dtype == bool
    assert set(data.info) == {"count", "even"}  # neither words nor what is missing at the start


class Told(Counter):
    """Tells `tell(step)` as the entry `x`."""

    def __init__(self, tell):
        super().__init__()
        self.tell = tell

    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        return observation, {**info, "x": self.tell(0)}

    def step(self, action):
        observation, reward, done, cut, info = super().step(action)
        return observation, reward, done, cut, {**info, "x": self.tell(info["count"])}


@pytest.mark.parametrize(
    ("tell", "kept"),
    [
        (lambda k: np.zeros(k % 3), False),  # contacts
        (lambda k: 0.0 if k == 0 else np.zeros(2), False),
        (lambda k: None if k == 0 else 1.0, False),
        (lambda k: [1.0, 2.0], False),
        (lambda k: np.zeros((2, 1)), True),
        (lambda k: k if k % 2 else float(k), True),
    ],
)
def test_entries_that_change_their_shape_are_left_out(tell, kept):
    data = rollout(Told(tell), None, 2)
    assert ("x" in data.info) is kept
    assert {"count", "even"} <= set(data.info)


class Parts(Counter):
    """Observations as dm_control has them by Gymnasium: parts with names of their own."""

    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        return {"position": observation, "velocity": observation}, info


def test_parts_without_a_main_observation_are_refused_by_name():
    with pytest.raises(InvalidInput, match=r"'observation', got \['position', 'velocity'\]; wrap"):
        rollout(Parts(), None, 1)


def test_the_agent_meets_the_environment_as_sb3_would():
    agent = Constant([0.5, 2.5])
    rollout(Counter(), agent, 2)
    observations, states, starts, deterministic = zip(*agent.calls, strict=True)
    assert [o.item() for o in observations] == [0, 1, 2, 3] * 2
    assert [s and s[0].item() for s in states] == [None, 1, 2, 3, None, 5, 6, 7]
    assert [s.tolist() for s in starts] == ([[True]] + [[False]] * 3) * 2
    assert all(deterministic)


def test_actions_are_recorded_as_they_were_applied():
    env = Counter()
    data = rollout(env, Constant([5.0, 0.0]), 1)
    assert np.array_equal(data.actions[0], [[1.0, 2.0]] * 4)
    assert np.array_equal(data.actions[0], env.torques)


def test_random_torques_fill_the_action_space():
    actions = np.concatenate(rollout(Counter(50), None, 8).actions)
    assert (actions.min(axis=0) > [-1, 2]).all() and (actions.max(axis=0) < [1, 3]).all()
    assert np.ptp(actions, axis=0) == pytest.approx([2, 1], rel=0.03)
    assert len(np.unique(actions)) == actions.size


def test_steps_cut_and_options_pass():
    assert [len(a) for a in rollout(Counter(), None, 2, steps=3).actions] == [3, 3]
    assert [len(a) for a in rollout(Counter(), None, 2, steps=9).actions] == [4, 4]
    assert [len(a) for a in rollout(Counter(), None, 2, options=[{}, {"more": 3}]).actions] == [4, 7]


def test_an_episode_does_not_depend_on_the_others():
    env = ReacherGoal(profile="fast")
    three = rollout(env, None, 3, seed=7, steps=4)
    two = rollout(env, None, 2, seed=7, steps=4)
    other = rollout(env, None, 2, seed=8, steps=4)
    for k in range(2):
        assert np.array_equal(three.frames[k], two.frames[k])
        assert np.array_equal(three.actions[k], two.actions[k])
        assert np.array_equal(three.info["goal_qpos"][k], two.info["goal_qpos"][k])
        assert not np.array_equal(other.actions[k], two.actions[k])
    assert not np.array_equal(two.actions[0], two.actions[1])


def test_reacher_frames_and_facts():
    env = gym.make("worldplan.envs:worldplan/ReacherGoal-v0", profile="fast")  # with Gymnasium's own wrappers
    data = rollout(env, None, 1, steps=3, options=[{"qpos": [0.1, 0.2], "goal_qpos": [1.0, 1.0]}])
    assert data.frames[0].shape == (4, 64, 64, 3) and data.frames[0].dtype == np.uint8
    assert data.info["qpos"][0][0].tolist() == [0.1, 0.2]
    assert {"qpos", "qvel", "goal_qpos", "tip_distance", "is_success"} <= set(data.info)
    assert data.actions[0].dtype == np.float64
    assert np.array_equal(data.actions[0], data.actions[0].astype(np.float32))  # what a float32 space really saw


def test_any_environment_with_a_box_of_actions():
    data = rollout(gym.make("Pendulum-v1"), None, 1, seed=1)
    assert data.frames[0].shape == (201, 3) and data.actions[0].shape == (200, 1)
    assert np.abs(data.actions[0]).max() > 1.5  # torques up to 2


def test_progress_sees_every_episode():
    seen = []
    rollout(Counter(), None, 3, progress=lambda items, total: (seen.append((k, total)) or k for k in items))
    assert seen == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"episodes": 0}, "at least one episode"),
        ({"episodes": 1, "steps": 0}, "at least one step"),
        ({"episodes": 2, "options": [{}]}, "1 reset options for 2 episodes"),
    ],
)
def test_impossible_requests_are_refused(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        rollout(Counter(), None, **arguments)


def test_actions_that_cannot_be_drawn_are_refused():
    unbounded = Counter()
    unbounded.action_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    with pytest.raises(InvalidInput, match="bounded"):
        rollout(unbounded, None, 1)
    assert rollout(unbounded, Constant([7.0, 7.0]), 1).actions[0][0].tolist() == [7.0, 7.0]
    with pytest.raises(InvalidInput, match=r"need a Box of actions.*Discrete"):
        rollout(gym.make("CartPole-v1"), None, 1)
