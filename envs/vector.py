"""Many `ReacherGoal` environments as one: one model, N states, frames drawn together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from worldplan.arrays import Floats, Frames, finite_array
from worldplan.checks import check_name, episode_seed, positive_int, reset_options
from worldplan.envs.reacher import (
    CONTROL_WEIGHT,
    EPISODE_STEPS,
    ReacherGoal,
    angle_error,
    checked_qpos,
    fingertip,
    sample_qpos,
)
from worldplan.envs.rendering import SIZE, render_frames, sample_targets
from worldplan.envs.workers import spawned_pool
from worldplan.errors import InvalidInput

_Rows = NDArray[np.bool_]


class ReacherGoalVector(VectorEnv):
    """N times `worldplan/ReacherGoal-v0`: `gymnasium.make_vec("worldplan/ReacherGoal-v0", num_envs=N)`.

    Seeds, starts, goals, rewards and frames are those of N single environments, the physics to rounding.
    `reset(options=...)` takes `qpos` and `goal_qpos`, (2,) or (N, 2) radians, and `reset_mask` (N,) for some rows.

    Args:
        num_envs: N.
        max_episode_steps: length of an episode; None sets no limit.
        autoreset_mode: when the next episode begins, one of Gymnasium's modes or its value, such as `"NextStep"`.
        processes: that draw; 1 draws in this one, more are spawned (`__main__` must be importable).
        **options: those of `ReacherGoal`.

    Raises:
        InvalidInput: no environment or no process.
        UnknownName, InvalidInput: those of `ReacherGoal`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = EPISODE_STEPS,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        processes: int = 1,
        **options: Any,
    ) -> None:
        from mujoco import MjData, rollout

        self.num_envs, self._draws = positive_int("num_envs", num_envs), positive_int("processes", processes)
        mode = getattr(autoreset_mode, "value", autoreset_mode)
        check_name("autoreset mode", str(mode), [known.value for known in AutoresetMode])
        options.pop("episode_steps", None)  # ours, in place of Gymnasium's limit
        self._one = ReacherGoal(**options, episode_steps=max_episode_steps)
        self.render_mode, self._limit, self.mode = self._one.render_mode, max_episode_steps, AutoresetMode(mode)
        self.metadata = {**ReacherGoal.metadata, "autoreset_mode": self.mode}
        self.single_observation_space, self.single_action_space = self._one.observation_space, self._one.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        n = self.num_envs
        self._rng: list[np.random.Generator | None] = [None] * n
        self._state, self._target, self._goal = np.zeros((n, 1, 5)), np.zeros((n, 3)), np.zeros((n, 2))
        self._goal_frames = np.zeros((n, SIZE, SIZE, 3), np.uint8)
        self._frames = self._goal_frames.copy()
        self._steps, self._over = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
        self._open = ExitStack()
        self._physics = self._open.enter_context(rollout.Rollout(nthread=0))
        self._model = self._one.model
        self._data = MjData(self._model)
        self._pool: ProcessPoolExecutor | None = None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Frames], dict[str, Any]]:
        """Start the episodes of all rows, or with `reset_mask` of some; see the class.

        Raises:
            InvalidInput: another number of seeds, a mask of another shape, or poses that the arm cannot take.
            UnknownName: an option of another name.
        """
        self._check_open()
        options = reset_options(options, ("qpos", "goal_qpos", "reset_mask"))
        rows = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, dtype=bool)))
        if rows.shape != (self.num_envs,) or rows.dtype != np.bool_ or not rows.any():
            raise InvalidInput(f"reset_mask marks one row or more of {self.num_envs} by True, got {rows}")
        given: Any = seed
        if np.shape(given) == ():
            first = episode_seed(given)
            seeds = [None if first is None else first + k for k in range(self.num_envs)]
        else:
            seeds = [episode_seed(one) for one in given]
        if len(seeds) != self.num_envs:
            raise InvalidInput(f"need one seed for each of {self.num_envs} environments, got {len(seeds)}")
        self._begin(rows, seeds, options)
        return self._observation(), self._infos(rows)

    def step(self, actions: Any) -> tuple[dict[str, Frames], Floats, _Rows, _Rows, dict[str, Any]]:
        """Apply torques (N, 2), clipped to [-1, 1], for 20 ms. Raises InvalidInput unless they are finite."""
        self._check_open()
        torques = finite_array("actions", actions)
        if torques.shape != (self.num_envs, 2):
            raise InvalidInput(f"actions are torques ({self.num_envs}, 2), got shape {torques.shape}")
        if self.mode is AutoresetMode.DISABLED and self._over.any():
            raise InvalidInput("some episodes are over; reset them with options={'reset_mask': ...}")
        anew = self._over & (self.mode is AutoresetMode.NEXT_STEP)
        rewards, moved = self._advance(torques.clip(-1.0, 1.0), ~anew), ~anew
        if anew.any():
            self._begin(anew, [None] * self.num_envs, {}, draw=False)
        self._draw(moved | anew)
        if self._one.reward == "match" and moved.any():
            rewards[moved] = self._one.compute_reward(self._frames[moved], self._goal_frames[moved], {})
        truncated = moved & (self._steps >= (self._limit or np.inf))
        infos = self._infos(np.ones_like(moved), rewards, moved)
        if self.mode is AutoresetMode.SAME_STEP and truncated.any():
            infos = self._restarted(truncated, rewards)
        self._over = truncated & (self.mode is not AutoresetMode.SAME_STEP)
        return self._observation(), rewards, np.zeros_like(truncated), truncated, infos

    def render(self) -> tuple[Frames, ...] | None:
        """The current frames, if `render_mode` is `rgb_array`."""
        return tuple(self._frames.copy()) if self.render_mode == "rgb_array" else None

    def _check_open(self) -> None:
        if self.closed:
            raise InvalidInput("this environment is closed; make another")

    def close_extras(self, **_: Any) -> None:
        """End the threads and processes that move and draw."""
        self._open.close()

    def _advance(self, torques: Floats, moved: _Rows) -> Floats:
        """Move the marked rows for 20 ms; their rewards by the true pose, 0 for the others."""
        error = angle_error(self._state[:, 0, 1:3].copy(), self._goal)
        rewards = -(np.square(error).sum(axis=1) + CONTROL_WEIGHT * np.square(torques).sum(axis=1))
        after = np.empty_like(self._state)
        before = self._state[:, 0].copy()
        self._physics.rollout(self._model, self._data, before, torques[:, None].copy(), nstep=1, state=after)
        self._state[moved] = after[moved]
        self._steps += moved
        return np.where(moved, rewards, 0.0)

    def _begin(self, rows: _Rows, seeds: list[int | None], options: dict[str, Any], draw: bool = True) -> None:
        """Start the episodes of the marked rows, as `ReacherGoal.reset` does."""
        for k in np.flatnonzero(rows):
            if seeds[k] is not None or self._rng[k] is None:
                self._rng[k] = np_random(seeds[k])[0]
            rng = self._rng[k]
            assert rng is not None
            drawn = {"qpos": sample_qpos(rng), "goal_qpos": sample_qpos(rng)}
            self._target[k] = sample_targets(1, rng, self._one.target)[0]
            for name, value in options.items():
                given = finite_array(name, value)
                drawn[name] = given[k] if given.shape == (self.num_envs, 2) else given
            start, self._goal[k] = (checked_qpos(name, drawn[name]) for name in ("qpos", "goal_qpos"))
            self._state[k, 0] = 0.0
            self._state[k, 0, 1:3] = start
        self._steps[rows], self._over[rows] = 0, False
        self._goal_frames[rows] = self._drawn(self._goal[rows], self._target[rows])
        if draw:
            self._draw(rows)

    def _restarted(self, rows: _Rows, rewards: Floats) -> dict[str, Any]:
        """Begin anew the rows that are over in this very step; the infos keep what these last showed."""
        last, told = self._observation(), self._infos(rows, rewards, rows)
        final: dict[str, Any] = {}
        for k in np.flatnonzero(rows):
            info = {name: value[k] for name, value in told.items() if not name.startswith("_")}
            seen = {name: value[k] for name, value in last.items()}
            final = self._add_info(final, {"final_obs": seen, "final_info": info}, int(k))
        self._begin(rows, [None] * self.num_envs, {})
        return {**self._infos(np.ones_like(rows), rewards, ~rows), **final}

    def _observation(self) -> dict[str, Frames]:
        frames = self._frames.copy()
        return {"observation": frames, "achieved_goal": frames.copy(), "desired_goal": self._goal_frames.copy()}

    def _infos(self, rows: _Rows, rewards: Floats | None = None, moved: _Rows | None = None) -> dict[str, Any]:
        """What `ReacherGoal` tells, as Gymnasium's vector environments do: (N, ...) and which rows it is of."""
        qpos = self._state[:, 0, 1:3].copy()
        distance = np.linalg.norm(fingertip(qpos) - fingertip(self._goal), axis=1)
        told: dict[str, Any] = {
            "qpos": qpos,
            "qvel": self._state[:, 0, 3:5].copy(),
            "goal_qpos": self._goal.copy(),
            "tip_distance": distance,
            "is_success": self._one.succeeds(qpos, self._goal, distance),
        }
        marks = {f"_{name}": rows.copy() for name in told}
        if rewards is not None and moved is not None and moved.any():
            told, marks = {**told, "reward": rewards.copy()}, {**marks, "_reward": moved.copy()}
        return {**told, **marks}

    def _draw(self, rows: _Rows) -> None:
        self._frames[rows] = self._drawn(self._state[rows, 0, 1:3], self._target[rows])

    def _drawn(self, qpos: Floats, targets: Floats) -> Frames:
        if not self._one.pixels:
            return np.zeros((len(qpos), SIZE, SIZE, 3), np.uint8)
        parts = min(self._draws, len(qpos))
        if parts == 1:
            return render_frames(qpos, targets, self._one.profile)
        if self._pool is None:
            self._pool = self._open.enter_context(spawned_pool(self._draws))
        split = zip(np.array_split(qpos, parts), np.array_split(targets, parts), strict=True)
        waiting = [self._pool.submit(render_frames, *part, self._one.profile) for part in split]
        return np.concatenate([job.result() for job in waiting])
