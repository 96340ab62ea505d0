"""A policy that explores and says what it does on average; and episodes that keep both."""

import json

import numpy as np
import pytest

from worldplan.__main__ import main
from worldplan.agents.actor import load_policy
from worldplan.agents.exploration import ExploringPolicy, expected_action
from worldplan.data.episodes import EpisodeDataset
from worldplan.data.windows import Windows
from worldplan.envs.parallel import rollout_states
from worldplan.errors import InvalidInput


@pytest.fixture(scope="module")
def seen():
    """Observations on the way of the policy, some of which ask for full torque."""
    run = rollout_states(load_policy("reacher-easy"), 4, seed=0, steps=20)
    return np.concatenate(run.frames)


@pytest.mark.parametrize(("sigma", "deterministic"), [(0.0, True), (0.4, True), (0.0, False), (0.3, False)])
def test_the_mean_is_that_of_many_draws(seen, sigma, deterministic):
    """Against the mean of 4,000 draws: within 6 standard errors of one, for 168 means."""
    policy = ExploringPolicy(load_policy("reacher-easy", 1), sigma, seed=2)
    told = expected_action(policy.policy, seen, sigma, deterministic)
    drawn = np.stack([policy.predict(seen, deterministic=deterministic)[0] for _ in range(4000)]).astype(np.float64)
    np.testing.assert_array_equal(policy.expected, told)
    error = drawn.std(axis=0) / np.sqrt(len(drawn)) + 1e-6
    assert (np.abs(drawn.mean(axis=0) - told) < 6 * error).all()
    if sigma:  # the clipped normal is not centred on the policy's action: clipping counts
        assert np.abs(told - load_policy("reacher-easy").predict(seen)[0]).max() > 0.05


def test_without_noise_nothing_remains(seen):
    policy = ExploringPolicy(load_policy("reacher-easy"), 0.0)
    action, _ = policy.predict(seen)
    np.testing.assert_allclose(action, policy.expected, atol=1e-6)
    for wrong in (-0.1, np.nan, np.inf):
        with pytest.raises(InvalidInput, match="at least 0 and finite"):
            ExploringPolicy(load_policy("reacher-easy"), wrong)


def run(*arguments):
    return main([str(a) for a in arguments])


def test_episodes_keep_the_means_and_windows_use_them(tmp_path):
    small = ["--processes", 1, "--stock", 0, "--episodes", 6, "--steps", 30, "--test-share", 0]
    assert run("collect", "sac", *small, "--noise", 0.3, "--out", tmp_path / "noisy") == 0
    data = EpisodeDataset(tmp_path / "noisy")
    assert data.runs[0]["noise"] == 0.3
    (shard,) = data.shards
    noise = data.actions(shard) - data.expected(shard)
    assert 0.1 < noise.std() < 0.3 and abs(noise.mean()) < 0.03
    windows = Windows(data, 8)
    _, k, t = windows._rows[5]
    marks = [(t - 4, t), (t, t + 4), (t + 4, t + 8)]
    np.testing.assert_allclose(windows.features[5], np.concatenate([noise[k, a:b].sum(axis=0) for a, b in marks]))
    both = windows.features[5] + windows.controls[5]
    np.testing.assert_allclose(both, np.concatenate([data.actions(shard)[k, a:b].sum(axis=0) for a, b in marks]))


def test_a_mixture_has_random_torques_with_mean_zero(tmp_path):
    small = ["--no-frames", "--episodes", 12, "--steps", 5]
    assert run("collect", "mixture", *small, "--noise", 0.2, "--out", tmp_path / "m") == 0
    data = EpisodeDataset(tmp_path / "m")
    for shard in data.shards:
        random = np.array(shard["random"])
        assert not data.expected(shard)[random].any() and data.expected(shard)[~random].any()


def test_a_deterministic_policy_is_refused_with_the_remedy(tmp_path, capsys):
    small = ["--processes", 1, "--stock", 0, "--episodes", 4, "--steps", 30]
    assert run("collect", "sac", *small, "--json", "--out", tmp_path / "d") == 0
    assert "noise" not in EpisodeDataset(tmp_path / "d").runs[0]
    assert json.loads(capsys.readouterr().out)["episodes"] == 4
    assert run("pretrain", tmp_path / "d", "--objective", "excitation", "--window", 8, "--out", tmp_path / "e") == 2
    error = capsys.readouterr().err
    assert "deterministic policy reacher-easy" in error and "--noise SIGMA or --stochastic" in error


def test_the_same_seed_gives_the_same_noise(tmp_path):
    for name in ("a", "b"):
        options = ["--no-frames", "--episodes", 3, "--steps", 4, "--stochastic", "--noise", 0.1]
        assert run("collect", "sac", *options, "--out", tmp_path / name) == 0
    a, b = (EpisodeDataset(tmp_path / name).manifest["shards"] for name in ("a", "b"))
    assert a == b
