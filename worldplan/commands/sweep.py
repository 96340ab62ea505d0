"""`worldplan sweep`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from worldplan.checks import check_name
from worldplan.commands.base import SweepOptions, Verb, bar

if TYPE_CHECKING:
    from worldplan.eval.show.table import Table

ABOUT = "job", "state", "reason", "words", "inputs"  # columns that tell what a job is
SHOWN = 4  # columns of numbers that are printed unless told otherwise


@dataclass(frozen=True, kw_only=True)
class Sweep(Verb, SweepOptions):
    """Run command lines with braces as jobs, on the cores of this machine or on a Ray cluster.

    `worldplan sweep "pretrain runs/pairs --seed {0..2} --weight {.02,.1}"` runs six trainings, each in a folder of its
    own. The same command goes on where it was interrupted, and makes nothing again that is there. Writes sweep.csv: a
    row for each job, with the numbers that its JSON files hold.

    Args:
        lines: quoted command lines without `worldplan` and --out; {a,b} tries each, {0..4} every whole number.
        columns: columns of sweep.csv to print, such as encoder.validation; by default a few in which jobs differ.
        processes: jobs at the same time on this machine; a cluster takes one a core.
        out: folder of the sweep; results/ holds what is done, work/ what the commands wrote and printed.
    """

    parse: ClassVar[Callable[[Sequence[str]], Verb]]  # the command line's own

    lines: tyro.conf.Positional[tuple[str, ...]]
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")] = ()
    processes: int = os.cpu_count() or 1
    out: Path = Path("runs/sweep")

    @property
    def uses_torch(self) -> bool:
        """No: the jobs do."""
        return False

    def run(self, command: str) -> int:
        """Exit status 0, or 1 if a job failed."""
        from worldplan.sweeps.command_lines import command_job, expand
        from worldplan.sweeps.run import run_jobs
        from worldplan.sweeps.table import rows_of, write_csv

        lines = [words for line in self.lines for words in expand(line)]
        more = ["--trust-code"] if self.trust_code else []
        # Parsed before anything runs: a slip in the last line is told at once.
        jobs = [command_job(words, type(type(self).parse(words)), more) for words in lines]
        rows = rows_of(run_jobs(jobs, self.out, processes=self.processes, **self.place(), progress=bar("jobs")))
        path = self.out / "sweep.csv"
        write_csv(rows, path)
        self.show({"folder": str(self.out), "jobs": rows}, self._table(rows).also(f"Written: {path}"))
        return 1 if any(row["state"] == "failed" for row in rows) else 0

    def _table(self, rows: Sequence[dict[str, Any]]) -> Table:
        from worldplan.eval.show.table import NONE, Table, number

        measured = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in ABOUT]
        numbers = [name for name in measured if any(isinstance(row.get(name), int | float) for row in rows)]
        telling = [name for name in numbers if len({row[name] for row in rows if name in row}) > 1]
        chosen = list(self.columns) or (telling or numbers)[:SHOWN]
        for name in chosen:
            check_name("column", name, measured)
        cells = [
            [row["words"], row["state"]]
            + [number(v) if isinstance(v := row.get(name), float) else str(NONE if v is None else v) for name in chosen]
            for row in rows
        ]
        counts = Counter(row["state"] for row in rows)
        title = f"{len(rows)} jobs: {', '.join(f'{count} {state}' for state, count in counts.items())}"
        # Below the table: a sentence in a column would take the room of the numbers.
        failed = [f"{row['words']} failed: {row['reason']}" for row in rows if row["state"] == "failed"]
        return Table(title, ("command", "state", *(name.replace(".", ".\n") for name in chosen)), cells, failed)

    def advice(self, command: str) -> str:
        """What is done is kept."""
        return f"to go on: {command}"
