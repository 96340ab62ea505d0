"""The filter: a naive recursion as oracle, finite differences to beat, and no answer where there is none."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from worldplan.errors import InvalidInput, SolverFailed
from worldplan.planning import estimation as module
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.estimation import build_estimator
from worldplan.planning.rotation import random_rotation

from turned import rotate_dynamics


def mechanics(error=1.0, noise=1.0):
    """Two joints with friction; the covariances of noise scaled."""
    to_v = np.array([[0.0, 0.0, 0.9, 0.04], [0.0, 0.0, 0.02, 0.5]])
    A = np.vstack([np.eye(2, 4) + to_v, to_v])
    B = np.tile([[0.03, 0.005], [-0.004, 0.05]], (2, 1))
    kick = noise * np.array([[4e-6, 1e-6], [1e-6, 9e-6]])
    measured = error * np.array([[9e-4, 3e-4], [3e-4, 6e-4]])
    return LinearDynamics(A, B, [1e-3, 0, 1e-3, 0], np.tile(kick, (2, 2)), measured)


def long_recursion(dynamics, n, steps=3000):
    """Gain of the textbook filter after many steps from a wide prior."""
    A, H = dynamics.A, np.eye(n, dynamics.state_dim)
    P = np.eye(len(A))
    for _ in range(steps):
        gain = P @ H.T @ np.linalg.inv(H @ P @ H.T + dynamics.observation_noise)
        P = A @ (P - gain @ H @ P) @ A.T + dynamics.process_noise
    return gain


def test_the_gain_is_the_limit_of_the_time_varying_filter():
    gain = build_estimator(mechanics(), 2).gain
    assert np.allclose(gain, long_recursion(mechanics(), 2), rtol=0, atol=1e-8)
    assert not np.allclose(gain, long_recursion(mechanics(error=2.0), 2), rtol=0, atol=1e-2)


@given(st.integers(1, 3), st.integers(1, 2), st.integers(0, 10**6))
@settings(max_examples=25)
def test_the_gain_of_random_systems(n, order, seed):
    rng = np.random.default_rng(seed)
    d = order * n
    A = rng.standard_normal((d, d))
    A *= 0.9 / np.abs(np.linalg.eigvals(A)).max()
    kick, error = rng.standard_normal((d, d)), rng.standard_normal((n, n))
    dynamics = LinearDynamics(A, np.ones((d, 1)), np.zeros(0), kick @ kick.T, error @ error.T + 0.01 * np.eye(n))
    gain = build_estimator(dynamics, n).gain
    assert np.allclose(gain, long_recursion(dynamics, n, 400), rtol=1e-6, atol=1e-6)
    Q = random_rotation(n, rng)
    turned = build_estimator(rotate_dynamics(dynamics, Q), n).gain
    assert np.allclose(turned, np.kron(np.eye(order), Q) @ gain @ Q.T, rtol=1e-7, atol=1e-7)


def mean_squared_errors(model, runs=20, steps=150):
    """Of (position, velocity), by the filter for `model` on data of `mechanics()`."""
    truth, estimator = mechanics(), build_estimator(model, 2)
    rng = np.random.default_rng(0)
    u = rng.uniform(-1, 1, (steps, runs, 2))
    kicks = rng.multivariate_normal(np.zeros(4), truth.process_noise, (steps, runs), method="eigh")
    noise = rng.multivariate_normal(np.zeros(2), truth.observation_noise, (steps, runs))
    x, errors = np.zeros((runs, 4)), []
    state = estimator.start(x[:, :2])
    for t in range(steps):
        x = truth.step(x, u[t]) + kicks[t]
        state = estimator.update(state, u[t], x[:, :2] + noise[t])
        errors.append(((state - x) ** 2).reshape(runs, 2, 2).sum(axis=2).mean(axis=0))
    return np.mean(errors[30:], axis=0)


def test_the_filter_beats_finite_differences_only_with_the_right_noise():
    plain = LinearDynamics(mechanics().A, mechanics().B, mechanics().intercept)
    differences = mean_squared_errors(plain)
    right = mean_squared_errors(mechanics())
    wrong = mean_squared_errors(mechanics(noise=1e4, error=1e-4))  # by a factor of 100 each way
    assert (right < [0.4, 0.03] * differences).all()
    assert (wrong > 0.9 * differences).all()


def test_without_noise_covariances_it_is_finite_differences():
    rng = np.random.default_rng(0)
    for A in (mechanics().A, rng.standard_normal((4, 4))):  # the model's prediction must not matter
        estimator = build_estimator(LinearDynamics(A, np.ones((4, 2)), np.ones(4)), 2)
        y = rng.standard_normal((6, 5, 2))
        state = estimator.start(y[0])
        assert np.array_equal(state, np.hstack([y[0], np.zeros((5, 2))]))
        for t in range(1, 6):
            state = estimator.update(state, rng.standard_normal((5, 2)), y[t])
            assert np.allclose(state, np.hstack([y[t], y[t] - y[t - 1]]), rtol=0, atol=1e-14)
    first = build_estimator(LinearDynamics([[0.5]], [[1.0]]), 1)
    assert np.allclose(first.update(np.array([[3.0]]), np.array([[9.0]]), np.array([[4.0]])), [[4.0]])


def test_an_update_is_prediction_plus_gain_times_surprise():
    dynamics = mechanics()
    estimator = build_estimator(dynamics, 2)
    x, u, y = np.array([0.1, -0.2, 0.01, 0.03]), np.array([0.5, -1.0]), np.array([0.3, 0.0])
    ahead = dynamics.A @ x + dynamics.B @ u + dynamics.intercept
    wanted = ahead + estimator.gain @ (y - ahead[:2])
    assert np.allclose(estimator.update(x[None], u[None], y[None])[0], wanted, rtol=0, atol=1e-14)


HIDDEN = LinearDynamics(np.diag([0.5, 1.2]), [[1.0], [1.0]], [0, 0], np.eye(2), np.eye(1))
FROZEN = LinearDynamics(np.diag([1.0, 0.5]), [[1.0], [1.0]], [0, 0], np.diag([0.0, 1.0]), np.eye(1))


@pytest.mark.parametrize("dynamics", [HIDDEN, FROZEN], ids=["unseen unstable mode", "undamped mode without noise"])
def test_no_filter_is_better_than_one_that_never_forgets(dynamics):
    with pytest.raises(SolverFailed, match="no stationary Kalman filter") as caught:
        build_estimator(dynamics, 1)
    assert caught.value.problem is dynamics


def test_a_wrong_answer_of_the_solver_is_noticed(monkeypatch):
    solve = module.solve_discrete_are
    monkeypatch.setattr(module, "solve_discrete_are", lambda *matrices: 1.01 * solve(*matrices))
    with pytest.raises(SolverFailed, match="residual"):
        build_estimator(mechanics(), 2)


def test_an_unstable_mode_that_the_latent_shows_is_no_obstacle():
    shown = LinearDynamics([[0.5, 1.0], [0.0, 1.2]], [[1.0], [1.0]], [0, 0], np.eye(2), np.eye(1))
    estimator = build_estimator(shown, 1)
    keep = np.eye(2) - estimator.gain @ np.eye(1, 2)
    assert np.abs(np.linalg.eigvals(keep @ shown.A)).max() < 1


@pytest.mark.parametrize(
    ("n", "message"), [(3, "fit no latent of 3"), (1, "fit no latent of 1"), (4, r"observation_noise must be \(4, 4\)")]
)
def test_sizes_that_do_not_fit_are_refused(n, message):
    with pytest.raises(InvalidInput, match=message):
        build_estimator(mechanics(), n)


def test_the_unit_of_the_latents_does_not_matter():
    gain, tiny = build_estimator(mechanics(), 2).gain, build_estimator(mechanics(1e-12, 1e-12), 2).gain
    assert np.allclose(tiny, gain, rtol=0, atol=1e-9)
