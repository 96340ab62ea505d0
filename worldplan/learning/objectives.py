"""Objectives for training an encoder: alignment of positive views, and a term that keeps it from collapsing.

Every objective is a frozen dataclass whose fields are its options. It maps embeddings (B, V, n), B sets of V views, to
its loss and the parts to log. All log `align`, in the same units. Theory: Klindt, LeCun and Balestriero 2026 (arXiv
2605.26379).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from worldplan.checks import check_fields, check_name
from worldplan.errors import InvalidInput
from worldplan.learning.distributed import average, gathered, shards, total
from worldplan.learning.excitation import Excitation
from worldplan.learning.gaussianity import TESTS, sigreg


class Objective(Protocol):
    """Interface of an objective, which is also a frozen dataclass.

    `name` is its key in `OBJECTIVES`; `remedy` names what to raise when an embedding has collapsed.
    """

    name: ClassVar[str]
    remedy: ClassVar[str]

    def __call__(self, embeddings: Tensor, generator: torch.Generator | None = None, /) -> dict[str, Tensor]:
        """Loss terms of embeddings (B, V, n): `loss` to minimise, the others to log; `generator` is for chance."""


def alignment(embeddings: Tensor) -> Tensor:
    """Mean squared distance of views (B, V, n) to their centre: a scalar, averaged over batch, views and coordinates.

    For V = 2 it is `L / (4 n)` with the paper's loss `L = E ||h - h'||^2`. An orthogonal map of unit Gaussian latents
    correlated by rho reaches `(1 - rho) (V - 1) / V`.
    """
    return average((embeddings - embeddings.mean(dim=1, keepdim=True)).square().mean())


@dataclass(frozen=True)
class LeJEPA:
    """`weight * sigreg + (1 - weight) * alignment` (Balestriero and LeCun 2025, arXiv 2511.08544).

    Args:
        weight: lambda in [0, 1]; too small collapses, too large ignores the pairs.
        slices: random directions per step.
        test: test of each projection, a name in `gaussianity.TESTS`; the default weight is for Epps-Pulley.
    """

    weight: float = 0.02
    slices: int = 256
    test: str = "epps-pulley"

    name: ClassVar[str] = "lejepa"
    remedy: ClassVar[str] = "the SIGReg weight"

    def __post_init__(self) -> None:
        check_fields(self)
        if not _share(self.weight) or self.slices < 1:
            raise InvalidInput(f"need weight in [0, 1] and slices >= 1, got {self}")
        check_name("test of Gaussianity", self.test, TESTS)

    def __call__(self, embeddings: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Loss terms of embeddings (B, V, n): `loss` to minimise, `align` and `sigreg` to log."""
        _check(embeddings)
        align = alignment(embeddings)
        gauss = sigreg(embeddings.flatten(0, 1), self.slices, generator, TESTS[self.test])
        return self._terms(align, gauss)

    def of_views(self, embeddings: Tensor, leading: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Loss terms of global and local views (B, V, n), of which the first `leading` are global.

        All views are drawn to the mean of the global ones. SIGReg is that of each view, averaged: crops of two sizes
        follow two laws, and both are to be Gaussian (Balestriero and LeCun 2025, Algorithm 2).
        """
        _check(embeddings)
        if not 1 <= leading <= embeddings.shape[1]:
            raise InvalidInput(f"of {embeddings.shape[1]} views, 1 or more are global, got {leading}")
        align = average((embeddings - embeddings[:, :leading].mean(dim=1, keepdim=True)).square().mean())
        test = TESTS[self.test]
        gauss = torch.stack([sigreg(view, self.slices, generator, test) for view in embeddings.unbind(dim=1)]).mean()
        return self._terms(align, gauss)

    def _terms(self, align: Tensor, gauss: Tensor) -> dict[str, Tensor]:
        return {"loss": self.weight * gauss + (1.0 - self.weight) * align, "align": align, "sigreg": gauss}


@dataclass(frozen=True)
class Whitening:
    """`weight * white + (1 - weight) * alignment`, `white = (||Cov(h) - I||_F^2 + |mean(h)|^2) / n`.

    The moments are those of all views together, and invariant under rotation. In a Gaussian world the forward theorem
    of Klindt, LeCun and Balestriero requires only whiteness. The term is blind to shape: any white law is enough.

    Args:
        weight: weight of whiteness, in [0, 1]. Two views of unit latents, correlated by rho, shrink to the variance
            `1 - (1 - weight) (1 - rho) / (4 weight)`.
    """

    weight: float = 0.5

    name: ClassVar[str] = "whitening"
    remedy: ClassVar[str] = "the weight of whitening"

    def __post_init__(self) -> None:
        check_fields(self)
        if not _share(self.weight):
            raise InvalidInput(f"need weight in [0, 1], got {self}")

    def __call__(self, embeddings: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Loss terms of embeddings (B, V, n): `loss` to minimise, `align` and `white` to log."""
        _check(embeddings)
        align = alignment(embeddings)
        pooled = embeddings.flatten(0, 1)
        cov, mean = _covariance(pooled), average(pooled.mean(dim=0))
        excess = cov - torch.eye(len(cov), device=cov.device, dtype=cov.dtype)
        white = (excess.square().sum() + mean.square().sum()) / len(mean)
        return {"loss": self.weight * white + (1.0 - self.weight) * align, "align": align, "white": white}


@dataclass(frozen=True)
class VICReg:
    """`weight * (variance + covariance * offdiagonal) + (1 - weight) * alignment` (Bardes, Ponce and LeCun 2021).

    Source: arXiv 2105.04906. With C the covariance of one view, `variance = mean_i max(0, 1 - sqrt(C_ii + 1e-4))` and
    `offdiagonal = sum_{i != j} C_ij^2 / n`, averaged over the views. Both vanish for a white embedding in any rotation;
    others are judged along the axes. The paper's coefficients 25, 25, 1, for thousands of dimensions, are
    `weight=0.2, covariance=0.08`. A small `covariance` lets two coordinates hold the same, slowest, latent.

    Args:
        weight: weight of both parts, in [0, 1]. Two views of unit latents, correlated by rho, keep their scale iff
            `weight >= (1 - weight) (1 - rho)`; else they shrink.
        covariance: weight of the off-diagonal part over that of the variances, at least 0.
    """

    weight: float = 0.2
    covariance: float = 1.0

    name: ClassVar[str] = "vicreg"
    remedy: ClassVar[str] = "the weight of variance and covariance"

    def __post_init__(self) -> None:
        check_fields(self)
        if not _share(self.weight) or not 0.0 <= self.covariance < math.inf:
            raise InvalidInput(f"need weight in [0, 1] and a finite covariance >= 0, got {self}")

    def __call__(self, embeddings: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Loss terms of embeddings (B, V, n): `loss` to minimise, `align`, `variance` and `offdiagonal` to log."""
        _check(embeddings)
        align = alignment(embeddings)
        covs = torch.stack([_covariance(view) for view in embeddings.unbind(dim=1)])
        variances = covs.diagonal(dim1=1, dim2=2)  # (V, n)
        hinge = functional.relu(1.0 - (variances + 1e-4).sqrt()).mean()
        off = (covs - variances.diag_embed()).square().sum(dim=(1, 2)).mean() / embeddings.shape[2]
        loss = self.weight * (hinge + self.covariance * off) + (1.0 - self.weight) * align
        return {"loss": loss, "align": align, "variance": hinge, "offdiagonal": off}


@dataclass(frozen=True)
class InfoNCE:
    """Mean of `-log softmax_j(-|h_i - h'_j|^2 / (2 sigma^2))_i`: which of the batch's views belongs to this one?

    The mean is over all ordered pairs of views (van den Oord, Li and Vinyals 2018, arXiv 1807.03748, with a Gaussian
    kernel). It equals `V n / ((V - 1) sigma^2) * alignment + repulsion`, where
    `repulsion = mean_i log sum_j exp(-|h_i - h'_j|^2 / (2 sigma^2))`.

    The loss depends on h / sigma alone: the width sets the scale of the embedding. A collapse costs log B for batch
    size B, so compare losses at equal B. In many dimensions a narrow kernel sees all strangers so far away that loss
    and gradient are 0. So start with a width that grows like sqrt(n).

    Args:
        sigma: width of the kernel, above 0. The default gives standard deviations near 1 for pairs correlated by 0.9.
    """

    sigma: float = 0.5

    name: ClassVar[str] = "infonce"
    remedy: ClassVar[str] = "sigma, the batch"

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0.0 < self.sigma < math.inf:
            raise InvalidInput(f"need a finite sigma above 0, got {self}")

    def __call__(self, embeddings: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Loss terms of embeddings (B, V, n): `loss` to minimise, `align` and `repulsion` to log."""
        _check(embeddings)
        views = (gathered(embeddings) / (math.sqrt(2.0) * self.sigma)).unbind(dim=1)
        own, all_ = [], []
        for v, here in enumerate(views):
            for there in views[:v]:
                # Not by |a|^2 + |b|^2 - 2 a.b, which loses the small distances of pairs to rounding.
                logits = -torch.cdist(here, there, compute_mode="donot_use_mm_for_euclid_dist").square()
                own.append(logits.diagonal())
                all_ += [logits.logsumexp(dim=1), logits.logsumexp(dim=0)]
        attraction, repulsion = -torch.stack(own).mean(), torch.stack(all_).mean()
        return {"loss": attraction + repulsion, "align": alignment(embeddings), "repulsion": repulsion}


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    kind.name: kind for kind in (LeJEPA, VICReg, Whitening, InfoNCE, Excitation)
}
"""Classes by name. An objective of your own that is added here can be resumed and read back."""


