"""From recorded arrays to an encoder and an agent, in a few lines."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldplan.agents.config import FitConfig
from worldplan.agents.fitting import fit_agent, recorded
from worldplan.agents.planning_agent import PlanningAgent
from worldplan.agents.prediction import UNFIT
from worldplan.data.episodes import EpisodeDataset, StridedPairs
from worldplan.data.own import save_episodes
from worldplan.data.shards import MANIFEST
from worldplan.data.windows import Windows
from worldplan.errors import InvalidInput
from worldplan.learning.config import TrainingOptions
from worldplan.learning.encoder import Encoder, PixelEncoder, find_encoder, load_encoder
from worldplan.learning.excitation import Excitation
from worldplan.learning.objectives import objective_from_dict
from worldplan.learning.pretraining import pretrain as train
from worldplan.learning.training import PretrainConfig, Watch, unwatched
from worldplan.learning.views import Views

Episodes = EpisodeDataset | Path | str
EPISODES = "episodes"  # folder of recorded arrays beside the encoder


def pretrain(
    data: Episodes | Sequence[NDArray[Any]],
    out: Path | str,
    actions: Sequence[ArrayLike] | None = None,
    *,
    objective: str = Excitation.name,
    stride: int | None = None,
    views: Views | None = None,
    begin: PixelEncoder | None = None,
    resume: bool = False,
    progress: Watch = unwatched,
    **options: Any,
) -> PixelEncoder:
    """Train an encoder on recorded episodes, and save it; what `worldplan pretrain` does, on arrays too.

    Args:
        data: a dataset or its folder; or for each episode frames, uint8 (T + 1, H, W, 3), of any size and length, which
            are kept in `out`/episodes.
        out: folder for the encoder.
        actions: with arrays: for each episode (T, m).
        objective: name of the objective, `excitation` by default, or one for pairs of frames, such as `lejepa`.
        stride: for pairs: steps between the two frames of a pair, 1 by default.
        views: for `lejepa`: global and local views of the frames.
        begin: an encoder of the same network and space, whose weights to begin with.
        resume: go on from the last checkpoint in `out`, or start where there is none.
        progress: wraps the iterator of the steps.
        **options: fields of the objective (`window`, `space`, `past`, ...) and of `TrainingOptions` (`epochs`, ...);
            with arrays also the arguments of `save_episodes` (`step_seconds`, `size`, ...).

    Returns:
        The encoder.

    Raises:
        InvalidInput: an option that none of these has, arrays that do not fit, or too few of them.
        EncoderCollapsed: fewer coordinates were found than asked; the error says what to change.
        BadFile: `out` holds another encoder or other episodes.
    """
    kept = {k: options.pop(k) for k in _KEPT & options.keys()}
    training = {k: options.pop(k) for k in _TRAINING & options.keys()}
    goal = objective_from_dict({"name": objective, **options})
    if isinstance(goal, Excitation) and stride is not None:
        raise InvalidInput("excitation takes windows, not pairs: give `window` in place of `stride`")
    n = len(getattr(goal, "space", ())) or training.pop("latent_dim", TrainingOptions.latent_dim)
    config = PretrainConfig(objective=goal, latent_dim=n, views=views, **training)
    if isinstance(data, EpisodeDataset | Path | str):
        if kept or actions is not None:
            raise InvalidInput(f"{', '.join(sorted(kept)) or 'actions'}: of arrays only; these episodes are recorded")
        episodes = data if isinstance(data, EpisodeDataset) else EpisodeDataset(data)
    elif resume and (Path(out) / EPISODES / MANIFEST).exists():
        episodes = EpisodeDataset(Path(out) / EPISODES)
    else:
        if actions is None:
            raise InvalidInput("give the actions of each episode (T, m) beside its frames (T + 1, H, W, 3)")
        episodes = save_episodes(Path(out) / EPISODES, data, actions, **kept)
    episodes.verify()
    if isinstance(goal, Excitation):
        pairs: StridedPairs = Windows(episodes, goal.window, past=goal.past)
    else:
        pairs = StridedPairs(episodes, stride or 1)
    made = train(pairs, out, config, begin=begin, resume=resume, command="worldplan.pretrain", progress=progress)
    return load_encoder(made, trust_code=True)  # the code was named just now


def fit(
    encoder: Encoder | Path | str,
    data: Episodes,
    out: Path | str | None = None,
    *,
    around: NDArray[np.uint8] | None = None,
    **options: Any,
) -> PlanningAgent:
    """Fit dynamics and a cost to an encoder on recorded episodes; what `worldplan fit --data` does.

    Warns if the model does not predict episodes that were held out.

    Args:
        encoder: an encoder, a shipped name, a folder, or `module:object`.
        data: a dataset or its folder.
        out: folder to save the agent in; None saves it nowhere.
        around: frame (S, S, 3) of a goal near which the model is to hold; None: everywhere.
        **options: fields of `FitConfig`, such as `control_weight` and `planner`.

    Raises:
        InvalidInput: the episodes do not identify the dynamics, or are of another world than the encoder's.
        NotStabilizable: no feedback stabilises what was fitted.
    """
    unknown = sorted(options.keys() - {field.name for field in fields(FitConfig)})
    if unknown:
        raise InvalidInput(f"a fit has no option {', '.join(unknown)}; see FitConfig")
    config = FitConfig(**options)
    found = recorded(data.folder if isinstance(data, EpisodeDataset) else data, config.episodes)
    frozen = find_encoder(encoder) if isinstance(encoder, str | Path) else encoder
    report = fit_agent(frozen, found.data, config, found.world, held_out=found.held_out, around=around)
    if report.prediction is not None and report.prediction.verdict.startswith(UNFIT):
        warnings.warn(f"the model {report.prediction.verdict}", stacklevel=2)
    if out is not None:
        report.save(out, "worldplan.fit")
    return report.agent


_TRAINING = {field.name for field in fields(TrainingOptions)}
_KEPT = {"rewards", "states", "world", "name", "size", "action_low", "action_high", "step_seconds", "test_share"}
