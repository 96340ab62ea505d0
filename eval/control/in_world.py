"""Reach goal frames in any world, beside random actions and standing still."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from worldplan.agents.planning_agent import PlanningAgent
from worldplan.arrays import Floats, Frames
from worldplan.checks import checked_seed, positive_int
from worldplan.data.trajectories import Trajectories
from worldplan.data.world_card import same_world
from worldplan.envs.rollout import Predictor, rollout
from worldplan.envs.world.goal_env import GoalEnv
from worldplan.envs.world.world import Judge, World
from worldplan.eval.control.baselines import AGENT, STILL, StandStill
from worldplan.eval.show.table import Cell, Table, number, rate
from worldplan.eval.statistics.estimate import Estimate, estimate, estimate_rate
from worldplan.learning.encoder import encode, space_of
from worldplan.learning.familiarity import warn_unfamiliar
from worldplan.progress import Progress, silent
from worldplan.provenance import plain
from worldplan.rounding import percent

RANDOM = "random actions"
FILMED = 3  # episodes of which frames are kept


@dataclass(frozen=True)
class WorldPlanConfig:
    """How goals are drawn and how long the agent has.

    Args:
        episodes: pairs of start and goal.
        steps: actions in each episode.
        ahead: steps of random actions from start to goal, in a world that does not sample its states.
        hold: steps for which each of these actions is held.
        seed: seed for starts, goals and random actions.
    """

    episodes: int = 5
    steps: int = 200
    ahead: int = 50
    hold: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("episodes", "steps", "ahead", "hold"):
            positive_int(name, getattr(self, name))
        checked_seed(self.seed)


@dataclass(frozen=True, eq=False)
class WorldRow:
    """A controller over N episodes.

    Attributes:
        name: of the controller.
        distance: median of the latent distance to the goal at the end, over that at the start.
        error: median of the world's error at the end; None if it cannot judge.
        reached: share of episodes in which the error is within the tolerance at the end, and which were never lost;
            None likewise.
        errors: (T + 1,) of each episode; empty likewise.
    """

    name: str
    distance: Estimate
    error: Estimate | None
    reached: Estimate | None
    errors: tuple[Floats, ...] = ()


@dataclass(frozen=True, eq=False)
class WorldPlanReport:
    """Result of `plan_in_world`; `films` are the first episodes' frames (T + 1, S, S, 3) and goals (S, S, 3).

    `paths` are the errors (N, T + 1) of the agent, or its latent distances where the world cannot judge.
    """

    world: World
    config: WorldPlanConfig
    agent: dict[str, Any]
    rows: tuple[WorldRow, ...]
    paths: list[Floats]
    films: list[tuple[Frames, Frames]]

    @property
    def title(self) -> str:
        """The outcome, in one line."""
        n, own = self.config.episodes, self.rows[0]
        if own.reached is None:
            left = f"{percent(own.distance.value)} of the latent distance left, median of {n}"
            return f"{self.world.card.name} from pixels: {left}"
        return f"{self.world.card.name} from pixels: {round(own.reached.value * n)} of {n} goals reached"

    def table(self) -> Table:
        """One row per controller."""
        judge, n = self.world.judge, self.config.episodes
        heads = ["controller", "latent distance left,\nmedian"]
        notes = [f"At the last of {self.config.steps} steps of {self.world.card.step_seconds:g} s."]
        if judge is not None:
            heads += [f"error, {judge.unit},\nmedian", "reached"]
            lost = "" if judge.lost is None else ", in an episode that was never lost"
            notes.append(f"Reached: an error of {judge.tolerance:g} {judge.unit} or less{lost}.")
        else:
            notes.append("This world cannot judge: distances are in the latent, over those at the start.")
        rows: list[list[Cell | str]] = []
        for row in self.rows:
            cells: list[Cell | str] = [row.name, number(row.distance)]
            if row.error is not None and row.reached is not None:
                cells += [number(row.error), rate(row.reached, n)]
            rows.append(cells)
        return Table(self.title, heads, rows, [*notes, "Brackets: 95% intervals."])

    def to_dict(self) -> dict[str, Any]:
        """JSON values: every number, no image."""
        facts = {"world": self.world.card.to_dict(), "config": asdict(self.config), "agent": self.agent}
        rows = [{k: v for k, v in vars(row).items() if k != "errors"} for row in self.rows]
        return plain({**facts, "controllers": rows, "paths": self.paths})  # type: ignore[no-any-return]


def plan_in_world(
    agent: PlanningAgent,
    world: World,
    config: WorldPlanConfig | None = None,
    *,
    goal: Frames | None = None,
    baselines: bool = True,
    progress: Progress = silent,
) -> WorldPlanReport:
    """Let an agent reach goal frames in its world.

    All controllers run the same pairs with the same seeds. `goal` is the goal of every episode, as a frame; by default
    the world draws them. Without `baselines` there are no random actions and no standing still.

    Raises:
        InvalidInput: the agent was made for another world, or the goal is no frame of this one.
    """
    config = config or WorldPlanConfig()
    if agent.world is not None:
        same_world("this agent", agent.world, world.card)
    if goal is not None:
        warn_unfamiliar(agent.encoder, goal)
    env = GoalEnv(world, ahead=config.ahead, hold=config.hold)
    controllers: dict[str, Predictor | None] = {AGENT: agent}
    if baselines:
        controllers |= {RANDOM: None, STILL: StandStill(world.card)}
    order = progress(iter(range(len(controllers) * config.episodes)), len(controllers) * config.episodes)
    rows, paths, films = [], [], []
    try:
        for name, controller in controllers.items():
            runs = []
            for k in range(config.episodes):
                next(order)
                runs.append(_episode(agent, env, controller, config, k, goal))
            rows.append(_row(name, runs, world.judge))
            if name == AGENT:
                judged = [run.errors for run in runs if run.errors is not None]
                paths = judged or [run.left for run in runs]
                films = [run.film for run in runs if run.film is not None]
    finally:
        env.close()
    about = {"planner": agent.planner, "encoder_sha256": getattr(agent.encoder, "card", {}).get("sha256")}
    return WorldPlanReport(world, config, about, tuple(rows), paths, films)


@dataclass(frozen=True, eq=False)
class _Run:
    left: Floats  # latent distances (T + 1,)
    errors: Floats | None
    reached: bool
    film: tuple[Frames, Frames] | None  # those of many episodes would fill memory


def _row(name: str, runs: list[_Run], judge: Judge | None) -> WorldRow:
    ends = np.array([run.left[-1] / max(run.left[0], 1e-12) for run in runs])
    distance, errors = estimate(ends, np.median), tuple(run.errors for run in runs if run.errors is not None)
    if judge is None or not len(errors):
        return WorldRow(name, distance, None, None)
    last, reached = np.array([path[-1] for path in errors]), np.array([run.reached for run in runs])
    return WorldRow(name, distance, estimate(last, np.median), estimate_rate(reached), errors)


def _episode(
    agent: PlanningAgent,
    env: GoalEnv,
    controller: Predictor | None,
    config: WorldPlanConfig,
    k: int,
    goal: Frames | None,
) -> _Run:
    options = None if goal is None else [{"goal": goal}]
    run: Trajectories = rollout(env, controller, 1, seed=config.seed + k, steps=config.steps, options=options)
    shown, frames = env.goal, run.frames[0]
    latents, space = encode(agent.encoder, np.concatenate([frames, shown[None]])), space_of(agent.encoder)
    left = np.linalg.norm(space.difference(latents[:-1], latents[-1]), axis=1)
    errors = np.asarray(run.info["error"][0], dtype=np.float64) if "error" in run.info else None
    reached = bool(run.info["is_success"][0][-1]) if "is_success" in run.info else False
    return _Run(left, errors, reached, (frames, shown) if k < FILMED else None)
