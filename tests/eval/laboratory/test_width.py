"""Encoders of the wrong width: what is measured of them, and reductions that see no true state."""

import numpy as np
import pytest

from worldplan.eval.laboratory.ensemble import Training
from worldplan.eval.laboratory.judge import control_cost, judge_gaussian
from worldplan.eval.laboratory.setting import Member, Setting, Trained
from worldplan.eval.laboratory.width import RATES, N, examined, principal, reduced, slow_directions
from worldplan.eval.laboratory.worlds import gaussian_pairs
from worldplan.planning.rotation import random_rotation

OBJECTIVE = {"name": "lejepa", "weight": 0.003}


def harmonics(z):
    """All four latents and four of their normalised second harmonics, in a random rotation."""
    return np.concatenate([z, z * np.roll(z, 1, axis=1)], axis=1) @ random_rotation(2 * N, 3)


def copies(z):
    return np.concatenate([z, z], axis=1) / np.sqrt(2) @ random_rotation(2 * N, 3)


def measure(encode, rates="equal"):
    member = Member((0, 0), OBJECTIVE, RATES[rates])
    setting = Setting("couplings", (member,), Training(0), n=N, judged=2000)
    judged = judge_gaussian(encode, N, count=500)
    return examined(encode, Trained(member, 0.0, 0.0, 0.0, judged, control_cost(encode, N)), setting)


def test_a_wide_encoder_of_harmonics():
    found = measure(harmonics)
    np.testing.assert_allclose(found.energy, [0.5, 0.5, 0, 0], atol=0.03)
    assert found.rank == pytest.approx(8, abs=0.1)
    assert found.rotation == pytest.approx(1, abs=0.01) and min(found.latents) > 0.99
    # The gap from rho to rho^2 shows how many latents there are, and the slowest directions are they.
    np.testing.assert_allclose(found.rates, [0.7] * 4 + [0.49] * 4, atol=0.06)
    assert found.costs["slowest"] == pytest.approx(1, abs=0.02)
    assert found.costs["random"] > 1.2  # the null: random directions mix in harmonics
    assert found.costs["principal"] > 1.2  # all have the same variance, which tells nothing


def test_a_wide_encoder_of_copies():
    found = measure(copies)
    np.testing.assert_allclose(found.energy, [1, 0, 0, 0], atol=0.01)
    assert found.rank == pytest.approx(4, abs=0.05) and len(found.rates) == 4
    assert found.costs["whole"] == pytest.approx(1, abs=0.02)
    assert (found.costs["slowest"], found.costs["principal"]) == pytest.approx((1, 1), abs=0.02)


def test_a_narrow_encoder():
    found = measure(lambda z: z[:, :2], "unequal")
    np.testing.assert_allclose(found.latents, [1, 1, 0, 0], atol=0.01)
    np.testing.assert_allclose(found.rates, [0.8, 0.75], atol=0.03)
    assert found.rank == pytest.approx(2, abs=0.01) and found.judged.r2.value == pytest.approx(0.5, abs=0.03)
    assert min(found.costs.values()) > 2  # half of the latents are not seen


def test_slow_directions():
    z = gaussian_pairs(20_000, 3, (0.9, 0.6, 0.3), np.random.default_rng(0))
    mix = np.array([[2.0, 0.3, 0.0], [0.1, 1.0, -0.5], [0.7, 0.0, 3.0]])
    rates, directions = slow_directions(z @ mix.T)
    np.testing.assert_allclose(rates, [0.9, 0.6, 0.3], atol=0.02)
    seen = z[:, 0] @ mix.T @ directions.T
    np.testing.assert_allclose(np.cov(seen.T), np.eye(3), atol=0.03)
    np.testing.assert_allclose(np.abs(np.corrcoef(seen.T, z[:, 0].T)[:3, 3:]), np.eye(3), atol=0.03)
    variances = np.var(z[:, 0] @ mix.T @ principal(z @ mix.T).T, axis=0)
    assert (np.diff(variances) < 0).all()
    # Without pairs in their order nothing is slow.
    shuffled = np.stack([z[:, 0], np.random.default_rng(1).permutation(z[:, 1])], axis=1)
    assert np.abs(slow_directions(shuffled)[0]).max() < 0.03


def test_reduced_encoders():
    np.testing.assert_allclose(reduced(lambda z: 2 * z, np.array([[0.0, 1.0]]))(np.array([[3.0, 5.0]])), [[10.0]])
