"""What the command line says and leaves behind when it cannot go on: interruptions, wrong input, full disks."""

import shutil
from contextlib import contextmanager
from dataclasses import fields

import numpy as np
import pytest

from worldplan import commands
from worldplan.__main__ import main
from worldplan.commands.base import Verb, without_resume, writable_file, writable_folder
from worldplan.commands.collect import CollectFrames, CollectGennorm, CollectOU, CollectRandom
from worldplan.data import saving
from worldplan.data.episodes import EpisodeDataset
from worldplan.data.files import atomic_write, read_json, write_json
from worldplan.data.shards import ShardWriter
from worldplan.envs.datasets import episodes as record, frames as drawing, pairs as collect
from worldplan.envs.worlds import OUWorld
from worldplan.errors import BadFile, InvalidInput

FEW = ["--episodes", 8, "--steps", 6]


def run(*arguments):
    return main([str(a) for a in arguments])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stop(*arguments, **keywords):
    raise KeyboardInterrupt


@contextmanager
def grey(processes=1):
    """In the place of `frame_stream`: no OpenGL."""
    yield lambda batches: (np.full((len(qpos), 64, 64, 3), 9, dtype=np.uint8) for qpos, *_ in batches)


@pytest.fixture(scope="module", autouse=True)
def no_opengl():
    with pytest.MonkeyPatch.context() as patch:
        for module in (collect, drawing):
            patch.setattr(module, "frame_stream", grey)
            patch.setattr(module, "render_fingerprint", dict)
        patch.setattr(record, "SHARD", 4)
        patch.setattr(collect, "_SHARD", 4)
        yield


@pytest.fixture(scope="module")
def original(tmp_path_factory, no_opengl):
    """Random episodes with frames."""
    folder = tmp_path_factory.mktemp("original") / "data"
    assert run("collect", "random", *FEW, "--out", folder) == 0
    return folder


@pytest.fixture
def data(original, tmp_path):
    return shutil.copytree(original, tmp_path / "data")


# --- resuming a collection ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "stage"), [(record, "_simulate"), (drawing, "frame_stream")])
def test_an_interrupted_append_goes_on_as_it_is_told_to(module, stage, data, capsys, monkeypatch):
    append = ["collect", "random", *FEW, "--out", data, "--seed", 1, "--append"]
    with monkeypatch.context() as patch:
        patch.setattr(module, stage, stop)
        assert run(*append) == 130
    advice = capsys.readouterr().err.split("to go on: worldplan ")[1].split()
    assert advice == [*map(str, append), "--resume"]
    assert main(advice) == 0
    whole = EpisodeDataset(data)
    assert [len(whole), *(r["seed"] for r in whole.runs)] == [16, 0, 1]
    other = record.record_episodes(None, data.parent / "other", record.EpisodeConfig(8, 6), seed=1)
    for name in ("qpos", "actions"):
        hashes = [s[name]["sha256"] for s in other.shards]
        assert [s[name]["sha256"] for s in whole.shards[2:]] == hashes != [s[name]["sha256"] for s in whole.shards[:2]]
    assert len(whole.load(frames=True).frames) == 16
    assert all("--resume" not in r["command"] for r in whole.runs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["random", *FEW, "--seed", 5], "differ in seed"),
        (["random", "--episodes", 9, "--steps", 7], "differ in episodes, steps"),
        (["random", *FEW, "--test-share", 0.5], "differ in test share"),
        (["mixture", *FEW], "differ in policy, random share"),
        (["random", *FEW, "--look", "dmc"], "holds other frames"),
        (["random", *FEW, "--hidden", 1], "holds other frames"),
    ],
)
def test_resuming_does_not_pass_other_options_over(options, said, data, capsys):
    before = contents(data)
    capsys.readouterr()
    assert run("collect", *options, "--out", data, "--resume") == 2
    assert said in capsys.readouterr().err
    assert contents(data) == before
    assert run("collect", "random", *FEW, "--out", data, "--resume") == 0
    assert "Nothing was left to do." in capsys.readouterr().out
    assert contents(data) == before


@pytest.mark.parametrize(("seed", "status", "said"), [(5, 2, "differ in seed"), (0, 0, "Episodes in")])
def test_resuming_amid_the_frames_asks_for_the_same_episodes(seed, status, said, tmp_path, capsys, monkeypatch):
    command = ["collect", "random", *FEW, "--out", tmp_path]
    with monkeypatch.context() as patch:
        patch.setattr(record.ShardWriter, "finish", stop_before_frames_finish(record.ShardWriter.finish))
        assert run(*command) == 130
    assert record.interrupted(tmp_path) == "frames"
    assert run(*command, "--resume", "--seed", seed) == status
    printed = capsys.readouterr()
    assert said in printed.out + printed.err
    assert "Nothing was left" not in printed.out


