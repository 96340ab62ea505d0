"""Laws of the latents: their variances, and their Fisher information."""

import numpy as np
import pytest
from scipy.integrate import quad

from worldplan.eval.laboratory.transports import (
    CONDITIONS,
    IDEAL,
    INFORMATION,
    LATENTS,
    MODES,
    OURS,
    WIDTH,
    eigenvalues,
)


@pytest.mark.parametrize("law", OURS)
def test_laws_have_one_total_variance(law):
    h = OURS[law](np.random.default_rng(0).standard_normal((200_000, LATENTS)))
    np.testing.assert_allclose(h.mean(axis=0), 0, atol=0.02)
    assert h.var(axis=0).sum() == pytest.approx(LATENTS, rel=0.01)
    condition = CONDITIONS.get(law, 1.0)
    np.testing.assert_allclose(h.var(axis=0), eigenvalues(condition), rtol=0.02)
    excess = (h**4).mean(axis=0) / h.var(axis=0) ** 2 - 3
    assert (np.abs(excess) < 0.1).all() == (law not in ("uniform", "Laplace", "bimodal"))


def test_the_isotropic_gaussian_has_least_information():
    assert min(INFORMATION.values()) == INFORMATION[IDEAL] == LATENTS
    assert list(INFORMATION.values()).count(LATENTS) == 1

    def density(x):
        return sum(np.exp(-((x - m) ** 2) / 2 / WIDTH**2) for m in (-MODES, MODES)) / (WIDTH * np.sqrt(8 * np.pi))

    slope = quad(lambda x: ((density(x + 1e-5) - density(x - 1e-5)) / 2e-5) ** 2 / density(x), -6, 6)[0]
    assert INFORMATION["bimodal"] == pytest.approx(LATENTS * slope, rel=1e-5)
