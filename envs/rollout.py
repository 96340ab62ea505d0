"""The loop in which an agent acts in an environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from worldplan.data.recipes import Exploration
from worldplan.data.trajectories import Starts, State, Trajectories
from worldplan.envs.exploration import random_actions
from worldplan.errors import InvalidInput
from worldplan.progress import Progress, silent


class Predictor(Protocol):
    """Any object with SB3's `predict`."""

    def predict(
        self, observation: Any, state: State = None, episode_start: Starts = None, deterministic: bool = True
    ) -> tuple[NDArray[Any], State]:
        """Action for an observation, and the agent's next recurrent state."""
        ...


def rollout(
    env: gym.Env[Any, Any],
    agent: Predictor | None,
    episodes: int,
    seed: int = 0,
    *,
    steps: int | None = None,
    options: Sequence[dict[str, Any]] | None = None,
    exploration: Exploration | None = None,
    progress: Progress = silent,
) -> Trajectories:
    """Run whole episodes and record them.

    Args:
        env: a Gymnasium environment with a `Box` action space, which must be bounded for random torques.
        agent: an object with `predict`; None draws actions at random.
        episodes: number of episodes.
        seed: seed for resets and random torques; episode k does not depend on the others.
        steps: cut every episode after this many actions; None waits for the environment.
        options: `reset` options, one dictionary per episode.
        exploration: how random actions are drawn; None draws each one uniformly.
        progress: wraps the iterator of episodes, for a progress bar.

    Returns:
        Trajectories: T + 1 frames, the entry `observation` of dictionary observations, and T actions as applied
            (clipped to the action space). `info` has the numeric entries that are there at every step with one shape,
            (T + 1, ...).

    Raises:
        InvalidInput: no episode asked for, another number of options, an action space that is no (bounded) `Box`,
            actions of another shape, or observations that are neither one array nor a dictionary with the entry
            `observation`.
    """
    space = env.action_space
    if not isinstance(space, Box) or (agent is None and not space.is_bounded()):
        raise InvalidInput(f"need a Box of actions, bounded for random ones, got {space}; wrap the environment")
    if episodes < 1 or (steps is not None and steps < 1):
        raise InvalidInput(f"need at least one episode of at least one step, got {episodes} and {steps}")
    if options is not None and len(options) != episodes:
        raise InvalidInput(f"got {len(options)} reset options for {episodes} episodes")
    recorded: list[tuple[NDArray[Any], ...]] = []
    infos: list[dict[str, NDArray[Any]]] = []
    children = np.random.SeedSequence(seed).spawn(episodes)
    for k in progress(iter(range(episodes)), episodes):
        rng = np.random.default_rng(children[k])
        observation, info = env.reset(seed=int(rng.integers(2**31)), options=options[k] if options else None)
        frames, facts = [_frame(observation)], [info]
        actions: list[NDArray[np.float64]] = []
        rewards: list[float] = []
        state, start, done = None, np.ones(1, dtype=bool), False
        drawn = random_actions(exploration or Exploration(), space.low, space.high, rng)
        while not done:
            if agent is None:
                action = next(drawn)
            else:
                action, state = agent.predict(observation, state, start, deterministic=True)
                start = np.zeros(1, dtype=bool)
            if np.shape(action) != space.shape:  # NumPy would spread one torque over all joints
                raise InvalidInput(
                    f"the agent gives actions of shape {np.shape(action)}, the environment takes {space.shape}; it was "
                    "made for another world"
                )
            action = np.clip(action, space.low, space.high).astype(space.dtype)
            observation, reward, terminated, truncated, info = env.step(action)
            frames.append(_frame(observation))
            facts.append(info)
            actions.append(np.asarray(action, dtype=np.float64))
            rewards.append(float(reward))
            done = terminated or truncated or len(actions) == steps
        recorded.append((np.stack(frames), np.stack(actions), np.array(rewards)))
        steady = [name for name in facts[0] if _steady([f.get(name) for f in facts])]
        infos.append({name: np.stack([np.asarray(f[name]) for f in facts]) for name in steady})
    info = {name: [i[name] for i in infos] for name in infos[0] if all(name in i for i in infos)}
    columns = [list(column) for column in zip(*recorded, strict=True)]
    return Trajectories(columns[0], columns[1], columns[2], info)


def _steady(values: list[Any]) -> bool:
    """Whether these are numbers, or arrays of numbers, of one shape; lists of contacts grow and shrink."""
    return all(map(_numeric, values)) and len({np.shape(value) for value in values}) == 1


def _numeric(value: Any) -> bool:
    return isinstance(value, bool | int | float | np.generic | np.ndarray) and np.asarray(value).dtype.kind in "biuf"


def _frame(observation: Any) -> NDArray[Any]:
    """A copy, since environments may reuse their buffers."""
    if not isinstance(observation, Mapping):
        return np.array(observation)
    if "observation" not in observation:
        raise InvalidInput(
            f"a dictionary of observations needs the entry 'observation', got {sorted(map(str, observation))}; wrap "
            "the environment (gymnasium.wrappers.FlattenObservation, or AddRenderObservation for frames)"
        )
    return np.array(observation["observation"])
