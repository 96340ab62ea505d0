"""Up to a rotation, or up to a rotation and one shared monotone map."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from worldplan.eval.identifiability.rotation_fit import best_rotation, rotation_fit
from worldplan.planning.rotation import random_rotation

seeds = st.integers(0, 2**32 - 1)


def judge(encode, n=2, count=2000, **options):
    z = np.random.default_rng(0).standard_normal((count, n))
    h, half = encode(z), count // 2
    return rotation_fit(h[:half], z[:half], h[half:], z[half:], **{"resamples": 50, **options})


@given(seed=seeds, m=st.integers(1, 4), n=st.integers(1, 4))
def test_no_other_rotation_is_better(seed, m, n):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((20, n))
    z -= z.mean(axis=0)
    h = z @ rng.standard_normal((n, m)) + rng.standard_normal((20, m)) + 3.0
    found = best_rotation(z, h)
    gram = found.M.T @ found.M if m >= n else found.M @ found.M.T
    assert np.allclose(gram, np.eye(min(m, n)), atol=1e-9)
    least = np.square(h - found(z)).sum()
    for _ in range(10):
        near = random_rotation(max(m, n), rng)[:m, :n]
        offset = h.mean(axis=0) - near @ z.mean(axis=0)
        # In a sample z is not quite white: what a wide Q leaves out of z has to count, or it would pick small z.
        left_out = np.square(z).sum() - np.square(z @ near.T).sum() if m < n else 0.0
        left_in = np.square(z).sum() - np.square(z @ found.M.T).sum() if m < n else 0.0
        assert np.square(h - z @ near.T - offset).sum() + left_out >= least + left_in - 1e-9
        assert np.square(h - found(z) - 0.1 * rng.standard_normal(m)).sum() >= least - 1e-9


@settings(max_examples=30)
@given(seed=seeds, n=st.integers(1, 3), spare=st.integers(0, 2))
def test_a_rotation_needs_no_warp(seed, n, spare):
    Q = random_rotation(n + spare, seed)[:, :n]
    found = judge(lambda z: z @ Q.T - 2.0, n, count=400, resamples=2)
    assert np.allclose(found.Q, Q, atol=1e-9)
    assert np.allclose(found.offset, -2.0, atol=1e-9)
    assert found.rotation.value == pytest.approx(1)
    assert found.monotone.value == pytest.approx(1)


@pytest.mark.parametrize("warp", [np.tanh, np.cbrt, lambda z: z + 0.3 * z**3, lambda z: np.exp(z / 2) - 1])
def test_a_shared_monotone_warp_is_undone(warp):
    Q = random_rotation(2, 1)
    found = judge(lambda z: warp(z) @ Q.T)
    assert found.rotation.high < 0.97
    assert found.monotone.low > 0.985


def test_a_scale_is_a_monotone_map_but_no_rotation():
    found = judge(lambda z: 2 * z)
    assert found.rotation.value == pytest.approx(0, abs=0.02)  # 1 - (2 - 1)^2
    assert found.monotone.value == pytest.approx(1, abs=0.005)


def test_warps_that_are_not_shared_or_not_monotone_stay():
    own = judge(lambda z: np.column_stack([z[:, 0] ** 3 / 4, np.tanh(3 * z[:, 1])]))
    assert own.monotone.high < 0.95
    even = judge(lambda z: (z**2 - 1) / np.sqrt(2))
    assert even.monotone.high < 0.4


def test_a_collapsed_coordinate():
    found = judge(lambda z: np.column_stack([z[:, 0], np.full(len(z), 7.0)]))
    assert found.rotation.value == pytest.approx(0.5, abs=0.03)
    assert found.monotone.value == pytest.approx(0.5, abs=0.05)


def test_noise_is_judged_on_other_rows():
    rng = np.random.default_rng(1)
    found = judge(lambda z: z + 0.5 * rng.standard_normal(z.shape))
    assert found.rotation.value == pytest.approx(0.75, abs=0.03)  # 1 - .25; what is best shrinks: 1 / 1.25
    assert found.monotone.value == pytest.approx(0.8, abs=0.03)
    assert judge(lambda z: rng.standard_normal(z.shape)).monotone.value < 0.02
