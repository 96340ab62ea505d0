from . import agents as agents, envs as envs, errors as errors, eval as eval
from .agents.own_data import fit as fit, pretrain as pretrain
from .data.own import save_episodes as save_episodes
from .data.trajectories import Trajectories as Trajectories
from .learning.encoder import load_encoder as load_encoder, torch_encoder as torch_encoder
from .learning.views import Views as Views
from .planning.cost import QuadraticCost as QuadraticCost
from .planning.dynamics import LinearDynamics as LinearDynamics, fit_dynamics as fit_dynamics
from .planning.lqr import LQRSolution as LQRSolution, solve_lqr as solve_lqr
from .planning.mpc import MPCProblem as MPCProblem, Plan as Plan, build_mpc as build_mpc, solve_mpc as solve_mpc
from .planning.shooting import (
    CEMConfig as CEMConfig,
    MPPIConfig as MPPIConfig,
    solve_cem as solve_cem,
    solve_mppi as solve_mppi,
)
from .planning.space import LatentSpace as LatentSpace
from .sweeps.jobs import Job as Job
from .sweeps.run import run_jobs as run_jobs
from .version import __version__ as __version__
