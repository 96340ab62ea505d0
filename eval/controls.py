"""Negative controls of Theorem 4: ways to be wrong that the verifier must reject, each at known sizes.

The theorem (Klindt, LeCun, Balestriero 2026, arXiv 2605.26379) needs an orthogonal map, the goal carried along with the
state, a cost that no rotation changes, and no limits on latents. Each control breaks one of these by a known amount.
A consistently encoded offset breaks none, and must be accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from worldplan.cost import QuadraticCost
from worldplan.eval.problems import LatentProblem, seen_through
from worldplan.rotation import random_rotation

Floats = NDArray[np.float64]
Pair = tuple[LatentProblem, LatentProblem]
Control = Callable[[LatentProblem, float, np.random.Generator], Pair]
"""World, size, generator to the two problems that are compared; the same draws at every size."""


def non_orthogonal(world: LatentProblem, size: float, rng: np.random.Generator) -> Pair:
    """`h = M z` with `|M'M - I| = size` (spectral norm), in a random direction."""
    n = world.latent_dim
    G = rng.standard_normal((n, n))
    values, vectors = np.linalg.eigh(G + G.T)
    values *= np.sign(values[np.abs(values).argmax()]) / np.abs(values).max()  # the largest is +1
    stretch = (vectors * np.exp(0.5 * np.log1p(size) * values)) @ vectors.T
    return world, seen_through(world, random_rotation(n, rng) @ stretch)


def forgotten_offset(world: LatentProblem, size: float, rng: np.random.Generator) -> Pair:
    """`h = Q z + b`, but the goal is taken as `Q z_goal`; `|b| = size |x_start - x_goal|`."""
    fair, encoded = consistent_offset(world, size, rng)
    return fair, replace(encoded, goal=encoded.goal - encoded.shift[: world.latent_dim])


def consistent_offset(world: LatentProblem, size: float, rng: np.random.Generator) -> Pair:
    """The same with the goal encoded like the states: no mistake, to be accepted."""
    n = world.latent_dim
    Q, direction = random_rotation(n, rng), rng.standard_normal(n)
    away = np.linalg.norm(world.start - world.cost.goal_state(world.goal))
    return world, seen_through(world, Q, size * away * direction / np.linalg.norm(direction))


def goal_left_behind(world: LatentProblem, size: float, rng: np.random.Generator) -> Pair:
    """`h = Q z`, but the goal is `z_goal`; Q turns a random plane through it so that `|Q z_goal - z_goal| = size |..|`.

    Sizes up to 2.
    """
    first = world.goal / np.linalg.norm(world.goal)
    second = rng.standard_normal(world.latent_dim)
    second -= first * (first @ second)
    second /= np.linalg.norm(second)
    turn = np.outer(second, first) - np.outer(first, second)
    Q = expm(2 * np.arcsin(size / 2) * turn)
    return world, replace(seen_through(world, Q), goal=world.goal)


def anisotropic_cost(world: LatentProblem, size: float, rng: np.random.Generator) -> Pair:
    """`W = kron(C, diag(1 + size, 1, ...))`, the same in both spaces."""
    n = world.latent_dim
    Q = random_rotation(n, rng)
    while abs(Q[0, 0]) > 0.9:  # a rotation about the first axis leaves this cost alone: no mistake
        Q = random_rotation(n, rng)
    D = np.kron(np.eye(len(world.start) // n), np.diag([1 + size] + [1.0] * (n - 1)))
    # C commutes with D block by block, so that this is kron(C, diag(...)).
    cost = QuadraticCost(np.sqrt(D) @ world.cost.W @ np.sqrt(D), world.cost.R, latent_dim=n)
    tilted = replace(world, cost=cost)
    return tilted, seen_through(tilted, Q)


CONTROLS: dict[str, Control] = {
    "non-orthogonal map": non_orthogonal,
    "goal without the offset": forgotten_offset,
    "goal not rotated": goal_left_behind,
    "anisotropic cost": anisotropic_cost,
}
TRUTHS: dict[str, Control] = {"consistent offset": consistent_offset}
