"""Planners that an agent can act by: they map a state estimate and a goal to an action within the limits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.arrays import Floats
from worldplan.checks import checked_seed
from worldplan.errors import PlannerFellBack, SolverFailed
from worldplan.planning.constraints import Constraints
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics
from worldplan.planning.lqr import LQRSolution
from worldplan.planning.mpc import MPCProblem, MPCSolver, Plan, build_mpc, solve_mpc
from worldplan.planning.shooting import CEMConfig, MPPIConfig, solve_cem, solve_mppi
from worldplan.planning.space import LatentSpace

Policy = Callable[[Floats, Floats], tuple[Floats, NDArray[np.bool_]]]
"""Maps states (N, d) and goals (N, n) to actions (N, m) and the rows that fell back to clipped LQR."""


@dataclass(frozen=True)
class Setting:
    """What a planner is built for: dynamics, cost, their infinite-horizon LQR, lowest and highest actions (m,).

    `space` is that of the latents, the first n states; None for lines.
    """

    dynamics: LinearDynamics
    cost: QuadraticCost
    lqr: LQRSolution
    low: Floats
    high: Floats
    space: LatentSpace | None = None


Planner = Callable[..., Policy]
"""Maps a `Setting` and options to a policy."""


@dataclass(frozen=True)
class ClippedLQR:
    """`u = clip(-K (x - x_goal), low, high)`."""

    setting: Setting

    def __call__(self, states: Floats, goals: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Actions, and no row that fell back."""
        setting, gain = self.setting, self.setting.lqr.gain
        actions = goals.dot(gain[:, : goals.shape[1]].T) - states.dot(gain.T)
        return actions.clip(setting.low, setting.high), np.zeros(len(states), dtype=bool)


@dataclass(frozen=True)
class Receding:
    """Plan anew at every step and take the first action.

    `solve` maps the built problem, a state and a goal to a plan. Nothing is carried from step to step: a row's action
    depends only on its own estimate and goal. With `wrapping`, plans start within half a turn of 0 on its circles.
    """

    solver: MPCSolver
    solve: Callable[[MPCSolver, Floats, Floats], Plan]
    backup: ClippedLQR
    wrapping: LatentSpace | None = None

    def __call__(self, states: Floats, goals: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Actions, and the rows whose planner failed."""
        actions, failed = self.backup(states, goals)
        for i, (state, goal) in enumerate(zip(states, goals, strict=True)):
            try:
                if self.wrapping is not None:
                    turns = self.wrapping.wrap(state[: len(goal)]) - state[: len(goal)]
                    state, goal = state + np.pad(turns, (0, len(state) - len(goal))), goal + turns
                actions[i] = self.solve(self.solver, state, goal).actions[0]
            except Exception as error:  # whatever happens inside, the plant gets torques
                warn_of_fallback(error)
                failed[i] = True
        return actions, failed


def warn_of_fallback(reason: object) -> None:
    """Say why clipped LQR acts: Python shows each text once, so it holds no numbers that change from step to step."""
    told = reason.status if isinstance(reason, SolverFailed) else reason
    told = f"{type(reason).__name__}: {told}" if isinstance(reason, Exception) else told
    warnings.warn(f"the planner failed, and clipped LQR acts in its place ({told})", PlannerFellBack, stacklevel=2)


def receding(
    setting: Setting,
    solve: Callable[[MPCSolver, Floats, Floats], Plan],
    horizon: int = 20,
    constraints: Constraints | None = None,
) -> Policy:
    """`Receding` over `horizon` steps, within constraints as `MPCProblem` takes them.

    These speak of absolute states. The estimate of a circle runs on from turn to turn, so it is wrapped for them.
    """
    problem = MPCProblem(setting.dynamics, setting.cost, horizon, setting.low, setting.high, constraints=constraints)
    return Receding(build_mpc(problem), solve, ClippedLQR(setting), None if constraints is None else setting.space)


def _mpc(setting: Setting, horizon: int = 20, constraints: Constraints | None = None) -> Policy:
    return receding(setting, solve_mpc, horizon, constraints)


def _cem(setting: Setting, horizon: int = 20, seed: int = 0, **options: Any) -> Policy:
    # A seed: the same draws for every row and step (common random numbers). A generator would carry over to the next.
    return receding(setting, partial(solve_cem, config=CEMConfig(**options), rng=checked_seed(seed)), horizon)


def _mppi(setting: Setting, horizon: int = 20, seed: int = 0, **options: Any) -> Policy:
    return receding(setting, partial(solve_mppi, config=MPPIConfig(**options), rng=checked_seed(seed)), horizon)


PLANNERS: dict[str, Planner] = {"lqr": ClippedLQR, "mpc": _mpc, "cem": _cem, "mppi": _mppi}