def stop_before_frames_finish(finish):
    def finish_or_stop(writer, *, frames, **head):
        if frames is not None:
            raise KeyboardInterrupt
        finish(writer, frames=frames, **head)

    return finish_or_stop


def test_other_episodes_are_added_when_asked_for(data):
    assert run("collect", "random", *FEW, "--out", data, "--seed", 5, "--append", "--resume", "--no-frames") == 0
    assert [r["seed"] for r in EpisodeDataset(data).runs] == [0, 5]
    assert run("collect", "random", *FEW, "--out", data, "--seed", 5, "--resume", "--no-frames") == 0
    assert len(EpisodeDataset(data)) == 16  # the last ones are these
    assert run("collect", "random", *FEW, "--out", data, "--seed", 0, "--resume", "--append") == 2  # there already


# --- advice ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [[], ["--resume"]])
@pytest.mark.parametrize("kind", ["ou", "gennorm", "random"])
def test_what_wrote_nothing_starts_again(kind, resume, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ShardWriter, "__init__", stop)
    assert run("collect", kind, *resume, "--out", tmp_path / "new") == 130
    start_again = f"nothing was written yet; to start again: worldplan collect {kind} --out {tmp_path / 'new'}\n"
    started = f"{tmp_path / 'new'} holds nothing yet; --resume starts there\n" if resume else ""
    assert capsys.readouterr().err == f"{started}\ninterrupted; {start_again}"


def test_what_wrote_something_goes_on(tmp_path, capsys, monkeypatch):
    out = tmp_path / "data"
    command = ["collect", "ou", "--pairs", 8, "--out", out]
    with monkeypatch.context() as patch:
        patch.setattr(collect.ShardWriter, "finish", stop)
        assert run(*command) == 130
        assert capsys.readouterr().err.endswith(f"to go on: worldplan collect ou --pairs 8 --out {out} --resume\n")
        assert run("collect", "ou", "--resume", "--pairs", 8, "--out", out) == 130  # said once, wherever it stood
        assert capsys.readouterr().err.endswith(f"to go on: worldplan collect ou --pairs 8 --out {out} --resume\n")
    assert run("collect", "ou", "--resume", "--pairs", 8, "--out", out) == 0


def test_frames_go_on_when_some_were_drawn(data, capsys, monkeypatch):
    begun, writer = "nothing was written yet; to start again", drawing.ShardWriter
    for owner, place, said in ((drawing, "frame_stream", begun), (writer, "finish", "to go on")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, place, stop)
            assert run("collect", "frames", data, "--look", "fast") == 130
        assert said in capsys.readouterr().err
    assert run("collect", "frames", data, "--look", "fast", "--resume") == 0


@pytest.mark.parametrize(
    ("objective", "checkpoint", "said"),
    [
        ("lejepa", True, "--lr 0.01 --out {out} --resume\n"),
        ("lejepa", False, "no checkpoint was written yet (one every 500"),
        ("supervised", False, "starts over; to start again: worldplan"),
    ],
)
def test_training_says_how_to_go_on(objective, checkpoint, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("worldplan.data.pairs.PairDataset", stop)
    if checkpoint:
        (tmp_path / "checkpoint.json").write_text("{}")
    assert run("pretrain", "data", "--objective", objective, "--lr", 0.01, "--out", tmp_path) == 130
    assert said.format(out=tmp_path) in capsys.readouterr().err


def test_without_resume():
    assert without_resume("worldplan a --resume --out 'b c'") == "worldplan a --out 'b c'"
    assert without_resume("worldplan a --out '--resume d'") == "worldplan a --out '--resume d'"


# --- numbers out of range -------------------------------------------------------------------------------------------

LINES = {
    commands.Bench: ["bench"],
    commands.Export: ["export", "reacher"],
    commands.Compare: ["compare", "oracle"],
    commands.Convert: ["convert", "a.hdf5"],
    commands.Diagnose: ["diagnose", "data"],
    commands.Doctor: ["doctor"],
    commands.Dose: ["dose"],
    commands.Fit: ["fit"],
    commands.Identify: ["identify", "oracle"],
    commands.Lab: ["lab", "mixings"],
    commands.Plan: ["plan"],
    commands.Pretrain: ["pretrain", "data"],
    commands.Push: ["push", "encoder", "me/name"],
    commands.Reproduce: ["reproduce"],
    commands.Sweep: ["sweep", "collect ou"],
    commands.TrainSac: ["train-sac"],
    commands.Verify: ["verify"],
    CollectFrames: ["collect", "frames", "data"],
    CollectGennorm: ["collect", "gennorm"],
    CollectOU: ["collect", "ou"],
    CollectRandom: ["collect", "random"],
}
VERBS = {v for v in vars(commands).values() if isinstance(v, type) and issubclass(v, Verb)} - {Verb}


def line_of(verb):
    return " ".join(LINES[verb])


def test_every_verb_is_tried_here():
    assert set(LINES) >= VERBS
    assert len(VERBS) > 8


@pytest.mark.parametrize("seed", [-1, 2**63])
@pytest.mark.parametrize("verb", LINES, ids=line_of)
def test_seeds_out_of_range(verb, seed, tmp_path, capsys):
    out = [] if verb is CollectFrames else ["--out", tmp_path / "out"]
    assert run(*LINES[verb], *out, "--seed", seed) == 2
    assert capsys.readouterr().err == f"error: --seed must be an integer from 0 to 2^63 - 1, got {seed}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", [-1, True, 1.5, None])
