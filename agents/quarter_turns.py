"""Quarter turns of the image as charts of the latent: an angle near one chart's seam is near another's centre.

The Reacher seen from above looks the same after a quarter turn of the camera, except that the shoulder is a quarter
turn further. So one encoder gives four charts of the circle of shoulder angles. A continuous encoder of an angle has a
seam, where it runs through all its values, and errs most beside it. We plan in the chart in which start and goal lie
nearest the centre. This avoids the seam, and goes the shorter way round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldplan.arrays import Floats, Frames, some
from worldplan.errors import InvalidInput
from worldplan.learning.encoder import Encoder, encode

Charts = NDArray[np.int64]

TURNS = 4
_KEEP = 0.1  # quarter turns by which another chart must beat the upright one


def turn(frames: Frames, charts: Charts) -> Frames:
    """Frames (N, H, W, 3), each turned counter-clockwise by its number of quarter turns (N,)."""
    if not some(charts != 0):
        return frames
    if (charts == charts[0]).all():  # one agent in one episode: no need to sort rows
        return np.ascontiguousarray(np.rot90(frames, charts[0], axes=(1, 2)))
    turned = np.empty_like(frames)
    for k in range(TURNS):
        rows = charts % TURNS == k
        turned[rows] = np.rot90(frames[rows], k, axes=(1, 2))
    return turned


def encode_turned(encoder: Encoder, frames: Frames) -> Floats:
    """Latents (N, 4, n) of frames (N, H, W, 3) in all charts."""
    latents = [encode(encoder, turn(frames, np.full(len(frames), k))) for k in range(TURNS)]
    return np.stack(latents, axis=1)


@dataclass(frozen=True, eq=False)
class QuarterTurns:
    """What a quarter turn does to the latent: `h -> h + shift`, away from the seam.

    `shift` and `centre` are (n,), in latent units; `centre` is the latent in the middle of the charts. Raises
    InvalidInput if their shapes differ, a value is not finite or the shift is zero.
    """

    shift: Floats
    centre: Floats

    def __post_init__(self) -> None:
        shift, centre = np.array(self.shift, dtype=np.float64), np.array(self.centre, dtype=np.float64)
        if shift.ndim != 1 or shift.shape != centre.shape or not np.isfinite([shift, centre]).all() or not shift.any():
            raise InvalidInput(f"shift and centre must be finite vectors of one length, got {shift} and {centre}")
        object.__setattr__(self, "shift", shift)
        object.__setattr__(self, "centre", centre)

    def positions(self, latents: Floats) -> Floats:
        """Positions (N, 4) along the circle, in quarter turns from each chart's centre, of latents (N, 4, n).

        Near its seam a chart's reading is unreliable. Each of the four readings predicts the other three. We keep the
        predictions with the smallest sum of squared errors, each error capped at one quarter turn. (Absolute errors
        would tie the two middle readings.)
        """
        said = (latents - self.centre) @ self.shift / (self.shift @ self.shift)  # (N, 4)
        steps = np.arange(TURNS)
        # believed[i, k, j]: what chart j should say if chart k is right
        believed = _wrap(said[:, :, None] + steps[None, None, :] - steps[None, :, None])
        doubt = np.minimum(np.square(believed - said[:, None, :]), 1.0).sum(axis=2)
        return np.asarray(believed[np.arange(len(said)), doubt.argmin(axis=1)])

    def choose(self, starts: Floats, goals: Floats) -> Charts:
        """The chart (N,) in which the farther one of start and goal, latents (N, 4, n), lies nearest the centre."""
        far = np.maximum(np.abs(self.positions(starts)), np.abs(self.positions(goals)))
        far[:, 0] -= _KEEP
        return np.asarray(far.argmin(axis=1), dtype=np.int64)


def fit_quarter_turns(encoder: Encoder, frames: Frames) -> QuarterTurns:
    """Find what a quarter turn does to the latents of some frames (N, H, W, 3) of the world; no label is read.

    The shift is the geometric median of the differences of consecutive charts. Three of four differences are the shift;
    one jumps back over the seam. Unlike medians of coordinates, it turns with the latent.

    Raises InvalidInput if a turn has no such effect: the scene lacks fourfold symmetry, or the encoder misses it.
    """
    latents = encode_turned(encoder, frames)
    steps = (np.roll(latents, -1, axis=1) - latents).reshape(-1, latents.shape[-1])
    scale = float(np.sqrt(np.square(latents - latents.mean(axis=(0, 1))).sum(axis=-1).mean()))
    if not scale > 0:
        raise InvalidInput("the encoder gives the same latent for every frame")
    shift = np.zeros(latents.shape[-1])
    for _ in range(100):  # Weiszfeld 1937; a fixed number, so that it commutes with rotations
        weight = 1.0 / np.maximum(np.linalg.norm(steps - shift, axis=1), 1e-6 * scale)
        shift = weight @ steps / weight.sum()
    size = float(np.linalg.norm(shift))
    agree = float((np.linalg.norm(steps - shift, axis=1) < 0.5 * size).mean())
    if agree < 0.6:
        raise InvalidInput(
            f"only {agree:.0%} of the quarter turns shift the latent alike (three in four would): the frames have no "
            "fourfold symmetry that this encoder sees; plan without charts"
        )
    return QuarterTurns(shift, latents.mean(axis=(0, 1)))


def _wrap(position: Floats) -> Floats:
    """Quarter turns to [-2, 2)."""
    return (position + TURNS / 2) % TURNS - TURNS / 2
