"""Effective rank and significant directions."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from worldplan.errors import InvalidInput
from worldplan.eval.identifiability.spectrum import spectrum
from worldplan.planning.rotation import random_rotation


def white(seed, count, m):
    """Rows whose covariance is the identity in the sample."""
    x = np.random.default_rng(seed).standard_normal((count, m))
    return np.linalg.qr(x - x.mean(axis=0))[0] * np.sqrt(count)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 5), spare=st.integers(0, 3), offset=st.floats(-9, 9))
def test_k_equal_directions_have_rank_k(seed, k, spare, offset):
    h = np.pad(white(seed, 100, k), ((0, 0), (0, spare))) @ random_rotation(k + spare, seed).T + offset
    found = spectrum(h[:, None], resamples=2)
    assert found.effective_rank.value == pytest.approx(k, abs=1e-6)
    assert found.eigenvalues == pytest.approx(np.repeat([1.0, 0.0], [k, spare]), abs=1e-9)
    assert found.directions == k


def test_unequal_directions():
    h = white(0, 400, 3) * np.sqrt([4.0, 0.9, 0.1])
    found = spectrum(h.reshape(200, 2, 3), share=0.05, resamples=200)
    p = np.array([0.8, 0.18, 0.02])
    assert found.eigenvalues == pytest.approx(5 * p)
    assert found.effective_rank.value == pytest.approx(np.prod(p**-p))
    assert found.effective_rank.low < found.effective_rank.value < found.effective_rank.high
    assert found.directions == 2
    assert spectrum(h[:, None], share=0.01, resamples=2).directions == 3


def test_bad_input():
    for share in (-0.1, 1.0, np.nan):
        with pytest.raises(InvalidInput, match="share"):
            spectrum(white(0, 10, 2)[:, None], share=share)
    with pytest.raises(InvalidInput, match="does not vary"):
        spectrum(np.ones((10, 1, 2)))
