"""Two real processes train as one does: by gloo, on this machine, every objective; and what happens if one ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed as dist
from ranks import CASES, NET, apart, command, dots, together, trained, wait_for
from torch.nn import functional

from worldplan.__main__ import main
from worldplan.data.episodes import EpisodeDataset, StridedPairs
from worldplan.data.files import held, read_json
from worldplan.errors import BadFile, InvalidInput, ProcessLost
from worldplan.learning import distributed
from worldplan.learning.candidates import choose
from worldplan.learning.encoder import load_encoder
from worldplan.learning.objectives import OBJECTIVES, Whitening
from worldplan.learning.pretraining import pretrain
from worldplan.stopping import STATUS

STEPS = 5
SAME = 1e-5  # relative difference of losses and gradients
MADE = ("encoder.json", "encoder.safetensors", "log.jsonl")
SMOKE = (
    "--objective whitening --epochs 8 --lr .02 --width 4 --hidden 8 --batch 32 --validation 32 --threads 1 "
    "--device cpu --stride 1 --checkpoint-every 2"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dots") / "data"
    dots(folder)
    return str(folder)


@pytest.fixture(scope="module")
def one(data, tmp_path_factory):
    """What one process of one group finds, as `torchrun --nproc-per-node 1` starts it."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path_factory.mktemp('one')}/meet", rank=0, world_size=1)
    try:
        return {case: trained(case, data, STEPS) for case in CASES}
    finally:
        dist.destroy_process_group()


def train_cases(data):
    found = {case: trained(case, data, STEPS) for case in CASES}
    return {case: (rows, weights.tolist()) for case, (rows, weights) in found.items()}


def first_apart(data):
    with apart():
        return {case: trained(case, data, 1)[0][0]["loss"] for case in CASES}


def pretrain_here(data, out):
    """Pretrain; every process would write into a folder of its own."""
    seen = []
    config = replace(NET, objective=Whitening(), epochs=6, lr=0.02)
    folder = f"{out}/{distributed.rank()}"
    pretrain(StridedPairs(EpisodeDataset(data), 1), folder, config, report=seen.append)
    return seen


def refusals(data, out):
    """What each process is told of a batch that cannot be shared, of options that differ, and of a folder in use."""
    rank, pairs, used, said = distributed.rank(), StridedPairs(EpisodeDataset(data), 1), f"{out}/used", []
    for config in (replace(NET, batch=33), replace(NET, lr=0.01 if rank else 0.02)):
        with pytest.raises(InvalidInput) as error:
            pretrain(pairs, out, config)
        said.append(str(error.value))
    with held(used) if rank else nullcontext():
        dist.barrier()
        try:
            pretrain(pairs, used, NET)
        except (BadFile, ProcessLost) as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


def choose_here(data, out):
    config = replace(CASES["excitation"], epochs=2)
    chosen, tried = choose(EpisodeDataset(data), config, out, windows=(3, 6))
    return [chosen.to_dict(), [c.to_dict() for c in tried]]


def everything(data, out):
    return {
        "cases": train_cases(data),
        "apart": first_apart(data),
        "pretrained": pretrain_here(data, f"{out}/pretrained"),
        "chosen": choose_here(data, f"{out}/chosen"),
    }


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(data, out):
    """What each of two processes finds."""
    return together(everything, 2, out, data, str(out))


# --- the same numbers -----------------------------------------------------------------------------------------------


def relative(a, b):
    return np.abs(np.subtract(a, b) / np.array(a)).max()


def losses(rows):
    return [row["loss"] for row in rows]


def test_every_objective_is_tried():
    assert {run.objective.name for run in CASES.values()} == set(OBJECTIVES)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_make_the_steps_of_one(case, one, two):
    rows, weights = one[case]
    others, reached = two[0]["cases"][case]
    assert relative(losses(rows), losses(others)) < SAME
    assert relative(rows[0]["gradient"], others[0]["gradient"]) < SAME
    np.testing.assert_allclose(reached, weights, atol=SAME)
    assert abs(losses(rows)[-1] / losses(rows)[0] - 1) > 0.01  # steps that could differ


@pytest.mark.parametrize("case", CASES)
def test_all_processes_have_the_same_bits(case, two):
    assert two[0]["cases"][case] == two[1]["cases"][case]


@pytest.mark.parametrize("case", CASES)
def test_a_process_alone_makes_these_steps_too(case, one, data):
    """Torch's own BatchNorm sums in float32 on the CPU: the rounding is coarser, the numbers are the same."""
    assert trained(case, data, 1)[0][0]["loss"] == pytest.approx(one[case][0][0]["loss"], rel=5e-4)


@pytest.mark.parametrize("case", CASES)
def test_statistics_of_each_part_alone_would_be_another_loss(case, one, two):
    """The negative control: what averaging the gradients of two losses gives."""
    mean = np.mean([found["apart"][case] for found in two])
    assert relative(losses(one[case][0])[:1], [mean]) > 100 * SAME


