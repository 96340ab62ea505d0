"""Numbers with intervals, from samples: means, ratios of sums, rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap

from worldplan.arrays import Floats
from worldplan.rounding import bounds, rounded

RESAMPLES = 2000
p95 = partial(np.percentile, q=95)


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Value and interval, three digits."""
        return f"{rounded(self.value)} [{', '.join(bounds(self.value, self.low, self.high))}]"


def estimate(samples: Floats, statistic: Callable[..., Any] = np.mean, seed: int = 0) -> Estimate:
    """A statistic of samples (N,) with its percentile bootstrap interval; NaN for no samples."""
    if not len(samples):
        return Estimate(np.nan, np.nan, np.nan)
    value = float(statistic(samples))
    if len(samples) < 2 or np.ptp(samples) == 0:
        return Estimate(value, value, value)
    rng = np.random.default_rng(seed)
    interval = bootstrap((samples,), statistic, n_resamples=RESAMPLES, method="percentile", rng=rng).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high))


def estimate_ratio(cost: Floats, reference: Floats, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Sum of costs (N,) over sum of references (N,), with a percentile bootstrap interval over the pairs."""
    value = float(_of_sums(cost, reference)) if len(cost) else np.nan
    if len(cost) < 2:
        return Estimate(value, value, value)
    samples, rng = (cost, reference), np.random.default_rng(seed)
    options: dict[str, Any] = {"n_resamples": resamples, "method": "percentile", "paired": True, "rng": rng}
    found = bootstrap(samples, _of_sums, **options).confidence_interval
    return Estimate(value, float(found.low), float(found.high))


def _of_sums(cost: Floats, reference: Floats, axis: int = -1) -> Any:
    return cost.sum(axis=axis) / reference.sum(axis=axis)


def estimate_rate(success: NDArray[np.bool_]) -> Estimate:
    """A rate with its Wilson interval."""
    interval = binomtest(int(success.sum()), len(success)).proportion_ci(method="wilson")
    return Estimate(float(success.mean()), float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Ratios:
    """Costs of N decoded paths over their references'.

    `total` is the ratio of the sums; `median` and `p95` are those of the pairs' own ratios. Their mean has no limit.
    Decoding errs by some angle even near the goal, and `E[1 / d^2]` diverges for poses in the plane.
    """

    total: Estimate
    median: Estimate
    p95: Estimate


def ratios(cost: Floats, reference: Floats, seed: int) -> Ratios:
    """`Ratios` of costs (N,) and references (N,), with bootstrap intervals over the pairs."""
    each = cost / reference
    return Ratios(estimate_ratio(cost, reference, seed), estimate(each, np.median, seed), estimate(each, p95, seed))
