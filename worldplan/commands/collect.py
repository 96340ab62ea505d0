"""`worldplan collect`: pairs of latent worlds, or episodes of policies and their frames."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from worldplan.choices import Look
from worldplan.commands.base import REACHER, Verb, WorldOptions, bar, config_of, one_of, without_resume
from worldplan.data.recipes import EpisodeConfig, EpisodeOptions, GeneralizedNormalOptions, Nuisances, OUOptions
from worldplan.rounding import rounded, shown


@dataclass(frozen=True, kw_only=True)
class _Drawn(Verb, Nuisances):
    """What is common to all that draws.

    Args:
        processes: renderer processes.
        resume: go on after an interruption, with the same options; or start, if nothing was begun.
    """

    processes: int = os.cpu_count() or 1
    resume: bool = False

    def begun(self) -> bool:
        """Whether there is something that --resume goes on with."""
        raise NotImplementedError

    def advice(self, command: str) -> str:
        """What is done is kept, if anything is."""
        if not self.begun():
            return f"nothing was written yet; {super().advice(command)}"
        return f"to go on: {without_resume(command)} --resume"


@dataclass(frozen=True, kw_only=True)
class _Pairs(_Drawn):
    """Positive pairs.

    Args:
        pairs: how many sets of views.
        with_labels: store the joint angles too, for evaluation; training cannot open them.
        out: folder for the dataset; must not hold one yet.
    """

    pairs: int = 20_000
    with_labels: bool = False
    out: Path = Path("data/pairs")

    def begun(self) -> bool:
        """Whether there are files of pairs, but not all."""
        from worldplan.data.shards import UNFINISHED

        return (self.out / UNFINISHED).exists()

    def _collect(self, world: Any, command: str) -> int:
        from worldplan.data.recipes import Nuisances
        from worldplan.envs.datasets.pairs import collect_pairs
        from worldplan.eval.show.table import facts_table

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
        facts = {"folder": str(folder), "pairs": self.pairs, "views": world.views}
        self.show(facts, facts_table(f"Dataset in {folder}", ()))
        return 0


@dataclass(frozen=True, kw_only=True)
class CollectOU(_Pairs, OUOptions):
    """Positive pairs from the Ornstein-Uhlenbeck channel: joint angles are Gaussian, with correlation rho.

    Look, target place and size differ independently between the views, so that an encoder learns the arm and ignores
    the rest.

    Args:
        out: folder for the dataset; must not hold one yet.
    """

    out: Path = Path("data/ou")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.envs.worlds import OUWorld

        return self._collect(config_of(OUWorld, self), command)


@dataclass(frozen=True, kw_only=True)
class CollectGennorm(_Pairs, GeneralizedNormalOptions):
    """Positive pairs of a generalised-normal world: what LeJEPA's theory does not cover, unless alpha is 2.

    Joint angles have density proportional to exp(-|z|^alpha), with unit variance; the two views are correlated by rho
    through a Metropolis-adjusted Langevin diffusion, which keeps their law.

    Args:
        out: folder for the dataset; must not hold one yet.
    """

    out: Path = Path("data/gennorm")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.envs.worlds import GeneralizedNormalWorld

        return self._collect(config_of(GeneralizedNormalWorld, self), command)


@dataclass(frozen=True, kw_only=True)
class _Frames(_Drawn):
    """Frames of episodes.

    Args:
        look: dmc or fast with the episode's target; varied: look and target drawn anew for each frame, as --stock,
            --small and --hidden say, for pretraining.
    """

    look: Look = "varied"

    def _draw(self, folder: Path, resume: bool) -> None:
        from worldplan.data.recipes import Nuisances
        from worldplan.envs.datasets.frames import draw_frames

        draw_frames(
            folder,
            self.look,
            seed=self.seed,
            nuisances=config_of(Nuisances, self),
            processes=self.processes,
            resume=resume,
            progress=bar("files of frames"),
        )

    def _tell(self, folder: Path, *notes: str) -> int:
        from worldplan.data.episodes import EpisodeDataset
        from worldplan.eval.show.table import facts_table

        data = EpisodeDataset(folder)
        summary = data.manifest["summary"]
        rows = [(name.replace("_", " "), shown(value)) for name, value in summary.items()]
        self.show({"folder": str(folder), **summary}, facts_table(f"Episodes in {folder}", rows, notes))
        return 0


@dataclass(frozen=True, kw_only=True)
class _Record(_Frames, EpisodeOptions):
    """Episodes.

    Args:
        no_frames: physics only; draw later with `worldplan collect frames`.
        append: add to the dataset in --out, with another --seed.
        out: folder for the dataset.
    """

    no_frames: bool = False
    append: bool = False
    out: Path = Path("data/episodes")

    def begun(self) -> bool:
        """Whether there are episodes: without frames they are a whole dataset, and yet go on."""
        from worldplan.data.shards import MANIFEST, UNFINISHED

        return any((self.out / name).exists() for name in (UNFINISHED, MANIFEST))

    def _record(self, policy: str | None, command: str, **more: Any) -> int:
        from worldplan.envs.datasets.episodes import interrupted, record_episodes, run_record

        config = config_of(EpisodeConfig, self, **more)
        agent, source = _policy(policy, self.task, config)
        state = interrupted(self.out) if self.resume else "nothing"
        recorded = state in ("between", "frames") and self._recorded(run_record(config, agent, self.seed, source))
        if not recorded:
            record_episodes(
                agent,
                self.out,
                config,
                seed=self.seed,
                source=source,
                command=without_resume(command),
                append=self.append,
                resume=self.resume and state != "between",  # then these were not begun
                progress=bar("files of episodes"),
            )
        if recorded and state == "between" and (self.no_frames or self._drawn()):
            return self._tell(self.out, "Nothing was left to do.")
        if not self.no_frames:
            self._draw(self.out, state == "frames")
        return self._tell(self.out)

    def _recorded(self, run: dict[str, Any]) -> bool:
        """Whether these are the episodes that were last recorded; others are refused, or to be appended."""
        from worldplan.data.episodes import EpisodeDataset
        from worldplan.errors import BadFile

        last = {name: value for name, value in EpisodeDataset(self.out).runs[-1].items() if name != "command"}
        others = [name for name in {**run, **last} if run.get(name) != last.get(name)]
        if others and not self.append:
            what = ", ".join(others).replace("_", " ")
            raise BadFile(
                self.out,
                f"holds other episodes (they differ in {what}); resume with the options of those, add these with "
                "--append, or choose another --out",
            )
        return not others

    def _drawn(self) -> bool:
        """Whether the episodes have the frames that are asked for; others are refused."""
        from worldplan.data.episodes import EpisodeDataset
        from worldplan.data.recipes import Nuisances
        from worldplan.envs.datasets.frames import frame_recipe
        from worldplan.errors import BadFile

        drawn = EpisodeDataset(self.out).manifest["frames"]
        wanted = frame_recipe(self.look, self.seed, config_of(Nuisances, self))
        if drawn and {name: drawn.get(name) for name in wanted} != wanted:
            raise BadFile(self.out, f"holds other frames; replace them with `worldplan collect frames {self.out}`")
        return bool(drawn)


def _policy(name: str | None, task: str, config: EpisodeConfig) -> tuple[Any, dict[str, str] | None]:
    """A policy for any seed, and where it came from; refuses one for other spaces than the task's."""
    if name is None:
        return None, None
    from worldplan.agents.actor import load_policy
    from worldplan.agents.exploration import explorer
    from worldplan.envs.reacher_task import ReacherTask

    load_policy(name).check_env(ReacherTask(task))
    return explorer(name, config)


