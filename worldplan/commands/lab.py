"""`worldplan lab`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from worldplan.commands.base import SweepOptions, Verb, bar


@dataclass(frozen=True, kw_only=True)
class Lab(Verb, SweepOptions):
    """Rerun the theorems of the papers as experiments on synthetic worlds.

    `worldplan lab mixings --scale cpu` trains and judges; the same command goes on where it was interrupted, and makes
    nothing again that is there. Writes NAME.json, NAME.md and NAME.png of each experiment. docs/laboratory.md says
    what they test.

    Args:
        names: experiments, such as mixings; all for all of them.
        scale: smoke takes seconds and its numbers mean nothing; cpu is for two cores, full for more.
        processes: jobs at the same time on this machine; a cluster takes one a core.
        out: folder of results.
    """

    names: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")]]
    scale: Literal["smoke", "cpu", "full"] = "cpu"
    processes: int = os.cpu_count() or 1
    out: Path = Path("runs/laboratory")

    def run(self, command: str) -> int:
        """Exit status 0: a theorem that does not hold is a result."""
        from worldplan.eval.laboratory.run import run_laboratory
        from worldplan.eval.show.table import Table
        from worldplan.provenance import plain

        how = {"seed": self.seed, "command": command, "processes": self.processes, **self.place()}
        findings = run_laboratory(self.names, self.out, self.scale, **how, progress=bar("jobs"))
        if self.json:
            self.show({name: plain(finding.facts, 6) for name, finding in findings.items()}, Table(""))
            return 0
        for name, finding in findings.items():
            written = ", ".join(str(self.out / f"{name}.{kind}") for kind in ("json", "md", "png"))
            for table in (*finding.more, finding.table.also(finding.sentence, f"Written: {written}")):
                self.show({}, table)
        return 0

    def advice(self, command: str) -> str:
        """What is done is kept."""
        return f"to go on: {command}"
