"""The X: what hides it, and which directions unfold it."""

import math

import numpy as np
import pytest
import torch

from worldplan.eval.laboratory.sigreg_unfolding import CHANCE, COUNT, crossed, in_plane, tie, unfold
from worldplan.learning.gaussianity import epps_pulley

ADAM = {"by": "epps-pulley", "folder": None}


def gaussian(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("count", [5, 100])
def test_chance_is_the_mean_of_gaussian_samples(count):
    """The trapezoid rule is accurate to some thousandths."""
    found = epps_pulley(gaussian(count, 20_000)).mean()
    assert float(found) == pytest.approx(CHANCE, rel=0.02)
    assert float(epps_pulley(1.3 * gaussian(100, 2000)).mean()) > 1.5 * CHANCE


def test_the_x_hides_from_its_axes():
    x = crossed(50_000, 3, torch.Generator().manual_seed(1))
    torch.testing.assert_close(x.T.cov(), torch.eye(3), rtol=0, atol=0.02)
    assert float(epps_pulley(x[:, :2]).max()) < 6
    assert float(epps_pulley((x[:, :1] + x[:, 1:2]) / math.sqrt(2))) > 1000
    assert float(tie(x)) == pytest.approx(1)
    assert abs(float(tie(gaussian(50_000, 2)))) < 0.02
    assert float(in_plane(x[:COUNT])) > 1.5 * CHANCE


def test_resampled_directions_unfold_it_and_one_fixed_direction_does_not():
    own = unfold(2, 16, False, steps=300, seeds=[[0, 0]], **ADAM)[0]
    assert own["before"]["tie"] == pytest.approx(1, abs=1e-6) and abs(own["after"]["tie"]) < 0.3
    assert own["before"]["plane"] > 1.5 and own["after"]["plane"] < 0.5
    assert own["tie"][0] == 1 and len(own["tie"]) == len(own["steps"]) == 11
    fixed = unfold(16, 1, True, steps=100, seeds=[[0, 0]], **ADAM)[0]
    assert fixed["after"]["tie"] > 0.8


def test_samples_of_several_seeds_do_not_interact():
    together, alone = (unfold(4, 4, False, steps=20, seeds=seeds, **ADAM) for seeds in ([[0, 0], [0, 1]], [[0, 1]]))
    np.testing.assert_allclose(together[1]["cloud"], alone[0]["cloud"], atol=2e-3)
    assert np.abs(np.subtract(together[0]["cloud"], together[1]["cloud"])).max() > 0.5
