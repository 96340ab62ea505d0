"""`worldplan fit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from worldplan.commands.base import Profile, Target, Verb, bar, config_of, writable_folder

if TYPE_CHECKING:
    from worldplan.agents.fitting import FitConfig, FitReport
    from worldplan.data.trajectories import Trajectories


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
        from worldplan.agents.fitting import FitConfig

        writable_folder(self.out)
        report = fit_encoder(self.encoder, config_of(FitConfig, self))
        folder = report.save(self.out, command)
        facts = {"folder": str(folder), **report.to_dict()}
        notes = [f"Next: worldplan plan --agent {folder}"]
        self.show(facts, f"Agent in {folder}", ["", ""], report.rows(), notes)
        return 0


def fit_encoder(encoder: str | Path, config: FitConfig) -> FitReport:
    """Let an encoder watch random torques, and fit an agent to what it sees.

    Args:
        encoder: a shipped name or a folder.
        config: of the episodes and of the fit.
    """
    from worldplan.agents.fitting import fit_agent
    from worldplan.envs.fingerprint import check_encoder
    from worldplan.learning.encoder import load_encoder

    frozen = load_encoder(encoder)
    check_encoder(frozen)
    return fit_agent(frozen, torque_data(config), config)


def torque_data(config: FitConfig) -> Trajectories:
    """The random-torque episodes of a fit: from poses N(0, 1), in the look that it names."""
    import numpy as np

    from worldplan.envs.tasks import normal_poses, random_torques

    starts = normal_poses((config.episodes,), np.random.default_rng([config.seed, 0]))
    look = {"profile": config.profile, "target": config.target}
    return random_torques(starts, config.steps, config.seed, progress=bar("random torques"), **look)
