"""Ensembles: a member is what it would be alone, and training learns what the theorem promises."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from worldplan.errors import EncoderCollapsed, InvalidInput
from worldplan.eval.laboratory.ensemble import Training, _Loss, _minimise, clip, train
from worldplan.eval.laboratory.judge import composed, control_cost, judge_gaussian
from worldplan.eval.laboratory.networks import Coupling, mlp, stacked
from worldplan.eval.laboratory.optimisers import orthogonal
from worldplan.eval.laboratory.setting import Member, Setting, train_and_judge, trained
from worldplan.eval.laboratory.worlds import GaussianPairs, RecordedPairs, StratifiedPairs, find_mixing, gaussian_pairs
from worldplan.learning.gaussianity import TESTS, unit_directions
from worldplan.learning.objectives import objective_from_dict

LEJEPA = {"name": "lejepa", "weight": 0.02, "slices": 8}
OBJECTIVES = [LEJEPA, {"name": "vicreg"}, {"name": "whitening"}, {"name": "infonce", "sigma": 0.7}]


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def ensemble(seeds, objective, mixing="couplings", training=None, rho=0.5):
    return train(
        [mlp(2, 2, width=8, depth=2, seed=seed) for seed in seeds],
        GaussianPairs(torch.full((len(seeds), 2), rho), generators(seeds)),
        find_mixing(mixing, 2, seeds),
        [objective] * len(seeds),
        training or Training(5, 32),
        generators(seeds),
    )


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o["name"])
def test_a_member_is_what_it_would_be_alone(objective):
    together, x = ensemble([3, 4, 5], objective), torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    for k, seed in enumerate([3, 4, 5]):
        alone = ensemble([seed], objective)
        # Rounding differs by the shape of a product: 5 steps of AdamW multiply it by less than 1e3.
        np.testing.assert_allclose(together.encoder(k)(x), alone.encoder(0)(x), rtol=0, atol=2e-4)
        np.testing.assert_allclose(together.losses[k], alone.losses[0], rtol=1e-3)
    assert (together.encoder(0)(x) - together.encoder(1)(x)).abs().max() > 0.01


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o["name"])
def test_the_loss_is_the_objectives(objective):
    """One step: what an ensemble logs is what the objective of the library gives for the same batch."""
    found = ensemble([7], objective, training=Training(1, 32))
    (pairs, chance), net = generators([7, 7]), mlp(2, 2, width=8, depth=2, seed=7)
    x = find_mixing("couplings", 2, [7])(GaussianPairs(torch.full((1, 2), 0.5), [pairs]).draw(32))[0]
    expected = objective_from_dict(objective)(net(x), chance)
    assert found.losses[0, 0] == pytest.approx(expected["loss"].item(), rel=1e-4)
    assert found.losses[0, 1] == pytest.approx(expected["align"].item(), rel=1e-4)


def test_objectives_of_one_ensemble():
    nets, pairs = [mlp(2, 2, width=4, depth=1)] * 2, GaussianPairs(torch.full((2, 2), 0.5), generators([0, 1]))
    with pytest.raises(InvalidInput, match="weight and sigma"):
        train(
            nets, pairs, find_mixing("sine", 2, [0, 1]), [OBJECTIVES[0], OBJECTIVES[1]], Training(1), generators([0, 1])
        )


def test_a_loss_that_is_not_finite_is_refused():
    with pytest.raises(EncoderCollapsed, match="learning rate"):
        ensemble([0], LEJEPA, training=Training(30, 32, rate=1e30))


def test_gradients_are_clipped_by_member():
    leaf = torch.zeros(2, 3, requires_grad=True)
    leaf.grad = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.5]])
    clip([leaf])
    torch.testing.assert_close(leaf.grad, torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 0.5]]))


def test_the_rate_rises_and_falls():
    rates = [Training(100, rate=1.0).rate_at(step) for step in range(100)]
    assert rates[9] == 1.0 == max(rates) and rates[0] == 0.1 and 0 < rates[-1] < 1e-3


def test_coupling_layers_undo_a_mixing():
    """The inverse form with the same weights, so that a matched encoder can be perfect."""
    there, back = Coupling(5, 4, 8, seed=1), Coupling(5, 4, 8, inverse=True, seed=1)
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(back(there(x)), x, rtol=0, atol=1e-5)
    assert (there(x) - x).abs().max() > 0.5
    assert (Coupling(5, 4, 8, inverse=True, seed=2)(there(x)) - x).abs().max() > 0.5


def test_stacked_networks():
    nets = [mlp(3, 2, width=8, depth=2, seed=seed) for seed in range(4)]
    forward, parameters = stacked(nets)
    x = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))
    for k, net in enumerate(nets):
        torch.testing.assert_close(forward(parameters, x)[k], net(x[k]))


class Products(TorchDispatchMode):
    """Remembers how many matrices each batched product has."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.bmm.default:
            self.batches.append(len(args[0]))
        return func(*args, **(kwargs or {}))


