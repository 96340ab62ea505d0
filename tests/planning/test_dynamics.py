"""The fit: unbiased by encoder noise, equivariant, and each of its steps against an oracle that knows no recursion."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import multivariate_normal

from worldplan.envs.reacher import ReacherGoal
from worldplan.envs.rollout import rollout
from worldplan.errors import InvalidInput
from worldplan.planning import dynamics as module
from worldplan.planning.dynamics import LinearDynamics, fit_dynamics
from worldplan.planning.estimation import build_estimator
from worldplan.planning.rotation import random_rotation

from turned import rotate_dynamics

ERROR = np.array([[9e-4, 3e-4], [3e-4, 6e-4]])  # covariance of the encoder noise
NOISE = np.array([[4e-5, 1e-5], [1e-5, 9e-5]])  # of the force noise


def mechanics():
    """Two joints like the Reacher's: friction on each, no spring, 2n = 4 states."""
    to_v = np.array([[0.0, 0.0, 0.9, 0.04], [0.0, 0.0, 0.02, 0.5]])
    push = np.array([[0.03, 0.005], [-0.004, 0.05]])
    drift = np.array([0.001, -0.0005])
    A = np.vstack([np.eye(2, 4) + to_v, to_v])
    return LinearDynamics(
        A, np.vstack([push, push]), np.tile(drift, 2), np.kron(np.ones((2, 2)), NOISE), observation_noise=ERROR
    )


def relaxation():
    """Order 1: h itself is the state."""
    return LinearDynamics([[0.9, 0.1], [0.0, 0.7]], [[0.2], [0.4]], [0.05, -0.1], 2 * NOISE, observation_noise=ERROR)


def simulate(truth, lengths, seed, n=2, scale=1.0):
    """Latents and actions of the model itself; `scale` 0 leaves the noise away."""
    rng = np.random.default_rng(seed)
    latents, actions = [], []
    for T in lengths:
        x = np.zeros(truth.state_dim)
        x[:n] = rng.standard_normal(n)
        u = rng.uniform(-1, 1, (T, truth.action_dim))
        kicks = scale * rng.multivariate_normal(np.zeros(len(x)), truth.process_noise, T, method="eigh")
        states = [x]
        for t in range(T):
            states.append(truth.step(states[-1], u[t]) + kicks[t])
        error = scale * rng.multivariate_normal(np.zeros(n), truth.observation_noise, T + 1)
        latents.append(np.array(states)[:, :n] + error)
        actions.append(u)
    return latents, actions


def least_squares(latents, actions):
    """What everybody writes first: regress the measured difference on measured latents and differences."""
    both = list(zip(latents, actions, strict=True))
    y = [h[2:] - h[1:-1] for h in latents]
    X = [np.column_stack([h[1:-1], h[1:-1] - h[:-2], u[1:], np.ones(len(u) - 1)]) for h, u in both]
    theta = np.linalg.lstsq(np.concatenate(X), np.concatenate(y), rcond=None)[0].T
    return LinearDynamics(np.vstack([np.eye(2, 4) + theta[:, :4], theta[:, :4]]), np.vstack([theta[:, 4:-1]] * 2))


def slow_to_fast(dynamics):
    return np.sort(np.linalg.eigvals(dynamics.A).real)


def distance(a, b):
    """Largest relative difference over all parts of two fits."""
    names = ("A", "B", "intercept", "process_noise", "observation_noise")
    pairs = [(getattr(a, name), getattr(b, name)) for name in names]
    return max(np.linalg.norm(x - y) / np.linalg.norm(y) for x, y in pairs if y is not None)


# --- what the fit finds ---------------------------------------------------------------------------------------------


def test_the_fit_is_unbiased_where_least_squares_is_not():
    truth = mechanics()
    data = [simulate(truth, [40] * 60, seed) for seed in range(12)]
    ours, theirs = [fit_dynamics(*d, iterations=0) for d in data], [least_squares(*d) for d in data]
    bias = np.mean([slow_to_fast(f) for f in ours], axis=0) - slow_to_fast(truth)
    assert np.abs(bias).max() < 0.02
    bias = np.mean([slow_to_fast(f) for f in theirs], axis=0) - slow_to_fast(truth)
    assert np.abs(bias).max() > 0.5  # the velocities seem to die within a step
    assert np.linalg.norm(np.mean([f.B for f in ours], axis=0) - truth.B) < 0.03 * np.linalg.norm(truth.B)


