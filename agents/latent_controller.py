"""Filter and planner on latents: the part of an agent that needs no image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldplan.agents.planners import PLANNERS, ClippedLQR, Planner, Setting, warn_of_fallback
from worldplan.arrays import FEW, Floats, action_limits, some
from worldplan.checks import check_name
from worldplan.errors import InvalidInput
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.estimation import build_estimator
from worldplan.planning.lqr import check_sizes, solve_lqr
from worldplan.planning.space import LatentSpace

PATIENCE = 10  # frames in a row that are not believed: .2 s of the Reacher


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
        check_sizes(dynamics, cost)
        if not callable(planner):
            check_name("planner", planner, PLANNERS)
        self._low, self._high = action_limits(low, high, dynamics.action_dim)
        if not (self._low < self._high).all():
            raise InvalidInput(f"action_low must lie below action_high, got {low!r} and {high!r}")
        most = np.finfo(np.float64).max  # no infinite action is one, whatever the limits
        self._box = list(zip(self._low.clip(min=-most).tolist(), self._high.clip(max=most).tolist(), strict=True))
        if cost.latent_dim not in (None, latent_dim):
            raise InvalidInput(f"the cost is for latents of {cost.latent_dim}, the encoder gives {latent_dim}")
        self.dynamics, self.cost = dynamics, cost
        self.estimator = build_estimator(dynamics, latent_dim, space)
        self.space = self.estimator.space
        self.lqr = solve_lqr(dynamics, cost)
        make = PLANNERS[planner] if isinstance(planner, str) else planner
        try:
            setting = Setting(dynamics, cost, self.lqr, self._low, self._high, self.space)
            self._policy, self._backup = make(setting, **options), ClippedLQR(setting)
        except TypeError as error:
            raise InvalidInput(f"planner {planner!r}: {error}") from error
        if not callable(self._policy):
            raise InvalidInput(f"planner {planner!r} gives no policy, but {self._policy!r}")

    @property
    def limits(self) -> tuple[Floats, Floats]:
        """Lowest and highest action, (m,) each."""
        return self._low, self._high

    def start(self, latents: Floats) -> Floats:
        """Estimates (N, d) at rest at the latents (N, n)."""
        return self.estimator.start(latents)

    def observe(self, means: Floats, actions: Floats, latents: Floats) -> Floats:
        """Estimates (N, d) after the actions (N, m) were applied and the latents (N, n) were seen."""
        return self.estimator.update(means, actions, latents)

    def watch(self, means: Floats, actions: Floats, latents: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Like `observe`, but latents that cannot be the plant's are predicted through; which rows, (N,)."""
        return self.estimator.watch(means, actions, latents)

    def follow(
        self,
        means: Floats,
        actions: Floats,
        latents: Floats,
        fresh: NDArray[np.bool_],
        ignored: NDArray[np.int64],
        blind: NDArray[np.int64],
    ) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        """Estimates (N, d), and the counts of frames that were not believed, in all and in a row, after the next frame.

        Args:
            means: (N, d) estimates before.
            actions: (N, m) that were applied since.
            latents: (N, n) that were seen now.
            fresh: (N,) rows whose episode begins with this frame.
            ignored: (N,) frames of the episode that cannot show the plant, and were predicted through.
            blind: (N,) how many of these came in a row; after `PATIENCE` the filter starts anew from the frame.
        """
        means, odd = self.watch(means, actions, latents)
        if some(odd) or some(fresh) or some(blind > 0):
            blind = np.where(odd & ~fresh, blind + 1, 0)
            ignored = np.where(fresh, 0, ignored + odd)
            lost = blind > PATIENCE  # the arm was moved by hand, or the camera: what is seen is all there is
            anew = fresh | lost
            means[anew], blind = self.start(latents[anew]), np.where(lost, 0, blind)
        return means, ignored, blind

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
            if self._sane(actions, len(means)) and self._sane_flags(failed, len(means)):
                return actions, failed
            reason: Any = None
        except Exception as error:  # whatever happens inside, the plant gets torques
            if (means.shape, nearest.shape) != ((len(means), self.dynamics.state_dim), (len(means), self.space.dim)):
                raise  # of what was given, not of the planner
            actions, failed, reason = np.zeros(0), np.zeros(0, dtype=bool), error
        return self._repaired(means, nearest, np.asarray(actions), np.asarray(failed, dtype=bool), reason)

    def _sane(self, actions: Any, count: int) -> bool:
        """Whether these are actions (count, m), finite and within the limits.

        In the few numbers of a control step, a loop in Python takes less time than NumPy's calls.
        """
        if not isinstance(actions, np.ndarray) or actions.shape != (count, len(self._low)):
            return False
        if actions.dtype.kind not in "fiu":
            return False
        if actions.size > FEW:
            return bool(np.isfinite(actions).all() and ((actions >= self._low) & (actions <= self._high)).all())
        rows = (zip(row, self._box, strict=True) for row in actions.tolist())
        return all(low <= u <= high for row in rows for u, (low, high) in row)

    @staticmethod
    def _sane_flags(failed: Any, count: int) -> bool:
        return isinstance(failed, np.ndarray) and failed.shape == (count,) and failed.dtype == np.bool_

    def _repaired(
        self, means: Floats, goals: Floats, actions: Floats, failed: NDArray[np.bool_], reason: Any
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Clipped LQR's actions for rows without a finite one, or for all if there are not as many as rows."""
        shape = len(means), len(self._low)
        if actions.shape != shape or failed.shape != shape[:1] or actions.dtype.kind not in "fiu":
            warn_of_fallback(reason or f"it gave {actions.dtype} {actions.shape}, not {shape}")
            actions, failed = self._backup(means, goals)[0], np.ones(len(means), dtype=bool)
        bad = np.flatnonzero(~np.isfinite(actions).all(axis=1) & ~failed)
        if len(bad):
            warn_of_fallback("its actions are not finite")
            actions, failed = actions.astype(np.float64), failed.copy()
            actions[bad], failed[bad] = self._backup(means[bad], goals[bad])[0], True
        if not np.isfinite(actions).all():
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
