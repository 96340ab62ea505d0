"""dm_control's own Reacher task: the same physics, rewards and frames as the stock one, within bounds that hold."""

import gymnasium as gym
import numpy as np
import pytest
from dm_control.suite import reacher
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import worldplan.envs
from worldplan.envs.reacher import WRIST_LIMIT, fingertip
from worldplan.envs.reacher_task import ReacherPixels, ReacherTask, state_vector
from worldplan.envs.rendering import TARGET_RADIUS
from worldplan.errors import InvalidInput, UnknownName

IDS = ("worldplan/Reacher-v0", "worldplan/ReacherPixels-v0")
TASKS = {"easy": 0.05, "hard": 0.015}


@pytest.fixture(scope="module")
def env():
    return ReacherTask()


def stock(task, seed):
    """dm_control's environment after a reset, and ours in the same state."""
    theirs = getattr(reacher, task)(random=seed)
    theirs.reset()
    place = theirs.physics.named.model.geom_pos["target", :2].copy()
    return theirs, {"qpos": theirs.physics.data.qpos.copy(), "target": place}


def homing(qpos, target):
    """Torques that pull the fingertip to a target and overshoot, so that episodes see both rewards."""
    elbow = qpos[0] + qpos[1]
    force = 8 * (target[:2] - fingertip(qpos))
    upper, lower = (0.12 * np.array([-np.sin(a), np.cos(a)]) for a in (qpos[0], elbow))
    return np.clip([force @ (upper + lower), force @ lower], -1, 1) * 4


# --- Gymnasium's and SB3's rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IDS)
def test_checkers_pass(name):
    env = gym.make(f"worldplan.envs:{name}", render_mode="rgb_array")
    check_env(env.unwrapped)
    check_env_sb3(env.unwrapped)
    assert env.unwrapped.render().shape == (64, 64, 3)
    env.close()


@pytest.mark.parametrize("name", IDS)
def test_an_episode_is_truncated_after_1000_steps_and_never_terminates(name):
    steps = 1000 if name == IDS[0] else 20  # pictures take their time
    assert gym.spec(name).max_episode_steps == gym.make(name).spec.max_episode_steps == 1000
    made = gym.make(name) if steps == 1000 else gym.make(name, max_episode_steps=steps)
    own = (ReacherTask if name == IDS[0] else ReacherPixels)(episode_steps=steps)
    for env in (made, own, made):
        env.reset(seed=0)
        ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(steps)]
        assert ends == [(False, False)] * (steps - 1) + [(False, True)]


def test_a_longer_episode_is_one():
    env = gym.make("worldplan/ReacherGoal-v0", pixels=False, max_episode_steps=130)
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, np.float32))[3] for _ in range(130)]
    assert not any(ends[:-1]) and ends[-1]
    with pytest.raises(InvalidInput, match="episode_steps"):
        ReacherTask(episode_steps=0)


# --- the same as dm_control's ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_physics_rewards_and_length_are_dm_controls(task):
    """Whole episodes, torques beyond their range included; not a bit may differ."""
    theirs, start = stock(task, seed=5)
    ours = ReacherTask(task)
    _, info = ours.reset(options=start)
    rng = np.random.default_rng(0)
    rewards, over = [], False
    while not over:
        torque = rng.uniform(-1.5, 1.5, 2) if len(rewards) > 500 else homing(info["qpos"], info["target"])
        wanted = theirs.step(torque.clip(-1, 1))
        _, reward, _, over, info = ours.step(torque)
        seen = wanted.observation
        np.testing.assert_array_equal(info["qpos"], theirs.physics.data.qpos)
        np.testing.assert_array_equal(info["qvel"], seen["velocity"])
        assert info["tip_distance"] == pytest.approx(np.linalg.norm(seen["to_target"]), abs=1e-12)
        assert reward == wanted.reward == info["is_success"]
        rewards.append(reward)
        assert over == wanted.last()
    assert set(rewards) == {0.0, 1.0}


