"""`worldplan fit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from worldplan.commands.base import Profile, Target, Verb, bar, config_of, writable_folder


@dataclass(frozen=True, kw_only=True)
class Fit(Verb):
    """Fit dynamics and a cost to an encoder, from random torques without reward, and save an agent.

    Args:
        encoder: a shipped name, or a folder that `worldplan pretrain` wrote.
        episodes: random-torque episodes, from poses drawn N(0, 1).
        steps: control steps of 20 ms in each.
        profile: look of the frames.
        target: the target sphere, a distractor.
        control_weight: cost of a squared torque beside a squared radian.
        velocity_weight: cost of a squared radian per step.
        scale: radians per latent unit; by default the scale of the encoder's world, from its card.
        planner: planner of the agent, lqr, mpc, cem or mppi.
        out: folder for the agent; an agent in it is replaced.
    """

    encoder: Annotated[str, tyro.conf.arg(metavar="NAME|FOLDER")] = "reacher"
    episodes: int = 60
    steps: int = 60
    profile: Profile = "dmc"
    target: Target = "hard"
    control_weight: float = 0.1
    velocity_weight: float = 0.0
    scale: Annotated[float | None, tyro.conf.arg(metavar="RADIANS")] = None
    planner: str = "lqr"
    out: Path = Path("runs/agent")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.encoder import load_encoder
        from worldplan.eval.fitting import FitConfig, fit_agent

        writable_folder(self.out)
        report = fit_agent(load_encoder(self.encoder), config_of(FitConfig, self), progress=bar("random torques"))
        folder = report.save(self.out, command)
        facts = {"folder": str(folder), **report.to_dict()}
        notes = [f"Next: worldplan plan --agent {folder}"]
        self.show(facts, f"Agent in {folder}", ["", ""], report.rows(), notes)
        return 0
