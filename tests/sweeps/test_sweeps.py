"""Jobs by content: done once, kept as they end, gone on with after a kill; command lines with braces."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial

import numpy as np
import pytest

from worldplan.__main__ import main
from worldplan.data.files import held
from worldplan.errors import BadFile, InvalidInput
from worldplan.stopping import STATUS
from worldplan.sweeps.command_lines import command_job, expand
from worldplan.sweeps.jobs import Job
from worldplan.sweeps.run import run_jobs
from worldplan.sweeps.table import flat, rows_of, write_csv

RESULTS = "results"
RAISED = r"ValueError: no \d \(.*test_sweeps\.py:\d+ in draw\)"


def draw(seed, folder, size=3, bad=()):
    if seed in bad:
        raise ValueError(f"no {seed}")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "calls").open("a") as stream:
        stream.write(".")
    return {"draws": np.random.default_rng(seed).standard_normal(size)}


def calls(folder):
    return sum(len(path.read_text()) for path in (folder / "work").glob("*/calls"))


def jobs_of(seeds, **context):
    return [Job(draw, {"seed": seed}, context) for seed in seeds]


def test_the_address_is_the_content():
    one, same, other = Job(draw, {"seed": 1, "size": 3}), Job(draw, {"size": 3, "seed": 1}), Job(draw, {"seed": 2})
    assert one.key == same.key != other.key
    assert Job(draw, {"seed": 1}, {"bad": [1]}).key == Job(draw, {"seed": 1}).key  # context is no content
    assert Job(calls, {"seed": 1}).key != Job(draw, {"seed": 1}).key
    assert Job(draw, {"seed": np.int64(1)}).key == Job(draw, {"seed": 1}).key
    for value in (object(), float("nan"), {1, 2}):
        with pytest.raises(InvalidInput, match="JSON"):
            Job(draw, {"seed": value}).key


class Adder:
    def add(self, folder):
        return 1


@pytest.mark.parametrize(
    "function",
    [lambda folder: 1, (lambda c: lambda folder: c)(1), partial(draw, 1), Adder().add, Adder(), "draw", None],
)
def test_a_name_tells_what_is_computed(function, tmp_path):
    """Two closures, or methods of two objects, have one name: one would be given the other's result."""
    with pytest.raises(InvalidInput, match="holds under its name"):
        run_jobs([Job(function, {})], tmp_path)


@pytest.mark.parametrize("options", [({"folder": "x"},), ({"seed": 1}, {"seed": 2}), ({1: 2},), (None,), ({}, None)])
def test_arguments_have_names_of_their_own(options, tmp_path):
    with pytest.raises(InvalidInput, match="draw"):
        run_jobs([Job(draw, *options)], tmp_path)


def deep(folder):
    value = []
    for _ in range(10**5):
        value = [value]
    return value


def test_a_result_that_json_does_not_hold_is_a_failure(tmp_path):
    (outcome,) = run_jobs([Job(deep, {})], tmp_path)
    assert not outcome.done
    assert "JSON" in outcome.reason


@pytest.mark.parametrize("damage", [("0.", "1."), ("[", "[0.5, "), ('"sha256"', '"sha255"'), ("]", ", NaN]")])
def test_a_result_that_was_altered_is_refused(damage, tmp_path):
    (job,) = jobs_of([1])
    run_jobs([job], tmp_path)
    path = tmp_path / RESULTS / f"{job.key}.json"
    altered = path.read_text().replace(*damage, 1)
    assert altered != path.read_text()
    path.write_text(altered)
    with pytest.raises(BadFile, match="altered"):
        run_jobs([job], tmp_path)


def test_done_is_done(tmp_path):
    first = run_jobs(jobs_of([3, 1, 3, 2]), tmp_path)
    assert [outcome.job.arguments["seed"] for outcome in first] == [3, 1, 3, 2]
    assert first[0].result == first[2].result != first[1].result
    assert first[1].result["draws"] == np.random.default_rng(1).standard_normal(3).tolist()
    assert calls(tmp_path) == 3
    again = run_jobs(jobs_of([1, 2, 3, 4]), tmp_path)
    assert calls(tmp_path) == 4  # only the new one
    assert again[0].result == first[1].result


def test_a_failure_costs_its_own_row_and_runs_again(tmp_path):
    first = run_jobs(jobs_of(range(4), bad=[2]), tmp_path)
    assert [outcome.done for outcome in first] == [True, True, False, True]
    assert re.fullmatch(RAISED, first[2].reason)
    second = run_jobs(jobs_of(range(4)), tmp_path)
    assert all(outcome.done for outcome in second)
    assert calls(tmp_path) == 4


