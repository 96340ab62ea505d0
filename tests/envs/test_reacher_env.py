"""ReacherGoal-v0: the contract, the stock physics, and what an image must and must not show."""

import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from scipy.stats import ks_2samp

import worldplan.envs.reacher as module
from worldplan.envs.reacher import WRIST_LIMIT, ReacherGoal, angle_error, fingertip, sample_qpos
from worldplan.envs.rendering import render_frames, sample_targets
from worldplan.errors import InvalidInput, UnknownName

ID = "worldplan.envs:worldplan/ReacherGoal-v0"
POSE, GOAL = np.array([0.3, -1.2]), np.array([-2.0, 0.7])
STILL = np.zeros(2, dtype=np.float32)


@pytest.fixture(scope="module")
def fast():
    return ReacherGoal(profile="fast")


@pytest.fixture(scope="module")
def physics():
    """No images: for everything that happens before the camera."""
    return ReacherGoal(pixels=False)


def episode(env, seed, steps=5):
    """Bytes of everything that an episode with the seed's torques shows."""
    observation, info = env.reset(seed=seed)
    torques = np.random.default_rng(seed).uniform(-1, 1, (steps, 2)).astype(np.float32)
    seen = [observation["observation"], observation["desired_goal"], info["qpos"]]
    for torque in torques:
        observation, reward, *_, info = env.step(torque)
        seen += [observation["observation"], observation["desired_goal"], info["qpos"], np.array(reward)]
    return [np.asarray(s).tobytes() for s in seen]


# --- the contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"reward": "match"}, {"profile": "fast", "target": "hidden", "render_mode": "rgb_array"}]
)
@pytest.mark.parametrize("checker", ["gymnasium", "stable_baselines3"])
def test_both_checkers_pass_without_a_warning(checker, options):
    from gymnasium.utils import env_checker as gymnasium_checker
    from stable_baselines3.common import env_checker as sb3_checker

    check_env = {"gymnasium": gymnasium_checker, "stable_baselines3": sb3_checker}[checker].check_env
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(ID, **options)
        check_env(env.unwrapped)  # wrappers of Gymnasium hide `compute_reward`, which SB3's checker calls


def test_spaces_types_and_the_length_of_an_episode():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(ID, pixels=False)
        observation, info = env.reset(seed=0)
        assert set(observation) == {"observation", "achieved_goal", "desired_goal"}
        assert np.array_equal(observation["observation"], observation["achieved_goal"])
        assert all(o.shape == (64, 64, 3) and o.dtype == np.uint8 for o in observation.values())
        assert env.action_space == gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        ends = []
        for _ in range(100):
            assert {"qpos", "goal_qpos", "tip_distance", "is_success"} <= set(info)
            observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
            assert type(reward) is float and type(info["is_success"]) is bool and type(info["tip_distance"]) is float
            assert observation in env.observation_space
            ends.append((terminated, truncated))
        assert ends == [(False, False)] * 99 + [(False, True)]
        env.reset()
        assert env.step(STILL)[3] is False  # counting starts anew


def test_success_does_not_end_an_episode(physics):
    physics.reset(options={"qpos": GOAL, "goal_qpos": GOAL})
    _, _, terminated, truncated, info = physics.step(STILL)
    assert info["is_success"] and not terminated and not truncated


def test_reward_is_the_squared_error_where_the_torque_was_chosen(physics):
    _, info = physics.reset(seed=3, options={"qpos": [3.0, 1.0], "goal_qpos": [-3.0, -1.0]})
    for torque in np.random.default_rng(0).uniform(-1.5, 1.5, (20, 2)):
        shoulder, wrist = info["qpos"] - info["goal_qpos"]
        turns = [(shoulder + 2 * np.pi * k) ** 2 for k in range(-5, 6)]
        applied = np.clip(torque, -1, 1)
        _, reward, *_, info = physics.step(torque)
        assert reward == pytest.approx(-(min(turns) + wrist**2 + 0.1 * applied @ applied), abs=1e-12)


def test_render_gives_the_current_frame(fast):
    assert fast.render() is None
    env = ReacherGoal(profile="fast", render_mode="rgb_array")
    env.reset(seed=0)
    assert np.array_equal(env.step(np.ones(2))[0]["observation"], env.render())


