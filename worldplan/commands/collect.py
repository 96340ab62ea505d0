"""`worldplan collect`: pairs of latent worlds, or episodes of policies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from worldplan.commands.base import bar, config_of, without_resume, writable_folder
from worldplan.commands.collect_episodes import CollectFrames, CollectMixture, CollectRandom, CollectSAC
from worldplan.commands.drawing import Drawn


@dataclass(frozen=True, kw_only=True)
class _Pairs(Drawn):
    """Positive pairs.

    Args:
        pairs: how many sets of views.
        rho: correlation of two views, in (0, 1).
        scale: standard deviation of shoulder and wrist angle, radians.
        views: frames in a set, at least 2.
        with_labels: store the joint angles too, for evaluation; training cannot open them.
        out: folder for the dataset; must not hold one yet.
    """

    pairs: int = 20_000
    rho: float = 0.9
    scale: tuple[float, float] = (1.0, 1.0)
    views: int = 2
    with_labels: bool = False
    out: Path = Path("data/pairs")

    def begun(self) -> bool:
        """Whether there are files of pairs, but not all."""
        from worldplan.data.shards import UNFINISHED

        return (self.out / UNFINISHED).exists()

    def _collect(self, world: Any, command: str) -> int:
        from worldplan.envs.datasets.frames import Nuisances
        from worldplan.envs.datasets.pairs import collect_pairs

        writable_folder(self.out)
        folder = collect_pairs(
            world,
            self.pairs,
            self.out,
            seed=self.seed,
            nuisances=config_of(Nuisances, self),
            with_labels=self.with_labels,
            processes=self.processes,
            command=without_resume(command),
            resume=self.resume,
            progress=bar("files of pairs"),
        )
        self.show({"folder": str(folder), "pairs": self.pairs, "views": world.views}, f"Dataset in {folder}")
        return 0


@dataclass(frozen=True, kw_only=True)
class CollectOU(_Pairs):
    """Positive pairs from the Ornstein-Uhlenbeck channel: joint angles are Gaussian, with correlation rho.

    Look, target place and size differ independently between the views, so that an encoder learns the arm and ignores
    the rest.

    Args:
        truncate: redraw sets with an angle beyond the joints' range.
        out: folder for the dataset; must not hold one yet.
    """

    truncate: bool = False
    out: Path = Path("data/ou")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.envs.worlds import OUWorld

        return self._collect(config_of(OUWorld, self), command)


@dataclass(frozen=True, kw_only=True)
class CollectGennorm(_Pairs):
    """Positive pairs of a generalised-normal world: what LeJEPA's theory does not cover, unless alpha is 2.

    Joint angles have density proportional to exp(-|z|^alpha), with unit variance; the two views are correlated by rho
    through a Metropolis-adjusted Langevin diffusion, which keeps their law.

    Args:
        alpha: shape; 1 is Laplace's law, 2 Gauss's, large nearly uniform.
        out: folder for the dataset; must not hold one yet.
    """

    alpha: float = 2.0
    out: Path = Path("data/gennorm")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.envs.worlds import GeneralizedNormalWorld

        return self._collect(config_of(GeneralizedNormalWorld, self), command)


@dataclass(frozen=True)
class Collect:
    """Make a dataset: positive pairs of a latent world, or episodes of a policy."""

    what: tyro.conf.OmitSubcommandPrefixes[
        Annotated[CollectOU, tyro.conf.subcommand("ou")]
        | Annotated[CollectGennorm, tyro.conf.subcommand("gennorm")]
        | Annotated[CollectSAC, tyro.conf.subcommand("sac")]
        | Annotated[CollectRandom, tyro.conf.subcommand("random")]
        | Annotated[CollectMixture, tyro.conf.subcommand("mixture")]
        | Annotated[CollectFrames, tyro.conf.subcommand("frames")]
    ]
