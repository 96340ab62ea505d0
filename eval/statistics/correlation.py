"""Correlation of two measures over a few encoders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from worldplan.arrays import Floats
from worldplan.errors import InvalidInput
from worldplan.eval.statistics.bootstrap import interval
from worldplan.eval.statistics.estimate import RESAMPLES, Estimate

FEWEST = 3  # pairs: two always lie on a line
UNDEFINED = Estimate(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Correlation:
    """Rank and linear correlation over n encoders, with bootstrap intervals over encoders; NaN where undefined."""

    n: int
    spearman: Estimate
    pearson: Estimate


def correlate(x: Floats, y: Floats, seed: int = 0) -> Correlation:
    """Correlations of x (n,) and y (n,); pairs with a non-finite number are left out.

    Raises:
        InvalidInput: shapes differ.
    """
    x, y = _finite(x, y)
    if len(x) < FEWEST:
        return Correlation(len(x), UNDEFINED, UNDEFINED)
    drawn = _drawn(len(x), seed)
    found = _spearman(x[drawn], y[drawn]), _pearson(x[drawn], y[drawn])
    return Correlation(len(x), *map(_estimated, found))


def spearman_difference(x: Floats, other: Floats, y: Floats, seed: int = 0) -> Estimate:
    """By how much Spearman's correlation of x (n,) with y (n,) exceeds that of `other` (n,), with its interval.

    Each resample draws the same encoders for both. Encoders with a non-finite number are left out.

    Raises:
        InvalidInput: shapes differ.
    """
    x, other, y = _finite(x, other, y)
    if len(x) < FEWEST:
        return UNDEFINED
    drawn = _drawn(len(x), seed)
    return _estimated(_spearman(x[drawn], y[drawn]) - _spearman(other[drawn], y[drawn]))


def _finite(*vectors: Floats) -> list[Floats]:
    arrays = [np.asarray(vector, dtype=np.float64) for vector in vectors]
    shapes = [array.shape for array in arrays]
    if arrays[0].ndim != 1 or len(set(shapes)) > 1:
        raise InvalidInput(f"need vectors of one length, got {' and '.join(map(str, shapes))}")
    kept = np.all(np.isfinite(arrays), axis=0)
    return [array[kept] for array in arrays]


def _drawn(n: int, seed: int) -> NDArray[np.intp]:
    """Indices (1 + RESAMPLES, n) of bootstrap samples; the sample itself comes first."""
    return np.vstack([np.arange(n), np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))])


def _estimated(draws: Floats) -> Estimate:
    return interval(float(draws[0]), draws[1:]) if np.isfinite(draws[0]) else UNDEFINED


def _spearman(x: Floats, y: Floats) -> Floats:
    return _pearson(rankdata(x, axis=1), rankdata(y, axis=1))


def _pearson(x: Floats, y: Floats) -> Floats:
    """Correlation of each row of x (B, n) with that of y; NaN for constant rows."""
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    size = np.sqrt(np.square(x).sum(axis=1) * np.square(y).sum(axis=1))
    r = np.divide((x * y).sum(axis=1), size, out=np.full(len(x), np.nan), where=size > 0)
    return np.asarray(r.clip(-1.0, 1.0))
