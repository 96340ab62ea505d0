"""A frozen or trainable encoder as a features extractor of Stable-Baselines3."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from worldplan.errors import InvalidInput
from worldplan.learning.encoder import PixelEncoder, load_encoder
from worldplan.learning.network import MirrorOdd


class LeJEPAExtractor(BaseFeaturesExtractor):
    """Latents of the frames, for any algorithm of SB3: `policy_kwargs={"features_extractor_class": LeJEPAExtractor}`.

    Frames become latents, lines as they are and circles by cosine and sine. Frames stacked along the channels become
    one latent each. In a dictionary every frame is encoded, and vectors are appended as they are. Both channel orders
    are taken, in [0, 1] as SB3 scales them or in [0, 255].

    SB3 draws the weights of extractors anew (`ortho_init`); those of the encoder stay as they were trained.

    Args:
        observation_space: frames `Box` uint8, or a `Dict` of such frames and vectors.
        encoder: an encoder, or a name that `load_encoder` takes.
        trainable: whether the policy's gradient trains the encoder on; its BatchNorm layers keep their statistics.

    Raises:
        InvalidInput: frames of another size than the encoder's, or no frame at all.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        encoder: PixelEncoder | str | Path = "reacher",
        trainable: bool = False,
    ) -> None:
        found = encoder if isinstance(encoder, PixelEncoder) else load_encoder(encoder)
        parts = (
            dict(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else {"": observation_space}
        )
        frames = {name: _frames(space, found.size) for name, space in parts.items()}
        if not any(frames.values()):
            raise InvalidInput(f"the encoder takes frames of {found.size} pixels a side, got {observation_space}")
        one = found.latent_dim + int(found.space.circles.sum())
        widths = [one * frames[name] or spaces.flatdim(space) for name, space in parts.items()]
        super().__init__(observation_space, sum(widths))
        trained = MirrorOdd(found.trained) if found.card.get("mirror") else found.trained
        network = copy.deepcopy(trained if trainable else found.network)
        # Weights in the usual memory order: optimisers and SB3 look at them as vectors.
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.encoder = _Pretrained(network.requires_grad_(trainable))
        self._frames, self._size = frames, found.size
        self._circles = torch.from_numpy(found.space.circles.copy())

    def forward(self, observations: Any) -> Tensor:
        """Features (N, `features_dim`) of observations, a tensor or a dictionary of them."""
        given = observations if isinstance(observations, dict) else {"": observations}
        return torch.cat([self._part(given[name], count) for name, count in self._frames.items()], dim=1)

    def _part(self, value: Tensor, count: int) -> Tensor:
        if not count:
            return value.flatten(1).float()
        frames = value.float()
        if frames.shape[1] != 3 * count:
            frames = frames.permute(0, 3, 1, 2)
        frames = frames / 255.0 if frames.numel() and float(frames.detach().max()) > 1.0 else frames
        latents: Tensor = self.encoder(frames.reshape(-1, 3, self._size, self._size) - 0.5)
        around = latents[:, self._circles]
        lines = torch.where(self._circles.to(latents.device), latents.cos(), latents)
        return torch.cat([lines, around.sin()], dim=1).reshape(len(value), -1)


class _Pretrained(nn.Module):
    """A network whose weights nobody draws anew, and that stays in evaluation mode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, frames: Tensor) -> Tensor:
        return self.network(frames)  # type: ignore[no-any-return]

    def apply(self, fn: Callable[[nn.Module], None]) -> _Pretrained:
        """Leave the weights alone: SB3 draws those of every layer that it finds."""
        return self

    def train(self, mode: bool = True) -> _Pretrained:
        """Stay in evaluation mode."""
        return self


def _frames(space: Any, size: int) -> int:
    """How many frames of this size lie in a space, stacked along the channels; 0 for a vector."""
    shape = space.shape if isinstance(space, spaces.Box) else ()
    if len(shape) != 3:
        return 0
    channels = shape[0] if shape[1:] == (size, size) else shape[2] if shape[:2] == (size, size) else 1
    if channels % 3:
        raise InvalidInput(f"the encoder takes frames (3, {size}, {size}) or ({size}, {size}, 3), got {shape}")
    return int(channels // 3)
