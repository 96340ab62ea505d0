"""Worlds: from ids and from users' own code; what is no world is refused with a word on what to do."""

import hashlib
import importlib.metadata
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from worldplan.data.world_card import REACHER, WorldCard, same_world
from worldplan.envs.rollout import rollout
from worldplan.envs.world.control_env import SuiteEnv
from worldplan.envs.world.frame_env import FrameEnv
from worldplan.envs.world.goal_env import GoalEnv
from worldplan.envs.world.registry import GROUP, WORLDS, find_world
from worldplan.envs.world.world import World
from worldplan.errors import InvalidInput, UnknownName

HERE = Path(__file__).parent
OWN = "slide:Slide"


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Users start worldplan in the folder of their own code."""
    monkeypatch.syspath_prepend(str(HERE))


# --- every world ----------------------------------------------------------------------------------------------------

EVERY = [*WORLDS, "dm_control/cartpole-balance", "InvertedPendulum-v5", OWN]


@pytest.mark.parametrize("name", EVERY)
def test_a_world_is_what_its_card_says(name):
    world = find_world(name)
    env = pickle.loads(pickle.dumps(world.make))()
    frame, info = env.reset(seed=3)
    assert world.card.name == name
    assert frame.shape == world.card.frame
    assert frame.dtype == np.uint8
    assert {key: len(info[key]) for key in world.card.states} == world.card.states
    assert env.action_space.low.tolist() == list(world.card.action_low)
    assert env.action_space.high.tolist() == list(world.card.action_high)
    seen = [frame, *(env.step(env.action_space.high)[0] for _ in range(8))]
    assert any((f != frame).any() for f in seen)
    assert all(f.shape == world.card.frame for f in seen)
    again, _ = env.reset(seed=3)
    assert np.array_equal(again, frame)
    other, _ = env.reset(seed=4)
    assert not np.array_equal(other, frame)
    env.close()


@pytest.mark.parametrize("name", [*WORLDS, OWN])
def test_frames_of_another_size_and_actions_that_are_repeated(name):
    small, slow = find_world(name, size=32), find_world(name, repeat=4)
    assert small.card.frame == (32, 32, 3)
    assert slow.card.step_seconds == pytest.approx(4 * find_world(name).card.step_seconds)
    one, four = find_world(name).make(), slow.make()
    one.reset(seed=1), four.reset(seed=1)
    push = np.array(small.card.action_high)
    steps = [one.step(push) for _ in range(4)]
    frame, reward, *_ = four.step(push)
    assert np.array_equal(frame, steps[-1][0])
    assert reward == pytest.approx(sum(s[1] for s in steps))


def test_a_card_comes_back_and_a_wrong_one_is_refused():
    card = find_world(OWN).card
    assert WorldCard.from_dict(card.to_dict()) == card
    same_world("an agent", card, card)
    with pytest.raises(InvalidInput, match="an agent is for 'slide:Slide'"):
        same_world("an agent", card, REACHER)
    for wrong in ({"size": 0}, {"action_low": [0.0]}, {"action_high": [np.inf, 1.0]}, {"step_seconds": 0.0}, {"a": 1}):
        with pytest.raises(InvalidInput):
            WorldCard.from_dict({**card.to_dict(), **wrong})
    with pytest.raises(InvalidInput, match="no name for a state"):
        WorldCard.from_dict({**card.to_dict(), "states": {"../x": 2}})


# --- dm_control -----------------------------------------------------------------------------------------------------


def test_a_task_of_the_suite_is_dm_controls_own():
    from dm_control import suite

    ours, theirs = SuiteEnv("cartpole", "swingup"), suite.load("cartpole", "swingup")
    ours.reset(seed=0, options={"qpos": [0.1, 2.0], "qvel": [0.0, 0.5]})
    theirs.reset()
    with theirs.physics.reset_context():
        theirs.physics.data.qpos[:], theirs.physics.data.qvel[:] = [0.1, 2.0], [0.0, 0.5]
    rng = np.random.default_rng(0)
    for _ in range(20):
        action = rng.uniform(-1, 1, 1)
        frame, reward, terminated, truncated, info = ours.step(action)
        after = theirs.step(action)
        assert reward == after.reward
        assert not terminated
        assert not truncated
        assert info["qpos"].tolist() == theirs.physics.data.qpos.tolist()
    stock = theirs.physics.render(64, 64, camera_id=0)
    assert np.abs(frame.astype(int) - stock).mean() < 3.0  # textures are drawn at twice the size
    assert np.abs(np.roll(frame, 1, axis=1).astype(int) - stock).mean() > 3.0  # the control


def test_what_the_suite_lacks_is_refused():
    with pytest.raises(UnknownName, match="point_mass"):
        SuiteEnv("point_moss", "easy")
    with pytest.raises(UnknownName, match="easy"):
        find_world("dm_control/point_mass-eager")
    with pytest.raises(InvalidInput, match="cameras"):
        SuiteEnv("point_mass", "easy", camera=9)
    env = SuiteEnv("point_mass", "easy")
    with pytest.raises(InvalidInput, match="qpos has the shape"):
        env.reset(options={"qpos": [0.0]})
    with pytest.raises(UnknownName, match="qpos, qvel"):
        env.reset(options={"target": [0.0]})
    env.reset()
    for wrong in ([0.0], [0.0, np.nan], [[0.0, 0.0]]):
        with pytest.raises(InvalidInput, match="action"):
            env.step(wrong)


# --- environments of users ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("slide:Buttons", "Discrete"),
        ("slide:Parts", "Dict"),
        ("slide:Free", "without limits"),
        ("slide:Unseen", "render_mode"),
        ("slide:Growing", "changing sizes"),
        ("slide:Bright", "no uint8 frame"),
        ("slide:number", "must give a World or a Gymnasium environment"),
        ("slide:needy", "without arguments"),
        ("slide:Nobody", "cannot import"),
        ("nowhere:Slide", "cannot import"),
        ("CartPole-v1", "Discrete"),
    ],
)
def test_what_is_no_world_is_refused(name, says):
    with pytest.raises(InvalidInput, match=says):
        find_world(name)


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(UnknownName, match="module:factory"):
        find_world("NoSuchThing-v0")
    for wrong in ({"size": 0}, {"repeat": -1}):
        with pytest.raises(InvalidInput, match="integer >= 1"):
            find_world(OWN, **wrong)


def test_a_package_adds_its_world(monkeypatch):
    entry = importlib.metadata.EntryPoint("myslide", OWN, GROUP)
    monkeypatch.setattr("worldplan.envs.world.registry.entry_points", lambda group: [entry] if group == GROUP else [])
    assert find_world("myslide").card.name == "myslide"
    with pytest.raises(UnknownName):
        find_world("yourslide")


def test_frames_are_resized_by_means():
    class Half(gym.Env):
        action_space, observation_space = gym.spaces.Box(-1, 1, (1,)), gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)

        def reset(self, *, seed=None, options=None):
            frame = np.zeros((8, 8, 3), np.uint8)
            frame[:, ::2] = 200
            return frame, {}

    frame, _ = FrameEnv(Half(), size=4).reset()
    assert (frame == 100).all()


def test_rollout_refuses_actions_of_another_shape():
    class One:
        def predict(self, observation, *state, **more):
            return np.array([0.5]), None

    env = find_world(OWN).make()
    with pytest.raises(InvalidInput, match="made for another world"):
        rollout(env, One(), 1, steps=3)


# --- goals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["point_mass", OWN])
def test_goals_follow_from_the_seed(name):
    first, second = (GoalEnv(find_world(name), ahead=10) for _ in range(2))
    (seen, info), (again, _) = first.reset(seed=5), second.reset(seed=5)
    assert np.array_equal(seen["desired_goal"], again["desired_goal"])
    assert np.array_equal(seen["observation"], again["observation"])
    assert not np.array_equal(seen["desired_goal"], first.reset(seed=6)[0]["desired_goal"])
    assert not np.array_equal(seen["desired_goal"], seen["observation"])
    assert ("is_success" in info) == (name != OWN)


def test_a_world_that_samples_judges_the_state_of_the_goal():
    env = GoalEnv(find_world("point_mass"))
    place = {"qpos": np.array([0.1, -0.2])}
    _, info = env.reset(seed=0, options={"start": place, "goal": place})
    assert info["error"] == pytest.approx(0.0, abs=1e-9)
    assert info["is_success"]
    _, info = env.reset(seed=0, options={"start": place, "goal": {"qpos": np.array([0.1, -0.18])}})
    assert info["error"] == pytest.approx(0.02)
    assert not info["is_success"]
    goal = np.zeros((64, 64, 3), np.uint8)
    seen, info = env.reset(seed=0, options={"goal": goal})
    assert np.array_equal(seen["desired_goal"], goal)
    assert "error" not in info
    with pytest.raises(InvalidInput, match="resize"):
        env.reset(options={"goal": goal[:32]})
    with pytest.raises(UnknownName, match="goal, start"):
        env.reset(options={"qpos": 0})


def test_another_process_draws_the_same_frame():
    draw = (
        "import hashlib; from worldplan.envs.world.control_env import SuiteEnv; "
        "print(hashlib.sha256(SuiteEnv('point_mass', 'easy').reset(seed=1)[0].tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", draw], capture_output=True, text=True, check=True).stdout.strip()
    assert there == hashlib.sha256(SuiteEnv("point_mass", "easy").reset(seed=1)[0].tobytes()).hexdigest()


def test_from_env_needs_frames():
    class Flat(Slide48):
        pass

    with pytest.raises(InvalidInput, match="no square frame"):
        World.from_env(Flat, "flat")


class Slide48(gym.Env):
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        return np.zeros((4, 5, 3), np.uint8), {}
