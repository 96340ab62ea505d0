"""`worldplan collect`: pairs from latent worlds, episodes of policies, and their frames."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from worldplan.commands.base import Verb, bar, config_of

_PROCESSES = os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class _Drawn(Verb):
    """What is common to all that draws.

    Args:
        stock: probability of the stock look (profile dmc), else fast.
        small: probability of the small target, else the large one.
        hidden: probability that the target is not drawn.
        processes: renderer processes.
        resume: go on after an interruption, with the same options.
    """

    stock: float = 0.75
    small: float = 0.75
    hidden: float = 0.15
    processes: int = _PROCESSES
    resume: bool = False

    def advice(self, command: str) -> str:
        """What is done is kept."""
        return f"to go on: {command if self.resume else command + ' --resume'}"

    def _pairs(self, world: Any, pairs: int, with_labels: bool, out: Path, command: str) -> int:
        from worldplan.envs.collect import Nuisances, collect_pairs

        folder = collect_pairs(
            world,
            pairs,
            out,
            seed=self.seed,
            nuisances=config_of(Nuisances, self),
            with_labels=with_labels,
            processes=self.processes,
            command=command.removesuffix(" --resume"),
            resume=self.resume,
            progress=bar("files of pairs"),
        )
        self.show({"folder": str(folder), "pairs": pairs, "views": world.views}, f"Dataset in {folder}")
        return 0


@dataclass(frozen=True, kw_only=True)
class CollectOU(_Drawn):
    """Positive pairs from the Ornstein-Uhlenbeck channel: joint angles are Gaussian, with correlation rho.

    Look, target place and size differ independently between the views, so that an encoder learns the arm and ignores
    the rest.

    Args:
        pairs: how many sets of views.
        rho: correlation of two views, in (0, 1).
        scale: standard deviation of shoulder and wrist angle, radians.
        views: frames in a set, at least 2.
        truncate: redraw sets with an angle beyond the joints' range.
        with_labels: store the joint angles too, for evaluation; training cannot open them.
        out: folder for the dataset; must not hold one yet.
    """

    pairs: int = 20_000
    rho: float = 0.9
    scale: tuple[float, float] = (1.0, 1.0)
    views: int = 2
    truncate: bool = False
    with_labels: bool = False
    out: Path = Path("data/ou")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.envs.worlds import OUWorld

        return self._pairs(config_of(OUWorld, self), self.pairs, self.with_labels, self.out, command)


@dataclass(frozen=True, kw_only=True)
class CollectGennorm(_Drawn):
    """Positive pairs of a generalised-normal world: what LeJEPA's theory does not cover, unless alpha is 2.

    Joint angles have density proportional to exp(-|z|^alpha), with unit variance; the two views are correlated by rho
    through a Metropolis-adjusted Langevin diffusion, which keeps their law.

    Args:
        pairs: how many.
        alpha: shape; 1 is Laplace's law, 2 Gauss's, large nearly uniform.
        rho: correlation of two views.
        scale: standard deviation of shoulder and wrist angle, radians.
        views: frames in a set, at least 2.
        with_labels: store the joint angles too, for evaluation; training cannot open them.
        out: folder for the dataset; must not hold one yet.
    """

    pairs: int = 20_000
    alpha: float = 2.0
    rho: float = 0.9
    scale: tuple[float, float] = (1.0, 1.0)
    views: int = 2
    with_labels: bool = False
    out: Path = Path("data/gennorm")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.envs.worlds import GeneralizedNormalWorld

        return self._pairs(config_of(GeneralizedNormalWorld, self), self.pairs, self.with_labels, self.out, command)


@dataclass(frozen=True, kw_only=True)
class _Frames(_Drawn):
    """Frames of episodes.

    Args:
        look: dmc or fast with the episode's target; varied: look and target drawn anew for each frame, as --stock,
            --small and --hidden say, for pretraining.
    """

    look: Literal["varied", "dmc", "fast"] = "varied"

    def _draw(self, folder: Path, resume: bool) -> None:
        from worldplan.envs.collect import Nuisances
        from worldplan.envs.record import draw_frames

        draw_frames(
            folder,
            self.look,
            seed=self.seed,
            nuisances=config_of(Nuisances, self),
            processes=self.processes,
            resume=resume,
            progress=bar("files of frames"),
        )

    def _tell(self, folder: Path) -> int:
        from worldplan.episodes import EpisodeDataset

        data = EpisodeDataset(folder)
        summary = data.manifest["summary"]
        rows = [(name.replace("_", " "), str(value)) for name, value in summary.items()]
        self.show({"folder": str(folder), **summary}, f"Episodes in {folder}", ["", ""], rows)
        return 0


@dataclass(frozen=True, kw_only=True)
class _Record(_Frames):
    """Episodes.

    Args:
        episodes: how many.
        steps: length of each; dm_control's own have 1000.
        task: where and how large the target is.
        test_share: probability that an episode belongs to the test split.
        no_frames: physics only; draw later with `worldplan collect frames`.
        append: add to the dataset in --out, with another --seed.
    """

    episodes: int = 250
    steps: int = 200
    task: Literal["easy", "hard"] = "easy"
    test_share: float = 0.2
    no_frames: bool = False
    append: bool = False

    def _record(self, policy: str | None, command: str, out: Path, **more: Any) -> int:
        from worldplan.envs.record import EpisodeConfig, interrupted, record_episodes

        before = interrupted(out) if self.resume else "nothing"
        if before not in ("frames", "between"):
            agent, source = _policy(policy, self.task)
            record_episodes(
                agent,
                out,
                config_of(EpisodeConfig, self, **more),
                seed=self.seed,
                source=source,
                command=command.removesuffix(" --resume"),
                append=self.append,
                resume=self.resume,
                progress=bar("files of episodes"),
            )
        if not self.no_frames:
            self._draw(out, before == "frames")
        return self._tell(out)


def _policy(name: str | None, task: str) -> tuple[Any, dict[str, str] | None]:
    """A policy for any seed, and where it came from; refuses one for other spaces than the task's."""
    if name is None:
        return None, None
    from worldplan.agents.actor import load_policy
    from worldplan.envs.reacher_task import ReacherTask

    policy = load_policy(name)
    policy.check_env(ReacherTask(task))
    return partial(load_policy, name), {"name": Path(name).name, "sha256": policy.card["sha256"]}


