"""Paths between two latents: the published line and the true optimum, against generic minimisers."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize

from worldplan.errors import InvalidInput
from worldplan.eval.control.paths import cheapest_path, path_cost, straight_line
from worldplan.planning.rotation import random_rotation

vectors = arrays(np.float64, 3, elements=st.floats(-5, 5))


def naive_cost(path):
    """The cost, term by term."""
    goal, total = path[-1], 0.0
    for t in range(len(path)):
        total += sum((path[t][i] - goal[i]) ** 2 for i in range(len(goal)))
        if t:
            total += sum((path[t][i] - path[t - 1][i]) ** 2 for i in range(len(goal)))
    return total


def minimised(start, goal, points):
    """The least cost that a general-purpose minimiser finds over the free points."""

    def cost(free):
        return naive_cost([start, *free.reshape(points - 2, len(start)), goal])

    return minimize(cost, np.zeros((points - 2) * len(start)), method="BFGS", options={"gtol": 1e-9})


def test_the_numbers_of_the_published_protocol():
    line, best = (path_cost(make([3.0, 4.0], [0.0, 0.0], points=8)) / 25 for make in (straight_line, cheapest_path))
    assert line == pytest.approx(3.0, abs=1e-12)
    assert best == pytest.approx((1 + 5**0.5) / 2, abs=1e-5)  # the golden ratio, to which it falls as T grows
    assert best != pytest.approx(line, rel=0.4)


@pytest.mark.parametrize("points", [3, 4, 8, 12])
def test_no_minimiser_finds_a_cheaper_path(points):
    start, goal = np.array([1.0, -0.5]), np.array([-0.3, 0.8])
    found = minimised(start, goal, points)
    best = cheapest_path(start, goal, points)
    assert path_cost(best) == pytest.approx(found.fun, rel=1e-9)
    assert np.allclose(best[1:-1].ravel(), found.x, atol=1e-5)
    assert path_cost(straight_line(start, goal, points)) > found.fun * (1.05 if points > 3 else 1.0)


@pytest.mark.parametrize("points", [2, 3, 8, 60])
def test_closed_form(points):
    """`c_t = sinh((T - 1 - t) a) / sinh((T - 1) a)`, `cosh a = 3/2` solves the recursion."""
    rate, left = np.arccosh(1.5), np.arange(points)[::-1]
    assert np.allclose(cheapest_path([1.0], [0.0], points)[:, 0], np.sinh(left * rate) / np.sinh((points - 1) * rate))


@given(vectors, vectors, st.integers(2, 30))
def test_ends_are_pinned_and_the_optimum_is_the_floor(start, goal, points):
    line, best = straight_line(start, goal, points), cheapest_path(start, goal, points)
    for path in (line, best):
        assert path.shape == (points, 3)
        assert np.array_equal(path[0], start) and np.allclose(path[-1], goal, atol=1e-12)
        assert path_cost(path) == pytest.approx(naive_cost(path), abs=1e-9)
    assert np.allclose(np.diff(line, axis=0), (goal - start) / (points - 1), atol=1e-12)
    assert path_cost(best) <= path_cost(line) + 1e-12


@given(vectors, vectors, st.integers(0, 100))
def test_any_other_path_costs_more(start, goal, seed):
    best = cheapest_path(start, goal, 8)
    other = best.copy()
    push = np.random.default_rng(seed).standard_normal((6, 3))
    other[1:-1] += 0.1 * push
    assert path_cost(other) > path_cost(best)


@given(vectors, vectors, st.integers(0, 100))
def test_affine_maps_take_both_paths_to_themselves(start, goal, seed):
    rng = np.random.default_rng(seed)
    M, offset = np.eye(3) + np.triu(rng.standard_normal((3, 3)), 1), rng.standard_normal(3)
    Q = random_rotation(3, rng)
    for make in (straight_line, cheapest_path):
        path = make(start, goal, 8)
        assert np.allclose(make(M @ start + offset, M @ goal + offset, 8), path @ M.T + offset, atol=1e-9)
        assert path_cost(path @ Q.T) == pytest.approx(path_cost(path), abs=1e-9)


def test_many_at_once_are_one_by_one():
    starts, goals = np.random.default_rng(0).standard_normal((2, 4, 5, 2))
    for make in (straight_line, cheapest_path):
        paths = make(starts, goals, 6)
        assert paths.shape == (4, 5, 6, 2)
        assert np.array_equal(paths[2, 3], make(starts[2, 3], goals[2, 3], 6))
        assert path_cost(paths).shape == (4, 5)


@pytest.mark.parametrize(
    ("start", "goal", "points", "said"),
    [
        ([0.0], [0.0, 1.0], 8, "both be"),
        (0.0, 1.0, 8, "both be"),
        ([np.nan], [0.0], 8, "start has entries"),
        ([0.0], ["x"], 8, "goal must hold real numbers"),
        ([0.0], [1.0], 1, "two ends"),
        ([0.0], [1.0], 2.0, "integer"),
    ],
)
def test_refused(start, goal, points, said):
    for make in (straight_line, cheapest_path):
        with pytest.raises(InvalidInput, match=said):
            make(start, goal, points)


def test_what_is_no_path_is_refused():
    for wrong in ([1.0, 2.0], [[1.0, 2.0]], [[np.inf], [0.0]]):
        with pytest.raises(InvalidInput):
            path_cost(wrong)