def objective_to_dict(objective: Objective) -> dict[str, Any]:
    """Name and options, for JSON."""
    return {"name": objective.name, **asdict(objective)}  # type: ignore[call-overload]


def objective_from_dict(record: Mapping[str, Any]) -> Objective:
    """The objective of a name and options; LeJEPA without a name, as in records older than the other objectives.

    Raises:
        UnknownName: no such objective.
        InvalidInput: no such option, or a value out of range.
    """
    options = dict(record)
    name = options.pop("name", LeJEPA.name)
    check_name("objective", name, OBJECTIVES)
    known = [field.name for field in fields(OBJECTIVES[name])]  # type: ignore[arg-type]
    foreign = sorted(set(options) - set(known))
    if foreign:
        raise InvalidInput(f"objective {name} has no option {', '.join(foreign)}; it has {', '.join(known)}")
    return OBJECTIVES[name](**options)


def _share(weight: float) -> bool:
    return math.isfinite(weight) and 0.0 <= weight <= 1.0


def _covariance(sample: Tensor) -> Tensor:
    """Unbiased covariance (n, n) of a sample (N, n); zero for N = 1."""
    centred = sample - average(sample.mean(dim=0))
    return total(centred.T @ centred) / max(len(sample) * shards() - 1, 1)


def _check(embeddings: Tensor) -> None:
    if embeddings.ndim != 3 or embeddings.shape[1] < 2:
        raise InvalidInput(f"embeddings must be (B, V >= 2, n), got {tuple(embeddings.shape)}")
