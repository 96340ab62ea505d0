"""The window of unequal rates: features are told apart, weights change one rate alone, actions need no window."""

import math

import numpy as np
import pytest
import torch

from worldplan.eval.laboratory.ensemble import Training
from worldplan.eval.laboratory.setting import Member, Setting, train_members
from worldplan.eval.laboratory.window import WHITENING, actions_of, chance_of, measured, reweighted, switch
from worldplan.learning.excitation import Excitation
from worldplan.learning.objectives import Whitening

RATES = 0.9, 0.7  # outside the window


def setting(objective, steps, **options):
    return Setting("sine", (Member((0, 0), objective, RATES),), Training(steps, 128), width=24, depth=2, **options)


@pytest.fixture(scope="module")
def pairs():
    """(B, 2, 2), and the actions between the views."""
    own = setting(WHITENING, 0)
    z = own.source().draw(100_000)
    return z[0].double(), actions_of(own)(z)[0].double()


def embedded(z, second):
    """z_1 beside z_2 or the second harmonic of z_1."""
    other = z[..., 1] if second == "z_2" else (z[..., 0] ** 2 - 1) / math.sqrt(2)
    return torch.stack([z[..., 0], other], dim=-1)


def test_features_are_told_apart():
    one = measured(lambda z: z[:, :1], 0.7, 2000, 0)
    assert one.slow_latent == pytest.approx(1) and max(one.fast_latent, one.harmonic) < 0.01
    harmonic = measured(lambda z: np.stack([z[:, 0], 3 + z[:, 0] + z[:, 0] ** 2], axis=1), 0.7, 2000, 0)
    assert harmonic.harmonic == pytest.approx(1) and harmonic.fast_latent < 0.01
    turned = measured(lambda z: z @ np.array([[0.6, -0.8], [0.8, 0.6]]), 0.7, 2000, 0)
    assert turned.fast_latent == pytest.approx(1) and turned.harmonic < 0.01


def test_whiteness_prefers_the_harmonic_and_actions_do_not(pairs):
    z, actions = pairs
    white = {second: float(Whitening(0.5)(embedded(z, second))["loss"]) for second in ("z_2", "He_2")}
    assert white["He_2"] < white["z_2"] - 0.01
    shares = {second: Excitation()(embedded(z, second), actions=actions) for second in ("z_2", "He_2")}
    assert float(shares["z_2"]["J"]) == pytest.approx(sum((1 + rate) / 2 for rate in RATES), abs=0.01)
    assert float(shares["He_2"]["J"]) < (1 + RATES[0]) / 2 + 0.01
    assert shares["z_2"]["loss"] < shares["He_2"]["loss"]


def test_a_bent_latent_explains_less(pairs):
    """The bound `sum (1 + rho) / 2` holds for any h, and only linear ones attain it."""
    z, actions = pairs
    best = sum((1 + rate) / 2 for rate in RATES)
    for h in (z + 0.1 * z**3, torch.sinh(z), torch.stack([z[..., 0], z[..., 1] + 0.3 * z[..., 0] ** 2], dim=-1)):
        assert float(Excitation()(h, actions=actions)["J"]) < best - 0.01
    mixed = z @ torch.tensor([[2.0, 1.0], [0.0, 0.3]], dtype=torch.float64)
    assert float(Excitation()(mixed, actions=actions)["J"]) == pytest.approx(best, abs=0.01)


def test_weights_change_the_rate_of_the_feature_alone(pairs):
    z = pairs[0].numpy()
    chosen = np.random.default_rng(0).choice(len(z), len(z), p=chance_of(-2 * z[..., 0] + 1, 0.82))
    again = z[chosen]
    unit = again / again.std(axis=(0, 1))
    lagged = (unit[:, 0] * unit[:, 1]).mean(axis=0)
    np.testing.assert_allclose(lagged, [0.82, RATES[1]], atol=0.03)
    np.testing.assert_allclose(again.var(axis=(0, 1)), 1, atol=0.05)
    same = chance_of(z[..., 0], float(np.corrcoef(z[:, 0, 0], z[:, 1, 0])[0, 1]))  # negative control: nothing to change
    assert same.max() * len(z) == pytest.approx(1, abs=0.2)


def test_reweighted_pools_are_of_the_slowest_feature():
    """Even before training converges on z_1 the pool keeps its shape, and draws rows of pairs."""
    pool = reweighted(setting(WHITENING, 150), 4000).pool[0].numpy()
    assert pool.shape == (4000, 2, 2)
    lagged = [np.corrcoef(pool[:, 0, k], pool[:, 1, k])[0, 1] for k in (0, 1)]
    assert lagged[0] < 0.88 and abs(lagged[1] - RATES[1]) < 0.05


def test_an_ensemble_may_be_trained_on_actions():
    own = setting({"name": "excitation"}, 400)
    (encode,) = train_members(own, actions=actions_of(own))
    found = measured(encode, RATES[1], 1000, 0)
    assert found.fast_latent > 0.8 > 0.3 > found.harmonic
    other = setting(WHITENING, 0)
    (untrained,) = train_members(other)
    assert measured(untrained, RATES[1], 1000, 0).fast_latent < found.fast_latent


def test_a_switch_is_one_crossing():
    assert switch([0.9, 0.7, 0.8], [0.5, -0.5, -0.1]) == pytest.approx(0.8 + 0.1 / 6)
    assert switch([0.7, 0.8, 0.9], [0.1, 0.2, 0.3]) is None
    assert switch([0.7, 0.8, 0.9, 1.0], [-0.1, 0.2, -0.3, 0.1]) is None
    assert switch([0.7, 0.8, 0.9], [-0.1, 0.2, -0.3]) is None
