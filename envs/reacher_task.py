"""dm_control's own Reacher task, `easy` and `hard`: from state and from pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from worldplan.arrays import Floats, finite_array
from worldplan.checks import check_name, episode_seed, reset_options
from worldplan.envs.reacher import LINK, WRIST_LIMIT, ReacherBase, checked_qpos, checked_torque, sample_qpos
from worldplan.envs.rendering import SIZE, TARGET_RADIUS, TARGET_SIZE, sample_targets
from worldplan.errors import InvalidInput

TASK_STEPS = 1000  # dm_control's time limit, 20 s
REACH = 2 * LINK  # metres
TIP_RADIUS = 0.01  # metres: the sphere at the fingertip
SPEED = 10.0  # rad/s: unit of the velocities in an observation

# cos and sin of the shoulder; wrist over its limit, which is soft; tip to target over the reach; velocities. Measured
# over 1e6 steps of constant, resonant and random bang-bang torques: wrist 1.06, velocities .74 (7.4 rad/s).
_BOUND = np.array(
    [1.0, 1.0, 1.25, *[(REACH + TARGET_RADIUS[1]) / REACH] * 2, 2.0, 2.0],
    dtype=np.float32,
)


def state_vector(qpos: Floats, qvel: Floats, to_target: Floats) -> NDArray[np.float32]:
    """The observation (..., 7) of `worldplan/Reacher-v0`, clipped to its bounds.

    Args:
        qpos: (..., 2) angles of shoulder and wrist, radians.
        qvel: (..., 2) velocities of shoulder and wrist, rad/s.
        to_target: (..., 2) vector from fingertip to target, metres.

    Returns:
        Cosine and sine of the shoulder, wrist over its limit, `to_target / .24 m`, `qvel / (10 rad/s)`.
    """
    shoulder = qpos[..., :1]
    parts = (np.cos(shoulder), np.sin(shoulder), qpos[..., 1:] / WRIST_LIMIT, to_target / REACH, qvel / SPEED)
    return np.concatenate(parts, axis=-1).astype(np.float32).clip(-_BOUND, _BOUND)


class ReacherTask(ReacherBase):
    """Hold the fingertip in the target: `worldplan/Reacher-v0`, from state.

    Observation `Box((7,), float32)`: see `state_vector`. Action, step, physics and reward are those of
    `dm_control.suite`'s reacher. The reward is 1 while the sphere at the fingertip touches the target, else 0.
    Truncated after 1000 steps by default. `task` is `easy` (target of radius .05 m) or `hard` (.015 m); the other
    arguments are those of `ReacherBase`.

    `reset(options=...)` takes `qpos`, (2,) radians, and `target`, (2,) metres; by default both come from dm_control's
    reset distribution. Velocity starts at zero.
    """

    def __init__(
        self,
        task: str = "easy",
        profile: str = "dmc",
        render_mode: str | None = None,
        episode_steps: int | None = TASK_STEPS,
        render_size: int = SIZE,
    ) -> None:
        check_name("task", task, TARGET_SIZE)
        super().__init__(episode_steps, profile, render_mode, render_size)
        self.task = task
        self.observation_space = self._seen()
        geometry = self._physics.model
        self._tip_id, self._target_id = (geometry.name2id(name, "geom") for name in ("finger", "target"))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start an episode; see the class for `options`.

        Raises:
            InvalidInput: a pose or a target out of the arm's range, or not finite.
            UnknownName: an option of another name.
        """
        options = reset_options(options, ("qpos", "target"))
        super().reset(seed=episode_seed(seed))
        # Always drawn, so that options do not change what a seed gives elsewhere.
        qpos, self._target = sample_qpos(self.np_random), sample_targets(1, self.np_random, self.task)[0]
        if "target" in options:
            self._target[:2] = _checked_target(options["target"])
        self._physics.model.geom_size[self._target_id, 0] = self._target[2]
        self._physics.model.geom_pos[self._target_id, :2] = self._target[:2]
        self._start(checked_qpos("qpos", options.get("qpos", qpos)))
        return self._observation(), self.info()

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Apply torques (2,), clipped to [-1, 1], for 20 ms. Raises InvalidInput unless they are 2 finite numbers."""
        over = self._advance(checked_torque(action))
        info = self.info()
        return self._observation(), float(info["is_success"]), False, over, info

    def _seen(self) -> spaces.Space[Any]:
        return spaces.Box(-_BOUND, _BOUND, dtype=np.float32)

    def _observation(self) -> NDArray[Any]:
        data = self._physics.data
        return state_vector(data.qpos, data.qvel, self._to_target())

    def _to_target(self) -> Floats:
        places = self._physics.data.geom_xpos
        vector: Floats = places[self._target_id, :2] - places[self._tip_id, :2]
        return vector

    def info(self) -> dict[str, Any]:
        """The true state, the target (x, y, radius) and its distance: for evaluation, not for agents."""
        distance = float(np.linalg.norm(self._to_target()))
        return {
            "qpos": self._physics.data.qpos.copy(),
            "qvel": self._physics.data.qvel.copy(),
            "target": self._target.copy(),
            "tip_distance": distance,
            "is_success": bool(distance <= self._target[2] + TIP_RADIUS),
        }


class ReacherPixels(ReacherTask):
    """The task of `ReacherTask` from pixels: `worldplan/ReacherPixels-v0`.

    Observation uint8 (64, 64, 3), with the target in the image. Everything else, options included, as in `ReacherTask`.
    """

    def _seen(self) -> spaces.Space[Any]:
        return spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)

    def _observation(self) -> NDArray[Any]:
        return self._draw(self._physics.data.qpos)


def _checked_target(value: Any) -> Floats:
    place = finite_array("target", value)
    if place.shape != (2,):
        raise InvalidInput(f"target must be a place (x, y) in metres, got shape {place.shape}")
    if np.linalg.norm(place) > TARGET_RADIUS[1]:
        raise InvalidInput(f"target must lie within {TARGET_RADIUS[1]} m of the shoulder, got {place}")
    return place
