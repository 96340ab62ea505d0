"""Theorem 4 on circles and lines: symmetries keep every plan; a learner that forgets the seam does not."""

import numpy as np
import pytest

from worldplan.eval.theorem4.gaps import TOLERANCE
from worldplan.eval.theorem4.spaces import draw_space_problem, space_gaps
from worldplan.planning.rotation import random_rotation, random_symmetry
from worldplan.planning.space import LatentSpace


@pytest.mark.parametrize("seed", range(20))
def test_symmetries_and_translations_keep_torques_and_values(seed):
    rng = np.random.default_rng(seed)
    world = draw_space_problem(rng, 1 + seed % 3, seed % 4)
    M, offset = random_symmetry(world.space, rng), 5 * rng.standard_normal(world.space.dim)
    assert space_gaps(world, M, offset).worst[1] < TOLERANCE
    # Whole turns of the offset are nothing.
    assert space_gaps(world, M, offset + 2 * np.pi * world.space.circles).worst[1] < TOLERANCE


@pytest.mark.parametrize("seed", range(5))
def test_a_learner_that_takes_circles_for_lines_goes_the_long_way_round(seed):
    world = draw_space_problem(np.random.default_rng(seed), 1 + seed % 2, 1)
    assert space_gaps(world, np.eye(world.space.dim), np.zeros(world.space.dim)).worst[1] < TOLERANCE
    assert space_gaps(world, np.eye(world.space.dim), np.zeros(world.space.dim), seam=False).plan > 0.3


@pytest.mark.parametrize("seed", range(5))
def test_rotations_of_circles_are_rejected(seed):
    rng = np.random.default_rng(seed)
    world = draw_space_problem(rng, 2, 0)
    assert space_gaps(world, random_rotation(2, rng), np.zeros(2)).worst[1] > 1e-3


def test_symmetries_are_isometries_that_keep_the_lattice_of_full_turns():
    space, rng = LatentSpace("circle", "line", "circle", "line"), np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        M = random_symmetry(space, rng)
        np.testing.assert_allclose(M.T @ M, np.eye(4), atol=1e-12)
        around = M[np.ix_(space.circles, space.circles)]
        np.testing.assert_array_equal(around, np.round(around))
        assert not M[np.ix_(space.circles, ~space.circles)].any() and not M[np.ix_(~space.circles, space.circles)].any()
        seen.add(tuple(around.ravel()))
    assert len(seen) == 8  # all signed permutations of two circles
    lines = random_symmetry(LatentSpace.lines(3), np.random.default_rng(1))
    np.testing.assert_array_equal(lines, random_rotation(3, np.random.default_rng(1)))
