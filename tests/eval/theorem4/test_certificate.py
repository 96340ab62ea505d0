"""The certificate bounds the loss of every encoder on its plant, and each of its steps is needed."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import worldplan as wp
from worldplan.agents.planning_agent import PlanningAgent
from worldplan.errors import InvalidInput
from worldplan.eval.identifiability.hermite import hermite_features
from worldplan.eval.identifiability.theorem3 import isometry
from worldplan.eval.theorem4 import certificate
from worldplan.eval.theorem4.certificate import error_response, loss_bound, path_angles, path_losses
from worldplan.planning.rotation import random_rotation

from turned import rotate_dynamics

STEPS, RHO = 12, 0.5


def plant(noise=1e-2):
    """The Reacher's shape: two joints, damped; with noise covariances its agent filters, else it takes differences."""
    eye, zero = np.eye(2), np.zeros((2, 2))
    A = np.block([[eye, 0.8 * eye + 0.1 * eye[::-1]], [zero, 0.8 * eye + 0.1 * eye[::-1]]])
    B = 0.05 * np.vstack([eye, eye]) @ np.array([[1.0, 0.3], [-0.5, 1.2]])
    if not noise:
        return wp.LinearDynamics(A, B)
    Q = noise**2 * np.kron(np.ones((2, 2)), eye)
    return wp.LinearDynamics(A, B, process_noise=Q, observation_noise=noise**2 * eye)


class Blind:
    latent_dim = 2

    def __call__(self, frames):
        raise AssertionError("no picture is needed")


def agent(dynamics=None, encoder=None):
    return PlanningAgent(encoder or Blind(), dynamics or plant(), wp.QuadraticCost.goal_reaching(2))


def response(dynamics, steps=STEPS):
    planner = agent(dynamics)
    return error_response(planner.controller.lqr, planner.controller.estimator, steps)


class World:
    """`h = sum_d h_d(z)`: random polynomials with given energies by degree; eps and delta are known exactly."""

    def __init__(self, seed, energies, stretch=0.0):
        rng = np.random.default_rng(seed)
        self.M = random_rotation(2, rng) @ np.diag([1 + stretch, 1 - stretch])
        self.parts = {}
        for d, energy in energies.items():
            C = rng.standard_normal((2, d + 1))
            self.parts[d] = C * np.sqrt(energy) / np.linalg.norm(C)
        covariance = self.M @ self.M.T + sum(C @ C.T for C in self.parts.values())
        self.eps = float(np.linalg.norm(covariance - np.eye(2)))
        self.delta = sum(2 * (RHO - RHO**d) * energy for d, energy in energies.items())

    def errors(self, z):
        """`h - Q z`."""
        rest = sum(hermite_features(z, d) @ C.T for d, C in self.parts.items())
        return z @ (self.M - isometry(self.M)).T + rest


def paths(rng, count, steps=STEPS):
    ends, phi = rng.standard_normal((2, count, 1, 2)), path_angles(steps)[:, None]
    return np.cos(phi) * ends[0] + np.sin(phi) * ends[1]


def test_the_loss_is_the_squared_response_to_the_errors():
    rng = np.random.default_rng(0)
    for dynamics in (plant(), plant(noise=0)):
        errors = rng.standard_normal((5, STEPS + 1, 2))
        losses, ledger = path_losses(agent(dynamics), errors, rng.standard_normal((5, 2)))
        through = np.einsum("tsai,esi->eta", response(dynamics), errors)
        np.testing.assert_allclose(losses, np.square(through).sum(axis=(1, 2)), rtol=1e-9)
        assert ledger < 1e-12
        none, _ = path_losses(agent(dynamics), np.zeros_like(errors), rng.standard_normal((5, 2)))
        assert none.max() < 1e-20
    # What errs alike at every step and in the goal costs next to nothing: it is an offset of the encoder.
    offset, _ = path_losses(agent(), np.ones((1, STEPS + 1, 2)), rng.standard_normal((1, 2)))
    assert offset[0] < 1e-12 < losses.max()


