"""Networks that are not ours: any `nn.Module`, by import path, by timm's names, or as an object."""

from __future__ import annotations

import copy
import functools
import importlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from worldplan.arrays import Floats, finite_array
from worldplan.checks import positive_int
from worldplan.data.world_card import FRAME_SIZE
from worldplan.errors import InvalidInput
from worldplan.learning.network import CircleAngles, ConvEncoder, check_axes
from worldplan.named import named_object
from worldplan.planning.space import LatentSpace

CONV = "conv"
TIMM = "timm:"
FORM = "module:factory, such as mynets:make, a function that gives a torch.nn.Module"


class ForeignNetwork(nn.Module):
    """A user's module between our frames and our latents.

    Frames in [-.5, .5], (N, 3, S, S), become `(frames + .5 - mean) / std`, contiguous, for the module. Its outputs are
    those of `ConvEncoder.outputs`, or with `ready` the latents themselves.

    Args:
        body: the module, (N, 3, S, S) to (N, k).
        source: import path of the function that makes the module, `timm:NAME`, or empty.
        space: kinds of the latent's coordinates.
        size: S.
        mean: what is taken from pixels in [0, 1], a number or one for each colour.
        std: what they are then divided by.
        ready: whether the module gives latents.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        source: str,
        space: Sequence[str],
        size: int,
        mean: Any = 0.5,
        std: Any = 1.0,
        ready: bool = False,
    ) -> None:
        super().__init__()
        self.space, self.size, self.body = LatentSpace(*space), positive_int("size", size), body
        shades = {"mean": finite_array("mean", mean), "std": finite_array("std", std)}
        if any(shade.shape not in ((), (1,), (3,)) for shade in shades.values()) or (shades["std"] <= 0).any():
            raise InvalidInput(f"mean and std are a number or one for each of 3 colours, std above 0, got {shades}")
        for name, shade in shades.items():
            row = torch.from_numpy(np.broadcast_to(shade, (3,)).astype(np.float32).copy())
            self.register_buffer(name, row[:, None, None], persistent=False)
        self.config: dict[str, Any] = {
            "source": source,
            "latent_dim": self.space.dim,
            "space": list(self.space.kinds),
            "size": self.size,
            **{name: np.broadcast_to(shade, (3,)).tolist() for name, shade in shades.items()},
            "ready": ready,
        }
        self.angles: nn.Module = nn.Identity()
        if not ready:
            self.angles = LineAxes(self.space) if self.space.flat else CircleAngles(self.space)

    def outputs(self, frames: Tensor) -> Tensor:
        """Outputs of the module (N, k) for frames (N, 3, S, S)."""
        found: Tensor = self.body(((frames + 0.5 - self.mean) / self.std).contiguous())
        return found

    def forward(self, frames: Tensor) -> Tensor:
        """Embed frames (N, 3, S, S), scaled to [-.5, .5], as (N, n)."""
        return self.angles(self.outputs(frames))  # type: ignore[no-any-return]

    def change_axes(self, M: Floats) -> None:
        """Make latents h into `M h`, M (n, n); see `ConvEncoder.change_axes`."""
        check_axes(self.space, M)
        axes = self.angles.axes
        assert isinstance(axes, Tensor)
        with torch.no_grad():
            axes.copy_(torch.from_numpy(M).to(axes) @ axes)


class LineAxes(nn.Module):
    """Latents (N, n) by `axes` (n, n): what `CircleAngles` is for spaces of lines."""

    axes: Tensor

    def __init__(self, space: LatentSpace) -> None:
        super().__init__()
        self.register_buffer("axes", torch.eye(space.dim))

    def forward(self, outputs: Tensor) -> Tensor:
        """Latents (N, n)."""
        return outputs @ self.axes.T


def new_network(source: str, space: Sequence[str], size: int, width: int, hidden: int) -> ConvEncoder | ForeignNetwork:
    """A network to train: `conv` (ours), `timm:NAME`, or `module:factory`.

    A factory is called with the number of its outputs: n, and one more for each circle.

    Raises InvalidInput if it cannot be made, or gives other outputs.
    """
    if source == CONV:
        return ConvEncoder(len(space), width, hidden, space=space, size=size)
    found = LatentSpace(*space)
    outputs = found.dim + int(found.circles.sum())
    network = ForeignNetwork(_made(source, outputs, size), source, space, size)
    given = check_outputs(network, size)
    if given.shape[1] != outputs:
        raise InvalidInput(f"{source} gives {given.shape[1]} outputs, needed are {outputs}")
    return network


def saved_network(config: dict[str, Any]) -> ConvEncoder | ForeignNetwork:
    """A network as its card describes it, without its weights.

    Raises InvalidInput if its code cannot be imported, and TypeError or KeyError for a card that is none.
    """
    if "source" not in config:
        return ConvEncoder(**config)
    source, space, ready = config["source"], config["space"], config["ready"]
    if ready:
        body = module_at(source)
    else:
        found = LatentSpace(*space)
        body = _made(source, found.dim + int(found.circles.sum()), config["size"])
    return ForeignNetwork(body, source, space, config["size"], config["mean"], config["std"], ready)


def is_code(config: Any) -> bool:
    """Whether making the network of a card runs code that the card names."""
    source = config.get("source", "") if isinstance(config, dict) else ""
    return bool(source) and not str(source).startswith(TIMM)


def ready_network(
    module: nn.Module,
    size: int = FRAME_SIZE,
    mean: Any = 0.5,
    std: Any = 1.0,
    space: Sequence[str] | None = None,
    source: str = "",
) -> ForeignNetwork:
    """A trained module that gives latents, as a network; its weights are copied.

    Raises InvalidInput if it does not map (N, 3, S, S) to (N, n), or `space` has another n.
    """
    if not isinstance(module, nn.Module):
        raise InvalidInput(f"this is no torch.nn.Module, but {type(module).__name__}; the form is {FORM}")
    body = copy.deepcopy(module).eval()
    network = ForeignNetwork(body, source, space or ("line",), size, mean, std, ready=True)
    n = check_outputs(network, size).shape[1]
    network = ForeignNetwork(body, source, space or ("line",) * n, size, mean, std, ready=True)
    if network.space.dim != n:
        raise InvalidInput(f"the module gives latents of {n}, the space has {network.space.dim} coordinates")
    return network


def check_outputs(network: ConvEncoder | ForeignNetwork, size: int) -> Tensor:
    """Outputs of two black frames of `size` pixels a side. Raises InvalidInput unless they are (2, k) floats."""
    training = network.training
    network.eval()  # two frames are no statistics
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            given = network.to(device).outputs(torch.full((2, 3, size, size), -0.5, device=device))
    except Exception as error:  # whatever a module of the user's raises
        raise InvalidInput(f"the module takes no frames (2, 3, {size}, {size}): {error}") from error
    network.train(training)
    if not isinstance(given, Tensor) or given.ndim != 2 or len(given) != 2 or not given.is_floating_point():
        shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise InvalidInput(f"the module must map 2 frames to floats (2, n), it gave {shape}; end it with a head")
    return given


def _made(source: str, outputs: int, size: int) -> nn.Module:
    if source.startswith(TIMM):
        return _from_timm(source.removeprefix(TIMM), outputs, size)
    factory = named_object(source, FORM)
    try:
        module = factory(outputs)
    except TypeError as error:
        raise InvalidInput(f"{source} is no function of the number of outputs ({error})") from error
    return _module_of(module, source)


def module_at(source: str) -> nn.Module:
    """The module at an import path, or what a function without arguments gives there.

    Raises InvalidInput if there is none.
    """
    return _module_of(named_object(source, FORM), source)


def _module_of(found: Any, source: str) -> nn.Module:
    """A module, or what a function without arguments gives."""
    if callable(found) and not isinstance(found, nn.Module):
        try:
            found = found()
        except TypeError as error:
            raise InvalidInput(f"{source} is no function without arguments ({error}); the form is {FORM}") from error
    if not isinstance(found, nn.Module):
        raise InvalidInput(f"{source} gives {type(found).__name__}; the form is {FORM}")
    return found


def _from_timm(name: str, outputs: int, size: int) -> nn.Module:
    try:
        timm = _timm()
    except (ImportError, RuntimeError) as error:
        raise InvalidInput(
            f"timm cannot be imported ({error}); run: pip install timm, with the torchvision of your torch"
        ) from error
    if name not in timm.list_models():
        raise InvalidInput(f"timm has no model {name!r}; timm.list_models() names them")
    # Transformers are built for one size of frames, and take others if asked to. Convolutions take any.
    for options in ({"img_size": size, "dynamic_img_size": True}, {"img_size": size}):
        try:
            module: nn.Module = timm.create_model(name, pretrained=False, num_classes=outputs, **options)
        except TypeError:
            continue
        return module
    found: nn.Module = timm.create_model(name, pretrained=False, num_classes=outputs)
    return found


_UNKNOWN = re.compile(r"operator torchvision::(\w+) does not exist")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _timm() -> Any:
    """The module timm, also where torchvision was built for CUDA and torch was not.

    Its compiled operators cannot be loaded there, so importing it ends at the first that it describes. timm needs the
    Python part alone: it is enough to declare the operators by name.
    """
    for _ in range(10):
        try:
            return importlib.import_module("timm")
        except RuntimeError as error:
            unknown = _UNKNOWN.search(str(error))
            if unknown is None:
                raise
            _operators().define(unknown[1] + _SCHEMA)
    return importlib.import_module("timm")


@functools.cache
def _operators() -> torch.library.Library:
    """What declares operators of torchvision; they live as long as it does."""
    return torch.library.Library("torchvision", "FRAGMENT")
