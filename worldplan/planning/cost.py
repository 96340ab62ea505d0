"""Quadratic costs on `x = [h; v]`, and a check that rotating the latent space does not change them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from worldplan.arrays import ROUNDING, Floats, check_memory, finite_array, finite_vectors, not_overflown, semidefinite
from worldplan.checks import positive_int
from worldplan.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class QuadraticCost:
    """Stage cost `l(x, u) = (x - x_goal)' W (x - x_goal) + u' R u`, without a factor one half.

    Theorem 4 of Klindt, LeCun and Balestriero 2026 (arXiv 2605.26379) needs the same `l` after every rotation of the
    latent space, `x -> kron(I, Q) x` for Q in O(n). That holds iff `W = kron(C, I_n)`, which `invariant` tests.

    Args:
        W: (d, d) symmetric, positive semidefinite; cost per squared state unit (latent units, latent units per step).
        R: (m, m) symmetric, positive definite; cost per squared action unit.
        latent_dim: n, the size of one block of `x = [h; v]`; it divides d. None declares no blocks (n = d), so that
            `invariant` claims only what W shows. A goal of half the state's length is still read as a position.

    Raises:
        InvalidInput: W or R is not of this form, or `latent_dim` does not divide d.
    """

    W: Floats
    R: Floats
    latent_dim: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "W", semidefinite("W", self.W))
        object.__setattr__(self, "R", semidefinite("R", self.R, definite=True))
        if self.latent_dim is not None:
            n = positive_int("latent_dim", self.latent_dim)
            if self.state_dim % n:
                raise InvalidInput(f"latent_dim must divide the state dimension {self.state_dim}, got {n}")
            object.__setattr__(self, "latent_dim", n)

    @classmethod
    def goal_reaching(
        cls, n: int, control_weight: float = 0.1, velocity_weight: float = 0.0, action_dim: int | None = None
    ) -> QuadraticCost:
        """`|h - goal|^2 + velocity_weight |v|^2 + control_weight |u|^2` on `x = [h; v]` of length 2n; invariant.

        Args:
            n: latent dimension.
            control_weight: cost per squared action unit, > 0.
            velocity_weight: cost per squared latent unit per step, >= 0.
            action_dim: m; n by default (the Reacher has two joints and two torques).

        Raises:
            InvalidInput: a size or weight is out of range.
        """
        n = positive_int("n", n)
        m = n if action_dim is None else positive_int("action_dim", action_dim)
        check_memory("a cost of so many numbers", (2 * n + m, 2 * n + m))
        weights = finite_array("control_weight and velocity_weight", [control_weight, velocity_weight])
        if weights.shape != (2,) or weights[0] <= 0 or weights[1] < 0:
            raise InvalidInput(
                f"control_weight must be > 0 and velocity_weight >= 0, got {control_weight} and {velocity_weight}"
            )
        W = np.diag(np.repeat([1.0, weights[1]], n))
        return cls(W, weights[0] * np.eye(m), latent_dim=n)

    @property
    def state_dim(self) -> int:
        """d, the length of the control state."""
        return int(self.W.shape[0])

    @property
    def action_dim(self) -> int:
        """m, the length of an action."""
        return int(self.R.shape[0])

    @property
    def invariant(self) -> bool:
        """Whether every rotation of the latent space leaves the cost unchanged: `W = kron(C, I_n)` up to rounding."""
        n = self.latent_dim or self.state_dim
        blocks = self.W.reshape(self.state_dim // n, n, self.state_dim // n, n)
        C = np.einsum("iaja->ij", blocks) / n  # the nearest C in the Frobenius norm
        return bool(np.abs(self.W - np.kron(C, np.eye(n))).max() <= ROUNDING * np.abs(self.W).max())

    def goal_state(self, goal: ArrayLike) -> Floats:
        """A goal as a control state: (..., n) becomes (goal, 0), at rest; (..., d) is returned unchanged.

        Raises InvalidInput if the goal has another length or is not finite.
        """
        x = finite_array("goal", goal)
        d = self.state_dim
        n = self.latent_dim or (d if d % 2 else d // 2)
        if x.ndim == 0 or x.shape[-1] not in (n, d):
            raise InvalidInput(f"goal must have shape (..., {n}) or (..., {d}), got {x.shape}")
        return np.concatenate([x, np.zeros((*x.shape[:-1], d - x.shape[-1]))], axis=-1)

    def stage(self, error: ArrayLike, action: ArrayLike) -> Floats:
        """`e' W e + u' R u` for errors `e = x - x_goal` (..., d) and actions (..., m).

        Raises InvalidInput if a length does not match, an entry is not finite, or the cost overflows.
        """
        e = finite_vectors("error", error, self.state_dim)
        u = finite_vectors("action", action, self.action_dim)
        with np.errstate(over="ignore", invalid="ignore"):
            return not_overflown("the cost", quadratic_form(e, self.W) + quadratic_form(u, self.R))


def quadratic_form(x: Floats, M: Floats) -> Floats:
    """`x' M x` for vectors x (..., d)."""
    return np.asarray(np.einsum("...i,...i->...", x @ M, x))
