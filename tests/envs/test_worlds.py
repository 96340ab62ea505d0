"""The Ornstein-Uhlenbeck world: correlations, scales, reproducibility, truncation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from worldplan.envs.worlds import JOINT_RANGE, OUWorld
from worldplan.errors import InvalidInput

N = 20_000
worlds = st.builds(
    OUWorld,
    rho=st.floats(0.05, 0.99),
    scale=st.tuples(st.floats(0.1, 3.0), st.floats(0.1, 3.0)),
    views=st.integers(2, 5),
)


def correlations(angles):
    """(2, V, V): correlation matrix of the views, per joint, by NumPy."""
    return np.stack([np.corrcoef(angles[:, :, joint].T) for joint in range(2)])


def off_diagonal(matrices):
    return matrices[:, ~np.eye(matrices.shape[1], dtype=bool)]


@settings(max_examples=20)
@given(world=worlds, seed=st.integers(0, 2**32 - 1))
def test_every_pair_of_views_is_correlated_by_exactly_rho(world, seed):
    angles = world.sample(N, np.random.default_rng(seed))
    assert angles.shape == (N, world.views, 2)
    noise = 6 * (1 - world.rho**2) / math.sqrt(N)  # six standard errors of a correlation coefficient
    assert off_diagonal(correlations(angles)) == pytest.approx(world.rho, abs=noise)
    # the marginal of every view and joint is N(0, scale^2), and joints are independent
    assert angles.std(axis=0) == pytest.approx(np.tile(world.scale, (world.views, 1)), rel=6 / math.sqrt(2 * N))
    assert np.abs(angles.mean(axis=0) / world.scale).max() < 6 / math.sqrt(N)
    assert abs(np.corrcoef(angles[:, 0, 0], angles[:, 1, 1])[0, 1]) < 6 / math.sqrt(N)


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.9])
def test_views_drawn_around_one_latent_would_be_correlated_by_rho_squared(rho):
    """Negative control: the construction that looks right, measured by the same function, is not the OU channel."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((N, 1, 2))
    wrong = rho * z + math.sqrt(1 - rho**2) * rng.standard_normal((N, 4, 2))
    measured = off_diagonal(correlations(wrong))
    assert measured == pytest.approx(rho**2, abs=6 / math.sqrt(N))
    assert np.abs(measured - rho).min() > 0.05
    right = OUWorld(rho=rho, views=4).sample(N, rng)
    assert off_diagonal(correlations(right)) == pytest.approx(rho, abs=6 / math.sqrt(N))


def test_marginals_are_normal_beyond_their_second_moment():
    z = OUWorld(rho=0.9, scale=(0.5, 2.0)).sample(N, np.random.default_rng(0))[:, 0] / (0.5, 2.0)
    fourth = (z**4).mean(axis=0)
    assert fourth == pytest.approx(3.0, abs=6 * math.sqrt(96 / N))
    uniform = np.random.default_rng(0).uniform(-math.sqrt(3), math.sqrt(3), N)  # negative control: unit variance too
    assert abs((uniform**4).mean() - 3.0) > 6 * math.sqrt(96 / N)


def test_samples_depend_on_the_seed_and_on_nothing_else():
    world = OUWorld()
    first, again, other = (world.sample(50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first, other).any()


def test_truncation_keeps_every_view_in_range_and_the_channel_nearly_as_it_was():
    wide = {"rho": 0.9, "scale": (1.5, 1.3), "views": 3}
    free = OUWorld(**wide).sample(N, np.random.default_rng(0))
    assert (np.abs(free) > JOINT_RANGE).any()  # otherwise the next lines say nothing
    cut = OUWorld(**wide, truncate=True).sample(N, np.random.default_rng(0))
    assert (np.abs(cut) <= JOINT_RANGE).all()
    assert (cut.std(axis=0) < free.std(axis=0)).all()
    inside = (np.abs(free) <= JOINT_RANGE).all(axis=(1, 2))
    np.testing.assert_array_equal(cut[inside], free[inside])  # only sets with a view outside are drawn again


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"rho": 0.0}, "rho must lie in"),
        ({"rho": 1.0}, "rho must lie in"),
        ({"rho": -0.5}, "rho must lie in"),
        ({"rho": math.nan}, "rho must be a finite number"),
        ({"scale": (1.0, 0.0)}, "two positive angles"),
        ({"scale": (1.0, math.inf)}, "scale must be 2 finite numbers"),
        ({"scale": (1.0,)}, "scale must be 2 finite numbers"),
        ({"views": 1}, "at least 2 views"),
        ({"truncate": True, "scale": (1.0, 30.0)}, "reject nearly every draw"),
    ],
    ids=str,
)
def test_impossible_worlds_are_refused(wrong, says):
    with pytest.raises(InvalidInput, match=says):
        OUWorld(**wrong)


def test_a_wide_world_without_truncation_is_fine():
    assert OUWorld(scale=(1.0, 30.0)).sample(3, np.random.default_rng(0)).shape == (3, 2, 2)
