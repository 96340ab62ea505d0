"""The fit by whole predictions: where single steps say nothing, against an optimiser that knows no elimination."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from worldplan.errors import InvalidInput
from worldplan.planning.dynamics import LinearDynamics, fit_dynamics
from worldplan.planning.output_error import refine
from worldplan.planning.rotation import random_rotation
from worldplan.planning.space import LatentSpace

from turned import rotate_dynamics


def pendulum(noise=1e-12):
    """A cart and a pole that falls: both pushed by one force, nearly alike at first."""
    pull, push = np.array([[0.0, 0.001], [0.0, 0.0064]]), np.array([[0.0009], [-0.0013]])
    to_v = np.hstack([pull, np.eye(2)])
    still = np.zeros((4, 4))
    return LinearDynamics(
        np.vstack([np.eye(2, 4) + to_v, to_v]), np.vstack([push, push]), np.zeros(4), still, noise * np.eye(2)
    )


def falls(count, steps, noise, seed):
    """Episodes from near upright, of forces held for 12 steps, seen with noise."""
    rng, truth = np.random.default_rng(seed), pendulum()
    x = np.concatenate([rng.normal(0, 0.1, (count, 2)), rng.normal(0, 0.004, (count, 2))], axis=1)
    u = np.repeat(rng.uniform(-1, 1, (count, -(-steps // 12), 1)), 12, axis=1)[:, :steps]
    states = [x]
    for t in range(steps):
        states.append(truth.step(states[-1], u[:, t]))
    seen = np.stack(states, axis=1)[:, :, :2]
    return list(seen + noise * rng.standard_normal(seen.shape)), list(u)


def off(*data, **options):
    """How far the fitted map to the next velocities is from the truth, in Frobenius norm."""
    return float(np.linalg.norm((fit_dynamics(*data, iterations=0, **options).A - pendulum().A)[2:]))


def test_noise_hides_an_unstable_plant_from_single_steps_only():
    noisy, clean = falls(200, 48, 0.01, seed=0), falls(200, 48, 0.0, seed=0)
    assert off(*noisy, horizon=48) < 0.05
    assert off(*noisy) > 0.2  # the control
    assert off(*clean, horizon=48) < 1e-6 and off(*clean) < 1e-6


class Parts:
    """Theta of `_Model` for two latents and one action."""

    E = np.tile(np.eye(2), (2, 1))
    known = np.ones(6, dtype=bool)

    @staticmethod
    def assemble(theta):
        D = np.diag([1.0, 1.0, 0.0, 0.0])
        return D + Parts.E @ theta[:, :4], Parts.E @ theta[:, 4:5], Parts.E @ theta[:, 5]


def test_the_minimum_is_that_of_a_plain_search_over_all_unknowns():
    latents, actions = falls(6, 20, 0.003, seed=1)
    episodes = list(zip(latents, actions, strict=True))
    truth = np.hstack([pendulum().A[2:], pendulum().B[2:], np.zeros((2, 1))])
    theta, error = refine(episodes, Parts(), [truth], 20)

    def missed(numbers):
        A, B, c = Parts.assemble(numbers[:12].reshape(2, 6))
        out = []
        for (h, u), x in zip(episodes, numbers[12:].reshape(6, 4), strict=True):
            for t in range(21):
                out.append(h[t] - x[:2])
                x = A @ x + B @ u[t] + c if t < 20 else x
        return np.concatenate(out)

    firsts = [np.concatenate([h[1], h[1] - h[0]]) for h in latents]
    plain = least_squares(missed, np.concatenate([truth.ravel(), *firsts]), x_scale="jac", ftol=1e-15, xtol=1e-15)
    assert error == pytest.approx(np.sqrt(2 * plain.cost / (6 * 21 * 2)), rel=1e-6)
    assert np.allclose(theta, plain.x[:12].reshape(2, 6), rtol=0, atol=1e-4)
    start = refine(episodes, Parts(), [truth], 20)[1]
    assert error == start and error < np.sqrt(np.square(missed(np.concatenate([truth.ravel(), *firsts]))).mean())


def test_the_better_of_two_starts_wins():
    latents, actions = falls(40, 40, 0.005, seed=2)
    episodes = list(zip(latents, actions, strict=True))
    truth = np.hstack([pendulum().A[2:], pendulum().B[2:], np.zeros((2, 1))])
    bad = np.full((2, 6), np.inf)
    alone = refine(episodes, Parts(), [truth], 40)
    both = refine(episodes, Parts(), [bad, truth], 40)
    assert both[1] == alone[1] and np.array_equal(both[0], alone[0])
    with pytest.raises(InvalidInput, match="no model predicts 40 steps"):
        refine(episodes, Parts(), [bad], 40)


def test_a_rotation_of_the_latents_rotates_the_fit():
    latents, actions = falls(60, 30, 0.003, seed=3)
    Q, other = random_rotation(2, 0), random_rotation(2, 1)
    fit = fit_dynamics(latents, actions, iterations=3, horizon=30)
    turned = fit_dynamics([h @ Q.T for h in latents], actions, iterations=3, horizon=30)
    for turn, same in ((Q, True), (other, False)):
        back = rotate_dynamics(fit, turn)
        gaps = [
            np.linalg.norm(getattr(turned, k) - getattr(back, k)) / np.linalg.norm(getattr(back, k)) for k in ("A", "B")
        ]
        assert bool(max(gaps) < 1e-9) is same


def test_nothing_depends_on_the_place_on_a_circle():
    space = LatentSpace("circle", "line")
    latents, actions = falls(60, 30, 0.001, seed=4)
    moved = [h + [2 * np.pi * (k % 3), 0.0] for k, h in enumerate(latents)]
    first, again = (fit_dynamics(rows, actions, iterations=0, space=space, horizon=30) for rows in (latents, moved))
    assert np.allclose(first.A, again.A, rtol=0, atol=1e-9) and not first.A[2:, 0].any()
    free = fit_dynamics(moved, actions, iterations=0, horizon=30)
    assert not np.allclose(first.A, free.A, rtol=0, atol=1e-6)  # on lines, a full turn is another place


@pytest.mark.parametrize(
    ("count", "steps", "horizon", "words"),
    [
        (20, 10, 12, "no episode has the 12 steps"),
        (2, 10, 2, "too few to fit"),
        (20, 10, 1, "0 or at least 2"),
        (20, 10, -3, "an integer >= 0"),
    ],
)
def test_too_little_is_refused(count, steps, horizon, words):
    with pytest.raises(InvalidInput, match=words):
        fit_dynamics(*falls(count, steps, 0.0, seed=5), horizon=horizon)


def test_order_one_has_its_own_inertia():
    truth = LinearDynamics([[1.05]], [[0.2]], [0.0], [[1e-12]], [[1e-12]])
    rng = np.random.default_rng(6)
    latents, actions = [], []
    for _ in range(40):
        x, u = [rng.normal(0, 0.1, 1)], rng.uniform(-1, 1, (30, 1))
        for t in range(30):
            x.append(truth.step(x[-1], u[t]))
        latents.append(np.array(x) + 0.05 * rng.standard_normal((31, 1)))
        actions.append(u)
    fit = fit_dynamics(latents, actions, 1, iterations=0, horizon=30)
    assert fit.A[0, 0] == pytest.approx(1.05, abs=2e-3)
    assert fit.process_noise is None
