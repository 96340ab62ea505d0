"""SIGTERM: real signals, real processes; what was done is kept, and the same command with --resume ends alike."""

import json
import shutil
import signal
import threading
import time

import pytest
from killed import SERVER
from ranks import command, dots, wait_for

from worldplan.__main__ import main
from worldplan.envs.datasets import episodes as record
from worldplan.stopping import STATUS, Stopped, ending_on_sigterm, postponed

SMOKE = (
    "--objective whitening --epochs 8 --lr .02 --width 4 --hidden 8 --batch 32 --validation 32 --threads 1 "
    "--device cpu --stride 1"
)
SAC = "--steps 64 --evaluate-every 16 --warmup 16 --copies 4 --evaluations 1 --tests 1 --hidden 8 --batch 8"


def terminate(*_, **__):
    signal.raise_signal(signal.SIGTERM)


# --- the signal -----------------------------------------------------------------------------------------------------


def test_sigterm_raises_once_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped), ending_on_sigterm():
        try:
            terminate()
        finally:
            terminate()  # does not cut the clean-up short
    assert signal.getsignal(signal.SIGTERM) is before


def test_postponed_work_asks_by_itself():
    with ending_on_sigterm():
        with postponed() as asked:
            assert not asked()
            terminate()
            assert asked()
        with pytest.raises(Stopped):
            terminate()


def test_who_does_not_end_on_sigterm_is_not_asked():
    """A library must not take the signals of the program that calls it."""
    before = signal.getsignal(signal.SIGTERM)
    with postponed() as asked:
        assert signal.getsignal(signal.SIGTERM) is before
        assert not asked()


def test_other_threads_leave_signals_alone():
    seen = []

    def work():
        with ending_on_sigterm(), postponed() as asked:
            seen.append(asked())

    with ending_on_sigterm():
        ours = signal.getsignal(signal.SIGTERM)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert seen == [False]
        assert signal.getsignal(signal.SIGTERM) is ours


def test_workers_end_too():
    worker = SERVER.Process(target=time.sleep, args=(100,))
    worker.start()
    with pytest.raises(Stopped), ending_on_sigterm():
        terminate()
    worker.join(20)
    assert worker.exitcode == -signal.SIGKILL


# --- commands -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dots") / "data"
    dots(folder)
    return str(folder)


def made(folder):
    return {name: (folder / name).read_bytes() for name in ("encoder.json", "encoder.safetensors", "log.jsonl")}


def test_pretraining_keeps_its_last_step_and_ends_alike(data, tmp_path):
    options = ["pretrain", data, *SMOKE.split(), "--checkpoint-every", "2", "--resume", "--out"]
    out = tmp_path / "run"
    assert main([*options, str(out)]) == 0
    whole = made(out)
    shutil.rmtree(out)
    process = command(tmp_path / "said", *options, str(out))
    wait_for(out / "checkpoint.json", process)
    process.terminate()
    process.join(60)
    assert process.exitcode == STATUS
    said = (tmp_path / "said").read_text()
    assert "stopped by SIGTERM; to continue from the last checkpoint: worldplan pretrain" in said
    assert not (out / "encoder.json").exists()
    assert main([*options, str(out)]) == 0
    assert made(out) == whole


def test_a_request_amid_a_step_is_kept_at_its_end(data, tmp_path, monkeypatch):
    """Not at the next checkpoint, nor at the last."""
    from worldplan.learning.training import Run

    step = Run.step

    def third(self, k):
        if k == 3:
            terminate()
        return step(self, k)

    monkeypatch.setattr(Run, "step", third)
    options = ["pretrain", data, *SMOKE.split(), "--out", str(tmp_path)]
    assert main(options) == STATUS
    assert json.loads((tmp_path / "checkpoint.json").read_text())["step"] == 4
    assert main([*options, "--resume"]) == 0  # from the fifth on


def test_a_request_in_the_last_step_comes_too_late(data, tmp_path, monkeypatch):
    from worldplan.learning.training import Run

    validate = Run.validate
    monkeypatch.setattr(Run, "validate", lambda self: terminate() or validate(self))
    assert main(["pretrain", data, *SMOKE.split(), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "encoder.json").exists()
    assert not (tmp_path / "checkpoint.json").exists()


def test_a_collection_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(record, "SHARD", 2)
    options = ["collect", "random", "--episodes", "6", "--steps", "6", "--no-frames", "--resume", "--out"]
    assert main([*options, str(tmp_path / "whole")]) == 0
    simulate, done = record._simulate, []

    def second(*arguments):
        if len(done) == 2:
            terminate()
        done.append(arguments)
        return simulate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(record, "_simulate", second)
        assert main([*options, str(tmp_path / "run")]) == STATUS
    assert "stopped by SIGTERM; to go on: worldplan collect random" in capsys.readouterr().err
    assert main([*options, str(tmp_path / "run")]) == 0
    folders = [record.EpisodeDataset(tmp_path / name) for name in ("whole", "run")]
    assert folders[0].shards == folders[1].shards


def test_sac_goes_on(tmp_path, capsys, monkeypatch):
    from worldplan.agents.sac_run import Run

    round_, done = Run.round, []

    def third(self, progress):
        done.append(self.steps)
        if len(done) == 3:
            terminate()
        return round_(self, progress)

    options = ["train-sac", "easy", *SAC.split(), "--resume", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(Run, "round", third)
    assert main(options) == STATUS
    assert "to continue from the last checkpoint" in capsys.readouterr().err
    assert main(options) == 0
    assert done == [0, 16, 32, 32, 48]


def test_other_verbs_end_with_what_to_do(capsys, monkeypatch):
    monkeypatch.setattr("worldplan.doctor.examine", terminate)
    assert main(["doctor"]) == STATUS
    assert capsys.readouterr().err == "\nstopped by SIGTERM; to start again: worldplan doctor\n"