# --- seeds and options ----------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_episode_to_the_byte(fast):
    first = episode(fast, seed=5)
    assert episode(ReacherGoal(profile="fast"), seed=5) == first
    episode(fast, seed=6)
    assert episode(fast, seed=5) == first  # whatever came before
    assert not set(episode(fast, seed=6)) & set(first)


def test_options_are_honoured_and_change_nothing_else(fast):
    drawn, info = fast.reset(seed=5)
    given, chosen = fast.reset(seed=5, options={"qpos": POSE})
    assert np.array_equal(chosen["qpos"], POSE)
    assert np.array_equal(chosen["qvel"], [0, 0])
    assert np.array_equal(chosen["goal_qpos"], info["goal_qpos"])
    assert np.array_equal(given["desired_goal"], drawn["desired_goal"])
    _, both = fast.reset(seed=5, options={"qpos": POSE, "goal_qpos": GOAL})
    assert np.array_equal(both["goal_qpos"], GOAL)
    assert both["tip_distance"] == pytest.approx(np.linalg.norm(fingertip(POSE) - fingertip(GOAL)), abs=1e-12)


def test_options_are_copied(physics):
    mine = GOAL.copy()
    physics.reset(options={"goal_qpos": mine})
    mine[:] = 0
    assert np.array_equal(physics.info()["goal_qpos"], GOAL)
    physics.info()["goal_qpos"][:] = 0
    assert np.array_equal(physics.info()["goal_qpos"], GOAL)


def test_poses_follow_the_stock_reset():
    from dm_control import suite

    stock = suite.load("reacher", "hard", task_kwargs={"random": 0})
    theirs = []
    for _ in range(400):
        stock.reset()
        theirs.append(stock.physics.data.qpos.copy())
    rng = np.random.default_rng(0)
    ours = np.array([sample_qpos(rng) for _ in range(4000)])
    for joint in range(2):
        assert ks_2samp(ours[:, joint], np.array(theirs)[:, joint]).pvalue > 0.01
    assert (np.abs(ours[:, 1]) <= WRIST_LIMIT).all() and np.abs(ours[:, 1]).max() > 0.99 * WRIST_LIMIT
    assert np.pi > np.abs(ours[:, 0]).max() > 0.99 * np.pi
    assert ks_2samp(0.8 * ours[:, 0], np.array(theirs)[:, 0]).pvalue < 0.01  # the test can tell


def test_start_and_goal_of_an_episode_are_independent_draws(physics):
    poses = []
    for seed in range(200):
        _, info = physics.reset(seed=seed)
        poses.append([*info["qpos"], *info["goal_qpos"]])
    correlation = np.corrcoef(np.array(poses).T) - np.eye(4)
    assert np.abs(correlation).max() < 0.25


# --- the physics ----------------------------------------------------------------------------------------------------


def test_the_arm_moves_as_in_the_stock_task(physics):
    from dm_control import suite

    stock = suite.load("reacher", "hard", task_kwargs={"random": 0})
    stock.reset()
    with stock.physics.reset_context():
        stock.physics.data.qpos[:] = POSE
    assert stock.control_timestep() == module.STEP_SECONDS
    physics.reset(options={"qpos": POSE})
    for torque in np.random.default_rng(1).uniform(-1, 1, (100, 2)):
        stock.step(torque)
        info = physics.step(torque)[4]
        assert np.array_equal(info["qpos"], stock.physics.data.qpos)
        assert np.array_equal(info["qvel"], stock.physics.data.qvel)
    assert np.abs(info["qpos"] - POSE).max() > 0.1  # it did move


def test_fingertip_is_where_the_simulator_has_it(physics):
    for seed in range(5):
        _, info = physics.reset(seed=seed)
        finger = physics._physics.named.data.geom_xpos["finger", :2]
        assert np.allclose(fingertip(info["qpos"]), finger, rtol=0, atol=1e-9)


