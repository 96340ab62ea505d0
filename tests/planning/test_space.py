"""Latent spaces: the group laws, and what a seam must not cost."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import worldplan as wp
from worldplan.errors import InvalidInput
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics, fit_dynamics
from worldplan.planning.estimation import build_estimator
from worldplan.planning.space import LatentSpace

checked = settings(derandomize=True, deadline=None, max_examples=60)
kinds = st.lists(st.sampled_from(["circle", "line"]), min_size=1, max_size=4)
seeds = st.integers(0, 2**32 - 1)
TURN = 2 * np.pi


def drawn(kinds, seed, count=3, shape=(5,)):
    """A space and `count` arrays of latents, several turns wide."""
    space, rng = LatentSpace(*kinds), np.random.default_rng(seed)
    return space, *(10 * rng.standard_normal((*shape, space.dim)) for _ in range(count))


def equal(space, a, b):
    """Whether two arrays of latents are the same points of the space."""
    np.testing.assert_allclose(space.difference(a, b), 0, atol=1e-12)


@checked
@given(kinds, seeds)
def test_the_group_laws(kinds, seed):
    space, a, b, c = drawn(kinds, seed)
    equal(space, b + space.difference(a, b), a)  # b (+) (a (-) b) = a
    equal(space, space.difference(a, b), -space.difference(b, a))
    equal(space, space.difference(a, b) + space.difference(b, c), space.difference(a, c))  # associative
    equal(space, space.difference(a + c, b + c), space.difference(a, b))  # translations change no difference
    np.testing.assert_array_equal(space.difference(a, a), 0)
    equal(space, space.wrap(a), a)


@checked
@given(kinds, seeds)
def test_differences_are_the_shortest_and_lines_are_vectors(kinds, seed):
    space, a, b, _ = drawn(kinds, seed)
    moved = space.difference(a, b)
    around = moved[:, space.circles]
    assert (around >= -np.pi).all() and (around < np.pi).all()
    np.testing.assert_array_equal(moved[:, ~space.circles], (a - b)[:, ~space.circles])
    np.testing.assert_allclose(np.cos(moved)[:, space.circles], np.cos(a - b)[:, space.circles], atol=1e-12)
    for turns in (-1, 1):  # every other representative lies farther
        assert (np.abs(around + turns * TURN) >= np.abs(around) - 1e-12).all()


@checked
@given(kinds, seeds)
def test_a_goal_is_lifted_to_its_nearest_representative(kinds, seed):
    space, goal, near, _ = drawn(kinds, seed)
    lifted = space.lift(goal, near)
    equal(space, lifted, goal)
    assert (np.abs(lifted - near)[:, space.circles] <= np.pi + 1e-12).all()
    np.testing.assert_array_equal(lifted[:, ~space.circles], goal[:, ~space.circles])
    np.testing.assert_allclose(lifted - near, space.difference(goal, near), atol=1e-12)


@checked
@given(kinds, seeds)
def test_unwrapping_undoes_wrapping(kinds, seed):
    space, steps, _, _ = drawn(kinds, seed, shape=(50,))
    path = np.cumsum(0.09 * steps.clip(-30, 30), axis=0)  # at most 2.7 rad a step
    seen = space.unwrap(space.wrap(path))
    np.testing.assert_allclose(np.diff(seen, axis=0), np.diff(path, axis=0), atol=1e-9)
    equal(space, seen, path)


@checked
@given(kinds, seeds)
def test_a_chart_keeps_small_clouds_whole_wherever_they_lie(kinds, seed):
    space, centre, away, _ = drawn(kinds, seed, shape=(40,))
    cloud = centre[0] + 0.05 * away.clip(-25, 25)
    chart = space.chart(space.wrap(cloud))
    np.testing.assert_allclose(chart - chart[0], cloud - cloud[0], atol=1e-9)


def test_a_space_without_circles_changes_no_bit():
    space, a, b, _ = drawn(["line", "line"], 3)
    assert space.flat and space == LatentSpace.lines(2)
    np.testing.assert_array_equal(space.difference(a, b), a - b)
    for value in (space.wrap(a), space.unwrap(a), space.chart(a), space.lift(a, b)):
        np.testing.assert_array_equal(value, a)


def test_the_centre_of_a_cloud_across_the_seam_is_on_the_seam():
    space = wp.LatentSpace("circle", "line")
    rows = np.array([[3.1, 1.0], [-3.1, 3.0]])
    assert np.abs(space.centre(rows)).tolist() == pytest.approx([np.pi, 2.0])
    assert rows.mean(axis=0)[0] == 0  # negative control: the plain mean lies opposite


@pytest.mark.parametrize("bad", [(), ("torus",), ("circle", 3)])
def test_other_kinds_are_refused(bad):
    with pytest.raises(InvalidInput, match="circle and line"):
        LatentSpace(*bad)


def test_other_widths_and_values_are_refused():
    space = LatentSpace("circle", "line")
    with pytest.raises(InvalidInput, match=r"\(\.\.\., 2\)"):
        space.difference([0.0, 1.0, 2.0], [0.0, 1.0])
    with pytest.raises(InvalidInput, match="finite"):
        space.wrap([np.nan, 0.0])
    with pytest.raises(InvalidInput, match="N > 0"):
        space.centre([0.0, 1.0])
    with pytest.raises(InvalidInput, match="has 2 coordinates, the latents 1"):
        build_estimator(LinearDynamics([[0.5]], [[1.0]]), 1, space)


# --- what stands on it ----------------------------------------------------------------------------------------------


def arm(rng, episodes=20, steps=80, noise=0.01):
    """Episodes of a joint that turns without limit, and of one that does not: latents as paths, and actions."""
    paths, actions = [], []
    for _ in range(episodes):
        q, v = rng.uniform(-np.pi, np.pi, 2), np.zeros(2)
        u, rows = rng.uniform(-1, 1, (steps, 2)), [q]
        for a in u:
            v = 0.9 * v + 0.05 * a
            q = q + v
            rows.append(q)
        paths.append(np.array(rows) + noise * rng.standard_normal((steps + 1, 2)))
        actions.append(u)
    return paths, actions


def test_the_seam_costs_a_fit_nothing():
    """Wrapped latents, and episodes moved by whole turns, give the same dynamics; without the space they do not."""
    space = LatentSpace("circle", "line")
    paths, actions = arm(np.random.default_rng(0))
    wrapped = [space.wrap(path) for path in paths]
    assert max(np.abs(np.diff(rows, axis=0)).max() for rows in wrapped) > 6  # the seam was crossed
    turned = [rows + [TURN * (k % 5 - 2), 0] for k, rows in enumerate(wrapped)]
    first, again = (fit_dynamics(rows, actions, space=space) for rows in (wrapped, turned))
    for name in ("A", "B", "intercept", "process_noise", "observation_noise"):
        np.testing.assert_allclose(getattr(first, name), getattr(again, name), rtol=1e-5, atol=1e-10)
    torn = fit_dynamics(wrapped, actions)
    assert np.abs(torn.B - first.B).max() > 0.1 * np.abs(first.B).max()
    np.testing.assert_allclose(first.B[2:], 0.05 * np.eye(2), atol=3e-3)


@pytest.mark.parametrize("order", [1, 2])
def test_nothing_depends_on_the_position_on_a_circle(order):
    paths, actions = arm(np.random.default_rng(4), noise=0)
    space = LatentSpace("circle", "line")
    fitted = fit_dynamics([space.wrap(path) for path in paths], actions, order, space=space)
    state = np.random.default_rng(0).standard_normal(2 * order)
    away = np.zeros(2 * order)
    away[0] = TURN
    step = fitted.step(state + away, np.zeros(2)) - fitted.step(state, np.zeros(2))
    np.testing.assert_allclose(step, away, atol=1e-12)  # exactly a turn later
    free = fit_dynamics(paths, actions, order)
    assert np.abs(free.A[:, 0] - fitted.A[:, 0]).max() > 0  # negative control: lines may depend on it


def test_the_seam_costs_the_filter_nothing():
    space = LatentSpace("circle", "line")
    paths, actions = arm(np.random.default_rng(1))
    dynamics = fit_dynamics(paths, actions)
    plain, around = build_estimator(dynamics, 2), build_estimator(dynamics, 2, space)
    for path, u in zip(paths, actions, strict=True):
        means = plain.start(path[:1]), around.start(space.wrap(path[:1]))
        for action, latent in zip(u, path[1:], strict=True):
            means = (
                plain.update(means[0], action[None], latent[None]),
                around.update(means[1], action[None], space.wrap(latent[None])),
            )
            equal(space, means[0][:, :2], means[1][:, :2])
            np.testing.assert_allclose(means[0][:, 2:], means[1][:, 2:], atol=1e-9)


@pytest.mark.parametrize("planner", ["lqr", "mpc", "cem", "mppi"])
def test_every_planner_goes_the_short_way_round(planner):
    """Torques across the seam equal those of the same task turned away from it; goals a turn farther change nothing."""
    from worldplan.agents.latent_controller import LatentController

    space = LatentSpace("circle", "line")
    paths, actions = arm(np.random.default_rng(2))
    free = fit_dynamics([space.wrap(path) for path in paths], actions, space=space)
    cost = QuadraticCost.goal_reaching(2)
    controller = LatentController(free, cost, 2, planner, space=space)
    blind = LatentController(free, cost, 2, planner)
    start, goal, shift = np.array([[3.0, 0.2]]), np.array([[-3.0, 0.5]]), np.array([[2.0, 0.0]])
    here = controller.act(controller.start(start), goal)[0]
    away = blind.act(blind.start(start - shift), space.wrap(goal - shift))[0]
    np.testing.assert_allclose(here, away, atol=1e-6)
    for turns in (-1, 1, 5):
        moved = controller.act(controller.start(start), goal + [[turns * TURN, 0.0]])[0]
        np.testing.assert_allclose(moved, here, atol=1e-6)
    wrong = blind.act(blind.start(start), goal)[0]
    assert np.sign(wrong[0, 0]) == -np.sign(here[0, 0])  # the long way round


def test_a_difference_that_overflows_is_an_error():
    space = LatentSpace("circle", "line")
    for far in ([1.7e308, 0.0], [0.0, 1.7e308]):
        with pytest.raises(InvalidInput, match="overflows"):
            space.difference(far, np.negative(far))
    assert LatentSpace.lines(np.array(2)) == LatentSpace.lines(2)
    with pytest.raises(InvalidInput, match="at most"):
        LatentSpace.lines(10**12)
