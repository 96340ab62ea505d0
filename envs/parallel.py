"""Many Reachers in parallel: physics in MuJoCo's own C++ loop, one agent that acts for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.utils.seeding import np_random
from numpy.typing import NDArray

from worldplan.arrays import Floats, Frames
from worldplan.checks import check_name, positive_int
from worldplan.data.trajectories import State, Trajectories
from worldplan.envs.reacher import (
    CONTROL_WEIGHT,
    EPISODE_STEPS,
    TIP_TOLERANCE,
    angle_error,
    checked_qpos,
    fingertip,
    sample_qpos,
)
from worldplan.envs.reacher_task import TASK_STEPS, TIP_RADIUS, state_vector
from worldplan.envs.rendering import TARGET_SIZE, load_physics, sample_targets
from worldplan.envs.rollout import Predictor
from worldplan.envs.tasks import Tasks
from worldplan.errors import InvalidInput
from worldplan.progress import Progress, silent

Act = Callable[[int, Floats, Floats], Any]
"""Maps a step, joint angles (N, 2) and velocities (N, 2) to actions (N, 2)."""
Draw = Callable[[Floats, Floats], Frames]
"""Maps joint angles (N, 2) and target spheres (N, 3) to frames (N, 64, 64, 3)."""


def simulate(starts: Floats, steps: int, act: Act) -> tuple[Floats, Floats, Floats]:
    """Move N arms from rest for `steps` control steps of 20 ms.

    Args:
        starts: (N, 2) joint angles, radians.
        steps: T.
        act: gives the torques, which are clipped to [-1, 1].

    Returns:
        Joint angles (N, T + 1, 2), velocities (N, T + 1, 2), and actions (N, T, 2) as applied.

    Raises:
        InvalidInput: the actions are not finite or not (N, 2).
    """
    from mujoco import MjData, rollout

    model, n = load_physics().model.ptr, len(starts)
    qpos, qvel = np.zeros((2, n, steps + 1, 2))
    actions, physics = np.zeros((n, steps, 2)), np.zeros((n, 1, 5))  # MuJoCo's full state: time, qpos, qvel
    qpos[:, 0] = physics[:, 0, 1:3] = starts
    data = MjData(model)
    with rollout.Rollout(nthread=0) as run:
        for t in range(steps):
            action = act(t, qpos[:, t], qvel[:, t])
            if np.shape(action) != (n, 2) or not np.isfinite(action).all():
                raise InvalidInput(f"the agent must give finite actions ({n}, 2), got shape {np.shape(action)}")
            actions[:, t] = np.asarray(action, dtype=np.float32).clip(-1.0, 1.0)
            run.rollout(model, data, physics[:, 0].copy(), actions[:, t : t + 1], nstep=1, state=physics)
            qpos[:, t + 1], qvel[:, t + 1] = physics[:, 0, 1:3], physics[:, 0, 3:5]
    return qpos, qvel, actions


def _acting(
    agent: Predictor,
    show: Callable[[Floats, Floats], Any],
    count: int,
    deterministic: bool = True,
    told: list[Floats] | None = None,
) -> Act:
    """The agent as an `Act`: `show` makes its observations, and it keeps its state from step to step.

    An agent that explores also tells what it would do on average, as `expected`; these are appended to `told`.
    """
    state: State = None

    def act(t: int, qpos: Floats, qvel: Floats) -> Any:
        nonlocal state
        action, state = agent.predict(show(qpos, qvel), state, np.full(count, t == 0), deterministic=deterministic)
        if told is not None and hasattr(agent, "expected"):
            told.append(np.array(agent.expected))
        return action

    return act


def rollout_states(
    agent: Predictor | None,
    episodes: int,
    seed: int = 0,
    *,
    task: str = "easy",
    steps: int = TASK_STEPS,
    deterministic: bool = True,
    batch: int = 256,
    progress: Progress = silent,
) -> Trajectories:
    """Run episodes of dm_control's Reacher in parallel, faster than `rollout` on `worldplan/Reacher-v0`.

    The same seed gives the same starts, targets and random torques as `rollout`, and the same physics to rounding.
    Frames can be drawn from `qpos` and `target` later (`worldplan.envs.rendering.render_frames`).

    Arguments are those of `rollout`, but for `task`, `easy` or `hard`, and `batch`, the number of episodes simulated at
    a time: `agent` takes so many observations, and `progress` wraps the iterator of batches. `deterministic` is passed
    to the agent; one that draws its actions uses its own generator.

    Returns:
        Trajectories: observations (T + 1, 7) as frames, actions as applied, rewards. `info` holds qpos, qvel, target,
            tip_distance and is_success, (T + 1, ...) each; and `expected`, the mean of each action, if the agent tells
            it after `predict` (the last row is 0).

    Raises:
        InvalidInput: no episodes, no steps, or actions that are not finite or not (N, 2).
        UnknownName: no such task.
    """
    positive_int("episodes", episodes), positive_int("steps", steps), positive_int("batch", batch)
    check_name("task", task, TARGET_SIZE)
    children = np.random.SeedSequence(seed).spawn(episodes)
    starts = range(0, episodes, batch)
    parts = [
        _task_episodes(agent, children[k : k + batch], task, steps, deterministic)
        for k in progress(iter(starts), len(starts))
    ]
    joined = {name: [row for part in parts for row in part[name]] for name in parts[0]}
    frames, actions, rewards = (joined.pop(name) for name in ("frames", "actions", "rewards"))
    return Trajectories(frames, actions, rewards, joined)


def _task_episodes(
    agent: Predictor | None, seeds: list[np.random.SeedSequence], task: str, steps: int, deterministic: bool
) -> dict[str, NDArray[Any]]:
    generators = [np.random.default_rng(s) for s in seeds]
    resets = [np_random(int(g.integers(2**31)))[0] for g in generators]
    begin = np.stack([sample_qpos(g) for g in resets])
    target = np.concatenate([sample_targets(1, g, task) for g in resets])

    def show(qpos: Floats, qvel: Floats) -> NDArray[np.float32]:
        return state_vector(qpos, qvel, target[:, :2] - fingertip(qpos))

    told: list[Floats] = []
    if agent is None:
        # All steps at once: `rollout` draws the same numbers one step at a time.
        drawn = np.stack([g.uniform(-1.0, 1.0, (steps, 2)) for g in generators])
        qpos, qvel, actions = simulate(begin, steps, lambda t, *_: drawn[:, t])
    else:
        qpos, qvel, actions = simulate(begin, steps, _acting(agent, show, len(seeds), deterministic, told))
    distance = np.linalg.norm(target[:, None, :2] - fingertip(qpos), axis=-1)
    inside = distance <= target[:, None, 2] + TIP_RADIUS
    means = {"expected": np.stack([*told, np.zeros_like(told[0])], axis=1)} if told else {}
    return {
        **means,
        "frames": np.stack([show(qpos[:, t], qvel[:, t]) for t in range(steps + 1)], axis=1),
        "actions": actions,
        "rewards": inside[:, 1:].astype(np.float64),
        "qpos": qpos,
        "qvel": qvel,
        "target": np.repeat(target[:, None], steps + 1, axis=1),
        "tip_distance": distance,
        "is_success": inside,
    }


def target_spheres(count: int, seed: int, target: str) -> Floats:
    """Target spheres (count, 3) of the episodes that `evaluate_control` runs with this seed."""
    places = np.zeros((count, 3))
    for k, place in enumerate(places):
        draw = np.random.default_rng(np.random.SeedSequence(seed + k).spawn(1)[0])
        world, _ = np_random(int(draw.integers(2**31)))
        sample_qpos(world), sample_qpos(world)  # the environment draws start and goal first, needed or not
        place[:] = sample_targets(1, world, target)[0]
    return places


def rollout_goals(agent: Predictor, tasks: Tasks, targets: Floats, draw: Draw) -> Trajectories:
    """Run one episode of `ReacherGoal` per task, all in parallel; frames are drawn and encoded together.

    Args:
        agent: an object with `predict` for N observations.
        tasks: poses (N, 2); goals may lie whole turns of the shoulder away.
        targets: (N, 3) target spheres.
        draw: makes the frames that the agent sees.

    Returns:
        Trajectories: joint angles (T + 1, 2) in place of frames; `info` holds tip_distance and is_success (T + 1,).

    Raises:
        InvalidInput: poses that the arm cannot take, or actions that are not finite or not (N, 2).
    """
    for start, goal in zip(tasks.starts, tasks.goals, strict=True):
        checked_qpos("a start", start), checked_qpos("a goal", goal)
    goals = draw(tasks.goals, targets)

    def show(qpos: Floats, qvel: Floats) -> dict[str, Frames]:
        return {"observation": draw(qpos, targets), "desired_goal": goals}

    qpos, _, actions = simulate(tasks.starts, EPISODE_STEPS, _acting(agent, show, len(tasks.starts)))
    error = angle_error(qpos, tasks.goals[:, None])
    rewards = -(np.square(error[:, :-1]).sum(axis=2) + CONTROL_WEIGHT * np.square(actions).sum(axis=2))
    distance = np.linalg.norm(fingertip(qpos) - fingertip(tasks.goals)[:, None], axis=2)
    facts = {"tip_distance": list(distance), "is_success": list(distance <= TIP_TOLERANCE)}
    return Trajectories(list(qpos), list(actions), list(rewards), facts)