def multiplied(forward, nets, x):
    """Numbers of matrices in the products of a pass and its gradient."""
    parameters = {name: value.detach().requires_grad_() for name, value in stacked(nets)[1].items()}
    with Products() as products:
        forward(parameters, x).square().sum().backward()
    return set(products.batches)


@pytest.mark.parametrize(
    "make", [mlp, lambda n, _, width, depth, seed: Coupling(n, depth, width, seed=seed)], ids=["mlp", "coupling"]
)
def test_a_layer_of_an_ensemble_is_one_product(make):
    """One matrix for each network, not one for each pair, whatever the layout of the inputs."""
    nets, columns = [make(4, 4, width=8, depth=3, seed=seed) for seed in range(3)], torch.randn(3, 2, 4, 50)
    forward, _ = stacked(nets)
    rows = columns.permute(0, 3, 1, 2)
    assert multiplied(forward, nets, rows) == multiplied(forward, nets, rows.contiguous()) == {3}
    raw = torch.vmap(lambda own, x: functional_call(nets[0], own, (x,)))
    assert 150 in multiplied(raw, nets, rows)


def test_pairs_are_gaussian_and_correlated():
    rho = torch.tensor([[0.3, 0.8]])
    z = GaussianPairs(rho, generators([0])).draw(200_000)[0].double()
    for view in (0, 1):
        torch.testing.assert_close(z[:, view].T.cov(), torch.eye(2, dtype=torch.float64), rtol=0, atol=0.015)
    torch.testing.assert_close((z[:, 0] * z[:, 1]).mean(dim=0), rho[0].double(), rtol=0, atol=0.015)
    assert abs(float((z[:, 0, 0] * z[:, 1, 1]).mean())) < 0.015
    pairs = gaussian_pairs(200_000, 2, 0.5, np.random.default_rng(0))
    np.testing.assert_allclose((pairs[:, 0] * pairs[:, 1]).mean(axis=0), 0.5, atol=0.015)


@pytest.mark.parametrize("rho", [torch.full((2, 2), 1.0), torch.full((1, 2), 0.5), torch.full((2,), 0.5)])
def test_bad_correlations(rho):
    with pytest.raises(InvalidInput, match="rho"):
        GaussianPairs(rho, generators([0, 1]))


def test_recorded_pairs_come_from_the_pool():
    pool = torch.arange(2 * 5 * 2 * 1.0).reshape(2, 5, 2, 1)
    drawn = RecordedPairs(pool, generators([0, 1])).draw(50)
    assert drawn.shape == (2, 50, 2, 1)
    for k in range(2):
        assert set(drawn[k].flatten().tolist()) == set(pool[k].flatten().tolist())
        assert (drawn[k, :, 1] - drawn[k, :, 0] == 1).all()
    with pytest.raises(InvalidInput, match="pairs"):
        RecordedPairs(pool[:, :, :1], generators([0, 1]))


@pytest.mark.parametrize("name", ["spiral", "sine", "parabola", "couplings"])
def test_mixings_hide_the_latents(name):
    z = torch.randn(1, 50_000, 2, generator=torch.Generator().manual_seed(0))
    x = find_mixing(name, 2, [0])(z)
    assert not torch.equal(x, z)
    if name == "spiral":  # keeps every radius and the law: a test of Gaussianity sees nothing
        torch.testing.assert_close(x.norm(dim=-1), z.norm(dim=-1))
        directions = unit_directions(2, 8, torch.Generator().manual_seed(1), torch.float32)
        assert float(TESTS["epps-pulley"](x[0] @ directions).mean()) < 5
    else:
        directions = unit_directions(2, 8, torch.Generator().manual_seed(1), torch.float32)
        assert float(TESTS["epps-pulley"](x[0] @ directions).mean()) > 50


def test_judges_know_a_rotation_from_a_bend():
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    rotation, bend = judge_gaussian(lambda z: z @ turn.T, 2), judge_gaussian(lambda z: z + 0.3 * z**3, 2)
    assert rotation.r2.value == pytest.approx(1) and rotation.theorem3.error.value == pytest.approx(0, abs=1e-12)
    assert rotation.orthogonality.value < 1e-12
    assert bend.r2.value < 0.95 and bend.theorem3.error.low > 0.1 and bend.theorem3.holds
    assert control_cost(lambda z: z @ turn.T, 2) == pytest.approx(1, abs=0.01)
    assert control_cost(lambda z: z[:, :1], 2) > 2
    nothing = judge_gaussian(lambda z: 0 * z, 2)
    assert nothing.r2.value == 0


def test_composed_encoders_see_the_mixing():
    turned = composed(lambda x: x.double(), find_mixing("parabola", 2, [0]))(np.array([[1.0, 2.0], [3.0, 0.0]]))
    np.testing.assert_allclose(turned, [[1.0, 2.0], [3.0, 6.0]])


