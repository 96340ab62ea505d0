"""The generalised-normal world: all views of its law, exchangeable, correlated by rho; the published channel is not."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.special import gamma
from scipy.stats import gennorm, kstest

from worldplan.envs import worlds
from worldplan.envs.worlds import GeneralizedNormalWorld, OUWorld
from worldplan.errors import InvalidInput

N = 30_000
ALPHAS = (1.0, 2.0, 4.0, 8.0)
RHO = 0.9


def sample(alpha, rho=RHO, count=N, seed=0, **options):
    return GeneralizedNormalWorld(alpha=alpha, rho=rho, **options).sample(count, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def pairs():
    """Alpha -> (N, 2 views, 2 joints) of unit scale."""
    return {alpha: sample(alpha) for alpha in ALPHAS}


def published(alpha, rho, seed=0):
    """Negative control: `z' = rho z + sqrt(1 - rho^2) eta` with eta of the law of z."""
    z, eta = standardised(alpha).rvs((2, N, 2), random_state=np.random.default_rng(seed))
    return np.stack([z, rho * z + math.sqrt(1 - rho**2) * eta], axis=1)


def standardised(alpha):
    """The law by its formula: variance `s^2 gamma(3 / alpha) / gamma(1 / alpha)` is 1."""
    return gennorm(alpha, scale=math.sqrt(gamma(1 / alpha) / gamma(3 / alpha)))


def p_values(sample, alpha):
    """Kolmogorov-Smirnov, per view and joint."""
    law = standardised(alpha)
    return np.array([[kstest(sample[:, v, j], law.cdf).pvalue for j in range(2)] for v in range(2)])


def z_score(values):
    """How many standard errors the mean of independent values lies from 0."""
    return values.mean() / (values.std() / math.sqrt(values.size))


# --- both views have the law ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
def test_both_views_have_exactly_the_generalised_normal_law(pairs, alpha):
    assert pairs[alpha].shape == (N, 2, 2)
    assert p_values(pairs[alpha], alpha).min() > 1e-3
    nearest = {1.0: 2.0, 2.0: 4.0, 4.0: 8.0, 8.0: 4.0}[alpha]
    assert p_values(pairs[alpha], nearest).max() < 1e-6  # the test can tell the laws apart


@pytest.mark.parametrize("alpha", [1.0, 8.0])
def test_the_published_channel_is_not_stationary(alpha):
    """Negative control: the first view passes, the second does not; for the Gaussian law alone both do."""
    first, second = p_values(published(alpha, 0.7), alpha)
    assert first.min() > 1e-3
    assert second.max() < 1e-6
    assert p_values(published(2.0, 0.7), 2.0).min() > 1e-3


@pytest.mark.parametrize("alpha", [1.0, 16.0])
def test_the_law_stays_after_many_steps(alpha):
    assert p_values(sample(alpha, rho=0.3, count=10_000), alpha).min() > 1e-3


def test_without_rejection_the_law_would_be_lost(monkeypatch):
    """Negative control: the discretised diffusion has another law; with rejection the step may even be this large."""
    steps, step = 10, 0.2
    monkeypatch.setattr(worlds, "_calibrate", lambda alpha, rho: (steps, step))
    assert p_values(sample(1.0), 1.0).min() > 1e-3
    rng = np.random.default_rng(0)
    z = standardised(1.0).rvs((N, 2, 2), random_state=rng)
    for _ in range(steps):
        z, _ = worlds._propose(z, rng.standard_normal(z.shape), 1.0, step)
    assert p_values(z, 1.0).max() < 1e-6


# --- they are correlated by rho, and exchangeable -------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_views_are_correlated_by_rho(pairs, alpha):
    half = np.square(pairs[alpha][:, 0] - pairs[alpha][:, 1]) / 2  # of mean 1 - rho
    assert abs(z_score(half - (1 - RHO))) < 4
    assert abs(z_score(half - 1.05 * (1 - RHO))) > 4  # the sample would show 5%
    assert half.mean() == pytest.approx(1 - RHO, rel=0.02)


@pytest.mark.parametrize(("alpha", "rho"), [(1.0, 0.3), (8.0, 0.3), (1.0, 0.99), (8.0, 0.99), (16.0, 0.6)])
def test_the_correlation_holds_for_other_lags(alpha, rho):
    z = sample(alpha, rho, count=10_000, seed=1)
    assert abs(z_score(np.square(z[:, 0] - z[:, 1]) / 2 - (1 - rho))) < 4


def transition_matrix(alpha, step, cells=501):
    """Naive oracle: Metropolis-adjusted Langevin on equal cells, from the text-book formula; points and densities."""
    law = standardised(alpha)
    z = np.linspace(-1, 1, cells) * law.isf(1e-7)
    log_p = law.logpdf(z)
    slope = -alpha * np.sign(z) * np.abs(z) ** (alpha - 1) / law.kwds["scale"] ** alpha
    log_q = -np.square(z - (z + step * slope)[:, None]) / (4 * step)  # from row to column
    log_way = log_p[:, None] + log_q
    moves = np.exp(log_q + np.minimum(0, log_way.T - log_way)) * (z[1] - z[0]) / math.sqrt(4 * math.pi * step)
    np.fill_diagonal(moves, 0)
    return z, np.exp(log_p), moves + np.diag(1 - moves.sum(axis=1))


@settings(max_examples=5)
@given(alpha=st.floats(1.0, 16.0), rho=st.floats(0.3, 0.9))
def test_the_calibration_agrees_with_the_transition_matrix(alpha, rho):
    steps, step = worlds._calibrate(alpha, rho)
    assert steps >= 8
    z, density, P = transition_matrix(alpha, step)
    np.testing.assert_allclose(density @ P, density, atol=1e-12)  # stationary
    lag = np.linalg.matrix_power(P, 2 * steps) @ z  # from view to view by way of the centre
    assert (density * z) @ lag / ((density * z) @ z) == pytest.approx(rho, abs=2e-3 * (1 - rho))
    lag = np.linalg.matrix_power(P, 2 * steps + 1) @ z  # negative control: one step more would show
    assert abs((density * z) @ lag / ((density * z) @ z) - rho) > 2e-3 * (1 - rho)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_views_are_exchangeable(pairs, alpha):
    """A reversible chain looks the same backwards: antisymmetric functions of the pair have mean 0."""

    def asymmetries(sample):
        a, b = sample[:, 0], sample[:, 1]
        return [abs(z_score(a**3 * b - a * b**3)), abs(z_score(np.abs(a) * b**2 - a**2 * np.abs(b)))]

    assert max(asymmetries(pairs[alpha])) < 4
    if alpha in (1.0, 8.0):
        assert max(asymmetries(published(alpha, 0.7))) > 8  # negative control


def test_every_pair_of_more_views_is_correlated_by_rho():
    z = sample(1.0, rho=0.6, count=10_000, views=3)
    assert z.shape == (10_000, 3, 2)
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert abs(z_score(np.square(z[:, a] - z[:, b]) / 2 - 0.4)) < 4
    assert abs(z_score((z[:, 0] - z[:, 1]) * (z[:, 0] - z[:, 2]) - 0.4)) < 4  # E: 1 - rho
    around = z.copy()  # negative control: views drawn around the first one
    around[:, 1:] = 0.6 * z[:, :1] + 0.8 * np.random.default_rng(1).standard_normal((10_000, 2, 2))
    assert abs(z_score(np.square(around[:, 1] - around[:, 2]) / 2 - 0.4)) > 8


def test_joints_are_independent(pairs):
    for z in pairs.values():
        assert abs(z_score(z[:, 0, 0] * z[:, 1, 1])) < 4
        assert abs(z_score((z[:, 0, 0] ** 2 - 1) * (z[:, 1, 1] ** 2 - 1))) < 4


# --- alpha 2 is the Ornstein-Uhlenbeck world ------------------------------------------------------------------------

FOURTH = {
    "z z'": (lambda a, b: a * b, RHO),
    "z^2 z'^2": (lambda a, b: a**2 * b**2, 1 + 2 * RHO**2),
    "z^3 z'": (lambda a, b: a**3 * b, 3 * RHO),
    "z z'^3": (lambda a, b: a * b**3, 3 * RHO),
    "(z - z')^4": (lambda a, b: (a - b) ** 4, 12 * (1 - RHO) ** 2),
}


@pytest.mark.parametrize("moment", FOURTH)
def test_alpha_2_has_the_moments_of_the_ornstein_uhlenbeck_world(pairs, moment):
    f, exact = FOURTH[moment]
    for z in (pairs[2.0], OUWorld(rho=RHO).sample(N, np.random.default_rng(0))):
        assert abs(z_score(f(z[:, 0], z[:, 1]) - exact)) < 4


def test_another_reversible_gaussian_channel_of_the_same_correlation_has_other_moments():
    """Negative control: keep z with probability rho, else draw anew."""
    rng = np.random.default_rng(0)
    z, fresh = rng.standard_normal((2, N, 2))
    kept = np.where(rng.random((N, 2)) < RHO, z, fresh)
    errors = {name: abs(z_score(f(z, kept) - exact)) for name, (f, exact) in FOURTH.items()}
    assert errors["z z'"] < 4
    assert errors["(z - z')^4"] > 8
    assert errors["z^2 z'^2"] > 4


# --- the interface --------------------------------------------------------------------------------------------------


def test_scale_is_the_standard_deviation_of_each_joint_in_radians(pairs):
    scaled = sample(8.0, scale=(0.5, 2.0))
    np.testing.assert_allclose(scaled, pairs[8.0] * (0.5, 2.0), rtol=1e-15)
    assert scaled.std(axis=0) == pytest.approx(np.tile((0.5, 2.0), (2, 1)), rel=0.02)


def test_samples_depend_on_the_seed_and_on_nothing_else():
    first = sample(4.0, count=50, seed=1)
    worlds._calibrate.cache_clear()
    np.testing.assert_array_equal(first, sample(4.0, count=50, seed=1))
    assert not np.isclose(first, sample(4.0, count=50, seed=2)).any()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"alpha": 0.5}, "alpha must lie in"),
        ({"alpha": 17.0}, "alpha must lie in"),
        ({"alpha": math.nan}, "alpha must be a finite number"),
        ({"rho": 0.0}, "rho must lie in"),
        ({"rho": 1.0}, "rho must lie in"),
        ({"rho": math.nan}, "rho must be a finite number"),
        ({"scale": (1.0, 0.0)}, "two positive angles"),
        ({"scale": (1.0, math.inf)}, "scale must be 2 finite numbers"),
        ({"views": 1}, "at least 2 views"),
    ],
    ids=str,
)
def test_impossible_worlds_are_refused(wrong, says):
    with pytest.raises(InvalidInput, match=says):
        GeneralizedNormalWorld(**wrong)
