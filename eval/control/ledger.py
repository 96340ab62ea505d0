"""The cost ledger: an exact breakdown of the cost of a closed loop, for any policy and any plant."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from numpy.typing import ArrayLike

from worldplan.arrays import finite_array, finite_vectors
from worldplan.errors import InvalidInput
from worldplan.planning.cost import quadratic_form
from worldplan.planning.lqr import LQRSolution
from worldplan.planning.space import LatentSpace
from worldplan.provenance import Result


@dataclass(frozen=True)
class CostLedger(Result):
    """`cost = initial - tail + policy + model`: an identity, for any actions and any plant.

    Let `e_t = x_t - x_goal`, `V(e) = e' P e`, `M = R + B' P B` and the model error `r_t = e_{t+1} - A e_t - B u_t`. By
    the Riccati equation of P, `e_t' W e_t + u_t' R u_t + V(A e_t + B u_t) = V(e_t) + |u_t + K e_t|_M^2`. The sum over
    steps telescopes.

    Attributes:
        initial: `V(e_0)`, what the model's optimum would cost from the start.
        tail: `V(e_T)`, what it would still cost after the last step.
        policy: `sum_t |u_t + K e_t|_M^2 >= 0`, the price of actions other than the optimum's.
        model: `sum_t 2 r_t' P (A e_t + B u_t) + r_t' P r_t`, the price (or gain) of model errors. A goal that is no
            rest point of the model (`A x_goal + c != x_goal`) counts here.
        cost: `sum_{t < T} e_t' W e_t + u_t' R u_t`, as paid.
    """

    derived = ("residual",)

    initial: float
    tail: float
    policy: float
    model: float
    cost: float

    @property
    def total(self) -> float:
        """`initial - tail + policy + model`: the cost, if P solves the Riccati equation."""
        return self.initial - self.tail + self.policy + self.model

    @property
    def residual(self) -> float:
        """`|total - cost|` over the largest entry: rounding alone, if P and K are the solution."""
        largest = max(abs(entry) for entry in asdict(self).values())
        return abs(self.total - self.cost) / largest if largest > 0 else 0.0

    @property
    def loss(self) -> float:
        """`cost + tail - initial`: the excess over the model's optimum, if that takes over after the last step."""
        return self.cost + self.tail - self.initial

    def times(self, factor: float) -> CostLedger:
        """The ledger in other units of cost."""
        return CostLedger(**{name: factor * entry for name, entry in asdict(self).items()})


def cost_ledger(
    lqr: LQRSolution, states: ArrayLike, actions: ArrayLike, goal: ArrayLike, space: LatentSpace | None = None
) -> CostLedger:
    """Account for the cost of one episode, or for the sum of several.

    On circles, errors are the shorter way from the goal at each step. Where an arm passes the pose opposite to its goal
    the error jumps by a turn; this counts as a model error, and the ledger still closes.

    Args:
        lqr: solution of an infinite horizon.
        states: (..., T + 1, d) of the plant.
        actions: (..., T, m) that the plant received, clipped or not.
        goal: (..., n) or (..., d), one per episode or one for all.
        space: space of the latents; None for lines.

    Raises:
        InvalidInput: a finite horizon, shapes or a space that do not fit, or entries that are not finite.
    """
    if lqr.gains is not None:
        raise InvalidInput("the ledger needs one P and K for all steps: solve_lqr without a horizon")
    x = finite_vectors("states", states, lqr.dynamics.state_dim)
    u = finite_vectors("actions", actions, lqr.dynamics.action_dim)
    goals = lqr.cost.goal_state(finite_array("goal", goal))
    if x.ndim < 2 or u.ndim != x.ndim or x.shape[:-2] != u.shape[:-2] or x.shape[-2] != u.shape[-2] + 1:
        raise InvalidInput(f"need states (..., T + 1, d) and actions (..., T, m), got {x.shape} and {u.shape}")
    if goals.shape[:-1] not in ((), x.shape[:-2]):
        raise InvalidInput(f"need one goal, or one for each episode, got goals {goals.shape} for states {x.shape}")
    A, B, P, K = lqr.dynamics.A, lqr.dynamics.B, lqr.value_matrix, lqr.gain
    errors = x - goals[..., None, :]
    if space is not None:
        errors[..., : space.dim] = space.wrap(errors[..., : space.dim])
    now, after = errors[..., :-1, :], errors[..., 1:, :]
    foreseen = now @ A.T + u @ B.T
    missed = after - foreseen
    return CostLedger(
        initial=float(quadratic_form(errors[..., 0, :], P).sum()),
        tail=float(quadratic_form(errors[..., -1, :], P).sum()),
        policy=float(quadratic_form(u + now @ K.T, lqr.cost.R + B.T @ P @ B).sum()),
        model=float((2 * (missed @ P * foreseen).sum(axis=-1) + quadratic_form(missed, P)).sum()),
        cost=float(lqr.cost.stage(now, u).sum()),
    )