@pytest.mark.slow
def test_lejepa_undoes_a_shear():
    """Theorem 1 as it is trained; without alignment the shear stays."""
    members = [Member((0, 0), {**LEJEPA, "weight": weight}, 0.5) for weight in (0.02, 1.0)]
    setting = Setting("parabola", tuple(members), Training(1500, 128), width=32, depth=2)
    job = setting.job()
    kept = [(job.arguments, train_and_judge(**job.arguments, folder=None))]
    with_pairs, without = (encoder for _, encoder in trained(kept))
    assert with_pairs.judged.r2.value > 0.95 > 0.9 > without.judged.r2.value
    assert with_pairs.control < 1.2


# --- other ways to train --------------------------------------------------------------------------------------------


def wide(seeds, training=None, method="adamw"):
    return train(
        [mlp(2, 2, width=16, depth=2, seed=seed) for seed in seeds],
        StratifiedPairs(torch.full((len(seeds), 2), 0.9), generators(seeds)),
        find_mixing("parabola", 2, seeds),
        [LEJEPA] * len(seeds),
        training or Training(5, 32),
        generators(seeds),
        method=method,
    )


@pytest.mark.parametrize("method", ["muon", "l-bfgs"])
def test_a_member_is_alone_however_it_is_trained(method):
    together, x = wide([3, 4], method=method), torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    for k, seed in enumerate([3, 4]):
        np.testing.assert_allclose(together.encoder(k)(x), wide([seed], method=method).encoder(0)(x), rtol=0, atol=2e-4)
    assert (together.encoder(0)(x) - wide([3]).encoder(0)(x)).abs().max() > 0.01


def test_muon_moves_a_matrix_alike_in_all_its_directions():
    matrices = torch.randn(3, 24, 16, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 0, 16)
    before, after = (torch.linalg.svdvals(m) for m in (matrices, orthogonal(matrices)))
    assert (after > 0.5).all() and (after < 1.3).all()
    assert float((before.amax(dim=1) / before.amin(dim=1)).min()) > 50
    torch.testing.assert_close(orthogonal(matrices.mT), orthogonal(matrices).mT, rtol=1e-4, atol=1e-4)


def lack(method, training):
    """What R2 lacks, of one encoder trained in a parabola."""
    members = (Member((0, 0), LEJEPA, 0.9),)
    setting = Setting("parabola", members, training, width=16, depth=2, judged=2000)
    (_, encoder), *_ = trained([({"setting": setting.job().arguments["setting"]}, run(setting, method))])
    return 1 - encoder.judged.r2.value


def run(setting, method):
    return train_and_judge(setting.job().arguments["setting"], Path("."), method)


def test_l_bfgs_finds_its_way_through_the_valley():
    """As many steps on as many pairs: what AdamW leaves is a multiple."""
    assert lack("l-bfgs", Training(200, 1024)) < 0.02
    assert lack("adamw", Training(200, 1024)) > 0.06


@pytest.mark.parametrize(
    "objective, rounds",
    [
        (LEJEPA | {"weight": 0.32}, [2, 2, 2, 2, 2, 6]),
        (LEJEPA | {"weight": 1.0}, [16]),  # a smaller weight would lend it some alignment
        ({"name": "vicreg", "weight": 0.32}, [16]),  # a smaller one would let it collapse
    ],
)
def test_the_weight_of_lejepa_grows_to_its_own(objective, rounds, monkeypatch):
    """While L-BFGS runs: rounds share the steps."""
    steps, weights, weight = [], [], objective["weight"]

    class Seen(torch.optim.LBFGS):
        def step(self, closure):
            steps.append(self.param_groups[0]["max_iter"])
            weights.append(loss.weight.item())
            return super().step(closure)

    loss = _Loss([objective])
    monkeypatch.setattr(torch.optim, "LBFGS", Seen)
    parameter = torch.eye(2, dtype=torch.float64)[None].requires_grad_()
    pairs = GaussianPairs(torch.full((1, 2), 0.9), generators([0])).draw(64).double()
    found = _minimise({"m": parameter}, lambda: pairs @ parameter, loss, generators([0])[0], Training(16, 64))
    assert steps == rounds
    assert weights == pytest.approx([weight / 2**k for k in reversed(range(len(rounds)))])
    assert found[0] == pytest.approx(weight * found[2] + (1 - weight) * found[1])


def test_the_sample_of_l_bfgs_is_even():
    even, chance = (
        kind(torch.full((1, 2), 0.9), generators([0])).draw(1024)[0].double().flatten(1)
        for kind in (StratifiedPairs, GaussianPairs)
    )
    expected = torch.kron(torch.tensor([[1, 0.9], [0.9, 1]], dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    assert (even.T @ even / len(even) - expected).abs().max() < 0.01
    assert (chance.T @ chance / len(chance) - expected).abs().max() > 0.02