def test_both_noise_covariances_are_recovered():
    fits = [fit_dynamics(*simulate(mechanics(), [40] * 60, seed)) for seed in (1, 2)]
    error = np.mean([f.observation_noise for f in fits], axis=0)
    noise = np.mean([f.process_noise for f in fits], axis=0)
    assert np.linalg.norm(error - ERROR) < 0.07 * np.linalg.norm(ERROR)
    assert np.linalg.norm(noise[2:, 2:] - NOISE) < 0.2 * np.linalg.norm(NOISE)
    assert np.allclose(noise, np.tile(noise[2:, 2:], (2, 2)), rtol=0, atol=1e-15)  # a kick moves h as it moves v


def test_order_one_and_unequal_lengths():
    truth = relaxation()
    fit = fit_dynamics(*simulate(truth, [20, 40, 30] * 20, seed=3), order=1, iterations=30)
    assert fit.state_dim == 2
    assert np.abs(fit.A - truth.A).max() < 0.03
    assert np.abs(fit.B - truth.B).max() < 0.01
    assert np.abs(fit.intercept - truth.intercept).max() < 0.01
    assert np.linalg.norm(fit.observation_noise - ERROR) < 0.15 * np.linalg.norm(ERROR)


def test_position_and_velocity_stay_consistent():
    fit = fit_dynamics(*simulate(mechanics(), [12, 30, 20] * 6, seed=5), iterations=4)
    x, u = np.random.default_rng(0).standard_normal((2, 5, 4))
    after = fit.step(x, u[:, :2])
    assert np.allclose(after[:, :2], x[:, :2] + after[:, 2:], rtol=0, atol=1e-12)  # h' = h + v'


def test_without_noise_the_system_comes_back_exactly():
    data = simulate(mechanics(), [30] * 10, seed=1, scale=0.0)
    for iterations in (0, 20):
        fit = fit_dynamics(*data, iterations=iterations)
        assert np.allclose(fit.A, mechanics().A, rtol=0, atol=1e-6)
        assert np.allclose(fit.B, mechanics().B, rtol=0, atol=1e-6)
    assert build_estimator(fit, 2).gain.shape == (4, 2)  # noise covariances stay usable


@pytest.mark.parametrize("iterations", [0, 50])
def test_true_joint_angles_can_be_fitted(iterations):
    starts = [{"qpos": q} for q in np.random.default_rng(0).standard_normal((10, 2)).clip(-2, 2)]
    data = rollout(ReacherGoal(pixels=False), None, 10, steps=30, options=starts)
    fit = fit_dynamics(data.info["qpos"], data.actions, iterations=iterations)
    q, u = np.concatenate([q[1:-1] for q in data.info["qpos"]]), np.concatenate([u[1:] for u in data.actions])
    v = np.concatenate([np.diff(q, axis=0)[:-1] for q in data.info["qpos"]])
    after = np.concatenate([q[2:] for q in data.info["qpos"]])
    wrong = fit.step(np.hstack([q, v]), u)[:, :2] - after
    standing = q + v - after
    assert np.square(wrong).mean() < 0.05 * np.square(standing).mean()
    assert build_estimator(fit, 2).gain.shape == (4, 2)


def test_the_order_of_episodes_does_not_matter():
    latents, actions = simulate(mechanics(), [12, 30, 20, 12], seed=5)
    back = fit_dynamics(latents[::-1], actions[::-1], iterations=4)
    assert distance(back, fit_dynamics(latents, actions, iterations=4)) < 1e-9


