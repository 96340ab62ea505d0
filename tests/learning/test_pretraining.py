"""The training loop: reproducible, resumable, blind to labels, honest about collapse; real frames, a tiny network."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from safetensors.torch import load, save_file

import worldplan.learning.pretraining
from worldplan.__main__ import main
from worldplan.commands.base import TrainingBar
from worldplan.data.files import held
from worldplan.data.pairs import PairDataset
from worldplan.envs.datasets.pairs import collect_pairs
from worldplan.envs.worlds import OUWorld
from worldplan.errors import BadFile, EncoderCollapsed, InvalidInput
from worldplan.learning import checkpoints, pretraining, training
from worldplan.learning.encoder import load_encoder
from worldplan.learning.gaussianity import epps_pulley
from worldplan.learning.objectives import OBJECTIVES, InfoNCE, LeJEPA, VICReg, Whitening, alignment
from worldplan.learning.pretraining import pretrain
from worldplan.learning.training import PretrainConfig, Run

CONFIG = PretrainConfig(
    objective=LeJEPA(weight=0.1, slices=32),
    width=4,
    hidden=32,
    batch=16,
    epochs=6,  # 8 steps each
    lr=1e-2,
    validation=64,
    device="cpu",
    checkpoint_every=10,
)
STEPS = 48
MADE = ("encoder.json", "encoder.safetensors", "log.jsonl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    world = OUWorld(rho=0.9, scale=(0.7, 0.7))
    return collect_pairs(world, 200, tmp_path_factory.mktemp("pairs") / "data", with_labels=True)


@pytest.fixture(scope="module")
def data(folder):
    return PairDataset(folder)


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    return pretrain(data, tmp_path_factory.mktemp("run") / "a", CONFIG, command="worldplan pretrain")


def made(folder):
    return {name: (folder / name).read_bytes() for name in MADE}


def stop_after(count):
    """A progress wrapper that is interrupted after `count` steps."""

    def wrap(steps, start, total):
        yield from islice(steps, count - start)
        raise KeyboardInterrupt

    return wrap


@pytest.fixture
def interrupted(data, tmp_path):
    folder = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        pretrain(data, folder, CONFIG, progress=stop_after(25))
    return folder


# --- the result -----------------------------------------------------------------------------------------------------


def test_a_run_leaves_an_encoder_a_log_and_nothing_else(uninterrupted, data):
    assert {path.name for path in uninterrupted.iterdir()} == set(MADE)
    encoder = load_encoder(uninterrupted)
    latents = encoder(data[np.arange(50)][:, 0])
    assert latents.shape == (50, 2)
    card = encoder.card
    assert card["command"] == "worldplan pretrain"
    assert card["data"] == {"sha256": data.manifest_sha256, **json.loads(json.dumps(data.provenance))}
    assert card["config"]["objective"] == {"name": "lejepa", "weight": 0.1, "slices": 32, "test": "epps-pulley"}
    assert PretrainConfig.from_dict(card["config"]) == CONFIG
    assert card["spread"] == sorted(card["spread"])
    rows = [json.loads(line) for line in (uninterrupted / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == STEPS
    assert rows[-1]["validation_loss"] == card["validation"]["loss"]


def test_the_card_tells_the_spread_of_the_held_out_embedding(uninterrupted, data):
    """Against NumPy, on the saved encoder, with the held-out pairs chosen as the documentation says: by the seed."""
    held_out = np.random.default_rng([CONFIG.seed, 0]).permutation(len(data))[: CONFIG.validation]
    encoder = load_encoder(uninterrupted)
    latents = encoder(data[held_out].reshape(-1, 64, 64, 3))
    spread = np.sqrt(np.linalg.eigvalsh(np.cov(latents.T)))
    np.testing.assert_allclose(encoder.card["spread"], spread, rtol=1e-3)
    views = latents.reshape(-1, 2, 2)
    align = np.mean((views[:, 0] - views[:, 1]) ** 2) / 4
    assert encoder.card["validation"]["align"] == pytest.approx(align, rel=1e-3)


def test_training_learns_from_the_pairs(uninterrupted, data):
    """On held-out pairs: better than a collapse, and views of one pair lie closer than views of two."""
    card = load_encoder(uninterrupted).card
    held_out = np.random.default_rng([CONFIG.seed, 0]).permutation(len(data))[: CONFIG.validation]
    latents = torch.from_numpy(load_encoder(uninterrupted)(data[held_out].reshape(-1, 64, 64, 3))).reshape(-1, 2, 2)
    collapsed = CONFIG.objective(torch.zeros_like(latents), torch.Generator().manual_seed(0))
    strangers = torch.stack([latents[:, 0], latents[:, 1].roll(1, dims=0)], dim=1)
    assert card["validation"]["loss"] < 0.8 * float(collapsed["loss"])
    assert card["validation"]["align"] < 0.5 * float(alignment(strangers))


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(uninterrupted, data, tmp_path):
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    state = torch.random.get_rng_state()
    again = pretrain(data, tmp_path / "again", CONFIG, command="worldplan pretrain")
    assert made(again) == made(uninterrupted)
    assert torch.equal(state, torch.random.get_rng_state())  # nothing is drawn from the global source
    other = pretrain(data, tmp_path / "other", replace(CONFIG, seed=1))
    assert made(other)["encoder.safetensors"] != made(uninterrupted)["encoder.safetensors"]


ON_SOME_CORES = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
from worldplan.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def test_the_command_gives_the_same_bytes_whatever_the_number_of_cores(folder, tmp_path):
    """Threads are as many everywhere: torch's own choice, one for each core, gave other weights on other machines."""
    net = {
        "width": 4,
        "hidden": 32,
        "batch": 32,
        "validation": 32,
        "epochs": 10,
        "slices": 32,
        "lr": 0.01,
        "weight": 0.1,
    }
    options = [text for name, value in net.items() for text in (f"--{name}", str(value))]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    weights = []
    for cores, more in ((1, []), (len(os.sched_getaffinity(0)), []), (1, ["--threads", "1"])):
        out = tmp_path / f"{cores}{more}"
        command = [
            sys.executable,
            "-c",
            ON_SOME_CORES,
            str(cores),
            "pretrain",
            str(folder),
            *options,
            "--out",
            str(out),
        ]
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        weights.append((out / "encoder.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]  # what differs is seen


def test_labels_are_never_opened(uninterrupted, folder, tmp_path):
    blind = shutil.copytree(folder, tmp_path / "data")
    assert list(blind.glob("labels*"))
    for path in blind.glob("labels*"):
        path.unlink()
    run = pretrain(PairDataset(blind), tmp_path / "run", CONFIG, command="worldplan pretrain")
    assert made(run) == made(uninterrupted)


class Remembering(Run):
    """A run that keeps what the network embedded."""

    def embed(self, index):
        self.seen = super().embed(index)
        return self.seen


def test_the_loss_of_the_defaults_is_the_formula_step_by_step(data):
    """LeJEPA's terms on what the network embeds, with the directions of (seed, step): as before there was a choice."""
    run = Remembering(data, replace(CONFIG, objective=LeJEPA()))
    for step in range(3):
        row = run.step(step)
        h = run.seen.detach()
        seed = int(np.random.SeedSequence([CONFIG.seed, 2, step]).generate_state(1)[0])
        directions = torch.randn(2, 256, generator=torch.Generator().manual_seed(seed))
        directions = directions / directions.norm(dim=0, keepdim=True)
        gauss = epps_pulley(h.flatten(0, 1) @ directions).mean()
        align = (h - h.mean(dim=1, keepdim=True)).square().mean()
        terms = {"loss": 0.02 * gauss + 0.98 * align, "align": align, "sigreg": gauss}
        assert {k: v for k, v in row.items() if k != "gradient"} == {k: float(v) for k, v in terms.items()}


# --- other objectives -----------------------------------------------------------------------------------------------

OTHERS = [VICReg(), Whitening(), InfoNCE(), LeJEPA(weight=0.2, slices=32, test="anderson-darling")]


def test_there_is_a_run_with_every_objective():
    assert {objective.name for objective in OTHERS} == set(OBJECTIVES) - {"excitation"}  # test_excitation.py


@pytest.mark.parametrize("objective", OTHERS, ids=lambda o: getattr(o, "test", o.name))
def test_each_trains_reproducibly_and_leaves_its_name_and_terms(objective, data, uninterrupted, tmp_path):
    config = replace(CONFIG, objective=objective)
    folder = pretrain(data, tmp_path / "one", config)
    card = load_encoder(folder).card
    assert PretrainConfig.from_dict(card["config"]) == config
    assert card["config"]["objective"]["name"] == objective.name
    row = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    parts = set(objective(torch.zeros(2, 2, 2), torch.Generator()))
    assert set(row) == {"step", "gradient", *parts, *(f"validation_{part}" for part in parts)}
    collapsed = objective(torch.zeros(64, 2, 2), torch.Generator().manual_seed(0))  # where an untrained network stands
    assert card["validation"]["loss"] < 0.95 * float(collapsed["loss"])
    assert made(pretrain(data, tmp_path / "two", config)) == made(folder)
    assert made(folder)["encoder.safetensors"] != made(uninterrupted)["encoder.safetensors"]


def test_from_the_command_line(folder, tmp_path, capsys):
    out = tmp_path / "run"
    options = "--width 4 --hidden 32 --batch 16 --epochs 6 --lr 1e-2 --validation 64 --device cpu --threads 1 --json"
    command = ["pretrain", str(folder), "--objective", "vicreg", "--weight", "0.3", *options.split(), "--out", str(out)]
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["validation"]) == {"loss", "align", "variance", "offdiagonal"}
    card = load_encoder(out).card
    assert card["config"]["objective"] == {"name": "vicreg", "weight": 0.3, "covariance": 1.0}
    assert "--objective vicreg --weight 0.3" in card["command"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--objective", "vicreg", "--sigma", "1"], "vicreg has no option sigma; it has weight, covariance"),
        (["--objective", "infonce", "--weight", "0.1"], "infonce has no option weight; it has sigma"),
        (["--weight", "2"], "need weight in"),
        (["--test", "shapiro"], "known: anderson-darling"),
    ],
    ids=str,
)
def test_options_of_another_objective_are_refused_on_the_command_line(options, message, folder, tmp_path, capsys):
    assert main(["pretrain", str(folder), *options, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_lejepas_options_need_no_name(folder, tmp_path, capsys):
    seen = []

    def stop(data, out, config, **rest):
        seen.append(config.objective)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "pretrain", stop)
        for options in ([], ["--weight", "0.05", "--slices", "64"], ["--test", "watson", "--objective", "lejepa"]):
            assert main(["pretrain", str(folder), *options, "--out", str(tmp_path / "run")]) == 130
    assert seen == [LeJEPA(), LeJEPA(weight=0.05, slices=64), LeJEPA(test="watson")]


def test_the_bar_shows_the_terms_there_are(capsys):
    bar = TrainingBar()
    for _ in bar.start(iter(range(2)), 0, 2):
        bar.show({"step": 1, "loss": 0.5, "repulsion": 0.25, "gradient": 3.0, "validation_loss": 7.0})
    shown = capsys.readouterr().err
    assert "loss=0.500" in shown
    assert "repulsion=0.250" in shown
    assert "validation" not in shown
    assert "gradient" not in shown


# --- interruption ---------------------------------------------------------------------------------------------------


def test_an_interrupted_run_holds_a_checkpoint_and_no_encoder(interrupted):
    assert {path.name for path in interrupted.iterdir()} == {"checkpoint.json", "checkpoint.safetensors", "log.jsonl"}
    assert json.loads((interrupted / "checkpoint.json").read_text())["step"] == 20
    with pytest.raises(BadFile, match=r"encoder\.json: no such file"):
        load_encoder(interrupted)


def test_resuming_gives_the_bytes_of_the_uninterrupted_run(interrupted, uninterrupted, data):
    seen = []

    def progress(steps, start, total):
        for step in steps:
            seen.append(step)
            yield step

    pretrain(data, interrupted, CONFIG, resume=True, command="worldplan pretrain", progress=progress)
    assert seen == list(range(20, STEPS))  # it did go on from the checkpoint
    assert made(interrupted) == made(uninterrupted)
    assert {path.name for path in interrupted.iterdir()} == set(MADE)


def test_without_the_optimisers_state_resuming_would_differ(interrupted, uninterrupted, data):
    """Negative control: equality of bytes does see what a checkpoint forgets."""
    path = interrupted / "checkpoint.safetensors"
    tensors = load(path.read_bytes())
    forgotten = {k: torch.zeros_like(v) if "exp_avg" in k else v for k, v in tensors.items()}
    save_file(forgotten, path, metadata={"step": "20"})
    pretrain(data, interrupted, CONFIG, resume=True, command="worldplan pretrain")
    assert made(interrupted) != made(uninterrupted)


def test_a_crash_between_the_two_files_of_a_checkpoint_does_no_harm(uninterrupted, data, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    write = checkpoints.write_json

    def crash_at_20(path, value):
        if value["step"] == 20:
            raise KeyboardInterrupt
        write(path, value)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoints, "write_json", crash_at_20)
        pretrain(data, folder, CONFIG)
    assert json.loads((folder / "checkpoint.json").read_text())["step"] == 10
    pretrain(data, folder, CONFIG, resume=True, command="worldplan pretrain")
    assert made(folder) == made(uninterrupted)


def test_the_log_of_a_resumed_run_has_every_row_once(data, tmp_path):
    config = replace(CONFIG, width=2, batch=4, validation=8, epochs=3, checkpoint_every=60)  # 144 steps
    with pytest.raises(KeyboardInterrupt):
        pretrain(data, tmp_path, config, progress=stop_after(110))
    log = tmp_path / "log.jsonl"
    assert [json.loads(row)["step"] for row in log.read_text().splitlines()] == [100]  # past the checkpoint at 60
    pretrain(data, tmp_path, config, resume=True)
    rows = [json.loads(row) for row in log.read_text().splitlines()]
    assert [row["step"] for row in rows] == [100, 144]
    assert all(math.isfinite(value) for row in rows for value in row.values())


def test_the_log_keeps_whole_rows_up_to_the_checkpoint(tmp_path):
    log = tmp_path / "log.jsonl"
    assert training._rows_until(200, log) == []
    rows = [b'{"step": 100}\n', b'{"step": 200}\n', b'{"step": 300}\n']
    log.write_bytes(b"".join(rows) + b'{"st')  # torn by a power cut
    assert training._rows_until(200, log) == rows[:2]
    assert training._rows_until(400, log) == rows
    assert training._rows_until(0, log) == []


# --- refusals -------------------------------------------------------------------------------------------------------


def test_a_collapse_is_an_error_and_leaves_no_encoder(data, tmp_path):
    folder = tmp_path / "run"
    alignment_only = replace(CONFIG, objective=LeJEPA(weight=0.0, slices=1), epochs=10)
    with pytest.raises(EncoderCollapsed, match=r"collapsed: its standard deviations.*SIGReg weight"):
        pretrain(data, folder, alignment_only)
    assert not list(folder.glob("encoder*"))
    with pytest.raises(EncoderCollapsed, match=r"raise the weight of whitening, the number"):
        pretrain(data, tmp_path / "other", replace(alignment_only, objective=Whitening(weight=0.0)))


class OnePoseHeldOut(PairDataset):
    """Its held-out pairs all show the same frame, as the episode of an arm at rest does."""

    def split(self, held_out, rng):
        self.apart, train = super().split(held_out, rng)
        return self.apart, train

    def __getitem__(self, index):
        frames = super().__getitem__(index)
        frames[np.isin(index, self.apart)] = 0
        return frames


def test_held_out_pairs_of_one_pose_are_no_collapse(folder, tmp_path):
    trained = load_encoder(pretrain(OnePoseHeldOut(folder), tmp_path / "run", CONFIG))
    assert trained.card["spread"][-1] < 1e-3


def test_a_loss_that_is_not_finite_is_an_error_at_once_and_leaves_no_encoder(data, tmp_path):
    folder = tmp_path / "run"
    seen = []

    def progress(steps, start, total):
        for step in steps:
            seen.append(step)
            yield step

    with pytest.raises(EncoderCollapsed, match="lower --lr"):
        pretrain(data, folder, replace(CONFIG, lr=1e30, checkpoint_every=1), progress=progress)
    assert len(seen) < STEPS
    assert not list(folder.glob("encoder*"))
    if (folder / "checkpoint.json").exists():  # no checkpoint of poisoned weights to resume from
        tensors = load((folder / "checkpoint.safetensors").read_bytes())
        assert all(v.isfinite().all() for name, v in tensors.items() if name.startswith("network"))


def test_too_few_pairs(data, tmp_path):
    with pytest.raises(InvalidInput, match="200 pairs are too few for 185 held out and batches of 16"):
        pretrain(data, tmp_path / "run", replace(CONFIG, validation=185))
    assert not (tmp_path / "run").exists()
    with pytest.raises(KeyboardInterrupt):  # one pair more is enough to start
        pretrain(data, tmp_path / "run", replace(CONFIG, validation=184), progress=stop_after(1))


def test_a_finished_folder_is_not_overwritten(uninterrupted, data):
    before = made(uninterrupted)
    for resume in (False, True):
        with pytest.raises(BadFile, match="already holds a trained encoder"):
            pretrain(data, uninterrupted, CONFIG, resume=resume)
    assert made(uninterrupted) == before


def test_an_unfinished_run_is_not_overwritten(interrupted, data):
    before = (interrupted / "checkpoint.safetensors").read_bytes()
    with pytest.raises(BadFile, match=r"unfinished run.*--resume"):
        pretrain(data, interrupted, CONFIG)
    assert (interrupted / "checkpoint.safetensors").read_bytes() == before


def test_a_death_before_the_clean_up_leaves_a_way_on(data, uninterrupted, tmp_path, monkeypatch):
    """The encoder is whole, and its checkpoint is still there."""

    def die(*args):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(worldplan.learning.pretraining, "delete_checkpoint", die)
        pretrain(data, tmp_path / "run", CONFIG, command="worldplan pretrain")
    assert made(tmp_path / "run") == made(uninterrupted)
    pretrain(data, tmp_path / "run", CONFIG, command="worldplan pretrain", resume=True)
    assert made(tmp_path / "run") == made(uninterrupted)
    assert {path.name for path in (tmp_path / "run").iterdir()} == set(MADE)


@pytest.mark.parametrize("resume", [True, False])
def test_a_death_within_the_clean_up_leaves_a_trained_encoder(data, uninterrupted, tmp_path, resume):
    """The weights of the checkpoint are gone, and its JSON is not: neither way on was open."""
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    (folder / checkpoints.PROGRESS).write_text("{}")
    with pytest.raises(BadFile, match="already holds a trained encoder"):
        pretrain(data, folder, CONFIG, resume=resume)
    assert made(folder) == made(uninterrupted)
    assert {path.name for path in folder.iterdir()} == set(MADE)


def test_where_nothing_was_begun_resuming_starts(data, uninterrupted, tmp_path):
    """So one command line serves for the first start and for all others."""
    pretrain(data, tmp_path / "run", CONFIG, resume=True, command="worldplan pretrain")
    assert made(tmp_path / "run") == made(uninterrupted)


def test_a_checkpoint_of_another_configuration_or_dataset(interrupted, data, tmp_path):
    others = {
        "--lr was 0.01, is 0.001": {"lr": 1e-3},
        "--bfloat16 was False, is True": {"bfloat16": True},
        "--weight was 0.1, is 0.2": {"objective": LeJEPA(weight=0.2, slices=32)},
        "--test was epps-pulley, is watson": {"objective": LeJEPA(weight=0.1, slices=32, test="watson")},
        "--objective was lejepa, is whitening": {"objective": Whitening(weight=0.1)},
    }
    for told, other in others.items():
        with pytest.raises(BadFile, match=rf"another configuration or dataset \(.*{told}") as error:
            pretrain(data, interrupted, replace(CONFIG, **other), resume=True)
        assert "--seed" not in str(error.value)
    elsewhere = PairDataset(collect_pairs(OUWorld(), 80, tmp_path / "other", seed=1))
    with pytest.raises(BadFile, match=r"another configuration or dataset \(--data was"):
        pretrain(elsewhere, interrupted, CONFIG, resume=True)


def test_where_and_how_often_may_change(interrupted, uninterrupted, data):
    pretrain(data, interrupted, replace(CONFIG, device="auto", checkpoint_every=7), resume=True)
    weights = (made(folder)["encoder.safetensors"] for folder in (interrupted, uninterrupted))
    assert next(weights) == next(weights)


def test_a_checkpoint_from_before_there_was_a_choice_is_lejepas(interrupted, uninterrupted, data):
    path = interrupted / "checkpoint.json"
    saved = json.loads(path.read_text())
    saved["config"]["objective"] = {"weight": 0.1, "slices": 32}
    path.write_text(json.dumps(saved))
    pretrain(data, interrupted, CONFIG, resume=True, command="worldplan pretrain")
    assert made(interrupted) == made(uninterrupted)


@pytest.mark.parametrize("objective", [None, 3, {}, {"name": "simclr"}, {"name": ["lejepa"]}, {"sigma": 1.0}], ids=str)
def test_a_checkpoint_of_an_objective_nobody_knows(interrupted, data, objective):
    path = interrupted / "checkpoint.json"
    saved = json.loads(path.read_text())
    saved["config"]["objective"] = objective
    path.write_text(json.dumps(saved))
    with pytest.raises(BadFile, match="another configuration"):
        pretrain(data, interrupted, CONFIG, resume=True)


@pytest.mark.parametrize("damage", ["missing", "truncated", "pickled", "of another network", "without a step"])
def test_a_damaged_checkpoint(interrupted, data, damage):
    path = interrupted / "checkpoint.safetensors"
    tensors = load(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-50])
    elif damage == "pickled":
        torch.save(tensors, path)
    elif damage == "of another network":
        save_file({**tensors, "network.head.4.bias": torch.zeros(5)}, path, metadata={"step": "20"})
    else:
        save_file(tensors, path)
    log = (interrupted / "log.jsonl").read_bytes()
    with pytest.raises(BadFile, match="cannot be read") as caught:
        pretrain(data, interrupted, CONFIG, resume=True)
    assert caught.value.path == path
    assert (interrupted / "log.jsonl").read_bytes() == log


@pytest.mark.parametrize(
    "wrong",
    [
        {"latent_dim": 0},
        {"width": 0},
        {"batch": 1},
        {"epochs": 0},
        {"lr": 0.0},
        {"lr": math.nan},
        {"lr": math.inf},
        {"clip": 0.0},
        {"weight_decay": -1.0},
        {"validation": 0},
        {"checkpoint_every": 0},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InvalidInput, match=r"must be (positive|a finite number)"):
        PretrainConfig(**wrong)


def test_two_runs_do_not_share_a_folder(data, tmp_path):
    with held(tmp_path / "run"), pytest.raises(BadFile, match="is being written by process"):
        pretrain(data, tmp_path / "run", CONFIG)
    assert not (tmp_path / "run").exists()
