"""Which of two measures ranks encoders as a third does."""

import numpy as np
import pytest

from worldplan.errors import InvalidInput
from worldplan.eval.statistics.correlation import correlate, spearman_difference


def test_difference_of_two_rank_correlations():
    rng = np.random.default_rng(0)
    y, noise = rng.normal(size=(2, 60))
    close, far = y + 0.2 * noise, y + 3 * noise
    found = spearman_difference(close, far, y)
    assert found.value == pytest.approx(correlate(close, y).spearman.value - correlate(far, y).spearman.value)
    assert 0 < found.low < found.value < found.high
    back = spearman_difference(far, close, y)
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))
    same = spearman_difference(close, np.exp(close), y)  # ranks alone count, and draws are shared
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_numbers_that_are_not_finite_are_left_out():
    x = np.array([1.0, 2.0, 3.0, 4.0, np.nan])
    assert spearman_difference(x, -x, np.array([1.0, 2.0, 3.0, 4.0, 0.0])).value == pytest.approx(2)
    assert np.isnan(spearman_difference(x[:2], x[:2], x[:2]).value)
    with pytest.raises(InvalidInput, match="length"):
        spearman_difference(x, x[:3], x)
