"""`worldplan diagnose`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from worldplan.commands.base import Name, Verb


@dataclass(frozen=True, kw_only=True)
class Diagnose(Verb):
    """What recorded episodes teach: how far from a Gaussian world they are, and whether the actions excite all of it.

    Args:
        data: folders with episodes.
        rho: autocorrelation at one step of the Ornstein-Uhlenbeck episodes that stand beside them.
        max_lag: largest lag of the autocorrelations, steps; by default 64, or what the shortest episodes have.
        encoder: a shipped name, a folder or an address: which directions of its latent do the actions move?
        window: steps of a window of actions; that of `pretrain --objective excitation`.
        out: folder for diagnostics.json and diagnostics.png.
    """

    data: tyro.conf.Positional[tuple[Path, ...]]
    rho: float = 0.9
    max_lag: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    encoder: Name = None
    window: int = 16
    out: Path = Path("runs/diagnose")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.eval.diagnose.run import diagnose_datasets, diagnosis_table
        from worldplan.eval.identifiability.excitation import excitation_table
        from worldplan.learning.encoder import find_encoder

        encoder = None if self.encoder is None else find_encoder(self.encoder)
        found, excited = diagnose_datasets(
            self.data,
            self.out,
            rho=self.rho,
            max_lag=self.max_lag,
            encoder=encoder,
            window=self.window,
            seed=self.seed,
        )
        facts = {"worlds": [d.to_dict() for d in found], "excitation": [report.to_dict() for report in excited]}
        tables = [diagnosis_table(found).also(f"Figure and JSON in {self.out}")] if found else []
        tables += [excitation_table(excited)] if excited else []
        for table in tables[:1] if self.json else tables:
            self.show(facts, table)
        return 0
