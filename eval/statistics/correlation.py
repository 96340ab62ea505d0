"""Correlation of two measures over a few encoders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from worldplan.arrays import Floats
from worldplan.errors import InvalidInput
from worldplan.eval.statistics.bootstrap import interval
from worldplan.eval.statistics.estimate import RESAMPLES, Estimate

FEWEST = 3  # pairs: two always lie on a line


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
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise InvalidInput(f"need two vectors of one length, got {x.shape} and {y.shape}")
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    n = len(x)
    undefined = Estimate(np.nan, np.nan, np.nan)
    if n < FEWEST:
        return Correlation(n, undefined, undefined)
    drawn = np.vstack([np.arange(n), np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))])  # the sample first
    pearson = _pearson(x[drawn], y[drawn])
    spearman = _pearson(rankdata(x[drawn], axis=1), rankdata(y[drawn], axis=1))
    found = [interval(float(r[0]), r[1:]) if np.isfinite(r[0]) else undefined for r in (spearman, pearson)]
    return Correlation(n, *found)


def _pearson(x: Floats, y: Floats) -> Floats:
    """Correlation of each row of x (B, n) with that of y; NaN for constant rows."""
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    size = np.sqrt(np.square(x).sum(axis=1) * np.square(y).sum(axis=1))
    r = np.divide((x * y).sum(axis=1), size, out=np.full(len(x), np.nan), where=size > 0)
    return np.asarray(r.clip(-1.0, 1.0))
