"""Times of control steps: who takes turns with whom, what is reported, and what is refused. Nothing on the clock."""

import json
from dataclasses import FrozenInstanceError, fields
from inspect import signature
from types import SimpleNamespace

import numpy as np
import pytest

import worldplan as wp
from worldplan import provenance
from worldplan.__main__ import main
from worldplan.agents.planners import PLANNERS
from worldplan.commands.bench import Bench
from worldplan.errors import InvalidInput, UnknownName
from worldplan.eval.control import bench
from worldplan.eval.control.bench import PlannerTime, bench_planners
from worldplan.eval.control.timing import StepTime, time_steps


@pytest.fixture(scope="module")
def episode():
    """Frames and goal image of a short episode."""
    return bench._episode("reacher", None, seed=0, steps=6)


@pytest.fixture
def asked(monkeypatch, episode):
    """What was rendered: (agent, world, seed) in turn; the short episode stands for each."""
    told = []
    monkeypatch.setattr(bench, "_episode", lambda *world: told.append(world) or episode)
    return told


@pytest.fixture
def clock(monkeypatch, asked):
    """A clock that tells times in turn, and who was timed on what."""
    turns = []

    def told(agent, frames, goal, steps):
        turns.append((agent.planner, frames, goal, steps))
        return StepTime(2.0 * len(turns), 2.0, steps)

    monkeypatch.setattr(bench, "time_steps", told)
    return turns


def test_a_report_of_real_planners(asked):
    report = bench_planners(planners=("mpc", "lqr"), steps=2, rounds=2, seed=3)
    assert asked == [("reacher", None, 3)], "one episode for all"
    assert [t.planner for t in report.times] == ["mpc", "lqr"]
    assert all(len(t.rounds) == 2 and {r.steps for r in t.rounds} == {2} for t in report.times)
    assert wp.eval.bench_planners is bench_planners
    with pytest.raises(FrozenInstanceError):
        report.steps = 3
    facts = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert facts["agent"] == "reacher" and facts["runtime"] == "onnxruntime" and facts["steps"] == 2
    assert facts["machine"]["processor"] == provenance.processor() != ""
    assert facts["machine"]["cores"] >= 1 and np.shape(facts["machine"]["load"]) == (2, 3)
    for row, times in zip(facts["planners"], report.times, strict=True):
        assert row["planner"] == times.planner and len(row["rounds"]) == 2
        assert row["ratio"]["value"] == pytest.approx(np.median([t.ratio for t in times.rounds]), rel=1e-3)
    table = report.table()
    assert [row[0] for row in table.rows] == ["mpc", "lqr"]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert any("latents by onnxruntime; the bare forward pass" in note for note in table.notes)
    assert any("Published elsewhere, another machine" in note and "0.56 to 2.2 s" in note for note in table.notes)


def test_planners_take_turns_on_the_same_frames(clock, episode):
    found = bench_planners(planners=("lqr", "mppi", "cem"), steps=7, rounds=2)
    assert [planner for planner, *_ in clock] == ["lqr", "mppi", "cem"] * 2
    assert {steps for *_, steps in clock} == {7}
    assert all(frames is episode[0] and goal is episode[1] for _, frames, goal, _ in clock)
    # Turns 1 to 6 took 2, 4 ... 12 ms: the rounds of a planner are its own, and the intervals span them.
    assert [[r.predict_ms for r in t.rounds] for t in found.times] == [[2, 8], [4, 10], [6, 12]]
    assert (found.times[1].predict_ms.value, found.times[1].ratio.value, found.times[1].forward_ms.value) == (7, 3.5, 2)
    assert found.times[1].ratio.low == 2 and found.times[1].ratio.high == 5


def test_the_same_seed_gives_the_same_frames_of_an_arm_that_moves(episode):
    frames, goal = episode
    assert frames.shape == (7, 64, 64, 3) and goal.shape == (64, 64, 3) and frames.dtype == goal.dtype == np.uint8
    assert len({frame.tobytes() for frame in frames}) == 7
    again, other = (bench._episode("reacher", None, seed, steps=6) for seed in (0, 1))
    assert np.array_equal(again[0], frames) and np.array_equal(again[1], goal)
    assert not np.array_equal(other[0], frames), "another seed, another place of the target"


