"""Tests of Gaussianity side by side: what is known of them exactly, and what they must miss."""

import numpy as np
import pytest

from worldplan.eval.laboratory.gaussianity_tests import ALTERNATIVES, compare
from worldplan.learning.gaussianity import TESTS


@pytest.fixture(scope="module")
def compared():
    return {test: compare(test, 4000, 1000, [1, 8], [0, 0], None) for test in TESTS}


def test_size_and_critical_values(compared):
    """Limits for many samples: Stephens 1974, with known mean and variance; chi-squared for moments."""
    for test, limit in {"cramer-von-mises": 0.461, "watson": 0.187, "anderson-darling": 2.492}.items():
        assert compared[test]["critical"] == pytest.approx(limit, rel=0.08)
    assert all(0.03 < row["size"] < 0.075 for row in compared.values())
    assert all(row["cost"] > 0 for row in compared.values())


def test_what_moments_are_blind_to(compared):
    name = "five moments equal"
    assert compared["moments"]["power"][name] < 0.12
    assert compared["watson"]["power"][name] > 0.9
    assert compared["moments"]["power"]["scaled by 1.25"] > 0.5


def test_gradients(compared):
    """Epps-Pulley's lies below 4 * integral |t| exp(-t^2 / 2) over [-3, 3], wherever the samples are."""
    for test, row in compared.items():
        found = row["gradient"]
        largest = found["typical"] * max(found["largest"], found["large"], *found["outlier"])
        assert (largest < 8) is (test in ("epps-pulley", "cramer-von-mises", "watson", "anderson-darling")), test
    assert compared["moments"]["gradient"]["outlier"][1] > 1e6 > compared["jarque-bera"]["gradient"]["outlier"][1]


def test_alternatives():
    rng = np.random.default_rng(0)
    drawn = {name: law(rng, (100_000, 4)) for name, law in ALTERNATIVES.items()}
    for name, values in drawn.items():
        standard = abs(values.mean()) < 0.02 and abs(values.var() - 1) < 0.02
        assert standard == (name not in ("shifted by .3", "scaled by 1.25")), name
    moments = [float((drawn["five moments equal"] ** k).mean()) for k in range(1, 7)]
    np.testing.assert_allclose(moments[:5], [0, 1, 0, 3, 0], atol=0.06)
    assert moments[5] < 14  # a Gaussian has 15
