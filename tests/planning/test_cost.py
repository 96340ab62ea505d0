import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from worldplan.errors import InvalidInput, WorldplanError
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.rotation import random_rotation

from turned import lift

checked = settings(derandomize=True, deadline=None, max_examples=40)
seeds = st.integers(0, 2**32 - 1)


def random_semidefinite(rng, size, rank=None):
    factor = rng.standard_normal((size, rank or size))
    return factor @ factor.T


def test_goal_reaching_is_the_squared_distance_to_the_goal_plus_the_weighted_effort():
    cost = QuadraticCost.goal_reaching(2, control_weight=0.1, velocity_weight=0.5)
    assert (cost.state_dim, cost.action_dim, cost.latent_dim) == (4, 2, 2)
    assert cost.stage([3, 4, 2, 0], [1, 2]) == pytest.approx(25 + 0.5 * 4 + 0.1 * 5)
    assert QuadraticCost.goal_reaching(3).stage([0, 0, 0, 9, 9, 9], [0, 0, 0]) == 0
    assert QuadraticCost.goal_reaching(3, action_dim=1).R.shape == (1, 1)


@checked
@given(seeds, st.integers(1, 4), st.integers(1, 3))
def test_a_kronecker_weight_is_invariant_and_no_rotation_changes_its_cost(seed, n, blocks):
    rng = np.random.default_rng(seed)
    cost = QuadraticCost(np.kron(random_semidefinite(rng, blocks), np.eye(n)), [[1.0]], latent_dim=n)
    assert cost.invariant
    error, L = rng.standard_normal(n * blocks), lift(random_rotation(n, rng), blocks)
    assert cost.stage(L @ error, [1.0]) == pytest.approx(cost.stage(error, [1.0]), rel=1e-9)


@checked
@given(seeds, st.integers(2, 4), st.integers(1, 3), st.floats(1e-6, 1.0))
def test_any_other_weight_is_not_and_some_rotation_changes_its_cost(seed, n, blocks, size):
    rng = np.random.default_rng(seed)
    W = np.kron(random_semidefinite(rng, blocks), np.eye(n))
    W[0, 0] += size * np.abs(W).max()
    cost = QuadraticCost(W, [[1.0]], latent_dim=n)
    assert not cost.invariant
    swap = np.eye(n)[[1, 0, *range(2, n)]]
    error = np.eye(n * blocks)[0]
    turned, straight = cost.stage(lift(swap, blocks) @ error, [1.0]), cost.stage(error, [1.0])
    assert abs(turned - straight) > 0.5 * size * np.abs(W).max() / (1 + size)


def test_invariance_is_a_claim_about_declared_blocks_only():
    W = np.diag([1.0, 1.0, 0.3, 0.3])
    assert QuadraticCost(W, [[1.0]], latent_dim=2).invariant
    assert not QuadraticCost(W, [[1.0]]).invariant
    assert not QuadraticCost(np.diag([1.0, 2.0]), [[1.0]]).invariant
    assert QuadraticCost(3 * np.eye(4), [[1.0]]).invariant
    assert QuadraticCost(np.zeros((4, 4)), [[1.0]], latent_dim=2).invariant
    crossed = np.kron([[1.0, 0.5], [0.5, 1.0]], np.eye(2))
    assert QuadraticCost(crossed, [[1.0]], latent_dim=2).invariant
    skewed = crossed.copy()  # per block diagonal is not enough: the position-velocity block counts too
    skewed[0, 2] = skewed[2, 0] = 0.6
    assert not QuadraticCost(skewed, [[1.0]], latent_dim=2).invariant


def test_goals_are_lifted_to_rest_and_full_states_are_left_alone():
    cost = QuadraticCost.goal_reaching(2)
    np.testing.assert_array_equal(cost.goal_state([1, 2]), [1, 2, 0, 0])
    np.testing.assert_array_equal(cost.goal_state([1, 2, 3, 4]), [1, 2, 3, 4])
    assert cost.goal_state(np.ones((5, 3, 2))).shape == (5, 3, 4)
    np.testing.assert_array_equal(QuadraticCost(np.eye(4), np.eye(2)).goal_state([1, 2]), [1, 2, 0, 0])
    np.testing.assert_array_equal(
        QuadraticCost(np.eye(6), np.eye(2), latent_dim=2).goal_state([1, 2]), [1, 2, 0, 0, 0, 0]
    )
    with pytest.raises(InvalidInput, match="goal"):
        QuadraticCost(np.eye(4), np.eye(2), latent_dim=4).goal_state([1, 2])


