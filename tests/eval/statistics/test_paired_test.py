"""Null tests: nothing is told from itself, in the pipeline to 1e-6 and in the statistics at 5%."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import permutation_test

import worldplan as wp
from worldplan.errors import InvalidInput
from worldplan.eval.statistics.paired_test import false_positive_rate, paired_test
from worldplan.eval.theorem4.pixels import PixelConfig, pixel_levels


def outliers(count, seed=0):
    """Cost ratios as they come: near 1, a few far off."""
    rng = np.random.default_rng(seed)
    return 1 + 0.05 * rng.standard_normal(count) + np.where(rng.random(count) < 0.03, rng.exponential(10, count), 0.0)


def test_null_f_against_a_rotation_of_f_is_equal_to_1e_6():
    short = PixelConfig(fit_episodes=16, fit_steps=14, test_episodes=2, test_steps=6)
    levels = pixel_levels(wp.load_encoder("reacher"), seed=1, profile="fast", config=short)
    turned = [level for level in levels if level.name.startswith("Q f, LQR")]
    sheared = [level for level in levels if level.name.startswith("shear of f, LQR")]
    assert turned and sheared
    assert all(max(level.torque_gap, level.cost_gap or 0.0) < 1e-6 for level in turned)
    assert all(level.torque_gap > 1e-3 for level in sheared)


@pytest.mark.parametrize("costs", [outliers(60), outliers(301, 1), np.random.default_rng(2).random(12)])
def test_null_f_against_itself_is_rejected_at_5_percent_at_most(costs):
    null = false_positive_rate(costs)
    assert null.passed and null.resamples == 500
    assert 0.02 < null.rate.value < 0.08 or len(costs) == 12  # nor far below: a test that never rejects is none


@pytest.mark.parametrize(
    "broken",
    [
        lambda a, b, seed: paired_test(a, b, seed) / 3,
        lambda a, b, seed: 0.0 if a.mean() > b.mean() else 1.0,
        # the classic mistake: episodes counted ten times over
        lambda a, b, seed: paired_test(*(x.mean() + (x - x.mean()) / np.sqrt(10) for x in (a, b)), seed),
    ],
)
def test_a_test_that_rejects_too_often_is_seen(broken):
    assert not false_positive_rate(outliers(60), test=broken).passed


@given(st.integers(0, 10**6), st.integers(2, 9))
def test_the_p_value_is_that_of_all_flips(seed, count):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 4, (2, count)).astype(float)
    exact = permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert paired_test(a, b, seed) == pytest.approx(exact, abs=0.07)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_a_real_difference_is_found_and_none_is_not(seed):
    a = outliers(100, seed)
    assert paired_test(a, a + 0.1) < 0.01  # paired: far smaller than the spread between episodes
    assert paired_test(a, a) == 1.0
    assert paired_test(a, a + 0.1, 3) == paired_test(a + 0.1, a, 3)


@pytest.mark.parametrize("wrong", [np.zeros(11), np.zeros((12, 2)), np.full(12, np.nan)])
def test_wrong_costs_are_refused(wrong):
    with pytest.raises(InvalidInput):
        false_positive_rate(wrong)
    with pytest.raises(InvalidInput):
        paired_test(wrong, np.zeros(5))
    with pytest.raises(InvalidInput):
        paired_test([], [])
