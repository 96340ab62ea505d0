"""`worldplan reproduce`: what is made, what is not made again, and what stands beside the published values."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from worldplan.commands.reproduce import Reproduce
from worldplan.data.episodes import EpisodeDataset
from worldplan.data.files import read_json
from worldplan.errors import BadFile, EncoderCollapsed, InvalidInput, UnknownName
from worldplan.eval.compare.entrants import AngleReader, angle_frames
from worldplan.eval.identifiability.regression import LABEL_KINDS
from worldplan.eval.reproduce import run as module, stages as stages_module
from worldplan.eval.reproduce.figure import draw_control_cost
from worldplan.eval.reproduce.published import OU_ROWS, TRAJECTORY_ROWS, differences, published_row
from worldplan.eval.reproduce.run import Views, recorded_views, reproduce_reacher
from worldplan.eval.reproduce.stages import SCALES, Condition, Stages, conditions, settle
from worldplan.eval.reproduce.table import COLUMNS, markdown, table, write_reproduction

SMOKE = SCALES["smoke"]
NAMES = ["ou-0.5", "ou-0.9", "random-1", "random-8", "sac-1", "sac-8"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A reproduction at scale smoke: its folder and its report."""
    out = tmp_path_factory.mktemp("reproduce") / "out"
    return out, reproduce_reacher(out, "smoke", command="worldplan reproduce --scale smoke")


@pytest.fixture
def copied(made, tmp_path):
    """A copy of the folder, to be damaged."""
    return shutil.copytree(made[0], tmp_path / "copy")


def stamps(folder):
    """Every file below a folder with its inode and time: a file that is written again gets others."""
    facts = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    assert facts
    return {path: (fact.st_ino, fact.st_mtime_ns) for path, fact in facts.items()}


def everything_collapses(*arguments):
    raise EncoderCollapsed("the embedding collapsed; raise the SIGReg weight")


# --- what is made ---------------------------------------------------------------------------------------------------


def test_every_condition_is_trained_and_judged(made):
    out, report = made
    assert [row.condition.name for row in report.rows] == NAMES
    for row in report.rows:
        assert [result.reason for result in row.results] == [""]
        result = row.results[0]
        assert [fit.kind for fit in result.own] == [fit.kind for fit in result.normal] == list(LABEL_KINDS)
        assert (result.own == result.normal) == (row.condition.kind == "gaussian")
        assert [(p.plan, p.library) for p in result.paths] == [(p.plan, p.library) for p in report.floor]
        assert all(len(fit.per_joint) == 2 and fit.latent_to_state.value <= 1 for fit in result.own + result.normal)
    assert sorted(path.name for path in (out / "data").iterdir()) == ["ou-0.5", "ou-0.9", "random", "sac"]
    assert report.ceiling == pytest.approx(0.949, abs=1e-3)