def test_stage_takes_batches_and_agrees_with_the_formula():
    rng = np.random.default_rng(0)
    cost = QuadraticCost(random_semidefinite(rng, 4), random_semidefinite(rng, 2), latent_dim=2)
    e, u = rng.standard_normal((7, 4)), rng.standard_normal((7, 2))
    naive = [e[i] @ cost.W @ e[i] + u[i] @ cost.R @ u[i] for i in range(7)]
    np.testing.assert_allclose(cost.stage(e, u), naive, rtol=1e-12)


def test_weights_are_copies_that_nobody_can_change():
    W = np.eye(4)
    cost = QuadraticCost(W, np.eye(2))
    W[0, 0] = 7
    assert cost.W[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        cost.W[0, 0] = 7


def test_weights_symmetric_up_to_rounding_pass():
    L = lift(random_rotation(3, 0), 2)
    cost = QuadraticCost(L @ QuadraticCost.goal_reaching(3).W @ L.T, np.eye(3), latent_dim=3)
    assert cost.invariant and (cost.W == cost.W.T).all()


@pytest.mark.parametrize(
    "W, R, latent_dim, word",
    [
        (np.ones((2, 3)), np.eye(1), None, "square"),
        (np.ones(3), np.eye(1), None, "square"),
        (np.zeros((0, 0)), np.eye(1), None, "square"),
        ([[1, 2], [0, 1]], np.eye(1), None, "symmetric"),
        (np.diag([1, -1e-3]), np.eye(1), None, "semidefinite"),
        (np.eye(2), np.zeros((1, 1)), None, "positive definite"),
        (np.eye(2), np.ones((2, 2)), None, "positive definite"),
        (np.eye(2), -np.eye(2), None, "positive definite"),
        (np.eye(2), 0.1, None, "square"),
        (np.diag([1, np.nan]), np.eye(1), None, "finite"),
        (np.eye(2), [[np.inf]], None, "finite"),
        (np.eye(2) * 1j, np.eye(1), None, "real"),
        ("W", np.eye(1), None, "real"),
        ([[1, 2], [3]], np.eye(1), None, "numbers"),
        (np.eye(4), np.eye(1), 3, "divide"),
        (np.eye(4), np.eye(1), 8, "divide"),
        (np.eye(4), np.eye(1), 0, "latent_dim"),
        (np.eye(4), np.eye(1), 2.0, "latent_dim"),
        (np.eye(4), np.eye(1), True, "latent_dim"),
    ],
)
def test_bad_weights_are_refused(W, R, latent_dim, word):
    with pytest.raises(InvalidInput, match=word) as caught:
        QuadraticCost(W, R, latent_dim)
    assert isinstance(caught.value, WorldplanError)


@pytest.mark.parametrize(
    "arguments",
    [(0,), (2.5,), (2, 0.0), (2, -1.0), (2, np.nan), (2, 0.1, -0.1), (2, "much"), (2, 0.1, 0.0, 0), (2, [0.1, 0.2])],
)
def test_bad_goal_reaching_arguments_are_refused(arguments):
    with pytest.raises(InvalidInput):
        QuadraticCost.goal_reaching(*arguments)


@pytest.mark.parametrize(
    "error, action", [([1, 2, 3], [0, 0]), ([1, 2, 3, 4], [0]), ([np.nan] * 4, [0, 0]), (1.0, [0, 0])]
)
def test_bad_stage_arguments_are_refused(error, action):
    with pytest.raises(InvalidInput):
        QuadraticCost.goal_reaching(2).stage(error, action)


@pytest.mark.parametrize("goal", [1.0, [], [1], [1, 2, 3], [1, np.nan], ["a", "b"], None])
def test_bad_goals_are_refused(goal):
    with pytest.raises(InvalidInput, match="goal"):
        QuadraticCost.goal_reaching(2).goal_state(goal)


def test_a_cost_that_no_memory_holds_is_refused():
    for sizes in ((10**12,), (2, 0.1, 0.0, 10**12)):
        with pytest.raises(InvalidInput, match="GiB"):
            QuadraticCost.goal_reaching(*sizes)