@settings(max_examples=30)
@given(
    st.integers(0, 10**6),
    st.dictionaries(st.integers(2, 5), st.floats(1e-4, 0.5), max_size=3),
    st.floats(-0.5, 0.5),
    st.sampled_from([0.0, 1e-3, 1e-1]),
)
def test_it_holds_for_every_encoder_and_filter(seed, energies, stretch, noise):
    world, T = World(seed, energies, stretch), response(plant(noise))
    bound = sum(loss_bound(T, world.eps, world.delta))
    # The expectation itself, by Mehler's formula, degree by degree.
    phi = path_angles(STEPS)
    c = np.cos(phi[:, None] - phi)
    gram = np.einsum("tsai,tuaj->suij", T, T)
    parts = {1: world.M - isometry(world.M), **world.parts}
    expected = sum(np.einsum("su,suij,ij", c**d, gram, C @ C.T) for d, C in parts.items())
    assert expected <= bound * (1 + 1e-9) + 1e-15


def test_the_expectation_is_what_simulation_gives():
    world, rng = World(1, {2: 0.02, 3: 0.01}, 0.05), np.random.default_rng(2)
    z = paths(rng, 4000)
    losses, _ = path_losses(agent(), world.errors(z)[:400], rng.standard_normal((400, 2)))
    through = np.square(np.einsum("tsai,esi->eta", response(plant()), world.errors(z))).sum(axis=(1, 2))
    np.testing.assert_allclose(losses, through[:400], rtol=1e-8)
    linear, residual = loss_bound(response(plant()), world.eps, world.delta)
    mean, spread = through.mean(), through.std() / np.sqrt(len(z))
    assert mean - 3 * spread < linear + residual < 10 * mean
    # Errors beyond what eps and delta say break the bound: it is no loose one.
    assert np.square(np.sqrt(10) * through**0.5).mean() > linear + residual


@pytest.mark.parametrize("noise", [0.0, 1e-2])
def test_no_energy_no_loss_and_more_energy_more_loss(noise):
    T = response(plant(noise))
    assert loss_bound(T, 0.0, 0.0) == (0.0, 0.0)
    assert loss_bound(T, 0.0, -1e-3) == (0.0, 0.0)  # only noise makes delta negative
    bounds = [sum(loss_bound(T, eps, delta)) for eps, delta in ((0.1, 0.0), (0.1, 0.1), (0.5, 0.1), (3.0, 1.0))]
    assert bounds == sorted(bounds) and bounds[0] > 0
    np.testing.assert_allclose(loss_bound(2 * T, 0.1, 0.1), np.multiply(4, loss_bound(T, 0.1, 0.1)), rtol=1e-9)


def test_the_degrees_that_are_not_followed_one_by_one_are_bounded_too():
    T = response(plant(noise=0))
    full = loss_bound(T, 0.0, 1.0)[1]
    phi = path_angles(STEPS)
    c, gram = np.cos(phi[:, None] - phi), np.einsum("tsai,tuaj->suij", T, T)
    for d in (2, 3, 10, 100, 1000, 10**5):
        assert np.linalg.eigvalsh(np.einsum("su,suij->ij", c**d, gram))[-1] / (2 * (RHO - RHO**d)) <= full * (1 + 1e-9)
    for few in (3, 30):
        assert loss_bound(T, 0.0, 1.0, most=few, block=2)[1] >= full * (1 - 1e-12)


def test_it_turns_with_the_latent():
    Q = random_rotation(2, 0)
    T, turned = response(plant()), response(rotate_dynamics(plant(), Q))
    np.testing.assert_allclose(loss_bound(turned, 0.1, 0.1), loss_bound(T, 0.1, 0.1), rtol=1e-8)
    np.testing.assert_allclose(np.abs(turned @ Q), np.abs(T), atol=1e-8)


