"""Is the latent the true state up to a linear map? Out-of-sample R2 both ways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldplan.agents.planning import Encoder
from worldplan.envs.rendering import render_frames, sample_targets
from worldplan.errors import InvalidInput

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LinearFit:
    """Out-of-sample R2 of linear regression, with its direction in the name.

    Attributes:
        latent_to_state: R2(h -> z) over all joints: is the state in the latent, linearly?
        state_to_latent: R2(z -> h) over all coordinates: is there nothing else in the latent?
        per_joint: R2(h -> z_i), one for each joint.
    """

    latent_to_state: float
    state_to_latent: float
    per_joint: tuple[float, ...]


def linear_fit(latents: Floats, states: Floats, train: float = 0.5) -> LinearFit:
    """Regress latents (N, m) on states (N, n) and back, on the first rows; judge on the rest.

    Raises:
        InvalidInput: shapes that do not fit, fewer test rows than coefficients, or latents or states that do not vary.
    """
    h, z = np.asarray(latents, dtype=np.float64), np.asarray(states, dtype=np.float64)
    if h.ndim != 2 or z.ndim != 2 or len(h) != len(z) or not (np.isfinite(h).all() and np.isfinite(z).all()):
        raise InvalidInput(f"need finite latents (N, m) and states (N, n), got {h.shape} and {z.shape}")
    cut = int(train * len(h))
    if min(cut, len(h) - cut) < 10 * (max(h.shape[1], z.shape[1]) + 1):
        raise InvalidInput(
            f"{len(h)} rows are too few to fit and to judge a regression of {h.shape[1]} on {z.shape[1]}"
        )
    to_state, to_latent = _r2(h, z, cut), _r2(z, h, cut)
    return LinearFit(to_state[0], to_latent[0], to_state[1])


def _r2(x: Floats, y: Floats, cut: int) -> tuple[float, tuple[float, ...]]:
    X = np.column_stack([x, np.ones(len(x))])
    coefficients = np.linalg.lstsq(X[:cut], y[:cut], rcond=None)[0]
    left = np.square(y[cut:] - X[cut:] @ coefficients).sum(axis=0)
    spread = np.square(y[cut:] - y[cut:].mean(axis=0)).sum(axis=0)
    if not (spread > 0).all():
        raise InvalidInput("a latent or a state is constant: R2 is not defined")
    return float(1 - left.sum() / spread.sum()), tuple(float(r) for r in 1 - left / spread)


def gaussian_fit(
    encoder: Encoder, count: int = 4000, scale: float = 0.7, seed: int = 0, profile: str = "dmc"
) -> LinearFit:
    """`linear_fit` of an encoder on frames of joint angles N(0, scale^2), target anywhere.

    At scale .7 an angle is practically never ambiguous: the best possible R2 of an image is .9995.
    """
    rng = np.random.default_rng(seed)
    angles = scale * rng.standard_normal((count, 2))
    return linear_fit(encoder(render_frames(angles, sample_targets(count, rng), profile)), angles)
