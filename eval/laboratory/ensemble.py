"""Train many small encoders of one shape at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from worldplan.arrays import Floats
from worldplan.errors import EncoderCollapsed, InvalidInput
from worldplan.eval.laboratory.networks import Forward, Parameters, stacked
from worldplan.eval.laboratory.worlds import Mixing, Source
from worldplan.learning.excitation import Excitation
from worldplan.learning.gaussianity import TESTS, unit_directions
from worldplan.learning.objectives import InfoNCE, alignment, objective_from_dict

LARGEST_GRADIENT = 1.0  # norm to which a member's gradient is clipped (Klindt, LeCun and Balestriero 2026)


@dataclass(frozen=True)
class Training:
    """How encoders are trained: AdamW, linear warm-up, then half a cosine down to 0.

    Args:
        steps: batches.
        batch: pairs of a batch.
        rate: largest learning rate.
        warmup: share of the steps over which the rate grows.
        decay: weight decay.
    """

    steps: int = 4000
    batch: int = 256
    rate: float = 3e-3
    warmup: float = 0.1
    decay: float = 1e-4

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, from 0."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.rate * (step + 1) / rising
        return self.rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, self.steps - rising)))


class Ensemble:
    """M trained encoders of one shape.

    Attributes:
        losses: (M, 3) means over the last tenth of the steps: loss, alignment, and regulariser; NaN without steps.
    """

    def __init__(self, forward: Forward, parameters: Parameters, losses: Floats) -> None:
        self.forward, self.parameters, self.losses = forward, parameters, losses

    def __len__(self) -> int:
        """M."""
        return len(self.losses)

    def encoder(self, member: int) -> Callable[[Tensor], Tensor]:
        """One encoder: embeddings (N, m) of observations (N, d), in float64."""
        own = {name: value[member : member + 1].double() for name, value in self.parameters.items()}

        def encode(x: Tensor) -> Tensor:
            with torch.no_grad():
                return self.forward(own, x.double()[None])[0]

        return encode


def train(
    networks: Sequence[nn.Module],
    source: Source,
    mixing: Mixing,
    objectives: Sequence[Mapping[str, Any]],
    training: Training,
    generators: Sequence[torch.Generator],
    watch: Callable[[int, Parameters], None] | None = None,
    actions: Callable[[Tensor], Tensor] | None = None,
) -> Ensemble:
    """Train M encoders at once, each on its own pairs and by its own weight.

    A member's result does not depend on the others, up to rounding: each has its own generator, initial weights and
    clipped gradient.

    Args:
        networks: M networks of one shape.
        source: pairs of latents.
        mixing: what the encoders see of them.
        objectives: name and options of each member's objective; only `weight` and `sigma` may differ.
        training: steps, batch, learning rate.
        generators: of M members, for the directions of SIGReg.
        watch: is shown the number of steps done, and the parameters, before each step.
        actions: what moved latents (M, B, 2, n) from the first view to the second, (M, B, p), for the objective
            `excitation`.

    Raises:
        InvalidInput: objectives that differ in more than weight or width.
        EncoderCollapsed: a loss that is not finite.
    """
    forward, parameters = stacked(networks)
    loss = _Loss(objectives)
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    optimiser = torch.optim.AdamW(leaves.values(), lr=training.rate, weight_decay=training.decay, fused=True)
    kept = []
    for step in range(training.steps):
        if watch is not None:
            watch(step, {name: value.detach() for name, value in leaves.items()})
        for group in optimiser.param_groups:
            group["lr"] = training.rate_at(step)
        z = source.draw(training.batch)
        terms = loss(forward(leaves, mixing(z)), generators, None if actions is None else actions(z))
        optimiser.zero_grad()
        terms[:, 0].sum().backward()
        clip(list(leaves.values()))
        optimiser.step()
        if step >= training.steps - max(1, training.steps // 10):
            kept.append(terms.detach())
    losses = torch.stack(kept).mean(dim=0).double().numpy() if kept else np.full((len(networks), 3), np.nan)
    if kept and not np.isfinite(losses).all():
        raise EncoderCollapsed("a loss of the laboratory is not finite; lower the learning rate")
    return Ensemble(forward, {name: value.detach() for name, value in leaves.items()}, losses)


def clip(leaves: Sequence[Tensor]) -> None:
    """Scale each member's gradient to a norm of at most `LARGEST_GRADIENT`."""
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    squares = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients]).sum(dim=0)
    factor = (LARGEST_GRADIENT / squares.sqrt().clamp_min(1e-12)).clamp_max(1.0)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))


class _Loss:
    """Loss, alignment and regulariser (M, 3) of embeddings (M, B, 2, n)."""

    def __init__(self, objectives: Sequence[Mapping[str, Any]]) -> None:
        made = [objective_from_dict(record) for record in objectives]
        kinds = {tuple((k, v) for k, v in record.items() if k not in ("weight", "sigma")) for record in objectives}
        if len(kinds) != 1:
            raise InvalidInput("the objectives of an ensemble may differ in weight and sigma only")
        self.name, first = made[0].name, made[0]
        widths = [1.0 if objective.name != InfoNCE.name else objective.sigma for objective in made]  # type: ignore[attr-defined]
        weights = [getattr(objective, "weight", 1.0) for objective in made]
        self.weight, self.width = torch.tensor(weights), torch.tensor(widths)
        self.slices, self.test = getattr(first, "slices", 1), TESTS[getattr(first, "test", "epps-pulley")]
        # At weight 1 an objective is its regulariser; InfoNCE has none, and is a function of h / sigma.
        whole = {InfoNCE.name: {"sigma": 1.0}, Excitation.name: {}}.get(self.name, {"weight": 1.0})
        self.other = objective_from_dict({**objectives[0], **whole})
        self.vectorised: Callable[..., Tensor] = torch.vmap(self._terms)
        self.excited: Callable[..., Tensor] = torch.vmap(self._unexplained)

    def __call__(
        self, embeddings: Tensor, generators: Sequence[torch.Generator], actions: Tensor | None = None
    ) -> Tensor:
        if self.name == Excitation.name and actions is not None:
            return self.excited(embeddings, actions)
        n, dtype = embeddings.shape[-1], embeddings.dtype
        slices = self.slices if self.name == "lejepa" else 1
        directions = torch.stack([unit_directions(n, slices, generator, dtype) for generator in generators])
        return self.vectorised(embeddings, directions, self.weight, self.width)

    def _terms(self, h: Tensor, directions: Tensor, weight: Tensor, width: Tensor) -> Tensor:
        align = alignment(h)
        if self.name == "lejepa":
            regulariser = self.test(h.flatten(0, 1) @ directions).mean()
        else:
            regulariser = self.other(h / width)["loss"]
        return torch.stack([weight * regulariser + (1 - weight) * align, align, regulariser])

    def _unexplained(self, h: Tensor, actions: Tensor) -> Tensor:
        loss = self.other(h, actions=actions)["loss"].to(h.dtype)  # type: ignore[call-arg]
        return torch.stack([loss, alignment(h), loss])
