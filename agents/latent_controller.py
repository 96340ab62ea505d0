"""Filter and planner on latents: the part of an agent that needs no image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldplan.agents.planners import PLANNERS, SOLVER_ERRORS, ClippedLQR, Planner, Setting, warn_of_fallback
from worldplan.arrays import Floats, action_limits, all_finite
from worldplan.checks import check_name
from worldplan.errors import InvalidInput
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.estimation import build_estimator
from worldplan.planning.lqr import solve_lqr
from worldplan.planning.space import LatentSpace


class LatentController:
    """`m_t = filter(m_{t-1}, u_{t-1}, h_t)` and `u_t = clip(pi(m_t, g), low, high)`.

    `estimator` is the filter; `lqr` is the infinite-horizon LQR of dynamics and cost. On circles, g is the
    representative of the goal nearest to the estimate: every planner goes the shorter way round.

    Args:
        dynamics: dynamics on (n,) or (2 n,) states.
        cost: cost on the same states.
        latent_dim: n.
        planner: pi: a name in `PLANNERS`, or your own `Planner`.
        low: lowest action, a number or (m,).
        high: highest action, a number or (m,).
        space: space of the latents; None for lines.
        **options: options of the planner.

    Raises:
        InvalidInput: sizes that do not fit together, or an option that the planner does not take.
        UnknownName: no such planner.
        NotStabilizable: the dynamics cannot be stabilised.
    """

    def __init__(
        self,
        dynamics: LinearDynamics,
        cost: QuadraticCost,
        latent_dim: int,
        planner: str | Planner = "lqr",
        *,
        low: ArrayLike = -1.0,
        high: ArrayLike = 1.0,
        space: LatentSpace | None = None,
        **options: Any,
    ) -> None:
        if isinstance(planner, str):
            check_name("planner", planner, PLANNERS)
        self._low, self._high = action_limits(low, high, dynamics.action_dim)
        if not (self._low < self._high).all():
            raise InvalidInput(f"action_low must lie below action_high, got {low!r} and {high!r}")
        if cost.latent_dim not in (None, latent_dim):
            raise InvalidInput(f"the cost is for latents of {cost.latent_dim}, the encoder gives {latent_dim}")
        self.dynamics, self.cost = dynamics, cost
        self.estimator = build_estimator(dynamics, latent_dim, space)
        self.space = self.estimator.space
        self.lqr = solve_lqr(dynamics, cost)
        make = PLANNERS[planner] if isinstance(planner, str) else planner
        try:
            setting = Setting(dynamics, cost, self.lqr, self._low, self._high)
            self._policy, self._backup = make(setting, **options), ClippedLQR(setting)
        except TypeError as error:
            raise InvalidInput(f"planner {planner!r}: {error}") from error

    def start(self, latents: Floats) -> Floats:
        """Estimates (N, d) at rest at the latents (N, n)."""
        return self.estimator.start(latents)

    def observe(self, means: Floats, actions: Floats, latents: Floats) -> Floats:
        """Estimates (N, d) after the actions (N, m) were applied and the latents (N, n) were seen."""
        return self.estimator.update(means, actions, latents)

    def act(self, means: Floats, goals: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Actions (N, m) for estimates (N, d) and goals (N, n), and the rows that fell back to clipped LQR.

        Actions are finite and within the limits, whatever the planner does: where it raises an error of a solver, or
        gives no action, clipped LQR acts, with a warning `PlannerFellBack`.

        Raises:
            InvalidInput: an estimate or goal that is not finite or so large that not even LQR has an action for it.
        """
        nearest = self.space.lift(goals, means[:, : self.space.dim])
        try:
            actions, failed = self._policy(means, nearest)
            actions, failed = np.asarray(actions, dtype=np.float64), np.asarray(failed, dtype=bool)
            reason: Any = f"it gave {actions.shape}, not {(len(means), len(self._low))}"
            lost = actions.shape != (len(means), len(self._low)) or failed.shape != (len(means),)
        except SOLVER_ERRORS as error:
            reason, lost = error, True
        if lost:
            warn_of_fallback(reason)
            actions, failed = self._backup(means, nearest)[0], np.ones(len(means), dtype=bool)
        elif not all_finite(actions):
            warn_of_fallback("its actions are not finite")
            bad = np.flatnonzero(~np.isfinite(actions).all(axis=1))
            actions, failed = actions.copy(), failed.copy()
            actions[bad], failed[bad] = self._backup(means[bad], nearest[bad])[0], True
        if not all_finite(actions):
            raise InvalidInput("the state estimate or the goal is not finite, or so large that no action follows")
        return actions.clip(self._low, self._high), failed

    def replay(self, latents: Floats, goals: Floats, actions: Floats) -> Floats:
        """The actions (E, T, m) that it would have taken in episodes that others controlled.

        Args:
            latents: (E, T, n) or more rows, of which the first T count.
            goals: (E, n).
            actions: (E, T, m) as they were applied.
        """
        means, planned = self.start(latents[:, 0]), []
        for t in range(actions.shape[1]):
            if t:
                means = self.observe(means, actions[:, t - 1], latents[:, t])
            planned.append(self.act(means, goals)[0])
        return np.stack(planned, axis=1)
