"""Generalised-normal latents: pairs of two channels, and what the theory promises of each.

The law has unit variance and a density proportional to `exp(-|z / s|^shape)`: shape 1 is Laplace's law, 2 Gauss's,
large ones are nearly uniform. The stationary channel is the Langevin diffusion `dz = (log p)'(z) dt + sqrt(2) dW`. It
moves here between cells of the line, by the finite-volume form of its generator (Scharfetter and Gummel 1969): the law
is kept exactly, as by Metropolis' rule, and the lag sets the correlation exactly. `envs.worlds` takes small steps of
time instead, for shapes from 1 to 16; heavier laws need no steps here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, eigh_tridiagonal
from scipy.optimize import brentq
from scipy.special import gammaincc, gammainccinv, gammaln
from scipy.stats import norm

from worldplan.arrays import Floats
from worldplan.errors import InvalidInput

Channel = Literal["stationary", "published"]
CHANNELS: tuple[Channel, ...] = ("stationary", "published")
_CELLS = 300  # on each side of the middle one
_CORE = 0.5  # within this many deviations cells are equal; beyond they grow with the distance
_BEYOND = 1e-8  # share of the variance that lies in the outermost cells


@dataclass(frozen=True)
class Law:
    """The law of one latent, and the cells of the line on which its diffusion moves.

    Args:
        shape: exponent of the density, above 0.
    """

    shape: float

    def __post_init__(self) -> None:
        if not 0.05 <= self.shape <= 100:
            raise InvalidInput(f"the shape of the law must lie in [.05, 100], got {self.shape}")

    @cached_property
    def scale(self) -> float:
        """s, for unit variance."""
        return float(np.exp((gammaln(1 / self.shape) - gammaln(3 / self.shape)) / 2))

    def draw(self, size: tuple[int, ...], rng: np.random.Generator) -> Floats:
        """Independent values."""
        radius = rng.standard_gamma(1 / self.shape, size) ** (1 / self.shape)
        return np.asarray(self.scale * np.where(rng.random(size) < 0.5, -radius, radius))

    def beyond(self, radius: Floats) -> Floats:
        """Probability of a larger magnitude."""
        return np.asarray(gammaincc(1 / self.shape, (radius / self.scale) ** self.shape))

    def radius(self, beyond: Floats) -> Floats:
        """The magnitude that is exceeded with a probability."""
        return np.asarray(self.scale * gammainccinv(1 / self.shape, beyond) ** (1 / self.shape))

    @cached_property
    def _steps(self) -> Floats:
        """Magnitudes (2 K + 1,): middles of the cells at even places, edges at odd ones."""
        reach = self.scale * gammainccinv(3 / self.shape, _BEYOND) ** (1 / self.shape)
        return np.asarray(_CORE * np.sinh(np.linspace(0, np.arcsinh(reach / _CORE), 2 * _CELLS + 1)))

    @cached_property
    def edges(self) -> Floats:
        """Magnitudes between cells, ascending (K,); the last cells are open."""
        return self._steps[1::2]

    @cached_property
    def points(self) -> Floats:
        """Places of the cells (2 K + 1,)."""
        return _mirrored(self._steps[2::2], -1, 0.0)

    @cached_property
    def weights(self) -> Floats:
        """Probabilities of the cells."""
        tails = np.append(self.beyond(self.edges), 0.0)
        return _mirrored((tails[:-1] - tails[1:]) / 2, 1, 1 - tails[0])

    @cached_property
    def means(self) -> Floats:
        """Means of the law within each cell."""
        moment = self.scale * np.exp(gammaln(2 / self.shape) - gammaln(1 / self.shape))
        tails = np.append(moment * gammaincc(2 / self.shape, (self.edges / self.scale) ** self.shape), 0.0)
        return _mirrored((tails[:-1] - tails[1:]) / 2, -1, 0.0) / self.weights

    # --- the diffusion ----------------------------------------------------------------------------------------------

    @cached_property
    def spectrum(self) -> tuple[Floats, Floats]:
        """Rates (2 K + 1,) of the diffusion's eigenfunctions, ascending, and their values (2 K + 1, 2 K + 1) by column.

        They solve `f'' + (log p)' f' = -rate f`, and are orthonormal under the law.
        """
        log_density = np.log(self.shape / (2 * self.scale)) - gammaln(1 / self.shape)
        density = np.exp(log_density - (self.edges / self.scale) ** self.shape)
        flow = np.concatenate([density[::-1], density]) / np.diff(self.points)
        leaving = (np.append(flow, 0.0) + np.insert(flow, 0, 0.0)) / self.weights
        between = -flow / np.sqrt(self.weights[:-1] * self.weights[1:])
        rates, vectors = eigh_tridiagonal(leaving, between)
        return np.maximum(rates, 0.0), vectors / np.sqrt(self.weights)[:, None]

    @cached_property
    def linear(self) -> Floats:
        """Shares of z's variance that the eigenfunctions hold, by rate; they add up to 1."""
        energy = np.square((self.weights * self.means) @ self.spectrum[1])
        return np.asarray(energy / energy.sum())

    def lag(self, rho: float) -> float:
        """Time after which `corr(z_0, z_t)` is rho."""
        rates = self.spectrum[0]
        return float(np.exp(brentq(lambda log: self.linear @ np.exp(-rates * np.exp(log)) - rho, -12, 25, xtol=1e-10)))

    def joint(self, rho: float, channel: Channel) -> Floats:
        """Probabilities of pairs of cells, first view by row."""
        if channel == "published":
            spread = np.sqrt(1 - rho**2)
            bounds = np.concatenate([-self.edges[::-1], self.edges])
            reached = (bounds - rho * self.means[:, None]) / spread
            tails = self.beyond(np.abs(reached)) / 2
            below = np.where(reached < 0, tails, 1 - tails)
            padded = np.pad(below, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))
            return np.asarray(self.weights[:, None] * np.diff(padded, axis=1))
        rates, functions = self.spectrum
        mass = self.weights[:, None] * functions
        return np.asarray(np.maximum((mass * np.exp(-rates * self.lag(rho))) @ mass.T, 0.0))

    # --- what the theory promises -----------------------------------------------------------------------------------

    @property
    def discrete(self) -> bool:
        """Whether a slowest function exists: up to shape 1 the rates are a continuum, whose end none attains."""
        return self.shape > 1

    def promise(self, rho: float, channel: Channel) -> float:
        """Linear R2 of the function of z that aligns best under whiteness, the best that training can find.

        Stationary: the diffusion's slowest eigenfunction. Published: the minimiser of `E|h - h'|^2` at unit variance of
        the pooled views, which have two laws.
        """
        if channel == "stationary":
            return float(self.linear[1])
        joint = self.joint(rho, channel)
        joint = (joint + joint.T) / 2
        pooled = joint.sum(axis=1)
        root = np.sqrt(np.maximum(pooled, 1e-300))
        last = len(root) - 1
        vectors = eigh(joint / np.outer(root, root), subset_by_index=(last - 1, last))[1]
        best = vectors[:, 0] / root
        centred = best - self.weights @ best
        return float(
            (self.weights @ (centred * self.means)) ** 2
            / ((self.weights @ centred**2) * (self.weights @ self.means**2))
        )

    def gaussian_promise(self) -> float:
        """Linear R2 of the increasing function of z that is `N(0, 1)`."""
        below = np.concatenate([self.beyond(self.edges[::-1]) / 2, 1 - self.beyond(self.edges) / 2])
        density = np.pad(norm.pdf(norm.ppf(below)), 1)  # E[h; a < h < b] = pdf(a) - pdf(b)
        return float((self.means @ (density[:-1] - density[1:])) ** 2 / (self.weights @ self.means**2))

    # --- pairs ------------------------------------------------------------------------------------------------------

    def pairs(self, count: int, n: int, rho: float, channel: Channel, rng: np.random.Generator) -> Floats:
        """Pairs (count, 2, n) of n independent latents, correlated by rho."""
        z = self.draw((count, n), rng)
        if channel == "published":
            return np.stack([z, rho * z + np.sqrt(1 - rho**2) * self.draw((count, n), rng)], axis=1)
        steps = np.cumsum(_joint(self, rho), axis=1)
        here = self.cell(z).ravel()
        # One search for all rows: each is raised by its number.
        rows = np.arange(len(steps))[:, None]
        raised = (rows + steps / steps[:, -1:]).ravel()
        there = np.searchsorted(raised, here + rng.random(here.size), side="right") - here * len(steps)
        return np.stack([z, self.within(np.clip(there, 0, len(steps) - 1), rng).reshape(z.shape)], axis=1)

    def cell(self, z: Floats) -> NDArray[np.intp]:
        """Number of the cell of each value."""
        return np.searchsorted(np.concatenate([-self.edges[::-1], self.edges]), z)

    def within(self, cells: NDArray[np.intp], rng: np.random.Generator) -> Floats:
        """Values of the law within cells."""
        place = cells - len(self.edges)
        tails = np.concatenate([[1.0], self.beyond(self.edges), [0.0]])
        inner, outer = tails[np.abs(place)], tails[np.abs(place) + 1]
        radius = self.radius(inner + (outer - inner) * rng.random(cells.shape))
        side = np.where(place == 0, np.where(rng.random(cells.shape) < 0.5, -1, 1), np.sign(place))
        return np.asarray(side * radius)


@cache
def _joint(law: Law, rho: float) -> Floats:
    return law.joint(rho, "stationary")


def _mirrored(right: Floats, sign: int, middle: float) -> Floats:
    return np.concatenate([sign * right[::-1], [middle], right])
