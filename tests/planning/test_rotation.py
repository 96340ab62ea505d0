import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import kstest

from worldplan.errors import InvalidInput
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.rotation import change_basis, procrustes, random_rotation

from turned import lift, rotate_cost, rotate_covariance, rotate_dynamics, rotate_goal, rotate_state

checked = settings(derandomize=True, deadline=None, max_examples=30)
seeds = st.integers(0, 2**32 - 1)
SHEAR = np.array([[1.0, 0.1], [0.0, 1.0]])


def random_system(rng, n, blocks, m):
    d = n * blocks
    return LinearDynamics(rng.standard_normal((d, d)), rng.standard_normal((d, m)), rng.standard_normal(d))


@checked
@given(seeds, st.integers(1, 8))
def test_random_rotations_are_orthogonal(seed, n):
    Q = random_rotation(n, seed)
    np.testing.assert_allclose(Q.T @ Q, np.eye(n), atol=1e-12)
    np.testing.assert_array_equal(Q, random_rotation(n, np.random.default_rng(seed)))


def test_random_rotations_are_haar():
    rng = np.random.default_rng(0)
    drawn = np.array([random_rotation(3, rng) for _ in range(2000)])
    # Under the Haar law of O(3) each entry is uniform on [-1, 1] (Archimedes), and half of the draws are reflections.
    for i, j in np.ndindex(3, 3):
        assert kstest(drawn[:, i, j], "uniform", args=(-1, 2)).pvalue > 1e-3
    assert 0.45 < (np.linalg.det(drawn) > 0).mean() < 0.55
    # Negative control: LAPACK's QR without the sign correction is not Haar, and the same test sees it.
    raw = np.array([np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2000)])
    assert kstest(raw[:, 0, 0], "uniform", args=(-1, 2)).pvalue < 1e-6


@checked
@given(seeds, st.integers(1, 4), st.integers(1, 3))
def test_the_action_is_a_group_action_that_commutes_with_the_dynamics(seed, n, blocks):
    rng = np.random.default_rng(seed)
    dynamics = random_system(rng, n, blocks, 2)
    Q1, Q2 = random_rotation(n, rng), random_rotation(n, rng)
    x, u = rng.standard_normal((5, n * blocks)), rng.standard_normal((5, 2))
    turned = rotate_dynamics(dynamics, Q1)
    np.testing.assert_allclose(turned.step(rotate_state(x, Q1), u), rotate_state(dynamics.step(x, u), Q1), atol=1e-10)
    twice, once = rotate_dynamics(turned, Q2), rotate_dynamics(dynamics, Q2 @ Q1)
    for name in ("A", "B", "intercept"):
        np.testing.assert_allclose(getattr(twice, name), getattr(once, name), atol=1e-10)
    np.testing.assert_allclose(rotate_state(rotate_state(x, Q1), Q1.T), x, atol=1e-12)
    np.testing.assert_allclose(lift(Q1, blocks) @ lift(Q2, blocks), lift(Q1 @ Q2, blocks), atol=1e-12)


@checked
@given(seeds, st.integers(2, 4))
def test_costs_turn_covariantly_and_only_invariant_ones_stay(seed, n):
    rng = np.random.default_rng(seed)
    Q = random_rotation(n, rng)
    factor = rng.standard_normal((2 * n, 2 * n))
    cost = QuadraticCost(factor @ factor.T, np.eye(2), latent_dim=n)
    e, u = rng.standard_normal((5, 2 * n)), rng.standard_normal((5, 2))
    np.testing.assert_allclose(rotate_cost(cost, Q).stage(rotate_state(e, Q), u), cost.stage(e, u), rtol=1e-9)
    assert np.abs(rotate_cost(cost, Q).W - cost.W).max() > 1e-3
    invariant = QuadraticCost.goal_reaching(n, velocity_weight=0.2)
    np.testing.assert_allclose(rotate_cost(invariant, Q).W, invariant.W, atol=1e-12)
    assert rotate_cost(invariant, Q).invariant


def test_goals_and_covariances_turn_with_the_samples():
    rng = np.random.default_rng(1)
    Q = random_rotation(2, rng)
    samples = rng.standard_normal((50, 4)) * [1, 2, 3, 4]
    np.testing.assert_allclose(rotate_covariance(np.cov(samples.T), Q), np.cov(rotate_state(samples, Q).T), atol=1e-12)
    cost, goal = QuadraticCost.goal_reaching(2), np.array([1.0, 2.0])
    np.testing.assert_allclose(
        cost.goal_state(rotate_goal(goal, Q)), rotate_state(cost.goal_state(goal), Q), atol=1e-12
    )
    # A covariance whose diagonal alone was kept does not turn with the samples.
    assert (
        np.abs(np.diag(np.diag(rotate_covariance(np.cov(samples.T), Q))) - np.cov(rotate_state(samples, Q).T)).max()
        > 0.1
    )