def test_the_observation_holds_what_dm_controls_does():
    theirs, start = stock("hard", seed=1)
    ours = ReacherTask("hard")
    ours.reset(options=start)
    for k in range(40):
        seen = theirs.step([np.sin(k / 5), -0.7]).observation
        o = ours.step(np.array([np.sin(k / 5), -0.7]))[0]
        assert (o.dtype, o.shape) == (np.float32, (7,))
        shoulder, wrist = seen["position"]
        wanted = [np.cos(shoulder), np.sin(shoulder), wrist / WRIST_LIMIT, *seen["to_target"] / 0.24]
        np.testing.assert_allclose(o, [*wanted, *seen["velocity"] / 10], atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_pixels_are_dm_controls(task):
    """Within 1/255 on average; the other task's target, or the other look, would be further away."""
    theirs, start = stock(task, seed=3)
    frame = ReacherPixels(task).reset(options=start)[0].astype(float)
    picture = theirs.physics.render(64, 64, camera_id=0).copy()
    theirs.physics.free()  # its OpenGL context, here and now: not whenever the garbage is collected

    def away(name, look="dmc"):
        other = ReacherPixels(name, look).reset(options=start)[0]
        return np.abs(other.astype(float) - picture).mean()

    assert np.abs(frame - picture).mean() == away(task) < 1.0
    assert away("hard" if task == "easy" else "easy") > 1.0
    assert away(task, "fast") > 10.0


def test_resets_are_drawn_as_dm_control_draws_them():
    """Two-sample comparison of 400 resets by quantiles."""
    env, theirs = ReacherTask(), reacher.easy(random=0)
    mine, stocks = [], []
    for k in range(400):
        info = env.reset(seed=k)[1]
        mine.append([*info["qpos"], np.hypot(*info["target"][:2]), np.arctan2(*info["target"][:2])])
        theirs.task.initialize_episode(theirs.physics)
        place = theirs.physics.named.model.geom_pos["target", :2]
        stocks.append([*theirs.physics.data.qpos, np.hypot(*place), np.arctan2(*place)])
    mine, stocks = np.array(mine), np.array(stocks)
    levels = np.linspace(0.1, 0.9, 9)
    gaps = np.abs(np.quantile(mine, levels, axis=0) - np.quantile(stocks, levels, axis=0))
    assert (gaps < 0.12 * np.ptp(stocks, axis=0)).all()
    assert ((mine[:, 2] >= TARGET_RADIUS[0]) & (mine[:, 2] <= TARGET_RADIUS[1])).all()
    assert (np.abs(mine[:, 1]) <= WRIST_LIMIT).all()


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_states_never_leave_the_bounds(env):
    """Constant, resonant, self-exciting and random bang-bang torques; the clip of the observation is never at work."""
    rng = np.random.default_rng(0)
    speed = wrist = 0.0
    torques = [lambda t, v, s=s: np.array(s) for s in ((1, 1), (1, -1), (1, 0))]
    torques += [lambda t, v, p=p: np.array([-1 if t // 200 % 2 else 1, -1 if t // p % 2 else 1]) for p in (4, 15, 30)]
    torques += [lambda t, v: np.where(v < 0, -1, 1), lambda t, v: rng.choice([-1, 1], 2)]
    for torque in torques:
        info = env.reset(seed=int(rng.integers(1000)), options={"target": [0.0, -TARGET_RADIUS[1]]})[1]
        for t in range(700):
            o, *_, info = env.step(torque(t, info["qvel"]))
            assert env.observation_space.contains(o)
            speed, wrist = max(speed, *np.abs(info["qvel"])), max(wrist, abs(info["qpos"][1]))
    assert 6.0 < speed < 10.0  # of 20
    assert WRIST_LIMIT < wrist < 1.1 * WRIST_LIMIT  # of 1.25


def test_observations_are_clipped_to_finite_bounds(env):
    space = env.observation_space
    assert space.is_bounded()
    wild = state_vector(np.array([[100.0, 50.0]]), np.array([[1e6, -1e6]]), np.array([[9.0, -9.0]]))[0]
    assert space.contains(wild)
    np.testing.assert_array_equal(wild[2:], [1.25, space.high[3], space.low[4], 2.0, -2.0])


def test_the_shoulder_has_no_seam():
    rest = np.zeros((3, 2))
    turns = state_vector(np.array([[0.3, 1.0], [0.3 + 2 * np.pi, 1.0], [0.4, 1.0]]), rest, rest)
    np.testing.assert_allclose(turns[0], turns[1], atol=1e-6)
    assert np.abs(turns[0] - turns[2]).max() > 0.02


# --- resets and bad input ---------------------------------------------------------------------------------------------


def test_a_seed_fixes_the_episode_and_options_do_not_change_the_rest(env):
    first, again, other = (env.reset(seed=s)[1] for s in (7, 7, 8))
    for name in ("qpos", "target"):
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])
    mixed = env.reset(seed=7, options={"qpos": [0.1, 0.2]})[1]
    np.testing.assert_array_equal(mixed["target"], first["target"])
    np.testing.assert_array_equal(mixed["qpos"], [0.1, 0.2])
    mixed = env.reset(seed=7, options={"target": [0.1, 0.0]})[1]
    np.testing.assert_array_equal(mixed["qpos"], first["qpos"])
    np.testing.assert_array_equal(mixed["target"], [0.1, 0.0, 0.05])


@pytest.mark.parametrize("task", TASKS)
def test_info_tells_the_truth(task):
    env = ReacherTask(task)
    target = fingertip(np.array([0.4, -1.8])) - [TASKS[task] + 0.009, 0.0]  # the spheres touch
    info = env.reset(options={"qpos": [0.4, -1.8], "target": target})[1]
    assert set(info) == {"qpos", "qvel", "target", "tip_distance", "is_success"}
    assert info["tip_distance"] == pytest.approx(TASKS[task] + 0.009)
    assert info["is_success"] is True
    assert env.reset(options={"qpos": [0.4, -1.8], "target": target - [0.002, 0.0]})[1]["is_success"] is False


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"qpos": [0.0, 2.9]}, "wrist stops"),
        ({"qpos": [0.0, np.nan]}, "not finite"),
        ({"target": [0.0, 0.21]}, "within 0.2 m"),
        ({"target": [0.0, 0.1, 0.05]}, "place"),
        ({"target": [np.inf, 0.0]}, "not finite"),
        ({"target": "left"}, "numbers"),
    ],
)
def test_bad_options_are_refused(env, options, error):
    with pytest.raises(InvalidInput, match=error):
        env.reset(options=options)


@pytest.mark.parametrize("action", [[0.0], [0.0, np.nan], [[0.0, 0.0]], "up"])
def test_bad_actions_are_refused(env, action):
    env.reset(seed=0)
    with pytest.raises(InvalidInput, match="action"):
        env.step(action)


def test_unknown_names_are_refused(env):
    for name, known in (("task", "easy, hard"), ("profile", "dmc, fast"), ("render_mode", "rgb_array")):
        with pytest.raises(UnknownName, match=known):
            ReacherTask(**{name: "x"})
    with pytest.raises(UnknownName, match="qpos, target"):
        env.reset(options={"goal_qpos": [0, 0]})


def test_the_rollout_loop_takes_it():
    data = worldplan.envs.rollout(gym.make("worldplan/Reacher-v0", task="hard"), None, episodes=2, seed=0, steps=30)
    assert [f.shape for f in data.frames] == [(31, 7), (31, 7)]
    assert data.info["target"][0].shape == (31, 3)
    assert data.info["qvel"][1].shape == (31, 2)
