"""How far a latent of circles and lines is from the state: the error of the best affine map, in radians."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from worldplan.arrays import Floats, finite_vectors
from worldplan.errors import InvalidInput
from worldplan.eval.identifiability.regression import fit_affine
from worldplan.eval.statistics.bootstrap import interval, resampled_counts
from worldplan.eval.statistics.estimate import Estimate
from worldplan.planning.space import TURN, LatentSpace
from worldplan.provenance import Result

STARTS, ROUNDS = 8, 30  # angles to begin at: a line that follows a circle has a seam somewhere; and fits from each


@dataclass(frozen=True)
class AffineError(Result):
    """Root mean square error, radians, of the best affine map from latents to each joint's angle, with its interval."""

    joints: tuple[Estimate, ...]


def affine_error(
    latents: ArrayLike,
    angles: ArrayLike,
    space: LatentSpace,
    truth: LatentSpace,
    *,
    resamples: int = 500,
    seed: int = 0,
) -> AffineError:
    """Fit the best affine map of the group, `q = C h + b`, on these poses, and give its error for each joint.

    Errors on circles are the shorter way round. A circle of the latent enters an angle 1, 0 or -1 times, a line with
    any factor: other maps are not continuous. Lines alone cannot follow a whole circle; the error shows their seam.

    Args:
        latents: (N, n) in `space`.
        angles: (N, J) true angles, radians.
        space: of the latents.
        truth: which joints turn without limit (`circle`).
        resamples: bootstrap samples, over poses; the maps stay.
        seed: seed of these.

    Raises:
        InvalidInput: shapes that do not fit, or fewer than 10 poses for each coordinate.
    """
    h, q = finite_vectors("latents", latents, space.dim), finite_vectors("angles", angles, truth.dim)
    if h.ndim != 2 or q.ndim != 2 or len(h) != len(q) or len(h) < 10 * space.dim:
        raise InvalidInput(f"need latents (N, n) and angles (N, J), N >= {10 * space.dim}, got {h.shape} and {q.shape}")
    around, lines = h[:, space.circles], h[:, ~space.circles]
    turns = [np.array(c, dtype=np.float64) for c in product((-1, 0, 1), repeat=around.shape[1])]
    found = []
    for j, endless in enumerate(truth.circles):
        errors = (_residual(q[:, j] - around @ c, lines, bool(endless or c.any())) for c in turns)
        found.append(min(errors, key=lambda e: float(np.square(e).mean())))
    squares = np.square(np.stack(found, axis=1))
    draws = np.concatenate([counts @ squares / len(squares) for counts in resampled_counts(len(h), resamples, seed)])
    means = squares.mean(axis=0)
    return AffineError(tuple(interval(float(np.sqrt(m)), np.sqrt(d)) for m, d in zip(means, draws.T, strict=True)))


def _residual(target: Floats, lines: Floats, wrapped: bool) -> Floats:
    """Errors (N,) of the best `b + a' lines` for targets (N,), which count modulo a turn if `wrapped`."""
    y = target[:, None]
    if not wrapped:
        return np.asarray((y - fit_affine(lines, y)(lines))[:, 0])
    found = [_lifted(y, lines, float(centre)) for centre in np.arange(STARTS) * TURN / STARTS]
    return min(found, key=lambda e: float(np.square(e).mean()))


def _lifted(y: Floats, lines: Floats, centre: float) -> Floats:
    """Errors of a map that is fitted around an angle first, and then to the representatives nearest to its guesses."""
    circle, middle = LatentSpace("circle"), np.full_like(y, centre)
    near = np.abs(circle.difference(y, middle))[:, 0] < np.pi / 2
    few = near.sum() < 2 * (lines.shape[1] + 1)
    guess = middle if few else fit_affine(lines[near], circle.lift(y, middle)[near])(lines)
    for _ in range(ROUNDS):
        guess = fit_affine(lines, circle.lift(y, guess))(lines)
    return circle.difference(y, guess)[:, 0]
