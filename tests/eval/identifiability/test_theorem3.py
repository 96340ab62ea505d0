"""Theorem 3 measured: each number where theory puts it, the bound holds, and a broken formula is found out."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from worldplan.eval.identifiability import theorem3 as bounds
from worldplan.eval.identifiability.hermite import hermite_features
from worldplan.eval.identifiability.theorem3 import distortion, excess_alignment, isometry, theorem3_bound
from worldplan.planning.rotation import random_rotation

seeds = st.integers(0, 2**32 - 1)


def pairs(seed, count=2000, n=2, rho=0.5):
    first, noise = np.random.default_rng(seed).standard_normal((2, count, n))
    return np.stack([first, rho * first + np.sqrt(1 - rho**2) * noise], axis=1)


def polynomial(z, seed, m, sizes):
    """A random encoder: linear, quadratic and cubic parts and noise of given energies a coordinate."""
    rng = np.random.default_rng(seed)
    parts = [hermite_features(z, d) for d in (1, 2, 3)]
    maps = [isometry(rng.standard_normal((m, p.shape[-1]))) for p in parts]
    h = sum(np.sqrt(s) * p @ M.T for p, M, s in zip(parts, maps, sizes, strict=False))
    return h + np.sqrt(sizes[3]) * rng.standard_normal(h.shape)


# --- the formulas ---------------------------------------------------------------------------------------------------


def test_the_bound():
    assert theorem3_bound(0.1, 0.2, 0.5) == pytest.approx((0.4, 0.4 + 0.5**2))
    assert theorem3_bound(0.1, 0.2, 0.99)[0] == pytest.approx(0.2 / (2 * 0.99 * 0.01))
    assert theorem3_bound(0.1, -0.2, 0.5) == pytest.approx((0, 0.01))


@given(seed=seeds, m=st.integers(1, 4), n=st.integers(1, 4))
def test_the_isometry_is_the_nearest(seed, m, n):
    rng = np.random.default_rng(seed)
    M = rng.standard_normal((m, n))
    Q = isometry(M)
    assert np.allclose(Q.T @ Q if m >= n else Q @ Q.T, np.eye(min(m, n)), atol=1e-9)
    for _ in range(10):
        other = random_rotation(max(m, n), rng)[:m, :n]
        assert np.linalg.norm(M - Q) <= np.linalg.norm(M - other) + 1e-9
    # the step of the proof that ties ||M - Q|| to the covariance
    assert np.linalg.norm(M - Q) <= np.linalg.norm(M @ M.T - np.eye(m)) + 1e-9


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.9])
def test_delta_is_the_alignment_loss_beyond_what_energy_costs(rho):
    """By the definition, through L, and by the attenuation of each degree; the residual's estimate is less noisy."""
    energies = np.array([0.8, 0.1, 0.06, 0.04])
    estimates, naive = [], []
    for seed in range(20):
        z = pairs(seed, 1500, rho=rho)
        h = polynomial(z, 7, 2, energies)
        estimates.append(distortion(h, z, rho=rho, resamples=1)[1].delta.value)
        loss = np.square(h[:, 0] - h[:, 1]).sum(axis=1).mean()
        naive.append(loss - 2 * (1 - rho) * np.cov(h.reshape(-1, 2).T).trace())
    attenuated = rho - np.array([rho, rho**2, rho**3, 0])
    exact = 2 * attenuated @ (2 * energies)  # two coordinates
    for values in (estimates, naive):
        assert np.mean(values) == pytest.approx(exact, abs=4 * np.std(values) / np.sqrt(20))
    assert np.std(estimates) < 0.6 * np.std(naive)


def test_excess_alignment_of_noise():
    assert excess_alignment(0.5, 2.0, 0.0) == 2.0
    assert excess_alignment(0.5, 2.0, 1.0) == 0.0  # attenuated like a linear part: costs nothing extra


# --- measured -------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(seed=seeds, n=st.integers(1, 4), rho=st.floats(0.2, 0.95))
def test_a_rotation_is_one(seed, n, rho):
    z = pairs(seed, 200, n, rho)
    linear, found = distortion(z @ random_rotation(n, seed).T + 5.0, z, rho=rho, resamples=3)
    for number in (linear.orthogonality, found.eps, found.delta, found.bound, found.error):
        assert number.value == pytest.approx(0, abs=1e-9)
        assert number.high == pytest.approx(0, abs=1e-9)
    assert linear.condition.value == pytest.approx(1)
    assert found.holds


