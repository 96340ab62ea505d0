"""The frozen pixel encoder: frames in, latents out; stored as safetensors and JSON, checked by SHA-256."""

from __future__ import annotations

import copy
import os
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from worldplan.arrays import Floats, Frames, all_finite, finite_array
from worldplan.data.cards import ZOO, Cards
from worldplan.data.hub import is_address
from worldplan.data.world_card import FRAME_SIZE, world_of
from worldplan.errors import BadFile, InvalidInput, RuntimeFellBack
from worldplan.learning.foreign import ForeignNetwork, is_code, module_at, ready_network, saved_network
from worldplan.learning.network import SIZES, ConvEncoder, MirrorOdd, to_input
from worldplan.learning.runtime import OnnxNetwork
from worldplan.named import code_trusted, named_object
from worldplan.planning.space import LatentSpace
from worldplan.provenance import pinned

CARDS = Cards(
    "encoder",
    ZOO / "encoders",
    "encoder.json",
    "encoder.safetensors",
    {"format": 1},
    "fetch or train it again",
)
Network = ConvEncoder | ForeignNetwork
CODE = "module:object, such as mynets:make, an encoder, a torch.nn.Module, or a function that gives one"
_INTEGER = (int, np.integer)
_BATCH = 256  # frames a forward pass: bounds memory


def known_encoders(world: str | None = None) -> list[str]:
    """Names of the encoders that ship with worldplan; those of one world, or of all."""
    names = CARDS.known()
    return names if world is None else [name for name in names if _world_name(name) == world]


def _world_name(name: str) -> str | None:
    """The world that a shipped encoder was trained in."""
    card = world_of(CARDS.read(CARDS.find(name)))
    return None if card is None else card.name


class Encoder(Protocol):
    """Any map of frames to latents."""

    latent_dim: int

    def __call__(self, frames: NDArray[np.uint8]) -> Floats:
        """Frames (T, S, S, 3) uint8 to latents (T, n)."""
        ...


