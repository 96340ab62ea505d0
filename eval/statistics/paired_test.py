"""The test that compares encoders by the costs of paired episodes, and whether it keeps its level on no difference."""

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
FLIPS = 999  # with the sample itself a thousand, so that a p-value can be exactly 5%
FEWEST = 12  # episodes: with fewer no split into halves could reach 5%


def paired_test(a: ArrayLike, b: ArrayLike, seed: int = 0) -> float:
    """Two-sided p-value of "paired episodes cost the same on average".

    If the sides do not differ, each difference `a_k - b_k` may as well have the other sign: the mean difference is held
    against those after random flips (Fisher 1935). Exact for any law of the costs, outliers and ties included, since
    the sample counts among the flips (Phipson and Smyth 2010).

    Args:
        a: (N,) cost of each episode on one side.
        b: (N,) on the other, the same episodes in the same order.
        seed: of the flips.

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
    rounding = 1e-12 * float(np.abs(difference).sum())  # what is equal must count as equal
    return float((1 + (flipped >= seen - rounding).sum()) / (1 + FLIPS))


@dataclass(frozen=True)
class NullTest:
    """How often an encoder was told from itself.

    Attributes:
        resamples: splits of its episodes into halves.
        rate: of splits whose halves differ at the 5% level, with its 95% interval.
    """

    resamples: int
    rate: Estimate

    @property
    def passed(self) -> bool:
        """Whether the interval reaches 5% or lies below."""
        return self.rate.low <= LEVEL


def false_positive_rate(
    costs: ArrayLike, *, resamples: int = 500, seed: int = 0, test: PairedTest = paired_test
) -> NullTest:
    """Compare one encoder's episodes with one another: random disjoint halves, paired at random.

    Given the costs, all halves are equally likely, so that a test of level 5% rejects at most 5% of the splits.

    Args:
        costs: (N,) per-episode costs, or ratios to the reference's; N >= `FEWEST`.
        resamples: splits.
        seed: of splits and flips.
        test: in place of `paired_test`.

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
