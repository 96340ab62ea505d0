"""`worldplan bench`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from worldplan.commands.base import NAMED, REACHER, Verb, bar

if TYPE_CHECKING:
    from worldplan.envs.world.world import World


@dataclass(frozen=True, kw_only=True)
class Bench(Verb):
    """How long a control step takes with each planner, over the bare forward pass of the same network.

    Writes bench.json and prints a table. Frames are rendered beforehand and not timed.

    Args:
        agent: a shipped name, or a folder that `worldplan fit` wrote.
        env: world that gives the frames, as `worldplan plan` takes it; by default the agent's own, if it ships.
        size: pixels a side of the frames of that world.
        repeat: steps of that world's environment for which an action is repeated.
        planners: which of lqr, mpc, cem and mppi.
        steps: timed in each round of each planner.
        rounds: number of rounds, in which the planners take turns.
        threads: threads of torch on the CPU; more than one slow single frames down.
        out: folder for what is written; an earlier run's file is replaced.
    """

    agent: Annotated[str, tyro.conf.arg(metavar=NAMED)] = "reacher"
    env: Annotated[str | None, tyro.conf.arg(metavar="ID")] = None
    size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    repeat: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    planners: tuple[str, ...] = ("lqr", "mpc", "cem", "mppi")
    steps: int = 300
    rounds: int = 5
    threads: int = 1
    out: Path = Path("runs/bench")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.eval.control.bench import bench_planners

        report = bench_planners(
            self.agent,
            self.planners,
            world=self._world(),
            steps=self.steps,
            rounds=self.rounds,
            seed=self.seed,
            progress=bar("rounds"),
        )
        self.keep(command, report.to_dict(), report.table(), self.out / "bench.json")
        return 0

    def _world(self) -> World | None:
        """The world that was named; None for the agent's own."""
        from worldplan.agents.planning_agent import load_agent
        from worldplan.data.world_card import REACHER as CARD, same_world
        from worldplan.envs.world.registry import find_world
        from worldplan.errors import InvalidInput

        if self.env in (None, REACHER):
            if self.size is not None or self.repeat is not None:
                raise InvalidInput("--size and --repeat are of the world that --env names")
            if self.env == REACHER:
                same_world("this agent", load_agent(self.agent).world or CARD, CARD)
            return None
        return find_world(str(self.env), self.size, self.repeat)
