"""The worlds that ship: arms of one to four joints, a cart with a pole, Gymnasium's Reacher; how they judge."""

import math

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import worldplan.envs  # noqa: F401 - registers the arm
from worldplan.data.symmetries import transform
from worldplan.envs.rollout import rollout
from worldplan.envs.world.arm import BEND, LINKS, REACH, ArmEnv, fingertip, random_pose
from worldplan.envs.world.control_env import SuiteEnv
from worldplan.envs.world.goal_env import GoalEnv
from worldplan.envs.world.registry import find_world
from worldplan.errors import InvalidInput

EVERY_ARM = range(LINKS[0], LINKS[1] + 1)


# --- the arm --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("links", EVERY_ARM)
def test_gymnasium_makes_an_arm_of_so_many_joints(links):
    env = gym.make("worldplan/Arm-v0", links=links, size=32)
    frame, info = env.reset(seed=0)
    assert frame.shape == (32, 32, 3)
    assert info["qpos"].shape == env.action_space.shape == (links,)
    assert np.abs(info["qpos"][1:]).max(initial=0.0) <= BEND
    frame, reward, terminated, truncated, _ = env.step(env.action_space.high)
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert env.unwrapped.links == links


def test_an_arm_has_one_to_four_links():
    with pytest.raises(InvalidInput, match="1 to 4"):
        ArmEnv(5)
    for wrong in (0, 2.5, "2"):
        with pytest.raises(InvalidInput, match="links"):
            ArmEnv(wrong)


@pytest.mark.parametrize("links", EVERY_ARM)
def test_the_fingertip_is_where_mujoco_has_it(links):
    """Against MuJoCo's own kinematics: the end of the last link."""
    env = ArmEnv(links)
    for seed in range(5):
        _, info = env.reset(seed=seed)
        data = env._physics.named.data
        end = data.xpos[f"link{links - 1}"] + data.xmat[f"link{links - 1}"].reshape(3, 3) @ [REACH / links, 0, 0]
        np.testing.assert_allclose(fingertip(info["qpos"]), end[:2], atol=1e-9)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(LINKS[0], LINKS[1]), st.integers(0, 2**32 - 1))
def test_the_fingertip_is_in_reach_and_turns_with_the_first_joint(links, seed):
    pose = random_pose(links, np.random.default_rng(seed))
    assert np.linalg.norm(fingertip(pose)) <= REACH + 1e-12
    turn = 0.7
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    turned = pose + turn * np.eye(links)[0]
    np.testing.assert_allclose(fingertip(turned), rotation @ fingertip(pose), atol=1e-12)


def test_each_torque_moves_its_own_joint_nearly_alike_in_all_poses():
    """What the geared motors are for: excitation asks for displacements that are linear in the actions."""
    env = ArmEnv(3)
    moved = []
    for seed in range(10):
        _, before = env.reset(seed=seed)
        for _ in range(5):
            *_, info = env.step([0.0, 0.3, 0.0])
        moved.append(info["qpos"] - before["qpos"])
    moved = np.array(moved)
    assert moved[:, 1].std() < 0.05 * moved[:, 1].mean()
    assert np.abs(moved[:, [0, 2]]).max() < 0.25 * moved[:, 1].mean()


def test_joints_stop_and_the_first_does_not():
    env = ArmEnv(2)
    env.reset(seed=0, options={"qpos": [0.0, 0.0]})
    for _ in range(120):
        *_, info = env.step([1.0, 1.0])
    assert info["qpos"][0] > 2 * math.pi
    assert abs(info["qpos"][1] - BEND) < 0.05


@pytest.mark.parametrize("name", ["arm2", "arm3"])
def test_the_symmetries_of_a_world_show_what_it_could_show(name):
    """A quarter turn of the picture is that of the first joint; upside down, the opposite angles."""
    world = find_world(name)
    assert world.symmetries == ("mirror", "turns")
    env, links = world.make(), len(world.card.action_low)
    pose = np.array([0.4, 1.0, -0.7])[:links]
    show = lambda q: env.reset(seed=0, options={"qpos": q})[0].astype(int)  # noqa: E731
    here = show(pose)
    for k in (1, 2, 3):
        turned = show(pose + k * np.pi / 2 * np.eye(links)[0])
        assert np.abs(np.rot90(here, k) - turned).mean() < 0.5
    assert np.abs(here[::-1] - show(-pose)).mean() < 0.5
    assert np.abs(here[::-1] - show(pose)).mean() > 2.0  # the control
    frames = here[None, None].astype(np.uint8)
    mirrored, actions = transform(frames, np.ones((1, links)), ["mirror"], 1.0, np.random.default_rng(1))
    assert (actions == -1).all() == np.array_equal(mirrored[0, 0], frames[0, 0, ::-1])


# --- how they judge -------------------------------------------------------------------------------------------------


