"""Theorem 4 on circles and lines: which maps of the latent keep every plan, and which do not.

*Statement.* The latent lies in `G = T^k x R^l`, and the plant does not depend on where on a circle it is. The cost is
`W = C kron diag(w_1 on circles, w_2 on lines)`, R > 0. Let `h = s(z)` with s a translation, followed by signs and
exchanges of the circles, and a rotation Q of the lines. Both learners plan with the same cost, from errors
`h (-) g` the shorter way round. Then their torques and values are equal. *Proof.* s maps differences on G to
differences, by `M = diag(P, Q)` with P a signed permutation: wrapping commutes with signs and exchanges. M is
orthogonal and commutes with W. The rest is Theorem 4 of Klindt, LeCun and Balestriero (2026, arXiv 2605.26379) on the
differences. Other rotations of two circles, and a stretched circle, do not keep the lattice of full turns. A circle
cannot enter a line continuously. A line that enters a circle is a map of G, but no isometry. Each must be rejected.
(Ours.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np

from worldplan.agents.latent_controller import LatentController
from worldplan.arrays import Floats
from worldplan.eval.theorem4.gaps import Gaps
from worldplan.eval.theorem4.problems import Matrices, relative
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.rotation import change_basis, random_symmetry
from worldplan.planning.space import LatentSpace

STEPS = 12


@dataclass(frozen=True, eq=False)
class SpaceProblem:
    """Bring an arm of circles and lines from `start` (n,), with `rates` (n,), to `goal` (n,), in one encoder's latent.

    Poses are representatives; the learner sees them wrapped.
    """

    space: LatentSpace
    dynamics: LinearDynamics
    cost: QuadraticCost
    start: Floats
    rates: Floats
    goal: Floats


def draw_space_problem(rng: np.random.Generator, circles: int, lines: int) -> SpaceProblem:
    """A random problem on `circles` circles and `lines` lines, whose start and goal lie on two sides of each seam."""
    space, n = LatentSpace(*["circle"] * circles, *["line"] * lines), circles + lines
    inner = rng.standard_normal((n, n))
    inner *= rng.uniform(0.5, 0.95) / np.abs(np.linalg.eigvals(inner)).max()
    spring = np.where(space.circles, 0.0, 0.05 * rng.standard_normal((n, n)))  # of the lines alone
    fast = np.block([[spring, inner], [spring, inner]])
    A = np.block([[np.eye(n), np.zeros((n, n))], [np.zeros((n, 2 * n))]]) + fast
    push = rng.standard_normal((n, n + 1))
    weights = rng.standard_normal((2, 2))
    kinds = np.where(space.circles, rng.uniform(0.5, 2), rng.uniform(0.5, 2))
    effort = rng.standard_normal((n + 1, n + 1))
    cost = QuadraticCost(
        np.kron(weights @ weights.T + 0.1 * np.eye(2), np.diag(kinds)),
        effort @ effort.T / n + 0.1 * np.eye(n + 1),
        latent_dim=n,
    )
    start = np.where(space.circles, np.pi - rng.uniform(0.2, 1.2, n), rng.standard_normal(n))
    goal = np.where(space.circles, rng.uniform(0.2, 1.2, n) - np.pi, rng.standard_normal(n))
    return SpaceProblem(space, LinearDynamics(A, np.vstack([push, push])), cost, start, rng.standard_normal(n), goal)


def space_gaps(world: SpaceProblem, M: Floats, offset: Floats, *, seam: bool = True) -> Gaps:
    """Gaps between planning in the world and behind `h = M z + offset`, wrapped, along the world's closed loop.

    Without `seam`, the learner behind h takes its circles for lines.
    """
    n = world.space.dim
    seen = replace(world, dynamics=change_basis(world.dynamics, np.kron(np.eye(2), M)))
    ours, theirs = (
        _controller(Matrices.of(p.dynamics, p.cost), space)
        for p, space in ((world, world.space), (seen, world.space if seam else LatentSpace.lines(n)))
    )
    state, pairs, values = np.concatenate([world.start, world.rates]), [], []
    for _ in range(STEPS):
        h = world.space.wrap(M @ state[:n] + offset)
        g = world.space.wrap(M @ world.goal + offset)
        mean, goal = np.concatenate([h, M @ state[n:]])[None], g[None]
        here = ours.act(state[None], world.goal[None])[0][0]
        pairs.append((here, theirs.act(mean, goal)[0][0]))
        values.append(
            (
                ours.lqr.value(state, ours.space.lift(world.goal, state[:n])),
                theirs.lqr.value(mean[0], theirs.space.lift(goal[0], mean[0, :n])),
            )
        )
        state = world.dynamics.step(state, here)
    torques, costs = np.array(pairs), np.array(values)
    plan, value = (relative(rows[:, 1] - rows[:, 0], rows[:, 0]) for rows in (torques, costs))
    return Gaps(value, relative(torques[0, 1] - torques[0, 0], torques[0, 0]), plan, {}, lambda: 1.0)


@lru_cache(maxsize=256)
def _controller(matrices: Matrices, space: LatentSpace) -> LatentController:
    """A controller without limits, for dynamics without drift."""
    return LatentController(matrices.dynamics, matrices.cost, space.dim, low=-np.inf, high=np.inf, space=space)


def _mixed(kinds: tuple[int, int], i: int, j: int, size: float, rng: np.random.Generator, k: int) -> Gaps:
    """Add `size` times coordinate j to coordinate i."""
    world = draw_space_problem(rng, *kinds)
    M = np.eye(world.space.dim)
    M[i, j] = size
    return space_gaps(world, M, rng.standard_normal(world.space.dim))


def _turned(size: float, rng: np.random.Generator, k: int) -> Gaps:
    """Turn two circles into each other by `size` radians."""
    world, M = draw_space_problem(rng, 2, k % 2), np.eye(2 + k % 2)
    M[:2, :2] = [[np.cos(size), -np.sin(size)], [np.sin(size), np.cos(size)]]
    return space_gaps(world, M, rng.standard_normal(world.space.dim))


def _stretched(size: float, rng: np.random.Generator, k: int) -> Gaps:
    """Stretch a circle by the factor `1 + size / 4`: a full turn is no longer a full turn."""
    world = draw_space_problem(rng, 1 + k % 2, 1)
    M = np.eye(world.space.dim)
    M[0, 0] += size / 4
    return space_gaps(world, M, rng.standard_normal(world.space.dim))


def _moved(size: float, rng: np.random.Generator, k: int) -> Gaps:
    """Harmless: a symmetry, and a translation; `size` plays no part."""
    world = draw_space_problem(rng, 1 + k % 3, (k + 1) % 3)
    return space_gaps(world, random_symmetry(world.space, rng), 3 * rng.standard_normal(world.space.dim))


SPACE_MISTAKES: dict[str, Callable[[float, np.random.Generator, int], Gaps]] = {
    "two circles turned": _turned,
    "circle in a line": partial(_mixed, (1, 1), 1, 0),
    "line in a circle": partial(_mixed, (1, 1), 0, 1),
    "circle stretched": _stretched,
}
SPACE_HARMLESS: dict[str, Callable[[float, np.random.Generator, int], Gaps]] = {"symmetry of circles and lines": _moved}
