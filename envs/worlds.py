"""Latent worlds: stationary processes of joint angles whose positive pairs an encoder learns from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldplan.errors import InvalidInput

Floats = NDArray[np.float64]

JOINT_RANGE = (np.pi, np.deg2rad(160.0))  # radians: an image wraps the shoulder at pi, the wrist stops at 160 degrees


@dataclass(frozen=True)
class OUWorld:
    """Gaussian joint angles `theta = scale * z`, `z ~ N(0, I)`, views correlated by the Ornstein-Uhlenbeck channel.

    `V` views `z_v = sqrt(rho) c + sqrt(1 - rho) e_v`, `c, e_v ~ N(0, I)`: every pair of views has correlation exactly
    rho, and for V = 2 this is the channel `z' = rho z + sqrt(1 - rho^2) eta` of Klindt, LeCun and Balestriero 2026
    (arXiv 2605.26379). (Views drawn around one `z` would be correlated by rho^2 among each other.)

    Args:
        rho: correlation of two views, in (0, 1).
        scale: standard deviation of each joint, radians.
        views: V, at least 2.
        truncate: redraw a set of views until all lie within `JOINT_RANGE`: no image is ambiguous then, at the price
            of a law that is Gaussian only up to the tails cut off.
    """

    rho: float = 0.9
    scale: tuple[float, float] = (1.0, 1.0)
    views: int = 2
    truncate: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.rho < 1.0:
            raise InvalidInput(f"rho must lie in (0, 1), got {self.rho}")
        if len(self.scale) != 2 or not all(np.isfinite(s) and s > 0 for s in self.scale):
            raise InvalidInput(f"scale must be two positive angles, got {self.scale}")
        if self.views < 2:
            raise InvalidInput(f"a positive pair needs at least 2 views, got {self.views}")
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
