"""Resampling: halves that share nothing, and intervals that cover."""

import numpy as np
import pytest

from worldplan.errors import InvalidInput
from worldplan.eval.statistics.bootstrap import half_moments, resampled_counts


@pytest.mark.parametrize("rows", [2, 7, 10])
def test_halves_share_no_row(rows):
    """Cross-fitting is unbiased because the halves are independent. One shared row would spoil that."""
    for k in range(rows):  # a row of its own column: it weighs in the one half or in the other
        first, second = next(half_moments(np.eye(rows), 1, 0))
        assert (first[k, k] > 0) != (second[k, k] > 0)


def test_halves_are_resampled_separately():
    """With one seed for both, equal halves would be drawn alike, and their noise would not cancel."""
    half = np.random.default_rng(0).standard_normal((40, 3))
    draws = list(half_moments(np.concatenate([half, half]), 200, 0))[1:]
    noise = np.array([[first[0, 0], second[0, 0]] for first, second in draws])
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.3 and len(draws) == 200
    assert not np.allclose(noise[:, 0], noise[:, 1])


def test_counts_are_those_of_drawing_with_replacement():
    counts = np.concatenate(list(resampled_counts(5, 4000, 3)))
    assert counts.shape == (4000, 5) and (counts.sum(axis=1) == 5).all()
    assert counts.var() == pytest.approx(1 - 1 / 5, rel=0.1)  # binomial: 5 draws of chance 1/5
    with pytest.raises(InvalidInput):
        next(resampled_counts(1, 10, 0))
