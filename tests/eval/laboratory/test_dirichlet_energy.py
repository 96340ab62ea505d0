"""The limit of small noise: its constant, exact rates, Jacobians, and the floor of the energy."""

import numpy as np
import pytest
import torch

from worldplan.eval.laboratory.dirichlet import jobs
from worldplan.eval.laboratory.dirichlet_energy import (
    FIXED,
    RHOS,
    alignment_rate,
    energy,
    jacobians,
    learn,
    measure_fixed,
    shape,
    spiral_rate,
)
from worldplan.eval.laboratory.networks import mlp
from worldplan.eval.laboratory.worlds import Spiral

CURVED = [name for name in FIXED if name != "rotation"]


def states(count=2000, n=2):
    return torch.randn(count, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", FIXED)
def test_exact_rates_tend_to_the_energy(name):
    fixed = FIXED[name]
    assert fixed.rate(0.99999) == pytest.approx(fixed.energy, rel=1e-4)
    rates = [fixed.rate(rho) for rho in RHOS]
    assert rates == sorted(rates) and rates[-1] <= fixed.energy * (1 + 1e-9)
    assert (rates[0] < 0.96 * fixed.energy) is (name in CURVED)


@pytest.mark.parametrize("name", FIXED)
def test_simulation_agrees_with_the_exact_numbers(name):
    found = measure_fixed(name, 100_000, [0, 0], None)
    assert found["energy"] == pytest.approx(FIXED[name].energy, rel=0.02)
    np.testing.assert_allclose(found["rates"], [FIXED[name].rate(rho) for rho in RHOS], rtol=0.02)
    assert (max(abs(rate - 1) for rate in found["rates"]) < 1e-9) == (name == "rotation")


def test_the_constant_is_two():
    """`L / (1 - rho)` of a map tends to twice its energy `E ||J||_F^2`, not to the energy."""
    z, eta, rho = states(200_000), states(400_000)[200_000:], 0.9999
    for name in ("rotation", "parabola"):
        h = FIXED[name].map
        whole = float((h(rho * z + (1 - rho**2) ** 0.5 * eta) - h(z)).square().sum(dim=1).mean()) / (1 - rho)
        jacobian = float(jacobians(h, z).square().sum(dim=(1, 2)).mean())
        assert whole == pytest.approx(2 * jacobian, rel=0.03)
        assert float(alignment_rate(h, z, eta, rho).mean()) == pytest.approx(jacobian / 2, rel=0.03)


@pytest.mark.parametrize("rho", [0.5, 0.999])
def test_the_rate_of_a_spiral_is_accurate(rho):
    assert spiral_rate(1.0, rho) == pytest.approx(spiral_rate(1.0, rho, knots=500), rel=1e-7)
    assert spiral_rate(0.0, rho) == pytest.approx(1, rel=1e-7)
    assert spiral_rate(2.0, rho) > 1.5


def test_jacobians():
    """Against reverse mode, of an encoder after a mixing."""
    net, z = mlp(2, 2, width=8, depth=2, seed=0).double(), states(20)

    def h(z):
        return net(Spiral()(z))

    expected = torch.vmap(torch.func.jacrev(h))(z)
    torch.testing.assert_close(jacobians(h, z), expected)
    assert (jacobians(net, z) - expected).abs().max() > 0.01


def test_the_floor_is_met_by_isometries_only():
    z = states()
    rotation, spiral = (shape(jacobians(FIXED[name].map, z)) for name in ("rotation", "spiral"))
    assert rotation["energy"] == pytest.approx(1) and rotation["floor"] == pytest.approx(1)
    assert rotation["spread"] < 1e-6
    assert spiral["floor"] == pytest.approx(1) and spiral["energy"] > 1.9 and spiral["spread"] > 0.5
    assert spiral["singular"][0] < 0.5 < 2 < spiral["singular"][2]
    double = shape(jacobians(lambda z: 2 * FIXED["rotation"].map(z), z))
    assert double["energy"] == pytest.approx(4) == double["floor"] and double["spread"] < 1e-6
    assert float(energy(torch.eye(2)[None])) == 1


def test_encoders_are_measured_as_they_are_trained():
    job = next(job for job in jobs("smoke", 0) if job.function is learn)
    found = learn(**job.arguments, folder=None)[0]
    assert [point["step"] for point in found["curve"]][0::5][:1] == [0] and found["curve"][-1]["step"] == 10
    assert found["curve"][-1]["energy"] == found["energy"] != found["curve"][0]["energy"]
    assert found == learn(**job.arguments, folder=None)[0]


@pytest.mark.slow
def test_alignment_brings_singular_values_together():
    setting = dict(next(job for job in jobs("smoke", 0) if job.function is learn).arguments["setting"])
    setting |= {"mixing": "parabola", "width": 32, "depth": 2, "training": {"steps": 800, "batch": 64}}
    found = {}
    for weight in (0.02, 1.0):
        members = [{**member, "objective": {**member["objective"], "weight": weight}} for member in setting["members"]]
        found[weight] = learn({**setting, "members": members}, None)[0]
    assert found[0.02]["spread"] < 0.9 * found[1.0]["spread"]
    assert found[0.02]["r2"] > 0.9 > 0.8 > found[1.0]["r2"]
