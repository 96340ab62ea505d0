"""Latents in place of frames: the filter by hand, every autoreset mode, checkers, hindsight replay; other worlds."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils import env_checker as gymnasium_checker
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common import env_checker as sb3_checker

import worldplan as wp
from worldplan.agents.latent_observation import LatentObservation, LatentTracker, VectorLatentObservation
from worldplan.agents.planning_agent import load_agent
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rendering import render_frames
from worldplan.errors import InvalidInput
from worldplan.planning.space import LatentSpace

GOAL, PIXELS = "worldplan/ReacherGoal-v0", "worldplan/ReacherPixels-v0"


@pytest.fixture(scope="module")
def agent():
    return load_agent("reacher")


def torques(count, rows=1, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, rows, 2)).astype(np.float32)


def test_the_vector_is_the_filtered_latent(agent):
    env = gym.make(GOAL, profile="fast")
    wrapped = LatentObservation(gym.make(GOAL, profile="fast"), agent)
    frames, _ = env.reset(seed=5)
    vector, _ = wrapped.reset(seed=5)
    control, space, n = agent.controller, agent.encoder.space, agent.encoder.latent_dim
    mean = control.start(agent.encoder(frames["observation"][None]))
    for torque in torques(20)[:, 0]:
        wide = np.concatenate([space.embed(mean[:, :n]), 50 * mean[:, n:]], axis=1)[0]  # steps a second
        np.testing.assert_array_equal(vector["observation"], wide.astype(np.float32))
        np.testing.assert_array_equal(vector["achieved_goal"], space.embed(mean[0, :n]).astype(np.float32))
        goal = space.embed(agent.encoder(frames["desired_goal"]))
        np.testing.assert_allclose(vector["desired_goal"], goal, atol=1e-6)
        frames, reward, *_ = env.step(torque)
        mean, _ = control.watch(mean, torque[None].astype(float), agent.encoder(frames["observation"][None]))
        vector, same, *_ = wrapped.step(torque)
        assert same == reward
    assert np.abs(mean[:, n:]).max() > 0.01  # it moved, and the filter knows


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("name", [GOAL, PIXELS])
def test_a_vector_environment_gives_what_single_ones_give(agent, mode, name):
    options = {"profile": "fast", "max_episode_steps": 4}
    singles = [LatentObservation(gym.make(name, **options), agent) for _ in range(2)]
    make = [lambda: gym.make(name, **options), lambda: gym.make(name, **{**options, "max_episode_steps": 6})]
    singles[1] = LatentObservation(make[1](), agent)
    rows = VectorLatentObservation(SyncVectorEnv(make, autoreset_mode=mode), agent)
    seen, _ = rows.reset(seed=[1, 2])
    wanted = [env.reset(seed=k + 1)[0] for k, env in enumerate(singles)]
    over = np.zeros(2, dtype=bool)
    for step, action in enumerate(torques(15, 2)):
        for k, row in enumerate(wanted):
            compare(seen, row, k)
        if mode is AutoresetMode.DISABLED and over.any():
            mask = over.copy()
            seen, _ = rows.reset(options={"reset_mask": mask})
            for k in np.flatnonzero(mask):
                wanted[k] = singles[k].reset()[0]
            over[:] = False
            continue
        seen, _, terminated, truncated, infos = rows.step(action)
        before, over = over, terminated | truncated
        for k, env in enumerate(singles):
            if mode is AutoresetMode.NEXT_STEP and before[k]:
                wanted[k] = env.reset()[0]
                continue
            wanted[k], *_, single_over, _ = env.step(action[k])
            assert single_over == over[k], step
            if mode is AutoresetMode.SAME_STEP and over[k]:
                last = infos["final_obs"][k]
                compare({"x": last} if not isinstance(last, dict) else {a: b[None] for a, b in last.items()}, wanted[k])
                wanted[k] = env.reset()[0]


def compare(rows, single, k=0):
    """A row of a vector environment's observations against a single one's; batches round differently."""
    if not isinstance(single, dict):
        rows, single = rows if isinstance(rows, dict) else {"x": rows[k]}, {"x": single}
        np.testing.assert_allclose(rows["x"], single["x"], atol=1e-5)
        return
    assert rows.keys() == single.keys()
    for key, value in single.items():
        np.testing.assert_allclose(rows[key][k], value, atol=1e-5)


@pytest.mark.parametrize("tolerance", [None, 0.2])
@pytest.mark.parametrize("checker", ["gymnasium", "stable_baselines3"])
def test_both_checkers_pass(checker, tolerance, agent):
    check = {"gymnasium": gymnasium_checker, "stable_baselines3": sb3_checker}[checker].check_env
    env = LatentObservation(gym.make(GOAL, profile="fast").unwrapped, agent, tolerance=tolerance)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(infinity|is different from the unwrapped).*")
        if checker == "gymnasium":
            check(env, skip_render_check=True)
        elif tolerance is not None:
            check(env)


def test_rewards_are_those_of_the_goals_it_shows(agent):
    env = LatentObservation(gym.make(GOAL, profile="fast"), agent, tolerance=0.3)
    pose = np.array([0.4, 1.0])
    env.reset(seed=0, options={"qpos": pose, "goal_qpos": pose + 0.05})
    seen, reward, *_, info = env.step(np.zeros(2, np.float32))
    assert reward == 0.0 == env.compute_reward(seen["achieved_goal"], seen["desired_goal"], info)
    both = (np.stack([seen["achieved_goal"]] * 2), np.stack([seen["desired_goal"], -seen["desired_goal"]]))
    assert env.compute_reward(*both, [info, info]).tolist() == [0.0, -1.0]
    assert not env.compute_terminated(*both, [info, info]).any()
    rows = VectorLatentObservation(SyncVectorEnv([lambda: gym.make(GOAL, profile="fast")]), agent, tolerance=0.3)
    rows.reset(seed=0, options={"qpos": pose, "goal_qpos": pose + 0.05})
    assert rows.step(np.zeros((1, 2), np.float32))[1].tolist() == [0.0]


def test_distances_go_the_short_way_round(agent):
    tracker = LatentTracker(agent, 0.1)
    tracker.space, tracker._n, tracker.goal_width = LatentSpace("line", "circle"), 2, 3
    a, b = (tracker.goals(np.array([[2.0, angle]])) for angle in (3.1, -3.1))
    np.testing.assert_allclose(tracker.distance(a, b), 2 * np.pi - 6.2, atol=1e-6)
    with pytest.raises(InvalidInput, match="goals are latents"):
        tracker.distance(a[:, :2], b[:, :2])


def test_hindsight_replay_on_latents(agent):
    env = LatentObservation(gym.make(GOAL, profile="fast", max_episode_steps=15), agent, tolerance=0.3)
    model = SAC("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, buffer_size=100, learning_starts=32,
                batch_size=8, policy_kwargs={"net_arch": [8]}, device="cpu", seed=0)  # fmt: skip
    model.learn(40)
    assert set(model.replay_buffer.sample(64).rewards.unique().tolist()) == {-1.0, 0.0}


def test_an_arm_moved_by_hand_is_believed_after_a_while(agent):
    tracker = LatentTracker(agent)
    near, far = (render_frames(np.tile(q, (1, 1)), None, "fast") for q in ([0.2, 0.4], [2.8, -1.5]))
    tracker.start(near)
    means = [tracker.follow(np.zeros((1, 2)), far)[0] for _ in range(14)]
    shown = tracker.latents(far)[0]
    gaps = [np.abs(tracker.space.difference(mean[:2], shown)).max() for mean in means]
    assert gaps[5] > 1.0
    assert gaps[-1] < 0.05


def test_other_worlds_with_their_own_agents():
    world = wp.envs.find_world("point_mass")
    env = LatentObservation(wp.envs.GoalEnv(world), "point_mass", tolerance=0.1)
    seen, _ = env.reset(seed=0)
    assert {key: value.shape for key, value in seen.items()} == {
        "observation": (4,), "achieved_goal": (2,), "desired_goal": (2,)
    }  # fmt: skip
    assert env.step(env.action_space.sample())[0] in env.observation_space
    env.close()


def test_what_does_not_fit_is_refused(agent):
    with pytest.raises(InvalidInput, match="the agent sees frames"):
        LatentObservation(gym.make("Pendulum-v1"), agent)
    with pytest.raises(InvalidInput, match="has 1 actions"):
        LatentObservation(gym.make(GOAL, pixels=False), "cartpole")
    with pytest.raises(InvalidInput, match="a tolerance is for environments with goals"):
        LatentObservation(gym.make(PIXELS), agent, tolerance=0.1)
    with pytest.raises(InvalidInput, match="tolerance must be a finite number > 0"):
        LatentObservation(gym.make(GOAL, pixels=False), agent, tolerance=-1.0)
    env = LatentObservation(gym.make(GOAL, pixels=False), agent)
    with pytest.raises(InvalidInput, match="give LatentObservation a tolerance"):
        env.compute_reward(np.zeros(3), np.zeros(3), {})


@pytest.mark.parametrize("tolerance", [0, -1, np.nan, np.inf, "x", [0.1], np.array([0.1]), True, 1j])
def test_a_tolerance_is_a_number_above_0(tolerance):
    with pytest.raises(InvalidInput, match="tolerance must be"):
        LatentObservation(ReacherGoal(), tolerance=tolerance)


def test_a_step_before_the_first_reset_and_actions_of_other_shapes():
    env = LatentObservation(ReacherGoal(pixels=False), tolerance=np.array(0.1))
    env.env.reset(seed=0)
    with pytest.raises(InvalidInput, match="reset"):
        env.step(np.zeros(2))
    env.reset(seed=np.int64(0))
    for wrong in ([np.nan, 0.0], [0.0], [[0.0, 0.0]], "xy", None):
        with pytest.raises(InvalidInput):
            env.step(wrong)
    seen, *_ = env.step(np.zeros(2))
    assert np.isfinite(seen["observation"]).all()
    for wrong in ("a", [[1], [1, 2]], [np.nan, 0.0], np.zeros(9)):
        with pytest.raises(InvalidInput):
            env.compute_reward(wrong, wrong, {})
