"""Synthetic worlds: pairs of latents, and maps that hide them in observations.

All maps and sources work on a whole ensemble at once: tensors (M, ..., n), one slice for each of M members.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from worldplan.arrays import Floats
from worldplan.errors import InvalidInput
from worldplan.eval.laboratory.networks import Coupling, stacked

SMALLEST = 1e-12  # uniform number, lest its Gaussian is infinite
Mixing = Callable[[Tensor], Tensor]  # latents (M, ..., n) -> observations (M, ..., d)


class Source(Protocol):
    """Where pairs come from."""

    def draw(self, size: int, /) -> Tensor:
        """Pairs of latents (M, size, 2, n), float32, for M members."""


class GaussianPairs:
    """Fresh pairs of `N(0, I)`, correlated by rho: `z' = rho z + sqrt(1 - rho^2) eta` (Ornstein-Uhlenbeck).

    Args:
        rho: (M, n), the correlation of each member's coordinates, within (0, 1).
        generators: one for each member, so that a member draws the same pairs in any ensemble.
    """

    def __init__(self, rho: Tensor, generators: Sequence[torch.Generator]) -> None:
        if rho.ndim != 2 or len(rho) != len(generators) or not bool(((rho > 0) & (rho < 1)).all()):
            raise InvalidInput(f"need rho (M, n) within (0, 1) for {len(generators)} members, got {tuple(rho.shape)}")
        self.rho, self.generators = rho[:, None], generators
        self.rest = (1 - self.rho.square()).sqrt()

    def draw(self, size: int) -> Tensor:
        """Pairs of latents (M, size, 2, n)."""
        shape = size, 2, self.rho.shape[-1]
        return self.correlated(torch.stack([torch.randn(shape, generator=generator) for generator in self.generators]))

    def correlated(self, z: Tensor) -> Tensor:
        """Pairs of independent pairs (M, size, 2, n), in place."""
        z[:, :, 1] = self.rho * z[:, :, 0] + self.rest * z[:, :, 1]
        return z


class StratifiedPairs:
    """The same pairs from a scrambled Sobol sequence, which fills the space more evenly than chance.

    Each pair has the law of `GaussianPairs`; means over a sample err less, much less for few latents (Owen 1997).
    Arguments are those of `GaussianPairs`.
    """

    def __init__(self, rho: Tensor, generators: Sequence[torch.Generator]) -> None:
        self.pairs = GaussianPairs(rho, generators)

    def draw(self, size: int) -> Tensor:
        """Pairs of latents (M, size, 2, n)."""
        n = self.pairs.rho.shape[-1]
        seeds = [int(torch.randint(2**31, (1,), generator=generator)) for generator in self.pairs.generators]
        engines = [SobolEngine(2 * n, scramble=True, seed=seed) for seed in seeds]
        uniform = torch.stack([engine.draw(size, dtype=torch.float64) for engine in engines])
        normal = torch.special.ndtri(uniform.clamp(SMALLEST, 1 - SMALLEST)).float()
        return self.pairs.correlated(normal.unflatten(2, (2, n)))


class BalancedPairs:
    """The same pairs in batches whose means are 0 and whose covariances are those of the law, exactly.

    Latents and noise of a batch are whitened together, so that a batch needs more than twice as many pairs as latents.
    Chance in these moments is noise in SIGReg's gradient, and moves an encoder that is right already.
    Arguments are those of `GaussianPairs`.
    """

    def __init__(self, rho: Tensor, generators: Sequence[torch.Generator]) -> None:
        self.pairs = GaussianPairs(rho, generators)

    def draw(self, size: int) -> Tensor:
        """Pairs of latents (M, size, 2, n).

        Raises:
            InvalidInput: a batch of at most 2 n pairs.
        """
        n = self.pairs.rho.shape[-1]
        if size <= 2 * n:
            raise InvalidInput(f"a balanced batch of {n} latents needs more than {2 * n} pairs, got {size}")
        z = torch.stack([torch.randn(size, 2 * n, generator=generator) for generator in self.pairs.generators])
        z -= z.mean(dim=1, keepdim=True)
        factor = torch.linalg.cholesky(z.mT @ z / size)
        z = torch.linalg.solve_triangular(factor.mT, z, upper=True, left=False)
        return self.pairs.correlated(z.unflatten(2, (2, n)))


class RecordedPairs:
    """Pairs from a fixed pool, drawn anew with replacement in each batch.

    Args:
        pool: (M, P, 2, n), each member's pairs.
        generators: one for each member.
    """

    def __init__(self, pool: Tensor, generators: Sequence[torch.Generator]) -> None:
        if pool.ndim != 4 or pool.shape[2] != 2 or len(pool) != len(generators):
            raise InvalidInput(f"need pairs (M, P, 2, n) of {len(generators)} members, got {tuple(pool.shape)}")
        self.pool, self.generators = pool, generators

    def draw(self, size: int) -> Tensor:
        """Pairs of latents (M, size, 2, n)."""
        count = self.pool.shape[1]
        chosen = (torch.randint(count, (size,), generator=generator) for generator in self.generators)
        return torch.stack([pairs[index] for pairs, index in zip(self.pool, chosen, strict=True)])


def gaussian_pairs(count: int, n: int, rho: float | Sequence[float], rng: np.random.Generator) -> Floats:
    """Pairs (count, 2, n) of `N(0, I)` correlated by rho, one number or one for each coordinate; float64."""
    z, eta = rng.standard_normal((2, count, n))
    rates = np.asarray(rho, dtype=np.float64)
    return np.stack([z, rates * z + np.sqrt(1 - rates**2) * eta], axis=1)


# --- mixings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spiral:
    """Turns each point of the plane by an angle that grows with its radius: `x = R(twist |z|) z`.

    It preserves the law `N(0, I)`: the observations are Gaussian already, and only alignment can tell them from z.
    """

    twist: float = 2.0

    def __call__(self, z: Tensor) -> Tensor:
        """Observations (..., 2) of latents (..., 2)."""
        angle = self.twist * z.norm(dim=-1)
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([cos * z[..., 0] - sin * z[..., 1], sin * z[..., 0] + cos * z[..., 1]], dim=-1)


@dataclass(frozen=True)
class SineShear:
    """`x = (z_1, z_2 + height sin(frequency z_1))`."""

    height: float = 1.5
    frequency: float = 2.0

    def __call__(self, z: Tensor) -> Tensor:
        """Observations (..., 2) of latents (..., 2)."""
        return torch.stack([z[..., 0], z[..., 1] + self.height * (self.frequency * z[..., 0]).sin()], dim=-1)


@dataclass(frozen=True)
class ParabolicShear:
    """`x = (z_1, z_2 + bend (z_1^2 - 1))`."""

    bend: float = 0.75

    def __call__(self, z: Tensor) -> Tensor:
        """Observations (..., 2) of latents (..., 2)."""
        return torch.stack([z[..., 0], z[..., 1] + self.bend * (z[..., 0].square() - 1)], dim=-1)


LAYERS, HIDDEN = 4, 32  # of random RealNVP mixings
STRENGTH: dict[str, float] = {"couplings": 1.0, "mild couplings": 0.5}
"""Strengths of random RealNVP mixings, by name."""


def couplings(n: int, seeds: Sequence[int], strength: float = 1.0) -> Mixing:
    """A random RealNVP mixing for each member (Dinh, Sohl-Dickstein and Bengio 2017, arXiv 1605.08803), frozen."""
    forward, parameters = stacked([Coupling(n, LAYERS, HIDDEN, strength, seed=seed) for seed in seeds])
    frozen = {name: value.detach() for name, value in parameters.items()}

    def mix(z: Tensor) -> Tensor:
        with torch.no_grad():
            return forward(frozen, z)

    return mix


PLANE: dict[str, Mixing] = {"spiral": Spiral(), "sine": SineShear(), "parabola": ParabolicShear()}
"""Fixed mixings of two latents, by name."""


def find_mixing(name: str, n: int, seeds: Sequence[int]) -> Mixing:
    """The mixing of a name for members of these seeds: one of `PLANE`, or `couplings` of a strength in `STRENGTH`."""
    return PLANE[name] if name in PLANE else couplings(n, seeds, strength=STRENGTH[name])