@dataclass(frozen=True, kw_only=True)
class CollectRandom(_Record):
    """Episodes of uniformly random torques: states, actions and rewards first, then their frames.

    Args:
        out: folder for the dataset.
    """

    out: Path = Path("data/random")

    def run(self, command: str) -> int:
        """Exit status 0."""
        return self._record(None, command, self.out)


@dataclass(frozen=True, kw_only=True)
class CollectSAC(_Record):
    """Episodes of a policy that SAC trained: states, actions and rewards first, then their frames.

    Args:
        policy: a shipped policy, or a folder that `worldplan train-sac` wrote.
        stochastic: draw the actions from the policy, in place of its mean.
        out: folder for the dataset.
    """

    policy: Annotated[str, tyro.conf.arg(metavar="NAME|FOLDER")] = "reacher-easy"
    stochastic: bool = False
    out: Path = Path("data/sac")

    def run(self, command: str) -> int:
        """Exit status 0."""
        return self._record(self.policy, command, self.out, deterministic=not self.stochastic)


@dataclass(frozen=True, kw_only=True)
class CollectMixture(CollectSAC):
    """Episodes of a policy and episodes of random torques in one dataset.

    Args:
        random_share: probability that an episode has random torques.
        policy: a shipped policy, or a folder that `worldplan train-sac` wrote.
        stochastic: draw the policy's actions, in place of its mean.
        out: folder for the dataset.
    """

    random_share: float = 0.5
    out: Path = Path("data/mixture")


@dataclass(frozen=True, kw_only=True)
class CollectFrames(_Frames):
    """Draw the frames of recorded episodes, in place of those that they have.

    Args:
        data: folder with episodes.
    """

    data: tyro.conf.Positional[Path]

    def run(self, command: str) -> int:
        """Exit status 0."""
        self._draw(self.data, self.resume)
        return self._tell(self.data)


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
