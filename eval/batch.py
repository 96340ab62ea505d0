"""Episodes of `ReacherGoal` side by side: all frames of a step are drawn and encoded together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from gymnasium.utils.seeding import np_random
from numpy.typing import NDArray

from worldplan.envs.reacher import EPISODE_STEPS, TIP_TOLERANCE, angle_error, checked_qpos, fingertip, sample_qpos
from worldplan.envs.rendering import load_physics, render_frames, sample_targets
from worldplan.envs.rollout import Predictor
from worldplan.errors import InvalidInput
from worldplan.eval.control import CONTROL_WEIGHT, ControlResult, Pairs, measure
from worldplan.trajectories import Trajectories

Floats = NDArray[np.float64]
Draw = Callable[[Floats, Floats], NDArray[np.uint8]]
"""Joint angles (N, 2) and target spheres (N, 3) to frames (N, 64, 64, 3)."""


def evaluate_batch(
    agent: Predictor, pairs: Pairs, seed: int = 0, *, profile: str = "dmc", target: str = "hard"
) -> ControlResult:
    """What `evaluate_control` gives (success by the fingertip), to rounding, from episodes side by side.

    Args:
        agent: anything with `predict` that takes N observations.
        pairs: poses.
        seed: of target places.
        profile: look of the frames.
        target: target sphere, `hard`, `easy` or `hidden`.
    """
    spheres = target_spheres(len(pairs.starts), seed, target)
    return measure([rollout_goals(agent, pairs, spheres, lambda qpos, places: render_frames(qpos, places, profile))])


def target_spheres(count: int, seed: int, target: str) -> Floats:
    """Target spheres (count, 3) of the episodes that `evaluate_control` runs with this seed."""
    places = np.zeros((count, 3))
    for k, place in enumerate(places):
        draw = np.random.default_rng(np.random.SeedSequence(seed + k).spawn(1)[0])
        world, _ = np_random(int(draw.integers(2**31)))
        sample_qpos(world), sample_qpos(world)  # the environment draws start and goal first, whether it needs them
        place[:] = sample_targets(1, world, "hard" if target == "hidden" else target)[0]
    if target == "hidden":
        places[:, 2] = 0.0
    return places


def rollout_goals(agent: Predictor, pairs: Pairs, targets: Floats, draw: Draw) -> Trajectories:
    """Run one episode of 100 steps per pair, all in step, physics in MuJoCo's own loop.

    Args:
        agent: anything with `predict` that takes N observations.
        pairs: poses (N, 2); goals may lie whole turns of the shoulder away.
        targets: (N, 3) target spheres.
        draw: what the agent is shown.

    Returns:
        Trajectories: joint angles (T + 1, 2) in place of frames; in `info` tip_distance and is_success (T + 1,).

    Raises:
        InvalidInput: poses that the arm cannot take, or an agent that gives other than N finite actions (N, 2).
    """
    from mujoco import MjData, rollout

    for start, goal in zip(pairs.starts, pairs.goals, strict=True):
        checked_qpos("a start", start), checked_qpos("a goal", goal)
    model, n = load_physics().model.ptr, len(pairs.starts)
    qpos, actions = np.zeros((n, EPISODE_STEPS + 1, 2)), np.zeros((n, EPISODE_STEPS, 2))
    qpos[:, 0] = pairs.starts
    physics = np.zeros((n, 1, 5))  # MuJoCo's full state: time, qpos, qvel
    physics[:, 0, 1:3] = pairs.starts
    goals = draw(pairs.goals, targets)
    data, state, fresh = MjData(model), None, np.ones(n, dtype=bool)
    with rollout.Rollout(nthread=0) as simulate:
        for t in range(EPISODE_STEPS):
            shown = {"observation": draw(qpos[:, t], targets), "desired_goal": goals}
            action, state = agent.predict(shown, state, fresh, deterministic=True)
            fresh = np.zeros(n, dtype=bool)
            if np.shape(action) != (n, 2) or not np.isfinite(action).all():
                raise InvalidInput(f"the agent must give finite actions ({n}, 2), got shape {np.shape(action)}")
            actions[:, t] = np.asarray(action, dtype=np.float32).clip(-1.0, 1.0)
            simulate.rollout(model, data, physics[:, 0].copy(), actions[:, t : t + 1], nstep=1, state=physics)
            qpos[:, t + 1] = physics[:, 0, 1:3]
    error = angle_error(qpos, pairs.goals[:, None])
    rewards = -(np.square(error[:, :-1]).sum(axis=2) + CONTROL_WEIGHT * np.square(actions).sum(axis=2))
    distance = np.linalg.norm(fingertip(qpos) - fingertip(pairs.goals)[:, None], axis=2)
    facts = {"tip_distance": list(distance), "is_success": list(distance <= TIP_TOLERANCE)}
    return Trajectories(list(qpos), list(actions), list(rewards), facts)