# --- symmetries -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.integers(0, 10**6))
@settings(max_examples=15)
def test_a_rotation_of_the_latents_rotates_the_fit(n, m, order, seed):
    rng = np.random.default_rng(seed)
    Q, actions = random_rotation(n, rng), [rng.uniform(-1, 1, (T, m)) for T in (15, 12, 15, 12)]
    mix = rng.standard_normal((m, n))
    kicks = [np.vstack([np.zeros(n), u @ mix]) + 0.3 * rng.standard_normal((len(u) + 1, n)) for u in actions]
    latents = [np.cumsum(kick, axis=0) for kick in kicks]
    fit = fit_dynamics(latents, actions, order, iterations=3)
    turned = fit_dynamics([h @ Q.T for h in latents], actions, order, iterations=3)
    assert distance(turned, rotate_dynamics(fit, Q)) < 1e-9


@pytest.fixture(scope="module")
def episodes():
    return simulate(mechanics(), [30] * 12, seed=7)


def test_the_default_fit_is_equivariant(episodes):
    Q, other = random_rotation(2, 0), random_rotation(2, 1)
    fit = fit_dynamics(*episodes)
    turned = fit_dynamics([h @ Q.T for h in episodes[0]], episodes[1])
    assert distance(turned, rotate_dynamics(fit, Q)) < 1e-9
    assert distance(turned, rotate_dynamics(fit, other)) > 0.1  # the measure sees another rotation


@pytest.mark.parametrize(("name", "blocks"), [("observation_noise", 1), ("process_noise", 2)])
def test_the_measure_of_equivariance_sees_one_diagonal_covariance(episodes, name, blocks):
    Q, kept = random_rotation(2, 0), np.tile(np.eye(2), (blocks, blocks))

    def fit(latents):
        found = fit_dynamics(latents, episodes[1], iterations=4)
        return replace(found, **{name: kept * getattr(found, name)})

    turned = fit([h @ Q.T for h in episodes[0]])
    assert distance(turned, rotate_dynamics(fit(episodes[0]), Q)) > 1e-4


def test_a_shear_of_the_latents_is_no_rotation_of_the_fit(episodes):
    shear = np.array([[1.0, 0.5], [0.0, 1.0]])
    left, _, right = np.linalg.svd(shear)
    fit = fit_dynamics(*episodes, iterations=4)
    sheared = fit_dynamics([h @ shear.T for h in episodes[0]], episodes[1], iterations=4)
    assert distance(sheared, rotate_dynamics(fit, left @ right)) > 0.1  # not even by the nearest rotation


def test_an_offset_of_the_latents_goes_into_the_intercept(episodes):
    offset = np.array([3.0, -2.0])
    fit = fit_dynamics(*episodes, iterations=10)
    moved = fit_dynamics([h + offset for h in episodes[0]], episodes[1], iterations=10)
    lifted = np.concatenate([offset, np.zeros(2)])
    assert np.allclose(moved.A, fit.A, rtol=0, atol=1e-8)
    assert np.allclose(moved.B, fit.B, rtol=0, atol=1e-8)
    assert np.allclose(moved.intercept, fit.intercept + lifted - fit.A @ lifted, rtol=0, atol=1e-8)


def test_the_unit_of_the_latents_does_not_matter(episodes):
    fit = fit_dynamics(*episodes, iterations=10)
    small = fit_dynamics([1e-3 * h for h in episodes[0]], episodes[1], iterations=10)
    assert np.allclose(small.A, fit.A, rtol=0, atol=1e-9)
    assert np.allclose(1e3 * small.B, fit.B, rtol=0, atol=1e-9)
    assert np.allclose(1e6 * small.observation_noise, fit.observation_noise, rtol=1e-9, atol=0)


# --- the steps of the algorithm -------------------------------------------------------------------------------------


def joint_gaussian(y, u, truth):
    """All states (T + 1) d and measurements of one episode at once: mean and covariance, by unrolling the model."""
    A, d, n, T = truth.A, truth.state_dim, truth.observation_noise.shape[0], len(u)
    prior = 100 * np.trace(np.cov(y.T)) / n
    mean = [np.concatenate([y[0], np.zeros(d - n)])]
    for t in range(T):
        mean.append(truth.step(mean[-1], u[t]))
    # x_t = A^t x_0 + sum_s A^(t - s) w_s: one column block for x_0 and one for each kick.
    unroll = np.zeros((T + 1, d, T + 1, d))
    for t in range(T + 1):
        for s in range(t + 1):
            unroll[t, :, s] = np.linalg.matrix_power(A, t - s)
    M = unroll.reshape((T + 1) * d, -1)
    sources = np.kron(np.eye(T + 1), truth.process_noise)
    sources[:d, :d] = prior * np.eye(d)
    H = np.kron(np.eye(T + 1), np.eye(n, d))
    states = M @ sources @ M.T
    measured = H @ states @ H.T + np.kron(np.eye(T + 1), truth.observation_noise)
    return np.concatenate(mean), states, H, measured