@dataclass(frozen=True, kw_only=True)
class CollectRandom(_Record, WorldOptions):
    """Episodes of random actions in any world, with their frames.

    The Reacher's states, actions and rewards come first, then their frames. Other worlds are seen as they move; they
    take no --look, --task, --stock, --small, --hidden, --no-frames and --append.

    Args:
        hold: steps for which each action is held; slow plants move further. auto takes the hold, of 1 to 32, after
            which the frames differ nearly the most.
        memory: correlation of an action with the one before, for Ornstein-Uhlenbeck noise.
        strength: share of the range of the actions that is used, in (0, 1].
        out: folder for the dataset.
    """

    hold: Annotated[int | Literal["auto"], tyro.conf.arg(metavar="INT|auto")] = 1
    memory: float = 0.0
    strength: float = 1.0
    out: Path = Path("data/random")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.errors import InvalidInput

        if self.env != REACHER:
            return self._watch(command)
        names = ("hold", "memory", "strength", "size", "repeat")
        given = [f"--{name}" for name in names if getattr(self, name) != _default(name)]
        if given:
            raise InvalidInput(f"{', '.join(given)}: these are for other worlds than the Reacher; leave them out")
        return self._record(None, command)

    def _watch(self, command: str) -> int:
        """Episodes of another world than the Reacher."""
        from worldplan.data.recipes import WorldEpisodes
        from worldplan.envs.datasets.world_episodes import choose_hold, record_world
        from worldplan.errors import InvalidInput

        names = ("look", "task", "stock", "small", "hidden", "no_frames", "append")
        given = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) != _default(name)]
        if given:
            raise InvalidInput(f"{', '.join(given)}: only the Reacher has these; leave them out for {self.env}")
        world = self.world()
        hold, tried = choose_hold(world, self.seed) if self.hold == "auto" else (self.hold, {})
        folder = record_world(
            world,
            self.out,
            config_of(WorldEpisodes, self, hold=hold),
            seed=self.seed,
            processes=self.processes,
            command=without_resume(command),
            resume=self.resume,
            progress=bar("files of episodes"),
        ).folder
        moved = ", ".join(f"{k}: {rounded(change)}" for k, change in tried.items())
        notes = (
            [f"Held for {hold} steps. Mean change of a pixel in 32 steps, of 255, by hold: {moved}."] if tried else []
        )
        return self._tell(folder, *notes)


