"""Percentile bootstrap intervals from sums over rows, or over whole groups of rows (episodes)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldplan.arrays import Floats
from worldplan.checks import positive_int
from worldplan.errors import InvalidInput
from worldplan.eval.statistics.estimate import Estimate

LEVEL = 0.95
_CHUNK = 2**20  # counts drawn at once, to limit memory


def resampled_counts(size: int, resamples: int, seed: int | tuple[int, ...]) -> Iterator[Floats]:
    """How often each of `size` units comes up when as many are drawn with replacement (Efron 1979).

    Yields:
        Arrays (b, size) whose rows sum to `size`; `resamples` rows over all of them.

    Raises:
        InvalidInput: fewer than 2 units, or `resamples` is not an integer >= 1.
    """
    if positive_int("size", size) < 2:
        raise InvalidInput("a bootstrap needs at least 2 rows or groups; add rows, or leave the groups out")
    rng, left, rows = np.random.default_rng(seed), positive_int("resamples", resamples), max(1, _CHUNK // size)
    while left:
        b = min(rows, left)
        flat = rng.integers(size, size=(b, size)) + size * np.arange(b)[:, None]
        yield np.bincount(flat.ravel(), minlength=b * size).reshape(b, size).astype(np.float64)
        left -= b


def group_index(groups: ArrayLike | None, rows: int) -> NDArray[np.intp]:
    """Groups (rows,) of any labels as 0 ... G - 1; None makes each row its own group.

    Raises:
        InvalidInput: not one label per row.
    """
    if groups is None:
        return np.arange(rows)
    labels = np.asarray(groups)
    if labels.shape != (rows,):
        raise InvalidInput(f"groups must give one label for each of {rows} rows, got shape {labels.shape}")
    return np.unique(labels, return_inverse=True)[1].astype(np.intp).reshape(rows)


def resampled_sums(terms: Floats, groups: NDArray[np.intp], resamples: int, seed: int) -> Floats:
    """Column sums of `terms` (N, k) over bootstrap samples of whole groups, (resamples, k)."""
    sums = np.zeros((int(groups.max()) + 1, terms.shape[1]))
    np.add.at(sums, groups, terms)
    return np.concatenate([counts @ sums for counts in resampled_counts(len(sums), resamples, seed)])


def half_moments(rows: Floats, resamples: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """Second moments `X'X / N` of the first and of the second half of `rows` (N, q), for cross-fitting.

    Yields:
        Pairs of (q, q): those of the sample first, then of `resamples` bootstrap samples, each half drawn separately.
    """
    cut = len(rows) // 2
    halves = rows[:cut], rows[cut:]
    first, second = (x.T @ x / len(x) for x in halves)
    yield first, second
    yield from zip(*(_drawn_moments(x, resamples, (seed, k)) for k, x in enumerate(halves)), strict=True)


def over_views(moments: Floats, views: int) -> Floats:
    """Mean over the views of their own (q, q) blocks of moments (V q, V q)."""
    blocks = moments.reshape(views, len(moments) // views, views, -1)
    return np.asarray(np.mean([blocks[k, :, k] for k in range(views)], axis=0))


def _drawn_moments(x: Floats, resamples: int, seed: tuple[int, ...]) -> Iterator[Floats]:
    for counts in resampled_counts(len(x), resamples, seed):
        yield from (x.T @ (x * row[:, None]) / len(x) for row in counts)


def interval(value: float, draws: Floats) -> Estimate:
    """A value with the percentile interval of its bootstrap draws (B,), widened to hold the value if needed.

    Statistics like norms are larger in resamples than in the sample, so percentiles alone may miss the value. Draws
    that are not finite (resamples without spread) do not count.
    """
    finite = draws[np.isfinite(draws)]
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(finite) else (value, value)
    return Estimate(value, min(float(low), value), max(float(high), value))
