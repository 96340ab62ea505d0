"""`worldplan reproduce --experiment trajectories`: what is made, refused, kept and drawn."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from worldplan.commands.reproduce import Reproduce
from worldplan.data.episodes import EpisodeDataset
from worldplan.data.windows import Windows
from worldplan.errors import BadFile, EncoderCollapsed, InvalidInput, UnknownName
from worldplan.eval.reproduce import trajectories as module
from worldplan.eval.reproduce.curves import COLUMNS, controls_table, draw, table, write_trajectories
from worldplan.eval.reproduce.motion import SCALES, Motion, controls, motions
from worldplan.eval.reproduce.trajectories import MotionReport, MotionResult, reproduce_trajectories

SMOKE = SCALES["smoke"]
REPO = Path(__file__).resolve().parents[3]
NAMES = [
    "excitation-sac-0-0.4min",
    "excitation-sac-0.4-0.4min",
    "excitation-random-0.4min",
    "lejepa-sac-0-0.4min",
    "lejepa-sac-0.4-0.4min",
    "lejepa-random-0.4min",
    "excitation-random-0.2min",
]
PLANTED = [f"excitation-{fault}-random-0.4min" for fault in ("shuffled", "unplugged", "lines")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run at scale smoke: its folder and its report."""
    out = tmp_path_factory.mktemp("trajectories") / "out"
    return out, reproduce_trajectories(out, "smoke", command="worldplan reproduce --experiment trajectories")


def test_every_condition_is_judged_and_a_deterministic_policy_is_refused(made):
    _, report = made
    assert [row.motion.name for row in report.rows] == NAMES + PLANTED
    refused, *others = report.rows
    assert "deterministic policy" in refused.reason and refused.control is None
    for row in others:
        assert len(row.r2) == len(row.error) == 2 and not row.reason
        assert (row.J is not None) == bool(row.truth) == (row.motion.objective == "excitation")
        if row.motion.fault:
            assert row.control is None
        else:
            assert row.control["episodes"] == SMOKE.plans
    assert [row["name"] for row in report.baselines] == ["random torques", "standing still"]


def test_both_objectives_see_the_same_episodes_and_those_hold_the_noise_asked_for(made):
    out, _ = made
    noise = EpisodeDataset(out / "data/sac-0.4-0.4min")
    assert noise.expected(noise.shards[0]) is not None
    assert Windows(noise, SMOKE.window).controls is not None
    assert len(noise.load("train", frames=False)) == SMOKE.episodes(0.4) == 20
    plain = EpisodeDataset(out / "data/random-0.4min")
    assert plain.expected(plain.shards[0]) is None


def test_faults_are_planted_in_the_data_and_nowhere_else(made):
    """Both sets of episodes hold the same torques; where the motor is unplugged, the wrist hardly moves."""
    out, _ = made
    plain, unplugged = (EpisodeDataset(out / "data" / name) for name in ("random-0.4min", "random-unplugged-0.4min"))
    moved = []
    for data in (plain, unplugged):
        run = data.load()
        assert np.std(run.actions, axis=(0, 1)).min() > 0.5
        moved.append(np.ptp(run.info["qpos"], axis=1).mean(axis=0))
    assert moved[1][1] < 0.4 * moved[0][1] and moved[1][0] > 0.7 * moved[0][0]
    cards = [json.loads((out / "encoders" / f"{name}-s0/encoder.json").read_text()) for name in (NAMES[2], PLANTED[2])]
    assert [card["network"].get("space") for card in cards] == [["circle", "line"], None]
    assert cards[0]["data"] == cards[1]["data"]


def test_the_shares_of_the_true_angles_are_those_of_the_data(made):
    """Random torques explain both joints, shuffled ones none; where no motor is, one direction is left."""
    found = {row.motion.name: row.truth for row in made[1].rows}
    assert min(found[NAMES[2]]) > 0.7
    assert max(found[PLANTED[0]]) < 0.3 and found[PLANTED[1]][1] < found[NAMES[2]][1]
    assert found[PLANTED[2]] == found[NAMES[2]]


def test_what_counts_as_reported():
    """Each control can fail: what is trained without a word is not reported."""
    policy, shuffled, unplugged, lines = controls(SMOKE)
    plain = MotionResult(replace(lines, fault=""), 3, J=1.5)

    def reported(motion, **found):
        rows = (plain, MotionResult(motion, 3, **found))
        return MotionReport("own", SMOKE, {}, rows, ()).reported(motion)

    collapsed = "EncoderCollapsed: fewer coordinates"
    assert reported(policy, reason="InvalidInput: a deterministic policy") == [True]
    for motion in (shuffled, unplugged, lines):
        assert reported(motion, reason=collapsed) == [True]
    assert reported(unplugged, J=1.2, faults=("Action 1 moves nothing that the latent shows",)) == [True]
    assert reported(lines, J=1.4) == [True]
    for motion in (shuffled, unplugged, lines):  # nothing is found without the fault either: it may have another cause
        alone = (MotionResult(motion, 3, reason=collapsed),)
        assert MotionReport("own", SMOKE, {}, alone, ()).reported(motion) == [False]
    trained = [(policy, {}), (policy, {"reason": collapsed}), (shuffled, {"J": 0.1}), (unplugged, {"J": 1.2})]
    for motion, found in [*trained, (lines, {"J": 1.5}), (lines, {})]:
        assert reported(motion, **found) == [False]


