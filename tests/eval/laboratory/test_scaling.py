"""Scaling: the fast statistics are the library's, encoders begin where they should, and rows are told apart."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from worldplan.errors import InvalidInput
from worldplan.eval.laboratory import characteristic, scaling
from worldplan.eval.laboratory.characteristic import EppsPulley
from worldplan.eval.laboratory.ensemble import Training, _Loss, infonce, orthonormal_directions
from worldplan.eval.laboratory.judge import composed, judge, judge_gaussian
from worldplan.eval.laboratory.networks import Coupling
from worldplan.eval.laboratory.setting import MIXING, Member, Setting, train_and_judge, train_members
from worldplan.eval.laboratory.worlds import BalancedPairs, GaussianPairs, find_mixing, gaussian_pairs
from worldplan.learning.gaussianity import epps_pulley, moments, unit_directions
from worldplan.learning.objectives import InfoNCE

SIGREG = {"name": "lejepa", "weight": 0.01, "slices": 4}


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


# --- losses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_powers_give_the_statistic_and_its_gradient(scale):
    samples = (scale * torch.randn(3, 5, 200, generator=chance()) + 0.2).requires_grad_()
    exact = samples.detach().double().requires_grad_()
    found, expected = EppsPulley.apply(samples), torch.vmap(epps_pulley)(exact.mT)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    share = torch.rand(found.shape, generator=chance(1))
    (found * share).sum().backward()
    (expected * share).sum().backward()
    largest = exact.grad.abs().max()
    assert (samples.grad - exact.grad).abs().max() < 1e-5 * largest
    assert (found - torch.vmap(moments)(samples.detach().mT)).abs().max() > 0.1


def test_blocks_of_samples_change_nothing(monkeypatch):
    samples = torch.randn(2, 30, 500, generator=chance()).requires_grad_()
    whole = EppsPulley.apply(samples)
    (expected,) = torch.autograd.grad((whole * torch.arange(30)).sum(), samples)
    assert torch.equal(characteristic.in_blocks(samples), whole)
    monkeypatch.setattr(characteristic, "BLOCK", 8_000)
    monkeypatch.setattr(characteristic, "MANY", 8_000)
    blocks = characteristic.in_blocks(samples)
    (found,) = torch.autograd.grad((blocks * torch.arange(30)).sum(), samples)
    torch.testing.assert_close(blocks, whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (blocks - characteristic.in_blocks(samples.flip(1))).abs().max() > 0.1


@pytest.mark.parametrize("n", [2, 64])
def test_infonce_by_products_is_infonce(n):
    embeddings, widths = torch.randn(3, 40, 2, n, generator=chance()), torch.tensor([0.7, 1.0, 2.0])
    found = infonce(embeddings, widths)
    for member, width, value in zip(embeddings, widths, found, strict=True):
        expected = InfoNCE(float(width))(member)["loss"]
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)
        assert abs(float(InfoNCE(1.1 * float(width))(member)["loss"] - expected)) > 1e-3


def test_batches_grow():
    sizes = [Training(5, 100, growth=16).batch_at(step) for step in range(5)]
    assert sizes == [100, 200, 400, 800, 1600]
    assert {Training(5, 100).batch_at(step) for step in range(5)} == {100}


# --- encoders and pairs ---------------------------------------------------------------------------------------------


def setting(**changed):
    own = Setting("mild couplings", (Member((0, 0), SIGREG, 0.9),), Training(0), n=4, judged=500)
    return replace(own, **changed)


def test_a_matched_encoder_begins_affine():
    x = torch.randn(3, 4, generator=chance())
    for strength, affine in ((0.0, True), (1.0, False)):
        encode = Coupling(4, 4, 8, strength, inverse=True, seed=3)
        middle = encode((x[0] + x[1])[None] / 2)[0]
        assert torch.allclose(middle, (encode(x[:1]) + encode(x[1:2]))[0] / 2, atol=1e-5) == affine


def test_r2_of_an_untrained_matched_encoder_is_that_of_the_observation():
    own = setting(network="coupling", strength=0.0, width=8)
    (row,) = train_and_judge(**own.job().arguments, folder=None)
    mixing = find_mixing(own.mixing, 4, [own.members[0].integer(MIXING)])
    states = np.random.default_rng(0).standard_normal((2, 2000, 4))
    seen = judge(composed(lambda x: x.double(), mixing), *states)
    assert row["judged"]["r2"]["value"] == pytest.approx(seen.r2.value, abs=0.03)
    assert seen.r2.value < 0.97


def test_the_inverse_undoes_its_own_mixing():
    own = setting(network="inverse", members=(Member((0, 0), SIGREG, 0.9), Member((0, 1), SIGREG, 0.9)))
    encoders = train_members(own)
    z = np.random.default_rng(0).standard_normal((50, 4))
    for encode in encoders:
        np.testing.assert_allclose(encode(z), z, atol=1e-5)
    own = setting(network="coupling", width=32, strength=0.5)
    (other,) = train_members(own)
    assert np.abs(other(z) - z).max() > 0.1


def test_a_milder_mixing_hides_less():
    states = np.random.default_rng(0).standard_normal((2, 3000, 8))
    mild, strong = (
        judge(composed(lambda x: x.double(), find_mixing(name, 8, [1])), *states).r2.value
        for name in ("mild couplings", "couplings")
    )
    assert strong < mild - 0.05 < 0.95


def test_pairs_of_a_pool_are_few():
    for pairs, distinct in ((10, 10), (0, 200)):
        drawn = setting(pairs=pairs).source().draw(200)[0].flatten(1)
        assert len(torch.unique(drawn, dim=0)) <= 10 if pairs else len(torch.unique(drawn, dim=0)) == distinct


def moments_of(z):
    """Greatest error in means and covariances of views (B, 2, n) at rho .9."""
    flat, eye = z.flatten(1).double(), torch.eye(z.shape[2], dtype=torch.float64)
    law = torch.cat([torch.cat([eye, 0.9 * eye], dim=1), torch.cat([0.9 * eye, eye], dim=1)])
    return max((flat.T @ flat / len(flat) - law).abs().max(), flat.mean(dim=0).abs().max())


def test_balanced_batches_have_the_moments_of_their_law():
    own = setting(members=(Member((0, 0), SIGREG, 0.9), Member((0, 1), SIGREG, 0.9)))
    balanced, chance = (own.source(kind).draw(64) for kind in (BalancedPairs, GaussianPairs))
    assert balanced.shape == chance.shape == (2, 64, 2, 4)
    assert all(moments_of(z) < 1e-5 for z in balanced) and all(moments_of(z) > 0.1 for z in chance)
    alone = replace(own, members=own.members[1:]).source(BalancedPairs).draw(64)
    torch.testing.assert_close(alone[0], balanced[1])
    with pytest.raises(InvalidInput, match="more than 8 pairs, got 8"):
        own.source(BalancedPairs).draw(8)


def test_balanced_latents_are_gaussian():
    source = setting().source(BalancedPairs)
    z = torch.cat([source.draw(40)[0] for _ in range(500)]).flatten()
    assert stats.kstest(z, "norm").statistic < 0.01 < stats.kstest(1.05 * z, "norm").statistic


def test_a_pool_is_drawn_by_chance():
    drawn = setting(pairs=50).source(BalancedPairs)
    assert moments_of(drawn.pool[0]) > 0.1 > moments_of(setting().source(BalancedPairs).draw(50)[0])


def test_directions_come_in_orthonormal_bases():
    directions = orthonormal_directions(6, 15, chance(), torch.float64)
    assert directions.shape == (6, 15)
    eye = torch.eye(6, dtype=torch.float64)
    for basis in (directions[:, :6], directions[:, 6:12]):
        torch.testing.assert_close(basis.T @ basis, eye)
    assert abs(float(directions[:, 0] @ directions[:, 6])) > 1e-3
    independent = unit_directions(6, 12, chance(), torch.float64)
    assert (independent @ independent.T / 2 - eye).abs().max() > 0.1
    torch.testing.assert_close(directions[:, :12] @ directions[:, :12].T / 2, eye)
    torch.testing.assert_close(directions, orthonormal_directions(6, 15, chance(), torch.float64))


def test_balance_takes_noise_out_of_the_gradient_of_sigreg():
    def noise(kind, orthonormal):
        loss = _Loss([{**SIGREG, "slices": 16}], orthonormal=orthonormal)
        source, generator, found = setting(n=16).source(kind), chance(), []
        for _ in range(40):
            h = (0.9 * source.draw(100)).requires_grad_()
            (gradient,) = torch.autograd.grad(loss(h, [generator])[0, 2], h)
            found.append(torch.einsum("mbvi,mbvj->ij", gradient, h.detach()))  # to weights of a last linear layer
        return float(torch.stack(found).var(dim=0).sum())

    plain, bases, both = noise(GaussianPairs, False), noise(GaussianPairs, True), noise(BalancedPairs, True)
    assert both < bases / 2 < bases < plain / 1.5


def test_of_many_latents_only_r2_is_judged():
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((70, 70)))[0]
    many = judge_gaussian(lambda z: z @ turn, 70, count=300)
    assert many.r2.value == pytest.approx(1) and many.theorem3 is None
    assert judge_gaussian(lambda z: z, 3, count=300).theorem3 is not None
    assert gaussian_pairs(5, 70, 0.5, np.random.default_rng(0)).shape == (5, 2, 70)


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "cpu", "full"])
def test_every_row_is_told_apart(scale):
    size, rows = scaling.SIZES[scale], {}
    for own in scaling.settings(scale, 0):
        key = (
            own.n,
            scaling.NETWORKS[own.network],
            own.trained_by({k: make(own.n) for k, make in scaling.OBJECTIVES.items()}),
            own.pairs,
            own.training.steps,
        )
        assert key not in rows
        rows[key] = own
    named = {(n, objective) for n, encoder, objective, pairs, _ in rows if encoder == scaling.MATCHED and not pairs}
    assert {(n, name) for n in size.matched for name in (scaling.SIGREG, scaling.VICREG, scaling.FIXED)} <= named
    assert (2, scaling.WIDENED) not in named and (4 if scale == "smoke" else 64, scaling.WIDENED) in named
    assert all(n in {n for n, *_ in rows} for n in size.generic)


@pytest.mark.parametrize("scale", ["smoke", "cpu", "full"])
def test_two_latents_are_fitted_at_once_by_sigreg_only(scale):
    methods, largest = {}, 0
    for own, job in zip(scaling.settings(scale, 0), scaling.jobs(scale, 0), strict=False):  # controls come last
        objective, encoder = scaling.names(own)
        methods[own.n, objective, encoder] = job.arguments["method"]
        assert job.arguments["balanced"] == (job.arguments["method"] != "l-bfgs")
        if own.training.steps and job.arguments["balanced"]:
            assert own.training.batch > 2 * own.n
        if objective == scaling.FIXED:
            largest = max(largest, own.training.batch_at(own.training.steps - 1))
    assert methods[2, scaling.SIGREG, scaling.MATCHED] == methods[2, scaling.SIGREG, scaling.INVERSE] == "l-bfgs"
    others = [(scaling.VICREG, scaling.MATCHED), (scaling.FIXED, scaling.MATCHED), (scaling.SIGREG, scaling.GENERIC)]
    assert {methods[2, *other] for other in others} == {"muon"}
    assert largest <= 5120


def test_plain_batches_are_a_control_of_balanced_ones():
    size, (*_, last) = scaling.SIZES["cpu"], scaling.jobs("cpu", 0)
    controls = [job for job in scaling.jobs("cpu", 0) if job.arguments["method"] == "muon"]
    controls = [job.arguments["setting"] for job in controls if not job.arguments["balanced"]]
    assert [own["n"] for own in controls] == [8, 64, 256, 1024] and last.arguments["setting"] in controls
    assert all(own["training"]["steps"] == size.matched[own["n"]].training.steps for own in controls)
    (row,) = train_and_judge(**setting().job().arguments, folder=None)
    results = [({"setting": controls[0], "balanced": balanced}, [row]) for balanced in (True, False)]
    assert [found.objective for found in scaling.rows_of(size, results)] == [scaling.SIGREG, scaling.CHANCE]


def test_only_what_was_published_is_compared():
    size = scaling.SIZES["cpu"]
    matched, generic = (
        next(own for own in scaling.settings("cpu", 0) if own.n == 2 and own.network == kind)
        for kind in ("coupling", "mlp")
    )
    short = replace(matched, training=replace(matched.training, steps=3))
    (row,) = train_and_judge(**setting().job().arguments, folder=None)
    results = [({"setting": own.job().arguments["setting"]}, [row]) for own in (matched, generic, short)]
    assert [found.published for found in scaling.rows_of(size, results)] == [0.999998, None, None]
    assert scaling.read("cpu", results).sentence.startswith("Of an R2 of 1, SIGReg lacks")


def test_the_scaled_width_keeps_typical_distances():
    for n in (8, 1024):
        fixed, widened = (scaling.OBJECTIVES[name](n)["sigma"] for name in (scaling.FIXED, scaling.WIDENED))
        assert widened / fixed == pytest.approx(math.sqrt(n / 2))


def test_no_two_curves_share_a_colour():
    """The legend is one for all panels."""
    plots = scaling.panels(scaling.SIZES["cpu"], [])
    colours = {label: colour for _, _, curves in plots for label, colour, _ in curves}
    assert len(set(colours.values())) == len(colours)
