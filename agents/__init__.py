"""Things with `predict`: planners in the loop, and policies that SAC learned."""

from worldplan.agents.actor import ActorPolicy, known_policies, load_policy
from worldplan.agents.planning import PLANNERS, PlanningAgent, known_agents, load_agent
from worldplan.agents.sac import load_sb3_zip, train_sac
from worldplan.agents.sac_run import SACConfig

__all__ = [
    "PLANNERS",
    "ActorPolicy",
    "PlanningAgent",
    "SACConfig",
    "known_agents",
    "known_policies",
    "load_agent",
    "load_policy",
    "load_sb3_zip",
    "train_sac",
]
