"""`worldplan collect sac|random|mixture|frames`: episodes of policies, and their frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from worldplan.commands.base import bar, config_of, without_resume, writable_folder
from worldplan.commands.drawing import Drawn


@dataclass(frozen=True, kw_only=True)
class _Frames(Drawn):
    """Frames of episodes.

    Args:
        look: dmc or fast with the episode's target; varied: look and target drawn anew for each frame, as --stock,
            --small and --hidden say, for pretraining.
    """

    look: Literal["varied", "dmc", "fast"] = "varied"

    def _draw(self, folder: Path, resume: bool) -> None:
        from worldplan.envs.datasets.frames import Nuisances, draw_frames

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

        data = EpisodeDataset(folder)
        summary = data.manifest["summary"]
        rows = [(name.replace("_", " "), str(value)) for name, value in summary.items()]
        self.show({"folder": str(folder), **summary}, f"Episodes in {folder}", ["", ""], rows, notes)
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
        out: folder for the dataset.
    """

    episodes: int = 250
    steps: int = 200
    task: Literal["easy", "hard"] = "easy"
    test_share: float = 0.2
    no_frames: bool = False
    append: bool = False
    out: Path = Path("data/episodes")

    def begun(self) -> bool:
        """Whether there are episodes: without frames they are a whole dataset, and yet go on."""
        from worldplan.data.shards import MANIFEST, UNFINISHED

        return any((self.out / name).exists() for name in (UNFINISHED, MANIFEST))

    def _record(self, policy: str | None, command: str, **more: Any) -> int:
        from worldplan.envs.datasets.episodes import EpisodeConfig, interrupted, record_episodes

        writable_folder(self.out)
        config = config_of(EpisodeConfig, self, **more)
        agent, source = _policy(policy, self.task)
        state = interrupted(self.out) if self.resume else "nothing"
        recorded = state in ("between", "frames") and self._recorded(config.run(agent, self.seed, source))
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
        from worldplan.envs.datasets.frames import Nuisances, frame_recipe
        from worldplan.errors import BadFile

        drawn = EpisodeDataset(self.out).manifest["frames"]
        wanted = frame_recipe(self.look, self.seed, config_of(Nuisances, self))
        if drawn and {name: drawn.get(name) for name in wanted} != wanted:
            raise BadFile(self.out, f"holds other frames; replace them with `worldplan collect frames {self.out}`")
        return bool(drawn)


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
        return self._record(None, command)


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
        return self._record(self.policy, command, deterministic=not self.stochastic)


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

    def begun(self) -> bool:
        """Whether there are files of new frames, but not all."""
        from worldplan.data.shards import UNFINISHED

        return (self.data / UNFINISHED).exists()

    def run(self, command: str) -> int:
        """Exit status 0."""
        self._draw(self.data, self.resume)
        return self._tell(self.data)
