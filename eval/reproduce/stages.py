"""Parts of a reproduction: sizes, datasets and encoders. Each is made once, and continued if it was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from worldplan.agents.actor import load_policy
from worldplan.checks import positive_int
from worldplan.data.episodes import EpisodeDataset, StridedPairs
from worldplan.data.files import read_json, write_json
from worldplan.data.pairs import PairDataset
from worldplan.data.recipes import EpisodeConfig, Nuisances
from worldplan.data.shards import MANIFEST, UNFINISHED
from worldplan.envs.datasets.episodes import interrupted, record_episodes
from worldplan.envs.datasets.frames import draw_frames
from worldplan.envs.datasets.pairs import collect_pairs
from worldplan.envs.worlds import OUWorld
from worldplan.errors import BadFile, InvalidInput, UnknownName
from worldplan.learning.encoder import PixelEncoder, load_encoder
from worldplan.learning.objectives import LeJEPA
from worldplan.learning.pretraining import pretrain
from worldplan.learning.training import PretrainConfig
from worldplan.provenance import plain

POLICY = "reacher-easy"  # shipped
POLICIES = ("random", "sac")
_SETTINGS = "settings.json"


@dataclass(frozen=True)
class Scale:
    """Sizes of a reproduction.

    Args:
        pairs: positive pairs in each Gaussian world.
        episodes: episodes with each policy.
        length: control steps in an episode.
        test_share: probability that an episode is kept for judging.
        rhos: correlations of the Gaussian rows.
        strides: strides of the trajectory rows.
        seeds: encoders trained for each row.
        steps: training steps, the same for every encoder.
        net: training options; epochs and seed are set for each encoder.
        nuisances: what differs between frames beside the arm.
        frames: frames to fit R2 on, and as many to judge it on.
        plans: pairs of start and goal for the control cost.
        libraries: numbers of frames that plans are decoded with.
        profile: look of the frames for the control cost.
    """

    pairs: int
    episodes: int
    length: int
    rhos: tuple[float, ...]
    strides: tuple[int, ...]
    seeds: int
    steps: int
    net: PretrainConfig
    test_share: float = 0.2
    nuisances: Nuisances = field(default_factory=Nuisances)
    frames: int = 4000
    plans: int = 300
    libraries: tuple[int, ...] = (250, 1000, 4000)
    profile: str = "fast"

    def __post_init__(self) -> None:
        for name in ("pairs", "episodes", "length", "seeds", "steps", "frames", "plans"):
            positive_int(name, getattr(self, name))
        if not self.rhos or not self.strides or not self.libraries:
            raise InvalidInput("a reproduction needs a rho, a stride and a library at least")

    @property
    def target(self) -> str:
        """Target sphere in the frames for the control cost: `hidden` if training never showed one."""
        return "hidden" if self.nuisances.hidden == 1 else "hard"

    @property
    def epochs(self) -> float:
        """Passes over a Gaussian world's training pairs in `steps` training steps."""
        return self.epochs_of(self.pairs - self.net.validation)

    def epochs_of(self, pairs: int) -> float:
        """Passes over `pairs` training pairs in `steps` training steps."""
        return self.steps / max(1, pairs // self.net.batch)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "net": self.net.to_dict()}


SCALES = {
    "smoke": Scale(
        pairs=256,
        episodes=48,
        length=24,
        rhos=(0.5, 0.9),
        strides=(1, 8),
        seeds=1,
        steps=60,
        net=PretrainConfig(
            objective=LeJEPA(weight=0.9, slices=32), width=2, hidden=16, batch=32, lr=1e-2, validation=64, device="cpu"
        ),
        test_share=0.5,
        nuisances=Nuisances(stock=0.0),
        frames=200,
        plans=30,
        libraries=(50, 200),
    ),
    "cpu": Scale(
        pairs=10_000,
        episodes=240,
        length=200,
        rhos=(0.5, 0.9, 0.99),
        strides=(1, 8, 64),
        seeds=3,
        steps=840,
        net=PretrainConfig(objective=LeJEPA(slices=64), width=8, hidden=64, batch=64, bfloat16=True, half=True),
        # So small a network learns one look of the arm in this time, not two with a sphere anywhere.
        nuisances=Nuisances(stock=0.0, hidden=1.0),
    ),
    "full": Scale(
        pairs=100_000,
        episodes=640,
        length=200,
        rhos=(0.3, 0.5, 0.7, 0.8, 0.9, 0.99),
        strides=(1, 8, 64),
        seeds=3,
        steps=38_700,
        net=PretrainConfig(objective=LeJEPA(), width=32, batch=256),
        plans=1000,
        libraries=(250, 1000, 4000, 10_000),
        profile="dmc",
    ),
}


@dataclass(frozen=True)
class Condition:
    """Training data of an encoder: `ou` pairs with rho as `value`, or `random` or `sac` torques with the stride."""

    process: str
    value: float

    @property
    def kind(self) -> str:
        """`gaussian` or `trajectory`."""
        return "gaussian" if self.process == "ou" else "trajectory"

    @property
    def name(self) -> str:
        """Name of the condition's folder."""
        return f"{self.process}-{self.value:g}"

    @property
    def dataset(self) -> str:
        """Name of the dataset; trajectories are shared by all strides."""
        return self.name if self.process == "ou" else self.process


def conditions(scale: Scale) -> list[Condition]:
    """The rows of the table."""
    rows = [Condition("ou", rho) for rho in scale.rhos]
    return rows + [Condition(policy, stride) for policy in POLICIES for stride in scale.strides]


class Settings(Protocol):
    """What `settle` writes."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        ...


def find_scale(scale: str | Scale) -> Scale:
    """A scale by its name, or a scale as it is. Raises UnknownName if there is no such scale."""
    if isinstance(scale, Scale):
        return scale
    if scale not in SCALES:
        raise UnknownName("scale", scale, SCALES)
    return SCALES[scale]


def settle(out: Path, scale: Settings, seed: int) -> None:
    """Write scale and seed to a folder. Raises BadFile if it holds a reproduction of another scale or seed."""
    path = out / _SETTINGS
    settings = plain({"scale": scale.to_dict(), "seed": seed})
    if not path.exists():
        write_json(path, settings)
    elif read_json(path) != settings:
        raise BadFile(path, "belongs to a reproduction of another scale or seed; choose another folder with --out")


@dataclass(frozen=True)
class Stages:
    """Makes the datasets and encoders that are not there yet.

    Datasets go to `out`/data, encoders to `out`/encoders. `watch` wraps the iterator of training steps (start and total
    given), for a progress bar.
    """

    out: Path
    scale: Scale
    seed: int
    processes: int = 1
    command: str = ""
    watch: Callable[[Iterator[int], int, int], Iterator[int]] = lambda steps, start, total: steps

    def dataset(self, condition: Condition) -> Path:
        """Collect the data of a condition, and return their folder."""
        folder = self.out / "data" / condition.dataset
        return self._pairs(folder, condition.value) if condition.process == "ou" else self._episodes(folder, condition)

    def encoder(self, condition: Condition, k: int) -> PixelEncoder:
        """Train the k-th encoder of a condition, or load it.

        Raises:
            BadFile: the folder holds an encoder that was trained on other data.
            EncoderCollapsed: training came to nothing.
        """
        folder = self.out / "encoders" / f"{condition.name}-s{k}"
        data = self.training_data(condition)
        if not (folder / "encoder.json").exists():
            data.verify()
            config = replace(self.scale.net, seed=self.seed + k)
            # As `pretrain` will split them: then every row trains for the same number of steps.
            kept = data.split(config.validation, np.random.default_rng([config.seed, 0]))[1]
            config = replace(config, epochs=self.scale.epochs_of(len(kept)))
            resume = (folder / "checkpoint.json").exists()
            pretrain(data, folder, config, resume=resume, command=self.command, progress=self.watch)
        encoder = load_encoder(folder)
        if encoder.card["data"]["sha256"] != data.manifest_sha256:
            raise BadFile(folder, "was trained on other data than stand beside it; delete the folder and start again")
        return encoder

    def training_data(self, condition: Condition) -> PairDataset | StridedPairs:
        """Pairs that the encoders of a condition are trained on."""
        folder = self.dataset(condition)
        if condition.process == "ou":
            return PairDataset(folder)
        return StridedPairs(EpisodeDataset(folder), int(condition.value))

    def _pairs(self, folder: Path, rho: float) -> Path:
        if not (folder / MANIFEST).exists():
            collect_pairs(
                OUWorld(rho),
                self.scale.pairs,
                folder,
                **self._drawing(),
                command=self.command,
                resume=(folder / UNFINISHED).exists(),
            )
        return folder

    def _episodes(self, folder: Path, condition: Condition) -> Path:
        at = interrupted(folder)
        if at in ("nothing", "episodes"):
            sac = condition.process == "sac"
            record_episodes(
                partial(load_policy, POLICY) if sac else None,
                folder,
                EpisodeConfig(self.scale.episodes, self.scale.length, test_share=self.scale.test_share),
                seed=self.seed,
                source={"name": POLICY, "sha256": load_policy(POLICY).card["sha256"]} if sac else None,
                command=self.command,
                resume=at == "episodes",
            )
        if at == "frames" or not EpisodeDataset(folder).manifest["frames"]:
            draw_frames(folder, **self._drawing(), resume=at == "frames")
        return folder

    def _drawing(self) -> dict[str, Any]:
        return {"seed": self.seed, "nuisances": self.scale.nuisances, "processes": self.processes}
