"""Judge encoders of a laboratory world: what they tell of the latents, Theorem 3, and what control by them costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldplan.arrays import Floats, varies
from worldplan.errors import WorldplanError
from worldplan.eval.identifiability.regression import fit_affine, r2
from worldplan.eval.identifiability.theorem3 import ApproximateIdentifiability, distortion
from worldplan.eval.laboratory.worlds import Mixing, gaussian_pairs
from worldplan.eval.statistics.estimate import Estimate
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.lqr import solve_lqr
from worldplan.provenance import Result

RHO = 0.5  # of the evaluator's own pairs: there the bound is tightest
RESAMPLES = 200  # for 4,000 states; fewer for fewer, as at scale smoke
LARGEST = 64  # latents up to which more than R2 is judged: Theorem 3's resamples cost n^2 a state, a gain n^3
Encode = Callable[[Floats], Floats]  # latents (N, n) -> embeddings (N, m)


@dataclass(frozen=True)
class Judged(Result):
    """An encoder, judged on states that it was not trained on; 95% intervals are over states.

    Attributes:
        r2: R2(h -> z), linear.
        back: R2(z -> h), linear.
        orthogonality: `||M'M - I||_F` of the linear map `h ~ M z + b`; None where the law is not Gaussian, and for more
            than `LARGEST` latents.
        theorem3: distance to the best rotation and its bound; None for the same.
    """

    r2: Estimate
    back: Estimate
    orthogonality: Estimate | None = None
    theorem3: ApproximateIdentifiability | None = None


def composed(encoder: Callable[[Tensor], Tensor], mixing: Mixing) -> Encode:
    """An encoder after a mixing of one member: embeddings of latents."""

    def encode(z: Floats) -> Floats:
        seen = mixing(torch.from_numpy(np.asarray(z, dtype=np.float32))[None])[0]
        return np.asarray(encoder(seen).numpy())

    return encode


def resamples_of(count: int) -> int:
    """Bootstrap resamples for so many states."""
    return max(2, min(RESAMPLES, count // 20))


def judge(encode: Encode, train: Floats, test: Floats, *, seed: int = 0, resamples: int = RESAMPLES) -> Judged:
    """Fit linear maps on states (N, n) and judge them on others (K, n); the encoder's own law may be any."""
    h, told = encode(train), encode(test)
    if not (varies(h).any() and varies(told).any()):
        nothing = Estimate(0.0, 0.0, 0.0)
        return Judged(nothing, nothing)
    how = {"resamples": resamples, "seed": seed}
    forward = r2(test, fit_affine(h, train)(told), **how).total
    return Judged(forward, r2(told, fit_affine(train, h)(test), **how).total)


def judge_gaussian(encode: Encode, n: int, *, count: int = 4000, seed: int = 0) -> Judged:
    """Judge an encoder on states of `N(0, I)`, with Theorem 3 on the evaluator's own pairs."""
    pairs = gaussian_pairs(2 * count, n, RHO, np.random.default_rng(seed))
    resamples = resamples_of(count)
    found = judge(encode, pairs[:count, 0], pairs[count:, 0], seed=seed, resamples=resamples)
    if n > LARGEST:
        return found
    h = np.stack([encode(pairs[:, 0]), encode(pairs[:, 1])], axis=1)
    linear, theorem3 = distortion(h, pairs, rho=RHO, resamples=resamples, seed=seed)
    return Judged(found.r2, found.back, linear.orthogonality, theorem3)


# --- control --------------------------------------------------------------------------------------------------------

STEP, HORIZON, EFFORT = 0.2, 40, 0.1  # of the integrator `z' = z + STEP u + noise`, and of its cost
NOISE = 0.02


def control_cost(encode: Encode, n: int, *, episodes: int = 64, seed: int = 0) -> float:
    """Cost of steering `z' = z + .2 u + noise` to goals by LQR in the latent, over the cost of true-state LQR.

    The latent's dynamics `h' = A h + B u + c` are fitted on 4,000 random steps; goals are encoded. Both controllers see
    the same starts, goals and noise, and pay `|z - goal|^2 + .1 |u|^2`. The horizon is that of the episodes: a latent
    with modes that no action moves has no gain for an infinite one. Infinite where no gain is found.
    """
    rng = np.random.default_rng(seed)
    z, u = rng.standard_normal((4000, n)), rng.standard_normal((4000, n))
    after = encode(z + STEP * u + NOISE * rng.standard_normal(z.shape))
    h = encode(z)
    fitted = fit_affine(np.concatenate([h, u], axis=1), after)
    m = h.shape[1]
    starts, goals = rng.standard_normal((2, episodes, n))
    noise = NOISE * rng.standard_normal((HORIZON, episodes, n))

    def cost(A: Floats, B: Floats, see: Encode) -> float:
        weight = QuadraticCost(np.eye(len(A)), EFFORT * np.eye(n))
        try:
            gains = solve_lqr(LinearDynamics(A, B), weight, HORIZON).gains
        except WorldplanError:
            return float("inf")
        assert gains is not None  # the horizon is finite
        z, total, there = starts, 0.0, see(goals)
        for k in range(HORIZON):
            u = np.clip(-(see(z) - there) @ gains[k].T, -5.0, 5.0)
            total += float(np.square(z - goals).sum() + EFFORT * np.square(u).sum())
            z = z + STEP * u + noise[k]
        return total + float(np.square(z - goals).sum())

    best = cost(np.eye(n), STEP * np.eye(n), lambda z: z)
    return cost(fitted.M[:, :m], fitted.M[:, m:], encode) / best
