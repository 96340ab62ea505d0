"""The frozen pixel encoder: loading, saving, damage, bad frames, and the same latents in every batch."""

import copy
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from forged import forge
from safetensors.torch import load_file, save_file
from torch import nn

import worldplan
from worldplan.data.files import sha256
from worldplan.envs.rendering import render_frames, sample_targets
from worldplan.errors import BadFile, InvalidInput, RuntimeFellBack, UnknownName
from worldplan.learning import encoder as module
from worldplan.learning.encoder import (
    PixelEncoder,
    check_frames,
    known_encoders,
    load_encoder,
    save_encoder,
    torch_encoder,
)
from worldplan.learning.network import ConvEncoder, to_input


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    return render_frames(rng.normal(size=(24, 2)), sample_targets(24, rng))


@pytest.fixture(scope="module")
def network(frames):
    """A small network whose BatchNorm has seen real frames, so that fusing has something to do."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ConvEncoder(latent_dim=3, width=4, hidden=16)
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(layer.weight, 0.5, 2.0)
                torch.nn.init.normal_(layer.bias)
    for _ in range(20):
        network(to_input(torch.from_numpy(frames)))
    return network.eval()


@pytest.fixture(scope="module")
def saved(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder") / "mine"
    save_encoder(network, folder, {"command": "worldplan pretrain"})
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "mine")


@pytest.fixture(scope="module")
def encoder(saved):
    return load_encoder(saved)


# --- latents --------------------------------------------------------------------------------------------------------


def test_the_fused_network_is_the_trained_one(network, encoder, frames):
    with torch.no_grad():
        wanted = network(to_input(torch.from_numpy(frames))).double().numpy()
    latents = encoder(frames)
    assert latents.shape == (24, encoder.latent_dim) == (24, 3)
    assert latents.dtype == np.float64
    np.testing.assert_allclose(latents, wanted, rtol=1e-4, atol=1e-5)
    assert not any("BatchNorm" in type(layer).__name__ for layer in encoder.network.modules())
    with torch.no_grad():  # negative control: a network that was not set to evaluation is another function
        training = copy.deepcopy(network).train()(to_input(torch.from_numpy(frames))).double().numpy()
    assert np.abs(training - wanted).max() > 1e-2


def test_one_frame_gives_one_latent(encoder, frames):
    assert encoder(frames[0]).shape == (3,)
    np.testing.assert_allclose(encoder(frames[0]), encoder(frames)[0], rtol=1e-4, atol=1e-5)


def test_latents_do_not_depend_on_the_batch(encoder, frames):
    together = encoder(frames)
    assert together.std(axis=0).min() > 1e-2  # different frames, different latents
    for size in (1, 5, 24):
        parts = [encoder(frames[i : i + size]) for i in range(0, 24, size)]
        np.testing.assert_allclose(np.concatenate(parts), together, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoder(frames[::-1])[::-1], together, rtol=1e-4, atol=1e-5)
    many = 2 * module._BATCH + 5  # split inside, the last part short
    latents = encoder(np.resize(frames, (many, *frames.shape[1:])))
    np.testing.assert_allclose(latents, np.resize(together, (many, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(encoder(frames), encoder(frames))


def test_the_callers_frames_may_be_views_lists_and_read_only(encoder, frames):
    wanted = encoder(frames[:4])
    strided = np.repeat(frames[:4], 2, axis=0)[::2]
    frozen = frames[:4].copy()
    frozen.flags.writeable = False
    for same in (strided, list(frames[:4]), frozen, torch.from_numpy(frames[:4])):
        np.testing.assert_allclose(encoder(same), wanted, rtol=1e-4, atol=1e-5)


def test_an_encoder_is_frozen_and_leaves_the_network_it_came_from_alone(network, frames, tmp_path):
    network = copy.deepcopy(network).train()
    encoder = PixelEncoder(network, {})
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert not any(p.requires_grad for p in encoder.network.parameters())
    before = encoder(frames)
    digest = encoder.save(tmp_path / "before")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)  # training goes on
    np.testing.assert_array_equal(encoder(frames), before)
    assert encoder.save(tmp_path / "after") == digest


# --- bad frames -----------------------------------------------------------------------------------------------------

GOOD = np.zeros((2, 64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (GOOD.astype(np.float32), r"uint8 in 0\.\.255, got float32"),
        (GOOD.astype(np.int64), r"uint8 in 0\.\.255, got int64"),
        (GOOD.astype(bool), "got bool"),
        (np.full(GOOD.shape, np.nan), "NaN"),
        (np.moveaxis(GOOD, -1, 1), r"channels last.*moveaxis"),
        (np.moveaxis(GOOD[0], -1, 0), r"channels last.*moveaxis"),
        (np.zeros((2, 84, 84, 3), dtype=np.uint8), r"\(2, 84, 84, 3\); resize to 64 x 64"),
        (np.zeros((2, 64, 64, 4), dtype=np.uint8), r"\(2, 64, 64, 4\)"),
        (np.zeros((64, 64), dtype=np.uint8), r"\(64, 64\)"),
        (GOOD[None], r"\(1, 2, 64, 64, 3\)"),
        (GOOD[:0], "empty batch"),
        ([], "empty batch"),
        ([GOOD[0], GOOD[0, :3]], "same shape"),
        ("frame.png", "got <U9"),
        (None, "got object"),
    ],
)
def test_bad_frames_are_refused_with_a_hint(encoder, bad, says):
    for call in (encoder, check_frames):
        with pytest.raises(InvalidInput, match=says):
            call(bad)


@pytest.mark.parametrize(
    "given", [lambda f: f.astype(np.float32) / 255, lambda f: f.astype(np.int16), lambda f: f.astype(float)]
)
def test_the_advice_on_frames_of_another_type_gives_back_the_frame(given):
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(InvalidInput) as refused:
        check_frames(given(frame))
    advice = str(refused.value).split("convert with ")[-1]
    followed = {
        ".astype(np.uint8)": lambda f: f.astype(np.uint8),
        "(255 * f).round().astype(np.uint8)": lambda f: (255 * f).round().astype(np.uint8),
    }[advice](given(frame))
    np.testing.assert_array_equal(followed, frame)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (np.linspace(-2.0, 2.0, GOOD.size).reshape(GOOD.shape), "undo the normalisation"),
        (np.full(GOOD.shape, 256), r"scale them to 0\.\.255"),
        (np.full(GOOD.shape, -1), r"scale them to 0\.\.255"),
        (np.full(GOOD.shape, np.inf), "infinity"),
    ],
)
def test_frames_that_no_cast_mends_get_other_advice(bad, says):
    with pytest.raises(InvalidInput, match=says):
        check_frames(bad)


def test_good_frames_pass_unchanged():
    assert check_frames(GOOD) is GOOD
    assert check_frames(GOOD[0]).shape == (64, 64, 3)


# --- files ----------------------------------------------------------------------------------------------------------


def test_save_and_load_round_trip(saved, network, encoder, frames, tmp_path):
    assert worldplan.load_encoder is load_encoder
    np.testing.assert_array_equal(encoder(frames), PixelEncoder(network, {})(frames))
    assert encoder.card["command"] == "worldplan pretrain"
    assert encoder.card["network"] == network.config
    assert encoder.card["sha256"] == sha256(saved / "encoder.safetensors")
    digest = encoder.save(tmp_path / "again")
    assert digest == encoder.card["sha256"]
    for name in ("encoder.json", "encoder.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()
    np.testing.assert_array_equal(load_encoder(str(tmp_path / "again"))(frames), encoder(frames))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownName) as caught:
        load_encoder("reachr")
    assert caught.value.known == known_encoders()
    assert "'reachr'" in str(caught.value)


def reseal(folder):
    """Make the card vouch for the weights as they are: whoever alters a file can do that too."""
    forge(folder / "encoder.json", sha256=sha256(folder / "encoder.safetensors"))


def test_missing_files(folder):
    weights = folder / "encoder.safetensors"
    weights.rename(folder / "elsewhere")
    with pytest.raises(BadFile, match="no such file") as caught:
        load_encoder(folder)
    assert caught.value.path == weights
    (folder / "elsewhere").rename(weights)
    load_encoder(folder)
    (folder / "encoder.json").unlink()
    with pytest.raises(BadFile, match=r"encoder\.json: no such file"):
        load_encoder(folder)


@pytest.mark.parametrize("vouched", [False, True])
@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_weights(folder, keep, vouched):
    path = folder / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    if vouched:
        reseal(folder)
    with pytest.raises(BadFile, match="holds no weights" if vouched else "SHA-256"):
        load_encoder(folder)


def test_one_altered_bit_of_the_weights(folder):
    path = folder / "encoder.safetensors"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadFile, match="SHA-256"):
        load_encoder(folder)


class Trap:
    """A pickle that creates a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_weights_are_never_opened(folder, network, tmp_path):
    path = folder / "encoder.safetensors"
    for write in (lambda p: torch.save(network.state_dict(), p), lambda p: torch.save(Trap(tmp_path / "sprung"), p)):
        write(path)
        with pytest.raises(BadFile, match="SHA-256"):
            load_encoder(folder)
        reseal(folder)
        with pytest.raises(BadFile, match="holds no weights"):
            load_encoder(folder)
        path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
        reseal(folder)
        with pytest.raises(BadFile, match="holds no weights"):
            load_encoder(folder)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(path.read_bytes()).close()
    assert (tmp_path / "sprung").exists()  # negative control: the trap works