@checked
@given(seeds, st.integers(1, 4))
def test_change_of_basis_sees_the_same_world(seed, d):
    rng = np.random.default_rng(seed)
    dynamics = random_system(rng, d, 1, 2)
    M = random_rotation(d, rng) @ np.diag(rng.uniform(0.5, 2, d)) @ random_rotation(d, rng)
    x, u = rng.standard_normal(d), rng.standard_normal(2)
    np.testing.assert_allclose(change_basis(dynamics, M).step(M @ x, u), M @ dynamics.step(x, u), atol=1e-10)
    Q = random_rotation(d, rng)
    np.testing.assert_allclose(change_basis(dynamics, Q).A, rotate_dynamics(dynamics, Q).A, atol=1e-10)


@checked
@given(seeds, st.integers(1, 6))
def test_procrustes_finds_the_motion_that_was_made(seed, n):
    rng = np.random.default_rng(seed)
    source, Q, offset = rng.standard_normal((40, n)), random_rotation(n, rng), rng.standard_normal(n)
    found = procrustes(source, source @ Q.T + offset)
    np.testing.assert_allclose(found.Q, Q, atol=1e-10)
    np.testing.assert_allclose(found.offset, offset, atol=1e-10)
    assert found.residual < 1e-20
    np.testing.assert_allclose(found(source), source @ Q.T + offset, atol=1e-10)


@checked
@given(seeds, st.integers(2, 4))
def test_procrustes_is_the_best_motion_and_says_when_there_is_none(seed, n):
    rng = np.random.default_rng(seed)
    source = rng.standard_normal((60, n))
    target = source @ rng.standard_normal((n, n)) + 0.1 * rng.standard_normal((60, n))  # no rotation at all
    found = procrustes(source, target)

    def mean_square(Q, offset):
        return np.mean(np.sum((source @ Q.T + offset - target) ** 2, axis=1))

    assert found.residual == pytest.approx(mean_square(found.Q, found.offset)) and found.residual > 1e-3
    for _ in range(20):
        other = random_rotation(n, rng)
        assert found.residual <= mean_square(other, target.mean(0) - other @ source.mean(0)) + 1e-12
        assert found.residual <= mean_square(found.Q, found.offset + 0.1 * rng.standard_normal(n)) + 1e-12


@pytest.mark.parametrize(
    "Q", [SHEAR, 1.001 * np.eye(2), np.ones((2, 3)), np.eye(2) * np.nan, np.zeros((0, 0)), 1.0, "Q"]
)
def test_what_is_not_orthogonal_is_refused(Q):
    dynamics = random_system(np.random.default_rng(0), 2, 2, 1)
    for call in (
        lambda: lift(Q, 2),
        lambda: rotate_dynamics(dynamics, Q),
        lambda: rotate_cost(QuadraticCost.goal_reaching(2), Q),
        lambda: rotate_state([1, 2, 3, 4], Q),
        lambda: rotate_goal([1, 2], Q),
        lambda: rotate_covariance(np.eye(4), Q),
    ):
        with pytest.raises(InvalidInput, match="Q"):
            call()


def test_sizes_that_do_not_fit_are_refused():
    Q = random_rotation(3, 0)
    for call in (
        lambda: rotate_dynamics(random_system(np.random.default_rng(0), 2, 2, 1), Q),
        lambda: rotate_cost(QuadraticCost.goal_reaching(2), Q),
        lambda: rotate_state([1, 2, 3, 4], Q),
        lambda: rotate_state(1.0, Q),
        lambda: rotate_state([], Q),
        lambda: rotate_state([1, 2, np.nan], Q),
        lambda: rotate_covariance(np.eye(4), Q),
        lambda: rotate_covariance(-np.eye(3), Q),
        lambda: lift(Q, 0),
        lambda: random_rotation(0, 0),
        lambda: change_basis(random_system(np.random.default_rng(0), 2, 1, 1), np.ones((2, 2))),
        lambda: change_basis(random_system(np.random.default_rng(0), 2, 1, 1), np.eye(3)),
        lambda: procrustes(np.ones((4, 2)), np.ones((4, 3))),
        lambda: procrustes(np.ones(4), np.ones(4)),
        lambda: procrustes(np.ones((0, 2)), np.ones((0, 2))),
        lambda: procrustes([[np.nan, 0]], [[0, 0]]),
    ):
        with pytest.raises(InvalidInput):
            call()
