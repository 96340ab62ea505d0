"""Symmetries of a world: what an image may undergo, and what the actions then are.

A symmetry turns each recorded window into another one that the world could have shown. The user states it; nothing
checks it. For a planar arm seen from above, both of these hold, but for light and a drawn target.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldplan.arrays import Floats, Frames
from worldplan.checks import check_name

SYMMETRIES = ("mirror", "turns")
"""`mirror`: upside down, with the opposite actions. `turns`: quarter turns, with the same actions."""


def check_symmetries(names: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple. Raises UnknownName for one that is not in `SYMMETRIES`."""
    for name in names:
        check_name("symmetry", name, SYMMETRIES)
    return tuple(names)


def transform(
    frames: Frames, actions: Floats, names: Sequence[str], share: float, rng: np.random.Generator
) -> tuple[Frames, Floats]:
    """Copies of windows' frames (B, V, H, W, 3) and features of actions (B, p), each moved by random symmetries.

    A window is left as it is with probability 1 - `share`. Quarter turns need square frames.
    """
    frames, actions = frames.copy(), actions.copy()
    chosen = rng.random(len(frames)) < share
    if "mirror" in names:
        mirrored = chosen & (rng.random(len(frames)) < 0.5)
        frames[mirrored] = frames[mirrored][:, :, ::-1]
        actions[mirrored] *= -1.0
    if "turns" in names:
        turns = np.where(chosen, rng.integers(4, size=len(frames)), 0)
        for k in (1, 2, 3):
            frames[turns == k] = np.rot90(frames[turns == k], k, axes=(2, 3))
    return frames, actions
