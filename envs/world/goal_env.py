"""Reach the frame of a goal, in any world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from worldplan.arrays import Floats, Frames
from worldplan.checks import episode_seed, positive_int, reset_options
from worldplan.envs.exploration import random_actions
from worldplan.envs.world.world import World
from worldplan.errors import InvalidInput


class GoalEnv(gym.Env[dict[str, Frames], NDArray[Any]]):
    """A world whose observation is `Dict(observation, desired_goal)`, both frames (S, S, 3) uint8.

    Start and goal are drawn by the world's `sample`. A world without one starts where its `reset` puts it, and its goal
    is what it shows `ahead` steps of random actions later. Nothing terminates; the reward is that of the world. `goal`
    is the goal of the episode. `info` is the world's, with the state at the goal as `goal_NAME`, and `error` and
    `is_success` if the world can judge.

    `reset(options=...)` takes `start` and `goal`, reset options of the world each, or `goal` as a frame, whose state
    stays unknown.

    Args:
        world: the world.
        ahead: steps of random actions to a goal, where the world does not sample.
        hold: steps for which each of these actions is held (times what the world's own exploration says).
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, world: World, *, ahead: int = 50, hold: int = 1) -> None:
        self.world, self._ahead = world, positive_int("ahead", ahead)
        explores = world.exploration
        self._how, self._env = replace(explores, hold=positive_int("hold", hold) * explores.hold), world.make()
        frame = spaces.Box(0, 255, world.card.frame, np.uint8)
        self.observation_space: spaces.Space[Any] = spaces.Dict({"observation": frame, "desired_goal": frame})
        self.action_space = self._env.action_space
        self.metadata = {**self.metadata, "render_fps": max(1, round(1 / world.card.step_seconds))}
        self.goal, self._goal_state = np.zeros(world.card.frame, np.uint8), dict[str, Floats]()
        self._lost = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Frames], dict[str, Any]]:
        """Start an episode; see the class for `options`.

        Raises:
            UnknownName: an option of another name.
            InvalidInput: a goal frame of another size, or reset options for a world that takes none.
        """
        options = reset_options(options, ("start", "goal"))
        super().reset(seed=episode_seed(seed))
        begin = int(self.np_random.integers(2**31))
        start, goal = (self.world.sample(self.np_random) if self.world.sample else None for _ in range(2))
        start, goal = options.get("start", start), options.get("goal", goal)
        if goal is not None and not isinstance(goal, Mapping):
            self.goal, self._goal_state = self._shown(goal), {}
        else:
            frame, info = self._env.reset(seed=begin, options=None if goal is None else dict(goal))
            if goal is None:
                actions = random_actions(self._how, *self._limits(), self.np_random)
                for action in islice(actions, self._ahead):
                    frame, _, over, cut, info = self._env.step(action.astype(self.action_space.dtype))
                    if over or cut:
                        break
            self.goal, self._goal_state = frame.copy(), {name: info[name].copy() for name in self.world.card.states}
        if not (start is None or isinstance(start, Mapping)):
            raise InvalidInput(f"a start is a dictionary of reset options of {self.world.card.name}, got {start!r}")
        self._lost = False
        frame, info = self._env.reset(seed=begin, options=None if start is None else dict(start))
        return self._observation(frame), self._judged(info)

    def step(self, action: NDArray[Any]) -> tuple[dict[str, Frames], float, bool, bool, dict[str, Any]]:
        """Act for one step of the world."""
        frame, reward, _, over, info = self._env.step(action)
        return self._observation(frame), float(reward), False, over, self._judged(info)

    def render(self) -> Any:
        """What the world itself draws."""
        return self._env.render()

    def close(self) -> None:
        """Close the world's environment."""
        self._env.close()

    def _limits(self) -> tuple[Floats, Floats]:
        return np.array(self.world.card.action_low), np.array(self.world.card.action_high)

    def _shown(self, goal: Any) -> Frames:
        frame: NDArray[Any] = np.asarray(goal)
        if frame.shape != self.world.card.frame or frame.dtype != np.uint8:
            raise InvalidInput(
                f"a goal of {self.world.card.name} is a frame {self.world.card.frame} uint8, got {frame.shape} "
                f"{frame.dtype}; resize it"
            )
        return frame.copy()

    def _observation(self, frame: Frames) -> dict[str, Frames]:
        return {"observation": frame, "desired_goal": self.goal.copy()}

    def _judged(self, info: dict[str, Any]) -> dict[str, Any]:
        told = {**info, **{f"goal_{name}": value.copy() for name, value in self._goal_state.items()}}
        judge = self.world.judge
        if judge is None or not self._goal_state:
            return told
        error = float(judge.error(info, self._goal_state))
        self._lost |= judge.lost is not None and bool(judge.lost(info))
        return {**told, "error": error, "is_success": error <= judge.tolerance and not self._lost}
