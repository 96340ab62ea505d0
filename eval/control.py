"""How well an agent reaches goals: reach rate, closed-loop cost, paired with the true-state controller."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap

from worldplan.cost import QuadraticCost
from worldplan.dynamics import LinearDynamics, fit_dynamics
from worldplan.envs.reacher import ReacherGoal, angle_error, sample_qpos
from worldplan.envs.rollout import Predictor, rollout
from worldplan.errors import InvalidInput, UnknownName
from worldplan.lqr import solve_lqr
from worldplan.trajectories import Trajectories

Floats = NDArray[np.float64]

NORMAL_CLIP = 2.4  # radians
CONTROL_WEIGHT = 0.1  # of the environment's reward
RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Pairs:
    """Start and goal poses of paired episodes: (N, 2) joint angles each, radians."""

    starts: Floats
    goals: Floats

    def options(self) -> list[dict[str, Floats]]:
        """Reset options of the N episodes."""
        return [{"qpos": s, "goal_qpos": g} for s, g in zip(self.starts, self.goals, strict=True)]


def sample_pairs(count: int, seed: int = 0, distribution: str = "normal") -> Pairs:
    """Draw pairs of poses.

    Args:
        count: N.
        seed: of the draw.
        distribution: `normal`, N(0, 1) clipped to +-2.4; or `reset`, dm_control's uniform reset distribution.
    """
    if count < 1:
        raise InvalidInput(f"need at least one pair, got {count}")
    rng = np.random.default_rng(seed)
    if distribution == "normal":
        poses = rng.standard_normal((2, count, 2)).clip(-NORMAL_CLIP, NORMAL_CLIP)
    elif distribution == "reset":
        poses = np.array([sample_qpos(rng) for _ in range(2 * count)]).reshape(2, count, 2)
    else:
        raise UnknownName("distribution of poses", distribution, ["normal", "reset"])
    return Pairs(poses[0], poses[1])


class TrueStateObservation(gym.ObservationWrapper[Any, Any, Any]):
    """Shows an agent what pixels hide: `observation` = (qpos, qvel), `desired_goal` = goal angles."""

    def __init__(self, env: ReacherGoal) -> None:
        super().__init__(env)
        self._reacher = env

    def observation(self, observation: Any) -> dict[str, Floats]:
        """The state in place of the images."""
        info = self._reacher.info()
        return {"observation": np.concatenate([info["qpos"], info["qvel"]]), "desired_goal": info["goal_qpos"]}


class TrueStateLQR:
    """The reference: `u = clip(-K [wrap(q - goal); .02 qdot], -1, 1)` on the true state, same cost, same fit.

    Not an optimum: torques clip in most episodes, so a ratio slightly below 1 to its cost is legal.
    """

    def __init__(self) -> None:
        self.gain = solve_lqr(true_dynamics(), QuadraticCost.goal_reaching(2, CONTROL_WEIGHT)).gain

    def predict(
        self,
        observation: Any,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], None]:
        """Torques (2,) for the observation of `TrueStateObservation`."""
        qpos, qvel = observation["observation"][:2], observation["observation"][2:]
        error = np.concatenate([angle_error(qpos, observation["desired_goal"]), 0.02 * qvel])
        return (-self.gain @ error).clip(-1, 1).astype(np.float32), None


class StandStill:
    """Zero torque, whatever it sees."""

    def predict(
        self,
        observation: Any,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], None]:
        """No torque."""
        return np.zeros(2, dtype=np.float32), None


@cache
def true_dynamics() -> LinearDynamics:
    """Linear dynamics fitted to true joint angles of 60 random-torque episodes of 60 steps."""
    starts = np.random.default_rng(0).standard_normal((60, 2)).clip(-NORMAL_CLIP, NORMAL_CLIP)
    data = rollout(ReacherGoal(pixels=False), None, 60, seed=0, steps=60, options=[{"qpos": s} for s in starts])
    return fit_dynamics(data.info["qpos"], data.actions, iterations=0)


@dataclass(frozen=True, eq=False)
class ControlResult:
    """What N episodes cost and where they ended.

    Attributes:
        cost: (N,) sum over the episode of squared joint errors + .1 squared torque, rad^2.
        tip_error: (N,) distance of the fingertip from the goal's at the last step, metres.
        success: (N,) the environment's criterion at the last step.
        steps_to_reach: (N,) first step from which on the criterion holds to the end; NaN if it never does.
    """

    cost: Floats
    tip_error: Floats
    success: NDArray[np.bool_]
    steps_to_reach: Floats


def evaluate_control(
    agent: Predictor | None,
    pairs: Pairs,
    seed: int = 0,
    *,
    true_state: bool = False,
    progress: Callable[[Iterator[int], int], Iterator[int]] = lambda items, total: items,
    **env: Any,
) -> ControlResult:
    """Run one episode per pair.

    Args:
        agent: anything with `predict`; None for random torques.
        pairs: poses.
        seed: of target places and random torques: the same for every agent, so that episodes are paired.
        true_state: show the agent the state instead of images (and draw none).
        progress: wraps the iterator of episodes.
        **env: of `ReacherGoal` (`profile`, `target`, `success`, `pixels`).
    """
    base = ReacherGoal(**({**env, "pixels": False} if true_state else env))
    world: gym.Env[Any, Any] = TrueStateObservation(base) if true_state else base
    order = progress(iter(range(len(pairs.starts))), len(pairs.starts))
    return measure(rollout(world, agent, 1, seed=seed + k, options=[pairs.options()[k]]) for k in order)


def measure(runs: Iterable[Trajectories]) -> ControlResult:
    """Cost and end of episodes of `ReacherGoal`, taken one by one: frames need not all fit in memory."""
    costs, tips, success, reached = [], [], [], []
    for run in runs:
        for k in range(len(run)):
            holds = run.info["is_success"][k].astype(bool)
            costs.append(-run.rewards[k].sum())
            tips.append(run.info["tip_distance"][k][-1])
            success.append(holds[-1])
            lapses = np.flatnonzero(~holds)
            reached.append((lapses[-1] + 1 if len(lapses) else 0) if holds[-1] else np.nan)
    return ControlResult(np.array(costs), np.array(tips), np.array(success), np.array(reached, dtype=np.float64))


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Value and interval, three digits."""
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def estimate(samples: Floats, statistic: Callable[..., Any] = np.mean, seed: int = 0) -> Estimate:
    """A statistic and its percentile bootstrap interval over the samples (N,); NaN for no samples."""
    if not len(samples):
        return Estimate(np.nan, np.nan, np.nan)
    value = float(statistic(samples))
    if len(samples) < 2 or np.ptp(samples) == 0:
        return Estimate(value, value, value)
    rng = np.random.default_rng(seed)
    interval = bootstrap((samples,), statistic, n_resamples=RESAMPLES, method="percentile", rng=rng).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high))


