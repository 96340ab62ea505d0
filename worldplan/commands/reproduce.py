"""`worldplan reproduce`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from worldplan.commands.base import TrainingBar, Verb, bar


@dataclass(frozen=True, kw_only=True)
class Reproduce(Verb):
    """Make the published table and control-cost figure of the Reacher again, beside what was published.

    Collects the data, trains the encoders, judges them; writes reproduce.json, reproduce.md and control_cost.png. The
    same command goes on where it was interrupted, and makes nothing again that is there.

    Args:
        scale: smoke takes seconds and its numbers mean nothing; cpu trains 27 small encoders, some 45 s each on two
            idle cores; full has the published sizes and wants a GPU.
        processes: renderer processes.
        threads: threads of torch on the CPU; by default torch's own choice.
        out: folder for data, encoders and results.
    """

    scale: Literal["smoke", "cpu", "full"] = "cpu"
    processes: int = os.cpu_count() or 1
    threads: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    out: Path = Path("runs/reproduce")

    def run(self, command: str) -> int:
        """Exit status 0, or 1 if an encoder could not be trained."""
        from worldplan.eval.reproduce.run import reproduce_reacher
        from worldplan.eval.reproduce.table import table, write_reproduction

        report = reproduce_reacher(
            self.out,
            self.scale,
            seed=self.seed,
            processes=self.processes,
            command=command,
            progress=bar("encoders"),
            watch=TrainingBar().start,
        )
        written = write_reproduction(report, self.out)
        told = f"Differences of protocol: {written[1]}", f"Written: {', '.join(map(str, written))}"
        self.show(report.to_dict(), table(report).also(*told))
        return 0 if all(row.done == list(row.results) for row in report.rows) else 1

    def advice(self, command: str) -> str:
        """What is done is kept."""
        return f"to go on: {command}"
