"""How an ensemble moves in a step: AdamW, or Muon for matrices of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

Method = Literal["adamw", "muon", "l-bfgs"]
MOMENTUM = 0.95  # of Muon
REST = 0.3  # learning rate of what is no matrix, over that of the matrices


class Optimiser(Protocol):
    """Moves parameters that hold their gradient."""

    def step(self, rate: float) -> None:
        """Move at a learning rate."""


class AdamW:
    """Parameters (M, P), one row a member: a few operations, whatever the number of layers."""

    def __init__(self, leaves: Sequence[Tensor], decay: float, *, fused: bool = True) -> None:
        self.optimiser = torch.optim.AdamW(leaves, weight_decay=decay, fused=fused)

    def step(self, rate: float) -> None:
        """Move at a learning rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()


class Muon:
    """Momentum made orthogonal: a matrix of weights moves by one length in all its directions.

    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". The rest moves by AdamW. torch's own
    Muon takes single matrices, in bfloat16; this one takes those of all members.

    Args:
        flat: parameters (M, P), moved in place; its gradient is kept in one place from here on.
        shapes: of each parameter, whose sizes sum to P.
        decay: weight decay of what AdamW moves.
    """

    def __init__(self, flat: Tensor, shapes: Sequence[torch.Size], decay: float) -> None:
        flat.grad = torch.zeros_like(flat)
        sizes = [shape.numel() for shape in shapes]
        self.matrices: list[tuple[Tensor, Tensor, Tensor]] = []  # weights, gradient, momentum: (M, out, in)
        rest = []
        pieces = zip(shapes, flat.detach().split(sizes, dim=1), flat.grad.split(sizes, dim=1), strict=True)
        for shape, value, gradient in pieces:
            if len(shape) == 2:
                weights = value.unflatten(1, shape)
                self.matrices.append((weights, gradient.unflatten(1, shape), torch.zeros_like(weights)))
            else:
                value.grad = gradient
                rest.append(value)
        self.rest = AdamW(rest, decay, fused=False)

    def step(self, rate: float) -> None:
        """Move at a learning rate."""
        self.rest.step(REST * rate)
        for weights, gradient, momentum in self.matrices:
            momentum.lerp_(gradient, 1 - MOMENTUM)
            rows, columns = weights.shape[1:]
            length = rate * max(1.0, rows / columns) ** 0.5
            weights.sub_(orthogonal(gradient.lerp(momentum, MOMENTUM)), alpha=length)


def orthogonal(matrices: Tensor) -> Tensor:
    """About `U V'` of matrices (M, out, in) with singular values `U S V'`: theirs lie between .6 and 1.3.

    Five Newton-Schulz iterations of Jordan et al. 2024, with the coefficients given there.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    found: Tensor = x.mT if tall else x
    return found