def test_angle_error_wraps_the_shoulder_only_and_leaves_its_input():
    qpos, goal = np.array([[3.0, 2.7], [-3.0, 0.0], [7.0, 0.0]]), np.array([[-3.0, -2.7], [3.0, 0.0], [0.5, 0.0]])
    before = qpos.copy(), goal.copy()
    wanted = [[6.0 - 2 * np.pi, 5.4], [2 * np.pi - 6.0, 0.0], [6.5 - 2 * np.pi, 0.0]]
    assert np.allclose(angle_error(qpos, goal), wanted, rtol=0, atol=1e-12)
    assert np.array_equal(qpos, before[0]) and np.array_equal(goal, before[1])
    assert angle_error(np.array([np.pi, 0.0]), np.zeros(2))[0] == -np.pi
    assert np.allclose(angle_error(qpos, np.zeros(2))[1], [-3.0, 0.0])


def test_both_success_criteria():
    tip, joints = (ReacherGoal(pixels=False, success=name) for name in ("tip", "qpos"))

    def verdicts(qpos, goal):
        return [env.reset(options={"qpos": qpos, "goal_qpos": goal})[1]["is_success"] for env in (tip, joints)]

    assert verdicts([0, 1], [0, 1]) == [True, True]
    assert verdicts([0.06, 1], [0, 1]) == [True, False]  # 13 mm beside the goal
    assert verdicts([0.04, 1.04], [0, 1]) == [True, True]
    assert verdicts([0.2, 1], [0, 1]) == [False, False]
    elbow_up, elbow_down = [0.5, 1.0], [1.5, -1.0]  # one fingertip, two poses
    assert verdicts(elbow_up, elbow_down) == [True, False]
    assert verdicts([np.pi, 0.5], [-np.pi, 0.5]) == [True, True]
    edge = 2 * np.arcsin(0.025 / 0.48)  # both links stretched: a chord of .025 m
    assert verdicts([0.999 * edge, 0], [0, 0])[0] and not verdicts([1.001 * edge, 0], [0, 0])[0]


# --- the images -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["hard", "easy"])
def test_the_target_stands_at_one_place_in_both_images(target):
    env = ReacherGoal(profile="fast", target=target)
    observation, _ = env.reset(seed=2, options={"qpos": POSE, "goal_qpos": GOAL})
    place = env._target
    assert place[2] == {"hard": 0.015, "easy": 0.05}[target]
    frames = render_frames(np.array([POSE, GOAL]), place, "fast")
    assert np.array_equal(observation["observation"], frames[0])
    assert np.array_equal(observation["desired_goal"], frames[1])
    bare = render_frames(np.array([POSE, GOAL]), None, "fast")
    assert (frames != bare).any(axis=(1, 2, 3)).all()  # it is seen in both
    after = env.step(STILL)[0]
    assert np.array_equal(after["desired_goal"], frames[1])
    env.reset(seed=3)
    assert not np.array_equal(env._target, place)


def test_a_hidden_target_leaves_no_trace():
    env = ReacherGoal(profile="fast", target="hidden")
    poses = {"qpos": POSE, "goal_qpos": GOAL}
    first, second = (env.reset(seed=seed, options=poses)[0] for seed in (0, 1))
    assert all(np.array_equal(first[k], second[k]) for k in first)
    shown = ReacherGoal(profile="fast").reset(seed=0, options=poses)[0]
    assert not np.array_equal(first["observation"], shown["observation"])


def test_the_default_look_is_the_stock_one(fast):
    options = {"qpos": POSE, "goal_qpos": GOAL}
    stock = ReacherGoal()
    ours = stock.reset(seed=0, options=options)[0]["observation"]
    assert np.array_equal(ours, render_frames(POSE[None], stock._target, "dmc")[0])
    plain = fast.reset(seed=0, options=options)[0]["observation"]
    assert np.abs(ours.astype(float) - plain).mean() > 5