@pytest.mark.parametrize("processes", [1, 2])
def test_reasons_name_the_line_of_the_users_code(tmp_path, processes):
    jobs = [*jobs_of([1, 2], bad=[1]), Job(nested, {}, {"sweep": None})]
    reasons = [outcome.reason for outcome in run_jobs(jobs, tmp_path, processes=processes)]
    assert re.fullmatch(RAISED, reasons[0]) and reasons[1] == ""
    assert re.fullmatch(r"TypeError: .* \(.*test_sweeps\.py:\d+ in nested\)", reasons[2])  # it arose below that line


def test_processes_give_the_same_bytes(tmp_path):
    here, there = (run_jobs(jobs_of(range(6)), tmp_path / str(n), processes=n) for n in (1, 2))
    assert [a.result for a in here] == [b.result for b in there]
    for path in (tmp_path / "1" / RESULTS).iterdir():
        assert path.read_bytes() == (tmp_path / "2" / RESULTS / path.name).read_bytes()


def test_shards_share_a_folder(tmp_path):
    first = run_jobs(jobs_of(range(5)), tmp_path, shard=(1, 2))
    assert [outcome.done for outcome in first] == [True, False, True, False, True]
    assert [row["state"] for row in rows_of(first)] == ["done", "waiting"] * 2 + ["done"]
    assert all(outcome.done for outcome in run_jobs(jobs_of(range(5)), tmp_path, shard=(2, 2)))
    assert calls(tmp_path) == 5
    for shard in ((0, 2), (3, 2), (1, 0), (True, 2)):
        with pytest.raises(InvalidInput, match="shard"):
            run_jobs(jobs_of(range(2)), tmp_path, shard=shard)


def nested(folder, sweep):
    """A second call on the folder of the sweep that runs this job."""
    run_jobs(jobs_of([1]), sweep)


def test_two_calls_on_one_folder(tmp_path):
    (outcome,) = run_jobs([Job(nested, {}, {"sweep": tmp_path})], tmp_path)
    assert "is being written by process" in outcome.reason
    (outcome,) = run_jobs([Job(nested, {}, {"sweep": tmp_path / "other"})], tmp_path)
    assert outcome.reason == "" and outcome.done


def dies(folder):
    os._exit(3)


def test_a_process_that_dies_is_told(tmp_path):
    outcomes = run_jobs([Job(dies, {}), *jobs_of(range(3))], tmp_path, processes=2)
    assert not outcomes[0].done and "its process died" in outcomes[0].reason
    again = run_jobs(jobs_of(range(3)), tmp_path, processes=2)
    assert all(outcome.done for outcome in again)


def test_results_of_strangers(tmp_path):
    job, other = jobs_of([0, 1])
    run_jobs([job, other], tmp_path)
    path = tmp_path / RESULTS / f"{job.key}.json"
    kept = path.read_text()
    for text, what in (("{", "JSON"), (path.with_name(f"{other.key}.json").read_text(), "another job")):
        path.write_text(text)
        with pytest.raises(BadFile, match=what):
            run_jobs([job], tmp_path)
    path.write_text(kept)
    assert run_jobs([job], tmp_path)[0].done


def plain_object(folder):
    return {"value": object()}


def test_a_result_is_json(tmp_path):
    (outcome,) = run_jobs([Job(plain_object, {})], tmp_path)
    assert "no JSON value" in outcome.reason
    assert not list((tmp_path / RESULTS).glob("*")) if (tmp_path / RESULTS).exists() else True


def test_engines_by_name(tmp_path):
    with pytest.raises(InvalidInput, match=r"processes, ray or ray://HOST:PORT, got 'slurm'"):
        run_jobs(jobs_of([1]), tmp_path, on="slurm")


# --- tables ----------------------------------------------------------------------------------------------------------