class PixelEncoder:
    """A frozen encoder, `uint8 (T, S, S, 3) -> float64 (T, n)`; `card` records how it was made, `size` is S.

    In its training world, the output is the true state up to a rotation, a scale per world and an offset (Theorem 1 of
    Klindt, LeCun and Balestriero 2026, arXiv 2605.26379).

    `runtime` is what computes the latents: `onnxruntime` for networks of worldplan, `torch` for those of your own, and
    where ONNX Runtime is missing or disagrees (warning RuntimeFellBack).
    """

    def __init__(self, network: Network, card: dict[str, Any], name: str = "encoder") -> None:
        self.latent_dim: int = network.config["latent_dim"]
        self.space, self.size = network.space, network.size
        if card.get("mirror") and not self.space.flat:
            raise InvalidInput("averaging over the mirror image is for latents of lines; train without --mirror")
        self.card = card
        self.name = name
        self._trained = copy.deepcopy(network).eval()  # frozen: whoever goes on training does not change it
        if isinstance(self._trained, ForeignNetwork):
            fused: nn.Module = self._trained.requires_grad_(False)
        else:
            fused = _fuse(self._trained.cpu())
        self._network = MirrorOdd(fused) if card.get("mirror") else fused
        self._compile()

    def _compile(self) -> None:
        """Take ONNX Runtime for a network of ours, if it computes here what torch does."""
        self._onnx, self.runtime = None, "torch"
        if isinstance(self._trained, ForeignNetwork):
            return
        try:
            self._onnx, self.runtime = OnnxNetwork(self._network, self.size), "onnxruntime"
        except Exception as error:  # those of ONNX Runtime have no root of their own
            warnings.warn(f"torch computes the encoder {self.name!r}, slower ({error})", RuntimeFellBack, stacklevel=3)

    def __getstate__(self) -> dict[str, Any]:
        """All but the session, which belongs to this process: copies make their own, and check it again."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_onnx", "runtime")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._compile()

    @property
    def network(self) -> nn.Module:
        """The bare inference network on (N, 3, S, S) float32, the reference for timings."""
        return self._network

    @property
    def trained(self) -> Network:
        """The network as it was trained, in evaluation mode, with its BatchNorm layers."""
        return self._trained

    def __call__(self, frames: Frames) -> Floats:
        """Latents (T, n) or (n,) of uint8 frames, (T, S, S, 3) or one (S, S, 3); channels last, T > 0.

        Raises InvalidInput for another dtype, layout or size, an empty batch, or weights whose latents are not finite.
        """
        frames = check_frames(frames, self.size)
        single = frames.ndim == 3
        frames = frames[None] if single else frames
        latents = self._torch(frames) if self._onnx is None else self._onnx(frames)
        if not all_finite(latents):
            raise InvalidInput(f"{self.name!r} gives latents that are not finite: its weights are; train it again")
        return latents[0] if single else latents

    def _torch(self, frames: Frames) -> Floats:
        flags = frames.flags  # torch takes neither negative strides nor read-only memory
        batch = torch.from_numpy(frames if flags.c_contiguous and flags.writeable else frames.copy(order="C"))
        # No weight asks for a gradient, so none is recorded.
        latents = torch.cat([self._network(to_input(part)) for part in batch.split(_BATCH)])
        return latents.cpu().numpy().astype(np.float64)

    def __repr__(self) -> str:
        world = world_of(self.card)
        where = "" if world is None else f", world {world.name!r}"
        return f"PixelEncoder({self.name!r}, frames {self.size} x {self.size}, {self.space!r}{where}, {self.runtime})"

    def save(self, folder: Path | str) -> str:
        """Write this encoder to `folder`, for `load_encoder`; returns the SHA-256 of the weights."""
        return save_encoder(self._trained, folder, self.card)


def check_frames(frames: Any, size: int = FRAME_SIZE) -> NDArray[np.uint8]:
    """Frames as an array. Raises InvalidInput unless they are uint8, (T, S, S, 3) or (S, S, 3) with S = size, T > 0."""
    try:
        array: NDArray[Any] = np.asarray(frames)
    except ValueError as error:
        raise InvalidInput(f"frames must all have the same shape ({error})") from error
    shape, frame = array.shape, (size, size, 3)
    if array.size == 0:
        raise InvalidInput("got an empty batch of frames; pass at least one")
    if array.dtype != np.uint8:
        raise InvalidInput(f"frames must be uint8 in 0..255, got {_described(array)}")
    if shape[-3:] == (3, size, size):
        raise InvalidInput(
            f"frames must be channels last (..., {size}, {size}, 3), got {shape}; use np.moveaxis(f, -3, -1)"
        )
    if array.ndim not in (3, 4) or shape[-3:] != frame:
        raise InvalidInput(
            f"frames must be (T, {size}, {size}, 3) or {frame}, got {shape}; resize to {size} x {size} RGB"
        )
    return array


def _described(array: NDArray[Any]) -> str:
    """What frames of another type hold, and how to make uint8 in 0..255 of them."""
    if array.dtype.kind not in "biuf":
        return f"{array.dtype}; pass numbers"
    if not np.isfinite(array).all():
        return f"{array.dtype} that holds NaN or infinity; find out where they come from"
    low, high = float(array.min()), float(array.max())
    told = f"{array.dtype} from {low:.3g} to {high:.3g}"
    if array.dtype.kind == "f" and low < 0.0:
        return f"{told}; undo the normalisation, (f * std + mean) * 255, and then convert with .astype(np.uint8)"
    if low < 0.0 or high > 255.0:
        return f"{told}; scale them to 0..255 first"
    if high <= 1.0:  # a cast alone makes black frames of them
        return f"{told}; convert with (255 * f).round().astype(np.uint8)"
    return f"{told}; convert with .astype(np.uint8)"


def encode(encoder: Encoder, frames: Frames, *, twice: bool = False) -> Floats:
    """Latents (T, n) of frames, from any encoder, checked.

    Args:
        encoder: a callable on frames with an integer `latent_dim`.
        frames: (T, S, S, 3) uint8.
        twice: encode the frames again, and compare.

    Raises:
        InvalidInput: no encoder, latents that are not (T, latent_dim) or not finite, or a second answer that differs.
    """
    n = latent_dim_of(encoder)
    latents = finite_array("the encoder's output", encoder(frames))
    if latents.shape != (len(frames), n):
        raise InvalidInput(f"the encoder must give latents ({len(frames)}, {n}), got {latents.shape}")
    if twice and not np.array_equal(latents, encoder(frames)):
        raise InvalidInput("the encoder is not deterministic: two calls on the same frames differ; put it in eval mode")
    return latents


def latent_dim_of(encoder: Any) -> int:
    """N of an encoder. Raises InvalidInput if it is none."""
    n = getattr(encoder, "latent_dim", None)
    if not callable(encoder) or isinstance(n, bool) or not isinstance(n, _INTEGER) or n < 1:
        raise InvalidInput(f"an encoder is a callable with an integer latent_dim >= 1, got {encoder!r}")
    return int(n)


def space_of(encoder: Any) -> LatentSpace:
    """The space of an encoder's latents: its `space`, or lines if it names none.

    Raises:
        InvalidInput: `space` is no `LatentSpace` of `latent_dim` coordinates.
    """
    space = getattr(encoder, "space", None)
    if space is None:
        return LatentSpace.lines(int(encoder.latent_dim))
    if not isinstance(space, LatentSpace) or space.dim != encoder.latent_dim:
        raise InvalidInput(f"an encoder's space is a LatentSpace of {encoder.latent_dim} coordinates, got {space!r}")
    return space


def load_encoder(name: str | Path, *, trust_code: bool = False) -> PixelEncoder:
    """Load an encoder that ships with worldplan, or one from a folder or the Hugging Face hub.

    Args:
        name: a shipped name (`known_encoders()`), a folder with `encoder.json` and `encoder.safetensors`, or an address
            `hf://OWNER/NAME@REVISION` of such a folder on the hub (extra `hub`; without a revision, its branch `main`).
        trust_code: a folder may hold the weights of a network of your own, and name the code that makes it. True lets
            that code run.

    Raises:
        UnknownName: neither a shipped name nor a folder.
        BadFile: a file is missing, truncated, altered, no safetensors file, or names code that is not trusted.
        HubError: the hub cannot be reached, or does not have it, for you or at all.
    """
    folder = CARDS.find(name)
    card = CARDS.read(folder)
    weights, path = CARDS.read_weights(folder, card), folder / CARDS.weights
    foreign = isinstance(card.get("network"), dict) and "source" in card["network"]
    if is_code(card.get("network")) and not (trust_code or code_trusted()):
        raise BadFile(
            folder / CARDS.card,
            f"is of a network that the code {card['network']['source']!r} makes, which would run; if you trust it, "
            "pass trust_code=True, or --trust-code",
        )
    try:
        tensors = load(weights)
        largest = max((size for value in tensors.values() for size in value.shape), default=0)
        sizes = {name: size for name, size in card["network"].items() if name != "size" or size > SIZES[1]}
        if not foreign and any(isinstance(size, int) and size > largest for size in sizes.values()):
            raise InvalidInput(f"they do not fit {card['network']}")
        with torch.device("cpu" if foreign else "meta"):  # sizes are a claim: no memory before the weights confirm it
            claimed = {name: value.shape for name, value in saved_network(card["network"]).state_dict().items()}
        if claimed != {name: value.shape for name, value in tensors.items()}:
            raise InvalidInput(f"they do not fit {card['network']}")
        network = saved_network(card["network"])
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, AttributeError, RuntimeError, InvalidInput) as error:
        raise BadFile(path, f"holds no weights of this network ({error}); train the encoder again") from error
    if not all(bool(v.isfinite().all()) for v in network.state_dict().values()):
        raise BadFile(path, "holds weights that are not finite; train the encoder again")
    return PixelEncoder(network, card, pinned(name))


def torch_encoder(
    module: nn.Module | str,
    *,
    size: int = FRAME_SIZE,
    mean: Any = 0.5,
    std: Any = 1.0,
    device: str = "cpu",
    space: LatentSpace | None = None,
    name: str = "torch",
) -> PixelEncoder:
    """An encoder of any torch.nn.Module that maps frames (N, 3, S, S) to latents (N, n).

    The module gets floats `(pixel / 255 - mean) / std`, channels first. It is copied, in evaluation mode. An agent with
    it can be saved if the module is named by its import path: the folder then holds the weights and that path, and to
    load it runs that code (`trust_code`).

    Args:
        module: the module, or `module:factory`, the import path of a module, or of a function without arguments that
            gives it.
        size: S, pixels a side.
        mean: what is taken from pixels in [0, 1], a number or one for each of 3 colours.
        std: what they are then divided by.
        device: where it runs, as torch names devices.
        space: space of the latents; lines by default. Circles are in radians.
        name: what tables call it.

    Raises:
        InvalidInput: it is no module, cannot be imported, takes no such frames, or gives other than (N, n) floats.
    """
    source = module if isinstance(module, str) else ""
    found: Any = module_at(source) if isinstance(module, str) else module
    if not (space is None or isinstance(space, LatentSpace)):
        raise InvalidInput(f"space is a LatentSpace, such as LatentSpace('line', 'line'), got {space!r}")
    network = ready_network(found, size, mean, std, None if space is None else space.kinds, source)
    try:
        network = network.to(device)
        if network.mean.is_meta:
            raise InvalidInput("a network on the device 'meta' has no weights")
    except (RuntimeError, AssertionError, TypeError) as error:  # torch: an unknown device, or one that is not there
        raise InvalidInput(f"device {device!r} cannot be used ({error})") from error
    return PixelEncoder(network, {"made": source or "of a module"}, name)


def find_encoder(name: str | Path) -> Encoder:
    """The encoder behind `--encoder`: what `load_encoder` takes, or `module:object`, of your own code.

    The object is an encoder, a torch.nn.Module that maps (N, 3, 64, 64) to (N, n) (see `torch_encoder`), or a function
    without arguments that gives one of them.

    Raises:
        InvalidInput: no such object, or no encoder.
        UnknownName, BadFile, HubError: those of `load_encoder`.
    """
    spec = str(name)
    if not isinstance(name, str) or ":" not in spec or os.path.isdir(spec) or is_address(name):
        return load_encoder(name)
    found: Any = named_object(spec, CODE)
    if isinstance(found, type):
        raise InvalidInput(f"{spec!r} is a class; name an object of it; the form is {CODE}")
    if callable(found) and not hasattr(found, "latent_dim") and not isinstance(found, nn.Module):
        try:
            found = found()
        except TypeError as error:
            raise InvalidInput(f"{spec} is no function without arguments ({error}); the form is {CODE}") from error
    if isinstance(found, nn.Module) and not hasattr(found, "latent_dim"):
        return torch_encoder(spec, name=spec)
    encoder: Encoder = found
    return encoder


def save_encoder(network: Network, folder: Path | str, card: dict[str, Any], half: bool = False) -> str:
    """Write weights, then the card with their SHA-256; returns that SHA-256.

    `card` is the provenance. `half` stores floating-point numbers as float16, which moves the latents by some 1e-3;
    loading gives float32. Raises InvalidInput for a module that has no import path: nobody could make it again.
    """
    if isinstance(network, ForeignNetwork) and not network.config["source"]:
        raise InvalidInput(
            "this encoder is a module without an import path; name the function that makes it, "
            "torch_encoder('mynets:make'), so that others can make it again"
        )
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    if half:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    written = CARDS.write(Path(folder), save(tensors), {**card, "network": network.config})
    return str(written["sha256"])


def _fuse(network: ConvEncoder) -> nn.Module:
    """A network in evaluation mode, with every BatchNorm folded into the layer before it."""
    layers = [*network.trunk, *network.head, *([] if network.space.flat else [network.angles])]
    fused: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            fused[-1] = fuse_conv_bn_eval(fused[-1], layer)  # type: ignore[type-var]
        elif isinstance(layer, nn.BatchNorm1d):
            fused[-1] = fuse_linear_bn_eval(fused[-1], layer)  # type: ignore[type-var]
        else:
            fused.append(layer)
    net = copy.deepcopy(nn.Sequential(*fused)).requires_grad_(False)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