def test_observations_are_not_overwritten(fast):
    first, _ = fast.reset(seed=0)
    copy = {k: v.copy() for k, v in first.items()}
    second = fast.step(np.ones(2))[0]
    second["desired_goal"][:] = 0
    fast.step(np.ones(2))
    assert all(np.array_equal(first[k], copy[k]) for k in first)
    assert fast.step(STILL)[0]["desired_goal"].any()


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ({"profile": "slow"}, ["dmc", "fast"]),
        ({"target": "huge"}, ["easy", "hard", "hidden"]),
        ({"success": "luck"}, ["qpos", "tip"]),
        ({"render_mode": "human"}, ["None", "rgb_array"]),
    ],
)
def test_unknown_names_list_the_known_ones(option, known):
    with pytest.raises(UnknownName) as caught:
        ReacherGoal(**option)
    assert caught.value.known == known


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"qpos": [0.0, 3.0]}, "the wrist stops at 2.793"),
        ({"goal_qpos": [0.0, -3.0]}, "goal_qpos: the wrist stops"),
        ({"qpos": [0.0]}, "two angles"),
        ({"qpos": 1.0}, "two angles"),
        ({"goal_qpos": [np.nan, 0]}, "goal_qpos has entries that are not finite"),
        ({"qpos": "up"}, "qpos must hold real numbers"),
        ({"qpos": None}, "qpos must hold real numbers"),
    ],
)
def test_poses_out_of_reach_are_refused(physics, options, message):
    with pytest.raises(InvalidInput, match=message):
        physics.reset(options=options)


def test_an_unknown_option_is_not_ignored(physics):
    with pytest.raises(UnknownName, match="goal_qpos, qpos"):
        physics.reset(options={"goal": GOAL})


@pytest.mark.parametrize("action", [[np.nan, 0], [np.inf, 0], [0.0], 0.0, [[0.0, 0.0]], [0, 0, 0], ["a", "b"], None])
def test_bad_actions_are_refused_and_change_nothing(physics, action):
    physics.reset(seed=0)
    before = physics.info()
    with pytest.raises(InvalidInput, match="action"):
        physics.step(action)
    assert np.array_equal(physics.info()["qpos"], before["qpos"])
    assert np.isfinite(physics.step(STILL)[1])


# --- a goal environment ---------------------------------------------------------------------------------------------


def test_matching_frames_are_poses_that_count_as_reached():
    """Pairs of poses at all distances, with the same target in both frames."""
    rng = np.random.default_rng(1)
    first = np.stack([sample_qpos(rng) for _ in range(400)])
    second = first + 10 ** rng.uniform(-2.2, 0, (400, 1)) * rng.normal(size=(400, 2))
    second[:, 1] = second[:, 1].clip(-WRIST_LIMIT, WRIST_LIMIT)
    targets = sample_targets(400, rng)
    frames = [render_frames(q, targets) for q in (first, second)]
    tip = np.linalg.norm(fingertip(first) - fingertip(second), axis=1) <= module.TIP_TOLERANCE
    joints = (np.abs(angle_error(first, second)) <= module.QPOS_TOLERANCE).all(axis=1)
    for success, right in (("tip", tip), ("qpos", joints)):
        env = ReacherGoal(success=success, reward="match", pixels=False)
        match = env.compute_reward(*frames, {}) == 0.0
        assert right[match].mean() > 0.85
        assert match[right].mean() > 0.8
        assert np.array_equal(match, env.compute_reward(*(np.moveaxis(f, -1, 1) for f in frames), {}) == 0.0)
        assert (env.compute_reward(frames[0], frames[0][::-1], {}) == -1.0).mean() > 0.9


def test_rewards_of_steps_and_of_goals_agree(fast):
    for env in (fast, ReacherGoal(profile="fast", reward="match")):
        seen, _ = env.reset(seed=3, options={"qpos": POSE, "goal_qpos": POSE})
        rewards = []
        for torque in np.random.default_rng(0).uniform(-1, 1, (6, 2)):
            seen, reward, *_, info = env.step(torque)
            goals = seen["achieved_goal"], seen["desired_goal"]
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert env.compute_reward(*goals, info) == reward
                assert env.compute_reward(*(np.stack([g, g]) for g in goals), [info, info]).tolist() == [reward] * 2
            assert env.compute_terminated(*goals, info) is False is env.compute_truncated(*goals, info)
            assert not env.compute_terminated(*(np.stack([g, g]) for g in goals), info).any()
            rewards.append(reward)
        assert rewards[0] == 0.0 if env.reward == "match" else -0.2 < rewards[0] < 0.0


def test_other_goals_are_told_by_frames_with_a_word_about_it(fast):
    seen, _ = fast.reset(seed=0)
    seen, *_, info = fast.step(STILL)
    with pytest.warns(UserWarning, match="reward='match'"):
        assert fast.compute_reward(seen["achieved_goal"], seen["achieved_goal"], info) == 0.0
    with pytest.warns(UserWarning, match="reward='match'"):
        assert fast.compute_reward(seen["achieved_goal"], seen["desired_goal"], {}) == -1.0