def test_flat_and_csv(tmp_path):
    nested_values = {"a": {"b": 1, "c": [1, 2]}, "d": ["x", "y"], "e": None, "f": "word"}
    assert flat(nested_values) == {"a.b": 1, "d": "x y", "f": "word"}
    write_csv([{"a": os.fsdecode(b"\xff.csv")}], tmp_path / "name.csv")  # no UTF-8, as names of files may be
    assert (tmp_path / "name.csv").read_text() == "a\n\\udcff.csv\n"
    write_csv([{"a": 1, "b": "x,y"}, {"a": 2, "c": 3.5}], tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == 'a,b,c\n1,"x,y",\n2,,3.5\n'


# --- command lines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["a {0..100000000}", "a " + "{0..9}" * 6, "a {1..100}{1..100}{0..10}"])
def test_a_slip_in_braces_is_no_flood(line):
    with pytest.raises(InvalidInput, match="100000 at most"):
        expand(line)


def test_expand():
    assert expand("pretrain a --seed {0..2}") == [["pretrain", "a", "--seed", str(k)] for k in range(3)]
    assert expand("a --x={1,2} {b,c}") == [["a", f"--x={x}", y] for x in "12" for y in "bc"]
    assert expand("a 'two words'") == [["a", "two words"]]
    assert expand("a {-1..1}")[0] == ["a", "-1"]
    assert len(expand("a {1..100}{1..100}{1..10}")) == 100_000
    for line in ("a {b", "a b}", "a {b}", "a {3..3}", "a {}", "a 'b"):
        with pytest.raises(InvalidInput):
            expand(line)


class Verb:
    out = "runs"
    writes_file = False


def test_inputs_are_part_of_the_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    manifest = tmp_path / "data" / "manifest.json"
    keys = set()
    for text in ("{}", '{"a": 1}'):
        manifest.write_text(text)
        keys.add(command_job(["pretrain", "data"], Verb).key)
    assert len(keys) == 2
    assert command_job(["pretrain", "data"], Verb).key in keys  # the same again
    for word in ("--out", "--out=x", "--resume"):
        with pytest.raises(InvalidInput, match="leave --"):
            command_job(["pretrain", "data", word], Verb)
    with pytest.raises(InvalidInput, match="no --out"):
        command_job(["collect", "frames"], object)


def test_the_verb(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ["sweep", "collect ou --pairs {32,48}", "--out", "sw", "--processes", "1"]
    assert main(line) == 0
    out = capsys.readouterr().out
    assert "2 jobs: 2 done" in out and "collect ou --pairs 48" in out
    rows = (tmp_path / "sw" / "sweep.csv").read_text().splitlines()
    assert len(rows) == 3 and "manifest.provenance.pairs" in rows[0]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "sw").glob("*/*")}
    assert main([*line, "--json", "--columns", "manifest.provenance.pairs"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [job["manifest.provenance.pairs"] for job in facts["jobs"]] == [32, 48]
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "sw").glob("*/*")}  # nothing was made again


def test_the_verb_tells_what_failed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "collect ou --pairs {0,32,48}", "--out", "sw", "--processes", "1"]) == 1
    table, _, notes = capsys.readouterr().out.partition("└")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if line.startswith("│")]
    assert "3 jobs: 1 failed, 2 done" in table
    assert rows == [  # the first number in which jobs differ, though the first job has none
        ["collect ou --pairs 0", "failed", "–"],
        ["collect ou --pairs 32", "done", "32"],
        ["collect ou --pairs 48", "done", "48"],
    ]
    assert "collect ou --pairs 0 failed: exit status 2: error: pairs must be at least 1, got 0" in notes
    with pytest.raises(SystemExit):  # before anything runs
        main(["sweep", "collect ou --pairs 32", "collect ou --no-such 1", "--out", "other"])
    assert not (tmp_path / "other").exists()
    assert main(["sweep", "collect ou", "--shard", "4", "--out", "other"]) == 2
    assert main(["sweep", "collect ou --pairs 32", "--columns", "nothing", "--out", "sw"]) == 2
    assert "unknown column 'nothing'; known: manifest" in capsys.readouterr().err


def test_a_killed_sweep_goes_on(tmp_path):
    """Kill the whole group in the middle; what was done is kept to the byte, and the rest is made."""
    line = [
        sys.executable,
        "-m",
        "worldplan",
        "sweep",
        "collect ou --pairs {32,33,34}",
        "--processes",
        "1",
        "--out",
        "sw",
    ]
    running = subprocess.Popen(line, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL)
    while not list((tmp_path / "sw" / RESULTS).glob("*.json")):
        assert running.poll() is None
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    done = {path: path.read_bytes() for path in (tmp_path / "sw" / RESULTS).glob("*.json")}
    assert 1 <= len(done) < 3
    subprocess.run(line, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert len(list((tmp_path / "sw" / RESULTS).glob("*.json"))) == 3
    assert all(path.read_bytes() == was for path, was in done.items())


def written(folder):
    """Whether a process writes to it."""
    try:
        with held(folder):
            return False
    except BadFile:
        return True


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_ends_a_sweep_and_its_commands(tmp_path, processes):
    jobs = "collect random --episodes {1000000,1000001} --steps 10 --no-frames"
    line = [sys.executable, "-m", "worldplan", "sweep", jobs, "--processes", str(processes), "--out", "sw"]
    running = subprocess.Popen(line, cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        while len(begun := {path.parent for path in (tmp_path / "sw" / "work").glob("*/*")}) < processes:
            assert running.poll() is None
            time.sleep(0.05)
        assert all(map(written, begun))
        running.terminate()
        assert "stopped by SIGTERM; to go on: worldplan sweep" in running.communicate()[1]
        assert running.returncode == STATUS
        until = time.monotonic() + 30
        while any(map(written, begun)):  # left alone, they would write for hours
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
