"""How non-Gaussian trajectories are: moments, wrapping, memory, tests of normality, and the picture of all that."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from scipy import stats

from worldplan.agents.actor import load_policy
from worldplan.envs.parallel import rollout_states
from worldplan.errors import InvalidInput
from worldplan.eval.diagnose.figure import figure
from worldplan.eval.diagnose.normality import (
    FEWEST,
    autocorrelation,
    diagnose,
    epps_pulley_test,
    henze_zirkler,
    ou_episodes,
)

EPISODES, STEPS, LAG = 96, 80, 32


@pytest.fixture(scope="module")
def ou():
    return ou_episodes(EPISODES, STEPS, rho=0.9, scale=(0.8, 0.6), seed=3)


@pytest.fixture(scope="module")
def random():
    return rollout_states(None, EPISODES, seed=0, steps=STEPS)


@pytest.fixture(scope="module")
def sac():
    return rollout_states(load_policy("reacher-easy"), EPISODES, seed=0, steps=STEPS)


@pytest.fixture(scope="module")
def table(ou, random, sac):
    rows = {"OU": (ou, None), "random": (random.info["qpos"], random.actions), "SAC": (sac.info["qpos"], sac.actions)}
    return {k: diagnose(q, name=k, actions=a, max_lag=LAG, count=400) for k, (q, a) in rows.items()}


def quick(episodes, **options):
    return diagnose(episodes, name="test", **{"max_lag": 4, "count": 60} | options)


# --- what is measured on known laws and on real data ----------------------------------------------------------------


def test_ou_looks_gaussian_and_the_reacher_does_not(table):
    gaussian = table["OU"]
    assert gaussian.henze_zirkler_p > 0.05
    for joint in (gaussian.shoulder, gaussian.wrist):
        assert joint.epps_pulley_p > 0.05
        assert joint.skewness.low < 0 < joint.skewness.high
        assert joint.excess_kurtosis.low < 0 < joint.excess_kurtosis.high
    for name, level in (("random", 0.01), ("SAC", 1e-6)):
        assert table[name].henze_zirkler_p < level
        assert table[name].wrist.excess_kurtosis.high < 0
    assert table["SAC"].wrist.epps_pulley_p < 0.01
    assert table["SAC"].shoulder.beyond.low > 0.02
    assert table["SAC"].wrist.excess_kurtosis.value < table["random"].wrist.excess_kurtosis.value


def test_random_actions_have_no_memory_and_learned_ones_do(table):
    assert np.abs(table["random"].shoulder.action_autocorrelation).max() < 0.06
    assert table["SAC"].wrist.action_autocorrelation[1] > 0.3
    assert table["OU"].wrist.action_autocorrelation is None


def test_moments_and_wrapping_are_those_of_the_pooled_angles(random, table):
    angles = np.concatenate(random.info["qpos"])
    for i, joint in enumerate((table["random"].shoulder, table["random"].wrist)):
        x = angles[:, i]
        values = [joint.mean, joint.sd, joint.skewness, joint.excess_kurtosis, joint.beyond]
        share = np.mean(np.abs(x) > (math.pi, math.radians(160))[i])
        assert [v.value for v in values] == pytest.approx([x.mean(), x.std(), stats.skew(x), stats.kurtosis(x), share])
        assert all(v.low <= v.value <= v.high for v in values)
        assert all(v.low < v.high for v in values)
    assert table["random"].episodes == EPISODES
    assert table["random"].rows == len(angles)


def test_intervals_are_as_wide_as_a_bootstrap_over_episodes_makes_them():
    rng = np.random.default_rng(0)
    episodes = list(rng.standard_normal((40, 1, 2)) + 0.3 * rng.standard_normal((40, 30, 2)))
    joint = quick(episodes, count=1000).shoulder
    means = (np.array([q[:, 0].mean() for q in episodes]),)
    naive = stats.bootstrap(means, np.mean, n_resamples=2000, method="percentile", rng=rng).confidence_interval
    assert (joint.mean.low, joint.mean.high) == pytest.approx(naive, abs=0.04)
    rows = 1.96 * joint.sd.value / math.sqrt(40 * 30)  # what independent rows would give
    assert joint.mean.high - joint.mean.low > 4 * 2 * rows


def test_wrapping_counts_each_joint_at_its_own_limit():
    rng = np.random.default_rng(0)
    episodes = rng.uniform(-1, 1, (10, 20, 2))
    assert quick(episodes).shoulder.beyond.value == 0
    episodes[:, :5, 0] = -3.2  # past pi
    episodes[:, 5:10, 0] = 3.1  # past 160 degrees, not past pi
    episodes[:, :2, 1] = 2.8
    result = quick(episodes)
    assert (result.shoulder.beyond.value, result.wrist.beyond.value) == (0.25, 0.1)
    assert result.wrist.beyond.low == result.wrist.beyond.high == pytest.approx(0.1)  # the same in every episode


def test_effective_size_between_standing_still_and_independent_rows():
    rng = np.random.default_rng(0)
    still = quick(rng.standard_normal((200, 1, 2)) + 1e-6 * rng.standard_normal((200, 30, 2)))
    assert still.shoulder.effective_size == pytest.approx(199, rel=1e-3)
    free = quick(rng.standard_normal((200, 30, 2)))
    assert free.wrist.effective_size == pytest.approx(6000, rel=0.3)
    memory = quick(ou_episodes(300, 200, rho=0.8)).shoulder.effective_size
    assert memory == pytest.approx(300 * 201 * 0.2 / 1.8, rel=0.25)


def test_the_same_seed_gives_the_same_numbers(ou):
    assert quick(ou, seed=1) == quick(ou, seed=1)
    assert quick(ou, seed=1).shoulder.mean.low != quick(ou, seed=2).shoulder.mean.low
    assert quick(ou, seed=1).henze_zirkler != quick(ou, seed=2).henze_zirkler


def test_json_has_every_number(table):
    value = json.loads(json.dumps(table["SAC"].to_dict(), allow_nan=False))
    assert set(value["shoulder"]["skewness"]) == {"value", "low", "high"}
    assert len(value["wrist"]["autocorrelation_within"]) == LAG
    assert value["henze_zirkler_p"] == table["SAC"].henze_zirkler_p


# --- memory ---------------------------------------------------------------------------------------------------------


def naive_autocorrelation(series, lag):
    rows = [row for episode in series for row in episode]
    out = []
    for i in range(len(rows[0])):
        mean = sum(row[i] for row in rows) / len(rows)
        pairs = [(e[t][i] - mean, e[t + lag][i] - mean) for e in series for t in range(len(e) - lag)]
        power = sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs)
        out.append(sum(a * b for a, b in pairs) / math.sqrt(power))
    return out


@given(st.lists(st.integers(5, 9), min_size=1, max_size=5), st.integers(0, 99))
@settings(max_examples=40)
def test_autocorrelation_is_the_naive_one(lengths, seed):
    rng = np.random.default_rng(seed)
    series = [1 + rng.standard_normal((n, 2)).cumsum(axis=0) for n in lengths]
    got = autocorrelation(series, 4)
    assert np.abs(got).max() <= 1
    np.testing.assert_allclose(got.T, [naive_autocorrelation(series, k) for k in (1, 2, 3, 4)], atol=1e-12)


@pytest.mark.parametrize("rho", [0.5, 0.95])
def test_ou_episodes_are_stationary_and_forget_at_rate_rho(rho):
    episodes = ou_episodes(1000, 60, rho, scale=(0.5, 2.0), seed=1)
    assert len(episodes) == 1000
    assert episodes[0].shape == (61, 2)
    stacked = np.array(episodes)
    np.testing.assert_allclose(stacked.std(axis=0), np.broadcast_to([0.5, 2.0], (61, 2)), rtol=0.12)
    assert np.abs(np.corrcoef(stacked.reshape(-1, 2).T)[0, 1]) < 0.1
    lags = np.arange(1, 21)
    np.testing.assert_allclose(autocorrelation(episodes, 20), [rho**lags] * 2, atol=0.06)
    np.testing.assert_array_equal(episodes[:3], ou_episodes(3, 60, rho, scale=(0.5, 2.0), seed=1))
    assert not np.array_equal(episodes[0], ou_episodes(3, 60, rho, scale=(0.5, 2.0), seed=2)[0])


def test_poses_of_their_own_give_pooled_memory_but_none_within(ou):
    shifted = list(np.array(ou) + np.random.default_rng(0).uniform(-9, 9, (EPISODES, 1, 2)))
    before, after = quick(ou), quick(shifted)
    assert after.shoulder.autocorrelation[3] > 0.97 > before.shoulder.autocorrelation[3]
    assert after.wrist.autocorrelation_within == pytest.approx(before.wrist.autocorrelation_within, abs=1e-9)


# --- tests of normality ---------------------------------------------------------------------------------------------

LAWS = {
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape),
    "bimodal": lambda rng, shape: rng.choice([-2, 2], shape) + rng.standard_normal(shape),
    "skew": lambda rng, shape: rng.exponential(size=shape),
}


def test_epps_pulley_keeps_its_level():
    rng = np.random.default_rng(0)
    p = epps_pulley_test(5 + 0.1 * rng.standard_normal((40, 500)), 500, rng)[1]
    assert stats.kstest(p, "uniform").pvalue > 0.01  # all quantiles, not the 5% alone
    assert 0.02 < np.mean(p < 0.05) < 0.08
    assert p.min() >= 1 / 501


@pytest.mark.parametrize("law", LAWS)
def test_epps_pulley_has_power(law):
    rng = np.random.default_rng(0)
    p = epps_pulley_test(LAWS[law](rng, (150, 60)), 300, rng)[1]
    assert np.mean(p < 0.05) > 0.9


@given(st.floats(-9, 9), st.floats(0.1, 9), st.booleans())
@settings(max_examples=25)
def test_epps_pulley_does_not_see_shift_scale_or_sign(shift, scale, flip):
    sample = np.random.default_rng(0).exponential(size=(20, 2))
    moved = shift + (-scale if flip else scale) * sample
    one, other = (epps_pulley_test(x, 20, np.random.default_rng(1)) for x in (sample, moved))
    np.testing.assert_allclose(one, other, rtol=1e-6)
    assert abs(epps_pulley_test(sample**2, 20, np.random.default_rng(1))[0] - one[0]).min() > 0.1


def naive_henze_zirkler(sample):
    n, d = sample.shape
    inverse = np.linalg.inv(np.cov(sample.T, bias=True).reshape(d, d))
    beta = ((2 * d + 1) * n / 4) ** (1 / (d + 4)) / math.sqrt(2)
    total = 0.0
    for x in sample:
        for y in sample:
            total += math.exp(-(beta**2) / 2 * (x - y) @ inverse @ (x - y)) / n
        gap = x - sample.mean(axis=0)
        total -= 2 * (1 + beta**2) ** (-d / 2) * math.exp(-(beta**2) / (2 * (1 + beta**2)) * gap @ inverse @ gap)
    return total + n * (1 + 2 * beta**2) ** (-d / 2)


@pytest.mark.parametrize(("n", "d"), [(5, 1), (12, 2), (30, 3)])
def test_henze_zirkler_is_the_naive_double_loop(n, d):
    sample = np.random.default_rng(n).gamma(2.0, size=(n, d))
    assert henze_zirkler(sample)[0] == pytest.approx(naive_henze_zirkler(sample), rel=1e-9)


def test_henze_zirkler_of_a_large_sample_is_summed_in_blocks():
    sample = np.random.default_rng(0).standard_normal((2200, 2))  # more than one block
    y = (sample - sample.mean(axis=0)) @ np.linalg.cholesky(np.linalg.inv(np.cov(sample.T, bias=True)))
    beta = (5 * 2200 / 4) ** (1 / 6) / math.sqrt(2)
    distances = ((y[:, None] - y) ** 2).sum(axis=-1)
    pairs = np.exp(-(beta**2) / 2 * distances).sum() / 2200
    single = np.exp(-(beta**2) / (2 + 2 * beta**2) * (y**2).sum(axis=1)).sum() * 2 / (1 + beta**2)
    assert henze_zirkler(sample)[0] == pytest.approx(pairs - single + 2200 / (1 + 2 * beta**2), rel=1e-6)


@given(st.floats(-3, 3), st.floats(0.2, 5), st.floats(-2, 2), st.floats(-50, 50))
def test_henze_zirkler_does_not_see_affine_maps(shear, stretch, angle, shift):
    sample = np.random.default_rng(0).gamma(2.0, size=(40, 2))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    moved = sample @ (np.array([[1.0, shear], [0.0, stretch]]) @ turn) + shift
    assert henze_zirkler(moved) == pytest.approx(henze_zirkler(sample), rel=1e-6)
    assert henze_zirkler(np.log(sample))[0] != pytest.approx(henze_zirkler(sample)[0], rel=0.05)


def test_henze_zirkler_keeps_its_level_and_has_power():
    rng = np.random.default_rng(0)
    p = np.array([henze_zirkler(rng.standard_normal((60, 2)))[1] for _ in range(400)])
    assert 0.02 < np.mean(p < 0.05) < 0.09
    assert 0.4 < np.mean(p) < 0.6
    for law in LAWS.values():
        assert np.mean([henze_zirkler(law(rng, (150, 2)))[1] < 0.05 for _ in range(30)]) > 0.9


def test_henze_zirkler_sees_what_no_single_joint_shows():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 2))
    x[:, 1] = np.abs(x[:, 1]) * np.sign(x[:, 0])  # Gaussian margins, but only two quadrants
    assert epps_pulley_test(x, 200, rng)[1].min() > 0.05
    assert henze_zirkler(x)[1] < 1e-6


def test_dependent_rows_do_not_break_the_tests():
    """One pose of each episode: poses that hardly move within an episode count once, not many times."""
    p = [quick(ou_episodes(30, 40, rho=0.999, seed=k), seed=k) for k in range(40)]
    assert np.mean([d.henze_zirkler_p < 0.05 for d in p]) < 0.15
    assert np.mean([d.shoulder.epps_pulley_p < 0.05 for d in p]) < 0.15
    every_row = [henze_zirkler(np.concatenate(ou_episodes(30, 40, rho=0.999, seed=k)))[1] for k in range(5)]
    assert max(every_row) < 0.05  # what thinning is for


# --- bad input ------------------------------------------------------------------------------------------------------


def spoilt(value):
    episodes = list(np.random.default_rng(0).standard_normal((9, 8, 2)))
    episodes[3] = episodes[3].copy()
    episodes[3][2, 1] = value
    return episodes


GOOD = list(np.random.default_rng(0).standard_normal((9, 8, 2)))


@pytest.mark.parametrize(
    ("episodes", "options", "message"),
    [
        ([], {}, "collect more episodes"),
        (GOOD[: FEWEST - 1], {}, "at least 8"),
        (spoilt(math.nan), {}, r"episodes\[3\]: need finite"),
        (spoilt(math.inf), {}, r"episodes\[3\]: need finite"),
        ([q[:, :1] for q in GOOD], {}, r"\(T, 2\)"),
        ([["a"]] * 9, {}, "must be numbers"),
        (GOOD, {"max_lag": 8}, "8 rows are too few for lag 8"),
        (GOOD, {"max_lag": 0}, "max_lag"),
        (GOOD, {"count": 0}, "count"),
        (GOOD, {"actions": GOOD}, "T actions for each episode"),
        (GOOD, {"actions": [q[:-1] for q in GOOD[:-1]]}, "T actions for each episode"),
        (GOOD, {"actions": [0 * q[:-1] for q in GOOD]}, "nothing moves"),
        ([q * [1, 0] for q in GOOD], {}, "joint does not move"),
        ([q[:1] + np.zeros((8, 1)) for q in GOOD], {}, "nothing moves"),
        ([GOOD[0]] + [0 * q for q in GOOD[1:]], {}, "too few episodes differ"),
        ([q[:, :1] * [1, 2] for q in GOOD], {}, "singular"),
    ],
)
def test_bad_input_is_a_typed_error(episodes, options, message):
    with pytest.raises(InvalidInput, match=message):
        quick(episodes, **options)
    assert quick(GOOD).episodes == 9  # the rest of the call was right


@pytest.mark.parametrize(
    "options", [{"episodes": 0}, {"steps": 0}, {"rho": 1.0}, {"rho": math.nan}, {"scale": (1.0, 0.0)}]
)
def test_bad_ou_episodes_are_typed_errors(options):
    with pytest.raises(InvalidInput):
        ou_episodes(**{"episodes": 2, "steps": 3} | options)


# --- the picture ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def samples(ou, random, sac):
    return {"OU": np.concatenate(ou)} | {
        name: np.concatenate(data.info["qpos"]) for name, data in (("random", random), ("SAC", sac))
    }


def test_the_picture_shows_every_column(table, samples, tmp_path):
    path = tmp_path / "new" / "angles.png"
    figure(list(table.values()), samples, path)
    picture = np.asarray(Image.open(path).convert("L"))
    assert picture.shape[1] == 1200
    for column in np.array_split(picture, 3, axis=1):
        for row in np.array_split(column, 4, axis=0):
            assert np.mean(row < 200) > 0.01
    assert [p.name for p in path.parent.iterdir()] == ["angles.png"]


def test_the_picture_depends_on_the_data(table, samples, tmp_path):
    pictures = []
    for k, name in enumerate(["SAC", "SAC", "OU"]):
        figure([table["SAC"]], {"SAC": samples[name]}, tmp_path / f"{k}.png")
        pictures.append((tmp_path / f"{k}.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_a_failed_picture_leaves_the_old_one(table, samples, tmp_path, room):
    path = tmp_path / "angles.png"
    path.write_bytes(b"old")
    with room(1000), pytest.raises(OSError, match=r"angles\.png was not written"):
        figure([table["OU"]], samples, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_bad_input_to_the_picture_is_a_typed_error(table, samples, tmp_path):
    path = tmp_path / "angles.png"
    for diagnostics, angles in [
        ([], samples),
        ([table["OU"], table["OU"]], samples),
        ([table["OU"]], {}),
        ([table["OU"]], {"OU": np.zeros((0, 2))}),
        ([table["OU"]], {"OU": np.full((9, 2), math.nan)}),
        ([table["OU"]], {"OU": np.zeros((9, 3))}),
    ]:
        with pytest.raises(InvalidInput):
            figure(diagnostics, angles, path)
    assert not path.exists()
