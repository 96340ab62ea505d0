"""R2 by kind of label: against scikit-learn and a naive bootstrap, and what each kind can and cannot see."""

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from worldplan.errors import InvalidInput, UnknownName
from worldplan.eval.identifiability.regression import LABEL_KINDS, fit_affine, label_fit, label_targets, r2
from worldplan.eval.statistics.bootstrap import group_index, interval, resampled_counts, resampled_sums
from worldplan.planning.rotation import random_rotation

seeds = st.integers(0, 2**32 - 1)


def halves(*arrays):
    """Train and test rows of each array, in the order that label_fit takes them."""
    cut = len(arrays[0]) // 2
    return [part for side in (slice(None, cut), slice(cut, None)) for part in (a[side] for a in arrays)]


# --- labels ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=8))
def test_labels_describe_the_same_pose(pairs):
    angles = np.array(pairs)
    wrapped, circle = label_targets(angles, "wrapped"), label_targets(angles, "sincos")
    assert np.array_equal(label_targets(angles, "unwrapped"), angles)
    assert (np.abs(wrapped) <= np.pi).all()
    turns = (angles - wrapped) / (2 * np.pi)
    assert np.abs(turns - turns.round()).max() < 1e-12
    for joint in range(2):
        sin, cos = circle[:, 2 * joint], circle[:, 2 * joint + 1]
        assert np.exp(1j * angles[:, joint]) == pytest.approx(cos + 1j * sin, abs=1e-12)


def test_bad_labels():
    with pytest.raises(UnknownName, match="sincos, unwrapped, wrapped"):
        label_targets(np.zeros((3, 2)), "degrees")
    for angles in (np.zeros(3), np.zeros((0, 2)), np.full((3, 2), np.nan)):
        with pytest.raises(InvalidInput, match="angles"):
            label_targets(angles, "wrapped")


# --- bootstrap ------------------------------------------------------------------------------------------------------


@given(seed=seeds, size=st.integers(2, 30), resamples=st.integers(1, 40))
def test_counts_are_draws_with_replacement(seed, size, resamples):
    counts = np.concatenate(list(resampled_counts(size, resamples, seed)))
    assert counts.shape == (resamples, size)
    assert (counts.sum(axis=1) == size).all()
    assert np.array_equal(counts, np.concatenate(list(resampled_counts(size, resamples, seed))))


def test_counts_have_the_law_of_a_bootstrap():
    counts = np.concatenate(list(resampled_counts(20, 20000, 0)))
    assert (counts == 0).mean() == pytest.approx((1 - 1 / 20) ** 20, abs=0.005)
    assert counts.var() == pytest.approx(1 - 1 / 20, abs=0.02)
    assert len(list(resampled_counts(2**19, 5, 0))) > 1  # comes in pieces when it is large


@given(seed=seeds)
def test_sums_over_groups_are_those_of_the_drawn_rows(seed):
    rng = np.random.default_rng(seed)
    rows, labels = rng.standard_normal((30, 3)), rng.choice(["a", "b", "c", "d"], 30)
    index = group_index(labels, 30)
    names = np.unique(labels)
    counts = np.concatenate(list(resampled_counts(len(names), 5, seed))).astype(int)
    for row, count in zip(resampled_sums(rows, index, 5, seed), counts, strict=True):
        drawn = [rows[labels == name] for name, times in zip(names, count, strict=True) for _ in range(times)]
        assert row == pytest.approx(np.concatenate(drawn).sum(axis=0), abs=1e-12)


def test_an_interval_holds_its_value_and_ignores_draws_without_one():
    draws = np.append(np.linspace(0, 100, 1001), np.nan)
    whole = interval(50.0, draws)
    assert (whole.low, whole.high) == pytest.approx((2.5, 97.5))
    assert interval(-1.0, draws).low == -1.0
    assert interval(3.0, np.array([np.nan])).high == 3.0


