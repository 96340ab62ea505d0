"""`worldplan bench`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from worldplan.commands.base import Verb, bar


@dataclass(frozen=True, kw_only=True)
class Bench(Verb):
    """How long a control step takes with each planner, over the bare forward pass of the same network.

    Writes bench.json and prints a table. Frames are those of the agent's own world, rendered beforehand and not timed.

    Args:
        agent: a shipped name, or a folder that `worldplan fit` wrote.
        planners: which of lqr, mpc, cem and mppi.
        steps: timed in each round of each planner.
        rounds: number of rounds, in which the planners take turns.
        threads: threads of torch on the CPU; more than one slow single frames down.
        out: folder for what is written; an earlier run's file is replaced.
    """

    agent: Annotated[str, tyro.conf.arg(metavar="NAME|FOLDER")] = "reacher"
    planners: tuple[str, ...] = ("lqr", "mpc", "cem", "mppi")
    steps: int = 300
    rounds: int = 5
    threads: int = 1
    out: Path = Path("runs/bench")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.eval.control.bench import bench_planners

        report = bench_planners(
            self.agent, self.planners, steps=self.steps, rounds=self.rounds, seed=self.seed, progress=bar("rounds")
        )
        self.keep(command, report.to_dict(), report.table(), self.out / "bench.json")
        return 0
