"""Encoders in ONNX Runtime: as torch computes them, in threads, copies and other processes, and what is refused."""

import copy
import multiprocessing
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from worldplan.envs.rendering import render_frames, sample_targets
from worldplan.errors import InvalidInput, RuntimeFellBack
from worldplan.learning import runtime
from worldplan.learning.encoder import PixelEncoder, known_encoders, load_encoder, torch_encoder
from worldplan.learning.network import CircleAngles, ConvEncoder, MirrorOdd, to_input
from worldplan.learning.runtime import CHUNK, OnnxNetwork, onnx_graph, probe_frames, tolerance
from worldplan.planning.space import LatentSpace


@pytest.fixture(scope="module")
def frames():
    """More than two chunks, the last one short."""
    rng = np.random.default_rng(0)
    count = 2 * CHUNK + 5
    return render_frames(rng.normal(size=(count, 2)), sample_targets(count, rng))


@pytest.fixture
def encoder():
    return load_encoder("reacher-excitation")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def outputs(encoder, frames):
    """What ONNX Runtime and torch give before angles are taken, and the layers."""
    network = encoder.network
    layers = network.net if isinstance(network, MirrorOdd) else network
    layers = layers[:-1] if isinstance(layers[-1], CircleAngles) else layers
    bare = MirrorOdd(layers) if isinstance(network, MirrorOdd) else layers
    return encoder._onnx._outputs(frames), bare(to_input(torch.from_numpy(frames))).numpy(), layers


# --- as torch computes them -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", known_encoders())
def test_shipped_encoders_are_torchs_up_to_rounding(name, frames):
    encoder = load_encoder(name)
    assert encoder.runtime == "onnxruntime"
    for shown in (frames, probe_frames(encoder.size)):
        ours, wanted, layers = outputs(encoder, shown)
        size = max(1.0, np.abs(wanted).max())
        assert np.abs(ours - wanted).max() <= tolerance(layers) * size
        assert tolerance(layers) < 1e-4  # a claim that can fail
    apart = encoder.space.difference(encoder(frames), encoder._torch(frames))
    assert np.abs(apart).max() < 1e-4
    assert wanted.std(axis=0).min() > 1e-3 * np.abs(wanted).max()  # frames of the check are not all alike to it


def other(layers, change):
    """A copy of layers with a mistake in it."""
    layers = copy.deepcopy(layers)
    for layer in layers:
        if isinstance(layer, nn.GELU) and change == "gelu":
            layer.approximate = "tanh"
        if isinstance(layer, nn.Conv2d | nn.Linear) and change == "bfloat16":
            layer.weight.data = layer.weight.data.bfloat16().float()
    if change == "bias":
        layers[0].bias.data += 1e-3
    if change == "padding":
        layers[0].padding = (1, 0)
    return layers


@pytest.mark.parametrize("change", ["gelu", "bfloat16", "bias"])
@pytest.mark.parametrize("name", known_encoders())
def test_a_graph_that_is_not_the_network_is_refused(name, change, monkeypatch):
    network = load_encoder(name).network
    monkeypatch.setattr(runtime, "onnx_graph", lambda layers, size: onnx_graph(other(layers, change), size))
    with pytest.raises(InvalidInput, match="rounding explains"):
        OnnxNetwork(network, 64)


def test_weights_that_are_not_finite_are_refused(encoder):
    network = copy.deepcopy(encoder.network)
    network[-2].bias.data[0] = np.nan
    with pytest.raises(InvalidInput, match="differs from torch by nan"):
        OnnxNetwork(network, 64)


def test_a_layer_that_has_no_place_is_named():
    for layer in (nn.ReLU(), nn.Conv2d(3, 3, 3, padding="same")):
        with pytest.raises(InvalidInput, match=r"(ReLU|Conv2d)\(.* has no place in a graph"):
            onnx_graph([nn.Flatten(), layer], 64)


@pytest.mark.parametrize(("size", "mirror"), [(32, True), (96, False), (224, False)])
def test_other_sizes_and_averaged_encoders(size, mirror):
    encoder = PixelEncoder(ConvEncoder(latent_dim=3, width=2, hidden=8, size=size), {"mirror": mirror})
    frames = probe_frames(size)
    assert encoder.runtime == "onnxruntime"
    np.testing.assert_allclose(encoder(frames), encoder._torch(frames), atol=1e-5)
    np.testing.assert_allclose(encoder(frames[0]), encoder(frames)[0], atol=1e-6)
    if mirror:
        np.testing.assert_allclose(encoder(frames[:, ::-1]), -encoder(frames), atol=1e-6)