def test_weights_of_another_network(folder):
    path = folder / "encoder.safetensors"
    tensors = load_file(path)
    for change in (
        {k: v for k, v in tensors.items() if k != "head.4.bias"},
        {**tensors, "more": torch.zeros(1)},
        {**tensors, "head.4.bias": torch.zeros(7)},
        {**tensors, "head.4.bias": torch.full((3,), torch.nan)},
    ):
        save_file(change, path)
        reseal(folder)
        with pytest.raises(BadFile, match=r"holds no weights|not finite"):
            load_encoder(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network", None),
        ("network", {"latent_dim": 3, "width": 0, "hidden": 16}),
        ("network", {"latent_dim": 3, "width": "4", "hidden": 16}),
        ("network", {"latent_dim": 3, "depth": 4}),
        ("network", {"latent_dim": 3, "width": 8, "hidden": 16}),
        ("format", 2),
        ("sha256", None),
    ],
)
def test_an_altered_card(folder, key, value):
    path = folder / "encoder.json"
    card = json.loads(path.read_text())
    for altered in ({**card, key: value}, {k: v for k, v in card.items() if k != key}):
        forge(path, altered)
        with pytest.raises(BadFile):
            load_encoder(folder)
    path.write_text(json.dumps({**card, key: value}))
    with pytest.raises(BadFile, match=r"was altered|is of format"):
        load_encoder(folder)
    path.write_text(json.dumps(card))
    load_encoder(folder)


