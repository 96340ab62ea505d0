"""Whether an encoder has seen frames like these, by the statistics that its training left in its BatchNorm layers."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from worldplan.arrays import Floats, Frames
from worldplan.errors import UnfamiliarGoal
from worldplan.learning.encoder import PixelEncoder, check_frames
from worldplan.learning.network import ConvEncoder, to_input

LAYERS = 3  # the first ones, which see colours, edges and parts; later ones also differ between familiar poses
# Frames of their worlds reach .23 with the shipped encoders; black or white images, noise and frames of another world
# start at .55 (tests/learning/test_familiarity.py).
UNLIKE = 0.4


def unlikeness(encoder: Any, frames: Frames) -> Floats | None:
    """How far frames (T, S, S, 3) are from those of the training, (T,); above `UNLIKE` they show something else.

    For each of the first three BatchNorm layers: the distance of a frame's mean activations from the running means, in
    running deviations (root mean square over channels). The largest of the three counts. Returns None for encoders
    without such layers of ours.
    """
    network = encoder.trained if isinstance(encoder, PixelEncoder) else None
    if not isinstance(network, ConvEncoder):
        return None
    found: list[torch.Tensor] = []
    with torch.no_grad():
        x = to_input(torch.from_numpy(check_frames(frames, encoder.size).copy()))
        for layer in network.trunk:
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                apart = x.mean(dim=(2, 3)) - layer.running_mean
                found.append((apart.square() / (layer.running_var + layer.eps)).mean(dim=1).sqrt())
                if len(found) == LAYERS:
                    break
            x = layer(x)
    distances: Floats = torch.stack(found).amax(dim=0).double().numpy()
    return distances


def warn_unfamiliar(encoder: Any, goal: Frames) -> None:
    """Warn (UnfamiliarGoal) if a goal (S, S, 3) is unlike everything that the encoder was trained on."""
    found = unlikeness(encoder, goal[None])
    if found is not None and found[0] > UNLIKE:
        warnings.warn(
            f"this goal image is unlike everything that the encoder was trained on ({found[0]:.2g}; its world "
            f"stays below {UNLIKE:g}): where it leads is chance. Take a goal as the camera of this world shows it",
            UnfamiliarGoal,
            stacklevel=3,
        )
