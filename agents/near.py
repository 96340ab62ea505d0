"""The part of recorded episodes that is near a goal, for plants that are linear only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from worldplan.arrays import Floats
from worldplan.data.trajectories import Trajectories
from worldplan.errors import InvalidInput
from worldplan.planning.space import LatentSpace

FEWEST = 6  # steps of a stretch that is of use


def radius_around(latents: list[Floats], goal: Floats, near: float, space: LatentSpace) -> Floats:
    """Half axes (n,) of the ellipse around a goal (n,) that holds this share of the latents, E arrays (T + 1, n).

    Its axes are in the ratio of the latents' own distances from the goal, root mean square.
    """
    away = space.difference(goal, np.concatenate(latents))
    sizes = np.sqrt(np.square(away).mean(axis=0))
    if not (sizes > 0.0).all():
        raise InvalidInput("a coordinate of the encoder is the same in all frames; train another")
    return np.asarray(sizes * np.quantile(np.linalg.norm(away / sizes, axis=1), near))


def runs_near(
    latents: list[Floats], goal: Floats, radius: Floats, space: LatentSpace, fewest: int = FEWEST
) -> list[tuple[int, int, int]]:
    """Runs of at least `fewest` steps within the ellipse: episode, first frame, and the frame after the last.

    Args:
        latents: E arrays (T + 1, n).
        goal: (n,), the centre.
        radius: (n,), half axes of the ellipse.
        space: space of the latents.
        fewest: steps.
    """
    found: list[tuple[int, int, int]] = []
    for k, h in enumerate(latents):
        inside = np.linalg.norm(space.difference(goal, h) / radius, axis=1) <= 1.0
        edges = np.flatnonzero(np.diff(np.concatenate([[0], inside, [0]])))  # where runs begin, and where they ended
        found += [(k, a, b) for a, b in edges.reshape(-1, 2).tolist() if b - a > fewest]
    return found


def cut(
    latents: list[Floats], data: Trajectories, runs: list[tuple[int, int, int]]
) -> tuple[list[Floats], Trajectories]:
    """These runs as episodes of their own, with their latents; without true states."""
    parts = {"frames": [data.frames[k][a:b] for k, a, b in runs]}
    parts["actions"] = [data.actions[k][a : b - 1] for k, a, b in runs]
    if len(data.rewards):
        parts["rewards"] = [data.rewards[k][a : b - 1] for k, a, b in runs]
    return [latents[k][a:b] for k, a, b in runs], replace(data, **parts, info={})
