"""A fit says whether it predicts episodes that it did not see; planted plants that no linear model fits are named."""

import numpy as np
import pytest

from worldplan.agents.prediction import AHEAD, Prediction, StepError, predict_held_out
from worldplan.data.trajectories import Trajectories
from worldplan.planning.dynamics import LinearDynamics, fit_dynamics
from worldplan.planning.space import LatentSpace

LINES = LatentSpace.lines(2)
A, B = np.array([[0.9, 0.05], [-0.05, 0.9]]), np.array([[0.02, 0.0], [0.005, 0.03]])


def episodes(force, count=24, steps=80, noise=0.0, seed=0, size=1.0):
    """Positions of plants pushed by `force(place, speed, action)`."""
    rng = np.random.default_rng(seed)
    latents, actions = [], []
    for _ in range(count):
        place, speed, path = rng.uniform(-1, 1, 2), np.zeros(2), []
        u = size * rng.uniform(-1, 1, (steps, 2)).repeat(4, axis=0)[:steps]
        for action in [*u, np.zeros(2)]:
            path.append(place)
            speed = force(place, speed, action)
            place = place + speed
        latents.append(np.array(path) + noise * rng.standard_normal((steps + 1, 2)))
        actions.append(u)
    return latents, Trajectories([np.zeros((steps + 1, 1))] * count, actions)


def judged(force, space=LINES, wrap=False, **more):
    latents, data = episodes(force, seed=1, **more)
    others, held_out = episodes(force, seed=2, **more)
    if wrap:
        latents, others = ([space.wrap(h) for h in rows] for rows in (latents, others))
    dynamics = fit_dynamics(latents, data.actions, space=space)
    found = predict_held_out(dynamics, others, held_out, space)
    assert found is not None
    return found


def linear(place, speed, action):
    return A @ speed + B @ action


def test_a_linear_plant_fits():
    found = judged(linear, noise=0.001)
    assert found.fits
    assert found.verdict.startswith("fits: the model predicts 100%")
    assert [e.steps for e in found.errors] == list(AHEAD)
    assert all(e.error < 0.05 for e in found.errors)
    assert np.all(np.diff([e.persistence for e in found.errors]) > 0)


def test_the_numbers_are_those_of_a_loop():
    latents, data = episodes(linear, count=3, steps=40, seed=3)
    state = np.block([[np.eye(2), A], [np.zeros((2, 2)), A]])
    exact = LinearDynamics(A=state, B=np.vstack([B, B]))
    found = predict_held_out(exact, latents, data, LINES)
    missed = []
    for h, u in zip(latents, data.actions, strict=True):
        for t in range(5, 31):
            x = np.concatenate([h[t], h[t] - h[t - 1]])
            for k in range(10):
                x = state @ x + np.vstack([B, B]) @ u[t + k]
            missed.append(x[:2] - h[t + 10])
    moved = np.concatenate([h[15:] - h[5:-10] for h in latents])
    ten = found.errors[AHEAD.index(10)]
    assert ten.error == pytest.approx(np.sqrt(np.mean(np.square(missed))) / 1.0, abs=1e-9)
    assert ten.persistence == pytest.approx(np.sqrt(np.mean(moved**2)) / spread(latents), rel=0.1)
    assert [e.steps for e in found.errors] == [1, 5, 10, 25]  # 40 steps hold no prediction of 50


def spread(latents):
    return np.concatenate(latents).std(axis=0).mean()


def test_a_plant_that_is_linear_only_near_one_place_does_not_fit():
    """A ring of places where it comes to rest: the slope changes its sign from one to the next."""

    def uneven(place, speed, action):
        return 0.5 * speed + 0.05 * action - 0.05 * np.sin(12.0 * place)

    found = judged(uneven, size=0.8)
    assert not found.fits
    assert found.verdict.startswith("does not fit")
    assert judged(linear, size=0.8).fits  # the control


def test_what_hardly_moves_is_told_to_be_noise():
    found = judged(linear, noise=0.05, size=0.01)
    assert not found.fits
    assert "more excitation" in found.verdict


def test_a_circle_that_crosses_its_seam_costs_nothing():
    space = LatentSpace("circle", "line")

    def spinning(place, speed, action):
        return 0.95 * speed + np.array([0.2, 0.02]) * action

    through, apart = judged(spinning, space, wrap=True), judged(spinning, space)
    assert through.fits
    for one, other in zip(through.errors, apart.errors, strict=True):
        assert one.error == pytest.approx(other.error, rel=1e-6)
    assert judged(spinning, LINES, wrap=False).errors[0] != through.errors[0]


@pytest.mark.parametrize(
    ("first", "last", "says"),
    [
        ((0.01, 0.1), (0.9, 1.0), "linear only near one place"),
        ((0.1, 0.1), (0.9, 1.0), "another latent"),
        ((0.1, 0.1), (0.14, 0.15), "more excitation"),
        ((0.1, 0.1), (0.1, 1.0), "fits"),
    ],
)
def test_each_verdict_has_its_remedy(first, last, says):
    found = Prediction((StepError(1, *first), StepError(50, *last)), noise=0.1)
    assert says in found.verdict
    assert found.fits == (says == "fits")
    assert StepError(1, 0.1, 0.0).explained == 0.0


def test_episodes_that_are_too_short_are_judged_nowhere():
    latents, data = episodes(linear, steps=5)
    dynamics = fit_dynamics(*(lambda h, d: (h, d.actions))(*episodes(linear)))
    assert predict_held_out(dynamics, latents, data, LINES) is None
