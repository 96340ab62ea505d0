"""Costs of pairs over their references': of the sums, and of each pair."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from worldplan.eval.control import Estimate, estimate, estimate_ratio

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ratios:
    """Costs of N decoded paths over their references'.

    Attributes:
        total: sum of the costs over the sum of the references'. The mean of the pairs' own ratios has no limit:
            decoding errs by some angle however near the goal is, and `E[1 / d^2]` diverges for poses in the plane.
        median: of the pairs' own ratios.
        p95: their 95th percentile.
    """

    total: Estimate
    median: Estimate
    p95: Estimate


def ratios(cost: Floats, reference: Floats, seed: int) -> Ratios:
    """Ratios of costs (N,) to their references' (N,), with bootstrap intervals over the pairs."""
    each = cost / reference
    p95 = partial(np.percentile, q=95)
    return Ratios(estimate_ratio(cost, reference, seed), estimate(each, np.median, seed), estimate(each, p95, seed))
