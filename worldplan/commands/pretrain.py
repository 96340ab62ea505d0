"""`worldplan pretrain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from worldplan.commands.base import TrainingBar, Verb, config_of, without_resume
from worldplan.learning.config import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Pretrain(Verb, TrainingOptions):
    """Train an encoder on positive pairs: alignment of the views, and a term against collapse.

    Args:
        data: folder that `worldplan collect` wrote.
        stride: data of episodes: steps between the two frames of a pair.
        objective: what stands against collapse. lejepa: SIGReg, a Gaussian embedding; whitening: mean and covariance;
            vicreg: variances and covariances; infonce: telling the pairs of a batch apart. supervised: no pairs, but
            the angles themselves, of data collected --with-labels; the yardstick for the others.
        weight: in [0, 1], weight of the term against collapse, the rest is alignment's; by default .02 (lejepa),
            .5 (whitening), .2 (vicreg).
        slices: lejepa: random directions of SIGReg per step; by default 256.
        test: lejepa: test of Gaussianity on each direction: epps-pulley (the default), moments, jarque-bera,
            cramer-von-mises, watson, anderson-darling. Others than the default ask for another weight.
        covariance: vicreg: weight of the covariances relative to that of the variances; by default 1.
        sigma: infonce: width of the kernel, which sets the scale of the embedding; by default .5.
        threads: threads of torch on the CPU; by default torch's own choice.
        resume: continue an interrupted run in the folder --out.
        out: folder for the encoder and its log; must not hold one yet.
    """

    data: tyro.conf.Positional[Path]
    stride: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    objective: Literal["lejepa", "whitening", "vicreg", "infonce", "supervised"] = "lejepa"
    weight: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    slices: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    test: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    covariance: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    sigma: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    threads: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    resume: bool = False
    out: Path = Path("runs/encoder")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.data.episodes import EpisodeDataset, StridedPairs
        from worldplan.data.files import read_json
        from worldplan.data.pairs import PairDataset, load_labels
        from worldplan.errors import InvalidInput
        from worldplan.eval.show.table import facts_table
        from worldplan.learning.objectives import LeJEPA, objective_from_dict
        from worldplan.learning.pretraining import pretrain
        from worldplan.learning.supervised import train_supervised
        from worldplan.learning.training import PretrainConfig

        options = {name: getattr(self, name) for name in ("weight", "slices", "test", "covariance", "sigma")}
        given = {name: value for name, value in options.items() if value is not None}
        if self.objective == "supervised":
            if given or self.resume or self.stride is not None:
                raise InvalidInput("supervised training has no options of an objective, no --resume and no --stride")
            config = config_of(PretrainConfig, self, objective=LeJEPA())  # takes no part
        else:
            config = config_of(PretrainConfig, self, objective=objective_from_dict({"name": self.objective, **given}))
        steps = TrainingBar()
        reporting: dict[str, Any] = {"command": command, "progress": steps.start, "report": steps.show}
        stride = self.stride
        data: Any = PairDataset(self.data) if stride is None else StridedPairs(EpisodeDataset(self.data), stride)
        data.verify()
        if self.objective == "supervised":
            scale = data.provenance["world"]["scale"]
            folder = train_supervised(data, load_labels(self.data), self.out, config, scale=scale, **reporting)
        else:
            folder = pretrain(data, self.out, config, resume=self.resume, **reporting)
        card = read_json(folder / "encoder.json")
        facts = {"folder": str(folder)} | {k: card[k] for k in ("sha256", "validation", "spread") if k in card}
        label = "" if self.objective == "supervised" else "label-free "
        rows = [(f"{label}{name}, held out", f"{value:.4f}") for name, value in card["validation"].items()]
        spread = card.get("spread", [])
        rows += [("standard deviations of the embedding", "  ".join(f"{s:.3f}" for s in spread))] if spread else []
        self.show(facts, facts_table(f"Encoder in {folder}", rows, [f"Next: worldplan fit --encoder {folder}"]))
        return 0

    def advice(self, command: str) -> str:
        """How to go on from the last checkpoint, if there is one."""
        if self.objective == "supervised":
            return f"supervised training writes no checkpoints and starts over; {super().advice(command)}"
        if not (self.out / "checkpoint.json").exists():
            return f"no checkpoint was written yet (one every {self.checkpoint_every} steps); {super().advice(command)}"
        return f"to continue from the last checkpoint: {without_resume(command)} --resume"