@pytest.mark.parametrize("truth", [mechanics(), relaxation()], ids=["order 2", "order 1"])
def test_the_smoother_is_gaussian_conditioning(truth):
    (y,), (u,) = simulate(truth, [9], seed=2)
    d = truth.state_dim
    noise = truth.process_noise, truth.observation_noise
    mean, cov, lag = module._smooth(y[None], u[None], truth.A, truth.B, truth.intercept, *noise)
    prior, states, H, measured = joint_gaussian(y, u, truth)
    gain = states @ H.T @ np.linalg.inv(measured)
    wanted = prior + gain @ (y.ravel() - H @ prior)
    spread = (states - gain @ H @ states).reshape(10, d, 10, d)
    assert np.allclose(mean[0].ravel(), wanted, rtol=0, atol=1e-6)
    assert np.abs(mean[0].ravel() - prior).max() > 1e-2  # the measurements do move it
    for t in range(10):
        assert np.allclose(cov[t], spread[t, :, t], rtol=1e-4, atol=1e-8)
    for t in range(9):
        assert np.allclose(lag[t], spread[t + 1, :, t], rtol=1e-4, atol=1e-8)


def test_the_likelihood_never_falls():
    episodes = list(zip(*simulate(mechanics(), [14] * 8, seed=4), strict=True))
    model = module._Model(2, 2, 2, np.zeros(2, dtype=bool))
    theta, noise, error = module._instrumental(episodes, model)
    whole = np.concatenate([y for y, _ in episodes])  # the prior's width comes from all episodes

    def likelihood(noise, error):
        A, B, c = model.assemble(theta)
        guess = LinearDynamics(A, B, c, model.E @ noise @ model.E.T, observation_noise=error)
        total = 0.0
        for y, u in episodes:
            prior, states, H, _ = joint_gaussian(y, u, guess)
            own, shared = (100 * np.trace(np.cov(rows.T)) / 2 for rows in (y, whole))
            powers = np.concatenate([np.linalg.matrix_power(A, t) for t in range(len(y))])
            states = states + (shared - own) * powers @ powers.T
            measured = H @ states @ H.T + np.kron(np.eye(len(y)), error)
            total += multivariate_normal.logpdf(y.ravel(), H @ prior, measured)
        return total

    values = [likelihood(noise, error)]
    for _ in range(15):
        noise, error = module._maximisation(episodes, model, theta, noise, error)
        values.append(likelihood(noise, error))
    assert np.diff(values).min() > -1e-6
    assert values[-1] > values[0] + 1
    assert likelihood(noise, 2 * error) < values[-1] - 1  # the measure can fall


# --- bad input ------------------------------------------------------------------------------------------------------


def spoiled(change):
    latents, actions = simulate(mechanics(), [20] * 6, seed=0)
    latents, actions = change(latents, actions) or (latents, actions)
    return latents, actions


