"""Symmetries of a world: what an image may undergo, and what the actions then are.

A symmetry turns each recorded window into another one that the world could have shown. The user states it; nothing
checks it. For a planar arm seen from above, both of these hold, but for light and a drawn target.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldplan.arrays import Floats, Frames
from worldplan.checks import check_name

SYMMETRIES = ("mirror", "turns", "shifts")
"""What each does to both frames of a window: `mirror` turns them upside down, with the opposite actions; `turns` by
quarter turns, with the same actions; `shifts` moves both by the same few pixels, with the same actions, as a camera
that hangs askew would see any world.
"""

FARTHEST = 1 / 16  # of a side, for shifts


def check_symmetries(names: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple. Raises UnknownName for one that is not in `SYMMETRIES`."""
    for name in names:
        check_name("symmetry", name, SYMMETRIES)
    return tuple(names)


def transform(
    frames: Frames,
    actions: Floats,
    names: Sequence[str],
    share: float,
    rng: np.random.Generator,
    among: tuple[int, slice] | None = None,
) -> tuple[Frames, Floats]:
    """Copies of windows' frames (B, V, H, W, 3) and features of actions (B, p), each moved by random symmetries.

    A window is left as it is with probability 1 - `share`. Quarter turns need square frames. `among` is the number of
    windows for which `rng` draws, and which of them these are; by default they are all.
    """
    frames, actions = frames.copy(), actions.copy()
    count, mine = among or (len(frames), slice(None))
    chosen = rng.random(count)[mine] < share
    if "mirror" in names:
        mirrored = chosen & (rng.random(count)[mine] < 0.5)
        frames[mirrored] = frames[mirrored][:, :, ::-1]
        actions[mirrored] *= -1.0
    if "turns" in names:
        turns = np.where(chosen, rng.integers(4, size=count)[mine], 0)
        for k in (1, 2, 3):
            frames[turns == k] = np.rot90(frames[turns == k], k, axes=(2, 3))
    if "shifts" in names:
        side = frames.shape[2]
        most = max(1, round(FARTHEST * side))
        moves = np.where(chosen[:, None], rng.integers(-most, most + 1, size=(count, 2))[mine], 0)
        places = (np.arange(side) + moves[:, :, None]).clip(0, side - 1)  # the margin is repeated
        rows, columns = places[:, 0, None, :, None], places[:, 1, None, None, :]
        index = np.arange(len(frames))[:, None, None, None], np.arange(frames.shape[1])[None, :, None, None]
        frames = frames[*index, rows, columns]
    return frames, actions
