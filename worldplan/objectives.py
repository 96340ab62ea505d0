"""Objectives that make an encoder: alignment of positive views, and SIGReg for an isotropic Gaussian embedding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from worldplan.errors import InvalidInput


def alignment(embeddings: Tensor) -> Tensor:
    """Mean squared distance of views to their centre.

    Args:
        embeddings: (B, V, n).

    Returns:
        Scalar: mean over batch, views and coordinates. For V = 2 it is `L / (4 n)` with
        `L = E ||h - h'||^2`, the loss of Klindt, LeCun and Balestriero 2026; an orthogonal map of
        unit Gaussian latents correlated by rho reaches `(1 - rho) (V - 1) / V`.
    """
    return (embeddings - embeddings.mean(dim=1, keepdim=True)).square().mean()


def epps_pulley(projections: Tensor, knots: int = 17, cutoff: float = 3.0) -> Tensor:
    """Epps-Pulley statistic of normality against N(0, 1), one per column.

    `N * integral |phi_N(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt` with the empirical characteristic function phi_N, by
    the trapezoid rule on [0, cutoff], doubled by symmetry (Balestriero and LeCun 2025, arXiv 2511.08544).

    Args:
        projections: (N, S) samples of S one-dimensional laws.
        knots: nodes of the rule.
        cutoff: where the integral ends.

    Returns:
        (S,) statistics, differentiable, gradients bounded.
    """
    t = torch.linspace(0.0, cutoff, knots, device=projections.device, dtype=projections.dtype)
    normal = torch.exp(-0.5 * t.square())
    weight = torch.full_like(t, 2.0 * cutoff / (knots - 1))
    weight[0] = weight[-1] = cutoff / (knots - 1)
    phase = projections.unsqueeze(-1) * t  # (N, S, knots)
    gap = (phase.cos().mean(dim=0) - normal).square() + phase.sin().mean(dim=0).square()
    return len(projections) * (gap * normal * weight).sum(dim=-1)


def sigreg(embeddings: Tensor, slices: int, generator: torch.Generator | None = None) -> Tensor:
    """Sketched isotropic Gaussian regularisation: mean Epps-Pulley statistic over random unit directions.

    Args:
        embeddings: (N, n).
        slices: directions, drawn anew at each call.
        generator: source of the directions, on the CPU.

    Returns:
        Scalar.
    """
    directions = torch.randn(embeddings.shape[1], slices, generator=generator, dtype=embeddings.dtype)
    directions = (directions / directions.norm(dim=0, keepdim=True)).to(embeddings.device)
    return epps_pulley(embeddings @ directions).mean()


@dataclass(frozen=True)
class LeJEPA:
    """`weight * SIGReg + (1 - weight) * alignment` (Balestriero and LeCun 2025, arXiv 2511.08544).

    Args:
        weight: lambda in [0, 1]; too small collapses, too large ignores the pairs.
        slices: random directions per step.
    """

    weight: float = 0.02
    slices: int = 256

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and 0.0 <= self.weight <= 1.0) or self.slices < 1:
            raise InvalidInput(f"need weight in [0, 1] and slices >= 1, got {self}")

    def __call__(self, embeddings: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Loss terms of embeddings (B, V, n): `loss` to minimise, `align` and `sigreg` to log."""
        if embeddings.ndim != 3 or embeddings.shape[1] < 2:
            raise InvalidInput(f"embeddings must be (B, V >= 2, n), got {tuple(embeddings.shape)}")
        align = alignment(embeddings)
        gauss = sigreg(embeddings.flatten(0, 1), self.slices, generator)
        return {"loss": self.weight * gauss + (1.0 - self.weight) * align, "align": align, "sigreg": gauss}