@pytest.mark.parametrize("shape", [(64, 5), (16, 5, 6, 6)])
@pytest.mark.parametrize("affine", [True, False])
def test_batchnorm_is_torchs(shape, affine):
    """Values, gradients and running statistics, in float64, where torch's own is exact."""
    rng = torch.Generator().manual_seed(0)
    x = (3 + torch.randn(shape, generator=rng, dtype=torch.float64)).requires_grad_()
    weight, bias = (torch.randn(5, generator=rng, dtype=torch.float64) if affine else None for _ in range(2))
    found = []
    for norm in (functional.batch_norm, distributed._batch_norm):
        running = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
        y = norm(x, *running, weight, bias, True, 0.1, 1e-5)
        (gradient,) = torch.autograd.grad(y.sin().sum(), x)
        found.append((y, gradient, *running, norm(x, *running, weight, bias)))
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


# --- one folder, one voice ------------------------------------------------------------------------------------------


def test_process_0_alone_writes_and_reports(two, out):
    assert {path.name for path in (out / "pretrained").iterdir()} == {"0"}
    assert {path.name for path in (out / "pretrained" / "0").iterdir()} == set(MADE)
    assert [row["step"] for row in two[0]["pretrained"]] == [54]
    assert two[1]["pretrained"] == []
    assert load_encoder(out / "pretrained" / "0").card["processes"] == 2


def test_candidates_are_chosen_alike(two, out):
    assert two[0]["chosen"] == two[1]["chosen"]
    told = read_json(out / "chosen" / "candidates.json")
    assert [c["window"] for c in told["candidates"]] == [3, 6]


def test_a_killed_process_ends_the_run_and_one_goes_on(data, tmp_path):
    out = tmp_path / "run"
    everyone = [
        command(tmp_path / str(k), "pretrain", data, *SMOKE.split(), "--resume", "--out", str(out), **meeting(k))
        for k, meeting in enumerate([meeting_at(free_port())] * 2)
    ]
    wait_for(out / "checkpoint.json", everyone[0])
    os.kill(everyone[1].pid, signal.SIGKILL)
    everyone[0].join(60)
    assert everyone[0].exitcode == STATUS
    said = (tmp_path / "0").read_text()
    assert "error: another process of this run has ended" in said
    assert "to continue from the last checkpoint: worldplan pretrain" in said
    assert not (out / "encoder.json").exists()
    assert main(["pretrain", data, *SMOKE.split(), "--resume", "--out", str(out)]) == 0
    assert load_encoder(out).card["config"]["epochs"] == 8


def test_torchrun_hands_sigterm_on_and_all_stop_at_one_step(data, tmp_path):
    out = tmp_path / "run"
    options = ["pretrain", data, *SMOKE.split(), "--epochs", "24", "--resume", "--out", str(out)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    with open(tmp_path / "said", "w") as said:
        run = subprocess.Popen([*torchrun, "worldplan", *options], stderr=said, stdout=said)
    while not (out / "checkpoint.json").exists():
        assert run.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.01)
    run.terminate()
    assert run.wait(60) != 0
    said = (tmp_path / "said").read_text()
    assert said.count("stopped by SIGTERM; to continue from the last checkpoint") == 2
    assert {path.name for path in out.iterdir()} - {"tb"} == {"checkpoint.json", "checkpoint.safetensors", "log.jsonl"}
    assert main(options) == 0


# --- refusals -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_shared_is_refused_by_all(data, tmp_path):
    told = together(refusals, 2, tmp_path, data, str(tmp_path / "run"))
    for said in told:
        assert said[0].startswith("2 processes cannot share a batch of 33 evenly")
        assert said[1].startswith("the processes of this run have different options or data")
    assert "BadFile" in told[0][-1] and "is being written by process" in told[0][-1]
    assert "ProcessLost" in told[1][-1]
    assert not (tmp_path / "run" / "encoder.json").exists()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def meeting_at(port):
    """What torchrun tells process k of two."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    return lambda k: {**where, "RANK": str(k), "LOCAL_RANK": str(k)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not set: start with `torchrun"),
        ({"MASTER_PORT": None, "RANK": None}, "RANK, MASTER_PORT is not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a whole number, got 'two'"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE must be a whole number"),
        ({"RANK": "2"}, "RANK must be below WORLD_SIZE"),
        ({"RANK": "first"}, "RANK must be a whole number"),
        ({"MASTER_PORT": "99999"}, "MASTER_PORT a port"),
    ],
    ids=str,
)
def test_an_address_is_needed(changes, said, data, tmp_path, capsys, monkeypatch):
    for name, value in {**meeting_at(1)(1), **changes}.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    assert main(["pretrain", data, *SMOKE.split(), "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_gloo_is_needed(monkeypatch):
    for name, value in meeting_at(1)(1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dist, "is_gloo_available", lambda: False)
    with pytest.raises(InvalidInput, match="no gloo"), distributed.joined("cpu"):
        pass


def test_nobody_answers(monkeypatch):
    for name, value in meeting_at(free_port())(1).items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(ProcessLost, match=r"did not meet at 127\.0\.0\.1"),
        distributed.joined("cpu", timedelta(seconds=1)),
    ):
        pass


def test_torchrun_with_one_process_makes_a_group_of_one(monkeypatch):
    for name, value in {**meeting_at(free_port())(0), "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    with distributed.joined("cpu"):
        assert dist.is_initialized()
        assert distributed.leads() and distributed.processes() == 1
    assert not dist.is_initialized()


def test_without_torchrun_there_is_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.joined(), distributed.sharded():
        x = torch.ones(3)
        assert distributed.total(x) is x and distributed.average(x) is x and distributed.gathered(x) is x
        assert distributed.part(8) == slice(None)
    assert distributed.agreed(True, False) == (True, False)