def test_bad_groups():
    with pytest.raises(InvalidInput, match="one label for each"):
        group_index(["a"], 2)
    with pytest.raises(InvalidInput, match="at least 2"):
        r2(np.arange(4.0)[:, None], np.zeros((4, 1)), groups=[0, 0, 0, 0])
    with pytest.raises(InvalidInput, match="resamples"):
        list(resampled_counts(3, 0, 0))


# --- R2 -------------------------------------------------------------------------------------------------------------


@given(seed=seeds, rows=st.integers(5, 40), columns=st.integers(1, 4), noise=st.floats(0, 3), shift=st.floats(-9, 9))
def test_r2_is_that_of_scikit_learn(seed, rows, columns, noise, shift):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((rows, columns)) * np.arange(1, columns + 1) + shift
    guess = y + noise * rng.standard_normal(y.shape)
    found = r2(y, guess, block=1, resamples=5)
    assert found.total.value == pytest.approx(r2_score(y, guess, multioutput="variance_weighted"), abs=1e-9)
    assert [block.value for block in found.per_block] == pytest.approx(r2_score(y, guess, multioutput="raw_values"))


def test_intervals_are_those_of_a_naive_bootstrap():
    rng = np.random.default_rng(3)
    episodes = np.repeat(np.arange(25), 8)
    y = rng.standard_normal((25, 2)).repeat(8, axis=0) + 0.1 * rng.standard_normal((200, 2))
    guess = y + 0.5 * rng.standard_normal((25, 2)).repeat(8, axis=0)

    def naive(units):
        scores = []
        for _ in range(1000):
            rows = np.concatenate([np.flatnonzero(units == unit) for unit in rng.integers(units.max() + 1, size=25)])
            scores.append(1 - np.square(y - guess)[rows].sum() / (len(rows) * y[rows].var(axis=0).sum()))
        return np.quantile(scores, [0.025, 0.975])

    clustered = r2(y, guess, groups=episodes, resamples=3000).total
    assert (clustered.low, clustered.high) == pytest.approx(naive(episodes), abs=0.02)
    rowwise = r2(y, guess, resamples=3000).total
    assert rowwise.value == clustered.value
    # Rows of an episode share their error: resampling rows would claim far too much.
    assert clustered.high - clustered.low > 1.8 * (rowwise.high - rowwise.low)


def test_r2_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(4)
    covered = 0
    for trial in range(200):
        y = rng.standard_normal((300, 1))
        found = r2(y, 0.5 * y + 0.5 * rng.standard_normal((300, 1)), resamples=200, seed=trial).total
        covered += found.low <= 1 - (0.25 + 0.25) <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_a_constant_has_no_r2():
    with pytest.raises(InvalidInput, match="constant"):
        r2(np.full((9, 2), 0.1), np.zeros((9, 2)))
    nearly = 0.1 + 1e-12 * np.random.default_rng(0).standard_normal((9, 2))  # as sums of other batches round
    for constant in (nearly, nearly - 0.1 + 1e6):
        with pytest.raises(InvalidInput, match="constant"):
            r2(constant, constant.round(12))
    for other in (np.zeros(9), nearly[:, 0]):
        with pytest.raises(InvalidInput, match="constant"):
            r2(np.column_stack([np.arange(9.0), other]), np.zeros((9, 2)), block=1)
    assert r2(np.column_stack([np.arange(9.0), np.zeros(9)]), np.zeros((9, 2))).total.value < 0


@given(seed=seeds, offset=st.floats(-1e3, 1e3))
def test_affine_fit_is_least_squares(seed, offset):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((30, 3)), rng.standard_normal((30, 2)) + offset
    oracle = LinearRegression().fit(x, y)
    assert np.allclose(fit_affine(x, y).M, oracle.coef_, atol=1e-9)
    assert np.allclose(fit_affine(x, y)(x), oracle.predict(x), atol=1e-9)


# --- label fits -----------------------------------------------------------------------------------------------------