def test_the_library_refuses_such_seeds_too(seed, data):
    before = contents(data)
    with pytest.raises(InvalidInput, match="seed must be"):
        collect.collect_pairs(OUWorld(), 2, data.parent / "new", seed=seed)
    with pytest.raises(InvalidInput, match="seed must be"):
        record.record_episodes(None, data.parent / "new", seed=seed)
    with pytest.raises(InvalidInput, match="seed must be"):
        drawing.draw_frames(data, seed=seed)
    with pytest.raises(InvalidInput, match="seed must be"):
        saving.save_episodes(EpisodeDataset(data).load(), data.parent / "new", seed=seed, source={})
    assert contents(data) == before
    assert list(data.parent.iterdir()) == [data]
    saving.save_episodes(EpisodeDataset(data).load(), data.parent / "new", seed=np.int64(1), source={})


THREADED = [v for v in LINES if "threads" in {f.name for f in fields(v)}]


@pytest.mark.parametrize("verb", THREADED, ids=line_of)
def test_no_threads(verb, tmp_path, capsys):
    assert run(*LINES[verb], "--threads", 0, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == "error: --threads must be an integer >= 1, got 0\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("verb", "option", "said"),
    [
        ("pretrain data", ["--lr", -1], "lr must be positive and finite, got -1.0"),
        ("pretrain data", ["--width", 0], "width must be positive and finite, got 0"),
        ("train-sac", ["--tests", 0], "tests must be an integer >= 1, got 0"),
        ("train-sac", ["--gamma", 1], "need gamma in [0, 1), got 1.0, and tau"),
        ("train-sac", ["--warmup", -1], "warmup >= 0, got -1"),
    ],
)
def test_the_setting_that_is_wrong_is_named_and_nothing_else_is_printed(verb, option, said, tmp_path, capsys):
    assert run(*verb.split(), *option, "--out", tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert said in printed.err
    assert len(printed.err) < 120  # no whole configuration, no progress bar
    assert not (tmp_path / "out").exists()


# --- places that cannot be written to -------------------------------------------------------------------------------

WORK = {
    "bench": "worldplan.eval.control.bench.bench_planners",
    "compare": "worldplan.eval.compare.run.compare_encoders",
    "convert": "worldplan.envs.datasets.convert.convert_episodes",
    "diagnose": "worldplan.eval.diagnose.run.diagnose_datasets",
    "doctor": "worldplan.doctor.examine",
    "dose": "worldplan.eval.theorem4.dose.dose_response",
    "export": "worldplan.agents.planning_agent.load_agent",
    "fit": "worldplan.agents.fitting.fit_agent",
    "identify": "worldplan.eval.identifiability.identify.identify",
    "gennorm": "worldplan.envs.datasets.pairs.collect_pairs",
    "lab": "worldplan.eval.laboratory.run.run_laboratory",
    "ou": "worldplan.envs.datasets.pairs.collect_pairs",
    "plan": "worldplan.commands.plan.find_agent",
    "pretrain": "worldplan.learning.pretraining.pretrain",
    "push": "worldplan.agents.publishing.prepare",
    "random": "worldplan.envs.datasets.episodes.record_episodes",
    "reproduce": "worldplan.eval.reproduce.run.reproduce_reacher",
    "sweep": "worldplan.sweeps.run.run_jobs",
    "train-sac": "worldplan.agents.sac.train_sac",
    "verify": "worldplan.eval.theorem4.verify.verify_planning",
}


@pytest.mark.parametrize("place", ["taken", "below a file", "closed"])
@pytest.mark.parametrize("verb", [v for v in LINES if v is not CollectFrames], ids=line_of)
def test_out_is_tried_before_any_work(verb, place, tmp_path, capsys, monkeypatch):
    line = LINES[verb]
    work = WORK[line[1] if line[0] == "collect" else line[0]]
    monkeypatch.setattr(work, lambda *arguments, **more: pytest.fail("worked for nothing"))
    (tmp_path / "file").write_text("mine")
    if place == "closed":
        monkeypatch.setattr("worldplan.commands.base.os.access", lambda *arguments: False)
        out, said = tmp_path / "out", "must not be written to"
    elif place == "below a file":
        out, said = tmp_path / "file" / "out", "is no folder"
    elif verb is commands.Verify:
        out, said = tmp_path, "is a folder; name a file"
    else:
        out, said = tmp_path / "file", "is no folder"
    assert run(*line, "--out", out) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert said in printed
    assert contents(tmp_path) == {"file": b"mine"}


def test_places_that_can_be_written_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "a" / "b", tmp_path.relative_to(tmp_path), tmp_path.relative_to("/")):
        writable_folder(folder)
        writable_file(folder / "file.json")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(BadFile, match="is no folder"):
        writable_folder(tmp_path / "link" / "out")


