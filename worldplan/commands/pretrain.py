"""`worldplan pretrain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from worldplan.commands.base import Name, TrainingBar, Verb, config_of, without_resume
from worldplan.learning.config import TrainingOptions
from worldplan.rounding import rounded, shown

if TYPE_CHECKING:
    from worldplan.learning.training import PretrainConfig
    from worldplan.learning.views import Views


@dataclass(frozen=True, kw_only=True)
class Pretrain(Verb, TrainingOptions):
    """Train an encoder: on positive pairs of a Gaussian world, or (`--objective excitation`) on episodes with actions.

    On several devices: `torchrun --nproc-per-node N -m worldplan pretrain ...` (docs/scale.md).

    Args:
        data: folder that `worldplan collect` wrote.
        stride: data of episodes: steps between the two frames of a pair.
        objective: what stands against collapse. lejepa: SIGReg, a Gaussian embedding; whitening: mean and covariance;
            vicreg: variances and covariances; infonce: telling the pairs of a batch apart. excitation: no pairs of a
            world, but episodes of random actions; finds a latent that the actions move linearly. supervised: the
            angles themselves, of data collected --with-labels; the yardstick for the others.
        window: excitation: steps from the first frame of a window to the second; by default 16. auto runs 8, 16, 32 and
            48 (up to half an episode) for half the epochs, and takes the one with the best J on held-out episodes.
        past: excitation, for plants with inertia: steps before a window over which the latent's own displacement tells
            the velocity, which is then accounted for; by default 0, not at all.
        drift: excitation with --past: what the latent's motion explains is removed first (the default), or counts as
            explained, for plants whose coordinates answer an action alike, such as a cart with a pole.
        space: excitation: kinds of the latent's coordinates, such as circle,line; a joint that turns without limit is
            a circle. By default lines. auto tries lines and circles for --latent-dim coordinates, as for windows; any
            tries 1 coordinate and more up to --latent-dim, and takes the most of which all are found.
        symmetries: excitation: symmetries of the world, for windows that nobody recorded: mirror (upside down, with the
            opposite actions), turns (quarter turns, with the same actions); mirror,turns for an arm seen from above.
        against: excitation: what stands against collapse of the displacements, whitening (the default) or sigreg.
        first_windows: excitation: windows of the first fifth of a run, in which the weakest coordinate is found; 0 for
            all, by default 30000.
        patience: excitation: validations, one in 100 steps, without a better J after which a run that has found all
            coordinates stops; 0 goes on to the end, by default 6.
        least: excitation: share of each coordinate's displacement that the actions must explain on held-out episodes,
            or the run ends with an error; by default .2.
        weight: in [0, 1], weight of the term against collapse, the rest is alignment's; by default .02 (lejepa,
            excitation with sigreg), .5 (whitening), .2 (vicreg).
        slices: lejepa, excitation with sigreg: random directions of SIGReg per step; by default 256.
        test: lejepa: test of Gaussianity on each direction: epps-pulley (the default), moments, jarque-bera,
            cramer-von-mises, watson, anderson-darling. Others than the default ask for another weight.
        covariance: vicreg: weight of the covariances relative to that of the variances; by default 1.
        sigma: infonce: width of the kernel, which sets the scale of the embedding; by default .5.
        views: lejepa: global and local views, such as 2,6: random crops of the frames, all drawn to the mean of the
            global ones. For networks that see photographs; crops hide where things are.
        local_size: views: pixels a side of the local ones, for a network that takes frames of several sizes; by default
            those of the frame.
        begin: an encoder whose weights to begin with, of the same network and space.
        threads: threads of torch on the CPU; with another number, sums round differently, and so do the weights.
        resume: continue an interrupted run in the folder --out, or start one there; --device, --checkpoint-every and
            the number of processes may have changed.
        out: folder for the encoder, its log, and the same for TensorBoard; must not hold one yet.
    """

    data: tyro.conf.Positional[Path]
    stride: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    objective: Literal["lejepa", "whitening", "vicreg", "infonce", "excitation", "supervised"] = "lejepa"
    past: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    drift: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    window: Annotated[int | Literal["auto"] | None, tyro.conf.arg(metavar="INT|auto")] = None
    space: Annotated[str | None, tyro.conf.arg(metavar="KIND,...|auto|any")] = None
    symmetries: Annotated[str | None, tyro.conf.arg(metavar="NAME,...")] = None
    against: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    first_windows: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    patience: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    least: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    weight: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    slices: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    test: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    covariance: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    sigma: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    views: Annotated[str | None, tyro.conf.arg(metavar="GLOBAL,LOCAL")] = None
    local_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    begin: Name = None
    threads: int = 2
    resume: bool = False
    out: Path = Path("runs/encoder")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.learning.distributed import joined

        with joined(self.device):
            return self._train(without_resume(command))

    def _train(self, command: str) -> int:
        from worldplan.data.episodes import EpisodeDataset, StridedPairs
        from worldplan.data.files import read_json
        from worldplan.data.pairs import PairDataset, load_labels
        from worldplan.data.windows import Windows
        from worldplan.errors import InvalidInput
        from worldplan.eval.show.table import facts_table
        from worldplan.learning.curves import Curves
        from worldplan.learning.distributed import leads
        from worldplan.learning.encoder import load_encoder
        from worldplan.learning.excitation import Excitation
        from worldplan.learning.pretraining import pretrain
        from worldplan.learning.supervised import train_supervised

        supervised = self.objective == "supervised"
        if supervised and (self._options() or self.resume or self.begin or self.stride is not None):
            raise InvalidInput("supervised training has no options of an objective, no --resume, --begin or --stride")
        config = self._config()
        steps, curves = TrainingBar(), Curves(self.out)

        def report(row: dict[str, float]) -> None:
            steps.show(row)
            curves(row)

        reporting: dict[str, Any] = {"command": command, "progress": steps.start, "report": report}
        data: Any
        tried: list[dict[str, Any]] = []
        if isinstance(config.objective, Excitation):
            if self.stride is not None:
                raise InvalidInput("excitation takes windows, not pairs: --window in place of --stride")
            config, tried = self._chosen(config, steps.start)
            assert isinstance(config.objective, Excitation)
            data = Windows(EpisodeDataset(self.data), config.objective.window, past=config.objective.past)
        elif self.stride is None:
            data = PairDataset(self.data)
        else:
            data = StridedPairs(EpisodeDataset(self.data), self.stride)
        data.verify()
        if supervised:
            scale = data.provenance["world"]["scale"]
            folder = train_supervised(data, load_labels(self.data), self.out, config, scale=scale, **reporting)
        else:
            begin = None if self.begin is None else load_encoder(self.begin)
            folder = pretrain(data, self.out, config, begin=begin, resume=self.resume, **reporting)
        curves.close()
        if not leads():
            return 0
        card = read_json(folder / "encoder.json")
        facts = {"folder": str(folder)} | {k: card[k] for k in ("sha256", "validation", "spread") if k in card}
        facts |= {"candidates": tried} if tried else {}
        label = "" if supervised else "label-free "
        rows = [(f"{label}{name}, held out", rounded(value)) for name, value in card["validation"].items()]
        spread = card.get("spread", [])
        rows += [("standard deviations of the embedding", shown(spread))] if spread else []
        self.show(
            facts,
            facts_table(
                f"Encoder in {folder}",
                rows,
                [f"Next: worldplan fit --encoder {folder}", f"Curves: tensorboard --logdir {curves.folder}"],
            ),
        )
        return 0

    def _auto(self) -> bool:
        return self.window == "auto" or self.space in ("auto", "any")

    def _checkpointed(self) -> bool:
        return (self.out / "checkpoint.json").exists()

    def _chosen(self, config: PretrainConfig, watch: Any) -> tuple[PretrainConfig, list[dict[str, Any]]]:
        """The configuration with what `auto` stands for, and the candidates, which it prints."""
        from worldplan.data.episodes import EpisodeDataset
        from worldplan.eval.show.table import Table
        from worldplan.learning.candidates import WINDOWS, choose, name_of, spaces_of
        from worldplan.learning.distributed import leads

        if not self._auto():
            return config, []
        episodes = EpisodeDataset(self.data)
        episodes.verify()
        widths = {"auto": [self.latent_dim], "any": range(1, self.latent_dim + 1)}
        spaces = [space for n in widths.get(str(self.space), ()) for space in spaces_of(n)]
        windows = WINDOWS if self.window == "auto" else ()
        config, tried = choose(episodes, config, self.out, spaces=spaces, windows=windows, progress=watch)
        if leads() and not self.json:
            rows = [[c.name, rounded(c.J), shown(list(c.shares))] for c in tried]
            chosen = f"Chosen: {name_of(config)}."
            self.show({}, Table("Candidates, by short runs", ("candidate", "J, held out", "shares"), rows, [chosen]))
        return config, [c.to_dict() for c in tried]

    def _options(self) -> dict[str, Any]:
        """The options of the objective that were given."""
        names = ["weight", "slices", "test", "covariance", "sigma"]
        names += ["window", "space", "symmetries", "against", "first_windows", "least", "patience", "past", "drift"]
        given = {name: getattr(self, name) for name in names if getattr(self, name) not in (None, "auto", "any")}
        return given | {name: given[name].split(",") for name in ("space", "symmetries") if name in given}

    def _config(self) -> PretrainConfig:
        from worldplan.errors import InvalidInput
        from worldplan.learning.objectives import LeJEPA, objective_from_dict
        from worldplan.learning.training import PretrainConfig

        if self.objective == "supervised":
            objective: Any = LeJEPA()  # takes no part
        else:
            objective = objective_from_dict({"name": self.objective, **self._options()})
        n = len(getattr(objective, "space", ())) or self.latent_dim
        if self.latent_dim not in (n, TrainingOptions.latent_dim):
            raise InvalidInput(f"--space names {n} coordinates, --latent-dim {self.latent_dim}; leave the latter out")
        return config_of(PretrainConfig, self, objective=objective, latent_dim=n, views=self._views())

    def _views(self) -> Views | None:
        from worldplan.errors import InvalidInput
        from worldplan.learning.views import Views

        if self.views is None:
            if self.local_size is not None:
                raise InvalidInput("--local-size is that of local views; give --views too, such as 2,6")
            return None
        try:
            first, second = map(int, self.views.split(","))
        except ValueError as error:
            raise InvalidInput(
                f"--views are numbers of global and local views, such as 2,6; got {self.views}"
            ) from error
        return Views(first, second, local_size=self.local_size or 0)

    def advice(self, command: str) -> str:
        """How to go on from the last checkpoint, if there is one."""
        if self.objective == "supervised":
            return f"supervised training writes no checkpoints and starts over; {super().advice(command)}"
        if not self._checkpointed() and not (self._auto() and (self.out / "candidates").exists()):
            return f"no checkpoint was written yet (one every {self.checkpoint_every} steps); {super().advice(command)}"
        return f"to continue from the last checkpoint: {without_resume(command)} --resume"
