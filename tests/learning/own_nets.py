"""Networks of a user's own, which the tests name by import path."""

import torch
from torch import nn


class Small(nn.Module):
    """Convolutions, a view that needs contiguous memory, and a head of k outputs."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, 4, 4, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 4, 4), nn.ReLU()
        )
        self.last = nn.Linear(64, outputs)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(frames).view(len(frames), -1))


def make(outputs: int = 2) -> nn.Module:
    return Small(outputs)


def fixed() -> nn.Module:
    torch.manual_seed(0)
    return Small(2)


def many() -> nn.Module:
    return Small(5)


def pictures() -> nn.Module:
    return nn.Conv2d(3, 3, 1)


def nothing() -> int:
    return 3


module = fixed()


class Encoder:
    latent_dim = 2

    def __call__(self, frames):
        return frames[:, :2, 0, 0].astype(float)


encoder = Encoder()
