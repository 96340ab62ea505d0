"""worldplan: plan to goals from pixels in the latent space of a frozen encoder.

`import worldplan` loads nothing heavy. The public names below, and the rooms `worldplan.envs`, `worldplan.agents` and
`worldplan.eval`, load on first use (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; a test holds this list and _HOMES together
    from worldplan import agents, envs, errors, eval
    from worldplan.cost import QuadraticCost
    from worldplan.dynamics import LinearDynamics, fit_dynamics
    from worldplan.encoder import load_encoder
    from worldplan.lqr import LQRSolution, solve_lqr
    from worldplan.mpc import MPCProblem, Plan, build_mpc, solve_mpc
    from worldplan.shooting import CEMConfig, MPPIConfig, solve_cem, solve_mppi
    from worldplan.trajectories import Trajectories

__version__ = "0.1.0"

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

_ROOMS = ("agents", "envs", "errors", "eval")
_HOMES = {
    "CEMConfig": "worldplan.shooting",
    "LQRSolution": "worldplan.lqr",
    "LinearDynamics": "worldplan.dynamics",
    "MPCProblem": "worldplan.mpc",
    "MPPIConfig": "worldplan.shooting",
    "Plan": "worldplan.mpc",
    "QuadraticCost": "worldplan.cost",
    "Trajectories": "worldplan.trajectories",
    "build_mpc": "worldplan.mpc",
    "fit_dynamics": "worldplan.dynamics",
    "load_encoder": "worldplan.encoder",
    "solve_cem": "worldplan.shooting",
    "solve_lqr": "worldplan.lqr",
    "solve_mpc": "worldplan.mpc",
    "solve_mppi": "worldplan.shooting",
}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"worldplan.{name}")
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'worldplan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
