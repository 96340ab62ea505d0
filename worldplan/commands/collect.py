"""`worldplan collect`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from worldplan.commands.base import Verb, bar, config_of


@dataclass(frozen=True, kw_only=True)
class Collect(Verb):
    """Render a dataset of positive pairs of Reacher frames, for `worldplan pretrain`.

    ou: joint angles from the Ornstein-Uhlenbeck channel, Gaussian with correlation rho. Look, target place and size
    differ independently between the views, so that an encoder learns the arm and ignores the rest.

    Args:
        kind: kind of world.
        pairs: how many sets of views.
        rho: correlation of two views, in (0, 1).
        scale: standard deviation of shoulder and wrist angle, radians.
        views: frames in a set, at least 2.
        truncate: redraw sets with an angle beyond the joints' range.
        stock: probability of the stock look (profile dmc), else fast.
        small: probability of the small target, else the large one.
        hidden: probability that the target is not drawn.
        with_labels: store the joint angles too, for evaluation; training cannot open them.
        processes: renderer processes.
        out: folder for the dataset; must not hold one yet.
    """

    kind: tyro.conf.Positional[Literal["ou"]]
    pairs: int = 20_000
    rho: float = 0.9
    scale: tuple[float, float] = (1.0, 1.0)
    views: int = 2
    truncate: bool = False
    stock: float = 0.75
    small: float = 0.75
    hidden: float = 0.15
    with_labels: bool = False
    processes: int = os.cpu_count() or 1
    out: Path = Path("data/ou")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.envs.collect import Nuisances, collect_pairs
        from worldplan.envs.worlds import OUWorld

        folder = collect_pairs(
            config_of(OUWorld, self),
            self.pairs,
            self.out,
            seed=self.seed,
            nuisances=config_of(Nuisances, self),
            with_labels=self.with_labels,
            processes=self.processes,
            command=command,
            progress=bar("files of pairs"),
        )
        self.show({"folder": str(folder), "pairs": self.pairs, "views": self.views}, f"Dataset in {folder}")
        return 0