def test_arms_are_judged_by_the_fingertip():
    env = GoalEnv(find_world("arm2"))
    goal, near = {"qpos": np.array([0.3, 0.5])}, {"qpos": np.array([0.4, 0.5])}
    _, info = env.reset(seed=0, options={"goal": goal, "start": goal})
    assert info["is_success"]
    _, info = env.reset(seed=0, options={"goal": goal, "start": {"qpos": np.array([0.3 + 2 * np.pi, 0.5])}})
    assert info["is_success"]  # once round
    _, info = env.reset(seed=0, options={"goal": goal, "start": near})
    tip = np.linalg.norm(fingertip(goal["qpos"]) - fingertip(near["qpos"]))
    assert info["error"] == pytest.approx(tip)
    assert info["is_success"] == (tip <= 0.025)


def test_a_pole_that_leaned_is_lost_for_good():
    world = find_world("cartpole")
    env = GoalEnv(world)
    place = {"qpos": np.array([0.1, 0.0])}
    _, info = env.reset(seed=0, options={"goal": place, "start": place})
    assert info["is_success"]
    _, info = env.reset(seed=0, options={"goal": place, "start": {"qpos": np.array([0.1, 0.15])}})
    assert info["error"] == pytest.approx(0.0)
    assert not info["is_success"]
    env.reset(seed=0, options={"goal": place, "start": place})
    for _ in range(60):
        *_, info = env.step(np.array([0.6]))
        if abs(info["qpos"][1]) > 0.1:
            break
    assert not info["is_success"]
    env._env.reset(options=place)  # upright again, by hand
    *_, info = env.step(np.array([0.0]))
    assert info["error"] < 0.05
    assert not info["is_success"]
    _, info = env.reset(seed=0, options={"goal": place, "start": place})
    assert info["is_success"]  # a new episode


def test_starts_of_the_cart_are_upright_and_up_to_half_a_metre_from_the_goal():
    env = GoalEnv(find_world("cartpole"))
    apart = [env.reset(seed=k)[1]["error"] for k in range(40)]
    assert 0.3 < max(apart) <= 0.5
    _, info = env.reset(seed=3)
    assert abs(info["qpos"][1]) < 1e-9
    assert abs(info["goal_qpos"][1]) < 1e-9


def test_episodes_of_random_motion_begin_anywhere_and_in_motion():
    env = find_world("cartpole").make()
    starts = [env.reset(seed=k)[1] for k in range(30)]
    again = env.reset(seed=7)[1]
    for name in ("qpos", "qvel"):
        rows = np.array([start[name] for start in starts])
        np.testing.assert_array_equal(again[name], rows[7])  # the seed decides
        assert (rows.std(axis=0) > (0.04 if name == "qpos" else 0.3)).all()
    assert abs(np.array([start["qpos"] for start in starts])).max(axis=0) == pytest.approx([0.25, 0.1], rel=0.2)
    named = env.reset(seed=1, options={"qpos": np.array([0.1, 0.0])})[1]
    np.testing.assert_array_equal(named["qpos"], [0.1, 0.0])
    np.testing.assert_array_equal(named["qvel"], [0.0, 0.0])


def test_a_narrower_view_shows_the_cart_larger():
    def orange(view):
        frame = SuiteEnv("cartpole", "balance", view=view).reset(seed=0)[0].astype(int)
        return int((frame[..., 0] > frame[..., 2] + 40).sum())

    assert orange(24.0) > 2 * orange(None) == 2 * orange(45.0)
    for wrong in (0.0, 180.0):
        with pytest.raises(InvalidInput, match="field of view"):
            SuiteEnv("cartpole", "balance", view=wrong)


def test_gymnasiums_reacher_is_judged_by_both_joints():
    world = find_world("Reacher-v5")
    told = lambda a, b: {"state": np.array([np.cos(a), np.cos(b), np.sin(a), np.sin(b), 0, 0, 0, 0, 0, 0])}  # noqa: E731
    assert world.judge.error(told(3.1, 0.2), told(-3.1, 0.25)) == pytest.approx(2 * np.pi - 6.2)
    assert world.judge.error(told(0.0, 0.2), told(0.01, 0.5)) == pytest.approx(0.3)
    data = rollout(GoalEnv(world, ahead=10), None, 1, seed=0, steps=5)
    assert data.info["error"][0].shape == (6,)


def test_gentle_actions_stay_in_their_share_of_the_range():
    from itertools import islice

    from worldplan.data.recipes import Exploration
    from worldplan.envs.exploration import random_actions

    low, high = np.array([-1.0, 0.0]), np.array([1.0, 4.0])
    for memory in (0.0, 0.9):
        drawn = np.array(
            list(islice(random_actions(Exploration(2, memory, 0.25), low, high, np.random.default_rng(0)), 400))
        )
        assert (np.abs(drawn - [0.0, 2.0]) <= [0.25, 0.5]).all()
        assert (drawn.std(axis=0) > [0.1, 0.2]).all()
    for wrong in (0.0, 1.5, -1.0):
        with pytest.raises(InvalidInput, match="strength"):
            Exploration(strength=wrong)