def drawn(qpos, targets, profile):
    """Frames without a renderer: the angles themselves, as bytes."""
    frames = np.zeros((len(qpos), 64, 64, 3), dtype=np.uint8)
    frames.reshape(len(qpos), -1)[:, :16] = np.ascontiguousarray(qpos).view(np.uint8)
    return frames


certify = partial(certificate.certify, draw=drawn)


def read(frames):
    """The angles of `drawn` frames."""
    return np.ascontiguousarray(frames.reshape(len(frames), -1)[:, :16]).view(np.float64)


class Reader:
    latent_dim = 2

    def __init__(self, look):
        self.look = look

    def __call__(self, frames):
        return self.look(read(frames))


Q = random_rotation(2, 5)
ENCODERS = {
    "rotation": lambda a: a @ Q.T + 3.0,
    "bent": lambda a: (a + 0.1 * np.sin(3 * a)) @ Q.T,
    "squared": lambda a: a @ Q.T + 0.1 * a**2,
    "sheared": lambda a: a @ np.array([[1.0, 0.4], [0.0, 1.0]]),
    "too large": lambda a: 3 * a,
    "wrapped": lambda a: (a * 3 + np.pi) % (2 * np.pi) - np.pi,
    "random": lambda a: np.sin(1e3 * a),
    "one joint": lambda a: a[:, :1] * np.array([[1.0, 1.0]]),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_it_holds_for_encoders_good_and_bad(name):
    proof = certify(agent(encoder=Reader(ENCODERS[name])), steps=STEPS, pairs=400)
    assert proof.holds and proof.measured.value <= proof.bound + 1e-12
    assert proof.ledger < 1e-9
    assert proof.bound == pytest.approx(proof.linear + proof.residual)
    if name == "rotation":
        assert proof.bound < 1e-9 * proof.value and proof.measured.value < 1e-9 * proof.value
    if name in ("bent", "squared"):
        assert 1 < proof.looseness < 10
    if name not in ("rotation", "bent", "squared"):
        assert proof.bound > 0.05 * proof.value


def test_a_bound_without_its_residual_does_not_hold():
    proof = certify(agent(encoder=Reader(ENCODERS["squared"])), steps=STEPS, pairs=400)
    assert proof.holds
    assert not replace(proof, bound=proof.linear).holds
    assert not replace(proof, bound=proof.bound / 20).holds


def test_units_change_nothing():
    """An encoder in half radians, and an agent that knows it."""
    one = certify(agent(encoder=Reader(ENCODERS["bent"])), steps=STEPS, pairs=400)
    half = plant()
    half = wp.LinearDynamics(half.A, 2 * half.B, np.zeros(4), 4 * half.process_noise, 4 * half.observation_noise)
    cost = wp.QuadraticCost.goal_reaching(2, 0.4)
    other = PlanningAgent(Reader(lambda a: 2 * ENCODERS["bent"](a)), half, cost)
    two = certify(other, scale=0.5, steps=STEPS, pairs=400)
    assert two.bound / 4 == pytest.approx(one.bound, rel=1e-6)
    assert two.measured.value / 4 == pytest.approx(one.measured.value, rel=1e-6)
    assert two.value / 4 == pytest.approx(one.value, rel=1e-9)


def test_wrong_input_is_a_typed_error():
    T = response(plant())
    for wrong in ((-0.1, 0.1), (np.nan, 0.1), (0.1, np.inf)):
        with pytest.raises(InvalidInput):
            loss_bound(T, *wrong)
    with pytest.raises(InvalidInput):
        loss_bound(T, 0.1, 0.1, rho=1.0)
    for option in ({"scale": 0.0}, {"pairs": 0}, {"paths": 0}, {"steps": 0}):
        with pytest.raises(InvalidInput):
            certify(agent(encoder=Reader(ENCODERS["bent"])), **option)
    with pytest.raises(InvalidInput):
        certify(agent(encoder=Reader(lambda a: a[:, :1])), steps=2, pairs=20)
    with pytest.raises(InvalidInput):
        certify(agent(encoder=Reader(lambda a: a * np.nan)), steps=2, pairs=20)