def test_the_ratio_is_taken_round_by_round():
    # A machine that slows down threefold in the second round: times change, the ratio does not.
    time = PlannerTime("lqr", (StepTime(3.0, 2.0, 5), StepTime(9.0, 6.0, 5)))
    assert str(time.ratio) == "1.50 [1.50, 1.50]"
    assert time.predict_ms.low == 3.0 and time.predict_ms.high == 9.0


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"planners": ("lqr", "nonsense")}, UnknownName, "unknown planner 'nonsense'; known: cem, lqr, mpc, mppi"),
        ({"planners": ()}, InvalidInput, "one planner or more"),
        ({"planners": ("lqr", "lqr")}, InvalidInput, "each once"),
        ({"steps": 0}, InvalidInput, "steps must be an integer >= 1"),
        ({"rounds": 0}, InvalidInput, "rounds must be an integer >= 1"),
        ({"steps": 2.5}, InvalidInput, "steps must be"),
        ({"agent": "nonsense"}, UnknownName, "unknown agent"),
    ],
)
def test_wrong_input_is_a_typed_error_before_anything_runs(wrong, error, said, clock):
    with pytest.raises(error, match=said):
        bench_planners(**wrong)
    assert clock == []


def test_no_frames_and_no_steps_are_typed_errors():
    agent, frames = wp.agents.load_agent("reacher"), np.zeros((0, 64, 64, 3), dtype=np.uint8)
    with pytest.raises(InvalidInput, match="no frames"):
        time_steps(agent, frames, np.zeros((64, 64, 3), dtype=np.uint8), 3)
    with pytest.raises(InvalidInput, match="steps must be"):
        time_steps(agent, frames, np.zeros((64, 64, 3), dtype=np.uint8), 0)


def test_a_system_that_names_no_processor(monkeypatch, tmp_path):
    missing = tmp_path / "cpuinfo"
    monkeypatch.setattr(provenance, "Path", lambda name: missing)
    monkeypatch.setattr(provenance, "platform", SimpleNamespace(processor=lambda: "", machine=lambda: "riscv64"))
    assert provenance.processor() == "riscv64"
    missing.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n")
    assert provenance.processor() == "Some CPU @ 2 GHz"


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_writes_what_it_prints(tmp_path, capsys, clock):
    out = tmp_path / "new"
    line = ["bench", "--planners", "lqr", "mpc", "--steps", "4", "--rounds", "2", "--out", str(out)]
    assert main([*line, "--json"]) == 0
    printed, written = json.loads(capsys.readouterr().out), json.loads((out / "bench.json").read_text())
    assert {key: written[key] for key in printed} == printed
    assert written["command"].startswith("worldplan bench --planners lqr mpc") and "versions" in written
    assert main(line) == 0
    text = capsys.readouterr().out
    assert "lqr" in text and "ratio" in text and "load before and after" in text and "bench.json" in text


@pytest.mark.parametrize("wrong", [["--planners", "nonsense"], ["--steps", "0"], ["--agent", "nonsense"]])
def test_could_not_run_is_2(wrong, tmp_path, capsys):
    assert main(["bench", *wrong, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_options_have_the_defaults_of_the_library():
    library = {name: option.default for name, option in signature(bench_planners).parameters.items()}
    options = {field.name: field.default for field in fields(Bench)}
    assert all(options[name] == library[name] for name in ("agent", "planners", "steps", "rounds", "seed"))
    assert set(options["planners"]) == set(PLANNERS)


def test_an_agent_of_another_world_is_timed_there():
    frames, goal = bench._episode("arm3", None, seed=0, steps=6)
    assert frames.shape == (7, 64, 64, 3)
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 0.1
    report = bench_planners("arm3", ("lqr", "mpc"), steps=2, rounds=1)
    assert [t.planner for t in report.times] == ["lqr", "mpc"]
    assert not np.array_equal(goal, frames[0])


def test_an_agent_of_a_world_that_does_not_ship_is_timed_where_one_says(tmp_path, capsys, monkeypatch):
    """Its folder names the world, but a name in a folder runs no code."""
    line = ["bench", "--agent", "point_mass", "--planners", "lqr", "--steps", "2", "--rounds", "1"]
    assert main([*line, "--env", "point_mass", "--out", str(tmp_path / "a")]) == 0
    for wrong in (["--env", "arm3"], ["--env", "reacher"], ["--size", "32"]):
        assert main([*line, *wrong, "--out", str(tmp_path / "b")]) == 2
    assert "--env names" in capsys.readouterr().err
    monkeypatch.delitem(bench.WORLDS, "point_mass")
    with pytest.raises(InvalidInput, match="name it with --env"):
        bench_planners("point_mass", ("lqr",), steps=2, rounds=1)
