"""A paired permutation test on episode costs, and a check of how often it rejects without a difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from worldplan.arrays import Floats, finite_array
from worldplan.checks import positive_int
from worldplan.errors import InvalidInput
from worldplan.eval.statistics.estimate import Estimate, estimate_rate

PairedTest = Callable[[Floats, Floats, int], float]
"""Costs of two sides (N,) and a seed to a p-value."""

LEVEL = 0.05
FLIPS = 999  # 1000 with the sample, so that a p-value can be exactly 5%
FEWEST = 12  # episodes: with fewer, no split into halves could reach 5%


def paired_test(a: ArrayLike, b: ArrayLike, seed: int = 0) -> float:
    """Two-sided p-value of "paired episodes cost the same on average".

    `a` and `b` (N,) are the costs of the same episodes in the same order. If the sides do not differ, each difference
    `a_k - b_k` may as well have the other sign. The mean difference is compared with those after random flips (Fisher
    1935). The sample counts among the flips (Phipson and Smyth 2010). The test is therefore exact for any law of the
    costs, outliers and ties included.

    Raises:
        InvalidInput: not two arrays (N,) of finite costs, N >= 1.
    """
    first, second = finite_array("a", a), finite_array("b", b)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise InvalidInput(f"need costs (N,) of the same episodes, got {first.shape} and {second.shape}")
    difference = first - second
    total = float(difference.sum())
    kept = np.random.default_rng(seed).integers(0, 2, (FLIPS, len(difference)))  # the others are flipped
    flipped, seen = np.abs(2 * (kept @ difference) - total), abs(total)
    rounding = 1e-12 * float(np.abs(difference).sum())  # equal sums must compare as equal
    return float((1 + (flipped >= seen - rounding).sum()) / (1 + FLIPS))


@dataclass(frozen=True)
class NullTest:
    """Share `rate` of `resamples` random splits of an encoder's episodes whose halves differ at the 5% level."""

    resamples: int
    rate: Estimate

    @property
    def passed(self) -> bool:
        """Whether the interval reaches 5% or lies below."""
        return self.rate.low <= LEVEL


def false_positive_rate(
    costs: ArrayLike, *, resamples: int = 500, seed: int = 0, test: PairedTest = paired_test
) -> NullTest:
    """Test an encoder's costs (N,), N >= `FEWEST`, against themselves: random disjoint halves, paired at random.

    Given the costs, all halves are equally likely, so a test of level 5% rejects at most 5% of the splits. Costs may
    also be ratios to the reference's.

    Raises:
        InvalidInput: too few costs, or costs that are not finite.
    """
    values = finite_array("costs", costs)
    if values.ndim != 1 or len(values) < FEWEST:
        raise InvalidInput(f"need the costs (N,) of {FEWEST} episodes or more, got shape {values.shape}")
    rng, half = np.random.default_rng(seed), len(values) // 2
    rejected = []
    for k in range(positive_int("resamples", resamples)):
        order = rng.permutation(values)
        rejected.append(test(order[:half], order[half : 2 * half], seed + 1 + k) <= LEVEL)
    return NullTest(resamples, estimate_rate(np.array(rejected)))
