"""Out-of-sample R2 of linear maps between latents and joint angles, by kind of label, with bootstrap intervals.

An image cannot tell an angle from the angle + 2 pi. R2 therefore depends on how the angle is written: as recorded,
wrapped to [-pi, pi), or as sine and cosine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from worldplan.arrays import Floats, finite_array, varies
from worldplan.errors import InvalidInput, UnknownName
from worldplan.eval.statistics.bootstrap import group_index, interval, resampled_sums
from worldplan.eval.statistics.estimate import Estimate
from worldplan.provenance import Result

LABEL_KINDS = ("unwrapped", "wrapped", "sincos")


def label_targets(angles: ArrayLike, kind: str) -> Floats:
    """Labels of one kind for joint angles (N, J), radians.

    "unwrapped": the angles as recorded, (N, J). "wrapped": moved by multiples of 2 pi into [-pi, pi), (N, J). "sincos":
    columns (sin 1, cos 1, sin 2, cos 2, ...), (N, 2 J).

    Raises:
        InvalidInput: not (N, J), or not finite.
        UnknownName: no such kind.
    """
    theta = _rows("angles", angles)
    if kind == "unwrapped":
        return theta
    if kind == "wrapped":
        return (theta + np.pi) % (2 * np.pi) - np.pi
    if kind == "sincos":
        return np.stack([np.sin(theta), np.cos(theta)], axis=2).reshape(len(theta), -1)
    raise UnknownName("label kind", kind, LABEL_KINDS)


@dataclass(frozen=True, eq=False)
class AffineMap:
    """`y ~ M x + b` with M (k, d) and b (k,)."""

    M: Floats
    b: Floats

    def __call__(self, x: Floats) -> Floats:
        """Predictions (N, k) for rows x (N, d)."""
        return np.asarray(x @ self.M.T + self.b)


def fit_affine(x: Floats, y: Floats) -> AffineMap:
    """Least squares of y (N, k) on x (N, d) with intercept; the map of least norm if x does not determine it."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    M = np.linalg.lstsq(x - mean_x, y - mean_y, rcond=None)[0].T  # centred: an offset costs no digits
    return AffineMap(M, mean_y - M @ mean_x)


@dataclass(frozen=True)
class R2:
    """Coefficient of determination `1 - sum (y - prediction)^2 / sum (y - mean)^2`; below 0 is worse than the mean.

    `total` sums over all columns, `per_block` over each block of columns; both have 95% intervals.
    """

    total: Estimate
    per_block: tuple[Estimate, ...]


def r2(
    y: Floats,
    prediction: Floats,
    *,
    block: int | None = None,
    groups: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> R2:
    """R2 of predictions (N, k) of y (N, k) that were fitted elsewhere, with percentile bootstrap intervals.

    Each block of `per_block` has `block` columns; None gives no blocks. Rows with the same label in `groups` (N,), such
    as an episode, are resampled as a whole. Raises InvalidInput if a block (or all of y) does not vary, or for fewer
    than two groups.
    """
    index = group_index(groups, len(y))
    centred, left = y - y.mean(axis=0), np.square(y - prediction)
    moving = varies(y)
    if not all(moving[k : k + (block or len(moving))].any() for k in range(0, len(moving), block or len(moving))):
        raise InvalidInput("a latent or a state is constant: R2 is not defined")
    terms = np.concatenate([np.ones((len(y), 1)), centred, np.square(centred), left], axis=1)
    # The first row is the sample itself. Sums of a resample are all that its R2 needs: nothing is fitted again.
    sums = np.concatenate([terms.sum(axis=0)[None], resampled_sums(terms, index, resamples, seed)])
    count, (first, second, errors) = sums[:, :1], np.split(sums[:, 1:], 3, axis=1)
    spread = second - np.square(first) / count
    columns = y.shape[1]
    width = columns if block is None else block
    blocks = [_ratio(errors[:, k : k + width], spread[:, k : k + width]) for k in range(0, columns, width)]
    return R2(_ratio(errors, spread), () if block is None else tuple(blocks))


def _ratio(errors: Floats, spread: Floats) -> Estimate:
    left, all_ = errors.sum(axis=1), spread.sum(axis=1)
    if not all_[0] > 0:
        raise InvalidInput("a latent or a state is constant: R2 is not defined")
    # A resample without spread (all from one group that does not vary) has no R2, only rounding over rounding.
    values = 1 - np.divide(left, all_, out=np.full_like(left, np.nan), where=all_ > 1e-12 * all_[0])
    return interval(float(values[0]), values[1:])


@dataclass(frozen=True)
class LabelFit(Result):
    """Out-of-sample R2 of linear regression against one kind of label, each with its 95% bootstrap interval.

    Attributes:
        latent_to_state: R2(h -> labels) over all joints: is the state in the latent, linearly?
        state_to_latent: R2(labels -> h) over all coordinates: is there nothing else in the latent?
        per_joint: R2(h -> labels of joint i); for "sincos" over the joint's two columns.
    """

    kind: str
    latent_to_state: Estimate
    state_to_latent: Estimate
    per_joint: tuple[Estimate, ...]


def label_fit(
    train_latents: ArrayLike,
    train_angles: ArrayLike,
    test_latents: ArrayLike,
    test_angles: ArrayLike,
    kind: str,
    *,
    groups: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> LabelFit:
    """Regress latents on labels and back on the training rows; judge on the test rows.

    Latents are (N, m) and (K, m); joint angles are (N, J) and (K, J), radians. Test rows should be of other episodes.
    Those with the same label in `groups` (K,), such as an episode, are not independent and are resampled as a whole.
    The fitted maps stay.

    Raises:
        InvalidInput: shapes that do not fit, too few training rows, fewer than two test groups, or latents or labels
            that do not vary.
        UnknownName: no such kind.
    """
    h, y = _rows("train_latents", train_latents), label_targets(train_angles, kind)
    h_test, y_test = _rows("test_latents", test_latents), label_targets(test_angles, kind)
    if len(h) != len(y) or len(h_test) != len(y_test) or h.shape[1] != h_test.shape[1] or y.shape[1] != y_test.shape[1]:
        raise InvalidInput(
            f"latents and angles do not fit: train {h.shape} and {y.shape}, test {h_test.shape} and {y_test.shape}"
        )
    needed = 2 * (max(h.shape[1], y.shape[1]) + 1)
    if len(h) < needed:
        raise InvalidInput(f"{len(h)} training rows are too few to fit {h.shape[1]} on {y.shape[1]}; need {needed}")
    to_label, to_latent = fit_affine(h, y)(h_test), fit_affine(y, h)(y_test)
    width = 2 if kind == "sincos" else 1
    forward = r2(y_test, to_label, block=width, groups=groups, resamples=resamples, seed=seed)
    back = r2(h_test, to_latent, groups=groups, resamples=resamples, seed=seed)
    return LabelFit(kind, forward.total, back.total, forward.per_block)


def _rows(name: str, value: ArrayLike) -> Floats:
    array = finite_array(name, value)
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidInput(f"{name} must be (N, k) with N, k > 0, got {array.shape}")
    return array
