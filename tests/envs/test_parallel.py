"""Hundreds of episodes side by side: the same as one by one in the environment, and much faster."""

import time

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import SAC

import worldplan.envs
from worldplan.agents.actor import ActorPolicy
from worldplan.agents.sac_run import actor_tensors
from worldplan.envs.parallel import rollout_states
from worldplan.errors import InvalidInput, UnknownName

ENV = "worldplan/Reacher-v0"


@pytest.fixture(scope="module")
def model():
    return SAC("MlpPolicy", gym.make(ENV), policy_kwargs={"net_arch": [128, 128]}, seed=1, device="cpu")


@pytest.fixture(scope="module")
def policy(model):
    return ActorPolicy(actor_tensors(model), model.observation_space, model.action_space)


def assert_same(ours, theirs, tolerance):
    assert set(ours.info) == set(theirs.info)
    for k in range(len(theirs)):
        pairs = [(ours.frames, theirs.frames), (ours.actions, theirs.actions), (ours.rewards, theirs.rewards)]
        for mine, wanted in [*pairs, *((ours.info[name], theirs.info[name]) for name in theirs.info)]:
            np.testing.assert_allclose(mine[k], wanted[k], atol=tolerance)


@pytest.mark.parametrize("task", ["easy", "hard"])
def test_random_torques_give_the_environments_episodes(task):
    ours = rollout_states(None, 3, seed=4, task=task, batch=2)
    theirs = worldplan.envs.rollout(gym.make(ENV, task=task), None, 3, seed=4)
    assert_same(ours, theirs, 1e-9)
    assert max(np.abs(q[:, 1]).max() for q in theirs.info["qpos"]) > np.deg2rad(160)  # the wrist's stop was felt
    other = rollout_states(None, 3, seed=5, task=task, batch=2)
    assert not np.allclose(other.actions[0], ours.actions[0])


def test_an_agent_gives_the_environments_episodes(policy):
    theirs = worldplan.envs.rollout(gym.make(ENV), policy, 2, seed=0, steps=200)
    assert_same(rollout_states(policy, 2, seed=0, steps=200), theirs, 1e-4)
    assert {a.shape for a in theirs.actions} == {(200, 2)}


def test_rewards_are_those_of_the_environment():
    """With starts in the target, so that rewards of both kinds are there."""
    ours = rollout_states(None, 40, seed=0, steps=60)
    assert {float(r) for rewards in ours.rewards for r in rewards} == {0.0, 1.0}
    k = int(np.argmax([np.ptp(rewards) for rewards in ours.rewards]))
    theirs = worldplan.envs.rollout(gym.make(ENV), None, k + 1, seed=0, steps=60)
    np.testing.assert_array_equal(ours.rewards[k], theirs.rewards[k])


def test_drawn_actions_differ_and_come_from_the_agents_seed(policy):
    def actions(deterministic):
        policy.rng = np.random.default_rng(3)
        return np.stack(rollout_states(policy, 4, steps=20, deterministic=deterministic).actions)

    np.testing.assert_array_equal(actions(False), actions(False))
    assert np.abs(actions(False) - actions(True)).max() > 0.1


class Broken:
    def __init__(self, action):
        self.action = action

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        return self.action, None


def test_bad_input_is_refused():
    for bad in ({"episodes": 0}, {"episodes": 1, "steps": 0}, {"episodes": 1, "batch": 0}):
        with pytest.raises(InvalidInput):
            rollout_states(None, **bad)
    with pytest.raises(UnknownName, match="easy, hard"):
        rollout_states(None, 1, task="medium")
    for action in (np.zeros(2), np.full((1, 2), np.nan)):
        with pytest.raises(InvalidInput, match="finite actions"):
            rollout_states(Broken(action), 1, steps=5)


def test_it_is_faster_than_sb3s_loop(model, policy):
    """The floor is a factor of 3; a busy machine takes from both alike (CPU time)."""
    env = gym.make(ENV)
    observation, _ = env.reset(seed=0)
    clock = time.process_time()
    for _ in range(300):
        observation = env.step(model.predict(observation, deterministic=True)[0])[0]
    plain = 300 / (time.process_time() - clock)
    rollout_states(policy, 2, steps=2)  # imports
    clock = time.process_time()
    rollout_states(policy, 128, steps=100)
    assert 128 * 100 / (time.process_time() - clock) > 3 * plain