def _default(name: str) -> Any:
    return {field.name: field.default for field in fields(CollectRandom)}[name]


@dataclass(frozen=True, kw_only=True)
class CollectSAC(_Record):
    """Episodes of a policy that SAC trained: states, actions and rewards first, then their frames.

    Args:
        policy: a shipped policy, or a folder that `worldplan train-sac` wrote.
        stochastic: draw the actions from the policy, in place of its mean.
        noise: standard deviation of noise that is added to the policy's actions. It excites, and is known: the mean of
            each action is stored too.
        out: folder for the dataset.
    """

    policy: Annotated[str, tyro.conf.arg(metavar="NAME|FOLDER")] = "reacher-easy"
    stochastic: bool = False
    noise: float = 0.0
    out: Path = Path("data/sac")

    def run(self, command: str) -> int:
        """Exit status 0."""
        return self._record(self.policy, command, deterministic=not self.stochastic)


@dataclass(frozen=True, kw_only=True)
class CollectMixture(CollectSAC):
    """Episodes of a policy and episodes of random torques in one dataset.

    Args:
        random_share: probability that an episode has random torques.
        policy: a shipped policy, or a folder that `worldplan train-sac` wrote.
        stochastic: draw the policy's actions, in place of its mean.
        noise: standard deviation of noise that is added to the policy's actions.
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

    def begun(self) -> bool:
        """Whether there are files of new frames, but not all."""
        from worldplan.data.shards import UNFINISHED

        return (self.data / UNFINISHED).exists()

    def run(self, command: str) -> int:
        """Exit status 0."""
        self._draw(self.data, self.resume)
        return self._tell(self.data)


KINDS: dict[str, type[Verb]] = {
    "ou": CollectOU,
    "gennorm": CollectGennorm,
    "sac": CollectSAC,
    "random": CollectRandom,
    "mixture": CollectMixture,
    "frames": CollectFrames,
}
if TYPE_CHECKING:
    Kind = Verb
else:
    Kind = one_of(KINDS)


@dataclass(frozen=True)
class Collect:
    """Make a dataset: positive pairs of a latent world, or episodes of a policy."""

    kinds: ClassVar[dict[str, type[Verb]]] = KINDS

    what: tyro.conf.OmitSubcommandPrefixes[Kind]
