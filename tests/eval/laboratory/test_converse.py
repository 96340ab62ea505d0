"""The converse: warp is told from other loss, and a peak from none."""

import numpy as np
import pytest

from worldplan.eval.laboratory.converse import Found, measured, peak, warp
from worldplan.eval.laboratory.laws import Law

TURN = np.array([[0.6, -0.8], [0.8, 0.6]])


def states(shape=8.0):
    return Law(shape).draw((2, 4000, 2), np.random.default_rng(0))


def test_one_shared_monotone_map_is_warp():
    """Two different maps, or noise, are not."""
    train, test = states()
    shared = measured(lambda z: np.sinh(2 * z) @ TURN.T, 8.0, train, test)
    assert shared.linear < 0.95 and shared.monotone > 0.999
    assert warp(shared) > 0.99
    each = measured(lambda z: np.stack([np.sinh(2 * z[:, 0]), np.arctan(4 * z[:, 1])], axis=1), 8.0, train, test)
    assert each.monotone < 0.98 and warp(each) < 0.7
    folded = measured(lambda z: np.abs(z) @ TURN.T, 8.0, train, test)
    assert folded.monotone < 0.1


def test_scale_and_shear_are_whitened_first():
    train, test = states()
    found = measured(lambda z: z @ np.array([[3.0, 0.0], [1.0, 0.2]]) + 5.0, 8.0, train, test)
    assert found.rotation > 0.995 and found.linear == pytest.approx(1)


def encoders(shape, *values):
    return [Found(shape, value, value, value) for value in values]


def test_a_peak_needs_both_neighbours_below():
    low, high = (0.90, 0.91, 0.92), (0.99, 0.99, 0.98)
    by_shape = {shape: encoders(shape, *(high if shape == 2 else low)) for shape in (1.0, 2.0, 4.0)}
    assert peak(by_shape).told and peak(by_shape).shape == 2
    assert peak(by_shape).heavier.value == pytest.approx(np.mean(high) - np.mean(low))
    by_shape[4.0] = encoders(4.0, 0.97, 0.995, 0.98)  # below in the mean only
    assert not peak(by_shape).told
    by_shape[8.0] = encoders(8.0, 1.0, 1.0, 1.0)  # shape 2 is above its neighbours, and no peak
    by_shape[4.0] = encoders(4.0, *low)
    assert not peak(by_shape).told and peak(by_shape).shape == 8
    assert not peak({shape: encoders(shape, 1.0 if shape == 2 else 0.5) for shape in (1.0, 2.0, 4.0)}).told  # one seed
    assert peak({2.0: encoders(2.0, 1.0)}) is None
