"""`worldplan/Arm-v0`: a planar arm of one to four joints, seen from above."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from worldplan.arrays import Floats
from worldplan.checks import positive_int
from worldplan.envs.workers import select_backend
from worldplan.envs.world.control_env import ControlEnv
from worldplan.errors import InvalidInput, RenderingUnavailable

LINKS = 1, 4  # the least and the most
REACH = 0.24  # metres from the first joint to the fingertip, however many links there are
BEND = 2.8  # radians to either side that every joint but the first can bend; the first turns without end
STEP = 0.02  # seconds

_WIDTH = 0.015  # metres, half that of a link
_STEP_UP = 0.008  # metres by which each link lies above the one before, and hides it where they cross
_COLOURS = ".85 .2 .15", ".15 .45 .85", ".95 .7 .1", ".2 .65 .3"


class ArmEnv(ControlEnv):
    """A planar arm of one to four equal links, .24 m long in all, seen from above; nothing else is in the picture.

    Actions are torques in [-1, 1], one for each joint; a step takes 20 ms. The first joint turns without end, the
    others by 2.8 rad to either side. An episode starts at rest in a uniformly random pose. It has no task: the reward
    is 0, and nothing ends it.

    The motors are geared: what turns is mostly their own inertia. So each torque moves its own joint, nearly alike in
    all poses, at 5 rad/s at most.

    Args:
        links: number of joints.
        size: pixels a side of the frames.
        render_mode: for `gymnasium.make`; the frames are the observation.

    Raises:
        InvalidInput: fewer than one joint or more than four.
    """

    def __init__(self, links: int = 3, size: int = 64, render_mode: str | None = "rgb_array") -> None:
        if not LINKS[0] <= positive_int("links", links) <= LINKS[1]:
            raise InvalidInput(f"the arm has {LINKS[0]} to {LINKS[1]} links, got {links}")
        with suppress(RenderingUnavailable):
            select_backend()
        from dm_control import mujoco
        from dm_control.rl import control

        physics = mujoco.Physics.from_xml_string(arm_model(links))
        super().__init__(control.Environment(physics, _Rest(), control_timestep=STEP), size)
        self.links = links


def random_pose(links: int, rng: np.random.Generator) -> Floats:
    """Angles (links,) in radians, uniform over all poses."""
    widths = np.array([math.pi] + [BEND] * (links - 1))
    return np.asarray(rng.uniform(-widths, widths))


def fingertip(angles: Floats) -> Floats:
    """Place (..., 2) of the fingertip, in metres, for angles (..., links) in radians."""
    turned = np.cumsum(angles, axis=-1)
    link = REACH / angles.shape[-1]
    return np.asarray(link * np.stack([np.cos(turned).sum(axis=-1), np.sin(turned).sum(axis=-1)], axis=-1))


def fingertips_apart(state: Mapping[str, Floats], goal: Mapping[str, Floats]) -> Floats:
    """Metres between the fingertips of two poses."""
    return np.asarray(np.linalg.norm(fingertip(state["qpos"]) - fingertip(goal["qpos"]), axis=-1))


def arm_model(links: int) -> str:
    """The arm in MuJoCo's XML (MJCF)."""
    length = REACH / links
    body = ""
    for k in reversed(range(links)):
        limits = "" if k == 0 else f'limited="true" range="{-BEND} {BEND}"'
        place = "0 0 .02" if k == 0 else f"{length} 0 {_STEP_UP}"
        tip = f'<geom type="sphere" pos="{length} 0 {_WIDTH}" size="{_WIDTH * 0.8}" rgba=".1 .1 .1 1"/>'
        body = (
            f'<body name="link{k}" pos="{place}"><joint name="joint{k}" axis="0 0 1" {limits}/>'
            f'<geom type="capsule" fromto="0 0 0 {length} 0 0" size="{_WIDTH}" rgba="{_COLOURS[k]} 1"/>'
            f"{body or tip}</body>"
        )
    motors = "".join(f'<motor joint="joint{k}" gear=".05" ctrlrange="-1 1" ctrllimited="true"/>' for k in range(links))
    seen = 2.3 * REACH  # metres a side
    height, fovy = 2.0, math.degrees(2.0 * math.atan(seen / 2.0 / 2.0))
    return f"""
    <mujoco model="arm">
      <option timestep="{STEP / 2}" gravity="0 0 0" integrator="implicitfast"/>
      <compiler angle="radian"/>
      <default>
        <joint type="hinge" damping=".01" armature=".001" solreflimit=".02 1"/>
        <geom contype="0" conaffinity="0" density="100"/>
      </default>
      <visual><headlight ambient=".6 .6 .6" diffuse=".4 .4 .4" specular="0 0 0"/></visual>
      <worldbody>
        <camera name="above" pos="0 0 {height}" fovy="{fovy}"/>
        <geom type="plane" size="{seen} {seen} .1" rgba=".93 .93 .9 1"/>
        <geom type="cylinder" size="{_WIDTH} .03" pos="0 0 .01" rgba=".3 .3 .3 1"/>
        {body}
      </worldbody>
      <actuator>{motors}</actuator>
    </mujoco>
    """


class _Rest:
    """A task of dm_control without a task: a random pose, at rest."""

    def __init__(self) -> None:
        self.random = np.random.RandomState()  # what dm_control's tasks have, and `ControlEnv` seeds

    def initialize_episode(self, physics: Any) -> None:
        """Take a random pose."""
        links = physics.model.nq
        physics.data.qpos[:] = random_pose(links, np.random.default_rng(self.random.randint(2**31)))

    def action_spec(self, physics: Any) -> Any:
        """The limits of the torques."""
        from dm_control import mujoco

        return mujoco.action_spec(physics)

    def before_step(self, action: Floats, physics: Any) -> None:
        """Set the torques."""
        physics.set_control(action)

    def after_step(self, physics: Any) -> None:
        """Nothing follows a step."""

    def get_observation(self, physics: Any) -> dict[str, Any]:
        """Nothing but the frame is observed."""
        return {}

    def get_reward(self, physics: Any) -> float:
        """No reward."""
        return 0.0

    def get_termination(self, physics: Any) -> None:
        """Nothing ends an episode."""
        return None