def test_a_network_without_units_is_refused():
    for sizes in ({"latent_dim": 0}, {"width": 0}, {"hidden": -1}):
        with pytest.raises(InvalidInput, match="at least 1"):
            ConvEncoder(**sizes)


@pytest.mark.parametrize(("name", "value"), [("", float("nan")), ("", 1e38), ("running_var", -1.0)])
def test_latents_that_are_not_finite_do_not_leave(name, value, tmp_path):
    network = ConvEncoder()
    with torch.no_grad():
        for key, weight in network.state_dict().items():
            if name in key and weight.is_floating_point():
                weight.fill_(value)
    frame = np.full((64, 64, 3), 200, np.uint8)
    with pytest.warns(RuntimeFellBack):
        encoder = PixelEncoder(network, {})
    with pytest.raises(InvalidInput, match="not finite"):
        encoder(frame)


@pytest.mark.parametrize("options", [{"device": "meta"}, {"device": 5}, {"device": "x"}, {"space": "line"}])
def test_a_module_on_no_device_or_in_no_space_is_refused(options):
    with pytest.raises(InvalidInput):
        torch_encoder(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64**2, 2)), **options)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, StopIteration])
def test_a_module_that_raises_is_refused(error):
    class Raising(nn.Module):
        def forward(self, frames):
            raise error("x")

    with pytest.raises(InvalidInput, match="takes no frames"):
        torch_encoder(Raising())
