"""The best possible R2 of an angle that wraps, against simulation."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from worldplan.errors import InvalidInput, UnknownName
from worldplan.eval.identifiability.ceiling import bayes_ceiling


@pytest.mark.parametrize(("scale", "ceiling"), [(1.0, 0.9489), (0.9, 0.9819), (0.8, 0.9959), (0.7, 0.9995)])
def test_known_values(scale, ceiling):
    assert bayes_ceiling(scale) == pytest.approx(ceiling, abs=6e-5)


@pytest.mark.parametrize("scale", [1.0, 1.3, 2.0])
def test_it_is_what_the_best_guess_from_the_wrapped_angle_reaches(scale):
    """Monte Carlo: the mean of the true angle within narrow bins of the wrapped one is the posterior mean."""
    theta = scale * np.random.default_rng(0).standard_normal(400_000)
    seen = np.floor((theta + np.pi) % (2 * np.pi) / (2 * np.pi) * 200).astype(int)
    guess = (np.bincount(seen, theta) / np.bincount(seen))[seen]
    assert bayes_ceiling(scale) == pytest.approx(1 - np.mean((theta - guess) ** 2) / theta.var(), abs=0.003)
    naive = (theta + np.pi) % (2 * np.pi) - np.pi  # taking the wrapped angle as it is does worse
    assert 1 - np.mean((theta - naive) ** 2) / theta.var() < bayes_ceiling(scale) - 0.005


@settings(max_examples=30)
@given(st.floats(1e-6, 30.0), st.floats(1.0, 2.0))
def test_wider_worlds_tell_less(scale, factor):
    assert 0.0 <= bayes_ceiling(scale * factor) <= bayes_ceiling(scale) + 1e-12 <= 1.0 + 2e-12


def test_limits_and_kinds():
    assert bayes_ceiling(0.05) == 1.0
    assert bayes_ceiling(15.0) < 1e-9
    assert bayes_ceiling(15.0, "wrapped") == bayes_ceiling(15.0, "sincos") == 1.0
    for scale in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InvalidInput, match="positive angle"):
            bayes_ceiling(scale)
    with pytest.raises(UnknownName):
        bayes_ceiling(1.0, "degrees")
