"""`worldplan train-sac`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import tyro

from worldplan.agents.config import SACConfig
from worldplan.commands.base import TrainingBar, Verb, config_of, without_resume
from worldplan.rounding import rounded, shown


@dataclass(frozen=True, kw_only=True)
class TrainSac(Verb, SACConfig):
    """Train a policy on dm_control's Reacher, from its true state, with Stable-Baselines3's SAC.

    The folder receives the best actor (safetensors and JSON, no pickle), its learning curve, and a log for TensorBoard.

    Args:
        task: easy (target of radius .05 m) or hard (.015 m).
        threads: threads of torch; more than one is slower with such small networks.
        resume: continue an interrupted run in the folder --out, or start one there; --steps and --stop-at may have
            changed.
        out: folder for the policy; must not hold one yet.
    """

    task: tyro.conf.Positional[Literal["easy", "hard"]] = "easy"
    threads: int = 1
    resume: bool = False
    out: Path = Path("runs/sac")

    def run(self, command: str) -> int:
        """Exit status 0."""
        import gymnasium

        import worldplan.envs  # registers the environments  # noqa: F401
        from worldplan.agents.sac import train_sac
        from worldplan.data.files import read_json
        from worldplan.eval.show.table import facts_table

        with closing(TrainingBar()) as steps:
            folder = train_sac(
                partial(gymnasium.make, "worldplan/Reacher-v0", task=self.task),
                self.out,
                config_of(SACConfig, self),
                resume=self.resume,
                command=without_resume(command),
                progress=steps.move,
                report=steps.show,
            )
        card = read_json(folder / "policy.json")
        test = card["test"]
        facts = {"folder": str(folder), **{name: card[name] for name in ("sha256", "chosen_step", "test")}}
        rows = [
            (f"mean return of {test['episodes']} test episodes", rounded(test["return"])),
            ("standard deviation, lowest", shown([test["std"], test["lowest"]])),
            ("best evaluation at step", rounded(card["chosen_step"])),
        ]
        self.show(facts, facts_table(f"Policy in {folder}", rows, [f"Curves: tensorboard --logdir {folder / 'tb'}"]))
        return 0

    def advice(self, command: str) -> str:
        """How to go on from the last checkpoint, if there is one."""
        if not (self.out / "checkpoint.json").exists():
            return f"no checkpoint was written yet (one every {self.evaluate_every} steps); {super().advice(command)}"
        return f"to continue from the last checkpoint: {without_resume(command)} --resume"
