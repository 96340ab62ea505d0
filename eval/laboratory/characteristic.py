"""The Epps-Pulley statistics of many samples at once, from the powers of one exponential."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

KNOTS, CUTOFF = 17, 3.0  # of `worldplan.learning.gaussianity.epps_pulley`
STEP = CUTOFF / (KNOTS - 1)
BLOCK, MANY = 2**17, 2**19  # numbers whose powers stay in a core's cache, and those from which that pays
LOW, HIGH = (0, 1, 2), (0, 5, 10, 15)  # each power 0 ... 17 is one of HIGH plus or minus one of LOW


def in_blocks(samples: Tensor) -> Tensor:
    """`EppsPulley` of samples (..., S, N), block by block if they are many: statistics (..., S).

    Results are those of one block, up to rounding.
    """
    each = samples[..., 0, :].numel()
    rows = samples.shape[-2] if samples.numel() <= MANY else max(4, BLOCK // each)
    found: list[Tensor] = [EppsPulley.apply(block) for block in samples.split(rows, dim=-2)]
    return torch.cat(found, dim=-1)


class EppsPulley(torch.autograd.Function):
    """Statistics (...) of samples (..., N): `worldplan.learning.gaussianity.epps_pulley` of each.

    The knots are multiples of one step h, so `exp(i k h u)` is a power of `z = exp(i h u)`. Each is the product of a
    high and a low power, or of its conjugate. Their means over a sample are thus read off one small matrix product,
    and the gradient is another. Sine and cosine are taken once in place of 17 times. Powers multiply rounding by up to
    16: gradients in float32 agree with those of float64 to 1e-6 of the largest.
    """

    @staticmethod
    def forward(ctx: Any, samples: Tensor) -> Tensor:
        """Statistics (...) of samples (..., N)."""
        size = samples.shape[-1]
        powers = samples.new_empty(*samples.shape[:-1], 2 * (len(LOW) + len(HIGH) - 1), size)
        one, c1, s1, c2, s2, again, c5, s5, c10, s10, c15, s15 = powers.unbind(dim=-2)
        one.fill_(1.0)
        again.fill_(1.0)
        angle = samples * STEP
        torch.cos(angle, out=c1)
        torch.sin(angle, out=s1)
        _times(c1, s1, c1, s1, c2, s2)
        _times(c2, s2, c2, s2, c10, s10)  # the fourth power, for now
        _times(c10, s10, c1, s1, c5, s5)
        _times(c5, s5, c5, s5, c10, s10)
        _times(c10, s10, c5, s5, c15, s15)
        low, high = _split(powers)
        known = _constants(samples.dtype)
        gap = ((high @ low.mT) / size).flatten(-2) @ known.read - known.normal  # real and imaginary parts at the knots
        ctx.save_for_backward(powers, gap)
        statistics: Tensor = size * (gap.square() @ known.weight)
        return statistics

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Gradient (..., N)."""
        powers, gap = ctx.saved_tensors
        low, high = _split(powers)
        factor = ((gap * gradients[0].unsqueeze(-1)) @ _constants(gap.dtype).slope).unflatten(
            -1, (high.shape[-2], low.shape[-2])
        )
        gradient: Tensor = (factor @ low).mul_(high).sum(dim=-2)
        return gradient


def _times(a: Tensor, b: Tensor, c: Tensor, d: Tensor, real: Tensor, imaginary: Tensor) -> None:
    """Write `(a + i b) (c + i d)`."""
    torch.mul(a, c, out=real).addcmul_(b, d, value=-1.0)
    torch.mul(a, d, out=imaginary).addcmul_(b, c)


def _split(powers: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of low powers, `1, cos, sin, cos 2, sin 2`, and of high ones."""
    rows = 2 * len(LOW) - 1
    return powers[..., :rows, :], powers[..., rows:, :]


class _Constants(NamedTuple):
    """What knots are read with."""

    read: Tensor
    normal: Tensor
    weight: Tensor
    slope: Tensor


@cache
def _constants(dtype: torch.dtype) -> _Constants:
    cos, sin = _addition(dtype)
    t = STEP * torch.arange(KNOTS, dtype=dtype)
    normal = torch.cat([torch.exp(-0.5 * t.square()), torch.zeros(KNOTS, dtype=dtype)])
    weight = 2 * STEP * normal[:KNOTS].repeat(2)  # trapezoid rule, doubled by symmetry
    weight[[0, KNOTS - 1, KNOTS, -1]] /= 2
    slope = 2 * weight[:, None] * torch.cat([-t[:, None] * sin, t[:, None] * cos])
    return _Constants(torch.cat([cos, sin]).T.contiguous(), normal, weight, slope)


def _addition(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`cos k x` and `sin k x` as sums of products of a row of high and one of low powers: (17, 7 x 5) each."""
    cos, sin = torch.zeros(2, KNOTS, 2 * len(HIGH) - 1, 2 * len(LOW) - 1, dtype=dtype)
    for k in range(KNOTS):
        a = (k + 2) // 5  # k = 5 a + b, |b| <= 2
        b = k - 5 * a
        for part, of_a, of_b, sign in ((cos, 0, 0, 1), (cos, 1, 1, -1), (sin, 1, 0, 1), (sin, 0, 1, 1)):
            if (a or not of_a) and (b or not of_b):  # sin 0 has no row
                part[k, max(0, 2 * a - 1 + of_a), max(0, 2 * abs(b) - 1 + of_b)] = -sign if of_b and b < 0 else sign
    return cos.flatten(1), sin.flatten(1)
