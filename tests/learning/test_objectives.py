"""Objectives against independent oracles, what they prefer, and one contract for all that is registered."""

import json
import math
from dataclasses import FrozenInstanceError, asdict, fields
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from worldplan.commands.pretrain import Pretrain
from worldplan.envs.worlds import OUWorld
from worldplan.errors import InvalidInput, UnknownName
from worldplan.learning.excitation import Excitation
from worldplan.learning.gaussianity import TESTS, epps_pulley
from worldplan.learning.objectives import (
    OBJECTIVES,
    InfoNCE,
    LeJEPA,
    VICReg,
    Whitening,
    alignment,
    objective_from_dict,
    objective_to_dict,
    sigreg,
)
from worldplan.learning.training import PretrainConfig

seeds = st.integers(0, 2**32 - 1)
PAIRWISE = [kind() for kind in OBJECTIVES.values() if kind is not Excitation]  # what needs no actions
EVERY = [*PAIRWISE, *(LeJEPA(slices=32, test=test) for test in TESTS)]
every_objective = pytest.mark.parametrize("objective", EVERY, ids=lambda o: getattr(o, "test", o.name))


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))


def fixed_sigreg(h, slices=64, seed=0):
    return float(sigreg(tensor(h), slices, torch.Generator().manual_seed(seed)))


def terms(objective, h, seed=0):
    return objective(torch.as_tensor(h), torch.Generator().manual_seed(seed))


def loss(objective, h, seed=0):
    return float(terms(objective, h, seed)["loss"])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def rotation(n, seed=1):
    return np.linalg.qr(normal(n, n, seed=seed))[0]


def whitened(sample):
    """A linear image (N, n) with mean 0 and covariance exactly I."""
    centred = sample - sample.mean(axis=0)
    return centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T


# --- SIGReg ---------------------------------------------------------------------------------------------------------


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


# --- LeJEPA -----------------------------------------------------------------------------------------------------------


@given(seed=seeds, weight=st.floats(0.0, 1.0), views=st.integers(2, 4))
def test_lejepa_is_the_weighted_sum(seed, weight, views):
    h = tensor(np.random.default_rng(seed).standard_normal((5, views, 3)))
    parts = LeJEPA(weight=weight, slices=8)(h, torch.Generator().manual_seed(seed))
    pooled = sigreg(h.reshape(-1, 3), 8, torch.Generator().manual_seed(seed))
    assert float(parts["align"]) == float(alignment(h))
    assert float(parts["sigreg"]) == pytest.approx(float(pooled), rel=1e-12)
    assert float(parts["loss"]) == pytest.approx(weight * float(pooled) + (1 - weight) * float(alignment(h)), rel=1e-12)