@settings(max_examples=40)
@given(
    seed=seeds,
    m=st.integers(1, 4),
    scale=st.floats(0.5, 1.5),
    contamination=st.tuples(*[st.floats(0, 0.3)] * 3),
    rho=st.sampled_from([0.3, 0.5, 0.8]),
)
def test_the_bound_holds_for_any_encoder(seed, m, scale, contamination, rho):
    z = pairs(seed, 400, 2, rho)
    h = polynomial(z, seed, m, (scale, *contamination))
    found = distortion(h, z, rho=rho, resamples=20)[1]
    assert found.holds
    assert found.bound.value == pytest.approx(found.D.value + (found.eps.value + found.D.value) ** 2)


def almost_tight(seed):
    """Covariance I, error nearly all quadratic: at rho = .5 the bound is then nearly attained."""
    z = pairs(seed, 2000)
    return polynomial(z, seed, 2, (0.95, 0.05, 0, 0)), z


def test_the_bound_is_nearly_attained_where_it_should_be():
    h, z = almost_tight(3)
    found = distortion(h, z, resamples=100)[1]
    exact = 2 * 0.05 + 2 * (1 - np.sqrt(0.95)) ** 2
    assert found.error.low < exact < found.error.high
    assert found.D.low < 2 * 0.05 < found.D.high
    assert found.eps.value < 0.05
    assert found.holds
    assert found.bound.value < 1.4 * found.error.value


@pytest.mark.parametrize(
    "broken",
    [
        lambda rho, residual, lagged: rho * residual - lagged,  # one view counted, not two
        lambda rho, residual, lagged: 2 * (rho * lagged - residual),
        lambda rho, residual, lagged: 2 * (1 - rho) * lagged,
    ],
)
def test_a_broken_delta_breaks_the_bound(monkeypatch, broken):
    h, z = almost_tight(4)
    assert distortion(h, z, resamples=50)[1].holds
    monkeypatch.setattr(bounds, "excess_alignment", broken)
    assert not distortion(h, z, resamples=50)[1].holds


def test_pairs_of_another_rho_break_the_bound():
    z = pairs(5, rho=0.8)
    h = polynomial(z, 5, 2, (0.95, 0.05, 0, 0))
    assert distortion(h, z, rho=0.8, resamples=50)[1].holds
    assert not distortion(h, z, rho=0.5, resamples=50)[1].holds


@pytest.mark.parametrize("size", [0.01, 0.1, 0.5])
def test_a_shear(size):
    z, S = pairs(6, 500), np.array([[1, size], [0, 1]])
    linear, found = distortion(z @ S.T, z, resamples=20)
    assert linear.orthogonality.value == pytest.approx(np.linalg.norm(S.T @ S - np.eye(2)))
    assert linear.condition.value == pytest.approx(np.linalg.cond(S))
    assert found.eps.value == pytest.approx(np.linalg.norm(S @ S.T - np.eye(2)))
    assert found.delta.value == pytest.approx(0, abs=1e-9)  # linear maps are not attenuated
    assert found.error.value == pytest.approx(np.square(S - isometry(S)).sum(), rel=0.2)
    assert found.holds


def test_noise_is_no_linear_distortion():
    """In sample the noise of M adds its variance to the diagonal of M'M; a product of two halves does not have that."""
    z = pairs(7, 400)
    h = np.concatenate([z, np.random.default_rng(8).standard_normal((400, 2, 40))], axis=2)
    linear, found = distortion(h, z, resamples=5)
    M = np.linalg.lstsq(z[:200].reshape(-1, 2), h[:200].reshape(-1, 42), rcond=None)[0].T
    assert linear.orthogonality.value < 0.08 < 0.1 < np.linalg.norm(M.T @ M - np.eye(2))
    assert found.error.value == pytest.approx(40, rel=0.05)
    assert found.delta.value == pytest.approx(2 * 0.5 * 40, rel=0.1)
    assert found.holds


def test_collapse_and_width():
    z = pairs(9, 400)
    collapsed, found = distortion(z * [1, 0], z, resamples=10)
    assert collapsed.condition.value == np.inf
    assert collapsed.orthogonality.value == pytest.approx(1)
    # the lost direction costs its whole variance, in every sample: error and bound are equal
    assert (found.error.value, found.bound.value) == pytest.approx((1, 1), abs=1e-9)
    assert found.holds
    _, found = distortion(0 * z, z, resamples=10)
    assert (found.error.value, found.bound.value) == pytest.approx((2, 2), abs=1e-9)
    assert found.holds
    narrow, found = distortion(z[..., :1], z, resamples=10)
    assert narrow.condition.value == np.inf
    assert (found.eps.value, found.error.value) == pytest.approx((0, 0), abs=1e-9)
    wide, found = distortion(np.concatenate([z, 0 * z[..., :1]], axis=2), z, resamples=10)
    assert wide.orthogonality.value == pytest.approx(0, abs=1e-9)
    assert found.eps.value == pytest.approx(1)  # a direction without variance is not N(0, I)
    assert found.error.value == pytest.approx(0, abs=1e-9)
