"""Principal components of latents that are wider than the world."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import entropy

from worldplan.errors import InvalidInput
from worldplan.eval.compare.reduction import LinearReduction, ReducedEncoder, fit_reduction
from worldplan.eval.identifiability.spectrum import effective_rank
from worldplan.planning.rotation import random_rotation

few = settings(max_examples=20)


def draw(seed, m, rank, noise=0.0, count=80):
    """Latents (count, m) in which `rank` directions of sizes 1, .8, ... vary, others by `noise`; and an offset."""
    rng = np.random.default_rng(seed)
    sizes = np.concatenate([0.8 ** np.arange(rank), np.full(m - rank, noise)])
    return (rng.standard_normal((count, m)) * sizes) @ random_rotation(m, rng).T + rng.normal(size=m) * 5


@few
@given(st.integers(0, 10**6), st.integers(2, 12), st.floats(0, 0.3))
def test_components_are_those_of_the_covariance(seed, m, noise):
    h = draw(seed, m, 2, noise)
    reduction = fit_reduction(h)
    k = len(reduction.basis)
    values, vectors = np.linalg.eigh(np.cov(h.T))  # another algorithm
    top = vectors[:, ::-1][:, :k]
    assert np.allclose(reduction.basis.T @ reduction.basis, top @ top.T, atol=1e-6)
    assert reduction.dropped == pytest.approx(values[: m - k].sum() / values.sum(), abs=1e-9)
    assert np.allclose(np.cov(reduction(h).T), np.diag(values[::-1][:k]), atol=1e-9)  # not whitened
    assert np.abs(reduction(h).mean(axis=0)).max() < 1e-9


@few
@given(st.integers(0, 10**6), st.integers(3, 12))
def test_distances_stay_what_they_were_if_nothing_else_varies(seed, m):
    h = draw(seed, m, 2)
    reduction = fit_reduction(h)
    assert len(reduction.basis) == 2 and reduction.dropped < 1e-12
    assert np.allclose(pdist(reduction(h)), pdist(h), atol=1e-9)
    other = LinearReduction(reduction.mean, random_rotation(m, np.random.default_rng(seed))[:2])
    assert not np.allclose(pdist(other(h)), pdist(h))  # any two directions do not do it


@few
@given(st.integers(0, 10**6), st.integers(3, 10))
def test_components_turn_with_the_latent(seed, m):
    h, rng = draw(seed, m, 2, 0.1), np.random.default_rng(seed)
    seen = pdist(fit_reduction(h)(h))
    turned = h @ random_rotation(m, rng).T + rng.normal(size=m)
    assert np.allclose(pdist(fit_reduction(turned)(turned)), seen, atol=1e-8)
    sheared = h @ (np.eye(m) + 0.5 * np.eye(m, k=1)).T
    assert not np.allclose(pdist(fit_reduction(sheared)(sheared)), seen, atol=1e-3)


@few
@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_effective_rank_is_the_exponential_of_the_entropy(variances, factor):
    rank = effective_rank(np.array(variances))
    assert rank == pytest.approx(np.exp(entropy(variances)))
    assert 1 - 1e-9 <= rank <= len(variances) + 1e-9
    assert effective_rank(factor * np.array([*variances, 0.0, -1e-20])) == pytest.approx(rank)


def test_effective_rank_of_equal_and_of_single_variances():
    assert effective_rank(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_rank(np.array([5.0, 0.0])) == pytest.approx(1)
    with pytest.raises(InvalidInput, match="nothing varies"):
        effective_rank(np.zeros(3))


def test_never_fewer_components_than_the_world_and_all_of_an_even_latent():
    line = draw(0, 5, 1)
    assert len(fit_reduction(line).basis) == 2 and len(fit_reduction(line, least=3).basis) == 3
    even = np.random.default_rng(0).standard_normal((5000, 6))
    assert len(fit_reduction(even).basis) == 6 and fit_reduction(even).dropped == 0


def test_the_sign_of_a_component_is_fixed():
    h = draw(3, 6, 3)
    assert (fit_reduction(h).basis.sum(axis=1) >= 0).all()
    assert np.array_equal(fit_reduction(h).basis, fit_reduction(h.copy()).basis)


def test_a_reduced_encoder_is_an_encoder():
    h = draw(1, 4, 2, 0.01)

    class Lookup:
        latent_dim = 4

        def __call__(self, frames):
            return h[frames[:, 0, 0, 0]].astype(np.float32)

    encoder = ReducedEncoder(Lookup(), fit_reduction(h))
    frames = np.zeros((3, 64, 64, 3), dtype=np.uint8)
    frames[:, 0, 0, 0] = [7, 0, 79]
    assert encoder.latent_dim == 2
    assert np.allclose(encoder(frames), fit_reduction(h)(h[[7, 0, 79]]), atol=1e-5)
    assert not np.allclose(encoder(frames), encoder(frames[::-1]))


@pytest.mark.parametrize(
    "bad",
    [np.zeros((5, 1)), np.zeros(5), np.ones((1, 4)), np.full((5, 3), np.nan), np.ones((9, 3))],
    ids=["narrow", "flat", "single", "nan", "constant"],
)
def test_latents_that_have_no_components(bad):
    with pytest.raises(InvalidInput):
        fit_reduction(bad)


@pytest.mark.parametrize(
    ("mean", "basis"),
    [
        (np.zeros(2), np.array([[1.0, 0.1]])),
        (np.zeros(3), np.eye(2)),
        (np.zeros(2), np.eye(3)[:, :2]),
        (np.full(2, np.inf), np.eye(2)),
    ],
)
def test_a_reduction_judges_itself(mean, basis):
    with pytest.raises(InvalidInput):
        LinearReduction(mean, basis)
