"""Do actions excite? Random torques do; a policy, a still motor, an unplugged one and shuffled actions do not."""

import json
from dataclasses import replace

import numpy as np
import pytest

import worldplan as wp
from worldplan.__main__ import main
from worldplan.data.episodes import EpisodeDataset
from worldplan.data.recipes import EpisodeConfig, Nuisances
from worldplan.data.saving import save_episodes
from worldplan.envs.datasets.episodes import record_episodes
from worldplan.envs.datasets.frames import draw_frames
from worldplan.envs.parallel import rollout_states, simulate
from worldplan.errors import InvalidInput
from worldplan.eval.identifiability.excitation import excitation_report, independence_test

EPISODES, STEPS = 32, 60


def drawn(folder):
    draw_frames(folder, "varied", nuisances=Nuisances(stock=0.0, hidden=1.0))
    return EpisodeDataset(folder)


@pytest.fixture(scope="module")
def random(tmp_path_factory):
    folder = tmp_path_factory.mktemp("random") / "data"
    record_episodes(None, folder, EpisodeConfig(episodes=EPISODES, steps=STEPS), seed=0)
    return drawn(folder)


@pytest.fixture(scope="module")
def encoder():
    return wp.load_encoder("reacher-excitation")


@pytest.fixture(scope="module")
def unplugged(tmp_path_factory):
    """Random torques are recorded for both joints, but the wrist's never reach its motor."""
    run = rollout_states(None, EPISODES, seed=3, steps=STEPS)
    told = np.stack(run.actions)
    starts = np.stack([q[0] for q in run.info["qpos"]])
    qpos, qvel, _ = simulate(starts, STEPS, lambda t, *_: told[:, t] * [1.0, 0.0])
    info = {**run.info, "qpos": list(qpos), "qvel": list(qvel)}
    folder = tmp_path_factory.mktemp("unplugged") / "data"
    save_episodes(replace(run, info=info), folder, source={"planted": "no wrist motor"})
    return drawn(folder)


def test_random_torques_excite_both_joints(random, encoder):
    report = excitation_report(random, "random", encoder)
    assert report.faults == []
    assert report.independence_p > 0.01 and report.noise_share == pytest.approx(1)
    assert report.condition < 1.5
    assert [share.value > 0.6 for share in report.shares] == [True, True]
    assert all(moved.low > 0.05 for moved in report.excited)
    assert report.gramian[1].low > 0.01 * report.gramian[0].value
    assert {len(x) for x in (report.shares, report.excited, report.actions)} == {2}
    json.dumps(report.to_dict(), allow_nan=False)


def test_an_unplugged_motor_is_named(unplugged, encoder):
    report = excitation_report(unplugged, "unplugged", encoder)
    assert report.faults[0].startswith("Action 1 moves nothing that the latent shows")
    assert report.actions[1].effect.value < 0.05 * report.actions[0].effect.value
    assert report.shares[1].value < report.shares[0].value


def test_shuffled_actions_explain_nothing(random, encoder, monkeypatch):
    real = EpisodeDataset.load

    def shuffled(self, *arguments, **options):
        run = real(self, *arguments, **options)
        return replace(run, actions=[*run.actions[7:], *run.actions[:7]])  # those of other episodes

    monkeypatch.setattr(EpisodeDataset, "load", shuffled)
    report = excitation_report(random, "shuffled", encoder)
    assert max(share.value for share in report.shares) < 0.1
    assert any("move 0 of 2 directions" in fault for fault in report.faults)


def test_a_policy_is_noticed_and_its_noise_is_not_held_against_it(tmp_path):
    small = ["--processes", 1, "--look", "fast", "--episodes", 120, "--steps", 20]
    for name, more in (("policy", []), ("noisy", ["--noise", 0.4])):
        assert main([str(a) for a in ["collect", "sac", *small, *more, "--out", tmp_path / name]]) == 0
    policy, noisy = (excitation_report(EpisodeDataset(tmp_path / name), name) for name in ("policy", "noisy"))
    assert policy.independence_p < 0.01 and "a policy acted" in policy.faults[0]
    assert noisy.independence_p > 0.01 and 0.1 < noisy.noise_share < 1
    # Without the means that were stored, the noisy policy is a policy.
    data = EpisodeDataset(tmp_path / "noisy")
    run = data.load(frames=True)
    assert independence_test(run.frames, list(run.actions)) < 0.01


def test_the_independence_test_keeps_its_level():
    """Frames and actions of 60 independent worlds: about one in five is called dependent at .2."""
    rng = np.random.default_rng(0)
    told = []
    for seed in range(60):
        frames = [rng.integers(0, 255, (1, 64, 64, 3)).repeat(9, axis=0).astype(np.uint8) for _ in range(10)]
        noise = [rng.uniform(-1, 1, (8, 2)) for _ in range(10)]
        told.append(independence_test(frames, noise, seed=seed))
    assert 0 < np.mean(np.array(told) < 0.2) < 0.4


def test_an_action_that_never_varies_is_named(tmp_path):
    run = rollout_states(None, 12, seed=3, steps=30)
    still = replace(run, actions=[u * [1.0, 0.0] for u in run.actions])
    save_episodes(still, tmp_path / "d", source={"planted": "no second action"})
    report = excitation_report(drawn(tmp_path / "d"), "still")
    assert "Action 1 never varies" in report.faults[0] and report.actions[1].deviation == 0


def test_the_command_prints_both_tables(random, tmp_path, capsys):
    line = ["diagnose", random.folder, "--encoder", "reacher-excitation", "--window", 12, "--out", tmp_path]
    assert main([str(a) for a in line]) == 0
    shown = capsys.readouterr().out
    assert "Do the actions excite what the frames show?" in shown and "Nothing against it was found." in shown
    facts = json.loads((tmp_path / "diagnostics.json").read_text())
    assert facts["excitation"][0]["window"] == 12 and facts["excitation"][0]["faults"] == []
    assert main([*map(str, line), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["excitation"] == facts["excitation"]


def test_bad_input(random, encoder, tmp_path):
    with pytest.raises(InvalidInput, match="no window of 80"):
        excitation_report(random, "", encoder, window=80)
    record_episodes(None, tmp_path / "few", EpisodeConfig(episodes=4, steps=10), seed=0)
    with pytest.raises(InvalidInput, match="8 or more"):
        excitation_report(drawn(tmp_path / "few"))