# --- a full disk ----------------------------------------------------------------------------------------------------


def test_half_an_array_is_reported_and_removed(tmp_path, room):
    path = tmp_path / "array.npy"
    array = np.zeros(2**20)
    half = r"array\.npy was not written: .* requested and .*the disk may be full.* MB are free"
    with room(2**20), pytest.raises(OSError, match=half), atomic_write(path) as stream:
        np.save(stream, array)
    named = r"array\.npy was not written: .*File too large$"
    with room(2**20), pytest.raises(OSError, match=named), atomic_write(path) as stream:
        stream.write(array.tobytes())
    assert list(tmp_path.iterdir()) == []
    with atomic_write(path) as stream:
        np.save(stream, array)
    assert np.load(path).shape == array.shape


def full(*arguments, **more):
    raise OSError(28, "No space left on device")


def test_what_has_a_name_keeps_it(tmp_path, full_disk):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match=r"file'$"):
        write_json(tmp_path / "file" / "a.json", {})
    with full_disk(), pytest.raises(OSError, match=r"a\.json was not written.*MB are free") as caught:
        write_json(tmp_path / "a.json", {})
    assert caught.value.errno == 28
    assert contents(tmp_path) == {"file": b"mine"}


def test_a_full_disk_says_what_to_do_and_does_no_harm(tmp_path, capsys, full_disk, monkeypatch):
    command = ["collect", "random", *FEW, "--out", tmp_path / "data"]
    line = " ".join(map(str, ["worldplan", *command]))
    with full_disk():
        assert run(*command) == 2
        error, advice = capsys.readouterr().err.splitlines()
        assert str(tmp_path / "data" / "qpos-00000.npy") in error
        assert advice == f"nothing was written yet; to start again: {line}"
        assert not (tmp_path / "data").exists()
    with monkeypatch.context() as patch:
        patch.setattr("worldplan.doctor.examine", full)
        assert run("doctor") == 2
        assert len(capsys.readouterr().err.splitlines()) == 1  # there is nothing to advise
        patch.setattr(drawing, "draw_frames", full)
        assert run(*command) == 2
        assert capsys.readouterr().err.splitlines()[1] == f"to go on: {line} --resume"
    assert run(*command, "--resume") == 0
    assert len(EpisodeDataset(tmp_path / "data").load(frames=True)) == 8


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["convert", "diagnose"])
def test_an_altered_byte_is_not_handed_on(verb, data, tmp_path, capsys):
    out = tmp_path / ("out.hdf5" if verb == "convert" else "out")
    path = data / "qpos-00000.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert run(verb, data, "--out", out) == 2
    assert "qpos-00000.npy: is missing or was altered" in capsys.readouterr().err
    assert not out.exists()
    path.write_bytes(content)
    assert run(verb, data, "--out", out) == 0
    assert out.exists()


# --- short episodes -------------------------------------------------------------------------------------------------


def test_diagnose_takes_the_lags_that_there_are(data, tmp_path, capsys):
    assert run("diagnose", data, "--out", tmp_path / "out") == 0
    (_, found) = read_json(tmp_path / "out" / "diagnostics.json")["worlds"]
    assert len(found["shoulder"]["autocorrelation"]) == 5
    assert run("diagnose", data, "--max-lag", 6, "--out", tmp_path / "out") == 2
    assert "actions[0]: 6 rows are too few for lag 6; take a max_lag (--max-lag) below 6" in capsys.readouterr().err
    assert run("collect", "random", "--episodes", 8, "--steps", 1, "--no-frames", "--out", tmp_path / "short") == 0
    assert run("diagnose", data, tmp_path / "short", "--out", tmp_path / "out") == 2
    assert "episodes of one step have no autocorrelation" in capsys.readouterr().err
