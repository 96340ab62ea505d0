"""An agent's experience for an off-policy algorithm of Stable-Baselines3 to learn from."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldplan.checks import positive_int
from worldplan.errors import InvalidInput


def add_experience(model: Any, agent: Any, steps: int) -> float:
    """Let an agent act in the environment of a model, and add its transitions to the model's replay buffer.

    As SB3 itself collects them: actions are scaled, and the last observation of an episode is the one before the reset.
    Call it before `model.learn`, which starts the environment anew.

    Args:
        model: an off-policy algorithm (SAC, TD3, DDPG) with an environment.
        agent: an object with SB3's `predict`, such as a `PlanningAgent`.
        steps: transitions to add, at least 1; rounded up to whole steps of all environments.

    Returns:
        The mean reward of a step.

    Raises:
        InvalidInput: no such model, no environment, one with `VecNormalize`, or no transition asked for.
    """
    positive_int("steps", steps)
    buffer, env = getattr(model, "replay_buffer", None), model.get_env() if hasattr(model, "get_env") else None
    if buffer is None or env is None:
        raise InvalidInput("experience goes to the replay buffer of an off-policy model (SAC, TD3, DDPG) with an env")
    if model.get_vec_normalize_env() is not None:
        raise InvalidInput("the agent sees frames as they are; make the model without VecNormalize")
    seen: Any = env.reset()
    state, starts, total, made = None, np.ones(env.num_envs, dtype=bool), 0.0, 0
    while made < steps:
        actions, state = agent.predict(seen, state, starts, deterministic=True)
        actions = np.clip(actions, env.action_space.low, env.action_space.high)
        after, rewards, starts, infos = env.step(actions)
        ended = _copied(after)
        for k in np.flatnonzero(starts):
            _put(ended, k, infos[k]["terminal_observation"])
        buffer.add(seen, ended, model.policy.scale_action(actions), rewards, starts, infos)
        seen, total, made = after, total + float(np.sum(rewards)), made + env.num_envs
    return total / made


def _copied(observations: Any) -> Any:
    return {k: v.copy() for k, v in observations.items()} if isinstance(observations, dict) else observations.copy()


def _put(observations: Any, row: Any, value: Any) -> None:
    if isinstance(observations, dict):
        for key, rows in observations.items():
            rows[row] = value[key]
    else:
        observations[row] = value
