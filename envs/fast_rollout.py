"""Episodes of `worldplan/Reacher-v0` by the hundred: physics only, all in step, in MuJoCo's own C++ loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from gymnasium.utils.seeding import np_random
from numpy.typing import NDArray

from worldplan.cost import positive_int
from worldplan.envs.reacher import check_name, fingertip, sample_qpos
from worldplan.envs.reacher_task import TASK_STEPS, TIP_RADIUS, state_vector
from worldplan.envs.rendering import TARGET_SIZE, load_physics, sample_targets
from worldplan.envs.rollout import Predictor
from worldplan.errors import InvalidInput
from worldplan.trajectories import Trajectories

Floats = NDArray[np.float64]


def rollout_states(
    agent: Predictor | None,
    episodes: int,
    seed: int = 0,
    *,
    task: str = "easy",
    steps: int = TASK_STEPS,
    deterministic: bool = True,
    batch: int = 256,
    progress: Callable[[Iterator[int], int], Iterator[int]] = lambda items, total: items,
) -> Trajectories:
    """Run episodes of dm_control's Reacher side by side: what `rollout` gives on `worldplan/Reacher-v0`, but faster.

    Starts, targets and random torques are the same as there for the same seed; so is the physics, to rounding. Frames
    can be drawn from `qpos` and `target` later (`worldplan.envs.rendering.render_frames`).

    Args:
        agent: anything with `predict` that takes N observations; None draws torques uniformly at random.
        episodes: how many.
        seed: of resets and random torques; episode k is the same whatever the others are.
        task: `easy` or `hard`.
        steps: length of the episodes.
        deterministic: handed to the agent; an agent that draws its actions does so from its own generator.
        batch: episodes side by side.
        progress: wraps the iterator of batches, for a progress bar.

    Returns:
        Trajectories: observations (T + 1, 7) as frames, actions as applied, rewards, and in `info` qpos, qvel, target,
        tip_distance and is_success, (T + 1, ...) each.

    Raises:
        InvalidInput: no episodes, no steps, or an agent that gives other than N finite actions (N, 2).
        UnknownName: no such task.
    """
    positive_int("episodes", episodes), positive_int("steps", steps), positive_int("batch", batch)
    check_name("task", task, TARGET_SIZE)
    children = np.random.SeedSequence(seed).spawn(episodes)
    starts = range(0, episodes, batch)
    parts = [
        _batch(agent, children[k : k + batch], task, steps, deterministic) for k in progress(iter(starts), len(starts))
    ]
    joined = {name: [row for part in parts for row in part[name]] for name in parts[0]}
    frames, actions, rewards = (joined.pop(name) for name in ("frames", "actions", "rewards"))
    return Trajectories(frames, actions, rewards, joined)


def _batch(
    agent: Predictor | None, seeds: list[np.random.SeedSequence], task: str, steps: int, deterministic: bool
) -> dict[str, NDArray[Any]]:
    from mujoco import MjData, rollout

    model = load_physics().model.ptr
    n = len(seeds)
    generators = [np.random.default_rng(s) for s in seeds]
    resets = [np_random(int(g.integers(2**31)))[0] for g in generators]
    begin = np.stack([sample_qpos(g) for g in resets])
    target = np.concatenate([sample_targets(1, g, task) for g in resets])
    # Drawn before anything else, as the same generator gives them one by one.
    drawn = None if agent is not None else np.stack([g.uniform(-1.0, 1.0, (steps, 2)) for g in generators])
    qpos, qvel = np.zeros((2, n, steps + 1, 2))
    actions = np.zeros((n, steps, 2))
    frames = np.zeros((n, steps + 1, 7), dtype=np.float32)
    qpos[:, 0] = begin
    physics = np.zeros((n, 1, 5))  # MuJoCo's full state: time, qpos, qvel
    physics[:, 0, 1:3] = begin
    data, state, fresh = MjData(model), None, np.ones(n, dtype=bool)
    with rollout.Rollout(nthread=0) as simulate:
        for t in range(steps + 1):
            frames[:, t] = state_vector(qpos[:, t], qvel[:, t], target[:, :2] - fingertip(qpos[:, t]))
            if t == steps:
                break
            if drawn is not None:
                action: NDArray[Any] = drawn[:, t]
            else:
                assert agent is not None
                action, state = agent.predict(frames[:, t], state, fresh, deterministic=deterministic)
                fresh = np.zeros(n, dtype=bool)
                if np.shape(action) != (n, 2) or not np.isfinite(action).all():
                    raise InvalidInput(f"the agent must give finite actions ({n}, 2), got shape {np.shape(action)}")
            actions[:, t] = np.asarray(action, dtype=np.float32).clip(-1.0, 1.0)
            simulate.rollout(model, data, physics[:, 0].copy(), actions[:, t : t + 1], nstep=1, state=physics)
            qpos[:, t + 1], qvel[:, t + 1] = physics[:, 0, 1:3], physics[:, 0, 3:5]
    distance = np.linalg.norm(target[:, None, :2] - fingertip(qpos), axis=-1)
    inside = distance <= target[:, None, 2] + TIP_RADIUS
    return {
        "frames": frames,
        "actions": actions,
        "rewards": inside[:, 1:].astype(np.float64),
        "qpos": qpos,
        "qvel": qvel,
        "target": np.repeat(target[:, None], steps + 1, axis=1),
        "tip_distance": distance,
        "is_success": inside,
    }