def test_angles_are_those_of_torch():
    angles = CircleAngles(LatentSpace("line", "circle", "circle"))
    angles.axes.copy_(torch.tensor([[2.0, 0.0, 0.0], [0.3, 1.0, 0.0], [-0.5, 0.0, 1.0]]))
    rng = np.random.default_rng(0)
    given = rng.normal(size=(500, 5)).astype(np.float32)
    ours, wanted = angles.in_numpy(given), angles(torch.from_numpy(given)).double().numpy()
    assert np.abs(angles.space.difference(ours, wanted)).max() < 2e-6
    assert (np.abs(ours[:, 1:]) <= np.pi).all()
    assert ours.dtype == np.float64
    swapped = given[:, [0, 1, 2, 4, 3]]
    assert np.abs(angles.space.difference(angles.in_numpy(swapped), wanted)).max() > 1.0


# --- what stays in torch --------------------------------------------------------------------------------------------


def test_networks_of_ones_own_stay_in_torch():
    encoder = torch_encoder(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2)))
    assert encoder.runtime == "torch"
    assert repr(encoder).endswith(", torch)")
    assert repr(load_encoder("reacher")).endswith(", onnxruntime)")


@pytest.mark.parametrize("absent", ["onnx", "onnxruntime"])
def test_without_onnx_runtime_torch_computes_and_a_warning_says_so(absent, encoder, frames, monkeypatch):
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.warns(RuntimeFellBack, match=f"torch computes the encoder 'reacher-excitation'.*{absent}"):
        found = load_encoder("reacher-excitation")
    assert found.runtime == "torch"
    assert np.abs(found.space.difference(found(frames), encoder(frames))).max() < 1e-4


def test_a_runtime_that_disagrees_is_not_used(monkeypatch):
    monkeypatch.setattr(runtime, "onnx_graph", lambda layers, size: onnx_graph(other(layers, "gelu"), size))
    with pytest.warns(RuntimeFellBack, match="differs from torch"):
        assert load_encoder("reacher").runtime == "torch"


# --- batches, threads, processes ------------------------------------------------------------------------------------


def test_the_number_of_threads_changes_no_bit(encoder, frames, threads):
    found = set()
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        found.add(encoder(frames).tobytes())
    assert len(found) == 1
    parts = np.concatenate([encoder(frames[i : i + CHUNK]) for i in range(0, len(frames), CHUNK)])
    assert found == {parts.tobytes()}
    assert encoder(frames[::-1]).tobytes() not in found


def test_threads_may_share_an_encoder(encoder, frames):
    wanted = encoder(frames).tobytes()
    with ThreadPoolExecutor(8) as pool:
        assert {latents.tobytes() for latents in pool.map(encoder, [frames] * 16)} == {wanted}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux lists them")
def test_an_encoder_keeps_no_threads(frames, threads):
    torch.set_num_threads(1)
    load_encoder("reacher")(frames)
    before = len(list(Path("/proc/self/task").iterdir()))
    kept = [load_encoder("reacher") for _ in range(3)]
    for encoder in kept:
        encoder(frames)
    assert len(list(Path("/proc/self/task").iterdir())) <= before


def test_copies_make_sessions_of_their_own(encoder, frames):
    wanted = encoder(frames).tobytes()
    for same in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert same.runtime == "onnxruntime"
        assert same._onnx._session is not encoder._onnx._session
        assert same(frames).tobytes() == wanted


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_an_encoder_travels_to_other_processes(method, encoder, frames):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert pool.submit(encoder, frames).result(timeout=120).tobytes() == encoder(frames).tobytes()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_goes_on_with_the_encoder(encoder, frames):
    wanted = encoder(frames).tobytes()
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=lambda: there.send(encoder(frames).tobytes()))
    child.start()
    try:
        assert here.poll(60), "the fork hangs"
        assert here.recv() == wanted
    finally:
        child.kill()
        child.join()
