"""`worldplan fit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from worldplan.agents.config import FitConfig
from worldplan.commands.base import NAMED, REACHER, Verb, bar, config_of

if TYPE_CHECKING:
    from worldplan.agents.fitting import FitReport
    from worldplan.data.trajectories import Trajectories


@dataclass(frozen=True, kw_only=True)
class Fit(Verb, FitConfig):
    """Fit dynamics and a cost to an encoder, from random torques without reward, and save an agent.

    Args:
        encoder: a shipped name, a folder that `worldplan pretrain` wrote, an address on the hub, or module:object (your
            own: an encoder, or a torch.nn.Module).
        data: folder of recorded episodes with frames, to fit to --episodes of them; by default the simulator records
            new ones.
        around: PNG of a goal, for plants that are linear only near it: the model is fitted to what --data shows near
            it, by predictions of --horizon steps.
        out: folder for the agent; an agent in it is replaced.
    """

    encoder: Annotated[str, tyro.conf.arg(metavar=f"{NAMED}|module:object")] = "reacher"
    data: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    around: Annotated[Path | None, tyro.conf.arg(metavar="PNG")] = None
    out: Path = Path("runs/agent")

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.eval.show.table import facts_table

        report = fit_encoder(self.encoder, config_of(FitConfig, self), self.data, self.around)
        folder = report.save(self.out, command)
        facts = {"folder": str(folder), **report.to_dict()}
        next_step = f"Next: worldplan plan --agent {folder}"
        self.show(facts, facts_table(f"Agent in {folder}", report.rows(), [next_step]))
        return 0


def fit_encoder(
    encoder: str | Path, config: FitConfig, data: Path | None = None, around: Path | None = None
) -> FitReport:
    """Let an encoder (what `find_encoder` takes) watch random torques, and fit an agent to what it sees.

    `data` is a folder of recorded episodes; None records new ones. `around` is a PNG of a goal, near which the model is
    to hold; None: everywhere.
    """
    from worldplan.agents.fitting import fit_agent, recorded
    from worldplan.data.world_card import world_of
    from worldplan.envs.fingerprint import check_encoder
    from worldplan.envs.goal_image import read_goal_image
    from worldplan.envs.rendering import SIZE
    from worldplan.errors import InvalidInput
    from worldplan.learning.encoder import find_encoder

    frozen = find_encoder(encoder)
    goal = None if around is None else read_goal_image(around, getattr(frozen, "size", SIZE))
    if data is not None:
        found = recorded(data, config.episodes)
        return fit_agent(frozen, found.data, config, found.world, held_out=found.held_out, around=goal)
    trained = world_of(getattr(frozen, "card", {}))
    if trained is not None and trained.name != REACHER:
        raise InvalidInput(f"this encoder was trained in {trained.name!r}; name recorded episodes of it with --data")
    check_encoder(frozen)
    return fit_agent(frozen, torque_data(config), config, around=goal)


def torque_data(config: FitConfig) -> Trajectories:
    """The random-torque episodes of a fit: from poses N(0, 1), in the look that it names."""
    import numpy as np

    from worldplan.envs.tasks import normal_poses, random_torques

    starts = normal_poses((config.episodes,), np.random.default_rng([config.seed, 0]))
    look = {"profile": config.profile, "target": config.target}
    return random_torques(starts, config.steps, config.seed, progress=bar("random torques"), **look)