def put(rows, value):
    rows[0][3] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, u: ([], []), "equally many episodes"),
        (lambda h, u: (h, u[:-1]), "got 6 and 5"),
        (lambda h, u: (h, [0.5 + 0 * a for a in u]), "vary too little"),
        (lambda h, u: (h, [0 * a for a in u]), "vary too little"),
        (lambda h, u: ([0 * y + 1.5 for y in h], u), "vary too little"),
        (lambda h, u: ([y[:4] for y in h], [a[:3] for a in u]), "5 actions an episode, got 3"),
        (lambda h, u: (h[:1], u[:1]), "collect more episodes"),
        (lambda h, u: put(h, np.nan), "latents of episode 0 has entries that are not finite"),
        (lambda h, u: put(u, np.inf), "actions of episode 0 has entries that are not finite"),
        (lambda h, u: (h, [*u[:-1], u[-1][:-1]]), r"21 rows for 19 actions; T actions need T \+ 1"),
        (lambda h, u: (u, u), "20 rows for 20 actions"),
        (lambda h, u: ([y[:, 0] for y in h], u), r"latents of episode 0 must be \(T \+ 1, n\), got \(21,\)"),
        (lambda h, u: (h, [a[:, 0] for a in u]), r"actions of episode 0 must be \(T, m\), got \(20,\)"),
        (lambda h, u: ([y[:, :0] for y in h], u), r"must be \(T \+ 1, n\), got \(21, 0\)"),
        (lambda h, u: (h[0], u[0]), r"latents|equally many"),  # one episode without its list
        (lambda h, u: ([*h[:-1], h[-1][:, :1]], u), "episode 5 has rows of 1 and 2 numbers"),
        (lambda h, u: ([y.astype(str) for y in h], u), "must hold real numbers"),
    ],
)
def test_episodes_that_identify_nothing_are_refused(change, message):
    with pytest.raises(InvalidInput, match=message):
        fit_dynamics(*spoiled(change))


@pytest.mark.parametrize(("options", "message"), [({"order": 3}, "order must be 1 or 2"), ({"iterations": -1}, ">= 0")])
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InvalidInput, match=message):
        fit_dynamics(*simulate(mechanics(), [20] * 6, seed=0), **options)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"A": np.eye(3)[:2]}, "A must be square"),
        ({"A": np.zeros((0, 0))}, "A must be square"),
        ({"B": np.ones((3, 1))}, r"B must be \(d, m\) with d = 2"),
        ({"B": np.ones(2)}, "B must be"),
        ({"intercept": np.ones(3)}, "intercept must be"),
        ({"A": [["x", 1], [0, 1]]}, "A must hold real numbers"),
        ({"A": [[np.nan, 1], [0, 1]]}, "not finite"),
        ({"process_noise": np.eye(3)}, r"process_noise must be \(2, 2\)"),
        ({"process_noise": -np.eye(2)}, "positive semidefinite"),
        ({"observation_noise": np.eye(3)}, "n <= 2"),
        ({"observation_noise": [[1, 2], [0, 1]]}, "symmetric"),
    ],
)
def test_dynamics_that_make_no_sense_are_refused(parts, message):
    with pytest.raises(InvalidInput, match=message):
        LinearDynamics(**{"A": np.eye(2), "B": np.ones((2, 1)), **parts})


def test_dynamics_keep_their_own_read_only_arrays():
    A = np.eye(2)
    dynamics = LinearDynamics(A, [[0], [2]], intercept=[1, 0])
    A[0, 0] = 5
    assert dynamics.A[0, 0] == 1
    assert (dynamics.state_dim, dynamics.action_dim) == (2, 1)
    assert dynamics.step([[1.0, 2.0]], [[3.0]]).tolist() == [[2.0, 8.0]]
    with pytest.raises(ValueError, match="read-only"):
        dynamics.A[0, 0] = 5


@pytest.mark.parametrize(
    "options",
    [{"order": 2.0}, {"order": "2"}, {"iterations": 1.5}, {"horizon": 2.5}, {"horizon": "x"}, {"space": "line"}],
)
def test_options_of_wrong_types_are_refused(options):
    rng = np.random.default_rng(0)
    latents, actions = [rng.normal(size=(21, 1)) for _ in range(6)], [rng.normal(size=(20, 1)) for _ in range(6)]
    fit_dynamics(latents, actions, order=np.int64(2), iterations=np.int8(2))
    with pytest.raises(InvalidInput, match=next(iter(options))):
        fit_dynamics(latents, actions, **options)


def test_episodes_are_lists_or_what_gives_them():
    latents, actions = simulate(mechanics(), [20] * 6, seed=0)
    wanted = fit_dynamics(latents, actions)
    np.testing.assert_array_equal(fit_dynamics(iter(latents), iter(actions)).A, wanted.A)
    for wrong in ((None, None), (latents, None), (5, actions)):
        with pytest.raises(InvalidInput, match="list of episodes"):
            fit_dynamics(*wrong)
