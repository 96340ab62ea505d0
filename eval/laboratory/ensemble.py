"""Train many small encoders of one shape at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from worldplan.arrays import Floats
from worldplan.errors import EncoderCollapsed, InvalidInput
from worldplan.eval.laboratory.characteristic import in_blocks
from worldplan.eval.laboratory.networks import Forward, Parameters, stacked
from worldplan.eval.laboratory.optimisers import AdamW, Method, Muon, Optimiser
from worldplan.eval.laboratory.worlds import Mixing, Source
from worldplan.learning.excitation import Excitation
from worldplan.learning.gaussianity import TESTS, epps_pulley, unit_directions
from worldplan.learning.objectives import InfoNCE, LeJEPA, alignment, objective_from_dict

HISTORY = 100  # steps that L-BFGS remembers
DOUBLINGS = 5  # of the weight while L-BFGS runs
LARGEST_GRADIENT = 1.0  # norm to which a member's gradient is clipped (Klindt, LeCun and Balestriero 2026)


@dataclass(frozen=True)
class Training:
    """How encoders are trained: linear warm-up, then half a cosine down to 0.

    L-BFGS takes `steps` iterations on one sample of `batch` pairs, and none of the rest. LeJEPA's weight begins small
    then, and doubles `DOUBLINGS` times.

    Args:
        steps: batches.
        batch: pairs of a batch, the first one.
        rate: largest learning rate.
        warmup: share of the steps over which the rate grows.
        decay: weight decay.
        growth: last batch over the first; batches grow by the same share each step. Noise of the gradient falls, and
            SIGReg, which counts samples, comes to outweigh alignment at the same weight.
    """

    steps: int = 4000
    batch: int = 256
    rate: float = 3e-3
    warmup: float = 0.1
    decay: float = 1e-4
    growth: float = 1.0

    def batch_at(self, step: int) -> int:
        """Pairs of a step's batch, from 0."""
        return round(self.batch * math.pow(self.growth, step / max(1, self.steps - 1)))

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
    method: Method = "adamw",
    orthonormal: bool = False,
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
        orthonormal: SIGReg looks along whole orthonormal bases, which see all of a covariance's trace alike.
        method: AdamW or Muon, on a batch a step; or L-BFGS, on one sample, which neither `watch` nor `actions` see.

    Raises:
        InvalidInput: objectives that differ in more than weight or width.
        EncoderCollapsed: a loss that is not finite.
    """
    forward, initial = stacked(networks)
    if method == "l-bfgs" and training.steps:
        return _fit(forward, initial, mixing(source.draw(training.batch)).double(), objectives, training, generators)
    loss = _Loss(objectives, orthonormal=orthonormal)
    flat = torch.cat([value.detach().flatten(1) for value in initial.values()], dim=1).requires_grad_()
    optimiser: Optimiser = AdamW([flat], training.decay)
    if method == "muon":
        optimiser = Muon(flat, [value.shape[1:] for value in initial.values()], training.decay)

    def parameters() -> Parameters:
        pieces = flat.split([value[0].numel() for value in initial.values()], dim=1)
        return {
            name: own.unflatten(1, value.shape[1:]) for (name, value), own in zip(initial.items(), pieces, strict=True)
        }

    kept = []
    for step in range(training.steps):
        if watch is not None:
            watch(step, {name: value.detach() for name, value in parameters().items()})
        z = source.draw(training.batch_at(step))
        terms = loss(forward(parameters(), mixing(z)), generators, None if actions is None else actions(z))
        if flat.grad is not None:
            flat.grad.zero_()
        terms[:, 0].sum().backward()
        clip([flat])
        optimiser.step(training.rate_at(step))
        if step >= training.steps - max(1, training.steps // 10):
            kept.append(terms.detach())
    losses = torch.stack(kept).mean(dim=0).double().numpy() if kept else np.full((len(networks), 3), np.nan)
    if kept and not np.isfinite(losses).all():
        raise EncoderCollapsed("a loss of the laboratory is not finite; lower the learning rate")
    return Ensemble(forward, {name: value.detach().clone() for name, value in parameters().items()}, losses)


def _fit(
    forward: Forward,
    initial: Parameters,
    x: Tensor,
    objectives: Sequence[Mapping[str, Any]],
    training: Training,
    generators: Sequence[torch.Generator],
) -> Ensemble:
    """Fit each member to its pairs x (M, B, 2, d) by L-BFGS with a strong Wolfe line search, in float64.

    The directions of SIGReg are drawn once. L-BFGS (Liu and Nocedal 1989) finds its way through the narrow valley that
    a small weight of the regulariser leaves, where AdamW takes thousands of steps. A weight of SIGReg that grows to its
    value comes farther in as many steps; the last one takes the most.
    """
    leaves = {name: value.detach().double() for name, value in initial.items()}
    losses = []
    for k, (objective, generator) in enumerate(zip(objectives, generators, strict=True)):
        own = {name: value[k : k + 1].requires_grad_() for name, value in leaves.items()}
        losses.append(_minimise(own, partial(forward, own, x[k : k + 1]), _Loss([objective]), generator, training))
    return Ensemble(forward, leaves, np.array(losses))


def _minimise(
    own: Parameters, embed: Callable[[], Tensor], loss: _Loss, generator: torch.Generator, training: Training
) -> list[float]:
    """Move one member's parameters in place; loss, alignment and regulariser at the end."""
    directions, weight = generator.get_state(), loss.weight
    # VICReg and whitening let the embedding collapse at small weights. At 1 alignment has no part to play.
    doublings = DOUBLINGS if loss.name == LeJEPA.name and float(weight) < 1 else 0

    def terms() -> Tensor:
        generator.set_state(directions)
        return loss(embed(), [generator])[0]

    def closure() -> float:
        optimiser.zero_grad()
        total = terms()[0]
        total.backward()
        return total.item()

    each = training.steps // (doublings + 2)
    for k in range(doublings + 1):
        loss.weight = weight / 2 ** (doublings - k)
        steps = each if k < doublings else training.steps - doublings * each
        optimiser = torch.optim.LBFGS(
            list(own.values()),
            max_iter=steps,
            max_eval=2 * steps,
            history_size=HISTORY,
            line_search_fn="strong_wolfe",
            tolerance_grad=1e-12,
            tolerance_change=1e-15,
        )
        if steps:
            optimiser.step(closure)
    with torch.no_grad():
        found = terms().tolist()
    if not np.isfinite(found).all():
        raise EncoderCollapsed("a loss of the laboratory is not finite; take more pairs")
    return found


