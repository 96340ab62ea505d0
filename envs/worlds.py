"""Latent worlds: stationary processes of joint angles that give an encoder its positive pairs.

Theory: Klindt, LeCun and Balestriero 2026 (arXiv 2605.26379).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq
from scipy.stats import gennorm

from worldplan.arrays import Floats
from worldplan.data.recipes import GeneralizedNormalOptions, OUOptions
from worldplan.errors import InvalidInput

JOINT_RANGE = (np.pi, np.deg2rad(160.0))  # radians: an image wraps the shoulder at pi, the wrist stops at 160 degrees
_STEP = 0.02  # largest step of the Langevin channel, for unit variance: it is accepted with probability above .97
_LEAST_STEPS = 8  # few large steps would leave many pairs equal, by rejection: that is no diffusion


@dataclass(frozen=True)
class OUWorld(OUOptions):
    """Gaussian joint angles `theta = scale * z`, `z ~ N(0, I)`, views correlated by the Ornstein-Uhlenbeck channel.

    The `V` views are `z_v = sqrt(rho) c + sqrt(1 - rho) e_v` with `c, e_v ~ N(0, I)`. Every pair has correlation
    exactly rho. For V = 2 this is the paper's channel `z' = rho z + sqrt(1 - rho^2) eta`. (Views drawn around one `z`
    would be correlated by rho^2 among each other.) Options: `OUOptions`.
    """

    kind: ClassVar[str] = "ou"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.truncate and any(s > 3 * r for s, r in zip(self.scale, JOINT_RANGE, strict=True)):
            raise InvalidInput(f"truncation at {JOINT_RANGE} would reject nearly every draw of scale {self.scale}")

    def sample(self, count: int, rng: np.random.Generator) -> Floats:
        """Draw `count` sets of views: joint angles (count, V, 2), radians."""
        angles = self._draw(count, rng)
        while self.truncate:
            outside = (np.abs(angles) > JOINT_RANGE).any(axis=(1, 2))
            if not outside.any():
                break
            angles[outside] = self._draw(int(outside.sum()), rng)
        return angles

    def _draw(self, count: int, rng: np.random.Generator) -> Floats:
        centre = rng.standard_normal((count, 1, 2))
        own = rng.standard_normal((count, self.views, 2))
        angles: Floats = (np.sqrt(self.rho) * centre + np.sqrt(1.0 - self.rho) * own) * np.asarray(self.scale)
        return angles


@dataclass(frozen=True)
class GeneralizedNormalWorld(GeneralizedNormalOptions):
    """Non-Gaussian joint angles `theta = scale * z`, whose views are equally distributed and correlated by rho.

    The coordinates of z are independent, with unit variance and density proportional to `exp(-|z / s|^alpha)`. Alpha 1
    is Laplace, 2 Gaussian, 8 nearly uniform. For each coordinate, V Metropolis-adjusted Langevin chains (Roberts and
    Tweedie 1996) run from one centre to the V views. The chain is reversible and leaves the density exactly as it is.
    So the way from one view to the centre and on to another is one chain of twice the length; rho is its lag
    correlation. It is near the diffusion `dz = (log p)'(z) dt + sqrt(2) dW`, for alpha 2 the channel of `OUWorld`.

    The paper proves that alignment finds z itself, up to rotation, only for the Gaussian law. Its sweep over alpha
    draws `z' = rho z + sqrt(1 - rho^2) eta` with eta of the law of z. For alpha other than 2 the two views then have
    different laws. Options: `GeneralizedNormalOptions`.
    """

    kind: ClassVar[str] = "gennorm"

    def sample(self, count: int, rng: np.random.Generator) -> Floats:
        """Draw `count` sets of views: joint angles (count, V, 2), radians."""
        steps, step = _calibrate(float(self.alpha), float(self.rho))
        centre: Floats = gennorm.rvs(self.alpha, size=(count, 1, 2), random_state=rng) / gennorm.std(self.alpha)
        z = np.repeat(centre, self.views, axis=1)
        for _ in range(steps):
            proposal, accept = _propose(z, rng.standard_normal(z.shape), self.alpha, step)
            z = np.where(rng.random(z.shape) < accept, proposal, z)
        angles: Floats = z * np.asarray(self.scale)
        return angles


def _propose(z: Floats, noise: Floats, alpha: float, step: float) -> tuple[Floats, Floats]:
    """One Langevin proposal from z under standard normal noise, and the probability of accepting it (Metropolis)."""
    s = 1.0 / float(gennorm.std(alpha))

    def drift(x: Floats) -> Floats:
        return np.asarray(x - step * alpha / s * np.sign(x) * np.abs(x / s) ** (alpha - 1.0))

    proposal = drift(z) + np.sqrt(2.0 * step) * noise
    back = np.square(z - drift(proposal)) / (4.0 * step)  # -log density of the way back; that of the way is noise^2 / 2
    log_ratio = np.abs(z / s) ** alpha - np.abs(proposal / s) ** alpha + np.square(noise) / 2.0 - back
    return proposal, np.exp(np.minimum(log_ratio, 0.0))


@cache
def _calibrate(alpha: float, rho: float) -> tuple[int, float]:
    """Number and size of the steps from the centre to a view, so that two views are correlated by rho."""
    steps = _LEAST_STEPS
    while _correlation(alpha, steps, _STEP) > rho:
        steps += max(steps // 4, 1)
    return steps, float(brentq(lambda h: _correlation(alpha, steps, h) - rho, 1e-6, _STEP, rtol=1e-5))


def _correlation(alpha: float, steps: int, step: float) -> float:
    """Correlation of two views, each `steps` steps from their centre: `E[(P^steps id)(z)^2]`.

    The transition operator P averages over the noise (Gauss-Hermite); between grid points a function is a spline.
    """
    noise, weights = hermegauss(32)
    weights /= weights.sum()
    s = 1.0 / float(gennorm.std(alpha))
    z = np.linspace(-1.0, 1.0, 257) * float(gennorm.isf(1e-9, alpha, scale=s))
    density = gennorm.pdf(z, alpha, scale=s)
    proposal, accept = _propose(z[:, None], noise, alpha, step)
    f = z
    for _ in range(steps):
        f = f + (accept * (CubicSpline(z, f)(proposal) - f[:, None])) @ weights
    return float(density @ np.square(f) / (density @ np.square(z)))
