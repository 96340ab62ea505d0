"""N Reachers as one environment: the same as N single ones, in every autoreset mode."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from worldplan.agents.latent_observation import VectorLatentObservation
from worldplan.envs.reacher import TIP_TOLERANCE
from worldplan.envs.vector import ReacherGoalVector
from worldplan.errors import InvalidInput, UnknownName

ID = "worldplan/ReacherGoal-v0"
N = 3


def torques(steps, n=N, seed=0):
    return np.random.default_rng(seed).uniform(-1.2, 1.2, (steps, n, 2)).astype(np.float32)


def alike(ours, theirs):
    """Observations; rounding in the physics flips a pixel now and then."""
    assert ours.keys() == theirs.keys()
    for key, frames in ours.items():
        assert frames.shape == theirs[key].shape and frames.dtype == np.uint8
        assert np.abs(frames.astype(int) - theirs[key]).mean() < 0.01


def same_facts(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if key.startswith("_"):
            np.testing.assert_array_equal(ours[key], value)
        elif key not in ("final_obs", "final_info"):
            mask = theirs[f"_{key}"]
            np.testing.assert_allclose(ours[key][mask], value[mask], atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"reward": "match", "success": "qpos", "target": "hidden"}])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_it_equals_single_environments(mode, options):
    options = {"profile": "fast", "max_episode_steps": 4, **options}
    ours = gym.make_vec(ID, num_envs=N, autoreset_mode=mode, **options)
    assert isinstance(ours, ReacherGoalVector)
    theirs = SyncVectorEnv([lambda: gym.make(ID, **options)] * N, autoreset_mode=mode)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    seen, infos = ours.reset(seed=7)
    wanted, facts = theirs.reset(seed=7)
    alike(seen, wanted), same_facts(infos, facts)
    for action in torques(11):
        action = action.clip(-1, 1)
        mine, other = ours.step(action), theirs.step(action)
        alike(mine[0], other[0]), same_facts(mine[4], other[4])
        np.testing.assert_allclose(mine[1], other[1], atol=1e-9)
        for k in (2, 3):
            np.testing.assert_array_equal(mine[k], other[k])
        if "final_obs" in other[4]:
            for k in np.flatnonzero(other[3]):
                alike(mine[4]["final_obs"][k], other[4]["final_obs"][k])
            np.testing.assert_allclose(mine[4]["final_info"]["qpos"], other[4]["final_info"]["qpos"], atol=1e-9)
        if mode is AutoresetMode.DISABLED and mine[3].any():
            mask = {"reset_mask": mine[3].copy()}
            mine, other = ours.reset(options=dict(mask)), theirs.reset(options=dict(mask))
            alike(mine[0], other[0]), same_facts(mine[1], {k: v for k, v in other[1].items()})
    ours.close()


def test_some_rows_begin_anew_alone_and_where_one_says():
    env = ReacherGoalVector(N, pixels=False, autoreset_mode="Disabled", max_episode_steps=None)
    starts = np.array([[0.1, 0.2], [1.0, -1.0], [2.0, 0.5]])
    _, infos = env.reset(seed=0, options={"qpos": starts, "goal_qpos": [0.3, 0.4]})
    np.testing.assert_array_equal(infos["qpos"], starts)
    np.testing.assert_array_equal(infos["goal_qpos"], np.tile([0.3, 0.4], (N, 1)))
    *_, moved = env.step(np.ones((N, 2)))
    mask = np.array([False, True, False])
    _, infos = env.reset(options={"qpos": starts, "reset_mask": mask})
    np.testing.assert_array_equal(infos["_qpos"], mask)
    np.testing.assert_array_equal(infos["qpos"][mask], starts[mask])
    np.testing.assert_array_equal(infos["qpos"][~mask], moved["qpos"][~mask])
    assert np.abs(moved["qpos"] - starts).max() > 1e-4


def test_frames_drawn_by_several_processes_are_the_same():
    one, two = (ReacherGoalVector(N, profile="fast", processes=k) for k in (1, 2))
    for env in (one, two):
        env.reset(seed=1)
    for action in torques(2):
        a, b = one.step(action), two.step(action)
        assert all(np.array_equal(a[0][key], b[0][key]) for key in a[0])
    two.close()


def test_the_same_seed_gives_the_same_bytes_and_others_do_not():
    env = ReacherGoalVector(2, profile="fast")
    first, again, other = (env.reset(seed=seed)[0]["observation"] for seed in (4, [4, 5], 5))
    assert np.array_equal(first, again)
    assert np.array_equal(first[1], other[0])
    assert not np.array_equal(first, other)
    assert not np.array_equal(env.reset()[0]["observation"], other)


def test_latents_of_it():
    env = VectorLatentObservation(gym.make_vec(ID, num_envs=N, profile="fast"), "reacher", tolerance=0.3)
    seen, _ = env.reset(seed=0)
    assert seen in env.observation_space
    for action in torques(3):
        seen, rewards, *_ = env.step(action)
        assert seen in env.observation_space and set(rewards.tolist()) <= {-1.0, 0.0}


def test_success_and_frames_to_look_at():
    env = ReacherGoalVector(2, pixels=False, render_mode="rgb_array")
    pose = np.array([0.5, 0.5])
    _, infos = env.reset(seed=0, options={"qpos": pose, "goal_qpos": np.stack([pose + 0.01, pose + 1.0])})
    assert infos["is_success"].tolist() == [True, False]
    assert infos["tip_distance"][0] < TIP_TOLERANCE < infos["tip_distance"][1]
    assert len(env.render()) == 2
    assert ReacherGoalVector(2, pixels=False).render() is None


@pytest.mark.parametrize("wrong", [{"num_envs": 0}, {"processes": 0}, {"success": "x"}, {"autoreset_mode": "later"}])
def test_impossible_environments_are_refused(wrong):
    with pytest.raises((InvalidInput, UnknownName)):
        ReacherGoalVector(**{"num_envs": 2, "pixels": False, **wrong})


def test_impossible_calls_are_refused():
    env = ReacherGoalVector(2, pixels=False, autoreset_mode=AutoresetMode.DISABLED, max_episode_steps=1)
    env.reset(seed=0)
    for actions in (np.zeros((3, 2)), np.full((2, 2), np.nan)):
        with pytest.raises(InvalidInput):
            env.step(actions)
    for wrong in (
        {"seed": [1]},
        {"options": {"reset_mask": np.zeros(2, dtype=bool)}},
        {"options": {"qpos": [0.0, 3.1]}},
        {"options": {"nothing": 1}},
    ):
        with pytest.raises((InvalidInput, UnknownName)):
            env.reset(**wrong)
    env.step(np.zeros((2, 2)))
    with pytest.raises(InvalidInput, match="some episodes are over"):
        env.step(np.zeros((2, 2)))


def test_seeds_of_numpy_and_of_other_types():
    env = ReacherGoalVector(3, pixels=False)
    _, one = env.reset(seed=[1, 2, 3])
    for seed in (np.int64(1), np.array(1), np.array([1, 2, 3]), (1, 2, 3)):
        np.testing.assert_array_equal(env.reset(seed=seed)[1]["qpos"], one["qpos"])
    for seed in (-1, 1.5, "x", [1, 2, -1], [1, 2, "x"], [1, 2], [1.5] * 3):
        with pytest.raises(InvalidInput, match="seed"):
            env.reset(seed=seed)
    with pytest.raises(InvalidInput, match="dictionary"):
        env.reset(options=5)
    env.close()
    env.close()


def test_a_closed_environment_says_so():
    env = ReacherGoalVector(2, pixels=False)
    env.reset(seed=0)
    env.close()
    for call in (env.reset, lambda: env.step(np.zeros((2, 2)))):
        with pytest.raises(InvalidInput, match="closed"):
            call()
