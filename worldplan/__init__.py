"""worldplan: plan to goals from pixels in the latent space of a frozen encoder.

`import worldplan` loads nothing heavy. The public names below, and the rooms `worldplan.envs`, `worldplan.agents` and
`worldplan.eval`, load on first use (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worldplan.lazy import lazy_names
from worldplan.version import __version__

if TYPE_CHECKING:  # for type checkers and editors; a test holds this list and _HOMES together
    from worldplan import agents, envs, errors, eval
    from worldplan.data.trajectories import Trajectories
    from worldplan.learning.encoder import load_encoder
    from worldplan.planning.cost import QuadraticCost
    from worldplan.planning.dynamics import LinearDynamics, fit_dynamics
    from worldplan.planning.lqr import LQRSolution, solve_lqr
    from worldplan.planning.mpc import MPCProblem, Plan, build_mpc, solve_mpc
    from worldplan.planning.shooting import CEMConfig, MPPIConfig, solve_cem, solve_mppi

__all__ = [
    "CEMConfig",
    "LQRSolution",
    "LinearDynamics",
    "MPCProblem",
    "MPPIConfig",
    "Plan",
    "QuadraticCost",
    "Trajectories",
    "__version__",
    "agents",
    "build_mpc",
    "envs",
    "errors",
    "eval",
    "fit_dynamics",
    "load_encoder",
    "solve_cem",
    "solve_lqr",
    "solve_mpc",
    "solve_mppi",
]

_HOMES = {
    "agents": "worldplan.agents",
    "envs": "worldplan.envs",
    "errors": "worldplan.errors",
    "eval": "worldplan.eval",
    "CEMConfig": "worldplan.planning.shooting",
    "LQRSolution": "worldplan.planning.lqr",
    "LinearDynamics": "worldplan.planning.dynamics",
    "MPCProblem": "worldplan.planning.mpc",
    "MPPIConfig": "worldplan.planning.shooting",
    "Plan": "worldplan.planning.mpc",
    "QuadraticCost": "worldplan.planning.cost",
    "Trajectories": "worldplan.data.trajectories",
    "build_mpc": "worldplan.planning.mpc",
    "fit_dynamics": "worldplan.planning.dynamics",
    "load_encoder": "worldplan.learning.encoder",
    "solve_cem": "worldplan.planning.shooting",
    "solve_lqr": "worldplan.planning.lqr",
    "solve_mpc": "worldplan.planning.mpc",
    "solve_mppi": "worldplan.planning.shooting",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
