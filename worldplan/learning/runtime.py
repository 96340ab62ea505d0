"""Frozen networks in ONNX Runtime, which computes one frame in less than half of torch's time on a core."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from worldplan.arrays import Floats, Frames
from worldplan.errors import InvalidInput
from worldplan.learning.network import CircleAngles, MirrorOdd, to_input

OPSET, IR_VERSION = 20, 9  # the first with GELU, and the first format for it
CHUNK = 32  # frames a call: their activations stay in a core's cache
_PROBES = 16  # frames on which both runtimes are compared

Outputs = NDArray[np.float32]


class OnnxNetwork:
    """A fused network on uint8 frames (N, S, S, 3): latents (N, n) float64, those of torch up to rounding.

    The graph is made here of the network's own layers; none is read from a file. A call computes on its own thread, and
    the session keeps no others: threads may share it, and a forked process may go on with it. Beyond `CHUNK` frames, as
    many threads as torch has take the chunks. Their number changes no bit.

    Args:
        network: convolutions, linear layers and GELU in sequence, `CircleAngles` last or nowhere, or `MirrorOdd` of it.
        size: S.

    Raises:
        InvalidInput: another layer, or outputs that differ from torch's by more than `tolerance`.
        ImportError: no ONNX Runtime here.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        self._mirror, bare, self._angles = parts_of(network)
        self._session = onnx_session(onnx_graph(bare, size))
        frames = probe_frames(size)
        with torch.no_grad():
            wanted = (MirrorOdd(bare) if self._mirror else bare)(to_input(torch.from_numpy(frames))).numpy()
        apart = float(np.abs(self._outputs(frames) - wanted).max())
        allowed = tolerance(bare) * max(1.0, float(np.abs(wanted).max()))
        if not apart <= allowed:
            raise InvalidInput(f"ONNX Runtime differs from torch by {apart:.2g}, rounding explains {allowed:.2g}")

    def __call__(self, frames: Frames) -> Floats:
        """Latents (N, n) of frames (N, S, S, 3)."""
        chunks = [frames[i : i + CHUNK] for i in range(0, len(frames), CHUNK)]
        threads = min(len(chunks), torch.get_num_threads())
        if threads == 1:  # a thread more would cost what it takes to make it
            parts = [self._outputs(chunk) for chunk in chunks]
        else:
            with ThreadPoolExecutor(threads) as pool:
                parts = list(pool.map(self._outputs, chunks))
        outputs = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return outputs.astype(np.float64) if self._angles is None else self._angles.in_numpy(outputs)

    def _outputs(self, frames: Frames) -> Outputs:
        """What the last layer gives, (N, n + k) for k circles; input as by `to_input`, mirrored as by `MirrorOdd`."""
        n, size = len(frames), frames.shape[1]
        inputs = np.empty(((1 + self._mirror) * n, 3, size, size), np.float32)
        upright = inputs[:n]
        np.divide(frames.transpose(0, 3, 1, 2), np.float32(255), out=upright)
        upright -= np.float32(0.5)
        if self._mirror:
            inputs[n:] = upright[:, :, ::-1]
        outputs: Outputs = self._session.run(None, {"frames": inputs})[0]
        return (outputs[:n] - outputs[n:]) / np.float32(2) if self._mirror else outputs


class Parts(NamedTuple):
    """Whether a network sees frames upside down too, its layers, and what makes angles of the last one's outputs."""

    mirror: bool
    layers: Any
    angles: CircleAngles | None


def parts_of(network: nn.Module) -> Parts:
    """The parts of a fused network of worldplan."""
    mirror = isinstance(network, MirrorOdd)
    layers: Any = network.net if isinstance(network, MirrorOdd) else network
    if not isinstance(layers, nn.Sequential):  # of the user's own
        return Parts(mirror, layers, None)
    angles = layers[-1] if isinstance(layers[-1], CircleAngles) else None
    return Parts(mirror, layers if angles is None else layers[:-1], angles)


def tolerance(layers: Iterable[nn.Module]) -> float:
    """How far two orders of summation in float32 may be apart, over the size of the outputs or 1.

    A sum of K products is off by some `u sqrt(K)` of its size, u = 2^-24 (Higham and Mary 2019, SIAM J. Sci. Comput.
    41(5)); a layer's errors add to those before it, and both runtimes err. Of the shipped encoders none is off by a
    tenth of this.
    """
    weights = (layer.weight for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear))
    return float(np.finfo(np.float32).eps) * sum(math.sqrt(weight[0].numel()) for weight in weights)


def probe_frames(size: int) -> Frames:
    """Frames (16, S, S, 3) of coarse and fine noise on colours drawn at random, from hardly any contrast to much.

    Encoders that have seen one background only give the same latent for most others: so many colours.
    """
    rng = np.random.default_rng(0)
    cells = -(-size // 8)
    coarse = rng.normal(size=(_PROBES, cells, cells, 3)).repeat(8, 1).repeat(8, 2)[:, :size, :size]
    contrast = np.geomspace(2, 64, _PROBES).reshape(-1, 1, 1, 1)
    colours = rng.uniform(0, 255, (_PROBES, 1, 1, 3))
    frames: Frames = (colours + contrast * (coarse + rng.normal(size=coarse.shape))).clip(0, 255).astype(np.uint8)
    return frames


def onnx_graph(layers: Iterable[nn.Module], size: int) -> bytes:
    """Layers in sequence as an ONNX graph on `frames` (N, 3, S, S) float32. Raises InvalidInput for an unknown one."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, last = [], [], "frames"
    for k, layer in enumerate(layers):
        operator, options = _operator(layer)
        own = {f"{k}.{name}": value.detach().numpy() for name, value in layer.named_parameters()}
        weights += [numpy_helper.from_array(value, name) for name, value in own.items()]
        nodes.append(helper.make_node(operator, [last, *own], [f"{k}"], **options))
        last = f"{k}"
    frames = helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["N", 3, size, size])
    outputs = helper.make_tensor_value_info(last, TensorProto.FLOAT, ["N", None])
    graph = helper.make_graph(nodes, "network", [frames], [outputs], weights)
    version = helper.make_opsetid("", OPSET)
    model: bytes = helper.make_model(graph, opset_imports=[version], ir_version=IR_VERSION).SerializeToString()
    return model


def _operator(layer: nn.Module) -> tuple[str, dict[str, Any]]:
    """Name and attributes of a layer in ONNX."""
    match layer:
        case nn.Conv2d(stride=stride, padding=(int(), int()) as padding):
            return "Conv", {"strides": stride, "pads": padding * 2}
        case nn.Linear():
            return "Gemm", {"transB": 1}
        case nn.GELU(approximate=approximate):
            return "Gelu", {"approximate": approximate}
        case nn.Flatten():
            return "Flatten", {}
    raise InvalidInput(f"{layer} has no place in a graph")


def onnx_session(graph: bytes) -> Any:
    """A graph in ONNX Runtime, on the thread that calls. A graph that names other files is refused.

    Raises ImportError if ONNX Runtime is not there, and its own errors for no graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # single frames: more cost more than they save
    options.log_severity_level = 4  # errors are raised, and need not be printed too
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
