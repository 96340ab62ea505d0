"""Baseline controllers: an LQR that sees the true state, and one that stands still."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.data.world_card import REACHER, WorldCard
from worldplan.envs.reacher import CONTROL_WEIGHT, STEP_SECONDS, angle_error
from worldplan.envs.tasks import normal_poses, random_torques
from worldplan.planning.cost import QuadraticCost
from worldplan.planning.dynamics import LinearDynamics, fit_dynamics
from worldplan.planning.lqr import solve_lqr

AGENT, REFERENCE, RANDOM, STILL = "the agent, from pixels", "true-state clipped LQR", "random torques", "standing still"


class TrueStateLQR:
    """The reference: `u = clip(-K [wrap(q - goal); dt qdot], -1, 1)` on the true state, same cost, same fit.

    It is not an optimum: torques clip in most episodes, so an agent's cost ratio may lie slightly below 1.
    """

    def __init__(self) -> None:
        self.gain = solve_lqr(true_dynamics(), QuadraticCost.goal_reaching(2, CONTROL_WEIGHT)).gain

    def predict(self, observation: Any, *state: Any, **more: Any) -> tuple[NDArray[np.float32], None]:
        """Torques (2,) for an observation of `TrueStateObservation`."""
        qpos, qvel = observation["observation"][:2], observation["observation"][2:]
        error = np.concatenate([angle_error(qpos, observation["desired_goal"]), STEP_SECONDS * qvel])
        return (-self.gain @ error).clip(-1, 1).astype(np.float32), None


class StandStill:
    """The least action that a world takes, always: zero, or the limit nearest to it."""

    def __init__(self, world: WorldCard = REACHER) -> None:
        self._action = np.zeros(world.action_dim).clip(world.action_low, world.action_high).astype(np.float32)

    def predict(self, observation: Any, *state: Any, **more: Any) -> tuple[NDArray[np.float32], None]:
        """The action (m,)."""
        return self._action.copy(), None


@cache
def true_dynamics() -> LinearDynamics:
    """Linear dynamics fitted to the true joint angles of 60 random-torque episodes of 60 steps."""
    data = random_torques(normal_poses((60,), np.random.default_rng(0)), 60, pixels=False)
    return fit_dynamics(data.info["qpos"], data.actions, iterations=0)
