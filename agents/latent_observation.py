"""Gymnasium wrappers that show the filtered latent in place of the frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from worldplan.agents.planning_agent import PlanningAgent, load_agent
from worldplan.arrays import Floats, finite_array
from worldplan.checks import episode_seed, positive_number
from worldplan.data.world_card import REACHER
from worldplan.errors import InvalidInput
from worldplan.learning.encoder import check_frames, encode

GOALS = "achieved_goal", "desired_goal"
Latents = NDArray[np.float32]


class LatentTracker:
    """Encoder and filter of an agent for N rows: frames in, vectors out that a policy can learn from.

    The vector of a row is `[e(h); v]`, float32: the filtered latent as `LatentSpace.embed` writes it (lines as they
    are, circles by cosine and sine), and its velocity per second if the agent's model has one.

    Args:
        agent: whose encoder and filter are used; its planner takes no part.
        tolerance: largest distance from a goal, in units of the latent (radians on circles), that counts as reached.
    """

    def __init__(self, agent: PlanningAgent, tolerance: float | None = None) -> None:
        self.agent, self.space, self.tolerance = agent, agent.controller.space, tolerance
        self._n, self._d = agent.encoder.latent_dim, agent.dynamics.state_dim
        self.size: int = getattr(agent.encoder, "size", 64)
        self.goal_width = self._n + int(self.space.circles.sum())
        self.width = self.goal_width + self._d - self._n
        self._rate = 1.0 / (agent.world or REACHER).step_seconds  # steps a second: policies want numbers of size one
        self._mean = np.zeros((0, self._d))
        self._ignored = self._blind = np.zeros(0, dtype=np.int64)

    def box(self, width: int, rows: tuple[int, ...] = ()) -> spaces.Box:
        """The space of vectors (*rows, width); latents have no bounds."""
        return spaces.Box(-np.inf, np.inf, (*rows, width), np.float32)

    def start(self, frames: Any, rows: NDArray[np.bool_] | None = None) -> Floats:
        """Begin the episodes of N rows, or of those that are marked, at rest at what the frames (N, S, S, 3) show."""
        means = self.agent.controller.start(self.latents(frames))
        fresh = np.ones(len(means), dtype=bool) if rows is None else rows
        if len(self._mean) != len(means):
            self._mean, self._ignored = np.zeros_like(means), np.zeros(len(means), dtype=np.int64)
            self._blind = self._ignored
        self._mean = np.where(fresh[:, None], means, self._mean)
        self._ignored, self._blind = np.where(fresh, 0, self._ignored), np.where(fresh, 0, self._blind)
        return self._mean

    def follow(self, actions: Any, frames: Any, fresh: NDArray[np.bool_] | None = None) -> Floats:
        """Estimates (N, d) after the actions (N, m) and frames (N, S, S, 3) of a step; `fresh` rows begin with it."""
        applied, shape = finite_array("actions", actions), (len(self._mean), self.agent.dynamics.action_dim)
        if not len(self._mean):
            raise InvalidInput("no episode yet: call `reset` first")
        if applied.shape != shape:
            raise InvalidInput(f"need actions {shape}, got {applied.shape}")
        applied = applied.clip(*self.agent.controller.limits)
        begins = np.zeros(len(applied), dtype=bool) if fresh is None else fresh
        self._mean, self._ignored, self._blind = self.agent.controller.follow(
            self._mean, applied, self.latents(frames), begins, self._ignored, self._blind
        )
        return self._mean

    def latents(self, frames: Any) -> Floats:
        """Latents (N, n) of frames (N, S, S, 3)."""
        return encode(self.agent.encoder, check_frames(frames, self.size))

    def vectors(self, means: Floats) -> Latents:
        """Vectors (N, `width`) of estimates (N, d)."""
        parts = [self.space.embed(means[:, : self._n]), self._rate * means[:, self._n :]]
        return np.asarray(np.concatenate(parts, axis=1), dtype=np.float32)

    def goals(self, latents: Floats) -> Latents:
        """Vectors (N, `goal_width`) of latents (N, n)."""
        return self.space.embed(latents).astype(np.float32)

    def distance(self, achieved: Any, desired: Any) -> Floats:
        """Distances (...) between goal vectors (..., `goal_width`), in units of the latent."""
        a, b = (finite_array("goals", x) for x in (achieved, desired))
        if a.shape != b.shape or not a.ndim or a.shape[-1] != self.goal_width:
            raise InvalidInput(f"goals are latents (..., {self.goal_width}), got {a.shape} and {b.shape}")
        k, around = self.goal_width - self._n, np.flatnonzero(self.space.circles)
        gap = a[..., : self._n] - b[..., : self._n]
        if k:
            one, other = (np.arctan2(x[..., -k:], x[..., around]) for x in (a, b))
            gap[..., around] = np.remainder(one - other + np.pi, 2 * np.pi) - np.pi
        return np.asarray(np.linalg.norm(gap, axis=-1))

    def rewards(self, achieved: Any, desired: Any) -> Floats:
        """0 where a goal vector lies within the tolerance of another and -1 elsewhere, (...)."""
        if self.tolerance is None:
            raise InvalidInput("which latents count as reached? give LatentObservation a tolerance, such as 0.1")
        return np.asarray((self.distance(achieved, desired) <= self.tolerance) - 1.0)


def _tracker(env: Any, agent: PlanningAgent | str | Path, tolerance: float | None) -> tuple[LatentTracker, bool]:
    """The tracker for an environment, and whether that has goals. Raises InvalidInput if their spaces do not fit."""
    tracker = LatentTracker(agent if isinstance(agent, PlanningAgent) else load_agent(agent), tolerance)
    seen = getattr(env, "single_observation_space", env.observation_space)
    acts = getattr(env, "single_action_space", env.action_space)
    goal = isinstance(seen, spaces.Dict)
    frames = [seen.spaces.get(key) for key in ("observation", "desired_goal")] if goal else [seen]
    shape = tracker.size, tracker.size, 3
    if any(not isinstance(f, spaces.Box) or f.shape != shape for f in frames):
        raise InvalidInput(
            f"the agent sees frames {shape}, the environment shows {seen}; wrap it (gymnasium.wrappers."
            "AddRenderObservation, ResizeObservation), or take an agent for this environment"
        )
    m = tracker.agent.dynamics.action_dim
    if acts.shape != (m,):
        raise InvalidInput(f"the agent's model has {m} actions, the environment takes {acts}")
    if tolerance is not None:
        tracker.tolerance = positive_number("tolerance", tolerance)
    if tolerance is not None and not goal:
        raise InvalidInput(f"a tolerance is for environments with goals, and this one shows {seen}")
    return tracker, goal


class LatentObservation(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Shows `[e(h); v]`, float32: an agent's filtered latent of the frame; see `LatentTracker`.

    An environment whose observation is `Dict(observation, desired_goal)` of frames shows
    `Dict(observation, achieved_goal, desired_goal)`, the goals as `e(h)`. With a tolerance its reward is
    `compute_reward`: 0 within this distance of the goal, -1 elsewhere, as hindsight experience replay needs it.

    Args:
        env: an environment that shows frames (S, S, 3) uint8 of the agent's world.
        agent: whose encoder and filter are used: an agent, or a name that `load_agent` takes.
        tolerance: largest distance from a goal that counts as reached, in units of the latent; None keeps the reward.

    Raises:
        InvalidInput: frames or actions that the agent does not know, or a tolerance without goals.
    """

    def __init__(
        self, env: gym.Env[Any, Any], agent: PlanningAgent | str | Path = "reacher", *, tolerance: float | None = None
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, agent=agent, tolerance=tolerance)
        gym.Wrapper.__init__(self, env)
        self._tracker, self._goal = _tracker(env, agent, tolerance)
        self.observation_space = _seen(self._tracker, self._goal)
        self._desired: Latents = np.zeros(self._tracker.goal_width, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, at rest."""
        seen, info = self.env.reset(seed=episode_seed(seed), options=options)
        if self._goal:
            self._desired = self._tracker.goals(self._tracker.latents(np.asarray(seen["desired_goal"])[None]))[0]
        return self._shown(self._tracker.start(np.asarray(self._frame(seen))[None])), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act, and filter what is seen then."""
        seen, reward, terminated, truncated, info = self.env.step(action)
        shown = self._shown(self._tracker.follow(np.asarray(action)[None], np.asarray(self._frame(seen))[None]))
        if self._tracker.tolerance is not None:
            reward = self.compute_reward(shown["achieved_goal"], shown["desired_goal"], info)
        return shown, float(reward), terminated, truncated, info

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """0 within the tolerance and -1 elsewhere: a number, or (N,) for goals (N, ...). `info` is not used."""
        rewards = self._tracker.rewards(achieved_goal, desired_goal)
        return rewards if rewards.ndim else float(rewards)

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """False, or (N,) of them: a goal that was reached is to be held."""
        return np.zeros(len(achieved_goal), dtype=bool) if np.ndim(achieved_goal) == 2 else False

    def _frame(self, seen: Any) -> Any:
        return seen["observation"] if self._goal else seen

    def _shown(self, means: Floats) -> Any:
        vector = self._tracker.vectors(means)[0]
        if not self._goal:
            return vector
        achieved = vector[: self._tracker.goal_width].copy()
        return {"observation": vector, "achieved_goal": achieved, "desired_goal": self._desired.copy()}


class VectorLatentObservation(gym.vector.VectorWrapper):
    """`LatentObservation` for a vector environment: one pass of the encoder for all N frames.

    Every autoreset mode is followed: a row's filter begins anew with the frame that begins its episode. In
    `SAME_STEP`, `infos["final_obs"]` holds the last vectors too.

    Arguments and errors are those of `LatentObservation`.
    """

    def __init__(
        self,
        env: gym.vector.VectorEnv,
        agent: PlanningAgent | str | Path = "reacher",
        *,
        tolerance: float | None = None,
    ) -> None:
        super().__init__(env)
        self._tracker, self._goal = _tracker(env, agent, tolerance)
        self.single_observation_space = _seen(self._tracker, self._goal)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, self.num_envs)
        self._mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self._ended = np.zeros(self.num_envs, dtype=bool)
        self._shown_goal: Any = None
        self._desired: Latents = np.zeros((self.num_envs, self._tracker.goal_width), np.float32)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start the episodes, or with `options={"reset_mask": ...}` those of the marked rows."""
        mask = None if options is None else options.get("reset_mask")
        seen, infos = self.env.reset(seed=seed, options=options)
        rows = np.ones(self.num_envs, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        self._ended = self._ended & ~rows
        means = self._tracker.start(self._frames(seen), rows)
        return self._shown(means, seen), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Act, and filter what is seen then."""
        seen, rewards, terminated, truncated, infos = self.env.step(actions)
        over = terminated | truncated
        same = self._mode is AutoresetMode.SAME_STEP
        fresh = over if same else self._ended & (self._mode is AutoresetMode.NEXT_STEP)
        if same and over.any():
            # The last frames of the rows that are over, filtered before their next episodes begin.
            rows = np.flatnonzero(over)
            last = self._frames(seen).copy()
            last[rows] = np.stack([self._frames(infos["final_obs"][k]) for k in rows])
            ended = self._vectors(self._tracker.follow(actions, last))
            infos = {**infos, "final_obs": infos["final_obs"].copy()}
            for k in rows:
                infos["final_obs"][k] = _row(ended, k)
            means = self._tracker.start(self._frames(seen), over)
            achieved = ended
        else:
            means, achieved = self._tracker.follow(actions, self._frames(seen), fresh), None
        shown = self._shown(means, seen)
        self._ended = over
        if self._tracker.tolerance is not None:
            goals = achieved or shown
            rewards = self._tracker.rewards(goals["achieved_goal"], goals["desired_goal"])
            rewards = np.where(fresh, 0.0, rewards) if not same else rewards
        return shown, rewards, terminated, truncated, infos

    def _frames(self, seen: Any) -> Any:
        return seen["observation"] if self._goal else seen

    def _shown(self, means: Floats, seen: Any) -> Any:
        if self._goal:
            goals = np.asarray(seen["desired_goal"])
            if self._shown_goal is None or not np.array_equal(self._shown_goal, goals):
                self._shown_goal = goals.copy()
                self._desired = self._tracker.goals(self._tracker.latents(goals))
        return self._vectors(means)

    def _vectors(self, means: Floats) -> Any:
        vectors = self._tracker.vectors(means)
        if not self._goal:
            return vectors
        achieved = vectors[:, : self._tracker.goal_width].copy()
        return {"observation": vectors, "achieved_goal": achieved, "desired_goal": self._desired.copy()}


def _row(vectors: Any, k: Any) -> Any:
    return {key: value[k] for key, value in vectors.items()} if isinstance(vectors, dict) else vectors[k]


def _seen(tracker: LatentTracker, goal: bool) -> spaces.Space[Any]:
    vector, goals = tracker.box(tracker.width), tracker.box(tracker.goal_width)
    return spaces.Dict({"observation": vector, **dict.fromkeys(GOALS, goals)}) if goal else vector