def clip(leaves: Sequence[Tensor]) -> None:
    """Scale each member's gradient to a norm of at most `LARGEST_GRADIENT`."""
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    squares = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients]).sum(dim=0)
    factor = (LARGEST_GRADIENT / squares.sqrt().clamp_min(1e-12)).clamp_max(1.0)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))


class _Loss:
    """Loss, alignment and regulariser (M, 3) of embeddings (M, B, 2, n)."""

    def __init__(self, objectives: Sequence[Mapping[str, Any]], *, orthonormal: bool = False) -> None:
        self.directions = orthonormal_directions if orthonormal else unit_directions
        made = [objective_from_dict(record) for record in objectives]
        kinds = {tuple((k, v) for k, v in record.items() if k not in ("weight", "sigma")) for record in objectives}
        if len(kinds) != 1:
            raise InvalidInput("the objectives of an ensemble may differ in weight and sigma only")
        self.name, first = made[0].name, made[0]
        # InfoNCE and excitation have no weight: all of them is regulariser.
        self.weight = torch.tensor([getattr(objective, "weight", 1.0) for objective in made])
        self.width = torch.tensor([getattr(objective, "sigma", 1.0) for objective in made])
        self.slices, self.test = getattr(first, "slices", 1), TESTS[getattr(first, "test", "epps-pulley")]
        self.aligned: Callable[[Tensor], Tensor] = torch.vmap(alignment)
        if self.name not in (LeJEPA.name, InfoNCE.name):
            alone = first if self.name == Excitation.name else objective_from_dict({**objectives[0], "weight": 1.0})
            self.other: Callable[..., Tensor] = torch.vmap(lambda h, *more: alone(h, None, *more)["loss"].to(h.dtype))

    def __call__(
        self, embeddings: Tensor, generators: Sequence[torch.Generator], actions: Tensor | None = None
    ) -> Tensor:
        align = self.aligned(embeddings)
        if actions is not None:
            regulariser = self.other(embeddings, actions)
        elif self.name == LeJEPA.name:
            regulariser = self._sigreg(embeddings, generators)
        elif self.name == InfoNCE.name:
            regulariser = infonce(embeddings, self.width)
        else:
            regulariser = self.other(embeddings)
        return torch.stack([self.weight * regulariser + (1 - self.weight) * align, align, regulariser], dim=1)

    def _sigreg(self, embeddings: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        n, dtype = embeddings.shape[-1], embeddings.dtype
        directions = torch.stack([self.directions(n, self.slices, generator, dtype) for generator in generators])
        projections = directions.mT @ embeddings.flatten(1, 2).mT  # (M, S, 2 B)
        if self.test is epps_pulley:
            return in_blocks(projections).mean(dim=1)
        found: Tensor = torch.vmap(self.test)(projections.mT)
        return found.mean(dim=1)


def orthonormal_directions(n: int, slices: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Directions (n, slices), each uniform on the unit sphere: the columns of random orthonormal bases.

    A shrunken embedding is drawn outward along all coordinates alike by a whole basis. Independent directions, as many,
    draw by a random matrix, which is noise of the gradient.
    """
    normal = torch.randn(-(-slices // n), n, n, generator=generator, dtype=dtype)
    bases: Tensor = torch.linalg.qr(normal).Q
    return bases.transpose(0, 1).flatten(1)[:, :slices]


def infonce(embeddings: Tensor, width: Tensor) -> Tensor:
    """InfoNCE (M,) of embeddings (M, B, 2, n) and kernel widths (M,): `InfoNCE` of each member, by matrix products.

    `|a|^2 + |b|^2 - 2 a.b` errs by 1e-7 times the squared norms. The library's objective avoids it for the sake of near
    pairs. Here the attraction of own pairs is exact, and in the repulsion a logit that errs by 1e-4, at 1,024 latents,
    moves a softmax by as little.
    """
    here, there = (embeddings / (math.sqrt(2.0) * width[:, None, None, None])).unbind(dim=2)
    squares = here.square().sum(dim=2)[:, :, None] + there.square().sum(dim=2)[:, None]
    logits = 2.0 * here @ there.mT - squares
    repulsion = (logits.logsumexp(dim=2) + logits.logsumexp(dim=1)).mean(dim=1) / 2.0
    return (here - there).square().sum(dim=2).mean(dim=1) + repulsion