@given(seed=seeds)
def test_a_rotation_of_the_labels_is_perfect_both_ways_for_its_own_kind(seed):
    rng = np.random.default_rng(seed)
    angles = 2.5 * rng.standard_normal((200, 2))
    for kind in LABEL_KINDS:
        labels = label_targets(angles, kind)
        latents = labels @ random_rotation(labels.shape[1], rng).T + 3.0
        for judged in LABEL_KINDS:
            train_h, train_a, test_h, test_a = halves(latents, angles)
            fit = label_fit(train_h, train_a, test_h, test_a, judged, resamples=10)
            scores = [fit.latent_to_state.value, fit.state_to_latent.value, *(j.value for j in fit.per_joint)]
            assert fit.kind == judged
            assert len(fit.per_joint) == 2
            if judged == kind:
                assert scores == pytest.approx([1.0] * 4, abs=1e-9)
            else:  # each kind knows something that the others do not tell
                assert fit.latent_to_state.value < 0.95


def test_one_joint_that_does_not_wrap():
    rng = np.random.default_rng(5)
    angles = rng.standard_normal((2000, 2)) * [3.0, 0.5]
    latents = label_targets(angles, "wrapped") / 2
    train_h, train_a, test_h, test_a = halves(latents, angles)
    fit = label_fit(train_h, train_a, test_h, test_a, "unwrapped", resamples=200)
    assert fit.per_joint[0].high < 0.9
    assert fit.per_joint[1].value == pytest.approx(1.0)
    assert fit.per_joint[0].value < fit.latent_to_state.value < fit.per_joint[1].value
    assert fit.per_joint[0].low < fit.per_joint[0].value < fit.per_joint[0].high


def test_the_direction_is_in_the_name():
    """A latent with something else in it tells the state, but the state does not tell the latent."""
    rng = np.random.default_rng(6)
    angles = rng.standard_normal((2000, 2))
    latents = np.column_stack([angles, rng.standard_normal((2000, 2))])
    train_h, train_a, test_h, test_a = halves(latents, angles)
    fit = label_fit(train_h, train_a, test_h, test_a, "unwrapped", resamples=100)
    assert fit.latent_to_state.value == pytest.approx(1.0)
    assert fit.state_to_latent.value == pytest.approx(0.5, abs=0.03)


def test_it_is_judged_on_rows_that_were_not_fitted():
    rng = np.random.default_rng(7)
    train_h, test_h = rng.standard_normal((2, 60, 20))
    train_a, test_a = rng.standard_normal((2, 60, 2))
    fit = label_fit(train_h, train_a, test_h, test_a, "unwrapped", resamples=100)
    assert fit.latent_to_state.value < -0.1  # in sample, 20 of 60 directions would "explain" a third
    assert label_fit(train_h, train_a, train_h, train_a, "unwrapped", resamples=100).latent_to_state.value > 0.2


def test_same_seed_same_fit_and_json():
    rng = np.random.default_rng(8)
    train_h, train_a, test_h, test_a = rng.standard_normal((4, 50, 2))
    fits = [label_fit(train_h, train_a, test_h, test_a, "sincos", resamples=50, seed=s) for s in (1, 1, 2)]
    assert fits[0] == fits[1] != fits[2]
    assert json.loads(json.dumps(fits[0].to_dict()))["kind"] == "sincos"


def test_bad_label_fits():
    rng = np.random.default_rng(9)
    h, a = rng.standard_normal((2, 40, 2))
    with pytest.raises(InvalidInput, match="do not fit"):
        label_fit(h, a[:-1], h, a, "wrapped")
    with pytest.raises(InvalidInput, match="do not fit"):
        label_fit(h, a, h[:, :1], a, "wrapped")
    with pytest.raises(InvalidInput, match="too few"):
        label_fit(h[:5], a[:5], h, a, "wrapped")
    with pytest.raises(InvalidInput, match="not finite"):
        label_fit(np.full_like(h, np.nan), a, h, a, "wrapped")
    with pytest.raises(InvalidInput, match="constant"):
        label_fit(np.ones_like(h), a, np.ones_like(h), a, "wrapped")
    with pytest.raises(UnknownName):
        label_fit(h, a, h, a, "wraped")
