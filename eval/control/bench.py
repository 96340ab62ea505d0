"""Time of a control step with each planner, relative to the bare network's forward pass in the same run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldplan.agents.planners import PLANNERS
from worldplan.agents.planning_agent import load_agent
from worldplan.arrays import Frames
from worldplan.checks import positive_int
from worldplan.data.world_card import FRAME_SIZE, REACHER, same_world
from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.envs.world.goal_env import GoalEnv
from worldplan.envs.world.registry import WORLDS, find_world
from worldplan.envs.world.world import World
from worldplan.errors import InvalidInput, UnknownName
from worldplan.eval.control.timing import StepTime, time_steps
from worldplan.eval.show.table import Table
from worldplan.eval.statistics.estimate import Estimate, estimate
from worldplan.progress import Progress, silent
from worldplan.provenance import plain, processor

CEM_ELSEWHERE = (0.56, 2.2)  # seconds per replan on a GPU, as reported for large pixel world models
POSES = {"qpos": np.array([0.9, 0.4]), "goal_qpos": np.array([-1.6, -1.2])}  # of the timed episode


@dataclass(frozen=True)
class PlannerTime:
    """Control-step times of one planner; `rounds` holds each round's medians over its steps."""

    planner: str
    rounds: tuple[StepTime, ...]

    @property
    def predict_ms(self) -> Estimate:
        """Milliseconds of a control step (encode, estimate, plan), median over rounds."""
        return self._median("predict_ms")

    @property
    def forward_ms(self) -> Estimate:
        """Milliseconds of the bare forward pass between those steps, likewise."""
        return self._median("forward_ms")

    @property
    def ratio(self) -> Estimate:
        """Step over forward pass, likewise: comparable across machines and loads."""
        return self._median("ratio")

    def _median(self, name: str) -> Estimate:
        return estimate(np.array([getattr(time, name) for time in self.rounds]), np.median)


@dataclass(frozen=True)
class BenchReport:
    """Control-step times of all planners on the frames of one episode.

    `runtime` is what computes the agent's latents. `steps` is the number timed per round. `machine` holds processor,
    cores, and the load averages before and after.
    """

    agent: str
    runtime: str
    steps: int
    times: tuple[PlannerTime, ...]
    machine: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        names = ("planner", "predict_ms", "forward_ms", "ratio", "rounds")
        rows = [{name: getattr(time, name) for name in names} for time in self.times]
        facts = {name: getattr(self, name) for name in ("agent", "runtime", "steps", "machine")}
        return plain({**facts, "planners": rows}, digits=4)  # type: ignore[no-any-return]

    def table(self) -> Table:
        """One row per planner."""
        before, after = (f"{load[0]:.1f}" for load in self.machine["load"])
        low, high = CEM_ELSEWHERE
        notes = [
            f"Median of {len(self.times[0].rounds)} rounds of {self.steps} steps, planners in turn; brackets: 95% "
            "interval over rounds. Every step plans anew; the network alone runs on the same frame after each.",
            f"The step computes latents by {self.runtime}; the bare forward pass is the encoder's network in torch.",
            f"{self.machine['processor']}, {self.machine['cores']} cores; load before and after: {before}, {after}. "
            "Trust ratios, not milliseconds.",
            f"Published elsewhere, another machine and other models: CEM in latent world models, {low} to {high} s a "
            "replan on a GPU.",
        ]
        rows = [[t.planner, str(t.predict_ms), str(t.forward_ms), str(t.ratio)] for t in self.times]
        columns = ("planner", "step, ms", "bare forward pass, ms", "ratio")
        return Table(f"A control step of {self.agent!r} from a frame, without rendering", columns, rows, notes)


def bench_planners(
    agent: str | Path = "reacher",
    planners: Sequence[str] = tuple(PLANNERS),
    *,
    world: World | None = None,
    steps: int = 300,
    rounds: int = 5,
    seed: int = 0,
    progress: Progress = silent,
) -> BenchReport:
    """Time `predict` of one agent with each planner, on the frames of one episode that its LQR steered.

    Planners take turns, round by round, so that a drift of the machine's speed affects all alike. `agent` is a shipped
    name or a folder. `world` is the one that it acts in; None is its own, if that ships with worldplan: a name in a
    folder runs no code. `steps` is the number timed per planner and round. `seed` places the target in the episode.

    Raises:
        UnknownName: no such agent or planner.
        InvalidInput: a number is below 1, a planner is named twice or none at all, or the agent is of another world, or
            of one that must be named.
        RenderingUnavailable: the episode cannot be rendered here.
    """
    steps, rounds = positive_int("steps", steps), positive_int("rounds", rounds)
    for name in planners:
        if name not in PLANNERS:
            raise UnknownName("planner", name, PLANNERS)
    if not planners or len(set(planners)) < len(planners):
        raise InvalidInput(f"name one planner or more, each once, got {list(planners)}")
    agents = {name: load_agent(agent, planner=name) for name in planners}
    frames, goal = _episode(agent, world, seed)
    before = os.getloadavg()
    order = [name for _ in range(rounds) for name in planners]
    times: dict[str, list[StepTime]] = {name: [] for name in planners}
    for name in progress(iter(order), len(order)):
        times[name].append(time_steps(agents[name], frames, goal, steps))
    machine = {"processor": processor(), "cores": os.cpu_count(), "load": [before, os.getloadavg()]}
    runtime = getattr(agents[planners[0]].encoder, "runtime", "code of its own")
    rows = tuple(PlannerTime(name, tuple(times[name])) for name in planners)
    return BenchReport(str(agent), runtime, steps, rows, machine)


def _episode(agent: str | Path, world: World | None, seed: int, steps: int = 100) -> tuple[Frames, Frames]:
    """Frames (T + 1, S, S, 3) and goal image of an episode in a world, drawn before timing starts."""
    steers = load_agent(agent, planner="lqr")
    card = steers.world or REACHER
    if world is None and card.name != REACHER.name:
        if card.name not in WORLDS:
            raise InvalidInput(f"this agent is of the world {card.name!r}, which does not ship; name it with --env")
        world = find_world(card.name, size=None if card.size == FRAME_SIZE else card.size)
    if world is not None:
        same_world("this agent", card, world.card)
        elsewhere = GoalEnv(world)
        try:
            seen = rollout(elsewhere, steers, 1, seed=seed, steps=steps)
        finally:
            elsewhere.close()
        return seen.frames[0], elsewhere.goal
    env = ReacherGoal()
    goal: Frames = env.reset(seed=seed, options=POSES)[0]["desired_goal"]
    run = rollout(env, steers, 1, seed=seed, steps=steps, options=[POSES])
    return run.frames[0], goal
