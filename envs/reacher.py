"""Gymnasium environments over dm_control's Reacher."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from worldplan.arrays import Floats, finite_array
from worldplan.checks import check_name, episode_seed, positive_int, reset_options
from worldplan.envs.rendering import LARGEST, PROFILES, SIZE, TARGET_SIZE, load_physics, sample_targets, shared_renderer
from worldplan.errors import InvalidInput

LINK = 0.12  # metres: shoulder to wrist, and wrist to fingertip
WRIST_LIMIT = np.deg2rad(160.0)
TIP_TOLERANCE = 0.025  # metres
QPOS_TOLERANCE = 0.05  # radians
EPISODE_STEPS = 100
STEP_SECONDS = 0.02
GOAL_KEYS = "observation", "achieved_goal", "desired_goal"
CONTROL_WEIGHT = 0.1  # weight of a squared torque in the reward, where a squared radian has weight 1
# Mean grey levels by which two frames of one success may differ. Of 1,500 pairs of poses at all distances, 97% (tip)
# and 91% (qpos) of those below are successes; 93% and 89% of the successes lie below. So in the `fast` look.
MATCH = {"tip": 1.4, "qpos": 0.6}


def fingertip(qpos: Floats) -> Floats:
    """Position of the fingertip (..., 2), metres, at joint angles (..., 2), radians."""
    qpos = np.asarray(qpos, dtype=np.float64)
    shoulder, elbow = qpos[..., 0], qpos[..., 0] + qpos[..., 1]
    return LINK * np.stack([np.cos(shoulder) + np.cos(elbow), np.sin(shoulder) + np.sin(elbow)], axis=-1)


def angle_error(qpos: Floats, goal: Floats) -> Floats:
    """Joint error `qpos - goal` (..., 2), radians, with the shoulder wrapped to [-pi, pi)."""
    error = np.asarray(qpos, dtype=np.float64) - np.asarray(goal, dtype=np.float64)
    error[..., 0] = (error[..., 0] + np.pi) % (2 * np.pi) - np.pi
    return error


def sample_qpos(rng: np.random.Generator) -> Floats:
    """Joint angles (2,) from dm_control's reset distribution: uniform shoulder, uniform wrist within its limits."""
    return rng.uniform([-np.pi, -WRIST_LIMIT], [np.pi, WRIST_LIMIT])


