"""Tasks of agents: starts and goals, a view of the true state, and random torques to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import gymnasium as gym
import numpy as np

from worldplan.arrays import Floats
from worldplan.checks import check_name, positive_int
from worldplan.choices import Distribution
from worldplan.data.trajectories import Trajectories
from worldplan.envs.reacher import WRIST_LIMIT, ReacherGoal, sample_qpos
from worldplan.envs.rollout import rollout
from worldplan.progress import Progress, silent

NORMAL_CLIP = 2.4  # radians
AHEAD = 25  # steps of random torques
REACHABLE = np.array([np.inf, WRIST_LIMIT])  # radians


@dataclass(frozen=True, eq=False)
class Tasks:
    """Start and goal poses of N paired episodes: (N, 2) joint angles each, radians."""

    starts: Floats
    goals: Floats

    def options(self) -> list[dict[str, Floats]]:
        """Reset options of the N episodes."""
        return [{"qpos": s, "goal_qpos": g} for s, g in zip(self.starts, self.goals, strict=True)]


def normal_poses(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Joint angles (*shape, 2), N(0, 1) clipped to +-2.4 rad."""
    return rng.standard_normal((*shape, 2)).clip(-NORMAL_CLIP, NORMAL_CLIP)


def sample_tasks(count: int, seed: int = 0, distribution: str = "normal") -> Tasks:
    """Draw start and goal poses.

    Args:
        count: N.
        seed: seed of the draw.
        distribution: `normal`, N(0, 1) clipped to +-2.4; `reset`, dm_control's uniform reset distribution; `ahead`,
            starts of the reset distribution, and goals where 25 steps of random torques lead from there.

    Raises:
        InvalidInput: N is not at least 1.
        UnknownName: no such distribution.
    """
    count, rng = positive_int("the number of pairs", count), np.random.default_rng(seed)
    check_name("distribution of poses", distribution, get_args(Distribution))
    if distribution == "normal":
        poses = normal_poses((2, count), rng)
    else:
        poses = np.array([sample_qpos(rng) for _ in range(2 * count)]).reshape(2, count, 2)
    if distribution == "ahead":
        ends = random_torques(poses[0], AHEAD, seed, pixels=False).info["qpos"]
        poses[1] = np.stack([path[-1] for path in ends]).clip(-REACHABLE, REACHABLE)  # the stop is soft
    return Tasks(poses[0], poses[1])


class TrueStateObservation(gym.ObservationWrapper[Any, Any, Any]):
    """Shows an agent the true state: `observation` = (qpos, qvel), `desired_goal` = goal angles."""

    def __init__(self, env: ReacherGoal) -> None:
        super().__init__(env)
        self._reacher = env

    def observation(self, observation: Any) -> dict[str, Floats]:
        """The state in place of the images."""
        info = self._reacher.info()
        return {"observation": np.concatenate([info["qpos"], info["qvel"]]), "desired_goal": info["goal_qpos"]}


def random_torques(
    starts: Floats,
    steps: int,
    seed: int = 0,
    *,
    progress: Progress = silent,
    **env: Any,
) -> Trajectories:
    """Record episodes of random torques, from which dynamics are identified.

    The episodes start in the poses `starts`, (E, 2) radians, and have `steps` control steps of 20 ms. `env` are
    arguments of `ReacherGoal` (`profile`, `target`, `pixels`), the others those of `rollout`.
    """
    options = [{"qpos": start} for start in starts]
    return rollout(ReacherGoal(**env), None, len(starts), seed=seed, steps=steps, options=options, progress=progress)
