"""Networks of the laboratory, and how many of one shape compute at once (`torch.func`)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

Parameters = dict[str, Tensor]  # by name, each (M, ...)
Forward = Callable[[Parameters, Tensor], Tensor]  # parameters and inputs (M, ..., d) -> outputs (M, ..., n)


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network with initial weights of its own seed; torch's global generator is as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def mlp(inputs: int, outputs: int, *, width: int = 256, depth: int = 4, seed: int = 0) -> nn.Module:
    """`depth` layers of `width` GELU units, then a linear one."""

    def make() -> nn.Module:
        sizes = [inputs, *[width] * depth]
        layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.GELU())]
        return nn.Sequential(*layers, nn.Linear(width, outputs))

    return seeded(make, seed)


class Coupling(nn.Module):
    """Affine coupling layers, which are invertible: half of the coordinates scale and shift the other half.

    RealNVP (Dinh, Sohl-Dickstein and Bengio 2017, arXiv 1605.08803): `y_b = x_b exp(s(x_a)) + t(x_a)`, halves in turn.
    Scale and shift come from one hidden layer of tanh units; tanh bounds s. `inverse` gives layers of the form that
    undoes such a mixing: `x_b = (y_b - t(y_a)) exp(-s(y_a))`, last layer first. `strength` scales the weights of s and
    t: at 0 the network is affine.
    """

    def __init__(
        self, n: int, layers: int, hidden: int, strength: float = 1.0, *, inverse: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        self.cut, self.inverse = n // 2, inverse
        sizes = [(n // 2, n - n // 2), (n - n // 2, n // 2)]

        def make() -> nn.Module:
            parts = []
            for k in range(layers):
                a, b = sizes[k % 2]
                linear = nn.Linear(a, hidden), nn.Linear(hidden, 2 * b)
                for layer, scale in zip(linear, (1.0, strength), strict=True):
                    nn.init.normal_(layer.weight, std=scale / layer.in_features**0.5)
                parts.append(nn.Sequential(linear[0], nn.Tanh(), linear[1]))
            return nn.ModuleList(parts)

        self.layers = seeded(make, seed)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (..., n) of inputs (..., n)."""
        first, second = x[..., : self.cut], x[..., self.cut :]
        order = list(enumerate(self.layers.children()))
        for k, layer in reversed(order) if self.inverse else order:
            known, other = (first, second) if k % 2 == 0 else (second, first)
            scale, shift = layer(known).chunk(2, dim=-1)
            scale = scale.tanh()
            other = (other - shift) * (-scale).exp() if self.inverse else other * scale.exp() + shift
            first, second = (known, other) if k % 2 == 0 else (other, known)
        return torch.cat([first, second], dim=-1)


def stacked(networks: Sequence[nn.Module]) -> tuple[Forward, Parameters]:
    """A function that computes all M networks of one shape at once, and their parameters, stacked."""
    parameters, _ = stack_module_state(list(networks))
    skeleton = copy.deepcopy(networks[0]).to("meta")

    def one(own: Parameters, x: Tensor) -> Tensor:
        outputs: Tensor = functional_call(skeleton, own, (x,))
        return outputs

    at_once = torch.vmap(one)

    def forward(parameters: Parameters, x: Tensor) -> Tensor:
        # Of rows that are not contiguous PyTorch multiplies each by a copy of the weights.
        return at_once(parameters, x.contiguous())

    return forward, parameters