def test_finished_parts_are_kept_and_a_missing_one_comes_back_the_same(made, tmp_path, monkeypatch):
    out = shutil.copytree(made[0], tmp_path / "copy")
    name = "lejepa-random-0.4min-s0"
    before = (out / "results" / f"{name}.json").read_bytes()
    (out / "results" / f"{name}.json").unlink()
    monkeypatch.setattr(module, "pretrain", None)  # encoders are there: nothing may be trained
    again = reproduce_trajectories(out, "smoke")
    assert (out / "results" / f"{name}.json").read_bytes() == before
    assert again.rows == made[1].rows


def test_a_run_that_finds_nothing_is_a_row_with_its_reason(made, tmp_path, monkeypatch):
    out = shutil.copytree(made[0], tmp_path / "copy")
    (out / "results" / "excitation-random-0.2min-s0.json").unlink()
    shutil.rmtree(out / "encoders" / "excitation-random-0.2min-s0")

    def collapse(*_, **__):
        raise EncoderCollapsed("found nothing")

    monkeypatch.setattr(module, "pretrain", collapse)
    report = reproduce_trajectories(out, "smoke")
    assert report.rows[len(NAMES) - 1].reason == "EncoderCollapsed: found nothing"
    assert any("found nothing" in note for note in table(report).notes)
    assert draw(report)[:4] == b"\x89PNG"


def test_other_settings_or_a_damaged_result_are_refused(made, tmp_path):
    with pytest.raises(BadFile, match="another scale or seed"):
        reproduce_trajectories(made[0], "smoke", seed=1)
    with pytest.raises(UnknownName):
        reproduce_trajectories(tmp_path, "huge")
    out = shutil.copytree(made[0], tmp_path / "copy")
    (out / "results" / f"{NAMES[1]}-s0.json").write_text(json.dumps({"seed": 0}))
    with pytest.raises(BadFile, match="no result of an encoder"):
        reproduce_trajectories(out, "smoke")


def test_table_picture_and_command_say_the_same(made, tmp_path, capsys):
    out, report = made
    shown = table(report)
    assert len(shown.rows) == len(NAMES) + 2 and all(len(row) == len(COLUMNS) for row in shown.rows)
    assert "0 of 1" in shown.rows[0] and "1 of 1" in shown.rows[1]
    written = write_trajectories(report, tmp_path)
    assert [row[1][-2:] for row in controls_table(report).rows] == [" 1"] * 4
    assert "## Negative controls" in written[1].read_text()
    assert [path.name for path in written] == ["trajectories.json", "trajectories.md", "trajectories.png"]
    assert Reproduce(experiment="trajectories", scale="smoke", out=out, json=True).run("worldplan") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == json.loads(written[0].read_text())["rows"]


@pytest.mark.parametrize("wrong", [{"minutes": 0.0}, {"amounts": (3.0, -1.0)}, {"noises": ()}, {"seeds": 0}])
def test_sizes_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidInput):
        replace(SMOKE, **wrong)


def test_the_rows_are_those_that_the_curves_need():
    scale = SCALES["cpu"]
    rows = motions(scale)
    assert len({*rows, *controls(scale)}) * scale.seeds == 63
    assert {m.noise for m in rows if m.objective == "lejepa"} == {0.0, 0.05, 0.1, 0.2, 0.4, 1.0, None}
    assert [m.minutes for m in rows if m not in rows[:14]] == [1.5, 3.0, 6.0, 24.0]
    assert Motion("excitation", None, 12.0) in rows and scale.episodes(12.0) == 180


def test_the_docs_show_the_results_that_are_kept():
    kept = sorted((REPO / "benchmarks" / "results" / "trajectories").glob("*-s?.json"))
    report = MotionReport("cpu", SCALES["cpu"], {}, tuple(map(module._read, kept)), ())
    lines = table(report).markdown().splitlines()
    assert len(kept) == 63 and len(lines) == 20
    assert set(lines) <= set((REPO / "docs" / "encoders.md").read_text().splitlines())
    assert all(report.reported(control) == [True] * 3 for control in controls(SCALES["cpu"]))
