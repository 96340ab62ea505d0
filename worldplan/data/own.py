"""Episodes that a user recorded, of any widths, sizes and lengths, as a dataset for every verb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldplan.arrays import finite_array
from worldplan.checks import positive_int
from worldplan.data import saving
from worldplan.data.episodes import EpisodeDataset
from worldplan.data.pictures import square_frames
from worldplan.data.trajectories import Trajectories
from worldplan.data.world_card import FRAME_SIZE, WorldCard
from worldplan.errors import InvalidInput

OWN = "own"  # name of a world that nobody named


def save_episodes(
    folder: Path | str,
    frames: Sequence[NDArray[Any]],
    actions: Sequence[ArrayLike],
    *,
    rewards: Sequence[ArrayLike] | None = None,
    states: Mapping[str, Sequence[ArrayLike]] | None = None,
    world: WorldCard | None = None,
    name: str = OWN,
    size: int = FRAME_SIZE,
    action_low: ArrayLike | None = None,
    action_high: ArrayLike | None = None,
    step_seconds: float = 1.0,
    test_share: float = 0.0,
    seed: int = 0,
    source: Mapping[str, Any] | None = None,
) -> EpisodeDataset:
    """Write recorded episodes to a folder that `pretrain`, `fit` and `diagnose` take.

    Args:
        folder: a folder without a dataset.
        frames: for each episode uint8 (T + 1, H, W, 3), one frame more than actions; resized to squares, every pixel
            the mean of those that it covers.
        actions: for each episode (T, m).
        rewards: for each episode (T,); 0 by default.
        states: true states by name, for each episode (T + 1, width); for judging only.
        world: card of the world that they come from; by default one of its own, by the following five.
        name: the world's name.
        size: pixels a side of the frames.
        action_low: lowest action, a number or (m,); by default the lowest in the data.
        action_high: highest action; by default the highest in the data.
        step_seconds: time from an action to the next.
        test_share: probability that an episode belongs to the test split.
        seed: seed of the split.
        source: where they come from, in JSON values.

    Raises:
        InvalidInput: lengths or widths that do not fit, frames that are not uint8 (H, W, 3) or differ in size, values
            that are not finite, actions that never vary.
        BadFile: the folder holds a dataset.
    """
    acts = [finite_array(f"actions of episode {k}", rows) for k, rows in enumerate(actions)]
    if not acts:
        raise InvalidInput("need one episode or more")
    if any(rows.ndim != 2 or rows.shape[1:] != acts[0].shape[1:] or not len(rows) for rows in acts):
        raise InvalidInput(f"actions of an episode are (T, m), T > 0, got {sorted({rows.shape for rows in acts})[:5]}")
    told = {
        key: [finite_array(f"{key} of episode {k}", r) for k, r in enumerate(v)] for key, v in (states or {}).items()
    }
    paid = rewards if rewards is not None else [np.zeros(len(rows)) for rows in acts]
    sizes = {np.shape(episode)[1:] for episode in frames}
    if len(sizes) > 1:
        raise InvalidInput(f"frames differ in size, {sorted(sizes)}: nothing would stay in place")
    if world is None:
        seen = np.concatenate(acts)
        low = seen.min(axis=0) if action_low is None else action_low
        high = seen.max(axis=0) if action_high is None else action_high
        widths = {key: int(rows[0].shape[1]) if rows[0].ndim == 2 else 0 for key, rows in told.items() if rows}
        try:
            limits = [tuple(np.broadcast_to(x, seen.shape[1:]).astype(float).tolist()) for x in (low, high)]
        except ValueError as error:
            raise InvalidInput(f"limits are a number or {seen.shape[1:]}, one for each action ({error})") from error
        world = WorldCard(name, positive_int("size", size), limits[0], limits[1], float(step_seconds), widths)
    data = Trajectories(
        [square_frames(episode, world.size, f"frames of episode {k}") for k, episode in enumerate(frames)],
        acts,
        [finite_array(f"rewards of episode {k}", rows) for k, rows in enumerate(paid)],
        told,
    )
    record = dict(source or {"from": "arrays"})
    return saving.save_episodes(data, folder, world=world, test_share=test_share, seed=seed, source=record)
