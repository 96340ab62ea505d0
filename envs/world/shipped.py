"""The worlds that worldplan ships: their starts and goals, and when a goal counts as reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from worldplan.arrays import Floats
from worldplan.data.recipes import Exploration
from worldplan.envs.world.arm import fingertips_apart, random_pose
from worldplan.envs.world.control_env import Launched, SuiteEnv
from worldplan.envs.world.frame_env import FrameEnv
from worldplan.envs.world.world import Judge, World

# Metres from the centre along each axis. The mass moves at .11 m/s at most: further apart than .38 m along an axis, no
# controller reaches a goal in the 4 s that a plan has.
ROOM = 0.19
NEAR = 0.015  # metres
TOUCH = 0.025  # metres from fingertip to fingertip
RAIL = 0.25  # metres to either side of the middle, for the cart
BESIDE = 0.05  # metres, for the cart
LEAN = 0.1  # radians, for the pole
LET_GO = RAIL, LEAN  # metres and radians to either side, where episodes of random actions begin
MOVING = 0.8  # metres and radians a second to either side, likewise
HELD = 12  # steps of 10 ms for which a random force is held
VIEW = 24.0  # degrees: 1.7 m of the rail and the lower part of the pole, so that a centimetre moves .4 pixels
JOINTS = 0.05  # radians
LASTS = 200  # steps of an episode at most: within Gymnasium's 50, random motion seldom folds the arm
GENTLE = 0.2  # of the torques: at full strength the arm spins at 40 rad/s, and the elbow lies at its stops


def point_mass(size: int = 64, repeat: int = 1) -> World:
    """dm_control's point mass: a ball on a plane, pushed along both axes; reached within 15 mm."""
    plain = World.from_gym("dm_control/point_mass-easy", size, repeat=repeat)
    card = replace(plain.card, name="point_mass")
    return replace(plain, card=card, sample=_anywhere, judge=Judge(_apart, NEAR, "m"))


def arm(size: int = 64, repeat: int = 1, *, links: int = 3) -> World:
    """Our own planar arm of one to four joints (`ArmEnv`); all poses, reached with the fingertip within 25 mm."""
    plain = World.from_gym("worldplan/Arm-v0", size, repeat=repeat, links=links)
    card = replace(plain.card, name=f"arm{links}")
    poses = partial(_any_pose, links)
    symmetries = "mirror", "turns"
    return replace(plain, card=card, sample=poses, judge=Judge(fingertips_apart, TOUCH, "m"), symmetries=symmetries)


def cartpole(size: int = 64, repeat: int = 1) -> World:
    """dm_control's cart and pole, seen from near: the cart elsewhere on the rail, the pole within .1 rad all the way.

    Episodes of random actions begin as if a hand had let go: somewhere on the rail, nearly upright, in motion. From the
    task's own start, at rest in the middle, cart and pole move along one line.
    """
    plain = World.from_env(partial(_cartpole, size, repeat), "cartpole")
    judge = Judge(_carts_apart, BESIDE, "m", _leans)
    held = Exploration(hold=HELD)
    return replace(plain, sample=_upright, judge=judge, exploration=held)


def _cartpole(size: int, repeat: int) -> gym.Env[Any, Any]:
    env: gym.Env[Any, Any] = Launched(SuiteEnv("cartpole", "balance", size, view=VIEW), _let_go)
    return env if repeat == 1 else FrameEnv(env, size, repeat)


def _let_go(rng: np.random.Generator) -> dict[str, Any]:
    return {"qpos": rng.uniform(-1, 1, 2) * LET_GO, "qvel": rng.uniform(-1, 1, 2) * MOVING}


def reacher_v5(size: int = 64, repeat: int = 1) -> World:
    """Gymnasium's own Reacher, drawn by Gymnasium, its camera above the arm; both joints within .05 rad."""
    above = {"trackbodyid": 0, "distance": 0.7, "elevation": -90}
    plain = World.from_gym("Reacher-v5", size, repeat=repeat, default_camera_config=above, max_episode_steps=LASTS)
    gentle = Exploration(strength=GENTLE)
    judge = Judge(_joints_apart, JOINTS, "rad")
    return replace(plain, judge=judge, symmetries=("mirror", "turns"), exploration=gentle)


def _upright(rng: np.random.Generator) -> dict[str, Any]:
    return {"qpos": np.array([rng.uniform(-RAIL, RAIL), 0.0])}


def _carts_apart(state: Mapping[str, Floats], goal: Mapping[str, Floats]) -> Floats:
    return np.abs(state["qpos"][..., 0] - goal["qpos"][..., 0])


def _leans(state: Mapping[str, Floats]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(state["qpos"][..., 1]) > LEAN)


def _joints_apart(state: Mapping[str, Floats], goal: Mapping[str, Floats]) -> Floats:
    """The larger of both joints' distances; the observation holds two cosines, and then two sines."""
    here, there = (np.arctan2(x["state"][..., 2:4], x["state"][..., :2]) for x in (state, goal))
    return np.asarray(np.abs(np.remainder(here - there + np.pi, 2 * np.pi) - np.pi).max(axis=-1))


def _any_pose(links: int, rng: np.random.Generator) -> dict[str, Any]:
    return {"qpos": random_pose(links, rng)}


def _anywhere(rng: np.random.Generator) -> dict[str, Any]:
    return {"qpos": rng.uniform(-ROOM, ROOM, 2)}


def _apart(state: Mapping[str, Floats], goal: Mapping[str, Floats]) -> Floats:
    return np.asarray(np.linalg.norm(state["qpos"] - goal["qpos"], axis=-1))
