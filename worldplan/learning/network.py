"""The convolutional network behind the pixel encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worldplan.arrays import Floats
from worldplan.data.world_card import FRAME_SIZE
from worldplan.errors import InvalidInput
from worldplan.planning.space import LatentSpace

SIZES = 32, 224  # the least and the most
_SMALLEST_MAP = 4  # pixels a side of what the head sees, or more


class ConvEncoder(nn.Module):
    """Strided convolutions down to a map of 4 to 7 pixels a side, a 1 x 1 one to 2w channels, a head on this map.

    For 64 pixels these are four convolutions, of w, 2w, 4w and 8w channels; further ones have 8w. Each is followed by
    BatchNorm and GELU. The map is flattened, not averaged: for an arm, position *is* the state. BatchNorm keeps runs
    from collapsing (Klindt, LeCun and Balestriero 2026: 36% did without it). `latent_dim`, `width` w and `hidden` are
    those of `TrainingOptions`. `space` holds the kinds of the latent's coordinates, as of `LatentSpace`; None is all
    lines. The head has one output more for each circle: the angle of a circle is that of a point in the plane. `size`
    is that of the frames, pixels a side.

    Raises:
        InvalidInput: a size below 1, a space of another width than the latent, or frames too small or too large.
    """

    def __init__(
        self,
        latent_dim: int = 2,
        width: int = 16,
        hidden: int = 256,
        space: Sequence[str] | None = None,
        size: int = FRAME_SIZE,
    ) -> None:
        super().__init__()
        if min(latent_dim, width, hidden) < 1:
            raise InvalidInput(f"sizes must be at least 1, got {latent_dim}, {width}, {hidden}")
        if not SIZES[0] <= size <= SIZES[1]:
            raise InvalidInput(f"the network takes frames of {SIZES[0]} to {SIZES[1]} pixels a side, got {size}")
        self.size = size
        self.space = LatentSpace.lines(latent_dim) if space is None else LatentSpace(*space)
        if self.space.dim != latent_dim:
            raise InvalidInput(f"a latent of {latent_dim} cannot lie in {self.space!r}, which has {self.space.dim}")
        self.config: dict[str, Any] = {"latent_dim": latent_dim, "width": width, "hidden": hidden}
        if not self.space.flat:
            self.config["space"] = list(self.space.kinds)
        if size != FRAME_SIZE:
            self.config["size"] = size
        layers: list[nn.Module] = []
        channels, side = 3, size
        while side >= 2 * _SMALLEST_MAP:
            k, side = min(len(layers) // 3, 3), side // 2
            layers += [
                nn.Conv2d(channels, width << k, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width << k),
                nn.GELU(),
            ]
            channels = width << k
        layers += [nn.Conv2d(channels, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width), nn.GELU()]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * width * side**2, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.GELU(),
            nn.Linear(hidden, latent_dim + int(self.space.circles.sum())),
        )
        self.angles = nn.Identity() if self.space.flat else CircleAngles(self.space)

    def outputs(self, frames: Tensor) -> Tensor:
        """Outputs (N, n + k) of the head: the n coordinates, cosines for the k circles, and then their sines."""
        return self.head(self.trunk(frames))  # type: ignore[no-any-return]

    def forward(self, frames: Tensor) -> Tensor:
        """Embed frames (N, 3, S, S), already scaled to [-.5, .5], as (N, n)."""
        return self.angles(self.outputs(frames))  # type: ignore[no-any-return]

    @torch.no_grad()
    def change_axes(self, M: Floats) -> None:
        """Make latents h into `M h`, M (n, n).

        Lines may be mixed, and added to circles. Raises InvalidInput if M scales or mixes circles, or adds them to
        lines: that is no map of the space.
        """
        check_axes(self.space, M)
        change = torch.from_numpy(M)
        if isinstance(self.angles, CircleAngles):
            axes = self.angles.axes
            axes.copy_(change.to(axes) @ axes)
            return
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        for tensor in (last.weight, last.bias):
            tensor.copy_(change.to(tensor) @ tensor)


def check_axes(space: LatentSpace, M: Floats) -> None:
    """Raise InvalidInput if the matrix M scales or mixes circles, or adds them to lines."""
    around = space.circles
    if M.shape != 2 * (space.dim,) or not np.allclose(M[:, around], np.eye(space.dim)[:, around]):
        raise InvalidInput(f"these axes do not keep the circles of {space!r}: {M}")


class CircleAngles(nn.Module):
    """Outputs (N, n + k) of a head to latents (N, n): the angle of (cosine, sine) for each of the k circles.

    `axes` (n, n) is applied last; see `ConvEncoder.change_axes`.
    """

    axes: Tensor

    def __init__(self, space: LatentSpace) -> None:
        super().__init__()
        self.space, self.circles = space, np.flatnonzero(space.circles).tolist()
        self.register_buffer("axes", torch.eye(space.dim))

    def planes(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The cosines and sines of the circles, (N, k) each, up to a common length."""
        k = len(self.circles)
        return outputs[..., self.circles], outputs[..., -k:]

    def forward(self, outputs: Tensor) -> Tensor:
        """Latents (N, n), circles in [-pi, pi]."""
        cosines, sines = self.planes(outputs)
        latents = outputs[..., : -len(self.circles)].clone()
        latents[..., self.circles] = torch.atan2(sines, cosines)
        latents = latents @ self.axes.T
        latents[..., self.circles] = torch.remainder(latents[..., self.circles] + math.pi, 2 * math.pi) - math.pi
        return latents

    def in_numpy(self, outputs: NDArray[np.float32]) -> Floats:
        """The same in NumPy, of outputs (N, n + k): for one frame, torch takes five times as long."""
        around, n = self.space.circles, self.space.dim
        latents = outputs[:, :n].copy()
        latents[:, around] = np.arctan2(outputs[:, n:], latents[:, around])
        return self.space.wrap(latents.dot(self.axes.numpy().T))  # in float64 from here on


class MirrorOdd(nn.Module):
    """`(net(x) - net(x upside down)) / 2`: an odd map, for scenes in which the mirror image shows the state -z.

    Where `net(x) = Q z + b`, this is `Q z`: the offset cancels. Errors that the two images do not share are averaged.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, frames: Tensor) -> Tensor:
        """Embed frames (N, 3, S, S) as (N, n)."""
        upright, mirrored = self.net(torch.cat([frames, frames.flip(2)])).chunk(2)
        return (upright - mirrored) / 2  # type: ignore[no-any-return]


def to_input(frames: Tensor) -> Tensor:
    """Uint8 frames (N, S, S, 3) as network input (N, 3, S, S), float32 in [-.5, .5], channels last in memory."""
    # To float first: to divide whole numbers gives the same floats, and takes five times as long.
    return frames.permute(0, 3, 1, 2).float().div_(255.0).sub_(0.5)
