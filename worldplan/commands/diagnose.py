"""`worldplan diagnose`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from worldplan.commands.base import Verb


@dataclass(frozen=True, kw_only=True)
class Diagnose(Verb):
    """How far the joint angles of recorded episodes are from a Gaussian world: tests, moments, autocorrelations.

    Args:
        data: folders with episodes.
        rho: autocorrelation at one step of the Ornstein-Uhlenbeck episodes that stand beside them.
        max_lag: largest lag of the autocorrelations, steps; by default 64, or what the shortest episodes have.
        out: folder for diagnostics.json and diagnostics.png.
    """

    data: tyro.conf.Positional[tuple[Path, ...]]
    rho: float = 0.9
    max_lag: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    out: Path = Path("runs/diagnose")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.eval.diagnose.run import diagnose_datasets, diagnosis_table

        found = diagnose_datasets(self.data, self.out, rho=self.rho, max_lag=self.max_lag, seed=self.seed)
        table = diagnosis_table(found).also(f"Figure and JSON in {self.out}")
        self.show({"worlds": [d.to_dict() for d in found]}, table)
        return 0
