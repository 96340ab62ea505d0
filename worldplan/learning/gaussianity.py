"""Tests of Gaussianity on the line, as differentiable losses that SIGReg can apply to each projection.

Each maps (N, S), samples of S laws, to (S,) statistics of their fit to N(0, 1) with *known* mean and variance. A
statistic is small for a standard Gaussian, and grows like N for any law that the test can tell from one. Balestriero
and LeCun 2025 (arXiv 2511.08544, section 4.2) compare these candidates. They choose Epps-Pulley, the only one with
bounded gradients that is a plain mean over samples. Units differ: a good weight for one test is wrong for another.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from worldplan.learning.distributed import average, gathered, shards

_SMALLEST_VARIANCE = 1e-4  # keeps what divides by a variance finite when a projection collapses


def epps_pulley(projections: Tensor, knots: int = 17, cutoff: float = 3.0) -> Tensor:
    """Epps-Pulley statistic of normality against N(0, 1), one per column (Epps and Pulley 1983).

    It is `N * integral |phi_N(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt` with the empirical characteristic function phi_N.
    The trapezoid rule with `knots` nodes on [0, cutoff] is doubled by symmetry. Gradients are bounded.
    """
    t = torch.linspace(0.0, cutoff, knots, device=projections.device, dtype=projections.dtype)
    normal = torch.exp(-0.5 * t.square())
    weight = torch.full_like(t, 2.0 * cutoff / (knots - 1))
    weight[0] = weight[-1] = cutoff / (knots - 1)
    phase = projections.unsqueeze(-1) * t  # (N, S, knots)
    real, imaginary = average(torch.stack([phase.cos().mean(dim=0), phase.sin().mean(dim=0)])).unbind()
    gap = (real - normal).square() + imaginary.square()
    return shards() * len(projections) * (gap * normal * weight).sum(dim=-1)


def moments(projections: Tensor) -> Tensor:
    """`N * sum_k mean(He_k(u))^2 / k!`, k = 1 ... 4, with the Hermite polynomials He_k.

    It is zero iff the first four moments are those of N(0, 1). For a large Gaussian sample it is chi-squared with 4
    degrees of freedom (Neyman's smooth test, 1937). It is blind to laws that share these moments. Its gradients grow
    with the cube of an outlier (Balestriero and LeCun 2025, Theorem 3).
    """
    u, square = projections, projections.square()
    hermite = (u, square - 1.0, u * (square - 3.0), square * (square - 6.0) + 3.0)
    means = average(torch.stack([h.mean(dim=0) for h in hermite]))
    terms = [mean.square() / math.factorial(k) for k, mean in enumerate(means.unbind(), start=1)]
    return shards() * len(u) * torch.stack(terms).sum(dim=0)


def jarque_bera(projections: Tensor) -> Tensor:
    """Extended Jarque-Bera: `N mean^2 / var + (N - 1) (var - 1)^2 / 2 + N (skew^2 + (kurt - 3)^2 / 4) / 6`.

    Jarque and Bera 1980, extended to a known mean and variance (Balestriero and LeCun 2025, section 4.2.1). Variances
    in denominators are held above 1e-4.
    """
    size = len(projections) * shards()
    mean = average(projections.mean(dim=0))
    centred = projections - mean
    biased = average(centred.square().mean(dim=0))
    standard = centred / biased.clamp_min(_SMALLEST_VARIANCE).sqrt()
    skew, kurtosis = average(torch.stack([standard.pow(3).mean(dim=0), standard.pow(4).mean(dim=0)])).unbind()
    excess = kurtosis - 3.0
    variance = biased * (size / max(size - 1, 1))
    location = size * mean.square() / variance.clamp_min(_SMALLEST_VARIANCE)
    scale = (size - 1) * (variance - 1.0).square() / 2.0
    return location + scale + size / 6.0 * (skew.square() + excess.square() / 4.0)


def cramer_von_mises(projections: Tensor) -> Tensor:
    """`N * integral (F_N - F)^2 dF` with the empirical and the Gaussian distribution function (Cramer 1928).

    Its gradient fades with the Gaussian density: an embedding that is far too large hardly feels it.
    """
    heights: Tensor = torch.special.ndtr(gathered(projections).sort(dim=0).values)
    return (heights - _middles(heights)).square().sum(dim=0) + 1.0 / (12.0 * len(heights))


def watson(projections: Tensor) -> Tensor:
    """Cramer-von Mises less its share from a shift: `W^2 - N (mean(F(u)) - 1/2)^2` (Watson 1961).

    It was made for the circle: on the line, the place of a point mass does not matter.
    """
    shift: Tensor = average(torch.special.ndtr(projections).mean(dim=0)) - 0.5
    return cramer_von_mises(projections) - len(projections) * shards() * shift.square()


def anderson_darling(projections: Tensor) -> Tensor:
    """`N * integral (F_N - F)^2 / (F (1 - F)) dF`: weight on the tails (Anderson and Darling 1952).

    The gradient of an outlier grows linearly: it never fades.
    """
    ordered = gathered(projections).sort(dim=0).values
    logs = _log_ndtr(ordered) + _log_ndtr(-ordered.flip(0))
    return -len(ordered) * (1.0 + (2.0 * _middles(ordered) * logs).mean(dim=0))


def _middles(projections: Tensor) -> Tensor:
    """(N, 1): (2 i - 1) / (2 N), i = 1 ... N, the middles of the steps of an empirical distribution function."""
    size = len(projections)
    steps = torch.arange(size, device=projections.device, dtype=projections.dtype)
    return ((steps + 0.5) / size).unsqueeze(-1)


def _log_ndtr(x: Tensor) -> Tensor:
    """Logarithm of Phi(x); torch.special.log_ndtr has wrong, even infinite, gradients beyond 1e3 sigma in float32."""
    left, right = x.clamp_max(0.0), x.clamp_min(0.0)
    tail = torch.special.erfcx(-left * math.sqrt(0.5)).log() - math.log(2.0) - 0.5 * left.square()
    return torch.where(x < 0.0, tail, torch.log1p(-0.5 * torch.special.erfc(right * math.sqrt(0.5))))


TESTS: dict[str, Callable[[Tensor], Tensor]] = {
    "epps-pulley": epps_pulley,
    "moments": moments,
    "jarque-bera": jarque_bera,
    "cramer-von-mises": cramer_von_mises,
    "watson": watson,
    "anderson-darling": anderson_darling,
}


def sigreg(
    embeddings: Tensor,
    slices: int,
    generator: torch.Generator | None = None,
    test: Callable[[Tensor], Tensor] = epps_pulley,
) -> Tensor:
    """SIGReg, sketched isotropic Gaussian regularisation: mean test statistic over random unit directions, a scalar.

    `test` maps projections (N, S) of the embeddings (N, n) to statistics (S,). Each call draws new directions from
    `generator`, on the CPU.
    """
    directions = unit_directions(embeddings.shape[1], slices, generator, embeddings.dtype).to(embeddings.device)
    return test(embeddings @ directions).mean()


def unit_directions(n: int, slices: int, generator: torch.Generator | None, dtype: torch.dtype) -> Tensor:
    """Directions (n, slices), uniform on the unit sphere, on the CPU."""
    directions: Tensor = torch.randn(n, slices, generator=generator, dtype=dtype)
    return directions.div(directions.norm(dim=0, keepdim=True))