@pytest.mark.parametrize("wrong", [np.zeros((64, 64)), np.zeros((64, 64, 3)), np.zeros((32, 32, 3), np.uint8)])
def test_goals_that_are_no_frames_are_refused(physics, wrong):
    for pair in ((wrong, wrong), (wrong, np.zeros((64, 64, 3), np.uint8))):
        with pytest.raises(InvalidInput, match="goals are frames"):
            physics.compute_reward(*pair, {})


def test_hindsight_experience_replay_runs_on_frames():
    from stable_baselines3 import SAC, HerReplayBuffer

    env = gym.make(ID, profile="fast", reward="match", max_episode_steps=20)
    net = {"net_arch": [8], "features_extractor_kwargs": {"cnn_output_dim": 8}}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = SAC("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, buffer_size=80, learning_starts=45,
                    batch_size=8, policy_kwargs=net, device="cpu", seed=0)  # fmt: skip
        model.learn(50)
        sampled = model.replay_buffer.sample(64)
    assert set(sampled.rewards.unique().tolist()) == {-1.0, 0.0}  # some of the goals are what was seen later


@pytest.mark.parametrize("lines", ["import worldplan, gymnasium", "import gymnasium, worldplan"])
def test_worldplan_alone_makes_gymnasium_know_the_environments(lines, tmp_path):
    """In either order, and without loading what the environments need."""
    code = lines + "; import sys; assert not {'dm_control', 'mujoco', 'torch'} & set(sys.modules)"
    code += "; print(gymnasium.make('worldplan/ReacherGoal-v0', pixels=False).spec.max_episode_steps)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["100"]
    without = subprocess.run(
        [sys.executable, "-c", "import gymnasium; gymnasium.make('worldplan/ReacherGoal-v0')"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "NamespaceNotFound" in without.stderr


# --- films ----------------------------------------------------------------------------------------------------------


def test_what_is_drawn_to_look_at_may_have_any_size_and_shows_the_same():
    pose = {"qpos": POSE, "goal_qpos": GOAL}
    small, large = (gym.make(ID, render_mode="rgb_array", render_size=size) for size in (64, 320))
    for env in (small, large):
        seen, _ = env.reset(seed=0, options=pose)
        assert seen["observation"].shape == (64, 64, 3)
    picture = large.render()
    assert picture.shape == (320, 320, 3)
    blocks = picture.reshape(64, 5, 64, 5, 3).mean(axis=(1, 3))
    assert np.abs(blocks - small.render()).mean() < 6.0 < np.abs(blocks[::-1] - small.render()).mean()
    assert np.array_equal(small.render(), seen["observation"])  # the large context left the small one alone
    for wrong in (0, 5000):
        with pytest.raises(InvalidInput):
            ReacherGoal(render_size=wrong)


def test_gymnasium_records_films(tmp_path):
    env = gym.make(ID, render_mode="rgb_array", render_size=160, max_episode_steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = gym.wrappers.RecordVideo(env, str(tmp_path), episode_trigger=lambda _: True)
        env.reset(seed=0)
        for _ in range(3):
            env.step(STILL)
        env.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]
    assert next(tmp_path.iterdir()).stat().st_size > 1000


def test_seeds_and_options_of_other_types():
    env = ReacherGoal(pixels=False)
    _, one = env.reset(seed=3)
    for seed in (np.int64(3), np.array(3)):
        np.testing.assert_array_equal(env.reset(seed=seed)[1]["qpos"], one["qpos"])
    for seed in (-1, 1.5, "3", [3]):
        with pytest.raises(InvalidInput, match="seed"):
            env.reset(seed=seed)
    with pytest.raises(InvalidInput, match="dictionary"):
        env.reset(options=5)


def test_rewards_of_goals_and_infos_that_do_not_match():
    env = ReacherGoal(pixels=False, reward="match")
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    for goals, infos in ((frames[0], [{}, {}]), (frames, [{}, {}])):
        with pytest.raises(InvalidInput, match="one info"):
            env.compute_reward(goals, goals, infos)
    assert env.compute_reward(frames[:0], frames[:0], {}).shape == (0,)
