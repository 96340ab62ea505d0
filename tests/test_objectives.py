"""Alignment and SIGReg against independent oracles, and what they prefer."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from worldplan.envs.worlds import OUWorld
from worldplan.errors import InvalidInput
from worldplan.objectives import LeJEPA, alignment, epps_pulley, sigreg

seeds = st.integers(0, 2**32 - 1)


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))


def epps_pulley_oracle(sample, cutoff):
    """Adaptive quadrature of the definition, complex exponentials and both signs of t."""

    def integrand(t):
        return abs(np.exp(1j * t * sample).mean() - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t / 2)

    return len(sample) * quad(integrand, -cutoff, cutoff, limit=500, epsabs=1e-11, epsrel=1e-11)[0]


def fixed_sigreg(h, slices=64, seed=0):
    return float(sigreg(tensor(h), slices, torch.Generator().manual_seed(seed)))


# --- Epps-Pulley ----------------------------------------------------------------------------------------------------


@given(
    seed=seeds,
    size=st.integers(1, 80),
    scale=st.floats(0.0, 3.0),
    shift=st.floats(-2.0, 2.0),
    cutoff=st.floats(1.0, 4.0),
)
def test_epps_pulley_is_the_integral_it_says(seed, size, scale, shift, cutoff):
    sample = shift + scale * np.random.default_rng(seed).standard_normal(size)
    oracle = epps_pulley_oracle(sample, cutoff)
    fine = float(epps_pulley(tensor(sample)[:, None], knots=2001, cutoff=cutoff))
    assert fine == pytest.approx(oracle, rel=1e-4, abs=1e-6 * size)
    coarse = float(epps_pulley(tensor(sample)[:, None], cutoff=cutoff))
    assert coarse == pytest.approx(oracle, rel=0.1, abs=0.02 * size)


def test_the_default_rule_is_accurate_for_an_embedding_near_the_optimum():
    sample = np.random.default_rng(0).standard_normal(500)
    statistic = float(epps_pulley(tensor(sample)[:, None]))
    assert statistic == pytest.approx(epps_pulley_oracle(sample, 3.0), rel=3e-3)
    assert statistic != pytest.approx(epps_pulley_oracle(sample * 1.1, 3.0), rel=0.1)  # it could have failed


def test_epps_pulley_of_a_point_mass_in_closed_form():
    """phi_N = 1 for zeros: N * integral (1 - exp(-t^2/2))^2 exp(-t^2/2) dt, by error functions."""

    def gauss(a):
        return math.sqrt(math.pi / a) * math.erf(3.0 * math.sqrt(a))  # integral of exp(-a t^2) over [-3, 3]

    exact = 7 * (gauss(0.5) - 2 * gauss(1.0) + gauss(1.5))
    assert float(epps_pulley(torch.zeros(7, 1, dtype=torch.float64))) == pytest.approx(exact, rel=2e-3)


def test_epps_pulley_judges_each_column_by_itself():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 3)))
    together = epps_pulley(x)
    assert together.shape == (3,)
    torch.testing.assert_close(together, torch.stack([epps_pulley(x[:, [k]])[0] for k in range(3)]))


def test_gradients_stay_bounded_for_outliers():
    x = torch.tensor([[0.0], [1.0], [1e4]], dtype=torch.float64, requires_grad=True)
    epps_pulley(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() < 10
    moments = x.detach().requires_grad_()  # negative control: the fourth moment's gradient is not
    (moments**4).mean().backward()
    assert moments.grad is not None
    assert moments.grad.abs().max() > 1e9


@given(seed=seeds, n=st.integers(1, 4), size=st.integers(2, 12))
def test_sigreg_gradient_equals_finite_differences(seed, n, size):
    rng = np.random.default_rng(seed)
    h, along = rng.standard_normal((2, size, n))
    x = tensor(h).requires_grad_()
    sigreg(x, 16, torch.Generator().manual_seed(0)).backward()
    assert x.grad is not None
    e = 1e-5
    finite = (fixed_sigreg(h + e * along, 16) - fixed_sigreg(h - e * along, 16)) / (2 * e)
    assert float((x.grad * tensor(along)).sum()) == pytest.approx(finite, rel=1e-5, abs=1e-7)


# --- SIGReg ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 8])
def test_an_isotropic_gaussian_is_preferred_to_everything_else(n):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((1000, n))
    best = fixed_sigreg(z)
    others = {
        "a point": np.zeros_like(z),
        "a line": z[:, :1] * np.eye(n)[0],
        "too small": 0.5 * z,
        "too large": 2.0 * z,
        "one axis too large": z * np.r_[1.5, np.ones(n - 1)],
        "shifted": z + 0.5,
        "correlated": z @ np.linalg.cholesky(0.5 * np.eye(n) + 0.5).T,
        "two points": np.sign(z),
    }
    if n == 2:  # in many dimensions a sum of independent coordinates soon looks Gaussian from most directions
        others["uniform"] = rng.uniform(-math.sqrt(3), math.sqrt(3), z.shape)
        others["Laplace"] = rng.laplace(scale=math.sqrt(0.5), size=z.shape)
    for name, h in others.items():
        assert fixed_sigreg(h) > 2 * best, name


def test_rotation_changes_sigreg_only_within_the_noise_of_the_directions():
    h = np.random.default_rng(0).standard_normal((500, 3)) * (1.3, 1.0, 0.7)
    q = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    plain = [fixed_sigreg(h, seed=seed) for seed in range(20)]
    rotated = [fixed_sigreg(h @ q, seed=seed) for seed in range(20)]
    error = math.hypot(np.std(plain, ddof=1), np.std(rotated, ddof=1)) / math.sqrt(20)
    assert abs(np.mean(plain) - np.mean(rotated)) < 4 * error
    stretched = [fixed_sigreg(1.2 * h @ q, seed=seed) for seed in range(20)]  # negative control: no rotation
    assert abs(np.mean(plain) - np.mean(stretched)) > 4 * error


def test_directions_come_from_the_generator():
    h = np.random.default_rng(0).standard_normal((50, 3)) * (2.0, 1.0, 1.0)
    assert fixed_sigreg(h, 4, seed=1) == fixed_sigreg(h, 4, seed=1)
    assert fixed_sigreg(h, 4, seed=1) != fixed_sigreg(h, 4, seed=2)
    before = torch.random.get_rng_state()
    fixed_sigreg(h)
    assert torch.equal(before, torch.random.get_rng_state())


# --- alignment ------------------------------------------------------------------------------------------------------


@given(seed=seeds, batch=st.integers(1, 6), n=st.integers(1, 5))
def test_alignment_of_two_views_is_the_papers_loss_over_4n(seed, batch, n):
    h = np.random.default_rng(seed).standard_normal((batch, 2, n))
    loss = sum(np.sum((pair[0] - pair[1]) ** 2) for pair in h) / batch
    assert float(alignment(tensor(h))) == pytest.approx(loss / (4 * n), rel=1e-12)


@given(seed=seeds, views=st.integers(2, 6))
def test_alignment_is_the_mean_over_pairs_of_views(seed, views):
    """sum_v |h_v - mean|^2 = sum_{v < w} |h_v - h_w|^2 / V."""
    h = np.random.default_rng(seed).standard_normal((3, views, 2))
    pairs = sum(((h[:, v] - h[:, w]) ** 2).sum() for v in range(views) for w in range(v))
    assert float(alignment(tensor(h))) == pytest.approx(pairs / views / h.size, rel=1e-12)


@pytest.mark.parametrize("views", [2, 4])
@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_only_linear_orthogonal_maps_of_the_latents_meet_the_floor(rho, views):
    z = OUWorld(rho=rho, views=views).sample(50_000, np.random.default_rng(0))
    floor = (1 - rho) * (views - 1) / views
    q = np.linalg.qr(np.random.default_rng(1).standard_normal((2, 2)))[0]
    assert float(alignment(tensor(z @ q))) == pytest.approx(floor, rel=0.02)
    he2 = (z**2 - 1) / math.sqrt(2)  # second Hermite polynomial: unit variance, correlation rho^2
    assert float(alignment(tensor(he2))) == pytest.approx((1 - rho**2) * (views - 1) / views, rel=0.05)
    mixed = math.cos(0.4) * z + math.sin(0.4) * he2  # a bent map, white as well
    assert float(alignment(tensor(mixed))) > 1.05 * floor


# --- together -------------------------------------------------------------------------------------------------------


@given(seed=seeds, weight=st.floats(0.0, 1.0), views=st.integers(2, 4))
def test_lejepa_is_the_weighted_sum(seed, weight, views):
    h = tensor(np.random.default_rng(seed).standard_normal((5, views, 3)))
    terms = LeJEPA(weight=weight, slices=8)(h, torch.Generator().manual_seed(seed))
    pooled = sigreg(h.reshape(-1, 3), 8, torch.Generator().manual_seed(seed))
    assert float(terms["align"]) == float(alignment(h))
    assert float(terms["sigreg"]) == pytest.approx(float(pooled), rel=1e-12)
    assert float(terms["loss"]) == pytest.approx(weight * float(pooled) + (1 - weight) * float(alignment(h)), rel=1e-12)


def test_lejepa_prefers_the_latents_to_a_collapse_and_to_a_warp():
    z = OUWorld(rho=0.9).sample(1000, np.random.default_rng(0))

    def loss(h):
        return float(LeJEPA(slices=64)(tensor(h), torch.Generator().manual_seed(0))["loss"])

    assert loss(z) < loss(z * 0.0)
    assert loss(z) < loss(np.sqrt(1 / (1 - 1 / math.e)) * np.sin(z))
    assert loss(z) < loss((z**2 - 1) / math.sqrt(2))


@pytest.mark.parametrize("wrong", [{"weight": -0.1}, {"weight": 1.1}, {"weight": math.nan}, {"slices": 0}], ids=str)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InvalidInput, match="weight in"):
        LeJEPA(**wrong)


@pytest.mark.parametrize("shape", [(4, 2), (4, 1, 2), (4, 2, 2, 2)])
def test_embeddings_without_pairs_are_refused(shape):
    with pytest.raises(InvalidInput, match="V >= 2"):
        LeJEPA()(torch.zeros(shape))
