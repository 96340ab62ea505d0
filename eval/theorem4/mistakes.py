"""Planted mistakes that the verifier of Theorem 4 must reject, each at known sizes.

The theorem (Klindt, LeCun and Balestriero 2026, arXiv 2605.26379) needs an orthogonal map and a goal that is encoded
like the states. It also needs a cost that no rotation changes, and no limits on latents. Each mistake breaks one of
these by a known amount. A consistently encoded offset breaks none, and must be accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import clarabel
import numpy as np
from scipy.linalg import expm
from scipy.sparse import csc_matrix, triu

from worldplan.arrays import Floats
from worldplan.errors import SolverFailed
from worldplan.eval.theorem4.gaps import Gaps, RolledOut, mpc_solver, plan_gaps
from worldplan.eval.theorem4.problems import LatentProblem, draw_problem, seen_through
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.rotation import random_rotation

Compared = tuple[LatentProblem, LatentProblem]
Mistake = Callable[[LatentProblem, float, np.random.Generator], Compared]
"""Maps world, size and generator to the two problems that are compared; draws do not depend on the size."""


def non_orthogonal(world: LatentProblem, size: float, rng: np.random.Generator) -> Compared:
    """`h = M z` with `|M'M - I| = size` (spectral norm), in a random direction."""
    n = world.latent_dim
    G = rng.standard_normal((n, n))
    values, vectors = np.linalg.eigh(G + G.T)
    values *= np.sign(values[np.abs(values).argmax()]) / np.abs(values).max()  # the largest is +1
    stretch = (vectors * np.exp(0.5 * np.log1p(size) * values)) @ vectors.T
    return world, seen_through(world, random_rotation(n, rng) @ stretch)


def forgotten_offset(world: LatentProblem, size: float, rng: np.random.Generator) -> Compared:
    """`h = Q z + b` with `|b| = size |x_start - x_goal|`, but the goal is taken as `Q z_goal`."""
    fair, encoded = consistent_offset(world, size, rng)
    return fair, replace(encoded, goal=encoded.goal - encoded.shift[: world.latent_dim])


def consistent_offset(world: LatentProblem, size: float, rng: np.random.Generator) -> Compared:
    """Harmless: the same offset, with the goal encoded like the states."""
    n = world.latent_dim
    Q, direction = random_rotation(n, rng), rng.standard_normal(n)
    away = np.linalg.norm(world.start - world.cost.goal_state(world.goal))
    return world, seen_through(world, Q, size * away * direction / np.linalg.norm(direction))


def goal_left_behind(world: LatentProblem, size: float, rng: np.random.Generator) -> Compared:
    """`h = Q z`, goal left at `z_goal`. Q turns a random plane through it, with `|Q z_goal - z_goal| = size |z_goal|`.

    Sizes up to 2.
    """
    first = world.goal / np.linalg.norm(world.goal)
    second = rng.standard_normal(world.latent_dim)
    second -= first * (first @ second)
    second /= np.linalg.norm(second)
    turn = np.outer(second, first) - np.outer(first, second)
    Q = expm(2 * np.arcsin(size / 2) * turn)
    return world, replace(seen_through(world, Q), goal=world.goal)


def anisotropic_cost(world: LatentProblem, size: float, rng: np.random.Generator) -> Compared:
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


MISTAKES: dict[str, Mistake] = {
    "non-orthogonal map": non_orthogonal,
    "goal without the offset": forgotten_offset,
    "goal not rotated": goal_left_behind,
    "anisotropic cost": anisotropic_cost,
}
HARMLESS: dict[str, Mistake] = {"consistent offset": consistent_offset}


# --- limits on single latents: the one mistake that is not about the encoder

HORIZON = 6
PRECISION = 1e-12  # of an interior point method
ROTATIONS = 30  # number drawn; the one that shrinks the plan's largest coordinate most is used


def rotated_box(size: float, rng: np.random.Generator, k: int) -> Gaps:
    """A mistake: the same `|h_i| <= b` in both spaces, `h = Q z`; the plan without limits reaches `(1 + size) b`."""
    world, free = _world(rng, k)
    peak = float(np.abs(free[1:]).max())
    candidates = [random_rotation(world.latent_dim, rng) for _ in range(ROTATIONS)]
    Q = min(candidates, key=lambda Q: float(np.abs(free[1:] @ Q.T).max()))
    return _box_gaps(world, Q, peak / (1 + size))


def permuted_box(size: float, rng: np.random.Generator, k: int) -> Gaps:
    """Harmless: the same limits, where Q only permutes and flips axes."""
    world, free = _world(rng, k)
    n = world.latent_dim
    Q = np.eye(n)[rng.permutation(n)] * rng.choice([-1.0, 1.0], n)
    return _box_gaps(world, Q, float(np.abs(free[1:]).max()) / (1 + size))


def _world(rng: np.random.Generator, k: int) -> tuple[LatentProblem, Floats]:
    """A problem whose best plan without limits goes furthest along an axis, and the states of that plan."""
    n = 2 + k % 3
    drawn = draw_problem(rng, n, action_dim=n, steps=HORIZON)
    free = _BoxPlanner(drawn).plan(None).states
    furthest = free[1:][np.linalg.norm(free[1:], axis=1).argmax()]
    basis, upper = np.linalg.qr(np.column_stack([furthest, np.eye(n)[:, 1:]]))
    world = seen_through(drawn, (basis * np.where(np.diag(upper) < 0, -1.0, 1.0)).T)
    return world, free @ world.basis.T


def _box_gaps(world: LatentProblem, Q: Floats, limit: float) -> Gaps:
    seen = seen_through(world, Q)
    ours, theirs = (_BoxPlanner(p).plan(limit) for p in (world, seen))
    return plan_gaps(world, seen, ours, theirs)


class _BoxPlanner:
    """MPC with `|h_t| <= limit` for every step and coordinate and no torque limit; the states are `h = free + G u`."""

    def __init__(self, problem: LatentProblem) -> None:
        self.problem = problem
        self.solver = mpc_solver(problem, HORIZON, np.inf)
        A, B = problem.dynamics.A, problem.dynamics.B
        powers = [B]
        for _ in range(HORIZON - 1):
            powers.append(A @ powers[-1])
        empty = np.zeros_like(B)
        self.G = np.block([[powers[t - s] if s <= t else empty for s in range(HORIZON)] for t in range(HORIZON)])
        self.q = self.solver.linear_term(problem.start, problem.goal)
        self.free = self._roll_out(np.zeros(self.G.shape[1])).states[1:].ravel()

    def plan(self, limit: float | None) -> RolledOut:
        """The best plan within the limit (None: no limit), exact to rounding if the solver's active set is right."""
        H, q, G = self.solver.qp.H / self.solver.qp.scale, self.q / self.solver.qp.scale, self.G
        if limit is None:
            return self._roll_out(self.solver.qp.unlimited(self.q))
        sides, bounds = np.concatenate([G, -G]), limit + np.concatenate([-self.free, self.free])
        near, forces = self._interior(H, q, sides, bounds)
        # An interior-point solution is good to the root of its tolerance where a limit is met with little force. With
        # the active limits known, one linear solve is exact. It is kept if it is feasible and its forces push inwards.
        met = forces > bounds - sides @ near
        C = sides[met]
        system = np.block([[2 * H, C.T], [C, np.zeros((len(C), len(C)))]])
        solution = np.linalg.lstsq(system, np.concatenate([-2 * q, bounds[met]]))[0]
        exact, inwards = solution[: len(q)], solution[len(q) :]
        slack = 1e-9 * limit
        if (inwards >= -slack).all() and (sides @ exact <= bounds + slack).all():
            return self._roll_out(exact)
        return self._roll_out(near)

    def _interior(self, H: Floats, q: Floats, sides: Floats, bounds: Floats) -> tuple[Floats, Floats]:
        """Clarabel's minimiser of `u' H u + 2 q' u` with `sides u <= bounds`, and the forces of these limits."""
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = PRECISION
        cones = [clarabel.NonnegativeConeT(len(bounds))]
        curvature = triu(2 * H, format="csc")
        found = clarabel.DefaultSolver(curvature, 2 * q, csc_matrix(sides), bounds, cones, settings).solve()
        if found.status != clarabel.SolverStatus.Solved:
            raise SolverFailed(
                f"no plan within the latent box (status {found.status})", self.problem, str(found.status)
            )
        return np.array(found.x), np.array(found.z)

    def _roll_out(self, u: Floats) -> RolledOut:
        actions = u.reshape(HORIZON, -1)
        return RolledOut(actions, *self.solver.roll_out(self.problem.start, self.problem.goal, actions))
