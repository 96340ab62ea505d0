"""Hermite energies against quadrature, known mixtures, and noise that must not count."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from worldplan.errors import InvalidInput
from worldplan.eval.identifiability.hermite import hermite_energy, hermite_features

seeds = st.integers(0, 2**32 - 1)


def states(seed, count=600, n=2):
    return np.random.default_rng(seed).standard_normal((count, 1, n))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_features_are_orthonormal(n):
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    grid = np.array(list(itertools.product(nodes, repeat=n)))
    weight = np.array([math.prod(w) for w in itertools.product(weights / weights.sum(), repeat=n)])
    features = [hermite_features(grid, d) for d in (1, 2, 3)]
    assert [f.shape[1] for f in features] == [math.comb(n + d - 1, d) for d in (1, 2, 3)]
    basis = np.column_stack([np.ones(len(grid)), *features])
    assert np.allclose(basis.T @ (basis * weight[:, None]), np.eye(basis.shape[1]), atol=1e-10)


@given(seed=seeds, degree=st.integers(1, 3))
def test_the_channel_attenuates_degree_d_by_rho_to_the_d(seed, degree):
    """E[psi(z') | z] = rho^d psi(z), by quadrature over the noise."""
    z = np.random.default_rng(seed).standard_normal((5, 2))
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    eta = np.array(list(itertools.product(nodes, repeat=2)))
    weight = np.outer(weights, weights).ravel() / weights.sum() ** 2
    expected = np.tensordot(weight, hermite_features(0.6 * z + 0.8 * eta[:, None], degree), axes=1)
    assert np.allclose(expected, 0.6**degree * hermite_features(z, degree), atol=1e-9)


@settings(max_examples=30)
@given(seed=seeds, amplitudes=st.tuples(*[st.floats(-1, 1)] * 3))
def test_shares_of_a_polynomial(seed, amplitudes):
    z = states(seed)
    one, two, three = (a * hermite_features(z, d)[..., :1] for d, a in enumerate(amplitudes, start=1))
    found = hermite_energy(one + two + three + hermite_features(z, 1)[..., 1:], z, resamples=2, seed=0)
    energy = np.square(amplitudes) + [1, 0, 0]
    assert [share.value for share in found.by_degree] == pytest.approx(energy / energy.sum(), abs=1e-9)
    assert found.rest.value == pytest.approx(0, abs=1e-9)


def test_each_latent_has_its_own_shares():
    z = states(0)
    first, second, third = (hermite_features(z, d)[..., 1] for d in (1, 2, 3))
    h = np.stack([first, 2 * second, third, 5 + 0 * first], axis=-1)
    found = hermite_energy(h, z, resamples=20)
    assert found.per_latent[:3] == pytest.approx(np.eye(3, 4), abs=1e-9)
    assert np.isnan(found.per_latent[3]).all()
    assert [share.value for share in found.by_degree] == pytest.approx([1 / 6, 4 / 6, 1 / 6])


def test_what_is_of_higher_degree_or_noise_is_rest():
    z = states(1, 4000)
    noise = np.random.default_rng(2).standard_normal((4000, 1, 1))
    h = np.sqrt([0.7, 0.2, 0.1]) @ np.stack([z[..., :1], hermite_features(z, 4)[..., :1], noise], axis=-2)
    found = hermite_energy(h, z, resamples=100)
    assert found.by_degree[0].value == pytest.approx(0.7, abs=0.05)
    assert found.rest.low < 0.3 < found.rest.high
    assert found.by_degree[1].value == pytest.approx(0, abs=0.02)
    assert hermite_energy(h, z, degrees=4, resamples=2).rest.value == pytest.approx(0.1, abs=0.02)


def test_noise_is_not_energy():
    """Coefficients fitted to noise explain P / N of it in sample; products across halves average to nothing."""
    fair, naive = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        z, h = rng.standard_normal((120, 1, 2)), rng.standard_normal((120, 1, 1))
        found = hermite_energy(h, z, resamples=1)
        fair.append(sum(share.value for share in found.by_degree))
        basis = np.column_stack([hermite_features(z[:, 0], d) for d in (1, 2, 3)])
        told = basis @ np.linalg.lstsq(basis, h[:, 0] - h.mean(), rcond=None)[0]
        naive.append(told.var() / h.var())
    error = np.std(fair) / np.sqrt(60)
    assert abs(np.mean(fair)) < 3 * error
    assert np.mean(naive) > 0.05 > 3 * error


def test_views_of_a_set_are_resampled_together():
    z = states(3, 300)
    h = z + 0.5 * np.random.default_rng(4).standard_normal(z.shape)
    once, twice = (hermite_energy(np.repeat(h, v, 1), np.repeat(z, v, 1), resamples=50) for v in (1, 2))
    assert twice.by_degree[0].value == pytest.approx(once.by_degree[0].value)
    assert twice.by_degree[0].low == pytest.approx(once.by_degree[0].low)  # a copy is no evidence


def test_bad_input():
    with pytest.raises(InvalidInput, match="too few"):
        hermite_energy(states(0, 99), states(0, 99))
    with pytest.raises(InvalidInput, match="does not vary"):
        hermite_energy(np.ones((200, 1, 2)), states(0, 200))
    with pytest.raises(InvalidInput, match="degree"):
        hermite_energy(states(0), states(0), degrees=0)