def estimate_ratio(cost: Floats, reference: Floats, seed: int = 0) -> Estimate:
    """Sum of costs (N,) over the sum of their references' (N,), with a percentile bootstrap interval over the pairs."""
    value = float(_of_sums(cost, reference)) if len(cost) else np.nan
    if len(cost) < 2:
        return Estimate(value, value, value)
    samples, rng = (cost, reference), np.random.default_rng(seed)
    options: dict[str, Any] = {"n_resamples": RESAMPLES, "method": "percentile", "paired": True, "rng": rng}
    found = bootstrap(samples, _of_sums, **options).confidence_interval
    return Estimate(value, float(found.low), float(found.high))


def _of_sums(cost: Floats, reference: Floats, axis: int = -1) -> Any:
    return cost.sum(axis=axis) / reference.sum(axis=axis)


def estimate_rate(success: NDArray[np.bool_]) -> Estimate:
    """A rate and its Wilson interval."""
    interval = binomtest(int(success.sum()), len(success)).proportion_ci(method="wilson")
    return Estimate(float(success.mean()), float(interval.low), float(interval.high))


@dataclass(frozen=True)
class ControlSummary:
    """One row of a table: an agent over N paired episodes against the true-state clipped LQR.

    `cost_ratio_mean` averages the episodes' own ratios. Where an agent fails, that mean hangs on the few episodes whose
    start is near the goal, where the reference pays next to nothing: `E[1 / d^2]` diverges for poses in the plane.
    `cost_ratio_total`, all costs over all of the reference's, has no such trouble.
    """

    name: str
    episodes: int
    reach: Estimate
    tip_error_median: Estimate
    tip_error_mean: Estimate
    steps_to_reach: Estimate | None
    cost_ratio_median: Estimate
    cost_ratio_mean: Estimate
    cost_ratio_p95: Estimate
    cost_ratio_total: Estimate

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def cost_ratios(result: ControlResult, reference: ControlResult) -> Floats:
    """(N,) cost of every episode over the reference's; NaN where start and goal are one and the reference's is zero."""
    possible = reference.cost > 1e-9
    return np.divide(result.cost, reference.cost, out=np.full_like(result.cost, np.nan), where=possible)


def summarise(name: str, result: ControlResult, reference: ControlResult) -> ControlSummary:
    """Summarise an agent's episodes against the reference's on the same pairs.

    Cost ratios are per episode; an episode whose start is its goal has no ratio and is left out of them.
    """
    ratio = cost_ratios(result, reference)
    kept = np.isfinite(ratio)
    ratio = ratio[kept]
    steps = result.steps_to_reach[np.isfinite(result.steps_to_reach)]
    return ControlSummary(
        name=name,
        episodes=len(result.cost),
        reach=estimate_rate(result.success),
        tip_error_median=estimate(result.tip_error, np.median),
        tip_error_mean=estimate(result.tip_error),
        steps_to_reach=estimate(steps, np.median) if len(steps) else None,
        cost_ratio_median=estimate(ratio, np.median),
        cost_ratio_mean=estimate(ratio),
        cost_ratio_p95=estimate(ratio, _p95),
        cost_ratio_total=estimate_ratio(result.cost[kept], reference.cost[kept]),
    )


def _p95(samples: Floats, axis: int = -1) -> Any:
    return np.percentile(samples, 95, axis=axis)
