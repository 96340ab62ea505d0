"""`worldplan reproduce`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from worldplan.commands.base import TrainingBar, Verb, bar


@dataclass(frozen=True, kw_only=True)
class Reproduce(Verb):
    """Make tables and figures of encoders again, from nothing: the published ones, or those over recorded motion.

    Collects the data, trains the encoders, judges them; writes a table as JSON and Markdown, and a figure. The same
    command goes on where it was interrupted, and makes nothing again that is there.

    Args:
        experiment: published: the table and control-cost figure of the Reacher, beside what was published (writes
            reproduce.json, reproduce.md, control_cost.png). trajectories: LeJEPA and excitation by exploration noise
            and minutes of motion, and negative controls (writes trajectories.json, .md, .png).
        scale: smoke takes seconds and its numbers mean nothing; cpu trains 27 small encoders, some 45 s each on two
            idle cores, or 60 of trajectories, some four minutes each; full has the published sizes and wants a GPU.
        processes: renderer processes.
        threads: threads of torch on the CPU; with another number, sums round differently, and so do the weights.
        out: folder for data, encoders and results; by default runs/reproduce or runs/trajectories.
    """

    experiment: Literal["published", "trajectories"] = "published"
    scale: Literal["smoke", "cpu", "full"] = "cpu"
    processes: int = os.cpu_count() or 1
    threads: int = 2
    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None

    def run(self, command: str) -> int:
        """Exit status 0, or 1 if an encoder of the published table could not be trained."""
        how: dict[str, Any] = {"seed": self.seed, "processes": self.processes, "command": command}
        how |= {"progress": bar("encoders"), "watch": TrainingBar().start}
        if self.experiment == "trajectories":
            return self._trajectories(self.out or Path("runs/trajectories"), how)
        from worldplan.eval.reproduce.run import reproduce_reacher
        from worldplan.eval.reproduce.table import table, write_reproduction

        out = self.out or Path("runs/reproduce")
        report = reproduce_reacher(out, self.scale, **how)
        written = write_reproduction(report, out)
        told = f"Differences of protocol: {written[1]}", f"Written: {', '.join(map(str, written))}"
        self.show(report.to_dict(), table(report).also(*told))
        return 0 if all(row.done == list(row.results) for row in report.rows) else 1

    def _trajectories(self, out: Path, how: dict[str, Any]) -> int:
        from worldplan.eval.reproduce.curves import table, write_trajectories
        from worldplan.eval.reproduce.trajectories import reproduce_trajectories

        report = reproduce_trajectories(out, self.scale, **how)
        written = write_trajectories(report, out)
        self.show(report.to_dict(), table(report).also(f"Written: {', '.join(map(str, written))}"))
        return 0  # that nothing can be learned from some data is a result

    def advice(self, command: str) -> str:
        """What is done is kept."""
        return f"to go on: {command}"
