"""Random control problems on latents, and the same problems as another encoder sees them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from worldplan.arrays import Floats
from worldplan.errors import InvalidInput
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.rotation import change_basis

RADIUS = (0.5, 1.2)  # spectral radius of A: stable and unstable
LEAST_ACTIONS = 1 / 8  # actions over latents
SMALL = 32  # states of problems that are compared by their numbers


@dataclass(frozen=True, eq=False)
class LatentProblem:
    """Bring `x` from `start` to `goal` at rest, in the coordinates of one encoder.

    The state `x = [h; v; ...]` (d,) has blocks of n. The plant is `x' = A x + B u + c + bend basis sin(x_world) + w_t`.
    Planners know its linear part only. The problem was drawn in the coordinates `x_world = basis^-1 (x - shift)`, so
    the plant is the same for all encoders. The goal is (n,), and `noise` (T, d) holds the disturbances `w_t`.
    """

    dynamics: LinearDynamics
    cost: QuadraticCost
    start: Floats
    goal: Floats
    noise: Floats
    basis: Floats
    shift: Floats
    bend: float = 0.0
    label: str = ""

    @property
    def latent_dim(self) -> int:
        """Length n of one block."""
        return len(self.goal)

    def to_world(self, states: Floats) -> Floats:
        """States (..., d) in the coordinates in which the problem was drawn."""
        return np.asarray(np.linalg.solve(self.basis, (states - self.shift).T).T)

    def step(self, state: Floats, action: Floats, t: int) -> Floats:
        """The plant's next state (d,)."""
        ahead = self.dynamics.step(state, action) + self.noise[t % len(self.noise)]
        if self.bend:
            ahead = ahead + self.bend * self.basis @ np.sin(self.to_world(state))
        return np.asarray(ahead)


@dataclass(frozen=True)
class Matrices:
    """What a planner is made from; equal where all numbers are. Many mistakes are put into the same worlds.

    With it, `lru_cache` makes each planner once. `more` is what else the planner depends on.
    """

    key: tuple[Any, ...]
    dynamics: LinearDynamics = field(compare=False)
    cost: QuadraticCost = field(compare=False)

    @classmethod
    def of(cls, dynamics: LinearDynamics, cost: QuadraticCost, *more: Any) -> Matrices:
        """Of a problem. Large ones are equal to themselves only: to compare them takes longer than to draw them."""
        if dynamics.state_dim > SMALL:
            return cls((id(dynamics), id(cost), *more), dynamics, cost)
        return cls((*(M.tobytes() for M in (dynamics.A, dynamics.B, cost.W, cost.R)), *more), dynamics, cost)


def draw_problem(
    rng: np.random.Generator,
    latent_dim: int,
    *,
    blocks: int = 1,
    action_dim: int | None = None,
    radius: float | None = None,
    noise: float = 0.0,
    bend: float = 0.0,
    steps: int = 12,
) -> LatentProblem:
    """A random problem with an O(n)-invariant cost `W = kron(C, I_n)`, R > 0 and a goal other than zero.

    n is `latent_dim`, d = `blocks` n, T = `steps`. m is `action_dim`, by default between n / 8 and n. `radius` is the
    spectral radius of A, by default in `RADIUS`. `noise` is a standard deviation, and `bend` is that of
    `LatentProblem`; both are in state units. Raises InvalidInput if a size is not positive.
    """
    if min(latent_dim, blocks, steps) < 1:
        raise InvalidInput(f"need sizes >= 1, got n = {latent_dim}, {blocks} blocks and {steps} steps")
    d = blocks * latent_dim
    least = max(1, int(np.ceil(latent_dim * LEAST_ACTIONS)))
    m = int(rng.integers(least, latent_dim + 1)) if action_dim is None else action_dim
    radius = float(rng.uniform(*RADIUS)) if radius is None else radius
    A = rng.standard_normal((d, d))
    A *= radius / np.abs(np.linalg.eigvals(A)).max()
    weights = rng.standard_normal((blocks, blocks))
    C = weights @ weights.T + 0.1 * np.eye(blocks)
    W = np.asarray(np.kron(C, np.eye(latent_dim)), dtype=np.float64)
    effort = rng.standard_normal((m, m))
    R = np.asarray(effort @ effort.T / m + 0.1 * np.eye(m), dtype=np.float64)
    return LatentProblem(
        dynamics=LinearDynamics(A, rng.standard_normal((d, m)) / np.sqrt(m), 0.1 * rng.standard_normal(d)),
        cost=QuadraticCost(W, R, latent_dim=latent_dim),
        start=rng.standard_normal(d),
        goal=rng.standard_normal(latent_dim),
        noise=noise * rng.standard_normal((steps, d)),
        basis=np.eye(d),
        shift=np.zeros(d),
        bend=bend,
        label=f"n={latent_dim} d={d} m={m} radius={radius:.3f}",
    )


def seen_through(problem: LatentProblem, M: ArrayLike, offset: ArrayLike | None = None) -> LatentProblem:
    """The problem for a learner whose encoder gives `h = M z + offset`: start, goal and dynamics in its coordinates.

    The cost is the same object. If it were carried along, to `M^-T W M^-1`, every invertible M would pass. The offset
    (n,) is zero if left out; a rate of change has none. Raises InvalidInput if M is not (n, n) or is singular.
    """
    n, d = problem.latent_dim, len(problem.start)
    M = np.asarray(M, dtype=np.float64)
    if M.shape != (n, n):
        raise InvalidInput(f"a map of latents of {n} is ({n}, {n}), got {M.shape}")
    b = np.zeros(n) if offset is None else np.asarray(offset, dtype=np.float64)
    L, shift = np.kron(np.eye(d // n), M), np.concatenate([b, np.zeros(d - n)])
    moved = change_basis(problem.dynamics, L)
    return replace(
        problem,
        dynamics=replace(moved, intercept=moved.intercept + shift - moved.A @ shift),
        start=L @ problem.start + shift,
        goal=M @ problem.goal + b,
        noise=problem.noise @ L.T,
        basis=L @ problem.basis,
        shift=L @ problem.shift + shift,
    )


def relative(difference: Any, reference: Any) -> float:
    """`|difference| / |reference|` in the Frobenius norm; absolute if the reference is 0, infinite if not a number."""
    size = float(np.linalg.norm(reference))
    gap = float(np.linalg.norm(difference)) / size if size > 0 else float(np.linalg.norm(difference))
    return gap if np.isfinite(gap) else float("inf")
