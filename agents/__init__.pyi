from .actor import ActorPolicy as ActorPolicy, known_policies as known_policies, load_policy as load_policy
from .config import FitConfig as FitConfig, SACConfig as SACConfig
from .expert import add_experience as add_experience
from .export import ExportedAgent as ExportedAgent, export_agent as export_agent
from .extractor import LeJEPAExtractor as LeJEPAExtractor
from .fitting import FitReport as FitReport, fit_agent as fit_agent
from .latent_controller import LatentController as LatentController
from .latent_observation import (
    LatentObservation as LatentObservation,
    VectorLatentObservation as VectorLatentObservation,
)
from .planners import PLANNERS as PLANNERS
from .planning_agent import (
    AgentState as AgentState,
    PlanningAgent as PlanningAgent,
    known_agents as known_agents,
    load_agent as load_agent,
)
from .publishing import push_to_hub as push_to_hub
from .sac import load_sb3_zip as load_sb3_zip, train_sac as train_sac
