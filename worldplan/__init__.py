"""worldplan: plan to goals from pixels in the latent space of a frozen encoder.

`import worldplan` loads nothing heavy. The public names below, and the rooms `worldplan.envs`, `worldplan.agents` and
`worldplan.eval`, load on first use (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worldplan.lazy import lazy_names
from worldplan.version import __version__

if TYPE_CHECKING:  # for type checkers and editors; a test holds this list and _HOMES together
    from worldplan import agents as agents, envs as envs, errors as errors, eval as eval
    from worldplan.data.trajectories import Trajectories as Trajectories
    from worldplan.learning.encoder import load_encoder as load_encoder
    from worldplan.planning.cost import QuadraticCost as QuadraticCost
    from worldplan.planning.dynamics import LinearDynamics as LinearDynamics, fit_dynamics as fit_dynamics
    from worldplan.planning.lqr import LQRSolution as LQRSolution, solve_lqr as solve_lqr
    from worldplan.planning.mpc import (
        MPCProblem as MPCProblem,
        Plan as Plan,
        build_mpc as build_mpc,
        solve_mpc as solve_mpc,
    )
    from worldplan.planning.shooting import (
        CEMConfig as CEMConfig,
        MPPIConfig as MPPIConfig,
        solve_cem as solve_cem,
        solve_mppi as solve_mppi,
    )


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

__all__ = ["__version__", *sorted(_HOMES)]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
