"""Generalised-normal laws: the stationary channel keeps them, the published one does not; promises are as known."""

import math

import numpy as np
import pytest
from scipy.stats import gennorm, kstest

from worldplan.envs.worlds import GeneralizedNormalWorld
from worldplan.errors import InvalidInput
from worldplan.eval.laboratory.laws import CHANNELS, Law

SHAPES = 0.5, 1.0, 2.0, 8.0, 32.0
COUNT, RHO = 40_000, 0.6


def pairs(shape, channel, seed=0, rho=RHO):
    return Law(shape).pairs(COUNT, 2, rho, channel, np.random.default_rng(seed))


def p_values(z, shape):
    """Kolmogorov-Smirnov of both views, coordinates together."""
    law = gennorm(shape, scale=1 / gennorm.std(shape))
    return [kstest(z[:, view].ravel(), law.cdf).pvalue for view in (0, 1)]


def z_score(values):
    return values.mean() / (values.std() / math.sqrt(values.size))


@pytest.mark.parametrize("shape", SHAPES)
def test_both_views_of_the_stationary_channel_have_the_law(shape):
    z = pairs(shape, "stationary")
    assert min(p_values(z, shape)) > 1e-3
    for moment in (np.abs, np.square):
        first, second = moment(z[:, 0]), moment(z[:, 1])
        assert abs(z_score(first - second)) < 4
    first, second = p_values(pairs(shape, "published"), shape)  # negative control
    assert first > 1e-3
    assert (second > 1e-3) == (shape == 2)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_pairs_are_correlated_by_rho(shape, channel):
    z = pairs(shape, channel, seed=1)
    assert abs(z_score(z[:, 0] * z[:, 1] - RHO * np.square(z[:, 0]))) < 4
    assert abs(z_score(z[:, 0] * z[:, 1] - 0.9 * RHO * np.square(z[:, 0]))) > 4  # the sample would show a tenth
    assert abs(z_score(z[:, 0, 0] * z[:, 1, 1])) < 4  # latents are independent


def test_a_heavy_law_is_correlated_by_rho_exactly():
    """Its samples show little: few values hold most of the variance."""
    for shape in (0.125, 0.25):
        law = Law(shape)
        joint = law.joint(RHO, "stationary")
        np.testing.assert_allclose(joint.sum(axis=1), law.weights, atol=1e-7)
        assert law.means @ joint @ law.means == pytest.approx(RHO, abs=1e-3)
        assert law.weights @ np.square(law.means) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("shape", [1.0, 8.0])
def test_the_diffusion_agrees_with_small_steps_of_time(shape):
    """Metropolis-adjusted Langevin chains of `envs.worlds` have the same moments of pairs; another channel has not."""
    chains = GeneralizedNormalWorld(alpha=shape, rho=RHO).sample(COUNT, np.random.default_rng(0))
    cells, other = pairs(shape, "stationary"), pairs(shape, "published")
    functions = [
        lambda a, b: np.minimum((a - b) ** 2, 4.0),
        lambda a, b: np.tanh(a) * np.tanh(b),
        lambda a, b: np.minimum(np.abs(a), 1.0) * np.minimum(np.abs(b), 1.0),
    ]
    found = []
    for f in functions:
        one, two, three = (f(z[:, 0], z[:, 1]).ravel() for z in (chains, cells, other))
        error = math.sqrt((one.var() + two.var()) / one.size)
        assert abs(one.mean() - two.mean()) < 4 * error
        found.append(abs(one.mean() - three.mean()) / error)
    assert max(found) > 8


def test_gaussian_eigenfunctions_are_hermites():
    law = Law(2.0)
    rates, functions = law.spectrum
    np.testing.assert_allclose(rates[:4], [0, 1, 2, 3], atol=2e-3)
    second = (np.square(law.points) - 1) / math.sqrt(2)
    assert (law.weights @ (functions[:, 2] * second)) ** 2 == pytest.approx(1, abs=1e-3)
    assert law.lag(0.5) == pytest.approx(math.log(2), abs=1e-3)


def test_promises_are_known_at_both_ends():
    """1 for Gauss's law; a sine on an interval, `96 / pi^4`, and `3 / pi` if bent to be Gaussian, for a uniform one."""
    for channel in CHANNELS:
        assert Law(2.0).promise(RHO, channel) == pytest.approx(1, abs=1e-6)
        assert max(Law(shape).promise(RHO, channel) for shape in (1.2, 4.0)) < 0.998
    assert Law(100.0).promise(RHO, "stationary") == pytest.approx(96 / math.pi**4, abs=1e-3)
    assert Law(100.0).gaussian_promise() == pytest.approx(3 / math.pi, abs=1e-3)
    assert Law(2.0).gaussian_promise() == pytest.approx(1, abs=1e-4)
    assert Law(1.5).discrete and not Law(1.0).discrete


def test_no_function_of_a_latent_aligns_better_than_the_promised_one():
    """Of odd powers and sines, on sampled pairs of the stationary channel: canonical correlation finds the same R2."""
    z = pairs(8.0, "stationary", seed=2).transpose(1, 0, 2).reshape(2, -1)
    basis = np.stack([z, z**3, np.sin(z), np.sin(2 * z)], axis=-1)
    spread = sum(np.cov(view.T) for view in basis) / 2
    lagged = np.mean([basis[0].T @ basis[1], basis[1].T @ basis[0]], axis=0) / z.shape[1]
    values, vectors = np.linalg.eig(np.linalg.solve(spread, lagged))
    best = basis[0] @ vectors[:, values.real.argmax()].real
    assert np.corrcoef(best, z[0])[0, 1] ** 2 == pytest.approx(Law(8.0).promise(RHO, "stationary"), abs=3e-3)


def test_same_seed_same_pairs():
    law = Law(8.0)
    first, second, other = (law.pairs(50, 2, RHO, "stationary", np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.isclose(first, other).any()


@pytest.mark.parametrize("shape", [0.01, 101.0, math.nan])
def test_impossible_shapes(shape):
    with pytest.raises(InvalidInput, match="shape"):
        Law(shape)
