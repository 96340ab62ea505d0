"""The supervised reference: it learns the angles it is told, reproducibly, and not from labels that say nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from worldplan.data.pairs import PairDataset, load_labels
from worldplan.data.recipes import Nuisances
from worldplan.envs.datasets.pairs import collect_pairs
from worldplan.envs.worlds import OUWorld
from worldplan.errors import BadFile, EncoderCollapsed, InvalidInput
from worldplan.learning.encoder import load_encoder
from worldplan.learning.pretraining import PretrainRun
from worldplan.learning.supervised import SupervisedRun, train_supervised
from worldplan.learning.training import PretrainConfig

SCALE = (0.7, 0.8)
PAIRS, HELD_OUT = 260, 60
CONFIG = PretrainConfig(width=4, hidden=64, batch=20, epochs=5, lr=1e-2, validation=HELD_OUT, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    world = OUWorld(rho=0.5, scale=SCALE)
    look = Nuisances(stock=0.0, small=1.0, hidden=1.0)
    return collect_pairs(world, PAIRS, tmp_path_factory.mktemp("pairs") / "data", nuisances=look, with_labels=True)


@pytest.fixture(scope="module")
def data(folder):
    return PairDataset(folder)


@pytest.fixture(scope="module")
def labels(folder):
    return load_labels(folder)


@pytest.fixture(scope="module")
def trained(data, labels, tmp_path_factory):
    return train_supervised(data, labels, tmp_path_factory.mktemp("run") / "a", CONFIG, scale=SCALE, command="by hand")


def held_out(data):
    return np.random.default_rng([CONFIG.seed, 0]).permutation(len(data))[:HELD_OUT]


def latents_and_states(encoder, data, labels):
    """Of the held-out pairs, all views: (N, 2) each, in units of the scale."""
    rows = held_out(data)
    return encoder(data[rows].reshape(-1, 64, 64, 3)), (labels[rows] / SCALE).reshape(-1, 2)


def r2(said, true):
    return 1 - np.square(said - true).sum() / np.square(true - true.mean(axis=0)).sum()


def best_linear_r2(h, z):
    """In sample, by NumPy: more than fair."""
    X = np.column_stack([h, np.ones(len(h))])
    return r2(X @ np.linalg.lstsq(X, z, rcond=None)[0], z)


def test_it_tells_the_angles_of_frames_it_never_saw(trained, data, labels, tmp_path):
    h, z = latents_and_states(load_encoder(trained), data, labels)
    assert r2(h, z) > 0.8  # as it stands: no regression, no rotation
    assert r2(h[:, ::-1], z) < 0.3  # negative control: coordinates are in the order of the joints
    untrained = replace(CONFIG, lr=1e-9)
    raw = load_encoder(train_supervised(data, labels, tmp_path / "raw", untrained, scale=SCALE))
    assert best_linear_r2(*latents_and_states(raw, data, labels)) < 0.7


def test_from_shuffled_labels_it_learns_nothing(data, labels, tmp_path):
    """Negative control: the labels of other pairs."""
    shuffled = np.random.default_rng(0).permutation(labels)
    encoder = load_encoder(train_supervised(data, shuffled, tmp_path / "run", CONFIG, scale=SCALE))
    h, z = latents_and_states(encoder, data, labels)
    assert r2(h, z) < 0.1


def test_the_card_tells_what_it_is_and_the_held_out_loss(trained, data, labels):
    assert {path.name for path in trained.iterdir()} == {"encoder.json", "encoder.safetensors", "log.jsonl"}
    encoder = load_encoder(trained)
    card = encoder.card
    assert card["kind"] == "supervised"
    assert card["command"] == "by hand"
    assert card["scale"] == list(SCALE)
    assert card["config"] == {**CONFIG.to_dict(), "objective": {"name": "supervised"}}
    assert card["data"] == {"sha256": data.manifest_sha256, **json.loads(json.dumps(data.provenance))}
    h, z = latents_and_states(encoder, data, labels)
    assert card["validation"] == {"loss": pytest.approx(np.square(h - z).mean(), rel=1e-3)}
    rows = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == (PAIRS - HELD_OUT) // CONFIG.batch * CONFIG.epochs
    assert set(rows[-1]) == {"step", "loss", "gradient"}


def test_labels_are_wrapped_because_the_image_is(data, labels, tmp_path):
    """Whole turns more tell the encoder nothing else (but for rounding); half a turn more does."""
    turns = 2 * np.pi * np.random.default_rng(0).integers(-1, 2, labels.shape)
    short = replace(CONFIG, epochs=1)
    wrapped, turned, half = (
        load_encoder(train_supervised(data, told, tmp_path / name, short, scale=SCALE)).card["validation"]["loss"]
        for name, told in [("wrapped", labels), ("turned", labels + turns), ("half", labels + turns / 2)]
    )
    assert turned == pytest.approx(wrapped, rel=1e-3)
    assert half > 2 * wrapped


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(data, labels, tmp_path):
    short = replace(CONFIG, epochs=1)
    state = torch.random.get_rng_state()
    one, two, other = (
        (train_supervised(data, labels, tmp_path / name, config) / "encoder.safetensors").read_bytes()
        for name, config in [("one", short), ("two", short), ("other", replace(short, seed=1))]
    )
    assert one == two != other
    assert torch.equal(state, torch.random.get_rng_state())


class Recorded:
    """What a run was shown, batch by batch, and at which learning rate."""

    def embed(self, index):
        self.__dict__.setdefault("seen", []).append((index.tolist(), self.optimizer.param_groups[0]["lr"]))
        return super().embed(index)


def test_batches_order_and_schedule_are_those_of_pretraining(data, labels):
    """The reference differs by its loss alone."""
    short = replace(CONFIG, epochs=1)
    targets = np.zeros((PAIRS, 2, 2), dtype=np.float32)
    pretrained = type("Pretrained", (Recorded, PretrainRun), {})(data, short)
    supervised = type("Supervised", (Recorded, SupervisedRun), {})(data, short, targets)
    seen = {"pretrained": pretrained, "supervised": supervised}
    for name, run in seen.items():
        for step in range(run.steps):
            run.step(step)
        seen[name] = run.seen
    steps = (PAIRS - HELD_OUT) // CONFIG.batch
    assert seen["pretrained"][:steps] == seen["supervised"][:steps]


def test_a_loss_that_is_not_finite_stops_it(data, labels, tmp_path):
    with pytest.raises(EncoderCollapsed, match="lower --lr"):
        train_supervised(data, labels, tmp_path / "run", replace(CONFIG, lr=1e30))
    assert not (tmp_path / "run" / "encoder.json").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda labels: {"labels": labels[:-1]}, "labels must be finite angles"),
        (lambda labels: {"labels": labels[:, :1]}, "labels must be finite angles"),
        (lambda labels: {"labels": labels * np.nan}, "labels must be finite angles"),
        (lambda labels: {"config": replace(CONFIG, latent_dim=3)}, "labels must be finite angles"),
        (lambda labels: {"scale": (1.0,)}, "2 positive angles"),
        (lambda labels: {"scale": (1.0, 0.0)}, "2 positive angles"),
        (lambda labels: {"config": replace(CONFIG, validation=PAIRS)}, "too few"),
    ],
    ids=["fewer pairs", "fewer views", "nan", "wider latent", "one scale", "no scale", "all held out"],
)
def test_what_does_not_fit_is_refused(data, labels, tmp_path, change, says):
    arguments = {"labels": labels, "folder": tmp_path / "run", "config": CONFIG, **change(labels)}
    with pytest.raises(InvalidInput, match=says):
        train_supervised(data, **arguments)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_something_in_it_is_left_alone(trained, data, labels):
    before = (trained / "encoder.json").read_bytes()
    with pytest.raises(BadFile, match="not empty"):
        train_supervised(data, labels, trained, CONFIG)
    assert (trained / "encoder.json").read_bytes() == before