def test_all_encoders_train_for_the_same_number_of_steps(made):
    for name in NAMES:
        lines = (made[0] / "encoders" / f"{name}-s0" / "log.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["step"] == SMOKE.steps


def test_random_torques_and_sac_are_what_they_say(made):
    policies = {name: EpisodeDataset(made[0] / "data" / name).runs[0]["policy"] for name in ("random", "sac")}
    assert policies["random"] is None and policies["sac"]["name"] == "reacher-easy"


def test_nothing_is_made_again_and_the_numbers_are_the_same(made):
    out, report = made
    before = stamps(out)
    again = reproduce_reacher(out, "smoke", command="worldplan reproduce --scale smoke")
    assert stamps(out) == before
    assert again.to_dict() == report.to_dict()


def test_another_scale_or_seed_is_refused(made):
    settle(made[0], SMOKE, 0)
    for scale, seed in ((SMOKE, 1), (replace(SMOKE, steps=61), 0)):
        with pytest.raises(BadFile, match="another scale or seed"):
            settle(made[0], scale, seed)
    with pytest.raises(UnknownName, match="known: cpu, full, smoke"):
        reproduce_reacher(made[0], "huge")


# --- what was begun goes on -----------------------------------------------------------------------------------------


def test_interrupted_training_goes_on_to_the_same_weights(made, copied):
    condition, folder = Condition("ou", 0.5), copied / "encoders" / "ou-0.5-s0"
    scale = replace(SMOKE, net=replace(SMOKE.net, checkpoint_every=25))
    finished = read_json(folder / "encoder.json")["sha256"]
    shutil.rmtree(folder)
    seen = []

    def stop(steps, start, total):
        seen.append((start, total))
        for step in steps:
            if step == 40:
                raise KeyboardInterrupt
            yield step

    def watch(steps, start, total):
        seen.append((start, total))
        return steps

    with pytest.raises(KeyboardInterrupt):
        Stages(copied, scale, 0, watch=stop).encoder(condition, 0)
    Stages(copied, scale, 0, watch=watch).encoder(condition, 0)
    assert seen == [(0, 60), (25, 60)]
    assert read_json(folder / "encoder.json")["sha256"] == finished
    shutil.rmtree(folder)
    Stages(copied, scale, 1).encoder(condition, 0)  # another seed, other weights
    assert read_json(folder / "encoder.json")["sha256"] != finished


def test_interrupted_collecting_goes_on(tmp_path, monkeypatch):
    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    stages = Stages(tmp_path, replace(SMOKE, episodes=34, length=2), 0)
    condition = Condition("random", 1)
    with monkeypatch.context() as patch:
        patch.setattr(stages_module, "draw_frames", stop)
        with pytest.raises(KeyboardInterrupt):
            stages.dataset(condition)
    assert not EpisodeDataset(tmp_path / "data" / "random").manifest["frames"]

    def some(steps, total):
        yield next(steps)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        draw = stages_module.draw_frames
        patch.setattr(stages_module, "draw_frames", lambda *a, **k: draw(*a, **k, progress=some))
        with pytest.raises(KeyboardInterrupt):
            stages.dataset(condition)
    assert (tmp_path / "data" / "random" / "unfinished.json").exists()
    recorded = {path: stamp for path, stamp in stamps(tmp_path).items() if path.name.startswith("qpos-")}
    data = EpisodeDataset(stages.dataset(condition))
    assert recorded and recorded.items() <= stamps(tmp_path).items()
    assert len(data.load(frames=True)) == 34


def test_an_encoder_of_other_data_is_refused(copied):
    shutil.rmtree(copied / "encoders" / "ou-0.9-s0")
    shutil.copytree(copied / "encoders" / "ou-0.5-s0", copied / "encoders" / "ou-0.9-s0")
    stages = Stages(copied, SMOKE, 0)
    stages.encoder(Condition("ou", 0.5), 0)
    with pytest.raises(BadFile, match="trained on other data"):
        stages.encoder(Condition("ou", 0.9), 0)


def test_encoders_that_collapse_cost_their_rows_only(made, monkeypatch):
    whole = Stages.encoder

    def some_collapse(stages, condition, k):
        if condition.process != "ou":
            everything_collapses()
        return whole(stages, condition, k)

    monkeypatch.setattr(Stages, "encoder", some_collapse)
    report = reproduce_reacher(made[0], "smoke")
    assert [bool(row.done) for row in report.rows] == [row.condition.process == "ou" for row in report.rows]
    assert report.rows[0].results == made[1].rows[0].results
    assert [line[2] for line in table(report).rows[2:-1]] == ["failed"] * 4
    assert sum("raise the SIGReg weight" in note for note in table(report).notes) == 4
    assert table(report).title.startswith("Reacher, reproduced at scale smoke: 2 of 6 encoders")
    json.dumps(report.to_dict(), allow_nan=False)
    assert draw_control_cost(report) != draw_control_cost(made[1]) == draw_control_cost(made[1])


# --- how it is judged -----------------------------------------------------------------------------------------------


def rows_of(angles):
    return {tuple(row) for row in angles}


def test_trajectories_are_judged_on_other_episodes(made):
    folder = made[0] / "data" / "sac"
    views, data = recorded_views(folder, SMOKE, 0), EpisodeDataset(folder)
    known = {name: rows_of(np.concatenate(data.load(name).info["qpos"])) for name in ("train", "test")}
    for (frames, angles), name, other in ((views.train, "train", "test"), (views.test, "test", "train")):
        assert rows_of(angles) <= known[name] and not rows_of(angles) & known[other]
        assert len(frames) == len(angles) >= 0.9 * SMOKE.frames
    episodes = data.load("test", frames=True)
    for group in np.unique(views.groups):
        mine = views.groups == group
        assert rows_of(views.test[1][mine]) <= rows_of(episodes.info["qpos"][group])
    at = np.flatnonzero((episodes.info["qpos"][0] == views.test[1][3]).all(axis=1))[0]
    assert (episodes.frames[0][at] == views.test[0][3]).all()


def test_a_true_state_is_told_from_noise():
    rng = np.random.default_rng(0)
    angles = rng.standard_normal((2, 300, 2))
    train, test = ((angle_frames(a), a) for a in angles)
    views = Views(train, test, np.arange(300))
    true = views.judge(AngleReader(), 0)[0]
    assert true.latent_to_state.value == pytest.approx(1) and true.state_to_latent.value == pytest.approx(1)
    noise = views.judge(lambda frames: np.random.default_rng(len(frames)).standard_normal((len(frames), 2)), 0)[0]
    assert abs(noise.latent_to_state.value) < 0.1
    wide = Views(train, test, np.arange(300) // 100).judge(lambda f: AngleReader()(f) ** 3, 0)[0].latent_to_state
    assert wide.low < wide.value < wide.high


# --- what is told ---------------------------------------------------------------------------------------------------


def test_published_values_stand_beside(made):
    assert [row.published for row in made[1].rows] == [
        OU_ROWS[0.5], OU_ROWS[0.9], *[TRAJECTORY_ROWS[1], TRAJECTORY_ROWS[8]] * 2,
    ]  # fmt: skip
    assert published_row("ou", 0.9).r2 == 0.95
    assert published_row("sac", 64).state_to_latent == 0.44
    assert published_row("random", 1).per_joint == (0.71, -0.03)
    assert published_row("ou", 0.42) is None and published_row("sac", 2) is None
    cells = table(made[1]).rows
    assert [line[1] for line in cells[:2]] == ["0.86", "0.95"]
    assert cells[5][1] == "z → h 0.50,\nh → z 0.80 / 0.78"


def test_the_table_says_what_was_found(made):
    cells, rows = table(made[1]).rows, made[1].rows
    assert {len(line) for line in cells} == {len(COLUMNS)} and len(cells) == len(rows) + 1
    result = rows[3].results[0]
    assert cells[3][2] == " /\n".join(f"{joint.value:.2f}" for joint in result.own[0].per_joint)
    assert cells[3][3] == f"{result.own[0].state_to_latent.value:.2f}"
    assert cells[3][4:6] == [f"{fit.latent_to_state.value:.2f}" for fit in result.own[1:]]
    assert cells[3][7] == f"{result.normal[0].state_to_latent.value:.2f}"
    line, optimum = result.paths[-2:]
    assert (line.plan, optimum.plan, line.library) == ("line", "optimum", max(SMOKE.libraries))
    costs = (line.to_line.median, line.to_line.p95, optimum.to_optimum.total)
    assert cells[3][8:] == [f"{cost.value:.2f}" for cost in costs]
    assert float(cells[-1][-1]) >= 1  # the floor


def test_several_seeds_are_told_by_mean_and_range(made):
    row = made[1].rows[0]
    other = replace(row.results[0], seed=1, own=made[1].rows[3].results[0].own)
    report = replace(made[1], rows=(replace(row, results=(row.results[0], other)),))
    values = [result.own[0].state_to_latent.value for result in report.rows[0].results]
    assert table(report).rows[0][3] == f"{np.mean(values):.2f}\n[{min(values):.2f}, {max(values):.2f}]"
    assert "[" not in table(made[1]).rows[0][3]


def test_differences_of_protocol_are_named(made):
    text = markdown(made[1])
    for difference in made[1].differences:
        assert all(part in text for part in (difference.what, difference.published, difference.ours))
    topics = " ".join(d.what for d in made[1].differences)
    for topic in ("R2", "labels", "ceiling", "split", "SIGReg", "trajectories", "network", "optim", "decoding"):
        assert topic in topics + " ".join(d.published for d in made[1].differences)
    ours = {d.what: d.ours for d in differences(SCALES["cpu"])}
    assert "840 steps of 64 pairs" in ours["network and training"] and "10,000 pairs" in ours["network and training"]
    assert "weight 0.02" in ours["weight of SIGReg"] and "250, 1,000, 4,000" in ours["decoding"]


def test_what_is_written(made, tmp_path):
    paths = write_reproduction(made[1], tmp_path)
    assert read_json(paths[0]) == json.loads(json.dumps(made[1].to_dict()))
    assert read_json(paths[0])["rows"][0]["condition"] == {"process": "ou", "value": 0.5}
    lines = [line for line in paths[1].read_text().splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {len(COLUMNS) + 1, 4}
    assert paths[2].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("failed", [False, True])
def test_the_command(failed, made, tmp_path, monkeypatch, capsys):
    report = made[1]
    if failed:
        empty = tuple(replace(row, results=(replace(row.results[0], reason="collapsed"),)) for row in report.rows)
        report = replace(report, rows=empty, floor=())
    monkeypatch.setattr(module, "reproduce_reacher", lambda out, scale, **options: report)
    verb = Reproduce(scale="smoke", out=tmp_path / "out", json=True)
    assert verb.run("worldplan reproduce") == int(failed)
    assert json.loads(capsys.readouterr().out) == read_json(tmp_path / "out" / "reproduce.json")
    assert Reproduce(scale="smoke", out=tmp_path / "out").run("worldplan reproduce") == int(failed)
    told = capsys.readouterr().out
    assert "control_cost.png" in told and ("failed" in told) == failed
    assert verb.advice("worldplan reproduce").endswith("worldplan reproduce")


def test_scales():
    cpu, full = SCALES["cpu"], SCALES["full"]
    assert {0.5, 0.9, 0.99} <= set(cpu.rhos) and {0.3, 0.7, 0.8} | set(cpu.rhos) == set(full.rhos)
    assert cpu.strides == full.strides == (1, 8, 64)
    assert (full.pairs, full.net.width, round(full.epochs)) == (100_000, 32, 100)
    assert len(conditions(full)) == 12
    with pytest.raises(InvalidInput, match="a rho, a stride"):
        replace(cpu, rhos=())
    with pytest.raises(InvalidInput, match="steps"):
        replace(cpu, steps=0)