def test_lejepa_prefers_the_latents_to_a_collapse_and_to_a_warp():
    z = OUWorld(rho=0.9).sample(1000, np.random.default_rng(0))
    objective = LeJEPA(slices=64)
    assert loss(objective, z) < loss(objective, z * 0.0)
    assert loss(objective, z) < loss(objective, np.sqrt(1 / (1 - 1 / math.e)) * np.sin(z))
    assert loss(objective, z) < loss(objective, (z**2 - 1) / math.sqrt(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_defaults_are_the_formula_to_the_last_bit(dtype):
    """Epps-Pulley on directions of the CPU's generator, in this order of operations: old runs can be repeated."""
    h = torch.from_numpy(normal(16, 2, 3)).to(dtype)
    parts = terms(LeJEPA(), h, seed=7)
    directions = torch.randn(3, 256, generator=torch.Generator().manual_seed(7), dtype=dtype)
    directions = directions / directions.norm(dim=0, keepdim=True)
    gauss = epps_pulley(h.flatten(0, 1) @ directions).mean()
    align = (h - h.mean(dim=1, keepdim=True)).square().mean()
    assert torch.equal(parts["sigreg"], gauss)
    assert torch.equal(parts["align"], align)
    assert torch.equal(parts["loss"], 0.02 * gauss + 0.98 * align)
    assert not torch.equal(parts["sigreg"], terms(LeJEPA(), h, seed=8)["sigreg"])


# --- whitening and VICReg -------------------------------------------------------------------------------------------


@given(seed=seeds, weight=st.floats(0.0, 1.0), views=st.integers(2, 4), n=st.integers(1, 4))
def test_whitening_is_numpys_covariance_and_mean(seed, weight, views, n):
    h = 0.3 + normal(6, views, n, seed=seed)
    pooled = h.reshape(-1, n)
    cov = np.cov(pooled.T).reshape(n, n)
    white = (np.linalg.norm(cov - np.eye(n)) ** 2 + np.linalg.norm(pooled.mean(axis=0)) ** 2) / n
    parts = terms(Whitening(weight=weight), h)
    assert float(parts["white"]) == pytest.approx(white, rel=1e-10)
    assert float(parts["loss"]) == pytest.approx(weight * white + (1 - weight) * float(alignment(tensor(h))), rel=1e-10)


@given(seed=seeds, weight=st.floats(0.0, 1.0), covariance=st.floats(0.0, 5.0), views=st.integers(2, 4))
def test_vicreg_by_naive_loops(seed, weight, covariance, views):
    h = normal(6, views, 3, seed=seed)
    hinges, off = [], []
    for v in range(views):
        cov = np.cov(h[:, v].T)
        hinges += [max(0.0, 1.0 - math.sqrt(cov[i, i] + 1e-4)) for i in range(3)]
        off += [sum(cov[i, j] ** 2 for i in range(3) for j in range(3) if i != j) / 3]
    parts = terms(VICReg(weight=weight, covariance=covariance), h)
    assert float(parts["variance"]) == pytest.approx(np.mean(hinges), rel=1e-10)
    assert float(parts["offdiagonal"]) == pytest.approx(np.mean(off), rel=1e-10)
    against = weight * (np.mean(hinges) + covariance * np.mean(off))
    assert float(parts["loss"]) == pytest.approx(against + (1 - weight) * float(alignment(tensor(h))), rel=1e-10)


@given(seed=seeds)
def test_vicreg_has_the_papers_proportions(seed):
    """25, 25, 1 on the mean squared distance of two views, mean hinge and summed covariances, as arXiv 2105.04906."""
    h = normal(8, 2, 4, seed=seed)
    covs = [np.cov(h[:, v].T) for v in range(2)]
    hinge = sum(np.maximum(0, 1 - np.sqrt(np.diag(c) + 1e-4)).mean() for c in covs) / 2
    off = sum((c**2).sum() - (np.diag(c) ** 2).sum() for c in covs) / 4  # n = 4; a sum over the views
    paper = 25 * np.mean((h[:, 0] - h[:, 1]) ** 2) + 25 * hinge + off
    assert 125 * loss(VICReg(weight=0.2, covariance=0.08), h) == pytest.approx(paper, rel=1e-10)
    assert 125 * loss(VICReg(weight=0.2), h) != pytest.approx(paper, rel=1e-3)


def test_whitening_and_vicreg_judge_scale_and_correlation():
    h = np.repeat(whitened(normal(400, 2))[:, None], 2, axis=1)  # equal views: nothing but the term against collapse
    tilted = h @ np.linalg.cholesky(0.5 * np.eye(2) + 0.5).T
    for objective in (Whitening(), VICReg()):
        best = loss(objective, h)
        for name, other in {"point": 0 * h, "line": h * (1, 0), "small": 0.7 * h, "tilted": tilted}.items():
            assert loss(objective, other) > best + 0.01, name
    assert loss(Whitening(), 1.5 * h) > loss(Whitening(), h) + 0.01
    assert loss(VICReg(), 1.5 * h) < 1e-6  # the hinge does not mind large variances
    assert loss(Whitening(), h + 1.0) > loss(Whitening(), h) + 0.01
    assert loss(VICReg(), h + 1.0) == pytest.approx(loss(VICReg(), h), abs=1e-12)  # nor a mean


def test_second_moments_do_not_see_a_shape_and_sigreg_does():
    """White samples of four laws, to rounding: the same to whitening and VICReg, told apart by LeJEPA."""
    rng = np.random.default_rng(0)
    laws = {
        "normal": rng.standard_normal((800, 2)),
        "uniform": rng.uniform(-1, 1, (800, 2)),
        "Laplace": rng.laplace(size=(800, 2)),
        "points": np.sign(rng.standard_normal((800, 2))),
    }
    views = {name: np.repeat(whitened(sample)[:, None], 2, axis=1) for name, sample in laws.items()}
    for name, h in views.items():
        pooled = 1599 / 1598  # equal views: the unbiased covariance of all views is not quite that of one
        assert loss(Whitening(), h) < (pooled - 1) ** 2, name
        assert loss(VICReg(), h) < 1e-12, name
    gaussian = float(terms(LeJEPA(), views.pop("normal"))["sigreg"])
    for name, h in views.items():
        assert float(terms(LeJEPA(), h)["sigreg"]) > 3 * gaussian, name


@pytest.mark.parametrize("rho", [0.5, 0.9])
@pytest.mark.parametrize("weight", [0.2, 0.5])
def test_the_scales_that_the_docstrings_promise(rho, weight):
    """Best multiple of unit latents: in closed form, against a search."""
    z = normal(20_000, 2, 1)
    z[:, 1] = rho * z[:, 0] + math.sqrt(1 - rho**2) * z[:, 1]
    squares = np.linspace(0.02, 1.5, 75)
    found = squares[np.argmin([loss(Whitening(weight), math.sqrt(s) * z) for s in squares])]
    assert found == pytest.approx(max(1 - (1 - weight) * (1 - rho) / (4 * weight), 0), abs=0.03)
    found = squares[np.argmin([loss(VICReg(weight), math.sqrt(s) * z) for s in squares])]
    keeps = weight >= (1 - weight) * (1 - rho)
    assert (found > 0.95) == keeps
    assert found < 1.05


# --- InfoNCE --------------------------------------------------------------------------------------------------------


@given(seed=seeds, sigma=st.floats(0.3, 3.0), views=st.integers(2, 3), batch=st.integers(1, 5))
def test_infonce_by_naive_loops(seed, sigma, views, batch):
    h = normal(batch, views, 2, seed=seed)

    def kernel(a, b):
        return math.exp(-np.sum((a - b) ** 2) / (2 * sigma**2))

    losses = [
        -math.log(kernel(h[i, v], h[i, w]) / sum(kernel(h[i, v], h[j, w]) for j in range(batch)))
        for v in range(views)
        for w in range(views)
        if v != w
        for i in range(batch)
    ]
    parts = terms(InfoNCE(sigma=sigma), h)
    assert float(parts["loss"]) == pytest.approx(np.mean(losses), rel=1e-9, abs=1e-12)
    attraction = views * 2 / ((views - 1) * sigma**2) * float(alignment(tensor(h)))
    assert float(parts["loss"]) == pytest.approx(attraction + float(parts["repulsion"]), rel=1e-9, abs=1e-12)


@given(seed=seeds, factor=st.floats(0.01, 100.0))
def test_the_width_is_the_unit_of_the_embedding(seed, factor):
    h = normal(7, 2, 3, seed=seed)
    assert loss(InfoNCE(0.8), h) == pytest.approx(loss(InfoNCE(0.8 * factor), factor * h), rel=1e-9, abs=1e-12)
    assert loss(InfoNCE(0.8), h) != pytest.approx(loss(InfoNCE(0.8), 1.1 * h), rel=1e-6)


def test_infonce_of_a_collapse_is_the_logarithm_of_the_batch():
    for batch in (1, 2, 50):
        assert loss(InfoNCE(), torch.full((batch, 2, 3), 4.0)) == pytest.approx(math.log(batch), abs=1e-5)


def test_infonce_prefers_the_latents_at_unit_scale():
    z = OUWorld(rho=0.9).sample(400, np.random.default_rng(0))
    best = loss(InfoNCE(), z)
    others = {
        "point": 0 * z,
        "line": z * (1, 0),
        "small": 0.5 * z,
        "large": 2 * z,
        "folded": np.abs(z),
        "strangers": np.stack([z[:, 0], np.roll(z[:, 1], 1, axis=0)], axis=1),
    }
    for name, other in others.items():
        assert loss(InfoNCE(), other) > best + 0.1, name


def test_infonce_does_not_underflow_where_a_quotient_of_kernels_does():
    """Strangers in 1024 dimensions: exp(-2048) is no number, its logarithm is one."""
    h = torch.from_numpy(normal(16, 2, 1024)).float()  # independent views: the right answer is far from 0
    kernel = torch.exp(-(h[:, None, 0] - h[None, :, 1]).square().sum(-1) / 2)
    assert (-(kernel.diagonal() / kernel.sum(dim=1)).log()).isnan().all()
    distances = ((h[:, None, 0].double() - h[None, :, 1].double()) ** 2).sum(-1).numpy() / 2
    rows = [d[i] + np.logaddexp.reduce(-d) for i, d in enumerate(distances)]
    columns = [d[i] + np.logaddexp.reduce(-d) for i, d in enumerate(distances.T)]
    assert loss(InfoNCE(1.0), h) == pytest.approx(np.mean(rows + columns), rel=1e-5)


def test_a_narrow_kernel_is_done_at_once_in_many_dimensions_and_a_wide_one_is_not():
    """The other half of the published trouble: no number is lost, but nothing is left to learn."""

    def gradient(sigma, n):
        first, second = normal(2, 32, n)
        h = torch.from_numpy(np.stack([first, 0.5 * first + math.sqrt(0.75) * second], axis=1)).float()
        h.requires_grad_()
        InfoNCE(sigma)(h)["loss"].backward()
        return float(h.grad.abs().max())

    assert gradient(0.5, 1024) == 0.0
    assert gradient(0.5 * math.sqrt(1024), 1024) > 1e-5
    assert gradient(0.5, 2) > 1e-3


# --- rotations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [Whitening(), InfoNCE()], ids=["whitening", "infonce"])
@given(seed=seeds, n=st.integers(2, 5))
def test_rotations_leave_whitening_and_infonce_alone(objective, seed, n):
    h, q = normal(9, 2, n, seed=seed), rotation(n, seed=seed)
    assert loss(objective, h @ q) == pytest.approx(loss(objective, h), rel=1e-9, abs=1e-10)
    sheared = q + 0.3 * np.eye(n)[[0]].T @ np.eye(n)[[1]]
    assert loss(objective, h @ sheared) != pytest.approx(loss(objective, h), rel=1e-7)


def test_vicreg_is_blind_to_rotations_of_white_embeddings_alone():
    h, q = np.repeat(whitened(normal(50, 3))[:, None], 2, axis=1), rotation(3)
    assert loss(VICReg(), h @ q) == pytest.approx(loss(VICReg(), h), abs=1e-10)
    stretched = h * (0.5, 1.0, 2.0)
    assert loss(VICReg(), stretched @ q) != pytest.approx(loss(VICReg(), stretched), rel=0.05)


@pytest.mark.parametrize("test", TESTS)
def test_rotations_change_a_sliced_test_only_within_the_noise_of_its_directions(test):
    h = normal(100, 2, 3) * (1.3, 1.0, 0.7)

    def values(h):
        return [float(terms(LeJEPA(test=test, slices=64), h, seed)["sigreg"]) for seed in range(20)]

    plain, rotated, stretched = values(h), values(h @ rotation(3)), values(1.4 * h @ rotation(3))
    error = math.hypot(np.std(plain, ddof=1), np.std(rotated, ddof=1)) / math.sqrt(20)
    assert abs(np.mean(plain) - np.mean(rotated)) < 4 * error
    assert abs(np.mean(plain) - np.mean(stretched)) > 4 * error  # negative control: no rotation


# --- one contract ---------------------------------------------------------------------------------------------------


@every_objective
def test_terms_are_scalars_with_a_loss_and_the_alignment(objective):
    parts = terms(objective, normal(8, 3, 2))
    assert {"loss", "align"} < set(parts)
    assert all(value.shape == () and value.dtype == torch.float64 for value in parts.values())
    assert float(parts["align"]) == pytest.approx(float(alignment(tensor(normal(8, 3, 2)))), rel=1e-12)


@every_objective
def test_the_order_of_the_batch_and_of_the_views_does_not_matter(objective):
    h, order = normal(12, 3, 2), np.random.default_rng(1).permutation(12)
    assert loss(objective, h[order]) == pytest.approx(loss(objective, h), rel=1e-10)
    assert loss(objective, h[:, [2, 0, 1]]) == pytest.approx(loss(objective, h), rel=1e-10)


@every_objective
def test_who_belongs_to_whom_matters(objective):
    """Negative control of the last: reordering one view alone is another batch, and a worse one."""
    z = OUWorld(rho=0.95).sample(64, np.random.default_rng(0))
    strangers = np.stack([z[:, 0], np.roll(z[:, 1], 1, axis=0)], axis=1)
    assert loss(objective, strangers) > loss(objective, z) + 1e-3


@every_objective
@given(seed=seeds, views=st.integers(2, 3), n=st.integers(1, 3), batch=st.integers(2, 6))
def test_gradients_equal_finite_differences(objective, seed, views, n, batch):
    rng = np.random.default_rng(seed)
    h, along = rng.standard_normal((2, batch, views, n))
    x = tensor(h).requires_grad_()
    terms(objective, x)["loss"].backward()
    exact = float((x.grad * tensor(along)).sum())
    slopes = [(loss(objective, h + e * along) - loss(objective, h - e * along)) / (2 * e) for e in (1e-5, 1e-6)]

    # A kink (a hinge, a floor) within the step would spoil both; between them it spoils at most one.
    def error(gradient):
        return min(abs(gradient - slope) for slope in slopes) / max(1.0, abs(exact))

    assert error(exact) < 1e-5
    assert error(exact + 0.01 * max(1.0, abs(exact))) > 1e-3  # it could have failed


DEGENERATE = {
    "zeros": torch.zeros(4, 2, 3),
    "a point": torch.full((4, 2, 3), 2.5),
    "a line": torch.arange(8.0).reshape(4, 2, 1) * torch.tensor([1.0, 0.0, 0.0]),
    "nearly a point": 1e-20 * torch.from_numpy(normal(4, 2, 3)).float(),
    "equal views": torch.from_numpy(normal(4, 1, 3)).float().expand(4, 2, 3),
    "one pair": torch.from_numpy(normal(1, 2, 3)).float(),
    "one dimension": torch.from_numpy(normal(4, 2, 1)).float(),
    "more dimensions than samples": torch.from_numpy(normal(2, 2, 50)).float(),
    "far away": 300.0 * torch.from_numpy(normal(4, 2, 3)).float(),
    "an outlier": torch.cat([torch.zeros(4, 2, 3), torch.full((1, 2, 3), 300.0)]),
}


@every_objective
@pytest.mark.parametrize("batch", DEGENERATE)
def test_degenerate_batches_give_finite_losses_and_gradients(objective, batch):
    h = DEGENERATE[batch].clone().requires_grad_()
    parts = terms(objective, h)
    parts["loss"].backward()
    assert all(value.isfinite() for value in parts.values()), parts
    assert h.grad.isfinite().all()


@every_objective
def test_a_broken_embedding_gives_a_loss_that_is_not_finite(objective):
    """Negative control: finite does not come from swallowing what is wrong; the training loop has to see it."""
    h = torch.from_numpy(normal(4, 2, 3))
    h[0, 0, 0] = math.nan
    assert not terms(objective, h)["loss"].isfinite()


@every_objective
def test_everything_lives_where_the_embeddings_live(objective):
    h = torch.empty(6, 2, 3, device="meta", requires_grad=True)
    parts = objective(h, torch.Generator())
    assert {value.device.type for value in parts.values()} == {"meta"}


@every_objective
def test_chance_comes_from_the_generator(objective):
    before = torch.random.get_rng_state()
    assert loss(objective, normal(5, 2, 3), seed=1) == loss(objective, normal(5, 2, 3), seed=1)
    assert torch.equal(before, torch.random.get_rng_state())


@every_objective
@pytest.mark.parametrize("shape", [(4, 2), (4, 1, 2), (4, 2, 2, 2)])
def test_embeddings_without_pairs_are_refused(objective, shape):
    with pytest.raises(InvalidInput, match="V >= 2"):
        objective(torch.zeros(shape))


# --- options, names, records ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(kind, {"weight": weight}) for kind in (LeJEPA, Whitening, VICReg) for weight in (-0.1, 1.1, math.nan, math.inf)]
    + [(LeJEPA, {"slices": 0}), (VICReg, {"covariance": -1.0}), (VICReg, {"covariance": math.nan})]
    + [(InfoNCE, {"sigma": sigma}) for sigma in (0.0, -1.0, math.nan, math.inf)],
    ids=str,
)
def test_impossible_settings_are_refused(kind, wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        kind(**wrong)
    with pytest.raises(InvalidInput):
        objective_from_dict({"name": kind.name, **wrong})


def test_an_unknown_test_of_gaussianity():
    with pytest.raises(UnknownName, match="'shapiro'; known: anderson-darling, cramer-von-mises"):
        LeJEPA(test="shapiro")


@every_objective
def test_a_record_is_json_and_gives_the_objective_back(objective):
    record = objective_to_dict(objective)
    assert record == {"name": objective.name, **asdict(objective)}
    assert objective_from_dict(json.loads(json.dumps(record))) == objective
    assert OBJECTIVES[objective.name] is type(objective)
    assert record != objective_to_dict(LeJEPA(weight=0.03))
    with pytest.raises(FrozenInstanceError):
        objective.weight = 1.0


def test_a_record_without_a_name_is_lejepas():
    """As cards and checkpoints were written before there was a choice."""
    assert objective_from_dict({"weight": 0.1, "slices": 32}) == LeJEPA(weight=0.1, slices=32)


def test_unknown_names_and_options_are_refused():
    with pytest.raises(UnknownName, match="'simclr'; known: excitation, infonce, lejepa, vicreg, whitening"):
        objective_from_dict({"name": "simclr"})
    with pytest.raises(InvalidInput, match="vicreg has no option sigma, slices; it has weight, covariance"):
        objective_from_dict({"name": "vicreg", "sigma": 1.0, "slices": 3, "weight": 0.1})


def test_the_command_line_knows_every_objective_and_every_option():
    options = {field.name for kind in OBJECTIVES.values() for field in fields(kind)}
    command = {field.name: field for field in fields(Pretrain)}
    assert options < set(command)
    assert all(command[name].default is None for name in options)  # None: each objective's own default
    assert set(get_args(get_type_hints(Pretrain)["objective"])) == {*OBJECTIVES, "supervised"}
    assert not options & {field.name for field in fields(PretrainConfig)}
    assert all(test in (Pretrain.__doc__ or "") for test in TESTS)
