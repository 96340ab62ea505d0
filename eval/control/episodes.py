"""Reach rate and closed-loop cost of an agent, paired with the true-state controller's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from worldplan.arrays import Floats
from worldplan.data.trajectories import Trajectories
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import Predictor, rollout
from worldplan.envs.tasks import Tasks, TrueStateObservation
from worldplan.eval.control.baselines import RANDOM, REFERENCE, STILL, StandStill, TrueStateLQR
from worldplan.eval.statistics.estimate import Estimate, estimate, estimate_rate, estimate_ratio, p95
from worldplan.progress import Progress, silent
from worldplan.provenance import Result

WITHIN = 50  # steps, of `reach_within`


class Recorder:
    """An agent that also keeps copies of its observations (`seen`) and the states it returned (`states`)."""

    def __init__(self, agent: Predictor) -> None:
        self.agent, self.seen, self.states = agent, list[dict[str, Any]](), list[Any]()

    def predict(self, observation: Any, *state: Any, **more: Any) -> Any:
        """The agent's `predict`, recorded."""
        action, after = self.agent.predict(observation, *state, **more)
        self.seen.append({name: np.array(value) for name, value in observation.items()})
        self.states.append(after)
        return action, after


@dataclass(frozen=True, eq=False)
class ControlResult:
    """Costs and ends of N episodes.

    Attributes:
        cost: (N,) rad^2, sum over the episode of squared joint errors + .1 squared torque.
        tip_error: (N,) metres from the fingertip to the goal's at the last step.
        success: (N,) the environment's criterion at the last step.
        steps_to_reach: (N,) first step from which the criterion holds to the end; NaN if it never does.
        first_reach: (N,) first step at which the criterion holds; NaN if it never does.
    """

    cost: Floats
    tip_error: Floats
    success: NDArray[np.bool_]
    steps_to_reach: Floats
    first_reach: Floats


def evaluate_control(
    agent: Predictor | None,
    pairs: Tasks,
    seed: int = 0,
    *,
    true_state: bool = False,
    progress: Progress = silent,
    **env: Any,
) -> ControlResult:
    """Run one episode of `ReacherGoal(**env)` per pair; `agent` None gives random torques.

    `seed` sets target places and random torques. It is the same for every agent, so that episodes are paired. With
    `true_state` the agent sees the state, and no images are drawn.
    """
    base = ReacherGoal(**({**env, "pixels": False} if true_state else env))
    world: gym.Env[Any, Any] = TrueStateObservation(base) if true_state else base
    order = progress(iter(range(len(pairs.starts))), len(pairs.starts))
    return measure(rollout(world, agent, 1, seed=seed + k, options=[pairs.options()[k]]) for k in order)


def evaluate_baselines(pairs: Tasks, seed: int = 0, **env: Any) -> dict[str, ControlResult]:
    """Results by name of the controllers that see no image, the reference first; no frame is drawn."""
    controllers = {REFERENCE: TrueStateLQR(), RANDOM: None, STILL: StandStill()}
    return {name: evaluate_control(c, pairs, seed, true_state=True, **env) for name, c in controllers.items()}


def measure(runs: Iterable[Trajectories]) -> ControlResult:
    """Cost and end of episodes of `ReacherGoal`, taken one by one, so frames need not all fit in memory."""
    costs, tips, success, reached, first = [], [], [], [], []
    for run in runs:
        for k in range(len(run)):
            holds = run.info["is_success"][k].astype(bool)
            costs.append(-run.rewards[k].sum())
            tips.append(run.info["tip_distance"][k][-1])
            success.append(holds[-1])
            lapses = np.flatnonzero(~holds)
            reached.append((lapses[-1] + 1 if len(lapses) else 0) if holds[-1] else np.nan)
            first.append(int(holds.argmax()) if holds.any() else np.nan)
    steps = (np.array(found, dtype=np.float64) for found in (reached, first))
    return ControlResult(np.array(costs), np.array(tips), np.array(success), *steps)


@dataclass(frozen=True)
class ControlSummary(Result):
    """One row of a table: an agent over N episodes, against the true-state clipped LQR on the same pairs.

    `cost_ratio_mean` averages the episodes' own ratios. If an agent fails, the few episodes that start near their goal
    dominate it, since the reference pays little there. (`E[1 / d^2]` diverges for poses in the plane.)
    `cost_ratio_total`, the ratio of the summed costs, has no such trouble. `reach_within` counts episodes in which the
    criterion holds at some step up to 50, `reach` those in which it holds at the last.
    """

    digits = 17  # all

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
    reach_within: Estimate | None = None  # results from before these were measured have none
    tip_error_p95: Estimate | None = None


def cost_ratios(result: ControlResult, reference: ControlResult) -> Floats:
    """(N,) cost of each episode over the reference's; NaN where the latter is zero (the start is the goal)."""
    possible = reference.cost > 1e-9
    return np.divide(result.cost, reference.cost, out=np.full_like(result.cost, np.nan), where=possible)


def summarise(name: str, result: ControlResult, reference: ControlResult) -> ControlSummary:
    """Compare an agent's episodes with the reference's on the same pairs; ratios leave out starts at the goal."""
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
        cost_ratio_p95=estimate(ratio, p95),
        cost_ratio_total=estimate_ratio(result.cost[kept], reference.cost[kept]),
        reach_within=estimate_rate(result.first_reach <= WITHIN),
        tip_error_p95=estimate(result.tip_error, p95),
    )