class ReacherBase(gym.Env[Any, NDArray[np.float32]]):
    """What all Reacher environments share: the arm, torques, the target sphere, frames.

    Action `Box(-1, 1, (2,))`: torques of shoulder and wrist, relative to their range. A step is 20 ms. An episode is
    truncated after `episode_steps` and never terminates. `gymnasium.make` sets this limit by its own `TimeLimit`, so
    that `max_episode_steps` is obeyed and `env.spec` tells it.

    Args:
        episode_steps: length of an episode; None sets no limit.
        profile: look of the frames, `dmc` or `fast`.
        render_mode: `rgb_array` or None.
        render_size: pixels a side of what `render` draws, such as for a film; observations have 64.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / STEP_SECONDS)}  # noqa: RUF012

    def __init__(
        self, episode_steps: int | None, profile: str, render_mode: str | None, render_size: int = SIZE
    ) -> None:
        positive_int("episode_steps", 1 if episode_steps is None else episode_steps)
        if positive_int("render_size", render_size) > LARGEST:
            raise InvalidInput(f"render_size is at most {LARGEST}, got {render_size}")
        check_name("render profile", profile, PROFILES)
        check_name("render mode", str(render_mode), ("rgb_array", "None"))
        self.episode_steps, self.profile, self.render_mode = episode_steps, profile, render_mode
        self.render_size = render_size
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._physics = load_physics()
        self._target = np.zeros(3)
        self._steps = 0

    def _start(self, qpos: Floats) -> None:
        """Put the arm at `qpos`, at rest."""
        with self._physics.reset_context():
            self._physics.data.qpos[:] = qpos
        self._steps = 0

    def _advance(self, torque: Floats) -> bool:
        """Apply torques for 20 ms; returns whether the episode is over."""
        self._physics.set_control(torque)
        self._physics.step()
        self._steps += 1
        return self.episode_steps is not None and self._steps >= self.episode_steps

    def render(self) -> NDArray[np.uint8] | None:
        """The current frame, if `render_mode` is `rgb_array`."""
        if self.render_mode != "rgb_array":
            return None
        if self.render_size == SIZE:
            return self._draw(self._physics.data.qpos)
        return shared_renderer(self.render_size).render(self._physics.data.qpos, self._target, self.profile)

    def _draw(self, qpos: Floats) -> NDArray[np.uint8]:
        return shared_renderer().render(qpos, self._target, self.profile)


def checked_torque(action: Any) -> Floats:
    """Torques (2,), clipped to [-1, 1]. Raises InvalidInput for a wrong shape or values that are not finite."""
    torque = finite_array("an action", action)
    if torque.shape != (2,):
        raise InvalidInput(f"an action is two torques, got shape {torque.shape}")
    return torque.clip(-1.0, 1.0)


class ReacherGoal(ReacherBase):
    """Reach the pose of a goal image: `worldplan/ReacherGoal-v0`.

    A goal environment: observation `Dict(observation, achieved_goal, desired_goal)`, all uint8 (64, 64, 3), the first
    two being the same frame. Action and step as in `ReacherBase`; truncated after 100 steps by default, never
    terminated. Reward `-(|dtheta|^2 + .1 |u|^2)` in radians, shoulder wrapped, of the true state; or see `reward`.

    `reset(options=...)` takes `qpos` and `goal_qpos`, (2,) radians each; by default both come from dm_control's reset
    distribution. Velocity starts at zero. The target sphere is a distractor at a random place, the same in both images.
    `profile`, `render_mode`, `episode_steps` and `render_size` are those of `ReacherBase`.

    Args:
        target: `hard` (radius .015 m), `easy` (.05 m) or `hidden`.
        success: `tip` (fingertip within .025 m of the goal pose's) or `qpos` (both joints within .05 rad).
        reward: `pose`, or `match`: 0 where the frame matches the goal image, -1 elsewhere, as `compute_reward` gives.
            That is for hindsight experience replay (SB3's `HerReplayBuffer`), which asks for rewards of other goals.
        pixels: False leaves both images black, for runs that need only physics.
    """

    def __init__(
        self,
        profile: str = "dmc",
        target: str = "hard",
        success: str = "tip",
        render_mode: str | None = None,
        pixels: bool = True,
        episode_steps: int | None = EPISODE_STEPS,
        reward: str = "pose",
        render_size: int = SIZE,
    ) -> None:
        check_name("target", target, (*TARGET_SIZE, "hidden"))
        check_name("success criterion", success, MATCH)
        check_name("reward", reward, ("pose", "match"))
        super().__init__(episode_steps, profile, render_mode, render_size)
        self.target, self.success, self.pixels, self.reward = target, success, pixels, reward
        image = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.observation_space: spaces.Space[Any] = spaces.Dict(dict.fromkeys(GOAL_KEYS, image))
        self._goal_qpos = np.zeros(2)
        self._goal_image = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.uint8]], dict[str, Any]]:
        """Start an episode; see the class for `options`.

        Raises:
            InvalidInput: angles that are not two finite numbers, or a wrist beyond its limit.
            UnknownName: an option of another name.
        """
        options = reset_options(options, ("qpos", "goal_qpos"))
        super().reset(seed=episode_seed(seed))
        # Always drawn, so that options do not change what a seed gives elsewhere.
        drawn = {"qpos": sample_qpos(self.np_random), "goal_qpos": sample_qpos(self.np_random)}
        self._target = sample_targets(1, self.np_random, self.target)[0]
        qpos, self._goal_qpos = (checked_qpos(name, options.get(name, value)) for name, value in drawn.items())
        self._start(qpos)
        self._goal_image = self._draw(self._goal_qpos)
        return self._observation(), self.info()

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[dict[str, NDArray[np.uint8]], float, bool, bool, dict[str, Any]]:
        """Apply torques (2,), clipped to [-1, 1], for 20 ms. Raises InvalidInput unless they are 2 finite numbers."""
        torque = checked_torque(action)
        error = angle_error(self._physics.data.qpos, self._goal_qpos)
        reward = -float(error @ error + CONTROL_WEIGHT * torque @ torque)
        over = self._advance(torque)
        observation, info = self._observation(), self.info()
        if self.reward == "match":
            reward = float(self._matches(observation["achieved_goal"], self._goal_image)) - 1.0
        return observation, reward, False, over, {**info, "reward": reward}

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """0 where a frame matches a goal image, -1 elsewhere: a number, or (N,) for N of both.

        Frames may have their channels first, as SB3 keeps them.

        Two frames match if they differ by no more than `MATCH` grey levels on average. This is meant for frames with
        the same target sphere, such as those of one episode. Frames tell no distance between poses: with `pose`, the
        reward of a step is given back for its own `info` and goal alone, and with a warning other goals get this one.

        Raises:
            InvalidInput: no uint8 frames (64, 64, 3) or (N, 64, 64, 3), two shapes, or another number of infos.
        """
        match = self._matches(achieved_goal, desired_goal)
        goals = np.asarray(desired_goal).reshape(match.size, self._goal_image.size)
        try:
            infos = np.broadcast_to(np.asarray(info, dtype=object), match.shape).ravel()
        except ValueError as error:
            raise InvalidInput(f"need one info for each of {match.size} goals, or one for all: {error}") from error
        rewards = match.astype(np.float64).ravel() - 1.0
        if self.reward != "match":
            for row, (told, goal) in enumerate(zip(infos, goals, strict=True)):
                if isinstance(told, dict) and "reward" in told and np.array_equal(goal, self._goal_image.ravel()):
                    rewards[row] = told["reward"]
                    continue
                warnings.warn(
                    "steps are rewarded by the true pose, other goals by their frames; for hindsight experience replay "
                    "make the environment with reward='match'",
                    stacklevel=2,
                )
        return rewards if match.ndim else float(rewards[0])

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """False, or (N,) of them: a goal that was reached is to be held."""
        return self._never(achieved_goal)

    def compute_truncated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """False, or (N,) of them: only the time limit truncates."""
        return self._never(achieved_goal)

    def _never(self, achieved_goal: Any) -> Any:
        shape = np.shape(achieved_goal)
        return np.zeros(shape[0], dtype=bool) if len(shape) == 4 else False

    def _matches(self, achieved: Any, desired: Any) -> NDArray[np.bool_]:
        """Whether frames (..., 64, 64, 3) or (..., 3, 64, 64) match those of goals, (...)."""
        frames, goals = np.asarray(achieved), np.asarray(desired)
        known = frames.ndim in (3, 4) and frames.shape[-3:] in ((SIZE, SIZE, 3), (3, SIZE, SIZE))
        if not known or frames.shape != goals.shape or {frames.dtype, goals.dtype} != {np.dtype(np.uint8)}:
            raise InvalidInput(
                f"goals are frames uint8 ({SIZE}, {SIZE}, 3), or N of both, got {frames.dtype} {frames.shape} and "
                f"{goals.dtype} {goals.shape}"
            )
        # The absolute difference without a larger type: the greater minus the lesser.
        gap = np.maximum(frames, goals) - np.minimum(frames, goals)
        return np.asarray(gap.mean(axis=(-3, -2, -1)) <= MATCH[self.success])

    def _observation(self) -> dict[str, NDArray[np.uint8]]:
        frame = self._draw(self._physics.data.qpos)
        return {"observation": frame, "achieved_goal": frame.copy(), "desired_goal": self._goal_image.copy()}

    def _draw(self, qpos: Floats) -> NDArray[np.uint8]:
        if not self.pixels:
            return np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
        return super()._draw(qpos)

    def info(self) -> dict[str, Any]:
        """The true state and its distance to the goal: for evaluation, not for agents."""
        qpos = self._physics.data.qpos.copy()
        distance = float(np.linalg.norm(fingertip(qpos) - fingertip(self._goal_qpos)))
        return {
            "qpos": qpos,
            "qvel": self._physics.data.qvel.copy(),
            "goal_qpos": self._goal_qpos.copy(),
            "tip_distance": distance,
            "is_success": bool(self.succeeds(qpos, self._goal_qpos, distance)),
        }

    def succeeds(self, qpos: Floats, goal: Floats, distance: Any) -> NDArray[np.bool_]:
        """Whether poses (..., 2) reach goals (..., 2), radians, with fingertips `distance` (...) apart, metres."""
        if self.success == "tip":
            return np.asarray(distance <= TIP_TOLERANCE)
        return np.asarray((np.abs(angle_error(qpos, goal)) <= QPOS_TOLERANCE).all(axis=-1))

    @property
    def model(self) -> Any:
        """MuJoCo's model of the arm."""
        return self._physics.model.ptr


def checked_qpos(name: str, value: Any) -> Floats:
    """Joint angles (2,), radians. Raises InvalidInput unless they are 2 finite numbers, the wrist in its limits."""
    qpos = finite_array(name, value)
    if qpos.shape != (2,):
        raise InvalidInput(f"{name} must be two angles in radians, got shape {qpos.shape}")
    if abs(qpos[1]) > WRIST_LIMIT:
        raise InvalidInput(f"{name}: the wrist stops at {WRIST_LIMIT:.3f} rad, got {qpos[1]:.3f}")
    return qpos
